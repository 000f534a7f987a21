//! Indexes that are created and dropped while shards have not heard yet of what became of others of
//! the same name.

use crate::steps::{Shards, about_vectors, options, put_vector};
use arqondb::base::{IndexId, Result};
use arqondb::gateway::{
    Called, Gateway, GatewayOptions, LocalShards, ShardCalls, ShardInfo, Target,
};
use arqondb::node::Standalone;
use arqondb::op::kv::Write;
use arqondb::op::vector::{
    Filter, Floats, IndexInfo, IndexSpec, Metric, StoredVector, TextQuery, VectorAnswer,
    VectorCall, VectorId, VectorSearch,
};
use arqondb::op::{KvOps, Request, Response};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const NAME: &str = "docs";
/// Looks at the shards until the first has heard of all.
const LOOKS: usize = 5;

/// Two shards. All that concerns indexes is done by the second at once, and by the first after some
/// looks at it.
struct Behind {
    shards: LocalShards<Standalone>,
    looks: AtomicUsize,
}

fn spec() -> IndexSpec {
    IndexSpec::new(NAME, 2, Metric::L2)
}

fn drop_it() -> VectorCall {
    VectorCall::Drop { index: NAME.into() }
}

async fn index_of(node: &Standalone) -> IndexInfo {
    match about_vectors(node, VectorCall::Describe { index: NAME.into() }).await.unwrap() {
        VectorAnswer::Index(info) => *info,
        other => panic!("{other:?}"),
    }
}

impl Behind {
    fn node(&self, at: usize) -> &Standalone {
        &self.shards.shards()[at]
    }
}

impl ShardCalls for Behind {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let is_list = |request: &Request| matches!(request, Request::Vector(call) if matches!(**call, VectorCall::List));
        if to.shard.0 == 1
            && requests.iter().any(is_list)
            && self.looks.fetch_add(1, Ordering::SeqCst) == LOOKS
        {
            about_vectors(self.node(0), drop_it()).await.unwrap();
            about_vectors(self.node(0), VectorCall::Create(spec())).await.unwrap();
        }
        self.shards.call(to, requests, deadline).await
    }

    async fn catalog(&self, request: &Request, _: Instant) -> Called {
        let Request::Vector(call) = request else { panic!("{request:?}") };
        if matches!(**call, VectorCall::Create(_)) {
            return Called::all(vec![self.node(1).call(request.clone()).await]);
        }
        // Somebody creates the next right behind.
        let gone = index_of(self.node(1)).await.id;
        for at in [0, 1] {
            self.node(at).call(request.clone()).await.unwrap();
            about_vectors(self.node(at), VectorCall::Create(spec())).await.unwrap();
        }
        Called::all(vec![Ok(Response::Vector(Box::new(VectorAnswer::Dropped(gone))))])
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        ShardCalls::shards(&self.shards).await
    }
}

async fn stored(gateway: &impl KvOps, ids: &[u64]) -> Vec<u64> {
    let ids = ids.iter().map(|id| VectorId::new(*id)).collect();
    match about_vectors(gateway, VectorCall::Get { index: NAME.into(), ids }).await.unwrap() {
        VectorAnswer::Vectors(all) => all.iter().flatten().map(|v: &StoredVector| v.id).collect(),
        other => panic!("{other:?}"),
    }
}

/// A shard that still had the index before, of the same name, was taken for one that has the new one:
/// what it then took for this was gone when it heard of the drop.
#[tokio::test]
async fn an_index_is_not_created_where_a_shard_has_the_one_before() {
    let shards = Shards::new(2);
    let gateway = shards.gateway();
    about_vectors(&gateway, VectorCall::Create(spec())).await.unwrap();
    let ids: Vec<u64> = (1..40).collect();
    let put = |n: u64| {
        let writes: Vec<Write> = ids.iter().map(|id| put_vector(NAME, *id, n)).collect();
        Request::Write { writes, id: None }
    };
    gateway.call(put(0)).await.unwrap();
    // The second shard has heard that it was dropped.
    about_vectors(&shards.local().shards()[1], drop_it()).await.unwrap();

    let behind = Behind { shards: shards.local(), looks: AtomicUsize::new(0) };
    let soon = GatewayOptions { call_timeout: Duration::from_secs(10), ..options(3) };
    let gateway = Gateway::new(behind, soon);
    about_vectors(&gateway, VectorCall::Create(spec())).await.unwrap();
    for at in [0, 1] {
        assert_eq!(index_of(gateway.calls().node(at)).await.id, IndexId(2), "shard {at}");
    }
    assert_eq!(stored(&gateway, &ids).await, [0; 0]);
    gateway.call(put(1)).await.unwrap();
    assert_eq!(stored(&gateway, &ids).await, ids);
}

#[tokio::test]
async fn an_index_is_dropped_though_the_next_has_its_name() {
    let shards = Shards::new(2);
    about_vectors(&shards.gateway(), VectorCall::Create(spec())).await.unwrap();
    let behind = Behind { shards: shards.local(), looks: AtomicUsize::new(LOOKS + 1) };
    let soon = GatewayOptions { call_timeout: Duration::from_secs(10), ..options(3) };
    let gateway = Gateway::new(behind, soon);
    assert_eq!(about_vectors(&gateway, drop_it()).await.unwrap(), VectorAnswer::Done);
    assert_eq!(index_of(gateway.calls().node(0)).await.id, IndexId(2));
}

/// Shards one of whose vectors is written again when vectors are fetched.
struct Meanwhile {
    shards: LocalShards<Standalone>,
    other: Gateway<LocalShards<Standalone>>,
}

fn put_words(id: u64, n: u64) -> Request {
    let write = Write::PutVector {
        index: NAME.into(),
        id: VectorId::new(id),
        vector: Floats::of(&[id as f32, 1.0]),
        payload: format!("{{\"n\": {n}, \"body\": \"word\"}}").into(),
    };
    Request::Write { writes: vec![write], id: None }
}

impl ShardCalls for Meanwhile {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let is_get = |request: &Request| matches!(request, Request::Vector(call) if matches!(**call, VectorCall::Get { .. }));
        if requests.iter().any(is_get) {
            self.other.call(put_words(1, 1)).await.unwrap();
        }
        self.shards.call(to, requests, deadline).await
    }

    async fn catalog(&self, request: &Request, deadline: Instant) -> Called {
        self.shards.catalog(request, deadline).await
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        ShardCalls::shards(&self.shards).await
    }
}

#[tokio::test]
async fn a_search_for_words_gives_no_payload_that_its_filter_does_not_match() {
    let shards = Shards::new(2);
    let other = shards.gateway();
    about_vectors(&other, VectorCall::Create(spec())).await.unwrap();
    for id in 1..20 {
        other.call(put_words(id, 0)).await.unwrap();
    }
    let gateway = Gateway::new(Meanwhile { shards: shards.local(), other }, options(3));
    let text = TextQuery { field: "body".into(), text: "word".into(), is_part: false };
    let search = VectorSearch {
        text: Some(text),
        filter: Some(Filter::parse(r#"{"n": 0}"#).unwrap()),
        with_payload: true,
        ..VectorSearch::new(NAME, &[0.0, 1.0], 3)
    };
    let found = match about_vectors(&gateway, VectorCall::Search(search)).await.unwrap() {
        VectorAnswer::Found(found) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(found.hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [2, 3, 4]);
}
