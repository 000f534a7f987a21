//! Floor 4: Redis data types and commands, as a model on top of keys.
//!
//! A command is a function of its arguments and a [`Keyspace`]: it reads and writes through that
//! seam and gives a [`Reply`]. It knows no clock, no log and no connection.

use crate::base::{Result, Seq};
use bytes::Bytes;

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
