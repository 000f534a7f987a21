//! Who a node is.
//!
//! ```text
//! DIR/FORMAT: "arqondb node 1\n"
//! DIR/NODE:   [magic "AQND"][crc32c u32 LE of what follows][incarnation u64 LE][node u64 LE][cluster 16]
//! ```
//! The incarnation is drawn when the folder is made. The number and the cluster are 0 until the node
//! is registered.

use crate::base::checksum::crc32c_append;
use crate::base::{Error, ErrorKind, Result};
use crate::env::Disk;
use crate::env::disk::{FileLock, read_exact_at, write_atomic};
use crate::env::rng::Seeds;
use std::path::Path;

const FORMAT: &[u8] = b"arqondb node 1\n";
const MAGIC: &[u8; 4] = b"AQND";
const BYTES: usize = 40;

/// Who a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) incarnation: u64,
    pub(super) node: u64,
    pub(super) cluster: [u8; 16],
}

/// Makes sure that `dir` is a node's of a cluster, or nobody's yet; takes its lock, and says who
/// the node is.
pub(super) fn claim(
    disk: &dyn Disk,
    dir: &Path,
    seeds: &Seeds,
) -> Result<(Box<dyn FileLock>, Identity)> {
    let (format, name) = (dir.join("FORMAT"), dir.join("NODE"));
    disk.create_dir_all(dir)?;
    let is_new = !disk.exists(&format);
    let ours = |name: &str| matches!(name, "LOCK" | "FORMAT.tmp" | "NODE" | "NODE.tmp");
    if is_new && let Some(entry) = disk.list(dir)?.into_iter().find(|e| !ours(&e.name)) {
        let message = format!(
            "{} is not empty (it holds {}) and is no cluster node's; name another folder",
            dir.display(),
            entry.name
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let lock = disk.lock(&dir.join("LOCK"))?;
    if is_new {
        let incarnation = seeds.next_seed().max(1);
        write(disk, dir, Identity { incarnation, node: 0, cluster: [0; 16] })?;
        write_atomic(disk, &format, FORMAT)?;
    }
    let file = disk.open(&format)?;
    let mut found = [0; FORMAT.len()];
    if read_exact_at(&*file, &format, &mut found, 0).is_err() || found != FORMAT {
        let message = format!(
            "{} is the folder of something else than a cluster's node of this version; name another",
            dir.display()
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let file = disk.open(&name)?;
    let mut bytes = [0; BYTES];
    read_exact_at(&*file, &name, &mut bytes, 0)?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(number)
    };
    if bytes[..4] != MAGIC[..] || bytes[4..8] != crc32c_append(0, &bytes[8..]).to_le_bytes() {
        return Err(Error::corruption(name, 0, "who the node is", "bytes that say nothing"));
    }
    let mut cluster = [0; 16];
    cluster.copy_from_slice(&bytes[24..]);
    Ok((lock, Identity { incarnation: number(8), node: number(16), cluster }))
}

/// Remembers who the node is.
pub(super) fn write(disk: &dyn Disk, dir: &Path, identity: Identity) -> Result<()> {
    let mut bytes = [0; BYTES];
    bytes[8..16].copy_from_slice(&identity.incarnation.to_le_bytes());
    bytes[16..24].copy_from_slice(&identity.node.to_le_bytes());
    bytes[24..].copy_from_slice(&identity.cluster);
    bytes[..4].copy_from_slice(MAGIC);
    let sum = crc32c_append(0, &bytes[8..]).to_le_bytes();
    bytes[4..8].copy_from_slice(&sum);
    write_atomic(disk, &dir.join("NODE"), &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimDisk;

    #[test]
    fn a_node_stays_who_it_is_and_damage_is_told() {
        let disk = SimDisk::new();
        let dir = Path::new("/node");
        let (lock, first) = claim(&disk, dir, &Seeds::default()).unwrap();
        assert_ne!(first.incarnation, 0);
        assert_eq!((first.node, first.cluster), (0, [0; 16]));
        let known = Identity { node: 7, cluster: [3; 16], ..first };
        write(&disk, dir, known).unwrap();
        drop(lock);
        let (lock, again) = claim(&disk, dir, &Seeds::default()).unwrap();
        assert_eq!(again, known);
        drop(lock);
        for at in 0..BYTES as u64 {
            disk.damage(&dir.join("NODE"), at, 1).unwrap();
            assert_eq!(
                claim(&disk, dir, &Seeds::default()).unwrap_err().kind(),
                ErrorKind::Corruption
            );
            disk.damage(&dir.join("NODE"), at, 1).unwrap();
        }
        let other = Path::new("/other");
        disk.create_dir_all(other).unwrap();
        write_atomic(&disk, &other.join("FORMAT"), b"arqondb 1\n").unwrap();
        assert_eq!(claim(&disk, other, &Seeds::default()).unwrap_err().kind(), ErrorKind::Refused);
    }
}
