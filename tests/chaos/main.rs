//! Real processes under faults: `arqon meta`, `node` and `gateway` are killed, stopped, cut off from
//! each other and run out of disk while clients write; what the clients saw is recorded and checked.
//!
//! In reading order:
//! - [`program`]: a process of the program, and what is done to it. [`cluster`]: several of them.
//! - [`net`]: hosts of their own, in network namespaces. [`disk`]: a small disk.
//! - [`history`]: what clients asked and were told. [`clients`]: the clients.
//! - [`linear`]: whether a register's history is linearizable. [`verdict`]: whether all of it is as
//!   was promised. `refusals`: histories that must be refused.
//! - [`scenarios`], [`outages`], [`partitions`], [`vectors`]: the faults. [`failover`]: how long they are
//!   felt.
//!
//! Variables: see CONTRIBUTING. The scenarios run one after the other: each has the machine for
//! itself.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod clients;
mod cluster;
mod disk;
mod failover;
mod history;
mod linear;
mod net;
mod outages;
mod partitions;
mod program;
mod refusals;
mod scenarios;
mod vectors;
mod verdict;
