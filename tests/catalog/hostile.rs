//! Bytes that nobody wrote: random ones, damaged ones, and those of versions to come.

use crate::random::Random;
use crate::world::{START_MS, done, init, with_shards};
use arqondb::ErrorKind;
use arqondb::base::checksum::crc32c_append;
use arqondb::catalog::records::JobKind;
use arqondb::catalog::{
    Action, Catalog, Command, ShardChange, ShardId, View, decode_answer, decode_change,
    decode_command, encode_answer, encode_change, encode_command,
};
use arqondb::env::Rng;
use arqondb::op::kv::RequestId;

const ROUNDS: usize = 6_000;

/// Whatever is accepted must be spelled as we spell it. Gives whether anything was.
fn decode_all(bytes: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(command) = decode_command(bytes) {
        assert_eq!(encode_command(&command).unwrap(), bytes);
        accepted = true;
    }
    if let Ok(answer) = decode_answer(bytes) {
        assert_eq!(encode_answer(&answer), bytes);
        accepted = true;
    }
    if let Ok(change) = decode_change(bytes) {
        assert_eq!(encode_change(&change), bytes);
        accepted = true;
    }
    if let Ok(view) = View::decode(bytes) {
        assert_eq!(view.encode(), bytes);
        view.check().unwrap();
        accepted = true;
    }
    accepted
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = rng.next_u64() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.next_u64() as u8),
            _ => {
                let from = rng.below(bytes.len() as u64 + 1) as usize;
                let piece = bytes[from.min(at)..from.max(at)].to_vec();
                bytes.splice(at..at, piece.into_iter().take(64));
            }
        }
    }
}

/// A catalog with something of everything in it, and the bytes that made it.
fn full(seed: u64) -> (Catalog, Vec<Vec<u8>>) {
    let mut random = Random::new(seed);
    let mut catalog = Catalog::new();
    done(&mut catalog, init());
    let mut written = Vec::new();
    for _ in 0..150 {
        let command = random.command(&catalog);
        written.push(encode_command(&command).unwrap());
        written.push(encode_answer(&catalog.apply(&command)));
    }
    written.extend(catalog.changes_since(0).unwrap().map(encode_change));
    written.push(catalog.view().encode());
    (catalog, written)
}

#[test]
fn random_bytes_are_refused_quietly() {
    let mut rng = Rng::new(1);
    for _ in 0..ROUNDS {
        let mut bytes = vec![0; rng.below(80) as usize];
        rng.fill(&mut bytes);
        decode_all(&bytes);
        let _ = Catalog::restore(&bytes);
        let _ = Catalog::restore(&summed(bytes));
    }
}

#[test]
fn damaged_bytes_are_refused_or_mean_what_they_say() {
    let (catalog, written) = full(2);
    let mut rng = Rng::new(3);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let mut bytes = written[rng.below(written.len() as u64) as usize].clone();
        assert!(decode_all(&bytes));
        mutate(&mut rng, &mut bytes);
        // A replica that takes a damaged command goes on or stops, and does not fall over.
        let _ = catalog.clone().apply_bytes(&bytes);
        if decode_all(&bytes) { accepted += 1 } else { refused += 1 }
    }
    assert!(accepted > 100 && refused > 1_000, "{accepted} accepted, {refused} refused");
}

fn summed(mut message: Vec<u8>) -> Vec<u8> {
    let sum = crc32c_append(0, &message);
    message.extend_from_slice(&sum.to_le_bytes());
    message
}

#[test]
fn a_damaged_snapshot_is_refused_and_a_forged_one_does_no_harm() {
    let (catalog, _) = full(4);
    let whole = catalog.snapshot();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert_eq!(Catalog::restore(&bytes).unwrap_err().kind(), ErrorKind::Corruption);
        assert_eq!(Catalog::restore(&whole[..at]).unwrap_err().kind(), ErrorKind::Corruption);
    }
    let mut rng = Rng::new(5);
    let mut accepted = 0;
    for round in 0..ROUNDS / 4 {
        let mut message = whole[..whole.len() - 4].to_vec();
        mutate(&mut rng, &mut message);
        let bytes = summed(message);
        let Ok(mut forged) = Catalog::restore(&bytes) else { continue };
        accepted += 1;
        assert_eq!(forged.snapshot(), bytes);
        let mut random = Random::new(round as u64);
        for _ in 0..20 {
            let command = random.command(&forged);
            let _ = forged.apply(&command);
        }
        forged.view().check().unwrap();
    }
    assert!(accepted > 20, "{accepted} forged snapshots were accepted");
}

/// The bytes of a command with one protobuf field behind them.
fn with_field(mut bytes: Vec<u8>, field: u8, value: u8) -> Vec<u8> {
    bytes.extend_from_slice(&[field << 3, value]);
    bytes
}

#[test]
fn what_a_later_version_may_write_is_unsupported_and_stops_a_replica() {
    let mut catalog = with_shards(&["a"], 1, 1);
    let encode = |action| encode_command(&Command { now_ms: START_MS, id: None, action }).unwrap();
    let job = |kind| Action::CreateJob { kind, shard: None, node: None, steps: Vec::new() };
    let known = encode(job(JobKind::Backup));
    let unknown_kind = {
        let mut bytes = known.clone();
        let at = bytes.len() - 1;
        assert_eq!(bytes[at], JobKind::Backup as u8);
        bytes[at] = 77;
        bytes
    };
    let no_kind = known[..known.len() - 5].to_vec();
    let mut newer = known.clone();
    assert_eq!(newer[..2], [0x08, 1]);
    newer[1] = 2;
    let cases = [
        with_field(known.clone(), 9, 1),
        with_field(no_kind.clone(), 5, 1),
        no_kind,
        newer,
        unknown_kind,
        // Spelled in a way that we never write: the same field twice.
        [&known[..2], &known].concat(),
    ];
    let before = catalog.clone();
    for bytes in cases {
        let error = catalog.apply_bytes(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{bytes:?}: {error}");
        assert!(catalog == before);
    }
    catalog.apply_bytes(&known).unwrap().unwrap();
}

#[test]
fn a_length_that_is_not_there_takes_no_memory() {
    // Field 2 of a change, 2 GiB long, with nothing behind it.
    let bytes = [0x12, 0xff, 0xff, 0xff, 0xff, 0x07];
    assert_eq!(decode_change(&bytes).unwrap_err().kind(), ErrorKind::Corruption);
    let long = vec![0; arqondb::catalog::limits::COMMAND_BYTES_MAX + 1];
    assert_eq!(decode_command(&long).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn every_number_may_be_the_largest() {
    let mut catalog = with_shards(&["a", "b", "c"], 2, 3);
    let expected = catalog.view().shard(ShardId(1)).unwrap().epoch;
    let big = u64::MAX;
    let change = |change| Action::ChangeShard { shard: ShardId(1), expected, change };
    let actions = [
        Action::CreateShards { count: u32::MAX, replicas: u32::MAX, nodes: Vec::new() },
        change(ShardChange::SetDesired(u32::MAX)),
        change(ShardChange::BeginSplit(u16::MAX)),
        Action::RegisterNode {
            wanted: Some(arqondb::catalog::NodeId(big)),
            incarnation: big,
            profile: crate::world::profile(&[]),
        },
    ];
    for action in actions {
        let id = Some(RequestId { client: big, request: big });
        let command = Command { now_ms: big, id, action };
        let bytes = encode_command(&command).unwrap();
        assert_eq!(decode_command(&bytes).unwrap(), command);
        let refusal = catalog.apply_bytes(&bytes).unwrap().unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::InvalidArgument);
    }
}
