use super::*;

fn dir() -> (SimDisk, PathBuf) {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    (disk, PathBuf::from("/d/f"))
}

fn content(disk: &SimDisk, path: &Path) -> Option<Vec<u8>> {
    let file = disk.open(path).ok()?;
    let mut buf = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut buf, 0).unwrap();
    Some(buf)
}

#[test]
fn power_loss_keeps_what_was_synced_and_only_names_made_durable() {
    let (disk, path) = dir();
    let file = disk.create(&path).unwrap();
    file.write_at(b"kept", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(content(&disk.crash(Crash::PowerLostClean), &path), None);
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_at(b"lost", 4).unwrap();
    assert_eq!(content(&disk.crash(Crash::PowerLostClean), &path).unwrap(), b"kept");
    assert_eq!(content(&disk.crash(Crash::Process), &path).unwrap(), b"keptlost");
}

#[test]
fn a_folder_is_there_again_with_a_file_whose_removal_power_loss_undid() {
    let (disk, path) = dir();
    disk.create(&path).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.remove(&path).unwrap();
    disk.remove_dir(Path::new("/d")).unwrap();
    let disk = disk.crash(Crash::PowerLostClean);
    let found = disk.list(Path::new("/d")).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    disk.remove(&path).unwrap();
    disk.remove_dir(Path::new("/d")).unwrap();
    assert!(!disk.exists(Path::new("/d")));
}

#[test]
fn unsynced_writes_are_kept_lost_or_torn_by_sector_on_a_seed() {
    let (disk, path) = dir();
    let file = disk.create(&path).unwrap();
    file.write_at(&[1; 4096], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_at(&[2; 4096], 0).unwrap();
    let after = |seed| content(&disk.crash(Crash::PowerLost(seed)), &path).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..64 {
        let bytes = after(seed);
        assert_eq!(bytes, after(seed));
        assert!(bytes.chunks(SECTOR).all(|s| s.iter().all(|b| *b == s[0])));
        let twos = bytes.iter().filter(|b| **b == 2).count();
        seen.insert(match twos {
            0 => "lost",
            4096 => "kept",
            _ => "torn",
        });
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_failed_sync_loses_the_bytes_for_good_though_they_stay_visible() {
    let (disk, path) = dir();
    let file = disk.create(&path).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_at(b"gone", 0).unwrap();
    disk.fail(Fault::SyncError, 0);
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok());
    assert_eq!(content(&disk, &path).unwrap(), b"gone");
    assert_eq!(content(&disk.crash(Crash::PowerLostClean), &path).unwrap(), b"");
}

#[test]
fn a_full_disk_refuses_growth_but_not_writes_into_reserved_space() {
    let (disk, path) = dir();
    disk.set_capacity(Some(1000));
    let log = disk.create_log(&path, 1000, Appending::Copy).unwrap();
    log.write_at(&[7; 1000], 0).unwrap();
    let other = disk.create(Path::new("/d/g")).unwrap();
    assert_eq!(other.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::OutOfSpace);
    assert_eq!(log.write_at(b"x", 1000).unwrap_err().kind(), ErrorKind::OutOfSpace);
    assert!(disk.create_log(Path::new("/d/h"), 1, Appending::Copy).is_err());
    assert!(!disk.exists(Path::new("/d/h")));
}
