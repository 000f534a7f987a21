//! The storage engine against an oracle: random operations, faults, and a crash at every change.

mod lsm {
    mod crash;
    mod faults;
    mod manifest;
    mod model;
    mod oracle;
    mod world;
}
