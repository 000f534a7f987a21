//! Vectors over several shards and nodes: what one node would answer.

use crate::jobs::{begin, ended, holds, known};
use crate::splits::split;
use crate::world::{Ways, World, soon};
use arqondb::base::ErrorKind;
use arqondb::catalog::records::{JobKind, JobState};
use arqondb::node::cluster::MemberOptions;
use arqondb::op::kv::Write;
use arqondb::op::vector::{
    Filter, Floats, IndexKind, IndexSpec, Metric, Quantisation, TextQuery, VectorAnswer,
    VectorCall, VectorId, VectorQuery, VectorSearch,
};
use arqondb::op::{KvOps, Request, Response};
use arqondb::{Db, Options};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// The nodes that an index is said to be on, by its description and in the list.
async fn hosts(kv: &impl KvOps, name: &str) -> Vec<u64> {
    let describe = VectorCall::Describe { index: name.into() };
    let VectorAnswer::Index(info) = call(kv, describe).await.unwrap() else { panic!() };
    let VectorAnswer::Indexes(all) = call(kv, VectorCall::List).await.unwrap() else { panic!() };
    assert!(all.iter().all(|index| index.nodes == info.nodes), "{all:?}");
    info.nodes
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
    assert!(
        matches!(created, VectorAnswer::Index(info) if info.spec.name == NAME && info.nodes == [1, 2, 3])
    );
    assert_eq!(hosts(&*gateway, NAME).await, [1, 2, 3]);
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

/// Vectors by id, and the number of the write that made each.
type Model = BTreeMap<u64, u64>;

/// The vector of a write: no two are alike.
fn of_write(number: u64) -> Vec<f32> {
    (0..DIM).map(|at| (number * (2 * at + 3) % (991 + at)) as f32 - 500.0).collect()
}

/// Whether an index has what a model has, whoever is asked and however.
async fn compare(kv: &impl KvOps, name: &str, model: &Model, when: &str) {
    let walk = VectorCall::Walk { index: name.into(), after: None, limit: 5_000 };
    let VectorAnswer::Page { vectors, next: None } = call(kv, walk).await.unwrap() else {
        panic!("not a page, or not the only one")
    };
    let found: Vec<(u64, Vec<f32>)> = vectors.iter().map(|v| (v.id, v.vector.to_vec())).collect();
    let expected: Vec<_> = model.iter().map(|(id, number)| (*id, of_write(*number))).collect();
    assert_eq!(found, expected, "{name} {when}");
    let mut right = 0;
    for number in (12..1_000).step_by(100) {
        let query = of_write(number);
        let apart = |number: &u64| -> f32 {
            of_write(*number).iter().zip(&query).map(|(a, b)| (a - b) * (a - b)).sum()
        };
        let mut near: Vec<(u64, f32)> = model.iter().map(|(id, n)| (*id, apart(n))).collect();
        near.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let asked = VectorSearch::new(name, &query, 10);
        let exact = search(kv, VectorSearch { exact: true, ..asked.clone() }).await;
        assert_eq!(exact, near[..10], "{name} {when}");
        let walked = search(kv, VectorSearch { ef: 400, ..asked }).await;
        right += walked.iter().filter(|hit| near[..10].contains(hit)).count();
    }
    // Codes of few bits tell little of 8 numbers: what is exact proves postings.
    let least = if name == "postings" { 90 } else { 97 };
    assert!(right >= least, "{name} {when}: {right} of 100");
    let checked = call(kv, VectorCall::Verify { index: name.into() }).await.unwrap();
    let VectorAnswer::Checked(checked) = checked else { panic!("{checked:?}") };
    let told = (checked.stored, checked.missing, checked.surplus);
    assert_eq!(told, (model.len() as u64, 0, 0), "{name} {when}");
}

/// Segments and postings are small, so that there are some of each on every shard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_follow_their_shards_through_splits_and_moves_while_clients_write() {
    let change = Arc::new(|options: &mut MemberOptions| options.vector_segment_rows = 32);
    let mut world = World::cluster_with(1, 4, 1, 3, Ways { change, ..Ways::default() }).await;
    let (client, gateway) = (known(&world).await, world.gateway());
    let forms = [
        ("graph", IndexKind::Hnsw, Quantisation::None),
        ("packed", IndexKind::Hnsw, Quantisation::Packed),
        ("pages", IndexKind::DiskHnsw, Quantisation::None),
        ("postings", IndexKind::Spfresh, Quantisation::None),
    ];
    for (name, kind, quantisation) in forms {
        let spec = IndexSpec::new(name, DIM as u32, Metric::L2);
        let spec = IndexSpec { kind, quantisation, ..spec };
        call(&*gateway, VectorCall::Create(spec)).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (told, mut written) = tokio::sync::watch::channel(0u64);
    let writers = forms.map(|(name, ..)| {
        let (gateway, stop, told) = (gateway.clone(), stop.clone(), told.clone());
        tokio::spawn(async move {
            let mut model = Model::new();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Ids come again, and one write in nine deletes.
                let id = number * 7 % 400;
                let (index, vector_id) = (name.to_string(), VectorId::new(id));
                let write = match number % 9 {
                    8 => Write::DeleteVector { index, id: vector_id },
                    _ => Write::PutVector {
                        index,
                        id: vector_id,
                        vector: Floats::of(&of_write(number)),
                        payload: Default::default(),
                    },
                };
                let answer = gateway.call(Request::Write { writes: vec![write], id: None }).await;
                assert!(matches!(answer, Ok(Response::Committed { .. })), "{name}: {answer:?}");
                match number % 9 {
                    8 => _ = model.remove(&id),
                    _ => _ = model.insert(id, number),
                }
                told.send_modify(|count| *count += 1);
            }
            model
        })
    });
    let mut more = async |count: u64| {
        let until = *written.borrow() + count;
        tokio::time::timeout_at(soon(), written.wait_for(|now| *now >= until))
            .await
            .unwrap()
            .unwrap();
    };
    more(1_200).await;
    for shard in 1..=2 {
        split(&world, shard).await;
        more(400).await;
    }
    let drain = begin(&client, JobKind::DrainNode, 1).await;
    client.wait_for(soon(), |view| ended(view, drain).is_some()).await.unwrap();
    let view = client.view();
    assert_eq!((ended(&view, drain), holds(&view, 1)), (Some(JobState::Done), 0));
    more(400).await;
    stop.store(true, Ordering::Relaxed);
    let mut models = Vec::new();
    for writer in writers {
        models.push(writer.await.unwrap());
    }
    for ((name, ..), model) in forms.iter().zip(&models) {
        compare(&*gateway, name, model, "after splits and a move").await;
        assert_eq!(hosts(&*gateway, name).await, [2, 3, 4], "{name}");
    }
    // Whatever each node led is led by another.
    for node in 2..=4 {
        world.stop_node(node).await;
        let door = world.gateway();
        for ((name, ..), model) in forms.iter().zip(&models) {
            compare(&*door, name, model, &format!("without node {node}")).await;
        }
        world.start_node(node).await;
    }
}
