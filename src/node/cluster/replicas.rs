//! What runs here, brought in line with the catalog.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::records::{Replica, ReplicaState, Role, Shard as Record};
use crate::catalog::{Action, NodeId, ReplicaId, ShardChange, ShardId, View};
use crate::lsm::{Engine, EngineOptions};
use crate::node::cluster::member::Inner;
use crate::node::cluster::stale::Fresh;
use crate::node::gate::Gate;
use crate::raft::{Group, ShardHandle};
use crate::shard::{Shard, ShardOptions, Ticket, VectorLimits};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two beginnings of a replica that goes on stopping, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long the metadata plane may take to take note of a replica that is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// A replica that runs here.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) group: Group,
    pub(super) handle: ShardHandle,
    pub(super) gate: Arc<Gate>,
    sessions: watch::Receiver<u64>,
    /// The shard as the catalog had it when that was last looked at.
    pub(super) record: Record,
    /// What its log was last told of column families.
    pub(super) families: Ticket,
    /// How far behind it is at most.
    pub(super) fresh: Arc<Fresh>,
}

impl Running {
    /// The session in which this replica may place batches; 0 while another leads.
    pub(super) fn session(&self) -> u64 {
        *self.sessions.borrow()
    }

    /// The session that opens within `patience`, 0 if none does: one that has just been elected first
    /// applies what was committed before it.
    pub(super) async fn opening(&self, patience: Duration) -> u64 {
        let mut sessions = self.sessions.clone();
        let opened = tokio::time::timeout(patience, sessions.wait_for(|session| *session != 0));
        opened.await.map_or(0, |session| session.map_or(0, |session| *session))
    }

    /// The version of its slots that this replica has come to.
    pub(super) fn epoch(&self) -> u64 {
        self.handle.get().map_or(1, |shard| shard.epoch())
    }

    /// The node of the replica that leads, if known.
    pub(super) fn leader(&self) -> Option<u64> {
        let leader = self.group.status().leader?;
        self.record.replicas.iter().find(|r| r.id.0 == leader).map(|r| r.node.0)
    }
}

/// By shard, why this node does not run the replica that it should.
pub type Troubles = BTreeMap<ShardId, String>;

/// The replicas that run here.
#[derive(Default)]
pub(super) struct Replicas {
    running: Mutex<BTreeMap<ShardId, Running>>,
    troubles: watch::Sender<Troubles>,
    again: Mutex<BTreeMap<ShardId, Again>>,
}

/// When a replica that has stopped is begun again.
struct Again {
    at: Instant,
    pause: Duration,
}

impl Replicas {
    fn map(&self) -> MutexGuard<'_, BTreeMap<ShardId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why replicas that should do not run, as that changes.
    pub(super) fn troubles(&self) -> watch::Receiver<Troubles> {
        self.troubles.subscribe()
    }

    /// Takes note of why a replica does not run, or that it does.
    fn note(&self, shard: ShardId, trouble: Option<String>) {
        self.troubles.send_if_modified(|troubles| match trouble {
            // What was found out beside it stays so as long as it is the same.
            Some(new) if troubles.get(&shard).is_some_and(|old| old.starts_with(&new)) => false,
            Some(new) => {
                troubles.insert(shard, new);
                true
            }
            None => troubles.remove(&shard).is_some(),
        });
    }

    /// Says more of a trouble, once.
    fn explain(&self, shard: ShardId, more: &str) {
        self.troubles.send_if_modified(|troubles| match troubles.get_mut(&shard) {
            Some(trouble) if !trouble.ends_with(more) => {
                trouble.push_str("; ");
                trouble.push_str(more);
                true
            }
            _ => false,
        });
    }

    fn again(&self) -> MutexGuard<'_, BTreeMap<ShardId, Again>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a replica that has stopped by itself is to be begun again now, or one that is lost to
    /// be asked to leave: at once, and later and later if it goes on.
    fn may_begin_again(&self, shard: ShardId) -> bool {
        let mut again = self.again();
        let now = Instant::now();
        let next = match again.get(&shard) {
            Some(last) if now < last.at => return false,
            // It has run well for longer than it ever was waited for.
            Some(last) if now < last.at + 2 * PAUSE_MAX => (2 * last.pause).min(PAUSE_MAX),
            _ => PAUSE_MIN,
        };
        again.insert(shard, Again { at: now + next, pause: next });
        true
    }

    /// Takes note that a replica that is lost leaves. How long the last one was waited for stays: what
    /// is wrong with the shard, or here, may be so with the next.
    fn leaves(&self, shard: ShardId) {
        self.explain(shard, "it leaves the shard, which is given another");
    }

    /// The replica of a shard.
    pub(super) fn get(&self, shard: ShardId) -> Option<Running> {
        self.map().get(&shard).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Running> {
        self.map().values().cloned().collect()
    }

    /// Takes note of what a shard's log was told of column families.
    pub(super) fn note_families(&self, shard: ShardId, told: Ticket) {
        if let Some(running) = self.map().get_mut(&shard) {
            running.families = told;
        }
    }

    pub(super) fn clear(&self) {
        self.map().clear();
    }
}

impl Inner {
    /// Starts, stops and removes replicas as the catalog says. False if something could not be
    /// done: it is tried again.
    pub(super) async fn reconcile(self: &Arc<Self>, view: &View) -> bool {
        // Another cluster's catalog says nothing of what is here.
        if view.cluster().is_none_or(|cluster| cluster.id != self.identity.cluster) {
            return view.revision() == 0;
        }
        for node in view.nodes() {
            self.links.set(node.id.0, &node.profile.raft_addr);
        }
        let own = self.identity.node;
        let mut all_well = true;
        let mut broken = Vec::new();
        for record in view.shards() {
            let Some(replica) = record.replicas.iter().find(|r| r.node.0 == own) else { continue };
            let running = self.replicas.get(record.id);
            let trouble = match running {
                // It was removed, and another came here, between two looks. Ids only rise: one below
                // is of a copy of the catalog that lags behind.
                Some(running) if running.group.replica() < replica.id.0 => {
                    self.replicas.map().remove(&record.id);
                    self.begin(record, replica.id.0).await.err()
                }
                Some(running) => {
                    running.group.set_places(places(record));
                    if let Some(kept) = self.replicas.map().get_mut(&record.id) {
                        kept.record = record.clone();
                    }
                    match running.group.status().stopped {
                        Some(_) if self.replicas.may_begin_again(record.id) => {
                            self.replicas.map().remove(&record.id);
                            self.begin(record, replica.id.0).await.err()
                        }
                        stopped => {
                            self.replicas.note(record.id, stopped);
                            continue;
                        }
                    }
                }
                None if self.awaits_split(record) => {
                    all_well = false;
                    continue;
                }
                None => self.begin(record, replica.id.0).await.err(),
            };
            all_well &= trouble.is_none();
            if trouble.as_ref().is_some_and(|error| self.is_lost(record.id, replica, error)) {
                broken.push((record, replica.id));
            }
            self.replicas.note(record.id, trouble.map(|error| error.to_string()));
        }
        for (record, replica) in broken {
            if !self.let_go(view, record, replica).await {
                break;
            }
        }
        // Of a shard that is known, and known to be elsewhere: what is not known is kept.
        let is_elsewhere = |shard: &ShardId| {
            view.shard(*shard).is_some_and(|record| record.replica_on(NodeId(own)).is_none())
        };
        // Those that do not run are among them: they were removed while this node was away.
        let here = self.host.replicas().into_iter().map(|(group, _)| group);
        // And so are folders whose log is gone: they would be in the way of another replica for ever.
        let here = here.chain(self.host.orphans()).map(|group| ShardId(group.0));
        for gone in here.filter(is_elsewhere) {
            self.replicas.map().remove(&gone);
            self.replicas.note(gone, None);
            all_well &= self.host.remove(gone.group()).await.is_ok();
        }
        all_well
    }

    /// Whether a replica that could not be begun is damaged, or has lost its log, and will not be begun
    /// later either. The node's own log, if it has failed, says nothing of replicas.
    fn is_lost(&self, shard: ShardId, replica: &Replica, error: &Error) -> bool {
        let is_orphan =
            error.kind() == ErrorKind::Refused && self.host.orphans().contains(&shard.group());
        (error.kind() == ErrorKind::Corruption || is_orphan)
            && replica.state != ReplicaState::Leaving
            && self.host.log_failed().is_none()
    }

    /// Asks for a replica that is lost to leave its shard, which is given another then, here or
    /// elsewhere: as long as it stays, it keeps the node's log from being cut. False if nobody was
    /// there to be asked.
    async fn let_go(&self, view: &View, record: &Record, replica: ReplicaId) -> bool {
        let shard = record.id;
        if !do_without(view, record, replica) {
            let why = "the shard's other replicas that are heard of are no majority, so none can be \
                       made in its place";
            self.replicas.explain(shard, why);
            return true;
        }
        if !self.replicas.may_begin_again(shard) {
            return true;
        }
        let change = ShardChange::Leave(replica);
        let action = Action::ChangeShard { shard, expected: record.epoch, change };
        match self.meta.propose(action, Instant::now() + PATIENCE).await {
            Ok(_) => {
                self.replicas.leaves(shard);
                true
            }
            Err(error) => !matches!(
                error.kind(),
                ErrorKind::Unavailable | ErrorKind::Unknown | ErrorKind::Deadline
            ),
        }
    }

    /// What indexes of vectors may take of one shard, as many as there are now: a split makes the
    /// shares of all smaller.
    pub(super) fn vector_limits(&self) -> VectorLimits {
        let shards = self.meta.view().shards().count().max(1) as u64;
        VectorLimits {
            bytes_max: self.options.memory_budget_bytes / 2 / shards,
            threads: self.options.background_threads.max(1),
            segment_rows: self.options.vector_segment_rows.max(1),
        }
    }

    async fn begin(self: &Arc<Self>, record: &Record, replica: u64) -> Result<()> {
        let group = record.id.group();
        let known = self.host.replicas().into_iter().find(|(id, _)| *id == group);
        match known {
            // One that was removed while this node was away. Ids only rise.
            Some((_, known)) if known < replica => self.host.remove(group).await?,
            Some((_, known)) if known > replica => {
                let message = format!("replica {known} is here, and the catalog here lags behind");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            // One that has stopped, or that was begun and not to the end.
            _ => self.host.stop(group).await,
        }
        let is_new = known.is_none_or(|(_, known)| known != replica);
        let node = Arc::downgrade(self);
        let shards = self.meta.view().shards().count().max(1) as u64;
        let open = move |dir: &std::path::Path, log| {
            let gone = || Error::new(ErrorKind::Unavailable, "the node is stopping");
            let node = node.upgrade().ok_or_else(gone)?;
            let part = node.options.memory_budget_bytes / 16;
            let mut options =
                EngineOptions::new(dir).with_memtable_budget((7 * part / shards).max(4 << 20));
            options.table.codec = node.options.compression;
            if let Some(bytes) = node.options.write_buffer_bytes {
                options.write_buffer_bytes = bytes;
            }
            let engine = Engine::open(
                node.options.disk.clone(),
                node.background.clone(),
                node.cache.clone(),
                options,
            )?;
            let seeds = &node.options.seeds;
            let (seed, last_cursor) = (seeds.next_seed(), seeds.next_seed());
            let clock = node.options.clock.clone();
            let options = ShardOptions { count_keys: true, seed, last_cursor, clock };
            let shard = Shard::new(engine, Box::new(log), options);
            shard.limit_vectors(node.vector_limits());
            shard.start_soon()?;
            Ok(shard)
        };
        let options = self.options.group.clone();
        let (running, handle) =
            self.host.start_shard(group, replica, options, is_new, open).await?;
        running.set_places(places(record));
        // The first of a new shard's begins its group, again if it was stopped before it had;
        // whoever comes later is told by its leader.
        let is_ours = |first: &Replica| first.id.0 == replica && first.role == Role::Voter;
        let first = record.replicas.first().is_some_and(is_ours);
        if first && record.leader.is_none() && record.epoch.range == 1 {
            let voters = record.replicas.iter().filter(|r| r.role == Role::Voter).map(|r| r.id.0);
            running.initialize(voters.collect()).await?;
        }
        self.lead_child(record, replica, &running);
        let sessions = running.sessions().unwrap_or_else(|| watch::channel(0).1);
        let running = Running {
            group: running,
            handle,
            gate: Arc::default(),
            sessions,
            record: record.clone(),
            families: Ticket::default(),
            fresh: Arc::default(),
        };
        self.replicas.map().insert(record.id, running);
        Ok(())
    }
}

/// Whether the voters beside a replica that are relied on, and whose nodes are heard of, are a majority
/// of all that its group may still count: else no change of the group can be agreed on, and those that
/// stay could agree on nothing at all.
fn do_without(view: &View, record: &Record, replica: ReplicaId) -> bool {
    let is_heard = |r: &Replica| view.node(r.node).is_some_and(|node| node.state.is_heard_of());
    let voters = record.replicas.iter().filter(|r| r.role == Role::Voter);
    let is_able = |r: &&Replica| r.id != replica && r.is_live_voter() && is_heard(r);
    2 * voters.clone().filter(is_able).count() > voters.count()
}

fn places(record: &Record) -> impl Iterator<Item = (u64, NodeId)> {
    record.replicas.iter().map(|replica| (replica.id.0, NodeId(replica.node.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::records::{NodeProfile, NodeState};
    use crate::catalog::{Catalog, Command};

    /// A catalog of one shard that has a replica on each of three nodes.
    fn three() -> Catalog {
        let mut catalog = Catalog::new();
        tell(&mut catalog, Action::InitCluster { id: [7; 16], name: "test".into(), version: 1 });
        for n in 1..=3 {
            let profile = NodeProfile {
                data_url: "http://10.0.0.1:7379".into(),
                raft_addr: "10.0.0.1:7380".into(),
                labels: BTreeMap::new(),
                disk_bytes: 0,
                cores: 0,
                software: "0.1.0".into(),
                speaks: 1,
            };
            let (wanted, incarnation) = (Some(NodeId(n)), 100 + n);
            tell(&mut catalog, Action::RegisterNode { wanted, incarnation, profile });
            tell(&mut catalog, Action::Heartbeat { node: NodeId(n), incarnation });
        }
        let nodes = Vec::new();
        tell(&mut catalog, Action::CreateShards { count: 1, replicas: 3, nodes });
        catalog
    }

    fn tell(catalog: &mut Catalog, action: Action) {
        catalog.apply(&Command { now_ms: 1_700_000_000_000, id: None, action }).unwrap();
    }

    #[test]
    fn a_damaged_replica_stays_while_another_voter_is_not_heard_of() {
        let mut catalog = three();
        let can = |catalog: &Catalog| {
            let record = catalog.view().shard(ShardId(1)).unwrap();
            do_without(catalog.view(), record, record.replicas[1].id)
        };
        assert!(can(&catalog));
        let silent = catalog.view().shard(ShardId(1)).unwrap().replicas[2].node;
        let (node, expected, to) = (silent, NodeState::Active, NodeState::Suspect);
        tell(&mut catalog, Action::SetNodeState { node, expected, to });
        let record = catalog.view().shard(ShardId(1)).unwrap();
        assert!(record.replicas[2].is_live_voter(), "nobody has given it up yet");
        assert!(!can(&catalog));
        tell(&mut catalog, Action::Heartbeat { node: silent, incarnation: 100 + silent.0 });
        assert!(can(&catalog));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_damaged_each_time_leaves_later_and_later() {
        let (replicas, shard) = (Replicas::default(), ShardId(1));
        let mut left = Vec::new();
        for second in 0..70 {
            replicas.note(shard, Some(format!("replica {} is damaged", left.len())));
            if replicas.may_begin_again(shard) {
                replicas.leaves(shard);
                assert!(replicas.troubles().borrow()[&shard].contains("it leaves"));
                // The next one comes, and is damaged too.
                replicas.note(shard, None);
                left.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(left, [0, 1, 3, 7, 15, 31, 63]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_goes_on_stopping_is_begun_later_and_later() {
        let (replicas, began) = (Replicas::default(), Instant::now());
        let mut begun = Vec::new();
        for second in 0..200 {
            if replicas.may_begin_again(ShardId(1)) {
                begun.push(second);
            }
            assert_eq!(replicas.may_begin_again(ShardId(2)), second == 0 || second == 199);
            if second == 0 {
                replicas.again.lock().unwrap().get_mut(&ShardId(2)).unwrap().at =
                    began + Duration::from_secs(199);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(begun, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        tokio::time::advance(3 * PAUSE_MAX).await;
        assert!(replicas.may_begin_again(ShardId(1)) && !replicas.may_begin_again(ShardId(1)));
        tokio::time::advance(PAUSE_MIN).await;
        assert!(replicas.may_begin_again(ShardId(1)), "it had run well for long");
    }
}
