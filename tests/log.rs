//! The log against its promises: models, crashes at every change, damage, full devices, failed
//! syncs, threads, and the bytes of its format.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its tests do")]

#[path = "log/crash.rs"]
mod crash;
#[path = "log/driver.rs"]
mod driver;
#[path = "log/model.rs"]
mod model;
