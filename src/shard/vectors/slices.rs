//! Walks of all records of an index that let others search and write meanwhile.

use crate::base::{CfId, Result};
use crate::lsm::{Engine, IterOptions, ReadOptions};
use crate::op::vector::{Checked, VectorId};
use crate::shard::vectors::index::VectorIndex;
use crate::shard::vectors::record::{self, Key};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::Ordering;

/// Records that are taken at once, and bytes that are told of them.
pub(super) const SLICE: usize = 256;
const SLICE_BYTES: usize = 1 << 20;
/// Postings that are read at once.
const CHECKED_AT_ONCE: usize = 256;

/// A record: its vector's id, its sequence number and what is wanted of its value.
pub(super) struct Told {
    pub(super) id: u64,
    pub(super) seq: u64,
    pub(super) value: Vec<u8>,
}

impl VectorIndex {
    /// Tells of all records that there are when it begins, in the order of their ids, some at a time;
    /// of their values what `part` gives. It holds nothing: `take` holds the index for as long as it
    /// looks at some.
    ///
    /// # Errors
    /// What reading records gives, and what `take` gives.
    pub(super) fn in_slices(
        &self,
        engine: &Engine,
        part: impl Fn(&[u8]) -> &[u8],
        take: &mut dyn FnMut(Vec<Told>) -> Result<()>,
    ) -> Result<()> {
        let options = IterOptions {
            prefix: record::prefix(self.id).to_vec(),
            fill_cache: false,
            ..IterOptions::default()
        };
        let mut iter = engine.iter(CfId::VECTORS, options)?;
        iter.first()?;
        while iter.valid() {
            let (mut slice, mut bytes) = (Vec::with_capacity(SLICE), 0);
            while iter.valid() && slice.len() < SLICE && bytes < SLICE_BYTES {
                if let Some(Key::Vector(_, id)) = record::parse_key(iter.key()) {
                    let value = part(iter.value()).to_vec();
                    bytes += value.len();
                    slice.push(Told { id, seq: iter.seq().0, value });
                }
                iter.next()?;
            }
            take(slice)?;
        }
        Ok(())
    }

    /// Compares what finds the vectors with their records, and takes in anew what does not agree.
    /// What is written meanwhile may be told as missing or surplus.
    ///
    /// # Errors
    /// What reading records gives.
    pub(super) fn verify(&self, engine: &Engine) -> Result<Checked> {
        let (mut checked, mut there) = (Checked::default(), HashSet::new());
        let mut suspects = BTreeSet::new();
        self.in_slices(engine, |_| &[], &mut |slice| {
            let state = self.write();
            for told in slice {
                checked.stored += 1;
                there.insert(told.id);
                if state.seq_of(told.id) != Some(told.seq) {
                    suspects.insert(told.id);
                }
            }
            Ok(())
        })?;
        let mut after = None;
        loop {
            // A damaged posting shows only when it is read.
            let state = self.read();
            let last = state.posted.as_ref().and_then(|p| p.check_some(after, CHECKED_AT_ONCE));
            after = last;
            if last.is_none() {
                break;
            }
        }
        suspects.extend(self.read().ids().into_iter().filter(|id| !there.contains(id)));
        let suspects: Vec<u64> = suspects.into_iter().collect();
        for some in suspects.chunks(SLICE) {
            // By now most of what was on its way is there.
            let mut state = self.write();
            for id in some {
                let key = record::vector_key(self.id, VectorId::new(*id));
                let found = engine.get(CfId::VECTORS, &key, &ReadOptions::default())?;
                match (found.map(|found| found.seq.0), state.seq_of(*id)) {
                    (Some(seq), Some(known)) if seq == known => continue,
                    // It may still be on its way.
                    (Some(seq), Some(known)) if seq > known => {}
                    (Some(_), _) => checked.missing += 1,
                    (None, Some(_)) => checked.surplus += 1,
                    (None, None) => continue,
                }
                self.take_anew(engine, &mut state, *id)?;
            }
            self.measure(&state);
        }
        if checked.missing + checked.surplus > 0 {
            self.rebuilt.fetch_add(1, Ordering::Relaxed);
        }
        Ok(checked)
    }
}
