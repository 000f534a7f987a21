//! Requests and answers in few words.

use arqondb::base::{CfId, ErrorKind, Result};
use arqondb::op::command;
use arqondb::op::kv::{Expiry, MergeOp, RedisCall, Scan, Write};
use arqondb::op::{Reply, Request, Response};
use bytes::Bytes;

pub(crate) fn call(args: &[&str]) -> RedisCall {
    let args: Vec<Bytes> =
        args.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    RedisCall { spec: command::lookup(&args).unwrap(), args }
}

pub(crate) fn redis(line: &str) -> Request {
    Request::Redis(call(&line.split(' ').collect::<Vec<_>>()))
}

pub(crate) fn get(key: impl Into<Bytes>) -> Request {
    Request::Get { cf: CfId::DEFAULT, key: key.into() }
}

pub(crate) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Request {
    let (key, value) = (key.into(), value.into());
    let put = Write::Put { cf: CfId::DEFAULT, key, value, expiry: Expiry::Never };
    Request::Write { writes: vec![put], id: None }
}

pub(crate) fn append(key: impl Into<Bytes>, operand: impl Into<Bytes>) -> Request {
    let (key, operand) = (key.into(), operand.into());
    let merge = Write::Merge { cf: CfId::DEFAULT, key, operand, op: MergeOp::Append };
    Request::Write { writes: vec![merge], id: None }
}

pub(crate) fn scan(prefix: &'static str, limit: u32) -> Scan {
    Scan { prefix: prefix.into(), limit, ..Scan::default() }
}

pub(crate) fn reply(answer: Result<Response>) -> Reply {
    match answer.unwrap() {
        Response::Redis(reply) => reply,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn kind(answer: &Result<Response>) -> Option<ErrorKind> {
    answer.as_ref().err().map(|error| error.kind())
}

/// The keys of a page, and its cursor.
pub(crate) fn keys(answer: Result<Response>) -> (Vec<Bytes>, Bytes) {
    match answer.unwrap() {
        Response::Page { entries, next } => (entries.into_iter().map(|e| e.key).collect(), next),
        other => panic!("{other:?}"),
    }
}

/// The cursor and the keys that SCAN answers.
pub(crate) fn scanned(answer: Result<Response>) -> (String, Vec<Bytes>) {
    let Reply::Array(mut parts) = reply(answer) else { panic!("no array") };
    let (Some(Reply::Array(keys)), Some(Reply::Bulk(cursor))) = (parts.pop(), parts.pop()) else {
        panic!("no cursor and keys")
    };
    let key = |key| match key {
        Reply::Bulk(key) => key,
        other => panic!("{other:?}"),
    };
    (String::from_utf8(cursor.to_vec()).unwrap(), keys.into_iter().map(key).collect())
}
