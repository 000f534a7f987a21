//! From bytes to commands: the request half of RESP, without I/O.
//!
//! ```text
//! multibulk   *2\r\n $3\r\nGET\r\n $1\r\nk\r\n     count, then so many bulks of declared length
//! inline      GET k\r\n                            one line, words apart (see `inline`)
//! ```
//!
//! A request may arrive in any number of pieces. The decoder remembers how far it got, so that no
//! byte is looked at twice, and grows nothing by a declared length: memory follows the bytes that
//! have come. Arguments are slices of the buffer they arrived in.

use super::inline;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

/// A command: its name and its arguments. Never empty.
pub(super) type Command = Vec<Bytes>;

/// The most arguments of a command.
pub(super) const ARGS_MAX: i64 = 1024 * 1024;
/// The longest line: an inline command, or the head of a multibulk or bulk.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;
/// The most arguments before a client has proved who it is.
const ARGS_MAX_STRANGER: i64 = 10;
/// The longest argument before a client has proved who it is.
const BULK_BYTES_MAX_STRANGER: i64 = 16 * 1024;

/// The most digits of a number that is read in passing.
const DIGITS_SHORT: usize = 8;

/// Entries of a queue that a connection keeps between requests.
pub(super) const TRIMMED: usize = 256;

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The longest argument, in bytes.
    pub(super) bulk_bytes_max: u64,
    /// Whether the client must still prove who it is.
    pub(super) stranger: bool,
}

/// Bytes that are no request. Nothing behind them can be understood: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProtocolError {
    TooBigInline,
    TooBigCountString,
    TooBigBulkCountString,
    InvalidMultibulkLength,
    StrangerMultibulkLength,
    InvalidBulkLength,
    StrangerBulkLength,
    ExpectedDollar(u8),
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    /// The text as Redis has it, without the `ERR`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        f.write_str(match self {
            ProtocolError::TooBigInline => "too big inline request",
            ProtocolError::TooBigCountString => "too big mbulk count string",
            ProtocolError::TooBigBulkCountString => "too big bulk count string",
            ProtocolError::InvalidMultibulkLength => "invalid multibulk length",
            ProtocolError::StrangerMultibulkLength => "unauthenticated multibulk length",
            ProtocolError::InvalidBulkLength => "invalid bulk length",
            ProtocolError::StrangerBulkLength => "unauthenticated bulk length",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::ExpectedDollar(got) => {
                return write!(f, "expected '$', got '{}'", char::from(*got));
            }
        })
    }
}

/// Cuts commands out of a growing buffer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Everything before this position of the buffer has been understood.
    position: usize,
    /// Up to here the buffer holds no end of the line that starts at `position`.
    searched: usize,
    /// Arguments the multibulk at hand still lacks; 0 between commands.
    missing: usize,
    /// The length of the bulk at hand, once its head has been read.
    bulk: Option<usize>,
    /// Where the arguments stand, of the commands found and of the one at hand.
    ranges: Vec<Range<usize>>,
    /// The commands found, in order.
    found: Vec<Found>,
}

#[derive(Debug)]
enum Found {
    /// The next so many of the ranges.
    Multibulk(usize),
    Inline(Command),
}

impl Decoder {
    /// Takes complete commands, at most `max`, out of `buffer` and puts them behind `commands`.
    /// `buffer` must be what the previous call left, with new bytes only at its end. Cost: each
    /// byte of a line is looked at once, bytes of arguments not at all.
    ///
    /// # Errors
    /// The bytes behind the commands found are no request; the decoder is of no further use.
    pub(super) fn decode(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
        max: usize,
        commands: &mut VecDeque<Command>,
    ) -> Result<(), ProtocolError> {
        let mut done = 0; // bytes of complete commands
        let mut whole = 0; // ranges of complete commands
        let result = loop {
            if self.found.len() == max {
                break Ok(());
            }
            match self.step(buffer, limits, whole) {
                Ok(true) if self.missing == 0 => {
                    done = self.position;
                    whole = self.ranges.len();
                }
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        self.cut(buffer, done, whole, commands);
        result
    }

    /// Understands one more element; false if it needs more bytes. `whole` is the number of
    /// ranges that belong to complete commands.
    fn step(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        whole: usize,
    ) -> Result<bool, ProtocolError> {
        if self.missing > 0 {
            return self.argument(buffer, limits, whole);
        }
        match buffer.get(self.position) {
            None => Ok(false),
            Some(b'*') => self.count(buffer, limits),
            Some(_) => self.inline(buffer),
        }
    }

    fn count(&mut self, buffer: &[u8], limits: &Limits) -> Result<bool, ProtocolError> {
        let count = match self.short_number(buffer) {
            Some(n) => Some(n),
            None => match self.line(buffer, ProtocolError::TooBigCountString)? {
                Some(line) => integer(&buffer[line.start + 1..line.end]),
                None => return Ok(false),
            },
        };
        match count {
            Some(n) if n > ARGS_MAX => Err(ProtocolError::InvalidMultibulkLength),
            Some(n) if n > ARGS_MAX_STRANGER && limits.stranger => {
                Err(ProtocolError::StrangerMultibulkLength)
            }
            Some(n) => {
                self.missing = usize::try_from(n).unwrap_or(0);
                Ok(true)
            }
            None => Err(ProtocolError::InvalidMultibulkLength),
        }
    }

    fn argument(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        whole: usize,
    ) -> Result<bool, ProtocolError> {
        let length = match self.bulk {
            Some(length) => length,
            None => match self.bulk_head(buffer, limits)? {
                Some(length) => length,
                None => return Ok(false),
            },
        };
        // The two bytes behind are taken for CR LF without a look, as Redis does.
        if buffer.len() - self.position < length + 2 {
            self.bulk = Some(length);
            return Ok(false);
        }
        self.ranges.push(self.position..self.position + length);
        self.position += length + 2;
        self.searched = self.position;
        self.bulk = None;
        self.missing -= 1;
        if self.missing == 0 {
            self.found.push(Found::Multibulk(self.ranges.len() - whole));
        }
        Ok(true)
    }

    fn bulk_head(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        let short = match buffer.get(self.position) {
            Some(b'$') => self.short_number(buffer),
            _ => None,
        };
        let length = match short {
            Some(n) => Some(n),
            None => {
                let Some(line) = self.line(buffer, ProtocolError::TooBigBulkCountString)? else {
                    return Ok(None);
                };
                let head = &buffer[line];
                match head.first() {
                    Some(b'$') => integer(&head[1..]),
                    // An empty line: what Redis shows of it is its CR.
                    other => return Err(ProtocolError::ExpectedDollar(*other.unwrap_or(&b'\r'))),
                }
            }
        };
        match length.filter(|&n| n >= 0 && n as u64 <= limits.bulk_bytes_max) {
            None => Err(ProtocolError::InvalidBulkLength),
            Some(n) if n > BULK_BYTES_MAX_STRANGER && limits.stranger => {
                Err(ProtocolError::StrangerBulkLength)
            }
            Some(n) => usize::try_from(n).map(Some).map_err(|_| ProtocolError::InvalidBulkLength),
        }
    }

    /// The number behind the letter at `position`, and steps over its line: for the few digits
    /// that nearly all lines have. What it does not take is [`Decoder::line`]'s to judge.
    fn short_number(&mut self, buffer: &[u8]) -> Option<i64> {
        let line = buffer.get(self.position + 1..)?;
        let mut n = 0;
        for (i, &byte) in line.iter().take(DIGITS_SHORT + 1).enumerate() {
            match byte {
                b'0'..=b'9' if i == 0 || n > 0 => n = n * 10 + i64::from(byte - b'0'),
                b'\r' if i > 0 && i + 1 < line.len() => {
                    self.position += i + 3;
                    self.searched = self.position;
                    return Some(n);
                }
                _ => return None,
            }
        }
        None
    }

    /// The line at `position` without its CR LF; steps over it.
    fn line(
        &mut self,
        buffer: &[u8],
        too_big: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let from = self.searched.max(self.position);
        let Some(end) = find(&buffer[from..], b'\r').map(|at| from + at) else {
            self.searched = buffer.len();
            let too_long = buffer.len() - self.position > LINE_BYTES_MAX;
            return if too_long { Err(too_big) } else { Ok(None) };
        };
        self.searched = end;
        if end + 2 > buffer.len() {
            return Ok(None);
        }
        let line = self.position..end;
        self.position = end + 2;
        self.searched = self.position;
        Ok(Some(line))
    }

    fn inline(&mut self, buffer: &[u8]) -> Result<bool, ProtocolError> {
        let from = self.searched.max(self.position);
        let Some(end) = find(&buffer[from..], b'\n').map(|at| from + at) else {
            self.searched = buffer.len();
            let too_long = buffer.len() - self.position > LINE_BYTES_MAX;
            return if too_long { Err(ProtocolError::TooBigInline) } else { Ok(false) };
        };
        let line = &buffer[self.position..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words = inline::split(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.position = end + 1;
        self.searched = self.position;
        if !words.is_empty() {
            self.found.push(Found::Inline(words));
        }
        Ok(true)
    }

    /// Takes the bytes of the complete commands out of the buffer, and keeps what belongs to
    /// the one at hand.
    fn cut(
        &mut self,
        buffer: &mut BytesMut,
        done: usize,
        whole: usize,
        commands: &mut VecDeque<Command>,
    ) {
        if done == 0 {
            return;
        }
        let chunk = buffer.split_to(done).freeze();
        let mut ranges = self.ranges.drain(..whole);
        commands.extend(self.found.drain(..).map(|found| match found {
            Found::Inline(words) => words,
            Found::Multibulk(n) => {
                let mut command = Vec::with_capacity(n);
                command.extend(ranges.by_ref().take(n).map(|range| chunk.slice(range)));
                command
            }
        }));
        drop(ranges);
        for range in &mut self.ranges {
            *range = range.start - done..range.end - done;
        }
        self.position -= done;
        self.searched = self.searched.saturating_sub(done);
    }

    /// Gives back room that a long pipeline needed and the next one may not.
    pub(super) fn trim(&mut self) {
        self.ranges.shrink_to(TRIMMED);
        self.found.shrink_to(TRIMMED);
    }
}

/// Where a byte stands first. Lines are short, so a plain search will do.
fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|&b| b == wanted)
}

/// A decimal integer as Redis takes it: no plus sign, no leading zero, no blank.
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let negative = digits.len() < text.len();
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Built up below zero, where there is room for i64::MIN.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
