//! A connection that speaks raw RESP2 and notices when the server is gone.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A server that does not answer for so long has hung.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
}

pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Client {
    pub(crate) fn connect(address: &str) -> io::Result<Client> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(ANSWER_DEADLINE))?;
        Ok(Client { reader: BufReader::new(writer.try_clone()?), writer })
    }

    /// Sends commands in one write.
    pub(crate) fn send(&mut self, commands: &[Vec<Vec<u8>>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for command in commands {
            bytes.extend(format!("*{}\r\n", command.len()).bytes());
            for part in command {
                bytes.extend(format!("${}\r\n", part.len()).bytes());
                bytes.extend(part);
                bytes.extend(b"\r\n");
            }
        }
        self.writer.write_all(&bytes)
    }

    /// The next answer. An error of the connection means that the server is gone; an error reply
    /// fails the test.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 || !line.ends_with("\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let number = || line[1..].parse::<i64>().expect("a RESP number");
        match line.as_bytes()[0] {
            b'+' => Ok(Answer::Ok),
            b':' => Ok(Answer::Integer(number())),
            b'$' if number() < 0 => Ok(Answer::Nil),
            b'$' => {
                let mut bulk = vec![0; usize::try_from(number()).unwrap() + 2];
                self.reader.read_exact(&mut bulk)?;
                bulk.truncate(bulk.len() - 2);
                Ok(Answer::Bulk(bulk))
            }
            _ => panic!("the server answered {line:?}"),
        }
    }

    /// Sends one command and reads its answer.
    pub(crate) fn call(&mut self, command: &[&[u8]]) -> io::Result<Answer> {
        self.send(&[command.iter().map(|part| part.to_vec()).collect()])?;
        self.answer()
    }
}
