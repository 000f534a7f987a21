//! `arqon cluster backup list`: the backups of a folder.

use crate::cli::cluster::backup::document::stamp;
use crate::cli::cluster::backup::repository::Repository;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::RealDisk;
use std::path::PathBuf;

/// Show the backups of a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster backup list /mnt/backups
  arqon cluster backup list /mnt/backups --output json

It reads what each backup says of itself. Whether all of it is there, `arqon cluster backup verify`
tells.")]
pub struct List {
    /// The folder of backups
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl List {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let repository = Repository::open(RealDisk::shared(), &self.dir)?;
        let columns = ["backup", "made", "cluster", "shards", "files", "bytes"];
        context.printer.list("backups", &columns)?;
        let (mut known, mut unreadable) = (Vec::new(), Vec::new());
        for name in repository.names()? {
            match repository.read(&name) {
                Ok(document) => known.push(document),
                Err(error) => unreadable.push(error),
            }
        }
        known.sort_by_key(|document| document.made_ms);
        for document in known {
            context.printer.row(vec![
                Value::from(document.name.clone()),
                Value::from(stamp(document.made_ms)),
                Value::from(document.cluster.name.clone()),
                Value::from(document.shards.len() as u64),
                Value::from(document.files().count() as u64),
                Value::from(document.files().map(|file| file.size).sum::<u64>()),
            ])?;
        }
        match unreadable.is_empty() {
            true => context.printer.finish(None),
            false => Err(Failure::damaged(&self.dir, &unreadable)),
        }
    }
}
