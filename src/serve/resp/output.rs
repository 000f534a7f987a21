//! Bytes on their way to a client: encoded ones in chunks, and replies not yet encoded.

use super::encode::{Encoder, Proto};
use crate::op::Reply;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Byte strings of this size are sent from where they stand; smaller ones are copied.
const SHARED_BYTES_MIN: usize = 16 * 1024;
/// Replies are encoded until so many bytes wait for the socket.
const FULL_BYTES: usize = 256 * 1024;
/// A chunk is closed at this size, so that a long answer does not grow one buffer by doubling.
const CHUNK_BYTES: usize = 64 * 1024;

/// Encoded bytes in order.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    closed: VecDeque<Bytes>,
    open: BytesMut,
    bytes: usize,
}

impl Chunks {
    /// Copies bytes to the end.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
        self.bytes += bytes.len();
        if self.open.len() >= CHUNK_BYTES {
            self.close();
        }
    }

    /// Adds bytes to the end, without a copy if they are many.
    pub(super) fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.put(&bytes);
        }
        self.close();
        self.bytes += bytes.len();
        self.closed.push_back(bytes);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push_back(self.open.split().freeze());
        }
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none wait.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The first bytes that lie together.
    pub(super) fn first(&self) -> &[u8] {
        self.closed.front().map_or(&self.open[..], |chunk| &chunk[..])
    }

    /// The first chunks, as one vectored write takes them; gives how many there are.
    pub(super) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let chunks = self.closed.iter().map(|chunk| &chunk[..]);
        let open = (!self.open.is_empty()).then_some(&self.open[..]);
        let mut n = 0;
        for (slot, chunk) in into.iter_mut().zip(chunks.chain(open)) {
            *slot = IoSlice::new(chunk);
            n += 1;
        }
        n
    }

    /// Drops the first `n` bytes, which have been written.
    pub(super) fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while let Some(chunk) = self.closed.front_mut() {
            if n < chunk.len() {
                chunk.advance(n);
                return;
            }
            n -= chunk.len();
            self.closed.pop_front();
        }
        if n == self.open.len() {
            self.open.clear();
        } else {
            self.open.advance(n);
        }
    }
}

/// Replies on their way to a client.
#[derive(Debug, Default)]
pub(super) struct Output {
    chunks: Chunks,
    encoder: Encoder,
    /// The version of the reply that the encoder is at.
    proto: Proto,
    /// Whether the encoder is in the middle of a reply.
    busy: bool,
    /// Replies behind that one, each with its weight.
    waiting: VecDeque<(Reply, Proto, usize)>,
    waiting_bytes: usize,
}

impl Output {
    /// Adds a reply. It is encoded at once, unless much is waiting already.
    pub(super) fn push(&mut self, reply: Reply, proto: Proto) {
        if self.busy || !self.waiting.is_empty() || self.chunks.bytes() >= FULL_BYTES {
            let weight = reply.bytes();
            self.waiting_bytes += weight;
            self.waiting.push_back((reply, proto, weight));
            return;
        }
        self.start(reply, proto);
    }

    fn start(&mut self, reply: Reply, proto: Proto) {
        self.proto = proto;
        self.encoder.start(reply, proto, &mut self.chunks);
        self.busy = !self.encoder.resume(proto, &mut self.chunks, FULL_BYTES);
    }

    /// Encodes more of what waits; the chunks to write are what comes back.
    pub(super) fn fill(&mut self) -> &mut Chunks {
        if self.busy {
            self.busy = !self.encoder.resume(self.proto, &mut self.chunks, FULL_BYTES);
        }
        while !self.busy && self.chunks.bytes() < FULL_BYTES {
            let Some((reply, proto, weight)) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= weight;
            self.start(reply, proto);
        }
        &mut self.chunks
    }

    /// Whether all has been written.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && !self.busy && self.waiting.is_empty()
    }

    /// About how many bytes the replies hold that are not yet being encoded. This is what limits
    /// look at: the one reply at hand may have any size.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// About how many bytes are held for the client.
    pub(super) fn held_bytes(&self) -> usize {
        self.chunks.bytes() + self.waiting_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(output: &mut Output, step: usize) -> (Vec<u8>, usize) {
        let (mut all, mut most) = (Vec::new(), 0);
        while !output.is_empty() {
            let chunks = output.fill();
            most = most.max(chunks.bytes());
            let n = chunks.first().len().min(step);
            all.extend_from_slice(&chunks.first()[..n]);
            chunks.advance(n);
        }
        (all, most)
    }

    #[test]
    fn order_and_bytes_are_kept_whatever_the_step() {
        let mut want = Vec::new();
        let big = Bytes::from(vec![b'x'; SHARED_BYTES_MIN]);
        let mut outputs = [Output::default(), Output::default()];
        for i in 0..200_i64 {
            want.extend_from_slice(format!(":{i}\r\n*2\r\n:1\r\n${}\r\n", big.len()).as_bytes());
            want.extend_from_slice(&big);
            want.extend_from_slice(b"\r\n");
            for output in &mut outputs {
                output.push(Reply::Int(i), Proto::Resp2);
                let pair = vec![Reply::Int(1), Reply::Bulk(big.clone())];
                output.push(Reply::Array(pair), Proto::Resp2);
            }
        }
        let [mut first, mut second] = outputs;
        assert!(drain(&mut first, 7777).0 == want);
        assert!(drain(&mut second, usize::MAX).0 == want);
    }

    #[test]
    fn a_large_answer_is_encoded_as_it_is_written() {
        let mut output = Output::default();
        output.push(Reply::Array(vec![Reply::Int(123_456); 1_000_000]), Proto::Resp3);
        assert!(output.chunks.bytes() <= FULL_BYTES + CHUNK_BYTES);
        let (all, most) = drain(&mut output, usize::MAX);
        assert_eq!(all.len(), 10 + 1_000_000 * 9);
        assert!(most <= FULL_BYTES + CHUNK_BYTES);
    }
}
