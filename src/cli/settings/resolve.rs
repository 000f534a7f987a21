//! One value for each setting: flag before variable before file before default.

use crate::base::{Error, ErrorKind};
use crate::cli::failure::Outcome;
use crate::cli::settings::file::{self, SettingsFile};
use crate::cli::settings::flags::{Given, Line};
use crate::cli::settings::kind::{Kind, Raw, Typed, Wrong};
use crate::cli::settings::problem::{self, Origin, Problem};
use crate::cli::settings::read::FromTyped;
use crate::cli::settings::rules;
use crate::cli::settings::{Role, Setting, Variables, table};
use std::sync::Arc;

/// What was said where.
#[derive(Debug, Default)]
pub struct Layers {
    /// The role whose settings are wanted; all of them without one.
    pub role: Option<Role>,
    /// What flags say.
    pub flags: Vec<Given>,
    /// What the environment says.
    pub variables: Variables,
    /// What the file says.
    pub file: Option<SettingsFile>,
}

impl Layers {
    /// The layers of a command line in an environment, with the file that these name.
    ///
    /// # Errors
    /// A file that is named and absent, or cannot be read.
    pub fn gather(role: Option<Role>, line: &Line, variables: Variables) -> Outcome<Layers> {
        let path = file::find(line.config.as_deref(), &variables)?;
        let file = path.as_deref().map(SettingsFile::read).transpose()?;
        Ok(Layers { role, flags: line.given.clone(), variables, file })
    }

    /// The effective values.
    ///
    /// # Errors
    /// All that is wrong: values, keys of the file, values that do not go together. The file is
    /// judged as a whole, variables and flags as far as the role reads them.
    pub fn resolve(self) -> Result<Effective, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut values = Vec::new();
        for setting in table::all() {
            match self.value(setting) {
                Ok(value) => values.push(value),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(self.shadowed());
        let in_file = self.file.iter().flat_map(|file| file.problems.iter().cloned());
        problems.extend(in_file);
        // Another role may have variables of its own that make them go together.
        values.retain(|value| self.role.is_none_or(|role| value.setting.is_for(role)));
        if problems.is_empty() {
            problems.extend(rules::broken(&values));
        }
        problems.sort_by_key(|problem| problem.line);
        if !problems.is_empty() {
            return Err(problems);
        }
        let warnings = self.variables.unknown();
        Ok(Effective { values, warnings, file: self.file.map(|file| file.path) })
    }

    fn value(&self, setting: &'static Setting) -> Result<Value, Problem> {
        let is_read = self.role.is_none_or(|role| setting.is_for(role));
        if is_read {
            if let Some(given) = self.flags.iter().rev().find(|g| g.setting.key == setting.key) {
                let origin = Origin::Flag(given.flag.clone());
                return judge(setting, &given.raw, origin);
            }
            if let Some(value) = self.variable(setting)? {
                return Ok(value);
            }
        }
        if let Some(file) = &self.file
            && let Some(entry) = file.entries.iter().find(|e| e.setting.key == setting.key)
        {
            return judge(setting, &entry.raw, Origin::File(Arc::clone(&file.path), entry.line));
        }
        default(setting)
    }

    /// What the environment says; two variables must say the same.
    fn variable(&self, setting: &'static Setting) -> Result<Option<Value>, Problem> {
        let mut found = Vec::new();
        for (name, text) in self.variables.of(setting)? {
            found.push(judge(setting, &Raw::Text(text.to_string()), Origin::Variable(name))?);
        }
        match &found[..] {
            [ours, promised] if ours.typed != promised.typed => {
                let [a, b] = [ours, promised].map(|value| value.origin.name(setting));
                let message = match setting.kind.is_secret() {
                    true => format!("{a} and {b} say different things of {}", setting.key),
                    false => {
                        let [x, y] = [ours, promised].map(|v| v.typed.show().unwrap_or_default());
                        format!("{a} is {x} and {b} is {y}, both for {}", setting.key)
                    }
                };
                Err(Problem { line: None, message, fix: format!("unset one of {a} and {b}") })
            }
            _ => Ok(found.into_iter().next()),
        }
    }

    /// Problems of lines that something stronger hides today, and that a change elsewhere would
    /// bring to light.
    fn shadowed(&self) -> Vec<Problem> {
        let Some(file) = &self.file else { return Vec::new() };
        let hidden = file.entries.iter().filter(|entry| {
            let value = self.value(entry.setting);
            value.is_ok_and(|value| !matches!(value.origin, Origin::File(..)))
        });
        let judged = hidden.filter_map(|entry| {
            let origin = Origin::File(Arc::clone(&file.path), entry.line);
            judge(entry.setting, &entry.raw, origin).err()
        });
        judged.collect()
    }
}

fn default(setting: &'static Setting) -> Result<Value, Problem> {
    if setting.default.is_empty() {
        return Ok(Value { setting, typed: Typed::Unset, origin: Origin::Default });
    }
    judge(setting, &Raw::Text(setting.default.to_string()), Origin::Default)
}

/// Judges what was written somewhere.
fn judge(setting: &'static Setting, raw: &Raw, origin: Origin) -> Result<Value, Problem> {
    let why = match setting.kind.parse(raw) {
        Ok(Typed::Unset) if !setting.default.is_empty() => "empty".to_string(),
        Ok(typed) => return Ok(Value { setting, typed, origin }),
        Err(Wrong::Kind) => {
            let name = setting.kind.name();
            match setting.kind {
                Kind::Choice(_) => {
                    format!("{}, which is none of its words", raw.show(setting.kind))
                }
                kind => format!("{}, which is no {name}", raw.show(kind)),
            }
        }
        Err(Wrong::Range) => format!("{}, which is out of range", raw.show(setting.kind)),
    };
    let line = match origin {
        Origin::File(_, line) => Some(line),
        _ => None,
    };
    let message = format!("{} is {why}", origin.name(setting));
    Err(Problem { line, message, fix: format!("give {}", setting.kind.allowed()) })
}

/// A setting's value and where it came from.
#[derive(Debug, Clone)]
pub struct Value {
    /// Of what.
    pub setting: &'static Setting,
    /// The value.
    pub typed: Typed,
    /// Where it came from.
    pub origin: Origin,
}

/// The values that hold.
#[derive(Debug)]
pub struct Effective {
    /// A value for each setting of the role, in the order of the table.
    pub values: Vec<Value>,
    /// What the user should hear of, and nothing fails for.
    pub warnings: Vec<String>,
    /// The file that was read.
    pub file: Option<Arc<std::path::PathBuf>>,
}

impl Effective {
    /// Those of a role. Warnings are the caller's to tell.
    ///
    /// # Errors
    /// A file that cannot be read, and all that is wrong with what was written.
    pub fn gather(role: Option<Role>, line: &Line, variables: Variables) -> Outcome<Effective> {
        let layers = Layers::gather(role, line, variables)?;
        layers.resolve().map_err(|problems| problem::failure(&problems))
    }

    /// The value of a key as a field has it.
    ///
    /// # Errors
    /// `Internal` if the role does not read it, or it is declared with another type.
    pub fn get<T: FromTyped>(&self, key: &str) -> crate::base::Result<T> {
        self.value(key).and_then(|value| T::from_typed(&value.typed)).ok_or_else(|| {
            let text = format!("the setting {key} is read in a way it is not declared");
            Error::new(ErrorKind::Internal, text)
        })
    }

    /// How a sentence names a setting: by what the user wrote.
    pub fn name(&self, key: &str) -> String {
        let name = self.value(key).map(|value| value.origin.name(value.setting));
        name.unwrap_or_else(|| key.to_string())
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.setting.key == key)
    }
}

#[cfg(test)]
mod tests;
