//! A page of a scan over many shards: each shard's keys in order, merged in order.
//!
//! ```text
//! cursor:  [b'>' forward, b'<' reverse][the last key given]
//! ```
//! A cursor names a key and no shard: the next page asks whoever has the keys behind it by then,
//! so that a split, a merge or a move between pages leaves no key out and gives none twice.

use crate::base::{Error, ErrorKind, Result};
use crate::gateway::calls::ShardCalls;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::gateway::map::ShardInfo;
use crate::gateway::scatter::{Merging, Rest, slots_of_prefix};
use crate::op::kv::{Entry, SCAN_LIMIT_DEFAULT, SCAN_LIMIT_MAX, Scan};
use crate::op::{Request, Response};
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;

/// A page ends early when its keys and values reach this many bytes, as a shard's does.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// What a shard is asked for beyond its share of a page.
const SHARE_SPARE: usize = 8;

impl<C: ShardCalls> Gateway<C> {
    /// A page of a scan.
    pub(super) async fn scan(&self, scan: Scan, deadline: Instant) -> Result<Response> {
        if scan.limit > SCAN_LIMIT_MAX {
            return Err(Error::invalid(format!(
                "the limit is {}; at most {SCAN_LIMIT_MAX} entries fit in one answer: use the \
                 cursor",
                scan.limit
            )));
        }
        let Some(scan) = resumed(scan)? else {
            return Ok(Response::Page { entries: Vec::new(), next: Bytes::new() });
        };
        for tries in 0.. {
            let shards = self.shards_of(&[slots_of_prefix(&scan.prefix)], deadline).await?;
            let mut rest = self.rest(&shards, tries);
            let page = self.page(&scan, &shards, &mut rest, deadline).await?;
            match (self.was_at_rest(&rest), page) {
                (true, Some(page)) => return Ok(page),
                (true, None) => {}
                (false, _) => self.wait_for_rest(tries, deadline).await?,
            }
        }
        Err(Error::new(ErrorKind::Internal, "a scan was tried too often to count"))
    }

    /// A page as one map has the shards; `None` if they changed meanwhile.
    async fn page(
        &self,
        scan: &Scan,
        shards: &[Arc<ShardInfo>],
        rest: &mut Rest,
        deadline: Instant,
    ) -> Result<Option<Response>> {
        let limit = if scan.limit == 0 { SCAN_LIMIT_DEFAULT } else { scan.limit } as usize;
        let mut merging = Merging::new(shards.len(), scan.reverse, |e: &Entry| e.key.clone());
        // Shard by shard, where its own pages go on; none at its end.
        let mut places = vec![Some(Bytes::new()); shards.len()];
        let (mut entries, mut bytes): (Vec<Entry>, usize) = (Vec::new(), 0);
        let is_full = |entries: &[Entry], bytes| entries.len() >= limit || bytes >= PAGE_BYTES_MAX;
        while !is_full(&entries, bytes) {
            let wanting = (0..shards.len())
                .filter_map(|at| Some((at, places[at].clone()?)))
                .filter(|(at, _)| merging.is_empty(*at));
            let wanting: Vec<(usize, Bytes)> = wanting.collect();
            if wanting.is_empty() && merging.is_over() {
                break;
            }
            let share = share(limit - entries.len(), shards.len());
            let Some(pages) = self.fill(scan, shards, (&wanting, share), rest, deadline).await?
            else {
                return Ok(None);
            };
            for ((at, _), (more, next)) in wanting.into_iter().zip(pages) {
                merging.extend(at, more);
                places[at] = Some(next).filter(|next| !next.is_empty());
            }
            let lacks = |merging: &Merging<Entry, Bytes>, at: usize| {
                merging.is_empty(at) && places[at].is_some()
            };
            if (0..shards.len()).any(|at| lacks(&merging, at)) {
                continue;
            }
            while !is_full(&entries, bytes)
                && let Some((entry, at)) = merging.pop()
            {
                // Two shards have a key only while it moves from one to the other.
                if entries.last().is_none_or(|last| last.key != entry.key) {
                    bytes += entry.key.len() + entry.value.len();
                    entries.push(entry);
                }
                if lacks(&merging, at) {
                    break;
                }
            }
        }
        let is_over = merging.is_over() && places.iter().all(Option::is_none);
        let next = match entries.last() {
            Some(last) if !is_over => cursor(scan.reverse, &last.key),
            _ => Bytes::new(),
        };
        Ok(Some(Response::Page { entries, next }))
    }

    /// The next page of each of some shards; `None` if one of them has changed.
    async fn fill(
        &self,
        scan: &Scan,
        shards: &[Arc<ShardInfo>],
        (wanting, share): (&[(usize, Bytes)], usize),
        rest: &mut Rest,
        deadline: Instant,
    ) -> Result<Option<Vec<(Vec<Entry>, Bytes)>>> {
        let asked: Vec<_> = wanting.iter().map(|(at, _)| Arc::clone(&shards[*at])).collect();
        let request = |at: usize| {
            let (limit, cursor) = (share as u32, wanting[at].1.clone());
            Request::Scan(Scan { limit, cursor, ..scan.clone() })
        };
        let answers = self.gather_reads(&asked, deadline, request, rest).await?;
        let Some(answers) = answers.into_iter().collect() else {
            return Ok(None);
        };
        let answers: Vec<Result<Response>> = answers;
        let pages = answers.into_iter().map(|answer| match answer? {
            Response::Page { entries, next } => Ok((entries, next)),
            _ => Err(unfitting("a scan")),
        });
        pages.collect::<Result<_>>().map(Some)
    }
}

/// What each of `shards` is asked for when a page lacks `missing` entries: hashing spreads keys
/// evenly, so that a little more than its share is nearly always enough.
fn share(missing: usize, shards: usize) -> usize {
    match shards {
        0 | 1 => missing,
        _ => (missing / shards + missing / (4 * shards) + SHARE_SPARE).min(missing),
    }
}

fn cursor(reverse: bool, last: &[u8]) -> Bytes {
    let mut cursor = Vec::with_capacity(1 + last.len());
    cursor.push(if reverse { b'<' } else { b'>' });
    cursor.extend_from_slice(last);
    cursor.into()
}

/// The scan of what lies behind its cursor; `None` if nothing can.
fn resumed(mut scan: Scan) -> Result<Option<Scan>> {
    if scan.cursor.is_empty() {
        return Ok(Some(scan));
    }
    let last = scan.cursor.slice(1..);
    match (scan.cursor[0], scan.reverse) {
        (b'>', false) => {
            let mut behind = Vec::with_capacity(last.len() + 1);
            behind.extend_from_slice(&last);
            behind.push(0);
            scan.start = scan.start.max(behind.into());
        }
        // Nothing lies before the empty key.
        (b'<', true) if last.is_empty() => return Ok(None),
        (b'<', true) if scan.end.is_empty() || last < scan.end => scan.end = last,
        (b'<', true) => {}
        _ => return Err(Error::invalid("the cursor is not one that this scan gave")),
    }
    scan.cursor = Bytes::new();
    Ok(Some(scan))
}
