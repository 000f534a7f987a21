//! A group that runs on this node, as the floors above hold it.

use crate::base::{Error, ErrorKind, GroupId, Result};
use crate::raft::barrier::{self, Barrier};
use crate::raft::failure::{change_error, not_leader, not_leading, stopped, unknown, waited};
use crate::raft::hibernate::Hibernation;
use crate::raft::host::Shared;
use crate::raft::inbound::Streams;
use crate::raft::link::{Network, Places};
use crate::raft::log_store::LogStore;
use crate::raft::machine::Machine;
use crate::raft::message::{Body, Empty};
use crate::raft::options::GroupOptions;
use crate::raft::proposer::{Proposer, term_of};
use crate::raft::receive::{Part, Receiver};
use crate::raft::replica::Replica;
use crate::raft::retention;
use crate::raft::shard_machine::ShardHandle;
use crate::raft::split::Split;
use crate::raft::state::StateMachine;
use crate::raft::transport::{Class, NodeId};
use crate::raft::vocabulary::{LogId, Proposal, TypeConfig, term};
use crate::raft::wire;
use bytes::Bytes;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::error::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::raft::Precondition;
use openraft::{EmptyNode, Raft, ReadPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Parts of snapshots that wait to be taken.
const PARTS_MAX: usize = 64;

/// What a group is started with.
pub(crate) struct Start {
    pub(crate) id: GroupId,
    pub(crate) own: u64,
    pub(crate) options: GroupOptions,
    pub(crate) store: LogStore,
    pub(crate) state: Box<dyn StateMachine>,
    pub(crate) dir: PathBuf,
}

/// A group that runs. Clones share it.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) id: GroupId,
    pub(crate) own: u64,
    pub(crate) raft: Raft<TypeConfig, Machine>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) places: Places,
    pub(crate) parts: mpsc::Sender<Part>,
    pub(crate) streams: Streams,
    network: Network,
    barrier: Barrier,
    replica: Arc<Replica>,
    pub(crate) hibernation: Arc<Hibernation>,
    pub(crate) hibernate_after: Duration,
    entry_batches: usize,
    pub(crate) lease: Duration,
    sessions: OnceLock<watch::Receiver<u64>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// It sees every write that was acknowledged before it began, anywhere: a majority is asked.
    #[default]
    Linearizable,
    /// The same as long as no clock runs faster than another by as much as a lease has to spare;
    /// the leader alone answers, and nobody is asked.
    Lease,
}

/// Where a group stands, as this replica knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    /// This replica.
    pub replica: u64,
    /// The replica that leads, if one is known.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// Index of the last entry in the log.
    pub last: Option<u64>,
    /// Index of the last entry applied.
    pub applied: Option<u64>,
    /// Index of the last entry that was cut off the log.
    pub purged: Option<u64>,
    /// Bytes of the entries in the log.
    pub log_bytes: u64,
    /// The voters: two sets while they are being changed.
    pub voters: Vec<BTreeSet<u64>>,
    /// Who is told everything and does not vote.
    pub learners: BTreeSet<u64>,
    /// The entry that said so: the condition of the next change.
    pub members_at: Option<LogId>,
    /// Whether the members are committed.
    pub members_are_committed: bool,
    /// On the leader, who has answered within the last two election timeouts.
    pub answering: BTreeSet<u64>,
    /// On the leader, how far each replica is.
    pub matched: BTreeMap<u64, Option<u64>>,
    /// Why the replica has stopped, if it has.
    pub stopped: Option<String>,
}

impl Group {
    pub(crate) async fn start(shared: Arc<Shared>, start: Start) -> Result<Group> {
        let Start { id, own, options, store, state, dir } = start;
        let (config, entry_batches) = (options.config()?, options.entry_batches);
        let (lease, hibernate_after) = (options.election_max, options.hibernate_after);
        let (disk, work) = (shared.disk.clone(), shared.options.work.clone());
        let opened = {
            let store = store.clone();
            let copies = shared.copies.clone();
            let open = move || Replica::open(state, store, disk, &dir, work, copies);
            shared.options.work.run(open).await
        };
        let replica = opened?;
        let places = Places::default();
        let network = Network {
            shared: shared.clone(),
            group: id,
            own,
            places: places.clone(),
            replica: replica.clone(),
        };
        let machine = Machine::new(replica.clone())?;
        let raft = Raft::new(own, config, network.clone(), store, machine).await;
        let raft = match raft {
            Ok(raft) => raft,
            Err(fatal) => {
                replica.close();
                return Err(stopped(fatal));
            }
        };
        let (parts, receive) = mpsc::channel(PARTS_MAX);
        let receiver = Receiver::new(shared.clone(), replica.clone(), raft.clone());
        let keeper = retention::run(raft.clone(), replica.clone(), own, options);
        let tasks = vec![tokio::spawn(receiver.run(receive)), tokio::spawn(keeper)];
        let hibernation = Hibernation::new(raft.clone());
        let inner = Inner {
            id,
            own,
            raft,
            shared,
            places,
            parts,
            streams: Streams::default(),
            network,
            barrier: Barrier::default(),
            replica,
            hibernation,
            hibernate_after,
            entry_batches,
            lease,
            sessions: OnceLock::new(),
            tasks: Mutex::new(tasks),
        };
        Ok(Group { inner: Arc::new(inner) })
    }

    /// Has a shard's batches moved to the group whenever this replica leads.
    pub(crate) fn lead(&self, proposer: Proposer, shard: ShardHandle) {
        _ = self.inner.sessions.set(proposer.sessions());
        let without_room = self.inner.replica.store.without_room();
        let (batches, lease) = (self.inner.entry_batches, self.inner.lease);
        let hibernation = self.inner.hibernation.clone();
        let raft = self.inner.raft.clone();
        let run = proposer.run(raft, hibernation, shard, without_room, batches, lease);
        let task = tokio::spawn(run);
        self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    pub(crate) async fn stop(&self) {
        let tasks = {
            let mut tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        // A core that has ended by itself is ended.
        _ = self.inner.raft.shutdown().await;
        for task in tasks {
            task.abort();
            _ = task.await;
        }
        // It waits for what its background is at, and may write what that has built.
        let replica = self.inner.replica.clone();
        let close = move || {
            replica.close();
            Ok(())
        };
        if self.inner.shared.options.work.run(close).await.is_err() {
            // Whoever would do it has ended.
            self.inner.replica.close();
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The group's id.
    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    /// This replica's id.
    pub fn replica(&self) -> u64 {
        self.inner.own
    }

    /// Says on which nodes replicas are: those that are not named stay where they were.
    pub fn set_places(&self, places: impl IntoIterator<Item = (u64, NodeId)>) {
        self.inner.places.set(places);
    }

    /// Gives a new group its first voters. Called on one of them; fine if it was called before.
    ///
    /// # Errors
    /// `Unavailable` if the replica has stopped.
    pub async fn initialize(&self, voters: BTreeSet<u64>) -> Result<()> {
        let nodes: BTreeMap<u64, EmptyNode> =
            voters.into_iter().map(|id| (id, EmptyNode {})).collect();
        match self.inner.raft.initialize(nodes).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(openraft::error::InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(stopped(error)),
        }
    }

    /// Proposes a command and gives what applying it said. Of a group that replicates a shard, the
    /// shard proposes.
    ///
    /// # Errors
    /// `Unavailable` or `Deadline` if nothing was proposed: this replica does not lead, or could
    /// not take it in time. `Unknown` if it may or may not be applied.
    pub async fn propose(&self, command: Bytes, patience: Duration) -> Result<Bytes> {
        self.inner.hibernation.wake();
        let deadline = Instant::now() + patience;
        let (responder, outcome) = ProgressResponder::complete_only();
        let write = self.inner.raft.write(Proposal::of(&[command])).responder(responder);
        match tokio::time::timeout_at(deadline, write.into_future()).await {
            Ok(accepted) => accepted.map_err(stopped)?,
            Err(_) => {
                let message = "the group did not take the proposal in time; nothing was written";
                return Err(Error::new(ErrorKind::Deadline, message));
            }
        }
        match tokio::time::timeout_at(deadline, outcome).await {
            Ok(Ok(Ok(applied))) => Ok(applied.data.0),
            Ok(Ok(Err(ClientWriteError::ForwardToLeader(forward)))) => Err(not_leader(&forward)),
            Ok(_) => Err(unknown("this replica lost its place as leader")),
            Err(_) => Err(unknown("the group did not commit it in time")),
        }
    }

    /// Splits the group's shard. REQUIRES: this replica leads, its shard is fenced and has nothing
    /// pending. Waits until the entry is applied here, or this replica has lost its lead: the fence
    /// must stand as long.
    ///
    /// # Errors
    /// `Unavailable` if nothing was proposed; `Unknown` if it may or may not be applied.
    pub async fn split(&self, split: &Split) -> Result<()> {
        const AS_LONG_AS_IT_TAKES: Duration = Duration::from_secs(86_400);
        self.propose(split.encode(), AS_LONG_AS_IT_TAKES).await.map(|_| ())
    }

    /// Waits until this replica's state is fresh enough to be read. A follower asks the leader how
    /// far it must be.
    ///
    /// # Errors
    /// `Unavailable` if there is no leader that a majority follows, or a lease is asked of one who
    /// has none; `Deadline`.
    pub async fn ready_to_read(&self, consistency: Consistency, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let ready = self.wait_to_read(consistency, deadline);
        match tokio::time::timeout_at(deadline, ready).await {
            Ok(ready) => ready,
            Err(_) => Err(Error::new(ErrorKind::Deadline, "no majority answered in time")),
        }
    }

    /// Makes sure that this replica has led throughout a session: that it still does at a moment
    /// behind the call. What was evaluated in the session before the call then saw every write that
    /// was acknowledged before it. Never asks whoever leads instead. So many `readers` wait for it.
    ///
    /// # Errors
    /// `Unavailable` if another leads, may lead or has led; `Deadline`.
    pub async fn confirm_session(
        &self,
        session: u64,
        consistency: Consistency,
        patience: Duration,
        readers: usize,
    ) -> Result<()> {
        let led = match consistency {
            Consistency::Linearizable => {
                self.led_together(Instant::now() + patience, readers).await?
            }
            Consistency::Lease => self.led_in_term(consistency, patience).await?,
        };
        if led == term_of(session) {
            return Ok(());
        }
        let message = "this replica lost the lead of its group meanwhile; try again";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// The term in which this replica leads, at a moment behind the call.
    async fn led_in_term(&self, consistency: Consistency, patience: Duration) -> Result<u64> {
        let asked = self.inner.raft.get_read_linearizer(policy(consistency));
        match tokio::time::timeout(patience, asked).await {
            // The leader's own entries are of its term, and it reads at one of them at least.
            Ok(Ok(linearizer)) => Ok(term(linearizer.read_log_id().log_id())),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Err(not_leader(&forward))
            }
            Ok(Err(error)) => Err(stopped(error)),
            Err(_) => Err(Error::new(ErrorKind::Deadline, "no majority answered in time")),
        }
    }

    /// As [`Group::led_in_term`], with all who wait at the time.
    async fn led_together(&self, deadline: Instant, readers: usize) -> Result<u64> {
        let (answer, asks) = self.inner.barrier.wait(deadline, readers);
        if asks {
            let group = self.clone();
            tokio::spawn(async move {
                let ask = |deadline: Instant| {
                    let left = deadline.saturating_duration_since(Instant::now());
                    group.led_in_term(Consistency::Linearizable, left)
                };
                group.inner.barrier.serve(ask).await;
            });
        }
        match tokio::time::timeout_at(deadline, barrier::heard(answer)).await {
            Ok(led) => led,
            Err(_) => Err(Error::new(ErrorKind::Deadline, "no majority answered in time")),
        }
    }

    async fn wait_to_read(&self, consistency: Consistency, deadline: Instant) -> Result<()> {
        let raft = &self.inner.raft;
        let left = || deadline.saturating_duration_since(Instant::now());
        let forward = match raft.get_read_linearizer(policy(consistency)).await {
            Ok(linearizer) => {
                let ready = linearizer.try_await_ready(raft, Some(left())).await;
                let late = |_| Error::new(ErrorKind::Deadline, "applying lags behind");
                return ready.map_err(stopped)?.map(|_| ()).map_err(late);
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => forward,
            Err(error) => return Err(stopped(error)),
        };
        // A new replica knows its leader before it knows the members, which openraft looks it up in.
        let leader = forward.leader_id.or_else(|| self.status().leader);
        let leader = leader.filter(|leader| *leader != self.inner.own);
        let (Some(leader), Consistency::Linearizable) = (leader, consistency) else {
            return Err(not_leader(&forward));
        };
        let ask = Body::Read(Empty {});
        let mut question = self.inner.network.ask(leader, Class::Control, ask, left())?;
        let Body::ReadAt(read) = question.answered().await? else {
            return Err(Error::invalid("the leader answered another question than it was asked"));
        };
        let at = read.at.map(|at| wire::to_log_id(at).index);
        let applied = raft.wait(Some(left())).applied_index_at_least(at, "a read").await;
        applied.map(|_| ()).map_err(|e| waited(e, "applying lags behind"))
    }

    /// Waits, after a start, until this replica has applied all it had applied before, and what
    /// was committed since. No read is served before.
    ///
    /// # Errors
    /// `Deadline`; `Unavailable` if the replica has stopped.
    pub async fn recovered(&self, patience: Duration) -> Result<()> {
        let recovered = self.inner.raft.wait_for_recovery(Some(patience)).await;
        recovered.map(|_| ()).map_err(|e| waited(e, "what was committed is not known here yet"))
    }

    /// The number of the session in which this node's shard may place batches, 0 while it may not.
    /// `None` if the group replicates no shard.
    pub fn sessions(&self) -> Option<watch::Receiver<u64>> {
        self.inner.sessions.get().cloned()
    }

    /// Where the group stands.
    pub fn status(&self) -> GroupStatus {
        let metrics = self.inner.raft.metrics();
        let now = metrics.borrow_watched();
        let members = &now.membership_config;
        let replication = now.replication.iter().flatten();
        let heard = now.heartbeat.iter().flatten();
        let recently = 2 * self.inner.lease;
        let answering =
            heard.filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() <= recently));
        GroupStatus {
            replica: self.inner.own,
            leader: now.current_leader,
            term: now.current_term,
            last: now.last_log_index,
            applied: now.last_applied.map(|id| id.index),
            purged: now.purged.map(|id| id.index),
            log_bytes: self.inner.replica.store.bytes(),
            voters: members.membership().get_joint_config().clone(),
            learners: members.membership().learner_ids().collect(),
            members_at: *members.log_id(),
            members_are_committed: now.committed_membership_config.log_id() == members.log_id(),
            answering: answering.map(|(id, _)| *id).collect(),
            matched: replication.map(|(id, at)| (*id, at.map(|at| at.index))).collect(),
            stopped: now.running_state.as_ref().err().map(ToString::to_string),
        }
    }

    /// Waits until the group stands as `is_so` wants it; gives how.
    ///
    /// # Errors
    /// `Deadline`; `Unavailable` if the replica stops.
    pub async fn wait_until(
        &self,
        mut is_so: impl FnMut(&GroupStatus) -> bool,
        patience: Duration,
    ) -> Result<GroupStatus> {
        let deadline = Instant::now() + patience;
        let mut metrics = self.inner.raft.metrics();
        loop {
            _ = metrics.borrow_and_update();
            let status = self.status();
            if is_so(&status) {
                return Ok(status);
            }
            match tokio::time::timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(stopped("it has ended")),
                Err(_) => {
                    let message = format!("the group did not come so far in time: {status:?}");
                    return Err(Error::new(ErrorKind::Deadline, message));
                }
            }
        }
    }

    /// Adds a replica that is told everything and does not vote. It runs on `node` already, created
    /// and empty. Called on the leader; fine if it was added before.
    ///
    /// # Errors
    /// `Unavailable` if this replica does not lead; `Unknown`; `Busy` while another change is
    /// under way.
    pub async fn add_learner(&self, replica: u64, node: NodeId) -> Result<()> {
        self.inner.hibernation.wake();
        self.set_places([(replica, node)]);
        let added = self.inner.raft.add_learner(replica, EmptyNode {}, false).await;
        added.map(|_| ()).map_err(change_error)
    }

    /// Changes the voters, in two steps of which a crash may leave the first: asked again, it is
    /// finished. All of `voters` are voters or learners now. Those that leave become learners with
    /// `keep`, else they are told nothing any more. With `members_at`, nothing is done unless the
    /// members are still those of that entry.
    ///
    /// # Errors
    /// `Conflict` if they are not; `Unavailable`, `Unknown`, `Busy` as [`Group::add_learner`];
    /// `InvalidArgument` if a voter is not known.
    pub async fn change_voters(
        &self,
        voters: BTreeSet<u64>,
        keep: bool,
        members_at: Option<LogId>,
    ) -> Result<()> {
        self.inner.hibernation.wake();
        let expected = |at| Precondition::LastMembershipLogId { last_membership_log_id: Some(at) };
        let expected = members_at.map(expected);
        let changed = self.inner.raft.change_membership_if(voters, keep, expected).await;
        changed.map(|_| ()).map_err(change_error)
    }

    /// Takes learners off the group.
    ///
    /// # Errors
    /// As [`Group::change_voters`].
    pub async fn remove_learners(&self, learners: BTreeSet<u64>) -> Result<()> {
        self.inner.hibernation.wake();
        let change = openraft::ChangeMembers::RemoveNodes(learners);
        let changed = self.inner.raft.change_membership(change, false).await;
        changed.map(|_| ()).map_err(change_error)
    }

    /// Hands the lead to a voter, and waits until another leads.
    ///
    /// # Errors
    /// `Unavailable` if this replica does not lead; `Deadline` if it still does at the end.
    pub async fn transfer_leader(&self, to: u64, patience: Duration) -> Result<()> {
        let raft = &self.inner.raft;
        if !raft.is_leader() {
            return Err(not_leading(self.status().leader));
        }
        self.inner.hibernation.wake();
        raft.trigger().transfer_leader(to).await.map_err(stopped)?;
        let wait = raft.wait(Some(patience));
        let led = wait.metrics(|m| m.current_leader == Some(to), "another leads").await;
        led.map(|_| ()).map_err(|e| waited(e, &format!("replica {to} has not taken the lead")))
    }

    /// Stands for election now.
    ///
    /// # Errors
    /// `Unavailable` if the replica has stopped.
    pub async fn campaign(&self) -> Result<()> {
        self.inner.hibernation.wake();
        self.inner.raft.trigger().elect(true).await.map_err(stopped)
    }

    /// Whether the group hibernates here: its timers stand still, and its node's serves it.
    pub fn hibernates(&self) -> bool {
        self.inner.hibernation.is_on()
    }

    /// Brings what is applied into the state machine's folder, and cuts the log as far as that
    /// allows and followers do not need it.
    ///
    /// # Errors
    /// `Unavailable` if the replica has stopped.
    pub async fn cut_log(&self) -> Result<()> {
        match self.inner.replica.store.index_to_leave(0) {
            Some(upto) => self.cut_to(upto, false).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn cut_to(&self, upto: u64, whatever: bool) -> Result<()> {
        let (raft, replica) = (&self.inner.raft, &self.inner.replica);
        retention::cut(raft, replica, self.inner.own, upto, whatever).await
    }
}

fn policy(consistency: Consistency) -> ReadPolicy {
    match consistency {
        Consistency::Linearizable => ReadPolicy::ReadIndex,
        Consistency::Lease => ReadPolicy::LeaseRead,
    }
}
