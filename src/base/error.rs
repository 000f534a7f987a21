//! The one error of the crate: a kind, a sentence for people, and the detail a program needs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Short for a result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller does next. Kinds are stable: exit codes, gRPC statuses and Redis error
/// prefixes are derived from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Mend the request: an argument is malformed or out of range.
    InvalidArgument,
    /// The thing named (a column family, a file, a job) does not exist. An absent key is not
    /// an error.
    NotFound,
    /// The thing to be created exists.
    AlreadyExists,
    /// A condition did not hold (compare-and-swap, create-only). Read again, then decide.
    Conflict,
    /// Try again soon: a limit is reached or writes are being held back.
    Busy,
    /// Try again, perhaps elsewhere: not started, shutting down, no leader.
    Unavailable,
    /// The outcome is not known: the write may or may not have happened. Retry only with the
    /// same request id, or read before deciding.
    Unknown,
    /// The time given ran out before anything was proposed.
    Deadline,
    /// The version asked for has been collected; the message names the floor.
    Compacted,
    /// Bytes on disk are not what was written. Restore the file; nothing was changed.
    Corruption,
    /// No room on the device. Nothing was lost; free some space and go on.
    OutOfSpace,
    /// The operating system refused a read or a write.
    Io,
    /// An earlier failed write or sync of the log stopped all writes of this process. Restart it.
    Poisoned,
    /// The operation is refused in this state or configuration.
    Refused,
    /// Not built, or not possible here.
    Unsupported,
    /// A bug of ours. Please report it.
    Internal,
}

impl ErrorKind {
    /// The kind's stable name, as machine-readable output prints it.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::InvalidArgument => "invalid_argument",
            ErrorKind::NotFound => "not_found",
            ErrorKind::AlreadyExists => "already_exists",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Busy => "busy",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Unknown => "unknown_outcome",
            ErrorKind::Deadline => "deadline",
            ErrorKind::Compacted => "compacted",
            ErrorKind::Corruption => "corruption",
            ErrorKind::OutOfSpace => "out_of_space",
            ErrorKind::Io => "io",
            ErrorKind::Poisoned => "poisoned",
            ErrorKind::Refused => "refused",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Internal => "internal",
        }
    }

    /// Whether the same request may succeed later without being changed.
    pub fn is_retryable(self) -> bool {
        matches!(self, ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::OutOfSpace)
    }
}

/// Where damage was found, and what stood there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Byte offset in the file at which the damaged unit (record, block) starts.
    pub offset: u64,
    /// What a whole file would hold there.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// An error: kind, sentence, and the damage or cause where there is one. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    damage: Option<Damage>,
    source: Option<std::io::Error>,
}

impl Error {
    /// An error of `kind` with a sentence that says what went wrong and, if it can, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner { kind, message: message.into(), damage: None, source: None }))
    }

    /// [`ErrorKind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// [`ErrorKind::Corruption`] of `file` at `offset`.
    pub fn corruption(
        file: impl Into<PathBuf>,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        let damage =
            Damage { file: file.into(), offset, expected: expected.into(), found: found.into() };
        let message = format!(
            "{} is damaged at offset {}: expected {}, found {}",
            damage.file.display(),
            damage.offset,
            damage.expected,
            damage.found
        );
        Error(Arc::new(Inner {
            kind: ErrorKind::Corruption,
            message,
            damage: Some(damage),
            source: None,
        }))
    }

    /// The operating system's answer to doing `what` with `path`; a full device becomes
    /// [`ErrorKind::OutOfSpace`], an absent file [`ErrorKind::NotFound`].
    pub fn io(what: &str, path: impl AsRef<Path>, source: std::io::Error) -> Error {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::OutOfSpace
            }
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        let message = format!("cannot {what} {}: {source}", path.as_ref().display());
        Error(Arc::new(Inner { kind, message, damage: None, source: Some(source) }))
    }

    /// What the caller does next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence, without the kind.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The damage found, for [`ErrorKind::Corruption`].
    pub fn damage(&self) -> Option<&Damage> {
        self.0.damage.as_ref()
    }

    /// The same error with `context` before its sentence.
    pub fn context(&self, context: impl fmt::Display) -> Error {
        let source = self.0.source.as_ref().map(|e| std::io::Error::new(e.kind(), e.to_string()));
        Error(Arc::new(Inner {
            kind: self.0.kind,
            message: format!("{context}: {}", self.0.message),
            damage: self.0.damage.clone(),
            source,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.name(), self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_told_from_other_io_errors() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Error::io("write", "/x", full).kind(), ErrorKind::OutOfSpace);
        let other = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(Error::io("write", "/x", other).kind(), ErrorKind::Io);
    }

    #[test]
    fn corruption_names_file_and_offset_and_keeps_them_through_context() {
        let e = Error::corruption("a/b.sst", 4096, "checksum 1", "checksum 2").context("reading");
        assert_eq!(e.damage().map(|d| d.offset), Some(4096));
        assert_eq!(
            e.to_string(),
            "reading: a/b.sst is damaged at offset 4096: expected checksum 1, found checksum 2"
        );
    }
}
