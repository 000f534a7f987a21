//! What indexes on disk have in memory.

use crate::world::{DIM, DIR, Model, NAME, create, delete, info, open, options, put, spec, vector};
use arqondb::env::{Disk, Rng, SimDisk};
use arqondb::op::Request;
use arqondb::op::vector::{IndexInfo, IndexKind, IndexSpec, Metric, VectorSearch};
use arqondb::{Db, Options, SyncLevel};
use std::path::Path;

/// What is linked at once until a segment is full, four times.
const COUNT: u64 = 4 * 1_024;

fn large(disk: &SimDisk) -> Db {
    let options = Options { vector_segment_rows: 1_000, ..options(disk, SyncLevel::Os) };
    Db::open_with(DIR, options).unwrap()
}

/// An index of `COUNT` vectors, all sealed, with ids that `id` gives.
fn sealed(disk: &SimDisk, kind: IndexKind, id: impl Fn(u64) -> u64) -> IndexInfo {
    let mut rng = Rng::new(51);
    let db = large(disk);
    create(&db, IndexSpec { kind, ..spec(Metric::L2) });
    // In one batch, so that it depends on nobody's haste which segments there are.
    let mut all = Vec::new();
    for number in 0..COUNT {
        let Request::Write { mut writes, .. } = put(id(number), &vector(&mut rng), number) else {
            unreachable!()
        };
        all.append(&mut writes);
    }
    db.execute(Request::Write { writes: all, id: None }).unwrap();
    db.settle_vectors();
    db.flush().unwrap();
    db.settle_vectors();
    let told = info(&db);
    assert_eq!((told.sealed, told.waiting, told.fresh), (COUNT, 0, 0), "{told:?}");
    told
}

/// Of a vector there are a code, what belongs to it, and a quarter of a guide; and its row, which said
/// all over takes 16 bytes.
#[test]
fn what_tells_the_vectors_of_a_segment_on_disk_takes_a_few_bytes() {
    let disk = SimDisk::new();
    let in_order = sealed(&disk, IndexKind::DiskHnsw, |number| number);
    // 8 of code, 4 of factors, 4 and a bit of guides; what codes mean, once.
    let (codes, shared) = ((8 + 4 + 5) * COUNT, 8 * 256 + 1024);
    assert!(in_order.memory_bytes <= codes + shared + COUNT, "{in_order:?}");
    // A restart holds as much.
    let told = info(&large(&disk));
    assert!(told.memory_bytes <= in_order.memory_bytes + 4096, "{told:?}");
    // Ids that a hash chose cannot be told in fewer bits than that.
    let hashed = |number: u64| Rng::new(number).next_u64();
    let hashed = sealed(&SimDisk::new(), IndexKind::DiskHnsw, hashed);
    assert!(hashed.memory_bytes <= codes + shared + 11 * COUNT, "{hashed:?}");
}

/// What searches look at while vectors come in is given back when they are sealed.
#[test]
fn tables_of_what_came_in_do_not_stay_once_it_is_sealed() {
    let (disk, mut rng) = (SimDisk::new(), Rng::new(52));
    let db = large(&disk);
    create(&db, IndexSpec { kind: IndexKind::DiskHnsw, ..spec(Metric::L2) });
    let empty = info(&db).memory_bytes;
    for number in 0..1_000 {
        db.execute(put(number, &vector(&mut rng), number)).unwrap();
    }
    db.settle_vectors();
    for number in 0..1_000 {
        db.execute(delete(number)).unwrap();
    }
    db.settle_vectors();
    let told = info(&db);
    assert!(told.vectors == 0 && told.memory_bytes <= empty + 4096, "{empty} {told:?}");
}

/// The pages of postings that are gone are given back to the disk.
#[test]
fn a_file_of_postings_shrinks_with_them() {
    let (disk, mut rng) = (SimDisk::new(), Rng::new(53));
    let db = open(&disk);
    create(&db, IndexSpec { kind: IndexKind::Spfresh, ..spec(Metric::L2) });
    let pages = || -> u64 {
        let files = disk.list(&Path::new(DIR).join("shard-1/vectors/1")).unwrap();
        files.iter().filter(|file| file.name.ends_with(".pages")).map(|file| file.len).sum()
    };
    let mut model = Model::new();
    for number in 0..3_000 {
        let vector = vector(&mut rng);
        db.execute(put(number, &vector, number)).unwrap();
        model.insert(number, (vector, number));
        if number % 100 == 99 {
            db.settle_vectors();
        }
    }
    let before = pages();
    // All at once, so that nothing is written afterwards which would have the rest looked at again.
    let mut all = Vec::new();
    for number in 0..2_700 {
        let Request::Write { mut writes, .. } = delete(number) else { unreachable!() };
        all.append(&mut writes);
        model.remove(&number);
    }
    db.execute(Request::Write { writes: all, id: None }).unwrap();
    db.settle_vectors();
    let after = pages();
    assert!(after * 3 <= before, "{before} {after}");
    crate::world::compare(&db, &model, Metric::L2, &mut rng, "after most have gone");
    drop(db);
    let db = open(&disk);
    assert_eq!(info(&db).rebuilt, 0);
    crate::world::compare(&db, &model, Metric::L2, &mut rng, "opened again");
    assert_eq!(db.search_vectors(VectorSearch::new(NAME, &[0.0; DIM], 5)).unwrap().hits.len(), 5);
}
