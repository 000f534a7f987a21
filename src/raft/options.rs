//! Settings of a group, and openraft's configuration made of them.

use crate::base::{Error, Result};
use crate::raft::vocabulary::Proposal;
use openraft::{Config, SnapshotPolicy};
use std::sync::Arc;
use std::time::Duration;

/// Settings of a group. The same on all its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// Time between two heartbeats of a leader. Default 50 ms, at least 10 ms.
    pub heartbeat: Duration,
    /// A follower that hears nothing for `election_max` and then a random time between the two
    /// stands for election. Default 150 ms; at least twice `heartbeat`.
    pub election_min: Duration,
    /// Default 300 ms; more than `election_min`. How long a leader's lease lasts.
    pub election_max: Duration,
    /// A group whose log has not grown for so long hibernates: see [`crate::raft`]. Never if zero,
    /// the default.
    pub hibernate_after: Duration,
    /// Batches of a shard that share an entry at most. Default 1024, which is also the most.
    pub entry_batches: usize,
    /// Bytes of entries above which the log is cut, as far as no follower needs them and the state
    /// machine's folder holds them. Default 64 MiB.
    pub log_bytes: u64,
    /// Bytes of entries above which it is cut whatever a follower needs: that one is sent a
    /// snapshot when it comes back. What is written in about half a second may come on top. Default
    /// 256 MiB; at least `log_bytes`.
    pub log_bytes_max: u64,
}

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        GroupOptions {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
            hibernate_after: Duration::ZERO,
            entry_batches: Proposal::PARTS_MAX,
            log_bytes: 64 << 20,
            log_bytes_max: 256 << 20,
        }
    }
}

impl GroupOptions {
    /// Checks the bounds.
    ///
    /// # Errors
    /// `InvalidArgument`, with what to mend.
    pub fn validate(&self) -> Result<()> {
        let fault = if self.heartbeat < Duration::from_millis(10) {
            "the heartbeat interval is below 10 ms"
        } else if self.election_min < 2 * self.heartbeat {
            "the least election timeout must be at least twice the heartbeat interval"
        } else if self.election_max <= self.election_min {
            "the greatest election timeout must be above the least"
        } else if !(1..=Proposal::PARTS_MAX).contains(&self.entry_batches) {
            "an entry has between 1 and 1024 batches"
        } else if self.log_bytes == 0 || self.log_bytes_max < self.log_bytes {
            "the log's hard bound must be at least its bound, and that above 0"
        } else {
            return Ok(());
        };
        Err(Error::invalid(fault))
    }

    /// openraft's configuration. What is not said here is its default.
    pub(crate) fn config(&self) -> Result<Arc<Config>> {
        self.validate()?;
        let ms = |time: Duration| time.as_millis() as u64;
        let config = Config {
            heartbeat_interval: ms(self.heartbeat),
            // A write that was answered within this time makes a heartbeat superfluous. With the
            // heartbeat and a tick (a fifth of it) it stays below `election_min`.
            heartbeat_min_interval: Some(ms(self.heartbeat) / 2),
            election_timeout_min: ms(self.election_min),
            election_timeout_max: ms(self.election_max),
            // One that nobody can hear does not raise terms; one that a minority hears lets go.
            enable_pre_vote: Some(true),
            quorum_loss_probe_interval: Some(2 * ms(self.election_max)),
            // A restarted leader has a state machine that lacks what it had applied.
            enable_leader_restore: Some(false),
            // Snapshots and cuts of the log are asked for by size: see `retention`.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            install_snapshot_timeout: 600_000,
            // An entry may have a megabyte; what a reader gives at once is bounded by bytes.
            max_payload_entries: 256,
            api_channel_size: Some(2048),
            notification_channel_size: Some(2048),
            state_machine_channel_size: Some(1024),
            // How often a replica that cannot be reached is tried again: always the same time, since
            // only then is a cut of the log made that it was in the way of.
            backoff: format!("{0}ms {0}ms {0}ms", 2 * ms(self.heartbeat)),
            ..Config::default()
        };
        let config = config.validate();
        config.map(Arc::new).map_err(|e| Error::invalid(format!("the group's settings: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_their_bounds_and_what_does_not_is_refused() {
        let config = GroupOptions::default().config().unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert!(config.quorum_loss_probe_interval >= Some(2 * config.election_timeout_max));
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        let mend = |change: fn(&mut GroupOptions)| {
            let mut options = GroupOptions::default();
            change(&mut options);
            options.config().unwrap_err().message().to_string()
        };
        assert!(mend(|o| o.heartbeat = Duration::from_millis(1)).contains("heartbeat"));
        assert!(mend(|o| o.election_min = Duration::from_millis(99)).contains("twice"));
        assert!(mend(|o| o.election_max = o.election_min).contains("above the least"));
        assert!(mend(|o| o.entry_batches = 0).contains("1024"));
        assert!(mend(|o| o.log_bytes_max = 1).contains("hard bound"));
    }
}
