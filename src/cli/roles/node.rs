//! `arqon node`: keeps shards.

use super::meta::group_options;
use super::{close, hosts, runtime, unless_pressed, until_asked};
use crate::cli::context::Context;
use crate::cli::dev::doors;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Signals;
use crate::cli::settings::exposure::Guard;
use crate::cli::settings::kind::Raw;
use crate::cli::settings::{Flags, NodeSettings, flags, table};
use crate::gateway::{Gateway, GatewayOptions, NodeId, RemoteShards};
use crate::node::cluster::{Member, MemberOptions};
use crate::raft::GroupOptions;
use crate::rpc::link;
use crate::serve::grpc::{GrpcOptions, GrpcServer};
use crate::serve::resp::{RedisServer, RespOptions};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Keep shards of a cluster, and answer clients for all of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon node ./node1 127.0.0.1:7379 --meta http://127.0.0.1:8379
  arqon node ./node2 127.0.0.1:7479 --raft-listen 127.0.0.1:7480 --meta http://127.0.0.1:8379
  META_SERVER=http://10.0.0.5:8379 DATA_ADDR=http://10.0.0.7:7379 RAFT_ADDR=10.0.0.7:7380 \\
      arqon node ./node3 10.0.0.7:7379 --allow-remote

It waits for the metadata servers, registers and takes the shards it is given. Ctrl-C or SIGTERM
stops it cleanly: what it leads is handed over first.")]
pub struct Node {
    /// Folder of its data, made if need be
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Address to listen on for data
    #[arg(value_name = "ADDR")]
    addr: Option<String>,
    #[command(flatten)]
    settings: Flags<NodeSettings>,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    with_parent: bool,
}

impl Node {
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

    /// The flags, with what stands before them.
    fn flags(&mut self) {
        let dir = self.dir.take().map(|dir| ("node.dir", dir.display().to_string(), "DIR"));
        let addr = self.addr.take().map(|addr| ("node.data_listen", addr, "ADDR"));
        for (key, text, place) in dir.into_iter().chain(addr) {
            if let Some(setting) = table::find(key) {
                let given = flags::Given { setting, raw: Raw::Text(text), flag: place.into() };
                self.settings.line.given.push(given);
            }
        }
    }

    async fn serve(mut self, context: &mut Context) -> Outcome {
        self.flags();
        let (settings, effective) = self.settings.load(context)?;
        let node = &settings.node;
        if node.meta.is_empty() {
            return Err(Failure::usage("no metadata server is named").fix(
                "name them with --meta http://HOST:8379, or run `arqon dev` for one machine",
            ));
        }
        let guard = Guard::without_authentication(settings.server.allow_remote);
        let data = guard.admit(&effective, "node.data_listen", &node.data_listen)?;
        let raft = guard.admit(&effective, "node.raft_listen", &node.raft_listen)?;
        let (data_door, data_at) = doors::listen("--data-listen", &data.addresses).await?;
        let (raft_door, raft_at) = doors::listen("--raft-listen", &raft.addresses).await?;
        let mut redis_door = None;
        if let Some(address) = &node.redis_addr {
            let redis = guard.admit(&effective, "node.redis_addr", address)?;
            redis_door = Some(doors::listen("--redis-addr", &redis.addresses).await?);
        }
        let mut signals = Signals::new()?;
        context.say(format_args!(
            "arqon {} waits for the metadata at {}",
            env!("CARGO_PKG_VERSION"),
            hosts(&node.meta).join(", ")
        ));
        let data_url =
            node.data_addr.as_ref().map_or(format!("http://{data_at}"), |u| u.to_string());
        let raft_addr = node.raft_addr.as_ref().map_or(raft_at.to_string(), |a| a.to_string());
        let storage = &settings.storage;
        let options = MemberOptions {
            id: node.id,
            data_url,
            labels: node.labels.iter().map(|l| (l.name.clone(), l.value.clone())).collect(),
            memory_budget_bytes: storage.memory,
            compression: storage.compression,
            background_threads: usize::try_from(storage.threads).unwrap_or(1),
            heartbeat: node.heartbeat,
            snapshot_bytes_per_second: settings.raft.snapshot_rate,
            sync: settings.raft.sync,
            group: GroupOptions {
                hibernate_after: settings.raft.hibernate_after,
                ..group_options(&settings.raft)
            },
            ..MemberOptions::new(&node.dir, hosts(&node.meta), &raft_addr)
        };
        let member = tokio::select! {
            member = Member::open(options) => member?,
            () = signals.next() => return Err(Failure::interrupted()),
        };
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(link::listen(raft_door, Arc::new(member.clone()), stopped.clone()));
        let shards = RemoteShards::beside(member.clone());
        let near = Some(NodeId(member.id()));
        let redis_address = redis_door.as_ref().map(|(_, at)| at.to_string().into());
        let options = GatewayOptions { near, redis_address, ..GatewayOptions::default() };
        let gateway = Arc::new(Gateway::new(shards, options));
        let grace = settings.server.drain;
        let until = |mut stop: watch::Receiver<bool>| async move {
            _ = stop.wait_for(|&stop| stop).await;
        };
        let grpc = GrpcServer::new(gateway.clone())
            .with_options(GrpcOptions { drain: grace, ..GrpcOptions::default() });
        tasks.spawn(grpc.serve_on(data_door, until(stopped.clone())));
        if let Some((door, _)) = redis_door {
            let options =
                RespOptions { stop_grace_ms: grace.as_millis() as u64, ..RespOptions::default() };
            let redis = RedisServer::shared(gateway).with_options(options);
            tasks.spawn(redis.serve_on(door, until(stopped)));
        }
        context.say(format_args!(
            "node {} serves {} at {data_at}, its replicas speak at {raft_at}",
            member.id(),
            node.dir.display()
        ));
        for notice in data.notice.iter().chain(&raft.notice) {
            context.say(format_args!("warning: {notice}"));
        }
        tokio::select! {
            asked = until_asked(&mut signals, &mut tasks) => asked?,
            () = tell_troubles(&member, context) => {}
            error = member.failed() => return Err(error.into()),
        }
        context.say("stopping: handing over what this node leads");
        unless_pressed(&mut signals, async {
            member.stop().await;
            stop.send_replace(true);
            close(tasks, grace).await;
        })
        .await
    }
}

/// Tells of every replica that does not run, once for each reason, until the node ends.
async fn tell_troubles(member: &Member, context: &Context) {
    let (mut troubles, mut told) = (member.troubles(), BTreeSet::new());
    loop {
        let now = troubles.borrow_and_update().clone();
        for (shard, trouble) in now {
            let line = format!("warning: the replica of shard {shard} does not run: {trouble}");
            if told.insert(line.clone()) {
                context.say(line);
            }
        }
        if troubles.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
