//! The file: found, read within bounds, and taken apart with its lines.

use crate::base::ErrorKind;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::settings::kind::{Raw, clipped};
use crate::cli::settings::problem::Problem;
use crate::cli::settings::suggest::{meant, nearest};
use crate::cli::settings::table::{self, SECTIONS};
use crate::cli::settings::{Setting, Variables};
use crate::env::{Disk, RealDisk};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The variable that names the file.
pub const FILE_VARIABLE: &str = "ARQON_CONFIG";
/// Where a file is looked for that nobody named.
const DEFAULT_FILES: [&str; 2] = ["./arqon.toml", "/etc/arqon/arqon.toml"];
/// The largest file, in bytes.
const FILE_MAX: usize = 1 << 20;
/// The most problems that are told.
const PROBLEMS_MAX: usize = 100;

/// What a file says.
#[derive(Debug)]
pub struct SettingsFile {
    /// Its path, as it was given or found.
    pub path: Arc<PathBuf>,
    /// What is set, in the order of lines.
    pub entries: Vec<Entry>,
    /// What is no setting, in the order of lines.
    pub problems: Vec<Problem>,
}

/// A setting in a file.
pub struct Entry {
    /// Which.
    pub setting: &'static Setting,
    /// What was written.
    pub raw: Raw,
    /// Its line, from 1.
    pub line: usize,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.raw.show(self.setting.kind);
        write!(f, "{}: {} = {shown}", self.line, self.setting.key)
    }
}

/// The file to read: the one named, else the variable's, else the first default that is there.
pub fn find(named: Option<&Path>, variables: &Variables) -> Outcome<Option<PathBuf>> {
    find_in(named, variables, &DEFAULT_FILES.map(Path::new))
}

fn find_in(
    named: Option<&Path>,
    variables: &Variables,
    defaults: &[&Path],
) -> Outcome<Option<PathBuf>> {
    let named = named.map(Path::to_path_buf);
    match named.or(variables.get(FILE_VARIABLE)?.map(PathBuf::from)) {
        Some(path) => Ok(Some(path)),
        None => Ok(defaults.iter().find(|path| RealDisk.exists(path)).map(|p| p.to_path_buf())),
    }
}

impl SettingsFile {
    /// Reads a file. What is wrong inside it is in its problems.
    ///
    /// # Errors
    /// A file that is absent, cannot be read, is too large or is no text.
    pub fn read(path: &Path) -> Outcome<SettingsFile> {
        let file = RealDisk.open(path).map_err(|error| {
            let absent = error.kind() == ErrorKind::NotFound;
            let failure = Failure::from(error);
            if !absent {
                return failure;
            }
            let message = format!("there is no settings file {}", path.display());
            let failure = Failure { message, ..failure };
            failure.fix(format!("name another with --config FILE or {FILE_VARIABLE}, or make one: arqon config sample"))
        })?;
        // One byte more than allowed tells whether there is more.
        let mut bytes = vec![0; FILE_MAX + 1];
        let read = file.read_at(&mut bytes, 0)?;
        if read > FILE_MAX {
            let text = format!("{} is larger than {FILE_MAX} bytes", path.display());
            return Err(Failure::usage(text).fix("name a settings file"));
        }
        bytes.truncate(read);
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
            Failure::usage(format!("{}:{line}: this is no UTF-8 text", path.display()))
                .fix("name a settings file; arqon config sample shows one")
        })?;
        Ok(SettingsFile::parse(path, &text))
    }

    /// Takes a text apart.
    pub fn parse(path: &Path, text: &str) -> SettingsFile {
        let path = Arc::new(path.to_path_buf());
        let mut walk =
            Walk { path: &path, lines: Lines::of(text), entries: vec![], problems: vec![] };
        match DeTable::parse(text) {
            Ok(document) => walk.document(document.get_ref()),
            // The parser would repeat the line, and a secret may stand in it.
            Err(error) => {
                let line = walk.lines.at(error.span().map_or(0, |span| span.start));
                let message = error.message().replace('\n', " ");
                walk.problem(line, message, "mend the line: this is no TOML (https://toml.io)");
            }
        }
        let Walk { mut entries, mut problems, .. } = walk;
        entries.sort_by_key(|entry| entry.line);
        problems.sort_by_key(|problem| problem.line);
        SettingsFile { path, entries, problems }
    }
}

/// Where lines begin.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Lines {
        Lines(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, from 1.
    pub(crate) fn at(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|end| *end < offset)
    }
}

struct Walk<'a> {
    path: &'a Path,
    lines: Lines,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            let line = self.lines.at(name.span().start);
            let known = SECTIONS.iter().find(|section| section.name == name.get_ref());
            match (known, value.get_ref()) {
                (Some(section), DeValue::Table(settings)) => self.section(section.name, settings),
                (Some(section), _) => {
                    let fix = format!("write [{}] on a line, its settings below", section.name);
                    self.problem(
                        line,
                        format!("{} is a section, and no setting", section.name),
                        fix,
                    );
                }
                (None, DeValue::Table(_)) => {
                    let names = SECTIONS.iter().map(|section| section.name);
                    let fix = match nearest(name.get_ref(), names.clone()) {
                        Some(near) => format!("did you mean [{near}]?"),
                        None => {
                            format!("sections are {}", names.collect::<Vec<_>>().join(", "))
                        }
                    };
                    let name = clipped(name.get_ref());
                    self.problem(line, format!("there is no section {name}"), fix);
                }
                (None, _) => self.unknown(line, name.get_ref()),
            }
        }
    }

    fn section(&mut self, section: &str, settings: &DeTable<'_>) {
        for (name, value) in settings {
            let line = self.lines.at(name.span().start);
            let key = format!("{section}.{}", name.get_ref());
            match table::find(&key) {
                Some(setting) => self.entries.push(Entry { setting, raw: raw(value), line }),
                None => self.unknown(line, &key),
            }
        }
    }

    fn unknown(&mut self, line: usize, key: &str) {
        let fix = match meant(key, table::all().map(|setting| setting.key)) {
            Some(near) => format!("did you mean {near}?"),
            None => "arqon config sample shows all settings".to_string(),
        };
        self.problem(line, format!("there is no setting {}", clipped(key)), fix);
    }

    fn problem(&mut self, line: usize, message: String, fix: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            let message = format!("{}:{line}: {message}", self.path.display());
            self.problems.push(Problem { line: Some(line), message, fix: fix.into() });
        }
    }
}

/// What was written, before it is judged.
pub(crate) fn raw(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(b) => Raw::Bool(*b),
        DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) => Raw::Int(n),
            Err(_) => Raw::Other("an integer that is too large"),
        },
        DeValue::Float(_) => Raw::Other("a number with a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
        DeValue::Array(entries) => {
            let text = |entry: &Spanned<DeValue<'_>>| match entry.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            };
            match entries.iter().map(text).collect() {
                Some(texts) => Raw::List(texts),
                None => Raw::Other("an array of something else than strings"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
