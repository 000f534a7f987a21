//! A search among sorted keys that compares integers.
//!
//! Of each key the 8 bytes behind what all keys begin with are kept in one piece, as integers that
//! sort as the bytes do, and of every sixteenth of them a copy. A search looks at a few cache lines
//! of each and at the keys themselves only where the integers leave it open.

use std::cmp::Ordering;
use std::ops::Range;

/// Integers to each of which there is a copy at the top.
const STRIDE: usize = 16;

/// The beginnings of sorted keys.
#[derive(Debug, Default)]
pub struct Heads {
    /// What all keys begin with.
    prefix: Vec<u8>,
    heads: Vec<u64>,
    tops: Vec<u64>,
}

impl Heads {
    /// Of `n` keys in ascending order, of which `key` gives each.
    pub fn new<'a>(n: usize, key: impl Fn(usize) -> &'a [u8]) -> Heads {
        let Some(last) = n.checked_sub(1) else { return Heads::default() };
        let (first, last) = (key(0), key(last));
        let prefix = first[..common_prefix(first, last)].to_vec();
        let heads: Vec<u64> = (0..n).map(|i| head_behind(prefix.len(), key(i))).collect();
        let tops = heads.iter().step_by(STRIDE).copied().collect();
        Heads { prefix, heads, tops }
    }

    /// Where the first key that is not below `key` is: it, or the end if there is none, is in this
    /// range, its end included.
    #[inline]
    pub fn narrow(&self, key: &[u8]) -> Range<usize> {
        let n = self.heads.len();
        let start = &key[..key.len().min(self.prefix.len())];
        match start.cmp(&self.prefix) {
            Ordering::Less => return 0..0,
            Ordering::Greater => return n..n,
            Ordering::Equal => {}
        }
        let head = head_behind(self.prefix.len(), key);
        let top = self.tops.partition_point(|top| *top < head) * STRIDE;
        let (from, to) = (top.saturating_sub(STRIDE), top.min(n));
        let low = from + self.heads[from..to].partition_point(|h| *h < head);
        let behind = &self.heads[low..];
        // One at most, nearly always.
        let equal = match behind.get(1) == Some(&head) {
            true => behind.partition_point(|h| *h == head),
            false => usize::from(behind.first() == Some(&head)),
        };
        low..low + equal
    }

    /// Memory it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.prefix.len() + size_of::<u64>() * (self.heads.len() + self.tops.len())
    }
}

/// Length of what two byte strings begin with alike.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let mut n = 0;
    for (x, y) in words {
        if x != y {
            break;
        }
        n += 8;
    }
    n + a[n..].iter().zip(&b[n..]).take_while(|(x, y)| x == y).count()
}

/// The 8 bytes of a key behind its first `prefix`, padded with zeros.
#[inline]
fn head_behind(prefix: usize, key: &[u8]) -> u64 {
    head(key.get(prefix..).unwrap_or(&[]))
}

/// The first 8 bytes of a key, padded with zeros, as an integer that sorts as they do.
#[inline]
pub(super) fn head(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut padded = [0; 8];
            padded[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(padded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    #[test]
    fn a_narrowed_search_ends_where_a_whole_one_does() {
        let mut rng = Rng::new(9);
        for round in 0..300 {
            let n = rng.below(100) as usize;
            let mut key = || {
                let len = rng.below(14) as usize;
                let mut key = b"shared"[..if round % 3 == 0 { 0 } else { 6 }].to_vec();
                key.extend((0..len).map(|_| [0, 1, 255][rng.below(3) as usize]));
                key
            };
            let mut keys: Vec<Vec<u8>> = (0..n).map(|_| key()).collect();
            keys.sort();
            let heads = Heads::new(n, |i| &keys[i]);
            let targets: Vec<Vec<u8>> = (0..50).map(|_| key()).collect();
            for target in targets.iter().chain(&keys).chain([&vec![], &vec![255; 9]]) {
                let range = heads.narrow(target);
                let whole = keys.partition_point(|key| key < target);
                let within = keys[range.clone()].partition_point(|key| key < target);
                assert_eq!(range.start + within, whole, "{target:?} in {keys:?}");
            }
        }
    }
}
