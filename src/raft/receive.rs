//! A snapshot that arrives.
//!
//! One at a time for a group. Its files go into the folder of the next generation, in order; what
//! does not follow on what is there is answered with where the receiver stands. A transfer that
//! nobody goes on with is given up after a while.

use crate::base::checksum::crc32c_append;
use crate::base::{Error, ErrorKind, Result};
use crate::env::File;
use crate::raft::host::Shared;
use crate::raft::machine::{Machine, Shipment};
use crate::raft::message::{Begin, Body, Chunk, Finish, Have, Installed, decode_files, need};
use crate::raft::replica::{Replica, Staged};
use crate::raft::vocabulary::{SnapshotMeta, TypeConfig, Vote, term};
use crate::raft::wire;
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Time after which a transfer that nobody goes on with is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A question about a snapshot, and how to answer it.
pub(crate) struct Part {
    pub(crate) from: u64,
    pub(crate) body: Body,
    pub(crate) answer: Box<dyn FnOnce(Body) + Send>,
}

/// The receiver of one group's snapshots.
pub(crate) struct Receiver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) raft: Raft<TypeConfig, Machine>,
    incoming: Option<Incoming>,
    /// Who sent the snapshot that was installed last, its number, and what was answered.
    installed: Option<(u64, u64, Installed)>,
}

/// A snapshot of which a part has arrived.
struct Incoming {
    from: u64,
    snapshot: u64,
    meta: SnapshotMeta,
    files: Vec<(String, u64)>,
    staged: Staged,
    /// The file that is being written, and its bytes so far.
    at: (usize, u64),
    open: Option<Arc<dyn File>>,
    /// How many are received by a node at a time is bounded.
    _turn: OwnedSemaphorePermit,
}

impl Receiver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        replica: Arc<Replica>,
        raft: Raft<TypeConfig, Machine>,
    ) -> Receiver {
        Receiver { shared, replica, raft, incoming: None, installed: None }
    }

    /// Takes what arrives until nothing can any more.
    pub(crate) async fn run(mut self, mut parts: mpsc::Receiver<Part>) {
        loop {
            let part = match tokio::time::timeout(PATIENCE, parts.recv()).await {
                Ok(Some(part)) => part,
                Ok(None) => return,
                Err(_) => {
                    self.incoming = None;
                    continue;
                }
            };
            let done = match part.body {
                Body::Begin(begin) => self.begin(part.from, begin),
                Body::Chunk(chunk) => self.chunk(part.from, chunk).await,
                Body::Finish(finish) => self.finish(part.from, finish).await,
                _ => Err(Error::invalid("this is no part of a snapshot")),
            };
            (part.answer)(done.unwrap_or_else(|error| Body::failed(&error)));
        }
    }

    fn begin(&mut self, from: u64, begin: Begin) -> Result<Body> {
        let vote = wire::to_vote(need(begin.vote)?);
        let ours = self.raft.server_metrics().borrow_watched().vote;
        if matches!(vote.partial_cmp(&ours), None | Some(std::cmp::Ordering::Less)) {
            let vote = Some(wire::from_vote(&ours));
            return Ok(Body::Have(Have { snapshot: begin.snapshot, file: 0, offset: 0, vote }));
        }
        let is_same = |i: &Incoming| i.from == from && i.snapshot == begin.snapshot;
        if let Some(incoming) = self.incoming.as_ref().filter(|i| is_same(i)) {
            return Ok(incoming.have());
        }
        let files = decode_files(&begin.files)?;
        let last = wire::to_log_id(need(begin.last)?);
        check_term(&vote, &last)?;
        let last_membership = wire::to_stored(need(begin.members)?)?;
        let meta = SnapshotMeta { last_log_id: Some(last), last_membership };
        // Whoever sent the one before has given it up, or leads no more.
        self.incoming = None;
        let turn = self.shared.receiving.clone().try_acquire_owned().map_err(|_| {
            let busy = "this node receives as many snapshots as it may; try again soon";
            Error::new(ErrorKind::Busy, busy)
        })?;
        let incoming = Incoming {
            from,
            snapshot: begin.snapshot,
            meta,
            files,
            staged: self.replica.stage()?,
            at: (0, 0),
            open: None,
            _turn: turn,
        };
        Ok(self.incoming.insert(incoming).have())
    }

    fn incoming(&mut self, from: u64, snapshot: u64) -> Result<&mut Incoming> {
        let found = self.incoming.as_mut().filter(|i| i.from == from && i.snapshot == snapshot);
        found.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "this snapshot is not being received; begin again")
        })
    }

    async fn chunk(&mut self, from: u64, chunk: Chunk) -> Result<Body> {
        let incoming = self.incoming(from, chunk.snapshot)?;
        incoming.skip_complete();
        let size = incoming.files.get(incoming.at.0).map_or(0, |(_, size)| *size);
        let follows = (chunk.file as usize, chunk.offset) == incoming.at;
        let fits = chunk.offset.saturating_add(chunk.bytes.len() as u64) <= size;
        let is_whole = crc32c_append(0, &chunk.bytes) == chunk.crc && !chunk.bytes.is_empty();
        if !(follows && fits && is_whole) {
            return Ok(incoming.have());
        }
        let is_last = chunk.offset + chunk.bytes.len() as u64 == size;
        let path = incoming.staged.folder().join(&incoming.files[incoming.at.0].0);
        let open = incoming.open.take();
        let disk = self.replica.disk.clone();
        let write = move || {
            let file = match open {
                Some(file) => file,
                None => disk.create(&path)?,
            };
            file.write_at(&chunk.bytes, chunk.offset)?;
            if is_last {
                file.sync_data()?;
            }
            Ok((file, chunk.bytes.len() as u64))
        };
        match self.replica.work.run(write).await {
            Ok((file, len)) => {
                let incoming = self.incoming(from, chunk.snapshot)?;
                incoming.at.1 += len;
                incoming.open = (!is_last).then_some(file);
                incoming.skip_complete();
                Ok(incoming.have())
            }
            Err(error) => {
                // After a failed write or sync nothing is known of the file.
                self.incoming = None;
                Err(error)
            }
        }
    }

    async fn finish(&mut self, from: u64, finish: Finish) -> Result<Body> {
        if let Some((_, _, installed)) =
            self.installed.filter(|(by, number, _)| (*by, *number) == (from, finish.snapshot))
        {
            // The answer was lost.
            return Ok(Body::Installed(installed));
        }
        let vote = wire::to_vote(need(finish.vote)?);
        let incoming = self.incoming(from, finish.snapshot)?;
        incoming.skip_complete();
        if incoming.at.0 < incoming.files.len() {
            return Ok(incoming.have());
        }
        let Some(incoming) = self.incoming.take() else { return Err(gone()) };
        let last = incoming.meta.last_log_id.ok_or_else(gone)?;
        check_term(&vote, &last)?;
        let Incoming { files, staged, meta, .. } = incoming;
        let (replica, disk) = (self.replica.clone(), self.replica.disk.clone());
        let check = move || {
            for (name, _) in files.iter().filter(|(_, size)| *size == 0) {
                disk.create(&staged.folder().join(name))?.sync_data()?;
            }
            disk.sync_dir(staged.folder())?;
            replica.check(&staged, &last)?;
            Ok(staged)
        };
        let staged = self.replica.work.run(check).await?;
        let snapshot = openraft::Snapshot { meta, snapshot: Shipment::Received(staged) };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        let response = installed.map_err(|fatal| {
            Error::new(ErrorKind::Unavailable, format!("the replica has stopped: {fatal}"))
        })?;
        let installed = Installed { vote: Some(wire::from_vote(&response.vote)) };
        self.installed = Some((from, finish.snapshot, installed));
        Ok(Body::Installed(installed))
    }
}

impl Incoming {
    fn have(&self) -> Body {
        let (file, offset) = (self.at.0 as u32, self.at.1);
        Body::Have(Have { snapshot: self.snapshot, file, offset, vote: None })
    }

    /// A file that is complete is passed.
    fn skip_complete(&mut self) {
        while self.files.get(self.at.0).is_some_and(|(_, size)| self.at.1 >= *size) {
            self.at = (self.at.0 + 1, 0);
            self.open = None;
        }
    }
}

/// Openraft holds a snapshot that is ahead of its sender's term for a proof of corruption, and ends
/// the process.
fn check_term(vote: &Vote, last: &crate::raft::vocabulary::LogId) -> Result<()> {
    if term(last) > vote.leader_id.term {
        return Err(Error::invalid("a snapshot is of a later term than its sender"));
    }
    Ok(())
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "this snapshot is not being received; begin again")
}
