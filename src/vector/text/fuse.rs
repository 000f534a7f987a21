//! One ranking out of several (reciprocal rank fusion: Cormack, Clarke and Büttcher 2009).

use std::collections::BTreeMap;

/// What is added to every rank, so that the first is not worth twice the second.
const RANK_OFFSET: f64 = 60.0;

/// An id of the fused ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fused {
    /// The id.
    pub id: u64,
    /// The sum of `1 / (60 + rank)` over the rankings that have it; larger is better.
    pub score: f64,
}

/// The `k` ids that stand foremost in several rankings together, each given as ids from the best on;
/// by score, then by id. What a ranking names twice counts where it stands first.
///
/// ```
/// use arqondb::engine::vector::fuse_by_rank;
///
/// let by_meaning = [7, 3, 9];
/// let by_words = [3, 8];
/// let fused = fuse_by_rank(&[&by_meaning, &by_words], 2);
/// assert_eq!((fused[0].id, fused[1].id), (3, 7));
/// ```
pub fn fuse_by_rank(rankings: &[&[u64]], k: usize) -> Vec<Fused> {
    let mut scores: BTreeMap<u64, f64> = BTreeMap::new();
    for ranking in rankings {
        let mut met = std::collections::HashSet::new();
        for (rank, id) in ranking.iter().filter(|id| met.insert(**id)).enumerate() {
            *scores.entry(*id).or_default() += 1.0 / (RANK_OFFSET + rank as f64 + 1.0);
        }
    }
    let mut fused: Vec<Fused> = scores.into_iter().map(|(id, score)| Fused { id, score }).collect();
    // By id already, and the sort is stable.
    fused.sort_by(|a, b| b.score.total_cmp(&a.score));
    fused.truncate(k);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_rankings_have_comes_first() {
        let ids = |rankings: &[&[u64]], k| -> Vec<u64> {
            fuse_by_rank(rankings, k).iter().map(|fused| fused.id).collect()
        };
        assert_eq!(ids(&[&[1, 2, 3], &[9, 3]], 3), [3, 1, 9]);
        assert_eq!(ids(&[&[5, 4], &[4, 5]], 9), [4, 5]);
        assert_eq!(ids(&[&[2, 2, 1], &[]], 9), [2, 1]);
        assert!(ids(&[], 5).is_empty() && ids(&[&[1]], 0).is_empty());
        let score = fuse_by_rank(&[&[8], &[1, 8]], 1)[0].score;
        assert!((score - 1.0 / 61.0 - 1.0 / 62.0).abs() < 1e-12);
    }
}
