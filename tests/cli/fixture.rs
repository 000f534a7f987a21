//! A folder with whole and damaged files for the offline commands.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails the test")]

use arqondb::base::{CfId, GroupId, LogIndex, Seq};
use arqondb::env::RealDisk;
use arqondb::log::{Log, LogOptions, RecordKind, RecordRef, SyncLevel};
use arqondb::lsm::batch::WriteBatch;
use arqondb::lsm::key::{Kind, put_internal};
use arqondb::lsm::manifest::store::write_snapshot;
use arqondb::lsm::manifest::{Family, FileMeta, State};
use arqondb::lsm::options::CfOptions;
use arqondb::lsm::sstable::{TableOptions, TableWriter};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let fixture = Fixture { folder: tempfile::tempdir().unwrap() };
        table(&fixture.path("good.sst"));
        std::fs::copy(fixture.path("good.sst"), fixture.path("bad.sst")).unwrap();
        flip(&fixture.path("bad.sst"), 40);
        log(&fixture.path("good/log"));
        log(&fixture.path("bad/log"));
        for entry in std::fs::read_dir(fixture.path("bad/log")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "log") {
                flip(&path, 0);
            }
        }
        manifest(&fixture.path("good/shard-1"));
        manifest(&fixture.path("bad/shard-1"));
        flip(&fixture.path("bad/shard-1/MANIFEST-000001"), 50);
        log(&fixture.path("fresh/log"));
        std::fs::write(fixture.path("fresh/FORMAT"), "arqondb 1\n").unwrap();
        log(&fixture.path("newer/log"));
        std::fs::write(fixture.path("newer/FORMAT"), "arqondb 9\n").unwrap();
        std::fs::create_dir_all(fixture.path("lost/log")).unwrap();
        std::fs::write(fixture.path("lost/FORMAT"), "arqondb 1\n").unwrap();
        std::fs::create_dir(fixture.path("empty")).unwrap();
        std::fs::write(fixture.path("lines.txt"), "# comment\nSET a 1\nGET a\n").unwrap();
        std::fs::write(fixture.path("settings.toml"), "[storage]\nsync = \"os\"\n").unwrap();
        let wrong = "[storage]\nsnyc = \"os\"\n";
        std::fs::write(fixture.path("settings-wrong.toml"), wrong).unwrap();
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A line with `@` before a name replaced by the fixture's folder.
    pub(crate) fn line(&self, line: &str) -> String {
        line.replace('@', &format!("{}/", self.folder.path().display()))
    }
}

/// 100 keys, one of them not printable, one long value.
fn table(path: &Path) {
    let options = TableOptions { block_bytes: 256, ..TableOptions::default() };
    let mut writer = TableWriter::create(&RealDisk, path, options, CfId::DEFAULT).unwrap();
    let mut key = Vec::new();
    for n in 0..100u64 {
        key.clear();
        let user = if n == 0 { b"\x00\xff".to_vec() } else { format!("key:{n:03}").into_bytes() };
        let (kind, value) = match n {
            7 => (Kind::Delete, Vec::new()),
            8 => (Kind::Put, vec![b'x'; 200]),
            _ => (Kind::Put, format!("value, {n}").into_bytes()),
        };
        put_internal(&mut key, &user, Seq(n + 1), kind);
        writer.add(&key, &value).unwrap();
    }
    writer.finish().unwrap();
}

/// Three batches of group 1.
fn log(dir: &Path) {
    let options = LogOptions {
        segment_bytes: 1 << 20,
        sync: SyncLevel::Always,
        threads: false,
        ..LogOptions::default()
    };
    let log = Log::open(RealDisk::shared(), dir, options, &mut |_, _| Ok(())).unwrap();
    for n in 0..3u64 {
        let mut batch = WriteBatch::new();
        batch.put(format!("key:{n}").as_bytes(), b"a\nvalue");
        batch.delete(b"gone");
        batch.place(Seq(1 + 2 * n), 1_700_000_000_000);
        let payload = batch.encoded();
        let (group, index, kind) = (GroupId(1), LogIndex(n + 1), RecordKind::Entry);
        let position = log.append(&[RecordRef { group, kind, index, payload }]).unwrap();
        log.commit(position).unwrap();
    }
}

/// Two families, one with a file.
fn manifest(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let file = FileMeta {
        number: 7,
        size: 4096,
        entries: 100,
        deletes: 1,
        range_deletes: 0,
        seq_min: Seq(1),
        seq_max: Seq(100),
        smallest: b"\x00\xff".to_vec(),
        largest: b"key:099".to_vec(),
        largest_is_excluded: false,
        global_seq: None,
        slots: None,
    };
    let family = |name: &str, files| Family {
        name: name.to_string(),
        options: CfOptions::default(),
        flushed: LogIndex(3),
        keys: 99,
        expires: 0,
        exact: true,
        collected: Seq(0),
        files,
    };
    let files = BTreeMap::from([(7, (1, file))]);
    let families = BTreeMap::from([
        (CfId(0), family("default", files)),
        (CfId(1), family("logs", BTreeMap::new())),
    ]);
    let state = State { next_file: 8, next_cf: CfId(2), families, ..State::default() };
    write_snapshot(&RealDisk, dir, 1, &state).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}
