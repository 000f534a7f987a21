//! A request for many shards: who is concerned, the calls, and the merge of the answers by an
//! order. Folds (sums and the like) are a line where they are used.
//!
//! A read is answered for all shards concerned, as one map had them, or with an error; if a shard
//! changes meanwhile it is asked anew from the beginning. A write goes on with what is left of the
//! slots; if some shards did it and others did not, or it is not known, the whole is unknown.
//!
//! Each part of a read sees its shard at a moment of its own. That no transaction over several
//! shards is seen in one part and not in another, stamps show: see `shard::two_phase`. A read
//! during which one changes is done again.

use crate::base::{Error, ErrorKind, Result};
use crate::gateway::absorb::{Group, in_doubt};
use crate::gateway::calls::ShardCalls;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::gateway::map::{NodeId, ShardInfo, ShardMap};
use crate::op::route::{ShardId, SlotRange, slot_of_prefix};
use crate::op::txn::{TxnAnswer, TxnCall};
use crate::op::vector::{StoredVector, VectorAnswer};
use crate::op::{Request, Response};
use futures::{StreamExt, stream};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use tokio::time::Instant;

/// How often a read is done again before it holds new transactions back.
const HOLD_AFTER: u32 = 3;

/// The slots of the keys that begin with `prefix`.
pub(super) fn slots_of_prefix(prefix: &[u8]) -> SlotRange {
    slot_of_prefix(prefix).map_or(SlotRange::ALL, |slot| SlotRange { first: slot, last: slot })
}

/// The answers of shards, in the order of their slots.
pub(super) type Gathered = Vec<(Arc<ShardInfo>, Response)>;

impl<C: ShardCalls> Gateway<C> {
    /// Asks one shard. `None` if it is not there as it was.
    pub(super) async fn ask(
        &self,
        shard: &Arc<ShardInfo>,
        request: Request,
        deadline: Instant,
    ) -> Option<Result<Response>> {
        self.ask_whom(shard, request, deadline).await.map(|(answer, _)| answer)
    }

    /// As [`Gateway::ask`], with the node that gave the answer.
    pub(super) async fn ask_whom(
        &self,
        shard: &Arc<ShardInfo>,
        request: Request,
        deadline: Instant,
    ) -> Option<(Result<Response>, Option<NodeId>)> {
        let mut group = Group::default();
        group.push(request, false);
        let mut outcome = self.call_shard(shard, group, deadline).await;
        Some((outcome.answers.pop().flatten()?, outcome.served_by))
    }

    /// As [`Gateway::ask`], with the shard's stamp behind a read.
    async fn ask_stamped(
        &self,
        shard: &Arc<ShardInfo>,
        request: Request,
        hold: bool,
        deadline: Instant,
    ) -> Option<Result<Stamped>> {
        let mut group = Group::default();
        group.push(request, false);
        group.push(Request::Txn(Box::new(TxnCall::Stamp { hold })), false);
        let mut outcome = self.call_shard(shard, group, deadline).await;
        let (stamp, answer) = (outcome.answers.pop().flatten()?, outcome.answers.pop().flatten()?);
        Some(answer.and_then(|answer| match stamp? {
            Response::Txn(stamp) => match *stamp {
                TxnAnswer::Stamp(stamp) => Ok((answer, stamp)),
                _ => Err(unfitting("its stamp")),
            },
            _ => Err(unfitting("its stamp")),
        }))
    }

    /// As [`Gateway::gather`], of reads. What the stamps were goes to `rest`.
    pub(super) async fn gather_reads(
        &self,
        shards: &[Arc<ShardInfo>],
        deadline: Instant,
        request: impl Fn(usize) -> Request,
        rest: &mut Rest,
    ) -> Result<Vec<Option<Result<Response>>>> {
        if rest.is_one {
            return self.gather(shards, deadline, request).await;
        }
        let hold = rest.tries >= HOLD_AFTER;
        let calls = (0..)
            .zip(shards)
            .map(|(at, shard)| Box::pin(self.ask_stamped(shard, request(at), hold, deadline)))
            .collect();
        let bytes = |answer: &Stamped| bytes_of(&answer.0);
        let answers = self.gather_calls(calls, bytes).await?;
        let answers = shards.iter().zip(answers).map(|(shard, answer)| {
            Some(answer?.map(|(answer, stamp)| {
                rest.saw(shard.id, stamp);
                answer
            }))
        });
        Ok(answers.collect())
    }

    /// What is known of shards before a read of them.
    pub(super) fn rest(&self, shards: &[Arc<ShardInfo>], tries: u32) -> Rest {
        let known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shards.iter().filter_map(|shard| Some((shard.id, *known.get(&shard.id)?)));
        Rest { is_one: shards.len() < 2, tries, known: known.collect(), seen: HashMap::new() }
    }

    /// Whether nothing was seen in a part, by the stamps of a read; they are kept for the next.
    pub(super) fn was_at_rest(&self, rest: &Rest) -> bool {
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(&rest.seen);
        rest.is_one || rest.seen.iter().all(|(shard, stamp)| rest.known.get(shard) == Some(stamp))
    }

    /// Asks shards, each by its place for a request of its own, a bounded number at a time. The
    /// answers come in the order of the shards.
    pub(super) async fn gather(
        &self,
        shards: &[Arc<ShardInfo>],
        deadline: Instant,
        request: impl Fn(usize) -> Request,
    ) -> Result<Vec<Option<Result<Response>>>> {
        let calls = (0..).zip(shards).map(|(at, shard)| self.ask(shard, request(at), deadline));
        // Boxed: a stream of these would make every future that asks for one as large as all.
        self.gather_calls(calls.map(Box::pin).collect(), bytes_of).await
    }

    async fn gather_calls<T>(
        &self,
        calls: Vec<Pin<Box<impl Future<Output = Option<Result<T>>>>>>,
        bytes_of: impl Fn(&T) -> usize,
    ) -> Result<Vec<Option<Result<T>>>> {
        let (mut answers, mut bytes) = (Vec::with_capacity(calls.len()), 0);
        let mut coming = stream::iter(calls).buffered(self.options.fan_out_max.max(1));
        while let Some(answer) = coming.next().await {
            bytes += answer.as_ref().map_or(0, |answer| answer.as_ref().map_or(0, &bytes_of));
            if bytes > self.options.answer_bytes_max {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!(
                        "the answers of the shards take more than {} bytes: ask for less at a time",
                        self.options.answer_bytes_max
                    ),
                ));
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// A read of all shards that have slots among `concerned`.
    pub(super) async fn read_shards(
        &self,
        concerned: SlotRange,
        deadline: Instant,
        request: &Request,
    ) -> Result<Gathered> {
        for tries in 0.. {
            let shards = self.shards_of(&[concerned], deadline).await?;
            let mut rest = self.rest(&shards, tries);
            let answers =
                self.gather_reads(&shards, deadline, |_| request.clone(), &mut rest).await?;
            if !self.was_at_rest(&rest) {
                self.wait_for_rest(tries, deadline).await?;
                continue;
            }
            // One that moved makes the others worthless, and so the first failure among them.
            let Some(answers) = answers.into_iter().collect::<Option<Vec<_>>>() else { continue };
            let answers: Vec<Response> = answers.into_iter().collect::<Result<_>>()?;
            return Ok(shards.into_iter().zip(answers).collect());
        }
        Err(Error::new(ErrorKind::Internal, "a read was tried too often to count"))
    }

    /// Waits before a read is done again because of transactions.
    pub(super) async fn wait_for_rest(&self, tries: u32, deadline: Instant) -> Result<()> {
        if tries < HOLD_AFTER {
            return Ok(());
        }
        let message = "transactions over several shards have changed them all the time";
        let cause = Error::new(ErrorKind::Unavailable, message);
        self.pause(tries - HOLD_AFTER + 1, deadline, &cause).await
    }

    /// A write to all shards that have slots among `concerned`.
    pub(super) async fn write_shards(
        &self,
        concerned: SlotRange,
        deadline: Instant,
        request: &Request,
    ) -> Result<Vec<Response>> {
        let mut left = vec![concerned];
        let (mut done, mut failure): (Vec<Response>, Option<Error>) = (Vec::new(), None);
        while !left.is_empty() && failure.is_none() {
            let round = async {
                let shards = self.shards_of(&left, deadline).await?;
                let answers = self.gather(&shards, deadline, |_| request.clone()).await;
                Ok((shards, answers))
            };
            let (shards, answers) = match round.await {
                Ok((shards, Ok(answers))) => (shards, answers),
                // Answers too large to keep: what they told of was done.
                Ok((_, Err(error))) => return Err(in_doubt(&error)),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            left.clear();
            for (shard, answer) in shards.iter().zip(answers) {
                match answer {
                    None => left.push(shard.slots),
                    Some(Ok(response)) => done.push(response),
                    Some(Err(error)) => failure = Some(worse(failure, error)),
                }
            }
        }
        match failure {
            None => Ok(done),
            Some(error) if done.is_empty() => Err(error),
            Some(error) => Err(Error::new(
                ErrorKind::Unknown,
                format!("some shards have done it and others have not, so repeat it: {error}"),
            )),
        }
    }

    /// The shards that have slots among these, once all are known.
    pub(super) async fn shards_of(
        &self,
        concerned: &[SlotRange],
        deadline: Instant,
    ) -> Result<Vec<Arc<ShardInfo>>> {
        loop {
            if Instant::now() >= deadline {
                return Err(Error::new(ErrorKind::Deadline, "the shards change all the time"));
            }
            match covering(&self.map.load(), concerned) {
                Ok(shards) => return Ok(shards),
                Err(hole) => drop(self.find_shard(hole, deadline).await?),
            }
        }
    }
}

/// An answer and the shard's stamp behind it.
type Stamped = (Response, u64);

/// The stamps of shards: those known before a read, and those seen in it.
pub(super) struct Rest {
    is_one: bool,
    tries: u32,
    known: HashMap<ShardId, u64>,
    seen: HashMap<ShardId, u64>,
}

impl Rest {
    /// The last stamp of a shard counts: it only rises while one node leads it.
    fn saw(&mut self, shard: ShardId, stamp: u64) {
        self.seen.insert(shard, stamp);
    }
}

/// The shards that have these slots, each once, or a slot that none has.
fn covering(map: &ShardMap, concerned: &[SlotRange]) -> Result<Vec<Arc<ShardInfo>>, u16> {
    let mut shards: Vec<Arc<ShardInfo>> = Vec::new();
    for range in concerned {
        let mut slot = range.first;
        while slot <= range.last {
            let shard = map.shard_of(slot).ok_or(slot)?;
            if !shards.iter().any(|known| Arc::ptr_eq(known, shard)) {
                shards.push(Arc::clone(shard));
            }
            slot = shard.slots.last + 1;
        }
    }
    Ok(shards)
}

/// Of two failures of a write the one that leaves more open.
fn worse(known: Option<Error>, other: Error) -> Error {
    match known {
        Some(known) if other.kind() != ErrorKind::Unknown => known,
        _ => other,
    }
}

/// About how many bytes of memory an answer holds.
fn bytes_of(response: &Response) -> usize {
    match response {
        Response::Redis(reply) => reply.bytes(),
        Response::Page { entries, next } => {
            let bytes = entries.iter().map(|e| size_of_val(e) + e.key.len() + e.value.len());
            next.len() + bytes.sum::<usize>()
        }
        Response::Vector(answer) => size_of::<Response>() + bytes_of_vectors(answer),
        _ => size_of::<Response>(),
    }
}

fn bytes_of_vectors(answer: &VectorAnswer) -> usize {
    let stored = |vector: &StoredVector| {
        size_of_val(vector) + vector.vector.as_bytes().len() + vector.payload.len()
    };
    match answer {
        VectorAnswer::Vectors(all) => all.iter().flatten().map(stored).sum(),
        VectorAnswer::Page { vectors, .. } => vectors.iter().map(stored).sum(),
        VectorAnswer::Found(found) => found
            .hits
            .iter()
            .map(|hit| {
                let vector = hit.vector.as_ref().map_or(0, |vector| vector.as_bytes().len());
                size_of_val(hit) + vector + hit.payload.as_ref().map_or(0, |payload| payload.len())
            })
            .sum(),
        _ => 0,
    }
}

/// Sorted lists as one, in their order. Items may be added to a list while others are taken.
pub(super) struct Merging<T, K> {
    lists: Vec<VecDeque<T>>,
    heads: BinaryHeap<Head<K>>,
    key: fn(&T) -> K,
    descending: bool,
}

/// The first item of a list.
struct Head<K> {
    key: K,
    list: usize,
    descending: bool,
}

impl<T, K: Ord> Merging<T, K> {
    /// So many empty lists, ordered by `key`.
    pub(super) fn new(lists: usize, descending: bool, key: fn(&T) -> K) -> Merging<T, K> {
        let lists = (0..lists).map(|_| VecDeque::new()).collect();
        Merging { lists, heads: BinaryHeap::new(), key, descending }
    }

    /// Adds items, none of them before the last that the list had.
    pub(super) fn extend(&mut self, list: usize, items: impl IntoIterator<Item = T>) {
        let was_empty = self.lists[list].is_empty();
        self.lists[list].extend(items);
        if was_empty {
            self.push_head(list);
        }
    }

    /// Whether a list has nothing left. While one that is to get more has not, what
    /// [`pop`](Merging::pop) gives may not be the next.
    pub(super) fn is_empty(&self, list: usize) -> bool {
        self.lists[list].is_empty()
    }

    /// Whether there is nothing left.
    pub(super) fn is_over(&self) -> bool {
        self.heads.is_empty()
    }

    /// Takes the next item, with the list it was in.
    pub(super) fn pop(&mut self) -> Option<(T, usize)> {
        let list = self.heads.pop()?.list;
        let item = self.lists[list].pop_front()?;
        self.push_head(list);
        Some((item, list))
    }

    fn push_head(&mut self, list: usize) {
        if let Some(item) = self.lists[list].front() {
            let (key, descending) = ((self.key)(item), self.descending);
            self.heads.push(Head { key, list, descending });
        }
    }
}

impl<K: Ord> Ord for Head<K> {
    /// The greatest comes first.
    fn cmp(&self, other: &Head<K>) -> Ordering {
        let by_key = match self.descending {
            true => self.key.cmp(&other.key),
            false => other.key.cmp(&self.key),
        };
        by_key.then(other.list.cmp(&self.list))
    }
}

impl<K: Ord> PartialOrd for Head<K> {
    fn partial_cmp(&self, other: &Head<K>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord> PartialEq for Head<K> {
    fn eq(&self, other: &Head<K>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Ord> Eq for Head<K> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    #[test]
    fn lists_merge_in_both_orders_however_their_items_come() {
        let mut rng = Rng::new(5);
        for round in 0..200 {
            let descending = rng.one_in(2);
            let order = |list: &mut Vec<u64>| {
                list.sort_unstable();
                if descending {
                    list.reverse();
                }
            };
            let mut lists: Vec<Vec<u64>> = (0..1 + rng.below(6))
                .map(|_| (0..rng.below(30)).map(|_| rng.below(40)).collect())
                .collect();
            lists.iter_mut().for_each(order);
            let mut want = lists.concat();
            order(&mut want);
            let mut merging: Merging<u64, u64> = Merging::new(lists.len(), descending, |n| *n);
            let mut got = Vec::new();
            loop {
                for (at, list) in lists.iter_mut().enumerate() {
                    if merging.is_empty(at) {
                        let some = (1 + rng.below(5) as usize).min(list.len());
                        merging.extend(at, list.drain(..some));
                    }
                }
                let Some((item, _)) = merging.pop() else { break };
                got.push(item);
            }
            assert!(merging.is_over());
            assert_eq!(got, want, "round {round}");
        }
    }

    #[test]
    fn shards_cover_slots_once_each_or_leave_a_hole() {
        let shard = |id, first, last| ShardInfo {
            id: crate::op::route::ShardId(id),
            epoch: 1,
            slots: SlotRange { first, last },
            leader: None,
            replicas: Vec::new(),
        };
        let cache = crate::gateway::map::MapCache::default();
        let range = |first, last| SlotRange { first, last };
        let covered = |ranges: &[SlotRange]| {
            covering(&cache.load(), ranges).map(|s| s.iter().map(|s| s.id.0).collect::<Vec<_>>())
        };
        assert_eq!(covered(&[SlotRange::ALL]), Err(0));
        cache.learn(&[shard(1, 0, 99), shard(2, 100, 199), shard(3, 201, 16383)]);
        assert_eq!(covered(&[range(0, 199)]), Ok(vec![1, 2]));
        assert_eq!(covered(&[range(50, 60), range(70, 110)]), Ok(vec![1, 2]));
        assert_eq!(covered(&[range(199, 205)]), Err(200));
        assert_eq!(covered(&[range(16383, 16383)]), Ok(vec![3]));
    }
}
