//! Indexes of kind `spfresh`: their vectors stand in postings, in a file of pages.

use crate::world::{
    DIM, DIR, Model, NAME, compare, create, delete, info, nearest, open, put, search, spec, vector,
};
use arqondb::base::ErrorKind;
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Disk, Rng, SimDisk};
use arqondb::op::vector::{
    Checked, IndexKind, IndexSpec, Metric, Quantisation, VectorAnswer, VectorCall, VectorSearch,
};
use arqondb::{Db, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn spfresh(metric: Metric) -> IndexSpec {
    IndexSpec { kind: IndexKind::Spfresh, ..spec(metric) }
}

fn folder() -> PathBuf {
    Path::new(DIR).join("shard-1/vectors/1")
}

fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let entries = disk.list(&folder()).unwrap();
    entries.into_iter().map(|e| (folder().join(&e.name), e.len)).collect()
}

fn page_files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    files(disk)
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "pages"))
        .collect()
}

fn put_one(db: &Db, model: &mut Model, id: u64, number: u64, rng: &mut Rng) {
    let vector = vector(rng);
    db.execute(put(id, &vector, number)).unwrap();
    model.insert(id, (vector, number));
}

/// Vectors in postings, all of it written down.
fn filled(disk: &SimDisk, count: u64, rng: &mut Rng) -> Model {
    let db = open(disk);
    create(&db, spfresh(Metric::L2));
    let mut model = Model::new();
    for number in 0..count {
        put_one(&db, &mut model, number, number, rng);
        if number % 70 == 69 {
            db.settle_vectors();
        }
    }
    db.flush().unwrap();
    db.settle_vectors();
    let info = info(&db);
    assert!(info.postings > 2 && info.sealed * 10 > count * 8 && info.segments == 0, "{info:?}");
    model
}

fn checked(db: &Db) -> Result<VectorAnswer> {
    db.vectors(VectorCall::Verify { index: NAME.into() })
}

#[test]
fn few_postings_hold_most_of_the_nearest_and_cost_few_pages() {
    let mut rng = Rng::new(31);
    let disk = SimDisk::new();
    let model = filled(&disk, 3_000, &mut rng);
    let db = open(&disk);
    let told = info(&db);
    assert!(told.postings > 60 && told.disk_bytes > 60 * 4096, "{told:?}");
    // Vectors of 8 numbers are smaller than what finds them; what is left are ids and codes.
    assert!(told.memory_bytes < 3_000 * 100, "{told:?}");
    let (mut found, mut pages) = (0, 0);
    for _ in 0..100 {
        let query = vector(&mut rng);
        let expected = nearest(&model, Metric::L2, &query, 10);
        let asked = VectorSearch { ef: 12, ..VectorSearch::new(NAME, &query, 10) };
        let answer = db.search_vectors(asked.clone()).unwrap();
        let last = expected[9].1;
        found += answer.hits.iter().filter(|hit| hit.distance <= last).count();
        pages += answer.cost.pages;
        assert!(!answer.cost.exact && answer.hits.len() == 10);
        let exact = db.search_vectors(VectorSearch { exact: true, ..asked }).unwrap();
        assert!(exact.cost.exact && exact.cost.pages == 0);
        let exact: Vec<(u64, f32)> = exact.hits.iter().map(|hit| (hit.id, hit.distance)).collect();
        assert_eq!(exact, expected);
    }
    assert!(found >= 850, "{found} of 1,000");
    assert!(pages <= 100 * 15, "{pages}");
}

#[test]
fn a_filter_leaves_as_many_as_match() {
    let mut rng = Rng::new(32);
    let disk = SimDisk::new();
    let model = filled(&disk, 900, &mut rng);
    let db = open(&disk);
    for (filter, matches) in [
        ("{\"even\": true}", 450),
        ("{\"n\": {\"lt\": 60}}", 60),
        ("{\"n\": {\"lt\": 3}}", 3),
        ("{\"n\": {\"gt\": 5000}}", 0),
    ] {
        let filter = arqondb::op::vector::Filter::parse(filter).unwrap();
        let query = vector(&mut rng);
        let asked = VectorSearch { filter: Some(filter), ..VectorSearch::new(NAME, &query, 20) };
        let exact = search(&db, VectorSearch { exact: true, ..asked.clone() });
        let found = search(&db, asked);
        assert_eq!((found.len(), exact.len()), (matches.min(20), matches.min(20)));
        let common = found.iter().filter(|hit| exact.contains(hit)).count();
        assert!(common * 10 >= exact.len() * 8, "{common} of {}", exact.len());
        assert!(exact.iter().all(|(id, _)| model.contains_key(id)));
    }
}

#[test]
fn a_restart_reads_a_file_and_takes_in_the_tail_alone() {
    let mut rng = Rng::new(33);
    let disk = SimDisk::new();
    let mut model = filled(&disk, 600, &mut rng);
    let (before, killed) = {
        let db = open(&disk);
        db.settle_vectors();
        let before = info(&db);
        for number in 0..20 {
            put_one(&db, &mut model, number, 1_000 + number, &mut rng);
        }
        db.execute(delete(33)).unwrap();
        model.remove(&33);
        (before, disk.crash(Crash::Process))
    };
    // As kill -9 leaves it, and as an orderly end, which may still write postings.
    for disk in [killed, disk] {
        let pages = page_files(&disk);
        let db = open(&disk);
        let after = info(&db);
        // What the background posted of the twenty may be in the file or not, a split of it too.
        assert!(after.waiting + after.fresh <= before.waiting + before.fresh + 20, "{after:?}");
        let postings = after.postings.abs_diff(before.postings);
        assert!(after.sealed >= 550 && postings <= 2, "{after:?} {before:?}");
        assert_eq!(after.rebuilt, 0);
        assert_eq!(page_files(&disk), pages, "no posting was written");
        compare(&db, &model, Metric::L2, &mut rng, "opened");
        let expected = Checked { stored: model.len() as u64, missing: 0, surplus: 0 };
        assert_eq!(checked(&db).unwrap(), VectorAnswer::Checked(expected));
    }
}

#[test]
fn memory_and_files_stay_bounded_while_everything_is_replaced_again_and_again() {
    let mut rng = Rng::new(34);
    let disk = SimDisk::new();
    let mut model = filled(&disk, 800, &mut rng);
    let db = open(&disk);
    db.settle_vectors();
    let first = info(&db);
    for round in 0..8 {
        for step in 0..800 {
            let (id, number) = (rng.below(1_000), 10_000 * round + step);
            if rng.below(5) == 0 {
                db.execute(delete(id)).unwrap();
                model.remove(&id);
            } else {
                put_one(&db, &mut model, id, number, &mut rng);
            }
            if step % 100 == 99 {
                db.settle_vectors();
            }
        }
        let (missed, asked) = compare(&db, &model, Metric::L2, &mut rng, &format!("{round}"));
        assert!(missed * 20 <= asked, "round {round}: {missed} of {asked}");
    }
    db.settle_vectors();
    let last = info(&db);
    let grown = |last: u64, first: u64| last as f64 / first as f64;
    assert!(grown(last.memory_bytes, first.memory_bytes) < 1.5, "{first:?} {last:?}");
    assert!(grown(last.disk_bytes, first.disk_bytes) < 3.0, "{first:?} {last:?}");
    assert!(last.dead * 4 <= last.vectors, "{last:?}");
    assert_eq!(last.rebuilt, 0);
}

/// Wherever a byte is damaged, the answers are the same, also while the postings are built anew, and
/// afterwards they are whole.
#[test]
fn a_damaged_posting_or_file_costs_time_and_no_answer() {
    let mut rng = Rng::new(35);
    let disk = SimDisk::new();
    let model = filled(&disk, 400, &mut rng);
    let files = files(&disk);
    assert!(files.len() >= 3, "{files:?}");
    let mut found = [0; 2];
    for round in 0..60 {
        let (path, len) = &files[round % files.len()];
        let is_pages = path.extension().is_some_and(|end| end == "pages");
        let at = match round % 4 {
            // Where a posting is, if there is one.
            _ if is_pages => rng.below(len / 4096) * 4096 + rng.below(600),
            0 | 1 => rng.below(*len),
            _ => rng.below(200.min(*len)),
        };
        let copy = disk.crash(Crash::Process);
        copy.damage(path, at, 1 << rng.below(8)).unwrap();
        let what = format!("{} at {at} in round {round}", path.display());
        let db = open(&copy);
        found[0] += u64::from(info(&db).rebuilt > 0);
        compare(&db, &model, Metric::L2, &mut rng, &what);
        db.settle_vectors();
        found[1] += u64::from(info(&db).rebuilt > 0);
        compare(&db, &model, Metric::L2, &mut rng, &format!("{what}, settled"));
        assert!(info(&db).postings > 2, "{what}");
        drop(db);
        let db = open(&copy);
        assert_eq!(info(&db).rebuilt, 0, "{what}");
        compare(&db, &model, Metric::L2, &mut rng, &format!("{what}, opened again"));
    }
    assert!(found[0] > 10 && found[1] > found[0] + 2, "{found:?}");
}

#[test]
fn missing_cut_and_old_files_change_no_answer() {
    let mut rng = Rng::new(36);
    let disk = SimDisk::new();
    let mut model = filled(&disk, 400, &mut rng);
    let old = disk.crash(Crash::Process);
    for (path, len) in files(&disk) {
        for cut in [None, Some(0), Some(len / 2), Some(len - 1)] {
            let copy = disk.crash(Crash::Process);
            match cut {
                None => copy.remove(&path).unwrap(),
                Some(len) => copy.open_write(&path).unwrap().set_len(len).unwrap(),
            }
            let db = open(&copy);
            let what = format!("{} {cut:?}", path.display());
            compare(&db, &model, Metric::L2, &mut rng, &what);
            db.settle_vectors();
            compare(&db, &model, Metric::L2, &mut rng, &format!("{what}, settled"));
        }
    }
    {
        let db = open(&disk);
        for id in 0..200 {
            if id % 3 == 0 {
                db.execute(delete(id)).unwrap();
                model.remove(&id);
            } else {
                put_one(&db, &mut model, id, 2_000 + id, &mut rng);
            }
        }
        db.flush().unwrap();
        db.settle_vectors();
    }
    for (path, _) in files(&disk) {
        disk.remove(&path).unwrap();
    }
    for (path, len) in files(&old) {
        let mut bytes = vec![0; len as usize];
        old.open(&path).unwrap().read_at(&mut bytes, 0).unwrap();
        disk.create(&path).unwrap().write_at(&bytes, 0).unwrap();
    }
    let db = open(&disk);
    compare(&db, &model, Metric::L2, &mut rng, "old files");
    db.settle_vectors();
    compare(&db, &model, Metric::L2, &mut rng, "old files, settled");
    let expected = Checked { stored: model.len() as u64, missing: 0, surplus: 0 };
    assert_eq!(checked(&db).unwrap(), VectorAnswer::Checked(expected));
}

#[test]
fn verifying_finds_a_posting_that_no_search_has_read() {
    let mut rng = Rng::new(37);
    let disk = SimDisk::new();
    let model = filled(&disk, 400, &mut rng);
    let (path, len) = page_files(&disk)[0].clone();
    for page in 0..len / 4096 {
        disk.damage(&path, page * 4096, 1).unwrap();
    }
    let db = open(&disk);
    assert_eq!(info(&db).rebuilt, 0, "it is read when it is needed");
    let expected = Checked { stored: model.len() as u64, missing: 0, surplus: 0 };
    assert_eq!(checked(&db).unwrap(), VectorAnswer::Checked(expected));
    db.settle_vectors();
    assert_eq!(info(&db).rebuilt, 1);
    assert!(page_files(&disk).iter().all(|(new, _)| *new != path), "the damaged file is gone");
    compare(&db, &model, Metric::L2, &mut rng, "verified");
}

#[test]
fn a_dropped_index_leaves_no_file_and_a_copy_builds_its_own() {
    let mut rng = Rng::new(38);
    let disk = SimDisk::new();
    let model = filled(&disk, 300, &mut rng);
    let db = open(&disk);
    db.checkpoint(Path::new("/copy")).unwrap();
    db.vectors(VectorCall::Drop { index: NAME.into() }).unwrap();
    db.settle_vectors();
    assert!(!disk.exists(&folder()));
    let options = crate::world::options(&disk, arqondb::SyncLevel::Os);
    let copy = Db::open_with("/copy", options).unwrap();
    let told = info(&copy);
    assert!(told.waiting < 100, "what it has no memory for waits in records: {told:?}");
    compare(&copy, &model, Metric::L2, &mut rng, "copied");
    copy.settle_vectors();
    assert!(info(&copy).postings > 2);
    compare(&copy, &model, Metric::L2, &mut rng, "copied and settled");
}

#[test]
fn settings_that_postings_have_no_use_for_are_refused() {
    let db = open(&SimDisk::new());
    for wrong in [
        IndexSpec { quantisation: Quantisation::Packed, ..spfresh(Metric::L2) },
        IndexSpec { dim: 5_000, ..spfresh(Metric::L2) },
    ] {
        let error = db.vectors(VectorCall::Create(wrong)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    create(&db, spfresh(Metric::Cosine));
}

/// Others search, with every kind of request, while vectors are put into postings.
#[test]
fn searches_beside_writers_see_what_each_was_told() {
    let db = open(&SimDisk::new());
    create(&db, spfresh(Metric::L2));
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let db = &db;
            scope.spawn(move || {
                let mut there = BTreeSet::new();
                let mut rng = Rng::new(writer);
                for n in 0..1_500u64 {
                    let id = (writer << 32) | rng.below(300);
                    let vector = [writer as f32 * 1e4, n as f32, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
                    db.put_vector(NAME, id, &vector, b"").unwrap();
                    there.insert(id);
                    let own = VectorSearch::new(NAME, &vector, 1);
                    let exact = VectorSearch { exact: true, ..own.clone() };
                    assert_eq!(search(db, exact), [(id, 0.0)]);
                    assert_eq!(search(db, own), [(id, 0.0)]);
                    if n % 50 == 0 {
                        let all = VectorSearch::new(NAME, &vector, 1_000);
                        let own = search(db, all);
                        let own: Vec<u64> =
                            own.iter().map(|hit| hit.0).filter(|id| id >> 32 == writer).collect();
                        let different: BTreeSet<u64> = own.iter().copied().collect();
                        assert_eq!(own.len(), different.len(), "an id twice");
                        assert_eq!(different, there);
                    }
                    if rng.below(8) == 0 {
                        db.delete_vector(NAME, id).unwrap();
                        there.remove(&id);
                        let found = search(db, VectorSearch::new(NAME, &vector, 3));
                        assert!(found.iter().all(|(found, _)| *found != id));
                    }
                }
            });
        }
    });
    assert_eq!(DIM, 8);
}

/// What comes later is of another kind than what codes were learnt from.
#[test]
fn vectors_of_ever_other_kinds_are_found_among_the_old() {
    let mut rng = Rng::new(39);
    let disk = SimDisk::new();
    let mut model = filled(&disk, 400, &mut rng);
    let db = open(&disk);
    for number in 1_000..3_000 {
        let (id, axis) = (rng.below(1_200), number as usize / 300 % DIM);
        let mut vector = vector(&mut rng);
        vector[axis] *= 8.0;
        vector[(axis + 3) % DIM] += 40.0;
        db.execute(put(id, &vector, number)).unwrap();
        model.insert(id, (vector, number));
        if number % 100 == 0 {
            db.settle_vectors();
            let (missed, asked) = compare(&db, &model, Metric::L2, &mut rng, &format!("{number}"));
            assert!(missed * 20 <= asked, "{number}: {missed} of {asked}");
        }
    }
    assert_eq!(info(&db).rebuilt, 0);
}

/// Nothing divides their posting, and the background comes to rest all the same, with a file that does
/// not grow.
#[test]
fn equal_vectors_leave_the_background_at_rest() {
    let (mut rng, disk) = (Rng::new(40), SimDisk::new());
    let mut model = filled(&disk, 200, &mut rng);
    let db = open(&disk);
    let equal = vector(&mut rng);
    for number in 1_000..2_200 {
        db.execute(put(number, &equal, number)).unwrap();
        model.insert(number, (equal.clone(), number));
        if number % 60 == 0 {
            db.settle_vectors();
        }
    }
    db.flush().unwrap();
    db.settle_vectors();
    let before = page_files(&disk);
    db.settle_vectors();
    assert_eq!(page_files(&disk), before);
    let bytes: u64 = before.iter().map(|(_, len)| len).sum();
    assert!(bytes < 1 << 20, "{bytes}");
    let found = search(&db, VectorSearch::new(NAME, &equal, 5));
    assert_eq!(found.len(), 5);
    let (missed, asked) = compare(&db, &model, Metric::L2, &mut rng, "equal ones");
    assert!(missed * 10 <= asked, "{missed} of {asked}");
}
