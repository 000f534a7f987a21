//! `rpc::Client` as a `KvOps`: answers as the engine gave them, and honest when there are none.

use crate::Running;
use arqondb::base::{CfId, ErrorKind, Seq};
use arqondb::op::kv::{Condition, Entry, Expiry, MergeOp, RequestId, Scan, Write};
use arqondb::op::{KvOps, Request, Response};
use arqondb::rpc::client::{Client, ClientOptions};
use arqondb::rpc::outgoing::{Call, call};
use arqondb::rpc::request;
use arqondb::serve::grpc::GrpcOptions;
use bytes::Bytes;
use std::time::Duration;
use tokio::net::TcpListener;

const CF: CfId = CfId::DEFAULT;

fn put(key: &'static str, expiry: Expiry) -> Write {
    Write::Put { cf: CF, key: key.into(), value: "v".into(), expiry }
}

fn put_if(value: Option<&'static str>, condition: Condition) -> Request {
    Request::PutIf {
        cf: CF,
        key: "k".into(),
        value: value.map(Bytes::from),
        expiry: Expiry::Never,
        condition,
        id: None,
        seal: false,
    }
}

/// What the server makes of the call that a request becomes.
fn there_and_in(request: Request) -> Request {
    match call(request).unwrap() {
        Call::Put(r) => request::put(r),
        Call::Get(r) => request::get(r),
        Call::Delete(r) => request::delete(r),
        Call::Merge(r) => request::merge(r),
        Call::BatchWrite(r) => request::batch_write(r),
        Call::Scan(r) => request::scan(r).map(Request::Scan),
        Call::DeleteByPrefix(r) => request::delete_by_prefix(r),
        Call::CreateColumnFamily(r) => request::create_column_family(r),
        Call::DropColumnFamily(r) => request::drop_column_family(r),
        Call::ListColumnFamilies(_) => Ok(Request::ListCfs),
        Call::CasPut(r) => request::cas_put(r),
    }
    .unwrap()
}

#[test]
fn requests_arrive_as_they_were_sent() {
    let id = Some(RequestId { client: u64::MAX, request: 3 });
    let key = Bytes::from("k");
    let delete = Write::Delete { cf: CfId(4), key: key.clone() };
    let merge = |op, operand: &'static [u8]| Write::Merge {
        cf: CfId(5),
        key: "k".into(),
        operand: operand.into(),
        op,
    };
    let scan = Scan {
        cf: CfId(2),
        prefix: "p".into(),
        start: "pa".into(),
        end: "pz".into(),
        limit: 9,
        reverse: true,
        keys_only: true,
        cursor: Bytes::new(),
    };
    let mut requests = vec![
        Request::Get { cf: CfId(3), key: key.clone() },
        Request::Write { writes: vec![put("a", Expiry::Never), delete.clone()], id },
        Request::Scan(scan),
        Request::DeleteByPrefix { cf: CF, prefix: key },
        Request::CreateCf { name: "notes".to_string() },
        Request::DropCf { cf: CfId(7) },
        Request::ListCfs,
        put_if(Some("v"), Condition::Absent),
        put_if(Some("v"), Condition::Present),
        put_if(Some("v"), Condition::SeqIs(Seq(9))),
        put_if(None, Condition::SeqIs(Seq::MAX)),
    ];
    let expiries = [Expiry::Never, Expiry::InMs(1), Expiry::AtMs(2), Expiry::Keep];
    let mut writes: Vec<Write> = expiries.map(|expiry| put("k", expiry)).to_vec();
    writes.extend([
        delete,
        merge(MergeOp::Append, b""),
        merge(MergeOp::Add, b"12345678"),
        merge(MergeOp::Max, b"x"),
    ]);
    for write in writes.clone() {
        requests.push(Request::Write { writes: vec![write], id });
    }
    requests.push(Request::Write { writes, id: None });
    for request in requests {
        assert_eq!(there_and_in(request.clone()), request);
    }
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order_past_its_failures() {
    let client = Running::start(GrpcOptions::default()).await.client().await;
    assert_eq!(client.ping().await.unwrap(), env!("CARGO_PKG_VERSION"));
    let write = |writes| Request::Write { writes, id: None };
    let get = || Request::Get { cf: CF, key: "k".into() };
    let answers = client
        .pipeline(vec![
            get(),
            write(vec![put("k", Expiry::Never)]),
            write(vec![put("k", Expiry::InMs(0))]),
            get(),
            put_if(Some("w"), Condition::Absent),
            put_if(Some("w"), Condition::SeqIs(Seq(1))),
            put_if(None, Condition::SeqIs(Seq(1))),
            put_if(None, Condition::SeqIs(Seq(2))),
            Request::Stats,
        ])
        .await;
    let entry = |value: &'static str, seq| Entry {
        key: "k".into(),
        value: value.into(),
        seq: Seq(seq),
        expire_at_ms: None,
    };
    let conditional =
        |applied, seq, current| Response::Conditional { applied, seq: Seq(seq), current };
    let expected = [
        Ok(Response::Entry(None)),
        Ok(Response::Committed { seq: Seq(1) }),
        Err(ErrorKind::InvalidArgument),
        Ok(Response::Entry(Some(entry("v", 1)))),
        Ok(conditional(false, 1, Some(entry("v", 1)))),
        Ok(conditional(true, 2, None)),
        Ok(conditional(false, 2, Some(entry("w", 2)))),
        Ok(conditional(true, 3, None)),
        Err(ErrorKind::Unsupported),
    ];
    let answers: Vec<_> = answers.into_iter().map(|a| a.map_err(|e| e.kind())).collect();
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn the_typed_calls_read_and_write() {
    let client = Running::start(GrpcOptions::default()).await.client().await;
    for key in ["a", "b", "c"] {
        client.put(CF, key, "v").await.unwrap();
    }
    client.delete(CF, "b").await.unwrap();
    assert_eq!(client.get(CF, "b").await.unwrap(), None);
    let mut scan = Scan { limit: 1, ..Scan::default() };
    let (first, next) = client.scan(scan.clone()).await.unwrap();
    scan.cursor = next;
    let (second, end) = client.scan(scan).await.unwrap();
    assert_eq!((&first[0].key[..], &second[0].key[..]), (&b"a"[..], &b"c"[..]));
    assert!(end.is_empty());
    let Response::ColumnFamily(made) =
        client.execute(Request::CreateCf { name: "n".to_string() }).await.unwrap()
    else {
        panic!("not a column family");
    };
    assert!(client.column_families().await.unwrap().contains(&made));
    assert_eq!(client.execute(Request::DropCf { cf: made.id }).await.unwrap(), Response::Done);
    let prefix = Request::DeleteByPrefix { cf: CF, prefix: "a".into() };
    assert_eq!(client.execute(prefix).await.unwrap(), Response::Deleted(1));
}

#[tokio::test]
async fn a_read_out_of_time_is_late_and_a_write_is_unknown() {
    let running = Running::start(GrpcOptions::default()).await;
    let client = running.client().await.with_call_timeout(Duration::from_millis(20));
    let late = client.get(CF, "held").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Deadline);
    let unknown = client.put(CF, "held", "v").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unknown);
    assert!(unknown.message().contains("may or may not"), "{unknown}");
}

#[tokio::test]
async fn nobody_there_is_unavailable_even_for_a_write() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = Client::connect(&address, ClientOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.message().contains("refused"), "{refused}");
    let lazy = Client::connect_lazy(&address, ClientOptions::default()).unwrap();
    let unsent = lazy.put(CF, "k", "v").await.unwrap_err();
    assert_eq!(unsent.kind(), ErrorKind::Unavailable, "{unsent}");
    let wrong = Client::connect_lazy("not an address", ClientOptions::default()).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_write_whose_server_goes_away_is_unknown() {
    let running = Running::start(GrpcOptions::default()).await;
    let client = running.client().await;
    let (kv, address) = (running.kv.clone(), running.address.clone());
    // A proxy that cuts the connection once the write has arrived.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = listener.local_addr().unwrap().to_string();
    let proxy = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = kv.arrived.notified() => {}
        }
    });
    let cut = Client::connect(&through, ClientOptions::default()).await.unwrap();
    let unknown = cut.put(CF, "held", "v").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unknown, "{unknown}");
    proxy.await.unwrap();
    client.ping().await.unwrap();
}
