//! Parts that are down for long, and leads that change: what goes on, and what stays bounded.

use crate::world::{Ways, World, soon};
use crate::writer::{Writers, get, put};
use arqondb::ErrorKind;
use arqondb::catalog::records::Shard;
use arqondb::catalog::{Action, NodeId, View};
use arqondb::gateway::{Node, RemoteShards};
use arqondb::op::KvOps;
use arqondb::raft::GroupOptions;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_writes_go_on_without_the_metadata_plane() {
    let mut world = World::cluster(3, 3, 4, 3).await;
    let door = world.gateway();
    let writers = Writers::start(&door, 2, 64);
    writers.more(50).await;
    for meta in world.metas() {
        world.stop_meta(meta).await;
    }
    writers.more(200).await;
    // Leaders change meanwhile: who asks the old one is told by the nodes themselves.
    world.stop_node(1).await;
    writers.more(200).await;
    let (longest, count) = writers.end(&door).await;
    eprintln!("{count} writes, most without metadata: the longest took {longest:?}");
    for meta in 1..=3 {
        world.start_meta(meta).await;
    }
    world.start_node(1).await;
    let client = world.client();
    let led = |view: &View| view.shards().count() == 4 && view.shards().all(|s| s.leader.is_some());
    client.wait_for(soon(), led).await.unwrap();
    let writers = Writers::start(&world.gateway(), 2, 64);
    writers.more(50).await;
    writers.end(&world.gateway()).await;
}

fn bytes_below(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().map_or(0, |m| m.len()))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_bounded_while_a_follower_is_down_and_it_returns_by_a_snapshot() {
    const BOUND: u64 = 4 << 20;
    /// Segments are let go of whole: the one that is written, and the one that holds the bound.
    const SEGMENTS: u64 = 4 * (16 << 20);
    let group =
        GroupOptions { log_bytes: BOUND / 2, log_bytes_max: BOUND, ..GroupOptions::default() };
    let mut world = World::cluster_with(1, 3, 1, 3, Ways { group, ..Ways::default() }).await;
    let door = world.gateway();
    world.stop_node(3).await;
    let writers = Writers::start(&door, 8, 32 << 10);
    let mut most = 0;
    // About four times what may stay.
    for _ in 0..40 {
        writers.more(320).await;
        // What is written until the next cut comes on top: the log comes back to its bound.
        for node in [1, 2] {
            let (log, until) = (world.folder(node).join("log"), soon());
            loop {
                let bytes = bytes_below(&log);
                most = most.max(bytes);
                if bytes <= BOUND + SEGMENTS {
                    break;
                }
                assert!(Instant::now() < until, "{bytes} bytes of log");
                tokio::task::yield_now().await;
            }
        }
    }
    let (_, count) = writers.end(&door).await;
    let written = count * (32 << 10);
    eprintln!("{} MiB written, the log had {} MiB at most", written >> 20, most >> 20);
    assert!(written > 3 * (BOUND + SEGMENTS), "the test writes enough to tell");
    world.start_node(3).await;
    let writers = Writers::start(&door, 2, 64);
    writers.more(50).await;
    // With one of the others down nothing is committed until it has come up to date.
    world.stop_node(1).await;
    writers.more(50).await;
    writers.end(&door).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_is_handed_over_is_hardly_noticed() {
    let world = World::cluster(1, 3, 1, 3).await;
    let (client, door) = (world.client(), world.gateway());
    let shards = RemoteShards::new(client.clone());
    let led = |view: &View| view.shards().any(|shard| shard.leader.is_some());
    client.wait_for(soon(), led).await.unwrap();
    let mut gaps = Vec::new();
    for round in 0..12u64 {
        let shard = client.view().shards().next().unwrap().clone();
        let leader = shard.leader_node().unwrap();
        let to = *shard.replicas.iter().find(|r| r.node.0 == 1 + round % 3).unwrap();
        if to.node == leader {
            continue;
        }
        let address = client.view().node(leader).unwrap().profile.raft_addr.as_str().into();
        let from = Node { id: leader, address, redis: None };
        let patience = Duration::from_secs(10);
        let failed = AtomicBool::new(false);
        let transfer = async {
            let outcome = shards.transfer(&from, shard.id.0, to.id.0, patience).await;
            failed.store(outcome.is_err(), Ordering::Relaxed);
            outcome
        };
        let write = async {
            // Some before, and on until the catalog knows of the other.
            let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
            for n in 0.. {
                door.call(put("key", format!("{round}-{n}"))).await.unwrap();
                gap = gap.max(last.elapsed());
                last = Instant::now();
                let knows = |s: &Shard| s.leader_node() == Some(NodeId(to.node.0));
                let is_over = client.view().shards().all(knows) || failed.load(Ordering::Relaxed);
                if n > 20 && is_over {
                    break;
                }
            }
            gap
        };
        let (transferred, gap) = tokio::join!(transfer, write);
        transferred.unwrap();
        gaps.push(gap);
    }
    gaps.sort();
    eprintln!("gaps of writes at transfers: {gaps:?}");
    assert!(gaps.len() >= 6);
    assert!(get(&*door, "key").await.is_some());
    // The bar is 50 ms on a machine that does nothing else; an election would take half a second.
    assert!(gaps[gaps.len() / 2] < Duration::from_millis(250), "{gaps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metadata_node_that_lost_its_folder_is_taken_in_again_and_nothing_is_lost() {
    let mut world = World::cluster(3, 1, 1, 1).await;
    let client = world.client();
    let mut revision = client.view().revision();
    // Whoever leads among them.
    for round in 0..3 {
        let leads = world.wait_for_leading_meta().await;
        let lost = if round % 2 == 0 { leads % 3 + 1 } else { leads };
        world.stop_meta(lost).await;
        std::fs::remove_dir_all(world.meta_folder(lost)).unwrap();
        let name = format!("while-{round}");
        client.propose(Action::CreateFamily { name }, soon()).await.unwrap();
        world.start_meta(lost).await;
        for n in 0..20 {
            let name = format!("f-{round}-{n}");
            client.propose(Action::CreateFamily { name }, soon()).await.unwrap();
        }
        client
            .wait_for(soon(), |view| view.families().count() == 1 + 21 * (round + 1))
            .await
            .unwrap();
        assert!(client.view().revision() > revision);
        revision = client.view().revision();
        for meta in world.metas() {
            world.meta_reaches(meta, revision).await;
        }
        // It has a vote again: with another down, nothing could be changed without it.
        world.wait_for_meta_voters(lost).await;
        let other = lost % 3 + 1;
        world.stop_meta(other).await;
        let name = format!("without-{other}");
        let (create, drop) = (name.clone(), name);
        client.propose(Action::CreateFamily { name: create }, soon()).await.unwrap();
        client.propose(Action::DropFamily { name: drop }, soon()).await.unwrap();
        world.start_meta(other).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_metadata_node_of_a_number_that_runs_is_refused() {
    let world = World::start(3, Ways::default()).await;
    world.wait_for_leading_meta().await;
    let refused = world.open_double_meta(2).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.message().contains("runs, in the folder that it had"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metadata_node_without_its_log_is_no_voter_for_who_never_spoke_with_it() {
    let mut world = World::cluster(3, 1, 1, 1).await;
    let client = world.client();
    let leads = world.wait_for_leading_meta().await;
    let (lost, other) = (leads % 3 + 1, (leads + 1) % 3 + 1);
    let propose = |name: &str| Action::CreateFamily { name: name.into() };
    client.propose(propose("before"), soon()).await.unwrap();
    // What the two others have is not on the one that is away.
    world.stop_meta(other).await;
    client.propose(propose("while"), soon()).await.unwrap();
    world.stop_meta(leads).await;
    world.stop_meta(lost).await;
    for part in ["log", "groups"] {
        std::fs::remove_dir_all(world.meta_folder(lost).join(part)).unwrap();
    }
    world.start_meta(other).await;
    // These two are a majority by number, and lead nothing: one of them has lost its word.
    let refused = world.try_start_meta(lost).await;
    assert_eq!(refused.err().map(|e| e.kind()), Some(ErrorKind::Refused));
    world.start_meta(leads).await;
    world.start_meta(lost).await;
    client.propose(propose("after"), soon()).await.unwrap();
    let names = ["before", "while", "after"];
    let all = |view: &View| names.iter().all(|n| view.families().any(|f| f.name.as_str() == *n));
    client.wait_for(soon(), all).await.unwrap();
    world.wait_for_meta_voters(lost).await;
}
