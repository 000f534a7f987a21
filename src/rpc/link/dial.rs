//! The end of a link that calls.
//!
//! One task keeps the connection: it connects when there is something to say, writes all that waits
//! in one system call, and fails what was on the way when the connection breaks. After a failure
//! it does not try again for a moment, and what comes then is refused at once: whoever calls has
//! other replicas to ask.

use crate::base::{Error, ErrorKind, Result};
use crate::rpc::link::frame::{Frame, Frames, MAGIC};
use crate::rpc::link::hello::{Hello, decode_welcome};
use crate::rpc::link::net::{Net, Reading, Stream, Tcp, Writing};
use crate::rpc::ops::{Cut, read_error};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// How a link connects and waits.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Longest time for making the connection. Default 1 s.
    pub connect: Duration,
    /// After a failure nothing is tried for so long. Default 50 ms.
    pub pause: Duration,
    /// A link with nothing to say asks whether the other end is there so often; after three times as
    /// long without a word from there it is ended. Default 2 s.
    pub ping: Duration,
    /// The same for a link with calls that wait for their answers: whether the other end has not
    /// answered yet or never will is to be known soon. Default 200 ms.
    pub ping_waiting: Duration,
    /// Frames that may wait to be written. Default 4,096.
    pub waiting_max: usize,
    /// What it connects through. Default: [`Tcp`].
    pub net: Arc<dyn Net>,
}

impl Default for LinkOptions {
    fn default() -> LinkOptions {
        LinkOptions {
            connect: Duration::from_secs(1),
            pause: Duration::from_millis(50),
            ping: Duration::from_secs(2),
            ping_waiting: Duration::from_millis(200),
            waiting_max: 4096,
            net: Arc::new(Tcp),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone)]
pub enum CallError {
    /// It did not reach the other end, or was not begun there.
    NotSent(Error),
    /// It may have been executed.
    Lost(Error),
    /// The other end executed it and answers with an error.
    Failed(Error),
}

impl CallError {
    /// The error, as one who does not care for the difference wants it: what may have been executed
    /// is `Unknown`.
    pub fn into_error(self) -> Error {
        match self {
            CallError::NotSent(error) | CallError::Failed(error) => error,
            CallError::Lost(error) => Error::new(ErrorKind::Unknown, error.message().to_string()),
        }
    }
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Bytes, CallError>>>;

/// A link to one address. Clones share it; when the last is dropped it is ended.
#[derive(Debug, Clone)]
pub struct Link {
    queue: mpsc::Sender<Frame>,
    calls: Arc<Calls>,
    address: Arc<str>,
}

#[derive(Debug, Default)]
struct Calls {
    next: AtomicU64,
    waiting: Mutex<Waiting>,
}

impl Calls {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, id: u64, outcome: Result<Bytes, CallError>) {
        if let Some(waiting) = self.waiting().remove(&id) {
            _ = waiting.send(outcome);
        }
    }
}

/// Takes a call out of those that wait when its future is dropped.
struct Asked<'a>(&'a Calls, u64);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

impl Link {
    /// A link to `address` (`host:port`), connected with the first word. REQUIRES: a runtime.
    pub fn new(address: &str, hello: Hello, options: LinkOptions) -> Link {
        let (queue, frames) = mpsc::channel(options.waiting_max.max(1));
        let calls = Arc::new(Calls::default());
        let address: Arc<str> = address.into();
        let keeper = Keeper { address: address.clone(), hello, options, calls: calls.clone() };
        tokio::spawn(keeper.run(frames));
        Link { queue, calls, address }
    }

    /// Where it leads.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks, and waits for the answer until `deadline`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let id = self.calls.next.fetch_add(1, Ordering::Relaxed);
        let left = deadline.saturating_duration_since(Instant::now());
        let patience_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let (send, answer) = oneshot::channel();
        self.calls.waiting().insert(id, send);
        let _asked = Asked(&self.calls, id);
        let frame = Frame::Call { id, method, patience_ms, body };
        let late = || Error::new(ErrorKind::Deadline, format!("{} is too slow", self.address));
        match timeout_at(deadline, self.queue.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(CallError::NotSent(self.unreachable("it is closed"))),
            Err(_) => return Err(CallError::NotSent(late())),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(CallError::Lost(self.unreachable("it is closed"))),
            Err(_) => Err(CallError::Lost(late())),
        }
    }

    /// Says something, without waiting. It arrives once or never.
    ///
    /// # Errors
    /// `Unavailable` if too much waits to be said.
    pub fn post(&self, class: u8, body: Bytes) -> Result<()> {
        let sent = self.queue.try_send(Frame::Message { class, body });
        sent.map_err(|_| self.unreachable("too much waits to be sent there"))
    }

    fn unreachable(&self, why: &str) -> Error {
        unreachable(&self.address, why)
    }
}

fn unreachable(address: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{address} cannot be reached: {why}"))
}

/// Keeps the connection.
struct Keeper {
    address: Arc<str>,
    hello: Hello,
    options: LinkOptions,
    calls: Arc<Calls>,
}

impl Keeper {
    async fn run(self, mut queue: mpsc::Receiver<Frame>) {
        while let Some(first) = queue.recv().await {
            let connected = timeout(self.options.connect, self.connect()).await;
            let late = |_| Err(unreachable(&self.address, "it does not answer"));
            let failed = match connected.unwrap_or_else(late) {
                Ok((read, write)) => self.keep(read, write, first, &mut queue).await,
                Err(error) => {
                    self.refuse(first, &error);
                    error
                }
            };
            self.lose(&failed);
            // What comes now is refused, not kept waiting.
            let until = Instant::now() + self.options.pause;
            while let Ok(Some(frame)) = timeout_at(until, queue.recv()).await {
                self.refuse(frame, &failed);
            }
        }
        self.lose(&unreachable(&self.address, "it is closed"));
    }

    async fn connect(&self) -> Result<(Frames<Reading>, Writing)> {
        let broken = |e: std::io::Error| unreachable(&self.address, e);
        let connected = self.options.net.connect(&self.address).await;
        let Stream { read, mut write } = connected.map_err(broken)?;
        let mut bytes = MAGIC.to_vec();
        Frame::Hello(self.hello.encode().into()).put(&mut bytes)?;
        write.write_all(&bytes).await.map_err(broken)?;
        let mut frames = Frames::new(read);
        match frames.next().await? {
            Some(Frame::Welcome(body)) => {
                let theirs = decode_welcome(&body)?;
                if !theirs.may_meet(&self.hello) {
                    return Err(unreachable(&self.address, "it belongs to another cluster"));
                }
            }
            _ => return Err(unreachable(&self.address, "it does not speak as a cluster's does")),
        }
        Ok((frames, write))
    }

    /// Carries frames until the connection breaks or nobody holds the link.
    async fn keep(
        &self,
        mut read: Frames<Reading>,
        mut write: Writing,
        first: Frame,
        queue: &mut mpsc::Receiver<Frame>,
    ) -> Error {
        let mut bytes = Vec::new();
        self.put(first, &mut bytes);
        let (mut heard, mut received) = (Instant::now(), read.received());
        let mut pinged: Option<Instant> = None;
        loop {
            if !bytes.is_empty() {
                // What else this turn has to say goes with it.
                tokio::task::yield_now().await;
            }
            while bytes.len() < WRITE_BYTES
                && let Ok(frame) = queue.try_recv()
            {
                self.put(frame, &mut bytes);
            }
            let ping = match self.calls.waiting().is_empty() {
                true => self.options.ping,
                false => self.options.ping_waiting.min(self.options.ping),
            };
            if !bytes.is_empty() {
                // Each part has its time: a large one takes long on a slow way.
                for part in bytes.chunks(WRITE_BYTES) {
                    match timeout(ping * 6, write.write_all(part)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(e)) => return unreachable(&self.address, e),
                        Err(_) => return unreachable(&self.address, "it does not read"),
                    }
                }
                bytes.clear();
                bytes.shrink_to(WRITE_BYTES);
            }
            let quiet = pinged.map_or(heard + ping, |pinged| pinged + ping * 2);
            tokio::select! {
                frame = read.next() => match frame {
                    Ok(Some(frame)) => {
                        (heard, received) = (Instant::now(), read.received());
                        pinged = None;
                        self.take(frame);
                    }
                    Ok(None) => return unreachable(&self.address, "it ended the connection"),
                    Err(error) => return error,
                },
                frame = queue.recv() => match frame {
                    Some(frame) => self.put(frame, &mut bytes),
                    None => return unreachable(&self.address, "it is closed"),
                },
                () = tokio::time::sleep_until(quiet) => {
                    // A large frame is on its way, and the pong behind it.
                    if read.received() > received {
                        received = read.received();
                        heard = Instant::now();
                        pinged = None;
                        continue;
                    }
                    if pinged.is_some() {
                        return unreachable(&self.address, "it has fallen silent");
                    }
                    pinged = Some(Instant::now());
                    self.put(Frame::Ping, &mut bytes);
                }
            }
        }
    }

    fn put(&self, frame: Frame, bytes: &mut Vec<u8>) {
        if let Err(error) = frame.put(bytes) {
            self.refuse(frame, &error);
        }
    }

    fn take(&self, frame: Frame) {
        match frame {
            Frame::Answer { id, body } => self.calls.settle(id, Ok(body)),
            Frame::Failed { id, error } => {
                let told = read_error(&mut Cut::new(&error, "an error"));
                self.calls.settle(id, Err(CallError::Failed(told.unwrap_or_else(|e| e))));
            }
            // A pong has said what it has to say by coming; nothing else is said to who calls.
            _ => {}
        }
    }

    /// Fails a frame that was not sent.
    fn refuse(&self, frame: Frame, error: &Error) {
        if let Frame::Call { id, .. } = frame {
            self.calls.settle(id, Err(CallError::NotSent(error.clone())));
        }
    }

    /// Fails all that may be on the way. Those that still wait in the queue are among them, and
    /// will find nobody who waits.
    fn lose(&self, error: &Error) {
        let lost = std::mem::take(&mut *self.calls.waiting());
        for (_, waiting) in lost {
            _ = waiting.send(Err(CallError::Lost(error.clone())));
        }
    }
}

/// Bytes after which what waits goes into another system call.
const WRITE_BYTES: usize = 256 << 10;
