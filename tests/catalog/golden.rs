//! The bytes of format version 1: what is checked in is what is written and read.

use crate::world::{START_MS, change, init, profile};
use arqondb::catalog::records::{JobKind, NodeState, UserRole};
use arqondb::catalog::{
    Action, Catalog, Command, JobChange, JobId, NodeId, ReplicaId, ShardChange, ShardId,
    decode_change, decode_command, encode_change, encode_command,
};
use arqondb::op::kv::RequestId;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The text that is checked in, which must be `now`.
fn checked_in(name: &str, now: &str) -> String {
    if std::env::var_os("ARQON_WRITE_GOLDEN").is_some() {
        std::fs::write(golden(name), now).unwrap();
    }
    let text = std::fs::read_to_string(golden(name)).unwrap();
    assert!(text == now, "{name} is written as\n{now}");
    text
}

/// A history in which every kind of command is applied, each with its number.
fn history() -> (Catalog, Vec<Command>) {
    let mut catalog = Catalog::new();
    let mut commands: Vec<Command> = Vec::new();
    let mut take = |catalog: &mut Catalog, action: Action| {
        let request = commands.len() as u64 + 1;
        let id = request.is_multiple_of(3).then_some(RequestId { client: 0x0102_0304, request });
        let command = Command { now_ms: START_MS + request, id, action };
        catalog.apply(&command).unwrap();
        commands.push(command);
    };
    take(&mut catalog, init());
    for id in 1..=4u64 {
        let zone = format!("z{id}");
        let wanted = (id == 2).then_some(NodeId(2));
        let profile = profile(&[("rack", "r"), ("zone", &zone)]);
        take(&mut catalog, Action::RegisterNode { wanted, incarnation: id << 40, profile });
        take(&mut catalog, Action::Heartbeat { node: NodeId(id), incarnation: id << 40 });
    }
    let nodes = [1, 2, 3].map(NodeId).to_vec();
    take(&mut catalog, Action::CreateShards { count: 2, replicas: 3, nodes });
    let shard = ShardId(1);
    take(&mut catalog, Action::SetLeader { shard, replica: ReplicaId(1), term: 3 });
    for step in [
        ShardChange::AddLearner(NodeId(4)),
        ShardChange::LearnerReady(ReplicaId(7)),
        ShardChange::Promote(ReplicaId(7)),
        ShardChange::Leave(ReplicaId(2)),
        ShardChange::Remove(ReplicaId(2)),
        ShardChange::BeginSplit(1_000),
        ShardChange::CancelSplit,
        ShardChange::BeginSplit(1_001),
        ShardChange::FinishSplit,
        ShardChange::SetDesired(5),
        ShardChange::BeginSplit(77),
    ] {
        let action = change(&catalog, shard, step);
        take(&mut catalog, action);
    }
    let state = |expected, to| Action::SetNodeState { node: NodeId(3), expected, to };
    take(&mut catalog, state(NodeState::Active, NodeState::Suspect));
    take(&mut catalog, state(NodeState::Suspect, NodeState::Dead));
    let nodes = vec![NodeId(1)];
    let (name, kind, config) = ("idx".to_string(), "hnsw".to_string(), vec![1, 2, 255]);
    for action in [
        Action::CreateFamily { name: "logs".into() },
        Action::CreateFamily { name: "gone".into() },
        Action::DropFamily { name: "gone".into() },
        Action::CreateIndex { name, kind, config, nodes },
        Action::SetIndexNodes { name: "idx".into(), nodes: vec![NodeId(4), NodeId(1)] },
        Action::CreateIndex {
            name: "old".into(),
            kind: "flat".into(),
            config: Vec::new(),
            nodes: Vec::new(),
        },
        Action::DropIndex { name: "old".into() },
        Action::CreateUser { name: "root".into(), role: UserRole::Admin, verifier: vec![9; 4] },
        Action::CreateUser { name: "joe".into(), role: UserRole::User, verifier: Vec::new() },
        Action::ChangeUser {
            name: "joe".into(),
            role: Some(UserRole::Admin),
            verifier: Some(vec![8]),
            disabled: Some(true),
        },
        Action::CreateUser { name: "eve".into(), role: UserRole::User, verifier: Vec::new() },
        Action::DropUser { name: "eve".into() },
    ] {
        take(&mut catalog, action);
    }
    let job = |kind, shard, node| Action::CreateJob { kind, shard, node, steps: b"args".to_vec() };
    take(&mut catalog, job(JobKind::Split, Some(shard), None));
    take(&mut catalog, job(JobKind::DrainNode, None, Some(NodeId(2))));
    take(&mut catalog, job(JobKind::Backup, None, None));
    let (owner, lease_ms) = (0xfeed, 5_000);
    for (job, change) in [
        (1, JobChange::Claim { owner, lease_ms }),
        (1, JobChange::Advance { owner, lease_ms, steps: b"two".to_vec() }),
        (2, JobChange::Claim { owner, lease_ms }),
        (2, JobChange::Finish { owner, done: true, text: "empty".into() }),
        (3, JobChange::Cancel { text: "no".into() }),
    ] {
        take(&mut catalog, Action::ChangeJob { job: JobId(job), change });
    }
    (catalog, commands)
}

#[test]
fn commands_are_as_checked_in() {
    let (_, mut commands) = history();
    // Applied by no replica of version 1, but read by it.
    commands.push(Command { now_ms: START_MS, id: None, action: Action::RaiseVersion { to: 2 } });
    let line = |command: &Command| hex(&encode_command(command).unwrap()) + "\n";
    let text =
        checked_in("catalog-commands-v1.hex", &commands.iter().map(line).collect::<String>());
    let read: Vec<Command> = text.lines().map(|l| decode_command(&unhex(l)).unwrap()).collect();
    assert_eq!(read, commands);
    let mut catalog = Catalog::new();
    for line in text.lines().take(commands.len() - 1) {
        catalog.apply_bytes(&unhex(line)).unwrap().unwrap();
    }
    assert!(catalog == history().0);
}

#[test]
fn changes_are_as_checked_in() {
    let (catalog, _) = history();
    let changes: Vec<_> = catalog.changes_since(0).unwrap().collect();
    let now: String = changes.iter().map(|change| hex(&encode_change(change)) + "\n").collect();
    let text = checked_in("catalog-changes-v1.hex", &now);
    for (line, change) in text.lines().zip(changes) {
        assert_eq!(&decode_change(&unhex(line)).unwrap(), change);
    }
}

#[test]
fn a_snapshot_is_as_checked_in() {
    let (catalog, _) = history();
    let bytes = catalog.snapshot();
    let now: String = bytes.chunks(32).map(|line| hex(line) + "\n").collect();
    let text = checked_in("catalog-snapshot-v1.hex", &now);
    assert!(Catalog::restore(&unhex(&text)).unwrap() == catalog);
}
