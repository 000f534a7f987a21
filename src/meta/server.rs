//! [`Meta`]: a metadata node, open.

use crate::base::{Error, ErrorKind, GroupId, Result};
use crate::catalog::{
    Action, Applied, Command, FORMAT_VERSION, View, decode_answer, decode_command, encode_command,
};
use crate::env::disk::FileLock;
use crate::log::{Log, LogOptions, SyncLevel};
use crate::meta::figures::Reports;
use crate::meta::jobs::runner;
use crate::meta::known::{Known, number_of};
use crate::meta::memory::CatalogMemory;
use crate::meta::options::MetaOptions;
use crate::meta::readmit::Meeting;
use crate::meta::{folder, keeper, readmit};
use crate::raft::{
    Class, Group, Host, HostOptions, MemoryMachine, NodeId, Peers, Recoveries, Work,
};
use crate::rpc::cluster::meta::{CHANGES_MAX, Followed};
use crate::rpc::cluster::method;
use crate::rpc::cluster::report::{decode_reports, encode_reports};
use crate::rpc::link::{CallError, Hello, Links, Role};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// The catalog's group: below those of shards.
const GROUP: GroupId = GroupId(0);
/// Threads for what may wait for the disk.
const WORKERS: usize = 2;
/// How often it is looked whether the group has ended.
const LOOK: Duration = Duration::from_millis(200);
/// The class of links for calls; those of the group's messages are below.
const CALLS: u8 = 3;

/// A metadata node. Clones share it; [`Meta::stop`] ends it.
#[derive(Clone)]
pub struct Meta {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) options: MetaOptions,
    /// Who it is to the others.
    pub(super) hello: Hello,
    /// Its replica of the group.
    pub(super) replica: u64,
    pub(super) known: Known,
    pub(super) host: Host,
    pub(super) group: Group,
    pub(super) machine: MemoryMachine<CatalogMemory>,
    /// To the other metadata nodes.
    links: Links,
    /// To data nodes, by their numbers.
    pub(super) nodes: Links,
    /// The catalog's revision, as applied here.
    pub(super) revisions: watch::Sender<u64>,
    pub(super) figures: Reports,
    /// Whether another one knows of another folder of this one.
    is_refused: AtomicBool,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
    _lock: Box<dyn FileLock>,
}

/// The group's messages over links.
struct LinkPeers(Links);

impl Peers for LinkPeers {
    fn send(&self, to: NodeId, class: Class, message: Bytes) -> Result<()> {
        self.0.post(to.0, class as u8, message)
    }
}

impl Meta {
    /// Opens the folder, and joins the others. REQUIRES: a runtime.
    ///
    /// # Errors
    /// `InvalidArgument` for settings; `Refused` if the folder is somebody else's; `Corruption`;
    /// what the disk answers.
    pub async fn open(options: MetaOptions) -> Result<Meta> {
        options.validate()?;
        let disk = options.disk.clone();
        let lock = folder::claim(&*disk, &options.dir)?;
        let mut recovered = Recoveries::default();
        let log_options = LogOptions {
            sync: SyncLevel::Always,
            segment_bytes: options.segment_bytes,
            threads: options.workers.has_threads(),
            syncs: options.workers.syncs(),
            seed: Some(options.seeds.next_seed()),
            ..LogOptions::default()
        };
        let mut take =
            |position, record: crate::log::RecordRef<'_>| recovered.take(position, &record);
        let log =
            Arc::new(Log::open(disk.clone(), &options.dir.join("log"), log_options, &mut take)?);
        let mut hello = Hello::nameless(Role::Meta, [0; 16]);
        let links = Links::new(hello, options.link.clone());
        for (id, address) in options.peers.iter().filter(|(id, _)| *id != options.id) {
            links.set(*id, address);
        }
        let work = Work::Pool(options.workers.pool("arqon-meta", WORKERS));
        let nonce = options.seeds.next_seed();
        let host_options = HostOptions::new(options.dir.join("groups"), work, nonce);
        let peers = Arc::new(LinkPeers(links.clone()));
        let host = Host::new(host_options, disk.clone(), log, peers, recovered)?;
        let revisions = watch::Sender::new(0);
        let machine = MemoryMachine::new(disk.clone(), CatalogMemory::new(revisions.clone()));
        let state = Box::new(machine.clone());
        let here = host.replicas().into_iter().find(|(id, _)| *id == GROUP).map(|(_, at)| at);
        let known = Known::open(disk, &options.dir, &options.seeds, here.is_some())?;
        let mut replica = here.unwrap_or(options.id);
        (hello.node, hello.incarnation) = (replica, known.own());
        if readmit::meet(&options, hello, &known).await.is_refused {
            replica = readmit::ask(&options, known.own()).await?;
            hello.node = replica;
        }
        if here.is_some_and(|here| here != replica) {
            host.remove(GROUP).await?;
        }
        links.set_hello(hello);
        let group = match here == Some(replica) {
            false => host.create(GROUP, replica, options.group.clone(), state).await?,
            true => host.start(GROUP, replica, options.group.clone(), state).await?,
        };
        group.set_places(options.peers.iter().map(|(id, _)| (*id, NodeId(*id))));
        if options.peers.len() == 1 && replica == options.id {
            group.initialize([replica].into()).await?;
        }
        let nodes = Links::new(hello, options.link.clone());
        let inner = Inner {
            options,
            hello,
            replica,
            known,
            host,
            group,
            machine,
            links,
            nodes,
            revisions,
            figures: Reports::default(),
            is_refused: AtomicBool::new(false),
            tasks: std::sync::Mutex::default(),
            _lock: lock,
        };
        let meta = Meta { inner: Arc::new(inner) };
        *meta.inner.tasks() = vec![
            tokio::spawn(keeper::run(Arc::downgrade(&meta.inner))),
            tokio::spawn(begin(Arc::downgrade(&meta.inner))),
            tokio::spawn(runner::run(Arc::downgrade(&meta.inner))),
        ];
        Ok(meta)
    }

    /// Ends it: what was answered is on disk.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.inner.tasks());
        for task in tasks {
            task.abort();
            _ = task.await;
        }
        self.inner.host.stop_all().await;
    }

    /// Waits until it can go on no more, and says why.
    pub async fn failed(&self) -> Error {
        loop {
            if let Some(why) = self.inner.group.status().stopped {
                let message = format!("the metadata's group has ended here: {why}; start it again");
                return Error::new(ErrorKind::Internal, message);
            }
            if self.inner.is_refused.load(Ordering::Acquire) {
                let message = format!(
                    "metadata node {} has had another folder; started again, it asks to be taken in",
                    self.inner.options.id
                );
                return Error::new(ErrorKind::Refused, message);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The catalog as this replica has it.
    pub fn view(&self) -> View {
        self.inner.view()
    }

    /// The group of the metadata nodes, as this one has it.
    pub fn group(&self) -> &Group {
        &self.inner.group
    }

    /// Whether this one leads.
    pub fn leads(&self) -> bool {
        self.inner.leads()
    }

    /// Changes the catalog through whoever leads.
    ///
    /// # Errors
    /// As [`MetaClient::propose`](crate::rpc::cluster::MetaClient::propose), without its patience
    /// for elections.
    pub async fn propose(&self, action: Action, patience: Duration) -> Result<Applied> {
        let command = encode_command(&Command { now_ms: 0, id: None, action })?;
        let answer = self.inner.propose(command.into(), false, patience).await?;
        decode_answer(&answer)?.map_err(Error::from)
    }
}

impl Inner {
    pub(super) fn view(&self) -> View {
        self.machine.read(|memory| memory.catalog.view().clone())
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn leads(&self) -> bool {
        self.group.status().leader == Some(self.replica)
    }

    /// Proposes a command at this node's time, or passes it on to who leads.
    pub(super) async fn propose(
        &self,
        given: Bytes,
        passed_on: bool,
        patience: Duration,
    ) -> Result<Bytes> {
        let mut command = decode_command(&given)?;
        self.must_speak(&command.action)?;
        command.now_ms = self.options.clock.unix_ms();
        let refused = match self.group.propose(encode_command(&command)?.into(), patience).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            done => return done,
        };
        let leader = self.group.status().leader.filter(|leader| *leader != self.replica);
        let Some(leader) = leader.filter(|_| !passed_on) else { return Err(refused) };
        let link = self.links.get(number_of(leader), CALLS)?;
        let until = Instant::now() + patience;
        match link.call(method::PROPOSE_PASSED_ON, given, until).await {
            Ok(answer) => Ok(answer),
            Err(CallError::NotSent(error)) => {
                Err(Error::new(ErrorKind::Unavailable, error.message().to_string()))
            }
            Err(error) => Err(error.into_error()),
        }
    }

    /// Refuses what would halt every metadata node of this version, once it was in the log.
    fn must_speak(&self, action: &Action) -> Result<()> {
        let version = match action {
            Action::RaiseVersion { to } => *to,
            // The catalog says better that there is a cluster.
            Action::InitCluster { version, .. } if self.view().cluster().is_none() => *version,
            _ => return Ok(()),
        };
        if version <= FORMAT_VERSION {
            return Ok(());
        }
        let message = format!(
            "this metadata node speaks version {FORMAT_VERSION} at most; upgrade all metadata \
             nodes before version {version}"
        );
        Err(Error::new(ErrorKind::Refused, message))
    }

    /// The changes behind `revision`, once there are any, or none after `wait`.
    pub(super) async fn follow(&self, revision: u64, wait: Duration) -> Result<Followed> {
        let until = Instant::now() + wait;
        let mut revisions = self.revisions.subscribe();
        loop {
            revisions.mark_unchanged();
            if let Some(followed) = self.machine.read(|memory| behind(memory, revision))? {
                return Ok(followed);
            }
            if !matches!(timeout_at(until, revisions.changed()).await, Ok(Ok(()))) {
                return Ok(Followed::Changes(Vec::new()));
            }
        }
    }

    /// Whether another metadata node is who it was. One of an older program does not say.
    pub(super) fn meet(&self, from: &Hello) -> Result<()> {
        let number = number_of(from.node);
        let is_peer = self.options.peers.iter().any(|(id, _)| *id == number);
        if from.role != Role::Meta || from.incarnation == 0 || !is_peer {
            return Ok(());
        }
        self.known.meet(from.node, from.incarnation)?;
        self.group.set_places([(from.node, NodeId(number))]);
        Ok(())
    }

    /// What another one has told when it met this one; the answer.
    pub(super) fn met(&self, from: &Hello, told: &[u8]) -> Result<Bytes> {
        if from.role == Role::Meta && from.incarnation != 0 {
            self.known.hear(told, |number| self.options.is_other(number))?;
        }
        let mut answer = vec![u8::from(!self.host.is_blank(GROUP))];
        answer.extend(self.known.tell());
        Ok(answer.into())
    }

    /// Meets the others again: who was away may know better.
    pub(super) async fn meet_others(&self) -> Meeting {
        let meeting = readmit::meet(&self.options, self.hello, &self.known).await;
        if meeting.is_refused {
            self.is_refused.store(true, Ordering::Release);
        }
        meeting
    }

    /// Says on which metadata nodes the group's replicas are.
    pub(super) fn place_members(&self) {
        let status = self.group.status();
        self.group.set_places(readmit::members(&status).map(|id| (id, NodeId(number_of(id)))));
    }

    /// Takes a metadata node in again that has lost its folder, or passes it on to who leads.
    pub(super) async fn readmit(
        &self,
        from: &Hello,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes> {
        if !self.leads() {
            return self.ask_leader(from, method::READMIT, body, patience).await;
        }
        let (number, incarnation) = readmit::decode(&body)?;
        let taken = readmit::take_in(self, number, incarnation, patience).await?;
        Ok(taken.to_le_bytes().to_vec().into())
    }

    /// Takes what a node says of its shards, or passes it on to who leads.
    pub(super) async fn take_reports(
        &self,
        from: &Hello,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes> {
        if self.leads() {
            self.figures.take(decode_reports(&body)?);
            return Ok(Bytes::new());
        }
        self.ask_leader(from, method::REPORT, body, patience).await
    }

    /// What was reported, to this node or to who leads.
    pub(super) async fn reports(&self, from: &Hello, patience: Duration) -> Result<Bytes> {
        if self.leads() {
            return Ok(encode_reports(&self.figures.all()));
        }
        self.ask_leader(from, method::REPORTS, Bytes::new(), patience).await
    }

    /// Passes a question on to who leads: once, and not one that was passed on.
    async fn ask_leader(
        &self,
        from: &Hello,
        method: u16,
        body: Bytes,
        patience: Duration,
    ) -> Result<Bytes> {
        let leader = self.group.status().leader.filter(|_| from.role != Role::Meta);
        let Some(leader) = leader.filter(|leader| *leader != self.replica) else {
            let message = "no metadata node leads now; try again soon";
            return Err(Error::new(ErrorKind::Unavailable, message));
        };
        let link = self.links.get(number_of(leader), CALLS)?;
        let answer = link.call(method, body, Instant::now() + patience).await;
        answer.map_err(CallError::into_error)
    }

    pub(super) fn receive(&self, from: &Hello, class: u8, body: Bytes) {
        let number = number_of(from.node);
        if from.role == Role::Meta
            && self.options.peers.iter().any(|(id, _)| *id == number)
            && let Some(class) = Class::ALL.into_iter().find(|c| *c as u8 == class)
        {
            self.host.receive(NodeId(number), class, body);
        }
    }
}

/// Has the first of new metadata nodes begin their group, once a majority of them is there and none
/// takes part in one.
async fn begin(meta: Weak<Inner>) {
    loop {
        let Some(meta) = meta.upgrade() else { return };
        let (options, replica) = (&meta.options, meta.replica);
        let is_first = options.peers.iter().all(|(id, _)| replica <= *id);
        if !is_first || !meta.host.is_blank(GROUP) {
            return;
        }
        let Meeting { is_refused, has_begun, answers } = meta.meet_others().await;
        if is_refused || has_begun {
            // Whoever leads it will tell this one.
            return;
        }
        if answers + 1 > options.peers.len() / 2 {
            let voters = options.peers.iter().map(|(id, _)| *id).collect();
            // What fails now has ended the group, and that is told.
            _ = meta.group.initialize(voters).await;
            return;
        }
        drop(meta);
        tokio::time::sleep(LOOK).await;
    }
}

/// What is new behind a revision; none if nothing is.
fn behind(memory: &CatalogMemory, revision: u64) -> Result<Option<Followed>> {
    let catalog = &memory.catalog;
    let now = catalog.view().revision();
    if now <= revision {
        // Nothing, or this replica lags.
        return Ok(None);
    }
    match catalog.changes_since(revision) {
        Ok(changes) => Ok(Some(Followed::Changes(changes.take(CHANGES_MAX).cloned().collect()))),
        Err(error) if error.kind() == ErrorKind::Compacted => {
            Ok(Some(Followed::View(Box::new(catalog.view().clone()))))
        }
        Err(error) => Err(error),
    }
}
