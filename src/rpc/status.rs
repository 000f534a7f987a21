//! [`Error`] as a gRPC status and back.
//!
//! A status that was made here carries its kind in the metadata `arqon-error-kind` and whether to
//! retry in `arqon-retryable`. One without them comes from the transport: a deadline, a broken
//! connection, a proxy.

use crate::base::{Error, ErrorKind};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, ConnectError, Status};

/// Metadata key of the kind's stable name.
pub const KIND_KEY: &str = "arqon-error-kind";
/// Metadata key of `true` or `false`: whether the same request may succeed later.
pub const RETRYABLE_KEY: &str = "arqon-retryable";

/// The longest message sent: clients bound the headers that they take, often to 8 KiB, and what
/// is not ASCII grows threefold on the way.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Every kind with its code. The table in `proto/arqondb.proto` says the same.
const CODES: [(ErrorKind, Code); 16] = [
    (ErrorKind::InvalidArgument, Code::InvalidArgument),
    (ErrorKind::NotFound, Code::NotFound),
    (ErrorKind::AlreadyExists, Code::AlreadyExists),
    (ErrorKind::Conflict, Code::Aborted),
    (ErrorKind::Busy, Code::ResourceExhausted),
    (ErrorKind::OutOfSpace, Code::ResourceExhausted),
    (ErrorKind::Unavailable, Code::Unavailable),
    (ErrorKind::Unknown, Code::Unknown),
    (ErrorKind::Deadline, Code::DeadlineExceeded),
    (ErrorKind::Compacted, Code::OutOfRange),
    (ErrorKind::Corruption, Code::DataLoss),
    (ErrorKind::Refused, Code::FailedPrecondition),
    (ErrorKind::Poisoned, Code::FailedPrecondition),
    (ErrorKind::Unsupported, Code::Unimplemented),
    (ErrorKind::Io, Code::Internal),
    (ErrorKind::Internal, Code::Internal),
];

/// The status that tells a client of `error`.
pub fn from_error(error: &Error) -> Status {
    let kind = error.kind();
    let code = CODES.iter().find(|(k, _)| *k == kind).map_or(Code::Internal, |(_, code)| *code);
    let mut metadata = MetadataMap::new();
    metadata.insert(KIND_KEY, MetadataValue::from_static(kind.name()));
    let retryable = if kind.is_retryable() { "true" } else { "false" };
    metadata.insert(RETRYABLE_KEY, MetadataValue::from_static(retryable));
    Status::with_metadata(code, shortened(error.message()), metadata)
}

/// The error that `status` tells of. `write` says whether the call could have changed anything:
/// if the transport failed it on the way, its outcome is then [`ErrorKind::Unknown`].
pub fn to_error(status: &Status, write: bool) -> Error {
    let named = status.metadata().get(KIND_KEY).and_then(|name| {
        CODES.iter().map(|(kind, _)| *kind).find(|kind| kind.name().as_bytes() == name.as_bytes())
    });
    let kind = named.unwrap_or_else(|| transport_kind(status, write));
    match (named, kind) {
        (None, ErrorKind::Unknown) => Error::new(
            kind,
            format!("no answer came, the write may or may not have happened: {}", status.message()),
        ),
        _ => Error::new(kind, status.message()),
    }
}

/// The kind of a stable name.
pub(super) fn kind_named(name: &str) -> Option<ErrorKind> {
    CODES.iter().map(|(kind, _)| *kind).find(|kind| kind.name() == name)
}

fn transport_kind(status: &Status, write: bool) -> ErrorKind {
    match status.code() {
        Code::Unavailable if never_sent(status) => ErrorKind::Unavailable,
        Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unavailable
        | Code::Unknown
        | Code::Internal
        // Also what a transport says that ends a connection under load.
        | Code::ResourceExhausted
            if write =>
        {
            ErrorKind::Unknown
        }
        Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Deadline,
        Code::Unavailable | Code::Unknown => ErrorKind::Unavailable,
        // A message over the limit of its receiver.
        Code::OutOfRange | Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::ResourceExhausted => ErrorKind::Busy,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition => {
            ErrorKind::Refused
        }
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::Aborted => ErrorKind::Conflict,
        Code::DataLoss => ErrorKind::Corruption,
        Code::Ok | Code::Internal => ErrorKind::Internal,
    }
}

/// Whether the connection was never made, so that nothing can have happened.
fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A message, cut if it is long.
pub(crate) fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_string();
    }
    let mut end = MESSAGE_BYTES_MAX;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_whatever_it_shares_a_code_with() {
        for (kind, code) in CODES {
            let status = from_error(&Error::new(kind, "why"));
            assert_eq!(status.code(), code);
            let back = to_error(&status, true);
            assert_eq!((back.kind(), back.message()), (kind, "why"));
            let retryable = status.metadata().get(RETRYABLE_KEY).unwrap();
            assert_eq!(retryable, if kind.is_retryable() { "true" } else { "false" });
        }
    }

    #[test]
    fn a_write_lost_on_the_way_is_unknown_and_never_failed() {
        for code in [
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unavailable,
            Code::Unknown,
            Code::Internal,
            Code::ResourceExhausted,
        ] {
            assert_eq!(to_error(&Status::new(code, ""), true).kind(), ErrorKind::Unknown);
            assert_ne!(to_error(&Status::new(code, ""), false).kind(), ErrorKind::Unknown);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let status = from_error(&Error::invalid("ß".repeat(4000)));
        assert!(status.message().len() <= MESSAGE_BYTES_MAX + 3);
        assert!(status.message().ends_with("ß..."));
    }

    #[test]
    fn the_contract_lists_every_kind_with_its_code() {
        let proto = include_str!("../../proto/arqondb.proto");
        for (kind, code) in CODES {
            let named = proto.lines().any(|line| {
                let mut words = line.split([' ', ',']).filter(|w| !w.is_empty()).skip(1);
                words.next() == Some(&screaming(code))
                    && words.take(2).any(|word| word == kind.name())
            });
            assert!(named, "{} with {}", kind.name(), screaming(code));
        }
    }

    fn screaming(code: Code) -> String {
        let mut out = String::new();
        for c in format!("{code:?}").chars() {
            if c.is_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(c.to_ascii_uppercase());
        }
        out
    }
}
