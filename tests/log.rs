//! The log against its promises: models, crashes at every change, damage, full devices, failed
//! syncs, threads, and the bytes of its format.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its tests do")]

#[path = "log/crash.rs"]
mod crash;
#[path = "log/damage.rs"]
mod damage;
#[path = "log/driver.rs"]
mod driver;
#[path = "log/faults.rs"]
mod faults;
#[path = "log/golden.rs"]
mod golden;
#[path = "log/model.rs"]
mod model;
#[path = "log/threads.rs"]
mod threads;
