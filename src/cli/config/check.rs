//! `arqon config check`.

use crate::base::{Error, ErrorKind};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::cli::settings::Variables;
use crate::cli::settings::file::{self, SettingsFile};
use crate::cli::settings::problem;
use crate::cli::settings::resolve::Layers;
use std::path::PathBuf;

/// Check a settings file: every key, every value, and whether they go together
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon config check
  arqon config check /etc/arqon/arqon.toml
  arqon config check arqon.toml --output json

Without a file it is the one that the servers would take: ARQON_CONFIG, else ./arqon.toml, else
/etc/arqon/arqon.toml. Only the file is judged, with the defaults for what it does not say. All
that is wrong is listed; the exit code is then 2.")]
pub struct Check {
    /// The settings file
    file: Option<PathBuf>,
}

impl Check {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let path =
            file::find(self.file.as_deref(), &Variables::of_process())?.ok_or_else(|| {
                let text =
                    "there is no settings file here: no ./arqon.toml, no /etc/arqon/arqon.toml";
                Failure::from(Error::new(ErrorKind::NotFound, text))
                    .fix("name one, or make one: arqon config sample > arqon.toml")
            })?;
        let file = SettingsFile::read(&path)?;
        let settings = file.entries.len() as u64;
        let layers = Layers { file: Some(file), ..Layers::default() };
        let Err(problems) = layers.resolve() else {
            return context.printer.record(&[
                ("file", Value::from(path.display().to_string())),
                ("settings", Value::from(settings)),
                ("problems", Value::from(0)),
            ]);
        };
        context.printer.list("problems", &["line", "problem", "fix"])?;
        for problem in &problems {
            let line = problem.line.map(|line| line as u64);
            let fix = Value::from(problem.fix.as_str());
            let message = Value::from(problem.message.as_str());
            context.printer.row(vec![Value::from(line), message, fix])?;
        }
        context.printer.footer("file", path.display().to_string());
        context.printer.footer("settings", settings);
        Err(problem::failure(&problems))
    }
}
