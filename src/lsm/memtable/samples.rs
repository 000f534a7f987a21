//! Where an insert goes, found without walking the list from its top.
//!
//! A walk down the levels visits some thirty nodes, most of them not in the processor's caches.
//! The writer, which is alone, keeps a table of its own beside the list: all nodes of two levels
//! and more (one in four), in order, in chunks of at most 256. Halving it touches few cache lines,
//! because each sample carries the 8 bytes of its key behind what the sampled keys begin with.

#![expect(unsafe_code, reason = "compares keys of nodes that the list's arena keeps alive")]

use super::node::{Node, NodeRef, head};
use super::skiplist::Target;
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
    node: *mut Node,
}

/// Bytes that a sample takes, with room that chunks leave.
pub(super) const SAMPLE_BYTES: usize = size_of::<Sample>() * 3 / 2;

impl Samples {
    /// The last sample before the target.
    ///
    /// # Safety
    /// The arena of all samples is alive.
    pub(super) unsafe fn last_before(&self, target: &Target<'_>) -> *mut Node {
        // SAFETY: as the caller promises.
        let (chunk, at) = unsafe { self.find(target) };
        match at.checked_sub(1) {
            Some(i) => self.chunks[chunk].samples[i].node,
            None => std::ptr::null_mut(),
        }
    }

    /// Adds a node of the list.
    ///
    /// # Safety
    /// The arena of all samples, this one included, is alive.
    pub(super) unsafe fn insert(&mut self, node: NodeRef<'_>, target: &Target<'_>) {
        let sample =
            Sample { head: head_behind(&self.prefix, node.user_key()), node: node.as_ptr() };
        self.count += 1;
        if self.chunks.is_empty() {
            self.chunks.push(Chunk { first: sample, samples: vec![sample] });
            return;
        }
        // SAFETY: as the caller promises.
        let (mut chunk, mut at) = match unsafe { self.end_before(target) } {
            Some(end) => end,
            // SAFETY: as the caller promises.
            None => unsafe { self.find(target) },
        };
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

    /// The place behind all samples, if the target is above them: where keys come in order, at once.
    ///
    /// # Safety
    /// The arena of all samples is alive.
    unsafe fn end_before(&self, target: &Target<'_>) -> Option<(usize, usize)> {
        let chunk = self.chunks.last()?;
        // SAFETY: a published node of a living arena, as the caller promises.
        let last = unsafe { NodeRef::new(chunk.samples.last()?.node) }?;
        target.is_above(last).then_some((self.chunks.len() - 1, chunk.samples.len()))
    }

    /// The chunk where the target belongs and how many of its samples are before it.
    ///
    /// # Safety
    /// The arena of all samples is alive.
    unsafe fn find(&self, target: &Target<'_>) -> (usize, usize) {
        let head = head_behind(&self.prefix, target.user_key());
        let is_before = |sample: &Sample| match sample.head.cmp(&head) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => {
                // SAFETY: a published node of a living arena, as the caller promises.
                let node = unsafe { NodeRef::new(sample.node) };
                node.is_some_and(|node| target.is_above(node))
            }
        };
        let chunk = self.chunks.partition_point(|c| is_before(&c.first)).saturating_sub(1);
        let samples = self.chunks.get(chunk).map_or(&[][..], |c| &c.samples);
        (chunk, samples.partition_point(is_before))
    }

    /// Makes all heads anew, with what the first and the last sampled key share.
    ///
    /// # Safety
    /// The arena of all samples is alive.
    unsafe fn renew_heads(&mut self) {
        self.renew_at = (self.count * 2).max(32);
        let key_of = |sample: &Sample| {
            // SAFETY: a published node of a living arena, as the caller promises.
            unsafe { NodeRef::new(sample.node) }.map_or(&[][..], |node| node.user_key())
        };
        let first = self.chunks.first().map_or(&[][..], |c| key_of(&c.first));
        let last = self.chunks.last().and_then(|c| c.samples.last()).map_or(&[][..], key_of);
        let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let prefix = first[..shared].to_vec();
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
