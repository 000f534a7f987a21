//! The catalog against its promises: random commands and every invariant, refusals, hostile bytes,
//! the bytes of its formats, placement, plans, and the jobs that run them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;
mod hostile;
mod model;
mod placement;
mod plans;
mod random;
mod refusals;
mod retries;
mod runner;
mod world;
