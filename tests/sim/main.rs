//! A whole cluster in one thread: metadata nodes, nodes and gateways on simulated disks, over a
//! simulated network, in simulated time; clients whose answers are checked, and whatever may befall
//! a cluster, all drawn from a seed.
//!
//! In reading order:
//! - `run`: one simulation. `shape`: what a seed makes of it. `world`: the hosts, and their one time.
//! - `process`: a process; `time`: its clock; `net`: the network; `echo`: calls that come twice.
//! - `faults`: what befalls the cluster. `operator`: who moves replicas about.
//! - `clients`, `direct`, `bank`, `vectors`, `subscribers`, `history`: what is asked, and what is
//!   answered. `check`, `linear`, `audit`, `invariants`: whether that is right.
//! - `trace`, `entropy`: the same seed does the same. `seeds`: many of them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod audit;
mod bank;
mod check;
mod clients;
mod direct;
mod echo;
mod entropy;
mod faults;
mod history;
mod invariants;
mod linear;
mod net;
mod operator;
mod process;
mod run;
mod seeds;
mod shape;
mod subscribers;
mod time;
mod trace;
mod vectors;
mod world;
