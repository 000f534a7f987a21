//! The catalog as what a group replicates.

use crate::base::Result;
use crate::catalog::{Action, Catalog, NodeId, Outcome, decode_command, encode_answer};
use crate::raft::Memory;
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::time::Instant;

/// The catalog in memory.
#[derive(Debug)]
pub(super) struct CatalogMemory {
    pub(super) catalog: Catalog,
    /// When each node was last heard of, by this machine's own clock. Not part of the catalog.
    heard: BTreeMap<NodeId, Instant>,
    /// Its revision, told whenever it has changed.
    revisions: watch::Sender<u64>,
}

impl CatalogMemory {
    pub(super) fn new(revisions: watch::Sender<u64>) -> CatalogMemory {
        CatalogMemory { catalog: Catalog::new(), heard: BTreeMap::new(), revisions }
    }

    /// When a node was last heard of since this process began.
    pub(super) fn heard(&self, node: NodeId) -> Option<Instant> {
        self.heard.get(&node).copied()
    }

    fn tell(&self) {
        let now = self.catalog.view().revision();
        self.revisions.send_if_modified(|told| std::mem::replace(told, now) != now);
    }
}

impl Memory for CatalogMemory {
    fn apply(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let beats = match decode_command(command)?.action {
            Action::Heartbeat { node, .. } => Some(node),
            _ => None,
        };
        let answer = self.catalog.apply_bytes(command)?;
        if let Ok(applied) = &answer {
            let registered = match applied.outcome {
                Outcome::Node(node) => Some(node),
                _ => None,
            };
            self.heard.extend(beats.or(registered).map(|node| (node, Instant::now())));
        }
        self.tell();
        Ok(encode_answer(&answer))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.catalog.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        self.catalog = Catalog::restore(snapshot)?;
        self.tell();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::records::NodeProfile;
    use crate::catalog::{Command, FORMAT_VERSION, encode_command};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_heard_whatever_the_clocks_that_are_set_say() {
        let mut memory = CatalogMemory::new(watch::Sender::new(0));
        let apply = |memory: &mut CatalogMemory, now_ms, action| {
            let command = encode_command(&Command { now_ms, id: None, action }).unwrap();
            memory.apply(&command).unwrap();
        };
        let init = Action::InitCluster { id: [1; 16], name: "test".into(), version: 1 };
        apply(&mut memory, 1_000_000, init);
        let profile = NodeProfile {
            data_url: "http://127.0.0.1:1".into(),
            raft_addr: "127.0.0.1:2".into(),
            labels: BTreeMap::new(),
            disk_bytes: 1,
            cores: 1,
            software: "0".into(),
            speaks: FORMAT_VERSION,
        };
        let register = Action::RegisterNode { wanted: None, incarnation: 7, profile };
        apply(&mut memory, 1_000_001, register);
        let node = NodeId(1);
        assert_eq!(memory.heard(node), Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(10)).await;
        // The leader's clock was set back.
        apply(&mut memory, 5, Action::Heartbeat { node, incarnation: 7 });
        assert_eq!(memory.heard(node), Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(10)).await;
        // Another one's, which the folder of node 1 was not.
        apply(&mut memory, 2_000_000, Action::Heartbeat { node, incarnation: 8 });
        assert_eq!(memory.heard(node).map(|at| at.elapsed()), Some(Duration::from_secs(10)));
    }
}
