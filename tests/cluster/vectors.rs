//! Vectors over several shards and nodes: what one node would answer.

use crate::world::World;
use arqondb::base::ErrorKind;
use arqondb::op::kv::Write;
use arqondb::op::vector::{
    Filter, Floats, IndexSpec, Metric, TextQuery, VectorAnswer, VectorCall, VectorId, VectorQuery,
    VectorSearch,
};
use arqondb::op::{KvOps, Request, Response};
use arqondb::{Db, Options};

const DIM: u64 = 8;
const NAME: &str = "docs";

fn vector(n: u64) -> Vec<f32> {
    (0..DIM).map(|at| (n * (2 * at + 3) % 23) as f32 - 11.5).collect()
}

/// Some words: how many texts have one differs from shard to shard.
fn body(id: u64) -> String {
    (0..1 + id % 5).map(|at| format!("w{} ", (id * (at + 7) % 61) / (1 + id % 3))).collect()
}

fn put(id: u64) -> Request {
    let write = Write::PutVector {
        index: NAME.into(),
        id: VectorId::new(id),
        vector: Floats::of(&vector(id)),
        payload: format!("{{\"n\": {id}, \"body\": \"{}\"}}", body(id)).into(),
    };
    Request::Write { writes: vec![write], id: None }
}

async fn call(kv: &impl KvOps, call: VectorCall) -> arqondb::Result<VectorAnswer> {
    match kv.call(Request::Vector(Box::new(call))).await? {
        Response::Vector(answer) => Ok(*answer),
        other => panic!("{other:?}"),
    }
}

async fn search(kv: &impl KvOps, search: VectorSearch) -> Vec<(u64, f32)> {
    match call(kv, VectorCall::Search(search)).await.unwrap() {
        VectorAnswer::Found(found) => found.hits.iter().map(|h| (h.id, h.distance)).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_answers_as_one_node_and_loses_no_vector_with_a_node() {
    let mut world = World::cluster(1, 3, 8, 3).await;
    let gateway = world.gateway();
    let spec = IndexSpec::new(NAME, DIM as u32, Metric::L2);
    let one = Db::open_with("/one", {
        let disk = arqondb::env::SimDisk::new();
        Options { disk: disk.shared(), ..Options::default() }
    })
    .unwrap();
    one.vectors(VectorCall::Create(spec.clone())).unwrap();
    let created = call(&*gateway, VectorCall::Create(spec.clone())).await.unwrap();
    assert!(matches!(created, VectorAnswer::Index(info) if info.spec.name == NAME));
    let again = call(&*gateway, VectorCall::Create(spec)).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    for ids in (0..600).collect::<Vec<u64>>().chunks(50) {
        let answers = gateway.pipeline(ids.iter().map(|id| put(*id)).collect()).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        for id in ids {
            one.execute(put(*id)).unwrap();
        }
    }
    let delete = Write::DeleteVector { index: NAME.into(), id: VectorId::new(77) };
    let delete = Request::Write { writes: vec![delete], id: None };
    gateway.call(delete.clone()).await.unwrap();
    one.execute(delete).unwrap();

    let other = world.gateway();
    let words = |n: u64| {
        let text = format!("w{} w{} W7", n % 9, n % 20);
        Some(TextQuery { field: "body".into(), text, is_part: false })
    };
    for n in 0..30u64 {
        let base = VectorSearch { exact: true, ..VectorSearch::new(NAME, &vector(n * 31 + 5), 10) };
        let near = VectorQuery::Stored(VectorId::new(n));
        let filter = Some(Filter::parse(&format!("{{\"n\": {{\"gte\": {}}}}}", n * 20)).unwrap());
        for asked in [
            base.clone(),
            VectorSearch { offset: 7, k: 5, ..base.clone() },
            VectorSearch { filter, k: 30, ..base.clone() },
            VectorSearch { distance_max: Some(300.0), k: 0, ..base.clone() },
            VectorSearch { query: near, ..base.clone() },
            VectorSearch { text: words(n), ..base.clone() },
            VectorSearch { text: words(n), k: 20, offset: 3, with_payload: true, ..base },
        ] {
            let expected = one.search_vectors(asked.clone()).unwrap();
            let expected: Vec<(u64, f32)> =
                expected.hits.iter().map(|h| (h.id, h.distance)).collect();
            assert_eq!(search(&*other, asked.clone()).await, expected, "{asked:?}");
        }
    }
    // A node stops: what it led is led by others, with every vector.
    world.stop_node(1).await;
    let mut after = None;
    let mut found = Vec::new();
    loop {
        let walk = VectorCall::Walk { index: NAME.into(), after, limit: 100 };
        let VectorAnswer::Page { vectors, next } = call(&*other, walk).await.unwrap() else {
            panic!("not a page")
        };
        found.extend(vectors.iter().map(|v| v.id));
        after = next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<u64> = (0..600).filter(|id| *id != 77).collect();
    assert_eq!(found, expected);
    let checked = call(&*other, VectorCall::Verify { index: NAME.into() }).await.unwrap();
    assert!(
        matches!(checked, VectorAnswer::Checked(c) if (c.stored, c.missing, c.surplus) == (599, 0, 0))
    );
    let get =
        |id| VectorCall::Get { index: NAME.into(), ids: vec![VectorId::new(id), VectorId::new(3)] };
    let VectorAnswer::Vectors(got) = call(&*other, get(599)).await.unwrap() else { panic!() };
    let got: Vec<_> = got.into_iter().map(|v| v.unwrap().vector.to_vec()).collect();
    assert_eq!(got, [vector(599), vector(3)]);
    let single = VectorCall::Get { index: NAME.into(), ids: vec![VectorId::new(9)] };
    let VectorAnswer::Vectors(got) = call(&*other, single).await.unwrap() else { panic!() };
    assert_eq!(got[0].as_ref().unwrap().vector.to_vec(), vector(9));
    call(&*other, VectorCall::Drop { index: NAME.into() }).await.unwrap();
    let gone = call(&*gateway, VectorCall::Describe { index: NAME.into() }).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(gateway.call(put(1)).await.unwrap_err().kind(), ErrorKind::NotFound);
}
