//! `arqon gateway`: the door to a cluster, without state.

use super::{close, hosts, runtime, unless_pressed, until_asked};
use crate::cli::context::Context;
use crate::cli::dev::doors;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Signals;
use crate::cli::settings::exposure::Guard;
use crate::cli::settings::read::ClusterMode;
use crate::cli::settings::{Flags, GatewaySettings};
use crate::gateway::{GatewayOptions, RemoteShards, RetryOptions};
use crate::rpc::cluster::MetaClient;
use crate::rpc::link::{Hello, Role};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often transactions that were left behind are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// A transaction that has stood for so long was left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(20);

/// Serve Redis and gRPC clients of a cluster, without keeping anything
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon gateway
  arqon gateway --meta http://10.0.0.5:8379,http://10.0.0.6:8379 --redis-addr 127.0.0.1:6379
  arqon gateway --consistency 'stale(500ms)'
  GATEWAY_META=http://10.0.0.5:8379 arqon gateway --addr 127.0.0.1:0 --redis-addr 127.0.0.1:0

As many as you like, in any order: none of them keeps anything. Ctrl-C or SIGTERM stops it
cleanly.")]
pub struct Gateway {
    #[command(flatten)]
    settings: Flags<GatewaySettings>,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// Now and then settles transactions over several shards that other gateways left behind.
async fn sweep(gateway: Weak<crate::gateway::Gateway<RemoteShards>>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(gateway) = gateway.upgrade() else { return };
        // What cannot be settled now is by the next sweep, or by who meets it.
        _ = gateway.sweep_transactions(LEFT_BEHIND).await;
    }
}

impl Gateway {
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
        let own = &settings.gateway;
        if own.jwt_secret.is_some() {
            return Err(Failure::refused(
                "a secret for tokens is set, and this version checks no tokens yet",
                "unset GATEWAY_JWT_SECRET and keep strangers away by other means",
            ));
        }
        let guard = Guard::without_authentication(settings.server.allow_remote);
        let grpc = guard.admit(&effective, "gateway.addr", &own.addr)?;
        let redis = guard.admit(&effective, "gateway.redis_addr", &own.redis_addr)?;
        let (grpc_door, grpc_at) = doors::listen("--addr", &grpc.addresses).await?;
        let (redis_door, redis_at) = doors::listen("--redis-addr", &redis.addresses).await?;
        let mut signals = Signals::new()?;
        let meta = MetaClient::new(&hosts(&own.meta), Hello::nameless(Role::Gateway, [0; 16]))?;
        let retry = RetryOptions {
            pause_first: own.backoff,
            pause_max: own.backoff_max,
            ..RetryOptions::default()
        };
        let options = GatewayOptions {
            call_timeout: own.deadline,
            consistency: own.consistency,
            retry,
            moved: settings.redis.cluster_mode == ClusterMode::Moved,
            redis_address: Some(redis_at.to_string().into()),
            ..GatewayOptions::default()
        };
        let gateway = Arc::new(crate::gateway::Gateway::new(RemoteShards::new(meta), options));
        let (stop, stopped) = watch::channel(false);
        let grace = settings.server.drain;
        let mut tasks = JoinSet::new();
        tokio::spawn(sweep(Arc::downgrade(&gateway)));
        tasks.spawn(doors::serve(gateway, redis_door, grpc_door, grace, stopped));
        context.say(format_args!(
            "arqon {} is a door to the cluster of {}",
            env!("CARGO_PKG_VERSION"),
            hosts(&own.meta).join(", ")
        ));
        context.say(format_args!("  redis  {redis_at}    redis-cli -p {}", redis_at.port()));
        context.say(format_args!("  grpc   {grpc_at}    service arqondb.v1.ArqonDb"));
        for notice in grpc.notice.iter().chain(&redis.notice) {
            context.say(format_args!("warning: {notice}"));
        }
        until_asked(&mut signals, &mut tasks).await?;
        context.say("stopping");
        unless_pressed(&mut signals, async {
            stop.send_replace(true);
            close(tasks, grace).await;
        })
        .await
    }
}
