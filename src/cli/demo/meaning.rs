//! Packages found by what they are about: their embeddings in an index of vectors, in one node or in
//! a cluster.

use super::steps::{Step, Tour, put};
use super::vectors::{Embedded, Embeddings};
use crate::base::{Error, ErrorKind, Result};
use crate::env::Clock;
use crate::op::kv::Write;
use crate::op::vector::{
    IndexSpec, Metric, StoredVector, VectorAnswer, VectorCall, VectorHit, VectorId, VectorQuery,
    VectorSearch,
};
use crate::op::{Request, Response};

/// The index.
pub const INDEX: &str = "meaning";
/// A package whose like is looked for.
const LIKE: &str = "vim";
/// Hits that recall counts, and hits that are shown.
const K: u32 = 10;
const SHOWN: usize = 4;
/// Vectors in one atomic batch, each with a key.
const BATCH: usize = 100;
/// Least recall: below it something is broken.
const RECALL_MIN: f64 = 0.9;

/// Who executes requests: a store in this process, or a gateway.
pub type Ask<'a> = &'a dyn Fn(Request) -> Result<Response>;

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Internal, what)
}

fn call(ask: Ask<'_>, call: VectorCall) -> Result<VectorAnswer> {
    match ask(Request::Vector(Box::new(call)))? {
        Response::Vector(answer) => Ok(*answer),
        other => Err(wrong(format!("a call about vectors was answered by {other:?}"))),
    }
}

/// Creates the index.
pub fn create(ask: Ask<'_>, embeddings: &Embeddings<'_>) -> Result<()> {
    let spec = IndexSpec::new(INDEX, embeddings.dim, Metric::Cosine);
    call(ask, VectorCall::Create(spec)).map(drop)
}

/// The embedding of every package, under its number in the list.
pub fn stored(embeddings: &Embeddings<'_>) -> Vec<StoredVector> {
    let stored = |(id, package): (u64, &Embedded<'_>)| StoredVector {
        id,
        vector: package.vector.clone(),
        payload: serde_json::json!({ "name": package.text }).to_string().into(),
    };
    (0..).zip(&embeddings.packages).map(stored).collect()
}

/// Stores every embedding and, in the same atomic batches, for each a key with its number.
pub fn embed(tour: &Tour<'_>, embeddings: &Embeddings<'_>) -> Result<Step> {
    let begun = tour.clock.monotonic_ns();
    create(&|request| tour.store.execute(request), embeddings)?;
    let all = stored(embeddings);
    for (vectors, packages) in all.chunks(BATCH).zip(embeddings.packages.chunks(BATCH)) {
        let mut writes = Vec::with_capacity(2 * vectors.len());
        for (one, package) in vectors.iter().zip(packages) {
            writes.push(Write::PutVector {
                index: INDEX.to_string(),
                id: VectorId::new(one.id),
                vector: one.vector.clone(),
                payload: one.payload.clone(),
            });
            writes.push(put(format!("embedded:{}", package.text), one.id.to_string()));
        }
        tour.store.write(writes)?;
    }
    let (count, ns) = (all.len() as u64, tour.clock.monotonic_ns() - begun);
    Ok(Step {
        name: "embed",
        count,
        ns,
        result: format!("{} numbers each", embeddings.dim),
        story: format!(
            "embeddings of {count} packages, {} numbers each, in {} atomic batches with a key beside \
             each",
            embeddings.dim,
            all.len().div_ceil(BATCH)
        ),
    })
}

fn nearest(ask: Ask<'_>, query: VectorQuery, exact: bool) -> Result<Vec<VectorHit>> {
    let search = VectorSearch { query, exact, ..VectorSearch::new(INDEX, &[], K) };
    match call(ask, VectorCall::Search(search))? {
        VectorAnswer::Found(found) => Ok(found.hits),
        _ => Err(wrong("a search gave no hits")),
    }
}

/// What was found by meaning.
#[derive(Debug)]
pub struct Meaning {
    /// To be shown.
    pub step: Step,
    /// Packages like one of them, and packages for a question: the names, the nearest first.
    pub like: (String, Vec<String>),
    /// The question.
    pub asked: (String, Vec<String>),
    /// The share of the right answers that was found.
    pub recall: f64,
}

/// Looks for packages like a stored one and for packages that answer questions, and counts how many of
/// the nearest were found: by all questions and by every `each`-th package.
pub fn find(
    ask: Ask<'_>,
    embeddings: &Embeddings<'_>,
    each: usize,
    clock: &dyn Clock,
) -> Result<Meaning> {
    let names = |hits: &[VectorHit]| -> Vec<String> {
        let name = |hit: &VectorHit| embeddings.packages.get(hit.id as usize).map(|p| p.text);
        hits.iter().filter_map(name).map(str::to_string).collect()
    };
    let vim = embeddings.packages.iter().position(|package| package.text == LIKE);
    let vim = vim.ok_or_else(|| wrong(format!("{LIKE} is not among the packages")))?;
    let stored = (0..embeddings.packages.len()).step_by(each.max(1));
    let queries: Vec<VectorQuery> = std::iter::once(vim)
        .chain(stored)
        .map(|at| VectorQuery::Stored(VectorId::new(at as u64)))
        .chain(embeddings.questions.iter().map(|q| VectorQuery::Vector(q.vector.clone())))
        .collect();
    let begun = clock.monotonic_ns();
    let found: Vec<Vec<VectorHit>> =
        queries.iter().map(|query| nearest(ask, query.clone(), false)).collect::<Result<_>>()?;
    let ns = clock.monotonic_ns() - begun;
    let (mut wanted, mut right) = (0, 0);
    for (query, found) in queries.iter().zip(&found) {
        let exact = nearest(ask, query.clone(), true)?;
        wanted += exact.len();
        right += exact.iter().filter(|hit| found.iter().any(|one| one.id == hit.id)).count();
    }
    let recall = right as f64 / wanted.max(1) as f64;
    if wanted != queries.len() * K as usize || recall < RECALL_MIN {
        return Err(wrong(format!("{right} of {wanted} nearest packages were found")));
    }
    let question = embeddings.questions.first().map_or("", |question| question.text);
    let asked = found.get(found.len() - embeddings.questions.len()).map_or(&[][..], |hits| hits);
    let (like, asked) = (names(&found[0]), names(asked));
    let shown = |names: &[String]| names[..SHOWN.min(names.len())].join(", ");
    let step = Step {
        name: "meaning",
        count: queries.len() as u64,
        ns,
        result: format!("recall@{K} {recall:.3}"),
        story: format!(
            "like {LIKE}: {}; for \"{question}\": {}; of {} searches {:.1} % of the {K} nearest \
             were found (recall@{K}, against exact search)",
            shown(&like),
            shown(&asked),
            queries.len(),
            100.0 * recall
        ),
    };
    let (like, asked) = ((LIKE.to_string(), like), (question.to_string(), asked));
    Ok(Meaning { step, like, asked, recall })
}
