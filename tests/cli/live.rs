//! The commands that need a server, against `arqon dev`.

#![expect(clippy::unwrap_used, reason = "a server that does not start fails the test")]

use super::program::{Run, command, run};
use super::{FORMATS, error_in};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

struct Server {
    child: Child,
    folder: tempfile::TempDir,
    redis: String,
    grpc: String,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let line = format!(
            "dev --data {at}/data --redis 127.0.0.1:0 --grpc 127.0.0.1:0 \
             --port-file {at}/ports.json --output ndjson"
        );
        let mut child =
            command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The line comes when clients are served, or not at all.
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        if ready.is_empty() {
            let mut said = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("no server: {said}");
        }
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let address = |door: &str| ready[door].as_str().unwrap().to_string();
        let (redis, grpc) = (address("redis"), address("grpc"));
        Server { child, folder, redis, grpc }
    }

    fn data(&self) -> String {
        format!("{}/data", self.folder.path().display())
    }

    /// Executes lines in a console.
    fn repl(&self, flags: &str, lines: &[&str]) -> Run {
        let line = format!("repl --addr {} --grpc {} {flags}", self.redis, self.grpc);
        console(&line, lines)
    }

    /// Asks for a clean stop; gives the exit code and what was said.
    fn stop(&mut self) -> (Option<i32>, String) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
        let mut said = String::new();
        self.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A console that reads lines from a pipe.
fn console(line: &str, lines: &[&str]) -> Run {
    let mut child = command(line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = lines.join("\n");
    // A console that refuses to start does not read.
    _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_server_starts_answers_stops_and_leaves_its_data() {
    let mut server = Server::start();
    let ports = std::fs::read_to_string(server.folder.path().join("ports.json")).unwrap();
    let expected = format!("{{\"redis\":\"{}\",\"grpc\":\"{}\"}}\n", server.redis, server.grpc);
    assert_eq!(ports, expected);
    let ran =
        server.repl("", &["PING", "SET greeting hello", "CREATECF logs", "USE logs", "PUT a 1"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);

    let data = server.data();
    let held = run(&format!("repl --data {data} -c PING"));
    assert_eq!(held.code, 9, "{}", held.err);
    assert_eq!(server.stop().0, Some(0));
    assert!(!server.folder.path().join("ports.json").exists());

    let flags = format!("repl --data {data}");
    let ran =
        console(&flags, &["GET greeting", "USE logs", "SCAN", "USE default", "INCR n", "DBSIZE"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert_eq!(ran.out, "hello\nOK\na\n1\nOK\n1\n2\n");
    for format in FORMATS {
        let what = format!("check {data} --output {format}");
        let ran = run(&what);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{what} {}", ran.out);
        assert!(ran.out.contains("sound") && error_in(format, &ran, &what).is_none(), "{what}");
    }
}

#[test]
fn the_console_answers_in_every_format() {
    let server = Server::start();
    let lines = ["SET k 'a b'", "GET k", "GET absent", "MGET k absent", "PUT p,1 x", "SCAN p"];
    for (flags, expected) in [
        ("--output table", "OK\n\"a b\"\n(nil)\n1) \"a b\"\n2) (nil)\nOK\n1# \"p,1\" => \"x\"\n"),
        ("", "OK\na b\n\na b\n\nOK\np,1\nx\n"),
        ("--raw", "OK\na b\n\na b\n\nOK\np,1\nx\n"),
        ("--output plain", "OK\na b\n\na b\n\nOK\np,1\nx\n"),
        ("--output json", "\"OK\"\n\"a b\"\nnull\n[\"a b\",null]\n\"OK\"\n{\"p,1\":\"x\"}\n"),
        ("--output ndjson", "\"OK\"\n\"a b\"\nnull\n[\"a b\",null]\n\"OK\"\n{\"p,1\":\"x\"}\n"),
        ("--output csv", "OK\na b\n\na b,\nOK\n\"p,1\",x\n"),
        ("--output tsv", "OK\na b\n\na b\t\nOK\np,1\tx\n"),
    ] {
        let ran = server.repl(flags, &lines);
        assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (0, "", expected), "{flags}");
    }
}

#[test]
fn a_script_is_refused_destruction_and_told_of_errors() {
    let server = Server::start();
    let refused = server.repl("", &["SET k v", "FLUSHALL", "GET k"]);
    assert_eq!((refused.code, refused.out.as_str()), (9, "OK\nv\n"));
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    let done = server.repl("--yes", &["FLUSHALL", "GET k"]);
    assert_eq!((done.code, done.out.as_str()), (0, "OK\n\n"));
    let wrong = server.repl("", &["SET k", "GET k"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (1, "\n"));
    assert!(wrong.err.contains("wrong number of arguments"), "{}", wrong.err);
    let json = server.repl("--output json", &["SET k", "USE nowhere"]);
    let error = error_in("json", &json, "repl").unwrap();
    assert_eq!((json.code, &error["code"]), (1, &"redis".into()));
}

#[test]
fn benches_measure_in_every_format() {
    let server = Server::start();
    let load = "fill read mixed scan --keys 200 --ops 200";
    for (line, rate) in [
        (format!("bench redis {load} --addr {} --clients 3", server.redis), ""),
        (format!("bench kv {load} --threads 2 --pipeline 8"), "--rate 100000"),
    ] {
        for format in FORMATS {
            let what = format!("{line} {rate} --output {format}");
            let ran = run(&what);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{what}");
            assert!(error_in(format, &ran, &what).is_none());
            if format == "json" {
                let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
                let stages = document["stages"].as_array().unwrap();
                assert_eq!(stages.len(), 4, "{what}");
                for stage in stages {
                    assert_eq!((&stage["ops"], &stage["missing"]), (&200.into(), &0.into()));
                    assert!(stage["p50_us"].as_f64().unwrap() <= stage["max_us"].as_f64().unwrap());
                }
            }
        }
    }
}

#[test]
fn a_signal_ends_a_bench_and_the_demo_without_a_trace() {
    for line in
        ["bench kv fill --seconds 600 -o json", "bench kv --rate 0.01 -o json", "demo -o json"]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(line);
        command.env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let log = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path().join("log");
        while !std::fs::read_dir(folder.path()).unwrap().any(|e| log(e).is_dir()) {
            std::thread::yield_now();
        }
        let id = i32::try_from(child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(130), "{line}: {text}");
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["error"]["code"], "interrupted", "{line}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{line}");
    }
}

#[test]
fn a_second_server_says_what_is_in_its_way() {
    let server = Server::start();
    let other = tempfile::tempdir().unwrap();
    let free = "--redis 127.0.0.1:0 --grpc 127.0.0.1:0";
    let held = run(&format!("dev --data {} {free} -o json", server.data()));
    assert_eq!(held.code, 9, "{}", held.out);
    let fix = error_in("json", &held, "dev").unwrap()["fix"].clone();
    assert!(fix.as_str().unwrap().contains("--data"), "{fix}");
    let at = other.path().display();
    let taken = run(&format!("dev --data {at} --redis {} --grpc 127.0.0.1:0", server.redis));
    assert_eq!(taken.code, 5);
    assert!(taken.err.contains("--redis") && taken.err.contains("fix:"), "{}", taken.err);
}
