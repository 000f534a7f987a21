//! Where the indexes are: a server's gRPC door, or a data folder opened in this process.

use crate::base::ErrorKind;
use crate::cli::failure::{Failure, Outcome};
use crate::log::SyncLevel;
use crate::node::{Db, Options};
use crate::op::kv::Write;
use crate::op::vector::{IndexInfo, StoredVector, VectorAnswer, VectorCall, VectorId};
use crate::op::{Request, Response};
use crate::rpc::Client;
use crate::rpc::client::ClientOptions;
use crate::rpc::vector_client::{Put, Refused};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Where `arqon dev` serves by default.
const GRPC_ADDR: &str = "127.0.0.1:9379";
/// How long a call may take that reads or builds a whole index.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);

/// Flags that say where the indexes are.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// Address of a server's gRPC door [default: 127.0.0.1:9379]
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Open this data folder in this process instead of talking to a server
    #[arg(long, value_name = "DIR", conflicts_with = "addr")]
    data: Option<PathBuf>,
    /// With --data: when a write is answered: always, interval, interval:MS or os
    #[arg(long, value_name = "LEVEL", default_value = "interval", requires = "data")]
    sync: SyncLevel,
    /// With --data: memory in MiB, half of it for indexes
    #[arg(long, value_name = "MIB", default_value_t = 2048, requires = "data",
        value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    memory: u64,
}

/// Indexes that can be called.
pub enum Target {
    /// Of this process.
    Local(Box<Db>),
    /// Of a server.
    Server(Box<Client>, Runtime),
}

impl TargetArgs {
    /// Opens the folder or connects. With `create` a folder that is not there is made.
    pub fn open(&self, create: bool) -> Outcome<Target> {
        match &self.data {
            Some(dir) => Target::folder(dir, self.sync, self.memory, create),
            None => Target::server(self.addr.as_deref().unwrap_or(GRPC_ADDR)),
        }
    }
}

impl Target {
    /// Opens a folder in this process, with so much memory in MiB. With `create` one that is not
    /// there is made.
    pub fn folder(dir: &Path, sync: SyncLevel, memory_mib: u64, create: bool) -> Outcome<Target> {
        let options = Options {
            sync,
            create_if_missing: create,
            memory_budget_bytes: memory_mib << 20,
            count_keys: true,
            ..Options::default()
        };
        let db = Db::open_with(dir, options).map_err(|e| match e.kind() {
            ErrorKind::Refused => {
                Failure::from(e).fix("talk to the process that has it: leave --data out")
            }
            ErrorKind::NotFound => {
                Failure::from(e).fix("make one with: arqon vector create NAME --data DIR")
            }
            _ => Failure::from(e),
        })?;
        Ok(Target::Local(Box::new(db)))
    }

    /// Connects to a server's gRPC door.
    pub fn server(addr: &str) -> Outcome<Target> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
        let options = ClientOptions { call_timeout: CALL_TIMEOUT, ..ClientOptions::default() };
        let client = runtime.block_on(Client::connect(addr, options)).map_err(|e| {
            Failure::from(e).fix(
                "start a server with: arqon dev; or name one with --addr HOST:PORT, or a \
                      folder with --data DIR",
            )
        })?;
        Ok(Target::Server(Box::new(client), runtime))
    }

    /// Executes a call.
    pub fn call(&self, call: VectorCall) -> Outcome<VectorAnswer> {
        match self {
            Target::Local(db) => Ok(db.vectors(call)?),
            Target::Server(client, runtime) => {
                let request = Request::Vector(Box::new(call));
                match runtime.block_on(client.execute(request))? {
                    Response::Vector(answer) => Ok(*answer),
                    _ => Err(unfitting()),
                }
            }
        }
    }

    /// What is told of an index.
    pub fn describe(&self, index: &str) -> Outcome<IndexInfo> {
        match self.call(VectorCall::Describe { index: index.to_string() })? {
            VectorAnswer::Index(info) => Ok(*info),
            _ => Err(unfitting()),
        }
    }

    /// Fetches vectors by their ids, at most [`FETCH_MAX`](crate::op::vector::FETCH_MAX). Where they
    /// do not fit into one answer they are fetched by halves.
    pub fn get(&self, index: &str, ids: &[VectorId]) -> Outcome<Vec<Option<StoredVector>>> {
        let call = VectorCall::Get { index: index.to_string(), ids: ids.to_vec() };
        match self.call(call) {
            Ok(VectorAnswer::Vectors(vectors)) => Ok(vectors),
            Ok(_) => Err(unfitting()),
            Err(failure) if failure.code == ErrorKind::Refused.name() && ids.len() > 1 => {
                let (some, rest) = ids.split_at(ids.len() / 2);
                let mut vectors = self.get(index, some)?;
                vectors.extend(self.get(index, rest)?);
                Ok(vectors)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Sets vectors; one that is refused does not stop the others.
    pub fn put(&self, index: &str, vectors: Vec<StoredVector>) -> Outcome<Put> {
        match self {
            Target::Local(db) => put_local(db, index, vectors),
            Target::Server(client, runtime) => {
                Ok(runtime.block_on(client.put_vectors(index, vectors))?)
            }
        }
    }

    /// Has an index finish what it does in the background, if it is of this process.
    pub fn settle(&self) {
        if let Target::Local(db) = self {
            db.settle_vectors();
        }
    }
}

fn put_local(db: &Db, index: &str, vectors: Vec<StoredVector>) -> Outcome<Put> {
    let write = |one: &StoredVector| Write::PutVector {
        index: index.to_string(),
        id: VectorId::new(one.id),
        vector: one.vector.clone(),
        payload: one.payload.clone(),
    };
    let writes: Vec<Write> = vectors.iter().map(write).collect();
    let count = writes.len() as u64;
    match db.execute(Request::Write { writes, id: None }) {
        Ok(_) => return Ok(Put { written: count, ..Put::default() }),
        Err(error) if error.kind() != ErrorKind::InvalidArgument => return Err(error.into()),
        Err(_) => {}
    }
    // One of them is at fault, or some.
    let mut put = Put::default();
    for (position, one) in (0..).zip(&vectors) {
        match db.execute(Request::Write { writes: vec![write(one)], id: None }) {
            Ok(_) => put.written += 1,
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                put.failed += 1;
                let (kind, message) = (error.kind(), error.message().to_string());
                put.refused.push(Refused { position, id: one.id, kind, message });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(put)
}

/// The failure of an answer to something else.
pub fn unfitting() -> Failure {
    Failure::failed("the server's answer does not fit the request")
}
