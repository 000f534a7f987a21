//! Reads of many keys, divided by shard and put together again. Each part sees its shard at a
//! moment of its own; `together` sees to it that there was one moment for all.

use crate::base::Result;
use crate::gateway::gateway::unfitting;
use crate::gateway::map::ShardMap;
use crate::op::command::Id;
use crate::op::kv::{RedisCall, Watched};
use crate::op::route::slot_of;
use crate::op::{Reply, Request, Response};
use bytes::Bytes;

/// How the answers to the parts become one.
#[derive(Debug)]
pub(super) enum Join {
    /// Part by part, the places of its items in the whole list.
    Places(Vec<Vec<usize>>),
    /// The same, of what WATCH remembers.
    Watched(Vec<Vec<usize>>),
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
    let (call, keys) = match request {
        Request::Watch { keys } => (None, &keys[..]),
        Request::Redis(call) if matches!(call.spec.id, Id::Mget | Id::Exists | Id::Touch) => {
            (Some(call), &call.args[1..])
        }
        _ => return None,
    };
    let mut shards: Vec<Part> = Vec::new();
    for (place, key) in keys.iter().enumerate() {
        let slot = slot_of(key);
        // Keys of slots without a shard wait together.
        let shard = map.place_of(slot);
        let part = match shards.iter_mut().find(|part| part.shard == shard) {
            Some(part) => part,
            None => {
                shards.push(Part { shard, slot, keys: Vec::new(), places: Vec::new() });
                shards.last_mut()?
            }
        };
        part.keys.push(key.clone());
        part.places.push(place);
    }
    let mut places = Vec::with_capacity(shards.len());
    let mut parts = Vec::with_capacity(shards.len());
    for part in shards {
        places.push(part.places);
        let request = match call {
            None => Request::Watch { keys: part.keys },
            Some(RedisCall { spec, args }) => {
                let args = std::iter::once(args[0].clone()).chain(part.keys).collect();
                Request::Redis(RedisCall { spec, args })
            }
        };
        parts.push((part.slot, request));
    }
    let join = match call {
        None => Join::Watched(places),
        Some(call) if call.spec.id == Id::Mget => Join::Places(places),
        Some(_) => Join::Sum,
    };
    Some(Split { parts, join })
}

struct Part {
    shard: Option<usize>,
    slot: u16,
    keys: Vec<Bytes>,
    places: Vec<usize>,
}

impl Join {
    /// The answer to the whole. An error of a part, the first, is the whole's.
    pub(super) fn join(self, answers: Vec<Result<Response>>) -> Result<Response> {
        if let Join::Watched(places) = self {
            return watched_in_places(places, answers);
        }
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
            Join::Watched(_) => None,
        };
        whole.map(Response::Redis).ok_or_else(|| unfitting("a read of many keys"))
    }
}

fn watched_in_places(places: Vec<Vec<usize>>, answers: Vec<Result<Response>>) -> Result<Response> {
    let mut whole = vec![None; places.iter().map(Vec::len).sum()];
    for (places, answer) in places.into_iter().zip(answers) {
        let Response::Watched(watched) = answer? else { return Err(unfitting("WATCH")) };
        for (place, watched) in places.into_iter().zip(watched) {
            whole[place] = Some(watched);
        }
    }
    let whole = whole.into_iter().collect::<Option<Vec<Watched>>>();
    whole.map(Response::Watched).ok_or_else(|| unfitting("WATCH"))
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
