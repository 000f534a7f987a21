use super::*;
use crate::base::{CfId, LogIndex};
use crate::env::{Pool, Rng, SimDisk};
use crate::lsm::{BlockCache, Engine, EngineOptions, IterOptions};
use crate::op::kv::{Entry, Expiry, MergeOp};
use crate::shard::{Log, Placed, ShardOptions};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;

/// A log that commits when it is told to, and refuses batches of more bytes than it may take.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<VecDeque<Vec<u8>>>>, Arc<Mutex<Option<(usize, ErrorKind)>>>);

impl Log for Later {
    fn place(&self, batch: &[u8]) -> Result<Placed> {
        if let Some((bytes, kind)) = *self.1.lock().unwrap()
            && batch.len() > bytes
        {
            return Err(Error::new(kind, "refused"));
        }
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
        let settings = ShardOptions { count_keys, seed: 1, ..ShardOptions::default() };
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

    fn write(&self, requests: &[(Vec<Write>, Option<RequestId>)]) -> Vec<Result<Answer>> {
        let shared: Vec<(&[Write], Option<RequestId>)> =
            requests.iter().map(|(writes, id)| (&writes[..], *id)).collect();
        let mut answers = Vec::new();
        while answers.len() < shared.len() {
            let some = self.shard.write_together(&shared[answers.len()..], 5);
            assert!(!some.is_empty());
            answers.extend(some);
        }
        assert_eq!(answers.len(), shared.len());
        answers
    }

    /// What is kept beside the keys: counts, and when they expire.
    fn beside(&self) -> (i64, i64, Vec<Vec<u8>>) {
        let counts = self.shard.engine.counts(CfId::DEFAULT).unwrap();
        let mut iter = self.shard.engine.iter(CfId::EXPIRY, IterOptions::default()).unwrap();
        iter.first().unwrap();
        let mut expiries = Vec::new();
        while iter.valid() {
            expiries.push(iter.key().to_vec());
            iter.next().unwrap();
        }
        (counts.keys as i64, counts.expires as i64, expiries)
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
            let answers = together.write(&requests);
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
        alone.commit(usize::MAX);
        together.commit(usize::MAX);
        assert_eq!(together.beside(), alone.beside(), "seed {seed}");
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

fn put(key: &str, bytes: usize) -> Vec<Write> {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), vec![b'v'; bytes].into());
    vec![Write::Put { cf: CfId::DEFAULT, key, value, expiry: Expiry::Never }]
}

#[test]
fn what_the_log_refuses_takes_no_other_with_it() {
    let mut world = World::new(false);
    let id = |request| Some(RequestId { client: 1, request });
    let first = seq_of(&world.write(&[(put("a", 1), id(1))])[0]);
    world.commit(1);
    let kinds = |answers: &[Result<Answer>]| -> Vec<Option<ErrorKind>> {
        answers.iter().map(|answer| answer.as_ref().err().map(Error::kind)).collect()
    };
    let requests =
        [(put("a", 1), id(1)), (put("b", 1), id(2)), (put("c", 900), id(3)), (put("d", 1), id(4))];
    *world.log.1.lock().unwrap() = Some((500, ErrorKind::InvalidArgument));
    let answers = world.write(&requests);
    assert_eq!(kinds(&answers), [None, None, Some(ErrorKind::InvalidArgument), None]);
    assert_eq!(seq_of(&answers[0]), first);
    // Where none could be placed, what was applied before is still told as it was.
    *world.log.1.lock().unwrap() = Some((0, ErrorKind::Busy));
    let answers = world.write(&[(put("a", 1), id(1)), (put("e", 1), id(5)), (put("f", 1), None)]);
    assert_eq!(kinds(&answers), [None, Some(ErrorKind::Busy), Some(ErrorKind::Busy)]);
    assert_eq!(seq_of(&answers[0]), first);
    assert_eq!(world.get(&Bytes::from_static(b"e")), None);
}

#[test]
fn what_is_lost_before_it_commits_is_executed_again() {
    let mut world = World::new(true);
    let requests: Vec<_> = (0..20)
        .map(|n| (put(&format!("k{n}"), 3), Some(RequestId { client: 1, request: n })))
        .collect();
    let kept: Vec<_> = world.write(&requests[..10]).iter().map(seq_of).collect();
    world.commit(usize::MAX);
    world.write(&requests);
    let lost = Error::new(ErrorKind::Unavailable, "another leads");
    world.shard.fail_pending(&lost, false);
    world.log.0.lock().unwrap().clear();
    assert_eq!(world.get(&Bytes::from_static(b"k15")), None);
    let again: Vec<_> = world.write(&requests).iter().map(seq_of).collect();
    assert_eq!(again[..10], kept);
    world.commit(usize::MAX);
    let answers: Vec<_> = world.write(&requests).iter().map(seq_of).collect();
    assert_eq!(answers, again);
    assert!(world.get(&Bytes::from_static(b"k15")).is_some());
    assert_eq!(world.beside().0, 20);
}

#[test]
fn a_record_of_one_request_is_none_of_a_block() {
    assert_eq!(dedup::tests::read(&[1, 4, 0, 0, 0, 0, 0, 0, 0]).unwrap(), 0);
    assert_eq!(dedup::tests::read(&[2]).unwrap(), 0);
    let one = [3, 9, 0, 0, 0, 0, 0, 0, 0, 5, 2, 64 + 63, 1, 128 + 7];
    assert_eq!(dedup::tests::read(&one).unwrap(), 3);
    for cut in 0..one.len() {
        if ![9, 11, 13].contains(&cut) {
            assert!(dedup::tests::read(&one[..cut]).is_err(), "{cut}");
        }
    }
    assert!(dedup::tests::read(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 192]).is_err());
}
