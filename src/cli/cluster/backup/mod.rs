//! `arqon cluster backup`: a cluster's data in a folder, from which another cluster can begin.
//!
//! Words: a *document* is what a backup is made of, as its file tells it. *Content* is what a file
//! holds, kept once. A *shelf* shows a shard of a backup as a folder that an engine opens.
//!
//! In reading order:
//! - [`document`]: what a backup is made of. [`repository`]: the folder of backups.
//! - [`source`]: the cluster, as a backup reads it. [`take`]: making a backup.
//! - [`shelf`], [`verify`]: reading one back.
//! - here the command; [`list`], [`check`], [`prune`]: its other verbs.
//!
//! Invariants owed to whoever restores one:
//! - Of each shard a backup holds exactly what its log has up to one entry, and all that was
//!   acknowledged before the backup was begun.
//! - A backup is there when all of it is durable. Whatever happens to a later one, it stays.

pub mod check;
pub mod document;
pub mod list;
pub mod prune;
pub mod repository;
pub mod shelf;
pub mod source;
pub mod take;
pub mod verify;

use crate::cli::cluster::MetaArgs;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::{Clock, RealClock, RealDisk};
use clap::Subcommand;
use document::stamp;
use repository::Repository;
use source::Source;
use std::path::PathBuf;

/// Copy a cluster's data into a folder; look after such folders
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  arqon cluster backup /mnt/backups
  arqon cluster backup /mnt/backups --name before-upgrade --meta http://10.0.0.5:8379
  arqon cluster backup list /mnt/backups

Into the same folder again it copies only the tables that are new: name the same folder each time.
The cluster goes on meanwhile. Of each shard the backup has all that was acknowledged before it was
begun, and ends at one entry of the shard's log; of two shards these are of different moments.

A backup that was interrupted is not there; run again, what it had copied is not copied again. The
folder holds what users' passwords are checked against: keep strangers out of it. A folder that is
called list, verify or prune is written ./list."
)]
pub struct Backup {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    meta: MetaArgs,
    /// The folder of backups, made if need be
    #[arg(value_name = "DIR", required = true)]
    dir: Option<PathBuf>,
    /// Name of the backup; the time unless given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the backups of a folder
    List(list::List),
    /// Read backups back and check every byte
    Verify(check::Verify),
    /// Remove old backups, and the tables that no other has
    Prune(prune::Prune),
}

impl Backup {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        match self.verb {
            None => {}
            Some(Verb::List(list)) => return list.run(context),
            Some(Verb::Verify(verify)) => return verify.run(context),
            Some(Verb::Prune(prune)) => return prune.run(context),
        }
        let dir = self.dir.ok_or_else(|| Failure::usage("no folder is named"))?;
        let now_ms = RealClock::new().unix_ms();
        let name = self.name.unwrap_or_else(|| stamp(now_ms));
        let (client, view) = self.meta.view().await?;
        if view.shards().next().is_none() {
            return Err(Failure::refused(
                "the cluster has no shards: there is nothing to back up",
                "bring it to life with `arqon cluster init`",
            ));
        }
        let repository = Repository::create(RealDisk::shared(), &dir)?;
        let begun = std::sync::Arc::new(RealClock::new());
        let start = begun.monotonic_ns();
        let quiet = context.printer.format().is_json();
        let say = |text: &str| {
            if !quiet {
                // Nobody listening is no reason to fail.
                _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"));
            }
        };
        let taken = take::take(&Source::new(client), &repository, &name, now_ms, &say).await?;
        let seconds = (begun.monotonic_ns() - start) as f64 / 1e9;
        context.printer.record(&[
            ("backup", Value::from(name)),
            ("dir", Value::from(dir.display().to_string())),
            ("shards", Value::from(taken.document.shards.len() as u64)),
            ("files", Value::from(taken.all.files)),
            ("bytes", Value::from(taken.all.bytes)),
            ("new_files", Value::from(taken.new.files)),
            ("new_bytes", Value::from(taken.new.bytes)),
            ("seconds", Value::Float(seconds, 1)),
        ])?;
        context.printer.finish(None)
    }
}
