//! The checker finds what is damaged, missing or left behind, and names it.

use super::world::{DIR, World, open_at};
use arqondb::base::ErrorKind;
use arqondb::env::Pool;
use arqondb::lsm::check::check_dir;
use std::path::Path;

fn flushed() -> World {
    let mut world = World::new(3);
    for _ in 0..40 {
        world.write();
    }
    world.engine.flush_all().unwrap();
    world.engine.close();
    world
}

#[test]
fn a_flipped_bit_anywhere_in_an_sstable_is_found_and_its_file_named() {
    let world = flushed();
    let dir = Path::new(DIR);
    let shared = world.disk.shared();
    assert!(check_dir(&shared, dir).unwrap().is_sound());
    let tables: Vec<_> =
        shared.list(dir).unwrap().into_iter().filter(|e| e.name.ends_with(".sst")).collect();
    assert!(!tables.is_empty());
    for table in &tables {
        let path = dir.join(&table.name);
        for offset in (0..table.len).step_by(7) {
            world.disk.damage(&path, offset, 0x10).unwrap();
            let report = check_dir(&shared, dir).unwrap();
            assert!(report.problems.iter().any(|p| p.file == path), "{path:?} at {offset}");
            world.disk.damage(&path, offset, 0x10).unwrap();
        }
    }
}

#[test]
fn a_missing_sstable_is_a_problem_and_a_stranger_only_an_orphan() {
    let world = flushed();
    let dir = Path::new(DIR);
    let shared = world.disk.shared();
    shared.create(&dir.join("999999.sst")).unwrap();
    let report = check_dir(&shared, dir).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.orphans, ["999999.sst"]);
    drop(open_at(&world.disk, &Pool::manual(), dir).unwrap());
    assert!(!shared.exists(&dir.join("999999.sst")));
    let entries = shared.list(dir).unwrap();
    let table = entries.iter().find(|e| e.name.ends_with(".sst")).unwrap();
    shared.remove(&dir.join(&table.name)).unwrap();
    assert_eq!(check_dir(&shared, dir).unwrap().problems.len(), 1);
    let error = open_at(&world.disk, &Pool::manual(), dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
}

#[test]
fn a_folder_that_lost_its_current_is_refused_and_left_alone() {
    let world = flushed();
    let dir = Path::new(DIR);
    let shared = world.disk.shared();
    let before = shared.list(dir).unwrap().len();
    shared.remove(&dir.join("CURRENT")).unwrap();
    let error = open_at(&world.disk, &Pool::manual(), dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(shared.list(dir).unwrap().len(), before - 1);
}
