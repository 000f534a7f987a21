//! Where an insert goes, found without walking the list from its top.
//!
//! A walk down the levels visits some thirty nodes, most of them not in the processor's caches.
//! The writer, which is alone, keeps a table of its own beside the list: all nodes that came out of
//! order, and of those that came in order the ones of two levels and more (one in four). They
//! stand in order, in chunks of at most 256. Halving it touches few cache lines, because each
//! sample carries the 8 bytes of its key behind what the sampled keys begin with; between two
//! samples at most a few nodes are left to walk over.

#![expect(unsafe_code, reason = "compares keys of nodes that the list's arena keeps alive")]

use super::node::{Node, NodeRef};
use super::skiplist::Target;
use crate::lsm::heads::head;
use std::cmp::Ordering;

const CHUNK_MAX: usize = 256;

/// Nodes of a list, in its order. Owned by the list's writer.
#[derive(Default)]
pub(super) struct Samples {
    chunks: Vec<Chunk>,
    count: usize,
    /// What sampled keys began with when heads were last made.
    prefix: Vec<u8>,
    /// Samples at which heads are made anew.
    renew_at: usize,
}

/// Never empty.
struct Chunk {
    first: Sample,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    /// See [`head_behind`].
    head: u64,
    /// Its lowest bit, which is none of an address, says that the node has two levels or more.
    tagged: *mut Node,
}

/// Where a key belongs among the samples.
#[derive(Clone, Copy)]
pub(super) struct Place {
    chunk: usize,
    /// Samples of the chunk that are before it.
    at: usize,
}

impl Sample {
    fn new(prefix: &[u8], node: NodeRef<'_>) -> Sample {
        let is_tall = usize::from(node.height() >= 2);
        let tagged = node.as_ptr().wrapping_byte_add(is_tall);
        Sample { head: head_behind(prefix, node.user_key()), tagged }
    }

    fn is_tall(&self) -> bool {
        self.tagged.addr() & 1 == 1
    }

    fn node(&self) -> *mut Node {
        self.tagged.wrapping_byte_sub(usize::from(self.is_tall()))
    }
}

/// Bytes that a sample takes, with room that chunks leave.
pub(super) const SAMPLE_BYTES: usize = size_of::<Sample>() * 3 / 2;

impl Samples {
    /// The place behind all samples.
    pub(super) fn end(&self) -> Place {
        let chunk = self.chunks.len().saturating_sub(1);
        Place { chunk, at: self.chunks.last().map_or(0, |chunk| chunk.samples.len()) }
    }

    /// The last sample before a place; null if there is none.
    pub(super) fn before(&self, place: Place) -> *mut Node {
        self.last_before(place, |_| true)
    }

    /// The last one of two levels or more.
    pub(super) fn tall_before(&self, place: Place) -> *mut Node {
        self.last_before(place, Sample::is_tall)
    }

    fn last_before(&self, place: Place, is_it: impl Fn(&Sample) -> bool) -> *mut Node {
        let before = self.chunks.iter().take(place.chunk).rev().map(|chunk| &chunk.samples[..]);
        let own = self.chunks.get(place.chunk).map_or(&[][..], |c| &c.samples[..place.at]);
        let mut samples = std::iter::once(own).chain(before).flat_map(|part| part.iter().rev());
        samples.find(|sample| is_it(sample)).map_or(std::ptr::null_mut(), Sample::node)
    }

    /// Adds a node of the list at its place.
    ///
    /// # Safety
    /// The arena of all samples, this one included, is alive.
    pub(super) unsafe fn insert(&mut self, node: NodeRef<'_>, place: Place) {
        let sample = Sample::new(&self.prefix, node);
        self.count += 1;
        if self.chunks.is_empty() {
            self.chunks.push(Chunk { first: sample, samples: vec![sample] });
            return;
        }
        let Place { mut chunk, mut at } = place;
        if self.chunks[chunk].samples.len() == CHUNK_MAX {
            // At the very end keys come in order: full chunks are left full.
            let is_end = at == CHUNK_MAX && chunk + 1 == self.chunks.len();
            let split = if is_end { CHUNK_MAX } else { CHUNK_MAX / 2 };
            let mut samples = Vec::with_capacity(CHUNK_MAX);
            samples.extend(self.chunks[chunk].samples.drain(split..));
            let first = samples.first().copied().unwrap_or(sample);
            self.chunks.insert(chunk + 1, Chunk { first, samples });
            if at > split || is_end {
                (chunk, at) = (chunk + 1, at - split);
            }
        }
        let chunk = &mut self.chunks[chunk];
        chunk.samples.insert(at, sample);
        chunk.first = chunk.samples[0];
        if self.count >= self.renew_at {
            // SAFETY: as the caller promises.
            unsafe { self.renew_heads() }
        }
    }

    /// Where the target belongs.
    ///
    /// # Safety
    /// The arena of all samples is alive.
    pub(super) unsafe fn place(&self, target: &Target<'_>) -> Place {
        let head = head_behind(&self.prefix, target.user_key());
        let is_before = |sample: &Sample| match sample.head.cmp(&head) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => {
                // SAFETY: a published node of a living arena, as the caller promises.
                let node = unsafe { NodeRef::new(sample.node()) };
                node.is_some_and(|node| target.is_above(node))
            }
        };
        let chunk = self.chunks.partition_point(|c| is_before(&c.first)).saturating_sub(1);
        let samples = self.chunks.get(chunk).map_or(&[][..], |c| &c.samples);
        Place { chunk, at: samples.partition_point(is_before) }
    }

    /// Makes all heads anew, with what the first and the last sampled key share.
    ///
    /// # Safety
    /// The arena of all samples is alive.
    unsafe fn renew_heads(&mut self) {
        self.renew_at = (self.count * 2).max(32);
        let key_of = |sample: &Sample| {
            // SAFETY: a published node of a living arena, as the caller promises.
            unsafe { NodeRef::new(sample.node()) }.map_or(&[][..], |node| node.user_key())
        };
        let first = self.chunks.first().map_or(&[][..], |c| key_of(&c.first));
        let last = self.chunks.last().and_then(|c| c.samples.last()).map_or(&[][..], key_of);
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let prefix = first[..shared].to_vec();
        if prefix == self.prefix {
            return;
        }
        for chunk in &mut self.chunks {
            for sample in &mut chunk.samples {
                sample.head = head_behind(&prefix, key_of(sample));
            }
            chunk.first = chunk.samples[0];
        }
        self.prefix = prefix;
    }
}

/// The 8 bytes of a key behind `prefix`, as an integer; 0 and the largest for keys below and
/// above all that begin with it. It sorts as keys do, except that different keys may be equal.
pub(super) fn head_behind(prefix: &[u8], user_key: &[u8]) -> u64 {
    match user_key.strip_prefix(prefix) {
        Some(rest) => head(rest),
        None if user_key < prefix => 0,
        None => u64::MAX,
    }
}
