//! The storage engine against an oracle: random operations, faults, and a crash at every change.

mod lsm {
    mod model;
    mod oracle;
    mod world;
}
