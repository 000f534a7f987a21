//! New codes for vectors that have changed.
//!
//! Codes are learnt from the vectors there are when an index is built. As others come, codes tell
//! less and less of them. Once that is so, a step learns codes anew from some vectors all over the
//! index, and later steps encode a posting each. Until the last one is done two models are in memory,
//! and each posting's entries are read and written by the one they are of.

use super::index::SpfreshIndex;
use super::postings::{self, FetchLive, Postings, entries};
use crate::base::Result;
use crate::vector::code::spectral::SpectralModel;
use std::collections::{BTreeSet, HashSet};

/// Vectors that codes are learnt from, about, and postings read at once for them.
pub(super) const SAMPLE: usize = 8192;
const POSTINGS_AT_ONCE: usize = 32;
/// Vectors that have to come before codes are learnt anew.
const SINCE_MIN: u64 = 256;
/// How much more of the new vectors codes do not tell, as a share, times the share of new vectors:
/// above this codes are learnt anew. A tenth more is borne until half have come, half as much again
/// until a tenth have.
const WORN: f64 = 0.05;
/// One in so many vectors is not learnt from: how much codes do not tell is measured on these, as
/// they tell more of those they were learnt from.
pub(super) const HELD_OUT: usize = 16;

/// The codes before: what they mean, and which postings still have them.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) model: SpectralModel,
    /// One deviation of an estimate when they were retired, for a query of length 1.
    pub(super) error: f32,
    pub(super) postings: BTreeSet<u64>,
}

/// Codes that [`SpfreshIndex::learn`] has learnt.
#[derive(Debug)]
pub struct SpfreshCodes {
    /// What they mean, one deviation of an estimate, and how much they do not tell.
    learnt: Option<(SpectralModel, f32, f32)>,
}

impl SpfreshIndex {
    /// Whether the vectors have changed so much that their codes no longer fit: one of the next
    /// steps learns new ones.
    pub fn is_worn(&self) -> bool {
        let worse = f64::from(self.rest / self.rest_at_first.max(f32::MIN_POSITIVE)) - 1.0;
        let share = self.since as f64 / self.vectors.max(1) as f64;
        self.retired.is_none() && self.since >= SINCE_MIN && worse * share > WORN
    }

    /// Postings whose codes are to be made anew.
    pub(super) fn retired_postings(&self) -> usize {
        self.retired.as_ref().map_or(0, |retired| retired.postings.len())
    }

    /// What the codes of a posting mean.
    pub(super) fn model_of(&self, number: u64) -> &SpectralModel {
        match &self.retired {
            Some(retired) if !self.is_latest(number) => &retired.model,
            _ => &self.model,
        }
    }

    /// Whether a posting has codes by the latest model.
    pub(super) fn is_latest(&self, number: u64) -> bool {
        self.retired.as_ref().is_none_or(|retired| !retired.postings.contains(&number))
    }

    /// Appends the entry of a vector for a posting; `row` is its row by the latest model.
    pub(super) fn put_entry(
        &self,
        number: u64,
        (id, row): (u64, &[u8]),
        vector: &[f32],
        out: &mut Vec<u8>,
    ) {
        if self.is_latest(number) {
            return postings::put(id, row, out);
        }
        postings::put(id, &[], out);
        self.model_of(number).encode(vector, out);
    }

    /// Notes that a posting has codes by the latest model, or is gone.
    pub(super) fn note_encoded(&mut self, number: u64) {
        if let Some(retired) = &mut self.retired {
            retired.postings.remove(&number);
            if retired.postings.is_empty() {
                self.retired = None;
            }
        }
    }

    /// The most vectors that codes are [learnt anew](SpfreshIndex::learn) from.
    pub fn learnt_max(&self) -> usize {
        SAMPLE.min(self.len())
    }

    /// Learns codes anew, on up to `threads` threads, from up to `most` vectors, 8,192 at most, that it
    /// fetches and has in memory meanwhile, with what it takes to
    /// [learn](super::SpfreshConfig::learning_bytes) from them: at 384 floats more than a second of
    /// processor time. A [step](SpfreshIndex::step) does this by itself;
    /// an owner who cannot wait for it looks at [`SpfreshIndex::is_worn`] before, learns while others
    /// search, and [adopts](SpfreshIndex::adopt) the codes.
    ///
    /// # Errors
    ///
    /// Those of reading and fetching.
    pub fn learn(
        &self,
        most: usize,
        threads: usize,
        fetch: &mut FetchLive<'_>,
        postings: &dyn Postings,
    ) -> Result<SpfreshCodes> {
        let Sample { groups, rows } = self.some_vectors(most.min(SAMPLE), fetch, postings)?;
        if rows.is_empty() {
            return Ok(SpfreshCodes { learnt: None });
        }
        let model = trained(&self.config, &rows, threads);
        let (error, rest) = self.errors(&model, &groups, &rows, threads);
        Ok(SpfreshCodes { learnt: Some((model, error, rest)) })
    }

    /// Takes codes that were learnt from vectors of this index: the steps that are due from now on
    /// make those of each posting anew. Nothing is done if codes are being made anew already.
    pub fn adopt(&mut self, codes: SpfreshCodes) {
        if self.retired.is_some() {
            return;
        }
        self.since = 0;
        // Entries of postings are all of one length.
        let is_alike = |model: &SpectralModel| {
            model.dim == self.config.dim && model.row_bytes() == self.model.row_bytes()
        };
        let Some((model, error, rest)) = codes.learnt.filter(|codes| is_alike(&codes.0)) else {
            return;
        };
        let error_before = self.error_now();
        let before = std::mem::replace(&mut self.model, model);
        (self.error, self.rest_at_first, self.rest) = (error, rest, rest);
        let postings: BTreeSet<u64> = self.held.keys().copied().collect();
        if !postings.is_empty() {
            let retired = Retired { model: before, error: error_before, postings };
            self.retired = Some(Box::new(retired));
        }
    }

    /// Up to `most` vectors of postings all over the index.
    fn some_vectors(
        &self,
        most: usize,
        fetch: &mut FetchLive<'_>,
        postings: &dyn Postings,
    ) -> Result<Sample> {
        let (metric, dim, row_bytes) =
            (self.config.metric, self.config.dim, self.model.row_bytes());
        let step = (self.entries() as usize).div_ceil(most.max(1)).max(1);
        let numbers: Vec<u64> = self.posting_numbers().into_iter().step_by(step).collect();
        let (mut groups, mut rows, mut met) = (Vec::new(), Vec::new(), HashSet::new());
        for some in numbers.chunks(POSTINGS_AT_ONCE) {
            let mut lists: Vec<Vec<u64>> = Vec::new();
            postings.read(some, &mut |number, bytes| {
                let ids = entries(number, bytes, row_bytes)?.map(|(id, _)| id);
                lists.push(ids.filter(|id| met.insert(*id)).collect());
                Ok(())
            })?;
            for mut ids in lists {
                // Postings may have more entries than is the mean.
                ids.truncate(most.saturating_sub(rows.len()));
                let (mut group, mut refused) = (Vec::new(), None);
                fetch(&ids, &mut |id, vector| match metric.prepare(vector, dim) {
                    Ok(vector) => {
                        group.push(rows.len());
                        rows.push(vector);
                    }
                    Err(e) => refused = Some(e.context(format!("vector {id}"))),
                })?;
                if let Some(refused) = refused {
                    return Err(refused);
                }
                groups.push(group);
            }
        }
        groups.retain(|group| !group.is_empty());
        Ok(Sample { groups, rows })
    }
}

/// Some vectors, prepared, and the rows of each posting.
struct Sample {
    groups: Vec<Vec<usize>>,
    rows: Vec<Vec<f32>>,
}

/// Codes learnt from vectors, but for those held out. REQUIRES: there is one.
pub(super) fn trained(
    config: &super::config::SpfreshConfig,
    rows: &[Vec<f32>],
    threads: usize,
) -> SpectralModel {
    let count = rows.len() - rows.len() / HELD_OUT;
    let vector = |at: usize| rows[at + at / (HELD_OUT - 1)].as_slice();
    SpectralModel::train(config.metric, config.dim, config.code_bytes(), count, vector, threads)
}
