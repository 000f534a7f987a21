//! SCAN over many shards, one after the other in the order of their slots.
//!
//! ```text
//! cursor, below 2^53, so that clients that keep it in a double do not bend it:
//!   slot   14 bits   the first slot of the shard where the scan stands
//!   tag     8 bits   which node, at which epoch, gave the place in it
//!   place  31 bits   that node's own cursor; 0: at the shard's beginning
//! ```
//! A place means something only to the node that gave it. If another answers, or the shard has
//! changed, the shard is scanned again from its beginning: a key may come twice, as it may in
//! Redis, but one that is there all the time comes at least once.

use crate::base::Result;
use crate::gateway::calls::ShardCalls;
use crate::gateway::everywhere::literal_prefix;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::gateway::map::NodeId;
use crate::gateway::scatter::slots_of_prefix;
use crate::op::kv::RedisCall;
use crate::op::route::{SLOTS, SlotRange};
use crate::op::{Reply, Request, Response};
use bytes::Bytes;
use tokio::time::Instant;

const PLACE_BITS: u32 = 31;
const TAG_BITS: u32 = 8;

/// Keys that one SCAN looks at unless told otherwise.
const COUNT: usize = 10;

/// Where a scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stand {
    slot: u16,
    tag: u8,
    place: u64,
}

impl Stand {
    fn from_cursor(cursor: u64) -> Option<Stand> {
        let slot = u16::try_from(cursor >> (PLACE_BITS + TAG_BITS)).ok()?;
        let tag = (cursor >> PLACE_BITS) as u8;
        (slot < SLOTS).then_some(Stand { slot, tag, place: cursor & ((1 << PLACE_BITS) - 1) })
    }

    /// `None` for a place that does not fit.
    fn cursor(self) -> Option<u64> {
        let fits = self.place < 1 << PLACE_BITS;
        let (slot, tag) = (u64::from(self.slot), u64::from(self.tag));
        fits.then_some(slot << (PLACE_BITS + TAG_BITS) | tag << PLACE_BITS | self.place)
    }
}

/// Node ids and epochs rise by one: those of one time have tags of their own.
fn tag(node: Option<NodeId>, epoch: u64) -> u8 {
    node.map_or(0, |node| node.0.wrapping_add(epoch.wrapping_mul(13))) as u8
}

/// What SCAN was asked for.
struct Asked {
    call: RedisCall,
    count: usize,
    concerned: SlotRange,
}

impl Asked {
    fn new(call: RedisCall) -> Asked {
        let (mut count, mut concerned) = (COUNT, SlotRange::ALL);
        for option in call.args.get(2..).unwrap_or_default().chunks_exact(2) {
            if option[0].eq_ignore_ascii_case(b"count") {
                // What is no number the shard refuses.
                let text = std::str::from_utf8(&option[1]).ok();
                count = text.and_then(|text| text.parse().ok()).unwrap_or(COUNT);
            } else if option[0].eq_ignore_ascii_case(b"match") {
                concerned = slots_of_prefix(literal_prefix(&option[1]));
            }
        }
        Asked { call, count, concerned }
    }

    /// The call for one shard. Once a shard has taken the options, others are told to look at
    /// what is left of the count: the last one named holds.
    fn at(&self, place: u64, left: Option<usize>) -> Request {
        let mut args = self.call.args.clone();
        args[1] = Bytes::from(place.to_string());
        if let Some(left) = left {
            args.extend([Bytes::from_static(b"COUNT"), Bytes::from(left.to_string())]);
        }
        Request::Redis(RedisCall { spec: self.call.spec, args })
    }
}

impl<C: ShardCalls> Gateway<C> {
    /// One SCAN: from where the cursor stands through as many shards as the count lasts.
    pub(super) async fn redis_scan(&self, call: RedisCall, deadline: Instant) -> Result<Response> {
        let stand = call.args.get(1).and_then(|arg| parse_cursor(arg)).and_then(Stand::from_cursor);
        let Some(mut stand) = stand else {
            return Ok(Response::Redis(Reply::err("invalid cursor")));
        };
        let asked = Asked::new(call);
        let (first, last) = (asked.concerned.first, asked.concerned.last);
        if stand.slot < first {
            stand = Stand { slot: first, tag: 0, place: 0 };
        }
        let mut found: Vec<Bytes> = Vec::new();
        let mut left = None;
        while stand.slot <= last {
            let shard = self.find_shard(stand.slot, deadline).await?;
            let begins = shard.slots.first.max(first);
            let place = if stand.slot == begins { stand.place } else { 0 };
            let request = asked.at(place, left);
            let anew = Stand { slot: begins, tag: 0, place: 0 };
            let Some((answer, node)) = self.ask_whom(&shard, request, deadline).await else {
                stand = anew;
                continue;
            };
            let given = tag(node, shard.epoch);
            if place != 0 && given != stand.tag {
                stand = anew;
                continue;
            }
            let (next, keys) = match answer? {
                Response::Redis(Reply::Array(parts)) => parts_of(parts)?,
                // It has forgotten the place, or it refuses the options.
                Response::Redis(Reply::Error(_)) if place != 0 => {
                    stand = anew;
                    continue;
                }
                Response::Redis(error @ Reply::Error(_)) => return Ok(Response::Redis(error)),
                _ => return Err(unfitting("SCAN")),
            };
            found.extend(keys);
            if next != 0 {
                return page(Stand { slot: begins, tag: given, place: next }.cursor(), found);
            }
            stand = Stand { slot: shard.slots.last + 1, tag: 0, place: 0 };
            if found.len() >= asked.count {
                break;
            }
            left = Some(asked.count - found.len());
        }
        page(if stand.slot > last { Some(0) } else { stand.cursor() }, found)
    }
}

fn page(cursor: Option<u64>, mut found: Vec<Bytes>) -> Result<Response> {
    let cursor = cursor.ok_or_else(|| unfitting("SCAN: its cursor is too large"))?;
    found.sort_unstable();
    let keys = found.into_iter().map(Reply::Bulk).collect();
    Ok(Response::Redis(Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(keys)])))
}

/// The cursor and the keys of a shard's answer.
fn parts_of(parts: Vec<Reply>) -> Result<(u64, Vec<Bytes>)> {
    let Ok([Reply::Bulk(cursor), Reply::Array(keys)]) = <[Reply; 2]>::try_from(parts) else {
        return Err(unfitting("SCAN"));
    };
    let keys = keys.into_iter().map(|key| match key {
        Reply::Bulk(key) => Ok(key),
        _ => Err(unfitting("SCAN")),
    });
    let cursor = parse_cursor(&cursor).ok_or_else(|| unfitting("SCAN"))?;
    Ok((cursor, keys.collect::<Result<_>>()?))
}

/// A cursor: decimal digits of 64 bits. Redis takes a sign too, by which a negative number is a
/// large one, and takes nothing for 0.
fn parse_cursor(arg: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(arg).ok()?;
    match text.strip_prefix('-') {
        _ if text.is_empty() => Some(0),
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => digits.parse().ok().map(u64::wrapping_neg),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_exact_in_a_double_and_never_mean_the_end() {
        for (slot, tag, place) in [(0, 0, 1), (16_383, 255, (1 << 31) - 1), (7, 0, 0), (1, 9, 5)] {
            let stand = Stand { slot, tag, place };
            let cursor = stand.cursor().unwrap();
            assert!((1..1 << 53).contains(&cursor));
            assert_eq!(Stand::from_cursor(cursor), Some(stand));
        }
        assert_eq!(Stand::from_cursor(0), Some(Stand { slot: 0, tag: 0, place: 0 }));
        assert_eq!(Stand { slot: 1, tag: 0, place: 1 << 31 }.cursor(), None);
        for beyond in [1 << 53, u64::MAX] {
            assert_eq!(Stand::from_cursor(beyond), None);
        }
    }

    #[test]
    fn nodes_and_epochs_of_one_time_have_tags_of_their_own() {
        let near = (0..6).flat_map(|node| (0..3).map(move |epoch| tag(Some(NodeId(node)), epoch)));
        let tags: std::collections::HashSet<u8> = near.collect();
        assert_eq!(tags.len(), 18);
    }
}
