//! The manifest: the history of versions on disk, and which sstables and families are alive.
//!
//! Words: an *edit* is one atomic change of the state; a *snapshot* of the manifest is the state
//! written as edits at the head of a new file; to *roll* is to begin such a file and point
//! `CURRENT` at it.
//!
//! In reading order:
//! - [`edit`]: one change, and its bytes.
//! - [`state`]: what all edits so far add up to.
//! - [`record`]: records in a file: framing, checksums, what is a torn tail and what is damage.
//! - [`store`]: the open manifest: append, roll, and what a failed write means.
//!
//! Invariants owed to the engine:
//! - An edit is durable when [`store::Manifest::append`] returns `Ok`, and nothing that depends
//!   on it is done before.
//! - A file that has a torn tail is never appended to: every open rolls.
//! - Damage before the tail is refused with file and offset, and nothing is changed.

pub mod edit;
pub mod record;
pub mod state;
pub mod store;

pub use edit::{Edit, Field, FileMeta, Part};
pub use state::{Family, State};
pub use store::{Manifest, read_current};
