//! An error that has travelled: its kind and its sentence.
//!
//! ```text
//! error: [kind u8][sentence bytes]
//! ```

use crate::base::codec::put_bytes;
use crate::base::{Error, ErrorKind, Result};
use crate::rpc::ops::Cut;

/// The kinds by their number on the wire, from 1. The numbers stay; new kinds go behind.
const KINDS: [ErrorKind; 16] = [
    ErrorKind::InvalidArgument,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::Conflict,
    ErrorKind::Busy,
    ErrorKind::Unavailable,
    ErrorKind::Unknown,
    ErrorKind::Deadline,
    ErrorKind::Compacted,
    ErrorKind::Corruption,
    ErrorKind::OutOfSpace,
    ErrorKind::Io,
    ErrorKind::Poisoned,
    ErrorKind::Refused,
    ErrorKind::Unsupported,
    ErrorKind::Internal,
];

/// Appends an error.
pub fn put_error(out: &mut Vec<u8>, error: &Error) {
    let number = KINDS.iter().position(|kind| *kind == error.kind());
    out.push(number.map_or(0, |at| at as u8 + 1));
    put_bytes(out, error.message().as_bytes());
}

/// The next error. Of a kind that is not known, it is `Internal`: nobody may rely on what it means.
///
/// # Errors
/// `InvalidArgument` if the bytes are none.
pub fn read_error(cut: &mut Cut<'_>) -> Result<Error> {
    let number = cut.u8()?;
    let kind = usize::from(number).checked_sub(1).and_then(|at| KINDS.get(at));
    Ok(Error::new(kind.copied().unwrap_or(ErrorKind::Internal), cut.text()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_travels() {
        for kind in KINDS {
            let mut out = Vec::new();
            put_error(&mut out, &Error::new(kind, "why"));
            let bytes = out.into();
            let mut cut = Cut::new(&bytes, "an error");
            let back = read_error(&mut cut).unwrap();
            cut.end().unwrap();
            assert_eq!((back.kind(), back.message()), (kind, "why"));
        }
        let newer = vec![200, 1, b'x'].into();
        assert_eq!(read_error(&mut Cut::new(&newer, "")).unwrap().kind(), ErrorKind::Internal);
    }
}
