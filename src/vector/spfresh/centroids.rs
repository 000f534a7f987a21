//! Which postings a vector belongs to.

use super::index::{Held, SpfreshIndex};
use crate::base::Result;
use crate::vector::filter::EF_MAX;
use crate::vector::hit::{Hit, nearest};
use crate::vector::kernel::kernels;
use crate::vector::metric::DistanceMetric;

/// Postings that are looked at for a vector.
pub(super) const NEAR: usize = 8;
/// Candidates for these.
const EF: usize = 32;
/// How many times as far (squared) as the nearest centroid another may be for a copy.
const CLOSURE: f32 = 1.96;
/// The cosine of a query's direction and that of the vector of a posting that is nearest to it, both
/// from the centroid.
const LEAN: f32 = 0.3;
/// Entries that may come and go in any case before a centroid is moved.
const CHANGES_MIN: usize = 8;
/// Vectors over which a posting's spread is the mean.
const SPREAD_OF: f32 = 64.0;

impl SpfreshIndex {
    /// The `count` postings whose centroids are nearest to a vector, by L2.
    pub(super) fn near(&self, vector: &[f32], count: usize, ef: usize) -> Result<Vec<Hit>> {
        if self.centroids.is_empty() {
            return Ok(Vec::new());
        }
        self.centroids.search(vector, count, Some(ef.max(count)))
    }

    /// The postings that a vector gets an entry in, with its squared distances from their centroids:
    /// that of the nearest centroid, and others that are nearly as near and lie in other directions.
    /// None if there are no postings.
    pub(super) fn places(&self, vector: &[f32]) -> Result<Vec<(u64, f32)>> {
        let near = self.near(vector, NEAR, EF)?;
        let Some(first) = near.first() else { return Ok(Vec::new()) };
        let mut places: Vec<(u64, f32)> = Vec::new();
        for hit in &near {
            if places.len() == self.config.replicas_max || hit.distance > CLOSURE * first.distance {
                break;
            }
            let centroid = self.centroid(hit.id);
            let is_behind = places
                .iter()
                .any(|(place, _)| (kernels().l2)(self.centroid(*place), centroid) < hit.distance);
            if !is_behind {
                places.push((hit.id, hit.distance));
            }
        }
        Ok(places)
    }

    /// The centroid of a posting; nothing for one that is not there.
    pub(super) fn centroid(&self, number: u64) -> &[f32] {
        self.centroids.get(number).unwrap_or(&[])
    }

    /// The `count` postings that a query looks for its neighbours in: those whose nearest vectors are
    /// probably nearest. A vector in a direction at random lies `|q - c|^2 + spread` away; of some
    /// dozen the nearest lies in a direction whose cosine is about [`LEAN`].
    pub(super) fn probes(&self, query: &[f32], count: usize) -> Result<Vec<u64>> {
        let spread = |id: u64| self.held.get(&id).map_or(0.0, |held| held.spread);
        let mut hits: Vec<Hit> = match self.config.metric {
            DistanceMetric::InnerProduct => {
                // Far out in a direction there may be no centroid near: all are compared.
                let length = (kernels().dot)(query, query).sqrt();
                let score = |id: u64| {
                    let product = (kernels().dot)(query, self.centroid(id));
                    -product - LEAN * length * spread(id).sqrt()
                };
                self.centroids.ids().map(|id| Hit { id, distance: score(id) }).collect()
            }
            _ => {
                let wider = count.saturating_mul(2).saturating_add(EF).min(EF_MAX);
                let score = |hit: Hit| {
                    let spread = spread(hit.id);
                    let lean = 2.0 * LEAN * (spread * hit.distance).sqrt();
                    Hit { distance: hit.distance + spread - lean, ..hit }
                };
                self.near(query, wider, wider)?.into_iter().map(score).collect()
            }
        };
        nearest(&mut hits, count);
        Ok(hits.iter().map(|hit| hit.id).collect())
    }

    /// A new posting around a centroid.
    pub(super) fn open_posting(&mut self, centroid: &[f32]) -> Result<u64> {
        let number = self.next;
        self.centroids.insert(number, centroid)?;
        self.next += 1;
        self.held.insert(number, Held::default());
        Ok(number)
    }

    /// Takes a posting's centroid away.
    pub(super) fn close_posting(&mut self, number: u64) {
        self.centroids.remove(number);
        self.held.remove(&number);
        self.note_encoded(number);
        self.due.remove(&number);
    }

    /// Notes that a posting's centroid is the mean of its vectors now, and how far these are from it.
    pub(super) fn note_centered(&mut self, number: u64, vectors: &[Vec<f32>]) {
        let centroid = self.centroid(number);
        let squared = |vector: &Vec<f32>| f64::from((kernels().l2)(centroid, vector));
        let sum: f64 = vectors.iter().map(squared).sum();
        let held = self.held.entry(number).or_default();
        held.changes = 0;
        if !vectors.is_empty() {
            held.spread = (sum / vectors.len() as f64) as f32;
        }
    }

    /// Notes how far a new vector of a posting is from its centroid, squared.
    pub(super) fn note_distance(&mut self, number: u64, squared: f32) {
        let held = self.held.entry(number).or_default();
        let share = 1.0 / (held.entries as f32 + 1.0).min(SPREAD_OF);
        held.spread += (squared - held.spread) * share;
        held.entries += 1;
        held.changes += 1;
    }

    /// Notes how many entries a posting has, and whether it needs a step.
    pub(super) fn set_entries(&mut self, number: u64, entries: usize) {
        let held = self.held.entry(number).or_default();
        held.changes += held.entries.saturating_sub(entries as u32);
        held.entries = entries as u32;
        let undivided = held.undivided;
        let is_off_center = held.changes as usize > entries / 2 + CHANGES_MIN;
        let is_small = entries < self.entries_min() && self.held.len() > 1;
        // What nothing divides is tried again once there is twice as much of it.
        let most = self.entries_max().max(2 * undivided as usize);
        match entries > most || is_small || is_off_center {
            true => self.due.insert(number),
            false => self.due.remove(&number),
        };
    }

    pub(super) fn entries_of(&self, number: u64) -> usize {
        self.held.get(&number).map_or(0, |held| held.entries as usize)
    }
}
