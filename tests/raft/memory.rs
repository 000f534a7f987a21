//! A group that replicates something in memory, as the catalog will be.
// tidy: sleeps because time is simulated

use crate::raft::cluster::{PATIENCE, runtime};
use crate::raft::net::Net;
use arqondb::ErrorKind;
use arqondb::base::{GroupId, Result};
use arqondb::env::SimDisk;
use arqondb::env::sim_disk::Crash;
use arqondb::log::{Log, LogOptions, SyncLevel};
use arqondb::raft::{
    Consistency, Group, GroupOptions, Host, HostOptions, Memory, MemoryMachine, NodeId, Recoveries,
    Work,
};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CATALOG: GroupId = GroupId(1);

/// Commands in the order in which they were applied.
#[derive(Default)]
struct Words(Vec<String>);

impl Memory for Words {
    fn apply(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let word = String::from_utf8_lossy(command).into_owned();
        if self.0.contains(&word) {
            return Ok(b"again".to_vec());
        }
        self.0.push(word);
        Ok(self.0.len().to_string().into_bytes())
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.join("\n").into_bytes()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(snapshot);
        self.0 = text.split('\n').filter(|w| !w.is_empty()).map(str::to_string).collect();
        Ok(())
    }
}

struct Node {
    host: Host,
    group: Group,
    machine: MemoryMachine<Words>,
}

async fn open(net: &Net, id: u64, disk: &SimDisk, create: bool) -> Node {
    let mut recovered = Recoveries::default();
    let options = LogOptions {
        sync: SyncLevel::Always,
        segment_bytes: 64 << 10,
        threads: false,
        seed: Some(id),
        ..LogOptions::default()
    };
    let mut take =
        |position, record: arqondb::log::RecordRef<'_>| recovered.take(position, &record);
    let log = Arc::new(Log::open(disk.shared(), Path::new("/log"), options, &mut take).unwrap());
    let options = HostOptions::new("/groups", Work::Inline, disk.changes());
    let host = Host::new(options, disk.shared(), log, net.port(NodeId(id)), recovered).unwrap();
    net.attach(NodeId(id), host.clone());
    let machine = MemoryMachine::new(disk.shared(), Words::default());
    let state = Box::new(machine.clone());
    let options =
        GroupOptions { log_bytes: 2 << 10, log_bytes_max: 4 << 10, ..GroupOptions::default() };
    let started = match create {
        true => host.create(CATALOG, id, options, state).await,
        false => host.start(CATALOG, id, options, state).await,
    };
    let group = started.unwrap();
    group.set_places((1..=4).map(|id| (id, NodeId(id))));
    Node { host, group, machine }
}

async fn leader(nodes: &[Node]) -> &Node {
    let found = async {
        loop {
            let leads = |node: &&Node| node.group.status().leader == Some(node.group.replica());
            if let Some(node) = nodes.iter().find(leads)
                && node.group.ready_to_read(Consistency::Linearizable, PATIENCE).await.is_ok()
            {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("a leader is found")
}

#[test]
fn commands_have_outcomes_and_the_state_outlives_everything() {
    runtime().block_on(async {
        let net = Net::new(1);
        let disks: Vec<SimDisk> = (0..3).map(|_| SimDisk::new()).collect();
        let mut nodes = Vec::new();
        for id in 1..=3 {
            nodes.push(open(&net, id, &disks[id as usize - 1], true).await);
        }
        nodes[0].group.initialize((1..=3).collect()).await.unwrap();
        let mut count = 0;
        for n in 0..300 {
            let word = Bytes::from(format!("word-{n}"));
            let leads = leader(&nodes).await;
            let outcome = leads.group.propose(word.clone(), PATIENCE).await.unwrap();
            count += 1;
            assert_eq!(&outcome[..], count.to_string().as_bytes());
            assert_eq!(&leads.group.propose(word, PATIENCE).await.unwrap()[..], b"again");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(nodes.iter().all(|node| node.group.status().purged.is_some()));

        let follower = nodes.iter().find(|n| n.group.status().leader != Some(n.group.replica()));
        let error = follower.unwrap().group.propose(Bytes::new(), PATIENCE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

        // A node that was lost is replaced, by snapshot.
        let fourth = SimDisk::new();
        let new = open(&net, 4, &fourth, true).await;
        leader(&nodes).await.group.add_learner(4, NodeId(4)).await.unwrap();
        new.group.wait_until(|status| status.leader.is_some(), PATIENCE).await.unwrap();
        new.group.ready_to_read(Consistency::Linearizable, PATIENCE).await.unwrap();
        assert_eq!(new.machine.read(|words| words.0.len()), 300);
        assert!(net.snapshot_bytes() > 0);
        nodes.push(new);

        // All lose power.
        let disks: Vec<SimDisk> =
            disks.iter().chain([&fourth]).map(|d| d.crash(Crash::PowerLostClean)).collect();
        for node in nodes.drain(..) {
            net.detach(NodeId(node.group.replica()));
            node.host.stop_all().await;
        }
        for id in 1..=4 {
            nodes.push(open(&net, id, &disks[id as usize - 1], false).await);
        }
        let words = |node: &Node| node.machine.read(|words| words.0.clone());
        leader(&nodes).await;
        for node in &nodes {
            node.group.wait_until(|status| status.leader.is_some(), PATIENCE).await.unwrap();
            node.group.ready_to_read(Consistency::Linearizable, PATIENCE).await.unwrap();
            assert_eq!(words(node).len(), 300);
            assert_eq!(words(node), words(&nodes[0]));
        }
        for node in nodes {
            node.host.stop_all().await;
        }
    });
}

#[test]
fn an_outcome_that_is_not_heard_of_is_unknown_and_never_a_failure() {
    runtime().block_on(async {
        let net = Net::new(2);
        let mut nodes = Vec::new();
        for id in 1..=3 {
            nodes.push(open(&net, id, &SimDisk::new(), true).await);
        }
        nodes[0].group.initialize((1..=3).collect()).await.unwrap();
        let leads = leader(&nodes).await;
        let own = leads.group.replica();
        for other in (1..=3).filter(|id| *id != own) {
            net.cut_both(NodeId(own), NodeId(other));
        }
        // Its lease is still good: it takes the command, and hears nothing more of it.
        let taken = leads.group.propose(Bytes::from_static(b"maybe"), Duration::from_secs(2)).await;
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::Unknown);
        // By now it knows that nobody follows: nothing is proposed.
        let refused = leads.group.propose(Bytes::from_static(b"no"), Duration::from_secs(2)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
        net.heal();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let leads = leader(&nodes).await;
        let words = leads.machine.read(|words| words.0.clone());
        assert!(!words.contains(&"no".to_string()), "{words:?}");
        for node in nodes {
            node.host.stop_all().await;
        }
    });
}
