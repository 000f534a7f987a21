//! Answers from `op` to the wire, and back for [`Client`](crate::rpc::Client).

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::op::Response;
use crate::op::kv::{CfInfo, Entry, Scan};
use crate::rpc::{cursor, pb};

/// Of a Put.
pub fn put(response: Response) -> Result<pb::PutResponse> {
    let (applied, seq) = applied(response)?;
    Ok(pb::PutResponse { applied, seq })
}

/// Of a Delete.
pub fn delete(response: Response) -> Result<pb::DeleteResponse> {
    let (applied, seq) = applied(response)?;
    Ok(pb::DeleteResponse { applied, seq })
}

/// Of a Merge.
pub fn merge(response: Response) -> Result<pb::MergeResponse> {
    Ok(pb::MergeResponse { seq: committed(response)? })
}

/// Of a BatchWrite.
pub fn batch_write(response: Response) -> Result<pb::BatchWriteResponse> {
    Ok(pb::BatchWriteResponse { seq: committed(response)? })
}

/// Of a Get.
pub fn get(response: Response) -> Result<pb::GetResponse> {
    let r = get_with_seq(response)?;
    let (found, value, seq, expire_at_ms) = (r.found, r.value, r.seq, r.expire_at_ms);
    Ok(pb::GetResponse { found, value, seq, expire_at_ms })
}

/// Of a GetWithSeq.
pub fn get_with_seq(response: Response) -> Result<pb::GetWithSeqResponse> {
    match response {
        Response::Entry(None) => Ok(pb::GetWithSeqResponse::default()),
        Response::Entry(Some(e)) => Ok(pb::GetWithSeqResponse {
            found: true,
            value: e.value,
            seq: e.seq.0,
            expire_at_ms: e.expire_at_ms.unwrap_or(0),
        }),
        other => Err(unfitting("a read", &other)),
    }
}

/// Of a Scan; `scan` is the one asked for.
pub fn scan(scan: &Scan, response: Response) -> Result<pb::ScanResponse> {
    match response {
        Response::Page { entries, next } => Ok(pb::ScanResponse {
            entries: entries.into_iter().map(entry).collect(),
            next_cursor: cursor::seal(scan, &next),
        }),
        other => Err(unfitting("a scan", &other)),
    }
}

/// Of a DeleteByPrefix; a count beyond 32 bits becomes the greatest that fits.
pub fn delete_by_prefix(response: Response) -> Result<pb::DeleteByPrefixResponse> {
    match response {
        Response::Deleted(n) => {
            Ok(pb::DeleteByPrefixResponse { deleted: u32::try_from(n).unwrap_or(u32::MAX) })
        }
        other => Err(unfitting("a delete by prefix", &other)),
    }
}

/// Of a CreateColumnFamily.
pub fn create_column_family(response: Response) -> Result<pb::CreateColumnFamilyResponse> {
    match response {
        Response::ColumnFamily(info) => {
            Ok(pb::CreateColumnFamilyResponse { column_family: Some(family(info)) })
        }
        other => Err(unfitting("the creation of a column family", &other)),
    }
}

/// Of a DropColumnFamily.
pub fn drop_column_family(response: Response) -> Result<pb::DropColumnFamilyResponse> {
    match response {
        Response::Done => Ok(pb::DropColumnFamilyResponse {}),
        other => Err(unfitting("the drop of a column family", &other)),
    }
}

/// Of a ListColumnFamilies.
pub fn list_column_families(response: Response) -> Result<pb::ListColumnFamiliesResponse> {
    match response {
        Response::ColumnFamilies(all) => Ok(pb::ListColumnFamiliesResponse {
            column_families: all.into_iter().map(family).collect(),
        }),
        other => Err(unfitting("the list of column families", &other)),
    }
}

/// Of a CasPut.
pub fn cas_put(response: Response) -> Result<pb::CasPutResponse> {
    match response {
        Response::Conditional { applied: true, seq, .. } => {
            Ok(pb::CasPutResponse { applied: true, seq: seq.0, ..Default::default() })
        }
        Response::Conditional { current: None, .. } => Ok(pb::CasPutResponse::default()),
        Response::Conditional { current: Some(e), .. } => Ok(pb::CasPutResponse {
            applied: false,
            seq: e.seq.0,
            found: true,
            value: e.value,
            expire_at_ms: e.expire_at_ms.unwrap_or(0),
        }),
        other => Err(unfitting("a compare-and-swap", &other)),
    }
}

fn applied(response: Response) -> Result<(bool, u64)> {
    match response {
        Response::Committed { seq } | Response::Conditional { applied: true, seq, .. } => {
            Ok((true, seq.0))
        }
        Response::Conditional { current, .. } => Ok((false, current.map_or(0, |e| e.seq.0))),
        other => Err(unfitting("a write", &other)),
    }
}

/// The sequence number of a write.
pub fn committed(response: Response) -> Result<u64> {
    match response {
        Response::Committed { seq } => Ok(seq.0),
        other => Err(unfitting("a write", &other)),
    }
}

fn entry(e: Entry) -> pb::Entry {
    pb::Entry {
        key: e.key,
        value: e.value,
        seq: e.seq.0,
        expire_at_ms: e.expire_at_ms.unwrap_or(0),
    }
}

fn family(info: CfInfo) -> pb::ColumnFamily {
    pb::ColumnFamily { cf: info.id.0, name: info.name }
}

pub(super) fn unfitting(asked: &str, response: &Response) -> Error {
    let given = match response {
        Response::Entry(_) => "Entry",
        Response::Committed { .. } => "Committed",
        Response::Conditional { .. } => "Conditional",
        Response::Page { .. } => "Page",
        Response::Deleted(_) => "Deleted",
        Response::ColumnFamily(_) => "ColumnFamily",
        Response::ColumnFamilies(_) => "ColumnFamilies",
        Response::Done => "Done",
        Response::Redis(_) => "Redis",
        Response::Watched(_) => "Watched",
        Response::Stats(_) => "Stats",
        Response::Vector(_) => "Vector",
        Response::Txn(_) => "Txn",
        Response::Locked(_) => "Locked",
    };
    Error::new(ErrorKind::Internal, format!("{asked} was answered with {given}"))
}

/// A read's answer, back in `op`.
pub(super) fn entry_of_get(key: bytes::Bytes, r: pb::GetResponse) -> Option<Entry> {
    r.found.then(|| Entry {
        key,
        value: r.value,
        seq: Seq(r.seq),
        expire_at_ms: some_time(r.expire_at_ms),
    })
}

/// A compare-and-swap's answer, back in `op`.
pub(super) fn conditional_of_cas(key: bytes::Bytes, r: pb::CasPutResponse) -> Response {
    let current = r.found.then(|| Entry {
        key,
        value: r.value,
        seq: Seq(r.seq),
        expire_at_ms: some_time(r.expire_at_ms),
    });
    Response::Conditional { applied: r.applied, seq: Seq(r.seq), current }
}

/// A page, back in `op`; its `next` is the cursor as the server gave it.
pub(super) fn page(r: pb::ScanResponse) -> Response {
    let entries = r.entries.into_iter().map(|e| Entry {
        key: e.key,
        value: e.value,
        seq: Seq(e.seq),
        expire_at_ms: some_time(e.expire_at_ms),
    });
    Response::Page { entries: entries.collect(), next: r.next_cursor }
}

/// A column family, back in `op`.
pub(super) fn cf_info(r: pb::ColumnFamily) -> CfInfo {
    CfInfo { id: CfId(r.cf), name: r.name }
}

fn some_time(ms: u64) -> Option<u64> {
    (ms != 0).then_some(ms)
}
