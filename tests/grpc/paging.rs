//! Scans page by page, against the same keys in a sorted list.

use crate::Running;
use arqondb::env::Rng;
use arqondb::rpc::pb::{self, arqon_db_client::ArqonDbClient};
use arqondb::serve::grpc::GrpcOptions;
use bytes::Bytes;
use tonic::Code;
use tonic::transport::Channel;

/// Random scans that are compared.
const SCANS: usize = 300;

async fn fill(stub: &mut ArqonDbClient<Channel>, keys: &[Bytes], value: &Bytes) {
    let ops = keys.iter().map(|key| pb::WriteOp {
        op: Some(pb::write_op::Op::Put(pb::PutOp {
            key: key.clone(),
            value: value.clone(),
            ..Default::default()
        })),
    });
    let request = pb::BatchWriteRequest { ops: ops.collect(), request_id: None };
    stub.batch_write(request).await.unwrap();
}

/// All pages of a scan; none may exceed the limit, and only the last may lack a cursor.
async fn pages(
    stub: &mut ArqonDbClient<Channel>,
    mut scan: pb::ScanRequest,
) -> Vec<Vec<pb::Entry>> {
    let mut pages = Vec::new();
    loop {
        let page = stub.scan(scan.clone()).await.unwrap().into_inner();
        assert!(scan.limit == 0 || page.entries.len() <= scan.limit as usize);
        pages.push(page.entries);
        if page.next_cursor.is_empty() {
            return pages;
        }
        scan.cursor = page.next_cursor;
    }
}

#[tokio::test]
async fn pages_in_both_directions_give_what_a_sorted_list_gives() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let mut rng = Rng::new(1);
    // Few letters, the last of them the greatest byte, so that prefixes and bounds meet keys.
    let mut word = |most: u64| -> Bytes {
        (0..rng.below(most + 1)).map(|_| b"ab\xff"[rng.below(3) as usize]).collect()
    };
    let mut keys: Vec<Bytes> = (0..60).map(|_| word(4)).collect();
    keys.sort();
    keys.dedup();
    fill(&mut stub, &keys, &Bytes::from("v")).await;
    let bounds: Vec<[Bytes; 3]> = (0..SCANS).map(|_| [word(2), word(3), word(3)]).collect();
    for [prefix, start, end] in bounds {
        let scan = pb::ScanRequest {
            prefix,
            start,
            end,
            limit: 1 + rng.below(9) as u32,
            reverse: rng.one_in(2),
            keys_only: rng.one_in(2),
            ..Default::default()
        };
        let mut expected: Vec<&Bytes> = keys
            .iter()
            .filter(|k| k.starts_with(&scan.prefix) && **k >= scan.start)
            .filter(|k| scan.end.is_empty() || **k < scan.end)
            .collect();
        if scan.reverse {
            expected.reverse();
        }
        let entries = pages(&mut stub, scan.clone()).await.concat();
        assert_eq!(entries.iter().map(|e| &e.key).collect::<Vec<_>>(), expected, "{scan:?}");
        let value = if scan.keys_only { "" } else { "v" };
        assert!(entries.iter().all(|e| e.value == value && e.seq > 0));
    }
}

#[tokio::test]
async fn a_page_has_a_thousand_entries_unless_asked_otherwise() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let keys: Vec<Bytes> = (0..10_001).map(|n| Bytes::from(format!("{n:05}"))).collect();
    fill(&mut stub, &keys, &Bytes::new()).await;
    let mut sizes = async |limit| {
        let scan = pb::ScanRequest { limit, ..Default::default() };
        pages(&mut stub, scan).await.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(sizes(0).await[..2], [1_000, 1_000]);
    assert_eq!(sizes(10_000).await, [10_000, 1]);
    let beyond = pb::ScanRequest { limit: 10_001, ..Default::default() };
    assert_eq!(stub.scan(beyond).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_cursor_is_of_one_scan_and_not_made_up() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    fill(&mut stub, &["a", "b", "c"].map(Bytes::from), &Bytes::from("v")).await;
    let first = pb::ScanRequest { limit: 1, ..Default::default() };
    let cursor = stub.scan(first.clone()).await.unwrap().into_inner().next_cursor;
    let again = pb::ScanRequest { cursor: cursor.clone(), ..first.clone() };
    for _ in 0..2 {
        let page = stub.scan(again.clone()).await.unwrap().into_inner();
        assert_eq!(page.entries[0].key, "b", "a cursor may be used again");
    }
    for wrong in [
        pb::ScanRequest { reverse: true, ..again.clone() },
        pb::ScanRequest { prefix: "b".into(), ..again.clone() },
        pb::ScanRequest { cursor: "made up".into(), ..again.clone() },
        pb::ScanRequest { cursor: cursor.slice(1..), ..again },
    ] {
        let status = stub.scan(wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("cursor is not of this scan"));
    }
}

#[tokio::test]
async fn large_values_make_pages_shorter_and_not_impossible() {
    let options = GrpcOptions { message_bytes_max: 64 << 10, ..GrpcOptions::default() };
    let mut stub = Running::start(options).await.stub().await;
    let keys: Vec<Bytes> = (0..40).map(|n| Bytes::from(format!("{n:02}"))).collect();
    for five in keys.chunks(5) {
        fill(&mut stub, five, &Bytes::from(vec![7; 10 << 10])).await;
    }
    let pages = pages(&mut stub, pb::ScanRequest::default()).await;
    assert!(pages.iter().all(|page| page.len() <= 6), "pages are bound by bytes");
    assert!(pages.len() < 10, "and not much shorter than needed");
    let seen: Vec<Bytes> = pages.concat().into_iter().map(|e| e.key).collect();
    assert_eq!(seen, keys);
}

#[tokio::test]
async fn a_message_over_the_limit_is_out_of_range() {
    let options = GrpcOptions { message_bytes_max: 1 << 10, ..GrpcOptions::default() };
    let mut stub = Running::start(options).await.stub().await;
    let request = pb::PutRequest { value: vec![0; 2 << 10].into(), ..Default::default() };
    assert_eq!(stub.put(request).await.unwrap_err().code(), Code::OutOfRange);
    // Grown beyond what fits by merges that did.
    for _ in 0..2 {
        let operand = vec![0; 900].into();
        stub.merge(pb::MergeRequest { operand, ..Default::default() }).await.unwrap();
    }
    let status = stub.get(pb::GetRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let status = stub.scan(pb::ScanRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let names = pb::ScanRequest { keys_only: true, ..Default::default() };
    assert_eq!(stub.scan(names).await.unwrap().into_inner().entries.len(), 1);
}
