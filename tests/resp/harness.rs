//! A server on a free port of the loopback, and clients that see bytes.

use crate::behind::Behind;
use crate::memory::Memory;
use arqondb::env::SimClock;
use arqondb::serve::resp::{RedisServer, RespOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Nothing here takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) kv: Arc<Memory>,
    pub(crate) clock: Arc<SimClock>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl TestServer {
    pub(crate) fn start() -> TestServer {
        TestServer::with(Memory::new(), RespOptions::default())
    }

    pub(crate) fn with(kv: Memory, options: RespOptions) -> TestServer {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (kv, clock) = (Arc::new(kv), Arc::new(SimClock::at(1_700_000_000_000)));
        let server = RedisServer::new(Behind::new(Arc::clone(&kv), Memory::new))
            .with_options(options)
            .with_clock(Arc::clone(&clock) as _);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            let shutdown = async move { drop(stopped.await) };
            server.serve_on(listener, shutdown).await.unwrap();
        });
        TestServer { addr, kv, clock, stop: Some(stop), task: Some(task), runtime }
    }

    pub(crate) fn client(&self) -> TestClient {
        TestClient::connect(self.addr)
    }

    /// Asks the server to stop.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Drops it in the middle of what it does.
    pub(crate) fn drop_it(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            assert!(self.wait(task).unwrap_err().is_cancelled());
        }
    }

    /// Waits until it has.
    pub(crate) fn join(&mut self) {
        if let Some(task) = self.task.take() {
            self.wait(async { task.await.unwrap() });
        }
    }

    /// Waits for something on the server's runtime.
    pub(crate) fn wait<T>(&self, event: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, event).await }).unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.ask_to_stop();
        if !std::thread::panicking() {
            self.join();
        }
    }
}

pub(crate) struct TestClient {
    pub(crate) stream: TcpStream,
}

impl TestClient {
    pub(crate) fn connect(addr: SocketAddr) -> TestClient {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        TestClient { stream }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads `n` bytes, or what there is before the end.
    pub(crate) fn read(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        (&mut self.stream).take(n as u64).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Reads all up to the end of the connection. A reset is an end too.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(e) if e.kind() != std::io::ErrorKind::ConnectionReset => panic!("{e}"),
            _ => bytes,
        }
    }

    /// One line without its CR LF.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = self.read(1);
            assert!(!byte.is_empty(), "the connection ended in {:?}", line.escape_ascii());
            line.extend(byte);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).unwrap()
    }

    /// Calls a command whose answer is a line or a bulk of text.
    pub(crate) fn call(&mut self, words: &[&str]) -> String {
        self.send(&command(words));
        let head = self.line();
        match head.strip_prefix('$').or_else(|| head.strip_prefix('=')) {
            Some("-1") => "(nil)".to_string(),
            Some(length) => {
                let length: usize = length.parse().unwrap();
                let mut text = self.read(length + 2);
                text.truncate(length);
                String::from_utf8(text).unwrap()
            }
            None => head,
        }
    }
}

/// A command as a multibulk.
pub(crate) fn command(words: &[&str]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    command_of_bytes(&words)
}

pub(crate) fn command_of_bytes(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}
