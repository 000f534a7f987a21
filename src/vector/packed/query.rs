//! The tables that a query makes of itself, once, and that every node's codes are looked up in.

use crate::vector::kernel::{SCAN_WIDTH, Scan};

/// Tables for the inner products of a query and signs: for each 4 dimensions the 16 sums that 4
/// signs can have, as bytes.
#[derive(Debug, Default)]
pub(super) struct QueryTables {
    tables: Vec<u8>,
    sums: Vec<f32>,
    shift: f32,
    scale: f32,
}

impl QueryTables {
    /// Makes the tables of a rotated query.
    pub(super) fn fill(&mut self, rotated: &[f32]) {
        let groups = rotated.len() / 4;
        self.sums.clear();
        let (mut low, mut range) = (0.0f32, 0.0f32);
        for group in rotated.as_chunks::<4>().0 {
            // The sum of those with a set bit, minus the sum of the others.
            let [a, b, c, d] = *group;
            let pairs = [-a - b, a - b, b - a, a + b];
            let others = [-c - d, c - d, d - c, c + d];
            for other in others {
                self.sums.extend(pairs.map(|pair| pair + other));
            }
            let size: f32 = group.iter().map(|value| value.abs()).sum();
            low -= size;
            range = range.max(2.0 * size);
        }
        // All sums of table entries fit into 16 bits.
        let steps = (65_535 / groups.max(1)).min(255) as f32;
        self.scale = if range > 0.0 { range / steps } else { 1.0 };
        self.shift = low;
        self.tables.clear();
        let per_step = 1.0 / self.scale;
        for (sums, group) in self.sums.as_chunks::<16>().0.iter().zip(rotated.as_chunks::<4>().0) {
            let size: f32 = group.iter().map(|value| value.abs()).sum();
            // Rounded; no entry is negative, and the cast keeps those in range that rounding
            // brought out of it.
            self.tables.extend(sums.map(|sum| ((sum + size) * per_step + 0.5) as u8));
        }
    }

    /// A scan of one node's row.
    #[inline(always)]
    pub(super) fn scan<'a>(
        &'a self,
        codes: &'a [u8],
        (add, mul): (&'a [f32; SCAN_WIDTH], &'a [f32; SCAN_WIDTH]),
        base: f32,
        limit: f32,
    ) -> Scan<'a> {
        let (shift, scale) = (self.shift, self.scale);
        Scan { tables: &self.tables, codes, add, mul, base, shift, scale, limit }
    }
}
