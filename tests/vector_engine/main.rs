//! Vectors as records of a database: what a search finds is what is stored, whatever happened.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod damage;
mod fresh;
mod grpc;
mod memory;
mod model;
mod postings;
mod refusals;
mod searches;
mod words;
mod world;
