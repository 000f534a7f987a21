//! Requests about vectors, to writes and answers.

use crate::base::{CfId, Error, ErrorKind, IndexId, Result, Seq};
use crate::lsm::ReadOptions;
use crate::lsm::batch::{Counts, WriteBatch};
use crate::lsm::key::Meta;
use crate::op::Response;
use crate::op::kv::Write;
use crate::op::vector::{
    FETCH_MAX, Floats, IndexSpec, NamedIndex, PAGE_DEFAULT, PAGE_MAX, PAYLOAD_BYTES_MAX,
    VectorAnswer, VectorCall, VectorId, no_such_index,
};
use crate::shard::Shard;
use crate::shard::commit::Ticket;
use crate::shard::latch::{self, Stripe};
use crate::shard::shard::Answer;
use crate::shard::transaction::Transaction;
use crate::shard::vectors::form::{graph_config, metric, pq_config};
use crate::shard::vectors::index::VectorIndex;
use crate::shard::vectors::limits::AnswerRoom;
use crate::shard::vectors::record::{self, Key};
use crate::shard::vectors::stored::stored_vectors;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

/// How often a read is done again because transactions over several shards came or went.
const READS_MAX: usize = 16;

/// A write of a vector whose index was found.
pub(crate) struct Resolved {
    index: Arc<VectorIndex>,
    key: [u8; 16],
    /// Its record; `None` removes it.
    value: Option<Bytes>,
}

/// Finds the indexes of a batch's vectors, in the order of the batch, and checks the vectors.
///
/// # Errors
/// `NotFound` for an index that is not there; `InvalidArgument` for a vector that its index cannot
/// hold, with its id; `Refused` if there is no memory for more.
pub(crate) fn resolve(shard: &Shard, writes: &[Write]) -> Result<Vec<Resolved>> {
    let mut resolved = Vec::new();
    let mut has_room = false;
    for write in writes {
        match write {
            Write::PutVector { index, id, vector, payload } => {
                if !std::mem::replace(&mut has_room, true) {
                    shard.vectors.check_room()?;
                }
                let index = shard.vectors.get(index)?;
                check(&index, vector, payload)
                    .map_err(|e| e.context(format_args!("vector {}", id.get())))?;
                let key = record::vector_key(index.id, *id);
                resolved.push(Resolved {
                    index,
                    key,
                    value: Some(record::encode(vector, payload)),
                });
            }
            Write::DeleteVector { index, id } => {
                let index = shard.vectors.get(index)?;
                let key = record::vector_key(index.id, *id);
                resolved.push(Resolved { index, key, value: None });
            }
            Write::Put { .. } | Write::Delete { .. } | Write::Merge { .. } => {}
        }
    }
    Ok(resolved)
}

fn check(index: &VectorIndex, vector: &Floats, payload: &[u8]) -> Result<()> {
    if vector.len() != index.spec.dim as usize {
        let (has, dim) = (vector.len(), index.spec.dim);
        let message = format!("it has {has} dimensions, the index `{}` {dim}", index.spec.name);
        return Err(Error::invalid(message));
    }
    metric(index.spec.metric).check(&vector.to_vec(), index.spec.dim as usize)?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::invalid(format!(
            "its payload has {} bytes; at most {PAYLOAD_BYTES_MAX} are allowed",
            payload.len()
        )));
    }
    if payload.is_empty() {
        return Ok(());
    }
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(payload) {
        Ok(_) => Ok(()),
        Err(e) => Err(Error::invalid(format!("its payload is no JSON object: {e}"))),
    }
}

/// The latches that writes of vectors need.
pub(crate) fn stripes(resolved: &[Resolved]) -> impl Iterator<Item = Stripe> {
    resolved.iter().map(|one| latch::stripe(CfId::VECTORS, &one.key))
}

/// Whether the indexes are still there: none whose end has been placed in the log.
/// REQUIRES: the latches.
///
/// # Errors
/// `NotFound`.
pub(crate) fn still_there(resolved: &[Resolved]) -> Result<()> {
    match resolved.iter().find(|one| one.index.is_dropped() || one.index.is_leaving()) {
        Some(gone) => Err(no_such_index(&gone.index.spec.name)),
        None => Ok(()),
    }
}

/// Whether every key of another shard is one that these write: if not, an index was dropped and
/// created anew since the key was made of its number.
///
/// # Errors
/// `Unavailable`.
pub(crate) fn are_written(resolved: &[Resolved], far: &[Bytes]) -> Result<()> {
    let written: HashSet<&[u8]> = resolved.iter().map(|one| &one.key[..]).collect();
    if far.iter().all(|key| written.contains(&key[..])) {
        return Ok(());
    }
    let message = "an index was created anew meanwhile, and nothing was written; try again";
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// Whether a vector of this key may be written, or removed if that is all: its index may be about to
/// be created here.
///
/// # Errors
/// `Unavailable` if there is none; `Refused` if there is no memory for more vectors.
pub(crate) fn check_takes(shard: &Shard, key: &[u8], removes: bool) -> Result<()> {
    if !has_index_of(shard, key) {
        let message = "the vector's index is not in this shard now; try again";
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    if removes { Ok(()) } else { shard.vectors.check_room() }
}

/// Whether there is the index that a vector's key names.
pub(crate) fn has_index_of(shard: &Shard, key: &[u8]) -> bool {
    let Some(Key::Vector(id, _)) = record::parse_key(key) else { return false };
    shard.vectors.has(id)
}

/// Has a transaction make the next of the writes that were resolved.
pub(crate) fn put(txn: &mut Transaction<'_>, one: &Resolved) -> Result<()> {
    match &one.value {
        Some(value) => txn.put(CfId::VECTORS, &one.key, value.clone(), Meta::default()),
        None => txn.delete(CfId::VECTORS, &one.key),
    }
}

/// Executes a call. Reads see what is committed: see [`Shard::settle`].
pub(crate) fn execute(shard: &Arc<Shard>, call: VectorCall, now_ms: u64) -> Result<Answer> {
    let answer = match call {
        VectorCall::Create(spec) => return create(shard, spec, now_ms),
        VectorCall::Drop { index } => return drop_index(shard, &index, now_ms),
        VectorCall::Get { index, ids } => return fetch(shard, &index, &ids, &|_, _| true, now_ms),
        VectorCall::Fetch { index, records } => {
            let ids: Vec<VectorId> = records.iter().map(|(id, _)| *id).collect();
            let is_same = |at: usize, seq: Seq| records[at].1 == seq.0;
            return fetch(shard, &index, &ids, &is_same, now_ms);
        }
        VectorCall::List => {
            let infos = shard.vectors.all().iter().map(|index| index.info()).collect();
            VectorAnswer::Indexes(infos)
        }
        VectorCall::Describe { index } => {
            VectorAnswer::Index(Box::new(shard.vectors.get(&index)?.info()))
        }
        VectorCall::Walk { index, after, limit } => {
            let walk = || page(shard, &index, after, limit);
            return unlocked(shard, &index, now_ms, walk);
        }
        VectorCall::Search(search) => {
            let vectors = &shard.vectors;
            let index = vectors.get(&search.index)?;
            let search_it = || {
                vectors.are_told(&index)?;
                vectors.leave_room_for_fields(&index);
                index.search(&shard.engine, &search, &*vectors.clock)
            };
            return unlocked(shard, &search.index, now_ms, || search_it().map(VectorAnswer::Found));
        }
        VectorCall::Verify { index } => {
            let index = shard.vectors.get(&index)?;
            // What a split has given away is no damage.
            shard.vectors.are_told(&index)?;
            VectorAnswer::Checked(index.verify(&shard.engine)?)
        }
    };
    Ok(settled(answer))
}

/// Reads an index while none of its vectors is locked by a transaction over several shards: one of
/// them that is committed, and not finished here, would be missed.
fn unlocked(
    shard: &Arc<Shard>,
    index: &str,
    now_ms: u64,
    read: impl Fn() -> Result<VectorAnswer>,
) -> Result<Answer> {
    let prefix = record::prefix(shard.vectors.get(index)?.id);
    for _ in 0..READS_MAX {
        let moment = shard.vectors_unlocked_since();
        if shard.may_have_locks()
            && let Some(lock) = shard.first_lock_of_prefix(CfId::VECTORS, &prefix)?
        {
            shard.locks.hold(now_ms);
            return Ok(Answer::settled(Response::Locked(lock)));
        }
        let answer = read()?;
        if shard.vectors_unlocked_since() == moment {
            return Ok(settled(answer));
        }
        // Some have been locked or unlocked: no more of that for a moment.
        shard.locks.hold(now_ms);
    }
    let message = "transactions over several shards change the index all the time; try again";
    Err(Error::new(ErrorKind::Busy, message))
}

fn settled(answer: VectorAnswer) -> Answer {
    Answer::settled(Response::Vector(Box::new(answer)))
}

fn create(shard: &Arc<Shard>, spec: IndexSpec, now_ms: u64) -> Result<Answer> {
    let spec = spec.with_defaults();
    spec.check()?;
    graph_config(&spec).check()?;
    pq_config(&spec).check()?;
    let _held = shard.latches.all();
    let began = shard.commits.epoch();
    shard.barrier()?;
    if shard.vectors.get(&spec.name).is_ok() {
        let message = format!("there is a vector index `{}` already", spec.name);
        return Err(Error::new(ErrorKind::AlreadyExists, message));
    }
    let next = shard.engine.get(CfId::VECTORS, &record::NEXT_KEY, &ReadOptions::default())?;
    let next = next.and_then(|found| Some(u64::from_le_bytes(found.value[..].try_into().ok()?)));
    let id = IndexId(next.unwrap_or(1));
    let mut batch = WriteBatch::new();
    put_index(&mut batch, &NamedIndex { id, spec: spec.clone() });
    let ticket = shard.place(&mut batch, now_ms, began)?;
    shard.wait_committed(ticket)?;
    let info = shard.vectors.get(&spec.name)?.info();
    let response = Response::Vector(Box::new(VectorAnswer::Index(Box::new(info))));
    Ok(Answer { response, rests_on: ticket })
}

pub(super) fn put_index(batch: &mut WriteBatch, index: &NamedIndex) {
    let (next, meta) = (index.id.0 + 1, Meta::default());
    batch.put_with(CfId::VECTORS, &record::NEXT_KEY, &next.to_le_bytes(), meta, Counts::Unknown);
    let value = record::encode_index(&index.spec);
    batch.put_with(CfId::VECTORS, &record::index_key(index.id), &value, meta, Counts::Unknown);
}

pub(super) fn delete_index(batch: &mut WriteBatch, id: IndexId) {
    batch.delete_cf(CfId::VECTORS, &record::index_key(id));
    let end = record::prefix(IndexId(id.0 + 1));
    batch.delete_range_cf(CfId::VECTORS, &record::prefix(id), &end);
}

fn drop_index(shard: &Arc<Shard>, name: &str, now_ms: u64) -> Result<Answer> {
    let _held = shard.latches.all();
    let began = shard.commits.epoch();
    shard.barrier()?;
    let index = shard.vectors.get(name)?;
    let mut batch = WriteBatch::new();
    delete_index(&mut batch, index.id);
    let ticket = shard.place(&mut batch, now_ms, began)?;
    shard.wait_committed(ticket)?;
    let response = Response::Vector(Box::new(VectorAnswer::Done));
    Ok(Answer { response, rests_on: ticket })
}

/// Fetches vectors, those that are `wanted` by their places and the numbers of their records.
fn fetch(
    shard: &Arc<Shard>,
    name: &str,
    ids: &[VectorId],
    wanted: &dyn Fn(usize, Seq) -> bool,
    now_ms: u64,
) -> Result<Answer> {
    if ids.len() > FETCH_MAX {
        let message = format!("{} ids are asked for; at most {FETCH_MAX} at a time", ids.len());
        return Err(Error::invalid(message));
    }
    let index = shard.vectors.get(name)?;
    // Those of one batch are seen together.
    let key = |id: &VectorId| record::vector_key(index.id, *id);
    let stripes = ids.iter().map(|id| latch::stripe(CfId::VECTORS, &key(id))).collect();
    let _held = shard.latches.many(stripes);
    let mut txn = Transaction::new(shard, now_ms);
    let (mut vectors, mut room) = (Vec::with_capacity(ids.len()), AnswerRoom::default());
    for (at, id) in ids.iter().enumerate() {
        match txn.glance(CfId::VECTORS, &key(id)) {
            Ok(held) => {
                let held = held.filter(|held| wanted(at, held.seq));
                let stored = held.map(|held| record::decode(id.get(), &held.value)).transpose()?;
                stored.iter().try_for_each(|stored| room.take(stored))?;
                vectors.push(stored);
            }
            Err(error) => return txn.turned_away(error),
        }
    }
    let response = Response::Vector(Box::new(VectorAnswer::Vectors(vectors)));
    Ok(Answer { response, rests_on: txn.rests_on() })
}

fn page(shard: &Arc<Shard>, name: &str, after: Option<u64>, limit: u32) -> Result<VectorAnswer> {
    if limit > PAGE_MAX {
        let message = format!("the limit is {limit}; at most {PAGE_MAX} vectors at a time");
        return Err(Error::invalid(message));
    }
    let limit = if limit == 0 { PAGE_DEFAULT } else { limit } as usize;
    let index = shard.vectors.get(name)?;
    let (vectors, next) = stored_vectors(&shard.engine, index.id, after, limit)?;
    Ok(VectorAnswer::Page { vectors, next })
}

impl Shard {
    /// The indexes of vectors, by their numbers.
    pub fn vector_indexes(&self) -> Vec<NamedIndex> {
        let all = self.vectors.all();
        let mut all: Vec<NamedIndex> =
            all.iter().map(|i| NamedIndex { id: i.id, spec: i.spec.clone() }).collect();
        all.sort_by_key(|index| index.id);
        all
    }

    /// Has the log create and drop indexes, as a catalog tells; it is done when the ticket is
    /// committed. An index whose number is known is passed over.
    ///
    /// # Errors
    /// If the log did not take it: nothing will be done then.
    pub fn change_vector_indexes(
        self: &Arc<Self>,
        drop: &[IndexId],
        create: &[NamedIndex],
        clock_ms: u64,
    ) -> Result<Ticket> {
        if drop.is_empty() && create.is_empty() {
            return Ok(Ticket::default());
        }
        let now_ms = self.advance_now(clock_ms);
        // So that no vector is placed behind the end of its index.
        let _held = self.latches.all();
        let began = self.commits.epoch();
        let mut batch = WriteBatch::new();
        drop.iter().for_each(|id| delete_index(&mut batch, *id));
        create.iter().for_each(|index| put_index(&mut batch, index));
        let ticket = self.place(&mut batch, now_ms, began)?;
        // Still under the latches. The catalog has dropped it: what is lost of this is done anew.
        for index in self.vectors.all().iter().filter(|index| drop.contains(&index.id)) {
            index.leave();
        }
        Ok(ticket)
    }
}
