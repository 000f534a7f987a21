//! The rounds of `churn.rs` for postings, each beside an index that is built anew of what lives then.

use crate::{K, cpu_s, say};
use arqondb::Result;
use arqondb::engine::vector::{
    DistanceMetric, FlatIndex, SearchRequest, SpfreshConfig, SpfreshIndex,
};
use serde_json::json;

use crate::indexes::Map;

const ROUNDS: usize = 6;

/// Says a line for each round. Of the vectors 5 in 11 live at a time, so that six times a fifth of
/// these are there to be put in their place; they go in the order of `churn.rs`.
pub(crate) fn run(
    base: &[f32],
    queries: &[f32],
    dim: usize,
    metric: DistanceMetric,
    ef: usize,
) -> Result<()> {
    let count = base.len() / dim;
    let replaced = count / 11;
    let row = |id: u64| &base[id as usize * dim..][..dim];
    let config = SpfreshConfig::new(dim, metric);
    let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
        ids.iter().for_each(|id| show(*id, row(*id)));
        Ok(())
    };
    let built = |live: &[u64]| -> Result<(SpfreshIndex, Map, f64)> {
        let begun = cpu_s();
        let floats: Vec<f32> = live.iter().flat_map(|id| row(*id)).copied().collect();
        let mut postings = Map::default();
        let mut index = SpfreshIndex::build(config, live, &floats, 1, &mut postings)?;
        let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            ids.iter().for_each(|id| show(*id, row(*id)));
            Ok(())
        };
        while index.step(&mut fetch, &mut postings)? {}
        Ok((index, postings, cpu_s() - begun))
    };
    let mut live: Vec<u64> = (0..5 * replaced as u64).collect();
    let (mut index, mut postings, mut insert_s) = built(&live)?;
    insert_s /= 5.0;
    let mut steps = 0;
    for round in 0..=ROUNDS {
        let mut flat = FlatIndex::new(dim, metric)?;
        live.iter().try_for_each(|id| flat.insert(*id, row(*id)))?;
        let (new, new_postings, _) = built(&live)?;
        let mut figures = Vec::new();
        for (index, postings) in [(&index, &postings), (&new, &new_postings)] {
            let (mut found, mut spent, mut pages, mut reads) = (0, 0.0, 0, 0);
            for query in queries.chunks_exact(dim) {
                let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, K) };
                let truth = flat.answer(&request)?.hits;
                let begun = cpu_s();
                let answer = index.answer(&request, &mut fetch, postings)?;
                spent += cpu_s() - begun;
                pages += answer.stats.pages_read;
                reads += answer.stats.distances;
                let is_true = |id: u64| truth.iter().any(|hit| hit.id == id);
                found += answer.hits.iter().filter(|hit| is_true(hit.id)).count();
            }
            let each = (queries.len() / dim) as f64;
            figures.push(json!({
                "recall": found as f64 / each / K as f64, "qps": each / spent,
                "pages": pages as f64 / each, "distances": reads as f64 / each,
                "bytes_per_vector": index.memory_bytes() as f64 / live.len() as f64,
                "replicas": index.entries() as f64 / live.len() as f64,
                "postings": index.postings(),
            }));
        }
        say(&json!({
            "engine": "arqon spfresh", "round": round, "ef": ef, "churned": figures[0],
            "fresh": figures[1], "inserts_per_cpu_s": replaced as f64 / insert_s, "steps": steps,
        }));
        if round == ROUNDS {
            break;
        }
        let order = |id: &u64| (id * 2_654_435_761 + round as u64 * 40_503) % (1 << 32);
        live.sort_by_key(order);
        let begun = cpu_s();
        let first = ((5 + round) * replaced) as u64;
        steps = 0;
        for (gone, new) in live.drain(..replaced).zip(first..).collect::<Vec<_>>() {
            index.remove(gone, row(gone), &mut postings)?;
            index.insert_many(&[new], row(new), 1, &mut postings)?;
            live.push(new);
            if index.steps_due() > 16 {
                steps += usize::from(index.step(&mut fetch, &mut postings)?);
            }
        }
        while index.step(&mut fetch, &mut postings)? {
            steps += 1;
        }
        insert_s = cpu_s() - begun;
    }
    Ok(())
}
