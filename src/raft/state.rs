//! The seam between a group and what it replicates.

use crate::base::{LogIndex, Result};
use bytes::Bytes;
use std::path::Path;

/// What a group replicates: a shard ([`ShardMachine`](crate::raft::ShardMachine)), or something
/// small that lives in memory ([`MemoryMachine`](crate::raft::MemoryMachine)), such as the catalog.
///
/// Its state lies in a folder that the group gives it, and changes in one way only: by
/// [`StateMachine::apply`], in log order. What its folder holds outlives a restart by itself; what
/// came behind is applied again.
pub trait StateMachine: Send + Sync + 'static {
    /// Goes over to the state in `dir`, or begins one there if the folder is empty. What was open
    /// before is let go of: nothing is written to its folder any more. Called at the start, and
    /// when a snapshot takes the place of the state.
    fn open(&self, dir: &Path) -> Result<()>;

    /// Everything up to this index is in the folder for good; 0 if nothing is.
    fn held(&self) -> LogIndex;

    /// Applies entry `index` as a whole: a proposal's parts, or none if it carries none. Every
    /// entry is shown, in order, from behind [`StateMachine::held`] on. Gives what the proposer is
    /// to hear.
    ///
    /// # Errors
    /// Any error stops the replica: an outcome that is no success is an answer and no error.
    fn apply(&self, index: LogIndex, parts: &[Bytes]) -> Result<Bytes>;

    /// Whether applying these parts waits for the disk.
    fn is_slow(&self, parts: &[Bytes]) -> bool {
        _ = parts;
        false
    }

    /// Brings what is applied at the call into the folder: afterwards [`StateMachine::held`] is at
    /// least that. An entry may be committed and applied before this node's log has it durable, and
    /// the folder must not be ahead of the log: `sync`, called once it is known what is to be held
    /// and before it is, makes the log durable. May take long.
    ///
    /// # Errors
    /// What the disk answers, or `sync`; nothing more is held then.
    fn hold(&self, sync: &dyn Fn() -> Result<()>) -> Result<()>;

    /// Writes exactly what was applied up to one index, which it gives, into the empty folder
    /// `dir`, durably and as files without folders. Applying goes on meanwhile. May take long.
    fn copy_to(&self, dir: &Path) -> Result<LogIndex>;

    /// The index up to which `dir`, filled by [`StateMachine::copy_to`] elsewhere, holds the state.
    ///
    /// # Errors
    /// `Corruption` if it is not whole.
    fn check(&self, dir: &Path) -> Result<LogIndex>;

    /// Ends background work; nothing is written to the folder afterwards.
    fn close(&self);
}
