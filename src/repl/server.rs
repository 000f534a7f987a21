//! A server behind the console: Redis commands over its Redis door, words over its gRPC door.

use crate::base::{CfId, Error, ErrorKind, Result, Seq};
use crate::op::kv::{Entry, Expiry, MergeOp, Write};
use crate::op::{Consistency, Request, Response};
use crate::repl::backend::Backend;
use crate::repl::client::{Answer, Client};
use crate::rpc::{self, client::ClientOptions};
use bytes::Bytes;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A server by the address of its Redis door. A lost connection is made anew by the next command.
pub struct Server {
    addr: String,
    client: Option<Client>,
    grpc: Option<Grpc>,
    patience: Duration,
}

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    /// Connects to `addr`, `host:port`. The console's words go to the gRPC door at `grpc`;
    /// without one, those that a Redis command can stand for go there. What they read there is as
    /// fresh as asked for.
    ///
    /// # Errors
    /// `InvalidArgument` for an address without a port, `Unavailable` if nobody answers.
    pub fn connect(
        addr: &str,
        grpc: Option<&str>,
        consistency: Option<Consistency>,
    ) -> Result<Server> {
        let grpc = grpc.map(|grpc| Grpc::new(grpc, consistency)).transpose()?;
        let mut server = Server { addr: addr.to_string(), client: None, grpc, patience: PATIENCE };
        server.client()?;
        Ok(server)
    }

    fn client(&mut self) -> Result<&mut Client> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let mut client = Client::connect(&self.addr)?.with_patience(self.patience);
                // A refusal leaves the connection in RESP2, which will do.
                client.hello()?;
                client
            }
        };
        Ok(self.client.insert(client))
    }

    fn forget_if_lost<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.client = None;
        }
        result
    }

    fn text(&mut self, args: &[&[u8]]) -> Result<Answer> {
        match self.redis(args)? {
            Answer::Error(text) => Err(Error::new(ErrorKind::Refused, text)),
            answer => Ok(answer),
        }
    }
}

impl Backend for Server {
    fn name(&self) -> String {
        self.addr.clone()
    }

    fn redis(&mut self, args: &[&[u8]]) -> Result<Answer> {
        let result = self.client()?.call(args);
        self.forget_if_lost(result)
    }

    fn next(&mut self) -> Result<Answer> {
        let result = self.client()?.read();
        self.forget_if_lost(result)
    }

    fn kv(&mut self, request: Request) -> Result<Response> {
        if let Some(door) = &self.grpc {
            return door.execute(request);
        }
        match request {
            Request::Get { cf: CfId::DEFAULT, key } => match self.text(&[b"GET", &key])? {
                Answer::Bulk(value) => {
                    let value = Bytes::from(value);
                    let entry = Entry { key, value, seq: Seq(0), expire_at_ms: None };
                    Ok(Response::Entry(Some(entry)))
                }
                _ => Ok(Response::Entry(None)),
            },
            Request::Write { writes, .. } => {
                let [write] = &writes[..] else { return Err(needs_grpc("a batch")) };
                self.write(write)?;
                Ok(Response::Done)
            }
            Request::ListCfs => Err(needs_grpc("LISTCF")),
            Request::CreateCf { .. } => Err(needs_grpc("CREATECF")),
            Request::DropCf { .. } => Err(needs_grpc("DROPCF")),
            Request::Vector(_) => Err(needs_grpc("vectors")),
            Request::Scan(_) => Err(needs_grpc("SCAN of keys in order")),
            _ => Err(needs_grpc("this word")),
        }
    }
}

impl Server {
    /// One write of the default family, by the Redis command that means it.
    fn write(&mut self, write: &Write) -> Result<Answer> {
        match write {
            Write::Put { cf: CfId::DEFAULT, key, value, expiry } => match expiry {
                Expiry::InMs(ms) => {
                    self.text(&[b"SET", key, value, b"PX", ms.to_string().as_bytes()])
                }
                _ => self.text(&[b"SET", key, value]),
            },
            Write::Delete { cf: CfId::DEFAULT, key } => self.text(&[b"DEL", key]),
            Write::Merge { cf: CfId::DEFAULT, key, operand, op: MergeOp::Append } => {
                self.text(&[b"APPEND", key, operand])
            }
            Write::Merge { .. } => Err(needs_grpc("MERGE with add or max")),
            Write::PutVector { .. } | Write::DeleteVector { .. } => Err(needs_grpc("vectors")),
            _ => Err(needs_grpc("another column family")),
        }
    }
}

/// The same server's gRPC door. Connects with the first call.
struct Grpc {
    client: rpc::Client,
    runtime: Runtime,
}

impl Grpc {
    fn new(addr: &str, consistency: Option<Consistency>) -> Result<Grpc> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::io("start", "the runtime for gRPC", e))?;
        let client = {
            let _within = runtime.enter();
            let options = ClientOptions { consistency, ..ClientOptions::default() };
            rpc::Client::connect_lazy(addr, options)?
        };
        Ok(Grpc { client, runtime })
    }

    fn execute(&self, request: Request) -> Result<Response> {
        self.runtime.block_on(self.client.execute(request))
    }
}

fn needs_grpc(what: &str) -> Error {
    let text = format!("{what} goes over gRPC; start the console with --grpc HOST:PORT");
    Error::new(ErrorKind::Unsupported, text)
}
