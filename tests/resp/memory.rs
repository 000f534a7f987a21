//! An engine that is a map in memory, and counts what it is asked.

use crate::double::{Double, step};
use crate::model::Model;
use arqondb::base::{CfId, Error, ErrorKind, Result, Seq};
use arqondb::op::kv::{RedisCall, Stats, Watched};
use arqondb::op::txn::{Holds, TxnValue};
use arqondb::op::{KvOps, Reply, Request, Response};
use arqondb::redis::{Keyspace, Stored, execute};
use bytes::Bytes;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tokio::sync::Semaphore;

pub(crate) struct Memory {
    pub(crate) model: Mutex<Model>,
    /// How many pipelines were asked for.
    pub(crate) pipelines: AtomicU64,
    /// The most requests in one of them.
    pub(crate) longest: AtomicU64,
    /// A pipeline that begins needs a permit, if these are in use.
    pub(crate) gate: Option<Semaphore>,
    /// Pipelines that have begun.
    pub(crate) begun: Semaphore,
    /// What all requests fail with, if anything.
    pub(crate) failure: Option<ErrorKind>,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory {
            model: Mutex::new(Model::at(1_700_000_000_000)),
            pipelines: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            gate: None,
            begun: Semaphore::new(0),
            failure: None,
        }
    }

    fn answer(&self, request: Request) -> Result<Response> {
        if let Some(kind) = self.failure {
            return Err(Error::new(kind, "told to fail"));
        }
        answer(&mut self.model.lock().unwrap(), request)
    }
}

fn answer(model: &mut Model, request: Request) -> Result<Response> {
    match request {
        Request::Redis(call) => one(&call, model).map(Response::Redis),
        Request::RedisTransaction { watched, calls, .. } => {
            for key in &watched {
                let now = model.get(&key.key)?;
                let changed = now.as_ref().is_some_and(|stored| stored.seq > key.at);
                if changed || now.is_some() != key.existed {
                    return Ok(Response::Redis(Reply::NilArray));
                }
            }
            let replies: Result<Vec<Reply>> = calls.iter().map(|call| one(call, model)).collect();
            Ok(Response::Redis(Reply::Array(replies?)))
        }
        Request::Watch { keys } => {
            let at = Seq(model.writes);
            let watched = keys.into_iter().map(|key| {
                let existed = model.get(&key)?.is_some();
                Ok(Watched { key, at, existed })
            });
            Ok(Response::Watched(watched.collect::<Result<_>>()?))
        }
        Request::Stats => {
            let keys = model.count()?;
            let last_seq = model.writes;
            let stats = Stats { keys, last_seq, sync: "os", ..Stats::default() };
            Ok(Response::Stats(Box::new(stats)))
        }
        Request::Txn(call) => step(model, *call),
        other => panic!("a Redis door does not ask for {other:?}"),
    }
}

impl Double for Model {
    fn read(&mut self, _: CfId, key: &Bytes) -> Option<Holds> {
        self.stored(key).map(|Stored { value, tag, expire_at_ms, seq }| Holds {
            value,
            tag,
            expire_at_ms,
            seq,
        })
    }

    fn place(&mut self, _: CfId, key: &Bytes, holds: Option<Holds>) {
        let stored = holds.map(|Holds { value, tag, expire_at_ms, seq }| Stored {
            value,
            tag,
            expire_at_ms,
            seq,
        });
        Model::place(self, key, stored);
    }

    fn write(&mut self, _: CfId, key: &Bytes, value: Option<TxnValue>) {
        match value {
            Some(TxnValue { value, tag, expire_at_ms }) => {
                self.put(key, value, tag, expire_at_ms).unwrap();
            }
            None => drop(self.delete(key).unwrap()),
        }
    }

    fn run(&mut self, request: Request) -> Result<Response> {
        answer(self, request)
    }
}

fn one(call: &RedisCall, model: &mut Model) -> Result<Reply> {
    execute(call, model)
}

impl KvOps for Memory {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        // What the server asks for on its own account, before it has a client.
        if matches!(requests[..], [Request::Stats]) {
            return requests.into_iter().map(|request| self.answer(request)).collect();
        }
        self.pipelines.fetch_add(1, SeqCst);
        self.longest.fetch_max(requests.len() as u64, SeqCst);
        self.begun.add_permits(1);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        requests.into_iter().map(|request| self.answer(request)).collect()
    }
}
