//! `arqon cluster backup verify`: backups read back.

use crate::base::{Error, ErrorKind};
use crate::cli::cluster::backup::repository::Repository;
use crate::cli::cluster::backup::verify::verify;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::RealDisk;
use std::path::PathBuf;

/// Read backups back and check every byte
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster backup verify /mnt/backups
  arqon cluster backup verify /mnt/backups before-upgrade

It checks the sum of every file, opens the tables of every shard and reads all of their blocks.
Damage is named with file and offset, and ends it with exit code 8.")]
pub struct Verify {
    /// The folder of backups
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The backup; all of them unless given
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Verify {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let repository = Repository::open(RealDisk::shared(), &self.dir)?;
        let names = match self.name {
            Some(name) => vec![name],
            None => repository.names()?,
        };
        if names.is_empty() {
            let message = format!("{} holds no backup", self.dir.display());
            return Err(Error::new(ErrorKind::NotFound, message).into());
        }
        let columns = ["backup", "files", "bytes", "keys", "problems"];
        context.printer.list("backups", &columns)?;
        let mut damage: Vec<Error> = Vec::new();
        for name in names {
            let document = match repository.read(&name) {
                Ok(document) => document,
                Err(error) if error.kind() == ErrorKind::Corruption => {
                    context.printer.row(vec![
                        Value::from(name),
                        Value::from(None::<u64>),
                        Value::from(None::<u64>),
                        Value::from(None::<u64>),
                        Value::from(1),
                    ])?;
                    damage.push(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let found = verify(&repository, &document)?;
            context.printer.row(vec![
                Value::from(name),
                Value::from(found.files),
                Value::from(found.bytes),
                Value::from(found.keys),
                Value::from(found.damage.len() as u64),
            ])?;
            let known = |error: &Error| damage.iter().any(|d| d.message() == error.message());
            let new: Vec<Error> = found.damage.into_iter().filter(|e| !known(e)).collect();
            damage.extend(new);
        }
        match damage.is_empty() {
            true => context.printer.finish(None),
            false => Err(Failure::damaged(&self.dir, &damage)
                .fix("make another backup, into another folder; restore from one that is sound")),
        }
    }
}
