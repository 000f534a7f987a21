//! Sstables from outside: any data under any options, golden files, damage of every byte,
//! failing disks.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use arqondb::base::{CfId, ErrorKind, Seq};
use arqondb::env::sim_disk::{Crash, Fault};
use arqondb::env::{Disk, Rng, SimDisk};
use arqondb::lsm::cache::BlockCache;
use arqondb::lsm::cursor::Cursor;
use arqondb::lsm::key::{Kind, Meta, compare, parse, put_internal};
use arqondb::lsm::sstable::{
    Codec, DumpItem, Table, TableInfo, TableOptions, TableWriter, dump, verify,
};
use arqondb::lsm::tombstone::RangeTombstone;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Random tables per model test; a nightly run may want more.
const ROUNDS: u64 = 12;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn disk() -> (SimDisk, PathBuf) {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/t")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, PathBuf::from("/t/1.sst"))
}

fn internal(user: &[u8], seq: u64, kind: Kind) -> Vec<u8> {
    let mut key = Vec::new();
    put_internal(&mut key, user, Seq(seq), kind);
    key
}

fn write(
    disk: &dyn Disk,
    path: &Path,
    options: TableOptions,
    rows: &Rows,
    ranges: &[RangeTombstone],
) -> arqondb::base::Result<TableInfo> {
    let mut writer = TableWriter::create(disk, path, options, CfId(0))?;
    for (key, value) in rows {
        writer.add(key, value)?;
    }
    ranges.iter().for_each(|t| writer.add_range_delete(t));
    writer.finish()
}

fn read_all(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn put_all(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    disk.create(path).unwrap().write_at(bytes, 0).unwrap();
}

fn random_user_key(rng: &mut Rng) -> Vec<u8> {
    match rng.below(40) {
        0 => Vec::new(),
        1 => vec![0xff; rng.below(9) as usize],
        2 => {
            let mut long = vec![b'L'; 64 * 1024];
            let tail = long.len() - 1 - rng.below(3) as usize;
            long[tail] = rng.next_u64() as u8;
            long
        }
        3..20 => format!("user:{:06}:field", rng.below(300)).into_bytes(),
        _ => {
            let mut key = vec![0; rng.below(12) as usize];
            rng.fill(&mut key);
            key
        }
    }
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(200) {
        0 => 1_200_000,
        1..10 => 9000,
        _ => rng.below(120),
    };
    let mut value = vec![0; len as usize];
    if rng.one_in(2) {
        rng.fill(&mut value);
    }
    value
}

/// Records by internal key, as `compare` orders them.
fn random_rows(rng: &mut Rng, n: u64) -> Rows {
    let mut rows = BTreeMap::new();
    let hot = random_user_key(rng);
    for seq in 1..=n {
        // One key has so many versions that they fill several blocks.
        let user = if rng.one_in(4) { hot.clone() } else { random_user_key(rng) };
        let (kind, value) = match rng.below(5) {
            0 => (Kind::Delete, Vec::new()),
            1 => (Kind::Merge, [&[1], &random_value(rng)[..]].concat()),
            2 => {
                let meta = Meta { tag: 3, expire_at_ms: Some(rng.below(1000)) };
                let mut value = Vec::new();
                meta.put_header(&mut value);
                value.extend_from_slice(b"expiring");
                (Kind::PutMeta, value)
            }
            _ => (Kind::Put, random_value(rng)),
        };
        rows.insert((user.clone(), u64::MAX - seq), (internal(&user, seq, kind), value));
    }
    rows.into_values().collect()
}

fn options(rng: &mut Rng) -> TableOptions {
    TableOptions {
        block_bytes: [64, 512, 4096, 32 << 10][rng.below(4) as usize],
        restart_interval: [1, 2, 16, 1000][rng.below(4) as usize],
        codec: if rng.one_in(2) { Codec::Lz4 } else { Codec::None },
        bloom_bits_per_key: [0, 1, 10, 30][rng.below(4) as usize],
        created_ms: 7,
    }
}

#[test]
fn random_tables_read_as_the_model_does() {
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let (disk, path) = disk();
        let options = options(&mut rng);
        let rows = random_rows(&mut rng, 600);
        let info = write(&disk, &path, options, &rows, &[]).unwrap();
        let report = verify(&disk, &path).unwrap();
        assert!(report.is_sound(), "seed {seed}, {options:?}: {:?}", report.damage);
        assert_eq!(report.properties.as_ref(), Some(&info.properties));
        let cache = BlockCache::new(if rng.one_in(3) { 0 } else { 1 << 20 });
        let table = Table::open(&disk, &path, seed, Arc::clone(&cache)).unwrap();
        walk(&table, &rows, &mut rng);
        gets(&table, &rows, &mut rng);
        table.evict();
        assert_eq!(cache.stats().blocks, 0);
    }
}

fn walk(table: &Arc<Table>, rows: &Rows, rng: &mut Rng) {
    for fill in [true, false] {
        let mut cursor = table.cursor(fill);
        let at = |cursor: &dyn Cursor, i: Option<usize>| {
            let row = i.and_then(|i| rows.get(i));
            assert_eq!(cursor.valid(), row.is_some());
            if let Some((key, value)) = row {
                assert!(cursor.key() == key && cursor.value() == value);
            }
        };
        cursor.first().unwrap();
        for i in 0..=rows.len() {
            at(&cursor, Some(i));
            if cursor.valid() {
                cursor.next().unwrap();
            }
        }
        cursor.last().unwrap();
        for i in (0..rows.len()).rev() {
            at(&cursor, Some(i));
            cursor.prev().unwrap();
        }
        at(&cursor, None);
        // Seeks, and steps to and fro from there.
        for _ in 0..rows.len() / 2 {
            let target = match rng.one_in(2) {
                true => rows[rng.below(rows.len() as u64) as usize].0.clone(),
                false => internal(&random_user_key(rng), rng.below(700), Kind::Put),
            };
            let behind = rows.partition_point(|r| compare(&r.0, &target).is_le());
            let mut i = if rng.one_in(2) {
                cursor.seek(&target).unwrap();
                Some(rows.partition_point(|r| compare(&r.0, &target).is_lt()))
            } else {
                cursor.seek_for_prev(&target).unwrap();
                behind.checked_sub(1)
            };
            for _ in 0..rng.below(6) {
                at(&cursor, i);
                if !cursor.valid() {
                    break;
                }
                if rng.one_in(2) {
                    cursor.next().unwrap();
                    i = i.map(|i| i + 1);
                } else {
                    cursor.prev().unwrap();
                    i = i.and_then(|i| i.checked_sub(1));
                }
            }
            at(&cursor, i);
        }
    }
}

fn gets(table: &Table, rows: &Rows, rng: &mut Rng) {
    for _ in 0..rows.len() {
        let user = match rng.one_in(2) {
            true => {
                parse(&rows[rng.below(rows.len() as u64) as usize].0).unwrap().user_key.to_vec()
            }
            false => random_user_key(rng),
        };
        let at = Seq(rng.below(700));
        let most = rng.below(200) as usize;
        let mut found = Vec::new();
        let whole = table.get(&user, at, &mut |seq, kind, value| {
            found.push((seq, kind, value.to_vec()));
            found.len() < most
        });
        let from =
            rows.partition_point(|r| compare(&r.0, &internal(&user, at.0, Kind::MAX)).is_lt());
        let versions = rows[from..].iter().map(|(k, v)| (parse(k).unwrap(), v));
        let versions = versions.take_while(|(k, _)| k.user_key == user);
        let expected: Vec<_> =
            versions.map(|(k, v)| (k.seq, k.kind, v.clone())).take(most.max(1)).collect();
        assert!(found == expected);
        assert_eq!(whole.unwrap(), found.len() < most || found.is_empty());
        assert!(expected.is_empty() || table.may_contain(&user));
    }
}

fn golden_table(codec: Codec) -> (TableOptions, Rows, Vec<RangeTombstone>) {
    let mut rows = Rows::new();
    for i in 0..40u64 {
        let user = format!("golden:{i:04}");
        rows.push((internal(user.as_bytes(), 100 + i, Kind::Put), user.repeat(3).into_bytes()));
        if i % 10 == 0 {
            rows.push((internal(user.as_bytes(), 50 + i, Kind::Delete), Vec::new()));
            rows.push((internal(user.as_bytes(), i + 1, Kind::Merge), b"\x01older".to_vec()));
        }
    }
    let mut expiring = Vec::new();
    Meta { tag: 2, expire_at_ms: Some(1_800_000_000_000) }.put_header(&mut expiring);
    expiring.extend_from_slice(b"soon gone");
    rows.push((internal(b"zzz\x00\xff", 999, Kind::PutMeta), expiring));
    let ranges = vec![
        RangeTombstone::new(b"golden:0005", b"golden:0009", Seq(120)),
        RangeTombstone::new(b"a", b"b", Seq(7)),
    ];
    let options = TableOptions {
        block_bytes: 512,
        restart_interval: 4,
        codec,
        bloom_bits_per_key: 10,
        created_ms: 1_700_000_000_000,
    };
    (options, rows, ranges)
}

/// What an encoder of LZ4 does with a block is its own affair: a table written with another one
/// than today's reads as well.
#[test]
fn a_table_of_an_earlier_encoder_is_read() {
    let (_, rows, _) = golden_table(Codec::Lz4);
    let golden = "tests/golden/sstable-v1-lz4-library.sst";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(golden);
    let (disk, path) = disk();
    put_all(&disk, &path, &std::fs::read(golden).unwrap());
    assert!(verify(&disk, &path).unwrap().is_sound());
    let table = Table::open(&disk, &path, 1, BlockCache::new(1 << 16)).unwrap();
    assert_eq!(scan(&table).unwrap(), rows);
}

/// With `ARQON_BLESS=1` in the environment the files are written anew: only after a deliberate
/// change of the format, with a new version number.
#[test]
fn golden_files_are_written_and_read_byte_for_byte() {
    for codec in [Codec::None, Codec::Lz4] {
        let (options, rows, ranges) = golden_table(codec);
        let (disk, path) = disk();
        write(&disk, &path, options, &rows, &ranges).unwrap();
        let written = read_all(&disk, &path);
        let name = format!("sstable-v1-{}.sst", codec.name());
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&name);
        if std::env::var_os("ARQON_BLESS").is_some() {
            std::fs::write(&golden, &written).unwrap();
        }
        let golden = std::fs::read(&golden).unwrap();
        assert!(written == golden, "{name} is no longer what is written");
        put_all(&disk, &path, &golden);
        assert!(verify(&disk, &path).unwrap().is_sound());
        let table = Table::open(&disk, &path, 1, BlockCache::new(1 << 16)).unwrap();
        assert_eq!(scan(&table).unwrap(), rows);
        assert_eq!(table.range_deletes().iter().cloned().collect::<Vec<_>>(), {
            let mut sorted = ranges;
            sorted.reverse();
            sorted
        });
        let p = table.properties();
        assert_eq!((p.entries, p.deletes, p.merges, p.range_deletes), (49, 4, 4, 2));
        assert_eq!((p.smallest_seq, p.largest_seq), (Seq(1), Seq(999)));
        assert_eq!((p.expiring, p.expire_at_ms_max), (1, 1_800_000_000_000));
        assert_eq!((p.user_keys, p.merge_ops), (41, 2));
    }
}

fn scan(table: &Arc<Table>) -> arqondb::base::Result<Rows> {
    let mut rows = Rows::new();
    let mut cursor = table.cursor(true);
    cursor.first()?;
    while cursor.valid() {
        rows.push((cursor.key().to_vec(), cursor.value().to_vec()));
        cursor.next()?;
    }
    Ok(rows)
}

/// Reads a damaged table in every way. It may fail; it must not give what was never written.
fn read_damaged(disk: &SimDisk, path: &Path, rows: &Rows) {
    if let Ok(items) = dump(disk, path) {
        for item in items {
            if let DumpItem::Entry { key, value, .. } = item {
                let at = rows.binary_search_by(|r| compare(&r.0, &key));
                assert!(at.is_ok_and(|i| rows[i].1 == value));
            }
        }
    }
    let Ok(table) = Table::open(disk, path, 1, BlockCache::new(1 << 16)) else { return };
    if let Ok(found) = scan(&table) {
        assert!(found == *rows);
    }
    for (key, value) in rows.iter().step_by(7) {
        let key = parse(key).unwrap();
        let mut found = None;
        let got = table.get(key.user_key, key.seq, &mut |seq, _, value| {
            found = Some((seq, value.to_vec()));
            false
        });
        if got.is_ok() {
            assert_eq!(found, Some((key.seq, value.clone())));
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    for codec in [Codec::None, Codec::Lz4] {
        let (options, rows, ranges) = golden_table(codec);
        let (disk, path) = disk();
        let len = write(&disk, &path, options, &rows, &ranges).unwrap().file_bytes;
        for offset in 0..len {
            let mask = 1 << (offset % 8);
            disk.damage(&path, offset, mask).unwrap();
            let report = verify(&disk, &path).unwrap();
            assert!(!report.is_sound(), "byte {offset} of {len}");
            for e in &report.damage {
                let known = matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Unsupported);
                assert!(known, "{e}");
            }
            read_damaged(&disk, &path, &rows);
            disk.damage(&path, offset, mask).unwrap();
        }
        assert!(verify(&disk, &path).unwrap().is_sound());
    }
}

#[test]
fn cut_grown_and_scrambled_files_are_found_and_never_a_panic() {
    let (options, rows, ranges) = golden_table(Codec::Lz4);
    let (disk, path) = disk();
    write(&disk, &path, options, &rows, &ranges).unwrap();
    let whole = read_all(&disk, &path);
    let mut rng = Rng::new(5);
    for round in 0..600 {
        let mut bytes = whole.clone();
        let at = rng.below(bytes.len() as u64) as usize;
        let n = (1 + rng.below(40) as usize).min(bytes.len() - at);
        match round % 4 {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + n)),
            2 => bytes.extend_from_slice(&whole[at..at + n]),
            _ => {
                rng.fill(&mut bytes[at..at + n]);
            }
        }
        if bytes == whole {
            continue;
        }
        put_all(&disk, &path, &bytes);
        assert!(!verify(&disk, &path).unwrap().is_sound());
        read_damaged(&disk, &path, &rows);
    }
}

#[test]
fn two_blocks_exchanged_by_the_device_are_found() {
    let (options, rows, _) = golden_table(Codec::None);
    let (disk, path) = disk();
    // Rows of equal length, so that two blocks are of equal length too.
    let rows: Rows = rows.into_iter().filter(|(_, v)| v.len() == 33).collect();
    write(&disk, &path, options, &rows, &[]).unwrap();
    let offsets = dump(&disk, &path).unwrap().filter_map(|item| match item {
        DumpItem::Entry { block_offset, .. } => Some(block_offset as usize),
        _ => None,
    });
    let mut offsets: Vec<usize> = offsets.collect();
    offsets.dedup();
    let mut bytes = read_all(&disk, &path);
    let (a, b, c) = (offsets[0], offsets[1], offsets[2]);
    assert_eq!(b - a, c - b);
    bytes[a..c].rotate_left(b - a);
    put_all(&disk, &path, &bytes);
    assert_eq!(verify(&disk, &path).unwrap().damage.len(), 2);
    read_damaged(&disk, &path, &rows);
}

#[test]
fn a_dump_goes_on_behind_damage_and_says_where_it_was() {
    let (options, rows, ranges) = golden_table(Codec::None);
    let (disk, path) = disk();
    write(&disk, &path, options, &rows, &ranges).unwrap();
    disk.damage(&path, 700, 4).unwrap();
    let (mut entries, mut damage) = (0, Vec::new());
    for item in dump(&disk, &path).unwrap() {
        match item {
            DumpItem::Entry { .. } => entries += 1,
            DumpItem::RangeDelete(_) => {}
            DumpItem::Damage(e) => damage.push(e),
        }
    }
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].kind(), ErrorKind::Corruption);
    let place = damage[0].damage().unwrap();
    assert!(place.file == path && place.offset <= 700 && place.offset + 520 > 700);
    assert!(entries > 30 && entries < rows.len());
}

#[test]
fn failed_reads_are_typed_and_leave_nothing_wrong_behind() {
    let (options, rows, ranges) = golden_table(Codec::Lz4);
    let (disk, path) = disk();
    write(&disk, &path, options, &rows, &ranges).unwrap();
    for (fault, kind) in
        [(Fault::ReadError, ErrorKind::Io), (Fault::ShortRead, ErrorKind::Corruption)]
    {
        for skip in 0..12 {
            disk.fail(fault, skip);
            let cache = BlockCache::new(1 << 20);
            let first = Table::open(&disk, &path, 1, Arc::clone(&cache)).and_then(|t| scan(&t));
            if let Err(e) = &first {
                assert_eq!(e.kind(), kind, "{e}");
            }
            disk.heal();
            let table = Table::open(&disk, &path, 1, cache).unwrap();
            disk.fail(fault, skip);
            let found = scan(&table);
            disk.heal();
            assert!(found.is_err() || found.unwrap() == rows);
            assert_eq!(scan(&table).unwrap(), rows);
        }
    }
}

#[test]
fn a_table_is_whole_after_finish_and_an_unfinished_one_is_never_taken_for_whole() {
    let mut rng = Rng::new(3);
    let rows = random_rows(&mut rng, 300);
    let options = TableOptions { codec: Codec::None, ..TableOptions::default() };
    let (disk, path) = disk();
    write(&disk, &path, options, &rows, &[]).unwrap();
    disk.sync_dir(Path::new("/t")).unwrap();
    let after = disk.crash(Crash::PowerLostClean);
    assert!(verify(&after, &path).unwrap().is_sound());
    let changes = disk.changes();
    for stop in 0..changes {
        let (disk, path) = self::disk();
        disk.stop_at(Some(stop));
        assert!(write(&disk, &path, options, &rows, &[]).is_err() || stop >= changes - 3);
        for crash in [Crash::Process, Crash::PowerLost(stop)] {
            let after = disk.crash(crash);
            if after.exists(&path) {
                read_damaged(&after, &path, &rows);
            }
        }
    }
}

#[test]
fn every_failed_write_is_reported() {
    let (options, rows, ranges) = golden_table(Codec::None);
    for (fault, kind) in [
        (Fault::WriteError, ErrorKind::Io),
        (Fault::NoSpace, ErrorKind::OutOfSpace),
        (Fault::SyncError, ErrorKind::Io),
    ] {
        let (disk, path) = disk();
        disk.fail(fault, 0);
        let error = write(&disk, &path, options, &rows, &ranges).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}

#[test]
fn a_cached_block_is_not_read_again_and_the_cache_keeps_its_bound() {
    let (options, rows, _) = golden_table(Codec::None);
    let (disk, path) = disk();
    write(&disk, &path, options, &rows, &[]).unwrap();
    let cache = BlockCache::new(1 << 20);
    let table = Table::open(&disk, &path, 1, Arc::clone(&cache)).unwrap();
    scan(&table).unwrap();
    disk.fail(Fault::ReadError, 0);
    assert_eq!(scan(&table).unwrap(), rows);
    disk.heal();
    let stats = cache.stats();
    assert_eq!(stats.hits, stats.misses);
    assert_eq!(stats.misses, table.properties().data_blocks);
    assert!(stats.bytes > 0 && stats.bytes < 1 << 20);

    let small = BlockCache::new(2000);
    let table = Table::open(&disk, &path, 1, Arc::clone(&small)).unwrap();
    for _ in 0..3 {
        scan(&table).unwrap();
        assert!(small.stats().bytes <= 2000);
    }
}
