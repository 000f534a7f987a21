//! The manifest's bytes: a golden file, and damage of every kind.

use arqondb::base::{CfId, ErrorKind, LogIndex, Seq};
use arqondb::env::Rng;
use arqondb::lsm::CfOptions;
use arqondb::lsm::manifest::record::{RecordReader, header, put_record};
use arqondb::lsm::manifest::{Edit, Field, FileMeta, Part, State};
use arqondb::op::route::SlotRange;
use std::path::Path;

const GOLDEN: &str = "tests/golden/manifest-v1.bin";

fn file(number: u64, smallest: &str, largest: &str) -> FileMeta {
    FileMeta {
        number,
        size: 1000 + number,
        entries: 7,
        deletes: 2,
        range_deletes: 1,
        seq_min: Seq(number),
        seq_max: Seq(number + 300),
        smallest: smallest.into(),
        largest: largest.into(),
        largest_is_excluded: number % 2 == 1,
        global_seq: (number == 6).then_some(Seq(306)),
        slots: (number == 8).then_some(SlotRange { first: 0, last: 99 }),
    }
}

fn edits() -> Vec<Edit> {
    let cf = CfId(1);
    let create = |cf, name: &str, retain_seqs| Field::CreateCf {
        cf,
        name: name.into(),
        options: CfOptions { retain_seqs },
    };
    let add = |level, file| Field::AddFile { cf, level, file };
    vec![
        Edit { fields: vec![create(CfId(0), "default", 0), create(cf, "users", 1000)] },
        Edit {
            fields: vec![
                Field::NextFile(7),
                Field::NextCf(CfId(2)),
                add(0, file(5, "a", "m")),
                add(1, file(6, "n", "z")),
                Field::Flushed(cf, LogIndex(40)),
                Field::LastSeq(Seq(306)),
                Field::CommittedMs(1_700_000_000_000),
                Field::Counts { cf, keys: 12, expires: 3, exact: true },
                Field::Collected(cf, Seq(200)),
            ],
        },
        Edit { fields: vec![Field::RemoveFile { cf, number: 5 }, add(2, file(7, "a", "m"))] },
        Edit { fields: vec![Field::DropCf(CfId(0))] },
        Edit {
            fields: vec![
                add(3, file(8, "a", "m")),
                Field::Part(Part { slots: SlotRange { first: 0, last: 99 }, epoch: 2 }),
            ],
        },
    ]
}

fn image() -> Vec<u8> {
    let mut bytes = header(9);
    for (i, edit) in edits().iter().enumerate() {
        put_record(&mut bytes, 9, i as u64 + 1, edit);
    }
    bytes
}

fn read(bytes: Vec<u8>) -> arqondb::base::Result<(Vec<Edit>, bool)> {
    let mut reader = RecordReader::new(Path::new("MANIFEST-000009"), bytes)?;
    let mut edits = Vec::new();
    while let Some((_, edit)) = reader.next()? {
        edits.push(edit);
    }
    Ok((edits, reader.is_torn()))
}

#[test]
fn the_format_is_that_of_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("ARQON_BLESS").is_some() {
        std::fs::write(&path, image()).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert_eq!(golden, image());
    assert_eq!(read(golden).unwrap(), (edits(), false));
    let mut state = State::default();
    edits().iter().for_each(|edit| state.apply(edit).unwrap());
    let mut again = State::default();
    state.to_edits().iter().for_each(|edit| again.apply(edit).unwrap());
    assert_eq!(state, again);
}

#[test]
fn a_cut_manifest_gives_the_edits_before_the_cut() {
    let whole = image();
    for n in 0..whole.len() {
        match read(whole[..n].to_vec()) {
            Ok((found, _)) => assert_eq!(found[..], edits()[..found.len()], "cut at {n}"),
            Err(error) => assert!(error.kind() == ErrorKind::Corruption && n < 24, "cut at {n}"),
        }
    }
}

#[test]
fn a_flipped_bit_is_damage_unless_it_is_in_the_last_record() {
    let whole = image();
    let mut last = Vec::new();
    put_record(&mut last, 9, 5, &edits()[4]);
    let tail = whole.len() - last.len();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            match read(bytes) {
                Ok((found, torn)) => {
                    assert!(at >= tail && torn, "offset {at}");
                    assert_eq!(found[..], edits()[..4]);
                }
                Err(error) => {
                    let damage = error.damage().unwrap();
                    assert!(at < tail && damage.offset <= at as u64, "offset {at}: {error}");
                }
            }
        }
    }
}

#[test]
fn random_bytes_and_random_edits_never_panic() {
    let mut rng = Rng::new(5);
    for _ in 0..20_000 {
        let mut bytes = vec![0; rng.below(80) as usize];
        rng.fill(&mut bytes);
        let mut edit = edits()[rng.below(4) as usize].encode();
        let at = rng.below(edit.len() as u64) as usize;
        edit[at] = rng.next_u64() as u8;
        for bytes in [bytes, edit] {
            if let Ok(edit) = Edit::decode(&bytes) {
                _ = State::default().apply(&edit);
            }
            let mut image = header(9);
            image.extend_from_slice(&bytes);
            _ = read(image);
        }
    }
}

/// A program that was put back to an older version must not take for damage, and give up, what a newer
/// one has written.
#[test]
fn a_newer_manifest_is_unsupported_and_not_damage() {
    let unsupported = |bytes: Vec<u8>| {
        let error = read(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.damage().is_none() && error.message().contains("MANIFEST-000009"), "{error}");
    };
    let mut newer = image();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..20]);
    newer[20..24].copy_from_slice(&crc.to_le_bytes());
    unsupported(newer);
    // Without the checksum it is damage.
    let mut damaged = image();
    damaged[8] = 2;
    assert_eq!(read(damaged).unwrap_err().kind(), ErrorKind::Corruption);
    // A kind of field, a flag of a file, and a version of a family's options, that are not known.
    for payload in [&[13, 0][..], &[8, 1, 0, 8], &[5, 1, 1, b'a', 2, 2, 0]] {
        let mut bytes = image();
        let record = edits().len() as u64 + 1;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&9u64.to_le_bytes()), &record.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(crc32c::crc32c_append(crc, payload).to_le_bytes());
        bytes.extend(record.to_le_bytes());
        bytes.extend(payload);
        unsupported(bytes);
    }
}
