//! The seam every door speaks through.

use crate::base::{Error, ErrorKind, Result};
use crate::op::{Consistency, Request, Response, Topology};
use std::future::Future;
use std::sync::Arc;

/// Executes requests: a local engine, or a gateway in front of many shards.
///
/// The unit is a pipeline: requests of one client, executed in order as if one after the other
/// (other clients may come between), answered together once every write among them is committed
/// at the configured durability. That lets one log sync serve a whole pipeline.
pub trait KvOps: Send + Sync + 'static {
    /// Executes `requests` in order and gives as many answers, in the same order. A failed
    /// request does not stop those behind it.
    fn pipeline(
        &self,
        requests: Vec<Request>,
    ) -> impl Future<Output = Vec<Result<Response>>> + Send;

    /// As [`KvOps::pipeline`], with reads as fresh as asked for. One place that knows everything
    /// always is.
    fn pipeline_at(
        &self,
        consistency: Consistency,
        requests: Vec<Request>,
    ) -> impl Future<Output = Vec<Result<Response>>> + Send {
        _ = consistency;
        self.pipeline(requests)
    }

    /// As [`KvOps::call`], with a read as fresh as asked for.
    fn call_at(
        &self,
        consistency: Consistency,
        request: Request,
    ) -> impl Future<Output = Result<Response>> + Send {
        async move { only(self.pipeline_at(consistency, vec![request]).await) }
    }

    /// Executes one request.
    fn call(&self, request: Request) -> impl Future<Output = Result<Response>> + Send {
        async move { only(self.pipeline(vec![request]).await) }
    }

    /// Which node answers for which slots, if there is more than one place to ask. Cheap: doors
    /// ask for it at every question about the cluster.
    fn topology(&self) -> Option<Arc<Topology>> {
        None
    }
}

/// Shared by several doors.
impl<K: KvOps> KvOps for Arc<K> {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        K::pipeline(self, requests).await
    }

    async fn pipeline_at(
        &self,
        consistency: Consistency,
        requests: Vec<Request>,
    ) -> Vec<Result<Response>> {
        K::pipeline_at(self, consistency, requests).await
    }

    fn topology(&self) -> Option<Arc<Topology>> {
        K::topology(self)
    }
}

/// The answer of a pipeline of one request.
fn only(mut answers: Vec<Result<Response>>) -> Result<Response> {
    answers.pop().unwrap_or_else(|| {
        Err(Error::new(ErrorKind::Internal, "a pipeline of one request gave no answer"))
    })
}
