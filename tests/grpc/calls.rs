//! Each call, and what it refuses.

use crate::Running;
use crate::map_kv::NOW_MS;
use arqondb::base::{CfId, ErrorKind};
use arqondb::op::Consistency;
use arqondb::op::kv::Scan;
use arqondb::rpc::pb::{self, write_op::Op};
use arqondb::serve::grpc::GrpcOptions;
use bytes::Bytes;
use tonic::{Code, Status};

fn put(key: &'static str, value: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn get(key: &'static str) -> pb::GetRequest {
    pb::GetRequest { key: key.into(), ..Default::default() }
}

/// Code, kind and retry advice of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let kind = status.metadata().get("arqon-error-kind").map(|k| k.to_str().unwrap().to_string());
    (status.code(), kind.unwrap_or_default())
}

fn invalid() -> (Code, String) {
    (Code::InvalidArgument, "invalid_argument".to_string())
}

#[tokio::test]
async fn ping_tells_the_version() {
    let running = Running::start(GrpcOptions::default()).await;
    let answer = running.stub().await.ping(pb::PingRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.version, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn what_was_put_is_got_and_what_was_not_is_not_found() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    assert_eq!(stub.get(get("k")).await.unwrap().into_inner(), pb::GetResponse::default());
    let written = stub.put(put("k", "v")).await.unwrap().into_inner();
    assert!(written.applied && written.seq > 0);
    let seq = written.seq;
    let found = pb::GetResponse { found: true, value: "v".into(), seq, expire_at_ms: 0 };
    assert_eq!(stub.get(get("k")).await.unwrap().into_inner(), found);
    stub.put(put("", "")).await.unwrap();
    let empty = stub.get(get("")).await.unwrap().into_inner();
    assert_eq!((empty.found, empty.value), (true, Bytes::new()));

    let delete = pb::DeleteRequest { key: "k".into(), ..Default::default() };
    let deleted = stub.delete(delete.clone()).await.unwrap().into_inner();
    assert!(deleted.applied && deleted.seq > seq);
    assert!(!stub.get(get("k")).await.unwrap().into_inner().found);
    assert!(stub.delete(delete).await.unwrap().into_inner().applied, "absent is fine");
}

#[tokio::test]
async fn expiry_is_set_kept_and_removed() {
    use pb::put_request::Expiry;
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let steps = [
        (Some(Expiry::TtlMs(5_000)), NOW_MS + 5_000),
        (Some(Expiry::KeepExpiry(true)), NOW_MS + 5_000),
        (Some(Expiry::ExpireAtMs(NOW_MS + 1)), NOW_MS + 1),
        (Some(Expiry::KeepExpiry(false)), 0),
        (None, 0),
    ];
    for (expiry, at) in steps {
        stub.put(pb::PutRequest { expiry, ..put("k", "v") }).await.unwrap();
        let found = stub.get(get("k")).await.unwrap().into_inner();
        assert_eq!((found.found, found.expire_at_ms), (true, at), "{expiry:?}");
    }
    let past = Some(Expiry::ExpireAtMs(1));
    stub.put(pb::PutRequest { expiry: past, ..put("k", "v") }).await.unwrap();
    assert!(!stub.get(get("k")).await.unwrap().into_inner().found);
    for expiry in
        [Expiry::TtlMs(0), Expiry::TtlMs(1 << 53), Expiry::ExpireAtMs(0), Expiry::ExpireAtMs(!0)]
    {
        let request = pb::PutRequest { expiry: Some(expiry), ..put("k", "v") };
        assert_eq!(refusal(stub.put(request).await), invalid(), "{expiry:?}");
    }
}

#[tokio::test]
async fn a_put_under_a_condition_says_whether_it_happened() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let mut conditional = async |condition: i32, value: &'static str| {
        stub.put(pb::PutRequest { condition, ..put("k", value) }).await
    };
    let (absent, present) =
        (pb::PutCondition::PutIfAbsent as i32, pb::PutCondition::PutIfPresent as i32);
    let no = conditional(present, "a").await.unwrap().into_inner();
    assert_eq!(no, pb::PutResponse { applied: false, seq: 0 });
    let yes = conditional(absent, "b").await.unwrap().into_inner();
    assert!(yes.applied && yes.seq > 0);
    let no = conditional(absent, "c").await.unwrap().into_inner();
    assert_eq!(no, pb::PutResponse { applied: false, seq: yes.seq });
    assert!(conditional(present, "d").await.unwrap().into_inner().applied);
    assert_eq!(refusal(conditional(77, "e").await), invalid());
    assert_eq!(stub.get(get("k")).await.unwrap().into_inner().value, "d");
}

#[tokio::test]
async fn merges_append_add_and_keep_the_greatest() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let mut merge = async |key: &'static str, operand: &[u8], operator: i32| {
        let operand = Bytes::copy_from_slice(operand);
        stub.merge(pb::MergeRequest {
            key: key.into(),
            operand,
            merge_operator: operator,
            ..Default::default()
        })
        .await
    };
    let (append, add, max) = (
        pb::MergeOperator::MergeAppend as i32,
        pb::MergeOperator::MergeAdd as i32,
        pb::MergeOperator::MergeMax as i32,
    );
    let first = merge("log", b"a", 0).await.unwrap().into_inner().seq;
    assert!(first > 0 && merge("log", b"b", append).await.unwrap().into_inner().seq > first);
    merge("n", &7i64.to_le_bytes(), add).await.unwrap();
    merge("n", &(-9i64).to_le_bytes(), add).await.unwrap();
    merge("max", b"b", max).await.unwrap();
    merge("max", b"a", max).await.unwrap();
    assert_eq!(refusal(merge("n", b"12", add).await), invalid());
    assert_eq!(refusal(merge("n", b"12", 99).await), invalid());
    assert_eq!(stub.get(get("log")).await.unwrap().into_inner().value, "ab");
    assert_eq!(stub.get(get("n")).await.unwrap().into_inner().value[..], (-2i64).to_le_bytes());
    assert_eq!(stub.get(get("max")).await.unwrap().into_inner().value, "b");
}

fn batch(ops: Vec<Op>) -> pb::BatchWriteRequest {
    let ops = ops.into_iter().map(|op| pb::WriteOp { op: Some(op) }).collect();
    pb::BatchWriteRequest { ops, request_id: None }
}

fn put_op(cf: u32, key: &'static str) -> Op {
    Op::Put(pb::PutOp { cf, key: key.into(), value: "v".into(), expiry: None })
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let ops = vec![
        put_op(0, "a"),
        Op::Merge(pb::MergeOp { key: "a".into(), operand: "w".into(), ..Default::default() }),
        put_op(0, "b"),
        Op::Delete(pb::DeleteOp { cf: 0, key: "b".into() }),
    ];
    assert_eq!(stub.batch_write(batch(ops)).await.unwrap().into_inner().seq, 4);
    assert_eq!(stub.get(get("a")).await.unwrap().into_inner().value, "vw");
    assert!(!stub.get(get("b")).await.unwrap().into_inner().found);

    let unknown_family = batch(vec![put_op(0, "c"), put_op(9, "c")]);
    assert_eq!(refusal(stub.batch_write(unknown_family).await).0, Code::NotFound);
    let mut unset = batch(vec![put_op(0, "c")]);
    unset.ops.push(pb::WriteOp::default());
    let status = stub.batch_write(unset).await.unwrap_err();
    assert_eq!(
        status.message(),
        "ops[1]: set one of put, delete, merge, vector_put and vector_delete"
    );
    assert!(!stub.get(get("c")).await.unwrap().into_inner().found);
}

#[tokio::test]
async fn batches_have_one_to_a_hundred_thousand_writes() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    assert_eq!(refusal(stub.batch_write(batch(vec![])).await), invalid());
    let full = batch(vec![put_op(0, "a"); 100_000]);
    assert!(stub.batch_write(full).await.unwrap().into_inner().seq > 0);
    assert_eq!(refusal(stub.batch_write(batch(vec![put_op(0, "a"); 100_001])).await), invalid());
    // Refused before it is decoded, and the connection goes on.
    let flood =
        pb::BatchWriteRequest { ops: vec![pb::WriteOp::default(); 1_000_000], request_id: None };
    let status = stub.batch_write(flood).await.unwrap_err();
    assert_eq!(status.metadata().get("arqon-error-kind").unwrap(), "invalid_argument");
    assert!(status.message().contains("at most 100000 writes"), "{}", status.message());
    stub.ping(pb::PingRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_applies_once() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let append = pb::MergeRequest {
        key: "k".into(),
        operand: "x".into(),
        request_id: Some(pb::RequestId { client_id: 7, number: 1 }),
        ..Default::default()
    };
    let first = stub.merge(append.clone()).await.unwrap().into_inner();
    assert_eq!(stub.merge(append).await.unwrap().into_inner(), first);
    assert_eq!(stub.get(get("k")).await.unwrap().into_inner().value, "x");
    for (client_id, number) in [(0, 1), (1, 0), (0, 0)] {
        let request_id = Some(pb::RequestId { client_id, number });
        let request = pb::PutRequest { request_id, ..put("k", "v") };
        assert_eq!(refusal(stub.put(request).await), invalid());
    }
}

#[tokio::test]
async fn compare_and_swap_gives_what_stands_there() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let read = pb::GetWithSeqRequest { key: "k".into(), ..Default::default() };
    let absent = stub.get_with_seq(read.clone()).await.unwrap().into_inner();
    assert_eq!(absent, pb::GetWithSeqResponse::default());
    let cas = |expected_seq, value: &'static str| pb::CasPutRequest {
        key: "k".into(),
        value: value.into(),
        expected_seq,
        ..Default::default()
    };
    let early = stub.cas_put(cas(5, "a")).await.unwrap().into_inner();
    assert_eq!(early, pb::CasPutResponse::default(), "absent");
    let created = stub.cas_put(cas(absent.seq, "a")).await.unwrap().into_inner();
    assert!(created.applied && !created.found && created.value.is_empty());
    let seen = stub.get_with_seq(read).await.unwrap().into_inner();
    assert_eq!((seen.found, seen.seq, &seen.value[..]), (true, created.seq, &b"a"[..]));
    let late = stub.cas_put(cas(0, "b")).await.unwrap().into_inner();
    let expected = pb::CasPutResponse {
        applied: false,
        seq: created.seq,
        found: true,
        value: "a".into(),
        expire_at_ms: 0,
    };
    assert_eq!(late, expected);
    let swapped = stub.cas_put(cas(seen.seq, "c")).await.unwrap().into_inner();
    assert!(swapped.applied && swapped.seq > seen.seq);
    assert_eq!(refusal(stub.cas_put(cas(1 << 56, "d")).await), invalid());

    let mut delete = async |expected_seq| {
        let request = pb::DeleteRequest { key: "k".into(), expected_seq, ..Default::default() };
        stub.delete(request).await.unwrap().into_inner()
    };
    let now = swapped.seq;
    assert_eq!(delete(seen.seq).await, pb::DeleteResponse { applied: false, seq: now });
    let deleted = delete(now).await;
    assert!(deleted.applied && deleted.seq > now);
    assert_eq!(delete(now).await, pb::DeleteResponse { applied: false, seq: 0 });
}

#[tokio::test]
async fn column_families_keep_their_keys_apart() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let create = |name: &str| pb::CreateColumnFamilyRequest { name: name.to_string() };
    let created = stub.create_column_family(create("notes")).await.unwrap().into_inner();
    let notes = created.column_family.unwrap();
    assert_eq!((notes.cf, notes.name.as_str()), (1, "notes"));
    assert_eq!(
        refusal(stub.create_column_family(create("notes")).await),
        (Code::AlreadyExists, "already_exists".to_string())
    );
    let too_long = "x".repeat(256);
    for name in ["", "__mine", "a b", "a/b", "ä", &too_long] {
        assert_eq!(refusal(stub.create_column_family(create(name)).await), invalid(), "{name}");
    }
    stub.put(pb::PutRequest { cf: 1, ..put("k", "note") }).await.unwrap();
    assert!(!stub.get(get("k")).await.unwrap().into_inner().found);
    let all = stub.list_column_families(pb::ListColumnFamiliesRequest {}).await.unwrap();
    let names: Vec<_> =
        all.into_inner().column_families.into_iter().map(|f| (f.cf, f.name)).collect();
    assert_eq!(names, [(0, "default".to_string()), (1, "notes".to_string())]);

    let drop = |cf| pb::DropColumnFamilyRequest { cf };
    stub.drop_column_family(drop(1)).await.unwrap();
    let gone = (Code::NotFound, "not_found".to_string());
    assert_eq!(refusal(stub.drop_column_family(drop(1)).await), gone);
    assert_eq!(refusal(stub.drop_column_family(drop(0)).await), invalid());
    for system_or_absent in [1, 0xFFFF_FF01, u32::MAX] {
        let request = pb::GetRequest { cf: system_or_absent, ..get("k") };
        assert_eq!(refusal(stub.get(request).await), gone, "{system_or_absent}");
    }
}

#[tokio::test]
async fn a_prefix_is_deleted_but_never_the_empty_one() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    for key in ["a:1", "a:2", "b:1"] {
        stub.put(put(key, "v")).await.unwrap();
    }
    let mut delete = async |prefix: &'static str| {
        stub.delete_by_prefix(pb::DeleteByPrefixRequest { cf: 0, prefix: prefix.into() }).await
    };
    let status = delete("").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("drop the column family"), "{}", status.message());
    assert_eq!(delete("a:").await.unwrap().into_inner().deleted, 2);
    assert_eq!(delete("a:").await.unwrap().into_inner().deleted, 0);
    assert!(stub.get(get("b:1")).await.unwrap().into_inner().found);
}

#[tokio::test]
async fn keys_end_at_64_kib_in_every_call() {
    let mut stub = Running::start(GrpcOptions::default()).await.stub().await;
    let longest = Bytes::from(vec![b'k'; 65_536]);
    let key = Bytes::from(vec![b'k'; 65_537]);
    let at_limit = pb::PutRequest { key: longest.clone(), ..Default::default() };
    stub.put(at_limit).await.unwrap();
    assert!(stub.get(pb::GetRequest { key: longest, ..get("") }).await.unwrap().into_inner().found);

    let cf = 0;
    let request = pb::PutRequest { key: key.clone(), ..Default::default() };
    assert_eq!(refusal(stub.put(request).await), invalid());
    assert_eq!(
        refusal(stub.get(pb::GetRequest { cf, key: key.clone(), read_options: None }).await),
        invalid()
    );
    let request = pb::GetWithSeqRequest { cf, key: key.clone(), read_options: None };
    assert_eq!(refusal(stub.get_with_seq(request).await), invalid());
    let request = pb::DeleteRequest { key: key.clone(), ..Default::default() };
    assert_eq!(refusal(stub.delete(request).await), invalid());
    let request = pb::MergeRequest { key: key.clone(), ..Default::default() };
    assert_eq!(refusal(stub.merge(request).await), invalid());
    let request = pb::CasPutRequest { key: key.clone(), ..Default::default() };
    assert_eq!(refusal(stub.cas_put(request).await), invalid());
    let request = pb::DeleteByPrefixRequest { cf, prefix: key.clone() };
    assert_eq!(refusal(stub.delete_by_prefix(request).await), invalid());
    for request in [
        pb::ScanRequest { prefix: key.clone(), ..Default::default() },
        pb::ScanRequest { start: key.clone(), ..Default::default() },
        pb::ScanRequest { end: key.clone(), ..Default::default() },
    ] {
        assert_eq!(refusal(stub.scan(request).await), invalid());
    }
    let delete = Op::Delete(pb::DeleteOp { cf, key });
    assert_eq!(refusal(stub.batch_write(batch(vec![delete])).await), invalid());
}

#[tokio::test]
async fn errors_of_the_engine_keep_their_kind_on_the_wire() {
    let running = Running::start(GrpcOptions::default()).await;
    let mut stub = running.stub().await;
    for (kind, code, retryable) in [
        (ErrorKind::Busy, Code::ResourceExhausted, "true"),
        (ErrorKind::Unavailable, Code::Unavailable, "true"),
        (ErrorKind::Unknown, Code::Unknown, "false"),
        (ErrorKind::Corruption, Code::DataLoss, "false"),
        (ErrorKind::Poisoned, Code::FailedPrecondition, "false"),
    ] {
        *running.kv.failing.lock().unwrap() = Some(kind);
        let status = stub.put(put("k", "v")).await.unwrap_err();
        let metadata = status.metadata();
        assert_eq!(status.code(), code);
        assert_eq!(status.message(), "as the test wishes");
        assert_eq!(metadata.get("arqon-error-kind").unwrap(), kind.name());
        assert_eq!(metadata.get("arqon-retryable").unwrap(), retryable);
    }
}

#[tokio::test]
async fn a_read_says_how_fresh_it_must_be_and_others_do_not() {
    let running = Running::start(GrpcOptions::default()).await;
    let client = running.client().await;
    client.put(CfId::DEFAULT, "k", "v").await.unwrap();
    client.get(CfId::DEFAULT, "k").await.unwrap();
    client.scan(Scan::default()).await.unwrap();
    assert_eq!(*running.kv.asked.lock().unwrap(), []);
    let stale = Consistency::Stale { bound_ms: 250 };
    for consistency in [Consistency::Lease, stale, Consistency::Linearizable] {
        let client = client.clone().with_consistency(consistency);
        assert!(client.get(CfId::DEFAULT, "k").await.unwrap().is_some());
        client.scan(Scan::default()).await.unwrap();
        client.put(CfId::DEFAULT, "k", "v").await.unwrap();
        assert_eq!(std::mem::take(&mut *running.kv.asked.lock().unwrap()), [consistency; 2]);
    }
    let mut stub = running.stub().await;
    let options = |consistency, stale_ms| Some(pb::ReadOptions { consistency, stale_ms });
    let ask = |read_options| pb::GetRequest { read_options, ..get("k") };
    assert!(stub.get(ask(options(3, 2_000))).await.unwrap().into_inner().found);
    let asked = std::mem::take(&mut *running.kv.asked.lock().unwrap());
    assert_eq!(asked, [Consistency::Stale { bound_ms: 2_000 }]);
    assert_eq!(refusal(stub.get(ask(options(9, 0))).await), invalid());
    let read_options = options(2, 0);
    let call = pb::GetWithSeqRequest { key: "k".into(), read_options, ..Default::default() };
    stub.get_with_seq(call).await.unwrap();
    assert_eq!(*running.kv.asked.lock().unwrap(), [Consistency::Lease]);
}
