//! The cluster that is backed up: copies of its shards, read from the nodes that hold them.

use crate::base::{Error, ErrorKind, Result};
use crate::catalog::records::Shard;
use crate::rpc::cluster::copy_call::{
    HeldCopy, READ_BYTES_MAX, ReadCopy, decode_held, encode_begin, encode_read, encode_sum,
};
use crate::rpc::cluster::{MetaClient, method};
use crate::rpc::link::{CallError, Hello, LinkOptions, Links, Role};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The class of links for calls.
const CALLS: u8 = 3;
/// How long a shard may be without a leader that makes a copy.
const LEADER_PATIENCE: Duration = Duration::from_secs(60);
/// How long one copy may take to be made: a flush.
const BEGIN_PATIENCE: Duration = Duration::from_secs(60);
/// How long one question may take; a node that is slow on purpose, to keep its rate, among it.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions after one failed.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a question is asked before the copy is given up.
const TRIES: u32 = 5;

/// A cluster whose shards can be copied.
#[derive(Debug, Clone)]
pub struct Source {
    meta: MetaClient,
    links: Links,
}

impl Source {
    /// The cluster that `meta` is a client of. REQUIRES: a runtime.
    pub fn new(meta: MetaClient) -> Source {
        let hello = Hello::nameless(Role::Tool, [0; 16]);
        Source { meta, links: Links::new(hello, LinkOptions::default()) }
    }

    /// The client of the metadata plane.
    pub fn meta(&self) -> &MetaClient {
        &self.meta
    }

    /// Has the leader of a shard make a copy and hold it.
    ///
    /// # Errors
    /// `Conflict` if the shard has been split since; `Unavailable` if nobody leads it for long.
    pub async fn begin(&self, shard: &Shard) -> Result<HeldCopy> {
        let until = Instant::now() + LEADER_PATIENCE;
        let mut last = None;
        loop {
            let view = self.meta.view();
            let now = view.shard(shard.id);
            if now.is_none_or(|now| now.epoch.range != shard.epoch.range) {
                return Err(split(shard));
            }
            let leader = now.and_then(Shard::leader_node).and_then(|node| view.node(node));
            if let Some(leader) = leader {
                self.links.set(leader.id.0, &leader.profile.raft_addr);
                let question = encode_begin(shard.id, shard.epoch.range);
                let held = self.ask(leader.id.0, method::COPY_BEGIN, question, BEGIN_PATIENCE);
                match held.await.and_then(|body| decode_held(&body)) {
                    Err(error) if may_try_again(&error) => last = Some(error),
                    // The catalog that the node follows may be older than ours, or newer.
                    Err(error) if error.kind() == ErrorKind::Conflict => last = Some(error),
                    done => return done,
                }
            }
            if Instant::now() + PAUSE >= until {
                let message = format!("nobody makes a copy of shard {}", shard.id);
                let nobody = Error::new(ErrorKind::Unavailable, message);
                return Err(last.map_or(nobody.clone(), |last| last.context(nobody.message())));
            }
            sleep(PAUSE).await;
        }
    }

    /// The sum of a file of a copy.
    ///
    /// # Errors
    /// `NotFound` if the copy has gone; `Unavailable`.
    pub async fn sum(&self, held: &HeldCopy, file: u64) -> Result<u128> {
        let body = self.insist(held, method::COPY_SUM, encode_sum(held.copy, file)).await?;
        let malformed = || Error::invalid("a node answered something else than a sum");
        let bytes = body.first_chunk().filter(|_| body.len() == 16).ok_or_else(malformed)?;
        Ok(u128::from_le_bytes(*bytes))
    }

    /// A part of a file of a copy: from `offset` on, at most [`READ_BYTES_MAX`] up to `end`.
    ///
    /// # Errors
    /// As [`Source::sum`].
    pub async fn read(&self, held: &HeldCopy, file: u64, offset: u64, end: u64) -> Result<Bytes> {
        let bytes = end.saturating_sub(offset).min(READ_BYTES_MAX);
        let asked = ReadCopy { copy: held.copy, file, offset, bytes };
        let body = self.insist(held, method::COPY_READ, encode_read(&asked)).await?;
        if body.len() as u64 != bytes {
            return Err(Error::invalid("a node answered with another part than it was asked for"));
        }
        Ok(body)
    }

    /// Lets a copy go. If that fails, its node does so later by itself.
    pub async fn end(&self, held: &HeldCopy) {
        let copy = Bytes::copy_from_slice(&held.copy.to_le_bytes());
        _ = self.ask(held.node, method::COPY_END, copy, Duration::from_secs(2)).await;
    }

    async fn insist(&self, held: &HeldCopy, method: u16, body: Bytes) -> Result<Bytes> {
        let mut tries = 1;
        loop {
            match self.ask(held.node, method, body.clone(), READ_PATIENCE).await {
                Err(error) if may_try_again(&error) && tries < TRIES => {
                    tries += 1;
                    sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn ask(&self, node: u64, method: u16, body: Bytes, patience: Duration) -> Result<Bytes> {
        let link = self.links.get(node, CALLS)?;
        let answer = link.call(method, body, Instant::now() + patience).await;
        answer.map_err(CallError::into_error)
    }
}

/// Asking for a copy changes nothing, so it may be asked again whatever became of it.
fn may_try_again(error: &Error) -> bool {
    let kind = error.kind();
    kind.is_retryable() || matches!(kind, ErrorKind::Unknown | ErrorKind::Deadline)
}

fn split(shard: &Shard) -> Error {
    Error::new(ErrorKind::Conflict, format!("shard {} has been split meanwhile", shard.id))
}
