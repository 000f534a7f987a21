//! Walking many sorted runs as one.
//!
//! In reading order:
//! - [`level`]: the files of a level below 0 as one cursor.
//! - [`run`]: one sorted run: a memtable, a file, a level.
//! - [`merging`]: many cursors as one, by a heap; both ways.
//! - `cover`: the range delete that covers where an iterator stands.
//! - [`user`]: what a caller sees: one entry a key, at one sequence number and one time.
//!
//! Invariants owed to callers:
//! - A cursor here is valid only between two successful calls: an error leaves it invalid.
//! - An iterator shows one moment: what it was opened at, whatever is written meanwhile.

mod cover;
pub mod level;
pub mod merging;
pub mod run;
pub mod user;
#[cfg(test)]
pub mod vec;

pub use level::LevelCursor;
pub use merging::MergingCursor;
pub use run::Run;
pub use user::Iter;
