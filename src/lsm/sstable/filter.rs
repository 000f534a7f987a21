//! A blocked Bloom filter over a table's user keys: one cache line is asked per lookup
//! (Putze, Sanders, Singler 2007).
//!
//! ```text
//! filter: [version u8 = 1][probes u8][0 u16][lines u32][line: 64 bytes]...
//! ```
//! With `h = xxh3_64(user key)` the line is `(h >> 32) * lines >> 32`. The `probes` bits within
//! it come from `g`, which starts as the low 32 bits of `h` and is multiplied by 0x9E3779B9
//! (wrapping) before each probe: its top 9 bits are the bit's number; bit `i` is bit `i % 8` of
//! byte `i / 8`.

use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
const LINE_BYTES: usize = 64;
const PROBES_MAX: u8 = 30;

/// The hash that filters and block buckets are made of.
pub(super) fn hash(user_key: &[u8]) -> u64 {
    xxh3_64(user_key)
}

/// A filter in memory.
#[derive(Debug)]
pub struct Filter {
    probes: u8,
    lines: Vec<Line>,
}

/// Aligned, so that it never straddles two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u8; LINE_BYTES]);

impl Filter {
    /// The bytes of a filter for the given hashes, at `bits_per_key` bits for each.
    pub(super) fn build(hashes: &[u64], bits_per_key: u8) -> Vec<u8> {
        let bits = hashes.len() as u64 * u64::from(bits_per_key);
        let lines =
            bits.div_ceil(8 * LINE_BYTES as u64).clamp(1, u64::from(u32::MAX / 64)) as usize;
        // ln 2 bits a key are best for a plain Bloom filter; one blocked into lines wants fewer.
        let probes = (u32::from(bits_per_key) * 62 / 100).clamp(1, u32::from(PROBES_MAX)) as u8;
        let mut out = vec![0; HEADER_BYTES + lines * LINE_BYTES];
        out[0] = VERSION;
        out[1] = probes;
        out[4..8].copy_from_slice(&(lines as u32).to_le_bytes());
        for h in hashes {
            let start = HEADER_BYTES + line_of(*h, lines) * LINE_BYTES;
            let line = &mut out[start..start + LINE_BYTES];
            for bit in bits_of(*h, probes) {
                line[bit / 8] |= 1 << (bit % 8);
            }
        }
        out
    }

    /// Reads a filter; `None` if it is malformed.
    pub(super) fn read(bytes: &[u8]) -> Option<Filter> {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let [version, probes, 0, 0, lines @ ..] = *header else { return None };
        let lines = u32::from_le_bytes(lines) as usize;
        let whole = body.len() == lines.checked_mul(LINE_BYTES)? && lines > 0;
        if version != VERSION || !(1..=PROBES_MAX).contains(&probes) || !whole {
            return None;
        }
        let lines = body.chunks_exact(LINE_BYTES).filter_map(|c| c.try_into().ok()).map(Line);
        Some(Filter { probes, lines: lines.collect() })
    }

    /// Whether a key with this hash may have been among those of [`Filter::build`].
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let line = &self.lines[line_of(hash, self.lines.len())].0;
        bits_of(hash, self.probes).all(|bit| line[bit / 8] & (1 << (bit % 8)) != 0)
    }

    /// Memory it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }
}

fn line_of(hash: u64, lines: usize) -> usize {
    (((hash >> 32) * lines as u64) >> 32) as usize
}

fn bits_of(hash: u64, probes: u8) -> impl Iterator<Item = usize> {
    let mut g = hash as u32;
    (0..probes).map(move |_| {
        g = g.wrapping_mul(0x9E37_79B9);
        (g >> 23) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_missed_and_few_strangers_pass() {
        let hashes: Vec<u64> = (0..20_000u32).map(|i| hash(&i.to_be_bytes())).collect();
        for (bits, strangers_max) in [(1, 18_000), (5, 2600), (10, 300), (20, 40)] {
            let filter = Filter::read(&Filter::build(&hashes, bits)).unwrap();
            assert!(hashes.iter().all(|h| filter.may_contain(*h)));
            let others = (20_000..40_000u32).map(|i| hash(&i.to_be_bytes()));
            let passed = others.filter(|h| filter.may_contain(*h)).count();
            assert!(passed < strangers_max, "{bits} bits: {passed}");
        }
    }

    #[test]
    fn malformed_filters_are_refused() {
        let good = Filter::build(&[1, 2, 3], 10);
        assert!(Filter::read(&good).is_some());
        assert!(Filter::read(&good[..good.len() - 1]).is_none());
        for (at, to) in [(0, 2), (1, 0), (1, 31), (2, 1), (4, 9)] {
            let mut bad = good.clone();
            bad[at] = to;
            assert!(Filter::read(&bad).is_none());
        }
    }
}
