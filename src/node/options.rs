//! Settings of a node's data.

use crate::env::{Clock, Disk, RealClock, RealDisk};
use crate::log::SyncLevel;
use crate::lsm::Codec;
use std::sync::Arc;

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// When a write is acknowledged: see [`SyncLevel`]. Default: `interval`, 100 ms.
    pub sync: SyncLevel,
    /// Memory, in bytes: seven sixteenths for memtables, six for the block cache with filters and
    /// indexes, the rest for the log, background work and the program. Indexes of vectors take up
    /// to half of it, which the block cache then does without. Replaying a log at opening
    /// may take more, up to the log's size. Default: 256 MiB; at least 8 MiB.
    pub memory_budget_bytes: u64,
    /// Size of a column family's memtable at which it is written to a table, in bytes; at most
    /// the seven sixteenths of the budget that memtables have. Default: three eighths of those, 64
    /// MiB at most.
    pub write_buffer_bytes: Option<u64>,
    /// How tables are compressed. Default: LZ4.
    pub compression: Codec,
    /// The log is kept below about this size by flushing what pins it, in bytes. Default: 512 MiB.
    pub log_bytes_max: u64,
    /// Size of a log segment in bytes. Default: 16 MiB.
    pub log_segment_bytes: u64,
    /// Background threads for flushes and compactions. Default: 2; at least 1.
    pub background_threads: usize,
    /// Vectors of an index after which the graph that grows is sealed and another begun. Default:
    /// 131,072.
    pub vector_segment_rows: usize,
    /// Keeps exact counts of the default family's keys, at the cost of a read before each write.
    /// Default: off for the embedded database, on for a server.
    pub count_keys: bool,
    /// Creates the database if it is not there. Default: true.
    pub create_if_missing: bool,
    /// Where it lies. Default: the operating system's files.
    pub disk: Arc<dyn Disk>,
    /// What time it is. Default: the machine's clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sync: SyncLevel::default(),
            memory_budget_bytes: 256 << 20,
            write_buffer_bytes: None,
            compression: Codec::default(),
            log_bytes_max: 512 << 20,
            log_segment_bytes: 16 << 20,
            background_threads: 2,
            vector_segment_rows: 131_072,
            count_keys: false,
            create_if_missing: true,
            disk: RealDisk::shared(),
            clock: Arc::new(RealClock::new()),
        }
    }
}
