//! Reading within bounds, without copies: byte strings share the memory of what they stand in.

use crate::base::codec::Reader;
use crate::base::{Error, ErrorKind, Result};
use bytes::Bytes;

/// A reader of bytes that are shared.
#[derive(Debug, Clone)]
pub struct Cut<'a> {
    whole: &'a Bytes,
    reader: Reader<'a>,
    what: &'static str,
}

impl<'a> Cut<'a> {
    /// A reader at the start of `whole`; `what` names it in errors.
    pub fn new(whole: &'a Bytes, what: &'static str) -> Cut<'a> {
        Cut { whole, reader: Reader::new(whole), what }
    }

    /// The error of bytes that are not what they should be.
    pub fn malformed(&self) -> Error {
        Error::invalid(format!("{} from another program of the cluster is malformed", self.what))
    }

    /// The error of a kind that a newer version knows.
    pub fn unknown(&self, kind: u64) -> Error {
        let message =
            format!("{} of kind {kind} is of a newer version; update this program", self.what);
        Error::new(ErrorKind::Unsupported, message)
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Option<u8> {
        self.reader.rest().first().copied()
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        self.reader.u8().ok_or_else(|| self.malformed())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64> {
        self.reader.u64().ok_or_else(|| self.malformed())
    }

    /// A varint.
    pub fn varint(&mut self) -> Result<u64> {
        self.reader.varint().ok_or_else(|| self.malformed())
    }

    /// A varint of at most 32 bits.
    pub fn varint32(&mut self) -> Result<u32> {
        u32::try_from(self.varint()?).map_err(|_| self.malformed())
    }

    /// A byte that is 0 or 1.
    pub fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed()),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<Bytes> {
        let found = self.reader.bytes().ok_or_else(|| self.malformed())?;
        Ok(self.whole.slice_ref(found))
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str> {
        let found = self.reader.bytes().ok_or_else(|| self.malformed())?;
        std::str::from_utf8(found).map_err(|_| self.malformed())
    }

    /// The number of things that follow, each of at least `each` bytes.
    pub fn count(&mut self, each: usize) -> Result<usize> {
        let n = usize::try_from(self.varint()?).map_err(|_| self.malformed())?;
        match n.checked_mul(each.max(1)) {
            Some(bytes) if bytes <= self.reader.rest().len() => Ok(n),
            _ => Err(self.malformed()),
        }
    }

    /// What has not been read.
    pub fn rest(&self) -> Bytes {
        self.whole.slice_ref(self.reader.rest())
    }

    /// Says that all must have been read.
    ///
    /// # Errors
    /// `InvalidArgument` if something is left.
    pub fn end(&self) -> Result<()> {
        if self.reader.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// As many as the number before them says, each of at least `each` bytes.
pub fn many<'a, T>(
    cut: &mut Cut<'a>,
    each: usize,
    read: impl Fn(&mut Cut<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = cut.count(each)?;
    // What a thing takes in memory may be many times its bytes: grown as they are read.
    let mut all = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        all.push(read(cut)?);
    }
    Ok(all)
}
