//! What the engine should answer: every write ever made, folded anew for each question.

use arqondb::base::{CfId, Seq};
use arqondb::lsm::key::Meta;
use arqondb::lsm::merge;
use arqondb::op::kv::MergeOp;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub(super) enum Event {
    Put(Meta, Vec<u8>),
    Merge(MergeOp, Vec<u8>),
    Delete,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) value: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) seq: Seq,
}

type Events = Vec<(Seq, Event)>;

#[derive(Debug, Clone, Default)]
pub(super) struct Oracle {
    keys: BTreeMap<(CfId, Vec<u8>), Events>,
    ranges: Vec<(CfId, Vec<u8>, Vec<u8>, Seq)>,
}

impl Oracle {
    pub(super) fn add(&mut self, cf: CfId, key: &[u8], seq: Seq, event: Event) {
        self.keys.entry((cf, key.to_vec())).or_default().push((seq, event));
    }

    pub(super) fn delete_range(&mut self, cf: CfId, start: &[u8], end: &[u8], seq: Seq) {
        self.ranges.push((cf, start.to_vec(), end.to_vec(), seq));
    }

    pub(super) fn drop_cf(&mut self, cf: CfId) {
        self.keys.retain(|(c, _), _| *c != cf);
        self.ranges.retain(|(c, ..)| *c != cf);
    }

    /// The value of a key at `at`, whether expired or not.
    pub(super) fn raw(&self, cf: CfId, key: &[u8], at: Seq) -> Option<Row> {
        let mut events = self.keys.get(&(cf, key.to_vec())).cloned().unwrap_or_default();
        for (_, start, end, seq) in self.ranges.iter().filter(|r| r.0 == cf) {
            if start.as_slice() <= key && key < end.as_slice() {
                // Of one sequence number the range delete comes first: it hides what is older.
                events.push((*seq, Event::Delete));
            }
        }
        events.sort_by_key(|(seq, event)| (*seq, !matches!(event, Event::Delete)));
        let mut row: Option<Row> = None;
        for (seq, event) in events.into_iter().filter(|(seq, _)| *seq <= at) {
            row = match event {
                Event::Put(meta, value) => Some(Row { value, meta, seq }),
                Event::Delete => None,
                Event::Merge(op, operand) => {
                    let base = row.as_ref().map(|r| r.value.as_slice());
                    let value = merge::fold(base, std::iter::once((op, operand.as_slice())));
                    let meta = row.map(|r| r.meta).unwrap_or_default();
                    Some(Row { value, meta, seq })
                }
            };
        }
        row
    }

    pub(super) fn get(&self, cf: CfId, key: &[u8], at: Seq, now_ms: u64) -> Option<Row> {
        self.raw(cf, key, at).filter(|row| !row.meta.is_expired(now_ms))
    }

    pub(super) fn scan(&self, cf: CfId, at: Seq, now_ms: u64) -> Vec<(Vec<u8>, Row)> {
        let keys: BTreeSet<&Vec<u8>> =
            self.keys.keys().filter(|(c, _)| *c == cf).map(|(_, key)| key).collect();
        keys.into_iter()
            .filter_map(|key| Some((key.clone(), self.get(cf, key, at, now_ms)?)))
            .collect()
    }
}
