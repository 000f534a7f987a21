//! Compaction: rewriting sorted runs into fewer and deeper ones, and leaving out what nobody
//! can read any more.
//!
//! In reading order:
//! - [`mod@pick`]: which files to compact next: a pure decision.
//! - [`filter`]: which records of a key stay, and what merges become.
//! - [`output`]: records to sstables: where to cut, and range tombstones cut to fit.
//! - [`run`]: carries a decision out. A flush is the same with memtables for inputs.
//!
//! Words: a *reader* of a sequence number `s` is a snapshot at `s`, or anyone reading at `s` above
//! the retention floor. A record is *shadowed* by a newer one that ends its key's history when no
//! reader stands between the two.
//!
//! Invariants owed to readers:
//! - What any reader sees at its sequence number, at any time not before the last committed one,
//!   is the same before and after.
//! - A record that hides older ones goes only when none can be left below it.

pub mod filter;
pub mod output;
pub mod pick;
pub mod run;

pub use filter::{Filter, Readers};
pub use pick::{Compaction, pick};
