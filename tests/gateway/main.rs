//! The gateway: over a cluster in a map that fails in every way, under paused time; and over eight
//! real shards, beside one.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod bank;
mod chaos;
#[path = "../cluster/world.rs"]
#[allow(dead_code)]
mod cluster;
mod everywhere;
mod fresh;
mod indexes;
mod late;
mod model;
#[path = "../redis/model.rs"]
#[expect(dead_code, reason = "others use the rest of it")]
mod redis_model;
#[path = "../redis/text.rs"]
#[expect(dead_code, reason = "others use the rest of it")]
mod redis_text;
mod refusals;
mod retries;
mod steps;
mod transcripts;
mod words;
mod world;
