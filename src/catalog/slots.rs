//! Hash slots, and ranges of them. Slot `CRC16(key or its {tag}) mod 16384`, as Redis Cluster has it.

use std::fmt;

/// Slots of the cluster: 0 to 16,383.
pub const SLOTS: u16 = 16_384;

/// Slots from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRange {
    /// The lowest slot.
    pub first: u16,
    /// The highest slot, not below `first`.
    pub last: u16,
}

impl SlotRange {
    /// Whether `slot` is in the range.
    pub fn contains(self, slot: u16) -> bool {
        (self.first..=self.last).contains(&slot)
    }

    /// How many slots there are, at least 1.
    pub fn count(self) -> u16 {
        self.last - self.first + 1
    }

    /// The ranges below `at` and from `at` on; `None` if one of them would be empty.
    pub fn split(self, at: u16) -> Option<(SlotRange, SlotRange)> {
        let inside = at > self.first && at <= self.last;
        inside.then(|| {
            (
                SlotRange { first: self.first, last: at - 1 },
                SlotRange { first: at, last: self.last },
            )
        })
    }

    /// All slots in `count` ranges whose sizes differ by at most one.
    /// REQUIRES: `count` is from 1 to [`SLOTS`].
    pub fn even(count: u16) -> impl Iterator<Item = SlotRange> {
        let edge = move |i: u16| (u32::from(i) * u32::from(SLOTS) / u32::from(count)) as u16;
        (0..count).map(move |i| SlotRange { first: edge(i), last: edge(i + 1) - 1 })
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_ranges_cover_every_slot_once() {
        for count in [1, 2, 3, 7, 1000, SLOTS - 1, SLOTS] {
            let ranges: Vec<_> = SlotRange::even(count).collect();
            assert_eq!(ranges.len(), usize::from(count));
            assert_eq!((ranges[0].first, ranges[ranges.len() - 1].last), (0, SLOTS - 1));
            assert!(ranges.windows(2).all(|w| w[0].last + 1 == w[1].first));
            let sizes = ranges.iter().map(|r| r.count());
            assert!(sizes.clone().max() <= sizes.min().map(|min| min + 1));
        }
    }

    #[test]
    fn a_split_leaves_no_half_empty() {
        let range = SlotRange { first: 10, last: 12 };
        assert_eq!(range.split(10), None);
        assert_eq!(range.split(13), None);
        let (low, high) = range.split(12).unwrap();
        assert_eq!((low.to_string(), high.to_string()), ("10-11".into(), "12-12".into()));
    }
}
