//! A cluster in one process: metadata, nodes and gateways over real links on loopback, data in
//! temporary folders.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod downs;
mod failover;
mod families;
mod jobs;
mod latches;
mod reads;
mod restore;
mod splits;
mod transfers;
mod vectors;
mod versions;
mod world;
mod writer;
