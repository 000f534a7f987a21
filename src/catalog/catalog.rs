//! The catalog: the replicated state machine of the cluster's metadata.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::command::{Applied, Command};
use crate::catalog::evaluate::Turn;
use crate::catalog::event::Change;
use crate::catalog::ids::{NextIds, NodeId};
use crate::catalog::limits::FORMAT_VERSION;
use crate::catalog::refusal::Refusal;
use crate::catalog::requests::{Remembered, Requests};
use crate::catalog::view::View;
use crate::catalog::window::Window;
use crate::catalog::wire;
use std::collections::BTreeMap;

/// The state machine. Two catalogs that applied the same commands are equal, and so are the bytes
/// of their snapshots.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    pub(super) view: View,
    pub(super) now_ms: u64,
    pub(super) next: NextIds,
    pub(super) heartbeats: BTreeMap<NodeId, u64>,
    pub(super) requests: Requests,
    pub(super) window: Window,
    speaks: u32,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog::new()
    }
}

impl Catalog {
    /// An empty catalog, not initialised.
    pub fn new() -> Catalog {
        Catalog::speaking(FORMAT_VERSION)
    }

    /// An empty catalog that stops where the cluster goes beyond version `speaks`. A program has
    /// [`Catalog::new`]; this is for tests of several versions together.
    pub fn speaking(speaks: u32) -> Catalog {
        Catalog {
            view: View::default(),
            now_ms: 0,
            next: NextIds::default(),
            heartbeats: BTreeMap::new(),
            requests: Requests::default(),
            window: Window::default(),
            speaks,
        }
    }

    /// Applies a command. A refused one has changed nothing, not even the time; if the refusal
    /// [`Refusal::halts`], this replica must stop.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Refusal> {
        if let Some(past) = command.id.and_then(|id| self.requests.get(id)) {
            let (revision, outcome) = (past.revision, past.outcome.clone());
            return Ok(Applied { revision, outcome, events: Vec::new() });
        }
        let now_ms = self.now_ms.max(command.now_ms);
        let mut turn = Turn::new(&self.view, now_ms, self.speaks, self.next);
        let outcome = turn.evaluate(&command.action)?;
        let Turn { next, events, heard, .. } = turn;
        if !events.is_empty() {
            let change = Change { revision: self.view.revision + 1, events: events.clone() };
            self.view.follow(&change)?;
            self.window.push(change);
        }
        (self.now_ms, self.next) = (now_ms, next);
        if let Some(node) = heard {
            self.heartbeats.insert(node, now_ms);
        }
        let revision = self.view.revision;
        if let Some(id) = command.id {
            self.requests.remember(id, Remembered { revision, outcome: outcome.clone() });
        }
        Ok(Applied { revision, outcome, events })
    }

    /// Applies a command of the log. The outer error is one this replica must stop at: a command
    /// it cannot read or does not know, while others may; never skip it. The inner one is the
    /// answer to whoever proposed the command.
    pub fn apply_bytes(&mut self, bytes: &[u8]) -> Result<Result<Applied, Refusal>> {
        let command = wire::decode_command(bytes)?;
        match self.apply(&command) {
            Err(refusal) if refusal.halts() => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    /// The contents, as subscribers hold them.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The latest time of an applied command, in milliseconds since 1970. Never goes back.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The ids that are handed out next.
    pub fn next_ids(&self) -> NextIds {
        self.next
    }

    /// When a node last registered or gave a heartbeat, by the catalog's time. Not part of the
    /// view: subscribers are told of states, not of heartbeats.
    pub fn last_heartbeat_ms(&self, node: NodeId) -> Option<u64> {
        self.heartbeats.get(&node).copied()
    }

    /// The changes behind `revision`, in order. [`ErrorKind::Compacted`] if some of them are
    /// collected: take [`View::encode`] and follow from its revision. [`ErrorKind::Unavailable`] if
    /// this replica has not come so far.
    pub fn changes_since(&self, revision: u64) -> Result<impl Iterator<Item = &Change>> {
        self.window.since(revision)
    }

    /// The lowest revision from which changes can be followed.
    pub fn floor(&self) -> u64 {
        self.window.floor
    }

    /// Everything, as bytes; equal catalogs give equal bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        wire::encode_snapshot(self)
    }

    /// The catalog of a snapshot. [`ErrorKind::Corruption`] if the bytes are not what
    /// [`Catalog::snapshot`] gave, [`ErrorKind::Unsupported`] if a newer version gave them.
    pub fn restore(bytes: &[u8]) -> Result<Catalog> {
        let catalog = wire::decode_snapshot(bytes)?;
        if let Some(cluster) = catalog.view.cluster()
            && cluster.version > catalog.speaks
        {
            let message = format!(
                "the cluster is at version {}, and this program speaks {} at most; upgrade it",
                cluster.version, catalog.speaks
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(catalog)
    }
}
