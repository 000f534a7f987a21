//! Who may open a folder.

use crate::base::{Error, ErrorKind, Result};
use crate::env::Disk;
use crate::env::disk::{FileLock, read_exact_at, write_atomic};
use std::path::Path;

const FORMAT: &[u8] = b"arqondb meta 1\n";

/// Makes sure that `dir` is a metadata node's, or nobody's yet, and takes its lock.
pub(super) fn claim(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn FileLock>> {
    let format = dir.join("FORMAT");
    disk.create_dir_all(dir)?;
    let is_new = !disk.exists(&format);
    let ours = |name: &str| matches!(name, "LOCK" | "FORMAT.tmp");
    if is_new && let Some(entry) = disk.list(dir)?.into_iter().find(|e| !ours(&e.name)) {
        let message = format!(
            "{} is not empty (it holds {}) and is no metadata node's; name another folder",
            dir.display(),
            entry.name
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let lock = disk.lock(&dir.join("LOCK"))?;
    if is_new {
        write_atomic(disk, &format, FORMAT)?;
    }
    let file = disk.open(&format)?;
    let mut found = [0; FORMAT.len()];
    if read_exact_at(&*file, &format, &mut found, 0).is_err() || found != FORMAT {
        let message = format!(
            "{} is the folder of something else than a metadata node of this version; name another",
            dir.display()
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    Ok(lock)
}
