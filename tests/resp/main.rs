//! The Redis door over a loopback socket, in front of an engine that is a map in memory:
//! transcripts of bytes, limits, pipelines, transactions, and the ways a connection ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../gateway/behind.rs"]
mod behind;
mod cluster;
#[path = "../gateway/double.rs"]
mod double;
mod ends;
mod harness;
mod info;
mod memory;
#[path = "../redis/model.rs"]
#[allow(dead_code)]
mod model;
mod pipelines;
mod transcripts;
