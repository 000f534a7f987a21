//! Words that are looked for beside a vector, and one ranking of both.
//!
//! A text's words are rated by BM25: a word counts the more the fewer texts have it, and the oftener
//! this one does, less so the longer the text is. How many texts have a word is known of each shard
//! for itself; so shards tell what a rating is made of, and whoever gathers their answers rates all
//! hits by the sums.

use crate::op::vector::search::{HITS_MAX, VectorHit, VectorsFound, depth};
use std::collections::HashMap;

/// How soon more of the same word counts no more.
const K1: f64 = 1.2;
/// How much a text's length counts.
const B: f64 = 0.75;
/// What is added to every rank, so that the first is not worth twice the second.
const RANK_OFFSET: f64 = 60.0;
/// Of each ranking so many count at least.
const RANKED_MIN: u32 = 100;

/// How many of each ranking count for `k` hits behind `offset`.
pub fn ranked(k: u32, offset: u32) -> u32 {
    depth(k, offset, RANKED_MIN).clamp(RANKED_MIN, HITS_MAX)
}

/// Words to look for beside a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextQuery {
    /// The field of payloads that is looked in.
    pub field: String,
    /// The words, in any order.
    pub text: String,
    /// Give what is needed to rank beside other shards' answers, in no ranking.
    pub is_part: bool,
}

/// What there is of the words that are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextStats {
    /// Texts there are.
    pub texts: u64,
    /// Words in all of them.
    pub words: u64,
    /// How many texts have each of the different words of the query, these in their order.
    pub having: Vec<u64>,
}

/// What a text has of the words that are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextMatch {
    /// Words in it.
    pub words: u32,
    /// How often it has each of the different words of the query.
    pub times: Vec<u32>,
}

impl TextStats {
    fn add(&mut self, other: &TextStats) {
        self.texts += other.texts;
        self.words += other.words;
        self.having.resize(self.having.len().max(other.having.len()), 0);
        self.having.iter_mut().zip(&other.having).for_each(|(sum, having)| *sum += having);
    }

    /// How well a text fits; larger is better.
    pub fn rate(&self, text: &TextMatch) -> f64 {
        let texts = self.texts as f64;
        let mean = (self.words as f64 / texts.max(1.0)).max(1.0);
        let length = 1.0 - B + B * f64::from(text.words) / mean;
        let of_word = |(having, times): (&u64, &u32)| {
            let (having, times) = (*having as f64, f64::from(*times));
            let rarity = (1.0 + (texts - having + 0.5) / (having + 0.5)).ln();
            rarity * times * (K1 + 1.0) / (times + K1 * length)
        };
        self.having.iter().zip(&text.times).map(of_word).sum()
    }
}

impl VectorsFound {
    /// The parts of several shards, or of one, as one ranking by vectors and words: hits stand by the
    /// sum of 1 / (60 + rank) over both rankings, of each of which the first `ranked` count, then
    /// by distance and id.
    pub fn ranked(
        parts: Vec<VectorsFound>,
        ranked: usize,
        skip: usize,
        take: usize,
    ) -> VectorsFound {
        let mut stats = TextStats::default();
        parts.iter().filter_map(|part| part.text.as_ref()).for_each(|text| stats.add(text));
        let mut whole = VectorsFound::merged(parts, 0, usize::MAX);
        let mut scores: HashMap<u64, f64> = HashMap::new();
        let mut count = |ids: &mut dyn Iterator<Item = u64>| {
            for (rank, id) in ids.take(ranked).enumerate() {
                *scores.entry(id).or_default() += 1.0 / (RANK_OFFSET + rank as f64 + 1.0);
            }
        };
        // They are by distance already.
        count(&mut whole.hits.iter().map(|hit| hit.id));
        let rated = |hit: &VectorHit| Some((stats.rate(hit.text.as_ref()?), hit.id));
        let mut by_words: Vec<(f64, u64)> = whole.hits.iter().filter_map(rated).collect();
        by_words.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        count(&mut by_words.iter().map(|(_, id)| *id));
        whole.hits.retain_mut(|hit| {
            hit.text = None;
            hit.score = scores.get(&hit.id).map(|score| *score as f32);
            hit.score.is_some()
        });
        let score = |hit: &VectorHit| scores.get(&hit.id).copied().unwrap_or_default();
        // The sort is stable.
        whole.hits.sort_by(|a, b| score(b).total_cmp(&score(a)));
        whole.hits.drain(..skip.min(whole.hits.len()));
        whole.hits.truncate(take);
        whole
    }
}
