//! What is searched for among vectors, and what is found.

use crate::op::vector::text::{TextMatch, TextQuery, TextStats};
use crate::op::vector::{Filter, Floats, VectorId};
use bytes::Bytes;

/// The most hits of one answer, those passed over at its start included.
pub const HITS_MAX: u32 = 10_000;
/// The widest beam.
pub const EF_MAX: u32 = 1 << 20;

/// How many are looked for where `k` are wanted behind `offset`: as many, up to `step`; for a page behind
/// that, `step` doubled until it is enough, at most [`HITS_MAX`]. What is looked for more widely may be
/// found otherwise: pages between the same two of these are looked for alike.
pub fn depth(k: u32, offset: u32, step: u32) -> u32 {
    let (wanted, step) = (k.saturating_add(offset), step.max(1));
    match offset == 0 || wanted <= step {
        true => wanted,
        false => step.saturating_mul(wanted.div_ceil(step).next_power_of_two()).min(HITS_MAX),
    }
}

/// Near what to look.
#[derive(Debug, Clone, PartialEq)]
pub enum VectorQuery {
    /// A vector.
    Vector(Floats),
    /// The vector stored under an id, which is not among the hits.
    Stored(VectorId),
}

/// A search.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSearch {
    /// The index's name.
    pub index: String,
    /// Near what to look.
    pub query: VectorQuery,
    /// How many hits are wanted; 0 with `distance_max` or `score_min` for all within.
    pub k: u32,
    /// So many of the nearest are passed over: where the page before ended.
    pub offset: u32,
    /// Candidates to keep; 0 takes the index's setting.
    pub ef: u32,
    /// Compare with every vector that matches: the answer is certain.
    pub exact: bool,
    /// Which vectors may be found.
    pub filter: Option<Filter>,
    /// Words to look for as well: hits then stand by both, see
    /// [`VectorsFound::ranked`].
    pub text: Option<TextQuery>,
    /// Only hits at this distance or nearer.
    pub distance_max: Option<f32>,
    /// Only hits with this score or a higher one: under cosine the similarity, under the inner
    /// product the product, under L2 the negated squared distance.
    pub score_min: Option<f32>,
    /// Not among the hits.
    pub without: Option<u64>,
    /// Give the payloads of hits.
    pub with_payload: bool,
    /// Give the vectors of hits.
    pub with_vector: bool,
    /// Give the numbers of hits' records: see [`VectorHit::seq`].
    pub with_seq: bool,
}

impl VectorSearch {
    /// The `k` nearest to a vector.
    pub fn new(index: impl Into<String>, query: &[f32], k: u32) -> VectorSearch {
        VectorSearch {
            index: index.into(),
            query: VectorQuery::Vector(Floats::of(query)),
            k,
            offset: 0,
            ef: 0,
            exact: false,
            filter: None,
            text: None,
            distance_max: None,
            score_min: None,
            without: None,
            with_payload: false,
            with_vector: false,
            with_seq: false,
        }
    }
}

/// A vector that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorHit {
    /// Its id.
    pub id: u64,
    /// Its distance; smaller is closer.
    pub distance: f32,
    /// Its payload, if it was asked for and there is one.
    pub payload: Option<Bytes>,
    /// Its numbers, if they were asked for.
    pub vector: Option<Floats>,
    /// Of a search for words: what it stands by; larger is better.
    pub score: Option<f32>,
    /// Of a part of such a search: what it has of the words.
    pub text: Option<TextMatch>,
    /// The sequence number, in its shard, of the record that it was compared by; 0 if that was not
    /// asked for.
    pub seq: u64,
}

impl VectorHit {
    /// A hit alone.
    pub fn new(id: u64, distance: f32) -> VectorHit {
        VectorHit { id, distance, payload: None, vector: None, score: None, text: None, seq: 0 }
    }

    /// The order of answers: by distance, then by id.
    pub fn order(&self, other: &VectorHit) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.id.cmp(&other.id))
    }
}

/// What a search has cost. Of several shards each figure is the sum, but for the time: the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SearchCost {
    /// Exact distances that were computed.
    pub distances: u64,
    /// Distances that were estimated from codes.
    pub estimates: u64,
    /// Nodes whose neighbours were looked at.
    pub hops: u64,
    /// Vectors fetched from their records.
    pub fetched: u64,
    /// Pages of 4 KiB read of segments on disk.
    pub pages: u64,
    /// Vectors that match the filter; all of them without one.
    pub matches: u64,
    /// Microseconds.
    pub micros: u64,
    /// Whether the answer is certain: every vector that could be in it was compared.
    pub exact: bool,
}

/// Hits, the nearest first, and what finding them cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VectorsFound {
    /// By distance, then by id.
    pub hits: Vec<VectorHit>,
    /// What the search cost.
    pub cost: SearchCost,
    /// Of a part of a search for words: what there is of them.
    pub text: Option<TextStats>,
}

impl VectorsFound {
    /// The answers of several shards as one: the nearest `take` behind the first `skip`.
    pub fn merged(parts: Vec<VectorsFound>, skip: usize, take: usize) -> VectorsFound {
        let mut whole = VectorsFound::default();
        whole.cost.exact = true;
        for part in parts {
            whole.hits.extend(part.hits);
            let (sum, cost) = (&mut whole.cost, part.cost);
            sum.distances += cost.distances;
            sum.estimates += cost.estimates;
            sum.hops += cost.hops;
            sum.fetched += cost.fetched;
            sum.pages += cost.pages;
            sum.matches += cost.matches;
            sum.micros = sum.micros.max(cost.micros);
            sum.exact &= cost.exact;
        }
        whole.hits.sort_by(VectorHit::order);
        whole.hits.drain(..skip.min(whole.hits.len()));
        whole.hits.truncate(take);
        whole
    }
}
