//! `arqon cluster backup prune`: old backups go.

use crate::cli::cluster::backup::repository::Repository;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::RealDisk;
use std::path::PathBuf;

/// Remove old backups, and the tables that no other has
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster backup prune /mnt/backups --keep 7
  arqon cluster backup prune /mnt/backups --keep 7 --yes

Without --yes it says what would go. What an interrupted backup left behind goes too.")]
pub struct Prune {
    /// The folder of backups
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How many of the newest stay
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
}

impl Prune {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        // Looked at first without the right to write: a folder of something else stays untouched.
        Repository::open(RealDisk::shared(), &self.dir)?;
        let repository = Repository::create(RealDisk::shared(), &self.dir)?;
        let names = repository.names()?;
        let mut all =
            names.iter().map(|name| repository.read(name)).collect::<Result<Vec<_>, _>>()?;
        all.sort_by_key(|document| document.made_ms);
        let old = all.len().saturating_sub(self.keep as usize);
        let gone: Vec<String> = all[..old].iter().map(|document| document.name.clone()).collect();
        if !gone.is_empty() && !context.yes {
            return Err(Failure::refused(
                format!("{} backups would be removed: {}", gone.len(), gone.join(", ")),
                "say --yes to remove them",
            ));
        }
        let (files, bytes) = repository.remove(&gone)?;
        context.printer.record(&[
            ("removed", Value::from(gone.len() as u64)),
            ("kept", Value::from((all.len() - old) as u64)),
            ("files", Value::from(files)),
            ("bytes", Value::from(bytes)),
        ])?;
        context.printer.finish(None)
    }
}
