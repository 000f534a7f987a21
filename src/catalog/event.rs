//! Changes, as subscribers follow them: each event carries the new value, or that it is gone.

use crate::catalog::ids::JobId;
use crate::catalog::records::{Cluster, Family, Index, Job, Node, Shard, User};

/// All that one command changed. Its events belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// One more than the change before.
    pub revision: u64,
    /// The events, at least one, in order.
    pub events: Vec<Event>,
}

/// One record that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The cluster's identity or version.
    ClusterChanged(Cluster),
    /// A node. Nodes are never gone: they end as removed.
    NodeChanged(Node),
    /// A shard that keeps its slots, or is new with all others.
    ShardChanged(Shard),
    /// A shard became two.
    ShardsSplit {
        /// The lower range, under the old id.
        parent: Shard,
        /// The upper range.
        child: Shard,
    },
    /// A column family.
    CfChanged {
        /// Its name.
        name: String,
        /// What it now is; `None` if it was dropped.
        value: Option<Family>,
    },
    /// An index.
    IndexChanged {
        /// Its name.
        name: String,
        /// What it now is; `None` if it was dropped.
        value: Option<Index>,
    },
    /// A user.
    UserChanged {
        /// The name.
        name: String,
        /// What the user now is; `None` if dropped.
        value: Option<User>,
    },
    /// A job.
    JobChanged {
        /// Its id.
        id: JobId,
        /// What it now is; `None` if it ended long ago and is forgotten.
        value: Option<Box<Job>>,
    },
}

impl Change {
    /// About the bytes it takes in memory.
    pub(super) fn weight(&self) -> usize {
        self.events.iter().map(Event::weight).sum()
    }
}

impl Event {
    fn weight(&self) -> usize {
        const RECORD: usize = 256;
        let shard = |s: &Shard| RECORD + s.replicas.len() * 32;
        match self {
            Event::ClusterChanged(_) | Event::CfChanged { .. } => RECORD,
            Event::NodeChanged(node) => {
                let labels = node.profile.labels.iter();
                2 * RECORD + labels.map(|(key, value)| key.len() + value.len() + 64).sum::<usize>()
            }
            Event::ShardChanged(s) => shard(s),
            Event::ShardsSplit { parent, child } => shard(parent) + shard(child),
            Event::IndexChanged { value, .. } => {
                RECORD + value.as_ref().map_or(0, |v| v.config.len() + v.nodes.len() * 8)
            }
            Event::UserChanged { value, .. } => {
                RECORD + value.as_ref().map_or(0, |v| v.verifier.len())
            }
            Event::JobChanged { value, .. } => {
                RECORD + value.as_ref().map_or(0, |v| v.steps.len() + v.text.len())
            }
        }
    }
}
