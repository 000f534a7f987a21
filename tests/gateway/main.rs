//! The gateway: over a cluster in a map that fails in every way, under paused time; and over eight
//! real shards, beside one.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod chaos;
mod everywhere;
mod model;
mod refusals;
mod retries;
mod words;
mod world;
