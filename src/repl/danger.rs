//! Commands that destroy more than a person may have meant.

use crate::repl::tokens::Token;

/// What the line would destroy, if it is one of those that are asked about.
pub fn danger(tokens: &[Token]) -> Option<&'static str> {
    let first = tokens.first()?;
    let name = first.bytes.to_ascii_uppercase();
    match name.as_slice() {
        b"FLUSHALL" | b"FLUSHDB" => Some("removes every key"),
        b"DROPCF" => Some("drops the column family and all it holds"),
        b"VDROP" => Some("drops the index and all its vectors"),
        b"SHUTDOWN" => Some("stops the server"),
        b"SWAPDB" => Some("exchanges two databases under their clients"),
        _ => None,
    }
}
