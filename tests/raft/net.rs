//! A network of function calls: messages take a random time, are lost when a way is cut, and arrive
//! in order on each way. What is drawn at random follows from the seed; the order in which tasks
//! wake does not, since tokio draws that by itself.
// tidy: sleeps because time is simulated

use arqondb::base::Result;
use arqondb::env::Rng;
use arqondb::raft::{Class, Host, NodeId, Peers};
use arqondb::{Error, ErrorKind};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<State>>);

struct State {
    rng: Rng,
    hosts: BTreeMap<NodeId, Host>,
    /// Ways on which nothing arrives.
    cut: BTreeSet<(NodeId, NodeId)>,
    lanes: BTreeMap<(NodeId, NodeId, Class), Lane>,
    /// Messages that were sent.
    messages: u64,
    /// Bytes of messages of the snapshot class that have arrived.
    snapshot_bytes: u64,
    /// Messages of the snapshot class that arrive before the next is lost, and all behind it.
    snapshot_messages_left: Option<u64>,
}

struct Lane {
    last: Instant,
    send: mpsc::UnboundedSender<(Instant, Bytes)>,
}

/// One node's end of the network.
struct Port {
    net: Net,
    own: NodeId,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Net {
        Net(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            hosts: BTreeMap::new(),
            cut: BTreeSet::new(),
            lanes: BTreeMap::new(),
            messages: 0,
            snapshot_bytes: 0,
            snapshot_messages_left: None,
        })))
    }

    pub(crate) fn port(&self, own: NodeId) -> Arc<dyn Peers> {
        Arc::new(Port { net: self.clone(), own })
    }

    pub(crate) fn attach(&self, node: NodeId, host: Host) {
        self.state().hosts.insert(node, host);
    }

    /// A node is gone: what is on its way to it is lost.
    pub(crate) fn detach(&self, node: NodeId) {
        let mut state = self.state();
        state.hosts.remove(&node);
        state.lanes.retain(|(from, to, _), _| *from != node && *to != node);
    }

    /// Lets nothing through from `from` to `to`.
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        self.state().cut.insert((from, to));
    }

    pub(crate) fn cut_both(&self, a: NodeId, b: NodeId) {
        self.cut(a, b);
        self.cut(b, a);
    }

    pub(crate) fn heal(&self) {
        self.state().cut.clear();
    }

    /// How many messages were sent so far.
    pub(crate) fn messages(&self) -> u64 {
        self.state().messages
    }

    pub(crate) fn snapshot_bytes(&self) -> u64 {
        self.state().snapshot_bytes
    }

    /// Loses messages of the snapshot class after so many more; `None` loses none.
    pub(crate) fn lose_snapshots_after(&self, messages: Option<u64>) {
        self.state().snapshot_messages_left = messages;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn run_lane(
        self,
        way: (NodeId, NodeId, Class),
        mut messages: mpsc::UnboundedReceiver<(Instant, Bytes)>,
    ) {
        let (from, to, class) = way;
        while let Some((at, message)) = messages.recv().await {
            tokio::time::sleep_until(at).await;
            let host = {
                let mut state = self.state();
                let mut host = state.hosts.get(&to).cloned();
                if state.cut.contains(&(from, to)) {
                    host = None;
                }
                if class == Class::Snapshot && host.is_some() {
                    match &mut state.snapshot_messages_left {
                        Some(0) => host = None,
                        Some(left) => *left -= 1,
                        None => {}
                    }
                    if host.is_some() {
                        state.snapshot_bytes += message.len() as u64;
                    }
                }
                host
            };
            if let Some(host) = host {
                host.receive(from, class, message);
            }
        }
    }
}

impl Peers for Port {
    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<()> {
        let mut state = self.net.state();
        state.messages += 1;
        let now = Instant::now();
        let delay = Duration::from_micros(200 + state.rng.below(2_000));
        let way = (self.own, to, class);
        if !state.hosts.contains_key(&to) || !state.hosts.contains_key(&self.own) {
            return Err(Error::new(ErrorKind::Unavailable, format!("{to} is down")));
        }
        let lane = state.lanes.entry(way).or_insert_with(|| {
            let (send, receive) = mpsc::unbounded_channel();
            tokio::spawn(self.net.clone().run_lane(way, receive));
            Lane { last: now, send }
        });
        lane.last = lane.last.max(now + delay);
        _ = lane.send.send((lane.last, message));
        Ok(())
    }
}
