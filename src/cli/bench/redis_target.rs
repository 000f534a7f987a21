//! A Redis server as the thing measured.

use crate::base::{Error, ErrorKind, Result};
use crate::bench::session::Tally;
use crate::bench::{Data, Op, Session, Target};
use crate::env::Rng;
use crate::repl::client::{Answer, Client};

/// A server by address.
pub(super) struct RedisTarget {
    /// `host:port`.
    pub(super) addr: String,
}

impl Target for RedisTarget {
    fn open(&self) -> Result<Box<dyn Session>> {
        let client = Client::connect(&self.addr)?;
        Ok(Box::new(Connection { client, key: Vec::new(), cursor: b"0".to_vec() }))
    }
}

struct Connection {
    client: Client,
    key: Vec<u8>,
    cursor: Vec<u8>,
}

impl Session for Connection {
    fn run(&mut self, batch: &[Op], data: &Data, rng: &mut Rng) -> Result<Tally> {
        let mut tally = Tally::default();
        for op in batch {
            match *op {
                Op::Put(number) => {
                    data.key(number, &mut self.key);
                    let value = data.value(rng);
                    tally.bytes += (self.key.len() + value.len()) as u64;
                    self.client.queue(&[b"SET", &self.key, value]);
                }
                Op::Get(number) => {
                    data.key(number, &mut self.key);
                    tally.bytes += self.key.len() as u64;
                    self.client.queue(&[b"GET", &self.key]);
                }
                Op::Scan(_, keys) => {
                    let count = keys.to_string();
                    self.client.queue(&[b"SCAN", &self.cursor, b"COUNT", count.as_bytes()]);
                }
            }
        }
        self.client.send()?;
        for op in batch {
            let answer = self.client.read()?;
            self.take(*op, answer, &mut tally)?;
        }
        Ok(tally)
    }
}

impl Connection {
    fn take(&mut self, op: Op, answer: Answer, tally: &mut Tally) -> Result<()> {
        match (op, answer) {
            (_, Answer::Error(text)) => return Err(Error::new(ErrorKind::Io, text)),
            (Op::Put(_), Answer::Simple(_)) => {}
            (Op::Get(_), Answer::Nil) => tally.missing += 1,
            (Op::Get(_), Answer::Bulk(value)) => tally.bytes += value.len() as u64,
            (Op::Scan(..), Answer::Array(parts)) => {
                if let Some(Answer::Bulk(cursor)) = parts.first() {
                    self.cursor.clone_from(cursor);
                }
                if let Some(Answer::Array(keys)) = parts.get(1) {
                    tally.bytes += keys.iter().map(bulk_bytes).sum::<u64>();
                }
            }
            (op, answer) => {
                let addr = self.client.addr();
                let text = format!("{addr} answered {op:?} with {answer:?}");
                return Err(Error::new(ErrorKind::Io, text));
            }
        }
        Ok(())
    }
}

fn bulk_bytes(answer: &Answer) -> u64 {
    match answer {
        Answer::Bulk(bytes) => bytes.len() as u64,
        _ => 0,
    }
}
