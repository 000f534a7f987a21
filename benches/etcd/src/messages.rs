//! The few messages of both services, by hand: what is left out is not sent or not looked at.
//! etcd's are of `etcdserverpb`, ours of `proto/arqondb.proto`.

use bytes::Bytes;
use prost::Message;

/// `etcdserverpb.PutRequest` without lease and options.
#[derive(Clone, PartialEq, Message)]
pub struct EtcdPut {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `etcdserverpb.RangeRequest` of one key.
#[derive(Clone, PartialEq, Message)]
pub struct EtcdRange {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Read from the member that is asked, however old.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
}

/// `etcdserverpb.ResponseHeader`.
#[derive(Clone, PartialEq, Message)]
pub struct EtcdHeader {
    #[prost(uint64, tag = "1")]
    pub cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}

/// `etcdserverpb.PutResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct EtcdPutAnswer {
    #[prost(message, optional, tag = "1")]
    pub header: Option<EtcdHeader>,
}

/// `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, Message)]
pub struct EtcdKeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
}

/// `etcdserverpb.RangeResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct EtcdRangeAnswer {
    #[prost(message, optional, tag = "1")]
    pub header: Option<EtcdHeader>,
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<EtcdKeyValue>,
}

/// `arqondb.v1.PutRequest`, into the default column family and for good.
#[derive(Clone, PartialEq, Message)]
pub struct ArqonPut {
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
}

/// `arqondb.v1.PutResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ArqonPutAnswer {
    #[prost(bool, tag = "1")]
    pub applied: bool,
    #[prost(uint64, tag = "2")]
    pub seq: u64,
}

/// `arqondb.v1.GetRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ArqonGet {
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    #[prost(message, optional, tag = "14")]
    pub read_options: Option<ArqonReadOptions>,
}

/// `arqondb.v1.ReadOptions`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ArqonReadOptions {
    #[prost(int32, tag = "1")]
    pub consistency: i32,
}

impl ArqonReadOptions {
    /// `READ_LEASE`.
    pub const LEASE: ArqonReadOptions = ArqonReadOptions { consistency: 2 };
}

/// `arqondb.v1.GetResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ArqonGetAnswer {
    #[prost(bool, tag = "1")]
    pub found: bool,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}
