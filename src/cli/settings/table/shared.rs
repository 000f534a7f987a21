//! Settings that several servers read.

use crate::cli::settings::kind::Kind;
use crate::cli::settings::read::ClusterMode;
use crate::cli::settings::setting::section;
use crate::log::SyncLevel;
use crate::lsm::Codec;
use std::time::Duration;

section! {
    /// What every server does alike.
    Server "server" for [Meta, Node, Gateway, Dev] {
        /// Listen on other addresses than loopback although whoever can reach them can read and
        /// write.
        allow_remote: bool = Kind::Bool, "false", flag: Some("allow-remote");
        /// How long calls in flight may take once a stop was asked for.
        drain: Duration = Kind::Duration(0, 600_000), "5s";
    }
}

section! {
    /// The engine that holds the data.
    Storage "storage" for [Node, Dev] {
        /// When a write is answered: always, interval, interval:MS or os. A replicated one goes by
        /// raft.sync.
        sync: SyncLevel = Kind::Sync, "interval:100", flag: Some("sync");
        /// Memory for unflushed writes, indexes of vectors (half of it at most) and cached blocks
        /// together.
        memory: u64 = Kind::Size(8 << 20, 1 << 40), "256MiB", flag: Some("memory"),
            flag_unit: "MiB";
        /// Size below which the log is kept by flushing what holds on to it.
        log_max: u64 = Kind::Size(64 << 20, 1 << 40), "512MiB";
        /// Size of a segment of the log.
        log_segment: u64 = Kind::Size(1 << 20, 1 << 30), "16MiB";
        /// How tables are compressed: lz4 or none.
        compression: Codec = Kind::Choice(&["lz4", "none"]), "lz4";
        /// Background threads for flushes and compactions.
        threads: u64 = Kind::Int(1, 64), "2";
    }
}

section! {
    /// Replication.
    Raft "raft" for [Meta, Node] {
        /// When an entry counts as stored by a replica: always, interval, interval:MS or os; with
        /// any but always a power cut of several servers may take acknowledged writes.
        sync: SyncLevel = Kind::Sync, "always";
        /// How often a leader is heard of.
        heartbeat: Duration = Kind::Duration(10, 10_000), "50ms";
        /// Silence of a leader after which a replica may stand for election: the least.
        election_min: Duration = Kind::Duration(50, 60_000), "150ms";
        /// Silence of a leader after which a replica may stand for election: the most. A new
        /// leader is there after about two of these at worst.
        election_max: Duration = Kind::Duration(50, 60_000), "300ms";
        /// Time after which a write that is not committed is answered as unknown.
        commit_timeout: Duration = Kind::Duration(100, 600_000), "5s";
        /// Log of a shard that is kept for followers that are behind; beyond it they get a
        /// snapshot.
        log_keep: u64 = Kind::Size(1 << 20, 1 << 40), "64MiB";
        /// Bytes a second that a server sends in snapshots; 0 for no limit.
        snapshot_rate: u64 = Kind::Size(0, 1 << 40), "64MiB";
        /// Idle time after which a shard's leader is heard of less often, and its timers stand still; 0s
        /// for never.
        hibernate_after: Duration = Kind::Duration(0, 86_400_000), "10s";
    }
}

section! {
    /// What the metadata plane decides for the cluster.
    Cluster "cluster" for [Meta] {
        /// Shards of a new cluster; few and large ones are the fastest.
        shards: u64 = Kind::Int(1, 1024), "8";
        /// Replicas of a shard, an odd number; fewer while there are fewer nodes.
        replicas: u64 = Kind::Int(1, 7), "3";
        /// Silence after which a node is suspected, and leads nothing new.
        suspect_after: Duration = Kind::Duration(500, 3_600_000), "5s";
        /// Silence after which a node is taken for dead, and its replicas are made anew elsewhere.
        dead_after: Duration = Kind::Duration(1_000, 604_800_000), "5m";
        /// Moves of replicas that may concern one node at a time.
        moves_per_node: u64 = Kind::Int(1, 64), "2";
    }
}

section! {
    /// The Redis door of a cluster.
    Redis "redis" for [Node, Gateway] {
        /// What clients of Redis Cluster see: proxy (every server serves every slot) or moved (they
        /// are sent to the shard's leader).
        cluster_mode: ClusterMode = Kind::Choice(&["proxy", "moved"]), "proxy";
    }
}
