//! Requests from the wire to `op`. Every bound of `op` is checked here, so that a client hears
//! what to mend before any work is done.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::op::Request;
use crate::op::kv::{
    BATCH_OPS_MAX, CF_NAME_BYTES_MAX, Condition, EXPIRY_MS_MAX, Expiry, KEY_BYTES_MAX, MergeOp,
    RequestId, SCAN_LIMIT_MAX, Scan, VALUE_BYTES_MAX, Write,
};
use crate::op::vector::VectorId;
use crate::rpc::{cursor, pb, vectors};
use bytes::Bytes;

/// Makes an [`Expiry`] of a message's own `expiry` oneof; the three that there are look alike.
macro_rules! expiry {
    ($oneof:ident, $value:expr) => {
        match $value {
            None | Some(pb::$oneof::Expiry::KeepExpiry(false)) => Ok(Expiry::Never),
            Some(pb::$oneof::Expiry::KeepExpiry(true)) => Ok(Expiry::Keep),
            Some(pb::$oneof::Expiry::TtlMs(ms)) => time("ttl_ms", ms).map(Expiry::InMs),
            Some(pb::$oneof::Expiry::ExpireAtMs(ms)) => time("expire_at_ms", ms).map(Expiry::AtMs),
        }
    };
}

/// A Put: unconditional a write, answered with `Committed`; else answered with `Conditional`.
pub fn put(r: pb::PutRequest) -> Result<Request> {
    let (cf, key, value) = (family(r.cf)?, key("key", r.key)?, value("value", r.value)?);
    let expiry = expiry!(put_request, r.expiry)?;
    let id = request_id(r.request_id)?;
    let condition = match pb::PutCondition::try_from(r.condition) {
        Ok(pb::PutCondition::Unspecified) => {
            return Ok(Request::Write { writes: vec![Write::Put { cf, key, value, expiry }], id });
        }
        Ok(pb::PutCondition::PutIfAbsent) => Condition::Absent,
        Ok(pb::PutCondition::PutIfPresent) => Condition::Present,
        Err(_) => return Err(unknown_number("condition", r.condition)),
    };
    let seal = id.is_some();
    Ok(Request::PutIf { cf, key, value: Some(value), expiry, condition, id, seal })
}

/// A Get, answered with `Entry`.
pub fn get(r: pb::GetRequest) -> Result<Request> {
    Ok(Request::Get { cf: family(r.cf)?, key: key("key", r.key)? })
}

/// A GetWithSeq, answered with `Entry`.
pub fn get_with_seq(r: pb::GetWithSeqRequest) -> Result<Request> {
    Ok(Request::Get { cf: family(r.cf)?, key: key("key", r.key)? })
}

/// A Delete: unconditional a write, answered with `Committed`; else answered with `Conditional`.
pub fn delete(r: pb::DeleteRequest) -> Result<Request> {
    let (cf, key) = (family(r.cf)?, key("key", r.key)?);
    let id = request_id(r.request_id)?;
    if r.expected_seq == 0 {
        return Ok(Request::Write { writes: vec![Write::Delete { cf, key }], id });
    }
    let condition = Condition::SeqIs(expected_seq(r.expected_seq)?);
    let seal = id.is_some();
    Ok(Request::PutIf { cf, key, value: None, expiry: Expiry::Never, condition, id, seal })
}

/// A Merge, answered with `Committed`.
pub fn merge(r: pb::MergeRequest) -> Result<Request> {
    let write = merge_write(r.cf, r.key, r.operand, r.merge_operator)?;
    Ok(Request::Write { writes: vec![write], id: request_id(r.request_id)? })
}

/// A BatchWrite, answered with `Committed`.
pub fn batch_write(r: pb::BatchWriteRequest) -> Result<Request> {
    if r.ops.is_empty() || r.ops.len() > BATCH_OPS_MAX {
        return Err(Error::invalid(format!(
            "a batch takes 1 to {BATCH_OPS_MAX} ops, this one has {}: {}",
            r.ops.len(),
            if r.ops.is_empty() { "leave it out" } else { "split it" }
        )));
    }
    let writes = r
        .ops
        .into_iter()
        .enumerate()
        .map(|(at, op)| write(op).map_err(|e| e.context(format_args!("ops[{at}]"))))
        .collect::<Result<Vec<Write>>>()?;
    Ok(Request::Write { writes, id: request_id(r.request_id)? })
}

fn write(op: pb::WriteOp) -> Result<Write> {
    match op.op {
        Some(pb::write_op::Op::Put(r)) => Ok(Write::Put {
            cf: family(r.cf)?,
            key: key("key", r.key)?,
            value: value("value", r.value)?,
            expiry: expiry!(put_op, r.expiry)?,
        }),
        Some(pb::write_op::Op::Delete(r)) => {
            Ok(Write::Delete { cf: family(r.cf)?, key: key("key", r.key)? })
        }
        Some(pb::write_op::Op::Merge(r)) => merge_write(r.cf, r.key, r.operand, r.merge_operator),
        Some(pb::write_op::Op::VectorPut(r)) => {
            Ok(vectors::put_write(r.index_name, r.vector_id, &r.vector, r.payload))
        }
        Some(pb::write_op::Op::VectorDelete(r)) => {
            Ok(Write::DeleteVector { index: r.index_name, id: VectorId::new(r.vector_id) })
        }
        None => Err(Error::invalid("set one of put, delete, merge, vector_put and vector_delete")),
    }
}

/// A Scan, answered with `Page`. Its cursor is opened: what the `Scan` carries is the place that
/// the executor wrote.
pub fn scan(r: pb::ScanRequest) -> Result<Scan> {
    if r.limit > SCAN_LIMIT_MAX {
        return Err(Error::invalid(format!(
            "limit is {}, at most {SCAN_LIMIT_MAX} are given at a time: ask for fewer and go on \
             with next_cursor",
            r.limit
        )));
    }
    let mut scan = Scan {
        cf: family(r.cf)?,
        prefix: key("prefix", r.prefix)?,
        start: key("start", r.start)?,
        end: key("end", r.end)?,
        limit: r.limit,
        reverse: r.reverse,
        keys_only: r.keys_only,
        cursor: Bytes::new(),
    };
    scan.cursor = cursor::open(&scan, &r.cursor)?;
    Ok(scan)
}

/// A DeleteByPrefix, answered with `Deleted`.
pub fn delete_by_prefix(r: pb::DeleteByPrefixRequest) -> Result<Request> {
    if r.prefix.is_empty() {
        return Err(Error::invalid(
            "prefix is empty, which would remove every key: name at least one byte, or drop the \
             column family",
        ));
    }
    Ok(Request::DeleteByPrefix { cf: family(r.cf)?, prefix: key("prefix", r.prefix)? })
}

/// A CreateColumnFamily, answered with `ColumnFamily`.
pub fn create_column_family(r: pb::CreateColumnFamilyRequest) -> Result<Request> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let good = (1..=CF_NAME_BYTES_MAX).contains(&r.name.len())
        && r.name.bytes().all(allowed)
        && !r.name.starts_with("__");
    if !good {
        return Err(Error::invalid(format!(
            "name must be 1 to {CF_NAME_BYTES_MAX} characters of A-Z a-z 0-9 _ . - and not begin \
             with __"
        )));
    }
    Ok(Request::CreateCf { name: r.name })
}

/// A DropColumnFamily, answered with `Done`.
pub fn drop_column_family(r: pb::DropColumnFamilyRequest) -> Result<Request> {
    if r.cf == CfId::DEFAULT.0 {
        return Err(Error::invalid(
            "cf is 0, the default column family, which cannot be dropped: name another one",
        ));
    }
    Ok(Request::DropCf { cf: family(r.cf)? })
}

/// A CasPut, answered with `Conditional`.
pub fn cas_put(r: pb::CasPutRequest) -> Result<Request> {
    let condition = match expected_seq(r.expected_seq)? {
        Seq(0) => Condition::Absent,
        seq => Condition::SeqIs(seq),
    };
    let id = request_id(r.request_id)?;
    Ok(Request::PutIf {
        cf: family(r.cf)?,
        key: key("key", r.key)?,
        value: Some(value("value", r.value)?),
        expiry: expiry!(cas_put_request, r.expiry)?,
        condition,
        id,
        seal: id.is_some(),
    })
}

/// The system's families are nobody's to name.
fn family(cf: u32) -> Result<CfId> {
    let cf = CfId(cf);
    if cf.is_system() {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no column family {cf}")));
    }
    Ok(cf)
}

fn key(field: &str, key: Bytes) -> Result<Bytes> {
    within(field, key, KEY_BYTES_MAX)
}

fn value(field: &str, value: Bytes) -> Result<Bytes> {
    within(field, value, VALUE_BYTES_MAX)
}

fn within(field: &str, bytes: Bytes, max: usize) -> Result<Bytes> {
    if bytes.len() > max {
        return Err(Error::invalid(format!(
            "{field} has {} bytes, at most {max} are allowed",
            bytes.len()
        )));
    }
    Ok(bytes)
}

fn merge_write(cf: u32, k: Bytes, operand: Bytes, operator: i32) -> Result<Write> {
    let op = match pb::MergeOperator::try_from(operator) {
        Ok(pb::MergeOperator::Unspecified | pb::MergeOperator::MergeAppend) => MergeOp::Append,
        Ok(pb::MergeOperator::MergeAdd) => MergeOp::Add,
        Ok(pb::MergeOperator::MergeMax) => MergeOp::Max,
        Err(_) => return Err(unknown_number("merge_operator", operator)),
    };
    let operand = value("operand", operand)?;
    if op == MergeOp::Add && operand.len() != 8 {
        return Err(Error::invalid(format!(
            "operand has {} bytes, MERGE_ADD takes a little-endian integer of 8",
            operand.len()
        )));
    }
    Ok(Write::Merge { cf: family(cf)?, key: key("key", k)?, operand, op })
}

fn time(field: &str, ms: u64) -> Result<u64> {
    if ms == 0 || ms > EXPIRY_MS_MAX {
        return Err(Error::invalid(format!(
            "{field} is {ms}, it must be 1 to {EXPIRY_MS_MAX} milliseconds: leave it out for a \
             value that never expires"
        )));
    }
    Ok(ms)
}

fn expected_seq(seq: u64) -> Result<Seq> {
    if seq > Seq::MAX.0 {
        return Err(Error::invalid(format!(
            "expected_seq is {seq}, sequence numbers end at {}",
            Seq::MAX
        )));
    }
    Ok(Seq(seq))
}

pub(super) fn request_id(id: Option<pb::RequestId>) -> Result<Option<RequestId>> {
    let Some(id) = id else { return Ok(None) };
    if id.client_id == 0 || id.number == 0 {
        return Err(Error::invalid(
            "request_id needs a client_id (random, chosen once) and a number (from 1, rising), \
             neither of them 0: set both or leave request_id out",
        ));
    }
    Ok(Some(RequestId { client: id.client_id, request: id.number }))
}

fn unknown_number(field: &str, number: i32) -> Error {
    Error::invalid(format!("{field} has the number {number}, which this server does not know"))
}
