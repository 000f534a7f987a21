//! Clients of a gateway: what they ask, and what they write down.
// tidy: sleeps because time is simulated

use crate::direct::Led;
use crate::echo::EchoingShards;
use crate::history::{Append, Count, Fate, History, Register, Seen, Token};
use crate::time::Local;
use arqondb::base::{CfId, Result, Seq};
use arqondb::env::Rng;
use arqondb::gateway::{Gateway, ShardMap};
use arqondb::op::kv::{Condition, Entry, Expiry, MergeOp, RedisCall, RequestId, Scan, Write};
use arqondb::op::route::ShardId;
use arqondb::op::vector::{IndexKind, Quantisation};
use arqondb::op::{KvOps, Reply, Request, Response, command};
use arqondb::{Error, ErrorKind};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const REGISTERS: u64 = 6;
pub(crate) const LISTS: u64 = 3;
pub(crate) const COUNTERS: u64 = 2;
/// Repeatable appends that others may send once more.
const KNOWN_MAX: usize = 12;
/// A set whose keys lie in many shards, and one whose keys lie in one.
pub(crate) const SETS: [&str; 2] = ["set/", "{bag}/"];

/// A client.
pub(crate) struct Client {
    pub(crate) door: Arc<Gateway<EchoingShards>>,
    pub(crate) local: Arc<Local>,
    pub(crate) history: History,
    pub(crate) rng: Rng,
    pub(crate) rest_max: u64,
    pub(crate) stop: Arc<AtomicBool>,
    /// Requests of this client so far; its number is drawn.
    pub(crate) number: u64,
    pub(crate) requests: u64,
    pub(crate) running: Arc<AtomicU64>,
    /// The shards as they were when it last looked.
    pub(crate) old_map: Option<Arc<ShardMap>>,
    /// What the index of vectors is, and whether there is one.
    pub(crate) form: (IndexKind, Quantisation),
    pub(crate) has_index: bool,
    /// Who leads its shards.
    pub(crate) led: BTreeMap<ShardId, Led>,
}

/// What an error says of the request. Errors that should not come at all end the simulation.
pub(crate) fn fate_of(error: &Error) -> Fate {
    match error.kind() {
        ErrorKind::Unknown => Fate::Open,
        ErrorKind::Internal | ErrorKind::Corruption | ErrorKind::InvalidArgument => {
            panic!("a client was told: {error}")
        }
        _ => Fate::Failed,
    }
}

pub(crate) fn register_key(n: usize) -> Bytes {
    Bytes::from(format!("register-{n}"))
}

pub(crate) fn list_key(n: usize) -> Bytes {
    Bytes::from(format!("{{list-{n}}}"))
}

pub(crate) fn length_key(n: usize) -> Bytes {
    Bytes::from(format!("{{list-{n}}}-length"))
}

pub(crate) fn counter_key(n: usize) -> Bytes {
    Bytes::from(format!("counter-{n}"))
}

pub(crate) fn get(key: Bytes) -> Request {
    Request::Get { cf: CfId::DEFAULT, key }
}

pub(crate) fn put(key: Bytes, token: Token) -> Write {
    let value = Bytes::from(token.to_string());
    Write::Put { cf: CfId::DEFAULT, key, value, expiry: Expiry::Never }
}

fn token_of(bytes: &[u8]) -> Token {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

/// The tokens of a list.
pub(crate) fn tokens_of(entry: Option<&Entry>) -> Vec<Token> {
    let Some(entry) = entry else { return Vec::new() };
    let text = std::str::from_utf8(&entry.value).unwrap();
    text.split_terminator(';').map(|token| token.parse().unwrap()).collect()
}

pub(crate) fn entry_of(answer: Option<Result<Response>>) -> Result<Option<Entry>> {
    match answer.unwrap()? {
        Response::Entry(entry) => Ok(entry),
        other => panic!("not an entry: {other:?}"),
    }
}

impl Client {
    pub(crate) async fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let rest = Duration::from_nanos(self.rng.below(self.rest_max));
            tokio::time::sleep(rest).await;
            let register = self.rng.below(REGISTERS) as usize;
            self.look_back(register).await;
            match self.rng.below(147) {
                0..20 => _ = self.read(register).await,
                20..32 => self.write(register).await,
                32..40 => self.write_and_read(register).await,
                40..55 => self.swap(register).await,
                55..72 => self.append().await,
                72..80 => {
                    let list = self.rng.below(LISTS) as usize;
                    self.read_list(list).await;
                }
                80..86 => self.count().await,
                86..91 => self.insert().await,
                91..94 => self.insert_and_scan().await,
                94..119 => self.bank().await,
                125..133 => self.ask_a_node(register).await,
                133..147 => self.vectors().await,
                _ => {
                    let set = usize::from(self.rng.one_in(3));
                    self.scan(set).await;
                }
            }
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn id(&mut self) -> RequestId {
        self.requests += 1;
        RequestId { client: self.number, request: self.requests }
    }

    fn done(&self) -> Fate {
        Fate::Done(self.local.now())
    }

    /// Reads a register: its value and that one's sequence number.
    pub(crate) async fn read(&mut self, register: usize) -> Option<(Token, Seq)> {
        let begun = self.local.now();
        let at = self.history.begin(register, begun, Register::Read(0), None);
        let mut answers = self.door.pipeline(vec![get(register_key(register))]).await;
        self.settle_read(register, at, entry_of(answers.pop()))
    }

    pub(crate) fn settle_read(
        &self,
        register: usize,
        at: usize,
        answer: Result<Option<Entry>>,
    ) -> Option<(Token, Seq)> {
        let found = match answer {
            Ok(entry) => entry.map_or((0, Seq(0)), |e| (token_of(&e.value), e.seq)),
            Err(error) => {
                fate_of(&error);
                // A read has no effect, whatever became of it.
                self.history.end(register, at, Register::Read(0), Fate::Failed);
                return None;
            }
        };
        if found.0 != 0 {
            self.history.note_seq(register, found.0, found.1.0);
        }
        self.history.end(register, at, Register::Read(found.0), self.done());
        Some(found)
    }

    async fn write(&mut self, register: usize) {
        let token = self.history.token();
        let at = self.history.begin(register, self.local.now(), Register::Write(token), None);
        let writes = vec![put(register_key(register), token)];
        let id = self.rng.one_in(2).then(|| self.id());
        let answer = self.door.call(Request::Write { writes, id }).await;
        let fate = self.settle_write(register, token, &answer);
        self.history.end(register, at, Register::Write(token), fate);
    }

    pub(crate) fn settle_write(
        &self,
        register: usize,
        token: Token,
        answer: &Result<Response>,
    ) -> Fate {
        match answer {
            Ok(Response::Committed { seq }) => {
                self.history.note_seq(register, token, seq.0);
                self.done()
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => fate_of(error),
        }
    }

    /// A write and a read in one pipeline: the read sees the write, or what came behind it.
    async fn write_and_read(&mut self, register: usize) {
        let (token, begun) = (self.history.token(), self.local.now());
        let write = self.history.begin(register, begun, Register::Write(token), None);
        let read = self.history.begin(register, begun, Register::Read(0), Some(write));
        let key = register_key(register);
        let writes = vec![put(key.clone(), token)];
        let id = Some(self.id());
        let mut answers = self.door.pipeline(vec![Request::Write { writes, id }, get(key)]).await;
        let entry = entry_of(answers.pop());
        let fate = self.settle_write(register, token, &answers.pop().unwrap());
        self.history.end(register, write, Register::Write(token), fate);
        self.settle_read(register, read, entry);
    }

    async fn swap(&mut self, register: usize) {
        let Some((expected, seq)) = self.read(register).await else { return };
        let token = if self.rng.one_in(6) { 0 } else { self.history.token() };
        if token == 0 && expected == 0 {
            return;
        }
        let what = Register::Swapped(expected, token);
        let at = self.history.begin(register, self.local.now(), what, None);
        let request = Request::PutIf {
            cf: CfId::DEFAULT,
            key: register_key(register),
            value: (token != 0).then(|| Bytes::from(token.to_string())),
            expiry: Expiry::Never,
            condition: if expected == 0 { Condition::Absent } else { Condition::SeqIs(seq) },
            id: Some(self.id()),
            seal: self.rng.one_in(2),
        };
        let (what, fate) = match self.door.call(request).await {
            Ok(Response::Conditional { applied: true, seq, .. }) => {
                if token != 0 {
                    self.history.note_seq(register, token, seq.0);
                }
                (what, self.done())
            }
            Ok(Response::Conditional { applied: false, current, .. }) => {
                let now = current.map_or(0, |entry| token_of(&entry.value));
                (Register::Kept(expected, now), self.done())
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => (what, fate_of(&error)),
        };
        self.history.end(register, at, what, fate);
    }

    /// Appends to a list, once, and counts it: with a request id that others may send too.
    async fn append(&mut self) {
        let again = self.rng.one_in(3);
        let known = self.history.inner().repeatable_appends(self.local.now());
        let (id, list, token) = match known.len() {
            n if n > 0 && again => known[self.rng.below(n as u64) as usize],
            _ => {
                let token = self.history.token();
                let fresh = (self.id(), self.rng.below(LISTS) as usize, token);
                let mut inner = self.history.inner();
                inner.known.push(fresh);
                if inner.known.len() > KNOWN_MAX {
                    // Some stay for long.
                    let gone = self.rng.below(KNOWN_MAX as u64) as usize;
                    inner.known.remove(gone);
                }
                fresh
            }
        };
        {
            let mut inner = self.history.inner();
            inner.requests += 1;
            let fresh = Append { list, begun: self.local.now(), done: None, open: 0 };
            inner.appends.entry(token).or_insert(fresh).open += 1;
        }
        let operand = Bytes::from(format!("{token};"));
        let one = Bytes::copy_from_slice(&1i64.to_le_bytes());
        let merge = |key, operand, op| Write::Merge { cf: CfId::DEFAULT, key, operand, op };
        let writes = vec![
            merge(list_key(list), operand, MergeOp::Append),
            merge(length_key(list), one, MergeOp::Add),
        ];
        let answer = self.door.call(Request::Write { writes, id: Some(id) }).await;
        let mut inner = self.history.inner();
        let fate = match answer {
            Ok(_) => Fate::Done(self.local.now()),
            Err(error) => fate_of(&error),
        };
        inner.tell(fate);
        if let Some(append) = inner.appends.get_mut(&token) {
            match fate {
                Fate::Open => {}
                Fate::Failed => append.open -= 1,
                Fate::Done(now) => {
                    append.open -= 1;
                    append.done.get_or_insert(now);
                }
            }
        }
    }

    pub(crate) async fn read_list(&mut self, list: usize) -> bool {
        let begun = self.local.now();
        self.history.inner().requests += 1;
        match entry_of(Some(self.door.call(get(list_key(list))).await)) {
            Ok(entry) => {
                let what = (list, tokens_of(entry.as_ref()));
                let seen = Seen { begun, done: self.local.now(), what };
                self.history.inner().lists.push(seen);
                true
            }
            Err(error) => {
                fate_of(&error);
                false
            }
        }
    }

    /// Reads how often a list was appended to, as the writes themselves have counted it.
    pub(crate) async fn read_length(&mut self, list: usize) -> Option<i64> {
        let entry = entry_of(Some(self.door.call(get(length_key(list))).await)).ok()?;
        let bytes = entry.map_or([0; 8], |entry| entry.value[..].try_into().unwrap());
        Some(i64::from_le_bytes(bytes))
    }

    async fn count(&mut self) {
        let counter = self.rng.below(COUNTERS) as usize;
        let args = vec![Bytes::from_static(b"INCR"), counter_key(counter)];
        let begun = self.local.now();
        let at = {
            let mut inner = self.history.inner();
            inner.requests += 1;
            let counts = inner.counts.entry(counter).or_default();
            counts.push(Count { begun, fate: Fate::Open, value: 0 });
            counts.len() - 1
        };
        let spec = command::lookup(&args).unwrap();
        let answer = self.door.call(Request::Redis(RedisCall { spec, args })).await;
        let (value, fate) = match answer {
            Ok(Response::Redis(Reply::Int(value))) => (value, self.done()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => (0, fate_of(&error)),
        };
        let mut inner = self.history.inner();
        inner.tell(fate);
        if let Some(count) = inner.counts.get_mut(&counter).and_then(|c| c.get_mut(at)) {
            *count = Count { begun, fate, value };
        }
    }

    pub(crate) async fn read_count(&mut self, counter: usize) -> Option<i64> {
        let entry = entry_of(Some(self.door.call(get(counter_key(counter))).await)).ok()?;
        Some(entry.map_or(0, |entry| token_of(&entry.value) as i64))
    }

    /// An insertion into a set begins.
    fn begin_insert(&self, set: usize) -> (Token, u64, Request) {
        let (token, begun) = (self.history.token(), self.local.now());
        let mut inner = self.history.inner();
        inner.requests += 1;
        inner.inserts[set].insert(token, (begun, Fate::Open));
        let key = Bytes::from(format!("{}{token:08}", SETS[set]));
        (token, begun, Request::Write { writes: vec![put(key, token)], id: None })
    }

    fn end_insert(&self, set: usize, token: Token, begun: u64, answer: Result<Response>) -> Fate {
        let fate = answer.map_or_else(|error| fate_of(&error), |_| self.done());
        let mut inner = self.history.inner();
        inner.tell(fate);
        inner.inserts[set].insert(token, (begun, fate));
        fate
    }

    async fn insert(&mut self) {
        let (token, begun, write) = self.begin_insert(0);
        let answer = self.door.call(write).await;
        self.end_insert(0, token, begun, answer);
    }

    /// An insertion and a scan in one pipeline: the scan sees what was inserted.
    async fn insert_and_scan(&mut self) {
        let (token, begun, write) = self.begin_insert(1);
        let prefix = Bytes::from_static(SETS[1].as_bytes());
        let scan = Scan { prefix, limit: 10_000, ..Scan::default() };
        let mut answers = self.door.pipeline(vec![write, Request::Scan(scan)]).await;
        let page = answers.pop().unwrap();
        let fate = self.end_insert(1, token, begun, answers.pop().unwrap());
        match page {
            Ok(Response::Page { entries, next }) => {
                assert!(next.is_empty(), "a page has not held the whole set");
                let what = tokens_in(1, &entries);
                let is_there = what.contains(&token);
                assert!(
                    is_there || !matches!(fate, Fate::Done(_)),
                    "a scan has not seen {token}, which was written before it"
                );
                let seen = Seen { begun, done: self.local.now(), what };
                self.history.inner().scans[1].push(seen);
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => _ = fate_of(&error),
        }
    }

    /// Reads a whole set, page by page.
    pub(crate) async fn scan(&mut self, set: usize) -> bool {
        let begun = self.local.now();
        let limit = 3 + self.rng.below(60) as u32;
        let prefix = Bytes::from_static(SETS[set].as_bytes());
        let mut scan = Scan { prefix, limit, ..Scan::default() };
        let mut tokens = Vec::new();
        loop {
            self.history.inner().requests += 1;
            let (entries, next) = match self.door.call(Request::Scan(scan.clone())).await {
                Ok(Response::Page { entries, next }) => (entries, next),
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    fate_of(&error);
                    return false;
                }
            };
            tokens.extend(tokens_in(set, &entries));
            if next.is_empty() {
                break;
            }
            scan.cursor = next;
        }
        let seen = Seen { begun, done: self.local.now(), what: tokens };
        self.history.inner().scans[set].push(seen);
        true
    }
}

fn tokens_in(set: usize, entries: &[Entry]) -> Vec<Token> {
    let token = |entry: &Entry| {
        let token = token_of(&entry.value);
        assert_eq!(entry.key, format!("{}{token:08}", SETS[set]));
        token
    };
    entries.iter().map(token).collect()
}
