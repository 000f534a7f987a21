//! Where an insert goes, found without walking the list from its top.
//!
//! A walk down the levels visits some thirty nodes, most of them not in the processor's caches.
//! The writer, which is alone, keeps a table of its own beside the list: all nodes that came out of
//! order, and of those that came in order the ones of two levels and more (one in four). They
//! stand in order, in chunks of at most 256. Halving it touches few cache lines and hardly a node:
//! of a chunk's first key the table has 32 bytes, and of each sample the 8 bytes behind what the
//! keys of its chunk begin with. Between two samples at most a few nodes are left to walk over.

#![expect(unsafe_code, reason = "compares keys of nodes that the list's arena keeps alive")]

use super::node::{Node, NodeRef};
use super::skiplist::Target;
use crate::env::prefetch_for_read;
use crate::lsm::heads::{common_prefix, head};

const CHUNK_MAX: usize = 256;

/// Nodes of a list, in its order. Owned by the list's writer.
#[derive(Default)]
pub(super) struct Samples {
    chunks: Vec<Chunk>,
    /// The first sample of each chunk.
    firsts: Vec<First>,
}

/// Never empty.
struct Chunk {
    samples: Vec<Sample>,
    /// What the heads are behind: what its keys began with when it was last split.
    prefix: Vec<u8>,
}

/// A node, and how its key begins.
#[derive(Clone, Copy)]
struct First {
    start: Start,
    node: *mut Node,
}

/// The first 32 bytes of a key, padded with zeros, as integers that sort as they do.
type Start = [u64; 4];

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
        if self.chunks.is_empty() {
            let samples = vec![Sample::new(&[], node)];
            self.chunks.push(Chunk { samples, prefix: Vec::new() });
            self.firsts.push(First::new(node));
            return;
        }
        let Place { mut chunk, mut at } = place;
        if self.chunks[chunk].samples.len() == CHUNK_MAX {
            // At the very end keys come in order: full chunks are left full.
            let is_end = at == CHUNK_MAX && chunk + 1 == self.chunks.len();
            let split = if is_end { CHUNK_MAX } else { CHUNK_MAX / 2 };
            // SAFETY: as the caller promises.
            unsafe { self.split(chunk, split, node) }
            if at > split || is_end {
                (chunk, at) = (chunk + 1, at - split);
            }
        }
        let Chunk { samples, prefix } = &mut self.chunks[chunk];
        samples.insert(at, Sample::new(prefix, node));
        if at == 0 {
            self.firsts[chunk] = First::new(node);
        }
    }

    /// Moves the samples of a chunk from `at` on to a chunk of their own, behind it, which begins
    /// with `next` if there are none.
    ///
    /// # Safety
    /// As for [`Samples::insert`].
    unsafe fn split(&mut self, chunk: usize, at: usize, next: NodeRef<'_>) {
        let Chunk { samples, prefix } = &mut self.chunks[chunk];
        let mut behind = Vec::with_capacity(CHUNK_MAX);
        behind.extend(samples.drain(at..));
        let mut behind = Chunk { samples: behind, prefix: prefix.clone() };
        // SAFETY: a published node of a living arena, as the caller promises.
        let first = behind.samples.first().and_then(|first| unsafe { NodeRef::new(first.node()) });
        // SAFETY: as the caller promises.
        unsafe {
            self.chunks[chunk].renew_heads();
            behind.renew_heads();
        }
        self.firsts.insert(chunk + 1, First::new(first.unwrap_or(next)));
        self.chunks.insert(chunk + 1, behind);
    }

    /// Where the target belongs.
    ///
    /// # Safety
    /// The arena of all samples is alive.
    pub(super) unsafe fn place(&self, target: &Target<'_>) -> Place {
        let start = start(target.user_key());
        let is_before = |node: *mut Node| {
            // SAFETY: a published node of a living arena, as the caller promises.
            unsafe { NodeRef::new(node) }.is_some_and(|node| target.is_above(node))
        };
        // Nodes are looked at only where what the table has of them leaves it open.
        let below = self.firsts.partition_point(|first| first.start < start);
        let open = run_of(&self.firsts[below..], |first| first.start == start);
        let chunk = below + open.partition_point(|first| is_before(first.node));
        let chunk = chunk.saturating_sub(1);
        let Some(Chunk { samples, prefix }) = self.chunks.get(chunk) else {
            return Place { chunk, at: 0 };
        };
        // Halving would fetch these one after the other.
        for eighth in 1..8 {
            prefetch_for_read((&raw const samples[samples.len() * eighth / 8]).cast(), 1);
        }
        let head = head_behind(prefix, target.user_key());
        let below = samples.partition_point(|sample| sample.head < head);
        let open = run_of(&samples[below..], |sample| sample.head == head);
        Place { chunk, at: below + open.partition_point(|sample| is_before(sample.node())) }
    }
}

impl Chunk {
    /// Makes the heads anew, if they do not even tell the first from the last.
    ///
    /// # Safety
    /// The arena of all samples is alive.
    unsafe fn renew_heads(&mut self) {
        let key_of = |sample: &Sample| {
            // SAFETY: a published node of a living arena, as the caller promises.
            unsafe { NodeRef::new(sample.node()) }.map_or(&[][..], |node| node.user_key())
        };
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else { return };
        if first.head != last.head {
            return;
        }
        let (first, last) = (key_of(first), key_of(last));
        self.prefix = first[..common_prefix(first, last)].to_vec();
        for sample in &mut self.samples {
            sample.head = head_behind(&self.prefix, key_of(sample));
        }
    }
}

impl First {
    fn new(node: NodeRef<'_>) -> First {
        First { start: start(node.user_key()), node: node.as_ptr() }
    }
}

/// The first of the items, as far as `is_in` holds: for one at most, nearly always.
fn run_of<T>(items: &[T], is_in: impl Fn(&T) -> bool) -> &[T] {
    let n = match items.get(1).is_some_and(&is_in) {
        true => items.partition_point(is_in),
        false => usize::from(items.first().is_some_and(is_in)),
    };
    &items[..n]
}

fn start(user_key: &[u8]) -> Start {
    [0, 8, 16, 24].map(|at| head(user_key.get(at..).unwrap_or(&[])))
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
