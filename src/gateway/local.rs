//! Shards of this process as what a gateway calls: no network between.

use crate::base::{Error, ErrorKind, Result};
use crate::gateway::calls::{CallFailure, Called, ShardCalls, Target};
use crate::gateway::map::{Node, NodeId, ShardInfo};
use crate::op::route::{SLOTS, ShardId, SlotRange};
use crate::op::{KvOps, Request, Response};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Shards of this process, each a [`KvOps`] of its own, with about as many slots each. They never
/// change. Column families and indexes are created and dropped in all of them, in one order, so that
/// each has one id.
#[derive(Debug)]
pub struct LocalShards<K> {
    shards: Vec<K>,
    catalog: Mutex<()>,
}

impl<K: KvOps> LocalShards<K> {
    /// The shards. At least one, at most as many as there are slots.
    pub fn new(shards: Vec<K>) -> LocalShards<K> {
        LocalShards { shards, catalog: Mutex::new(()) }
    }

    /// The shards, in the order of their slots.
    pub fn shards(&self) -> &[K] {
        &self.shards
    }

    fn infos(&self) -> Vec<ShardInfo> {
        let count = self.shards.len();
        let begins = |at: usize| (usize::from(SLOTS) * at / count.max(1)) as u16;
        let info = |at: usize| {
            let node = NodeId(1);
            ShardInfo {
                id: ShardId(at as u64 + 1),
                epoch: 1,
                slots: SlotRange { first: begins(at), last: begins(at + 1) - 1 },
                leader: Some(node),
                replicas: vec![Node { id: node, address: "local".into(), redis: None }],
            }
        };
        (0..count).map(info).collect()
    }
}

impl<K: KvOps> ShardCalls for LocalShards<K> {
    async fn call(&self, to: &Target, requests: &[Request], _: Instant) -> Called {
        let at = usize::try_from(to.shard.0).ok().and_then(|id| id.checked_sub(1));
        match at.and_then(|at| self.shards.get(at)) {
            Some(shard) if to.epoch == 1 => Called::all(shard.pipeline(requests.to_vec()).await),
            _ => Called::failed(CallFailure::WrongEpoch { covering: self.infos() }),
        }
    }

    async fn catalog(&self, request: &Request, _: Instant) -> Called {
        let _one = self.catalog.lock().await;
        let mut answer: Option<Result<Response>> = None;
        for shard in &self.shards {
            let one = shard.call(request.clone()).await;
            match &answer {
                None => answer = Some(one),
                Some(Ok(known)) if one.as_ref().is_ok_and(|one| one == known) => {}
                Some(Err(known)) if one.as_ref().is_err_and(|one| one.kind() == known.kind()) => {}
                Some(_) => {
                    answer = Some(Err(Error::new(
                        ErrorKind::Internal,
                        "the shards of this process disagree about column families or indexes",
                    )));
                    break;
                }
            }
        }
        Called::all(answer.into_iter().collect())
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        Ok(self.infos())
    }
}
