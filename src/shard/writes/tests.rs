use super::*;
use crate::base::{CfId, LogIndex};
use crate::env::{Pool, Rng, SimDisk};
use crate::lsm::{BlockCache, Engine, EngineOptions};
use crate::op::kv::{Entry, Expiry, MergeOp};
use crate::shard::{Log, Placed, ShardOptions};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;

/// A log that commits when it is told to.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Log for Later {
    fn place(&self, batch: &[u8]) -> Result<Placed> {
        self.0.lock().unwrap().push_back(batch.to_vec());
        Ok(Placed::Pending(None))
    }

    fn drive(&self, _: &Arc<Shard>) {}
}

struct World {
    shard: Arc<Shard>,
    log: Later,
    applied: u64,
}

impl World {
    fn new(count_keys: bool) -> World {
        let (disk, log) = (SimDisk::new(), Later::default());
        let options = EngineOptions { background: false, ..EngineOptions::new("/shard") };
        let engine =
            Engine::open(disk.shared(), Pool::manual(), BlockCache::new(1 << 20), options).unwrap();
        let settings = ShardOptions { count_keys, seed: 1, last_cursor: 0 };
        let shard = Shard::new(engine, Box::new(log.clone()), settings);
        shard.start().unwrap();
        World { shard, log, applied: 0 }
    }

    /// Commits some of what is pending, as one entry.
    fn commit(&mut self, batches: usize) {
        let some: Vec<Vec<u8>> = {
            let mut log = self.log.0.lock().unwrap();
            let count = batches.min(log.len());
            log.drain(..count).collect()
        };
        self.applied += 1;
        self.shard.apply_entry(LogIndex(self.applied), &some).unwrap();
    }

    fn get(&self, key: &Bytes) -> Option<Entry> {
        let get = Request::Get { cf: CfId::DEFAULT, key: key.clone() };
        match self.shard.execute(get, 5).unwrap().response {
            Response::Entry(entry) => entry,
            other => panic!("{other:?}"),
        }
    }
}

fn key(rng: &mut Rng) -> Bytes {
    format!("k{}", rng.below(40)).into()
}

/// A write; now and then one that is refused.
fn one(rng: &mut Rng) -> Write {
    let (cf, key) = (CfId(if rng.one_in(60) { 77 } else { 0 }), key(rng));
    match rng.below(8) {
        0 => Write::Delete { cf, key },
        1 => Write::Merge { cf, key, op: MergeOp::Append, operand: Bytes::from_static(b"+") },
        n => {
            let expiry = match n {
                2 => Expiry::InMs(1_000_000),
                3 => Expiry::Keep,
                4 if rng.one_in(4) => Expiry::InMs(0),
                _ => Expiry::Never,
            };
            Write::Put { cf, key, value: rng.below(1000).to_string().into(), expiry }
        }
    }
}

fn seq_of(answer: &Result<Answer>) -> Option<Seq> {
    match answer.as_ref().ok()?.response {
        Response::Committed { seq } => Some(seq),
        ref other => panic!("{other:?}"),
    }
}

/// Some requests, of which some were sent before and some twice.
fn requests(
    rng: &mut Rng,
    sent: &mut Vec<(Vec<Write>, Option<RequestId>)>,
) -> Vec<(Vec<Write>, Option<RequestId>)> {
    let count = 1 + rng.below(30);
    let mut requests: Vec<(Vec<Write>, Option<RequestId>)> = Vec::new();
    for _ in 0..count {
        if !sent.is_empty() && rng.one_in(12) {
            let again = sent[rng.below(sent.len() as u64) as usize].clone();
            requests.push(again);
            continue;
        }
        let keys = if rng.one_in(4) { rng.below(4) } else { 1 };
        let writes = (0..keys).map(|_| one(rng)).collect();
        let id = RequestId { client: rng.below(2), request: sent.len() as u64 };
        let request = (writes, (!rng.one_in(5)).then_some(id));
        requests.push(request.clone());
        sent.push(request);
    }
    requests
}

/// Executed together, requests write what they write one by one, are answered the same, are told
/// the numbers of their own last writes, and are known again.
#[test]
fn together_is_as_if_each_were_alone() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let count_keys = rng.one_in(2);
        let (mut alone, mut together) = (World::new(count_keys), World::new(count_keys));
        let mut sent = Vec::new();
        let mut told: HashMap<RequestId, Seq> = HashMap::new();
        let (mut batches, mut executed) = (0, 0);
        for _ in 0..60 {
            let requests = requests(&mut rng, &mut sent);
            let mut last: BTreeMap<Bytes, Seq> = BTreeMap::new();
            let pending = together.log.0.lock().unwrap().len();
            let shared: Vec<(&[Write], Option<RequestId>)> =
                requests.iter().map(|(writes, id)| (&writes[..], *id)).collect();
            let mut answers = Vec::new();
            while answers.len() < shared.len() {
                let some = together.shard.write_together(&shared[answers.len()..], 5);
                assert!(!some.is_empty());
                answers.extend(some);
            }
            batches += together.log.0.lock().unwrap().len() - pending;
            executed += requests.len();
            for ((writes, id), answer) in requests.iter().zip(&answers) {
                let request = Request::Write { writes: writes.clone(), id: *id };
                let expected = alone.shard.execute(request, 5);
                let kind =
                    |answer: &Result<Answer>| answer.as_ref().map(|_| ()).map_err(|e| e.kind());
                assert_eq!(kind(answer), kind(&expected), "seed {seed}: {writes:?} {id:?}");
                let Some(seq) = seq_of(answer) else { continue };
                if let Some(before) = id.and_then(|id| told.insert(id, seq)) {
                    assert_eq!(seq, before, "seed {seed}: an answer is given again as it was");
                } else if let Some((_, key)) = writes.iter().filter_map(target).last() {
                    last.insert(key.clone(), seq);
                }
            }
            for (key, seq) in last {
                // Of several writes of a request the last is the one whose number it has, unless it
                // changed nothing, or one before touched the key already.
                let is_single = |(writes, _): &&(Vec<Write>, _)| writes.len() == 1;
                let of_key = requests.iter().filter(is_single).filter(|(writes, _)| {
                    writes.iter().filter_map(target).any(|(_, written)| *written == key)
                });
                let touching = requests.iter().filter(|(writes, _)| {
                    writes.iter().filter_map(target).any(|(_, written)| *written == key)
                });
                if of_key.count() == touching.count()
                    && let Some(entry) = together.get(&key)
                {
                    assert_eq!(entry.seq, seq, "seed {seed}: {key:?}");
                }
            }
            for n in 0..40 {
                let key: Bytes = format!("k{n}").into();
                let held = |world: &World| world.get(&key).map(|e| (e.value, e.expire_at_ms));
                assert_eq!(held(&together), held(&alone), "seed {seed}: {key:?}");
            }
            for world in [&mut alone, &mut together] {
                world.commit(rng.below(20) as usize);
            }
        }
        assert!(batches * 2 < executed, "seed {seed}: {batches} batches of {executed} requests");
    }
}

/// What a record of a block says outlives being written again and again, in the overlay and out of
/// it.
#[test]
fn a_request_is_known_among_all_of_its_block() {
    let mut world = World::new(false);
    let put = |n: u64| {
        let (key, value) = (format!("k{n}").into(), Bytes::from_static(b"v"));
        vec![Write::Put { cf: CfId::DEFAULT, key, value, expiry: Expiry::Never }]
    };
    let id = |n| Some(RequestId { client: 7, request: u64::MAX - 150 + n });
    let mut seqs = Vec::new();
    for n in 0..150 {
        let request = Request::Write { writes: put(n), id: id(n) };
        seqs.push(seq_of(&world.shard.execute(request, 5)));
        if n % 7 == 0 {
            world.commit(5);
        }
    }
    let all: Vec<Vec<Write>> = (0..150).map(put).collect();
    let again: Vec<_> = all.iter().zip(0..).map(|(writes, n)| (&writes[..], id(n))).collect();
    for _ in 0..2 {
        let before = world.shard.placed().seq;
        let answers = world.shard.write_together(&again, 5);
        assert_eq!(answers.iter().map(seq_of).collect::<Vec<_>>(), seqs);
        assert_eq!(world.shard.placed().seq, before, "nothing is written");
        world.commit(1_000);
    }
    let late =
        world.shard.execute(Request::Write { writes: put(3), id: id(3) }, 5 + dedup::KEEP_MS);
    assert_ne!(seq_of(&late), seqs[3], "it is forgotten after its time");
}
