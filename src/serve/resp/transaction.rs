//! MULTI, EXEC, DISCARD, WATCH.
//!
//! Commands are checked when they are queued; one that fails the check breaks the transaction,
//! and EXEC refuses it whole. The data commands of a transaction are one request to the engine,
//! which executes them atomically or, if a watched key has changed, not at all. Commands of the
//! connection (PING, CLIENT, CONFIG) may stand between them: they are executed after the data
//! commands, in order, and each reply stands where its command stood.

use super::commands;
use super::errors;
use super::frame::Command;
use super::server::Server;
use super::session::{Session, redis_reply};
use crate::op::command::{Id, Place, Spec};
use crate::op::kv::RedisCall;
use crate::op::{KvOps, Reply, Request, Response};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

/// The most keys a connection may watch.
const WATCHED_MAX: usize = 1024 * 1024;

/// The queue of a transaction.
#[derive(Debug, Default)]
pub(super) struct Multi {
    /// Commands in order, those of the connection among them.
    pub(super) queue: Vec<RedisCall>,
    /// Bytes they take, about.
    pub(super) bytes: usize,
    /// Whether a command was refused.
    pub(super) broken: bool,
}

impl Multi {
    /// Whether a command is executed inside MULTI instead of being queued.
    pub(super) fn executes_now(id: Id) -> bool {
        matches!(id, Id::Exec | Id::Discard | Id::Multi | Id::Watch | Id::Quit | Id::Reset)
    }

    /// Whether a queued command may change a key.
    pub(super) fn writes(&self) -> bool {
        self.queue.iter().any(|call| call.spec.is_write())
    }
}

fn aborted() -> Reply {
    Reply::Error("EXECABORT Transaction discarded because of previous errors.".to_string())
}

/// What the replies of a transaction may take: as much as a client may leave unread.
pub(super) fn reply_bytes_max(server: &Server) -> u64 {
    match server.config.live.output_hard_bytes.load(Relaxed) {
        0 => u64::MAX,
        bytes => bytes,
    }
}

impl Session {
    pub(super) fn begin_multi(&mut self) -> Reply {
        if self.multi.is_some() {
            return Reply::err("MULTI calls can not be nested");
        }
        self.multi = Some(Multi::default());
        self.client.queued.store(0, Relaxed);
        Reply::OK
    }

    /// Queues a command that passed its checks.
    pub(super) fn enqueue(&mut self, server: &Server, spec: &'static Spec, args: Command) {
        let Some(multi) = &mut self.multi else { return };
        let args_bytes: usize = args.iter().map(|arg| arg.len() + size_of::<Bytes>()).sum();
        multi.bytes += args_bytes + size_of::<RedisCall>();
        multi.queue.push(RedisCall { spec, args });
        self.client.queued.store(multi.queue.len() as i64, Relaxed);
        if multi.bytes as u64 > server.config.live.query_buffer_bytes_max.load(Relaxed) {
            server.stats.totals.query_limit_cuts.fetch_add(1, Relaxed);
            self.client.stop.cut();
            self.closing = true;
            return;
        }
        self.place_ready(Reply::Simple("QUEUED"));
    }

    pub(super) fn end_multi(&mut self) -> Option<Multi> {
        self.client.queued.store(-1, Relaxed);
        self.multi.take()
    }

    /// Whether EXEC now means one request to the engine and nothing else.
    pub(super) fn transaction_is_plain(&self) -> bool {
        self.multi.as_ref().is_some_and(|multi| {
            !multi.broken
                && !multi.queue.is_empty()
                && multi.queue.iter().all(|call| call.spec.place == Place::Data)
        })
    }

    pub(super) fn discard(&mut self) -> Reply {
        self.watched.clear();
        match self.end_multi() {
            Some(_) => Reply::OK,
            None => Reply::err("DISCARD without MULTI"),
        }
    }

    /// EXEC that is broken, empty, or has commands of the connection among its own.
    pub(super) async fn exec_alone<K: KvOps>(&mut self, server: &Server, kv: &K) -> Reply {
        let Some(multi) = self.end_multi() else { return Reply::err("EXEC without MULTI") };
        let watched = std::mem::take(&mut self.watched);
        if multi.broken {
            return aborted();
        }
        let is_data = |call: &&RedisCall| call.spec.place == Place::Data;
        let calls: Vec<RedisCall> = multi.queue.iter().filter(is_data).cloned().collect();
        let data = if calls.is_empty() && watched.is_empty() {
            Vec::new()
        } else {
            let reply_bytes_max = reply_bytes_max(server);
            let transaction = Request::RedisTransaction { watched, calls, reply_bytes_max };
            match redis_reply(Some(kv.call(transaction).await)) {
                Reply::Array(replies) => replies,
                other => return other,
            }
        };
        let mut bytes = data.iter().map(|reply| reply.bytes() as u64).sum::<u64>();
        let bytes_max = reply_bytes_max(server);
        let mut data = data.into_iter();
        let mut replies = Vec::with_capacity(multi.queue.len());
        for call in &multi.queue {
            let is_data = call.spec.place == Place::Data;
            let reply = if is_data {
                data.next()
            } else if bytes > bytes_max {
                Some(Reply::err(format_args!(
                    "not executed: the replies of the transaction take more than {bytes_max} bytes"
                )))
            } else {
                commands::execute(self, server, kv, call.spec, &call.args).await
            };
            // A command that answers nothing by itself (CLIENT REPLY OFF) still has its place.
            let reply = reply.unwrap_or(Reply::Nil);
            bytes += if is_data { 0 } else { reply.bytes() as u64 };
            self.count(server, call.spec, &reply);
            replies.push(reply);
        }
        Reply::Array(replies)
    }

    /// WATCH: remembers how the keys stand now. A key watched before keeps what was remembered.
    pub(super) async fn watch<K: KvOps>(&mut self, kv: &K, keys: &[Bytes]) -> Reply {
        if self.multi.is_some() {
            return Reply::err("WATCH inside MULTI is not allowed");
        }
        let mut known: HashSet<&[u8]> =
            self.watched.iter().map(|watched| &watched.key[..]).collect();
        // Copied, so that a watched key does not keep alive the buffer it came in.
        let keys: Vec<Bytes> = keys
            .iter()
            .filter(|key| known.insert(key))
            .map(|key| Bytes::copy_from_slice(key))
            .collect();
        if known.len() > WATCHED_MAX {
            return Reply::err(format_args!("more than {WATCHED_MAX} keys are watched"));
        }
        if keys.is_empty() {
            return Reply::OK;
        }
        match kv.call(Request::Watch { keys }).await {
            Ok(Response::Watched(watched)) => {
                self.watched.extend(watched);
                Reply::OK
            }
            Err(error) => errors::reply(&error),
            // Refused in Redis's own words.
            Ok(Response::Redis(reply)) => reply,
            Ok(_) => Reply::err("internal error: the engine gave an answer of another kind"),
        }
    }
}
