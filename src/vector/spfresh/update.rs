//! Insertions and removals.

use super::build::prepared;
use super::centroids::NEAR;
use super::index::SpfreshIndex;
use super::postings::{self, Postings, last_entries};
use crate::base::Result;
use crate::vector::parallel;
use std::collections::BTreeMap;

/// Vectors placed at once before they are written.
const AT_ONCE: usize = 4096;
/// What codes do not tell is averaged over so many of the latest vectors.
const REST_OF: f32 = 2048.0;
/// For how many vectors the first average counts.
const REST_BEFORE: f32 = 256.0;

impl SpfreshIndex {
    /// Inserts vectors, `dim` floats for each id, on up to `threads` threads. A vector that had one
    /// of the ids before has to be [removed](SpfreshIndex::remove) first. Costs a search among the
    /// centroids and an append for each, and reads nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument) if a vector has no
    /// distances, with its id; nothing is changed then. Those of writing.
    pub fn insert_many(
        &mut self,
        ids: &[u64],
        vectors: &[f32],
        threads: usize,
        postings: &mut dyn Postings,
    ) -> Result<()> {
        let rows = prepared(&self.config, ids, vectors, threads)?;
        self.put_all(ids, &rows, threads, postings)
    }

    /// Puts prepared vectors into their postings.
    pub(super) fn put_all(
        &mut self,
        ids: &[u64],
        rows: &[Vec<f32>],
        threads: usize,
        postings: &mut dyn Postings,
    ) -> Result<()> {
        if let (true, Some(first)) = (self.held.is_empty(), rows.first()) {
            self.open_posting(first)?;
        }
        for (ids, rows) in ids.chunks(AT_ONCE).zip(rows.chunks(AT_ONCE)) {
            let placed = parallel::map(threads, ids.len(), |i| -> Result<_> {
                let mut entry = Vec::new();
                postings::put(ids[i], &[], &mut entry);
                let rest = self.model.encode(&rows[i], &mut entry);
                let places = self.places(&rows[i])?;
                let is_old = |(place, _): &(u64, f32)| !self.is_latest(*place);
                let old = places.iter().find(|place| is_old(place)).map(|(place, _)| {
                    let mut old = Vec::new();
                    self.put_entry(*place, (ids[i], &[]), &rows[i], &mut old);
                    old
                });
                Ok((places, entry, old, rest))
            });
            let mut appended: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            for one in placed {
                let (places, entry, old, rest) = one?;
                self.since += 1;
                self.rest += (rest - self.rest) / REST_OF.min(REST_BEFORE + self.since as f32);
                for (place, squared) in places {
                    self.note_distance(place, squared);
                    let entry = old.as_ref().filter(|_| !self.is_latest(place)).unwrap_or(&entry);
                    appended.entry(place).or_default().extend_from_slice(entry);
                }
            }
            for (number, bytes) in appended {
                postings.append(number, &bytes)?;
                self.set_entries(number, self.entries_of(number));
            }
            self.vectors += ids.len() as u64;
        }
        Ok(())
    }

    /// Removes a vector, given as it was inserted: reads the postings near it and writes those anew
    /// that name it. False if none of them does; should one farther away do so, searches pass over
    /// it once its record is gone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::base::ErrorKind::InvalidArgument) if the vector has no
    /// distances; those of reading and writing.
    pub fn remove(&mut self, id: u64, vector: &[f32], postings: &mut dyn Postings) -> Result<bool> {
        let vector = self.config.metric.prepare(vector, self.config.dim)?;
        let near: Vec<u64> =
            self.near(&vector, 2 * NEAR, 4 * NEAR)?.iter().map(|hit| hit.id).collect();
        let row_bytes = self.model.row_bytes();
        let mut changed = Vec::new();
        postings.read(&near, &mut |number, bytes| {
            let mut kept = last_entries(number, bytes, row_bytes)?;
            let before = kept.len();
            kept.retain(|(other, _)| *other != id);
            if kept.len() < before {
                changed.push((number, kept));
            }
            Ok(())
        })?;
        for (number, kept) in &changed {
            self.write_posting(*number, kept, postings)?;
        }
        let was_there = !changed.is_empty();
        self.vectors = self.vectors.saturating_sub(u64::from(was_there));
        Ok(was_there)
    }

    /// Writes a posting anew.
    pub(super) fn write_posting(
        &mut self,
        number: u64,
        entries: &[(u64, Vec<u8>)],
        postings: &mut dyn Postings,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|(id, row)| postings::put(*id, row, &mut bytes));
        postings.replace(number, Some(&bytes))?;
        self.set_entries(number, entries.len());
        Ok(())
    }
}
