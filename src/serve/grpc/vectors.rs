//! Calls about vectors that are more than one request and its answer.

use crate::base::{Error, Result};
use crate::op::{KvOps, Request};
use crate::rpc::{pb, vectors};

/// Vectors of a stream that are written together at most: one sync serves them all.
const TOGETHER: usize = 256;
/// Bytes of vectors that are written together at most.
const TOGETHER_BYTES: usize = 4 << 20;
/// Errors that are told one by one.
const ERRORS_MAX: usize = 10_000;
/// Searches of one call.
pub(super) const SEARCHES_MAX: usize = 1_000;

/// Vectors as a stream brings them.
pub(super) struct BatchPut {
    index: String,
    position: u64,
    bytes: usize,
    waiting: Vec<(u64, u64, Request)>,
    answer: pb::VectorBatchPutResponse,
}

impl BatchPut {
    pub(super) fn new() -> BatchPut {
        BatchPut {
            index: String::new(),
            position: 0,
            bytes: 0,
            waiting: Vec::new(),
            answer: pb::VectorBatchPutResponse::default(),
        }
    }

    /// Takes the next one; whether those that wait are to be written now.
    pub(super) fn take(&mut self, one: pb::VectorBatchPutRequest) -> bool {
        if !one.index_name.is_empty() {
            self.index = one.index_name;
        }
        self.bytes += 4 * one.vector.len() + one.payload.len();
        let index = self.index.clone();
        let write = vectors::put_write(index, one.vector_id, &one.vector, one.payload);
        let request = Request::Write { writes: vec![write], id: None };
        self.waiting.push((self.position, one.vector_id, request));
        self.position += 1;
        self.waiting.len() >= TOGETHER || self.bytes >= TOGETHER_BYTES
    }

    /// Writes those that wait.
    pub(super) async fn write<K: KvOps>(&mut self, kv: &K) {
        self.bytes = 0;
        let (places, requests): (Vec<(u64, u64)>, Vec<Request>) =
            self.waiting.drain(..).map(|(at, id, request)| ((at, id), request)).unzip();
        if requests.is_empty() {
            return;
        }
        let answers = kv.pipeline(requests).await;
        for ((position, id), answer) in places.into_iter().zip(answers) {
            match answer {
                Ok(_) => self.answer.written += 1,
                Err(error) => self.fail(position, id, &error),
            }
        }
    }

    fn fail(&mut self, position: u64, vector_id: u64, error: &Error) {
        self.answer.failed += 1;
        if self.answer.errors.len() < ERRORS_MAX {
            self.answer.errors.push(pb::VectorPutError {
                position,
                vector_id,
                error_kind: error.kind().name().to_string(),
                message: error.message().to_string(),
            });
        }
    }

    pub(super) fn end(self) -> pb::VectorBatchPutResponse {
        self.answer
    }
}

/// The searches of a call, each in its place: a request, or what is wrong with it.
///
/// # Errors
/// `InvalidArgument` if they are too many.
pub(super) fn searches(all: Vec<pb::VectorSearchRequest>) -> Result<Vec<Result<Request>>> {
    if all.len() > SEARCHES_MAX {
        return Err(Error::invalid(format!(
            "{} searches are asked for; at most {SEARCHES_MAX} fit in one call: split it",
            all.len()
        )));
    }
    Ok(all.into_iter().map(vectors::search).collect())
}
