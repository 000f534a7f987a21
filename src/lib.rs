//! ArqonDB: keys and values, vectors and temporal graphs in one engine, one log, one atomic write.
//!
//! # The floors
//!
//! A file imports its own folder and lower floors, never a sibling and never upwards;
//! `tests/tidy.rs` holds the tree to it.
//!
//! | floor | folders | is |
//! |---|---|---|
//! | 0 | [`base`] | words: errors, ids, codecs |
//! | 1 | [`env`](mod@env) | the outside world: files, clock, randomness, threads; real and simulated |
//! | 1 | [`op`] | every request and answer as plain data, and the one command table |
//! | 2 | [`log`] | the node's one append-only log |
//! | 3 | [`lsm`] | memtables, sstables, manifest, compaction, iterators |
//! | 4 | [`redis`] | Redis data types and commands on top of keys |
//! | 4 | [`vector`] | indexes that find the nearest vectors |
//! | 5 | [`shard`], [`catalog`] | the state machines: a shard; the cluster's metadata |
//! | 6 | [`raft`], [`rpc`] | replication behind one door; the wire's types |
//! | 7 | [`node`] | the roles that hold state |
//! | 8 | [`gateway`] | the role without state: route, retry, fan out, merge |
//! | 9 | [`serve`] | the doors: protocol to `op` and back |
//! | 10 | [`cli`], [`repl`], [`mod@bench`] | the program |
//!
//! # Two walks
//!
//! A write, `SET k v`: `serve/resp` reads a frame and finds the command in `op::command`; through
//! [`op::KvOps`] it comes to `node::Standalone`, and in `shard` it latches the key, is evaluated by
//! `redis` against a transaction, and becomes one `lsm::batch::WriteBatch`. The batch is placed in
//! the `log`; once committed it is applied to the `lsm` memtable, and the answer goes back. Later,
//! in the background: flush, sstable, manifest, and the log lets go of what is flushed.
//!
//! A read, `GET k`: the same way down to `shard`, then through the overlay of pending batches to
//! `lsm`: memtables, then tables from the newest level down, by filter, index and block cache.
//!
//! # Embedded
//!
//! ```
//! # fn main() -> arqondb::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! let db = arqondb::DBImpl::open(path)?;
//! let mut batch = arqondb::WriteBatch::new();
//! batch.put(b"a", b"1");
//! batch.put(b"b", b"2");
//! db.write(batch)?;
//! assert_eq!(db.get(b"b")?.as_deref(), Some(&b"2"[..]));
//! # Ok(())
//! # }
//! ```

pub mod base;
pub mod bench;
pub mod catalog;
pub mod cli;
pub mod env;
pub mod gateway;
pub mod log;
pub mod lsm;
pub mod meta;
pub mod node;
pub mod op;
pub mod raft;
pub mod redis;
pub mod repl;
pub mod rpc;
pub mod serve;
pub mod shard;
pub mod vector;

pub use base::{CfId, Error, ErrorKind, Result, Seq};
pub use log::SyncLevel;
pub use lsm::batch::WriteBatch;
pub use lsm::{Codec, IterOptions, ReadOptions};
/// The embedded database, under the name it was promised.
pub use node::Db as DBImpl;
pub use node::{Db, Options};

/// Parts of the engine that are of use alone, under the names they were promised.
pub mod engine {
    /// Indexes that find the nearest vectors.
    pub mod vector {
        pub use crate::vector::{
            Answer, CompactIndex, DiskHnswConfig, DiskHnswIndex, DistanceMetric, FetchLive, Filter,
            FlatIndex, Fused, Hit, HnswConfig, HnswIndex, PAGE_BYTES, PackedIndex, PageSink, Pages,
            Postings, PqConfig, PqHnswConfig, PqHnswIndex, SearchRequest, SearchStats,
            SpfreshCodes, SpfreshConfig, SpfreshIndex, TextHit, TextIndex, TextMatched,
            TextMatches, fuse_by_rank, words,
        };
    }
}

/// The README's Rust is compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The doors in front of an embedded database, under the names they were promised.
///
/// ```no_run
/// use arqondb::DBImpl;
/// use arqondb::network::{KvService, redis_service::RedisServer};
///
/// # async fn serve() -> arqondb::Result<()> {
/// let db = DBImpl::open("mydb")?;
/// RedisServer::new(KvService::new(db)).serve("127.0.0.1:6379").await
/// # }
/// ```
pub mod network {
    pub use crate::node::Standalone as KvService;

    /// The Redis door.
    pub mod redis_service {
        pub use crate::serve::resp::RedisServer;
    }
}
