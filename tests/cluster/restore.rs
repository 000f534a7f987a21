//! What a restore makes of the tables of a backup, families and slots among it.

use arqondb::base::{CfId, LogIndex, Seq};
use arqondb::cli::cluster::backup::document::{
    ClusterFact, Document, FamilyFact, FileFact, ShardFact,
};
use arqondb::cli::cluster::backup::repository::Repository;
use arqondb::cli::cluster::backup::verify::verify;
use arqondb::cli::cluster::restore::fill::{Filling, Tally, compare};
use arqondb::env::disk::read_exact_at;
use arqondb::env::{Clock, Disk, Pool, RealClock, SimDisk};
use arqondb::lsm::batch::{Counts, WriteBatch};
use arqondb::lsm::key::Meta;
use arqondb::lsm::{BlockCache, CfOptions, Engine, EngineOptions};
use arqondb::node::{Options, Standalone};
use arqondb::op::kv::Scan;
use arqondb::op::route::{SLOTS, SlotRange, slot_of};
use arqondb::op::{KvOps, Request, Response};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_128;

const LOGS: CfId = CfId(5);
const EMPTY: CfId = CfId(9);

/// The files of an engine with what `fill` writes, added to a folder of backups.
fn shard(
    repository: &Repository,
    number: u64,
    slots: SlotRange,
    fill: impl FnOnce(&mut WriteBatch),
) -> ShardFact {
    let (disk, dir) = (SimDisk::new(), Path::new("/engine"));
    let cache = BlockCache::new(1 << 20);
    let engine =
        Engine::open(disk.shared(), Pool::manual(), cache, EngineOptions::new(dir)).unwrap();
    engine.create_cf_with_id(LOGS, "logs", CfOptions::default()).unwrap();
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    batch.place(Seq(1), 1);
    engine.apply(LogIndex(1), &batch.view()).unwrap();
    let copy = Path::new("/copy");
    let info = engine.checkpoint(copy).unwrap();
    let mut files = Vec::new();
    for entry in disk.list(copy).unwrap() {
        let path = copy.join(&entry.name);
        let mut bytes = vec![0; entry.len as usize];
        read_exact_at(&*disk.open(&path).unwrap(), &path, &mut bytes, 0).unwrap();
        let sum = format!("{:032x}", xxh3_128(&bytes));
        let fact = FileFact { name: entry.name, size: entry.len, sum };
        let mut part = repository.part(&fact).unwrap();
        part.push(&bytes).unwrap();
        part.finish().unwrap();
        files.push(fact);
    }
    let (index, seq) = (info.index.0, info.seq.0);
    let SlotRange { first, last } = slots;
    ShardFact { shard: number, first, last, replicas: 3, node: 1, index, seq, files }
}

async fn rows(node: &Standalone, family: &str) -> BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)> {
    let Ok(Response::ColumnFamilies(families)) = node.call(Request::ListCfs).await else {
        panic!()
    };
    let cf = families.iter().find(|info| info.name == family).unwrap().id;
    match node.call(Request::Scan(Scan { cf, ..Scan::default() })).await {
        Ok(Response::Page { entries, .. }) => entries
            .into_iter()
            .map(|e| (e.key.to_vec(), (e.value.to_vec(), e.expire_at_ms)))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn families_keep_their_names_and_a_shard_gives_the_keys_of_its_slots_alone() {
    let disk = SimDisk::new();
    let repository = Repository::create(disk.shared(), Path::new("/backups")).unwrap();
    let now_ms = RealClock::new().unix_ms();
    let far = now_ms + (1 << 40);
    let (low, high) = SlotRange::ALL.split(SLOTS / 2).unwrap();
    let keys: Vec<String> = (0..50).map(|n| format!("key-{n}")).collect();
    let of = |slots: SlotRange| keys.iter().filter(move |k| slots.contains(slot_of(k.as_bytes())));
    // The lower one was split: it still holds what is the upper one's by now, as it was then.
    let lower = shard(&repository, 1, low, |batch| {
        keys.iter().for_each(|key| batch.put(key.as_bytes(), b"then"));
        of(low).for_each(|key| batch.put_cf(LOGS, key.as_bytes(), b"log"));
    });
    let upper = shard(&repository, 2, high, |batch| {
        for key in of(high) {
            batch.put(key.as_bytes(), b"now");
            let meta = Meta { tag: 0, expire_at_ms: Some(far) };
            batch.put_with(LOGS, key.as_bytes(), b"passing", meta, Counts::Unknown);
            let meta = Meta { tag: 0, expire_at_ms: Some(now_ms - 1) };
            batch.put_with(LOGS, &[key.as_bytes(), b"!"].concat(), b"gone", meta, Counts::Unknown);
        }
        batch.put_cf(CfId::DEDUP, b"a request that was applied", b"x");
    });
    let document = Document {
        name: "made".into(),
        made_ms: 1,
        software: "0".into(),
        cluster: ClusterFact { id: "01".repeat(16), name: "old".into(), version: 1 },
        families: vec![FamilyFact { id: EMPTY.0, name: "empty".into() }],
        indexes: Vec::new(),
        users: Vec::new(),
        shards: vec![lower, upper],
    };
    repository.add(&document).unwrap();
    let found = verify(&repository, &repository.read("made").unwrap()).unwrap();
    assert!(found.damage.is_empty(), "{:?}", found.damage);

    let options = || Options { disk: SimDisk::new().shared(), ..Options::default() };
    let node = Standalone::open("/node", options()).unwrap();
    // The ids of families are taken otherwise here.
    node.call(Request::CreateCf { name: "first".into() }).await.unwrap();
    let told = AtomicU64::new(0);
    let filling = Filling {
        target: &node,
        shards: vec![SlotRange::ALL],
        start_ms: now_ms,
        progress: &|rows, _| told.store(rows, Ordering::Relaxed),
    };
    assert!(filling.is_empty().await.unwrap());
    let written = filling.fill(&repository, &document).await.unwrap();
    assert_eq!((written.rows(), told.load(Ordering::Relaxed)), (100, 100));
    compare(&written, &filling.tally().await.unwrap()).unwrap();
    let expected = |low_value: &[u8], high_value: &[u8], at: Option<u64>| {
        let lower = of(low).map(|key| (key.clone().into_bytes(), (low_value.to_vec(), None)));
        let upper = of(high).map(|key| (key.clone().into_bytes(), (high_value.to_vec(), at)));
        lower.chain(upper).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(rows(&node, "default").await, expected(b"then", b"now", None));
    assert_eq!(rows(&node, "logs").await, expected(b"log", b"passing", Some(far)));
    assert!(rows(&node, "empty").await.is_empty());
    let less = Tally { lasting: written.lasting - 1, ..written };
    assert!(compare(&written, &less).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_cannot_be_written_as_it_is_is_refused() {
    let disk = SimDisk::new();
    let repository = Repository::create(disk.shared(), Path::new("/backups")).unwrap();
    let whole = shard(&repository, 1, SlotRange::ALL, |batch| {
        let meta = Meta { tag: 3, expire_at_ms: None };
        batch.put_with(CfId::DEFAULT, b"a list", b"?", meta, Counts::Unknown);
    });
    let document = Document {
        name: "typed".into(),
        made_ms: 1,
        software: "0".into(),
        cluster: ClusterFact { id: "01".repeat(16), name: "old".into(), version: 1 },
        families: Vec::new(),
        indexes: Vec::new(),
        users: Vec::new(),
        shards: vec![whole],
    };
    let options = Options { disk: SimDisk::new().shared(), ..Options::default() };
    let node = Standalone::open("/node", options).unwrap();
    let filling =
        Filling { target: &node, shards: vec![SlotRange::ALL], start_ms: 1, progress: &|_, _| {} };
    let error = filling.fill(&repository, &document).await.unwrap_err();
    assert!(error.message().contains("a list") && error.message().contains("type 3"), "{error}");
    assert!(filling.is_empty().await.unwrap());
}
