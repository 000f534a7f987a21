//! Six rounds in which a fifth of the vectors is replaced, at an ef of 48.

use crate::{K, cpu_s, say};
use arqondb::Result;
use arqondb::engine::vector::{DistanceMetric, HnswConfig, HnswIndex};
use serde_json::json;

/// Vectors that there are at a time, and those replaced in a round.
const LIVE: usize = 15_000;
const REPLACED: usize = 3_000;
const ROUNDS: usize = 6;
const EF: usize = 48;

/// Says a line for each round. The vectors that go are the same as those of `vector.py`: each round
/// the first 3,000 by `(id * 2654435761 + round * 40503) mod 2^32`.
pub(crate) fn run(base: &[f32], queries: &[f32], dim: usize) -> Result<()> {
    let row = |id: u64| &base[id as usize * dim..][..dim];
    let mut index = HnswIndex::new(HnswConfig::new(dim, DistanceMetric::L2));
    let begun = cpu_s();
    let mut live: Vec<u64> = (0..LIVE as u64).collect();
    for id in &live {
        index.insert(*id, row(*id))?;
    }
    let mut insert_s = (cpu_s() - begun) * REPLACED as f64 / LIVE as f64;
    let mut remove_s = 0.0;
    for round in 0..=ROUNDS {
        let mut found = 0;
        let mut spent = 0.0;
        for query in queries.chunks_exact(dim) {
            let truth = index.exact(query, K)?;
            let begun = cpu_s();
            let hits = index.search(query, K, Some(EF))?;
            spent += cpu_s() - begun;
            found += hits.iter().filter(|hit| truth.iter().any(|t| t.id == hit.id)).count();
        }
        let count = (queries.len() / dim) as f64;
        say(&json!({
            "engine": "arqon hnsw", "round": round, "recall": found as f64 / count / K as f64,
            "qps": count / spent, "inserts_per_cpu_s": REPLACED as f64 / insert_s,
            "removals_per_cpu_s": (remove_s > 0.0).then(|| REPLACED as f64 / remove_s),
            "bytes_per_vector": index.memory_bytes() / LIVE,
        }));
        if round == ROUNDS {
            break;
        }
        let order = |id: &u64| (id * 2_654_435_761 + round as u64 * 40_503) % (1 << 32);
        live.sort_by_key(order);
        let begun = cpu_s();
        for id in live.drain(..REPLACED) {
            index.remove(id);
        }
        index.repair(1);
        remove_s = cpu_s() - begun;
        let begun = cpu_s();
        let new = (LIVE + round * REPLACED) as u64;
        for id in new..new + REPLACED as u64 {
            index.insert(id, row(id))?;
            live.push(id);
        }
        insert_s = cpu_s() - begun;
    }
    Ok(())
}
