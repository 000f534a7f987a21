//! Short codes that stand for vectors.
//!
//! In reading order:
//! - `rotation`: makes all dimensions alike.

pub(super) mod rotation;
