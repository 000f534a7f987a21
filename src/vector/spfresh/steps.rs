//! Steps that keep the postings in order (LIRE: Xu et al. 2023, section 3.2).
//!
//! A *split* cuts a posting in two around the means of its halves. A *merge* gives the few vectors of
//! a posting to others. A posting of which half has come or gone is *centered*: its centroid is moved
//! to the mean. Wherever a centroid is new, what belonged to the old one may now be nearer to another,
//! and what belongs to a posting nearby may be nearer to the new one: both are *reassigned*, by the
//! rule of insertions. Of the second those are fetched whose codes say so. All leave out what is gone.

use super::bisect::{halves, mean};
use super::centroids::NEAR;
use super::index::SpfreshIndex;
use super::postings::{FetchLive, Postings, last_entries};
use crate::base::Result;
use crate::vector::code::spectral::SpectralQuery;
use crate::vector::kernel::kernels;
use crate::vector::metric::DistanceMetric;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Postings near a split one that are looked through.
const NEIGHBOURS: usize = NEAR;
/// Of a posting that outgrew itself, what is left without those that are gone has to fill so many
/// tenths for it to be split.
const SPLIT_TENTHS: usize = 8;

/// Entries of a posting.
type Entries = Vec<(u64, Vec<u8>)>;

impl SpfreshIndex {
    /// Splits, dissolves or centers one posting that has grown, shrunk or changed. False if there is
    /// none: nothing is left to do. Fetches the vectors of one posting and some near it, reads eight
    /// others, and writes those that change.
    ///
    /// # Errors
    ///
    /// Those of reading, writing and fetching. What was written by then does not agree with what is
    /// in memory: the owner goes back to the postings and [bytes](SpfreshIndex::to_bytes) from before.
    pub fn step(&mut self, fetch: &mut FetchLive<'_>, postings: &mut dyn Postings) -> Result<bool> {
        let Some(number) = self.due.first().copied() else { return Ok(false) };
        self.mend(number, fetch, postings)?;
        Ok(true)
    }

    /// Looks through a posting, whether it is due or not: leaves out what is gone, and splits,
    /// dissolves or centers it. For owners that sweep over all postings now and then.
    ///
    /// # Errors
    ///
    /// As [`SpfreshIndex::step`].
    pub fn mend(
        &mut self,
        number: u64,
        fetch: &mut FetchLive<'_>,
        postings: &mut dyn Postings,
    ) -> Result<()> {
        if !self.held.contains_key(&number) {
            self.due.remove(&number);
            return Ok(());
        }
        let (entries, vectors) = self.live_entries(number, fetch, postings)?;
        if entries.len() * 10 > self.entries_max() * SPLIT_TENTHS
            && self.entries_of(number) > self.entries_max()
        {
            return self.split(number, entries, &vectors, fetch, postings);
        }
        let is_small = entries.len() < self.entries_min() && self.held.len() > 1;
        if is_small && self.merge(number, &entries, &vectors, postings)? {
            return Ok(());
        }
        self.center(number, entries, &vectors, fetch, postings)?;
        if is_small {
            self.due.remove(&number);
        }
        Ok(())
    }

    /// Moves a posting's centroid to the mean of its vectors.
    fn center(
        &mut self,
        number: u64,
        entries: Entries,
        vectors: &[Vec<f32>],
        fetch: &mut FetchLive<'_>,
        postings: &mut dyn Postings,
    ) -> Result<()> {
        if vectors.is_empty() {
            return self.write_posting(number, &[], postings);
        }
        let around = self.around(number, postings)?;
        self.centroids.insert(number, mean(vectors.iter().map(Vec::as_slice)))?;
        let new = BTreeMap::from([(number, Vec::new())]);
        self.reassign(entries, vectors, new, around, fetch, postings)?;
        self.note_centered(number, vectors);
        self.set_entries(number, self.entries_of(number));
        Ok(())
    }

    /// The numbers of all postings, in ascending order.
    pub fn posting_numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.held.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// A posting's entries whose vectors there are, and these. An entry is made anew if its vector
    /// is another one by now.
    fn live_entries(
        &self,
        number: u64,
        fetch: &mut FetchLive<'_>,
        postings: &dyn Postings,
    ) -> Result<(Entries, Vec<Vec<f32>>)> {
        let row_bytes = self.model.row_bytes();
        let mut entries = Vec::new();
        postings.read(&[number], &mut |number, bytes| {
            entries = last_entries(number, bytes, row_bytes)?;
            Ok(())
        })?;
        self.live(entries, fetch)
    }

    /// Those of entries whose vectors there are, and these.
    fn live(
        &self,
        entries: Entries,
        fetch: &mut FetchLive<'_>,
    ) -> Result<(Entries, Vec<Vec<f32>>)> {
        let ids: Vec<u64> = entries.iter().map(|(id, _)| *id).collect();
        let mut found: HashMap<u64, Vec<f32>> = HashMap::new();
        let (metric, dim) = (self.config.metric, self.config.dim);
        let mut refused = None;
        fetch(&ids, &mut |id, vector| match metric.prepare(vector, dim) {
            Ok(vector) => drop(found.insert(id, vector)),
            Err(e) => refused = Some(e.context(format!("vector {id}"))),
        })?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let (mut kept, mut vectors) = (Vec::new(), Vec::new());
        for (id, mut row) in entries {
            if let Some(vector) = found.remove(&id) {
                row.clear();
                self.model.encode(&vector, &mut row);
                kept.push((id, row));
                vectors.push(vector);
            }
        }
        Ok((kept, vectors))
    }

    fn split(
        &mut self,
        number: u64,
        entries: Entries,
        vectors: &[Vec<f32>],
        fetch: &mut FetchLive<'_>,
        postings: &mut dyn Postings,
    ) -> Result<()> {
        let rows: Vec<usize> = (0..entries.len()).collect();
        let (one, two) = halves(&rows, |row| &vectors[row]);
        let around = self.around(number, postings)?;
        let mut new: BTreeMap<u64, Entries> = BTreeMap::new();
        for half in [&one, &two] {
            let centroid = mean(half.iter().map(|row| vectors[*row].as_slice()));
            new.insert(self.open_posting(&centroid)?, Vec::new());
        }
        self.close_posting(number);
        self.reassign(entries, vectors, new, around, fetch, postings)?;
        postings.replace(number, None)
    }

    /// The postings near one, with their entries.
    fn around(&self, number: u64, postings: &dyn Postings) -> Result<BTreeMap<u64, Entries>> {
        let near = self.near(self.centroid(number), NEIGHBOURS + 1, 0)?;
        let numbers: Vec<u64> = near.iter().map(|hit| hit.id).filter(|n| *n != number).collect();
        let mut around = BTreeMap::new();
        let row_bytes = self.model.row_bytes();
        postings.read(&numbers, &mut |other, bytes| {
            around.insert(other, last_entries(other, bytes, row_bytes)?);
            Ok(())
        })?;
        Ok(around)
    }

    /// Puts the entries of a posting, and those around it that seem to be nearer to a new centroid,
    /// where they belong. `new` are the postings of new centroids, still empty.
    fn reassign(
        &mut self,
        mut entries: Entries,
        vectors: &[Vec<f32>],
        mut new: BTreeMap<u64, Entries>,
        mut around: BTreeMap<u64, Entries>,
        fetch: &mut FetchLive<'_>,
        postings: &mut dyn Postings,
    ) -> Result<()> {
        let own: HashSet<u64> = entries.iter().map(|(id, _)| *id).collect();
        let mut nearer = self.nearer(&around, &new);
        nearer.retain(|(id, _)| !own.contains(id));
        let (nearer, nearer_vectors) = self.live(nearer, fetch)?;
        entries.extend(nearer);
        let mut changed = BTreeSet::new();
        let mut appended: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (entry, vector) in entries.into_iter().zip(vectors.iter().chain(&nearer_vectors)) {
            let places = self.places(vector)?;
            for (number, there) in &mut around {
                let before = there.len();
                if places.iter().all(|(place, _)| place != number) {
                    there.retain(|(id, _)| *id != entry.0);
                }
                if there.len() < before {
                    changed.insert(*number);
                }
            }
            for (at, (place, squared)) in places.into_iter().enumerate() {
                let is_there = |entries: &Entries| entries.iter().any(|(id, _)| *id == entry.0);
                match (new.get_mut(&place), around.get_mut(&place)) {
                    (Some(entries), _) => entries.push(entry.clone()),
                    (None, Some(entries)) if is_there(entries) => continue,
                    (None, Some(entries)) => {
                        entries.push(entry.clone());
                        changed.insert(place);
                    }
                    // It may have it: its last entry counts. Of copies it probably has.
                    (None, None) if at == 0 => {
                        let bytes = appended.entry(place).or_default();
                        super::postings::put(entry.0, &entry.1, bytes);
                    }
                    (None, None) => continue,
                }
                self.note_moved(place, squared);
            }
        }
        for (place, bytes) in appended {
            postings.append(place, &bytes)?;
            self.set_entries(place, self.entries_of(place));
        }
        for place in changed {
            if let Some(entries) = around.get(&place) {
                self.held.entry(place).or_default().entries = entries.len() as u32;
                self.write_posting(place, entries, postings)?;
            }
        }
        for (place, entries) in &new {
            let held = self.held.entry(*place).or_default();
            (held.entries, held.changes) = (entries.len() as u32, 0);
            self.write_posting(*place, entries, postings)?;
        }
        Ok(())
    }

    /// Entries of postings that are nearer to a new centroid than to their own, by their codes.
    fn nearer(&self, around: &BTreeMap<u64, Entries>, new: &BTreeMap<u64, Entries>) -> Entries {
        let ready = |number: u64| {
            let mut query = SpectralQuery::default();
            self.model.prepare_for(DistanceMetric::L2, self.centroid(number), &mut query);
            query
        };
        let centers: Vec<SpectralQuery> = new.keys().map(|number| ready(*number)).collect();
        let estimate =
            |query: &SpectralQuery, row: &[u8]| self.model.estimate(kernels(), query, row);
        let mut nearer: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (number, entries) in around {
            let own = ready(*number);
            for (id, row) in entries {
                let to = centers.iter().map(|center| estimate(center, row)).min_by(f32::total_cmp);
                if to.is_some_and(|distance| distance < estimate(&own, row)) {
                    nearer.insert(*id, row.clone());
                }
            }
        }
        nearer.into_iter().collect()
    }

    /// Gives a posting's vectors to others. Not if one of these would have to be split for it, which
    /// might go on for ever: then it stays small, and nothing is done.
    fn merge(
        &mut self,
        number: u64,
        entries: &Entries,
        vectors: &[Vec<f32>],
        postings: &mut dyn Postings,
    ) -> Result<bool> {
        let centroid = self.centroid(number).to_vec();
        let held = self.held.get(&number).copied().unwrap_or_default();
        self.close_posting(number);
        let mut placed: BTreeMap<u64, Vec<(usize, f32)>> = BTreeMap::new();
        for (row, vector) in vectors.iter().enumerate() {
            // It has copies elsewhere, if at all, where it belongs second: the nearest is enough.
            if let Some((place, squared)) = self.places(vector)?.first() {
                placed.entry(*place).or_default().push((row, *squared));
            }
        }
        let fits = |(place, rows): (&u64, &Vec<_>)| {
            self.entries_of(*place) + rows.len() <= self.entries_max()
        };
        if !placed.iter().all(fits) {
            self.centroids.insert(number, &centroid)?;
            self.held.insert(number, held);
            return Ok(false);
        }
        for (place, rows) in placed {
            let mut bytes = Vec::new();
            for (row, squared) in rows {
                let (id, code) = &entries[row];
                super::postings::put(*id, code, &mut bytes);
                self.note_moved(place, squared);
            }
            postings.append(place, &bytes)?;
            self.set_entries(place, self.entries_of(place));
        }
        postings.replace(number, None)?;
        Ok(true)
    }
}
