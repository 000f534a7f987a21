//! Column families, brought in line with the catalog by the leader of each shard.
//!
//! A family that the catalog has and the shard has not is created through the shard's log, and one
//! that is gone from the catalog dropped through it. A node's copy of the catalog may lag behind: what
//! it does not know may be new rather than gone. So before a family is dropped the metadata plane
//! is asked how far the catalog is, and the copy must have come so far and still not have it.

use crate::base::{CfId, Result};
use crate::catalog::{Action, NodeId, View};
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::op::kv::CfInfo;
use crate::shard::Shard;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the metadata plane may take to say how far the catalog is.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a shard lacks and what it has to lose.
struct Differences {
    missing: Vec<CfInfo>,
    gone: Vec<CfId>,
}

impl Inner {
    /// Has the logs of the shards that are led here create and drop what they have to. What cannot
    /// be done now is done at a later turn.
    pub(super) async fn bring_families(&self, view: &View) {
        let mut to_drop = Vec::new();
        for replica in self.replicas.all() {
            let Some(shard) = self.changeable(&replica) else { continue };
            let Differences { missing, gone } = differences(&shard, view);
            if gone.is_empty() {
                self.change_families(&replica, &shard, &[], &missing);
            } else {
                to_drop.push(replica);
            }
        }
        if to_drop.is_empty() {
            return;
        }
        let Ok(view) = self.view_of_now().await else { return };
        for replica in to_drop {
            let Some(shard) = self.changeable(&replica) else { continue };
            let Differences { missing, gone } = differences(&shard, &view);
            self.change_families(&replica, &shard, &gone, &missing);
        }
    }

    /// The shard, if it is led here and what it was last told is done.
    pub(super) fn changeable(&self, replica: &Running) -> Option<Arc<Shard>> {
        let shard = replica.handle.get().ok().filter(|_| replica.session() != 0)?;
        let known = self.replicas.get(replica.record.id)?;
        (!shard.is_pending(known.families)).then_some(shard)
    }

    fn change_families(
        &self,
        replica: &Running,
        shard: &Arc<Shard>,
        drop: &[CfId],
        create: &[CfInfo],
    ) {
        // One that has just lost its lead leaves it to the next leader.
        if let Ok(ticket) = shard.change_families(drop, create, self.options.clock.unix_ms()) {
            self.replicas.note_families(replica.record.id, ticket);
        }
    }

    /// The catalog as it is now, or later.
    pub(super) async fn view_of_now(&self) -> Result<Arc<View>> {
        let deadline = Instant::now() + PATIENCE;
        let (node, incarnation) = (NodeId(self.identity.node), self.identity.incarnation);
        // It changes nothing, and tells of a revision that all that is acknowledged lies below.
        let asked = Action::Heartbeat { node, incarnation };
        let revision = self.meta.propose(asked, deadline).await?.revision;
        self.meta.wait_for(deadline, |view| view.revision() >= revision).await
    }
}

fn differences(shard: &Shard, view: &View) -> Differences {
    let here = shard.families();
    let is_gone =
        |family: &&CfInfo| family.id != CfId::DEFAULT && view.family_of_id(family.id).is_none();
    let gone = here.iter().filter(is_gone).map(|family| family.id).collect();
    let is_here = |id: CfId| here.iter().any(|family| family.id == id);
    let missing =
        view.families().filter(|family| !is_here(family.id) && family.id != CfId::DEFAULT);
    let mut missing: Vec<CfInfo> =
        missing.map(|family| CfInfo { id: family.id, name: family.name.clone() }).collect();
    // Ids only rise in a shard's log.
    missing.sort_by_key(|family| family.id);
    Differences { missing, gone }
}
