//! The transcripts of Redis commands, played to eight shards.

use crate::cluster::{Ways, World};
use crate::model::nodes;
use crate::redis_model::Model;
use crate::redis_text::{parse_call, show};
use crate::words::{call, reply};
use arqondb::base::{ErrorKind, Result};
use arqondb::env::{Clock, SimClock};
use arqondb::gateway::{Gateway, GatewayOptions, LocalShards};
use arqondb::node::cluster::MemberOptions;
use arqondb::op::command::{self, Id};
use arqondb::op::kv::RedisCall;
use arqondb::op::route::Route;
use arqondb::op::{KvOps, Reply, Request, Response};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const START_MS: u64 = 1_700_000_000_000;

struct Stage<K> {
    many: K,
    model: Model,
    clock: Arc<SimClock>,
    /// Commands whose keys lay in several shards.
    spread: BTreeSet<&'static str>,
    compared: usize,
    /// Calls that a shard fails and the map in memory does not: its values have no bound.
    beyond: usize,
}

impl<K: KvOps> Stage<K> {
    fn new(many: K, clock: Arc<SimClock>) -> Stage<K> {
        let model = Model::at(START_MS);
        Stage { many, model, clock, spread: BTreeSet::new(), compared: 0, beyond: 0 }
    }

    async fn try_ask(&self, args: &[Bytes]) -> Result<Response> {
        let spec = command::lookup(args).unwrap();
        self.many.call(Request::Redis(RedisCall { spec, args: args.to_vec() })).await
    }

    async fn ask(&self, args: &[Bytes]) -> Reply {
        reply(self.try_ask(args).await)
    }

    async fn play(&mut self, args: &[Bytes], context: &str) {
        let want = self.model.call(args);
        let Ok(spec) = command::lookup(args) else { return };
        let request = Request::Redis(RedisCall { spec, args: args.to_vec() });
        let got = match self.try_ask(args).await {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{context}");
                self.beyond += 1;
                for at in command::keys_of(spec, args) {
                    self.model.call(&[Bytes::from_static(b"DEL"), args[at].clone()]);
                    self.copy(&args[at]).await;
                }
                return;
            }
            answer => reply(answer),
        };
        if matches!(Route::of(&request), Route::Slots(_)) {
            self.spread.insert(spec.name);
        }
        // A cursor's number, and where it stands, is each one's own; so is what is drawn.
        if spec.id == Id::Randomkey || spec.id == Id::Scan && !is_whole(args, &want) {
            return;
        }
        self.compared += 1;
        assert_eq!(show(&got), show(&want), "{context}");
    }

    /// Makes a key what it is in the model.
    async fn copy(&mut self, key: &Bytes) {
        let word = Bytes::from_static;
        let Reply::Bulk(value) = self.model.call(&[word(b"GET"), key.clone()]) else {
            self.ask(&[word(b"DEL"), key.clone()]).await;
            return;
        };
        assert_eq!(self.ask(&[word(b"SET"), key.clone(), value]).await, Reply::OK);
        match self.model.call(&[word(b"PEXPIRETIME"), key.clone()]) {
            Reply::Int(at) if at >= 0 => {
                let at = at.to_string().into();
                assert_eq!(self.ask(&[word(b"PEXPIREAT"), key.clone(), at]).await, Reply::Int(1));
            }
            _ => {}
        }
    }
}

/// Whether a SCAN gave all there is at once.
fn is_whole(args: &[Bytes], reply: &Reply) -> bool {
    match reply {
        Reply::Array(parts) => args[1] == "0" && parts[0] == Reply::bulk("0"),
        _ => args[1] == "0",
    }
}

/// What came of the files.
#[derive(Default)]
struct Played {
    spread: BTreeSet<&'static str>,
    compared: usize,
    beyond: usize,
}

impl Played {
    async fn play<K: KvOps>(&mut self, file: &Path, mut stage: Stage<K>) {
        for (n, line) in std::fs::read_to_string(file).unwrap().lines().enumerate() {
            let context = format!("{}:{}: {line}", file.display(), n + 1);
            if let Some(ms) = line.strip_prefix("@now ") {
                let ms: u64 = ms.trim().parse().unwrap();
                stage.clock.advance_ms(ms.checked_sub(stage.clock.unix_ms()).unwrap());
            } else if let Some(ms) = line.strip_prefix("@tick ") {
                stage.clock.advance_ms(ms.trim().parse().unwrap());
            } else if let Some(line) = line.strip_prefix('>') {
                stage.play(&parse_call(line), &context).await;
            }
            stage.model.now_ms = stage.clock.unix_ms();
        }
        assert_eq!(
            stage.ask(&call(&["KEYS", "*"]).args).await,
            stage.model.call(&call(&["KEYS", "*"]).args),
            "{}",
            file.display()
        );
        self.compared += stage.compared;
        self.beyond += stage.beyond;
        self.spread.extend(stage.spread);
    }

    fn check(self) {
        let Played { spread, compared, beyond } = self;
        assert!(beyond <= 1, "{beyond}");
        eprintln!("{compared} compared, {beyond} beyond a shard's bounds, over shards {spread:?}");
        assert!(spread.len() > 8 && compared > 300, "{compared} compared, {spread:?}");
    }
}

fn files() -> impl Iterator<Item = PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/redis");
    std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path())
}

#[tokio::test]
async fn transcripts_hold_over_eight_shards() {
    let mut played = Played::default();
    for file in files() {
        let clock = Arc::new(SimClock::at(START_MS));
        let many = Gateway::new(LocalShards::new(nodes(8, &clock)), GatewayOptions::default());
        played.play(&file, Stage::new(many, clock)).await;
    }
    played.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transcripts_hold_over_three_nodes_and_eight_shards() {
    let mut played = Played::default();
    for file in files() {
        let clock = Arc::new(SimClock::at(START_MS));
        let told = clock.clone();
        let clocked = move |options: &mut MemberOptions| options.clock = told.clone();
        let ways = Ways { change: Arc::new(clocked), ..Ways::default() };
        let world = World::cluster_with(1, 3, 8, 3, ways).await;
        played.play(&file, Stage::new(world.gateway(), clock)).await;
    }
    played.check();
}
