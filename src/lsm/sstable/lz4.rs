//! An encoder of the LZ4 block format (lz4_Block_format.md), made for blocks of a few KiB.
//!
//! Tables are compressed by whoever flushes and compacts, so its speed is that of writing. It
//! looks for matches at every byte at first and soon more seldom the longer it finds none, grows a
//! match backwards over the bytes it passed, and forgets everything from one block to the next but
//! whether blocks shrink at all: where several did not, most of those that follow are not tried.
//! Reading is the library's, which checks.

use std::ops::Range;

/// The shortest match of the format.
const MATCH_MIN: usize = 4;
/// A match may not begin in the last 12 bytes, nor reach into the last 5.
const LAST_MATCH_START: usize = 12;
const LAST_LITERALS: usize = 5;
/// Places are remembered in 16 bits. Longer blocks hold one long value and are the library's.
const PLACES_MAX: usize = 1 << 16;
const HASH_BITS: u32 = 12;
/// Bytes between two looks, times `1 << STEP_BITS`: one at first, one more after so many looks in
/// vain. The library waits for 64; 8 are half again as fast on noise and cost 4 % of size on text.
const STEP_BEGIN: usize = 1 << STEP_BITS;
const STEP_BITS: u32 = 3;
/// After so many bytes without a match the next are likely noise too: every second is looked at.
/// A sixth faster on half noise, and 0.2 % of size on text.
const NOISE_BYTES: usize = 32;
/// After so many blocks in a row that did not shrink, only one of [`TRIED_OF`] is tried, until one does.
const IN_VAIN_MAX: u32 = 16;
const TRIED_OF: u32 = 8;

/// What is remembered while a block is encoded: for a hash of 4 bytes, where they stood last.
pub(super) struct Encoder {
    places: Box<[u16; 1 << HASH_BITS]>,
    /// Blocks in a row that did not shrink, those that were not tried among them.
    in_vain: u32,
}

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder { places: Box::new([0; 1 << HASH_BITS]), in_vain: 0 }
    }

    /// Has the next block tried, whatever the ones before came to.
    pub(super) fn forget_others(&mut self) {
        self.in_vain = 0;
    }

    /// As [`Encoder::encode`], of the next block of a table; false also for one that is not tried.
    pub(super) fn encode_next(
        &mut self,
        input: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let is_tried = self.in_vain < IN_VAIN_MAX || self.in_vain.is_multiple_of(TRIED_OF);
        let shrinks = is_tried && self.encode(input, bytes_max, out);
        self.in_vain = if shrinks { 0 } else { self.in_vain.wrapping_add(1) };
        shrinks
    }

    /// Appends the encoding of `input`, which depends on that alone; false, with nothing of use
    /// appended, if it would take more than `bytes_max`.
    pub(super) fn encode(&mut self, input: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let limit = out.len() + bytes_max;
        if input.len() > PLACES_MAX {
            out.extend_from_slice(&lz4_flex::block::compress(input));
            return out.len() <= limit;
        }
        self.places.fill(0);
        let (mut anchor, mut step) = (0, STEP_BEGIN);
        let matches_end = input.len().saturating_sub(LAST_MATCH_START);
        let mut at = 1;
        while let Some((from, start)) = self.find(input, anchor..matches_end, at, step) {
            let reach = input.len() - LAST_LITERALS;
            let len =
                MATCH_MIN + common(&input[from + MATCH_MIN..], &input[start + MATCH_MIN..reach]);
            put_sequence(out, &input[anchor..start], start - from, len);
            if out.len() > limit {
                return false;
            }
            step = if start - anchor < NOISE_BYTES { STEP_BEGIN } else { 2 * STEP_BEGIN };
            anchor = start + len;
            at = anchor + 1;
            if anchor < matches_end {
                self.places[hash(input, anchor - 2)] = (anchor - 2) as u16;
                self.places[hash(input, anchor)] = anchor as u16;
            }
        }
        put_literals(out, &input[anchor..], 0);
        out.len() <= limit
    }

    /// The next match that starts in `within`: where its bytes stood before, and where it starts.
    #[inline]
    fn find(
        &mut self,
        input: &[u8],
        within: Range<usize>,
        mut at: usize,
        mut step: usize,
    ) -> Option<(usize, usize)> {
        while at < within.end {
            let slot = &mut self.places[hash(input, at)];
            let from = usize::from(*slot);
            *slot = at as u16;
            if from < at && four(input, from) == four(input, at) {
                let (mut from, mut start) = (from, at);
                while start > within.start && from > 0 && input[start - 1] == input[from - 1] {
                    (from, start) = (from - 1, start - 1);
                }
                return Some((from, start));
            }
            at += step >> STEP_BITS;
            step += 1;
        }
        None
    }
}

#[inline]
fn four(input: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&input[at..at + 4]);
    u32::from_le_bytes(bytes)
}

#[inline]
fn hash(input: &[u8], at: usize) -> usize {
    (four(input, at).wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
}

/// Length of what two byte strings begin with alike.
#[inline]
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut n = 0;
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let word = |c: &[u8]| c.try_into().map_or(0, u64::from_le_bytes);
        let differ = word(x) ^ word(y);
        if differ != 0 {
            return n + differ.trailing_zeros() as usize / 8;
        }
        n += 8;
    }
    n + a[n..].iter().zip(&b[n..]).take_while(|(x, y)| x == y).count()
}

/// Literals, then a match of `len` bytes `distance` back.
#[inline]
fn put_sequence(out: &mut Vec<u8>, literals: &[u8], distance: usize, len: usize) {
    let rest = len - MATCH_MIN;
    put_literals(out, literals, rest.min(15) as u8);
    out.extend_from_slice(&(distance as u16).to_le_bytes());
    if rest >= 15 {
        put_length(out, rest - 15);
    }
}

#[inline]
fn put_literals(out: &mut Vec<u8>, literals: &[u8], match_nibble: u8) {
    let n = literals.len();
    out.push(((n.min(15) as u8) << 4) | match_nibble);
    if n >= 15 {
        put_length(out, n - 15);
    }
    out.extend_from_slice(literals);
}

#[inline]
fn put_length(out: &mut Vec<u8>, mut rest: usize) {
    while rest >= 255 {
        out.push(255);
        rest -= 255;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    fn round_trip(encoder: &mut Encoder, input: &[u8]) -> usize {
        let mut out = b"before".to_vec();
        assert!(encoder.encode(input, usize::MAX / 2, &mut out));
        let back = lz4_flex::block::decompress(&out[6..], input.len()).unwrap();
        assert!(back == input);
        out.len() - 6
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let mut encoder = Encoder::new();
        for seed in 0..3000 {
            let mut rng = Rng::new(seed);
            let len_max = [20, 300, 5000, 80_000][rng.below(4) as usize];
            let len = rng.below(len_max + 1) as usize;
            let mut input = Vec::with_capacity(len);
            while input.len() < len {
                let n = 1 + rng.below(80) as usize;
                match rng.below(3) {
                    // A piece from before, perhaps overlapping itself.
                    0 if !input.is_empty() => {
                        let back = 1 + rng.below(input.len() as u64) as usize;
                        for _ in 0..n {
                            input.push(input[input.len() - back]);
                        }
                    }
                    1 => input.extend(std::iter::repeat_n(rng.next_u64() as u8, n)),
                    _ => input.extend((0..n).map(|_| rng.next_u64() as u8)),
                }
            }
            input.truncate(len);
            round_trip(&mut encoder, &input);
        }
    }

    #[test]
    fn repetition_shrinks_and_a_block_is_encoded_the_same_after_any_other() {
        let mut encoder = Encoder::new();
        let text = b"the quick brown fox jumps over the lazy dog; ".repeat(90);
        assert!(round_trip(&mut encoder, &text) < text.len() / 20);
        let mut first = Vec::new();
        assert!(Encoder::new().encode(&text, 4096, &mut first));
        let mut again = Vec::new();
        encoder.encode(&[7; 5000], 5000, &mut again);
        again.clear();
        assert!(encoder.encode(&text, 4096, &mut again));
        assert_eq!(first, again);
    }

    /// Each block of noise was looked through for what it has not, by every flush and compaction.
    #[test]
    fn of_blocks_that_do_not_shrink_few_are_tried_until_one_does() {
        let (mut encoder, mut rng) = (Encoder::new(), Rng::new(2));
        let text = b"the quick brown fox ".repeat(200);
        let mut next = |input: &[u8]| encoder.encode_next(input, 3_000, &mut Vec::new());
        assert!(next(&text));
        let mut noise = vec![0; 4_096];
        for _ in 0..100 {
            rng.fill(&mut noise);
            assert!(!next(&noise));
        }
        // Those that shrink again are found soon, and from then on each of them.
        let in_vain = (0..).take_while(|_| !next(&text)).count();
        assert!((1..TRIED_OF as usize).contains(&in_vain), "{in_vain}");
        assert!((0..100).all(|_| next(&text)));
        rng.fill(&mut noise);
        assert!(!next(&noise) && next(&text));
    }

    #[test]
    fn what_does_not_shrink_enough_is_refused() {
        let mut noise = vec![0; 4096];
        Rng::new(1).fill(&mut noise);
        assert!(!Encoder::new().encode(&noise, 3500, &mut Vec::new()));
    }
}
