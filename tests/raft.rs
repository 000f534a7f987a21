//! The Raft path on the node's log: openraft's own storage suite, and nodes in one process that
//! lose leaders, unsynced data and each other, and agree all the same.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod raft {
    pub(crate) mod cluster;
    mod crashes;
    mod entries;
    mod hibernation;
    mod members;
    mod memory;
    pub(crate) mod net;
    mod partitions;
    mod reads;
    mod restarts;
    mod retention;
    mod sizes;
    mod snapshots;
    mod splits;
    mod suite;
}
