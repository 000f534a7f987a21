//! A snapshot on its way to a replica.
//!
//! ```text
//! Probe                             ->
//!                                   <-  Probed: it is there
//! Begin  what it is, its files      ->
//!                                   <-  Have: from where on it is wanted
//! Chunk Chunk Chunk ...             ->
//!                                   <-  Have ... after each
//! Finish                            ->      again and again: its answer may be lost
//!                                   <-  Installed
//! ```
//! A transfer that breaks off is taken up again where the receiver stands, as long as the copy is
//! kept. Each chunk carries its checksum; the sstables in it have their own besides.

use crate::base::checksum::crc32c_append;
use crate::base::{Error, ErrorKind, Result};
use crate::env::disk::read_exact_at;
use crate::raft::link::Link;
use crate::raft::message::{Begin, Body, Chunk, Empty, Finish, Have, encode_files, need};
use crate::raft::replica::Copy;
use crate::raft::transport::{Class, Question};
use crate::raft::vocabulary::{LogId, Vote, term};
use crate::raft::wire;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a chunk.
const CHUNK_BYTES: u64 = 1 << 20;
/// Chunks that are on their way at a time.
const WINDOW: usize = 4;
/// Time for a replica to say that it is there.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// Time for an answer to a chunk.
const CHUNK_PATIENCE: Duration = Duration::from_secs(20);
/// Time for checking and installing what has arrived, and after which it is asked for again.
const INSTALL_PATIENCE: Duration = Duration::from_secs(600);
const FINISH_PATIENCE: Duration = Duration::from_secs(5);

/// Sends this node's state, with entries up to `point` at least, to a replica, and waits until it is
/// installed there. Gives the vote of
/// the receiver: one that is higher than the sender's did not want it.
pub(crate) async fn send(link: &Link, vote: &Vote, point: Option<LogId>) -> Result<Vote> {
    let shared = &link.network.shared;
    let stopping = |_| Error::new(ErrorKind::Unavailable, "the node is stopping");
    let _turn = shared.sending.acquire().await.map_err(stopping)?;
    // A copy costs a flush and keeps old sstables: none for one that is not there.
    let probe = Body::Probe(Empty {});
    let Body::Probed(_) = link.ask(Class::Snapshot, probe, PROBE_PATIENCE).await? else {
        return Err(wrong_answer());
    };
    let copy = link.network.replica.copy(point).await?;
    // What was applied under a later leader is not this one's to send.
    if copy.meta.last_log_id.is_some_and(|last| term(&last) > vote.leader_id.term) {
        return Err(Error::new(ErrorKind::Unavailable, "this node no longer leads the group"));
    }
    let snapshot = shared.nonce.wrapping_add(copy.number());
    let begin = Begin {
        snapshot,
        vote: Some(wire::from_vote(vote)),
        last: copy.meta.last_log_id.as_ref().map(wire::from_log_id),
        members: Some(wire::from_stored(&copy.meta.last_membership)),
        files: encode_files(&copy.files),
    };
    let have = have(link.ask(Class::Snapshot, Body::Begin(begin), CHUNK_PATIENCE).await?)?;
    if let Some(theirs) = have.vote.map(wire::to_vote)
        && theirs > *vote
    {
        return Ok(theirs);
    }
    send_files(link, &copy, snapshot, (have.file as usize, have.offset)).await?;
    let finish = Finish { snapshot, vote: Some(wire::from_vote(vote)) };
    let until = Instant::now() + INSTALL_PATIENCE;
    let answer = loop {
        match link.ask(Class::Snapshot, Body::Finish(finish), FINISH_PATIENCE).await {
            Err(error) if error.kind() == ErrorKind::Deadline && Instant::now() < until => {}
            answer => break answer?,
        }
    };
    match answer {
        Body::Installed(installed) => {
            link.network.replica.sent(copy).await;
            need(installed.vote).map(wire::to_vote)
        }
        _ => Err(wrong_answer()),
    }
}

async fn send_files(
    link: &Link,
    copy: &Arc<Copy>,
    snapshot: u64,
    mut at: (usize, u64),
) -> Result<()> {
    let mut asked: VecDeque<(Question, (usize, u64))> = VecDeque::new();
    loop {
        // Past what is complete; a file without bytes needs no chunk.
        while copy.files.get(at.0).is_some_and(|(_, size)| at.1 >= *size) {
            at = (at.0 + 1, 0);
        }
        let is_done = at.0 >= copy.files.len();
        if asked.len() >= WINDOW || is_done {
            let Some((mut question, then)) = asked.pop_front() else { return Ok(()) };
            let have = have(question.answered().await?)?;
            let stands = (have.file as usize, have.offset);
            if stands < then {
                // It missed one: go back to where it stands.
                asked.clear();
                at = stands;
            }
            continue;
        }
        let (bytes, crc) = read(link, copy, at).await?;
        link.network.shared.rate.take(bytes.len() as u64).await;
        let len = bytes.len() as u64;
        let chunk = Chunk { snapshot, file: at.0 as u32, offset: at.1, crc, bytes };
        let body = Body::Chunk(chunk);
        let network = &link.network;
        let question = network.ask(link.target, Class::Snapshot, body, CHUNK_PATIENCE)?;
        at.1 += len;
        asked.push_back((question, at));
    }
}

async fn read(link: &Link, copy: &Arc<Copy>, at: (usize, u64)) -> Result<(Bytes, u32)> {
    let (copy, disk) = (copy.clone(), link.network.replica.disk.clone());
    let job = move || {
        let (name, size) = &copy.files[at.0];
        let path = copy.dir.join(name);
        let mut bytes = vec![0; (size - at.1).min(CHUNK_BYTES) as usize];
        read_exact_at(&*disk.open(&path)?, &path, &mut bytes, at.1)?;
        let crc = crc32c_append(0, &bytes);
        Ok((Bytes::from(bytes), crc))
    };
    link.network.replica.work.run(job).await
}

fn have(body: Body) -> Result<Have> {
    match body {
        Body::Have(have) => Ok(have),
        _ => Err(wrong_answer()),
    }
}

fn wrong_answer() -> Error {
    Error::invalid("a replica answered another question than it was asked")
}

/// Lets so many bytes a second pass, for all snapshots that a node sends together.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_second: u64,
    /// When what has been let pass is paid for.
    free_at: Mutex<Option<Instant>>,
}

impl Rate {
    /// So many bytes a second; 0 for as many as there are.
    pub(crate) fn new(bytes_per_second: u64) -> Rate {
        Rate { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// Waits for the turn of `bytes`.
    pub(crate) async fn take(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let turn = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = free_at.map_or(now, |at| at.max(now));
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
            *free_at = Some(turn + Duration::from_nanos(nanos.min(u128::from(u64::MAX)) as u64));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_many_and_costs_nothing_when_there_is_none() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (rate, start) = (Rate::new(1 << 20), Instant::now());
            for _ in 0..9 {
                rate.take(1 << 20).await;
            }
            assert_eq!(start.elapsed().as_secs(), 8);
            let (free, start) = (Rate::new(0), Instant::now());
            free.take(u64::MAX).await;
            assert_eq!(start.elapsed(), Duration::ZERO);
        });
    }
}
