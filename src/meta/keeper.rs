//! What the leader sees to by itself: nodes that fall silent.

use crate::catalog::records::NodeState;
use crate::catalog::{Action, Command, NodeId, encode_command};
use crate::meta::readmit::settle;
use crate::meta::server::Inner;
use std::sync::Weak;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often it looks, at most.
const EVERY_MAX: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks from one meeting with the others to the next.
const MEET_EVERY: u64 = 4;

/// Looks after the nodes while this metadata node leads, until it is stopped.
pub(super) async fn run(meta: Weak<Inner>) {
    let (mut leads_since, mut looks) = (None, 0u64);
    loop {
        let every = meta.upgrade().map(|meta| meta.options.suspect_after / 4);
        sleep(every.unwrap_or_default().min(EVERY_MAX)).await;
        let Some(meta) = meta.upgrade() else { return };
        meta.place_members();
        if looks.is_multiple_of(MEET_EVERY) {
            meta.meet_others().await;
        }
        looks += 1;
        if !meta.leads() {
            leads_since = None;
            continue;
        }
        _ = timeout(PATIENCE, settle(&meta)).await;
        // Heartbeats of the time before went elsewhere, or nowhere: everyone gets a new chance.
        let since = *leads_since.get_or_insert_with(Instant::now);
        for (node, expected, to) in silent(&meta, since) {
            let action = Action::SetNodeState { node, expected, to };
            if let Ok(command) = encode_command(&Command { now_ms: 0, id: None, action }) {
                // What fails now is tried at the next look.
                _ = meta.propose(command.into(), true, PATIENCE).await;
            }
        }
    }
}

/// Nodes that have been silent for too long, and what they become. Measured by a clock that nobody
/// sets, and from `since` on.
fn silent(meta: &Inner, since: Instant) -> Vec<(NodeId, NodeState, NodeState)> {
    let (suspect, dead) = (meta.options.suspect_after, meta.options.dead_after);
    meta.machine.read(|memory| {
        let catalog = &memory.catalog;
        let judge = |node: &crate::catalog::records::Node| {
            let quiet = memory.heard(node.id).map_or(since, |heard| heard.max(since)).elapsed();
            // One that was emptied may be away for as long as it likes.
            let is_needed = match node.state {
                NodeState::Active | NodeState::Joining => true,
                NodeState::Draining => catalog.view().shards_on(node.id).next().is_some(),
                _ => false,
            };
            match node.state {
                state if is_needed && quiet > suspect => Some((node.id, state, NodeState::Suspect)),
                NodeState::Suspect if quiet > dead => {
                    Some((node.id, NodeState::Suspect, NodeState::Dead))
                }
                _ => None,
            }
        };
        catalog.view().nodes().filter_map(judge).collect()
    })
}
