//! Calls about vectors that a [`Client`] makes.

use crate::base::{Error, ErrorKind, IndexId, Result};
use crate::op::Response;
use crate::op::vector::search::{SearchCost, VectorHit};
use crate::op::vector::{
    Checked, Floats, IndexInfo, StoredVector, VectorAnswer, VectorCall, VectorId, VectorQuery,
    VectorSearch, VectorsFound,
};
use crate::rpc::client::Client;
use crate::rpc::{consistency, pb, status, vectors};
use std::collections::HashMap;

/// A vector of a stream that was not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the stream, from 0.
    pub position: u64,
    /// Its id.
    pub id: u64,
    /// Whose fault it is: of `InvalidArgument` the vector's own.
    pub kind: ErrorKind,
    /// What is wrong.
    pub message: String,
}

/// What became of a stream of vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Put {
    /// How many were set.
    pub written: u64,
    /// How many were not.
    pub failed: u64,
    /// Those of them that are told one by one.
    pub refused: Vec<Refused>,
}

impl Client {
    /// Sets vectors by one stream; one that is refused does not stop those behind it.
    ///
    /// # Errors
    /// Those of the server by their kind; [`ErrorKind::Unknown`] if no answer came: some of them
    /// may be set.
    pub async fn put_vectors(&self, index: &str, all: Vec<StoredVector>) -> Result<Put> {
        let index = index.to_string();
        let mut first = Some(index);
        let message = move |one: StoredVector| pb::VectorBatchPutRequest {
            index_name: first.take().unwrap_or_default(),
            vector_id: one.id,
            vector: one.vector.to_vec(),
            payload: String::from_utf8_lossy(&one.payload).into_owned(),
        };
        let stream = futures::stream::iter(all.into_iter().map(message));
        let answer = self.stub().vector_batch_put(self.request(stream)).await;
        let answer = answer.map_err(|s| status::to_error(&s, true))?.into_inner();
        let refused = answer.errors.into_iter().map(|error| Refused {
            position: error.position,
            id: error.vector_id,
            kind: status::kind_named(&error.error_kind).unwrap_or(ErrorKind::Internal),
            message: error.message,
        });
        Ok(Put { written: answer.written, failed: answer.failed, refused: refused.collect() })
    }

    pub(super) async fn vector_call(&self, call: VectorCall) -> Result<Response> {
        let answer = match call {
            VectorCall::Search(search) => self.search_call(search).await?,
            VectorCall::Get { index, ids } => self.get_vectors(index, &ids).await?,
            VectorCall::Walk { index, after, limit } => {
                let r = pb::VectorWalkRequest {
                    index_name: index,
                    after_id: after,
                    limit,
                    read_options: self.freshness().map(consistency::ask),
                };
                let answer = self.stub().vector_walk(self.request(r)).await;
                let answer = answer.map_err(read_failed)?.into_inner();
                VectorAnswer::Page {
                    vectors: answer.vectors.into_iter().map(stored).collect(),
                    next: answer.next_after_id,
                }
            }
            other => self.index_call(other).await?,
        };
        Ok(Response::Vector(Box::new(answer)))
    }

    async fn index_call(&self, call: VectorCall) -> Result<VectorAnswer> {
        let mut stub = self.stub();
        Ok(match call {
            VectorCall::Create(spec) => {
                let config = Some(vectors::config(&spec));
                let r = pb::CreateVectorIndexRequest { index_name: spec.name, config };
                let answer =
                    stub.create_vector_index(self.request(r)).await.map_err(write_failed)?;
                VectorAnswer::Index(Box::new(info(answer.into_inner().index)?))
            }
            VectorCall::Drop { index } => {
                let r = pb::DropVectorIndexRequest { index_name: index };
                stub.drop_vector_index(self.request(r)).await.map_err(write_failed)?;
                VectorAnswer::Done
            }
            VectorCall::List => {
                let r = pb::ListVectorIndexesRequest {};
                let answer =
                    stub.list_vector_indexes(self.request(r)).await.map_err(read_failed)?;
                let all = answer.into_inner().indexes.into_iter().map(|index| info(Some(index)));
                VectorAnswer::Indexes(all.collect::<Result<_>>()?)
            }
            VectorCall::Describe { index } => {
                let r = pb::DescribeVectorIndexRequest { index_name: index };
                let answer = stub.describe_vector_index(self.request(r)).await;
                let index = answer.map_err(read_failed)?.into_inner().index;
                VectorAnswer::Index(Box::new(info(index)?))
            }
            VectorCall::Verify { index } => {
                let r = pb::VerifyVectorIndexRequest { index_name: index };
                let answer = stub.verify_vector_index(self.request(r)).await;
                let answer = answer.map_err(read_failed)?.into_inner();
                let pb::VerifyVectorIndexResponse { stored, missing, surplus } = answer;
                VectorAnswer::Checked(Checked { stored, missing, surplus })
            }
            VectorCall::Search(_)
            | VectorCall::Get { .. }
            | VectorCall::Fetch { .. }
            | VectorCall::Walk { .. } => {
                return Err(unfitting());
            }
        })
    }

    async fn get_vectors(&self, index: String, ids: &[VectorId]) -> Result<VectorAnswer> {
        let r = pb::VectorGetRequest {
            index_name: index,
            vector_id: 0,
            vector_ids: ids.iter().map(|id| id.get()).collect(),
            read_options: self.freshness().map(consistency::ask),
        };
        let answer = self.stub().vector_get(self.request(r)).await;
        let found = answer.map_err(read_failed)?.into_inner().vectors;
        let found: HashMap<u64, StoredVector> =
            found.into_iter().map(|vector| (vector.vector_id, stored(vector))).collect();
        Ok(VectorAnswer::Vectors(ids.iter().map(|id| found.get(&id.get()).cloned()).collect()))
    }

    async fn search_call(&self, search: VectorSearch) -> Result<VectorAnswer> {
        let (query, near_id) = match &search.query {
            // The message has no place for it, and hits that are counted off would be others.
            VectorQuery::Vector(_) if search.without.is_some() => {
                let message = "a search over gRPC leaves out only the vector that it is near to; name \
                               that by its id, or leave out what is not wanted of the answer";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            VectorQuery::Vector(floats) => (floats.to_vec(), None),
            VectorQuery::Stored(id) => (Vec::new(), Some(id.get())),
        };
        let r = pb::VectorSearchRequest {
            index_name: search.index,
            query,
            k: search.k,
            ef_search: search.ef,
            filter: search.filter.map(|filter| filter.text()).unwrap_or_default(),
            exact: search.exact,
            distance_max: search.distance_max,
            score_min: search.score_min,
            offset: search.offset,
            near_id,
            text: search.text.as_ref().map(|text| text.text.clone()).unwrap_or_default(),
            text_field: search.text.map(|text| text.field).unwrap_or_default(),
            with_payload: search.with_payload,
            with_vector: search.with_vector,
            read_options: self.freshness().map(consistency::ask),
        };
        let with_vector = search.with_vector;
        let answer = self.stub().vector_search(self.request(r)).await;
        let answer = answer.map_err(read_failed)?.into_inner();
        let hit = |result: pb::VectorResult| VectorHit {
            id: result.id,
            distance: result.distance,
            payload: (!result.payload.is_empty()).then(|| result.payload.into_bytes().into()),
            vector: with_vector.then(|| Floats::of(&result.vector)),
            score: result.score,
            text: None,
            seq: 0,
        };
        let cost = answer.cost.unwrap_or_default();
        Ok(VectorAnswer::Found(VectorsFound {
            hits: answer.results.into_iter().map(hit).collect(),
            cost: SearchCost {
                distances: cost.distances,
                estimates: cost.estimates,
                hops: cost.hops,
                fetched: cost.fetched,
                pages: cost.pages,
                matches: cost.matches,
                micros: cost.micros,
                exact: cost.exact,
            },
            text: None,
        }))
    }
}

fn read_failed(status: tonic::Status) -> Error {
    status::to_error(&status, false)
}

fn write_failed(status: tonic::Status) -> Error {
    status::to_error(&status, true)
}

fn unfitting() -> Error {
    Error::new(ErrorKind::Internal, "the server's answer does not fit the request")
}

fn stored(vector: pb::StoredVector) -> StoredVector {
    StoredVector {
        id: vector.vector_id,
        vector: Floats::of(&vector.vector),
        payload: vector.payload.into_bytes().into(),
    }
}

/// What is told of an index; its number is not.
fn info(index: Option<pb::VectorIndex>) -> Result<IndexInfo> {
    let index = index.ok_or_else(unfitting)?;
    let config = index.config.ok_or_else(unfitting)?;
    Ok(IndexInfo {
        id: IndexId(0),
        spec: vectors::spec(index.index_name, &config)?,
        vectors: index.vectors,
        waiting: index.waiting,
        fresh: index.fresh,
        sealed: index.sealed,
        segments: index.segments,
        dead: index.dead,
        memory_bytes: index.memory_bytes,
        disk_bytes: index.disk_bytes,
        rebuilt: index.rebuilt,
        postings: index.postings,
        nodes: index.nodes,
    })
}
