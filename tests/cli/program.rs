//! The built program, run with a clean environment.

#![expect(
    clippy::unwrap_used,
    reason = "a program that cannot be run fails the test, as it should"
)]

use std::process::{Command, Stdio};

/// What a run left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// How variables begin that the program takes for its own.
const OURS: [&str; 6] =
    ["ARQON_", "META_SERVER", "DATA_NODE_ID", "DATA_ADDR", "RAFT_ADDR", "GATEWAY_"];

/// The program with the arguments of a line, split at blanks; none of our variables set.
pub(crate) fn command(line: &str) -> Command {
    let built = || env!("CARGO_BIN_EXE_arqon").to_string();
    let mut command = Command::new(std::env::var("ARQON_CLI_PROGRAM").unwrap_or_else(|_| built()));
    command.args(line.split_whitespace()).stdin(Stdio::null());
    let ours = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in ours.filter(|name| OURS.iter().any(|ours| name.starts_with(ours))) {
        command.env_remove(name);
    }
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "XDG_STATE_HOME"] {
        command.env_remove(name);
    }
    command
}

/// Runs a line to its end.
pub(crate) fn run(line: &str) -> Run {
    run_with(line, &[])
}

/// Runs a line with variables set.
pub(crate) fn run_with(line: &str, variables: &[(&str, &str)]) -> Run {
    finish(command(line).envs(variables.iter().copied()))
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
