//! A key-value store in a map: what a door needs behind it, with places to wait and to fail.

use crate::double::{Double, step};
use arqondb::base::{CfId, Error, ErrorKind, Result, Seq};
use arqondb::op::kv::{
    CfInfo, Condition, Entry, Expiry, MergeOp, RequestId, SCAN_LIMIT_DEFAULT, Scan, Write,
};
use arqondb::op::txn::{Holds, TxnValue};
use arqondb::op::{Consistency, KvOps, Request, Response};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// The time that it always is here, Unix ms.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
/// Requests for this key wait until [`MapKv::release`] is notified.
pub(crate) const HELD_KEY: &[u8] = b"held";

#[derive(Default)]
pub(crate) struct MapKv {
    state: Mutex<State>,
    /// Fails all requests while set.
    pub(crate) failing: Mutex<Option<ErrorKind>>,
    /// Notified when a request for [`HELD_KEY`] has arrived.
    pub(crate) arrived: Notify,
    /// Lets one of them go on.
    pub(crate) release: Notify,
    /// How fresh reads had to be, of those that said so.
    pub(crate) asked: Mutex<Vec<Consistency>>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<(u32, Bytes), Entry>,
    families: BTreeMap<u32, String>,
    answered: HashMap<RequestId, Response>,
    seq: u64,
}

impl KvOps for MapKv {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        let mut answers = Vec::new();
        for request in requests {
            if names_held_key(&request) {
                self.arrived.notify_one();
                self.release.notified().await;
            }
            let failing = *self.failing.lock().unwrap();
            answers.push(match failing {
                Some(kind) => Err(Error::new(kind, "as the test wishes")),
                None => self.state().execute(request),
            });
        }
        answers
    }

    async fn pipeline_at(
        &self,
        consistency: Consistency,
        requests: Vec<Request>,
    ) -> Vec<Result<Response>> {
        self.asked.lock().unwrap().push(consistency);
        self.pipeline(requests).await
    }
}

fn names_held_key(request: &Request) -> bool {
    match request {
        Request::Get { key, .. } => key == HELD_KEY,
        Request::Write { writes, .. } => {
            matches!(&writes[..], [Write::Put { key, .. }] if key == HELD_KEY)
        }
        _ => false,
    }
}

impl MapKv {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn execute(&mut self, request: Request) -> Result<Response> {
        let id = match &request {
            Request::Write { id, .. } | Request::PutIf { id, .. } => *id,
            _ => None,
        };
        if let Some(answered) = id.and_then(|id| self.answered.get(&id)) {
            return Ok(answered.clone());
        }
        let answer = self.execute_once(request)?;
        if let Some(id) = id {
            self.answered.insert(id, answer.clone());
        }
        Ok(answer)
    }

    fn execute_once(&mut self, request: Request) -> Result<Response> {
        match request {
            Request::Get { cf, key } => {
                self.check(cf)?;
                Ok(Response::Entry(self.keys.get(&(cf.0, key)).cloned()))
            }
            Request::Write { writes, .. } => {
                for write in &writes {
                    match write {
                        Write::Put { cf, .. }
                        | Write::Delete { cf, .. }
                        | Write::Merge { cf, .. } => self.check(*cf)?,
                        Write::PutVector { .. } | Write::DeleteVector { .. } => {
                            return Err(Error::new(ErrorKind::Unsupported, "not in a map"));
                        }
                    }
                }
                writes.into_iter().for_each(|write| self.write(write));
                Ok(Response::Committed { seq: Seq(self.seq) })
            }
            Request::PutIf { cf, key, value, expiry, condition, .. } => {
                self.check(cf)?;
                let current = self.keys.get(&(cf.0, key.clone())).cloned();
                let holds = match condition {
                    Condition::None => true,
                    Condition::Absent => current.is_none(),
                    Condition::Present => current.is_some(),
                    Condition::SeqIs(seq) => current.as_ref().is_some_and(|e| e.seq == seq),
                };
                if !holds {
                    return Ok(Response::Conditional { applied: false, seq: Seq(0), current });
                }
                self.write(match value {
                    Some(value) => Write::Put { cf, key, value, expiry },
                    None => Write::Delete { cf, key },
                });
                Ok(Response::Conditional { applied: true, seq: Seq(self.seq), current: None })
            }
            Request::Scan(scan) => {
                self.check(scan.cf)?;
                Ok(self.scan(scan))
            }
            Request::DeleteByPrefix { cf, prefix } => {
                self.check(cf)?;
                let before = self.keys.len();
                self.keys.retain(|(f, key), _| *f != cf.0 || !key.starts_with(&prefix));
                Ok(Response::Deleted((before - self.keys.len()) as u64))
            }
            Request::CreateCf { name } => {
                if name == "default" || self.families.values().any(|n| *n == name) {
                    return Err(Error::new(ErrorKind::AlreadyExists, format!("{name} exists")));
                }
                let id = 1 + self.families.keys().max().copied().unwrap_or(0);
                self.families.insert(id, name.clone());
                Ok(Response::ColumnFamily(CfInfo { id: CfId(id), name }))
            }
            Request::DropCf { cf } => {
                self.check(cf)?;
                self.families.remove(&cf.0);
                self.keys.retain(|(f, _), _| *f != cf.0);
                Ok(Response::Done)
            }
            Request::ListCfs => {
                let default = CfInfo { id: CfId::DEFAULT, name: "default".to_string() };
                let others =
                    self.families.iter().map(|(id, n)| CfInfo { id: CfId(*id), name: n.clone() });
                Ok(Response::ColumnFamilies([default].into_iter().chain(others).collect()))
            }
            Request::Txn(call) => step(self, *call),
            _ => Err(Error::new(ErrorKind::Unsupported, "not in a map")),
        }
    }

    fn raw(&mut self, cf: CfId, key: &Bytes, entry: Option<Entry>) {
        match entry {
            Some(entry) => drop(self.keys.insert((cf.0, key.clone()), entry)),
            None => drop(self.keys.remove(&(cf.0, key.clone()))),
        }
    }

    fn check(&self, cf: CfId) -> Result<()> {
        if cf == CfId::DEFAULT || self.families.contains_key(&cf.0) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("there is no column family {cf}")))
    }

    fn write(&mut self, write: Write) {
        self.seq += 1;
        let seq = Seq(self.seq);
        match write {
            Write::Delete { cf, key } => {
                self.keys.remove(&(cf.0, key));
            }
            Write::Put { cf, key, value, expiry } => {
                let old = self.keys.get(&(cf.0, key.clone())).and_then(|e| e.expire_at_ms);
                let expire_at_ms = match expiry {
                    Expiry::Never => None,
                    Expiry::InMs(ms) => Some(NOW_MS + ms),
                    Expiry::AtMs(at) => Some(at),
                    Expiry::Keep => old,
                };
                if expire_at_ms.is_some_and(|at| at <= NOW_MS) {
                    self.keys.remove(&(cf.0, key));
                } else {
                    let entry = Entry { key: key.clone(), value, seq, expire_at_ms };
                    self.keys.insert((cf.0, key), entry);
                }
            }
            Write::Merge { cf, key, operand, op } => {
                let empty =
                    Entry { key: key.clone(), value: Bytes::new(), seq, expire_at_ms: None };
                let entry = self.keys.entry((cf.0, key)).or_insert(empty);
                entry.value = merged(&entry.value, &operand, op);
                entry.seq = seq;
            }
            // Refused before.
            Write::PutVector { .. } | Write::DeleteVector { .. } => {}
        }
    }

    /// A place is `@` and the last key given.
    fn scan(&self, scan: Scan) -> Response {
        let limit = if scan.limit == 0 { SCAN_LIMIT_DEFAULT } else { scan.limit } as usize;
        let last = scan.cursor.get(1..);
        let mut matching: Vec<&Entry> = self
            .keys
            .range((scan.cf.0, Bytes::new())..)
            .take_while(|((cf, _), _)| *cf == scan.cf.0)
            .map(|(_, entry)| entry)
            .filter(|e| e.key.starts_with(&scan.prefix) && e.key >= scan.start)
            .filter(|e| scan.end.is_empty() || e.key < scan.end)
            .filter(|e| {
                last.is_none_or(|last| if scan.reverse { *e.key < *last } else { *e.key > *last })
            })
            .collect();
        if scan.reverse {
            matching.reverse();
        }
        let next = match matching.get(limit.wrapping_sub(1)) {
            Some(last) if matching.len() > limit => Bytes::from([b"@", &last.key[..]].concat()),
            _ => Bytes::new(),
        };
        let shown = |e: &Entry| Entry {
            value: if scan.keys_only { Bytes::new() } else { e.value.clone() },
            ..e.clone()
        };
        Response::Page { entries: matching.into_iter().take(limit).map(shown).collect(), next }
    }
}

impl Double for State {
    fn read(&mut self, cf: CfId, key: &Bytes) -> Option<Holds> {
        let entry = self.keys.get(&(cf.0, key.clone()))?;
        let Entry { value, seq, expire_at_ms, .. } = entry.clone();
        Some(Holds { value, tag: 0, expire_at_ms, seq })
    }

    fn place(&mut self, cf: CfId, key: &Bytes, holds: Option<Holds>) {
        let entry = holds.map(|Holds { value, expire_at_ms, seq, .. }| Entry {
            key: key.clone(),
            value,
            seq,
            expire_at_ms,
        });
        self.raw(cf, key, entry);
    }

    fn write(&mut self, cf: CfId, key: &Bytes, value: Option<TxnValue>) {
        self.seq += 1;
        let seq = Seq(self.seq);
        let entry = value.map(|TxnValue { value, expire_at_ms, .. }| Entry {
            key: key.clone(),
            value,
            seq,
            expire_at_ms,
        });
        self.raw(cf, key, entry);
    }

    fn run(&mut self, request: Request) -> Result<Response> {
        self.execute(request)
    }
}

fn merged(old: &Bytes, operand: &Bytes, op: MergeOp) -> Bytes {
    let integer = |b: &Bytes| b[..].try_into().map_or(0, i64::from_le_bytes);
    match op {
        MergeOp::Append => Bytes::from([&old[..], &operand[..]].concat()),
        MergeOp::Add => {
            Bytes::copy_from_slice(&integer(old).wrapping_add(integer(operand)).to_le_bytes())
        }
        MergeOp::Max => old.clone().max(operand.clone()),
    }
}
