//! What a door under test serves from: one engine or, with `ARQON_TEST_SHARDS=8`, a gateway over
//! so many. Tests that look at the engine itself fail then; all others must not notice.

use arqondb::base::Result;
use arqondb::gateway::{Gateway, GatewayOptions, LocalShards};
use arqondb::op::{KvOps, Request, Response, Topology};
use std::sync::Arc;

pub(crate) enum Behind<K: KvOps> {
    One(Arc<K>),
    Many(Box<Gateway<LocalShards<Arc<K>>>>),
}

impl<K: KvOps> Behind<K> {
    /// `first`, or as many more as the environment asks for beside it.
    pub(crate) fn new(first: Arc<K>, more: impl Fn() -> K) -> Behind<K> {
        let shards = std::env::var("ARQON_TEST_SHARDS").map_or(1, |n| n.parse().unwrap());
        if shards < 2 {
            return Behind::One(first);
        }
        let more = (1..shards).map(|_| Arc::new(more()));
        let all = std::iter::once(first).chain(more).collect();
        let shards = LocalShards::new(all);
        Behind::Many(Box::new(Gateway::new(shards, GatewayOptions::default())))
    }
}

impl<K: KvOps> KvOps for Behind<K> {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        match self {
            Behind::One(one) => one.pipeline(requests).await,
            Behind::Many(many) => many.pipeline(requests).await,
        }
    }

    fn topology(&self) -> Option<Arc<Topology>> {
        match self {
            Behind::One(one) => one.topology(),
            Behind::Many(many) => many.topology(),
        }
    }
}
