//! The index as its users see it.

use super::config::SpfreshConfig;
use super::postings::entry_bytes;
use super::retrain::Retired;
use crate::vector::code::spectral::SpectralModel;
use crate::vector::hnsw::{HnswConfig, HnswIndex};
use crate::vector::metric::DistanceMetric;
use std::collections::{BTreeSet, HashMap};

/// Links of a centroid.
const M: usize = 12;
const EF_CONSTRUCTION: usize = 80;
/// A posting with fewer than one in so many of the entries it may have is dissolved.
const FEW: usize = 3;

/// Vectors in postings, which change without end: codes stand in postings that their owner keeps,
/// the vectors themselves wherever their owner keeps those, and only the postings' centroids are in
/// memory.
///
/// At 384 dimensions it takes about 50 bytes of memory a vector. A posting fits a page of 4 KiB.
/// Insertions and removals note which postings have grown or shrunk; the owner calls
/// [`SpfreshIndex::step`] in the background until nothing is left to do.
#[derive(Debug)]
pub struct SpfreshIndex {
    pub(super) config: SpfreshConfig,
    pub(super) model: SpectralModel,
    /// The one before, as long as postings have its codes.
    pub(super) retired: Option<Box<Retired>>,
    /// Vectors inserted since the model was made.
    pub(super) since: u64,
    /// One deviation of an estimate, for a query of length 1, at the time the model was made.
    pub(super) error: f32,
    /// How much of a vector its code does not tell: on average over those that the model was made
    /// of, and over the latest ones.
    pub(super) rest_at_first: f32,
    pub(super) rest: f32,
    /// Centroids by the numbers of their postings, compared by L2 whatever the metric.
    pub(super) centroids: HnswIndex,
    pub(super) held: HashMap<u64, Held>,
    pub(super) next: u64,
    /// Postings to be split or dissolved.
    pub(super) due: BTreeSet<u64>,
    pub(super) vectors: u64,
}

/// What is known of a posting without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Held {
    pub(super) entries: u32,
    /// The mean squared distance of its latest vectors from the centroid.
    pub(super) spread: f32,
    /// Entries that came and went since its centroid was the mean of its vectors.
    pub(super) changes: u32,
    /// Entries that a split did not divide.
    pub(super) undivided: u32,
}

impl SpfreshIndex {
    /// An index without postings, for vectors like those of which `model` was made.
    pub(super) fn with(config: SpfreshConfig, model: SpectralModel) -> SpfreshIndex {
        let graph = HnswConfig {
            m: M,
            ef_construction: EF_CONSTRUCTION,
            ..HnswConfig::new(config.dim, DistanceMetric::L2)
        };
        SpfreshIndex {
            config,
            model,
            retired: None,
            since: 0,
            error: 0.0,
            rest_at_first: 0.0,
            rest: 0.0,
            centroids: HnswIndex::new(graph),
            held: HashMap::new(),
            next: 0,
            due: BTreeSet::new(),
            vectors: 0,
        }
    }

    /// The settings.
    pub fn config(&self) -> &SpfreshConfig {
        &self.config
    }

    /// Vectors in the index, if each was removed before it was inserted again, or as many as it was
    /// [told](SpfreshIndex::set_len).
    pub fn len(&self) -> usize {
        self.vectors as usize
    }

    /// Says how many vectors there are: for owners who let some go, or insert them again, without a
    /// word. When codes are learnt anew and how a filter is answered go by it.
    pub fn set_len(&mut self, vectors: usize) {
        self.vectors = vectors as u64;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.vectors == 0
    }

    /// Postings there are.
    pub fn postings(&self) -> usize {
        self.held.len()
    }

    /// Entries in all postings: vectors and their copies.
    pub fn entries(&self) -> u64 {
        self.held.values().map(|held| u64::from(held.entries)).sum()
    }

    /// [Steps](SpfreshIndex::step) that are due.
    pub fn steps_due(&self) -> usize {
        self.due.len() + self.retired_postings() + usize::from(self.is_worn())
    }

    /// Postings that wait to be split or dissolved: those of the [steps due](SpfreshIndex::steps_due)
    /// without which searches cost more.
    pub fn postings_due(&self) -> usize {
        self.due.len()
    }

    /// Entries of a posting that need not be split.
    pub(super) fn entries_max(&self) -> usize {
        (self.config.posting_bytes / entry_bytes(self.model.row_bytes())).max(4)
    }

    /// Entries below which a posting is dissolved.
    pub(super) fn entries_min(&self) -> usize {
        self.entries_max() / FEW
    }

    /// One deviation of an estimate now, for a query of length 1.
    pub(super) fn error_now(&self) -> f32 {
        let worse = self.rest / self.rest_at_first.max(f32::MIN_POSITIVE);
        let error = self.error * if worse.is_finite() { worse.max(1.0) } else { 1.0 };
        self.retired.as_ref().map_or(error, |retired| retired.error.max(error))
    }

    /// Bytes of memory that it takes while no search runs.
    pub fn memory_bytes(&self) -> usize {
        let held = self.held.capacity() * (size_of::<(u64, Held)>() + 1);
        let retired = self.retired.as_ref().map_or(0, |retired| {
            retired.model.memory_bytes() + retired.postings.len() * 2 * size_of::<u64>()
        });
        retired + self.model.memory_bytes() + self.centroids.memory_bytes() + held
    }
}
