//! The bytes of commands, answers, changes, views and snapshots: our own protobuf.
//!
//! The messages are drawn where they are defined, in reading order: [`records`], [`command`],
//! [`answer`] (outcomes, refusals, events, changes), [`snapshot`] (views too).
//!
//! Format version 1. Protobuf skips what it does not know, and a replica that skips part of a
//! command is no longer equal to the others. So whatever is decoded here is encoded again and must
//! give the same bytes: a field, a variant or a number of a later version is
//! [`ErrorKind::Unsupported`], and so is a spelling that we never write. Optional fields are
//! left out when absent; numbers of enums begin at 1.
//!
//! Decoding takes memory in proportion to the bytes given; lengths are checked against the bytes
//! at hand by `prost`, and a command's total against [`COMMAND_BYTES_MAX`] before.

mod answer;
mod command;
mod records;
mod snapshot;

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::limits::COMMAND_BYTES_MAX;
use prost::Message;

pub use answer::{decode_answer, decode_change, encode_answer, encode_change};
pub use command::{decode_command, encode_command};
pub(super) use snapshot::{decode_snapshot, encode_snapshot};

/// The message of some bytes, if they are exactly what would be written for it.
fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M> {
    let message = M::decode(bytes).map_err(|e| malformed(what, &e))?;
    if message.encoded_len() != bytes.len() || message.encode_to_vec() != bytes {
        return Err(unknown(what));
    }
    Ok(message)
}

fn malformed(what: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corruption, format!("{what} is malformed: {cause}"))
}

fn unknown(what: &str) -> Error {
    let message = format!("{what} holds what this version does not know; upgrade the program");
    Error::new(ErrorKind::Unsupported, message)
}

/// All elements of a repeated field.
fn all<M, T>(from: Vec<M>, convert: impl Fn(M) -> Result<T>) -> Result<Vec<T>> {
    from.into_iter().map(convert).collect()
}

/// A message that must be there.
fn required<M, T>(what: &str, from: Option<M>, convert: impl Fn(M) -> Result<T>) -> Result<T> {
    from.ok_or_else(|| unknown(what)).and_then(convert)
}
