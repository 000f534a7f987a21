//! Each call of the service: check, execute, answer.

use crate::base::{Error, ErrorKind};
use crate::op::kv::Scan;
use crate::op::{Consistency, KvOps, Request, Response};
use crate::rpc::pb::arqon_db_server::ArqonDb;
use crate::rpc::{answer, consistency, pb, request, status, vectors};
use crate::serve::grpc::vectors::{self as grpc_vectors, BatchPut};
use prost::Message;
use std::sync::Arc;
use tonic::Status;

type Call<T> = tonic::Request<T>;
type Answer<T> = Result<tonic::Response<T>, Status>;

/// The service over a [`KvOps`].
#[derive(Debug)]
pub(super) struct Service<K> {
    kv: Arc<K>,
    message_bytes_max: usize,
}

impl<K: KvOps> Service<K> {
    pub(super) fn new(kv: Arc<K>, message_bytes_max: usize) -> Service<K> {
        Service { kv, message_bytes_max }
    }

    /// Executes a checked request and puts its answer on the wire.
    async fn run<T>(
        &self,
        request: crate::base::Result<Request>,
        answer: impl FnOnce(Response) -> crate::base::Result<T>,
    ) -> Answer<T> {
        let response = async { self.kv.call(request?).await }.await;
        response.and_then(answer).map(tonic::Response::new).map_err(|e| status::from_error(&e))
    }

    /// As [`Service::run`] for a read, as fresh as its call asks for.
    async fn read<T>(
        &self,
        asked: crate::base::Result<Option<Consistency>>,
        request: crate::base::Result<Request>,
        answer: impl FnOnce(Response) -> crate::base::Result<T>,
    ) -> Answer<T> {
        let response = async { self.fresh(asked?, request?).await }.await;
        response.and_then(answer).map(tonic::Response::new).map_err(|e| status::from_error(&e))
    }

    async fn fresh(
        &self,
        asked: Option<Consistency>,
        request: Request,
    ) -> crate::base::Result<Response> {
        match asked {
            Some(consistency) => self.kv.call_at(consistency, request).await,
            None => self.kv.call(request).await,
        }
    }

    /// A page of a scan. One that outgrows the message limit is read again with as many entries
    /// as fit, so that large values make pages shorter and not impossible.
    async fn page(
        &self,
        asked: Option<Consistency>,
        mut scan: Scan,
    ) -> crate::base::Result<pb::ScanResponse> {
        loop {
            let response = self.fresh(asked, Request::Scan(scan.clone())).await?;
            let mut page = answer::scan(&scan, response)?;
            if page.encoded_len() <= self.message_bytes_max {
                return Ok(page);
            }
            let fitting = self.fitting(&page);
            if fitting == 0 {
                // Not even one fits: the transport refuses it, as it does for a Get.
                page.entries.truncate(1);
                return Ok(page);
            }
            scan.limit = fitting;
        }
    }

    /// How many entries of a page that is too large fit. Always fewer than there are.
    fn fitting(&self, page: &pb::ScanResponse) -> u32 {
        // A cursor holds about a key: leave room for one of those read.
        let longest = page.entries.iter().map(|e| e.key.len()).max().unwrap_or(0);
        let mut room = self.message_bytes_max.saturating_sub(2 * longest + CURSOR_ROOM_BYTES);
        let mut fitting = 0;
        for entry in &page.entries {
            let bytes = entry.encoded_len() + ENTRY_HEAD_BYTES;
            if bytes > room {
                break;
            }
            room -= bytes;
            fitting += 1;
        }
        fitting.min(page.entries.len().saturating_sub(1) as u32)
    }
}

/// What a cursor takes beside its keys.
const CURSOR_ROOM_BYTES: usize = 128;
/// Tag and length of an entry, at most.
const ENTRY_HEAD_BYTES: usize = 6;

#[tonic::async_trait]
impl<K: KvOps> ArqonDb for Service<K> {
    async fn ping(&self, _: Call<pb::PingRequest>) -> Answer<pb::PingResponse> {
        let version = env!("CARGO_PKG_VERSION").to_string();
        Ok(tonic::Response::new(pb::PingResponse { version }))
    }

    async fn put(&self, call: Call<pb::PutRequest>) -> Answer<pb::PutResponse> {
        self.run(request::put(call.into_inner()), answer::put).await
    }

    async fn get(&self, call: Call<pb::GetRequest>) -> Answer<pb::GetResponse> {
        let call = call.into_inner();
        let asked = consistency::asked(call.read_options.as_ref());
        self.read(asked, request::get(call), answer::get).await
    }

    async fn delete(&self, call: Call<pb::DeleteRequest>) -> Answer<pb::DeleteResponse> {
        self.run(request::delete(call.into_inner()), answer::delete).await
    }

    async fn merge(&self, call: Call<pb::MergeRequest>) -> Answer<pb::MergeResponse> {
        self.run(request::merge(call.into_inner()), answer::merge).await
    }

    async fn batch_write(
        &self,
        call: Call<pb::BatchWriteRequest>,
    ) -> Answer<pb::BatchWriteResponse> {
        self.run(request::batch_write(call.into_inner()), answer::batch_write).await
    }

    async fn scan(&self, call: Call<pb::ScanRequest>) -> Answer<pb::ScanResponse> {
        let call = call.into_inner();
        let asked = consistency::asked(call.read_options.as_ref());
        let page = async { self.page(asked?, request::scan(call)?).await }.await;
        page.map(tonic::Response::new).map_err(|e| status::from_error(&e))
    }

    async fn delete_by_prefix(
        &self,
        call: Call<pb::DeleteByPrefixRequest>,
    ) -> Answer<pb::DeleteByPrefixResponse> {
        self.run(request::delete_by_prefix(call.into_inner()), answer::delete_by_prefix).await
    }

    async fn create_column_family(
        &self,
        call: Call<pb::CreateColumnFamilyRequest>,
    ) -> Answer<pb::CreateColumnFamilyResponse> {
        let request = request::create_column_family(call.into_inner());
        self.run(request, answer::create_column_family).await
    }

    async fn drop_column_family(
        &self,
        call: Call<pb::DropColumnFamilyRequest>,
    ) -> Answer<pb::DropColumnFamilyResponse> {
        self.run(request::drop_column_family(call.into_inner()), answer::drop_column_family).await
    }

    async fn list_column_families(
        &self,
        _: Call<pb::ListColumnFamiliesRequest>,
    ) -> Answer<pb::ListColumnFamiliesResponse> {
        self.run(Ok(Request::ListCfs), answer::list_column_families).await
    }

    async fn cas_put(&self, call: Call<pb::CasPutRequest>) -> Answer<pb::CasPutResponse> {
        self.run(request::cas_put(call.into_inner()), answer::cas_put).await
    }

    async fn create_vector_index(
        &self,
        call: Call<pb::CreateVectorIndexRequest>,
    ) -> Answer<pb::CreateVectorIndexResponse> {
        self.run(vectors::create(call.into_inner()), vectors::created).await
    }

    async fn drop_vector_index(
        &self,
        call: Call<pb::DropVectorIndexRequest>,
    ) -> Answer<pb::DropVectorIndexResponse> {
        self.run(vectors::drop_index(call.into_inner()), vectors::dropped).await
    }

    async fn list_vector_indexes(
        &self,
        _: Call<pb::ListVectorIndexesRequest>,
    ) -> Answer<pb::ListVectorIndexesResponse> {
        self.run(vectors::list(), vectors::listed).await
    }

    async fn describe_vector_index(
        &self,
        call: Call<pb::DescribeVectorIndexRequest>,
    ) -> Answer<pb::DescribeVectorIndexResponse> {
        self.run(vectors::describe(call.into_inner()), vectors::described).await
    }

    async fn verify_vector_index(
        &self,
        call: Call<pb::VerifyVectorIndexRequest>,
    ) -> Answer<pb::VerifyVectorIndexResponse> {
        self.run(vectors::verify(call.into_inner()), vectors::verified).await
    }

    async fn vector_put(&self, call: Call<pb::VectorPutRequest>) -> Answer<pb::VectorPutResponse> {
        let seq = |response| Ok(pb::VectorPutResponse { seq: answer::committed(response)? });
        self.run(vectors::put(call.into_inner()), seq).await
    }

    async fn vector_delete(
        &self,
        call: Call<pb::VectorDeleteRequest>,
    ) -> Answer<pb::VectorDeleteResponse> {
        let seq = |response| Ok(pb::VectorDeleteResponse { seq: answer::committed(response)? });
        self.run(vectors::delete(call.into_inner()), seq).await
    }

    async fn vector_get(&self, call: Call<pb::VectorGetRequest>) -> Answer<pb::VectorGetResponse> {
        let call = call.into_inner();
        let asked = consistency::asked(call.read_options.as_ref());
        let several = !call.vector_ids.is_empty();
        self.read(asked, vectors::get(call), |response| vectors::got(several, response)).await
    }

    async fn vector_search(
        &self,
        call: Call<pb::VectorSearchRequest>,
    ) -> Answer<pb::VectorSearchResponse> {
        let call = call.into_inner();
        let asked = consistency::asked(call.read_options.as_ref());
        self.read(asked, vectors::search(call), vectors::found).await
    }

    async fn vector_batch_put(
        &self,
        call: Call<tonic::Streaming<pb::VectorBatchPutRequest>>,
    ) -> Answer<pb::VectorBatchPutResponse> {
        let mut stream = call.into_inner();
        let mut batch = BatchPut::new();
        while let Some(one) = stream.message().await? {
            if batch.take(one) {
                batch.write(&*self.kv).await;
            }
        }
        batch.write(&*self.kv).await;
        Ok(tonic::Response::new(batch.end()))
    }

    async fn vector_batch_search(
        &self,
        call: Call<pb::VectorBatchSearchRequest>,
    ) -> Answer<pb::VectorBatchSearchResponse> {
        let call = call.into_inner();
        let done = async {
            let asked = consistency::asked(call.read_options.as_ref())?;
            let (mut outcomes, mut bytes) = (Vec::new(), 0);
            for search in grpc_vectors::searches(call.searches)? {
                let response = match search {
                    Ok(request) => self.fresh(asked, request).await,
                    Err(error) => Err(error),
                };
                let outcome = vectors::outcome(response);
                bytes += outcome.encoded_len() + ENTRY_HEAD_BYTES;
                if bytes > self.message_bytes_max {
                    let message = "the answers of these searches are too large for one message; send \
                                   fewer at a time";
                    return Err(Error::new(ErrorKind::Refused, message));
                }
                outcomes.push(outcome);
            }
            Ok(tonic::Response::new(pb::VectorBatchSearchResponse { outcomes }))
        };
        done.await.map_err(|e: crate::base::Error| status::from_error(&e))
    }

    async fn vector_walk(
        &self,
        call: Call<pb::VectorWalkRequest>,
    ) -> Answer<pb::VectorWalkResponse> {
        let call = call.into_inner();
        let asked = consistency::asked(call.read_options.as_ref());
        self.read(asked, vectors::walk(call), vectors::walked).await
    }

    async fn get_with_seq(
        &self,
        call: Call<pb::GetWithSeqRequest>,
    ) -> Answer<pb::GetWithSeqResponse> {
        let call = call.into_inner();
        let asked = consistency::asked(call.read_options.as_ref());
        self.read(asked, request::get_with_seq(call), answer::get_with_seq).await
    }
}
