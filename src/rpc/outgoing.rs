//! Requests from `op` to the wire, for [`Client`](crate::rpc::Client).

use crate::base::{Error, ErrorKind, Result, Seq};
use crate::op::Request;
use crate::op::kv::{Condition, Expiry, MergeOp, RequestId, Scan, Write};
use crate::rpc::pb;

/// A request as the call that carries it.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Put.
    Put(pb::PutRequest),
    /// Get.
    Get(pb::GetRequest),
    /// Delete.
    Delete(pb::DeleteRequest),
    /// Merge.
    Merge(pb::MergeRequest),
    /// BatchWrite.
    BatchWrite(pb::BatchWriteRequest),
    /// Scan.
    Scan(pb::ScanRequest),
    /// DeleteByPrefix.
    DeleteByPrefix(pb::DeleteByPrefixRequest),
    /// CreateColumnFamily.
    CreateColumnFamily(pb::CreateColumnFamilyRequest),
    /// DropColumnFamily.
    DropColumnFamily(pb::DropColumnFamilyRequest),
    /// ListColumnFamilies.
    ListColumnFamilies(pb::ListColumnFamiliesRequest),
    /// CasPut.
    CasPut(pb::CasPutRequest),
}

/// Puts an [`Expiry`] into a message's own `expiry` oneof; the three that there are look alike.
macro_rules! expiry {
    ($oneof:ident, $value:expr) => {
        match $value {
            Expiry::Never => None,
            Expiry::Keep => Some(pb::$oneof::Expiry::KeepExpiry(true)),
            Expiry::InMs(ms) => Some(pb::$oneof::Expiry::TtlMs(ms)),
            Expiry::AtMs(ms) => Some(pb::$oneof::Expiry::ExpireAtMs(ms)),
        }
    };
}

/// The call that carries `request`.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what the protocol has no call for: Redis commands, figures, and
/// deleting under a condition other than a sequence number.
pub fn call(request: Request) -> Result<Call> {
    Ok(match request {
        Request::Get { cf, key } => Call::Get(pb::GetRequest { cf: cf.0, key, read_options: None }),
        Request::Write { writes, id } => write(writes, id),
        Request::PutIf { .. } => return put_if(request),
        Request::Scan(scan) => Call::Scan(scan_request(scan)),
        Request::DeleteByPrefix { cf, prefix } => {
            Call::DeleteByPrefix(pb::DeleteByPrefixRequest { cf: cf.0, prefix })
        }
        Request::CreateCf { name } => {
            Call::CreateColumnFamily(pb::CreateColumnFamilyRequest { name })
        }
        Request::DropCf { cf } => Call::DropColumnFamily(pb::DropColumnFamilyRequest { cf: cf.0 }),
        Request::ListCfs => Call::ListColumnFamilies(pb::ListColumnFamiliesRequest {}),
        Request::Redis(_) | Request::RedisTransaction { .. } | Request::Watch { .. } => {
            return Err(unsupported("Redis commands: use the Redis door"));
        }
        Request::Stats => return Err(unsupported("figures: use the Redis door's INFO")),
        Request::Txn(_) => return Err(unsupported("steps of transactions between shards")),
        // A client makes those itself.
        Request::Vector(_) => return Err(unsupported("vectors")),
    })
}

fn write(writes: Vec<Write>, id: Option<RequestId>) -> Call {
    let request_id = request_id(id);
    let one = match <[Write; 1]>::try_from(writes) {
        Ok([one]) => one,
        Err(writes) => {
            let ops = writes.into_iter().map(write_op).collect();
            return Call::BatchWrite(pb::BatchWriteRequest { ops, request_id });
        }
    };
    match one {
        Write::Put { cf, key, value, expiry } => Call::Put(pb::PutRequest {
            cf: cf.0,
            key,
            value,
            expiry: expiry!(put_request, expiry),
            condition: pb::PutCondition::Unspecified as i32,
            request_id,
        }),
        Write::Delete { cf, key } => {
            Call::Delete(pb::DeleteRequest { cf: cf.0, key, expected_seq: 0, request_id })
        }
        Write::Merge { cf, key, operand, op } => Call::Merge(pb::MergeRequest {
            cf: cf.0,
            key,
            operand,
            merge_operator: merge_operator(op),
            request_id,
        }),
        vector @ (Write::PutVector { .. } | Write::DeleteVector { .. }) => {
            let ops = vec![write_op(vector)];
            Call::BatchWrite(pb::BatchWriteRequest { ops, request_id })
        }
    }
}

fn write_op(write: Write) -> pb::WriteOp {
    let op = match write {
        Write::Put { cf, key, value, expiry } => pb::write_op::Op::Put(pb::PutOp {
            cf: cf.0,
            key,
            value,
            expiry: expiry!(put_op, expiry),
        }),
        Write::Delete { cf, key } => pb::write_op::Op::Delete(pb::DeleteOp { cf: cf.0, key }),
        Write::Merge { cf, key, operand, op } => pb::write_op::Op::Merge(pb::MergeOp {
            cf: cf.0,
            key,
            operand,
            merge_operator: merge_operator(op),
        }),
        Write::PutVector { index, id, vector, payload } => {
            pb::write_op::Op::VectorPut(pb::VectorPutOp {
                index_name: index,
                vector_id: id.get(),
                vector: vector.to_vec(),
                payload: String::from_utf8_lossy(&payload).into_owned(),
            })
        }
        Write::DeleteVector { index, id } => {
            let (index_name, vector_id) = (index, id.get());
            pb::write_op::Op::VectorDelete(pb::VectorDeleteOp { index_name, vector_id })
        }
    };
    pb::WriteOp { op: Some(op) }
}

/// Absence is compared and swapped, because that answer tells what stands there instead.
fn put_if(request: Request) -> Result<Call> {
    let Request::PutIf { cf, key, value, expiry, condition, id, seal: _ } = request else {
        return Err(Error::new(ErrorKind::Internal, "not a conditional write"));
    };
    let (cf, request_id) = (cf.0, request_id(id));
    let Some(value) = value else {
        let expected_seq = match condition {
            Condition::None => 0,
            Condition::SeqIs(seq) if seq > Seq(0) => seq.0,
            _ => return Err(unsupported("deleting under this condition")),
        };
        return Ok(Call::Delete(pb::DeleteRequest { cf, key, expected_seq, request_id }));
    };
    let expected_seq = match condition {
        Condition::Absent => 0,
        Condition::SeqIs(seq) => seq.0,
        Condition::None | Condition::Present => {
            let condition = match condition {
                Condition::Present => pb::PutCondition::PutIfPresent,
                _ => pb::PutCondition::Unspecified,
            } as i32;
            let expiry = expiry!(put_request, expiry);
            return Ok(Call::Put(pb::PutRequest { cf, key, value, expiry, condition, request_id }));
        }
    };
    let expiry = expiry!(cas_put_request, expiry);
    Ok(Call::CasPut(pb::CasPutRequest { cf, key, value, expiry, expected_seq, request_id }))
}

fn scan_request(scan: Scan) -> pb::ScanRequest {
    pb::ScanRequest {
        cf: scan.cf.0,
        prefix: scan.prefix,
        start: scan.start,
        end: scan.end,
        limit: scan.limit,
        cursor: scan.cursor,
        reverse: scan.reverse,
        keys_only: scan.keys_only,
        read_options: None,
    }
}

fn merge_operator(op: MergeOp) -> i32 {
    match op {
        MergeOp::Append => pb::MergeOperator::MergeAppend as i32,
        MergeOp::Add => pb::MergeOperator::MergeAdd as i32,
        MergeOp::Max => pb::MergeOperator::MergeMax as i32,
    }
}

fn request_id(id: Option<RequestId>) -> Option<pb::RequestId> {
    id.map(|id| pb::RequestId { client_id: id.client, number: id.request })
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the gRPC protocol does not carry {what}"))
}
