//! Floor 5: a shard, the state machine of one range of keys.
//!
//! Words: to *evaluate* a request is to read, decide and produce one `WriteBatch`. To *place* a
//! batch is to give it its sequence numbers and its place in the log. A placed batch is *pending*
//! until the log says it is committed; then it is *applied*. A *latch* keeps two evaluations that
//! touch one key from overlapping; it is let go once the batch is placed. A *lock* is a record that
//! keeps all but one transaction over several shards from a key. The *overlay* is what
//! pending batches will change, so that later evaluations read through it.
//!
//! In reading order:
//! - [`shard`]: [`Shard`], and the way of a request through it.
//! - [`slots`]: which slots it has, and who must not see them change.
//! - [`commit`]: the [`Log`] seam, placing, the one apply, and waiting for a commit.
//! - [`latch`]: striped key latches.
//! - [`overlay`]: pending writes by key.
//! - [`touched`]: the keys of one evaluation, in order.
//! - [`transaction`]: reads and writes of one evaluation, and the batch they become.
//! - [`keyspace`]: a transaction as Redis commands see it.
//! - [`kv`], [`redis_calls`]: evaluation of key-value requests and of Redis commands; [`writes`]: of
//!   several writes as one batch.
//! - [`two_phase`]: this shard's part in transactions over several shards.
//! - [`batches`]: batches that an embedding program built itself.
//! - [`vectors`]: vectors, and the indexes that find them.
//! - [`families`]: column families that the log creates and drops.
//! - [`dedup`]: requests that were applied, so that a retry applies once.
//! - [`expiry`]: collecting what has expired, as logged deletes.
//! - [`cursors`]: where SCANs stand.
//!
//! Invariants owed to the floors above:
//! - Standalone and replicated shards share everything here: the log they are given differs.
//! - [`Shard::apply`] needs nothing but the batch: no read, no clock, no randomness.
//! - An answer names the [`Ticket`] it rests on; it may be given once that is committed.
//! - A shard's *now* never goes back.

mod batches;
pub mod commit;
mod cursors;
mod dedup;
mod expiry;
mod families;
mod keyspace;
mod kv;
mod latch;
mod overlay;
mod redis_calls;
#[expect(clippy::module_inception, reason = "the folder is named after what this file defines")]
mod shard;
mod slots;
mod touched;
mod transaction;
mod two_phase;
mod vectors;
mod writes;

pub use commit::{Log, Placed, Ticket};
pub use shard::{Answer, Shard, ShardOptions};
pub(crate) use slots::{SlotsHeld, split_meanwhile};
pub use vectors::{VectorLimits, stored_indexes, stored_vectors};
