//! The memtable against a `BTreeMap`, alone and with readers beside the writer.

use super::*;
use crate::base::CfId;
use crate::env::Rng;
use crate::lsm::cursor::Cursor;
use crate::lsm::key::{parse, put_internal};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

/// Miri is some hundred times slower.
const OPS: u64 = if cfg!(miri) { 120 } else { 20_000 };

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), Vec<u8>>;

fn put<'a>(key: &'a [u8], seq: u64, value: &'a [u8]) -> Op<'a> {
    let counts = Counts::Change { keys: 1, expires: 0 };
    Op { seq: Seq(seq), kind: Kind::Put, counts, cf: CfId(0), key, value, range: (0, 0) }
}

fn random_key(rng: &mut Rng) -> Vec<u8> {
    const LONG: &[u8] = b"what more than thirty-two bytes have in common, ";
    let prefixes = [&b""[..], b"a", b"same-prefix-", b"\0\0", b"\xff", LONG, &LONG[..32]];
    let mut key = prefixes[rng.below(7) as usize].to_vec();
    let tail_max = if rng.one_in(2) { 6 } else { 14 };
    for _ in 0..rng.below(tail_max) {
        key.push([0, b'a', 0xff][rng.below(3) as usize]);
    }
    key
}

fn internal(key: &[u8], trailer: u64) -> Vec<u8> {
    let mut out = key.to_vec();
    out.extend_from_slice(&trailer.to_le_bytes());
    out
}

#[test]
fn any_order_of_inserts_reads_as_the_model_does() {
    for seed in 0..if cfg!(miri) { 2 } else { 8 } {
        let mut rng = Rng::new(seed);
        let pool = ArenaPool::new(4096, 1 << 20);
        let memtable = Arc::new(Memtable::new(&pool));
        let mut model = Model::new();
        let mut tail = 0u64;
        for i in 1..=OPS / 4 {
            // In order, out of order, and the same record twice.
            let seq = if rng.one_in(10) { rng.below(i) } else { i };
            let key = match rng.below(3) {
                0 => {
                    tail += 1;
                    [b"zz", &tail.to_be_bytes()[..]].concat()
                }
                _ => random_key(&mut rng),
            };
            let value_max = if rng.one_in(50) { 3000 } else { 20 };
            let value = vec![i as u8; rng.below(value_max) as usize];
            memtable.insert(&put(&key, seq, &value));
            model.entry((key, Reverse(trailer(Seq(seq), Kind::Put)))).or_insert(value);
        }
        assert_eq!(memtable.entries(), model.len());
        assert_eq!(memtable.counts().keys, model.len() as i64);
        assert!(memtable.bytes() > model.iter().map(|((k, _), v)| k.len() + v.len()).sum());
        for _ in 0..OPS / 8 {
            let (key, at) = (random_key(&mut rng), Seq(rng.below(OPS / 4)));
            let mut found = Vec::new();
            let all = memtable.get(&key, at, &mut |seq, kind, value| {
                found.push((trailer(seq, kind), value.to_vec()));
                found.len() < 3
            });
            let versions = model.range((key.clone(), Reverse(trailer(at, Kind::MAX)))..);
            let versions = versions.take_while(|((k, _), _)| *k == key);
            let expected: Vec<_> = versions.map(|((_, t), v)| (t.0, v.clone())).take(3).collect();
            assert_eq!(all, expected.len() < 3);
            assert_eq!(found, expected);
        }
        walk(&memtable, &model, &mut rng);
    }
}

fn walk(memtable: &Arc<Memtable>, model: &Model, rng: &mut Rng) {
    let rows: Vec<(Vec<u8>, &Vec<u8>)> =
        model.iter().map(|((k, t), v)| (internal(k, t.0), v)).collect();
    let mut cursor = memtable.cursor();
    cursor.first().unwrap();
    for (key, value) in &rows {
        assert_eq!((cursor.key(), cursor.value()), (&key[..], &value[..]));
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
    cursor.last().unwrap();
    for (key, _) in rows.iter().rev() {
        assert_eq!(cursor.key(), &key[..]);
        cursor.prev().unwrap();
    }
    assert!(!cursor.valid());
    for _ in 0..OPS / 20 {
        let key = internal(&random_key(rng), trailer(Seq(rng.below(OPS)), Kind::MAX));
        let key =
            if rng.one_in(2) { rows[rng.below(rows.len() as u64) as usize].0.clone() } else { key };
        let at = rows.partition_point(|(k, _)| crate::lsm::key::compare(k, &key).is_lt());
        cursor.seek(&key).unwrap();
        assert_eq!(cursor.valid().then(|| cursor.key()), rows.get(at).map(|r| &r.0[..]));
        let exact = rows.get(at).is_some_and(|r| r.0 == key);
        cursor.seek_for_prev(&key).unwrap();
        let before = if exact { Some(at) } else { at.checked_sub(1) };
        assert_eq!(cursor.valid().then(|| cursor.key()), before.map(|i| &rows[i].0[..]));
    }
}

#[test]
fn what_is_loaded_reads_as_what_is_inserted_one_by_one() {
    for seed in 0..if cfg!(miri) { 2 } else { 12 } {
        let mut rng = Rng::new(seed);
        let pool = ArenaPool::new(4096, 1 << 20);
        let (loaded, model) = (Arc::new(Memtable::new(&pool)), Arc::new(Memtable::new(&pool)));
        loaded.begin_loading();
        assert!(loaded.is_loading());
        let in_order = seed % 3 == 0;
        for seq in 1..=rng.below(OPS / 4) {
            let key = match in_order {
                true => [b"shared-", &seq.to_be_bytes()[..]].concat(),
                false => random_key(&mut rng),
            };
            let value = vec![seq as u8; rng.below(20) as usize];
            loaded.insert(&put(&key, seq, &value));
            model.insert(&put(&key, seq, &value));
        }
        loaded.finish_loading();
        assert!(!loaded.is_loading());
        // What comes later is inserted as ever.
        for seq in OPS..OPS + 200 {
            let key = random_key(&mut rng);
            loaded.insert(&put(&key, seq, b"later"));
            model.insert(&put(&key, seq, b"later"));
        }
        assert_eq!(loaded.entries(), model.entries());
        let (mut a, mut b) = (loaded.cursor(), model.cursor());
        a.first().unwrap();
        b.first().unwrap();
        while b.valid() {
            assert_eq!((a.key(), a.value()), (b.key(), b.value()), "seed {seed}");
            let (key, at) = (parse(b.key()).unwrap().user_key, Seq(rng.below(2 * OPS)));
            let all = |memtable: &Memtable| {
                let mut all = Vec::new();
                memtable.get(key, at, &mut |seq, _, value| {
                    all.push((seq, value.to_vec()));
                    true
                });
                all
            };
            assert_eq!(all(&loaded), all(&model));
            a.next().unwrap();
            b.next().unwrap();
        }
        assert!(!a.valid());
    }
}

#[test]
fn readers_beside_the_writer_see_all_that_was_published_and_in_order() {
    let memtable = Arc::new(Memtable::new(&ArenaPool::new(4096, 0)));
    let published = Arc::new(AtomicU64::new(0));
    let key_of = |i: u64| (i.wrapping_mul(0x9E37_79B9) % 64).to_be_bytes();
    let readers: Vec<_> = (0..2)
        .map(|r| {
            let (memtable, published) = (Arc::clone(&memtable), Arc::clone(&published));
            std::thread::spawn(move || {
                let mut rng = Rng::new(r);
                loop {
                    let at = published.load(Ordering::Acquire);
                    if at > 0 {
                        // The newest version of the key of a published record is at least as new.
                        let i = 1 + rng.below(at);
                        let mut seen = None;
                        memtable.get(&key_of(i), Seq(at), &mut |seq, _, value| {
                            assert_eq!(value, seq.0.to_le_bytes());
                            seen = Some(seq.0);
                            false
                        });
                        assert!(seen.is_some_and(|seq| seq >= i && seq <= at));
                    }
                    let mut cursor = memtable.cursor();
                    let mut start = Vec::new();
                    put_internal(&mut start, &rng.below(64).to_be_bytes(), Seq::MAX, Kind::MAX);
                    cursor.seek(&start).unwrap();
                    let mut last = start;
                    for _ in 0..20 {
                        if !cursor.valid() {
                            break;
                        }
                        assert!(crate::lsm::key::compare(&last, cursor.key()).is_lt());
                        let seq = parse(cursor.key()).unwrap().seq;
                        assert_eq!(cursor.value(), seq.0.to_le_bytes());
                        last = cursor.key().to_vec();
                        cursor.next().unwrap();
                    }
                    if at == OPS {
                        return;
                    }
                }
            })
        })
        .collect();
    for i in 1..=OPS {
        memtable.insert(&put(&key_of(i), i, &i.to_le_bytes()));
        published.store(i, Ordering::Release);
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn range_deletes_stand_apart_and_count_what_they_say() {
    let memtable = Memtable::new(&ArenaPool::default());
    memtable.insert(&put(b"b", 1, b"v"));
    assert_eq!(memtable.covering_seq(b"b", Seq::MAX), None);
    let counts = Counts::NONE;
    let (key, value) = (&b"a"[..], &b"c"[..]);
    let range =
        Op { seq: Seq(2), kind: Kind::RangeDelete, counts, cf: CfId(0), key, value, range: (1, 0) };
    memtable.insert(&range);
    memtable.insert(&range);
    assert_eq!(memtable.covering_seq(b"b", Seq(9)), Some(Seq(2)));
    assert_eq!(memtable.covering_seq(b"b", Seq(1)), None);
    assert_eq!(memtable.covering_seq(b"c", Seq(9)), None);
    assert_eq!((memtable.entries(), memtable.range_deletes().len()), (2, 1));
    assert_eq!(memtable.counts(), CountsDelta { keys: 0, expires: 0, exact: true });
    memtable.insert(&Op { counts: Counts::Unknown, ..put(b"x", 3, b"") });
    assert!(!memtable.counts().exact);
}
