//! A cluster in a map: shards that are views of it by slot, leaders that change, splits, and every
//! way in which a call can fail, as a script or as chance has it.

// tidy: sleeps because it plays a network, in paused time

use arqondb::base::{CfId, Error, ErrorKind, Result, Seq};
use arqondb::env::Rng;
use arqondb::gateway::{
    CallFailure, Called, Consistency, Gateway, GatewayOptions, Node, NodeId, ShardCalls, ShardInfo,
    Target,
};
use arqondb::op::kv::{CfInfo, Entry, MergeOp, RequestId, Scan, Stats, Watched, Write};
use arqondb::op::route::{SLOTS, ShardId, SlotRange, slot_of};
use arqondb::op::txn::{Locked, TxnAnswer, TxnCall, TxnCommitted};
use arqondb::op::{Request, Response};
use arqondb::redis::{Keyspace, Stored, execute};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It never leaves.
    Unreachable,
    /// It is lost on the way there.
    LostBefore,
    /// Its answer is lost.
    LostAfter,
    /// Its answer is lost, and it takes effect later.
    LostThenLate,
    /// Only the first of its requests are executed; the leader then steps down.
    Half,
    /// As `Half`, with the last of those in doubt.
    HalfInDoubt,
    /// Nobody answers until the deadline; nothing happens.
    Hang,
    /// Nobody answers until the deadline, but it took effect.
    HangAfter,
    /// Its requests are turned away.
    Busy,
    /// The node does not lead and does not say who does.
    NoHint,
    /// The node sends to one that does not lead.
    WrongHint,
}

/// What may happen by chance; the last two only where calls may hang.
const CHANCES: [Fault; 11] = [
    Fault::Unreachable,
    Fault::LostBefore,
    Fault::LostAfter,
    Fault::LostThenLate,
    Fault::Half,
    Fault::HalfInDoubt,
    Fault::Busy,
    Fault::NoHint,
    Fault::WrongHint,
    Fault::Hang,
    Fault::HangAfter,
];

pub(crate) struct World(pub(crate) Arc<Mutex<State>>);

pub(crate) struct State {
    pub(crate) keys: BTreeMap<Bytes, Stored>,
    pub(crate) shards: Vec<ShardInfo>,
    applied: HashMap<RequestId, Response>,
    /// Requests over several shards: the attempt that was committed with its answer, or the last
    /// that was aborted.
    ended: HashMap<RequestId, (u32, Option<Response>)>,
    /// Node by node, its table of cursors.
    cursors: HashMap<NodeId, Vec<Bytes>>,
    seq: u64,
    next_shard: u64,
    pub(crate) rng: Rng,
    /// What happens to the next calls.
    pub(crate) script: VecDeque<Fault>,
    /// A fault once in so many calls; 0 for none.
    pub(crate) fault_in: u64,
    /// Whether nobody answers now and then until the deadline.
    pub(crate) hangs: bool,
    /// A split or a change of leader once in so many calls; 0 for none.
    pub(crate) change_in: u64,
    /// Whether the catalog tells of the shards.
    pub(crate) catalog_is_up: bool,
    /// The families that the catalog has, and those that shards have.
    pub(crate) families: Vec<CfInfo>,
    shard_families: Vec<CfInfo>,
    /// How many looks at their families shards lag behind the catalog.
    pub(crate) looks: usize,
    /// Calls that came: shard, node, requests.
    pub(crate) calls: Vec<(ShardId, NodeId, usize)>,
    /// How fresh their answers had to be.
    pub(crate) freshness: Vec<Consistency>,
    /// How often the shards were asked for.
    pub(crate) refreshes: usize,
    /// Calls being answered now, and the most there were at once.
    pub(crate) inside: (usize, usize),
}

/// A node of three.
pub(crate) fn node(id: u64) -> Node {
    Node { id: NodeId(id), address: format!("node{id}").into(), redis: None }
}

fn family(id: u32, name: &str) -> CfInfo {
    CfInfo { id: CfId(id), name: name.to_string() }
}

fn unknown(text: &str) -> Error {
    Error::new(ErrorKind::Unknown, text)
}

impl World {
    /// So many shards on three nodes.
    pub(crate) fn new(shards: u16, seed: u64) -> World {
        let bound = |at: u16| (u32::from(SLOTS) * u32::from(at) / u32::from(shards)) as u16;
        let info = |at: u16| ShardInfo {
            id: ShardId(u64::from(at) + 1),
            epoch: 1,
            slots: SlotRange { first: bound(at), last: bound(at + 1) - 1 },
            leader: Some(NodeId(u64::from(at % 3) + 1)),
            replicas: (1..=3).map(node).collect(),
        };
        World(Arc::new(Mutex::new(State {
            keys: BTreeMap::new(),
            shards: (0..shards).map(info).collect(),
            applied: HashMap::new(),
            ended: HashMap::new(),
            cursors: HashMap::new(),
            seq: 0,
            next_shard: u64::from(shards) + 1,
            rng: Rng::new(seed),
            script: VecDeque::new(),
            fault_in: 0,
            hangs: false,
            change_in: 0,
            catalog_is_up: true,
            families: vec![family(0, "default")],
            shard_families: vec![family(0, "default")],
            looks: 0,
            calls: Vec::new(),
            freshness: Vec::new(),
            refreshes: 0,
            inside: (0, 0),
        })))
    }

    pub(crate) fn gateway(self, options: GatewayOptions) -> Gateway<World> {
        Gateway::new(self, GatewayOptions { seed: 1, ..options })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    pub(crate) fn shard_of(&mut self, slot: u16) -> &mut ShardInfo {
        self.shards.iter_mut().find(|shard| shard.slots.contains(slot)).unwrap()
    }

    /// Divides a shard; the new one has the upper half, and a leader of its own.
    pub(crate) fn split(&mut self, slot: u16) {
        let (id, leader) = (ShardId(self.next_shard), NodeId(1 + self.rng.below(3)));
        let old = self.shard_of(slot);
        let SlotRange { first, last } = old.slots;
        if first == last {
            return;
        }
        let middle = first + (last - first) / 2;
        old.slots.last = middle;
        old.epoch += 1;
        let slots = SlotRange { first: middle + 1, last };
        let new = ShardInfo { id, slots, leader: Some(leader), ..old.clone() };
        self.shards.push(new);
        self.next_shard += 1;
    }

    /// Gives a shard another leader, which has forgotten where its scans stood.
    pub(crate) fn elect(&mut self, slot: u16) {
        let shard = self.shard_of(slot);
        let leader = NodeId(shard.leader.unwrap().0 % 3 + 1);
        shard.leader = Some(leader);
        self.cursors.remove(&leader);
    }

    fn fault(&mut self) -> Fault {
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        if self.change_in > 0 && self.rng.one_in(self.change_in) {
            let slot = self.rng.below(u64::from(SLOTS)) as u16;
            if self.rng.one_in(3) && self.shards.len() < 40 {
                self.split(slot);
            } else {
                self.elect(slot);
            }
        }
        if self.fault_in > 0 && self.rng.one_in(self.fault_in) {
            let choice = CHANCES.len() - if self.hangs { 0 } else { 2 };
            CHANCES[self.rng.below(choice as u64) as usize]
        } else {
            Fault::None
        }
    }

    /// Why the target cannot execute anything, if so.
    fn refusal(&mut self, to: &Target, fault: Fault) -> Option<CallFailure> {
        let known = self.shards.iter().find(|shard| shard.id == to.shard);
        let leader = match known {
            Some(shard) if shard.epoch == to.epoch => shard.leader.unwrap(),
            _ => {
                // A node may know nothing better.
                let told = self.rng.below(3);
                let covering = if told == 0 { Vec::new() } else { self.shards.clone() };
                return Some(CallFailure::WrongEpoch { covering });
            }
        };
        match fault {
            Fault::Unreachable => {
                let error = Error::new(ErrorKind::Unavailable, "connection refused");
                Some(CallFailure::Unreachable(error))
            }
            Fault::NoHint => Some(CallFailure::NotLeader { leader: None }),
            Fault::WrongHint => {
                let other = node(to.node.id.0 % 3 + 1);
                Some(CallFailure::NotLeader { leader: Some(other) })
            }
            Fault::LostBefore => Some(CallFailure::Unknown(unknown("connection reset"))),
            _ if leader != to.node.id && !matches!(to.consistency, Consistency::Stale { .. }) => {
                Some(CallFailure::NotLeader { leader: Some(node(leader.0)) })
            }
            _ => None,
        }
    }

    /// What a shard says of its families.
    fn look_at_families(&mut self) -> Vec<CfInfo> {
        match self.looks.checked_sub(1) {
            Some(left) => self.looks = left,
            None => self.shard_families = self.families.clone(),
        }
        self.shard_families.clone()
    }

    fn execute_all(&mut self, to: &Target, requests: &[Request]) -> Vec<Result<Response>> {
        let range = self.shards.iter().find(|shard| shard.id == to.shard).unwrap().slots;
        requests.iter().map(|request| self.execute(range, to.node.id, request)).collect()
    }

    fn execute(&mut self, range: SlotRange, at: NodeId, request: &Request) -> Result<Response> {
        arqondb::op::route::visit_keys(request, &mut |key| {
            assert!(range.contains(slot_of(key)), "{request:?} came to {range:?}");
        });
        let view = &mut View { state: self, range, at };
        match request {
            Request::Get { key, .. } => Ok(Response::Entry(view.get(key)?.map(|held| Entry {
                key: key.clone(),
                value: held.value,
                seq: held.seq,
                expire_at_ms: None,
            }))),
            Request::Write { writes, id } => {
                let id = id.expect("the gateway gives every write an id");
                if let Some(answer) = view.state.applied.get(&id) {
                    return Ok(answer.clone());
                }
                writes.iter().for_each(|write| view.write(write));
                let answer = Response::Committed { seq: Seq(view.state.seq) };
                view.state.applied.insert(id, answer.clone());
                Ok(answer)
            }
            Request::Scan(scan) => Ok(view.page(scan)),
            Request::DeleteByPrefix { prefix, .. } => {
                let doomed = view.keys_from(b"").filter(|key| key.starts_with(prefix));
                let doomed: Vec<Bytes> = doomed.collect();
                doomed.iter().for_each(|key| drop(view.state.keys.remove(key)));
                Ok(Response::Deleted(doomed.len() as u64))
            }
            Request::Redis(call) => execute(call, view).map(Response::Redis),
            Request::ListCfs => Ok(Response::ColumnFamilies(view.state.look_at_families())),
            Request::Stats => {
                let keys = view.count()?;
                let stats = Stats { keys, sync: "os", more: vec![("m", 1)], ..Stats::default() };
                Ok(Response::Stats(Box::new(stats)))
            }
            Request::Watch { keys } => {
                let watched = keys.iter().map(|key| {
                    let held = view.get(key)?;
                    let at = held.as_ref().map_or(Seq(0), |held| held.seq);
                    Ok(Watched { key: key.clone(), at, existed: held.is_some() })
                });
                Ok(Response::Watched(watched.collect::<Result<_>>()?))
            }
            Request::Txn(step) => Ok(Response::Txn(Box::new(view.state.step(at, step)?))),
            other => panic!("{other:?}"),
        }
    }

    /// A step of a transaction over several shards. They are views of one map here, and nothing
    /// comes between: there is no lock, and what decides writes everywhere.
    fn step(&mut self, at: NodeId, step: &TxnCall) -> Result<TxnAnswer> {
        let (TxnCall::Decide { txn, .. } | TxnCall::Resolve { txn, .. }) = step else {
            return Ok(match step {
                TxnCall::Prepare { keys, .. } => TxnAnswer::Prepared(
                    keys.iter()
                        .map(|(cf, key)| Locked { cf: *cf, key: key.clone(), holds: None })
                        .collect(),
                ),
                TxnCall::Stamp { .. } => TxnAnswer::Stamp(0),
                _ => TxnAnswer::Done,
            });
        };
        match (self.ended.get(&txn.id), step) {
            (Some((attempt, Some(answer))), _) => return Ok(committed(*attempt, answer.clone())),
            (Some((through, None)), _) if *through >= txn.attempt => {
                return Ok(TxnAnswer::Aborted { through: *through });
            }
            (_, TxnCall::Resolve { abort: false, .. }) => return Ok(TxnAnswer::Open),
            (_, TxnCall::Decide { request, .. }) => {
                let mut request = (**request).clone();
                if let Request::Write { id, .. } = &mut request {
                    *id = Some(txn.id);
                }
                let answer = self.execute(SlotRange::ALL, at, &request)?;
                self.ended.insert(txn.id, (txn.attempt, Some(answer.clone())));
                return Ok(committed(txn.attempt, answer));
            }
            _ => {}
        }
        self.ended.insert(txn.id, (txn.attempt, None));
        Ok(TxnAnswer::Aborted { through: txn.attempt })
    }
}

fn committed(attempt: u32, answer: Response) -> TxnAnswer {
    let (answer, slots, writes) = (Some(answer), Vec::new(), Vec::new());
    TxnAnswer::Committed(Box::new(TxnCommitted { attempt, answer, slots, writes }))
}

/// What a shard holds.
struct View<'a> {
    state: &'a mut State,
    range: SlotRange,
    at: NodeId,
}

impl View<'_> {
    fn keys_from(&self, start: &[u8]) -> impl DoubleEndedIterator<Item = Bytes> {
        let range = self.range;
        let keys = self.state.keys.range(Bytes::copy_from_slice(start)..);
        keys.map(|(key, _)| key.clone()).filter(move |key| range.contains(slot_of(key)))
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Put { key, value, .. } => self.put(key, value.clone(), 0, None).unwrap(),
            Write::Delete { key, .. } => drop(self.delete(key)),
            Write::Merge { key, operand, op, .. } => {
                assert_eq!(*op, MergeOp::Append);
                let old = self.get(key).unwrap().map_or(Bytes::new(), |held| held.value);
                self.put(key, [&old[..], operand].concat().into(), 0, None).unwrap();
            }
            Write::PutVector { .. } | Write::DeleteVector { .. } => panic!("{write:?}"),
        }
    }

    fn page(&self, scan: &Scan) -> Response {
        let place = scan.cursor.get(1..);
        let mut keys: Vec<Bytes> = self
            .keys_from(&scan.start)
            .filter(|key| key.starts_with(&scan.prefix))
            .filter(|key| scan.end.is_empty() || *key < scan.end)
            .filter(|key| {
                place.is_none_or(
                    |place| if scan.reverse { key[..] <= *place } else { key[..] >= *place },
                )
            })
            .collect();
        if scan.reverse {
            keys.reverse();
        }
        let next = keys.get(scan.limit as usize);
        let next = next.map_or(Bytes::new(), |next| [b"+", &next[..]].concat().into());
        let entries = keys.into_iter().take(scan.limit as usize).map(|key| {
            let held = &self.state.keys[&key];
            let value = if scan.keys_only { Bytes::new() } else { held.value.clone() };
            Entry { key, value, seq: held.seq, expire_at_ms: None }
        });
        Response::Page { entries: entries.collect(), next }
    }
}

impl Keyspace for View<'_> {
    fn now_ms(&self) -> u64 {
        1
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Stored>> {
        Ok(self.state.keys.get(key).cloned())
    }

    fn put(&mut self, key: &[u8], value: Bytes, tag: u8, at: Option<u64>) -> Result<()> {
        self.state.seq += 1;
        let stored = Stored { value, tag, expire_at_ms: at, seq: Seq(self.state.seq) };
        self.state.keys.insert(Bytes::copy_from_slice(key), stored);
        Ok(())
    }

    fn append(&mut self, key: &[u8], suffix: &[u8]) -> Result<()> {
        let old = self.state.keys[key].value.clone();
        self.put(key, [&old[..], suffix].concat().into(), 0, None)
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        Ok(self.state.keys.remove(key).is_some())
    }

    fn clear(&mut self) -> Result<u64> {
        let range = self.range;
        let before = self.state.keys.len();
        self.state.keys.retain(|key, _| !range.contains(slot_of(key)));
        Ok((before - self.state.keys.len()) as u64)
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.keys_from(b"").count() as u64)
    }

    fn scan(
        &mut self,
        start: &[u8],
        visit: &mut dyn FnMut(&[u8], &Stored) -> bool,
    ) -> Result<bool> {
        Ok(self.keys_from(start).all(|key| visit(&key, &self.state.keys[&key])))
    }

    fn random_key(&mut self) -> Result<Option<Bytes>> {
        let keys: Vec<Bytes> = self.keys_from(b"").collect();
        let at = self.state.rng.below(keys.len() as u64) as usize;
        Ok(keys.get(at).cloned())
    }

    fn save_cursor(&mut self, key: Bytes) -> u64 {
        let table = self.state.cursors.entry(self.at).or_default();
        table.push(key);
        table.len() as u64
    }

    fn load_cursor(&mut self, cursor: u64) -> Option<Bytes> {
        self.state.cursors.get(&self.at)?.get(cursor as usize - 1).cloned()
    }
}

impl ShardCalls for World {
    async fn call(&self, to: &Target, requests: &[Request], deadline: Instant) -> Called {
        let pause = {
            let mut state = self.state();
            state.calls.push((to.shard, to.node.id, requests.len()));
            state.freshness.push(to.consistency);
            state.inside.0 += 1;
            state.inside.1 = state.inside.1.max(state.inside.0);
            state.rng.below(4)
        };
        sleep(Duration::from_millis(pause)).await;
        let (fault, called) = {
            let mut state = self.state();
            state.inside.0 -= 1;
            let fault = state.fault();
            (fault, state.answer(to, requests, fault))
        };
        match fault {
            Fault::Hang | Fault::HangAfter => {
                sleep_until(deadline + Duration::from_secs(60)).await;
            }
            // Not if it was turned away.
            Fault::LostThenLate if matches!(called.stopped, Some(CallFailure::Unknown(_))) => {
                let (state, to, requests) = (Arc::clone(&self.0), to.clone(), requests.to_vec());
                tokio::spawn(async move {
                    sleep(Duration::from_millis(120)).await;
                    let mut state = state.lock().unwrap();
                    // By then the shard may be another, which takes nothing of the kind.
                    let is_there =
                        state.shards.iter().any(|s| s.id == to.shard && s.epoch == to.epoch);
                    if is_there {
                        state.execute_all(&to, &requests);
                    }
                });
            }
            _ => {}
        }
        called
    }

    async fn catalog(&self, request: &Request, _: Instant) -> Called {
        let mut state = self.state();
        if !state.catalog_is_up {
            let error = Error::new(ErrorKind::Unavailable, "the catalog is down");
            return Called::failed(CallFailure::Unreachable(error));
        }
        if let Some(Fault::LostAfter) = state.script.pop_front() {
            return Called::failed(CallFailure::Unknown(unknown("connection reset")));
        }
        Called::all(vec![Ok(match request {
            Request::CreateCf { name } => {
                state.families.push(family(7, name));
                Response::ColumnFamily(family(7, name))
            }
            Request::DropCf { cf } => {
                state.families.retain(|family| family.id != *cf);
                Response::Done
            }
            other => panic!("{other:?}"),
        })])
    }

    async fn shards(&self) -> Result<Vec<ShardInfo>> {
        let mut state = self.state();
        state.refreshes += 1;
        match state.catalog_is_up {
            true => Ok(state.shards.clone()),
            false => Err(Error::new(ErrorKind::Unavailable, "the catalog is down")),
        }
    }
}

impl State {
    fn answer(&mut self, to: &Target, requests: &[Request], fault: Fault) -> Called {
        if fault == Fault::Hang {
            return Called::failed(CallFailure::Unknown(unknown("never told")));
        }
        if let Some(failure) = self.refusal(to, fault) {
            return Called::failed(failure);
        }
        let lost = || Called::failed(CallFailure::Unknown(unknown("connection reset")));
        match fault {
            Fault::LostThenLate => lost(),
            Fault::LostAfter | Fault::HangAfter => {
                self.execute_all(to, requests);
                lost()
            }
            Fault::Busy => {
                let busy = || Err(Error::new(ErrorKind::Busy, "no room now"));
                Called::all(requests.iter().map(|_| busy()).collect())
            }
            Fault::Half | Fault::HalfInDoubt => {
                let half = requests.len().div_ceil(2);
                let mut answers = self.execute_all(to, &requests[..half]);
                if fault == Fault::HalfInDoubt
                    && let Some(last) = answers.last_mut()
                {
                    *last = Err(unknown("the leader lost its term"));
                }
                let stopped = Some(CallFailure::NotLeader { leader: None });
                Called { answers, stopped: stopped.filter(|_| half < requests.len()) }
            }
            _ => Called::all(self.execute_all(to, requests)),
        }
    }
}
