//! Reads of many keys, divided by shard and put together again. Each part sees its shard at a
//! moment of its own.

use crate::base::Result;
use crate::gateway::gateway::unfitting;
use crate::gateway::map::ShardMap;
use crate::op::command::{Id, Spec};
use crate::op::kv::RedisCall;
use crate::op::route::slot_of;
use crate::op::{Reply, Request, Response};
use bytes::Bytes;

/// How the answers to the parts become one.
#[derive(Debug)]
pub(super) enum Join {
    /// Part by part, the places of its items in the whole list.
    Places(Vec<Vec<usize>>),
    /// Their sum.
    Sum,
}

/// The parts of a read, each with a slot of its shard, and how to join them.
pub(super) struct Split {
    pub(super) parts: Vec<(u16, Request)>,
    pub(super) join: Join,
}

/// Divides a request by the shards of its keys, if it is one that can be.
pub(super) fn split(request: &Request, map: &ShardMap) -> Option<Split> {
    let Request::Redis(RedisCall { spec, args }) = request else { return None };
    let sums = match spec.id {
        Id::Mget => false,
        Id::Exists | Id::Touch => true,
        _ => return None,
    };
    let mut shards: Vec<Part> = Vec::new();
    for (place, key) in args[1..].iter().enumerate() {
        let slot = slot_of(key);
        // Keys of slots without a shard wait together.
        let shard = map.place_of(slot);
        let part = match shards.iter_mut().find(|part| part.shard == shard) {
            Some(part) => part,
            None => {
                shards.push(Part { shard, slot, args: vec![args[0].clone()], places: Vec::new() });
                shards.last_mut()?
            }
        };
        part.args.push(key.clone());
        part.places.push(place);
    }
    let mut places = Vec::with_capacity(shards.len());
    let mut parts = Vec::with_capacity(shards.len());
    for part in shards {
        places.push(part.places);
        parts.push((part.slot, call(spec, part.args)));
    }
    Some(Split { parts, join: if sums { Join::Sum } else { Join::Places(places) } })
}

struct Part {
    shard: Option<usize>,
    slot: u16,
    args: Vec<Bytes>,
    places: Vec<usize>,
}

fn call(spec: &'static Spec, args: Vec<Bytes>) -> Request {
    Request::Redis(RedisCall { spec, args })
}

impl Join {
    /// The answer to the whole. An error of a part, the first, is the whole's.
    pub(super) fn join(self, answers: Vec<Result<Response>>) -> Result<Response> {
        let mut replies = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer? {
                Response::Redis(error @ Reply::Error(_)) => return Ok(Response::Redis(error)),
                Response::Redis(reply) => replies.push(reply),
                _ => return Err(unfitting("a read of many keys")),
            }
        }
        let whole = match self {
            Join::Sum => replies
                .iter()
                .map(|reply| if let Reply::Int(n) = reply { Some(*n) } else { None })
                .sum::<Option<i64>>()
                .map(Reply::Int),
            Join::Places(places) => in_places(places, replies).map(Reply::Array),
        };
        whole.map(Response::Redis).ok_or_else(|| unfitting("a read of many keys"))
    }
}

fn in_places(places: Vec<Vec<usize>>, replies: Vec<Reply>) -> Option<Vec<Reply>> {
    let mut whole = vec![Reply::Nil; places.iter().map(Vec::len).sum()];
    for (places, reply) in places.into_iter().zip(replies) {
        let Reply::Array(items) = reply else { return None };
        if items.len() != places.len() {
            return None;
        }
        for (place, item) in places.into_iter().zip(items) {
            *whole.get_mut(place)? = item;
        }
    }
    Some(whole)
}
