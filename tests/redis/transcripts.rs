//! Runs the files of `tests/transcripts/redis`.
//!
//! ```text
//! # a comment
//! @now 1700000000000   sets the clock, Unix ms; each file begins there
//! @tick 500            moves it on
//! > SET a 1            a call, and on the next line its reply
//! OK
//! ```
//! With `ARQON_BLESS=1` the replies are written anew. With `ARQON_TEST_REDIS=host:port` a file
//! without clock lines is also played to that server, which must give the same replies.

use crate::model::Model;
use crate::server::Server;
use crate::text::{parse_call, show};
use std::path::{Path, PathBuf};

const START_MS: u64 = 1_700_000_000_000;

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/redis");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "transcripts are missing");
    files
}

/// The file as it would be if every reply were what `answer` gives to its call.
fn replay(text: &str, mut answer: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut skip_reply = false;
    for line in text.lines() {
        if std::mem::take(&mut skip_reply) && !line.is_empty() && !line.starts_with(['>', '#', '@'])
        {
            continue;
        }
        out += line;
        out += "\n";
        if line.starts_with(['>', '@'])
            && let Some(reply) = answer(line)
        {
            out += &reply;
            out += "\n";
            skip_reply = true;
        }
    }
    out
}

#[test]
fn transcripts_hold() {
    let bless = std::env::var_os("ARQON_BLESS").is_some();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut model = Model::at(START_MS);
        let got = replay(&text, |line| {
            if let Some(ms) = line.strip_prefix("@now ") {
                model.now_ms = ms.trim().parse().unwrap();
            } else if let Some(ms) = line.strip_prefix("@tick ") {
                model.now_ms += ms.trim().parse::<u64>().unwrap();
            } else {
                return Some(show(&model.call(&parse_call(&line[1..]))));
            }
            None
        });
        if bless {
            std::fs::write(&file, got).unwrap();
        } else {
            same(&file, &text, &got);
        }
    }
}

#[test]
fn a_real_server_gives_the_same_replies() {
    let Some(mut server) = Server::from_env("transcripts") else { return };
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        // "ours" in a comment marks a file whose replies are ours by choice.
        if text.contains("\n@") || text.contains("# ours") {
            continue;
        }
        server.call(&parse_call("FLUSHALL"));
        let got = replay(&text, |line| Some(show(&server.call(&parse_call(&line[1..])))));
        same(&file, &text, &got);
    }
}

fn same(file: &Path, want: &str, got: &str) {
    for (n, (want, got)) in want.lines().zip(got.lines()).enumerate() {
        assert_eq!(got, want, "{}:{}", file.display(), n + 1);
    }
    assert_eq!(got, want, "{}", file.display());
}
