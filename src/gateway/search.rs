//! Looking for the leader of a shard that seems to have none.
//!
//! One caller at a time asks the replicas, at short intervals; the others wait until the map has a
//! leader again. So the leader is found soon after it is elected, at a cost that does not grow with
//! the number of callers. A node that a call did not get through to is *suspect* for a while: others
//! that still take it for the leader are not believed, and it is asked after those that are not.

use crate::gateway::map::NodeId;
use crate::op::route::ShardId;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Suspicion lasts twice as long as it took to arise, within these.
const SUSPECT_MIN: Duration = Duration::from_millis(20);
const SUSPECT_MAX: Duration = Duration::from_secs(2);

/// The searches under way, and the nodes under suspicion.
#[derive(Debug)]
pub(super) struct Searches {
    state: Mutex<State>,
    /// Counts searches that ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    searching: HashSet<ShardId>,
    suspects: HashMap<NodeId, Instant>,
}

/// The right to look for a shard's leader, until it is dropped.
#[derive(Debug)]
pub(super) struct Search<'a> {
    searches: &'a Searches,
    shard: ShardId,
}

impl Searches {
    pub(super) fn new() -> Searches {
        Searches { state: Mutex::default(), ended: watch::Sender::new(0) }
    }

    /// The search for a shard's leader, unless somebody else has it.
    pub(super) fn begin(&self, shard: ShardId) -> Option<Search<'_>> {
        let is_free = self.state().searching.insert(shard);
        is_free.then(|| Search { searches: self, shard })
    }

    /// Told when a search ends.
    pub(super) fn ended(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// A call to a node did not get through, and it took so long to find out.
    pub(super) fn suspect(&self, node: NodeId, took: Duration) {
        let now = Instant::now();
        let until = now + (took * 2).clamp(SUSPECT_MIN, SUSPECT_MAX);
        let mut state = self.state();
        state.suspects.retain(|_, until| *until > now);
        let known = state.suspects.entry(node).or_insert(until);
        *known = until.max(*known);
    }

    /// Whether a node is suspect.
    pub(super) fn is_suspect(&self, node: NodeId) -> bool {
        let state = self.state();
        state.suspects.get(&node).is_some_and(|until| *until > Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        self.searches.state().searching.remove(&self.shard);
        self.searches.ended.send_modify(|ended| *ended += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_searches_for_a_shard_and_the_next_may_when_it_ends() {
        let searches = Searches::new();
        let mut ended = searches.ended();
        let first = searches.begin(ShardId(1)).unwrap();
        assert!(searches.begin(ShardId(1)).is_none());
        assert!(searches.begin(ShardId(2)).is_some(), "another shard's");
        ended.borrow_and_update();
        drop(first);
        assert!(ended.has_changed().unwrap());
        assert!(searches.begin(ShardId(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn suspicion_lasts_twice_as_long_as_it_took_to_arise() {
        let searches = Searches::new();
        let (quick, slow, slowest) = (NodeId(1), NodeId(2), NodeId(3));
        searches.suspect(quick, Duration::ZERO);
        searches.suspect(slow, Duration::from_millis(600));
        searches.suspect(slow, Duration::ZERO);
        searches.suspect(slowest, Duration::from_secs(60));
        assert!([quick, slow, slowest].iter().all(|node| searches.is_suspect(*node)));
        assert!(!searches.is_suspect(NodeId(4)));
        tokio::time::advance(Duration::from_millis(25)).await;
        assert!(!searches.is_suspect(quick) && searches.is_suspect(slow));
        tokio::time::advance(Duration::from_millis(1_200)).await;
        assert!(!searches.is_suspect(slow) && searches.is_suspect(slowest));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!searches.is_suspect(slowest));
    }
}
