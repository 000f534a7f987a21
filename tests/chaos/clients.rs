//! Clients that read, write, swap, insert and append until they are stopped, and write down what
//! they were told.
// tidy: sleeps because clients pause between requests, and work for a time that a scenario sets

use crate::cluster::{connect, soon};
use crate::history::{Appended, History, Insert, Op, Outcome, Time, What};
use crate::verdict::{Found, value_of};
use arqondb::base::{CfId, Error, ErrorKind, Result, Seq};
use arqondb::env::Rng;
use arqondb::op::kv::{Condition, Entry, Expiry, MergeOp, RequestId, Scan, Write};
use arqondb::op::{Request, Response};
use arqondb::rpc::Client;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How many.
const CLIENTS: u64 = 8;
/// Registers in use at a time.
const REGISTERS: u64 = 12;
/// Others are used after so long: a history is checked in pieces of this length.
const WINDOW: Duration = Duration::from_secs(4);
/// Lists.
const LISTS: u64 = 6;
/// Between two requests of a client: what is to be found are faults, not the top speed.
const PAUSE: Duration = Duration::from_millis(3);
/// How often an append is sent, until it is not known what became of it.
const SENDINGS: u32 = 8;

/// Clients at work.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    /// What went wrong last.
    trouble: Arc<Mutex<String>>,
    begun: Instant,
    tasks: Vec<JoinHandle<History>>,
    doors: Vec<Client>,
}

struct One {
    number: u64,
    /// In requests, and in what it writes.
    id: u64,
    doors: Vec<Client>,
    begun: Instant,
    rng: Rng,
    request: u64,
    values: u64,
    answered: Arc<AtomicU64>,
    trouble: Arc<Mutex<String>>,
    history: History,
}

impl Clients {
    /// Clients of all `doors`.
    pub(crate) fn begin(doors: &[String]) -> Clients {
        let seed = crate::scenarios::number_from("ARQON_CHAOS_SEED");
        let seed = seed.unwrap_or_else(arqondb::env::rng::entropy);
        println!("clients begin with seed {seed}");
        let mut rng = Rng::new(seed);
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (begun, trouble) = (Instant::now(), Arc::default());
        let doors: Vec<Client> = doors.iter().map(|door| connect(door)).collect();
        let tasks = (1..=CLIENTS).map(|number| {
            let one = One {
                number,
                id: rng.next_u64().max(1),
                doors: doors.clone(),
                begun,
                rng: rng.fork(),
                request: 0,
                values: 0,
                answered: Arc::clone(&answered),
                trouble: Arc::clone(&trouble),
                history: History::default(),
            };
            tokio::spawn(one.run(stop.clone()))
        });
        let tasks = tasks.collect();
        Clients { stop, answered, trouble, begun, tasks, doors }
    }

    /// Since they began.
    pub(crate) fn now(&self) -> Time {
        self.begun.elapsed().as_nanos() as Time
    }

    /// Lets them work.
    pub(crate) async fn work(&self, time: Duration) {
        sleep(time).await;
    }

    /// Waits until so many more requests were answered.
    pub(crate) async fn go_on(&self, more: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        let until = soon();
        while self.answered.load(Ordering::Relaxed) < goal {
            let trouble = self.trouble.lock().unwrap().clone();
            assert!(Instant::now() < until, "the clients are answered no more; last: {trouble}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// What they were told, and what is there now.
    pub(crate) async fn end(self) -> (History, Found) {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for task in self.tasks {
            history.absorb(task.await.unwrap());
        }
        // Some of what nobody knows of may happen still; then all is as it will be.
        for door in &self.doors {
            let until = soon();
            while let Err(error) = door.put(CfId::DEFAULT, "the end", "the end").await {
                assert!(Instant::now() < until, "{error}");
                sleep(Duration::from_millis(50)).await;
            }
        }
        let found = look(&self.doors[0]).await;
        (history, found)
    }
}

/// Reads all that clients wrote beside registers.
async fn look(door: &Client) -> Found {
    let mut found = Found::default();
    let mut scan = Scan { prefix: Bytes::from("set:"), limit: 500, ..Scan::default() };
    loop {
        let (entries, next) = until_done(|| door.scan(scan.clone())).await;
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        found.inserts.extend(entries.iter().map(|e| (text(&e.key), text(&e.value))));
        if next.is_empty() {
            break;
        }
        scan.cursor = next;
    }
    for list in 0..LISTS {
        let entry = until_done(|| door.get(CfId::DEFAULT, format!("list:{list}"))).await;
        let text = entry.map_or(String::new(), |e| String::from_utf8(e.value.to_vec()).unwrap());
        found.lists.insert(list as usize, text);
    }
    found
}

async fn until_done<T, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> T {
    let until = soon();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn outcome(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Unknown => Outcome::Unknown,
        _ => Outcome::Failed,
    }
}

impl One {
    async fn run(mut self, stop: Arc<AtomicBool>) -> History {
        while !stop.load(Ordering::Relaxed) {
            match self.rng.below(10) {
                0..=2 => self.read().await,
                3..=4 => self.write().await,
                5..=6 => self.swap().await,
                7..=8 => self.insert().await,
                _ => self.append().await,
            }
            sleep(PAUSE).await;
        }
        self.history
    }

    fn now(&self) -> Time {
        self.begun.elapsed().as_nanos() as Time
    }

    /// One door or another.
    fn door(&mut self) -> Client {
        let at = self.rng.below(self.doors.len() as u64) as usize;
        self.doors[at].clone()
    }

    fn register(&mut self) -> String {
        let window = self.begun.elapsed().as_secs() / WINDOW.as_secs();
        format!("register:{window}:{}", self.rng.below(REGISTERS))
    }

    /// Never used twice.
    fn value(&mut self) -> u64 {
        self.values += 1;
        self.number << 40 | self.values
    }

    fn id(&mut self) -> RequestId {
        self.request += 1;
        RequestId { client: self.id, request: self.request }
    }

    /// Notes how a request that began at `begun` was answered; gives the time.
    fn note(&mut self, begun: Time, failed: Option<&Error>) -> Time {
        let now = self.now();
        match failed {
            Some(error) => {
                let text = format!("{}: {}", error.kind().name(), error.message());
                self.trouble.lock().unwrap().clone_from(&text);
                self.history.errors.push((begun, text));
            }
            None => {
                self.history.answered += 1;
                self.history.slowest = self.history.slowest.max(now - begun);
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        now
    }

    fn push(&mut self, key: &str, begun: Time, ended: Time, what: What) {
        let known = self.history.registers.entry(key.to_string()).or_default();
        known.push(Op { begun, ended, what });
    }

    /// Reads a register; gives what was there.
    async fn look(&mut self, key: &str) -> Option<Option<Entry>> {
        let (begun, door) = (self.now(), self.door());
        let answer = door.get(CfId::DEFAULT, key.to_string()).await;
        let ended = self.note(begun, answer.as_ref().err());
        let entry = answer.ok()?;
        self.push(key, begun, ended, What::Read(number(entry.as_ref())));
        Some(entry)
    }

    async fn read(&mut self) {
        let key = self.register();
        self.look(&key).await;
    }

    async fn write(&mut self) {
        let (key, value, id, door) = (self.register(), self.value(), self.id(), self.door());
        let begun = self.now();
        let answer = door.write(vec![put(&key, &value.to_string())], Some(id)).await;
        let ended = self.note(begun, answer.as_ref().err());
        match answer {
            Ok(_) => self.push(&key, begun, ended, What::Write { value, known: true }),
            Err(e) if outcome(&e) == Outcome::Unknown => {
                self.push(&key, begun, Time::MAX, What::Write { value, known: false });
            }
            Err(_) => {}
        }
    }

    async fn swap(&mut self) {
        let key = self.register();
        let Some(entry) = self.look(&key).await else { return };
        let expected = number(entry.as_ref());
        let (value, id, door) = (self.value(), self.id(), self.door());
        let begun = self.now();
        let request = Request::PutIf {
            cf: CfId::DEFAULT,
            key: Bytes::from(key.clone()),
            value: Some(Bytes::from(value.to_string())),
            expiry: Expiry::Never,
            condition: entry.map_or(Condition::Absent, |entry| Condition::SeqIs(entry.seq)),
            id: Some(id),
            seal: true,
        };
        let answer = door.execute(request).await;
        let ended = self.note(begun, answer.as_ref().err());
        match answer {
            Ok(Response::Conditional { applied: true, .. }) => {
                self.push(&key, begun, ended, What::Swap { expected, value, known: true });
            }
            Ok(Response::Conditional { current, .. }) => {
                let found = number(current.as_ref());
                self.push(&key, begun, ended, What::Unswapped { expected, found });
            }
            Ok(other) => panic!("{other:?}"),
            Err(e) if outcome(&e) == Outcome::Unknown => {
                self.push(&key, begun, Time::MAX, What::Swap { expected, value, known: false });
            }
            Err(_) => {}
        }
    }

    async fn insert(&mut self) {
        let (value, id, door) = (self.value(), self.id(), self.door());
        let key = format!("set:{value:016}");
        let begun = self.now();
        let answer = door.write(vec![put(&key, &value_of(&key))], Some(id)).await;
        self.note(begun, answer.as_ref().err());
        let outcome = answer.map_or_else(|e| outcome(&e), |_: Seq| Outcome::Done);
        self.history.inserts.push(Insert { key, outcome });
    }

    /// Appends a token; sends it again under the same id, through whatever door, until it is
    /// acknowledged.
    async fn append(&mut self) {
        let (value, id) = (self.value(), self.id());
        let (list, token) =
            (self.rng.below(LISTS) as usize, format!("{}-{}", self.number, value & 0xff_ffff_ffff));
        let mut last = Outcome::Failed;
        for _ in 0..SENDINGS {
            let (begun, door) = (self.now(), self.door());
            let write = Write::Merge {
                cf: CfId::DEFAULT,
                key: Bytes::from(format!("list:{list}")),
                operand: Bytes::from(format!("{token} ")),
                op: MergeOp::Append,
            };
            let answer = door.write(vec![write], Some(id)).await;
            self.note(begun, answer.as_ref().err());
            match answer {
                Ok(_) => {
                    last = Outcome::Done;
                    break;
                }
                // What was unknown once stays so.
                Err(e) if outcome(&e) == Outcome::Unknown => last = Outcome::Unknown,
                Err(_) => {}
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.history.appends.push(Appended { list, token, outcome: last });
    }
}

fn put(key: &str, value: &str) -> Write {
    Write::Put {
        cf: CfId::DEFAULT,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expiry: Expiry::Never,
    }
}

/// The value of a register.
fn number(entry: Option<&Entry>) -> Option<u64> {
    entry.map(|entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
}
