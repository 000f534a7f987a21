//! The bytes of a link.
//!
//! ```text
//! link:    "ARQL" frame*                          each way, but for the magic, which the caller says
//! frame:   [len u32 LE][crc32c u32 LE of the payload][payload of len bytes]
//! payload: [kind u8][id u64 LE][rest]
//!   1 hello     id 0; see `hello`                 2 welcome   id 0; see `hello`
//!   3 call      [method u16 LE][patience ms u32 LE][body]
//!   4 answer    [body]                            5 failed    error, see `rpc::ops::error`
//!   6 message   id: its class; [body]             7 ping      8 pong
//! ```

use crate::base::checksum::crc32c_append;
use crate::base::{Error, ErrorKind, Result};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a link begins with.
pub const MAGIC: &[u8; 4] = b"ARQL";
/// The longest payload: the largest value, with room for what stands around it.
pub const PAYLOAD_BYTES_MAX: usize = (512 + 64) << 20;
/// Length and checksum.
const HEAD_BYTES: usize = 8;
/// Kind and id.
const KIND_BYTES: usize = 9;
/// Memory is taken in such steps: a length that was made up costs no more.
const STEP_BYTES: usize = 1 << 20;

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Who calls.
    Hello(Bytes),
    /// Who answers, or why not.
    Welcome(Bytes),
    /// A question.
    Call {
        /// Names the answer.
        id: u64,
        /// What is asked.
        method: u16,
        /// How long the answer is waited for, in ms.
        patience_ms: u32,
        /// The question.
        body: Bytes,
    },
    /// The answer to a call.
    Answer {
        /// Of the call.
        id: u64,
        /// The answer.
        body: Bytes,
    },
    /// The error in its place.
    Failed {
        /// Of the call.
        id: u64,
        /// The error.
        error: Bytes,
    },
    /// Something that has no answer.
    Message {
        /// What it is part of.
        class: u8,
        /// What it says.
        body: Bytes,
    },
    /// To be answered with a pong.
    Ping,
    /// Still there.
    Pong,
}

impl Frame {
    fn parts(&self) -> (u8, u64, [u8; 6], usize, &[u8]) {
        let none = [0; 6];
        match self {
            Frame::Hello(body) => (1, 0, none, 0, body),
            Frame::Welcome(body) => (2, 0, none, 0, body),
            Frame::Call { id, method, patience_ms, body } => {
                let mut head = none;
                head[..2].copy_from_slice(&method.to_le_bytes());
                head[2..].copy_from_slice(&patience_ms.to_le_bytes());
                (3, *id, head, 6, body)
            }
            Frame::Answer { id, body } => (4, *id, none, 0, body),
            Frame::Failed { id, error } => (5, *id, none, 0, error),
            Frame::Message { class, body } => (6, u64::from(*class), none, 0, body),
            Frame::Ping => (7, 0, none, 0, &[]),
            Frame::Pong => (8, 0, none, 0, &[]),
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let (_, _, _, head, body) = self.parts();
        HEAD_BYTES + KIND_BYTES + head + body.len()
    }

    /// Appends it.
    ///
    /// # Errors
    /// `InvalidArgument` if it is longer than a frame may be.
    pub fn put(&self, out: &mut Vec<u8>) -> Result<()> {
        let (kind, id, head, head_bytes, body) = self.parts();
        let len = KIND_BYTES + head_bytes + body.len();
        if len > PAYLOAD_BYTES_MAX {
            let message = format!("{len} bytes for another program of the cluster are too many");
            return Err(Error::invalid(message));
        }
        let mut start = [0; KIND_BYTES];
        start[0] = kind;
        start[1..].copy_from_slice(&id.to_le_bytes());
        let sum = crc32c_append(crc32c_append(0, &start), &head[..head_bytes]);
        out.reserve(HEAD_BYTES + len);
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.extend_from_slice(&crc32c_append(sum, body).to_le_bytes());
        out.extend_from_slice(&start);
        out.extend_from_slice(&head[..head_bytes]);
        out.extend_from_slice(body);
        Ok(())
    }

    fn of(payload: Bytes) -> Option<Frame> {
        let id = u64::from_le_bytes(*payload.get(1..)?.first_chunk()?);
        let rest = payload.slice(KIND_BYTES..);
        Some(match payload[0] {
            1 => Frame::Hello(rest),
            2 => Frame::Welcome(rest),
            3 => Frame::Call {
                id,
                method: u16::from_le_bytes(*rest.first_chunk()?),
                patience_ms: u32::from_le_bytes(*rest.get(2..)?.first_chunk()?),
                body: rest.slice(6..),
            },
            4 => Frame::Answer { id, body: rest },
            5 => Frame::Failed { id, error: rest },
            6 => Frame::Message { class: u8::try_from(id).ok()?, body: rest },
            7 => Frame::Ping,
            8 => Frame::Pong,
            _ => return None,
        })
    }
}

/// Reads frames from one end of a link.
#[derive(Debug)]
pub struct Frames<R> {
    from: R,
    held: BytesMut,
    received: u64,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// A reader behind the magic.
    pub fn new(from: R) -> Frames<R> {
        Frames { from, held: BytesMut::with_capacity(64 << 10), received: 0 }
    }

    /// How many bytes have come so far, those of a frame that is not whole among them.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next frame; none at the end. Dropped half-way, it loses nothing.
    ///
    /// # Errors
    /// `Unavailable` if the connection breaks, `Corruption` if what comes is no frame.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            let Some((head, rest)) = self.held.split_first_chunk::<HEAD_BYTES>() else {
                if !self.fill(HEAD_BYTES).await? {
                    return Ok(None);
                }
                continue;
            };
            let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if !(KIND_BYTES..=PAYLOAD_BYTES_MAX).contains(&len) {
                return Err(broken(&format!("a frame of {len} bytes")));
            }
            if rest.len() < len {
                if !self.fill(HEAD_BYTES + len).await? {
                    return Ok(None);
                }
                continue;
            }
            let want = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let mut whole = self.held.split_to(HEAD_BYTES + len);
            let payload = whole.split_off(HEAD_BYTES).freeze();
            if crc32c_append(0, &payload) != want {
                return Err(broken("a frame whose checksum is another"));
            }
            let frame = Frame::of(payload);
            return frame.map(Some).ok_or_else(|| broken("a frame of an unknown kind"));
        }
    }

    /// Reads more towards `bytes` held; false at the end of the stream.
    async fn fill(&mut self, bytes: usize) -> Result<bool> {
        let missing = bytes.saturating_sub(self.held.len());
        self.held.reserve(missing.clamp(16 << 10, STEP_BYTES));
        let read = self.from.read_buf(&mut self.held).await;
        let n = read
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("the link has broken: {e}")))?;
        if n == 0 && !self.held.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "the link ended within a frame"));
        }
        self.received += n as u64;
        Ok(n > 0)
    }
}

fn broken(found: &str) -> Error {
    Error::new(ErrorKind::Corruption, format!("{found} came over a link, which is ended"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    fn all() -> Vec<Frame> {
        let body = Bytes::from_static(b"body");
        vec![
            Frame::Hello(body.clone()),
            Frame::Welcome(Bytes::new()),
            Frame::Call { id: 7, method: 300, patience_ms: 1 << 20, body: body.clone() },
            Frame::Answer { id: u64::MAX, body: Bytes::from(vec![1; 100_000]) },
            Frame::Failed { id: 1, error: body.clone() },
            Frame::Message { class: 255, body },
            Frame::Ping,
            Frame::Pong,
        ]
    }

    async fn read(bytes: &[u8]) -> (Vec<Frame>, Result<()>) {
        let mut frames = Frames::new(bytes);
        let mut found = Vec::new();
        loop {
            match frames.next().await {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => return (found, Ok(())),
                Err(e) => return (found, Err(e)),
            }
        }
    }

    #[tokio::test]
    async fn frames_come_back_in_order_and_a_cut_stream_gives_whole_ones() {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for frame in all() {
            frame.put(&mut bytes).unwrap();
            assert_eq!(bytes.len() - ends.last().unwrap(), frame.bytes());
            ends.push(bytes.len());
        }
        assert_eq!(read(&bytes).await.0, all());
        for end in (0..300).chain(bytes.len() - 200..bytes.len()) {
            let whole = ends[1..].iter().filter(|e| **e <= end).count();
            let (found, done) = read(&bytes[..end]).await;
            assert_eq!(found, all()[..whole], "cut at {end}");
            assert_eq!(done.is_ok(), ends.contains(&end), "cut at {end}");
        }
    }

    #[tokio::test]
    async fn damage_ends_the_link() {
        let mut whole = Vec::new();
        all().iter().for_each(|frame| frame.put(&mut whole).unwrap());
        let mut rng = Rng::new(4);
        for _ in 0..500 {
            let mut bytes = whole.clone();
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
            let (found, done) = read(&bytes).await;
            assert!(done.is_err() && found.len() < all().len(), "damaged at {at}");
            assert_eq!(found, all()[..found.len()]);
        }
    }
}
