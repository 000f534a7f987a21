//! A server elsewhere, spoken to in `op`.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::op::kv::{CfInfo, Entry, Expiry, RequestId, Scan, Write};
use crate::op::{Consistency, KvOps, Request, Response};
use crate::rpc::outgoing::{self, Call};
use crate::rpc::pb::arqon_db_client::ArqonDbClient;
use crate::rpc::{answer, consistency, pb, status};
use bytes::Bytes;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// How a [`Client`] connects and waits.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Longest time for making a connection. Default 5 s.
    pub connect_timeout: Duration,
    /// Longest time for one call, sent to the server as the call's deadline. Default 30 s.
    pub call_timeout: Duration,
    /// Largest answer taken, in bytes. Default 64 MiB, as the server's limit.
    pub message_bytes_max: usize,
    /// How fresh reads must be. Default: as the server has it, which is linearizable unless its
    /// operator chose otherwise.
    pub consistency: Option<Consistency>,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            message_bytes_max: 64 << 20,
            consistency: None,
        }
    }
}

/// A client of one server. Cheap to clone; clones share a connection, which carries many calls
/// at once and is made anew when it has broken.
///
/// Nothing is retried. A write that got no answer fails with [`ErrorKind::Unknown`]: repeat it
/// with the same [`RequestId`].
#[derive(Debug, Clone)]
pub struct Client {
    stub: ArqonDbClient<Channel>,
    call_timeout: Duration,
    consistency: Option<Consistency>,
}

impl Client {
    /// Connects to `address`: `http://host:port` or `host:port`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if that is no address, [`ErrorKind::Unavailable`] if nobody
    /// answers there.
    pub async fn connect(address: &str, options: ClientOptions) -> Result<Client> {
        let channel = endpoint(address, &options)?.connect().await.map_err(|e| {
            let cause = innermost(&e);
            Error::new(ErrorKind::Unavailable, format!("cannot connect to {address}: {cause}"))
        })?;
        Ok(Client::over(channel, options))
    }

    /// As [`connect`](Client::connect), but connects with the first call.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `address` is none.
    pub fn connect_lazy(address: &str, options: ClientOptions) -> Result<Client> {
        Ok(Client::over(endpoint(address, &options)?.connect_lazy(), options))
    }

    /// A client over a channel made elsewhere.
    pub fn over(channel: Channel, options: ClientOptions) -> Client {
        let stub = ArqonDbClient::new(channel).max_decoding_message_size(options.message_bytes_max);
        Client { stub, call_timeout: options.call_timeout, consistency: options.consistency }
    }

    /// The same connection with reads as fresh as this.
    pub fn with_consistency(mut self, consistency: Consistency) -> Client {
        self.consistency = Some(consistency);
        self
    }

    /// The same connection with another deadline for its calls.
    pub fn with_call_timeout(mut self, call_timeout: Duration) -> Client {
        self.call_timeout = call_timeout;
        self
    }

    /// The server's version.
    pub async fn ping(&self) -> Result<String> {
        let answer = self.stub.clone().ping(self.request(pb::PingRequest {})).await;
        Ok(answer.map_err(|s| status::to_error(&s, false))?.into_inner().version)
    }

    /// Reads a key.
    pub async fn get(&self, cf: CfId, key: impl Into<Bytes>) -> Result<Option<Entry>> {
        match self.execute(Request::Get { cf, key: key.into() }).await? {
            Response::Entry(entry) => Ok(entry),
            _ => Err(unfitting()),
        }
    }

    /// Writes a batch, all or nothing; gives the sequence number of its last write.
    pub async fn write(&self, writes: Vec<Write>, id: Option<RequestId>) -> Result<Seq> {
        match self.execute(Request::Write { writes, id }).await? {
            Response::Committed { seq } => Ok(seq),
            _ => Err(unfitting()),
        }
    }

    /// Sets a key for good; gives the write's sequence number.
    pub async fn put(
        &self,
        cf: CfId,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Seq> {
        let (key, value) = (key.into(), value.into());
        self.write(vec![Write::Put { cf, key, value, expiry: Expiry::Never }], None).await
    }

    /// Removes a key; gives the write's sequence number.
    pub async fn delete(&self, cf: CfId, key: impl Into<Bytes>) -> Result<Seq> {
        self.write(vec![Write::Delete { cf, key: key.into() }], None).await
    }

    /// Reads a page of keys and where to go on: the `cursor` of the next page's `scan`, empty at
    /// the end.
    pub async fn scan(&self, scan: Scan) -> Result<(Vec<Entry>, Bytes)> {
        match self.execute(Request::Scan(scan)).await? {
            Response::Page { entries, next } => Ok((entries, next)),
            _ => Err(unfitting()),
        }
    }

    /// Lists the column families.
    pub async fn column_families(&self) -> Result<Vec<CfInfo>> {
        match self.execute(Request::ListCfs).await? {
            Response::ColumnFamilies(all) => Ok(all),
            _ => Err(unfitting()),
        }
    }

    /// Executes any request that the protocol has a call for. The cursor of a
    /// [`Request::Scan`] is one that this server gave.
    ///
    /// # Errors
    /// Those of the server by their kind; [`ErrorKind::Unsupported`] without a call;
    /// [`ErrorKind::Deadline`] for a read that got no answer in time and [`ErrorKind::Unknown`]
    /// for a write.
    pub async fn execute(&self, request: Request) -> Result<Response> {
        if let Request::Vector(call) = request {
            return self.vector_call(*call).await;
        }
        let conditional = matches!(request, Request::PutIf { .. });
        match outgoing::call(request)? {
            Call::Get(r) => self.get_call(r).await,
            Call::Scan(r) => self.scan_call(r).await,
            Call::ListColumnFamilies(r) => self.list_call(r).await,
            write => self.write_call(write, conditional).await,
        }
    }

    async fn get_call(&self, mut r: pb::GetRequest) -> Result<Response> {
        r.read_options = self.consistency.map(consistency::ask);
        let key = r.key.clone();
        let answer = self.stub.clone().get(self.request(r)).await;
        let answer = answer.map_err(|s| status::to_error(&s, false))?.into_inner();
        Ok(Response::Entry(answer::entry_of_get(key, answer)))
    }

    async fn scan_call(&self, mut r: pb::ScanRequest) -> Result<Response> {
        r.read_options = self.consistency.map(consistency::ask);
        let answer = self.stub.clone().scan(self.request(r)).await;
        Ok(answer::page(answer.map_err(|s| status::to_error(&s, false))?.into_inner()))
    }

    async fn list_call(&self, r: pb::ListColumnFamiliesRequest) -> Result<Response> {
        let answer = self.stub.clone().list_column_families(self.request(r)).await;
        let answer = answer.map_err(|s| status::to_error(&s, false))?.into_inner();
        let all = answer.column_families.into_iter().map(answer::cf_info);
        Ok(Response::ColumnFamilies(all.collect()))
    }

    async fn write_call(&self, call: Call, conditional: bool) -> Result<Response> {
        let mut stub = self.stub.clone();
        let lost = |s: tonic::Status| status::to_error(&s, true);
        let (applied, seq) = match call {
            Call::Put(r) => {
                let r = stub.put(self.request(r)).await.map_err(lost)?.into_inner();
                (r.applied, r.seq)
            }
            Call::Delete(r) => {
                let (cf, key) = (r.cf, r.key.clone());
                let r = stub.delete(self.request(r)).await.map_err(lost)?.into_inner();
                if !r.applied && r.seq != 0 {
                    return self.unswapped(cf, key, r.seq).await;
                }
                (r.applied, r.seq)
            }
            Call::Merge(r) => {
                (true, stub.merge(self.request(r)).await.map_err(lost)?.into_inner().seq)
            }
            Call::BatchWrite(r) => {
                (true, stub.batch_write(self.request(r)).await.map_err(lost)?.into_inner().seq)
            }
            Call::CasPut(r) => {
                let key = r.key.clone();
                let r = stub.cas_put(self.request(r)).await.map_err(lost)?.into_inner();
                return Ok(answer::conditional_of_cas(key, r));
            }
            Call::DeleteByPrefix(r) => {
                let r = stub.delete_by_prefix(self.request(r)).await.map_err(lost)?.into_inner();
                return Ok(Response::Deleted(u64::from(r.deleted)));
            }
            Call::CreateColumnFamily(r) => {
                let r = stub.create_column_family(self.request(r)).await.map_err(lost)?;
                let family = r.into_inner().column_family.ok_or_else(unfitting)?;
                return Ok(Response::ColumnFamily(answer::cf_info(family)));
            }
            Call::DropColumnFamily(r) => {
                stub.drop_column_family(self.request(r)).await.map_err(lost)?;
                return Ok(Response::Done);
            }
            Call::Get(_) | Call::Scan(_) | Call::ListColumnFamilies(_) => return Err(unfitting()),
        };
        let seq = Seq(seq);
        match conditional {
            true => Ok(Response::Conditional { applied, seq, current: None }),
            false => Ok(Response::Committed { seq }),
        }
    }

    /// A Delete whose condition failed tells what stands there by its number alone.
    async fn unswapped(&self, cf: u32, key: Bytes, seq: u64) -> Result<Response> {
        match self.get_call(pb::GetRequest { cf, key, read_options: None }).await? {
            Response::Entry(current) => {
                Ok(Response::Conditional { applied: false, seq: Seq(seq), current })
            }
            _ => Err(unfitting()),
        }
    }

    pub(super) fn stub(&self) -> ArqonDbClient<Channel> {
        self.stub.clone()
    }

    pub(super) fn freshness(&self) -> Option<Consistency> {
        self.consistency
    }

    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.call_timeout);
        request
    }
}

/// One call after the other.
impl KvOps for Client {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.execute(request).await);
        }
        answers
    }

    async fn pipeline_at(
        &self,
        consistency: Consistency,
        requests: Vec<Request>,
    ) -> Vec<Result<Response>> {
        self.clone().with_consistency(consistency).pipeline(requests).await
    }
}

fn endpoint(address: &str, options: &ClientOptions) -> Result<Endpoint> {
    let url = match address.contains("://") {
        true => address.to_string(),
        false => format!("http://{address}"),
    };
    let endpoint = Endpoint::from_shared(url)
        .map_err(|_| Error::invalid(format!("{address} is not an address such as host:port")))?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20))
}

/// tonic's errors say "transport error"; the cause behind says which.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn unfitting() -> Error {
    Error::new(ErrorKind::Internal, "the server's answer does not fit the request")
}
