//! Where lines come from: a person at a terminal, the command line, a file, a pipe.

use crate::base::{Error, Result};
use crate::env::{Disk, RealDisk};
use crate::repl::hint;
use crate::repl::session::{Next, Session};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use std::borrow::Cow;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// The longest line taken from a file or a pipe, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What the lines are read from.
#[derive(Debug)]
pub enum Source {
    /// Lines given on the command line.
    Commands(Vec<String>),
    /// A file.
    File(PathBuf),
    /// Standard input that is no terminal: no prompt.
    Pipe,
    /// A person. Keeps a history in the file, if there is one.
    Person {
        /// The history file; its folder is made if need be.
        history: Option<PathBuf>,
        /// Whether lines are coloured.
        color: bool,
    },
}

/// Reads and executes lines until they end or the user leaves.
///
/// # Errors
/// A file or standard input that cannot be read; a failure to print.
pub fn run(session: &mut Session, source: Source, can_ask: bool) -> Result<()> {
    match source {
        Source::Commands(lines) => {
            for line in lines {
                if step(session, &line, can_ask)? == Next::End {
                    break;
                }
            }
            Ok(())
        }
        Source::File(path) => {
            let file = RealDisk.open(&path)?;
            let len = file.len()?;
            let mut bytes = Vec::new();
            let mut chunk = vec![0; 1 << 16];
            while (bytes.len() as u64) < len {
                let got = file.read_at(&mut chunk, bytes.len() as u64)?;
                if got == 0 {
                    break;
                }
                bytes.extend_from_slice(&chunk[..got]);
            }
            lines(session, &mut &bytes[..], &path.display().to_string(), can_ask)
        }
        Source::Pipe => lines(session, &mut std::io::stdin().lock(), "standard input", false),
        Source::Person { history, color } => person(session, history, color),
    }
}

fn lines(session: &mut Session, input: &mut dyn BufRead, name: &str, can_ask: bool) -> Result<()> {
    for number in 1u64.. {
        let mut line = Vec::new();
        let got = std::io::Read::take(&mut *input, LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io("read", name, e))?;
        if got == 0 {
            break;
        }
        let line = std::str::from_utf8(&line).map_err(|_| {
            Error::invalid(format!(
                "line {number} of {name} is not UTF-8; write other bytes as \"\\xHH\""
            ))
        })?;
        if step(session, line, can_ask)? == Next::End {
            break;
        }
    }
    Ok(())
}

fn step(session: &mut Session, line: &str, can_ask: bool) -> Result<Next> {
    let mut consent = |what: &str| {
        if !can_ask {
            return None;
        }
        let mut answer = String::new();
        _ = write!(std::io::stderr(), "{what} Type yes to go on: ");
        _ = std::io::stdin().read_line(&mut answer);
        Some(answer.trim() == "yes")
    };
    session.line(line, &mut consent).map_err(printing)
}

fn printing(e: std::io::Error) -> Error {
    Error::io("write to", Path::new("standard output"), e)
}

fn person(session: &mut Session, history: Option<PathBuf>, color: bool) -> Result<()> {
    let terminal = |e: ReadlineError| match e {
        ReadlineError::Io(e) => Error::io("use", Path::new("the terminal"), e),
        other => Error::invalid(other.to_string()),
    };
    let config = Config::builder().auto_add_history(false).build();
    let mut editor: Editor<Aid, DefaultHistory> = Editor::with_config(config).map_err(terminal)?;
    editor.set_helper(Some(Aid { color }));
    if let Some(path) = &history {
        // A history that cannot be read or kept is no reason not to work.
        _ = path.parent().map(|dir| RealDisk.create_dir_all(dir));
        _ = editor.load_history(path);
    }
    loop {
        let line = match editor.readline(&session.prompt()) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(terminal(e)),
        };
        if !line.trim().is_empty() && !holds_secret(&line) {
            _ = editor.add_history_entry(line.as_str());
            if let Some(path) = &history {
                _ = editor.append_history(path);
            }
        }
        let mut consent = |what: &str| {
            let answer = editor.readline(&format!("{what} Type yes to go on: "));
            Some(answer.is_ok_and(|answer| answer.trim() == "yes"))
        };
        if session.line(&line, &mut consent).map_err(printing)? == Next::End {
            break;
        }
    }
    Ok(())
}

/// Whether the line may carry a password, which a history file must not.
fn holds_secret(line: &str) -> bool {
    let upper = line.to_ascii_uppercase();
    ["AUTH", "ACL", "REQUIREPASS", "MASTERAUTH", "MIGRATE"].iter().any(|word| upper.contains(word))
}

/// Rustyline's questions, answered by [`hint`].
struct Aid {
    color: bool,
}

impl Helper for Aid {}
impl Validator for Aid {}

impl Completer for Aid {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let start = line.len() - line.trim_start().len();
        let typed = line.get(start..at).unwrap_or("");
        if typed.contains(char::is_whitespace) {
            return Ok((at, Vec::new()));
        }
        Ok((start, hint::completions(typed)))
    }
}

impl Hinter for Aid {
    type Hint = String;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<String> {
        // Without colour a hint could not be told from what was typed.
        if at < line.len() || !self.color { None } else { hint::hint(line) }
    }
}

impl Highlighter for Aid {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.color { Cow::Owned(hint::paint(line)) } else { Cow::Borrowed(line) }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.color
    }
}
