//! Indexes that are created and dropped while shards have not heard yet of what became of others of
//! the same name.

use crate::steps::{Shards, about_vectors, options, put_vector};
use arqondb::base::{ErrorKind, IndexId, Result};
use arqondb::gateway::{
    Called, Gateway, GatewayOptions, LocalShards, ShardCalls, ShardInfo, Target,
};
use arqondb::node::Standalone;
use arqondb::op::kv::Write;
use arqondb::op::route::{SLOTS, slot_of};
use arqondb::op::vector::{
    Checked, Filter, Floats, IndexInfo, IndexSpec, Metric, StoredVector, TextQuery, VectorAnswer,
    VectorCall, VectorId, VectorSearch, VectorsFound,
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

/// Shards of which one vector is written again whenever hits' records are read.
struct Meanwhile {
    shards: LocalShards<Standalone>,
    other: Gateway<LocalShards<Standalone>>,
    again: fn() -> Request,
}

/// A vector at (`x`, 1).
fn put_words(id: u64, x: f32, n: u64) -> Request {
    let write = Write::PutVector {
        index: NAME.into(),
        id: VectorId::new(id),
        vector: Floats::of(&[x, 1.0]),
        payload: format!("{{\"n\": {n}, \"body\": \"word\"}}").into(),
    };
    Request::Write { writes: vec![write], id: None }
}

impl ShardCalls for Meanwhile {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let is_read = |request: &Request| matches!(request, Request::Vector(call) if matches!(**call, VectorCall::Fetch { .. }));
        if requests.iter().any(is_read) {
            self.other.call((self.again)()).await.unwrap();
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

/// Two shards with vectors 1 to 19, each as far to the right as its number says, and a gateway of
/// theirs.
async fn with_words(again: fn() -> Request) -> Gateway<Meanwhile> {
    let shards = Shards::new(2);
    let other = shards.gateway();
    about_vectors(&other, VectorCall::Create(spec())).await.unwrap();
    for id in 1..20 {
        other.call(put_words(id, id as f32, 0)).await.unwrap();
    }
    Gateway::new(Meanwhile { shards: shards.local(), other, again }, options(3))
}

async fn found(gateway: &impl KvOps, search: VectorSearch) -> VectorsFound {
    match about_vectors(gateway, VectorCall::Search(search)).await.unwrap() {
        VectorAnswer::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

fn ids(found: &VectorsFound) -> Vec<u64> {
    found.hits.iter().map(|hit| hit.id).collect()
}

fn words() -> Option<TextQuery> {
    Some(TextQuery { field: "body".into(), text: "word".into(), is_part: false })
}

#[tokio::test]
async fn a_search_for_words_gives_no_payload_that_its_filter_does_not_match() {
    let gateway = with_words(|| put_words(1, 1.0, 1)).await;
    let search = VectorSearch {
        text: words(),
        filter: Some(Filter::parse(r#"{"n": 0}"#).unwrap()),
        with_payload: true,
        ..VectorSearch::new(NAME, &[0.0, 1.0], 3)
    };
    assert_eq!(ids(&found(&gateway, search).await), [2, 3, 4]);
}

/// A hit had the distance and the rank of one record, and the payload and the vector of the next.
#[tokio::test]
async fn a_hit_over_several_shards_is_of_one_record() {
    let gateway = with_words(|| put_words(2, 500.0, 7)).await;
    for (text, offset, expected) in [(words(), 0, [1, 3, 4]), (None, 1, [3, 4, 5])] {
        // As it was.
        gateway.calls().other.call(put_words(2, 2.0, 0)).await.unwrap();
        let search = VectorSearch {
            text,
            offset,
            with_payload: true,
            with_vector: true,
            ..VectorSearch::new(NAME, &[0.0, 1.0], 3)
        };
        let found = found(&gateway, search).await;
        for hit in &found.hits {
            let vector = hit.vector.as_ref().unwrap().to_vec();
            assert_eq!(hit.distance, vector[0] * vector[0], "{hit:?}");
            assert_eq!(hit.seq, 0, "it is not for users");
        }
        assert_eq!(ids(&found), expected);
    }
}

/// One that is written more often than it is read is told of all the same.
#[tokio::test]
async fn a_hit_that_is_written_all_the_time_is_in_the_answer() {
    static N: AtomicUsize = AtomicUsize::new(1);
    let gateway = with_words(|| put_words(2, 2.0, N.fetch_add(1, Ordering::SeqCst) as u64)).await;
    for (text, offset, expected) in [(words(), 0, [1, 2, 3]), (None, 1, [2, 3, 4])] {
        let search = VectorSearch {
            text,
            offset,
            with_payload: true,
            ..VectorSearch::new(NAME, &[0.0, 1.0], 3)
        };
        let found = found(&gateway, search).await;
        assert_eq!(ids(&found), expected);
        assert!(found.hits.iter().all(|hit| hit.payload.is_some()));
    }
    assert!(N.load(Ordering::SeqCst) > 4, "it was written while it was read");
}

/// Each shard read the payloads of all that was passed over, and of as many more as it looked for.
#[tokio::test]
async fn a_page_reads_no_records_of_those_before_it() {
    let shards = Shards::new(2);
    let gateway = shards.gateway();
    about_vectors(&gateway, VectorCall::Create(spec())).await.unwrap();
    let put = |id: u64| gateway.call(put_words(id, id as f32, id));
    for id in 0..400 {
        put(id).await.unwrap();
    }
    let page = VectorSearch {
        with_payload: true,
        offset: 100,
        ..VectorSearch::new(NAME, &[0.0, 1.0], 10)
    };
    let found = found(&gateway, page).await;
    assert_eq!(ids(&found), (100..110).collect::<Vec<_>>());
    for hit in &found.hits {
        let payload = format!("{{\"n\": {}, \"body\": \"word\"}}", hit.id);
        assert_eq!(hit.payload.as_deref(), Some(payload.as_bytes()));
    }
    assert_eq!(found.cost.fetched, 10);
}

/// Shards each of which has something to mend at its first check.
struct Mends {
    shards: LocalShards<Standalone>,
    checks: AtomicUsize,
}

impl ShardCalls for Mends {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let mut called = self.shards.call(to, requests, deadline).await;
        for answer in called.answers.iter_mut().flatten() {
            if let Response::Vector(answer) = answer
                && let VectorAnswer::Checked(checked) = &mut **answer
                && self.checks.fetch_add(1, Ordering::SeqCst) < 2
            {
                checked.missing = 1;
            }
        }
        called
    }

    async fn catalog(&self, request: &Request, deadline: Instant) -> Called {
        self.shards.catalog(request, deadline).await
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        ShardCalls::shards(&self.shards).await
    }
}

/// A gateway that had just begun asked all shards twice, and told of the second time, when what was
/// found at the first had been mended.
#[tokio::test]
async fn a_check_tells_what_it_has_mended() {
    let shards = Shards::new(2);
    about_vectors(&shards.gateway(), VectorCall::Create(spec())).await.unwrap();
    let mends = Mends { shards: shards.local(), checks: AtomicUsize::new(0) };
    let gateway = Gateway::new(mends, options(3));
    let verify = || VectorCall::Verify { index: NAME.into() };
    for missing in [2, 0] {
        let checked = Checked { stored: 0, missing, surplus: 0 };
        let told = about_vectors(&gateway, verify()).await.unwrap();
        assert_eq!(told, VectorAnswer::Checked(checked));
    }
}

/// What was to make room was refused for want of room, if it lay in several shards.
#[tokio::test]
async fn vectors_of_several_shards_are_deleted_where_memory_is_full() {
    const DIM: usize = 1_024;
    let shards = Shards::new(2);
    let gateway = shards.gateway();
    let spec = IndexSpec::new(NAME, DIM as u32, Metric::L2);
    about_vectors(&gateway, VectorCall::Create(spec)).await.unwrap();
    let put = |id: u64| Write::PutVector {
        index: NAME.into(),
        id: VectorId::new(id),
        vector: Floats::of(&[id as f32; DIM]),
        payload: Default::default(),
    };
    let batch = |writes: Vec<Write>| gateway.call(Request::Write { writes, id: None });
    let delete = |id: u64| Write::DeleteVector { index: NAME.into(), id: VectorId::new(id) };
    let is_first = |id: &u64| slot_of(VectorId::new(*id).as_bytes()) < SLOTS / 2;
    let (first, second): (Vec<u64>, Vec<u64>) = (0..20_000).partition(is_first);
    let mut pairs = first.into_iter().zip(second);
    // The background gives some memory back now and then.
    for turn in 0..20 {
        let refused = loop {
            let (a, b) = pairs.next().unwrap();
            if let Err(error) = batch(vec![put(a), put(b)]).await {
                break error;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::Refused, "{turn}: {refused}");
        batch(vec![delete(2 * turn), delete(2 * turn + 1), delete(50), delete(51)]).await.unwrap();
    }
    assert_eq!(stored(&gateway, &(0..40).collect::<Vec<_>>()).await, [0; 0]);
}
