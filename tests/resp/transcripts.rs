//! Runs the files of `tests/transcripts/resp`.
//!
//! ```text
//! # a comment
//! a> PING\r\n          connection a sends these bytes
//! a$ SET k "a b"       connection a sends this command as a multibulk
//! a< +OK\r\n           connection a receives exactly these bytes
//! a. closed            connection a has ended
//! a3                   connection a goes over to RESP3, whatever the greeting says
//! ```
//! Bytes are escaped as in Rust. A connection exists from its first line on; each file has a
//! server of its own. With `ARQON_TEST_REDIS=host:port` files whose name begins with `redis_` are
//! played to that server (Redis 7.0, `--databases 1`; its data is lost). With `ARQON_BLESS=1` the
//! answers are written anew, from there or from here.

use crate::harness::{TestClient, TestServer, command, command_of_bytes};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/resp");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "transcripts are missing");
    files
}

#[test]
fn transcripts_replay() {
    let bless = std::env::var_os("ARQON_BLESS").is_some();
    let real: Option<SocketAddr> =
        std::env::var("ARQON_TEST_REDIS").ok().map(|addr| addr.parse().unwrap());
    for path in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let server = TestServer::start();
        let addr = match real {
            Some(addr) if name.starts_with("redis_") => {
                assert_eq!(TestClient::connect(addr).call(&["FLUSHALL"]), "+OK");
                addr
            }
            Some(_) => continue,
            None => server.addr,
        };
        let replayed = replay(&name, &text, addr, bless);
        if bless {
            std::fs::write(&path, replayed).unwrap();
        }
    }
}

/// Plays a file. Gives it with the answers as they were; without `bless` they must be as written.
fn replay(name: &str, text: &str, addr: SocketAddr, bless: bool) -> String {
    let mut clients: BTreeMap<char, TestClient> = BTreeMap::new();
    let mut replayed = String::new();
    for (number, line) in text.lines().enumerate() {
        let mut chars = line.chars();
        let (Some(who), Some(verb)) = (chars.next(), chars.next()) else {
            replayed += "\n";
            continue;
        };
        if who == '#' {
            let _ = writeln!(replayed, "{line}");
            continue;
        }
        let rest = chars.as_str().strip_prefix(' ').unwrap_or(chars.as_str());
        let client = clients.entry(who).or_insert_with(|| TestClient::connect(addr));
        match verb {
            '>' | '$' => {
                let bytes = if verb == '>' { unescape(rest) } else { multibulk(rest) };
                client.send(&bytes);
                let _ = writeln!(replayed, "{line}");
                if bless {
                    for got in lull(client) {
                        let _ = writeln!(replayed, "{who}{got}");
                    }
                }
            }
            '3' => {
                client.send(&command(&["HELLO", "3"]));
                while !client.line().ends_with("modules") {}
                assert_eq!(client.line(), "*0");
                let _ = writeln!(replayed, "{line}");
            }
            '<' | '.' if bless => {}
            '<' => {
                let want = unescape(rest);
                let got = client.read(want.len());
                assert_eq!(
                    got.escape_ascii().to_string(),
                    want.escape_ascii().to_string(),
                    "{name}:{}",
                    number + 1
                );
            }
            '.' => assert_eq!(client.read_to_end(), b"", "{name}:{}", number + 1),
            _ => panic!("{name}:{}: {line}", number + 1),
        }
    }
    if !bless {
        for (who, mut client) in clients {
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
            let more = client.read_to_end();
            assert!(more.is_empty(), "{name}: {who} also got {}", more.escape_ascii());
        }
    }
    replayed
}

/// What comes until nothing comes for a moment, as lines of a transcript. For blessing only.
fn lull(client: &mut TestClient) -> Vec<String> {
    client.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let (mut bytes, mut buffer, mut ended) = (Vec::new(), [0; 65536], false);
    loop {
        match client.stream.read(&mut buffer) {
            Ok(0) => {
                ended = true;
                break;
            }
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {
                ended = true;
                break;
            }
            Err(_) => break,
        }
    }
    let mut lines = Vec::new();
    if !bytes.is_empty() {
        lines.push(format!(
            "< {}",
            bytes.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"")
        ));
    }
    if ended {
        lines.push(". closed".to_string());
    }
    lines
}

/// The words of a command, in double quotes if they hold blanks.
fn multibulk(text: &str) -> Vec<u8> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(unescape(word));
        rest = after.trim_start();
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    command_of_bytes(&words)
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&escaped, after) = rest.split_first().unwrap();
        rest = after;
        bytes.push(match escaped {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).unwrap();
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).unwrap()
            }
            other => other,
        });
    }
    bytes
}

#[test]
fn commands_pass_through_a_gateway_over_three_nodes_and_eight_shards() {
    let skipped = [
        // They look at the map in memory.
        "a_failing_engine_is_told",
        "data_commands_in_a_row",
        "persistence_is_what_the_engine_does",
        "through_a_gateway",
    ];
    crate::behind::again(&["transcripts::", "info::", "pipelines::", "ends::clients"], &skipped, 9);
}
