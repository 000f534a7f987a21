//! Tables against a sorted list.

use super::*;
use crate::base::{CfId, Seq};
use crate::env::{Disk, Rng, SimDisk};
use crate::lsm::cache::BlockCache;
use crate::lsm::cursor::Cursor;
use crate::lsm::key::{Kind, compare, parse, put_internal};
use crate::lsm::stored::Stored;
use crate::lsm::tombstone::RangeTombstone;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn disk() -> (SimDisk, PathBuf) {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/t")).unwrap();
    (disk, PathBuf::from("/t/1.sst"))
}

fn rows(rng: &mut Rng, n: usize) -> Rows {
    let mut rows = Rows::new();
    for i in 0..n as u64 {
        let mut user =
            [&b""[..], b"a", b"some-shared-prefix/", b"\xff"][rng.below(4) as usize].to_vec();
        (0..rng.below(7)).for_each(|_| user.push([0, b'x', 0xff][rng.below(3) as usize]));
        let mut key = Vec::new();
        let kind = [Kind::Put, Kind::Delete, Kind::Merge][rng.below(3) as usize];
        put_internal(&mut key, &user, Seq(i + 1), kind);
        let mut value = vec![i as u8; rng.below(40) as usize];
        if kind == Kind::Delete {
            value.clear();
        }
        rows.push((key, value));
    }
    rows.sort_by(|a, b| compare(&a.0, &b.0));
    rows
}

fn write(disk: &dyn Disk, path: &Path, options: TableOptions, rows: &Rows) -> TableInfo {
    let mut writer = TableWriter::create(disk, path, options, CfId(3)).unwrap();
    for (key, value) in rows {
        writer.add(key, value).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn blocks_kept_while_a_table_was_written_are_those_of_the_file() {
    let (disk, path) = disk();
    let path = &*path;
    let mut rng = Rng::new(11);
    for (codec, keep_bytes) in [(Codec::None, 1 << 20), (Codec::None, 700), (Codec::Lz4, 1 << 20)] {
        let mut rows = rows(&mut rng, 400);
        // One that its block does not fit.
        rows[0].1 = vec![7; if keep_bytes == 700 { 30 } else { 20_000 }];
        let options = TableOptions { block_bytes: 200, codec, ..TableOptions::default() };
        let mut writer = TableWriter::create(&disk, path, options, CfId(3)).unwrap();
        writer.keep_blocks(keep_bytes);
        rows.iter().for_each(|(key, value)| writer.add(key, value).unwrap());
        let (info, kept) = writer.finish_with_blocks().unwrap();
        let blocks = info.properties.data_blocks as usize;
        match (codec, keep_bytes) {
            (Codec::Lz4, _) => assert!(kept.is_empty()),
            (_, 700) => assert!((1..blocks).contains(&kept.len()), "{} of {blocks}", kept.len()),
            _ => assert_eq!(kept.len(), blocks),
        }
        let cache = BlockCache::new(1 << 20);
        let table = Table::open(&disk, path, 1, cache.clone()).unwrap();
        let as_read = Table::open(&disk, path, 2, BlockCache::new(1 << 20)).unwrap();
        for (i, bytes) in kept.iter().enumerate() {
            let read = as_read.block_ahead(i, &mut Default::default()).unwrap();
            assert!(read.data() == &bytes[..], "block {i}");
        }
        let (count, bytes) = (kept.len() as u64, kept.iter().map(Vec::len).sum::<usize>() as u64);
        table.take_in(kept);
        assert_eq!(cache.stats().blocks, count);
        assert!(cache.stats().bytes <= bytes + bytes / 8 + 200 * count, "{:?}", cache.stats());
        check(&table, &rows, &mut rng, false);
    }
}

fn check(table: &Arc<Table>, rows: &Rows, rng: &mut Rng, fill: bool) {
    let mut cursor = table.cursor(fill);
    cursor.first().unwrap();
    for (key, value) in rows {
        assert_eq!((cursor.key(), cursor.value()), (&key[..], &value[..]));
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
    cursor.last().unwrap();
    for (key, value) in rows.iter().rev() {
        assert_eq!((cursor.key(), cursor.value()), (&key[..], &value[..]));
        cursor.prev().unwrap();
    }
    assert!(!cursor.valid());
    for _ in 0..rows.len() {
        let mut target = rows[rng.below(rows.len() as u64) as usize].0.clone();
        if rng.one_in(2) {
            let at = rng.below(target.len() as u64 - 1) as usize;
            target[at] = rng.next_u64() as u8;
        }
        let at = rows.partition_point(|r| compare(&r.0, &target).is_lt());
        cursor.seek(&target).unwrap();
        assert_eq!(cursor.valid().then(|| cursor.key()), rows.get(at).map(|r| &r.0[..]));
        let before = rows.partition_point(|r| compare(&r.0, &target).is_le()).checked_sub(1);
        cursor.seek_for_prev(&target).unwrap();
        assert_eq!(cursor.valid().then(|| cursor.key()), before.map(|i| &rows[i].0[..]));
        if cursor.valid() {
            cursor.prev().unwrap();
            let before = before.and_then(|i| i.checked_sub(1));
            assert_eq!(cursor.valid().then(|| cursor.key()), before.map(|i| &rows[i].0[..]));
        }
        let Some(key) = parse(&target) else { continue };
        let bound = Seq(rng.below(rows.len() as u64 + 2));
        let mut found = Vec::new();
        let whole = table.get(key.user_key, bound, &mut |seq, kind, value| {
            found.push((seq, kind, value.to_vec()));
            found.len() < 4
        });
        let versions = rows.iter().filter_map(|(k, v)| Some((parse(k)?, v)));
        let versions = versions.filter(|(k, _)| k.user_key == key.user_key && k.seq <= bound);
        let expected: Vec<_> = versions.map(|(k, v)| (k.seq, k.kind, v.clone())).take(4).collect();
        assert_eq!(found, expected);
        assert_eq!(whole.unwrap(), found.len() < 4);
    }
}

#[test]
fn tables_of_any_make_read_as_the_model_does() {
    let mut rng = Rng::new(11);
    for block_bytes in [64, 300, 4096] {
        for codec in [Codec::None, Codec::Lz4] {
            for (restart_interval, bloom_bits_per_key) in [(1, 0), (3, 10), (16, 4)] {
                let options = TableOptions {
                    block_bytes,
                    codec,
                    restart_interval,
                    bloom_bits_per_key,
                    created_ms: 5,
                };
                let (disk, path) = disk();
                let rows = rows(&mut rng, 400);
                let info = write(&disk, &path, options, &rows);
                let table = Table::open(&disk, &path, 1, BlockCache::new(1 << 14)).unwrap();
                assert_eq!(table.properties(), &info.properties);
                assert_eq!(table.file_bytes(), info.file_bytes);
                assert_eq!(info.properties.entries, 400);
                assert_eq!(info.properties.smallest, rows[0].0);
                assert_eq!(info.properties.largest, rows[399].0);
                check(&table, &rows, &mut rng, true);
                check(&table, &rows, &mut rng, false);
                let report = verify(&disk, &path).unwrap();
                assert!(report.is_sound(), "{:?}", report.damage);
                assert_eq!(report.entries, 400);
                let dumped = dump(&disk, &path).unwrap().map(|item| match item {
                    DumpItem::Entry { key, value, .. } => (key, value),
                    other => panic!("{other:?}"),
                });
                assert!(dumped.eq(rows.iter().cloned()));
            }
        }
    }
}

#[test]
fn range_deletes_widen_the_bounds() {
    let (disk, path) = disk();
    let mut writer = TableWriter::create(&disk, &path, TableOptions::default(), CfId(0)).unwrap();
    writer.add_range_delete(&RangeTombstone::new(b"b", b"d", Seq(7)));
    writer.add_range_delete(&RangeTombstone::new(b"x", b"x", Seq(9)));
    let info = writer.finish().unwrap();
    assert_eq!(parse(&info.properties.smallest).unwrap().user_key, b"b");
    assert_eq!(parse(&info.properties.largest).unwrap().user_key, b"d");
    let table = Table::open(&disk, &path, 1, BlockCache::new(0)).unwrap();
    assert_eq!(table.covering_seq(b"c", Seq(9)), Some(Seq(7)));
    assert_eq!(table.covering_seq(b"d", Seq(9)), None);
    assert!(table.get(b"c", Seq(9), &mut |_, _, _| false).unwrap());
    let mut cursor = table.cursor(true);
    cursor.first().unwrap();
    assert!(!cursor.valid());
    cursor.last().unwrap();
    assert!(!cursor.valid());
}

#[test]
fn misuse_of_the_writer_is_an_error() {
    let (disk, path) = disk();
    let create = || TableWriter::create(&disk, &path, TableOptions::default(), CfId(0)).unwrap();
    let key = |seq, kind| {
        let mut key = Vec::new();
        put_internal(&mut key, b"k", Seq(seq), kind);
        key
    };
    let internal = crate::base::ErrorKind::Internal;
    assert_eq!(create().finish().unwrap_err().kind(), internal);
    let mut writer = create();
    writer.add(&key(5, Kind::Put), b"").unwrap();
    assert_eq!(writer.add(&key(5, Kind::Put), b"").unwrap_err().kind(), internal);
    assert_eq!(writer.add(&key(6, Kind::Put), b"").unwrap_err().kind(), internal);
    assert_eq!(writer.add(&key(4, Kind::RangeDelete), b"").unwrap_err().kind(), internal);
    assert_eq!(writer.add(b"short", b"").unwrap_err().kind(), internal);
    writer.add(&key(4, Kind::Put), b"").unwrap();
    writer.abandon(&disk).unwrap();
    assert!(!disk.exists(&path));
}

/// Walks and searches a block whatever it holds; only that it ends, and in no panic, is asked.
fn exercise(block: Block) {
    let steps_max = block.data().len() + 2;
    let block = Arc::new(block);
    let mut cursor = block_cursor::BlockCursor::new(Arc::clone(&block));
    let mut steps = 0;
    let mut walk = cursor.first();
    while walk.is_ok() && cursor.valid() {
        assert!(!cursor.key().is_empty() && cursor.value().len() <= block.data().len());
        walk = cursor.next();
        steps += 1;
        assert!(steps < steps_max);
    }
    let mut walk = cursor.last();
    while walk.is_ok() && cursor.valid() {
        walk = cursor.prev();
        steps += 1;
        assert!(steps < 2 * steps_max);
    }
    for user in [&b""[..], b"a", b"some-shared-prefix/x", b"\xff\xff"] {
        let mut target = Vec::new();
        put_internal(&mut target, user, Seq(9), Kind::Put);
        _ = cursor.seek(&target);
        _ = block.get(user, filter::hash(user), u64::MAX, &mut |_, _, _| true);
    }
    _ = block.check_offsets();
}

#[test]
fn mutated_parts_under_a_right_checksum_never_panic() {
    let mut rng = Rng::new(23);
    let mut writer = block_writer::BlockWriter::new(4);
    let mut index = index::IndexWriter::default();
    let rows = rows(&mut rng, 60);
    let mut last = None;
    for (key, value) in &rows {
        let parsed = parse(key).unwrap();
        let trailer = crate::lsm::key::trailer(parsed.seq, parsed.kind);
        let is_new_key = last.replace(parsed.user_key) != Some(parsed.user_key);
        writer.add(parsed.user_key, trailer, value, filter::hash(parsed.user_key), is_new_key);
        index.add(key, None, format::Handle { offset: 0, len: 100 });
    }
    let block = writer.finish().to_vec();
    assert!(Block::new(block.clone()).unwrap().check_offsets().is_ok());
    let index = index.finish();
    let properties = Properties { smallest: b"a".to_vec(), ..Properties::default() }.encode();
    for _ in 0..20_000 {
        let mutate = |bytes: &[u8], rng: &mut Rng| {
            let mut bytes = bytes.to_vec();
            for _ in 0..=rng.below(3) {
                // The tail, which holds the counts, is hit more often than its share.
                let from = if rng.one_in(4) { bytes.len().saturating_sub(8) } else { 0 };
                let at = from + rng.below((bytes.len() - from) as u64) as usize;
                bytes[at] = if rng.one_in(2) { rng.next_u64() as u8 } else { 0xff };
            }
            bytes.truncate(bytes.len() - rng.below(2) as usize);
            bytes
        };
        if let Ok(block) = Block::new(mutate(&block, &mut rng)) {
            exercise(block);
        }
        if let Some(index) = index::Index::read(&mutate(&index, &mut rng)) {
            (0..index.blocks()).for_each(|i| _ = index.handle(i));
            assert!(index.find(b"some-shared", 7) <= index.blocks());
        }
        _ = Properties::read(&mutate(&properties, &mut rng));
        let mut noise = vec![0; rng.below(60) as usize];
        rng.fill(&mut noise);
        _ = Block::new(noise.clone()).map(exercise);
        _ = index::Index::read(&noise);
        _ = table::read_range_deletes(&noise, Path::new("noise"), format::Handle::default());
    }
}

#[test]
fn neighbours_with_equal_hashes_are_both_found() {
    let mut writer = block_writer::BlockWriter::new(16);
    for (user, is_new_key) in [(b"a", true), (b"a", false), (b"b", true), (b"c", true)] {
        let seq = if is_new_key { 7 } else { 3 };
        writer.add(user, crate::lsm::key::trailer(Seq(seq), Kind::Put), b"", 42, is_new_key);
    }
    let block = Arc::new(Block::new(writer.finish().to_vec()).unwrap());
    for user in [b"a", b"b", b"c"] {
        let mut seqs = Vec::new();
        let mut visit = |seq: Seq, _: Kind, _: Stored<'_>| {
            seqs.push(seq.0);
            true
        };
        block.get(user, 42, u64::MAX, &mut visit).unwrap();
        assert_eq!(seqs[0], 7);
        assert_eq!(seqs.len(), if user == b"a" { 2 } else { 1 });
    }
}
