//! The contract of the command line, held for every leaf command: help with examples and exit
//! codes, valid output in every format, errors as data in JSON, stable exit codes.

#[path = "cli/cluster.rs"]
mod cluster;
#[path = "cli/config.rs"]
mod config;
#[path = "cli/fixture.rs"]
mod fixture;
#[path = "cli/fresh.rs"]
mod fresh;
#[path = "cli/live.rs"]
mod live;
#[path = "cli/program.rs"]
mod program;
#[path = "cli/vector.rs"]
mod vector;

use fixture::Fixture;
use program::{Run, run};

const FORMATS: [&str; 6] = ["table", "json", "ndjson", "csv", "tsv", "plain"];

/// Every leaf command with a line that must fail, and the exit code it must fail with.
const FAILURES: &[(&str, &str, i32)] = &[
    ("bench redis", "--addr 127.0.0.1:1", 5),
    ("bench redis", "--addr nonsense", 2),
    ("bench redis", "--keys 0", 2),
    ("bench redis", "--clients 0", 2),
    ("bench kv", "--threads 0", 2),
    ("bench kv", "--sync sometimes", 2),
    ("bench kv", "--rate 0", 2),
    ("bench vector", "--addr 127.0.0.1:1 --vectors 5 --query-count 1", 5),
    ("bench vector", "--threads 0", 2),
    ("bench vector", "--ef 0", 2),
    ("bench vector", "--index docs", 2),
    ("bench vector", "--file @absent.f32 --format f32 --dim 4", 3),
    ("bench vector", "--file @lines.txt --format ndjson", 2),
    ("bench vector", "--addr 127.0.0.1:1 --data @x", 2),
    ("vector create", "docs --dim 0 --data @empty", 2),
    ("vector create", "__docs --dim 4 --addr 127.0.0.1:1", 2),
    ("vector create", "docs --dim 4 --addr 127.0.0.1:1", 5),
    ("vector create", "docs --dim 4 --metric near", 2),
    ("vector drop", "docs --data @absent", 3),
    ("vector list", "--data @absent", 3),
    ("vector list", "--addr 127.0.0.1:1", 5),
    ("vector describe", "docs --data @empty", 3),
    ("vector import", "docs @absent.f32 --format f32 --dim 4 --addr 127.0.0.1:1", 3),
    ("vector import", "docs @lines.txt --format ndjson --addr 127.0.0.1:1", 2),
    ("vector import", "docs @lines.txt --format npy --addr 127.0.0.1:1", 2),
    ("vector search", "docs", 2),
    ("vector search", "docs --near 1 --filter nonsense --addr 127.0.0.1:1", 2),
    ("vector search", "docs --near 1 --data @absent", 3),
    ("vector export", "docs @x --data @absent", 3),
    ("vector verify", "docs --data @absent", 3),
    ("config check", "@settings-wrong.toml", 2),
    ("config check", "@settings-absent.toml", 3),
    ("config check", "@empty", 1),
    ("config sample", "--role nonsense", 2),
    ("config show", "--config @settings-wrong.toml", 2),
    ("config show", "--config @settings-absent.toml", 3),
    ("demo", "--sync sometimes", 2),
    ("dev", "--redis 0.0.0.0:0", 9),
    ("dev", "--redis nonsense", 2),
    ("dev", "--sync sometimes", 2),
    ("dev", "--memory 7", 2),
    ("dev", "--config @settings-absent.toml", 3),
    ("dev", "--config @settings-wrong.toml", 2),
    ("check", "@bad", 8),
    ("check", "@absent", 3),
    ("check", "@good/log", 3),
    ("repl", "--addr 127.0.0.1:1 -c PING", 5),
    ("repl", "--data @x --addr 127.0.0.1:1", 2),
    ("repl", "--addr 127.0.0.1:1 --file /nonexistent", 5),
    ("sst dump", "@bad.sst", 8),
    ("sst dump", "@absent.sst", 3),
    ("sst dump", "@good.sst --from \\q", 2),
    ("sst props", "@lines.txt", 8),
    ("sst props", "@absent.sst", 3),
    ("sst verify", "@bad.sst", 8),
    ("sst verify", "@good.sst @bad.sst", 8),
    ("sst verify", "@good.sst @absent.sst", 3),
    ("manifest dump", "@bad", 8),
    ("manifest dump", "@bad --files", 8),
    ("manifest dump", "@absent", 3),
    ("manifest dump", "@good/log", 3),
    ("manifest dump", "@good --number 9", 3),
    ("wal dump", "@bad", 8),
    ("wal dump", "@absent", 3),
    ("wal verify", "@bad", 8),
    ("wal verify", "@bad/log", 8),
    ("wal verify", "@absent", 3),
    ("wal verify", "@empty", 3),
    ("wal dump", "@empty", 3),
    ("wal verify", "@lost", 8),
    ("wal dump", "@lost", 8),
    ("check", "@newer", 8),
    ("repl", "--data @empty -c PING", 3),
    ("repl", "--data @absent -c PING", 3),
    ("meta", "--dir @empty --listen nonsense", 2),
    ("meta", "--dir @empty --listen 127.0.0.1:0 --peers http://127.0.0.1:1,http://127.0.0.1:2", 2),
    ("node", "@empty 127.0.0.1:0", 2),
    ("node", "@empty nonsense --meta http://127.0.0.1:1", 2),
    ("gateway", "--addr nonsense", 2),
    ("gateway", "--addr 127.0.0.1:0 --redis-addr 127.0.0.1:0 --jwt-secret long-and-random", 9),
    ("cluster init", "--meta nonsense", 2),
    ("cluster status", "--meta nonsense", 2),
    ("cluster transfer-leader", "1 --to 2 --meta nonsense", 2),
    ("cluster split", "1 --meta nonsense", 2),
    ("cluster split", "1 --at 70000", 2),
    ("cluster backup", "@x --meta nonsense", 2),
    ("cluster backup", "--meta http://127.0.0.1:1", 2),
    ("cluster backup list", "@absent", 3),
    ("cluster backup list", "@empty", 3),
    ("cluster backup verify", "@absent", 3),
    ("cluster backup prune", "@empty --keep 1", 3),
    ("cluster backup prune", "@empty --keep 0", 2),
    ("cluster restore", "@empty --to-dir @x", 3),
    ("cluster restore", "@absent --shards 0", 2),
    ("cluster up", "", 2),
    ("cluster up", "-f @absent.toml", 3),
    ("cluster up", "-f @settings.toml", 2),
    ("cluster up", "-f @lines.txt --dry-run", 2),
    ("cluster down", "-f @absent.toml", 3),
    ("cluster down", "-f @settings.toml", 2),
    ("cluster join", "1 --meta nonsense", 2),
    ("cluster drain", "1 --meta nonsense", 2),
    ("cluster remove", "1 --meta nonsense", 2),
    ("cluster move", "1 --from 1 --to 2 --meta nonsense", 2),
    ("cluster rebalance", "--meta nonsense", 2),
    ("cluster jobs", "--meta nonsense", 2),
];

/// Lines that succeed, with the number of rows they print (a record counts as one).
const SUCCESSES: &[(&str, usize)] = &[
    ("sst dump @good.sst", 100),
    ("sst dump @good.sst --from key:010 --to key:020", 10),
    ("sst dump @good.sst --to key:", 1),
    ("sst dump @good.sst --limit 3 --keys-only", 3),
    ("sst props @good.sst", 1),
    ("sst verify @good.sst", 1),
    ("sst verify @good.sst @good.sst", 2),
    ("check @fresh", 2),
    ("config show --role dev --config @settings.toml", 12),
    ("config show --role dev --origin --config @settings.toml", 12),
    ("wal dump @good", 3),
    ("wal dump @good/log --limit 2", 2),
    ("wal dump @good --ops", 6),
    ("wal dump @good --group 7", 0),
    ("wal verify @good", 1),
    ("manifest dump @good --files", 1),
    ("manifest dump @good/shard-1 --files", 1),
    ("manifest dump @good", 13),
];

/// The paths of all leaf commands: `bench redis`.
fn leaves() -> Vec<String> {
    fn walk(command: &clap::Command, path: &str, into: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name()).trim().to_string();
            walk(sub, &path, into);
            // Some words do something by themselves beside having others below them.
            if !sub.has_subcommands() || sub.get_positionals().next().is_some() {
                into.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&arqondb::cli::args::command(Default::default()), "", &mut found);
    found
}

/// Asserts that standard output is what the format promises; gives the error it tells, if any.
fn error_in(format: &str, run: &Run, what: &str) -> Option<serde_json::Value> {
    match format {
        "json" | "ndjson" => {
            assert_eq!(run.err, "", "{what}: talk beside JSON");
            let values: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&run.out)
                .into_iter()
                .collect::<Result<_, _>>()
                .unwrap_or_else(|e| panic!("{what}: {e} in {:?}", run.out));
            values.iter().find_map(|value| value.get("error").cloned())
        }
        _ => {
            assert!(!run.out.contains('\x1b'), "{what}: colour without a terminal");
            None
        }
    }
}

#[test]
fn every_leaf_has_help_with_examples_and_exit_codes() {
    for leaf in leaves() {
        let line = format!("{leaf} --help");
        let help = run(&line);
        assert_eq!(help.code, 0, "{line}");
        for part in ["Usage: ", "Examples:", "Exit codes:", &format!("arqon {leaf}")] {
            assert!(help.out.contains(part), "{line} lacks {part:?}:\n{}", help.out);
        }
        assert_eq!(help.err, "", "{line}");
    }
}

#[test]
fn every_leaf_fails_alike_in_every_format() {
    let fixture = Fixture::new();
    for leaf in leaves() {
        let cases: Vec<_> = FAILURES.iter().filter(|(of, ..)| *of == leaf).collect();
        assert!(!cases.is_empty(), "no failure is listed for {leaf}");
        for (_, args, code) in cases {
            for format in FORMATS {
                let what = fixture.line(&format!("{leaf} {args} --output {format}"));
                let ran = run(&what);
                assert_eq!(ran.code, *code, "{what}: {} {}", ran.out, ran.err);
                let error = error_in(format, &ran, &what);
                if format.ends_with("json") {
                    let error = error.unwrap_or_else(|| panic!("{what}: no error in {}", ran.out));
                    for field in ["code", "message", "fix", "retryable"] {
                        assert!(error.get(field).is_some(), "{what}: no {field} in {error}");
                    }
                } else {
                    assert!(ran.err.contains("error"), "{what}: {}", ran.err);
                }
            }
        }
    }
}

#[test]
fn every_success_has_its_rows_in_every_format() {
    let fixture = Fixture::new();
    for (line, rows) in SUCCESSES {
        for format in FORMATS {
            let what = fixture.line(&format!("{line} --output {format}"));
            let ran = run(&what);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{what}");
            assert!(error_in(format, &ran, &what).is_none());
            let record = line.starts_with("sst props");
            let lines = ran.out.lines().count();
            match format {
                "json" if !record => {
                    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
                    let lists = document.as_object().unwrap().values();
                    let lists: Vec<_> = lists.filter_map(|v| v.as_array()).collect();
                    assert_eq!((lists.len(), lists[0].len()), (1, *rows), "{what}");
                }
                "ndjson" => assert_eq!(lines, *rows, "{what}"),
                "csv" | "tsv" => assert_eq!(lines, rows + 1, "{what}: {}", ran.out),
                "table" if !record => assert_eq!(lines, rows + 1, "{what}"),
                "plain" if !record => assert_eq!(lines, *rows, "{what}"),
                _ => assert!(lines > 5, "{what}"),
            }
        }
    }
}

#[test]
fn damage_is_told_with_file_offset_expected_and_found() {
    let fixture = Fixture::new();
    for line in [
        "manifest dump @bad",
        "sst verify @bad.sst",
        "sst dump @bad.sst",
        "wal verify @bad",
        "wal dump @bad",
    ] {
        let ran = run(&fixture.line(&format!("{line} --output json")));
        let error = error_in("json", &ran, line).unwrap();
        assert_eq!(error["code"], "corruption", "{line}");
        let damage = &error["damage"][0];
        assert!(damage["file"].as_str().unwrap().contains("bad"), "{line}: {error}");
        for field in ["offset", "expected", "found"] {
            assert!(!damage[field].is_null(), "{line}: no {field} in {error}");
        }
        let people = run(&fixture.line(line));
        assert!(people.err.contains("offset") && people.err.contains("expected"), "{}", people.err);
    }
    let left = run(&fixture.line("sst dump @bad.sst --output ndjson"));
    let sound = left.out.lines().filter(|line| line.contains("\"key\"")).count();
    assert!((50..100).contains(&sound), "damage in one block left {sound} records of 100");
}

#[test]
fn a_segment_that_opening_stops_at_is_damaged() {
    let fixture = Fixture::new();
    let mut segments = std::fs::read_dir(fixture.path("good/log")).unwrap();
    let is_log = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "log");
    let segment = segments.find_map(|e| Some(e.unwrap().path()).filter(is_log)).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let second = bytes.windows(5).position(|window| window == b"key:1").unwrap();
    bytes[second] ^= 0x55;
    std::fs::write(&segment, bytes).unwrap();
    let line = fixture.line("wal verify @good --output json");
    let ran = run(&line);
    assert_eq!(ran.code, 8, "{}", ran.out);
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["segments"][0]["state"], "damaged", "{document}");
    assert!(document["end"].is_null() && document["durable"].is_null(), "{document}");
    assert_eq!(document["error"]["damage"].as_array().unwrap().len(), 1, "{document}");
}

#[test]
fn a_console_makes_no_database() {
    let fixture = Fixture::new();
    for name in ["empty", "absent"] {
        let ran = run(&fixture.line(&format!("repl --data @{name} -c PING")));
        assert_eq!(ran.code, 3, "{}", ran.err);
        assert!(ran.err.contains("fix:"), "{}", ran.err);
    }
    assert_eq!(std::fs::read_dir(fixture.path("empty")).unwrap().count(), 0);
    assert!(!fixture.path("absent").exists());
}

#[test]
fn a_full_output_device_is_a_failure_of_the_output() {
    let folder = tempfile::tempdir().unwrap();
    arqondb::Db::open(folder.path()).unwrap().put(b"k", b"v").unwrap();
    let line = format!("repl --data {} -c PING", folder.path().display());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = program::command(&line).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn bounds_of_a_table_are_user_keys() {
    let fixture = Fixture::new();
    let ran = run(&fixture.line("sst props @good.sst --output json"));
    let props: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&props["smallest_key"], &props["largest_key"]),
        (&"\\x00\\xff".into(), &"key:099".into())
    );
    assert_eq!(
        (&props["largest_key_seq"], &props["largest_key_kind"]),
        (&100.into(), &"put".into())
    );
    assert!(props["expire_at_ms_min"].is_null() && props.get("created_ms").is_none(), "{props}");
}

#[test]
fn the_place_of_a_global_flag_does_not_matter() {
    let lines = [
        "--output json bench redis --addr 127.0.0.1:1 read",
        "bench --output json redis --addr 127.0.0.1:1 read",
        "bench redis --output json --addr 127.0.0.1:1 read",
        "bench redis read --addr 127.0.0.1:1 -ojson",
    ];
    let first = run(lines[0]);
    assert!(first.out.contains("unavailable"), "{}", first.out);
    for line in lines {
        assert_eq!(run(line), first, "{line}");
    }
}

#[test]
fn the_variable_gives_the_format_and_a_wrong_one_is_told() {
    let line = "repl --addr 127.0.0.1:1 -c PING";
    let json = program::run_with(line, &[("ARQON_OUTPUT", "json")]);
    assert_eq!((json.code, json.err.as_str()), (5, ""));
    assert!(json.out.contains("\"error\""));
    let wrong = program::run_with(line, &[("ARQON_OUTPUT", "yaml")]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("yaml") && wrong.err.contains("ndjson"), "{}", wrong.err);
    let flag_wins = program::run_with(&format!("{line} -o table"), &[("ARQON_OUTPUT", "yaml")]);
    assert_eq!(flag_wins.code, 5);
}

#[test]
fn a_wrong_line_says_what_would_be_right() {
    let typo = run("bnech redis");
    assert_eq!(typo.code, 2);
    assert!(typo.err.contains("bnech") && typo.err.contains("'bench'"), "{}", typo.err);
    let json = run("bnech redis --output json");
    assert_eq!((json.code, json.err.as_str()), (2, ""));
    assert_eq!(error_in("json", &json, "typo").unwrap()["code"], "usage");
    let value = run("repl --color sometimes");
    assert!(value.err.contains("sometimes") && value.err.contains("always"), "{}", value.err);
    assert_eq!(run("").code, 2);
}

#[test]
fn version_and_help_are_data() {
    let version = run("--version");
    assert_eq!((version.code, version.err.as_str()), (0, ""));
    assert_eq!(version.out, format!("arqon {}\n", env!("CARGO_PKG_VERSION")));
    let help = run("--help");
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("Exit codes:"));
}

#[test]
fn colour_is_where_it_is_asked_for() {
    for (line, variables, colored) in [
        ("--help", &[][..], false),
        ("--help --color always", &[], true),
        ("--color always --help", &[("NO_COLOR", "1")], true),
        ("--help", &[("CLICOLOR_FORCE", "1")], true),
        ("--help --color never", &[("CLICOLOR_FORCE", "1")], false),
    ] {
        let out = program::run_with(line, variables).out;
        assert_eq!(out.contains('\x1b'), colored, "{line} {variables:?}");
    }
}
