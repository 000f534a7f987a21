//! What the catalog's contents are bounded by, and the rules of names.
//!
//! The bounds are part of the state machine: another value would make replicas of two versions
//! disagree on a command, so a changed bound is a new format version.

use crate::base::{Error, Result};

/// The newest version of commands and snapshots that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of an encoded command.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Nodes ever registered, the removed ones among them; ids stay below as well.
pub const NODES_MAX: usize = 65_536;
/// Shards: more than one for each four slots is no cluster but a mistake.
pub const SHARDS_MAX: usize = 4_096;
/// Replicas a shard may be asked to have.
pub const REPLICAS_MAX: u32 = 9;
/// Replicas a shard may have for the time of a move.
pub const REPLICAS_WHILE_MOVING_MAX: usize = 16;
/// Column families at one time.
pub const FAMILIES_MAX: usize = 1_024;
/// Indexes at one time.
pub const INDEXES_MAX: usize = 4_096;
/// Users at one time.
pub const USERS_MAX: usize = 4_096;
/// Jobs pending or running at one time.
pub const ACTIVE_JOBS_MAX: usize = 4_096;
/// Finished jobs that are remembered.
pub const FINISHED_JOBS_KEPT: usize = 256;
/// Requests that are remembered so that a retry applies once.
pub const REQUESTS_KEPT: usize = 4_096;
/// Weight of the changes kept for subscribers, about their bytes in memory.
pub const WINDOW_WEIGHT_MAX: usize = 4 << 20;

/// Bytes of a name, an address, a label's key or value.
pub const NAME_BYTES_MAX: usize = 255;
/// Labels of a node.
pub const LABELS_MAX: usize = 32;
/// Bytes of an index's configuration, and of a job's steps.
pub const OPAQUE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a password's verifier.
pub const VERIFIER_BYTES_MAX: usize = 1 << 10;
/// Bytes of the text a job ends with.
pub const TEXT_BYTES_MAX: usize = 1 << 10;
/// The longest lease of a job: an hour, in milliseconds.
pub const LEASE_MS_MAX: u64 = 3_600_000;

/// `name` names a column family, an index, a user or the cluster.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fine) {
        return Err(Error::invalid(format!(
            "the name of {what} must be 1 to {NAME_BYTES_MAX} bytes of A-Z a-z 0-9 _ . -"
        )));
    }
    if name.starts_with("__") {
        let message = format!("names that begin with __ are the system's; name {what} otherwise");
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// `text` is an address, a label or a version: printable, without spaces.
pub(super) fn check_text(what: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(Error::invalid(format!(
            "{what} must be 1 to {NAME_BYTES_MAX} printable ASCII characters without spaces"
        )));
    }
    Ok(())
}

/// `what` has no more than `max` bytes.
pub(super) fn check_length(what: &str, length: usize, max: usize) -> Result<()> {
    if length > max {
        let message = format!("{what} has {length} bytes; at most {max} are kept");
        return Err(Error::invalid(message));
    }
    Ok(())
}
