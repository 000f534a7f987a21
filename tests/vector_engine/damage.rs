//! Files of an index that are damaged, missing or old: the answers are the same.

use crate::world::{DIM, DIR, Model, NAME, compare, create, info, open, put, spec, vector};
use arqondb::env::{DirEntry, Disk, Rng, SimDisk};
use arqondb::op::vector::{
    Checked, IndexKind, IndexSpec, Metric, VectorAnswer, VectorCall, VectorSearch,
};
use std::path::{Path, PathBuf};

fn filled(disk: &SimDisk, kind: IndexKind, rng: &mut Rng) -> Model {
    filled_with(disk, kind, rng, |_, rng| rng.below(250))
}

/// As [`filled`], with the id that `id_of` gives each of the 320 writes.
fn filled_with(
    disk: &SimDisk,
    kind: IndexKind,
    rng: &mut Rng,
    id_of: impl Fn(u64, &mut Rng) -> u64,
) -> Model {
    let db = open(disk);
    create(&db, IndexSpec { kind, num_sub: 2, ..spec(Metric::L2) });
    let mut model = Model::new();
    for number in 0..320 {
        let (id, vector) = (id_of(number, rng), vector(rng));
        db.execute(put(id, &vector, number)).unwrap();
        model.insert(id, (vector, number));
        if number % 70 == 69 {
            db.settle_vectors();
        }
    }
    db.flush().unwrap();
    db.settle_vectors();
    model
}

fn folder() -> PathBuf {
    Path::new(DIR).join("shard-1/vectors/1")
}

fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let entries = disk.list(&folder()).unwrap();
    entries.into_iter().map(|e| (folder().join(&e.name), e.len)).collect()
}

#[test]
fn a_damaged_file_is_built_anew_wherever_it_is_damaged() {
    let mut rng = Rng::new(3);
    for kind in [IndexKind::Hnsw, IndexKind::PqHnsw] {
        let disk = SimDisk::new();
        let model = filled(&disk, kind, &mut rng);
        let files = files(&disk);
        assert!(files.len() >= 3, "{files:?}");
        for round in 0..60 {
            let (path, len) = &files[rng.below(files.len() as u64) as usize];
            // Headers are where every byte counts.
            let at = if round % 2 == 0 { rng.below(*len) } else { rng.below(60.min(*len)) };
            let copy = disk.crash(arqondb::env::sim_disk::Crash::Process);
            copy.damage(path, at, 1 << rng.below(8)).unwrap();
            let db = open(&copy);
            let what = format!("{} at {at}", path.display());
            // One byte of the header has no meaning.
            assert!(info(&db).rebuilt > 0 || at == 11, "{what}");
            compare(&db, &model, Metric::L2, &mut rng, &what);
            drop(db);
            let db = open(&copy);
            compare(&db, &model, Metric::L2, &mut rng, &format!("{what}, opened again"));
        }
    }
}

#[test]
fn missing_and_cut_files_are_built_anew() {
    let mut rng = Rng::new(4);
    let disk = SimDisk::new();
    let model = filled(&disk, IndexKind::Hnsw, &mut rng);
    for (path, len) in files(&disk) {
        for cut in [None, Some(0), Some(len / 2), Some(len - 1)] {
            let copy = disk.crash(arqondb::env::sim_disk::Crash::Process);
            match cut {
                None => copy.remove(&path).unwrap(),
                Some(len) => copy.open_write(&path).unwrap().set_len(len).unwrap(),
            }
            let db = open(&copy);
            compare(&db, &model, Metric::L2, &mut rng, &format!("{} {cut:?}", path.display()));
        }
    }
    // All of it gone: nothing is wrong, and all is there.
    for (path, _) in files(&disk) {
        disk.remove(&path).unwrap();
    }
    let db = open(&disk);
    compare(&db, &model, Metric::L2, &mut rng, "without files");
    let checked = db.vectors(VectorCall::Verify { index: NAME.into() }).unwrap();
    let expected = Checked { stored: model.len() as u64, missing: 0, surplus: 0 };
    assert_eq!(checked, VectorAnswer::Checked(expected));
}

#[test]
fn files_of_another_time_do_not_bring_back_what_is_gone() {
    let mut rng = Rng::new(5);
    let disk = SimDisk::new();
    let mut model = filled(&disk, IndexKind::Hnsw, &mut rng);
    let old: Vec<(PathBuf, Vec<u8>)> = files(&disk)
        .into_iter()
        .map(|(path, len)| {
            let mut bytes = vec![0; len as usize];
            disk.open(&path).unwrap().read_at(&mut bytes, 0).unwrap();
            (path, bytes)
        })
        .collect();
    {
        let db = open(&disk);
        for (number, id) in (1_000..).zip(0..120) {
            if id % 3 == 0 {
                db.execute(crate::world::delete(id)).unwrap();
                model.remove(&id);
            } else {
                let vector = vector(&mut rng);
                db.execute(put(id, &vector, number)).unwrap();
                model.insert(id, (vector, number));
            }
        }
        db.flush().unwrap();
        db.compact(arqondb::base::CfId::VECTORS).unwrap();
    }
    for (path, _) in files(&disk) {
        disk.remove(&path).unwrap();
    }
    for (path, bytes) in old {
        let file = disk.create(&path).unwrap();
        file.write_at(&bytes, 0).unwrap();
    }
    let db = open(&disk);
    compare(&db, &model, Metric::L2, &mut rng, "old files");
}

#[test]
fn a_restart_reads_files_and_not_all_records() {
    let mut rng = Rng::new(6);
    let disk = SimDisk::new();
    let model = filled(&disk, IndexKind::Hnsw, &mut rng);
    let db = open(&disk);
    let info = info(&db);
    assert_eq!(info.rebuilt, 0);
    assert!(info.sealed > 60, "{info:?}");
    assert!(info.waiting < 64, "they are linked already: {info:?}");
    compare(&db, &model, Metric::L2, &mut rng, "opened");
    for id in 1_000..3_000 {
        db.execute(put(id, &vector(&mut rng), id)).unwrap();
    }
    db.settle_vectors();
    db.flush().unwrap();
    db.compact(arqondb::base::CfId::VECTORS).unwrap();
    db.settle_vectors();
    let info = crate::world::info(&db);
    drop(db);
    // Nor does it notice that some cannot be read.
    let tables = Path::new(DIR).join("shard-1");
    let is_table = |e: &DirEntry| e.name.ends_with(".sst");
    let tables = disk.list(&tables).unwrap().into_iter().filter(is_table);
    let largest = tables.max_by_key(|entry| entry.len).unwrap();
    let path = Path::new(DIR).join("shard-1").join(&largest.name);
    (0..8).for_each(|n| disk.damage(&path, largest.len / 2 + n, 0xFF).unwrap());
    let db = open(&disk);
    let found = db.search_vectors(VectorSearch::new(NAME, &[1.0; DIM], 5)).unwrap();
    assert_eq!((found.hits.len(), crate::world::info(&db).vectors), (5, info.vectors));
    let all = VectorCall::Verify { index: NAME.into() };
    assert!(db.vectors(all).is_err(), "the damage is in its records");
}

/// The longest file of a segment, and its bytes.
fn longest_segment(disk: &SimDisk) -> (PathBuf, Vec<u8>) {
    let segments = files(disk).into_iter().filter(|(path, _)| path.extension().is_some());
    let (path, len) = segments.max_by_key(|(_, len)| *len).unwrap();
    let mut bytes = vec![0; len as usize];
    disk.open(&path).unwrap().read_at(&mut bytes, 0).unwrap();
    (path, bytes)
}

/// A page shows that it is damaged only when it is read: the segment is given up then, and the answer
/// is whole all the same.
#[test]
fn a_damaged_page_costs_time_and_no_answer() {
    let mut rng = Rng::new(7);
    // Of vectors that are replaced, a page may hold none that counts: nobody reads it, nor needs to.
    for is_each_once in [true, false] {
        let disk = SimDisk::new();
        let id_of = |number, rng: &mut Rng| if is_each_once { number } else { rng.below(250) };
        let model = filled_with(&disk, IndexKind::DiskHnsw, &mut rng, id_of);
        let (path, bytes) = longest_segment(&disk);
        let len = bytes.len() as u64;
        assert!(len.is_multiple_of(4096) && len >= 6 * 4096, "{len}");
        // What stands before the pages of the graph is filled up to a page with zeros, which mean
        // nothing. Pages of the graph end in a checksum.
        let is_filling = |at: u64| {
            let at = at as usize;
            bytes[at..at.next_multiple_of(4096)].iter().all(|byte| *byte == 0)
        };
        let mut found_late = 0;
        for round in 0..25 {
            // The last page names ids, which only filters ask for.
            let mut at = 4096 + rng.below(len - 2 * 4096);
            while is_filling(at) {
                at = 4096 + rng.below(len - 2 * 4096);
            }
            let copy = disk.crash(arqondb::env::sim_disk::Crash::Process);
            copy.damage(&path, at, 1 << rng.below(8)).unwrap();
            let what = format!("{at} in round {round}, each once: {is_each_once}");
            let db = open(&copy);
            let before = info(&db).rebuilt;
            compare(&db, &model, Metric::L2, &mut rng, &what);
            let after = info(&db).rebuilt;
            found_late += u64::from(before == 0 && after > 0);
            db.settle_vectors();
            // The background may have made the segment one with others, of their records, before a
            // search came to it.
            assert!(after > 0 || !is_each_once || !copy.exists(&path), "{what}");
            compare(&db, &model, Metric::L2, &mut rng, &format!("{what}, settled"));
            drop(db);
            let db = open(&copy);
            assert!(info(&db).rebuilt == 0 || (after == 0 && !is_each_once), "{what}");
            compare(&db, &model, Metric::L2, &mut rng, &format!("{what}, opened again"));
        }
        assert!(found_late > 3, "{found_late}");
    }
}
