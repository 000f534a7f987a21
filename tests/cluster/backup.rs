//! Backups of a cluster that goes on being written to, and what becomes of them.

use crate::world::{World, soon};
use arqondb::CfId;
use arqondb::base::ErrorKind;
use arqondb::catalog::records::UserRole;
use arqondb::catalog::{Action, NodeId};
use arqondb::cli::cluster::backup::document::{Document, FileFact};
use arqondb::cli::cluster::backup::repository::Repository;
use arqondb::cli::cluster::backup::source::Source;
use arqondb::cli::cluster::backup::take::{Taken, take};
use arqondb::cli::cluster::backup::verify::{is_whole, verify};
use arqondb::cli::cluster::restore::add_to_catalog;
use arqondb::cli::cluster::restore::fill::{Filling, compare};
use arqondb::cli::cluster::restore::rows::ShardRows;
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Clock, Disk, RealClock, SimDisk};
use arqondb::op::kv::{Expiry, MergeOp, Write};
use arqondb::op::route::{SlotRange, slot_of};
use arqondb::op::{KvOps, Request, Response};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const DIR: &str = "/backups";

fn put(key: &str, value: &str, expiry: Expiry) -> Write {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    Write::Put { cf: CfId::DEFAULT, key: bytes(key), value: bytes(value), expiry }
}

async fn write(kv: &impl KvOps, writes: Vec<Write>) {
    let answer = kv.call(Request::Write { writes, id: None }).await;
    assert!(matches!(answer, Ok(Response::Committed { .. })), "{answer:?}");
}

async fn get(kv: &impl KvOps, key: &str) -> Option<(String, Option<u64>)> {
    let request = Request::Get { cf: CfId::DEFAULT, key: Bytes::copy_from_slice(key.as_bytes()) };
    match kv.call(request).await.unwrap() {
        Response::Entry(entry) => {
            entry.map(|e| (String::from_utf8(e.value.to_vec()).unwrap(), e.expire_at_ms))
        }
        other => panic!("{other:?}"),
    }
}

/// A hash tag of each range.
fn tags(shards: &[SlotRange]) -> Vec<String> {
    let tag = |slots: &SlotRange| {
        (0..).map(|n| format!("{{{n}}}")).find(|tag| slots.contains(slot_of(tag.as_bytes())))
    };
    shards.iter().map(|slots| tag(slots).unwrap()).collect()
}

async fn source(world: &World) -> Source {
    let client = world.client();
    let led = |view: &arqondb::catalog::View| {
        view.shards().count() > 0 && view.shards().all(|shard| shard.leader.is_some())
    };
    client.wait_for(soon(), led).await.unwrap();
    Source::new(client)
}

async fn back_up(source: &Source, disk: &SimDisk, name: &str, now_ms: u64) -> Taken {
    let repository = Repository::create(disk.shared(), Path::new(DIR)).unwrap();
    take(source, &repository, name, now_ms, &|_| {}).await.unwrap()
}

/// The rows of a shard's default family.
fn rows(repository: &Repository, document: &Document, at: usize) -> BTreeMap<String, String> {
    let shard = ShardRows::open(repository, &document.shards[at]).unwrap();
    let mut rows = shard.rows(CfId::DEFAULT, 1).unwrap();
    let mut all = BTreeMap::new();
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    while let Some(row) = rows.next().unwrap() {
        all.insert(text(row.key), text(row.value));
    }
    all
}

fn contents(document: &Document) -> BTreeSet<String> {
    document.files().map(FileFact::content).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_writes_is_a_prefix_of_each_shard_and_the_next_copies_what_is_new() {
    let world = World::cluster(1, 3, 4, 3).await;
    let gateway = world.gateway();
    let source = source(&world).await;
    let shards: Vec<SlotRange> = source.meta().view().shards().map(|s| s.slots).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged: Arc<Vec<AtomicU64>> =
        Arc::new(shards.iter().map(|_| AtomicU64::new(0)).collect());
    let writers: Vec<_> = tags(&shards)
        .into_iter()
        .enumerate()
        .map(|(at, tag)| {
            let (gateway, stop, acknowledged) =
                (gateway.clone(), stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let value = n.to_string();
                    let record = put(&format!("{tag}:{n:06}"), &value, Expiry::Never);
                    write(&*gateway, vec![record, put(&tag, &value, Expiry::Never)]).await;
                    acknowledged[at].store(n, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let written = |at: usize| acknowledged[at].load(Ordering::Relaxed);
    while (0..shards.len()).any(|at| written(at) < 20) {
        tokio::task::yield_now().await;
    }
    let disk = SimDisk::new();
    let mut taken = Vec::new();
    for (now_ms, name) in [(1, "first"), (2, "second")] {
        let before: Vec<u64> = (0..shards.len()).map(written).collect();
        let backup = back_up(&source, &disk, name, now_ms).await;
        let repository = Repository::open(disk.shared(), Path::new(DIR)).unwrap();
        for (at, tag) in tags(&shards).iter().enumerate() {
            let mut rows = rows(&repository, &backup.document, at);
            let counter: u64 = rows.remove(tag).unwrap().parse().unwrap();
            assert!(counter >= before[at], "shard {at}: {counter} of {}", before[at]);
            let expected = (1..=counter).map(|n| (format!("{tag}:{n:06}"), n.to_string()));
            assert!(rows.into_iter().eq(expected), "shard {at} is no prefix");
        }
        taken.push(backup);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    taken.push(back_up(&source, &disk, "third", 3).await);
    taken.push(back_up(&source, &disk, "fourth", 4).await);
    let mut known = BTreeSet::new();
    for backup in &taken {
        let all = contents(&backup.document);
        let new = all.difference(&known).count() as u64;
        assert_eq!(backup.new.files, new, "{}", backup.document.name);
        assert_eq!(backup.all.files, backup.document.files().count() as u64);
        known.extend(all);
    }
    // Nothing was written between the last two: no table of a shard that stayed where it was is new.
    let [.., third, fourth] = &taken[..] else { panic!() };
    let before = contents(&third.document);
    let stayed: Vec<_> = (third.document.shards.iter().zip(&fourth.document.shards))
        .filter(|(then, now)| then.node == now.node)
        .collect();
    assert!(!stayed.is_empty());
    for (then, now) in stayed {
        assert_eq!((then.index, then.seq), (now.index, now.seq));
        let tables = now.files.iter().filter(|file| file.name.ends_with(".sst"));
        assert!(tables.clone().count() > 0);
        assert!(tables.clone().all(|table| before.contains(&table.content())));
    }
    for node in 1..=3 {
        let copies = world.folder(node).join("copies");
        let left = std::fs::read_dir(&copies).map_or(0, |entries| entries.count());
        assert_eq!(left, 0, "copies of node {node}");
    }
    let repository = Repository::create(disk.shared(), Path::new(DIR)).unwrap();
    assert_eq!(repository.names().unwrap(), ["first", "fourth", "second", "third"]);
    repository.remove(&["first".into(), "second".into()]).unwrap();
    for name in ["third", "fourth"] {
        let found = verify(&repository, &repository.read(name).unwrap()).unwrap();
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        assert!(found.files > 0 && found.keys > 0);
    }
    let needed = contents(&third.document).union(&contents(&fourth.document)).count();
    assert_eq!(disk.list(&Path::new(DIR).join("files")).unwrap().len(), needed);
}

/// A small cluster with rows in it, and a backup of it.
async fn small() -> (World, Source, SimDisk, Document) {
    let world = World::cluster(1, 1, 2, 1).await;
    let gateway = world.gateway();
    for n in 0..40 {
        write(&*gateway, vec![put(&format!("key-{n}"), &format!("value-{n}"), Expiry::Never)])
            .await;
    }
    let source = source(&world).await;
    let disk = SimDisk::new();
    let document = back_up(&source, &disk, "first", 1).await.document;
    (world, source, disk, document)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_anywhere_in_a_backup_is_found_with_its_file() {
    let (_world, _, disk, document) = small().await;
    let repository = || Repository::open(disk.shared(), Path::new(DIR));
    assert!(verify(&repository().unwrap(), &document).unwrap().damage.is_empty());
    assert_eq!(repository().unwrap().last().unwrap().unwrap(), document);
    for (folder, read) in [("", false), ("backups", true)] {
        let folder = Path::new(DIR).join(folder);
        for entry in disk.list(&folder).unwrap().into_iter().filter(|e| !e.is_dir) {
            if entry.name == "LOCK" {
                continue;
            }
            let path = folder.join(&entry.name);
            for at in [0, entry.len / 2, entry.len - 1] {
                disk.damage(&path, at, 0x20).unwrap();
                let error = match read {
                    true => repository().unwrap().read("first").unwrap_err(),
                    false => repository().unwrap_err(),
                };
                let is_named = error.damage().is_some_and(|damage| damage.file == path);
                assert!(is_named || error.kind() == ErrorKind::Unsupported, "{error}");
                disk.damage(&path, at, 0x20).unwrap();
            }
        }
    }
    let files = Path::new(DIR).join("files");
    let kinds: BTreeSet<&str> = document.files().map(|f| &f.name[..4]).collect();
    assert!(
        kinds.contains("CURR") && kinds.contains("MANI") && kinds.contains("0000"),
        "{kinds:?}"
    );
    for entry in disk.list(&files).unwrap() {
        let path: PathBuf = files.join(&entry.name);
        for at in [0, entry.len / 3, entry.len / 2, entry.len - 1] {
            disk.damage(&path, at, 0x04).unwrap();
            let found = verify(&repository().unwrap(), &document).unwrap();
            let places: Vec<_> = found.damage.iter().filter_map(|error| error.damage()).collect();
            assert!(places.iter().any(|d| d.file == path && d.offset <= at), "{at} {places:?}");
            disk.damage(&path, at, 0x04).unwrap();
        }
        let other = disk.crash(Crash::Process);
        let shorter = other.open_write(&path).unwrap();
        shorter.set_len(entry.len - 1).unwrap();
        let cut = Repository::open(other.shared(), Path::new(DIR)).unwrap();
        assert_eq!(is_whole(&cut, &document).unwrap_err().damage().unwrap().file, path);
        other.remove(&path).unwrap();
        let error = is_whole(&cut, &document).unwrap_err();
        assert_eq!((error.kind(), &error.damage().unwrap().file), (ErrorKind::Corruption, &path));
    }
    assert!(verify(&repository().unwrap(), &document).unwrap().damage.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_cut_off_anywhere_leaves_the_older_one_and_is_made_whole_by_the_next() {
    let (world, source, first, _) = small().await;
    write(&*world.gateway(), vec![put("later", "on", Expiry::Never)]).await;
    let (mut without, mut with) = (0, 0);
    let mut stop = 0;
    loop {
        let disk = first.crash(Crash::Process);
        disk.stop_at(Some(stop));
        let done = match Repository::create(disk.shared(), Path::new(DIR)) {
            Ok(repository) => take(&source, &repository, "second", 2, &|_| {}).await.map(drop),
            Err(error) => Err(error),
        };
        for crash in [Crash::Process, Crash::PowerLostClean, Crash::PowerLost(stop)] {
            let after = disk.crash(crash);
            let repository = Repository::open(after.shared(), Path::new(DIR)).unwrap();
            let names = repository.names().unwrap();
            assert_eq!(names[0], "first");
            for name in &names {
                let document = repository.read(name).unwrap();
                let found = verify(&repository, &document).unwrap();
                assert!(found.damage.is_empty(), "{stop} {crash:?} {name}: {:?}", found.damage);
            }
            match names.len() {
                1 => without += 1,
                _ => with += 1,
            }
            assert!(names.len() == 2 || done.is_err());
        }
        let after = disk.crash(Crash::PowerLost(stop));
        let taken = back_up(&source, &after, "third", 3).await;
        let repository = Repository::open(after.shared(), Path::new(DIR)).unwrap();
        assert!(verify(&repository, &taken.document).unwrap().damage.is_empty());
        if done.is_ok() {
            break;
        }
        stop += 1;
    }
    assert!(stop > 10 && without > 10 && with > 0, "{stop} {without} {with}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_of_another_shape_gets_the_same_rows() {
    let world = World::cluster(1, 3, 4, 3).await;
    let gateway = world.gateway();
    let client = world.client();
    let create = |name: &str, role| Action::CreateUser {
        name: name.into(),
        role,
        verifier: name.as_bytes().to_vec(),
    };
    client.propose(create("root", UserRole::Admin), soon()).await.unwrap();
    client.propose(create("guest", UserRole::User), soon()).await.unwrap();
    let lock = Action::ChangeUser {
        name: "guest".into(),
        role: None,
        verifier: None,
        disabled: Some(true),
    };
    client.propose(lock, soon()).await.unwrap();
    let index = Action::CreateIndex {
        name: "embeddings".into(),
        kind: "hnsw".into(),
        config: vec![1, 2, 3],
        nodes: vec![NodeId(1)],
    };
    client.propose(index, soon()).await.unwrap();
    let far = RealClock::new().unix_ms() + 30 * 24 * 3600 * 1000;
    for n in 0..300 {
        let expiry = if n % 3 == 0 { Expiry::AtMs(far) } else { Expiry::Never };
        write(&*gateway, vec![put(&format!("key-{n}"), &format!("value-{n}"), expiry)]).await;
    }
    write(&*gateway, vec![put("soon", "gone", Expiry::InMs(1))]).await;
    for operand in ["a", "b", "c"] {
        let (key, operand) = (Bytes::from_static(b"merged"), Bytes::from(operand));
        let merge = Write::Merge { cf: CfId::DEFAULT, key, operand, op: MergeOp::Append };
        write(&*gateway, vec![merge]).await;
    }
    let disk = SimDisk::new();
    let taken = back_up(&source(&world).await, &disk, "all", 1).await;
    drop(world);

    let other = World::cluster(1, 1, 7, 1).await;
    let gateway = other.gateway();
    let repository = Repository::open(disk.shared(), Path::new(DIR)).unwrap();
    let view = other.client().wait_for(soon(), |view| view.shards().count() == 7).await.unwrap();
    let filling = Filling {
        target: &*gateway,
        shards: view.shards().map(|shard| shard.slots).collect(),
        start_ms: RealClock::new().unix_ms() + 1,
        progress: &|_, _| {},
    };
    assert!(filling.is_empty().await.unwrap());
    let written = filling.fill(&repository, &taken.document).await.unwrap();
    assert_eq!((written.lasting, written.passing), (301, 0));
    assert!(!filling.is_empty().await.unwrap());
    let found = filling.tally().await.unwrap();
    compare(&written, &found).unwrap();
    for n in 0..300 {
        let expected = (format!("value-{n}"), (n % 3 == 0).then_some(far));
        assert_eq!(get(&*gateway, &format!("key-{n}")).await, Some(expected));
    }
    assert_eq!(get(&*gateway, "merged").await, Some(("abc".into(), None)));
    assert_eq!(get(&*gateway, "soon").await, None);
    // Written again it is the same.
    assert_eq!(filling.fill(&repository, &taken.document).await.unwrap(), written);
    assert_eq!(filling.tally().await.unwrap(), found);
    write(&*gateway, vec![put("key-1", "other", Expiry::Never)]).await;
    let error = compare(&written, &filling.tally().await.unwrap()).unwrap_err();
    assert!(error.message().contains("other contents"), "{error}");

    add_to_catalog(&other.client(), &view, &taken.document).await.unwrap();
    let there = |view: &arqondb::catalog::View| view.index("embeddings").is_some();
    let view = other.client().wait_for(soon(), there).await.unwrap();
    let user = view.user("guest").unwrap();
    assert!(user.disabled && user.role == UserRole::User && user.verifier == b"guest");
    assert_eq!(view.user("root").unwrap().role, UserRole::Admin);
    let index = view.index("embeddings").unwrap();
    assert_eq!((index.kind.as_str(), &index.config[..]), ("hnsw", &[1, 2, 3][..]));
    add_to_catalog(&other.client(), &view, &taken.document).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_let_go_of_or_lost_with_its_node_is_not_there_any_more() {
    let mut world = World::cluster(1, 1, 1, 1).await;
    let source = source(&world).await;
    let view = source.meta().view();
    let shard = view.shards().next().unwrap().clone();
    let copies = world.folder(1).join("copies");
    let folders = || std::fs::read_dir(&copies).map_or(0, |entries| entries.count());
    let held = source.begin(&shard).await.unwrap();
    assert_eq!(folders(), 1);
    let sum = source.sum(&held, 0).await.unwrap();
    assert_eq!(source.sum(&held, 0).await.unwrap(), sum);
    let (_, size) = held.files[0];
    assert_eq!(source.read(&held, 0, 0, size).await.unwrap().len() as u64, size);
    assert!(source.read(&held, 0, size, size + 1).await.is_err());
    assert!(source.sum(&held, 99).await.is_err());
    source.end(&held).await;
    assert_eq!(folders(), 0);
    assert_eq!(source.sum(&held, 0).await.unwrap_err().kind(), ErrorKind::NotFound);

    let held = source.begin(&shard).await.unwrap();
    world.stop_node(1).await;
    // As after a crash: a copy lies there that nobody holds.
    std::fs::create_dir_all(copies.join("0000000000000001")).unwrap();
    std::fs::write(copies.join("0000000000000001/000001.sst"), b"left").unwrap();
    world.start_node(1).await;
    assert_eq!(folders(), 0);
    assert_eq!(source.sum(&held, 0).await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut split = shard.clone();
    split.epoch.range += 1;
    assert_eq!(source.begin(&split).await.unwrap_err().kind(), ErrorKind::Conflict);
}
