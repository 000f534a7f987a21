//! `arqon config`, and how a server takes its settings.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::error_in;
use super::program::{Run, command, finish, run};
use std::path::Path;

const TRANSCRIPT: &str = "tests/transcripts/config/show.txt";
const SAMPLE: &str = "man/arqon.toml.sample";

/// A folder with an arqon.toml in it.
fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("arqon.toml"), text).unwrap();
    folder
}

/// Runs a line in a folder.
fn run_in(folder: &Path, line: &str, variables: &[(&str, &str)]) -> Run {
    finish(command(line).current_dir(folder).envs(variables.iter().copied()))
}

/// Compares with a file of the repository, or writes it with ARQON_BLESS.
fn expect_file(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("ARQON_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{} is stale; ARQON_BLESS=1 writes it:\n{text}", path.display());
}

/// What is set in the transcript's runs: something of every origin, and secrets.
const SETTINGS: &str = "\
[gateway]
deadline = \"2500ms\"
retry_budget = 20
users = [\"ann:correct horse:admin\", \"bob:battery staple:user\"]

[storage]
sync = \"interval:50\"
memory = \"1GiB\"
[node]
id = 7
labels = [\"zone=a\", \"rack=7\"]
";

const VARIABLES: [(&str, &str); 5] = [
    ("GATEWAY_JWT_SECRET", "tr0ub4dor"),
    ("GATEWAY_ADDR", "127.0.0.1:9999"),
    ("ARQON_GATEWAY_META", "http://10.0.0.5:8379,http://10.0.0.6:8379"),
    ("META_SERVER", "http://10.0.0.5:8379"),
    ("ARQON_STORAGE_SYNC", "os"),
];

const LINES: [&str; 9] = [
    "config show --role gateway --origin",
    "config show --role node --origin -- --data-addr http://10.0.0.7:7379 --allow-remote",
    "config show --role meta",
    "config show --role dev --origin -- --sync always --memory 64",
    "config show --role dev --origin --output json",
    "config show --role gateway --origin --output csv",
    "config check",
    "config check --output json",
    "config sample --role dev",
];

#[test]
fn what_holds_and_where_it_came_from_is_as_written_down() {
    let folder = folder(SETTINGS);
    let mut transcript = String::new();
    for line in LINES {
        let ran = run_in(folder.path(), line, &VARIABLES);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        transcript.push_str(&format!("$ arqon {line}\n{}\n", ran.out));
    }
    for secret in ["tr0ub4dor", "correct horse", "battery staple"] {
        assert!(!transcript.contains(secret), "{secret} is shown");
    }
    expect_file(TRANSCRIPT, &transcript);
}

#[test]
fn the_sample_kept_with_the_manual_is_fresh() {
    let ran = run("config sample");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    expect_file(SAMPLE, &ran.out);
    let checked = run(&format!("config check {SAMPLE}"));
    assert_eq!(checked.code, 0, "{}", checked.err);
}

#[test]
fn the_sample_is_data_for_programs() {
    let json = run("config sample --output json");
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let settings = document["settings"].as_array().unwrap();
    let addr = settings.iter().find(|setting| setting["key"] == "gateway.addr").unwrap();
    assert_eq!(addr["promised"], "GATEWAY_ADDR");
    assert_eq!(addr["variable"], "ARQON_GATEWAY_ADDR");
    assert_eq!(addr["default"], "0.0.0.0:9379");
    let rows = run("config sample --output csv").out;
    assert_eq!(rows.lines().count(), settings.len() + 1);
}

#[test]
fn a_wrong_file_is_told_with_lines_and_what_was_meant() {
    let text = "[storage]\nmemroy = \"1GiB\"\nsync = \"sometimes\"\n\n[gatway]\n";
    let folder = folder(text);
    let ran = run_in(folder.path(), "config check", &[]);
    assert_eq!(ran.code, 2);
    for part in [
        "./arqon.toml:2: there is no setting \"storage.memroy\"",
        "did you mean storage.memory?",
        "./arqon.toml:3: storage.sync is \"sometimes\", which is no sync level",
        "./arqon.toml:5: there is no section \"gatway\"",
        "did you mean [gateway]?",
    ] {
        assert!(ran.out.contains(part), "no {part:?} in {}", ran.out);
    }
    assert!(ran.err.contains("and 2 more problems"), "{}", ran.err);
    let json = run_in(folder.path(), "config check --output json", &[]);
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(document["problems"].as_array().unwrap().len(), 3);
    assert_eq!(error_in("json", &json, "check").unwrap()["code"], "usage");
    // A server says the same, and does not start.
    let dev = run_in(folder.path(), "dev --redis 127.0.0.1:0 --grpc 127.0.0.1:0", &[]);
    assert_eq!(dev.code, 2);
    assert!(dev.err.contains("./arqon.toml:2") && dev.err.contains("did you mean"), "{}", dev.err);
    assert!(!folder.path().join("arqon-data").exists());
}

#[test]
fn a_named_file_must_be_there_and_a_default_one_need_not() {
    let empty = tempfile::tempdir().unwrap();
    let at = empty.path();
    assert_eq!(run_in(at, "config show", &[]).code, 0);
    assert_eq!(run_in(at, "config check", &[]).code, 3);
    let variable = [("ARQON_CONFIG", "absent.toml")];
    for (line, variables) in [
        ("config show --config absent.toml", &[][..]),
        ("config show", &variable),
        ("config check", &variable),
        ("dev", &variable),
    ] {
        let ran = run_in(at, line, variables);
        assert_eq!(ran.code, 3, "{line}");
        assert!(ran.err.contains("absent.toml") && ran.err.contains("fix:"), "{}", ran.err);
    }
    std::fs::write(at.join("mine.toml"), "server.drain = \"7s\"").unwrap();
    let found = run_in(at, "config show --origin", &[("ARQON_CONFIG", "mine.toml")]);
    assert!(found.out.contains("mine.toml:1"), "{}", found.out);
    let flag = run_in(at, "config show --config mine.toml", &variable);
    assert_eq!(flag.code, 0, "{}", flag.err);
}

#[test]
fn variables_that_quarrel_or_are_nearly_ours_are_told() {
    let empty = tempfile::tempdir().unwrap();
    let two = [("DATA_ADDR", "http://a:1"), ("ARQON_NODE_DATA_ADDR", "http://b:1")];
    let ran = run_in(empty.path(), "config show --role node", &two);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("ARQON_NODE_DATA_ADDR is http://b:1 and DATA_ADDR is http://a:1"));
    let nearly = [("ARQON_STORAGE_SNYC", "os")];
    let ran = run_in(empty.path(), "config show --role dev", &nearly);
    assert_eq!(ran.code, 0);
    let said = "warning: ARQON_STORAGE_SNYC sets nothing; did you mean ARQON_STORAGE_SYNC?\n";
    assert_eq!(ran.err, said);
    let json = run_in(empty.path(), "config show --role dev --output json", &nearly);
    let document: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(document["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(json.err, "");
}

#[test]
fn flags_of_a_role_are_judged_as_its_command_would() {
    for (args, part) in [
        ("--role dev -- --memory 4", "--memory is"),
        ("--role dev -- --nonsense", "--nonsense"),
        ("--role meta -- --redis 127.0.0.1:1", "--redis"),
        ("-- --sync os", "--role"),
    ] {
        let ran = run(&format!("config show --output json {args}"));
        assert_eq!((ran.code, ran.err.as_str()), (2, ""), "{args}");
        let error = error_in("json", &ran, args).unwrap();
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
}

#[test]
fn secrets_are_in_no_output_and_no_error_in_any_format() {
    let secret = "tr0ub4dor";
    let texts = [
        format!("[gateway]\njwt_secret = \"{secret}\"\nusers = \"ann:{secret}:admin\"\n"),
        format!("[gateway]\njwt_secret = [\"{secret}\"]\nusers = \"ann:{secret}:root\"\n"),
        format!("[gateway]\njwt_secret = \"{secret}\n"),
        format!("[gateway]\njwt_secret = {secret}\n"),
        format!("[gateway]\njwt_secret = \"x\"\njwt_secret = \"{secret}\"\n"),
        format!("[gateway]\njwt_secrt = \"{secret}\"\n"),
        format!("[gateway]\nmeta = \"http://ann:{secret}@a:1\"\n"),
        format!("[gateway]\nmeta = \"https://ann:{secret}@a:1\"\n"),
    ];
    let wrong = format!("ann:{secret}");
    let quarrel = [("GATEWAY_JWT_SECRET", secret), ("ARQON_GATEWAY_JWT_SECRET", "another")];
    let variables: [&[(&str, &str)]; 4] =
        [&[], &quarrel[..1], &quarrel, &[("GATEWAY_USERS", wrong.as_str())]];
    for text in &texts {
        let folder = folder(text);
        for variables in variables {
            for format in super::FORMATS {
                for line in [
                    "config show --role gateway --origin",
                    "config show",
                    "config check",
                    "config show --role gateway -- --users ann:tr0ub4dor",
                ] {
                    let what = format!("config --output {format} {}", &line[7..]);
                    let ran = run_in(folder.path(), &what, variables);
                    let shown = ran.out.contains(secret) || ran.err.contains(secret);
                    assert!(!shown, "{what} with {text:?}: {} {}", ran.out, ran.err);
                }
            }
        }
    }
}

#[test]
fn a_server_takes_its_settings_from_file_variable_and_flag() {
    // Each is told apart by where it refuses to listen.
    let folder = folder("[dev]\nredis_addr = \"192.0.2.1:1\"\n");
    let variable = [("ARQON_DEV_REDIS_ADDR", "192.0.2.2:1")];
    for (line, variables, name) in [
        ("dev", &[][..], "./arqon.toml:2: dev.redis_addr 192.0.2.1:1 would let"),
        ("dev", &variable, "ARQON_DEV_REDIS_ADDR 192.0.2.2:1 would let"),
        ("dev --redis 192.0.2.3:1", &variable, "--redis 192.0.2.3:1 would let"),
    ] {
        let ran = run_in(folder.path(), line, variables);
        assert_eq!(ran.code, 9, "{}", ran.err);
        assert!(ran.err.contains(name), "{}", ran.err);
    }
}
