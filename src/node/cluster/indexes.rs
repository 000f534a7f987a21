//! Indexes of vectors, brought in line with the catalog by the leader of each shard, as column
//! families are.

use crate::base::IndexId;
use crate::catalog::View;
use crate::node::cluster::member::Inner;
use crate::node::cluster::replicas::Running;
use crate::op::vector::NamedIndex;
use crate::op::wire::Cut;
use crate::op::wire::vector::read_spec;
use crate::shard::Shard;
use bytes::Bytes;
use std::sync::Arc;

/// What a shard lacks and what it has to lose.
struct Differences {
    missing: Vec<NamedIndex>,
    gone: Vec<IndexId>,
}

impl Inner {
    /// Has the logs of the shards that are led here create and drop indexes. What cannot be done now
    /// is done at a later turn.
    pub(super) async fn bring_indexes(&self, view: &View) {
        let mut to_drop = Vec::new();
        for replica in self.replicas.all() {
            let Some(shard) = self.changeable(&replica) else { continue };
            let Differences { missing, gone } = differences(&shard, view);
            if !gone.is_empty() {
                to_drop.push(replica);
            } else if !missing.is_empty() {
                self.change_indexes(&replica, &shard, &[], &missing).await;
            }
        }
        if to_drop.is_empty() {
            return;
        }
        // What this copy of the catalog lacks may be new rather than gone.
        let Ok(view) = self.view_of_now().await else { return };
        for replica in to_drop {
            let Some(shard) = self.changeable(&replica) else { continue };
            let Differences { missing, gone } = differences(&shard, &view);
            self.change_indexes(&replica, &shard, &gone, &missing).await;
        }
    }

    async fn change_indexes(
        &self,
        replica: &Running,
        shard: &Arc<Shard>,
        drop: &[IndexId],
        create: &[NamedIndex],
    ) {
        // Nobody who holds latches waits for this thread meanwhile.
        let inside = replica.gate.pass().await;
        let now_ms = self.options.clock.unix_ms();
        let ticket = shard.change_vector_indexes(drop, create, now_ms);
        std::mem::drop(inside);
        // One that has just lost its lead leaves it to the next leader.
        if let Ok(ticket) = ticket {
            self.replicas.note_families(replica.record.id, ticket);
        }
    }
}

fn differences(shard: &Shard, view: &View) -> Differences {
    let here = shard.vector_indexes();
    let is_there = |id: IndexId| view.indexes().any(|index| index.id == id);
    let gone = here.iter().map(|index| index.id).filter(|id| !is_there(*id)).collect();
    let missing = view.indexes().filter(|index| here.iter().all(|known| known.id != index.id));
    let mut missing: Vec<NamedIndex> = missing
        .filter_map(|index| {
            let config = Bytes::copy_from_slice(&index.config);
            // One that a newer program made waits for this one to be updated.
            let spec = read_spec(&mut Cut::new(&config, "an index")).ok()?;
            Some(NamedIndex { id: index.id, spec })
        })
        .collect();
    missing.sort_by_key(|index| index.id);
    Differences { missing, gone }
}
