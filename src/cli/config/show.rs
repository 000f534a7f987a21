//! `arqon config show`.

use crate::cli::args::usage_failure;
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::output::Value;
use crate::cli::settings::flags::{self, Line};
use crate::cli::settings::kind::Typed;
use crate::cli::settings::resolve::Value as Held;
use crate::cli::settings::{Effective, Role, Variables};
use std::ffi::OsString;
use std::path::PathBuf;

/// Print the settings that hold here, and where each came from
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon config show --origin
  arqon config show --role node --config /etc/arqon/arqon.toml
  arqon config show --role dev --origin -- --sync always

A value comes from the first that has one: a flag, a variable, the settings file, the default. The
variable of section.name is ARQON_SECTION_NAME; some have a second, which `arqon config sample`
names. The file is the one of --config, else of ARQON_CONFIG, else ./arqon.toml, else
/etc/arqon/arqon.toml. Behind -- stand the flags that the role's own command would get. Secrets are
shown as (set) or (unset).")]
pub struct Show {
    /// Only the settings of this role
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Where each value came from, in a column of its own
    #[arg(long)]
    origin: bool,
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Flags of the role's command
    #[arg(last = true, requires = "role", allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

impl Show {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let mut line = match self.role {
            Some(role) => flags::parse(role, &self.flags).map_err(|error| usage_failure(&error))?,
            None => Line::default(),
        };
        line.config = line.config.or(self.config);
        let effective = Effective::gather(self.role, &line, Variables::of_process())?;
        let columns: &[&str] = &["key", "value", "origin"];
        let columns = if self.origin { columns } else { &columns[..2] };
        context.printer.list("settings", columns)?;
        for held in &effective.values {
            let mut row = vec![Value::from(held.setting.key), shown(held, context)];
            if self.origin {
                row.push(Value::from(held.origin.to_string()));
            }
            context.printer.row(row)?;
        }
        let file = effective.file.map(|path| path.display().to_string());
        context.printer.footer("file", file);
        match context.printer.format().is_json() {
            _ if effective.warnings.is_empty() => {}
            true => context.printer.footer_json("warnings", effective.warnings.into()),
            false => {
                for warning in &effective.warnings {
                    context.say(format_args!("warning: {warning}"));
                }
            }
        }
        Ok(())
    }
}

/// A value as the file would have it; a program gets numbers and booleans as such.
fn shown(held: &Held, context: &Context) -> Value {
    let typed = context.printer.format().is_json();
    match &held.typed {
        Typed::Unset if held.setting.kind.is_secret() => Value::from("(unset)"),
        Typed::Bool(b) if typed => Value::from(*b),
        Typed::Int(n) if typed => Value::from(*n),
        value => Value::from(value.show()),
    }
}
