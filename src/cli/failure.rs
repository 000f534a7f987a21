//! An error on its way out of the program: exit code, sentence, and the next step.

use crate::base::Error;
use crate::base::error::Damage;
use crate::cli::exit::Exit;
use serde_json::{Map, Value, json};

/// Short for a command's result.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not succeed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The stable name of the error, such as `not_found`.
    pub code: &'static str,
    /// One sentence: what went wrong, with the offending value.
    pub message: String,
    /// What to do or to type next.
    pub fix: Option<String>,
    /// Whether the same command may succeed later, unchanged.
    pub retryable: bool,
    /// Where damage was found.
    pub damage: Vec<Damage>,
    /// Whether the user has been told already, so that only the exit code is left.
    pub told: bool,
}

impl Failure {
    /// A wrong command line or argument.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Usage,
            code: "usage",
            message: message.into(),
            fix: None,
            retryable: false,
            damage: Vec::new(),
            told: false,
        }
    }

    /// Something refused until `fix` is done.
    pub fn refused(message: impl Into<String>, fix: impl Into<String>) -> Failure {
        let failure = Failure { exit: Exit::Refused, code: "refused", ..Failure::usage(message) };
        failure.fix(fix)
    }

    /// A server that cannot be reached or broke off.
    pub fn unavailable(message: impl Into<String>) -> Failure {
        Failure {
            exit: Exit::Unavailable,
            code: "unavailable",
            retryable: true,
            ..Failure::usage(message)
        }
    }

    /// Ended by Ctrl-C or SIGTERM.
    pub fn interrupted() -> Failure {
        let message = "interrupted by a signal";
        Failure { exit: Exit::Interrupted, code: "interrupted", ..Failure::usage(message) }
    }

    /// A failure without a code of its own.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, code: "failed", ..Failure::usage(message) }
    }

    /// The reader of our output has gone: the program ends without a word, and not as a failure.
    pub fn pipe_closed() -> Failure {
        Failure::told(Exit::Ok)
    }

    /// Damage found in `what` by looking at all of it. `errors` is not empty.
    pub fn damaged(what: &std::path::Path, errors: &[Error]) -> Failure {
        let what = what.display();
        let message = match errors {
            [one] => one.message().to_string(),
            many => format!("{what} is damaged in {} places", many.len()),
        };
        let damage = errors.iter().filter_map(|e| e.damage().cloned()).collect();
        let failure = Failure {
            exit: Exit::Corruption,
            code: "corruption",
            damage,
            ..Failure::failed(message)
        };
        failure.fix("restore the files named from a checkpoint or a backup; nothing was changed")
    }

    /// A failure that has been printed: only its exit code is left.
    pub fn told(exit: Exit) -> Failure {
        Failure { exit, told: true, ..Failure::failed("") }
    }

    /// The same with the next step.
    pub fn fix(mut self, fix: impl Into<String>) -> Failure {
        self.fix = Some(fix.into());
        self
    }

    /// The failure as machine-readable output has it, without the outer `error`.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("code".into(), json!(self.code));
        map.insert("message".into(), json!(self.message));
        map.insert("fix".into(), json!(self.fix));
        map.insert("retryable".into(), json!(self.retryable));
        if !self.damage.is_empty() {
            map.insert("damage".into(), self.damage.iter().map(damage_json).collect());
        }
        Value::Object(map)
    }
}

/// Damage as a line for people.
pub fn damage_line(damage: &Damage) -> String {
    let Damage { file, offset, expected, found } = damage;
    format!("{} offset {offset}: expected {expected}, found {found}", file.display())
}

/// Damage as machine-readable output has it.
pub fn damage_json(damage: &Damage) -> Value {
    json!({
        "file": damage.file.display().to_string(),
        "offset": damage.offset,
        "expected": damage.expected,
        "found": damage.found,
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            exit: Exit::of(error.kind()),
            code: error.kind().name(),
            message: error.message().to_string(),
            fix: None,
            retryable: error.kind().is_retryable(),
            damage: error.damage().cloned().into_iter().collect(),
            told: false,
        }
    }
}

/// The failure that a Redis error reply amounts to.
pub fn of_redis_error(text: &str) -> Failure {
    let prefix = text.split(' ').next().unwrap_or("");
    let (exit, code, retryable) = match prefix {
        "NOAUTH" | "WRONGPASS" | "NOPERM" => (Exit::Auth, "auth", false),
        "LOADING" | "BUSY" | "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" | "OOM" => {
            (Exit::Unavailable, "unavailable", true)
        }
        "EXECABORT" | "BUSYKEY" => (Exit::Conflict, "conflict", false),
        _ => (Exit::Failed, "redis", false),
    };
    Failure { exit, code, retryable, ..Failure::failed(text) }
}

/// A failure to write our own output.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::pipe_closed();
        }
        Failure { code: "io", ..Failure::failed(format!("cannot write the output: {error}")) }
    }
}
