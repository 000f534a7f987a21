//! Floor 10: throughput and latency of anything that reads and writes keys, measured alike.
//!
//! Words: a *stage* is one workload run to its end; a *session* is one client with a thread of
//! its own; a *batch* is what a session sends before it waits.
//!
//! In reading order:
//! - [`workload`]: what is done to which keys.
//! - [`session`]: the seam between a workload and what is measured; who offers it is measured.
//! - [`pace`]: when a batch is due. With a rate, latency counts from the moment it was due, so a
//!   stall is felt by every request it delays (no coordinated omission).
//! - [`stage`]: threads, histograms, the clock.
//! - [`figures`]: what was measured.
//!
//! Invariants owed to whoever believes the figures:
//! - Every operation counted was answered; an error ends the run as a failure.
//! - The time of a stage runs from the first batch sent to the last answer.

pub mod figures;
pub mod pace;
pub mod session;
pub mod stage;
pub mod workload;

pub use figures::Figures;
pub use session::{Session, Target};
pub use stage::{Plan, run};
pub use workload::{Data, Op, Workload};
