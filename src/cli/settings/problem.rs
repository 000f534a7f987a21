//! Where a value came from, and what is wrong with one.

use crate::cli::failure::Failure;
use crate::cli::settings::Setting;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file, from 1.
    File(Arc<PathBuf>, usize),
    /// A variable.
    Variable(String),
    /// A flag, dashes included.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => write!(f, "variable {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Origin {
    /// How a sentence names a setting that was set here: by what the reader wrote.
    pub fn name(&self, setting: &Setting) -> String {
        match self {
            Origin::Default => setting.key.to_string(),
            Origin::File(..) => format!("{self}: {}", setting.key),
            Origin::Variable(name) | Origin::Flag(name) => name.clone(),
        }
    }
}

/// Something wrong with what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line of the file it stands in, from 1.
    pub line: Option<usize>,
    /// One sentence, with the place.
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// Problems as the failure they amount to; there is at least one.
pub fn failure(problems: &[Problem]) -> Failure {
    let Some(first) = problems.first() else { return Failure::failed("no problem was found") };
    let message = match problems.len() - 1 {
        0 => first.message.clone(),
        1 => format!("{} (and one more problem)", first.message),
        more => format!("{} (and {more} more problems)", first.message),
    };
    Failure::usage(message).fix(first.fix.clone())
}
