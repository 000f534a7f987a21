//! Connections that write once a turn.
//!
//! Answers of one connection become ready one after another within a turn of their thread, each
//! wakes the connection, and each would be written by a system call of its own, which wakes the
//! client anew. So a write waits until everything that was ready has run: a write that finds
//! nothing else to do goes at once, and under load one call carries what a turn has made.

use futures::task::AtomicWaker;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A connection that writes once a turn.
#[derive(Debug)]
pub(super) struct Turns {
    stream: TcpStream,
    state: State,
    end: Arc<End>,
    at_end: Waker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has been written since the last flush.
    Idle,
    /// Something is to be written when the turn has ended.
    Waiting,
    /// The turn has ended: what there is may go, until it is flushed.
    Open,
}

/// The end of a turn, once it has come.
#[derive(Debug, Default)]
struct End {
    has_come: AtomicBool,
    connection: AtomicWaker,
}

impl Wake for End {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_come.store(true, Ordering::Release);
        self.connection.wake();
    }
}

impl Turns {
    pub(super) fn new(stream: TcpStream) -> Turns {
        let end = Arc::new(End::default());
        Turns { stream, state: State::Idle, at_end: end.clone().into(), end }
    }

    /// Waits for the end of the turn, if nothing has been written since the last flush.
    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.state == State::Idle {
            self.end.has_come.store(false, Ordering::Release);
            self.end.connection.register(cx.waker());
            self.state = State::Waiting;
            // It wakes who polls it when all that was ready has run.
            let turn = pin!(tokio::task::yield_now());
            if turn.poll(&mut Context::from_waker(&self.at_end)).is_pending() {
                return Poll::Pending;
            }
            self.state = State::Open;
        }
        if self.state == State::Waiting {
            self.end.connection.register(cx.waker());
            if !self.end.has_come.load(Ordering::Acquire) {
                return Poll::Pending;
            }
            self.state = State::Open;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Turns {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Turns {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_turn(cx));
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_turn(cx));
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state == State::Open {
            self.state = State::Idle;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Turns {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_a_turn_writes_goes_when_it_has_ended_and_all_of_it_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut turns = Turns::new(listener.accept().await.unwrap().0);
        for round in 0..3u8 {
            let said = [round];
            let mut write = Box::pin(turns.write_all(&said));
            assert!((&mut write).now_or_never().is_none(), "the turn has not ended");
            assert!((&mut write).now_or_never().is_none(), "nor has it for who asks twice");
            write.await.unwrap();
            // Until it is flushed, the rest goes with it.
            turns.write_all(&[round]).now_or_never().unwrap().unwrap();
            turns.flush().await.unwrap();
        }
        let mut said = [0; 6];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(said, [0, 0, 1, 1, 2, 2]);
    }
}
