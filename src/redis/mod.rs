//! Floor 4: Redis data types and commands, as a model on top of keys.
//!
//! A command is a function of its arguments and a [`Keyspace`]: it reads and writes through that
//! seam and gives a [`Reply`](crate::op::Reply). It knows no clock, no log and no connection.
//!
//! In reading order:
//! - `execute`: [`execute()`], from a call's entry in the table to the function that does it, and
//!   how a function stops early with an error reply.
//! - `number`: integers as strictly as Redis reads them; `extended`: 80-bit floating point, as
//!   INCRBYFLOAT has it.
//! - `strings`, `set` (SET and the options of its family), `counters`, `lcs`: strings.
//! - `bits`, `bitfield`: strings as rows of bits.
//! - `keys`, `expire`, `scan`, `object`: keys whatever they hold.
//! - `sort`: SORT.
//! - `dump`: DUMP and RESTORE, and the form of a serialized value; `lzf`: how it is compressed.
//! - `flush`: the database as a whole.
//!
//! Invariants owed to the floors above:
//! - An error reply comes before the first write: a command that gives one has changed nothing.
//! - Nothing panics on any bytes, and no allocation is larger than [`STRING_BYTES_MAX`] or than
//!   what the keys touched hold.

mod bitfield;
mod bits;
mod counters;
mod dump;
mod execute;
mod expire;
mod extended;
mod flush;
mod keys;
mod lcs;
mod lzf;
mod number;
mod object;
mod scan;
mod set;
mod sort;
mod strings;

pub use execute::execute;

use crate::base::{Result, Seq};
use bytes::Bytes;

/// The longest string, in bytes: Redis's `proto-max-bulk-len`.
pub const STRING_BYTES_MAX: usize = crate::op::kv::VALUE_BYTES_MAX;

/// The tag of a string among [`Stored::tag`].
pub const STRING_TAG: u8 = 0;

/// A live value as a command sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value's bytes.
    pub value: Bytes,
    /// What kind of value it is: 0 is a string.
    pub tag: u8,
    /// Unix time in milliseconds at which it expires.
    pub expire_at_ms: Option<u64>,
    /// Sequence number of the key's last commit.
    pub seq: Seq,
}

/// The keys a command works on, within one transaction: reads see the transaction's own writes,
/// and expired keys are absent. Implemented by the shard's transaction, and by a map in tests.
pub trait Keyspace {
    /// The one time of this transaction, Unix ms.
    fn now_ms(&self) -> u64;
    /// Reads a key.
    fn get(&mut self, key: &[u8]) -> Result<Option<Stored>>;
    /// Whether a value of so many bytes can be set. Asked before one is made that is longer than what
    /// the client has sent.
    fn check_value(&self, _bytes: usize) -> Result<()> {
        Ok(())
    }
    /// Sets a key, its type and its expiry. An expiry at or before now removes the key.
    fn put(&mut self, key: &[u8], value: Bytes, tag: u8, expire_at_ms: Option<u64>) -> Result<()>;
    /// Appends to the value of a key that is present, keeping type and expiry.
    fn append(&mut self, key: &[u8], suffix: &[u8]) -> Result<()>;
    /// Removes a key; says whether it was there.
    fn delete(&mut self, key: &[u8]) -> Result<bool>;
    /// Removes every key; gives how many there were.
    fn clear(&mut self) -> Result<u64>;
    /// Live keys, exact.
    fn count(&mut self) -> Result<u64>;
    /// Visits live keys in byte order, from `start` (inclusive), until `visit` says false or
    /// there are no more. Gives whether it reached the end.
    fn scan(&mut self, start: &[u8], visit: &mut dyn FnMut(&[u8], &Stored) -> bool)
    -> Result<bool>;
    /// A key chosen at random among the live ones, nearly evenly.
    fn random_key(&mut self) -> Result<Option<Bytes>>;
    /// Keeps a key under a number that is not 0, so that a SCAN can go on from it. The oldest
    /// are forgotten when there are too many.
    fn save_cursor(&mut self, key: Bytes) -> u64;
    /// The key kept under a number.
    fn load_cursor(&mut self, cursor: u64) -> Option<Bytes>;
}
