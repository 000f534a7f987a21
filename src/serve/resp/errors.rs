//! What a Redis client is told when the engine fails.
//!
//! Redis clients act on the first word of an error, so each kind takes the word whose meaning in
//! Redis comes nearest:
//!
//! | kind | word | what clients do |
//! |---|---|---|
//! | busy, deadline | `TRYAGAIN` | cluster clients try again after a pause |
//! | unavailable | `CLUSTERDOWN` | cluster clients try again, perhaps elsewhere |
//! | unknown outcome | `UNKNOWN` | nothing by themselves: the write may have happened |
//! | out of space, poisoned | `MISCONF` | nothing: an operator must act; writes are refused |
//! | all others | `ERR` | nothing |

use crate::base::{Error, ErrorKind};
use crate::op::Reply;

/// The reply for an error of the engine.
pub(super) fn reply(error: &Error) -> Reply {
    let text = match error.kind() {
        ErrorKind::Busy | ErrorKind::Deadline => format!("TRYAGAIN {error}"),
        ErrorKind::Unavailable => format!("CLUSTERDOWN {error}"),
        ErrorKind::Unknown => format!("UNKNOWN outcome: {error}"),
        ErrorKind::OutOfSpace => format!("MISCONF out of disk space: {error}"),
        ErrorKind::Poisoned => format!("MISCONF writes have stopped: {error}"),
        ErrorKind::Internal => format!("ERR internal error: {error}"),
        _ => format!("ERR {error}"),
    };
    Reply::Error(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_says_what_to_do() {
        let word = |kind| match reply(&Error::new(kind, "x")) {
            Reply::Error(text) => text.split(' ').next().unwrap_or_default().to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(word(ErrorKind::Busy), "TRYAGAIN");
        assert_eq!(word(ErrorKind::Unavailable), "CLUSTERDOWN");
        assert_eq!(word(ErrorKind::Unknown), "UNKNOWN");
        assert_eq!(word(ErrorKind::OutOfSpace), "MISCONF");
        assert_eq!(word(ErrorKind::Poisoned), "MISCONF");
        assert_eq!(word(ErrorKind::Corruption), "ERR");
        assert_eq!(word(ErrorKind::InvalidArgument), "ERR");
    }
}
