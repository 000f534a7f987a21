//! What a node says of the shards it leads.
//!
//! ```text
//! reports: count, reports of: shard, bytes, keys, requests a second (varints)
//! ```

use crate::base::Result;
use crate::base::codec::put_varint;
use crate::rpc::ops::Cut;
use bytes::Bytes;

/// What a leader says of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardReport {
    /// The shard.
    pub shard: u64,
    /// Bytes of its replica's tables and memtables.
    pub bytes: u64,
    /// Keys that are alive, about.
    pub keys: u64,
    /// Requests a second since the report before.
    pub requests_per_second: u64,
}

/// The bytes of reports.
pub fn encode_reports(reports: &[ShardReport]) -> Bytes {
    let mut out = Vec::new();
    put_varint(&mut out, reports.len() as u64);
    for report in reports {
        let ShardReport { shard, bytes, keys, requests_per_second } = *report;
        for number in [shard, bytes, keys, requests_per_second] {
            put_varint(&mut out, number);
        }
    }
    out.into()
}

/// The reports of some bytes.
///
/// # Errors
/// If they are none.
pub fn decode_reports(body: &Bytes) -> Result<Vec<ShardReport>> {
    let mut cut = Cut::new(body, "a report");
    let count = cut.count(4)?;
    let mut reports = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let (shard, bytes) = (cut.varint()?, cut.varint()?);
        let (keys, requests_per_second) = (cut.varint()?, cut.varint()?);
        reports.push(ShardReport { shard, bytes, keys, requests_per_second });
    }
    cut.end()?;
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_travel_and_less_than_all_is_refused() {
        let report =
            |shard| ShardReport { shard, bytes: 1 << 40, keys: 300, requests_per_second: 7 };
        let reports: Vec<ShardReport> = (1..4).map(report).collect();
        let body = encode_reports(&reports);
        assert_eq!(decode_reports(&body).unwrap(), reports);
        assert!((0..body.len()).all(|end| decode_reports(&body.slice(..end)).is_err()));
    }
}
