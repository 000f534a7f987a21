//! A connection to a real server, speaking RESP3, for comparison.

use arqondb::op::Reply;
use bytes::Bytes;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time has the server.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Server {
    stream: BufReader<TcpStream>,
    _turn: MutexGuard<'static, ()>,
}

impl Server {
    /// The server that `ARQON_TEST_REDIS` names, as `host:port`. Its data will be lost.
    pub(crate) fn from_env(what: &str) -> Option<Server> {
        let Ok(address) = std::env::var("ARQON_TEST_REDIS") else {
            eprintln!("SKIPPED {what}: ARQON_TEST_REDIS does not name a server");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = BufReader::new(TcpStream::connect(address).unwrap());
        let mut server = Server { stream, _turn: turn };
        let hello = server.call(&[Bytes::from("HELLO"), Bytes::from("3")]);
        assert!(matches!(hello, Reply::Map(_)), "{hello:?}");
        Some(server)
    }

    pub(crate) fn call(&mut self, args: &[Bytes]) -> Reply {
        let mut frame = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            frame.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            frame.extend_from_slice(arg);
            frame.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&frame).unwrap();
        self.read()
    }

    fn read(&mut self) -> Reply {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).unwrap();
        let line = line.strip_suffix(b"\r\n").expect("a whole line");
        let text = String::from_utf8_lossy(&line[1..]).into_owned();
        let count = || text.parse::<usize>().unwrap();
        match line[0] {
            b'+' => Reply::Simple(text.leak()),
            b'-' => Reply::Error(text),
            b':' => Reply::Int(text.parse().unwrap()),
            b'_' => Reply::Nil,
            b',' => Reply::Double(text.parse().unwrap()),
            b'#' => Reply::Bool(text == "t"),
            b'$' | b'=' => {
                let mut bytes = vec![0; count() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes.into())
            }
            b'*' => Reply::Array((0..count()).map(|_| self.read()).collect()),
            b'~' => Reply::Set((0..count()).map(|_| self.read()).collect()),
            b'%' => Reply::Map((0..count()).map(|_| (self.read(), self.read())).collect()),
            other => panic!("unexpected reply type {}", other as char),
        }
    }
}
