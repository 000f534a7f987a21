//! The bytes of the format: what is checked in is what is written and read.

use crate::driver::{DIR, entry, open, options, record};
use arqondb::env::disk::read_exact_at;
use arqondb::env::sim_disk::Crash;
use arqondb::env::{Disk, SimDisk};
use arqondb::log::{Record, RecordKind, SyncLevel};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn records() -> Vec<Record> {
    vec![
        entry(1, 1, b"first"),
        record(1, RecordKind::State, 2, b"vote for 3"),
        entry(0x0102_0304_0506_0708, 7, b""),
        record(1, RecordKind::Truncate, 0, b""),
        entry(1, 1, &[0xAB; 4000]),
    ]
}

/// Lines of offset, 16 bytes in hexadecimal; runs of equal lines are folded.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut before: Option<&[u8]> = None;
    for (i, line) in bytes.chunks(16).enumerate() {
        if before == Some(line) {
            if !out.ends_with("*\n") {
                out.push_str("*\n");
            }
            continue;
        }
        before = Some(line);
        write!(out, "{:06x}", i * 16).unwrap();
        for byte in line {
            write!(out, " {byte:02x}").unwrap();
        }
        out.push('\n');
    }
    writeln!(out, "{:06x}", bytes.len()).unwrap();
    out
}

/// The bytes that `dump` printed.
fn undump(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut repeat = false;
    for line in text.lines() {
        if line == "*" {
            repeat = true;
            continue;
        }
        let (offset, rest) = line.split_at(6);
        let offset = usize::from_str_radix(offset, 16).unwrap();
        if repeat {
            let last = bytes[bytes.len() - 16..].to_vec();
            while bytes.len() < offset {
                bytes.extend_from_slice(&last);
            }
            bytes.truncate(offset);
            repeat = false;
        }
        assert_eq!(bytes.len(), offset);
        bytes.extend(rest.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()));
    }
    bytes
}

fn golden(number: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/log-v1-{number}.hex"))
}

#[test]
fn the_format_is_as_checked_in() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, options(SyncLevel::Os)).unwrap();
    let records = records();
    let (alone, batch) = records.split_at(1);
    let first = log.append(&[alone[0].as_ref()]).unwrap();
    log.sync_to(first).unwrap();
    let refs: Vec<_> = batch.iter().map(Record::as_ref).collect();
    log.append(&refs).unwrap();
    drop(log);
    let disk = disk.crash(Crash::Process);
    for number in [1, 2] {
        let path = Path::new(DIR).join(format!("{number:010}.log"));
        let file = disk.open(&path).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        read_exact_at(&*file, &path, &mut bytes, 0).unwrap();
        let now = dump(&bytes);
        assert_eq!(undump(&now), bytes);
        if std::env::var_os("ARQON_WRITE_GOLDEN").is_some() {
            std::fs::write(golden(number), &now).unwrap();
        }
        let want = std::fs::read_to_string(golden(number)).unwrap();
        assert!(now == want, "segment {number} is written as\n{now}");
    }
}

#[test]
fn what_is_checked_in_is_read() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for number in [1, 2] {
        let bytes = undump(&std::fs::read_to_string(golden(number)).unwrap());
        let path = Path::new(DIR).join(format!("{number:010}.log"));
        disk.create(&path).unwrap().write_at(&bytes, 0).unwrap();
    }
    let (_, seen) = open(&disk, options(SyncLevel::Os)).unwrap();
    let seen: Vec<Record> = seen.into_iter().map(|(_, r)| r).collect();
    assert!(seen == records());
}
