//! `arqon meta`: keeps the cluster's metadata.

use super::{close, hosts, runtime, unless_pressed, until_asked};
use crate::cli::context::Context;
use crate::cli::dev::doors;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Signals;
use crate::cli::settings::exposure::Guard;
use crate::cli::settings::{Flags, MetaSettings};
use crate::meta::MetaOptions;
use crate::meta::jobs::Limits;
use crate::raft::GroupOptions;
use crate::rpc::link;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Keep the metadata of a cluster: one of 1, 3 or 5 such servers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon meta
  arqon meta --dir ./meta1 --listen 10.0.0.5:8379 --allow-remote \\
      --peers http://10.0.0.5:8379,http://10.0.0.6:8379,http://10.0.0.7:8379

The same --peers at each of them; the first begins the group. A new cluster is brought to life by
`arqon cluster init`. Ctrl-C or SIGTERM stops it cleanly.

Keep its folder. A server whose folder was lost is started again with an empty one, while a majority of
the others runs: they take it in again under its number, without a vote until it is up to date.")]
pub struct Meta {
    #[command(flatten)]
    settings: Flags<MetaSettings>,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    with_parent: bool,
}

impl Meta {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        if self.with_parent {
            crate::env::process::end_with_parent();
        }
        let runtime = runtime()?;
        let outcome = runtime.block_on(self.serve(context));
        runtime.shutdown_background();
        outcome
    }

    async fn serve(self, context: &mut Context) -> Outcome {
        let (settings, effective) = self.settings.load(context)?;
        let guard = Guard::without_authentication(settings.server.allow_remote);
        let admitted = guard.admit(&effective, "meta.listen", &settings.meta.listen)?;
        let (listener, at) = doors::listen("--listen", &admitted.addresses).await?;
        let mut signals = Signals::new()?;
        let options = options(&settings, at.to_string())?;
        let (id, servers) = (options.id, options.peers.len());
        let meta = crate::meta::Meta::open(options).await?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(link::listen(listener, Arc::new(meta.clone()), stopped));
        let dir = settings.meta.dir.display();
        context.say(format_args!(
            "arqon {} keeps metadata in {dir} at {at}, number {id} of {servers}",
            env!("CARGO_PKG_VERSION"),
        ));
        admitted.notice.iter().for_each(|notice| context.say(format_args!("warning: {notice}")));
        tokio::select! {
            asked = until_asked(&mut signals, &mut tasks) => asked?,
            error = meta.failed() => return Err(error.into()),
        }
        context.say("stopping");
        unless_pressed(&mut signals, async {
            meta.stop().await;
            stop.send_replace(true);
            close(tasks, settings.server.drain).await;
        })
        .await
    }
}

fn options(settings: &MetaSettings, at: String) -> Outcome<MetaOptions> {
    let own = settings.meta.addr.as_ref().map_or(at, |url| url.0.to_string());
    let mut peers = hosts(&settings.meta.peers);
    if peers.is_empty() {
        peers.push(own.clone());
    }
    let peers: Vec<(u64, String)> = (1..).zip(peers).collect();
    let found = peers.iter().find(|(_, address)| *address == own).map(|(id, _)| *id);
    let id = settings.meta.id.or(found).ok_or_else(|| {
        Failure::usage(format!("{own} is not among the peers"))
            .fix("name this server's own address with --addr as it stands in --peers, or its --id")
    })?;
    let raft = &settings.raft;
    Ok(MetaOptions {
        suspect_after: settings.cluster.suspect_after,
        dead_after: settings.cluster.dead_after,
        limits: Limits {
            moves_per_node: usize::try_from(settings.cluster.moves_per_node).unwrap_or(1),
            ..Limits::default()
        },
        group: group_options(raft),
        ..MetaOptions::new(&settings.meta.dir, id, peers)
    })
}

/// The settings of Raft groups.
pub(super) fn group_options(raft: &crate::cli::settings::table::shared::Raft) -> GroupOptions {
    let defaults = GroupOptions::default();
    GroupOptions {
        heartbeat: raft.heartbeat,
        election_min: raft.election_min,
        election_max: raft.election_max,
        log_bytes: raft.log_keep,
        log_bytes_max: raft.log_keep.saturating_mul(4),
        ..defaults
    }
}
