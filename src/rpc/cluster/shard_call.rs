//! Requests for a shard, and what became of them.
//!
//! ```text
//! call:    [version u8 = 1] shard, epoch, freshness, count, requests
//! freshness: 0 linearizable | 1 lease | 2 stale, bound ms
//! answer:  count, answers, stop
//! stop:    0 none | 1 not leader, leader (0: not known) | 2 wrong epoch, count, facts
//!          3 nothing was done, error | 4 it may have happened, error
//! fact:    shard, epoch, first, last, leader (0: not known), count, replicas (node, address)
//! ```

use crate::base::codec::{put_bytes, put_varint};
use crate::base::{Error, ErrorKind, Result};
use crate::op::{Request, Response};
use crate::rpc::ops::{
    Cut, put_error, put_request, put_response, read_error, read_request, read_response,
};
use bytes::Bytes;

const VERSION: u8 = 1;
/// Requests of one call at most. Some take a byte each, and a hundred times that in memory.
const REQUESTS_MAX: usize = 1 << 20;
/// Bytes of answers behind which no more reads are answered.
const ANSWER_BYTES: usize = 16 << 20;

/// How fresh reads must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// All that was acknowledged before.
    #[default]
    Linearizable,
    /// The same while clocks run at about one rate.
    Lease,
    /// All but the last so many milliseconds.
    Stale {
        /// The bound.
        bound_ms: u64,
    },
}

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardCall {
    /// The shard.
    pub shard: u64,
    /// The version of its slots that the caller knows.
    pub epoch: u64,
    /// How fresh reads must be.
    pub freshness: Freshness,
    /// What to do, in order.
    pub requests: Vec<Request>,
}

/// A shard as one program tells another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardFact {
    /// The shard.
    pub shard: u64,
    /// The version of its slots.
    pub epoch: u64,
    /// Its first slot.
    pub first: u16,
    /// Its last slot.
    pub last: u16,
    /// The node that leads it, if known.
    pub leader: Option<u64>,
    /// Its replicas: node, and `host:port` for links.
    pub replicas: Vec<(u64, String)>,
}

/// Why requests have no answer.
#[derive(Debug)]
pub enum Stop {
    /// Another leads; nothing was done.
    NotLeader {
        /// The node that does, if known.
        leader: Option<u64>,
    },
    /// The shard is another by now, or not here; nothing was done.
    WrongEpoch {
        /// The shards that have its slots.
        covering: Vec<ShardFact>,
    },
    /// Nothing was done.
    NotDone(Error),
    /// It may have happened.
    Unknown(Error),
}

/// What became of a call.
#[derive(Debug)]
pub struct ShardAnswer {
    /// The answers to its first requests.
    pub answers: Vec<Result<Response>>,
    /// What those behind them met.
    pub stop: Option<Stop>,
}

/// The bytes of a call. Takes the requests by reference: they may be asked of another replica.
pub fn encode_call(shard: u64, epoch: u64, freshness: Freshness, requests: &[Request]) -> Bytes {
    let mut out = vec![VERSION];
    put_varint(&mut out, shard);
    put_varint(&mut out, epoch);
    match freshness {
        Freshness::Linearizable => out.push(0),
        Freshness::Lease => out.push(1),
        Freshness::Stale { bound_ms } => {
            out.push(2);
            put_varint(&mut out, bound_ms);
        }
    }
    put_varint(&mut out, requests.len() as u64);
    requests.iter().for_each(|request| put_request(&mut out, request));
    out.into()
}

/// The call of some bytes.
///
/// # Errors
/// If they are none, or of a newer version.
pub fn decode_call(body: &Bytes) -> Result<ShardCall> {
    let mut cut = Cut::new(body, "a call");
    let version = cut.u8()?;
    if version != VERSION {
        return Err(cut.unknown(version.into()));
    }
    let (shard, epoch) = (cut.varint()?, cut.varint()?);
    let freshness = match cut.u8()? {
        0 => Freshness::Linearizable,
        1 => Freshness::Lease,
        2 => Freshness::Stale { bound_ms: cut.varint()? },
        kind => return Err(cut.unknown(kind.into())),
    };
    let count = cut.count(1)?;
    if count > REQUESTS_MAX {
        return Err(cut.malformed());
    }
    let mut requests = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        requests.push(read_request(&mut cut)?);
    }
    cut.end()?;
    Ok(ShardCall { shard, epoch, freshness, requests })
}

/// The bytes of an answer. Of one to requests that only read, not much more than
/// [`ANSWER_BYTES`]: what does not fit is to be asked for again.
pub fn encode_answer(answer: &ShardAnswer, only_reads: bool) -> Bytes {
    let mut out = Vec::new();
    put_varint(&mut out, answer.answers.len() as u64);
    for answer in &answer.answers {
        if only_reads && out.len() >= ANSWER_BYTES && answer.is_ok() {
            let message = "what was read before it fills a message; ask for it again";
            put_response(&mut out, &Err(Error::new(ErrorKind::Unavailable, message)));
        } else {
            put_response(&mut out, answer);
        }
    }
    match &answer.stop {
        None => out.push(0),
        Some(Stop::NotLeader { leader }) => {
            out.push(1);
            put_varint(&mut out, leader.unwrap_or(0));
        }
        Some(Stop::WrongEpoch { covering }) => {
            out.push(2);
            put_varint(&mut out, covering.len() as u64);
            covering.iter().for_each(|fact| put_fact(&mut out, fact));
        }
        Some(Stop::NotDone(error)) => {
            out.push(3);
            put_error(&mut out, error);
        }
        Some(Stop::Unknown(error)) => {
            out.push(4);
            put_error(&mut out, error);
        }
    }
    out.into()
}

/// The answer of some bytes.
///
/// # Errors
/// If they are none, or of a newer version.
pub fn decode_answer(body: &Bytes) -> Result<ShardAnswer> {
    let mut cut = Cut::new(body, "an answer");
    let count = cut.count(1)?;
    let mut answers = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        answers.push(read_response(&mut cut)?);
    }
    let stop = match cut.u8()? {
        0 => None,
        1 => Some(Stop::NotLeader { leader: Some(cut.varint()?).filter(|node| *node != 0) }),
        2 => {
            let count = cut.count(6)?;
            let covering = (0..count).map(|_| read_fact(&mut cut)).collect::<Result<_>>()?;
            Some(Stop::WrongEpoch { covering })
        }
        3 => Some(Stop::NotDone(read_error(&mut cut)?)),
        4 => Some(Stop::Unknown(read_error(&mut cut)?)),
        kind => return Err(cut.unknown(kind.into())),
    };
    cut.end()?;
    Ok(ShardAnswer { answers, stop })
}

fn put_fact(out: &mut Vec<u8>, fact: &ShardFact) {
    put_varint(out, fact.shard);
    put_varint(out, fact.epoch);
    put_varint(out, fact.first.into());
    put_varint(out, fact.last.into());
    put_varint(out, fact.leader.unwrap_or(0));
    put_varint(out, fact.replicas.len() as u64);
    for (node, address) in &fact.replicas {
        put_varint(out, *node);
        put_bytes(out, address.as_bytes());
    }
}

fn read_fact(cut: &mut Cut<'_>) -> Result<ShardFact> {
    let (shard, epoch) = (cut.varint()?, cut.varint()?);
    let slot = |n: u32, cut: &Cut<'_>| u16::try_from(n).map_err(|_| cut.malformed());
    let (first, last) = (cut.varint32()?, cut.varint32()?);
    let (first, last) = (slot(first, cut)?, slot(last, cut)?);
    let leader = Some(cut.varint()?).filter(|node| *node != 0);
    let count = cut.count(2)?;
    let replicas = (0..count).map(|_| Ok((cut.varint()?, cut.text()?.to_string())));
    let replicas = replicas.collect::<Result<_>>()?;
    Ok(ShardFact { shard, epoch, first, last, leader, replicas })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Reply;

    /// Many small calls for large values go together; one message that carried all was too long for
    /// a frame, and each was told that it may have happened.
    #[test]
    fn of_reads_no_more_is_told_than_fits_a_message() {
        let large = Bytes::from(vec![1; ANSWER_BYTES / 2]);
        let answers = (0..4).map(|_| Ok(Response::Redis(Reply::Bulk(large.clone())))).collect();
        let answer = ShardAnswer { answers, stop: None };
        let told = |only_reads| {
            let body = encode_answer(&answer, only_reads);
            let told = decode_answer(&body).unwrap().answers;
            told.into_iter().map(|told| told.map(drop).map_err(|e| e.kind())).collect::<Vec<_>>()
        };
        let later = Err(ErrorKind::Unavailable);
        assert_eq!(told(true), [Ok(()), Ok(()), later, later]);
        assert_eq!(told(false), [Ok(()); 4], "what writes cannot be asked for again");
    }

    #[test]
    fn calls_and_answers_travel() {
        let requests = vec![Request::ListCfs, Request::Stats];
        for freshness in
            [Freshness::Linearizable, Freshness::Lease, Freshness::Stale { bound_ms: 500 }]
        {
            let body = encode_call(7, 9, freshness, &requests);
            let back = decode_call(&body).unwrap();
            assert_eq!(
                back,
                ShardCall { shard: 7, epoch: 9, freshness, requests: requests.clone() }
            );
            assert!((0..body.len()).all(|end| decode_call(&body.slice(..end)).is_err()));
        }
        let fact = ShardFact {
            shard: 1,
            epoch: 2,
            first: 0,
            last: 16383,
            leader: Some(3),
            replicas: vec![(3, "127.0.0.1:1".into()), (4, String::new())],
        };
        let error = || Error::new(ErrorKind::Busy, "later");
        let stops = [
            None,
            Some(Stop::NotLeader { leader: Some(8) }),
            Some(Stop::NotLeader { leader: None }),
            Some(Stop::WrongEpoch { covering: vec![fact] }),
            Some(Stop::NotDone(error())),
            Some(Stop::Unknown(error())),
        ];
        for stop in stops {
            let said = format!("{stop:?}");
            let answers = vec![Ok(Response::Deleted(3)), Err(error())];
            let body = encode_answer(&ShardAnswer { answers, stop }, false);
            let back = decode_answer(&body).unwrap();
            assert_eq!(format!("{:?}", back.stop), said);
            assert_eq!(back.answers[0].as_ref().unwrap(), &Response::Deleted(3));
            assert!(back.answers[1].as_ref().is_err_and(|e| e.kind() == ErrorKind::Busy));
            assert!((0..body.len()).all(|end| decode_answer(&body.slice(..end)).is_err()));
        }
    }
}
