//! What every engine is asked to do, and how it is set up.

use std::path::Path;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How an engine is opened. The same for all; what an engine has no word for it ignores.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Whether a write is on the device before it is acknowledged (class D) or with the kernel (K).
    pub sync: bool,
    /// Size of the memtable in bytes; `None`: the engine's default.
    pub write_buffer_bytes: Option<u64>,
    /// Size of the block cache in bytes; `None`: the engine's default.
    pub cache_bytes: Option<u64>,
    /// LZ4 or nothing.
    pub compress: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { sync: false, write_buffer_bytes: None, cache_bytes: None, compress: true }
    }
}

/// One open database.
pub trait Store: Send + Sync {
    /// Sets one key.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;
    /// Sets many keys at once, all or nothing.
    fn put_batch(&self, rows: &[(&[u8], &[u8])]) -> Result<()>;
    /// Removes one key.
    fn delete(&self, key: &[u8]) -> Result<()>;
    /// Shows the value of a key to `see`, copied no more than the engine's own interface demands;
    /// gives whether it is there.
    fn get(&self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool>;
    /// Shows at most `rows` rows from `from` on; gives how many there were.
    fn scan(&self, from: &[u8], rows: usize, see: &mut dyn FnMut(&[u8], &[u8])) -> Result<usize>;
    /// Writes what is in memory to tables and waits.
    fn flush(&self) -> Result<()>;
    /// Waits until no compaction is due.
    fn settle(&self) -> Result<()>;
}

/// The engines that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    Arqon,
    RocksDefault,
    RocksTuned,
    RocksManualWal,
    SystemRocksDefault,
    SystemRocksTuned,
    Fjall,
    Redb,
}

impl Engine {
    pub const ALL: [Engine; 8] = [
        Engine::Arqon,
        Engine::RocksDefault,
        Engine::RocksTuned,
        Engine::RocksManualWal,
        Engine::SystemRocksDefault,
        Engine::SystemRocksTuned,
        Engine::Fjall,
        Engine::Redb,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Engine::Arqon => "arqon",
            Engine::RocksDefault => "rocksdb",
            Engine::RocksTuned => "rocksdb-tuned",
            Engine::RocksManualWal => "rocksdb-manual-wal",
            Engine::SystemRocksDefault => "rocksdb-system",
            Engine::SystemRocksTuned => "rocksdb-system-tuned",
            Engine::Fjall => "fjall",
            Engine::Redb => "redb",
        }
    }

    pub fn parse(name: &str) -> Option<Engine> {
        Engine::ALL.into_iter().find(|e| e.name() == name)
    }

    /// Whether the bars are set by it: RocksDB as built here, in the classes of durability that
    /// ours has too.
    pub fn is_bar(self) -> bool {
        matches!(self, Engine::RocksDefault | Engine::RocksTuned)
    }

    /// The same of the system's RocksDB.
    pub fn is_system_bar(self) -> bool {
        matches!(self, Engine::SystemRocksDefault | Engine::SystemRocksTuned)
    }

    /// Whether it can run here.
    pub fn is_available(self) -> bool {
        match self {
            Engine::Arqon | Engine::Fjall | Engine::Redb => true,
            Engine::RocksDefault | Engine::RocksTuned | Engine::RocksManualWal => {
                cfg!(feature = "bundled")
            }
            Engine::SystemRocksDefault | Engine::SystemRocksTuned => {
                std::env::var_os(crate::rocks::SYSTEM_LIBRARY).is_some()
            }
        }
    }

    /// Opens a database in `dir`, creating it if need be.
    pub fn open(self, dir: &Path, setup: Setup) -> Result<Box<dyn Store>> {
        use crate::rocks::{Library, Profile, Rocks};
        let rocks = |library, profile| -> Result<Box<dyn Store>> {
            Ok(Box::new(Rocks::open(dir, library, profile, setup)?))
        };
        match self {
            Engine::Arqon => Ok(Box::new(crate::arqon::Arqon::open(dir, setup)?)),
            Engine::RocksDefault => rocks(Library::Bundled, Profile::Default),
            Engine::RocksTuned => rocks(Library::Bundled, Profile::Tuned),
            Engine::RocksManualWal => rocks(Library::Bundled, Profile::ManualWal),
            Engine::SystemRocksDefault => rocks(Library::System, Profile::Default),
            Engine::SystemRocksTuned => rocks(Library::System, Profile::Tuned),
            Engine::Fjall => Ok(Box::new(crate::fjall_store::Fjall::open(dir, setup)?)),
            Engine::Redb => Ok(Box::new(crate::redb_store::Redb::open(dir, setup)?)),
        }
    }

    /// Whether `file`, in a database's folder, is part of the write-ahead log.
    pub fn is_log(self, file: &Path) -> bool {
        let name = file.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let ends = |ending: &str| name.ends_with(ending);
        match self {
            Engine::Arqon => [".log", ".spare", ".new"].into_iter().any(ends),
            Engine::Fjall => ends(".jnl"),
            Engine::Redb => false,
            _ => ends(".log"),
        }
    }
}
