//! A small Redis client for tools: blocking, one connection, RESP2 and RESP3 replies.

pub mod answer;

use crate::base::{Error, ErrorKind, Result};
pub use answer::Answer;
use std::io::{BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection to a Redis server, or to anything that speaks its protocol.
pub struct Client {
    addr: String,
    input: BufReader<TcpStream>,
    queued: Vec<u8>,
    /// How long [`Client::call`] waits in silence.
    patience: Option<Duration>,
}

impl Client {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// `InvalidArgument` if the address has no port, `Unavailable` if nobody answers there.
    pub fn connect(addr: &str) -> Result<Client> {
        let resolved = addr.to_socket_addrs().map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidInput => {
                Error::invalid(format!("{addr:?} is not host:port, such as 127.0.0.1:6379"))
            }
            _ => unavailable(format!("cannot resolve {addr}: {e}")),
        })?;
        let mut last = None;
        for candidate in resolved {
            match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(|e| broken(addr, e))?;
                    let input = BufReader::with_capacity(64 * 1024, stream);
                    return Ok(Client {
                        addr: addr.to_string(),
                        input,
                        queued: Vec::new(),
                        patience: None,
                    });
                }
                Err(e) => last = Some(e),
            }
        }
        let why = last.map_or("the name has no address".to_string(), |e| e.to_string());
        Err(unavailable(format!("cannot connect to {addr}: {why}")))
    }

    /// Has [`Client::call`] fail with `Deadline` when the server is silent for so long. The answer
    /// may come later: a connection on which this happened is of no more use.
    pub fn with_patience(mut self, patience: Duration) -> Client {
        self.patience = Some(patience);
        self
    }

    /// Asks for RESP3; a server that knows only RESP2 stays with it.
    pub fn hello(&mut self) -> Result<Answer> {
        self.call(&[b"HELLO", b"3"])
    }

    /// Puts a command in the queue.
    pub fn queue(&mut self, args: &[&[u8]]) {
        _ = write!(self.queued, "*{}\r\n", args.len());
        for arg in args {
            _ = write!(self.queued, "${}\r\n", arg.len());
            self.queued.extend_from_slice(arg);
            self.queued.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what is queued.
    pub fn send(&mut self) -> Result<()> {
        let sent = self.input.get_mut().write_all(&self.queued);
        self.queued.clear();
        sent.map_err(|e| broken(&self.addr, e))
    }

    /// Waits for the next answer. One that the server sends on its own is an [`Answer::Push`].
    pub fn read(&mut self) -> Result<Answer> {
        answer::read(&mut self.input).map_err(|e| match e {
            answer::ReadError::Io(e) => broken(&self.addr, e),
            answer::ReadError::Malformed(what) => Error::new(
                ErrorKind::Io,
                format!("{} does not speak the Redis protocol: it sent {what}", self.addr),
            ),
        })
    }

    /// Sends one command and waits for its answer.
    pub fn call(&mut self, args: &[&[u8]]) -> Result<Answer> {
        self.queue(args);
        self.send()?;
        let Some(patience) = self.patience else { return self.read() };
        let stream = |client: &Client, patience| {
            let set = client.input.get_ref().set_read_timeout(patience);
            set.map_err(|e| broken(&client.addr, e))
        };
        stream(self, Some(patience))?;
        let answer = self.read();
        stream(self, None)?;
        answer
    }

    /// The address connected to.
    pub fn addr(&self) -> &str {
        &self.addr
    }
}

fn broken(addr: &str, e: std::io::Error) -> Error {
    if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) {
        let text = format!("{addr} does not answer; what was asked for may happen all the same");
        return Error::new(ErrorKind::Deadline, text);
    }
    let why = match e.kind() {
        std::io::ErrorKind::UnexpectedEof => "it closed the connection".to_string(),
        _ => e.to_string(),
    };
    unavailable(format!("lost the connection to {addr}: {why}"))
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_is_not_waited_for_without_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let client = Client::connect(&addr).unwrap();
        let mut client = client.with_patience(Duration::from_millis(20));
        let error = client.call(&[b"PING"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    }
}
