//! ArqonDB: keys and values, vectors and temporal graphs in one engine, one log, one atomic write.

pub mod base;
pub mod env;
pub mod log;
pub mod lsm;
pub mod op;
pub mod redis;
pub mod rpc;
pub mod serve;
