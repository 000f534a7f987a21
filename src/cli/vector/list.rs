//! `arqon vector list` and `arqon vector describe`.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::output::Value;
use crate::cli::vector::target::{TargetArgs, unfitting};
use crate::op::vector::{IndexInfo, VectorAnswer, VectorCall};

/// List the indexes of vectors
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon vector list
  arqon vector list --data ./arqon-data --output json")]
pub struct List {
    #[command(flatten)]
    target: TargetArgs,
}

/// Tell of one index: how it was made, what is in it, what it takes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon vector describe docs
  arqon vector describe docs --data ./arqon-data --output json")]
pub struct Describe {
    /// Its name
    name: String,
    #[command(flatten)]
    target: TargetArgs,
}

impl List {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let VectorAnswer::Indexes(all) = self.target.open(false)?.call(VectorCall::List)? else {
            return Err(unfitting());
        };
        let columns =
            ["name", "dim", "metric", "kind", "quantisation", "vectors", "memory", "disk"];
        context.printer.list("indexes", &columns)?;
        for info in all {
            context.printer.row(vec![
                Value::from(info.spec.name.clone()),
                Value::from(u64::from(info.spec.dim)),
                Value::from(info.spec.metric.name()),
                Value::from(info.spec.kind.name()),
                Value::from(info.spec.quantisation.name()),
                Value::from(info.vectors),
                Value::Size(info.memory_bytes),
                Value::Size(info.disk_bytes),
            ])?;
        }
        Ok(())
    }
}

impl Describe {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let info = self.target.open(false)?.describe(&self.name)?;
        print_one(context, &info)
    }
}

/// Prints an index as a record.
pub fn print_one(context: &mut Context, info: &IndexInfo) -> Outcome {
    let spec = &info.spec;
    let number = |n: u32| Value::from(u64::from(n));
    context.printer.record(&[
        ("name", Value::from(spec.name.clone())),
        ("dim", number(spec.dim)),
        ("metric", Value::from(spec.metric.name())),
        ("kind", Value::from(spec.kind.name())),
        ("quantisation", Value::from(spec.quantisation.name())),
        ("m", number(spec.m)),
        ("ef_construction", number(spec.ef_construction)),
        ("ef_search", number(spec.ef_search)),
        ("num_sub", number(spec.num_sub)),
        ("rerank_k", number(spec.rerank_k)),
        ("vectors", Value::from(info.vectors)),
        ("waiting", Value::from(info.waiting)),
        ("fresh", Value::from(info.fresh)),
        ("sealed", Value::from(info.sealed)),
        ("segments", Value::from(info.segments)),
        ("postings", Value::from(info.postings)),
        ("dead", Value::from(info.dead)),
        ("memory_bytes", Value::Size(info.memory_bytes)),
        ("disk_bytes", Value::Size(info.disk_bytes)),
        ("rebuilt", Value::from(info.rebuilt)),
        ("nodes", nodes(info)),
    ])
}

fn nodes(info: &IndexInfo) -> Value {
    if info.nodes.is_empty() {
        return Value::Null;
    }
    let nodes: Vec<String> = info.nodes.iter().map(u64::to_string).collect();
    Value::from(nodes.join(","))
}
