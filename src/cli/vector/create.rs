//! `arqon vector create`.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::vector::list::print_one;
use crate::cli::vector::target::{TargetArgs, unfitting};
use crate::op::vector::{IndexKind, IndexSpec, Metric, Quantisation, VectorAnswer, VectorCall};

/// Create an index of vectors
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon vector create docs --dim 384 --metric cosine
  arqon vector create docs --data ./arqon-data --dim 128 --quantisation packed
  arqon vector create big --dim 384 --metric cosine --kind pq_hnsw --num-sub 48
  arqon vector create ever --dim 384 --metric cosine --kind spfresh")]
pub struct Create {
    /// Its name
    name: String,
    /// Numbers in a vector
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    dim: u32,
    #[command(flatten)]
    made: Made,
    #[command(flatten)]
    target: TargetArgs,
}

/// Flags that say how an index is made.
#[derive(Debug, Clone, clap::Args)]
pub struct Made {
    /// How distances are measured: l2, cosine or inner_product
    #[arg(long, value_name = "METRIC", default_value = "l2")]
    pub metric: Metric,
    /// What finds the nearest: auto, hnsw, pq_hnsw, disk_hnsw or spfresh
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub kind: IndexKind,
    /// The form of what is sealed: none, packed (fastest), compact4 or compact8 (smallest)
    #[arg(long, value_name = "FORM", default_value = "none")]
    pub quantisation: Quantisation,
    /// Links of a node
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub m: u32,
    /// Candidates among which links are chosen
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub ef_construction: u32,
    /// Candidates that a search keeps (of spfresh: postings it reads), unless it says otherwise
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub ef_search: u32,
    /// Parts of a product code [default: the greatest divisor of the dimension up to 32]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub num_sub: u32,
    /// Candidates compared exactly after a walk by product codes
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rerank_k: u32,
}

impl Made {
    /// The index of this name and dimension.
    pub fn spec(&self, name: &str, dim: u32) -> IndexSpec {
        IndexSpec {
            name: name.to_string(),
            dim,
            metric: self.metric,
            kind: self.kind,
            quantisation: self.quantisation,
            m: self.m,
            ef_construction: self.ef_construction,
            ef_search: self.ef_search,
            num_sub: self.num_sub,
            rerank_k: self.rerank_k,
        }
    }

    /// The first flag that asks for something else than an index is: one that is left at its default
    /// asks for nothing.
    pub fn differs(&self, has: &IndexSpec) -> Option<String> {
        let default = IndexSpec::new("", 1, Metric::default());
        // A zero asks for the default as well.
        let asked = self.spec("", 1).with_defaults();
        let words = [
            ("metric", asked.metric.name(), default.metric.name(), has.metric.name()),
            ("kind", asked.kind.name(), default.kind.name(), has.kind.name()),
            (
                "quantisation",
                asked.quantisation.name(),
                default.quantisation.name(),
                has.quantisation.name(),
            ),
        ];
        let words = words
            .into_iter()
            .map(|(name, asked, default, has)| (name, [asked, default, has].map(str::to_string)));
        let numbers = [
            ("m", asked.m, default.m, has.m),
            (
                "ef-construction",
                asked.ef_construction,
                default.ef_construction,
                has.ef_construction,
            ),
            ("ef-search", asked.ef_search, default.ef_search, has.ef_search),
            ("num-sub", asked.num_sub, default.num_sub, has.num_sub),
            ("rerank-k", asked.rerank_k, default.rerank_k, has.rerank_k),
        ];
        let numbers = numbers.into_iter().map(|(name, asked, default, has)| {
            (name, [asked, default, has].map(|n| n.to_string()))
        });
        words.chain(numbers).find_map(|(name, [asked, default, has])| {
            (asked != default && asked != has).then(|| format!("--{name} is {has}, not {asked}"))
        })
    }
}

impl Create {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let spec = self.made.spec(&self.name, self.dim);
        spec.check_name()?;
        match self.target.open(true)?.call(VectorCall::Create(spec))? {
            VectorAnswer::Index(info) => print_one(context, &info),
            _ => Err(unfitting()),
        }
    }
}
