//! The end of a link that answers.

use crate::base::{Error, ErrorKind, Result};
use crate::rpc::link::frame::{Frame, Frames, MAGIC};
use crate::rpc::link::hello::{Hello, encode_welcome};
use crate::rpc::link::net::{Stream, Writing};
use crate::rpc::ops::put_error;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

/// Calls of one link that are executed at once; more wait on the wire.
const CALLS_MAX: usize = 4096;
/// Frames that wait to be written.
const WAITING_MAX: usize = 4096;
/// Bytes after which what waits goes into another system call.
const WRITE_BYTES: usize = 256 << 10;
/// How long a caller may take to say who it is, and to read what it is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// What answers on links.
pub trait LinkService: Send + Sync + 'static {
    /// Who this end is, or why it will not speak to that caller.
    fn greet(&self, from: &Hello) -> Result<Hello>;

    /// Executes a call. Not dropped half-way while the process lives.
    fn call(
        &self,
        from: Hello,
        method: u16,
        patience: Duration,
        body: Bytes,
    ) -> impl Future<Output = Result<Bytes>> + Send;

    /// Takes a message, without waiting.
    fn message(&self, from: &Hello, class: u8, body: Bytes);
}

/// Answers on one link until it ends, or `stop` turns true.
///
/// # Errors
/// What ended it, if not its caller.
pub async fn serve<S: LinkService>(
    stream: Stream,
    service: Arc<S>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let lost = |e: std::io::Error| Error::new(ErrorKind::Unavailable, e.to_string());
    let Stream { mut read, mut write } = stream;
    let mut magic = [0; MAGIC.len()];
    timeout(PATIENCE, read.read_exact(&mut magic)).await.map_err(|_| silent())?.map_err(lost)?;
    if magic != *MAGIC {
        return Err(Error::invalid("a connection began otherwise than a link does"));
    }
    let mut frames = Frames::new(read);
    let first = timeout(PATIENCE, frames.next()).await.map_err(|_| silent())??;
    let Some(Frame::Hello(hello)) = first else {
        return Err(Error::invalid("a link began with something else than a hello"));
    };
    let from = Hello::decode(&hello);
    let own = from.as_ref().map_err(Error::clone).and_then(|from| service.greet(from));
    let mut bytes = Vec::new();
    Frame::Welcome(encode_welcome(&own)).put(&mut bytes)?;
    write.write_all(&bytes).await.map_err(lost)?;
    let (from, _) = (from?, own?);

    let (out, queue) = mpsc::channel(WAITING_MAX);
    let writer = tokio::spawn(write_frames(write, queue));
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    let ended = loop {
        let frame = tokio::select! {
            frame = frames.next() => frame,
            _ = stop.wait_for(|stop| *stop) => break Ok(()),
        };
        match frame {
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
            Ok(Some(Frame::Ping)) => {
                if out.send(Frame::Pong).await.is_err() {
                    break Ok(());
                }
            }
            Ok(Some(Frame::Message { class, body })) => service.message(&from, class, body),
            Ok(Some(Frame::Call { id, method, patience_ms, body })) => {
                let Ok(room) = room.clone().acquire_owned().await else { break Ok(()) };
                let (service, out) = (service.clone(), out.clone());
                let patience = Duration::from_millis(patience_ms.into());
                tokio::spawn(async move {
                    let frame = match service.call(from, method, patience, body).await {
                        Ok(body) => Frame::Answer { id, body },
                        Err(error) => {
                            let mut told = Vec::new();
                            put_error(&mut told, &error);
                            Frame::Failed { id, error: told.into() }
                        }
                    };
                    // Whoever asked may be gone.
                    _ = out.send(frame).await;
                    drop(room);
                });
            }
            Ok(Some(_)) => break Err(Error::invalid("a link said what only its other end says")),
        }
    };
    drop(out);
    // What is being executed is answered still, but not for ever.
    _ = timeout(PATIENCE, writer).await;
    ended
}

fn silent() -> Error {
    Error::new(ErrorKind::Deadline, "whoever opened the link did not say who it is")
}

async fn write_frames(mut write: Writing, mut queue: mpsc::Receiver<Frame>) {
    let mut bytes = Vec::new();
    while let Some(first) = queue.recv().await {
        put(first, &mut bytes);
        // What else this turn has to say goes with it.
        tokio::task::yield_now().await;
        while bytes.len() < WRITE_BYTES
            && let Ok(frame) = queue.try_recv()
        {
            put(frame, &mut bytes);
        }
        // One that does not read what it is told is given up.
        for part in bytes.chunks(WRITE_BYTES) {
            if !matches!(timeout(PATIENCE, write.write_all(part)).await, Ok(Ok(()))) {
                return;
            }
        }
        bytes.clear();
        bytes.shrink_to(WRITE_BYTES);
    }
}

fn put(frame: Frame, bytes: &mut Vec<u8>) {
    if let Err(error) = frame.put(bytes)
        && let Frame::Answer { id, .. } = frame
    {
        // The call was executed; its caller must not take it for one that was not.
        let error = Error::new(ErrorKind::Unknown, error.message().to_string());
        let mut told = Vec::new();
        put_error(&mut told, &error);
        // An error is short.
        _ = Frame::Failed { id, error: told.into() }.put(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::link::net::{Connecting, Net};
    use crate::rpc::link::{CallError, Link, LinkOptions, Role, listen};
    use std::io;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll, ready};
    use tokio::io::{AsyncRead, ReadBuf};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{Instant, MissedTickBehavior};

    #[derive(Default)]
    struct Echo {
        messages: Mutex<Vec<(u8, Bytes)>>,
    }

    impl LinkService for Echo {
        fn greet(&self, from: &Hello) -> Result<Hello> {
            let own = Hello { role: Role::Node, cluster: [1; 16], node: 9, incarnation: 4 };
            if own.may_meet(from) {
                return Ok(own);
            }
            Err(Error::new(ErrorKind::Refused, "you belong to another cluster"))
        }

        async fn call(&self, from: Hello, method: u16, _: Duration, body: Bytes) -> Result<Bytes> {
            match method {
                0 => Ok(body),
                1 => Err(Error::new(ErrorKind::Conflict, format!("no, {:?}", from.role))),
                _ => std::future::pending().await,
            }
        }

        fn message(&self, _: &Hello, class: u8, body: Bytes) {
            self.messages.lock().unwrap().push((class, body));
        }
    }

    struct Server {
        address: String,
        echo: Arc<Echo>,
        stop: watch::Sender<bool>,
    }

    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = watch::channel(false);
        let echo = Arc::new(Echo::default());
        tokio::spawn(listen(listener, echo.clone(), stopped));
        Server { address, echo, stop }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn link(server: &Server, cluster: [u8; 16]) -> Link {
        Link::new(&server.address, Hello::nameless(Role::Gateway, cluster), LinkOptions::default())
    }

    #[tokio::test]
    async fn many_calls_share_a_link_and_each_gets_its_own_answer() {
        let server = start().await;
        let link = link(&server, [0; 16]);
        let calls = (0..2000u32).map(|i| {
            let link = link.clone();
            async move {
                let body = Bytes::from(i.to_le_bytes().repeat(1 + i as usize % 700));
                assert_eq!(link.call(0, body.clone(), soon()).await.unwrap(), body);
            }
        });
        futures::future::join_all(calls).await;
        match link.call(1, Bytes::new(), soon()).await {
            Err(CallError::Failed(error)) => {
                assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "no, Gateway"));
            }
            other => panic!("{other:?}"),
        }
        for i in 0..100 {
            link.post(i, Bytes::from(vec![i])).unwrap();
        }
        // A call behind them on the same link: they have come by its answer.
        link.call(0, Bytes::new(), soon()).await.unwrap();
        let said = server.echo.messages.lock().unwrap().clone();
        assert!(said.into_iter().eq((0..100).map(|i| (i, Bytes::from(vec![i])))));
    }

    #[tokio::test]
    async fn what_may_have_happened_is_told_from_what_did_not() {
        let server = start().await;
        let other = link(&server, [2; 16]);
        match other.call(0, Bytes::new(), soon()).await {
            Err(CallError::NotSent(error)) => assert_eq!(error.kind(), ErrorKind::Refused),
            other => panic!("{other:?}"),
        }
        let link = link(&server, [1; 16]);
        link.call(0, Bytes::new(), soon()).await.unwrap();
        let begun = {
            let link = link.clone();
            tokio::spawn(async move { link.call(2, Bytes::new(), soon()).await })
        };
        // Behind it on the wire: it is being executed by now, or about to be.
        link.call(0, Bytes::new(), soon()).await.unwrap();
        server.stop.send(true).unwrap();
        assert!(matches!(begun.await.unwrap(), Err(CallError::Lost(_))));
        // Nobody listens any more.
        loop {
            match link.call(0, Bytes::new(), soon()).await {
                Err(CallError::NotSent(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable);
                    break;
                }
                Err(CallError::Lost(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        let late = Instant::now() + Duration::from_millis(20);
        let again = start().await;
        let slow =
            Link::new(&again.address, Hello::nameless(Role::Tool, [0; 16]), LinkOptions::default());
        assert!(matches!(slow.call(2, Bytes::new(), late).await, Err(CallError::Lost(_))));
    }

    /// A way on which little comes at a time.
    struct Slowly<R>(R, tokio::time::Interval);

    impl<R: AsyncRead + Unpin> AsyncRead for Slowly<R> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            ready!(self.1.poll_tick(cx));
            let mut some = vec![0; buf.remaining().min(64 << 10)];
            let mut some = ReadBuf::new(&mut some);
            ready!(Pin::new(&mut self.0).poll_read(cx, &mut some))?;
            buf.put_slice(some.filled());
            Poll::Ready(Ok(()))
        }
    }

    /// Connects to a service, both ways slow.
    #[derive(Debug)]
    struct SlowNet(watch::Sender<bool>);

    impl Net for SlowNet {
        fn connect<'a>(&'a self, _: &'a str) -> Connecting<'a> {
            Box::pin(async {
                let (near, far) = tokio::io::duplex(64 << 10);
                let end = |stream| {
                    let (read, write) = tokio::io::split(stream);
                    let mut ticks = tokio::time::interval(Duration::from_millis(100));
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    Stream { read: Box::new(Slowly(read, ticks)), write: Box::new(write) }
                };
                tokio::spawn(serve(end(far), Arc::new(Echo::default()), self.0.subscribe()));
                Ok(end(near))
            })
        }
    }

    /// Three times the pause between pings without a whole frame was taken for silence, and every
    /// call on the link failed with the large one.
    #[tokio::test(start_paused = true)]
    async fn a_link_on_which_a_large_call_or_answer_is_coming_has_not_fallen_silent() {
        let net = Arc::new(SlowNet(watch::channel(false).0));
        let options = LinkOptions { net, ..LinkOptions::default() };
        let link = Link::new("there", Hello::nameless(Role::Gateway, [0; 16]), options);
        let begun = Instant::now();
        let body = Bytes::from(vec![7; 2 << 20]);
        assert_eq!(link.call(0, body.clone(), soon()).await.unwrap(), body);
        assert!(begun.elapsed() > Duration::from_secs(6), "32 parts each way");
    }

    #[tokio::test]
    async fn a_stranger_is_told_apart_and_nonsense_ends_the_link() {
        let server = start().await;
        for nonsense in
            [&b"ARQL"[..], b"ARQLxxxxxxxxxxxxxxxxxxxxxxxx", &[b"ARQL", &[0xff; 64][..]].concat()]
        {
            let mut stream = TcpStream::connect(&server.address).await.unwrap();
            stream.write_all(nonsense).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, b"");
        }
    }
}
