//! A data folder behind the console, opened by this process.
//!
//! Words go to the engine itself. Redis commands go through a Redis door of our own on loopback,
//! so that transactions, SCAN and INFO are those of a server; only this console knows its
//! password.

use crate::base::{Error, ErrorKind, Result};
use crate::env::rng::entropy;
use crate::node::{Options, Standalone};
use crate::op::{KvOps, Request, Response};
use crate::repl::backend::Backend;
use crate::repl::client::{Answer, Client};
use crate::serve::resp::{RedisServer, RespOptions};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// An open data folder. Dropping it closes the folder.
pub struct Embedded {
    name: String,
    client: Client,
    node: Standalone,
    runtime: Runtime,
}

impl Embedded {
    /// Opens the folder `dir`.
    ///
    /// # Errors
    /// `Refused` if another process has it open; `Corruption`; what the system answers.
    pub fn open(dir: &Path, options: Options) -> Result<Embedded> {
        let node = Standalone::open(dir, options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| Error::io("start", "the runtime of the console", e))?;
        let password = format!("{:016x}{:016x}", entropy(), entropy());
        let options = RespOptions { password: Some(password.clone()), ..RespOptions::default() };
        let server = RedisServer::shared(Arc::new(node.clone())).with_options(options);
        let listen = |e| Error::io("listen on", "a loopback address", e);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        runtime.spawn(server.serve_on(listener, std::future::pending()));
        let mut client = Client::connect(&addr.to_string())?;
        let hello = client.call(&[b"HELLO", b"3", b"AUTH", b"default", password.as_bytes()])?;
        if let Answer::Error(text) = hello {
            return Err(Error::new(ErrorKind::Internal, text));
        }
        let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
        Ok(Embedded { name, client, node, runtime })
    }
}

impl Backend for Embedded {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn redis(&mut self, args: &[&[u8]]) -> Result<Answer> {
        self.client.call(args)
    }

    fn kv(&mut self, request: Request) -> Result<Response> {
        self.runtime.block_on(self.node.call(request))
    }

    fn next(&mut self) -> Result<Answer> {
        self.client.read()
    }
}
