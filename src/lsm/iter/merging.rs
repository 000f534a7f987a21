//! Many cursors as one.
//!
//! A binary heap of child numbers with the current child on top. A step moves that child and
//! compares it with the second, which is known as long as the top stays where it is: a child
//! whose keys come in a row costs one comparison each, and one that is alone none. Where two
//! children stand on equal keys the earlier child, which is the newer source, comes first in both
//! directions.

use crate::base::{Result, Seq};
use crate::lsm::cursor::Cursor;
use crate::lsm::iter::run::Run;
use crate::lsm::key::{compare, user_key};
use std::cmp::Ordering;

/// Walks the union of its children in order.
pub struct MergingCursor {
    children: Vec<Run>,
    /// Valid children; the top one is current.
    heap: Vec<usize>,
    /// The place in the heap of the child behind the top one, 0 if that is not known.
    second: usize,
    forward: bool,
}

impl MergingCursor {
    /// The union of `children`, the newest source first.
    pub fn new(children: Vec<Run>) -> MergingCursor {
        let heap = Vec::with_capacity(children.len());
        MergingCursor { children, heap, second: 0, forward: true }
    }

    /// The number of the child the cursor stands on. REQUIRES: valid.
    pub fn source(&self) -> usize {
        self.heap[0]
    }

    /// Moves every child by `step`, then puts the valid ones in order.
    fn reset(
        &mut self,
        forward: bool,
        mut step: impl FnMut(usize, &mut Run) -> Result<()>,
    ) -> Result<()> {
        self.heap.clear();
        self.second = 0;
        self.forward = forward;
        for (i, child) in self.children.iter_mut().enumerate() {
            step(i, child)?;
        }
        self.heap.extend((0..self.children.len()).filter(|i| self.children[*i].valid()));
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
        Ok(())
    }

    #[inline]
    fn before(&self, a: usize, b: usize) -> bool {
        let order = compare(self.children[a].key(), self.children[b].key());
        let order = if self.forward { order } else { order.reverse() };
        order.then(a.cmp(&b)) == Ordering::Less
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut least = 2 * at + 1;
            if least >= self.heap.len() {
                return;
            }
            if least + 1 < self.heap.len() && self.before(self.heap[least + 1], self.heap[least]) {
                least += 1;
            }
            if !self.before(self.heap[least], self.heap[at]) {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    /// Puts the current child back in order after it moved by `moved`.
    #[inline]
    fn moved(&mut self, moved: Result<()>) -> Result<()> {
        if let Err(error) = moved {
            self.heap.clear();
            return Err(error);
        }
        let valid = self.children[self.heap[0]].valid();
        if self.heap.len() > 1 || !valid {
            self.reorder(valid);
        }
        Ok(())
    }

    fn reorder(&mut self, valid: bool) {
        if !valid {
            self.heap.swap_remove(0);
            self.second = 0;
            self.sift_down(0);
            return;
        }
        if self.second == 0 {
            let left = self.heap.len() < 3 || self.before(self.heap[1], self.heap[2]);
            self.second = if left { 1 } else { 2 };
        }
        let second = self.second;
        if self.before(self.heap[second], self.heap[0]) {
            self.heap.swap(0, second);
            self.second = 0;
            self.sift_down(second);
        }
    }

    /// Goes to the first record at or behind the user key `until`, or stops before it at one that
    /// may be newer than `seq`. REQUIRES: valid, going forward, and before `until`.
    pub fn skip_older(&mut self, until: &[u8], seq: Seq) -> Result<()> {
        self.skip(|child| match user_key(child.key()) < until {
            true => child.skip_older(until, seq),
            false => Ok(()),
        })
    }

    /// Goes back to the last record before the user key `since`, or stops behind it at one that
    /// may be newer than `seq`. REQUIRES: valid, going back, and not before `since`.
    pub fn skip_older_back(&mut self, since: &[u8], seq: Seq) -> Result<()> {
        self.skip(|child| match user_key(child.key()) >= since {
            true => child.skip_older_back(since, seq),
            false => Ok(()),
        })
    }

    /// Stands on no record until the next seek.
    pub fn leave(&mut self) {
        self.heap.clear();
    }

    fn skip(&mut self, mut skip: impl FnMut(&mut Run) -> Result<()>) -> Result<()> {
        self.reset(self.forward, |_, child| if child.valid() { skip(child) } else { Ok(()) })
    }

    /// Takes all children to where they belong around the current key, for the other direction.
    fn turn(&mut self, forward: bool) -> Result<()> {
        let current = self.heap[0];
        let key = self.children[current].key().to_vec();
        self.reset(forward, |i, child| {
            if i == current {
                return Ok(());
            }
            if forward { child.seek(&key) } else { child.seek_for_prev(&key) }
        })?;
        // Only a child on an equal key could have come before the current one.
        while self.heap.first().is_some_and(|top| *top != current) {
            let top = self.heap[0];
            let step = if forward { self.children[top].next() } else { self.children[top].prev() };
            self.moved(step)?;
        }
        Ok(())
    }
}

impl Cursor for MergingCursor {
    #[inline]
    fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    fn first(&mut self) -> Result<()> {
        self.reset(true, |_, child| child.first())
    }

    fn last(&mut self) -> Result<()> {
        self.reset(false, |_, child| child.last())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.reset(true, |_, child| child.seek(target))
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.reset(false, |_, child| child.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if !self.forward {
            self.turn(true)?;
        }
        let step = self.children[self.heap[0]].next();
        self.moved(step)
    }

    fn prev(&mut self) -> Result<()> {
        if self.forward {
            self.turn(false)?;
        }
        let step = self.children[self.heap[0]].prev();
        self.moved(step)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.children[self.heap[0]].key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.children[self.heap[0]].value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seq;
    use crate::env::Rng;
    use crate::lsm::iter::vec::VecCursor;
    use crate::lsm::key::{Kind, put_internal};

    fn internal(key: u64, seq: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_internal(&mut out, format!("k{key}").as_bytes(), Seq(seq), Kind::Put);
        out
    }

    #[test]
    fn walks_like_one_sorted_run_in_both_directions() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut all = Vec::new();
            let mut parts = vec![Vec::new(); rng.below(6) as usize + 1];
            for seq in 1..=rng.below(30) {
                let record = (internal(rng.below(8), seq), seq.to_string().into_bytes());
                all.push(record.clone());
                let part = rng.below(parts.len() as u64) as usize;
                parts[part].push(record);
            }
            let mut model = VecCursor::new(all);
            let children = parts.into_iter().map(|p| Run::Vec(VecCursor::new(p)));
            let mut merged = MergingCursor::new(children.collect());
            for _ in 0..60 {
                let target = internal(rng.below(9), rng.below(32));
                let both: [&mut dyn Cursor; 2] = [&mut model, &mut merged];
                let valid = both[0].valid();
                let what = rng.below(8);
                for cursor in both {
                    match what {
                        0 => cursor.first(),
                        1 => cursor.last(),
                        2 => cursor.seek(&target),
                        3 => cursor.seek_for_prev(&target),
                        4 | 5 if valid => cursor.next(),
                        6 | 7 if valid => cursor.prev(),
                        _ => Ok(()),
                    }
                    .unwrap();
                }
                assert_eq!(model.valid(), merged.valid(), "seed {seed}");
                if model.valid() {
                    assert_eq!((model.key(), model.value()), (merged.key(), merged.value()));
                }
            }
        }
    }
}
