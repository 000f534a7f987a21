//! Where things lie in a data folder.
//!
//! ```text
//! DIR/LOCK          held by the process that has the folder open
//! DIR/log/          the node's log
//! DIR/shard-N/      the engine of shard N: CURRENT, MANIFEST-*, *.sst
//! ```

use crate::cli::failure::{Failure, Outcome};
use crate::env::{Disk, RealDisk};
use std::path::{Path, PathBuf};

/// The log's folder: `dir` itself, or the one in a data folder.
pub fn log_dir(dir: &Path) -> PathBuf {
    let inner = dir.join("log");
    if RealDisk.exists(&inner) { inner } else { dir.to_path_buf() }
}

/// The folders of engines: `dir` itself, or those of the shards in a data folder.
///
/// # Errors
/// Not found if there is none.
pub fn engine_dirs(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = RealDisk.list(dir)?;
    let is_engine = |name: &str| name == "CURRENT" || name.starts_with("MANIFEST-");
    if entries.iter().any(|entry| is_engine(&entry.name)) {
        return Ok(vec![dir.to_path_buf()]);
    }
    let shards = entries.iter().filter(|entry| entry.is_dir && entry.name.starts_with("shard-"));
    let found: Vec<PathBuf> = shards.map(|entry| dir.join(&entry.name)).collect();
    if found.is_empty() {
        let text = format!("{} holds no database: no CURRENT and no shard-N", dir.display());
        let error = crate::base::Error::new(crate::base::ErrorKind::NotFound, text);
        return Err(Failure::from(error).fix("name a folder made by: arqon dev --data DIR"));
    }
    Ok(found)
}

/// Removes a folder and all in it.
///
/// # Errors
/// Those of the disk.
pub fn remove_tree(folder: &Path) -> crate::base::Result<()> {
    for entry in RealDisk.list(folder)? {
        let path = folder.join(&entry.name);
        if entry.is_dir { remove_tree(&path)? } else { RealDisk.remove(&path)? }
    }
    RealDisk.remove_dir(folder)
}
