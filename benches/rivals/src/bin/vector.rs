//! Our half of the comparison of vector indexes; `vector.py` drives it.
//!
//! ```text
//! vector BASE QUERIES TRUTH DIM METRIC THREADS
//! ```
//!
//! BASE and QUERIES are files of f32, TRUTH has the 10 true rows of each query as u32, METRIC is
//! `l2` or `cosine`. It builds each kind of index, then answers lines such as `packed 64` (a kind
//! and an ef) on standard input with a JSON object a line: recall@10, queries a second of processor
//! time. `compact` reads vectors from the file BASE, one call a vector.

use arqondb::engine::vector::{
    CompactIndex, DistanceMetric, Hit, HnswConfig, HnswIndex, PackedIndex, PqConfig, PqHnswIndex,
    SearchRequest,
};
use arqondb::{Error, Result};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::time::Instant;

const K: usize = 10;
/// Processor time that a figure takes, at least.
const SECONDS_MIN: f64 = 0.5;

fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn floats(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("a file of floats");
    bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

struct Indexes {
    dim: usize,
    hnsw: HnswIndex,
    packed: PackedIndex,
    pq: PqHnswIndex,
    compact: CompactIndex,
    base: File,
}

impl Indexes {
    fn search(&self, kind: &str, query: &[f32], ef: usize) -> Result<Vec<Hit>> {
        match kind {
            "hnsw" => self.hnsw.search(query, K, Some(ef)),
            "packed" => self.packed.search(query, K, Some(ef)),
            "pq" => self.pq.search(query, K, Some(ef)),
            "exact" => self.hnsw.exact(query, K),
            _ => {
                let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, K) };
                let mut row = vec![0; self.dim * 4];
                let mut fetch = |ids: &[u64], out: &mut Vec<f32>| {
                    for id in ids {
                        let at = id * row.len() as u64;
                        let read = self.base.read_exact_at(&mut row, at);
                        read.map_err(|e| Error::io("read", "the vectors", e))?;
                        out.extend(row.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)));
                    }
                    Ok(())
                };
                Ok(self.compact.answer(&request, &mut fetch)?.hits)
            }
        }
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [base_path, queries, truth, dim, metric, threads] = args.as_slice() else {
        panic!("vector BASE QUERIES TRUTH DIM METRIC THREADS");
    };
    let dim: usize = dim.parse().expect("a number");
    let threads: usize = threads.parse().expect("a number");
    let metric = if metric == "l2" { DistanceMetric::L2 } else { DistanceMetric::Cosine };
    let (base, queries) = (floats(base_path), floats(queries));
    let truth = std::fs::read(truth).expect("the true answers");
    let truth: Vec<u64> =
        truth.as_chunks::<4>().0.iter().map(|x| u64::from(u32::from_le_bytes(*x))).collect();

    let count = base.len() / dim;
    let ids: Vec<u64> = (0..count as u64).collect();
    let mut out = std::io::stdout().lock();
    let mut built = |kind: &str, begun: (f64, Instant), bytes: usize| {
        let line = json!({
            "built": kind, "threads": threads, "cpu_s": cpu_s() - begun.0,
            "wall_s": begun.1.elapsed().as_secs_f64(), "bytes_per_vector": bytes / count,
        });
        writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output");
    };
    let begin = || (cpu_s(), Instant::now());
    let graph = || -> Result<HnswIndex> {
        let mut index = HnswIndex::new(HnswConfig::new(dim, metric));
        index.insert_many(&ids, &base, threads)?;
        Ok(index)
    };
    let begun = begin();
    let hnsw = graph()?;
    built("hnsw", begun, hnsw.memory_bytes());
    let stored = hnsw.to_bytes();
    let begun = begin();
    let packed = PackedIndex::from_hnsw(HnswIndex::from_bytes(&stored)?, threads)?;
    built("packed", begun, packed.memory_bytes());
    let begun = begin();
    let compact = CompactIndex::from_hnsw(HnswIndex::from_bytes(&stored)?, 4, threads)?;
    built("compact", begun, compact.memory_bytes());
    let begun = begin();
    // A byte for each four floats.
    let pq = PqConfig { num_sub: dim / 4, ..PqConfig::new(dim, metric) };
    let pq = PqHnswIndex::from_hnsw(HnswIndex::from_bytes(&stored)?, pq, 100)?;
    built("pq", begun, pq.memory_bytes());
    drop((base, stored));
    let base = File::open(base_path).expect("the file was read before");
    let indexes = Indexes { dim, hnsw, packed, pq, compact, base };

    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line of text");
        let (kind, ef) = line.split_once(' ').expect("a kind and an ef");
        let ef: usize = ef.parse().expect("a number");
        let (mut found, mut asked) = (0, 0);
        let begun = cpu_s();
        let mut spent = 0.0;
        while spent < SECONDS_MIN {
            for (query, truth) in queries.chunks_exact(dim).zip(truth.chunks_exact(K)) {
                let hits = indexes.search(kind, query, ef)?;
                found += hits.iter().filter(|hit| truth.contains(&hit.id)).count();
                asked += 1;
            }
            spent = cpu_s() - begun;
        }
        let recall = found as f64 / (asked * K) as f64;
        let line = json!({
            "engine": format!("arqon {kind}"), "ef": ef, "recall": recall,
            "qps": f64::from(asked as u32) / spent,
        });
        writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output");
    }
    Ok(())
}
