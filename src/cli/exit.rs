//! Exit codes. They are stable: scripts and agents branch on them.

use crate::base::ErrorKind;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Failed for a reason without a code of its own: an I/O error, a bug.
    Failed = 1,
    /// The command line or an argument is wrong; mend it.
    Usage = 2,
    /// The thing named does not exist.
    NotFound = 3,
    /// Not allowed: who you are is not known, or may not do this.
    Auth = 4,
    /// Not reachable or not ready now; try again.
    Unavailable = 5,
    /// The time ran out. A write may or may not have happened.
    Deadline = 6,
    /// A condition did not hold, or the thing exists already.
    Conflict = 7,
    /// Bytes on disk are damaged.
    Corruption = 8,
    /// Refused in this state, or for want of `--yes`.
    Refused = 9,
    /// Interrupted by Ctrl-C.
    Interrupted = 130,
}

/// The table of codes as the help of every command prints it.
pub const HELP: &str = "\
Exit codes:
  0 ok            1 failed        2 usage         3 not found
  4 auth          5 unavailable   6 deadline or unknown outcome
  7 conflict      8 corruption    9 refused (needs --yes or another state)
  130 interrupted";

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The code for an error's kind.
    pub fn of(kind: ErrorKind) -> Exit {
        match kind {
            ErrorKind::InvalidArgument => Exit::Usage,
            ErrorKind::NotFound | ErrorKind::Compacted => Exit::NotFound,
            ErrorKind::AlreadyExists | ErrorKind::Conflict => Exit::Conflict,
            ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::OutOfSpace => Exit::Unavailable,
            ErrorKind::Unknown | ErrorKind::Deadline => Exit::Deadline,
            ErrorKind::Corruption => Exit::Corruption,
            ErrorKind::Refused => Exit::Refused,
            ErrorKind::Io | ErrorKind::Poisoned | ErrorKind::Unsupported | ErrorKind::Internal => {
                Exit::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_code() {
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Auth,
            Exit::Unavailable,
            Exit::Deadline,
            Exit::Conflict,
            Exit::Corruption,
            Exit::Refused,
            Exit::Interrupted,
        ] {
            assert!(HELP.contains(&format!(" {} ", exit.code())), "{exit:?}");
        }
    }
}
