//! A disk that is full.

use crate::clients::Clients;
use crate::cluster::{Cluster, Layout, connect, soon};
use crate::disk::SmallDisk;
use crate::scenarios::judge;
use arqondb::base::{CfId, ErrorKind};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of the small disk, in MiB: the log's segments of 16 MiB and what else a node begins with.
const DISK_MIB: u64 = 112;
/// Values that fill what a log has put aside.
const VALUE_BYTES: usize = 256 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_room_loses_nothing_and_goes_on_when_there_is_some_again() {
    let disk = match SmallDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no disk can be mounted here: {why}"),
    };
    let folders = [(1, disk.path().join("node-1"))].into();
    let mut cluster = Cluster::start(Layout { folders, ..Layout::default() }).await;
    let clients = Clients::begin(&cluster.doors);
    clients.go_on(300).await;
    disk.fill(0);
    // The log has put room aside: it is used up first.
    let door = connect(&cluster.doors[0]);
    let (mut written, mut refused) = (0, Vec::new());
    for n in 0..200 {
        let value = vec![n as u8; VALUE_BYTES];
        match door.put(CfId::DEFAULT, format!("large:{}", n % 40), value).await {
            Ok(_) => written += 1,
            Err(error) => refused.push(error),
        }
    }
    println!("{written} large values written, {} refused, by a full disk", refused.len());
    let fair = [ErrorKind::OutOfSpace, ErrorKind::Unknown, ErrorKind::Busy, ErrorKind::Unavailable];
    let unfair: Vec<_> = refused.iter().filter(|e| !fair.contains(&e.kind())).collect();
    assert!(unfair.is_empty(), "{unfair:?}");
    assert!(written > 150, "the other two go on: {refused:?}");
    clients.go_on(300).await;
    assert!(cluster.nodes.get_mut(&1).unwrap().is_alive(), "{}", cluster.nodes[&1].said());

    disk.empty();
    // Without a restart: there is no majority without it any more.
    let until = soon();
    let mut caught_up = false;
    while !caught_up {
        assert!(Instant::now() < until, "{}", cluster.nodes[&1].said());
        clients.work(Duration::from_secs(2)).await;
        cluster.nodes[&2].freeze();
        let begun = Instant::now();
        while !caught_up && begun.elapsed() < Duration::from_secs(8) {
            let all = (0..8).map(|n| door.put(CfId::DEFAULT, format!("after:{n}"), "x"));
            caught_up = futures::future::join_all(all).await.iter().all(Result::is_ok);
        }
        cluster.nodes[&2].thaw();
    }
    clients.go_on(300).await;
    judge("a full disk", clients).await;
}
