//! `arqon cluster`: bringing a cluster to life, looking at it, and moving its parts.
//!
//! What moves data is a job of the metadata plane: it goes on whatever becomes of this program.
//!
//! In reading order: here what they have in common; [`init`], [`status`], [`transfer`]; [`follow`]
//! (making a job, and following it), [`drain`] (and remove), [`place`] (move), [`balance`] (and
//! join), [`jobs`]; [`split`]; [`backup`], [`restore`]; [`up`].

pub mod backup;
pub mod balance;
pub mod drain;
pub mod follow;
pub mod init;
pub mod jobs;
pub mod place;
pub mod restore;
pub mod split;
pub mod status;
pub mod transfer;
pub mod up;

use crate::catalog::View;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::settings::address::Url;
use crate::rpc::cluster::MetaClient;
use crate::rpc::link::{Hello, Role};
use clap::Subcommand;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bring a cluster to life, look at it, move its parts
#[derive(Debug, clap::Args)]
pub struct Cluster {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give a new cluster its identity and its shards
    Init(init::Init),
    /// Show nodes, shards, and what is amiss
    Status(status::Status),
    /// Let a node take part: wait for it, and give it its share
    Join(balance::Join),
    /// Move everything off a node, and keep it empty
    Drain(drain::Drain),
    /// Move everything off a node, and strike it off for good
    Remove(drain::Remove),
    /// Move a replica of a shard to another node
    Move(place::Place),
    /// Split a shard in two
    Split(split::Split),
    /// Make another node lead a shard
    TransferLeader(transfer::Transfer),
    /// Spread replicas and leads evenly over the nodes
    Rebalance(balance::Rebalance),
    /// Show jobs, or call one off
    Jobs(jobs::Jobs),
    /// Copy a cluster's data into a folder; look after such folders
    Backup(backup::Backup),
    /// Make a new cluster, or a folder for `arqon dev`, from a backup
    Restore(restore::Restore),
    /// Bring up a cluster as a file describes it
    Up(up::Up),
    /// Stop what `arqon cluster up` started
    Down(up::down::Down),
}

impl Cluster {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let runtime = super::roles::runtime()?;
        let outcome = runtime.block_on(async {
            match self.verb {
                Verb::Init(init) => init.run(context).await,
                Verb::Status(status) => status.run(context).await,
                Verb::Join(join) => join.run(context).await,
                Verb::Drain(drain) => drain.run(context).await,
                Verb::Remove(remove) => remove.run(context).await,
                Verb::Move(place) => place.run(context).await,
                Verb::Rebalance(rebalance) => rebalance.run(context).await,
                Verb::Jobs(jobs) => jobs.run(context).await,
                Verb::Split(split) => split.run(context).await,
                Verb::TransferLeader(transfer) => transfer.run(context).await,
                Verb::Backup(backup) => backup.run(context).await,
                Verb::Restore(restore) => restore.run(context).await,
                Verb::Up(up) => up.run(context).await,
                Verb::Down(down) => down.run(context).await,
            }
        });
        runtime.shutdown_background();
        outcome
    }
}

/// Where the metadata servers are.
#[derive(Debug, Clone, clap::Args)]
pub struct MetaArgs {
    /// The metadata servers, any of them
    #[arg(
        long,
        value_name = "URL,...",
        env = "GATEWAY_META",
        default_value = "http://127.0.0.1:8379",
        value_delimiter = ','
    )]
    meta: Vec<String>,
}

impl MetaArgs {
    /// A client of them.
    fn client(&self) -> Outcome<MetaClient> {
        let address = |text: &String| {
            let url = Url::parse(text).ok_or_else(|| {
                Failure::usage(format!("--meta {text} is no URL such as http://127.0.0.1:8379"))
            })?;
            Ok(url.0.to_string())
        };
        let addresses = self.meta.iter().map(address).collect::<Outcome<Vec<_>>>()?;
        Ok(MetaClient::new(&addresses, Hello::nameless(Role::Tool, [0; 16]))?)
    }

    /// The client, and the catalog as it is now.
    async fn view(&self) -> Outcome<(MetaClient, Arc<View>)> {
        let client = self.client()?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let view = client.wait_for(deadline, |view| view.revision() > 0).await.map_err(|_| {
            let meta = self.meta.join(", ");
            Failure::unavailable(format!("no metadata server of a cluster answers at {meta}"))
                .fix("start `arqon meta`, then `arqon cluster init`; or name others with --meta")
        })?;
        Ok((client, view))
    }
}
