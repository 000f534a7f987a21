//! Floor 1: every request and answer as plain data, and the one command table.
//!
//! In reading order:
//! - [`kv`]: key-value requests and responses, as gRPC, the REPL and the embedded engine put them.
//! - [`vector`]: vectors and the indexes that find them.
//! - [`txn`]: the steps of a transaction over several shards.
//! - [`reply`]: the answer to a Redis command, before it has a wire form.
//! - [`consistency`]: how fresh a read must be.
//! - [`dispatch`]: [`KvOps`], the seam every door speaks through: a local node, a gateway.
//! - [`route`]: the hash slot of a key, and which slots a request names.
//! - [`topology`]: [`Topology`], which node answers for which slots, as a door tells it.
//! - [`command`]: the command table: name, arity, flags, key positions, summary.
//! - [`wire`]: the bytes of those pieces that are kept as well as sent.
//!
//! Invariants owed to the floors above:
//! - Nothing here knows a client's protocol or how anything is stored.
//! - A command is described once. Arity checks, `COMMAND DOCS`, REPL hints and key extraction
//!   all read [`command`].

pub mod command;
pub mod consistency;
pub mod dispatch;
pub mod kv;
pub mod reply;
pub mod route;
pub mod topology;
pub mod txn;
pub mod vector;
pub mod wire;

pub use consistency::Consistency;
pub use dispatch::KvOps;
pub use kv::{Request, Response};
pub use reply::Reply;
pub use topology::Topology;
