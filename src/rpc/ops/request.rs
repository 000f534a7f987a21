//! Requests.
//!
//! ```text
//! request:  [kind u8][fields]
//! 1 get                 cf, key
//! 2 write               count, writes, id
//! 3 put if              cf, key, value?, expiry, condition, id
//! 4 scan                cf, prefix, start, end, limit, flags u8 (1 reverse, 2 keys only), cursor
//! 5 delete by prefix    cf, prefix
//! 6 create family       name        7 drop family  cf        8 list families
//! 9 redis               call
//! 10 redis transaction  count, watched, count, calls, reply_bytes_max
//! 11 watch              count, keys
//! 12 stats
//! 13 transaction step   see `txn`     14 vectors  see `vector`
//! write:     1 put cf, key, value, expiry | 2 delete cf, key | 3 merge cf, key, operand, op u8
//!            | 4 put vector name, id u64, floats, payload | 5 delete vector name, id u64
//! expiry:    0 never | 1 in ms | 2 at ms | 3 keep
//! condition: 0 none | 1 absent | 2 present | 3 seq
//! id:        0 | 1 client u64, request
//! value?:    0 | 1 bytes
//! call:      count, arguments; the first is the command's name
//! watched:   key, at, existed u8
//! ```

use crate::base::codec::{put_bytes, put_varint};
use crate::base::{CfId, Result, Seq};
use crate::op::command;
use crate::op::kv::{
    Condition, Expiry, MergeOp, RedisCall, Request, RequestId, Scan, Watched, Write,
};
use crate::op::vector::VectorId;
use crate::op::wire::cut::many;
use crate::rpc::ops::{Cut, txn, vector};
use bytes::Bytes;

/// Appends a request.
pub fn put_request(out: &mut Vec<u8>, request: &Request) {
    match request {
        Request::Get { cf, key } => {
            out.push(1);
            put_place(out, *cf, key);
        }
        Request::Write { writes, id } => {
            out.push(2);
            put_varint(out, writes.len() as u64);
            writes.iter().for_each(|write| put_write(out, write));
            put_id(out, *id);
        }
        Request::PutIf { cf, key, value, expiry, condition, id, seal } => {
            out.push(if *seal { 15 } else { 3 });
            put_place(out, *cf, key);
            put_optional(out, value.as_ref());
            put_expiry(out, *expiry);
            put_condition(out, *condition);
            put_id(out, *id);
        }
        Request::Scan(scan) => {
            out.push(4);
            put_scan(out, scan);
        }
        Request::DeleteByPrefix { cf, prefix } => {
            out.push(5);
            put_place(out, *cf, prefix);
        }
        Request::CreateCf { name } => {
            out.push(6);
            put_bytes(out, name.as_bytes());
        }
        Request::DropCf { cf } => {
            out.push(7);
            put_varint(out, cf.0.into());
        }
        Request::ListCfs => out.push(8),
        Request::Redis(call) => {
            out.push(9);
            put_call(out, call);
        }
        Request::RedisTransaction { watched, calls, reply_bytes_max } => {
            out.push(10);
            put_varint(out, watched.len() as u64);
            watched.iter().for_each(|watch| put_watched(out, watch));
            put_varint(out, calls.len() as u64);
            calls.iter().for_each(|call| put_call(out, call));
            put_varint(out, *reply_bytes_max);
        }
        Request::Watch { keys } => {
            out.push(11);
            put_varint(out, keys.len() as u64);
            keys.iter().for_each(|key| put_bytes(out, key));
        }
        Request::Stats => out.push(12),
        Request::Txn(call) => {
            out.push(13);
            txn::put_call(out, call);
        }
        Request::Vector(call) => {
            out.push(14);
            vector::put_call(out, call);
        }
    }
}

/// The next request.
///
/// # Errors
/// `InvalidArgument` if the bytes are none, or name a command that is not called so;
/// `Unsupported` if a newer version wrote them.
pub fn read_request(cut: &mut Cut<'_>) -> Result<Request> {
    Ok(match cut.u8()? {
        1 => Request::Get { cf: cf(cut)?, key: cut.bytes()? },
        2 => {
            let writes = many(cut, 3, read_write)?;
            Request::Write { writes, id: read_id(cut)? }
        }
        kind @ (3 | 15) => Request::PutIf {
            cf: cf(cut)?,
            key: cut.bytes()?,
            value: if cut.bool()? { Some(cut.bytes()?) } else { None },
            expiry: read_expiry(cut)?,
            condition: read_condition(cut)?,
            id: read_id(cut)?,
            seal: kind == 15,
        },
        4 => Request::Scan(read_scan(cut)?),
        5 => Request::DeleteByPrefix { cf: cf(cut)?, prefix: cut.bytes()? },
        6 => Request::CreateCf { name: cut.text()?.to_string() },
        7 => Request::DropCf { cf: cf(cut)? },
        8 => Request::ListCfs,
        9 => Request::Redis(read_call(cut)?),
        10 => Request::RedisTransaction {
            watched: many(cut, 3, read_watched)?,
            calls: many(cut, 2, read_call)?,
            reply_bytes_max: cut.varint()?,
        },
        11 => Request::Watch { keys: many(cut, 1, Cut::bytes)? },
        12 => Request::Stats,
        13 => Request::Txn(Box::new(txn::read_call(cut)?)),
        14 => Request::Vector(Box::new(vector::read_call(cut)?)),
        kind => return Err(cut.unknown(kind.into())),
    })
}

fn put_place(out: &mut Vec<u8>, cf: CfId, key: &Bytes) {
    put_varint(out, cf.0.into());
    put_bytes(out, key);
}

fn cf(cut: &mut Cut<'_>) -> Result<CfId> {
    cut.varint32().map(CfId)
}

pub(super) fn put_optional(out: &mut Vec<u8>, value: Option<&Bytes>) {
    out.push(value.is_some().into());
    value.into_iter().for_each(|value| put_bytes(out, value));
}

fn put_write(out: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Put { cf, key, value, expiry } => {
            out.push(1);
            put_place(out, *cf, key);
            put_bytes(out, value);
            put_expiry(out, *expiry);
        }
        Write::Delete { cf, key } => {
            out.push(2);
            put_place(out, *cf, key);
        }
        Write::Merge { cf, key, operand, op } => {
            out.push(3);
            put_place(out, *cf, key);
            put_bytes(out, operand);
            out.push(*op as u8);
        }
        Write::PutVector { index, id, vector, payload } => {
            out.push(4);
            put_vector_place(out, index, *id);
            vector::put_floats(out, vector);
            put_bytes(out, payload);
        }
        Write::DeleteVector { index, id } => {
            out.push(5);
            put_vector_place(out, index, *id);
        }
    }
}

fn put_vector_place(out: &mut Vec<u8>, index: &str, id: VectorId) {
    put_bytes(out, index.as_bytes());
    out.extend_from_slice(&id.get().to_le_bytes());
}

fn read_write(cut: &mut Cut<'_>) -> Result<Write> {
    let kind = cut.u8()?;
    if let 4 | 5 = kind {
        let (index, id) = (cut.text()?.to_string(), VectorId::new(cut.u64()?));
        return Ok(match kind {
            4 => {
                let vector = vector::read_floats(cut)?;
                Write::PutVector { index, id, vector, payload: cut.bytes()? }
            }
            _ => Write::DeleteVector { index, id },
        });
    }
    let (cf, key) = (cf(cut)?, cut.bytes()?);
    Ok(match kind {
        1 => Write::Put { cf, key, value: cut.bytes()?, expiry: read_expiry(cut)? },
        2 => Write::Delete { cf, key },
        3 => {
            let operand = cut.bytes()?;
            let op = cut.u8()?;
            let op = MergeOp::from_u8(op).ok_or_else(|| cut.unknown(op.into()))?;
            Write::Merge { cf, key, operand, op }
        }
        kind => return Err(cut.unknown(kind.into())),
    })
}

fn put_expiry(out: &mut Vec<u8>, expiry: Expiry) {
    let (kind, ms) = match expiry {
        Expiry::Never => (0, None),
        Expiry::InMs(ms) => (1, Some(ms)),
        Expiry::AtMs(ms) => (2, Some(ms)),
        Expiry::Keep => (3, None),
    };
    out.push(kind);
    ms.into_iter().for_each(|ms| put_varint(out, ms));
}

fn read_expiry(cut: &mut Cut<'_>) -> Result<Expiry> {
    Ok(match cut.u8()? {
        0 => Expiry::Never,
        1 => Expiry::InMs(cut.varint()?),
        2 => Expiry::AtMs(cut.varint()?),
        3 => Expiry::Keep,
        kind => return Err(cut.unknown(kind.into())),
    })
}

fn put_condition(out: &mut Vec<u8>, condition: Condition) {
    match condition {
        Condition::None => out.push(0),
        Condition::Absent => out.push(1),
        Condition::Present => out.push(2),
        Condition::SeqIs(seq) => {
            out.push(3);
            put_varint(out, seq.0);
        }
    }
}

fn read_condition(cut: &mut Cut<'_>) -> Result<Condition> {
    Ok(match cut.u8()? {
        0 => Condition::None,
        1 => Condition::Absent,
        2 => Condition::Present,
        3 => Condition::SeqIs(Seq(cut.varint()?)),
        kind => return Err(cut.unknown(kind.into())),
    })
}

fn put_id(out: &mut Vec<u8>, id: Option<RequestId>) {
    out.push(id.is_some().into());
    if let Some(id) = id {
        out.extend_from_slice(&id.client.to_le_bytes());
        put_varint(out, id.request);
    }
}

fn read_id(cut: &mut Cut<'_>) -> Result<Option<RequestId>> {
    if !cut.bool()? {
        return Ok(None);
    }
    Ok(Some(RequestId { client: cut.u64()?, request: cut.varint()? }))
}

fn put_scan(out: &mut Vec<u8>, scan: &Scan) {
    put_varint(out, scan.cf.0.into());
    [&scan.prefix, &scan.start, &scan.end].into_iter().for_each(|bytes| put_bytes(out, bytes));
    put_varint(out, scan.limit.into());
    out.push(u8::from(scan.reverse) | u8::from(scan.keys_only) << 1);
    put_bytes(out, &scan.cursor);
}

fn read_scan(cut: &mut Cut<'_>) -> Result<Scan> {
    let cf = cf(cut)?;
    let (prefix, start, end) = (cut.bytes()?, cut.bytes()?, cut.bytes()?);
    let (limit, flags) = (cut.varint32()?, cut.u8()?);
    if flags > 3 {
        return Err(cut.unknown(flags.into()));
    }
    let (reverse, keys_only) = (flags & 1 != 0, flags & 2 != 0);
    Ok(Scan { cf, prefix, start, end, limit, reverse, keys_only, cursor: cut.bytes()? })
}

fn put_call(out: &mut Vec<u8>, call: &RedisCall) {
    put_varint(out, call.args.len() as u64);
    call.args.iter().for_each(|arg| put_bytes(out, arg));
}

fn read_call(cut: &mut Cut<'_>) -> Result<RedisCall> {
    let args = many(cut, 1, Cut::bytes)?;
    match command::lookup(&args) {
        Ok(spec) => Ok(RedisCall { spec, args }),
        Err(_) => Err(cut.malformed()),
    }
}

fn put_watched(out: &mut Vec<u8>, watched: &Watched) {
    put_bytes(out, &watched.key);
    put_varint(out, watched.at.0);
    out.push(watched.existed.into());
}

fn read_watched(cut: &mut Cut<'_>) -> Result<Watched> {
    Ok(Watched { key: cut.bytes()?, at: Seq(cut.varint()?), existed: cut.bool()? })
}

/// As for requests: what WATCH remembers.
pub(super) fn put_all_watched(out: &mut Vec<u8>, watched: &[Watched]) {
    put_varint(out, watched.len() as u64);
    watched.iter().for_each(|watch| put_watched(out, watch));
}

pub(super) fn read_all_watched(cut: &mut Cut<'_>) -> Result<Vec<Watched>> {
    many(cut, 3, read_watched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;
    use crate::env::Rng;
    use crate::op::route::SLOTS;
    use crate::op::txn::{Holds, Locked, Txn, TxnCall, TxnValue, TxnWrite};
    use crate::op::vector::{
        Filter, Floats, IndexSpec, Metric, TextQuery, VectorCall, VectorQuery, VectorSearch,
    };

    fn call(text: &str) -> RedisCall {
        let args: Vec<Bytes> =
            text.split(' ').map(|a| Bytes::copy_from_slice(a.as_bytes())).collect();
        RedisCall { spec: command::lookup(&args).unwrap(), args }
    }

    fn all() -> Vec<Request> {
        let (cf, key) = (CfId(7), Bytes::from_static(b"k"));
        let id = Some(RequestId { client: u64::MAX, request: 300 });
        let value = Bytes::from_static(b"value");
        let writes = vec![
            Write::Put { cf, key: key.clone(), value: value.clone(), expiry: Expiry::InMs(5) },
            Write::Delete { cf: CfId::DEFAULT, key: Bytes::new() },
            Write::Merge { cf, key: key.clone(), operand: value.clone(), op: MergeOp::Max },
            Write::PutVector {
                index: "docs".into(),
                id: VectorId::new(1 << 40),
                vector: Floats::of(&[1.0, -2.5]),
                payload: Bytes::from_static(b"{}"),
            },
            Write::DeleteVector { index: "docs".into(), id: VectorId::new(7) },
        ];
        let scan = Scan {
            cf,
            prefix: key.clone(),
            limit: 9,
            reverse: true,
            cursor: value.clone(),
            ..Scan::default()
        };
        let put_if = |value, expiry, condition, id: Option<RequestId>| Request::PutIf {
            cf,
            key: key.clone(),
            value,
            expiry,
            condition,
            seal: id.is_some(),
            id,
        };
        vec![
            Request::Get { cf, key: key.clone() },
            Request::Write { writes, id },
            put_if(Some(value.clone()), Expiry::AtMs(1 << 50), Condition::SeqIs(Seq(9)), id),
            put_if(None, Expiry::Keep, Condition::Absent, None),
            put_if(None, Expiry::Never, Condition::Present, None),
            Request::Scan(scan),
            Request::DeleteByPrefix { cf, prefix: key.clone() },
            Request::CreateCf { name: "events".into() },
            Request::DropCf { cf },
            Request::ListCfs,
            Request::Redis(call("SET k v EX 5")),
            Request::RedisTransaction {
                watched: vec![Watched { key: key.clone(), at: Seq(1), existed: true }],
                calls: vec![call("incr n"), call("mget a b c")],
                reply_bytes_max: 1 << 40,
            },
            Request::Watch { keys: vec![key.clone(), value.clone()] },
            Request::Stats,
        ]
        .into_iter()
        .chain(steps(key, value).map(|step| Request::Txn(Box::new(step))))
        .chain(vector_calls().map(|call| Request::Vector(Box::new(call))))
        .collect()
    }

    fn steps(key: Bytes, value: Bytes) -> impl Iterator<Item = TxnCall> {
        let id = RequestId { client: 7, request: 1 << 40 };
        let txn = Txn { id, attempt: 3, home: SLOTS - 1 };
        let cf = CfId(9);
        let holds = Holds { value: value.clone(), tag: 2, expire_at_ms: Some(8), seq: Seq(9) };
        let becomes = TxnValue { value, tag: 1, expire_at_ms: Some(7) };
        let locked = |holds| Locked { cf, key: key.clone(), holds };
        let write = |becomes| TxnWrite { cf, key: key.clone(), becomes };
        [
            TxnCall::Prepare { txn, keys: vec![(cf, key.clone())], values: true, removes: false },
            TxnCall::Prepare { txn, keys: vec![(cf, key.clone())], values: false, removes: true },
            TxnCall::Decide {
                txn,
                request: Box::new(Request::Redis(call("MSET a 1 b 2"))),
                locked: vec![locked(Some(holds)), locked(None)],
            },
            TxnCall::Finish {
                txn,
                committed: true,
                writes: vec![write(Some(becomes)), write(None)],
            },
            TxnCall::Resolve { txn, abort: true },
            TxnCall::Forget { txns: vec![txn, txn] },
            TxnCall::Unfinished { age_ms: 5, max: 6 },
            TxnCall::Stamp { hold: true },
        ]
        .into_iter()
    }

    fn vector_calls() -> impl Iterator<Item = VectorCall> {
        let index = || "docs".to_string();
        let filter = Filter::parse(
            r#"{"a": {"in": ["x", 2, true, 1234567890123456789, 18446744073709551615]},
                "b": {"gte": 1, "lt": 9}, "or": [{"c": {"prefix": "p"}},
                {"not": {"d": {"exists": true}}}]}"#,
        );
        let search = VectorSearch {
            filter: Some(filter.unwrap()),
            distance_max: Some(0.5),
            score_min: Some(-1.0),
            without: Some(3),
            exact: true,
            with_vector: true,
            with_seq: true,
            offset: 300,
            text: Some(TextQuery {
                field: "body".into(),
                text: "some words".into(),
                is_part: true,
            }),
            ..VectorSearch::new(index(), &[0.25, 4.0], 10)
        };
        let stored = VectorSearch {
            query: VectorQuery::Stored(VectorId::new(8)),
            ..VectorSearch::new(index(), &[], 5)
        };
        [
            VectorCall::Create(IndexSpec::new(index(), 384, Metric::Cosine)),
            VectorCall::Drop { index: index() },
            VectorCall::List,
            VectorCall::Describe { index: index() },
            VectorCall::Get { index: index(), ids: vec![VectorId::new(1), VectorId::new(2)] },
            VectorCall::Walk { index: index(), after: Some(4), limit: 500 },
            VectorCall::Search(search),
            VectorCall::Search(stored),
            VectorCall::Verify { index: index() },
            VectorCall::Fetch { index: index(), records: vec![(VectorId::new(1), 1 << 40)] },
        ]
        .into_iter()
    }

    #[test]
    fn steps_within_steps_are_refused() {
        let mut request = Request::Stats;
        for _ in 0..2 {
            let txn = Txn { id: RequestId { client: 1, request: 1 }, attempt: 0, home: 0 };
            let step = TxnCall::Decide { txn, request: Box::new(request), locked: vec![] };
            request = Request::Txn(Box::new(step));
        }
        let mut out = Vec::new();
        put_request(&mut out, &request);
        assert!(read_request(&mut Cut::new(&out.into(), "")).is_err());
    }

    #[test]
    fn every_request_comes_back_and_a_cut_one_is_an_error() {
        for request in all() {
            let mut out = Vec::new();
            put_request(&mut out, &request);
            let bytes = Bytes::from(out);
            let mut cut = Cut::new(&bytes, "a request");
            assert_eq!(read_request(&mut cut).unwrap(), request);
            cut.end().unwrap();
            for end in 0..bytes.len() {
                let part = bytes.slice(..end);
                let error = read_request(&mut Cut::new(&part, "a request")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{request:?} at {end}");
            }
        }
    }

    #[test]
    fn random_and_mutated_bytes_are_errors_or_requests_and_never_more() {
        let mut rng = Rng::new(1);
        let whole: Vec<Vec<u8>> = all()
            .iter()
            .map(|request| {
                let mut out = Vec::new();
                put_request(&mut out, request);
                out
            })
            .collect();
        for _ in 0..20_000 {
            let mut bytes = whole[rng.below(whole.len() as u64) as usize].clone();
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            let bytes = Bytes::from(bytes);
            let mut cut = Cut::new(&bytes, "a request");
            if let Ok(request) = read_request(&mut cut) {
                let mut out = Vec::new();
                put_request(&mut out, &request);
                let again = Bytes::from(out);
                assert_eq!(read_request(&mut Cut::new(&again, "")).unwrap(), request);
            }
        }
    }
}
