//! The rules of the house that the compiler does not know: who may name whom, where files, clocks
//! and threads may be touched, how long a file may grow. See CONTRIBUTING.md.
//!
//! `cargo test --test tidy` prints each fault as `file:line: [rule] how to mend it`.

#![expect(clippy::expect_used, reason = "an unreadable source file fails the test, as it should")]

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use rules::{Fault, check};
use source::Source;
use std::path::Path;

/// Reads every `.rs` file below `folder`.
fn read_below(top: &Path, folder: &str, into: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(top.join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("a folder of the repository is readable");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read_below(top, &path, into);
        } else if path.ends_with(".rs") {
            let text = std::fs::read_to_string(entry.path()).expect("a source file is UTF-8");
            into.push(Source::new(&path, &text));
        }
    }
}

fn report(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

#[test]
fn the_house_is_tidy() {
    // Cargo sets it at run time too; another value reads another working copy.
    let top = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").to_string());
    let top = Path::new(&top);
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        read_below(top, folder, &mut sources);
    }
    assert!(sources.len() > 20, "read only {} files", sources.len());
    let faults = check(&mut sources);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), report(&faults));
}

/// A house of the given file, with parents that declare it.
fn house(path: &str, text: &str) -> Vec<Source> {
    let mut sources = vec![Source::new(path, text)];
    let Some(inner) = path.strip_prefix("src/") else { return sources };
    let parts: Vec<&str> = inner.trim_end_matches(".rs").split('/').collect();
    for depth in 0..parts.len() {
        let parent = match depth {
            0 => "src/lib.rs".to_string(),
            _ => format!("src/{}/mod.rs", parts[..depth].join("/")),
        };
        if parent != path && parts[depth] != "mod" {
            sources.push(Source::new(&parent, &format!("//! Words.\nmod {};\n", parts[depth])));
        }
    }
    sources
}

/// The rules a snippet breaks, with their lines: `floors:3 places:4`.
fn broken(path: &str, text: &str) -> String {
    let faults = check(&mut house(path, text));
    let mine = faults.iter().filter(|fault| fault.path == path);
    mine.map(|fault| format!("{}:{}", fault.rule, fault.line)).collect::<Vec<_>>().join(" ")
}

#[test]
fn snippets_break_the_rules_they_should() {
    let cases: &[(&str, &str, &str)] = &[
        // Floors.
        ("src/lsm/a.rs", "use crate::base::Error;\nuse crate::{log::Log, op};", ""),
        ("src/lsm/a.rs", "use crate::lsm::b;\nuse super::b;", ""),
        ("src/lsm/a.rs", "use crate::shard::Shard;", "floors:1"),
        ("src/lsm/a.rs", "use crate::{\n    base::Error,\n    node::Db,\n};", "floors:3"),
        ("src/lsm/a.rs", "fn f() { crate::redis::g() }", "floors:1"),
        ("src/lsm/a.rs", "use super::super::redis;", "floors:1"),
        ("src/lsm/a/b.rs", "use super::super::key;", ""),
        (
            "src/lsm/a.rs",
            "mod t { use super::super::key; use super::super::super::redis; }",
            "floors:1",
        ),
        (
            "src/lsm/a.rs",
            "// crate::shard::X\n/* crate::node */ fn f() { \"crate::node::x\"; }",
            "",
        ),
        ("src/lsm/a.rs", "/// Like [`crate::shard::Shard`].\nfn f() {}", ""),
        ("src/graph/a.rs", "use crate::vector::Index;", "floors:1"),
        ("src/env/a.rs", "use crate::op::Request;", "floors:1"),
        ("src/serve/resp/a.rs", "use crate::serve::grpc::X;", "floors:1"),
        ("src/serve/resp/a.rs", "use super::super::grpc::X;", "floors:1"),
        ("src/serve/resp/a.rs", "use crate::serve::resp::b;\nuse crate::serve::listen;", ""),
        ("src/serve/mod.rs", "//! Doors.\npub use crate::serve::grpc::X;", ""),
        ("src/repl/a.rs", "use crate::bench::X;", "floors:1"),
        ("src/repl/a.rs", "use crate::cli::X;", "floors:1"),
        ("src/cli/a.rs", "use crate::repl::run;", ""),
        ("src/lsm/a.rs", "use crate::DBImpl;", "floors:1"),
        ("src/attic/a.rs", "fn f() {}", "floors:1"),
        ("src/extra.rs", "fn f() {}", "floors:1"),
        ("src/lib.rs", "//! Map.\npub use crate::node::Db;", ""),
        // Places.
        ("src/lsm/a.rs", "use std::fs;", "places:1"),
        ("src/lsm/a.rs", "use std::{fs::File, io};", "places:1"),
        ("src/lsm/a.rs", "use std::{io, fs as f};\nfn g() { f::read(\"x\") }", "places:1 places:2"),
        ("src/lsm/a.rs", "use std::time::Instant;\nfn g(t: Instant) {}", ""),
        ("src/lsm/a.rs", "use std::time::Instant;\nfn g() { Instant::now(); }", "places:2"),
        ("src/lsm/a.rs", "fn g() { std::time::SystemTime::now(); }", "places:1"),
        ("src/lsm/a.rs", "use std::thread;\nfn g() { thread::sleep(d) }", "places:2"),
        ("src/env/a.rs", "use std::{fs, env, thread::sleep, time::SystemTime};", ""),
        ("src/cli/a.rs", "fn g() { std::env::var(\"X\"); env!(\"Y\"); }", ""),
        ("src/node/a.rs", "fn g() { std::env::var(\"X\"); }", "places:1"),
        ("src/main.rs", "//! Program.\nfn main() { std::env::args(); }", ""),
        ("src/shard/a.rs", "use tokio::sync::mpsc;", "places:1"),
        ("src/raft/a.rs", "use tokio::sync::mpsc;\nuse openraft::Raft;", ""),
        ("src/node/a.rs", "use openraft::Raft;", "places:1"),
        ("src/serve/resp/a.rs", "use tokio::time::Instant;\nfn g() { Instant::now(); }", ""),
        ("src/lsm/a.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}", ""),
        ("src/lsm/a.rs", "#[cfg(test)]\nmod tests {\n}\nuse std::fs;", "places:4"),
        // Unsafe.
        ("src/lsm/a.rs", "fn f() {\n    unsafe { g() }\n}", "unsafe:2"),
        (
            "src/lsm/a.rs",
            "#![expect(unsafe_code, reason = \"arena\")]\nfn f() { unsafe { g() } }",
            "",
        ),
        (
            "src/lsm/a.rs",
            "// unsafe\nconst A: &str = \"unsafe\";\nconst B: &str = r#\"unsafe\"#;",
            "",
        ),
        (
            "src/lsm/a.rs",
            "const Q: char = '\"';\nfn f() { unsafe {} }\nconst R: u8 = b'\\'';",
            "unsafe:2",
        ),
        ("src/lsm/a.rs", "fn f<'a>(x: &'a str) { unsafe {} }", "unsafe:1"),
        // Names and openings.
        ("src/lsm/utils.rs", "fn f() {}", "names:1"),
        ("src/lsm/a.rs", "mod helpers { }", "names:1"),
        ("src/lsm/mod.rs", "pub mod a;", "opening:1"),
        ("src/lsm/mod.rs", "//! Floor 3.\npub mod a;", ""),
        // Leftovers and sleeps.
        ("src/lsm/a.rs", "fn f() {\n    todo!()\n}", "leftovers:2"),
        ("src/lsm/a.rs", "fn f() { let todo = 1; }", ""),
        ("tests/a.rs", "#[ignore]\nfn f() {}", "leftovers:1"),
        ("src/lsm/a.rs", concat!("// FIX", "ME: later"), "leftovers:1"),
        ("src/redis/a.rs", "// NX, XX and mkstempXXXXXX", ""),
        ("tests/a.rs", "fn f() { std::thread::sleep(d) }", "sleeps:1"),
        ("tests/a.rs", "use tokio::time;\nfn f() { time::sleep(d) }", "sleeps:2"),
        (
            "tests/a.rs",
            "// tidy: sleeps because the network it simulates is slow\nfn f() { std::thread::sleep(d) }",
            "",
        ),
        (
            "src/env/a.rs",
            "#[cfg(test)]\nmod tests { fn f() { std::thread::sleep(d) } }",
            "sleeps:2",
        ),
    ];
    for (path, text, expected) in cases {
        assert_eq!(broken(path, text), *expected, "{path}:\n{text}");
    }
}

#[test]
fn length_needs_a_reason_where_it_belongs() {
    let reason = "// tidy: long because every command stands in one table\n";
    let body = "    f();\n".repeat(120);
    let function = format!("fn long() {{\n{body}}}\n");
    let file = "const A: u8 = 1;\n".repeat(601);
    let check_text = |text: &str| broken("src/lsm/a.rs", text);
    assert_eq!(check_text(&function), "length:1");
    assert_eq!(check_text(&format!("{reason}{function}")), "");
    assert_eq!(check_text(&format!("{reason}#[inline]\n{function}")), "");
    assert_eq!(check_text(&format!("fn long() {{\n{reason}{body}}}\n")), "");
    assert_eq!(check_text(&format!("{reason}\n{function}")), "length:3");
    assert_eq!(check_text(&file), "length:1");
    assert_eq!(check_text(&format!("{reason}\n{file}")), "");
    assert_eq!(check_text(&format!("{file}fn f() {{\n{reason}}}\n")), "length:1");
    assert_eq!(check_text(&format!("// tidy: long because so\n{file}")), "length:1");
}

#[test]
fn a_file_nobody_declares_is_found() {
    let mut sources = vec![
        Source::new("src/lib.rs", "//! Map.\npub mod lsm;\n"),
        Source::new("src/lsm/mod.rs", "//! Floor 3.\nmod a;\n#[cfg(test)]\nmod proofs;\n"),
        Source::new(
            "src/lsm/a.rs",
            "fn f() {}\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n",
        ),
        Source::new("src/lsm/a_tests.rs", "use std::fs;\n"),
        Source::new("src/lsm/b.rs", "fn f() {}\n"),
        Source::new("src/lsm/proofs.rs", "use std::fs;\n"),
    ];
    let faults = check(&mut sources);
    assert_eq!(faults.len(), 1, "{}", report(&faults));
    assert_eq!((faults[0].path.as_str(), faults[0].rule), ("src/lsm/b.rs", "unreferenced"));
    assert!(faults[0].to_string().starts_with("src/lsm/b.rs:1: [unreferenced] "));
}
