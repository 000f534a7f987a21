//! Answers, or the errors in their place.
//!
//! ```text
//! answer: 0 error | [kind u8][fields]
//! 1 entry        entry?
//! 2 committed    seq
//! 3 conditional  applied u8, seq, entry?
//! 4 page         count, entries, next
//! 5 deleted      count
//! 6 family       id, name          7 families  count, families        8 done
//! 9 redis        reply
//! 10 watched     count, watched
//! 11 stats       12 numbers, sync, log failed u8, count, figures (name, number)
//! 12 transaction step   see `txn`     13 locked  lock     14 vectors  see `vector`
//! entry: key, value, seq, 0 | 1 expire_at_ms          entry?: 0 | 1 entry
//! ```

use crate::base::codec::{put_bytes, put_varint};
use crate::base::{CfId, Error, Result, Seq};
use crate::op::Response;
use crate::op::kv::{CfInfo, Entry, Stats};
use crate::op::wire::cut::many;
use crate::op::wire::names::interned;
use crate::op::wire::{put_reply, read_reply};
use crate::rpc::ops::error::{put_error, read_error};
use crate::rpc::ops::request::{put_all_watched, read_all_watched};
use crate::rpc::ops::{Cut, txn, vector};

/// The kind of an answer to a step of a transaction.
pub(super) const TXN: u8 = 12;

/// Appends an answer.
pub fn put_response(out: &mut Vec<u8>, answer: &Result<Response>) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            out.push(0);
            return put_error(out, error);
        }
    };
    match answer {
        Response::Entry(entry) => {
            out.push(1);
            put_optional_entry(out, entry.as_ref());
        }
        Response::Committed { seq } => {
            out.push(2);
            put_varint(out, seq.0);
        }
        Response::Conditional { applied, seq, current } => {
            out.extend([3, u8::from(*applied)]);
            put_varint(out, seq.0);
            put_optional_entry(out, current.as_ref());
        }
        Response::Page { entries, next } => {
            out.push(4);
            put_varint(out, entries.len() as u64);
            entries.iter().for_each(|entry| put_entry(out, entry));
            put_bytes(out, next);
        }
        Response::Deleted(count) => {
            out.push(5);
            put_varint(out, *count);
        }
        Response::ColumnFamily(family) => {
            out.push(6);
            put_family(out, family);
        }
        Response::ColumnFamilies(families) => {
            out.push(7);
            put_varint(out, families.len() as u64);
            families.iter().for_each(|family| put_family(out, family));
        }
        Response::Done => out.push(8),
        Response::Redis(reply) => {
            out.push(9);
            put_reply(out, reply);
        }
        Response::Watched(watched) => {
            out.push(10);
            put_all_watched(out, watched);
        }
        Response::Stats(stats) => {
            out.push(11);
            put_stats(out, stats);
        }
        Response::Txn(answer) => {
            out.push(TXN);
            txn::put_answer(out, answer);
        }
        Response::Locked(lock) => {
            out.push(13);
            txn::put_lock(out, lock);
        }
        Response::Vector(answer) => {
            out.push(14);
            vector::put_answer(out, answer);
        }
    }
}

/// The next answer.
///
/// # Errors
/// `InvalidArgument` if the bytes are none; `Unsupported` if a newer version wrote them.
pub fn read_response(cut: &mut Cut<'_>) -> Result<Result<Response>> {
    Ok(Ok(match cut.u8()? {
        0 => return Ok(Err::<Response, Error>(read_error(cut)?)),
        1 => Response::Entry(read_optional_entry(cut)?),
        2 => Response::Committed { seq: Seq(cut.varint()?) },
        3 => Response::Conditional {
            applied: cut.bool()?,
            seq: Seq(cut.varint()?),
            current: read_optional_entry(cut)?,
        },
        4 => Response::Page { entries: many(cut, 4, read_entry)?, next: cut.bytes()? },
        5 => Response::Deleted(cut.varint()?),
        6 => Response::ColumnFamily(read_family(cut)?),
        7 => Response::ColumnFamilies(many(cut, 2, read_family)?),
        8 => Response::Done,
        9 => Response::Redis(read_reply(cut)?),
        10 => Response::Watched(read_all_watched(cut)?),
        11 => Response::Stats(Box::new(read_stats(cut)?)),
        TXN => Response::Txn(Box::new(txn::read_answer(cut)?)),
        14 => Response::Vector(Box::new(vector::read_answer(cut)?)),
        13 => Response::Locked(txn::read_lock(cut)?),
        kind => return Err(cut.unknown(kind.into())),
    }))
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_bytes(out, &entry.key);
    put_bytes(out, &entry.value);
    put_varint(out, entry.seq.0);
    out.push(entry.expire_at_ms.is_some().into());
    entry.expire_at_ms.into_iter().for_each(|ms| put_varint(out, ms));
}

fn read_entry(cut: &mut Cut<'_>) -> Result<Entry> {
    Ok(Entry {
        key: cut.bytes()?,
        value: cut.bytes()?,
        seq: Seq(cut.varint()?),
        expire_at_ms: if cut.bool()? { Some(cut.varint()?) } else { None },
    })
}

fn put_optional_entry(out: &mut Vec<u8>, entry: Option<&Entry>) {
    out.push(entry.is_some().into());
    entry.into_iter().for_each(|entry| put_entry(out, entry));
}

fn read_optional_entry(cut: &mut Cut<'_>) -> Result<Option<Entry>> {
    if cut.bool()? { read_entry(cut).map(Some) } else { Ok(None) }
}

fn put_family(out: &mut Vec<u8>, family: &CfInfo) {
    put_varint(out, family.id.0.into());
    put_bytes(out, family.name.as_bytes());
}

fn read_family(cut: &mut Cut<'_>) -> Result<CfInfo> {
    Ok(CfInfo { id: CfId(cut.varint32()?), name: cut.text()?.to_string() })
}

fn put_stats(out: &mut Vec<u8>, stats: &Stats) {
    // Taken apart whole, so that a new figure is not forgotten here.
    let Stats {
        keys,
        expires,
        avg_ttl_ms,
        expired_keys,
        keyspace_hits,
        keyspace_misses,
        last_seq,
        memtable_bytes,
        cache_bytes,
        table_bytes,
        log_bytes,
        sync,
        log_failed,
        memory_budget_bytes,
        more,
    } = stats;
    let numbers = [
        keys,
        expires,
        avg_ttl_ms,
        expired_keys,
        keyspace_hits,
        keyspace_misses,
        last_seq,
        memtable_bytes,
        cache_bytes,
        table_bytes,
        log_bytes,
        memory_budget_bytes,
    ];
    numbers.into_iter().for_each(|n| put_varint(out, *n));
    put_bytes(out, sync.as_bytes());
    out.push((*log_failed).into());
    put_varint(out, more.len() as u64);
    for (name, number) in more {
        put_bytes(out, name.as_bytes());
        put_varint(out, *number);
    }
}

fn read_stats(cut: &mut Cut<'_>) -> Result<Stats> {
    Ok(Stats {
        keys: cut.varint()?,
        expires: cut.varint()?,
        avg_ttl_ms: cut.varint()?,
        expired_keys: cut.varint()?,
        keyspace_hits: cut.varint()?,
        keyspace_misses: cut.varint()?,
        last_seq: cut.varint()?,
        memtable_bytes: cut.varint()?,
        cache_bytes: cut.varint()?,
        table_bytes: cut.varint()?,
        log_bytes: cut.varint()?,
        memory_budget_bytes: cut.varint()?,
        sync: interned(cut.text()?)?,
        log_failed: cut.bool()?,
        more: many(cut, 2, |cut| Ok((interned(cut.text()?)?, cut.varint()?)))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;
    use crate::base::IndexId;
    use crate::op::Reply;
    use crate::op::kv::{RequestId, Watched};
    use crate::op::txn::{Lock, Locked, Txn, TxnAnswer, TxnCommitted, TxnUnfinished, TxnWrite};
    use crate::op::vector::text::{TextMatch, TextStats};
    use crate::op::vector::{
        Checked, Floats, IndexInfo, IndexSpec, Metric, SearchCost, StoredVector, VectorAnswer,
        VectorHit, VectorsFound,
    };
    use bytes::Bytes;

    fn comes_back(answer: Response) {
        let mut out = Vec::new();
        put_response(&mut out, &Ok(answer.clone()));
        let bytes = Bytes::from(out);
        let mut cut = Cut::new(&bytes, "an answer");
        assert_eq!(read_response(&mut cut).unwrap().unwrap(), answer);
        cut.end().unwrap();
        for end in 0..bytes.len() {
            let part = bytes.slice(..end);
            assert!(read_response(&mut Cut::new(&part, "")).is_err(), "{answer:?} at {end}");
        }
    }

    #[test]
    fn every_answer_about_vectors_comes_back() {
        let vectors = |answer| Response::Vector(Box::new(answer));
        let (floats, payload) = (Floats::of(&[0.5, 3.0]), Bytes::from_static(b"{}"));
        let info = IndexInfo {
            id: IndexId(3),
            spec: IndexSpec::new("docs", 2, Metric::L2),
            vectors: 1,
            waiting: 2,
            fresh: 3,
            sealed: 4,
            segments: 5,
            dead: 6,
            memory_bytes: 7,
            disk_bytes: 8,
            rebuilt: 9,
            nodes: Vec::new(),
            postings: 10,
        };
        let stored = StoredVector { id: 7, vector: floats.clone(), payload: payload.clone() };
        let hit = VectorHit {
            payload: Some(payload),
            vector: Some(floats),
            score: Some(0.25),
            text: Some(TextMatch { words: 300, times: vec![0, 2] }),
            seq: 1 << 40,
            ..VectorHit::new(7, 0.5)
        };
        let all = [
            vectors(VectorAnswer::Index(Box::new(info.clone()))),
            vectors(VectorAnswer::Indexes(vec![info])),
            vectors(VectorAnswer::Done),
            vectors(VectorAnswer::Dropped(IndexId(300))),
            vectors(VectorAnswer::Vectors(vec![None, Some(stored.clone())])),
            vectors(VectorAnswer::Page { vectors: vec![stored], next: Some(9) }),
            vectors(VectorAnswer::Found(VectorsFound {
                hits: vec![hit],
                cost: SearchCost { distances: 1, micros: 300, exact: true, ..Default::default() },
                text: Some(TextStats { texts: 4, words: 1 << 40, having: vec![3, 300] }),
            })),
            vectors(VectorAnswer::Checked(Checked { stored: 1, missing: 2, surplus: 300 })),
        ];
        all.into_iter().for_each(comes_back);
    }

    #[test]
    fn every_answer_comes_back_and_a_cut_one_is_an_error() {
        let entry = |expire_at_ms| Entry {
            key: "k".into(),
            value: "v".into(),
            seq: Seq(300),
            expire_at_ms,
        };
        let family = CfInfo { id: CfId(3), name: "events".into() };
        let stats = Stats {
            keys: 1,
            expires: 2,
            avg_ttl_ms: 3,
            expired_keys: 4,
            keyspace_hits: 5,
            keyspace_misses: 6,
            last_seq: 7,
            memtable_bytes: 8,
            cache_bytes: 9,
            table_bytes: 10,
            log_bytes: 11,
            sync: "always",
            log_failed: true,
            memory_budget_bytes: 12,
            more: vec![("flushes", 13)],
        };
        let txn = Txn { id: RequestId { client: 1, request: 300 }, attempt: 1, home: 2 };
        let answer = |answer| Response::Txn(Box::new(answer));
        let watched = Watched { key: "k".into(), at: Seq(2), existed: false };
        let all = [
            Response::Entry(None),
            Response::Entry(Some(entry(None))),
            Response::Committed { seq: Seq::MAX },
            Response::Conditional { applied: true, seq: Seq(1), current: None },
            Response::Conditional { applied: false, seq: Seq(0), current: Some(entry(Some(7))) },
            Response::Page { entries: vec![entry(Some(1)), entry(None)], next: "n".into() },
            Response::Deleted(u64::MAX),
            Response::ColumnFamily(family.clone()),
            Response::ColumnFamilies(vec![family]),
            Response::Done,
            Response::Redis(Reply::Int(-1)),
            Response::Watched(vec![watched]),
            Response::Stats(Box::new(stats)),
            Response::Locked(Lock { txn, slot: 7 }),
            answer(TxnAnswer::Prepared(vec![Locked { cf: CfId(1), key: "k".into(), holds: None }])),
            answer(TxnAnswer::Committed(Box::new(TxnCommitted {
                attempt: 2,
                answer: Some(Response::Redis(Reply::Array(vec![Reply::OK]))),
                slots: vec![1, 16_383],
                writes: vec![TxnWrite { cf: CfId(1), key: "k".into(), becomes: None }],
            }))),
            answer(TxnAnswer::Aborted { through: 9 }),
            answer(TxnAnswer::Open),
            answer(TxnAnswer::Done),
            answer(TxnAnswer::Stamp(1 << 50)),
            answer(TxnAnswer::Unfinished(vec![TxnUnfinished {
                txn,
                slots: vec![3],
                is_home: true,
            }])),
        ];
        all.into_iter().for_each(comes_back);
        let mut nested = Response::Done;
        for _ in 0..2 {
            nested = answer(TxnAnswer::Committed(Box::new(TxnCommitted {
                attempt: 0,
                answer: Some(nested),
                slots: vec![],
                writes: vec![],
            })));
        }
        let mut out = Vec::new();
        put_response(&mut out, &Ok(nested));
        assert!(read_response(&mut Cut::new(&out.into(), "")).is_err(), "an answer in an answer");
        let mut out = Vec::new();
        put_response(&mut out, &Err(Error::new(ErrorKind::Busy, "later")));
        let bytes = Bytes::from(out);
        let error = read_response(&mut Cut::new(&bytes, "")).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
    }
}
