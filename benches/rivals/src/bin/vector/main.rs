//! Our half of the comparison of vector indexes; `vector.py` drives it.
//!
//! ```text
//! vector BASE QUERIES TRUTH DIM METRIC THREADS FOLDER
//! vector build BASE DIM METRIC THREADS
//! vector churn BASE QUERIES DIM
//! vector churn-spfresh BASE QUERIES DIM METRIC EF
//! ```
//!
//! BASE and QUERIES are files of f32, TRUTH has the 10 true rows of each query as u32, METRIC is `l2`
//! or `cosine`. It builds each kind of index, says what that cost, and then answers lines on standard
//! input with a JSON object a line:
//!
//! - `packed 64` (a kind and an ef): recall@10, queries a second of processor time, pages of 4 KiB
//!   and vectors read for a query.
//! - `filter packed 64 100` (one in 100 matches): the same, beside exact search over the matches.
//!
//! `compact` and `spfresh` read vectors from the file BASE, one call a vector, `disk` pages from a
//! segment in FOLDER, one call a page; the postings of `spfresh` are in memory, each a page.

mod churn;
mod churn_spfresh;
mod indexes;

use arqondb::Result;
use arqondb::engine::vector::{
    DistanceMetric, Filter, FlatIndex, HnswConfig, HnswIndex, SearchRequest, SearchStats,
};
use indexes::Indexes;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::time::Instant;

pub(crate) const K: usize = 10;
/// Processor time that a figure takes, at least.
const SECONDS_MIN: f64 = 0.5;
/// Of so many filtered queries one is answered exactly by the index itself as well.
const EXACT_OF: usize = 8;

pub(crate) fn cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

pub(crate) fn floats(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("a file of floats");
    bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

pub(crate) fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output");
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, base, queries, dim] = args.as_slice()
        && word == "churn"
    {
        return churn::run(&floats(base), &floats(queries), dim.parse().expect("a number"));
    }
    if let [word, base, dim, metric, threads] = args.as_slice()
        && word == "build"
    {
        return build(&floats(base), number(dim), metric_of(metric), number(threads));
    }
    if let [word, base, queries, dim, metric, ef] = args.as_slice()
        && word == "churn-spfresh"
    {
        let (base, queries) = (floats(base), floats(queries));
        return churn_spfresh::run(&base, &queries, number(dim), metric_of(metric), number(ef));
    }
    let [base_path, queries, truth, dim, metric, threads, folder] = args.as_slice() else {
        panic!("vector BASE QUERIES TRUTH DIM METRIC THREADS FOLDER");
    };
    let dim: usize = dim.parse().expect("a number");
    let threads: usize = threads.parse().expect("a number");
    let queries = floats(queries);
    let truth = std::fs::read(truth).expect("the true answers");
    let truth: Vec<u64> =
        truth.as_chunks::<4>().0.iter().map(|x| u64::from(u32::from_le_bytes(*x))).collect();
    let indexes = Indexes::build(base_path, dim, metric_of(metric), threads, folder)?;
    let sweep = Sweep { indexes, queries, truth, dim };
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line of text");
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["filter", kind, ef, one_in] => sweep.filter(kind, number(ef), number(one_in))?,
            [kind, ef] => sweep.plain(kind, number(ef))?,
            _ => panic!("{line}: a kind and an ef, or filter, those, and one in how many"),
        }
    }
    Ok(())
}

/// Says what building the graph alone costs.
fn build(base: &[f32], dim: usize, metric: DistanceMetric, threads: usize) -> Result<()> {
    let ids: Vec<u64> = (0..(base.len() / dim) as u64).collect();
    let begun = (cpu_s(), Instant::now());
    let mut index = HnswIndex::new(HnswConfig::new(dim, metric));
    index.insert_many(&ids, base, threads)?;
    say(&json!({
        "built": "arqon hnsw", "threads": threads, "cpu_s": cpu_s() - begun.0,
        "wall_s": begun.1.elapsed().as_secs_f64(),
    }));
    Ok(())
}

fn metric_of(name: &str) -> DistanceMetric {
    if name == "l2" { DistanceMetric::L2 } else { DistanceMetric::Cosine }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

struct Sweep {
    indexes: Indexes,
    queries: Vec<f32>,
    truth: Vec<u64>,
    dim: usize,
}

impl Sweep {
    fn plain(&self, kind: &str, ef: usize) -> Result<()> {
        let (mut found, mut asked, mut pages, mut compared) = (0, 0u32, 0, 0);
        let mut took = Vec::new();
        let begun = cpu_s();
        let mut spent = 0.0;
        while spent < SECONDS_MIN {
            for (query, truth) in
                self.queries.chunks_exact(self.dim).zip(self.truth.chunks_exact(K))
            {
                let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, K) };
                let asked_at = Instant::now();
                let answer = self.indexes.answer(kind, &request)?;
                took.push(asked_at.elapsed().as_secs_f64() * 1e6);
                found += answer.hits.iter().filter(|hit| truth.contains(&hit.id)).count();
                pages += answer.stats.pages_read;
                compared += answer.stats.distances;
                asked += 1;
            }
            spent = cpu_s() - begun;
        }
        let each = f64::from(asked);
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        say(&json!({
            "engine": format!("arqon {kind}"), "ef": ef, "qps": each / spent,
            "p50_us": at(0.5), "p99_us": at(0.99),
            "recall": found as f64 / (each * K as f64),
            "pages": pages as f64 / each, "distances": compared as f64 / each,
        }));
        Ok(())
    }

    /// Beside exact search over the matches: by a [`FlatIndex`] in memory, whose answers are the
    /// truth, and by the index itself, which reads what it has to read for it. Filters that match
    /// more than one in 16 are asked by a test of each id, others by the list of theirs.
    fn filter(&self, kind: &str, ef: usize, one_in: usize) -> Result<()> {
        let accept =
            |id: u64| (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33).is_multiple_of(one_in as u64);
        let flat: &FlatIndex = &self.indexes.flat;
        let ids: Vec<u64> = (0..flat.len() as u64).filter(|id| accept(*id)).collect();
        let filter = if one_in < 16 { Filter::Where(&accept) } else { Filter::Ids(&ids) };
        let (mut found, mut wanted, mut is_full) = (0, 0, true);
        let (mut spent, mut exact_spent, mut own_spent) = (0.0, 0.0, 0.0);
        let (mut cost, mut own_cost) = ([0; 3], [0; 3]);
        let add = |sums: &mut [u64; 3], of: &SearchStats| {
            let counts = [of.distances, of.estimates, of.pages_read];
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        };
        for (at, query) in self.queries.chunks_exact(self.dim).take(200).enumerate() {
            let request = SearchRequest { ef: Some(ef), filter, ..SearchRequest::new(query, K) };
            let begun = cpu_s();
            let exact = flat.answer(&SearchRequest { filter: Filter::Ids(&ids), ..request })?.hits;
            let between = cpu_s();
            let answer = self.indexes.answer(kind, &request)?;
            spent += cpu_s() - between;
            exact_spent += between - begun;
            add(&mut cost, &answer.stats);
            if at % EXACT_OF == 0 {
                let request = SearchRequest { filter: Filter::Ids(&ids), exact: true, ..request };
                let begun = cpu_s();
                add(&mut own_cost, &self.indexes.answer(kind, &request)?.stats);
                own_spent += (cpu_s() - begun) * EXACT_OF as f64;
            }
            is_full &= answer.hits.len() == K.min(ids.len());
            wanted += exact.len();
            found += answer.hits.iter().filter(|hit| exact.iter().any(|e| e.id == hit.id)).count();
        }
        let each = 200.0f64.min((self.queries.len() / self.dim) as f64);
        let [distances, estimates, pages] = cost.map(|sum| sum as f64 / each);
        let [own_distances, _, own_pages] =
            own_cost.map(|sum| (sum * EXACT_OF as u64) as f64 / each);
        say(&json!({
            "engine": format!("arqon {kind}"), "one_in": one_in, "ef": ef,
            "recall": found as f64 / wanted as f64, "all_rows": is_full,
            "cost_over_exact": spent / exact_spent, "cost_over_own_exact": spent / own_spent,
            "us": spent / each * 1e6, "distances": distances, "estimates": estimates,
            "pages": pages, "own_exact_distances": own_distances, "own_exact_pages": own_pages,
        }));
        Ok(())
    }
}
