//! Which segments are made one, and how large that may get.

use crate::op::vector::IndexSpec;
use crate::shard::vectors::form::{graph_bytes, making_bytes, takes_pages};
use crate::shard::vectors::limits::VectorLimits;
use crate::shard::vectors::segment::Segment;

/// Segments of about one size that are made one.
const ALIKE: usize = 4;
/// The most vectors of a segment that is made of others.
const MADE_MAX: usize = 4 << 20;
/// Bytes of its graph, for one that lies on disk afterwards.
const MADE_BYTES_MAX: usize = 512 << 20;
/// Vectors for one that is dead, or outside the largest segment; and where no graph is kept that could be
/// gone on with, so that all are linked anew.
const PER_WASTE: usize = 16;
const PER_WASTE_ON_DISK: usize = 4;
/// Making it takes what vectors leave of their budget, or else one of so many bytes of it.
const MADE_SHARE: u64 = 4;

/// The most vectors of a segment that is made of others: while it is made, it is in memory, also of
/// those indexes that are to take little of it. `free` bytes of the budget of vectors are not taken.
pub(super) fn made_max(spec: &IndexSpec, limits: &VectorLimits, free: u64) -> usize {
    let fixed = match takes_pages(spec) {
        true => MADE_BYTES_MAX / graph_bytes(spec, 1),
        false => MADE_MAX,
    };
    let share = free.max(limits.bytes_max / MADE_SHARE) / making_bytes(spec, 1) as u64;
    fixed.min(usize::try_from(share).unwrap_or(usize::MAX))
}

/// Segments of about one size, if there are as many as are made one, of as many vectors as may be.
pub(super) fn alike(segments: &[Segment], most: usize) -> Option<Vec<u64>> {
    let mut by_size: Vec<&Segment> = segments.iter().collect();
    by_size.sort_by_key(|segment| segment.live());
    for (at, smallest) in by_size.iter().enumerate() {
        let mut rows = 0;
        let like = by_size[at..].iter().take_while(|segment| {
            rows += segment.live();
            rows <= most && segment.live() < 2 * smallest.live().max(16)
        });
        let like: Vec<&&Segment> = like.collect();
        if like.len() >= ALIKE {
            return Some(like.iter().map(|segment| segment.number).collect());
        }
    }
    None
}

/// All segments, if they are worth being made one where nobody writes: each is walked by every search,
/// and their dead nodes with them. Not if that takes minutes, in which other indexes would wait; and only
/// if enough vectors are dead or outside the largest: else each few that are written have all the others
/// written anew.
pub(super) fn worth_making_one(
    segments: &[Segment],
    spec: &IndexSpec,
    limits: &VectorLimits,
    free: u64,
) -> Option<Vec<u64>> {
    let per_waste = if takes_pages(spec) { PER_WASTE_ON_DISK } else { PER_WASTE };
    let live: usize = segments.iter().map(Segment::live).sum();
    let all: usize = segments.iter().map(|segment| segment.rows.len()).sum();
    let largest = segments.iter().map(Segment::live).max()?;
    // From a graph that is kept on, only what is outside it is linked.
    let linked = if takes_pages(spec) { live } else { live - largest };
    let is_small = all <= made_max(spec, limits, free).min(2 * limits.segment_rows)
        && linked <= limits.segment_rows / 2;
    let is_worth_it = (all - largest) * per_waste > live;
    (is_small && is_worth_it).then(|| segments.iter().map(|segment| segment.number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::vector::{Metric, Quantisation};

    /// Segments were made as large as memory or not, and what that took was told to nobody.
    #[test]
    fn what_is_made_of_segments_fits_into_the_budget() {
        for (bytes_max, dim) in [(64 << 20, 384), (512 << 20, 768), (8 << 30, 64)] {
            for quantisation in [Quantisation::None, Quantisation::Packed] {
                let spec = IndexSpec { quantisation, ..IndexSpec::new("v", dim, Metric::L2) };
                let spec = spec.with_defaults();
                let limits = VectorLimits { bytes_max, ..VectorLimits::default() };
                let made = |free: u64| {
                    let most = made_max(&spec, &limits, free);
                    (most, making_bytes(&spec, most) as u64)
                };
                let (least, bytes) = made(0);
                assert!(least > 1_000 && bytes <= bytes_max / 4, "{least}");
                // As much as there is while vectors take little, and no more.
                let (most, bytes) = made(bytes_max - bytes_max / 8);
                assert!(most > 3 * least && bytes <= bytes_max - bytes_max / 8, "{most}");
            }
        }
        let spec = IndexSpec::new("v", 64, Metric::L2).with_defaults();
        assert_eq!(made_max(&spec, &VectorLimits::default(), 0), MADE_MAX);
    }
}
