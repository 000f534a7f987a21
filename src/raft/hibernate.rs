//! Groups that hibernate: where nothing is written, a leader is heard of less often.
//!
//! A group at work has timers of its own: its leader is heard of every [`GroupOptions::heartbeat`],
//! and each replica looks five times as often whether anything is due. A node with many idle groups
//! does little else. So a replica whose log has not grown for [`GroupOptions::hibernate_after`] stops
//! its timers, and one timer of the node serves all of these: it has leaders heard of often enough
//! for their leases, and wakes followers that have heard of none. Nothing else is different: a
//! hibernating leader takes writes and reads at once. An entry wakes whoever writes or takes it, and
//! so does anyone who stands for election.
//!
//! A follower hibernates before its leader does. One that does not, because it was away, stands for
//! election, is refused as long as others have heard of the leader, and wakes it by asking.
//!
//! [`GroupOptions::heartbeat`]: crate::raft::GroupOptions::heartbeat
//! [`GroupOptions::hibernate_after`]: crate::raft::GroupOptions::hibernate_after

use crate::raft::group::Inner;
use crate::raft::machine::Machine;
use crate::raft::vocabulary::TypeConfig;
use futures::FutureExt;
use openraft::Raft;
use openraft::async_runtime::{Instant as _, WatchReceiver};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How much longer a leader waits than its followers do.
const LEADER_WAITS: Duration = Duration::from_secs(2);
/// Turns of the node's timer for each word of a leader. Half a lease lies between two.
const TURNS_A_WORD: u32 = 2;

/// Whether a replica hibernates, and why.
pub(crate) struct Hibernation {
    raft: Raft<TypeConfig, Machine>,
    is_on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last entry of its log, and since when that is so.
    last: Option<u64>,
    since: Instant,
    /// When a leader was heard of.
    heard: Instant,
    /// Turns since a leader's last word.
    turns: u32,
}

impl Hibernation {
    pub(crate) fn new(raft: Raft<TypeConfig, Machine>) -> Arc<Hibernation> {
        let now = Instant::now();
        let state = State { last: None, since: now, heard: now, turns: 0 };
        Arc::new(Hibernation { raft, is_on: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// Notes that a leader was heard of.
    pub(crate) fn hear(&self) {
        self.state().heard = Instant::now();
    }

    /// Whether it hibernates.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Has its timers go again, if they do not.
    pub(crate) fn wake(&self) {
        if self.is_on() {
            // Both steps under the lock, here and where it begins: the timers go unless it is on.
            let mut state = self.state();
            if self.is_on.swap(false, Ordering::AcqRel) {
                self.raft.runtime_config().tick(true);
                state.since = Instant::now();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// One turn of the node's timer.
    pub(crate) fn hibernate(&self) {
        if self.hibernate_after.is_zero() {
            return;
        }
        let (leads, follows, last, is_settled) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            let leads = now.state.is_leader();
            let last = now.last_log_index;
            let others = || now.replication.iter().flatten().filter(|(id, _)| **id != self.own);
            let heard = |id: &u64| {
                let at = now.heartbeat.as_ref().and_then(|heard| heard.get(id).copied().flatten());
                at.is_some_and(|at| at.elapsed() <= self.lease)
            };
            let is_settled = now.last_applied.map(|id| id.index) == last
                && others().all(|(id, at)| at.map(|at| at.index) == last && heard(id));
            (leads, !leads && now.current_leader.is_some(), last, is_settled)
        };
        let mut state = self.hibernation.state();
        if state.last != last || !leads && !follows {
            (state.last, state.since) = (last, Instant::now());
            drop(state);
            return self.hibernation.wake();
        }
        // Replicas of a group do not all lose their patience at once.
        let spread = self.lease * (self.own.wrapping_mul(0x9e37_79b9) >> 8 & 0xff) as u32 / 256;
        let is_lost = follows && state.heard.elapsed() > self.lease * 2 + spread;
        if self.hibernation.is_on() {
            state.turns += 1;
            let is_due = leads && state.turns >= TURNS_A_WORD;
            if is_due {
                state.turns = 0;
            }
            drop(state);
            if is_lost {
                self.hibernation.wake();
            } else if is_due {
                // One that finds no room is one of many. Of many groups in one turn, all are sent: what
                // a task may do at a time is not counted.
                let raft = self.raft.trigger();
                _ = tokio::task::unconstrained(raft.heartbeat()).now_or_never();
            }
            return;
        }
        let after = self.hibernate_after + if leads { LEADER_WAITS } else { Duration::ZERO };
        if is_settled && !is_lost && state.since.elapsed() >= after {
            state.turns = TURNS_A_WORD;
            self.hibernation.is_on.store(true, Ordering::Release);
            self.raft.runtime_config().tick(false);
        }
    }
}
