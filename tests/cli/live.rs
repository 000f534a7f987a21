//! The commands that need a server, against `arqon dev`.

#![expect(clippy::unwrap_used, reason = "a server that does not start fails the test")]

use super::program::{Run, command, run};
use super::{FORMATS, error_in};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

pub(crate) struct Server {
    child: Child,
    folder: tempfile::TempDir,
    redis: String,
    pub(crate) grpc: String,
}

impl Server {
    pub(crate) fn start() -> Server {
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
fn the_console_keeps_and_finds_vectors() {
    let server = Server::start();
    let lines = [
        "VCREATE docs 2 METRIC l2",
        "VPUT docs 7 1,0 '{\"kind\": \"a\"}'",
        "VPUT docs 8 [0,2]",
        "VSEARCH docs 1,0.5 K 2",
        "VSEARCH docs NEAR 8 PAYLOAD",
        "VSEARCH docs 0,0 FILTER '{\"kind\": \"a\"}'",
        "VSEARCH docs 0,0 WORDS kind b",
        "VVERIFY docs",
        "VGET docs 8",
        "VDELETE docs 8",
        "VGET docs 8",
        "VLIST",
    ];
    let ran = server.repl("--output json", &lines);
    let payload = r#"[{"distance":5.0,"id":7,"payload":"{\"kind\": \"a\"}"}]"#;
    let expected = [
        "\"OK\"",
        "\"OK\"",
        "\"OK\"",
        r#"[{"distance":0.25,"id":7},{"distance":3.25,"id":8}]"#,
        payload,
        r#"[{"distance":1.0,"id":7}]"#,
        // No text has the word: 1 / 61 and 1 / 62 of the other ranking.
        r#"[{"distance":1.0,"id":7,"score":0.016393442},{"distance":4.0,"id":8,"score":0.016129032}]"#,
        r#"{"missing":0,"stored":2,"surplus":0}"#,
        r#"{"id":8,"vector":"0,2"}"#,
        "\"OK\"",
        "null",
        r#"{"docs":1}"#,
    ];
    assert_eq!((ran.code, ran.out.lines().collect::<Vec<_>>()), (0, expected.to_vec()));
    let told = server.repl("--output json", &["VDESCRIBE docs", "VEXPLAIN docs NEAR 7 EXACT"]);
    for part in
        [r#""dim":2"#, r#""kind":"auto""#, r#""vectors":1"#, r#""exact":true,"#, r#""hits":0"#]
    {
        assert!(told.out.contains(part), "{part}: {told:?}");
    }
    let kept = server.repl("", &["VDROP docs"]);
    assert_eq!(kept.code, 9, "{kept:?}");
    let gone = server.repl("--yes", &["VDROP docs", "VLIST", "VGET docs 7"]);
    assert!(gone.err.contains("no vector index"), "{gone:?}");
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
fn a_bench_of_vectors_tells_recall_with_every_throughput() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let made = "--vectors 600 --dim 16 --query-count 20 --ef 1,40 --seconds 0.01";
    for (line, stages) in [
        (format!("--addr {} --threads 2", server.grpc), 5),
        (format!("--data {at} --in-memory --metric cosine --threads 2"), 6),
    ] {
        for format in FORMATS {
            let what = format!("bench vector {line} {made} --output {format}");
            let ran = run(&what);
            assert_eq!(ran.code, 0, "{what}: {} {}", ran.out, ran.err);
            if !format.ends_with("json") {
                let heading = usize::from(format != "plain");
                assert_eq!(ran.out.lines().count(), stages + heading, "{what}: {}", ran.out);
                assert!(ran.err.contains("600 vectors of 16 numbers"), "{}", ran.err);
                continue;
            }
            let rows: Vec<serde_json::Value> =
                ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(rows.len(), stages, "{what}: {}", ran.out);
            for row in &rows {
                assert!(row["per_second"].as_f64().unwrap() > 0.0, "{row}");
                let searches = ["exact", "search"].contains(&row["stage"].as_str().unwrap());
                assert_eq!(row["recall"].is_f64() && row["p99_us"].is_f64(), searches, "{row}");
            }
            let recall = |at: usize| rows[at]["recall"].as_f64().unwrap();
            let (exact, narrow, wide) =
                (recall(stages - 3), recall(stages - 2), recall(stages - 1));
            assert!(exact == 1.0 && narrow <= wide && wide > 0.9, "{}", ran.out);
            assert_eq!(rows[stages - 1]["ef"], 40);
        }
    }
    // Nothing is left of it; what was kept is measured again by its name.
    let queries = folder.path().join("q.f32");
    let numbers: Vec<u8> = (0..3 * 16).flat_map(|n| (n as f32).to_le_bytes()).collect();
    std::fs::write(&queries, numbers).unwrap();
    let file = format!("--queries {} --format f32 --dim 16", queries.display());
    let index = format!("bench vector --data {at} --index arqon-bench {file}");
    assert_eq!(run(&index).code, 3);
    let kept = run(&format!("bench vector --data {at} {made} --keep -o json"));
    assert_eq!(kept.code, 0, "{}", kept.out);
    let again = run(&format!("bench vector --data {at} {made} -o json"));
    assert_eq!((again.code, again.out.contains("vector drop arqon-bench")), (7, true), "{again:?}");
    let searched = run(&format!("{index} --ef 20 --seconds 0.01 -o ndjson"));
    assert_eq!(searched.out.lines().count(), 2, "{searched:?}");
    let narrower = format!("--queries {} --format f32 --dim 8", queries.display());
    let narrower = run(&format!("bench vector --data {at} --index arqon-bench {narrower}"));
    assert_eq!(narrower.code, 2, "{narrower:?}");
}

#[test]
fn a_bench_takes_the_vectors_of_a_file_and_its_last_as_queries() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.fvecs");
    let mut bytes = Vec::new();
    for n in 0..60u32 {
        bytes.extend(4u32.to_le_bytes());
        bytes.extend((0..4u32).flat_map(|at| ((n * (at + 3) % 17) as f32 + 0.5).to_le_bytes()));
    }
    std::fs::write(&path, bytes).unwrap();
    let file = format!("bench vector --file {} --format fvecs", path.display());
    let ran = run(&format!("{file} --query-count 10 --k 5 --ef 50 --seconds 0.01 -o csv"));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("50 vectors of 4 numbers") && ran.err.contains("10 queries of 5"));
    assert!(ran.out.lines().last().unwrap().starts_with("search,50,1.0000,"), "{}", ran.out);
    let few = run(&format!("{file} --query-count 60"));
    assert_eq!(few.code, 2, "{few:?}");
}

#[test]
fn a_signal_ends_a_bench_and_the_demo_without_a_trace() {
    for line in [
        "bench kv fill --seconds 600 -o json",
        "bench kv --rate 0.01 -o json",
        "bench vector --vectors 1000 --seconds 600 -o json",
        "demo -o json",
    ] {
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
        // The last, where each is on a line of its own.
        let documents = serde_json::Deserializer::from_str(&text).into_iter();
        let document: serde_json::Value = documents.last().unwrap().unwrap();
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
