//! The storage engine against an oracle: random operations, faults, and a crash at every change.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lsm {
    mod check;
    mod crash;
    mod faults;
    mod manifest;
    mod model;
    mod oracle;
    mod regression;
    mod split;
    mod world;
}
