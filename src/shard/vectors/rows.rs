//! The rows of a part that changes: sorted ones, and what has changed since they were written down.

use crate::shard::vectors::segment::Row;
use crate::shard::vectors::sorted::SortedRows;
use std::collections::HashMap;

/// Rows by id.
#[derive(Debug, Default)]
pub(super) struct Rows {
    sorted: SortedRows,
    /// Those that are others, or gone.
    since: HashMap<u64, Option<u64>>,
    len: usize,
}

impl Rows {
    /// Sorted rows without some of them.
    pub(super) fn of(sorted: SortedRows, dead: &[u64]) -> Rows {
        let mut rows = Rows { len: sorted.len(), sorted, since: HashMap::new() };
        dead.iter().for_each(|id| _ = rows.remove(*id));
        rows
    }

    /// The sequence number of an id's record, if it is here.
    pub(super) fn get(&self, id: u64) -> Option<u64> {
        match self.since.get(&id) {
            Some(changed) => *changed,
            None => self.sorted.get(id),
        }
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, id: u64, seq: u64) {
        self.len += usize::from(!self.has(id));
        self.since.insert(id, Some(seq));
    }

    /// As [`Rows::insert`], of rows that no file has: those whose ids rise take less memory so.
    pub(super) fn push(&mut self, id: u64, seq: u64) {
        if self.since.is_empty() && self.sorted.last().is_none_or(|last| last.0 < id) {
            self.sorted.push((id, seq));
            self.len += 1;
        } else {
            self.insert(id, seq);
        }
    }

    /// Forgets an id; whether it was here.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        if !self.has(id) {
            return false;
        }
        self.len -= 1;
        // Also of one that is not among the sorted: it may be among those being written down.
        self.since.insert(id, None);
        true
    }

    /// All of them; first those that are sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row> {
        let changed = self.since.iter().filter_map(|(id, seq)| Some((*id, (*seq)?)));
        self.unchanged().chain(changed)
    }

    fn unchanged(&self) -> impl Iterator<Item = Row> {
        self.sorted.iter().filter(|(id, _)| !self.since.contains_key(id))
    }

    /// Some of the sorted ones that are still so, behind an id.
    pub(super) fn sorted_behind(&self, after: Option<u64>, most: usize) -> Vec<Row> {
        let some = self.sorted.iter_behind(after);
        some.filter(|(id, _)| !self.since.contains_key(id)).take(most).collect()
    }

    /// How many have changed since they were written down.
    pub(super) fn changed(&self) -> usize {
        self.since.len()
    }

    /// How many were written down.
    pub(super) fn written(&self) -> usize {
        self.sorted.len()
    }

    /// Of those that were written down, the ids that do not count any more as they are.
    pub(super) fn dead(&self) -> Vec<u64> {
        self.since.keys().copied().filter(|id| self.sorted.get(*id).is_some()).collect()
    }

    /// The ids that were not written down.
    pub(super) fn loose(&self) -> impl Iterator<Item = u64> {
        self.since.iter().filter(|(_, seq)| seq.is_some()).map(|(id, _)| *id)
    }

    /// All of them in the order of ids, to be written down.
    pub(super) fn to_sorted(&self) -> SortedRows {
        let changed = self.since.iter().filter_map(|(id, seq)| Some((*id, (*seq)?)));
        let mut changed: Vec<Row> = changed.collect();
        changed.sort_unstable();
        let (mut changed, mut unchanged) =
            (changed.into_iter().peekable(), self.unchanged().peekable());
        SortedRows::of(std::iter::from_fn(|| match (changed.peek(), unchanged.peek()) {
            (Some(one), Some(other)) if one.0 < other.0 => changed.next(),
            (Some(_), None) => changed.next(),
            _ => unchanged.next(),
        }))
    }

    /// Takes rows that [`Rows::to_sorted`] gave, and that were written down, for those that what has
    /// changed is told from.
    pub(super) fn rebase(&mut self, sorted: SortedRows) {
        let since = std::mem::take(&mut self.since);
        let is_other = |(id, seq): &(u64, Option<u64>)| sorted.get(*id) != *seq;
        self.since = since.into_iter().filter(is_other).collect();
        self.sorted = sorted;
    }

    /// The rows that others do not have, or have another of.
    pub(super) fn missing_in(&self, others: &Rows) -> Vec<Row> {
        let mut ahead = others.sorted.iter().peekable();
        let mut missing = Vec::new();
        for (id, seq) in self.unchanged() {
            while ahead.next_if(|row| row.0 < id).is_some() {}
            let theirs = match others.since.get(&id) {
                Some(changed) => *changed,
                None => ahead.peek().filter(|row| row.0 == id).map(|row| row.1),
            };
            if theirs != Some(seq) {
                missing.push((id, seq));
            }
        }
        let changed = self.since.iter().filter_map(|(id, seq)| Some((*id, (*seq)?)));
        missing.extend(changed.filter(|(id, seq)| others.get(*id) != Some(*seq)));
        missing
    }

    /// Bytes of memory that they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.sorted.memory_bytes() + self.since.capacity() * (size_of::<(u64, Option<u64>)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn rows_are_what_a_map_is() {
        let mut rng = Rng::new(5);
        let (mut rows, mut map) = (Rows::default(), BTreeMap::<u64, u64>::new());
        // What a file holds, and what a state says of it.
        let mut written = BTreeMap::<u64, u64>::new();
        let mut waiting = None;
        for seq in 0..4_000 {
            let id = rng.below(200);
            match rng.below(40) {
                0..22 => {
                    rows.insert(id, seq);
                    map.insert(id, seq);
                }
                22..36 => assert_eq!(rows.remove(id), map.remove(&id).is_some()),
                36 => waiting = Some(rows.to_sorted()),
                37 => {
                    if let Some(sorted) = waiting.take() {
                        written = sorted.iter().collect();
                        rows.rebase(sorted);
                        let mut file: BTreeMap<u64, u64> = written.clone();
                        rows.dead().iter().for_each(|id| _ = file.remove(id));
                        rows.loose().for_each(|id| _ = file.insert(id, map[&id]));
                        assert_eq!(file, map);
                        let again = Rows::of(SortedRows::of(written), &rows.dead());
                        assert_eq!(again.len() + rows.loose().count(), map.len());
                        written = BTreeMap::new();
                    }
                }
                38 => {
                    let some = rows.sorted_behind(Some(id), 5);
                    assert!(some.iter().all(|row| row.0 > id && map.get(&row.0) == Some(&row.1)));
                }
                _ => {
                    let others: Vec<Row> =
                        map.iter().filter(|_| !rng.one_in(3)).map(|(i, s)| (*i, *s)).collect();
                    let mut others = Rows::of(SortedRows::of(others), &[]);
                    others.push(id, seq);
                    let mut missing = rows.missing_in(&others);
                    missing.sort_unstable();
                    let is_missing = |row: &Row| others.get(row.0) != Some(row.1);
                    let expected: Vec<Row> =
                        map.iter().map(|(i, s)| (*i, *s)).filter(is_missing).collect();
                    assert_eq!(missing, expected);
                }
            }
            assert_eq!(rows.get(id), map.get(&id).copied());
            assert_eq!(rows.len(), map.len());
        }
        assert!(written.is_empty());
        assert!(rows.to_sorted().iter().eq(map));
    }
}
