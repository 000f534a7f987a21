//! `arqon config sample`.

use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::output::{Format, Value};
use crate::cli::settings::kind::Kind;
use crate::cli::settings::table::{self, SECTIONS};
use crate::cli::settings::{Role, Setting};
use std::io::Write;

/// Print a settings file with every setting, its meaning and its default
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon config sample > arqon.toml
  arqon config sample --role gateway
  arqon config sample --output json

Every setting stands behind a #, with its default, or with an example if it has none: take the #
away where you want another value. With --output json, ndjson, csv or tsv the settings are printed
as data, with their variables and flags.")]
pub struct Sample {
    /// Only the settings of this role
    #[arg(long, value_enum)]
    role: Option<Role>,
}

impl Sample {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        match context.printer.format() {
            Format::Table | Format::Plain => {
                let mut out = std::io::stdout().lock();
                out.write_all(text(self.role).as_bytes())?;
                Ok(out.flush()?)
            }
            _ => self.list(context),
        }
    }

    fn list(&self, context: &mut Context) -> Outcome {
        let columns = &[
            "key", "type", "default", "allowed", "roles", "variable", "promised", "restart", "help",
        ];
        context.printer.list("settings", columns)?;
        for setting in table::of_role(self.role) {
            let roles: Vec<&str> = setting.roles.iter().map(|role| role.name()).collect();
            let default = Some(setting.default).filter(|default| !default.is_empty());
            context.printer.row(vec![
                Value::from(setting.key),
                Value::from(setting.kind.name()),
                Value::from(default),
                Value::from(setting.kind.allowed()),
                Value::from(roles.join(",")),
                Value::from(setting.variable()),
                Value::from(setting.legacy),
                Value::from(setting.restart),
                Value::from(setting.help),
            ])?;
        }
        Ok(())
    }
}

/// The widest line of the sample.
const WIDTH: usize = 100;

const OPENING: &str = "\
Settings of ArqonDB's servers, read from --config FILE, else $ARQON_CONFIG, else ./arqon.toml, else \
/etc/arqon/arqon.toml. Flags and variables are stronger. A line behind # without a blank shows the \
default, or an example where there is none: take the # away to set it. Sizes are bytes, or 64KiB, \
256MiB, 1GiB; durations 100ms, 5s, 2m, 1h. Paths begin where the server is started. A change needs a restart of the server. Check the file \
with: arqon config check";

/// The sample for a role, or for all.
pub fn text(role: Option<Role>) -> String {
    let mut out = String::new();
    wrap(&mut out, OPENING);
    for section in &SECTIONS {
        let is_wanted = |s: &&Setting| role.is_none_or(|role| s.is_for(role));
        let mut settings = section.settings.iter().filter(is_wanted).peekable();
        let Some(first) = settings.peek() else { continue };
        let roles: Vec<&str> = first.roles.iter().map(|role| role.name()).collect();
        out.push('\n');
        wrap(&mut out, &format!("{} Read by: {}.", section.help, roles.join(", ")));
        out.push_str(&format!("[{}]\n", section.name));
        for setting in settings {
            entry(&mut out, setting);
        }
    }
    out
}

fn entry(out: &mut String, setting: &Setting) {
    out.push('\n');
    let mut words = vec![setting.help.to_string()];
    words.extend(setting.kind.bounds().map(|bounds| format!("From {bounds}.")));
    if setting.default.is_empty() {
        words.push("No default.".to_string());
    }
    words.push(match setting.legacy {
        Some(legacy) => format!("Variables: {legacy}, {}.", setting.variable()),
        None => format!("Variable: {}.", setting.variable()),
    });
    wrap(out, &words.join(" "));
    let value = if setting.default.is_empty() { setting.example } else { setting.default };
    let value = match setting.kind {
        Kind::Bool | Kind::Int(..) => value.to_string(),
        kind if kind.is_list() && value.contains(',') => {
            let entries: Vec<String> = value.split(',').map(|entry| format!("{entry:?}")).collect();
            format!("[{}]", entries.join(", "))
        }
        _ => format!("{value:?}"),
    };
    out.push_str(&format!("#{} = {value}\n", setting.name()));
}

/// Adds a text as comment lines.
fn wrap(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

#[cfg(test)]
mod tests;
