//! `arqon cluster restore`: a backup becomes the data of another cluster, or of one folder.
//!
//! In reading order:
//! - [`rows`]: what a backup's tables hold.
//! - [`fill`]: writing it into a database, and comparing the two.
//! - here the command.
//!
//! Invariants owed to whoever runs it:
//! - A cluster that is restored into has an identity of its own.
//! - Nothing is written to a database that holds data, unless that is asked for.
//! - A backup that is not whole is refused before anything is written.

pub mod fill;
pub mod rows;

use crate::base::{Error, ErrorKind};
use crate::catalog::records::{NodeState, UserRole};
use crate::catalog::{Action, NodeId, View};
use crate::cli::cluster::backup::document::{Document, hex, unhex};
use crate::cli::cluster::backup::repository::Repository;
use crate::cli::cluster::backup::verify::is_whole;
use crate::cli::cluster::{MetaArgs, init};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::{Clock, RealClock, RealDisk};
use crate::gateway::{Gateway, GatewayOptions, RemoteShards};
use crate::node::{Options, Standalone};
use crate::op::KvOps;
use crate::op::route::SlotRange;
use crate::rpc::cluster::MetaClient;
use fill::{Filling, Tally, compare};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Make a new cluster, or a folder for `arqon dev`, from a backup
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon cluster restore /mnt/backups --meta http://10.0.1.5:8379
  arqon cluster restore /mnt/backups --name before-upgrade --cluster-name staging --shards 4
  arqon cluster restore /mnt/backups --to-dir ./arqon-data

Start the metadata servers and the nodes of the new cluster first, and do not initialise it: this
does, with an identity of its own, and with as many shards and replicas as the backup has unless
told otherwise. Every row is written like any write, then all is read and compared. A cluster that
holds data is refused. If it is interrupted, begin again with empty folders, or say --into-existing:
then rows are written over what is there.")]
pub struct Restore {
    #[command(flatten)]
    meta: MetaArgs,
    /// The folder of backups
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The backup; the one made last unless given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Name of the new cluster; that of the old one unless given
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,
    /// Shards of the new cluster; as many as the backup has unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    shards: Option<u32>,
    /// Replicas of each shard; as many as the backup has unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=7))]
    replicas: Option<u32>,
    /// Seconds to wait for nodes and leaders
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Write over what a cluster or a folder holds
    #[arg(long)]
    into_existing: bool,
    /// Restore into the folder of a single node instead
    #[arg(long, value_name = "DIR", conflicts_with_all = ["cluster_name", "shards", "replicas"])]
    to_dir: Option<PathBuf>,
}

impl Restore {
    /// Runs it.
    pub async fn run(self, context: &mut Context) -> Outcome {
        let repository = Repository::open(RealDisk::shared(), &self.dir)?;
        let document = match &self.name {
            Some(name) => repository.read(name)?,
            None => repository.last()?.ok_or_else(|| {
                let message = format!("{} holds no backup", self.dir.display());
                Error::new(ErrorKind::NotFound, message)
            })?,
        };
        is_whole(&repository, &document).map_err(|error| {
            Failure::from(error).fix("restore another backup; this one is not whole")
        })?;
        let clock = RealClock::new();
        let (into, tally) = match &self.to_dir {
            Some(dir) => {
                let tally = self.fill_folder(&repository, &document, dir, &clock).await?;
                (dir.display().to_string(), tally)
            }
            None => self.fill_cluster(&repository, &document, context, &clock).await?,
        };
        context.printer.record(&[
            ("backup", Value::from(document.name)),
            ("into", Value::from(into)),
            ("rows", Value::from(tally.rows())),
            ("seconds", Value::Float(clock.monotonic_ns() as f64 / 1e9, 1)),
        ])?;
        context.printer.finish(None)
    }

    async fn fill_folder(
        &self,
        repository: &Repository,
        document: &Document,
        dir: &Path,
        clock: &RealClock,
    ) -> Outcome<Tally> {
        let node = Standalone::open(dir, Options::default())?;
        let all = vec![SlotRange::ALL];
        let tally = self.write(&node, all, repository, document, clock).await?;
        node.db().sync()?;
        node.db().flush()?;
        Ok(tally)
    }

    async fn fill_cluster(
        &self,
        repository: &Repository,
        document: &Document,
        context: &Context,
        clock: &RealClock,
    ) -> Outcome<(String, Tally)> {
        let client = self.meta.client()?;
        let of_backup = document.shards.iter().map(|shard| shard.replicas).max().unwrap_or(1);
        let wanted = init::Wanted {
            name: self.cluster_name.clone().unwrap_or_else(|| document.cluster.name.clone()),
            shards: self.shards.unwrap_or(document.shards.len() as u32),
            replicas: self.replicas.unwrap_or(of_backup),
            deadline: Instant::now() + Duration::from_secs(self.wait),
        };
        let view = init::bring_up(&client, &wanted, context).await?;
        let id = view.cluster().map(|cluster| hex(&cluster.id)).unwrap_or_default();
        if id == document.cluster.id && !self.into_existing {
            return Err(Failure::refused(
                "this is the cluster that was backed up",
                "start another one with folders of its own; or say --into-existing to write the \
                 backup over what it holds",
            ));
        }
        let options =
            GatewayOptions { call_timeout: Duration::from_secs(30), ..GatewayOptions::default() };
        let gateway = Gateway::new(RemoteShards::new(client.clone()), options);
        let shards = view.shards().map(|shard| shard.slots).collect();
        let tally = self.write(&gateway, shards, repository, document, clock).await?;
        add_to_catalog(&client, &view, document).await?;
        let name = view.cluster().map(|cluster| cluster.name.clone()).unwrap_or_default();
        Ok((name, tally))
    }

    async fn write<K: KvOps>(
        &self,
        target: &K,
        shards: Vec<SlotRange>,
        repository: &Repository,
        document: &Document,
        clock: &RealClock,
    ) -> Outcome<Tally> {
        let bar = progress_bar();
        let progress = |rows: u64, total: u64| {
            bar.set_length(total.max(rows));
            bar.set_position(rows);
        };
        let filling = Filling { target, shards, start_ms: clock.unix_ms(), progress: &progress };
        let was_empty = filling.is_empty().await?;
        if !was_empty && !self.into_existing {
            return Err(Failure::refused(
                "there is data in what is to be restored into",
                "begin with empty folders; or say --into-existing to write over what is there, as \
                 after a restore that was interrupted",
            ));
        }
        let written = filling.fill(repository, document).await?;
        bar.set_message("compare");
        // What was there before is not the backup's.
        if was_empty {
            compare(&written, &filling.tally().await?)?;
        }
        bar.finish_and_clear();
        Ok(written)
    }
}

/// A bar on a terminal; nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{msg} {bar:30} {human_pos}/{human_len} rows, {per_sec}, ETA {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message("restore");
    bar
}

/// Adds a backup's users and indexes to a cluster's catalog. What is there stays as it is.
///
/// # Errors
/// The catalog's.
pub async fn add_to_catalog(client: &MetaClient, view: &View, document: &Document) -> Outcome {
    let deadline = || Instant::now() + Duration::from_secs(10);
    let malformed = |what: &str| Error::new(ErrorKind::Corruption, format!("{what} is malformed"));
    let active = view.nodes().filter(|node| node.state == NodeState::Active);
    let nodes: Vec<NodeId> = active.map(|node| node.id).collect();
    for user in document.users.iter().filter(|user| view.user(&user.name).is_none()) {
        let what = || malformed(&format!("the user {}", user.name));
        let role = UserRole::ALL.iter().copied().find(|role| role.name() == user.role);
        let create = Action::CreateUser {
            name: user.name.clone(),
            role: role.ok_or_else(what)?,
            verifier: unhex(&user.verifier).ok_or_else(what)?,
        };
        client.propose(create, deadline()).await?;
        if user.disabled {
            let (role, verifier) = (None, None);
            let name = user.name.clone();
            let change = Action::ChangeUser { name, role, verifier, disabled: Some(true) };
            client.propose(change, deadline()).await?;
        }
    }
    for index in document.indexes.iter().filter(|index| view.index(&index.name).is_none()) {
        let create = Action::CreateIndex {
            name: index.name.clone(),
            kind: index.kind.clone(),
            config: unhex(&index.config)
                .ok_or_else(|| malformed(&format!("the index {}", index.name)))?,
            nodes: nodes.clone(),
        };
        client.propose(create, deadline()).await?;
    }
    Ok(())
}
