//! Redis data commands over a keyspace that is a map in memory: transcripts, random bytes, and
//! a comparison with a real server; and pipelines of them through a node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod differential;
mod fuzz;
#[expect(dead_code, reason = "others use the rest of it")]
mod model;
mod pipelines;
mod random;
mod server;
mod table;
mod text;
mod transcripts;
mod types;
