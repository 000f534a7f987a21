//! The calls of the links.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::ShardId;
use crate::node::cluster::Member;
use crate::op::route::is_read;
use crate::rpc::cluster::method;
use crate::rpc::cluster::shard_call::{decode_call, encode_answer};
use crate::rpc::cluster::{ShardAnswer, ShardCall};
use crate::rpc::link::{Hello, LinkService, Role};
use bytes::Bytes;
use std::time::Duration;

/// How long a call may take, whatever its caller would wait.
const PATIENCE_MAX: Duration = Duration::from_secs(300);

impl Member {
    /// Executes a call for a shard, for a caller in this process: as one that came over a link.
    pub async fn call_shard(&self, call: ShardCall, patience: Duration) -> ShardAnswer {
        self.inner.execute(call, patience.min(PATIENCE_MAX)).await
    }
}

impl LinkService for Member {
    fn greet(&self, from: &Hello) -> Result<Hello> {
        let own = super::member::hello(&self.inner.identity);
        if !own.may_meet(from) {
            let message = "this node belongs to another cluster; check the address you gave";
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let known = self.view().node(crate::catalog::NodeId(from.node)).map(|n| n.incarnation);
        if from.role == Role::Node && known.is_some_and(|known| known != from.incarnation) {
            let message = format!(
                "node {} is another one by now: its folder was lost or replaced; let it register \
                 anew, under a new number",
                from.node
            );
            return Err(Error::new(ErrorKind::Refused, message));
        }
        Ok(own)
    }

    async fn call(&self, _: Hello, method: u16, patience: Duration, body: Bytes) -> Result<Bytes> {
        match method {
            method::SHARD => {
                let call = decode_call(&body)?;
                let only_reads = call.requests.iter().all(is_read);
                Ok(encode_answer(&self.call_shard(call, patience).await, only_reads))
            }
            method::TRANSFER => {
                let ids = body.split_first_chunk::<8>();
                let ids = ids.and_then(|(shard, to)| Some((shard, to.first_chunk::<8>()?)));
                let (shard, to) = ids.ok_or_else(|| Error::invalid("a call is malformed"))?;
                let shard = ShardId(u64::from_le_bytes(*shard));
                let Some(running) = self.inner.replicas.get(shard) else {
                    let message = format!("shard {shard} has no replica on this node");
                    return Err(Error::new(ErrorKind::NotFound, message));
                };
                running.hand_to(u64::from_le_bytes(*to), patience).await?;
                Ok(Bytes::new())
            }
            method::COPY_BEGIN..=method::COPY_END => {
                self.inner.copy_call(method, patience.min(PATIENCE_MAX), &body).await
            }
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("a node of this version has no call {other}"),
            )),
        }
    }

    fn message(&self, from: &Hello, class: u8, body: Bytes) {
        self.inner.receive(from, class, body);
    }
}
