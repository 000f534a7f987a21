//! Steps that keep the postings in order (LIRE: Xu et al. 2023, section 3.2).
//!
//! A *split* cuts a posting in two around the means of its halves. What belonged to the old centroid
//! may now be nearer to another posting's, and what belongs to a posting nearby may be nearer to one
//! of the new ones: both are moved (*reassigned*), the first by looking for their places anew, the
//! second by their codes, without fetching them. A *merge* gives the few vectors of a posting to
//! others. A posting of which half has come or gone is *centered*: its centroid is moved to the mean,
//! and its vectors to where they belong then. All leave out what is gone.

use super::bisect::{halves, mean};
use super::centroids::NEAR;
use super::index::SpfreshIndex;
use super::postings::{FetchLive, Postings, last_entries};
use super::retrain::SAMPLE;
use crate::base::Result;
use crate::vector::code::spectral::SpectralQuery;
use crate::vector::kernel::kernels;
use crate::vector::metric::DistanceMetric;
use std::collections::{BTreeMap, HashMap};

/// Postings near a split one that are looked through.
const NEIGHBOURS: usize = NEAR;
/// Of a posting that outgrew itself, what is left without those that are gone has to fill so many
/// tenths for it to be split.
const SPLIT_TENTHS: usize = 8;

/// Entries of a posting.
type Entries = Vec<(u64, Vec<u8>)>;

impl SpfreshIndex {
    /// Splits, dissolves or centers one posting that has grown, shrunk or changed, or makes its codes
    /// anew. False if there is none: nothing is left to do. Fetches the vectors of one posting, reads
    /// eight others, and writes those that change; now and then, when codes have come to tell too
    /// little, it learns new ones instead (see [`SpfreshIndex::is_worn`]), from some thousand vectors
    /// that it fetches.
    ///
    /// # Errors
    ///
    /// Those of reading, writing and fetching. What was written by then does not agree with what is
    /// in memory: the owner goes back to the postings and [bytes](SpfreshIndex::to_bytes) from before.
    pub fn step(&mut self, fetch: &mut FetchLive<'_>, postings: &mut dyn Postings) -> Result<bool> {
        let old = || self.retired.as_ref().and_then(|retired| retired.postings.first());
        match self.due.first().or_else(old).copied() {
            Some(number) => self.mend(number, fetch, postings)?,
            None if self.is_worn() => {
                let codes = self.learn(SAMPLE, 1, fetch, postings)?;
                self.adopt(codes);
            }
            None => return Ok(false),
        }
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
            self.note_encoded(number);
            return Ok(());
        }
        let (entries, vectors) = self.live_entries(number, fetch, postings)?;
        if entries.len() * 10 > self.entries_max() * SPLIT_TENTHS
            && self.entries_of(number) > self.entries_max()
        {
            return self.split(number, entries, &vectors, postings);
        }
        let is_small = entries.len() < self.entries_min() && self.held.len() > 1;
        if is_small && self.merge(number, &entries, &vectors, postings)? {
            return Ok(());
        }
        self.center(number, entries, vectors, postings)?;
        if is_small {
            self.due.remove(&number);
        }
        Ok(())
    }

    /// Moves a posting's centroid to the mean of its vectors, and those that then belong elsewhere
    /// there.
    fn center(
        &mut self,
        number: u64,
        entries: Entries,
        vectors: Vec<Vec<f32>>,
        postings: &mut dyn Postings,
    ) -> Result<()> {
        if !vectors.is_empty() {
            self.centroids.insert(number, mean(vectors.iter().map(Vec::as_slice)))?;
        }
        let (mut kept, mut kept_vectors) = (Vec::new(), Vec::new());
        let mut placed: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for ((id, row), vector) in entries.into_iter().zip(vectors) {
            let places = self.places(&vector)?;
            match places.first().filter(|_| places.iter().all(|(place, _)| *place != number)) {
                Some((place, squared)) => {
                    let out = placed.entry(*place).or_default();
                    self.put_entry(*place, (id, &row), &vector, out);
                    self.note_distance(*place, *squared);
                }
                None => {
                    kept.push((id, row));
                    kept_vectors.push(vector);
                }
            }
        }
        for (place, bytes) in placed {
            postings.append(place, &bytes)?;
            self.set_entries(place, self.entries_of(place));
        }
        self.write_posting(number, &kept, postings)?;
        self.note_encoded(number);
        self.note_centered(number, &kept_vectors);
        self.set_entries(number, kept.len());
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
        postings: &mut dyn Postings,
    ) -> Result<()> {
        if vectors.windows(2).all(|pair| pair[0] == pair[1]) {
            return self.leave_undivided(number, &entries, postings);
        }
        let (whole, rows) = (entries.len(), (0..entries.len()).collect::<Vec<usize>>());
        let (one, two) = halves(&rows, |row| &vectors[row]);
        let old = self.centroid(number).to_vec();
        let neighbours = self.near(&old, NEIGHBOURS + 1, 0)?;
        let mut around: BTreeMap<u64, Entries> = BTreeMap::new();
        // Entries with codes of the model before are moved when these are made anew.
        let is_other = |other: &u64| *other != number && self.is_latest(*other);
        let numbers: Vec<u64> = neighbours.iter().map(|hit| hit.id).filter(is_other).collect();
        let row_bytes = self.model.row_bytes();
        postings.read(&numbers, &mut |other, bytes| {
            around.insert(other, last_entries(other, bytes, row_bytes)?);
            Ok(())
        })?;
        let mut new: BTreeMap<u64, Entries> = BTreeMap::new();
        for half in [&one, &two] {
            let centroid = mean(half.iter().map(|row| vectors[*row].as_slice()));
            new.insert(self.open_posting(&centroid)?, Vec::new());
        }
        self.close_posting(number);
        let mut appended: BTreeMap<u64, Entries> = BTreeMap::new();
        for (entry, vector) in entries.into_iter().zip(vectors) {
            for (place, squared) in self.places(vector)? {
                // One with another code is of a vector that the id had before: the last counts.
                let is_there = |entries: &Entries| entries.contains(&entry);
                match new.get_mut(&place) {
                    Some(entries) => entries.push(entry.clone()),
                    // One that is not among those read may have it.
                    None if around.get(&place).is_some_and(is_there) => continue,
                    None => {
                        let mut put = Vec::new();
                        self.put_entry(place, (entry.0, &entry.1), vector, &mut put);
                        appended.entry(place).or_default().push((entry.0, put.split_off(8)));
                    }
                }
                self.note_distance(place, squared);
            }
        }
        let moved = self.move_nearer(&mut around, &mut new);
        for (place, entries) in appended {
            match around.get_mut(&place).filter(|_| moved.contains(&place)) {
                Some(all) => all.extend(entries),
                None => {
                    let mut bytes = Vec::new();
                    entries.iter().for_each(|(id, row)| super::postings::put(*id, row, &mut bytes));
                    postings.append(place, &bytes)?;
                    self.set_entries(place, self.entries_of(place));
                }
            }
        }
        for place in &moved {
            if let Some(entries) = around.get(place) {
                self.write_posting(*place, entries, postings)?;
            }
        }
        for (place, entries) in &new {
            self.held.entry(*place).or_default().changes = 0;
            if entries.len() >= whole {
                self.leave_undivided(*place, entries, postings)?;
                continue;
            }
            self.write_posting(*place, entries, postings)?;
        }
        postings.replace(number, None)
    }

    /// Writes a posting whose vectors are equal, or as near to one centroid as to the other: it stays
    /// as large as it is.
    fn leave_undivided(
        &mut self,
        number: u64,
        entries: &Entries,
        postings: &mut dyn Postings,
    ) -> Result<()> {
        let held = self.held.entry(number).or_default();
        (held.undivided, held.changes) = (entries.len() as u32, 0);
        self.write_posting(number, entries, postings)?;
        self.note_encoded(number);
        Ok(())
    }

    /// Moves entries of postings around that are nearer to a new centroid than to their own, by
    /// their codes. Gives the postings that were changed.
    fn move_nearer(
        &self,
        around: &mut BTreeMap<u64, Entries>,
        new: &mut BTreeMap<u64, Entries>,
    ) -> Vec<u64> {
        let ready = |number: u64| {
            let mut query = SpectralQuery::default();
            self.model.prepare_for(DistanceMetric::L2, self.centroid(number), &mut query);
            query
        };
        let centers: Vec<(u64, SpectralQuery)> =
            new.keys().map(|number| (*number, ready(*number))).collect();
        let estimate =
            |query: &SpectralQuery, row: &[u8]| self.model.estimate(kernels(), query, row);
        let mut changed = Vec::new();
        for (number, entries) in around.iter_mut() {
            let own = ready(*number);
            let before = entries.len();
            entries.retain(|(id, row)| {
                let nearest = centers
                    .iter()
                    .map(|(number, query)| (estimate(query, row), *number))
                    .min_by(|a, b| a.0.total_cmp(&b.0));
                let Some((distance, to)) = nearest else { return true };
                let is_nearer = distance < estimate(&own, row);
                let Some(there) = new.get_mut(&to).filter(|_| is_nearer) else { return true };
                match there.iter().find(|entry| entry.0 == *id) {
                    None => there.push((*id, row.clone())),
                    // One of the two is of a vector that the id had before. Which, is known once it
                    // is fetched.
                    Some((_, other)) if other != row => return true,
                    Some(_) => {}
                }
                false
            });
            if entries.len() < before {
                changed.push(*number);
            }
        }
        changed
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
                self.put_entry(place, (*id, code), &vectors[row], &mut bytes);
                self.note_distance(place, squared);
            }
            postings.append(place, &bytes)?;
            self.set_entries(place, self.entries_of(place));
        }
        postings.replace(number, None)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use crate::vector::SpfreshConfig;

    /// Postings in memory.
    #[derive(Default)]
    struct Map(BTreeMap<u64, Vec<u8>>);

    impl Postings for Map {
        fn read(
            &self,
            numbers: &[u64],
            show: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
        ) -> Result<()> {
            let bytes = |number: &u64| self.0.get(number).map_or(&[][..], Vec::as_slice);
            numbers.iter().try_for_each(|number| show(*number, bytes(number)))
        }

        fn append(&mut self, number: u64, entries: &[u8]) -> Result<()> {
            self.0.entry(number).or_default().extend_from_slice(entries);
            Ok(())
        }

        fn replace(&mut self, number: u64, entries: Option<&[u8]>) -> Result<()> {
            match entries {
                Some(entries) => self.0.insert(number, entries.to_vec()),
                None => self.0.remove(&number),
            };
            Ok(())
        }
    }

    /// Ids of which no posting has the code of the vector that they have by now.
    fn without_code(index: &SpfreshIndex, map: &Map, vectors: &[Vec<f32>]) -> Vec<u64> {
        let mut lost: Vec<u64> = (0..vectors.len() as u64).collect();
        for (number, bytes) in &map.0 {
            let model = index.model_of(*number);
            let entries = last_entries(*number, bytes, model.row_bytes()).unwrap();
            let is_current = |id: u64| {
                let mut row = Vec::new();
                model.encode(&vectors[id as usize], &mut row);
                entries.contains(&(id, row))
            };
            lost.retain(|id| !is_current(*id));
        }
        lost
    }

    /// Of two entries of one id, of the vector that it had and of that which it has, a split kept
    /// the one that it met first.
    #[test]
    fn steps_keep_an_entry_of_the_vector_that_an_id_has_by_now() {
        for seed in 0..8 {
            let mut rng = Rng::new(seed);
            let config =
                SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(4, DistanceMetric::L2) };
            let mut vectors: Vec<Vec<f32>> = (0..600)
                .map(|_| (0..4).map(|_| rng.below(1_000) as f32 / 100.0).collect())
                .collect();
            let (ids, mut map): (Vec<u64>, Map) = ((0..600).collect(), Map::default());
            let mut index =
                SpfreshIndex::build(config, &ids, &vectors.concat(), 1, &mut map).unwrap();
            for round in 0..12 {
                for _ in 0..200 {
                    // Nearby, and without a word of where it was.
                    let id = rng.below(600);
                    let vector = &mut vectors[id as usize];
                    vector.iter_mut().for_each(|x| *x += rng.below(400) as f32 / 100.0 - 2.0);
                    index.insert_many(&[id], vector, 1, &mut map).unwrap();
                }
                let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
                    ids.iter().for_each(|id| show(*id, &vectors[*id as usize]));
                    Ok(())
                };
                while index.step(&mut fetch, &mut map).unwrap() {}
                let lost = without_code(&index, &map, &vectors);
                assert!(lost.is_empty(), "seed {seed}, round {round}: {lost:?}");
            }
        }
    }
}
