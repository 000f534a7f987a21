//! Calls about vectors that are more than one request and its answer.

use crate::base::{Error, Result};
use crate::op::vector::index::INDEX_NAME_BYTES_MAX;
use crate::op::{KvOps, Request};
use crate::rpc::status::shortened;
use crate::rpc::{pb, vectors};

/// Vectors of a stream that are written together at most: one sync serves them all.
const TOGETHER: usize = 1_024;
/// Bytes of vectors that are written together at most.
const TOGETHER_BYTES: usize = 4 << 20;
/// Errors that are told one by one.
const ERRORS_MAX: usize = 10_000;
/// Searches of one call.
pub(super) const SEARCHES_MAX: usize = 1_000;

/// Vectors as a stream brings them.
pub(super) struct BatchPut {
    index: String,
    /// Bytes of the last name, if it is one that no index has: then it is not kept.
    long_name: Option<usize>,
    position: u64,
    bytes: usize,
    /// Their places, ids, and what is wrong with those that cannot be written.
    waiting: Vec<(u64, u64, Result<Request>)>,
    answer: pb::VectorBatchPutResponse,
}

impl BatchPut {
    pub(super) fn new() -> BatchPut {
        BatchPut {
            index: String::new(),
            long_name: None,
            position: 0,
            bytes: 0,
            waiting: Vec::new(),
            answer: pb::VectorBatchPutResponse::default(),
        }
    }

    /// Takes the next one; whether those that wait are to be written now.
    pub(super) fn take(&mut self, one: pb::VectorBatchPutRequest) -> bool {
        if !one.index_name.is_empty() {
            let bytes = one.index_name.len();
            self.long_name = (bytes > INDEX_NAME_BYTES_MAX).then_some(bytes);
            self.index = if self.long_name.is_none() { one.index_name } else { String::new() };
        }
        let request = match self.long_name {
            Some(bytes) => Err(Error::invalid(format!(
                "the index's name has {bytes} bytes; at most {INDEX_NAME_BYTES_MAX} are allowed"
            ))),
            None => {
                let index = self.index.clone();
                self.bytes += index.len() + 4 * one.vector.len() + one.payload.len();
                let write = vectors::put_write(index, one.vector_id, &one.vector, one.payload);
                Ok(Request::Write { writes: vec![write], id: None })
            }
        };
        self.waiting.push((self.position, one.vector_id, request));
        self.position += 1;
        self.waiting.len() >= TOGETHER || self.bytes >= TOGETHER_BYTES
    }

    /// Writes those that wait.
    pub(super) async fn write<K: KvOps>(&mut self, kv: &K) {
        self.bytes = 0;
        let (mut places, mut requests) = (Vec::new(), Vec::new());
        for (position, id, request) in self.waiting.drain(..) {
            places.push((position, id, request.map(|request| requests.push(request))));
        }
        let mut answers = match requests.is_empty() {
            true => Vec::new().into_iter(),
            false => kv.pipeline(requests).await.into_iter(),
        };
        for (position, id, placed) in places {
            // There are as many answers as requests.
            match placed.map(|()| answers.next()) {
                Ok(Some(Err(error))) | Err(error) => self.fail(position, id, &error),
                Ok(Some(Ok(_))) => self.answer.written += 1,
                Ok(None) => {}
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
                message: shortened(error.message()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;
    use crate::op::Response;

    fn one(index_name: String, vector_id: u64) -> pb::VectorBatchPutRequest {
        pb::VectorBatchPutRequest {
            index_name,
            vector_id,
            vector: vec![1.0; 8],
            ..Default::default()
        }
    }

    /// Has no index, and repeats what it was asked for.
    struct Nowhere;

    impl KvOps for Nowhere {
        async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
            let told =
                |request| Err(Error::new(ErrorKind::NotFound, format!("{request:?}").repeat(9)));
            requests.into_iter().map(told).collect()
        }
    }

    /// A name of megabytes was kept once a vector, and once an error.
    #[tokio::test]
    async fn a_long_name_is_kept_nowhere() {
        let mut batch = BatchPut::new();
        assert!(!batch.take(one("docs".into(), 1)));
        for id in 2..=1_000 {
            let name = if id == 2 { "x".repeat(1 << 20) } else { String::new() };
            assert!(!batch.take(one(name, id)));
        }
        assert_eq!((batch.bytes, batch.index.len()), (4 + 32, 0));
        assert!(!batch.take(one("y".repeat(255), 1_001)));
        assert_eq!(batch.bytes, 4 + 32 + 255 + 32);
        batch.write(&Nowhere).await;
        let answer = batch.end();
        assert_eq!((answer.written, answer.failed, answer.errors.len()), (0, 1_001, 1_001));
        for (error, position) in answer.errors.iter().zip(0..) {
            let is_known = position == 0 || position == 1_000;
            let kind = if is_known { ErrorKind::NotFound } else { ErrorKind::InvalidArgument };
            assert_eq!((error.position, error.vector_id), (position, position + 1));
            assert_eq!(error.error_kind, kind.name(), "{}", error.message);
            assert!(error.message.len() <= 1_024 + 3);
        }
    }

    #[tokio::test]
    async fn so_many_are_written_together_or_so_many_bytes() {
        let mut batch = BatchPut::new();
        let full = (0..2_000).position(|id| batch.take(one("docs".into(), id)));
        assert_eq!(full, Some(TOGETHER - 1));
        batch.write(&Nowhere).await;
        let large =
            |id| pb::VectorBatchPutRequest { payload: "x".repeat(1 << 20), ..one("d".into(), id) };
        assert_eq!((0..10).position(|id| batch.take(large(id))), Some(3));
    }
}
