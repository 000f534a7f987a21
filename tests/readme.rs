//! The README says nothing that is not so: its commands exist, its links lead somewhere, and its
//! figure of the demo's data is the data's.

use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// The lines of the README's shell blocks, without comments.
fn shell_lines() -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in README.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            lines.push(line.split(" #").next().unwrap_or("").trim().to_string());
        }
    }
    lines
}

/// The word behind the program's name, if a line calls it.
fn subcommand(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let calls = first == "arqon" || first.ends_with("/arqon");
    match (calls, line.split_once("-- ")) {
        (true, _) => words.next(),
        (false, Some(("cargo run --release ", rest))) => rest.split_whitespace().next(),
        _ => None,
    }
}

#[test]
fn every_command_of_the_readme_exists() {
    let lines = shell_lines();
    let commands: Vec<&str> = lines.iter().filter_map(|line| subcommand(line)).collect();
    assert!(commands.contains(&"demo") && commands.contains(&"dev"), "{commands:?}");
    for command in commands {
        let output =
            Command::new(env!("CARGO_BIN_EXE_arqon")).args([command, "--help"]).output().unwrap();
        assert!(output.status.success(), "arqon {command} --help: {output:?}");
    }
}

#[test]
fn every_link_to_a_file_leads_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in README.split("](").skip(1) {
        let target = part.split(')').next().unwrap_or("");
        if !target.contains("://") && !target.starts_with('#') {
            assert!(top.join(target).exists(), "{target}");
        }
    }
}

#[test]
fn the_number_of_packages_is_that_of_the_sample() {
    let text = arqondb::cli::demo::packages::unpack().unwrap();
    let count = arqondb::cli::demo::packages::parse(&text).unwrap().len();
    let written = format!("{},{:03}", count / 1000, count % 1000);
    assert!(README.contains(&format!("{written} real Debian packages")), "{written}");
    assert!(README.contains(&format!("descriptions of {written} packages")), "{written}");
}
