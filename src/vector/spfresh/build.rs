//! From many vectors at once.

use super::bisect::{groups, mean};
use super::config::SpfreshConfig;
use super::index::{Held, SpfreshIndex};
use super::postings::Postings;
use super::retrain::{HELD_OUT, trained};
use crate::base::{Error, ErrorKind, Result};
use crate::vector::code::spectral::{SpectralModel, SpectralQuery};
use crate::vector::hnsw::HnswIndex;
use crate::vector::kernel::kernels;
use crate::vector::measure::Measure;
use crate::vector::parallel;

/// Ten entries that a posting may have stand for so many of a group at first: groups that turn out
/// too large are split, and smaller ones stay.
const GROUP_OF_TEN: usize = 13;
/// Rounds in which each vector goes to the nearest centroid, and those to the means of theirs.
const ROUNDS: usize = 5;
/// Candidates for the nearest.
const EF: usize = 24;
/// Pairs of vectors whose estimates are compared with their distances.
const PROBES: usize = 2048;
/// Of fewer vectors too few are held out to measure with: other codes are learnt, for that alone, from
/// all but one in so many.
const FEW_ROWS: usize = 512;
const HELD_OUT_OF_FEW: usize = 4;

impl SpfreshIndex {
    /// An index of these vectors, `dim` floats for each id, on up to `threads` threads: learns codes
    /// from them and writes their postings. No two ids may be equal.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if a setting is out of bounds or a vector has no distances,
    /// [`ErrorKind::Refused`] if there is no vector to learn from, and those of writing.
    pub fn build(
        config: SpfreshConfig,
        ids: &[u64],
        vectors: &[f32],
        threads: usize,
        postings: &mut dyn Postings,
    ) -> Result<SpfreshIndex> {
        config.check()?;
        let rows = prepared(&config, ids, vectors, threads)?;
        if rows.is_empty() {
            return Err(Error::new(ErrorKind::Refused, "there is no vector to learn codes from"));
        }
        let vector = |row: usize| rows[row].as_slice();
        let mut index = SpfreshIndex::with(config, trained(&config, &rows, threads));
        let most = (index.entries_max() * GROUP_OF_TEN / 10).max(1);
        let groups = groups(rows.len(), most, vector, threads);
        let mut groups = groups;
        for round in 0.. {
            index.place_centroids(&groups, &rows, threads)?;
            if round == ROUNDS {
                break;
            }
            // Cutting in two again and again leaves many on the wrong side of an early cut.
            let nearest = parallel::map(threads, rows.len(), |row| index.near(&rows[row], 1, EF));
            let mut moved = vec![Vec::new(); groups.len()];
            for (row, hits) in nearest.into_iter().enumerate() {
                if let Some(hit) = hits?.first() {
                    moved[hit.id as usize].push(row);
                }
            }
            moved.retain(|group: &Vec<usize>| !group.is_empty());
            groups = moved;
        }
        (index.error, index.rest_at_first) = index.errors(&index.model, &groups, &rows, threads);
        index.put_all(ids, &rows, threads, postings)?;
        (index.since, index.rest) = (0, index.rest_at_first);
        for number in index.posting_numbers() {
            index.held.entry(number).or_default().changes = 0;
            index.set_entries(number, index.entries_of(number));
        }
        Ok(index)
    }

    /// Opens a posting around the mean of each group, in place of all there were.
    fn place_centroids(
        &mut self,
        groups: &[Vec<usize>],
        rows: &[Vec<f32>],
        threads: usize,
    ) -> Result<()> {
        let centroid = |i: usize| mean(groups[i].iter().map(|row| rows[*row].as_slice()));
        let centroids = parallel::map(threads, groups.len(), centroid).concat();
        let numbers: Vec<u64> = (0..groups.len() as u64).collect();
        self.centroids = HnswIndex::new(*self.centroids.config());
        self.centroids.insert_many(&numbers, &centroids, threads)?;
        self.next = numbers.len() as u64;
        self.held = numbers.iter().map(|number| (*number, Held::default())).collect();
        Ok(())
    }
}

impl SpfreshIndex {
    /// One deviation of an estimate by codes that were learnt from these vectors, for a query of length
    /// 1, and how much of a vector its code does not tell: by pairs of vectors of a group of which the
    /// second was not learnt from. Without such a pair, what can be said of codes that tell nothing.
    pub(super) fn errors(
        &self,
        model: &SpectralModel,
        groups: &[Vec<usize>],
        rows: &[Vec<f32>],
        threads: usize,
    ) -> (f32, f32) {
        if rows.len() >= FEW_ROWS {
            return errors(model, groups, rows, 1, |row| row % HELD_OUT == HELD_OUT - 1);
        }
        // Those that were learnt from tell nothing: each may be a centroid.
        let count = rows.len();
        let is_unseen = |at: usize| {
            at % HELD_OUT_OF_FEW == HELD_OUT_OF_FEW - 1
                || count < HELD_OUT_OF_FEW && at + 1 == count
        };
        let seen = rows.iter().enumerate().filter(|(at, _)| !is_unseen(*at));
        let seen: Vec<&[f32]> = seen.map(|(_, row)| row.as_slice()).collect();
        if seen.is_empty() {
            return tells_nothing(model);
        }
        let (metric, dim, bytes) = (self.config.metric, self.config.dim, self.config.code_bytes());
        let less = SpectralModel::train(metric, dim, bytes, seen.len(), |at| seen[at], threads);
        errors(&less, groups, rows, usize::MAX, is_unseen)
    }
}

/// As [`SpfreshIndex::errors`], where so many of each group are compared with others.
fn errors(
    model: &SpectralModel,
    groups: &[Vec<usize>],
    rows: &[Vec<f32>],
    of_each: usize,
    is_unseen: impl Fn(usize) -> bool,
) -> (f32, f32) {
    let measure = Measure::new(model.metric);
    let mut query = SpectralQuery::default();
    let (mut squares, mut rests, mut count) = (0.0f64, 0.0f64, 0u32);
    let mut row = Vec::new();
    for group in groups.iter().step_by(groups.len().div_ceil(PROBES / 2).max(1)) {
        for one in group.iter().take(of_each) {
            model.prepare(&rows[*one], &mut query);
            // Of itself an estimate is right.
            let others = group.iter().filter(|other| *other != one && is_unseen(**other));
            for other in others.take(8) {
                row.clear();
                rests += f64::from(model.encode(&rows[*other], &mut row));
                let estimate = model.estimate(kernels(), &query, &row);
                let off = estimate - measure.pair(&rows[*one], &rows[*other]);
                let off = f64::from(off / query.length.max(f32::MIN_POSITIVE));
                squares += off * off;
                count += 1;
            }
        }
    }
    if count == 0 {
        return tells_nothing(model);
    }
    let error = (squares / f64::from(count)).sqrt() as f32;
    (if error.is_finite() { error } else { 0.0 }, (rests / f64::from(count)) as f32)
}

/// What is not told of a vector is all of it, which is about as long as one unit.
fn tells_nothing(model: &SpectralModel) -> (f32, f32) {
    (2.0 * model.unit, 1.0)
}

/// Vectors as they are compared.
pub(super) fn prepared(
    config: &SpfreshConfig,
    ids: &[u64],
    vectors: &[f32],
    threads: usize,
) -> Result<Vec<Vec<f32>>> {
    if Some(vectors.len()) != ids.len().checked_mul(config.dim) {
        let (floats, count, dim) = (vectors.len(), ids.len(), config.dim);
        return Err(Error::invalid(format!("{floats} floats are not {count} vectors of {dim}")));
    }
    let rows = parallel::map(threads, ids.len(), |i| {
        let row = &vectors[i * config.dim..][..config.dim];
        let prepared = config.metric.prepare(row, config.dim);
        prepared.map_err(|e| e.context(format!("vector {}", ids[i])))
    });
    rows.into_iter().collect()
}
