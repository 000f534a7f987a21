//! Torn tails are cut, damage is refused, and nothing is dropped from the middle in silence.

use crate::driver::{DIR, entry, open, options, record};
use arqondb::base::ErrorKind;
use arqondb::env::disk::read_exact_at;
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Disk, Rng, SimDisk};
use arqondb::log::inspect::{Item, inspect};
use arqondb::log::{Log, Position, Record, RecordKind, SyncLevel};
use std::path::{Path, PathBuf};

fn file(number: u32) -> PathBuf {
    Path::new(DIR).join(format!("{number:010}.log"))
}

fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    read_exact_at(&*file, path, &mut bytes, 0).unwrap();
    bytes
}

/// A log of `n` entries of 100 bytes, synced after each if `synced`.
fn log_of(n: u64, synced: bool) -> (SimDisk, Log, Vec<Position>) {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    let mut positions = Vec::new();
    for index in 1..=n {
        let position = log.append(&[entry(1, index, &[index as u8; 100]).as_ref()]).unwrap();
        if synced {
            log.sync_to(position).unwrap();
        }
        positions.push(position);
    }
    (disk, log, positions)
}

#[test]
fn a_log_cut_off_at_any_byte_gives_the_entries_before_it() {
    let (disk, log, positions) = log_of(8, false);
    let whole = disk.crash(Crash::Process);
    let path = file(1);
    let end = log.written().offset();
    for cut in 0..=end {
        for zeros in [false, true] {
            let disk = whole.crash(Crash::Process);
            let torn = disk.open_write(&path).unwrap();
            if zeros {
                torn.write_at(&vec![0; (end - cut) as usize], cut).unwrap();
            } else {
                torn.set_len(cut).unwrap();
            }
            let opened = open(&disk, options(SyncLevel::Os));
            if cut < 32 {
                // The header was durable before the file had its name: this is no torn tail.
                assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corruption, "{cut}");
                continue;
            }
            let (log, seen) = opened.unwrap();
            let whole = positions.iter().filter(|p| p.offset() + 100 <= cut).count();
            assert_eq!(seen.len(), whole, "cut at {cut}");
            // It goes on behind the cut, and a further crash changes nothing.
            let next = whole as u64 + 1;
            log.append(&[entry(1, next, b"next").as_ref()]).unwrap();
            let (_, seen) = open(&disk.crash(Crash::Process), options(SyncLevel::Os)).unwrap();
            assert_eq!(seen.len(), whole + 1);
            assert_eq!(seen[whole].1, entry(1, next, b"next"));
        }
    }
}

#[test]
fn one_flipped_bit_is_refused_where_synced_and_cut_where_not() {
    const ENTRIES: u64 = 120;
    for synced in [true, false] {
        let (disk, log, positions) = log_of(ENTRIES, synced);
        let disk = disk.crash(Crash::Process);
        drop(log);
        let last = positions[positions.len() - 1];
        let mut rng = Rng::new(5);
        for _ in 0..1500 {
            let number = 1 + rng.below(u64::from(last.segment())) as u32;
            let used = if number == last.segment() { last.offset() + 100 } else { 4096 };
            let at = rng.below(used);
            let damaged = disk.crash(Crash::Process);
            damaged.damage(&file(number), at, 1 << rng.below(8)).unwrap();
            let before = content(&damaged, &file(number));
            let what = format!("segment {number}, byte {at}, synced: {synced}");
            match open(&damaged, options(SyncLevel::Os)) {
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Corruption, "{what}: {e}");
                    let damage = e.damage().unwrap();
                    assert_eq!(damage.file, file(number), "{what}");
                    assert!(damage.offset <= at, "{what}: {e}");
                    assert_eq!(content(&damaged, &file(number)), before, "{what}");
                }
                Ok((log, seen)) => {
                    for (i, (_, r)) in seen.iter().enumerate() {
                        let index = i as u64 + 1;
                        assert_eq!(*r, entry(1, index, &[index as u8; 100]), "{what}");
                    }
                    if seen.len() < ENTRIES as usize {
                        // Cut: only what was not synced, and what stood behind is told.
                        let last_only = seen.len() + 1 == ENTRIES as usize;
                        assert!(!synced || last_only, "{what}: {} entries", seen.len());
                        assert!(log.recovery().cut.is_some() || last_only, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn after_a_clean_stop_or_a_restart_the_last_entry_is_guarded_too() {
    let (disk, log, positions) = log_of(3, false);
    drop(log);
    for restarts in 0..2 {
        let damaged = disk.crash(Crash::Process);
        damaged.damage(&file(1), positions[2].offset(), 1).unwrap();
        let e = open(&damaged, options(SyncLevel::Os)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corruption, "after {restarts} restarts");
        let summary = inspect(&damaged, Path::new(DIR), &mut |_| Ok(())).unwrap();
        assert_eq!(summary.damage.unwrap().damage(), e.damage());
        drop(open(&disk, options(SyncLevel::Os)).unwrap());
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, _log, positions) = log_of(120, true);
    for number in 2..positions[119].segment() {
        let disk = disk.crash(Crash::Process);
        disk.remove(&file(number)).unwrap();
        let e = open(&disk, options(SyncLevel::Os)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corruption);
        assert_eq!(e.damage().unwrap().file, file(number - 1));
    }
}

#[test]
fn a_stale_life_of_a_recycled_file_never_shows() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    for index in 1..=200 {
        // All of the same length: stale frames stand exactly where new ones would.
        log.append(&[entry(1, index, &[7; 100]).as_ref()]).unwrap();
        if index % 50 == 0 {
            log.set_floor(arqondb::base::GroupId(1), arqondb::base::LogIndex(index)).unwrap();
        }
        let (_, seen) = open(&disk.crash(Crash::Process), options(SyncLevel::Os)).unwrap();
        assert_eq!(seen.last().unwrap().1.index.0, index);
    }
    let names = disk.list(Path::new(DIR)).unwrap();
    assert!(names.iter().all(|e| !e.name.starts_with("0000000001")), "nothing was recycled");
}

#[test]
fn files_of_random_bytes_never_panic_a_reader() {
    let mut rng = Rng::new(11);
    for round in 0..400 {
        let (disk, log, _) = log_of(rng.below(60), false);
        drop(log);
        let names = disk.list(Path::new(DIR)).unwrap();
        for entry in &names {
            let path = Path::new(DIR).join(&entry.name);
            let file = disk.open_write(&path).unwrap();
            for _ in 0..rng.below(5) {
                let mut bytes = vec![0; rng.below(600) as usize];
                rng.fill(&mut bytes);
                let at = rng.below(entry.len.max(1));
                file.write_at(&bytes, at).unwrap();
            }
        }
        let mut frames = 0;
        inspect(&disk, Path::new(DIR), &mut |item| {
            frames += usize::from(matches!(item, Item::Frame { .. }));
            Ok(())
        })
        .unwrap_or_else(|e| panic!("round {round}: {e}"));
        if let Ok((_, seen)) = open(&disk, options(SyncLevel::Os)) {
            assert!(seen.len() <= frames);
        }
    }
}

#[test]
fn inspection_shows_records_links_gaps_and_changes_nothing() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    let records = [
        entry(1, 1, b"one"),
        record(1, RecordKind::State, 4, b"vote"),
        entry(2, 1, &[3; 5000]),
        record(1, RecordKind::Truncate, 0, b""),
    ];
    let refs: Vec<_> = records.iter().map(Record::as_ref).collect();
    let mut positions = Vec::new();
    log.append_each(&refs, &mut positions).unwrap();
    log.append(&[entry(1, 1, b"again").as_ref()]).unwrap();
    let changes = disk.changes();
    let look = |disk: &SimDisk| {
        let mut text = Vec::new();
        let summary = inspect(disk, Path::new(DIR), &mut |item| {
            text.push(match item {
                Item::Segment { number, bytes, .. } => format!("segment {number} {bytes}"),
                Item::Link { offset, end, durable, .. } => format!("{offset} link {end} {durable}"),
                Item::Frame { frame: f, .. } => format!(
                    "{} {} {} {} {} {}",
                    f.offset,
                    f.kind.name(),
                    f.group,
                    f.index,
                    f.payload.len(),
                    [f.first, f.last, f.ends_batch]
                        .map(|b| if b { '+' } else { '-' })
                        .iter()
                        .collect::<String>(),
                ),
                Item::Gap { offset, next, found, .. } => format!("{offset} gap to {next}: {found}"),
            });
            Ok(())
        })
        .unwrap();
        (text, summary)
    };
    let (text, summary) = look(&disk);
    let want = [
        "segment 1 4096",
        "32 link 0:0 0:0",
        "64 entry 1 1 3 ++-",
        "99 state 1 4 4 ++-",
        "135 entry 2 1 3929 +--",
        "segment 2 4096",
        "32 link 1:4096 0:0",
        "64 entry 2 1 1071 -+-",
        "1167 truncate 1 0 0 +++",
        "1199 entry 1 1 5 +++",
    ];
    assert_eq!(text, want);
    assert_eq!(summary.end, Some(log.written()));
    assert!(summary.damage.is_none() && summary.cut.is_none());
    assert_eq!(summary.segments[1].used_bytes, 1236);
    assert_eq!(summary.segments[0].tail, None);
    disk.damage(&file(2), 64 + 40, 1).unwrap();
    let (text, summary) = look(&disk);
    assert!(text[7].starts_with("64 gap to 1167: checksum"), "{}", text[7]);
    assert_eq!(summary.cut.unwrap().offset, 64);
    assert_eq!(disk.changes(), changes);
    disk.damage(&file(1), 3, 1).unwrap();
    let (_, summary) = look(&disk);
    assert!(summary.segments[0].damage.is_some() && summary.damage.is_some());
}
