//! `arqon demo` as a user runs it: exit code, figures, and nothing left behind.

use std::process::Command;

#[test]
fn the_demo_loses_nothing_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_arqon"))
        .args(["demo", "--output", "json"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| figures[name].as_u64().unwrap();
    assert!(number("packages") > 4_000 && number("acknowledged") >= 3_000, "{figures}");
    assert_eq!((number("lost"), number("torn")), (0, 0), "{figures}");
    assert_eq!(figures["steps"].as_array().unwrap().len(), 9);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(talk.contains("4036 packages of Debian 12"), "{talk}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
