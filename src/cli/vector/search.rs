//! `arqon vector search`.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{Format, Value};
use crate::cli::vector::input::{FileFormat, Vectors};
use crate::cli::vector::target::{Target, TargetArgs, unfitting};
use crate::op::vector::text::TextQuery;
use crate::op::vector::{
    Filter, StoredVector, VectorAnswer, VectorCall, VectorId, VectorQuery, VectorSearch,
    VectorsFound,
};
use serde_json::json;
use std::path::PathBuf;

/// Queries read at once.
const TOGETHER: usize = 256;

/// Find the nearest vectors, for each query of a file or near one that is stored
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon vector search docs --near 7 --k 5
  arqon vector search docs --queries queries.f16 --format f16 --k 10 --ef 64 --output json
  arqon vector search docs --data ./arqon-data --near 7 --filter '{\"section\": \"python\"}'
  arqon vector search docs --queries q.ndjson --format ndjson --exact --output json
  arqon vector search docs --near 7 --text 'vector database' --text-field description --payload

With --output json and ndjson there is one object a query on a line of its own: `query`, `ids`,
`distances`, `microseconds`, what the search cost, with --text `scores` (larger is better), and with
--payload `payloads`.")]
pub struct Search {
    /// Name of the index
    name: String,
    /// File of queries
    #[arg(long, value_name = "FILE", requires = "format")]
    queries: Option<PathBuf>,
    /// How they stand in it
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// Near the vector stored under this id
    #[arg(
        long,
        value_name = "ID",
        conflicts_with = "queries",
        required_unless_present = "queries"
    )]
    near: Option<u64>,
    /// Results of a query; 0 with --within for all
    #[arg(long, value_name = "K", default_value_t = 10)]
    k: u32,
    /// Candidates to keep [default: the index's setting]
    #[arg(long, value_name = "EF", default_value_t = 0, hide_default_value = true)]
    ef: u32,
    /// Pass over so many of the nearest
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u32,
    /// Compare with every vector that matches
    #[arg(long)]
    exact: bool,
    /// Which vectors may be found, by their payloads, in JSON
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// Only results at this distance or nearer
    #[arg(long, value_name = "DISTANCE", allow_negative_numbers = true)]
    within: Option<f32>,
    /// Only results with this score or a higher one: cosine similarity, product, or negated L2
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    score_min: Option<f32>,
    /// Look for these words as well: results stand by both rankings
    #[arg(long, value_name = "WORDS", requires = "text_field")]
    text: Option<String>,
    /// The field of payloads that the words are looked for in
    #[arg(long, value_name = "FIELD", requires = "text")]
    text_field: Option<String>,
    /// Print the payloads of results too
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    target: TargetArgs,
}

impl Search {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let filter = self.filter.as_deref().map(Filter::parse).transpose()?;
        let text = self.text.zip(self.text_field);
        let mut base = VectorSearch {
            ef: self.ef,
            offset: self.offset,
            exact: self.exact,
            filter,
            distance_max: self.within,
            score_min: self.score_min,
            text: text.map(|(text, field)| TextQuery { field, text, is_part: false }),
            with_payload: self.payload,
            ..VectorSearch::new(self.name.clone(), &[], self.k)
        };
        let target = self.target.open(false)?;
        let is_json = context.printer.format().is_json();
        if !is_json {
            let columns = ["query", "id", "distance", "score", "microseconds", "payload"];
            context.printer.list("results", &columns)?;
        }
        if let Some(id) = self.near {
            base.query = VectorQuery::Stored(VectorId::new(id));
            return answer(context, &target, base, 0);
        }
        let (Some(path), Some(format)) = (&self.queries, self.format) else {
            return Err(Failure::usage("give --queries FILE --format FORMAT, or --near ID"));
        };
        let dim = target.describe(&self.name)?.spec.dim as usize;
        let mut queries = Vectors::open(path, format, Some(dim))?;
        let mut number = 0;
        loop {
            let some = queries.next(TOGETHER)?;
            if some.is_empty() {
                return Ok(());
            }
            for StoredVector { vector, .. } in some {
                let search = VectorSearch { query: VectorQuery::Vector(vector), ..base.clone() };
                answer(context, &target, search, number)?;
                number += 1;
            }
        }
    }
}

fn answer(context: &mut Context, target: &Target, search: VectorSearch, query: u64) -> Outcome {
    let VectorAnswer::Found(found) = target.call(VectorCall::Search(search))? else {
        return Err(unfitting());
    };
    if matches!(context.printer.format(), Format::Json | Format::Ndjson) {
        return context.printer.object(&as_json(query, &found));
    }
    for hit in found.hits {
        let payload = hit.payload.map(|p| Value::Text(String::from_utf8_lossy(&p).into_owned()));
        context.printer.row(vec![
            Value::from(query),
            Value::from(hit.id),
            Value::Float(f64::from(hit.distance), 6),
            hit.score.map_or(Value::Null, |score| Value::Float(f64::from(score), 6)),
            Value::from(found.cost.micros),
            payload.unwrap_or(Value::Null),
        ])?;
    }
    Ok(())
}

fn as_json(query: u64, found: &VectorsFound) -> serde_json::Value {
    let cost = &found.cost;
    let mut object = json!({
        "query": query,
        "ids": found.hits.iter().map(|hit| hit.id).collect::<Vec<_>>(),
        "distances": found.hits.iter().map(|hit| hit.distance).collect::<Vec<_>>(),
        "microseconds": cost.micros,
        "distances_computed": cost.distances,
        "distances_estimated": cost.estimates,
        "hops": cost.hops,
        "fetched": cost.fetched,
        "pages": cost.pages,
        "matches": cost.matches,
        "exact": cost.exact,
    });
    if found.hits.iter().any(|hit| hit.score.is_some()) {
        object["scores"] = found.hits.iter().map(|hit| hit.score).collect();
    }
    if found.hits.iter().any(|hit| hit.payload.is_some()) {
        let payload = |bytes: &bytes::Bytes| serde_json::from_slice(bytes).unwrap_or_default();
        let payloads: Vec<serde_json::Value> = found
            .hits
            .iter()
            .map(|hit| hit.payload.as_ref().map(payload).unwrap_or_default())
            .collect();
        object["payloads"] = payloads.into();
    }
    object
}
