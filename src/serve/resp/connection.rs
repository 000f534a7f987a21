//! The loop of one connection: read what is there, execute the commands that are complete, write
//! their replies, and only then read on. So a client that does not take its replies is not read
//! from, and what it can make the server hold is one batch.

use super::frame::{Command, Decoder, Limits, TRIMMED};
use super::output::Chunks;
use super::registry::Client;
use super::server::Server;
use super::session::Session;
use crate::op::{KvOps, Reply};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room made for a read.
const READ_BYTES: usize = 16 * 1024;
/// Room below which more is made. Below `READ_BYTES`, so that arguments that stay alive do not
/// cost a buffer each.
const READ_BYTES_MIN: usize = 4 * 1024;
/// The most room made at once, for a request that is long.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// A buffer above this size is not kept for the next request.
const READ_BYTES_KEPT: usize = 64 * 1024;
/// The most commands taken from the buffer at once.
const BATCH_MAX: usize = 1024;
/// Output up to this size is not worth showing to others while it is written.
const FLUSH_BYTES_PLAIN: usize = 64 * 1024;
/// Chunks written at once.
const SLICES: usize = 16;

/// Serves a connection until either side ends it.
pub(super) async fn serve<K: KvOps>(
    stream: io::Result<std::net::TcpStream>,
    server: Arc<Server>,
    kv: Arc<K>,
    client: Arc<Client>,
) {
    // Leaves the registry even if a command panics.
    let _guest = Guest { server: Arc::clone(&server), id: client.id };
    // One that cannot be watched is as good as broken.
    let Ok(stream) = stream.and_then(TcpStream::from_std) else { return };
    let authenticated = !server.config.live.has_password.load(Relaxed);
    let mut connection = Connection {
        stream,
        buffer: BytesMut::new(),
        decoder: Decoder::default(),
        commands: VecDeque::new(),
        session: Session::new(Arc::clone(&client), authenticated),
        client,
        server: &server,
    };
    // Nobody is left to be told of a broken connection.
    let _ = connection.run(&*kv).await;
    let _ = connection.stream.shutdown().await;
}

struct Guest {
    server: Arc<Server>,
    id: u64,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.server.clients.leave(self.id);
    }
}

struct Connection<'a> {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: Decoder,
    /// Commands that have come and are not yet executed.
    commands: VecDeque<Command>,
    session: Session,
    client: Arc<Client>,
    server: &'a Server,
}

impl Connection<'_> {
    async fn run<K: KvOps>(&mut self, kv: &K) -> io::Result<()> {
        let client = Arc::clone(&self.client);
        // One for all reads: it registers once.
        let mut finishing = pin!(client.stop.finishing());
        while self.read(finishing.as_mut()).await? > 0 {
            while self.take_commands(kv).await? {}
            if self.session.closing || self.client.stop.is_finishing() {
                return Ok(());
            }
            self.client.input_bytes.store(self.buffer.len() as u64, Relaxed);
            self.commands.shrink_to(TRIMMED);
            self.decoder.trim();
        }
        Ok(())
    }

    /// Executes commands that have come, and writes their replies. Says whether there may be more.
    async fn take_commands<K: KvOps>(&mut self, kv: &K) -> io::Result<bool> {
        // A stranger's next command is looked at only when it is known whether it still is one.
        let max = if self.session.authenticated { BATCH_MAX } else { 1 };
        let limits = self.limits();
        self.client.input_bytes.store(self.buffer.len() as u64, Relaxed);
        let decoded = self.decoder.decode(&mut self.buffer, &limits, max, &mut self.commands);
        let found = self.commands.len();
        while !self.commands.is_empty() {
            self.session.execute(self.server, kv, &mut self.commands).await;
            if found > 1 && self.session.output.held_bytes() <= FLUSH_BYTES_PLAIN {
                // At the end of the thread's turn the replies to all pipelines are written one
                // after the other: a client with many connections would fall asleep between
                // replies that come one by one, and each would wake it anew.
                tokio::task::yield_now().await;
            }
            self.flush().await?;
        }
        if self.session.closing {
            return Ok(false);
        }
        if let Err(error) = decoded {
            let reply = Reply::err(error);
            self.server.stats.error(&reply);
            self.session.output.push(reply, self.session.proto);
            self.session.closing = true;
            self.flush().await?;
            return Ok(false);
        }
        Ok(found == max)
    }

    fn limits(&self) -> Limits {
        Limits {
            bulk_bytes_max: self.server.config.live.bulk_bytes_max.load(Relaxed),
            stranger: !self.session.authenticated,
        }
    }

    /// Reads what is there; 0 at the end, or when the connection should end.
    async fn read(&mut self, finishing: Pin<&mut impl Future<Output = ()>>) -> io::Result<usize> {
        let limit = self.server.config.live.query_buffer_bytes_max.load(Relaxed);
        if self.buffer.len() as u64 > limit {
            self.server.stats.totals.query_limit_cuts.fetch_add(1, Relaxed);
            return Ok(0);
        }
        if self.buffer.is_empty() && self.buffer.capacity() > READ_BYTES_KEPT {
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
            // Twice what has come: never what was announced.
            self.buffer.reserve(self.buffer.len().clamp(READ_BYTES, READ_BYTES_MAX));
        }
        let n = tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.buffer) => read?,
            () = finishing => 0,
        };
        let totals = &self.server.stats.totals;
        totals.reads.fetch_add(1, Relaxed);
        totals.bytes_in.fetch_add(n as u64, Relaxed);
        self.client.active_ms.store(self.server.now_ms(), Relaxed);
        Ok(n)
    }

    /// Writes all replies.
    async fn flush(&mut self) -> io::Result<()> {
        let hard = self.server.config.live.output_hard_bytes.load(Relaxed);
        if hard > 0 && self.session.output.waiting_bytes() as u64 > hard {
            self.server.stats.totals.output_limit_cuts.fetch_add(1, Relaxed);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let totals = &self.server.stats.totals;
        // What the soft limit looks at, should the client take nothing.
        let held = self.session.output.held_bytes();
        let mut slow = held > FLUSH_BYTES_PLAIN;
        if slow {
            self.client.output_bytes.store(held as u64, Relaxed);
        }
        loop {
            let chunks = self.session.output.fill();
            // Asked for bytes and not for replies: the rest of a reply may be nothing.
            if chunks.is_empty() {
                break;
            }
            let n = tokio::select! {
                biased;
                written = write(&mut self.stream, chunks) => written?,
                () = self.client.stop.cutting() => return Err(io::ErrorKind::ConnectionAborted.into()),
            };
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            chunks.advance(n);
            totals.writes.fetch_add(1, Relaxed);
            totals.bytes_out.fetch_add(n as u64, Relaxed);
            if !self.session.output.is_empty() {
                slow = true;
                let held = self.session.output.held_bytes();
                self.client.output_bytes.store(held as u64, Relaxed);
                self.client.active_ms.store(self.server.now_ms(), Relaxed);
            }
        }
        if slow {
            self.client.output_bytes.store(0, Relaxed);
        }
        Ok(())
    }
}

async fn write(stream: &mut TcpStream, chunks: &Chunks) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    match chunks.slices(&mut slices) {
        1 => stream.write(chunks.first()).await,
        n => stream.write_vectored(&slices[..n]).await,
    }
}
