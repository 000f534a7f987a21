//! `arqon vector` in a data folder: in, found, out again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::program::{Run, run};
use serde_json::Value;
use std::path::Path;

const DIM: usize = 12;
const ROWS: u64 = 400;

fn vector(n: u64) -> Vec<f32> {
    (0..DIM as u64).map(|at| (n * (at + 7) % 101) as f32 - 50.0).collect()
}

/// `arqon vector` with a line, in JSON.
fn vector_run(folder: &Path, line: &str) -> Run {
    let data = folder.join("data");
    run(&format!("vector {} --data {} --output json", line, data.display()))
}

fn record(ran: &Run) -> Value {
    assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

fn fill(folder: &Path) {
    let floats: Vec<u8> = (0..ROWS).flat_map(vector).flat_map(f32::to_le_bytes).collect();
    std::fs::write(folder.join("v.f32"), floats).unwrap();
    let ids: Vec<u8> = (0..ROWS).flat_map(|n| (n as u32 * 3).to_le_bytes()).collect();
    std::fs::write(folder.join("v.ids"), ids).unwrap();
    let queries: Vec<u8> = (0..5u64).flat_map(vector).flat_map(f32::to_le_bytes).collect();
    std::fs::write(folder.join("q.f32"), queries).unwrap();
}

#[test]
fn vectors_go_in_are_found_and_come_out_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fill(path);
    let at = |name: &str| path.join(name).display().to_string();
    let import = format!(
        "import docs {} --ids {} --format f32 --dim {DIM} --metric cosine",
        at("v.f32"),
        at("v.ids")
    );
    let imported = record(&vector_run(path, &import));
    assert_eq!((&imported["read"], &imported["written"]), (&ROWS.into(), &ROWS.into()));
    let again = record(&vector_run(path, &format!("{import} --resume")));
    assert_eq!((&again["skipped"], &again["written"]), (&ROWS.into(), &0.into()));
    // The index knows how many numbers a vector has.
    let again = import.replace(&format!("--dim {DIM}"), "--resume");
    assert_eq!(record(&vector_run(path, &again))["skipped"], Value::from(ROWS));
    let unknown = vector_run(path, &again.replace("import docs", "import others"));
    let told = format!("{}{}", unknown.out, unknown.err);
    assert!(unknown.code != 0 && told.contains("--dim"), "{} {told}", unknown.code);

    let described = record(&vector_run(path, "describe docs"));
    assert_eq!((&described["vectors"], &described["metric"]), (&ROWS.into(), &"cosine".into()));
    let search = format!("search docs --queries {} --format f32 --k 4 --ef 500", at("q.f32"));
    let found = vector_run(path, &search);
    let answers: Vec<Value> =
        found.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5, "an object a query: {}", found.out);
    let exact = vector_run(path, &format!("{search} --exact"));
    for (n, (answer, exact)) in answers.iter().zip(exact.out.lines()).enumerate() {
        let exact: Value = serde_json::from_str(exact).unwrap();
        assert_eq!(answer["ids"], exact["ids"], "query {n}");
        assert_eq!(answer["distances"], exact["distances"], "query {n}");
        assert_eq!(answer["ids"][0], Value::from(n * 3));
        assert!(answer["microseconds"].is_u64() && exact["exact"] == true, "{answer}");
    }
    let near = vector_run(path, "search docs --near 9 --k 2");
    let near: Value = serde_json::from_str(&near.out).unwrap();
    assert!(near["ids"].as_array().unwrap().iter().all(|id| *id != 9), "{near}");
    let nobody = vector_run(path, "search docs --near 10");
    assert_eq!(nobody.code, 3, "{}", nobody.out);

    let export = format!("export docs {} --ids {}", at("out.f32"), at("out.ids"));
    record(&vector_run(path, &format!("{export} --format f32")));
    let same =
        std::fs::read(path.join("out.f32")).unwrap() == std::fs::read(path.join("v.f32")).unwrap();
    assert!(same, "the vectors come out as they went in");
    let refused = vector_run(path, &format!("{export} --format f32"));
    assert_eq!(refused.code, 9, "a file that is there is not replaced");
    let lines = record(&vector_run(path, &format!("export docs {}", at("out.ndjson"))));
    assert_eq!(lines["vectors"], ROWS);
    let copied = format!("import copy {} --format ndjson --metric cosine", at("out.ndjson"));
    assert_eq!(record(&vector_run(path, &copied))["written"], ROWS);
    let checked = record(&vector_run(path, "verify copy"));
    assert_eq!((&checked["stored"], &checked["missing"]), (&ROWS.into(), &0.into()));
    let listed = record(&vector_run(path, "list"));
    assert_eq!(listed["indexes"].as_array().unwrap().len(), 2, "{listed}");

    let kept = vector_run(path, "drop docs");
    assert_eq!(kept.code, 9, "nothing is dropped without a yes");
    record(&vector_run(path, "drop docs --yes"));
    assert_eq!(vector_run(path, "describe docs").code, 3);
}

#[test]
fn what_cannot_be_imported_is_told_by_its_place_and_the_rest_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let lines = "{\"id\": 1, \"vector\": [1, 0], \"payload\": {\"kind\": \"a\"}}\n\
                 {\"id\": 2, \"vector\": [0, 0]}\n\
                 {\"id\": 3, \"vector\": [0, 2], \"payload\": {\"kind\": \"b\"}}\n";
    std::fs::write(path.join("v.ndjson"), lines).unwrap();
    let file = path.join("v.ndjson").display().to_string();
    let ran = vector_run(path, &format!("import docs {file} --format ndjson --metric cosine"));
    assert_eq!(ran.code, 2, "{} {}", ran.out, ran.err);
    assert!(ran.out.contains("\"written\":2") && ran.out.contains("1 vectors were refused"));
    let data = path.join("data");
    let mut command = crate::program::command(&format!(
        "vector search docs --near 1 --payload --output json --data {}",
        data.display()
    ));
    let found = crate::program::finish(command.args(["--filter", "{\"kind\": \"b\"}"]));
    let found: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!((&found["ids"][0], &found["matches"]), (&3.into(), &1.into()), "{found}");
    assert_eq!(found["payloads"][0]["kind"], "b");
    let by_words = format!(
        "vector search docs --near 1 --text b --text-field kind --output json --data {}",
        data.display()
    );
    let found: Value = serde_json::from_str(&run(&by_words).out).unwrap();
    // First of both rankings: 1 / 61 of each.
    assert_eq!(found["ids"], serde_json::json!([3]), "{found}");
    assert!((found["scores"][0].as_f64().unwrap() - 2.0 / 61.0).abs() < 1e-6, "{found}");
    let half = run(&format!("vector search docs --near 1 --text b --data {}", data.display()));
    assert_eq!(half.code, 2, "{half:?}");
    let none = format!(
        "vector search docs --near 1 --score-min 0.5 --output json --data {}",
        data.display()
    );
    let found: Value = serde_json::from_str(&run(&none).out).unwrap();
    assert_eq!(found["ids"], serde_json::json!([]), "{found}");
}

#[test]
fn an_import_that_ends_says_what_is_stored_and_no_flag_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let lines: String = (0..600).map(|n| format!("[1, {n}]\n")).collect();
    let file = path.join("v.ndjson").display().to_string();
    std::fs::write(&file, format!("{lines}[1, two]\n")).unwrap();
    let import = format!("import docs {file} --format ndjson");
    let ended = vector_run(path, &import);
    let told = format!("{}{}", ended.out, ended.err);
    assert!(ended.code != 0 && told.contains("line 601"), "{told}");
    assert!(told.contains("512 vectors are stored"), "{told}");
    std::fs::write(&file, lines).unwrap();
    let other = vector_run(path, &format!("{import} --resume --kind spfresh"));
    let told = format!("{}{}", other.out, other.err);
    assert!(other.code == 2 && told.contains("--kind is auto, not spfresh"), "{told}");
    let done = record(&vector_run(path, &format!("{import} --resume")));
    assert_eq!((&done["written"], &done["skipped"]), (&88.into(), &512.into()));
}

#[test]
fn an_import_is_resumed_whose_vectors_fit_into_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Together more than 60 MiB, which is the most that is fetched at once.
    let text = "x".repeat(1_040_000);
    let line = |id: u64| {
        format!("{{\"id\": {id}, \"vector\": [1, {id}], \"payload\": {{\"t\": \"{text}\"}}}}\n")
    };
    std::fs::write(path.join("v.ndjson"), (0..64).map(line).collect::<String>()).unwrap();
    let import =
        format!("import docs {} --format ndjson --resume", path.join("v.ndjson").display());
    let first = record(&vector_run(path, &import));
    assert_eq!((&first["written"], &first["skipped"]), (&64.into(), &0.into()));
    let again = record(&vector_run(path, &import));
    assert_eq!((&again["written"], &again["skipped"]), (&0.into(), &64.into()));
}

#[test]
fn an_index_of_postings_takes_in_finds_and_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fill(path);
    let at = |name: &str| path.join(name).display().to_string();
    let help = run("vector create --help").out;
    assert!(help.contains("disk_hnsw") && help.contains("spfresh"), "{help}");
    let made = "create ever --dim 12 --metric cosine --kind spfresh";
    let made = record(&vector_run(path, made));
    assert_eq!((&made["kind"], &made["postings"]), (&"spfresh".into(), &0.into()));
    let refused = vector_run(path, "create no --dim 12 --kind spfresh --quantisation packed");
    assert_eq!(refused.code, 2, "{} {}", refused.out, refused.err);
    let import = format!("import ever {} --format f32 --dim {DIM}", at("v.f32"));
    assert_eq!(
        record(&vector_run(path, &format!("{import} --metric cosine --kind spfresh")))["written"],
        ROWS
    );
    let search = format!("search ever --queries {} --format f32 --k 4", at("q.f32"));
    let answers = vector_run(path, &search).out;
    for (n, line) in answers.lines().enumerate() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["ids"][0], Value::from(n), "{answer}");
    }
    assert_eq!(answers.lines().count(), 5);
    let checked = record(&vector_run(path, "verify ever"));
    assert_eq!((&checked["stored"], &checked["missing"]), (&ROWS.into(), &0.into()));
    record(&vector_run(path, "drop ever --yes"));
}
