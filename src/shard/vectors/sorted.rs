//! Rows in the order of their ids, in few bits each.
//!
//! As they stand a row takes 16 bytes, a quarter of what an index on disk has in memory. But ids that
//! rise and sequence numbers that were given one after the other say little that is new: each block
//! of [`BLOCK`] rows keeps, of either, a line and how far the numbers lie above it, in as many bits
//! as the farthest needs. Ids without a gap that were written in their order take half a byte a
//! row, ids that a hash chose among 64 bits some 7, and what was written in no order as many bits as
//! tell its sequence numbers apart.

use crate::shard::vectors::segment::Row;

/// Rows of a block.
const BLOCK: usize = 128;

/// Rows in the order of ids, each of which is there once.
#[derive(Debug, Clone, Default)]
pub(super) struct SortedRows {
    blocks: Vec<Block>,
    /// What lies above the lines: of each block first that of all its ids. A word more than is
    /// needed, so that reading one and the next is always within.
    words: Vec<u64>,
    /// The last rows, that are no block yet.
    tail: Vec<Row>,
}

/// A block of rows.
#[derive(Debug, Clone, Copy)]
struct Block {
    ids: Line,
    seqs: Line,
    /// Its first bit in the words.
    at: u64,
}

/// Numbers that lie little above a line. All arithmetic is modulo 2^64.
#[derive(Debug, Clone, Copy)]
struct Line {
    first: u64,
    step: u64,
    /// Bits of a number above it.
    width: u32,
}

impl Line {
    /// The lowest of two lines that fits them better: a level one, and one as steep as they are.
    fn under(numbers: &[u64]) -> Line {
        let (first, last) = match numbers {
            [] => (0, 0),
            [first, .., last] => (i128::from(*first), i128::from(*last)),
            [one] => (i128::from(*one), i128::from(*one)),
        };
        let steep = (last - first) / (numbers.len().max(2) as i128 - 1);
        let fit = |step: i128| -> Option<Line> {
            let above = numbers.iter().enumerate().map(|(i, n)| i128::from(*n) - step * i as i128);
            let (low, high) = above.fold((i128::MAX, i128::MIN), |(l, h), n| (l.min(n), h.max(n)));
            let range = u64::try_from(high.checked_sub(low)?).ok()?;
            let width = u64::BITS - range.leading_zeros();
            // Cut to 64 bits: what is read back is too.
            Some(Line { first: low as u64, step: step as u64, width })
        };
        let level = fit(0).unwrap_or(Line { first: 0, step: 0, width: u64::BITS });
        match fit(steep) {
            Some(line) if line.width < level.width => line,
            _ => level,
        }
    }

    fn at(&self, place: usize) -> u64 {
        self.first.wrapping_add(self.step.wrapping_mul(place as u64))
    }
}

impl SortedRows {
    /// Rows that are in order.
    pub(super) fn of(rows: impl IntoIterator<Item = Row>) -> SortedRows {
        let mut sorted = SortedRows::default();
        rows.into_iter().for_each(|row| sorted.push(row));
        sorted.blocks.shrink_to_fit();
        sorted.words.shrink_to_fit();
        sorted.tail.shrink_to_fit();
        sorted
    }

    /// Appends a row. REQUIRES: its id is above all others.
    pub(super) fn push(&mut self, row: Row) {
        debug_assert!(self.last().is_none_or(|last| last.0 < row.0));
        self.tail.push(row);
        if self.tail.len() < BLOCK {
            return;
        }
        let (ids, seqs): (Vec<u64>, Vec<u64>) = self.tail.drain(..).unzip();
        let at = self.blocks.last().map_or(0, Block::end);
        let block = Block { ids: Line::under(&ids), seqs: Line::under(&seqs), at };
        self.words.resize(block.end() as usize / 64 + 2, 0);
        for (place, (id, seq)) in ids.iter().zip(&seqs).enumerate() {
            self.put(block.id_at(place), id.wrapping_sub(block.ids.at(place)));
            self.put(block.seq_at(place), seq.wrapping_sub(block.seqs.at(place)));
        }
        self.blocks.push(block);
    }

    /// Writes a number into bits that are 0. REQUIRES: it has no more bits than they are.
    fn put(&mut self, bit: u64, number: u64) {
        let (word, shift) = (bit as usize / 64, bit % 64);
        self.words[word] |= number << shift;
        if shift > 0 {
            self.words[word + 1] |= number >> (64 - shift);
        }
    }

    fn number(&self, bit: u64, width: u32) -> u64 {
        let (word, shift) = (bit as usize / 64, bit % 64);
        let both = u128::from(self.words[word]) | u128::from(self.words[word + 1]) << 64;
        let number = (both >> shift) as u64;
        if width == u64::BITS { number } else { number & !(u64::MAX << width) }
    }

    fn id(&self, block: &Block, place: usize) -> u64 {
        let above = self.number(block.id_at(place), block.ids.width);
        block.ids.at(place).wrapping_add(above)
    }

    fn seq(&self, block: &Block, place: usize) -> u64 {
        let above = self.number(block.seq_at(place), block.seqs.width);
        block.seqs.at(place).wrapping_add(above)
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len() * BLOCK + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn last(&self) -> Option<Row> {
        match self.tail.last() {
            Some(row) => Some(*row),
            None => self.len().checked_sub(1).and_then(|at| self.row(at)),
        }
    }

    /// The sequence number that belongs to an id.
    pub(super) fn get(&self, id: u64) -> Option<u64> {
        let at = self.behind(|other| other < id);
        self.row(at).filter(|row| row.0 == id).map(|row| row.1)
    }

    /// The number of the first row whose id is not `before`, which says yes to those up to one.
    fn behind(&self, before: impl Fn(u64) -> bool) -> usize {
        let blocks = self.blocks.partition_point(|block| before(self.id(block, 0)));
        if blocks == self.blocks.len() && self.tail.first().is_some_and(|row| before(row.0)) {
            return blocks * BLOCK + self.tail.partition_point(|row| before(row.0));
        }
        // In the last block that begins before it, or with the one behind that.
        let Some(block) = blocks.checked_sub(1) else { return 0 };
        let (mut low, mut high) = (1, BLOCK);
        while low < high {
            let middle = (low + high) / 2;
            match before(self.id(&self.blocks[block], middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        block * BLOCK + low
    }

    fn row(&self, at: usize) -> Option<Row> {
        match self.blocks.get(at / BLOCK) {
            Some(block) => Some((self.id(block, at % BLOCK), self.seq(block, at % BLOCK))),
            None => self.tail.get(at - self.blocks.len() * BLOCK).copied(),
        }
    }

    /// All rows, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row> {
        (0..self.len()).filter_map(|at| self.row(at))
    }

    /// The rows with ids above `after`, in order.
    pub(super) fn iter_behind(&self, after: Option<u64>) -> impl Iterator<Item = Row> {
        let from = after.map_or(0, |after| self.behind(|id| id <= after));
        (from..self.len()).filter_map(|at| self.row(at))
    }

    /// Bytes of memory that they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
            + self.words.capacity() * 8
            + self.tail.capacity() * size_of::<Row>()
    }
}

impl Block {
    fn id_at(&self, place: usize) -> u64 {
        self.at + place as u64 * u64::from(self.ids.width)
    }

    fn seq_at(&self, place: usize) -> u64 {
        self.id_at(BLOCK) + place as u64 * u64::from(self.seqs.width)
    }

    /// The bit behind it.
    fn end(&self) -> u64 {
        self.seq_at(BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use std::collections::BTreeMap;

    fn check(map: &BTreeMap<u64, u64>, rng: &mut Rng) -> f64 {
        let rows = SortedRows::of(map.iter().map(|(id, seq)| (*id, *seq)));
        let expected: Vec<Row> = map.iter().map(|(id, seq)| (*id, *seq)).collect();
        assert_eq!(rows.iter().collect::<Vec<_>>(), expected);
        assert_eq!((rows.len(), rows.last()), (expected.len(), expected.last().copied()));
        let mut ids = vec![0, 1, u64::MAX, u64::MAX - 1];
        for _ in 0..200 {
            let near = expected.get(rng.below(expected.len().max(1) as u64) as usize);
            let near = near.map_or(0, |row| row.0);
            ids.extend([near, near.wrapping_add(1), near.wrapping_sub(1), rng.next_u64()]);
        }
        for id in ids {
            assert_eq!(rows.get(id), map.get(&id).copied(), "{id}");
            let behind: Vec<Row> = rows.iter_behind(Some(id)).take(3).collect();
            let above = map.iter().filter(|(other, _)| **other > id).map(|(id, seq)| (*id, *seq));
            assert_eq!(behind, above.take(3).collect::<Vec<_>>(), "{id}");
        }
        rows.memory_bytes() as f64 / map.len().max(1) as f64
    }

    #[test]
    fn rows_are_what_a_map_is() {
        let mut rng = Rng::new(3);
        for len in [0, 1, 2, 127, 128, 129, 256, 1_000] {
            for (id_bits, seq_bits) in [(10, 3), (11, 64), (64, 20), (64, 64), (63, 63), (40, 1)] {
                let mut number = |bits: u32| rng.next_u64() >> (64 - bits);
                let map = (0..len).map(|_| (number(id_bits), number(seq_bits))).collect();
                check(&map, &mut rng);
            }
            // The ends of what there is, with falling sequence numbers.
            let mut map: BTreeMap<u64, u64> =
                (0..len).map(|n| (n << 54 | n, u64::MAX - 7 * n)).collect();
            map.extend([(u64::MAX, 0), (0, u64::MAX)]);
            check(&map, &mut rng);
        }
    }

    #[test]
    fn what_says_little_takes_little() {
        let mut rng = Rng::new(4);
        let even = (0..50_000).map(|id| (id, 900 + 2 * id)).collect();
        assert!(check(&even, &mut rng) < 0.5);
        // A shard of four has some of the ids; one in fifty was put in again later.
        let mut some = BTreeMap::new();
        for id in 0..200_000 {
            if !rng.one_in(4) {
                continue;
            }
            some.insert(id, if rng.one_in(50) { 200_000 + rng.below(1_000) } else { id });
        }
        let bytes = check(&some, &mut rng);
        assert!(bytes < 4.0, "{bytes}");
        let hashed = (0..50_000).map(|n| (rng.next_u64(), n)).collect();
        let bytes = check(&hashed, &mut rng);
        assert!(bytes < 10.0, "{bytes}");
    }
}
