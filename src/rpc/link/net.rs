//! The seam between links and the network: how connections come about.
//!
//! A connection carries bytes both ways, in order, until it breaks; bytes that were on the way then
//! may be lost. Implemented over TCP here, and by the network of a simulation.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// What a connection is read from.
pub type Reading = Box<dyn AsyncRead + Send + Unpin>;
/// What a connection is written to.
pub type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection: what comes, and what is sent. Dropping the second says that no more will come;
/// dropping both ends it.
pub struct Stream {
    /// What comes.
    pub read: Reading,
    /// What is sent.
    pub write: Writing,
}

/// A connection that is being made.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// Makes connections.
pub trait Net: Send + Sync + Debug {
    /// Connects to an address (`host:port`). Waits as long as that takes.
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a>;
}

/// Takes connections.
pub trait Door: Send + 'static {
    /// The next connection. Dropped half-way, it loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<Stream>> + Send;
}

/// The network of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Net for Tcp {
    fn connect<'a>(&'a self, address: &'a str) -> Connecting<'a> {
        Box::pin(async move { of(TcpStream::connect(address).await?) })
    }
}

impl Door for TcpListener {
    async fn accept(&mut self) -> io::Result<Stream> {
        of(TcpListener::accept(self).await?.0)
    }
}

fn of(stream: TcpStream) -> io::Result<Stream> {
    // What is written is written at once, and as much as there is.
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok(Stream { read: Box::new(read), write: Box::new(write) })
}

impl Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}
