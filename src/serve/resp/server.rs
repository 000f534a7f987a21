//! The listener: accepts connections, watches over them, and stops cleanly.

use super::config::Config;
use super::connection;
use super::options::RespOptions;
use super::registry::{Client, Pause, Registry};
use super::stats::Stats;
use super::threads::Threads;
use crate::base::{Error, ErrorKind, Result};
use crate::env::rng::entropy;
use crate::env::{Clock, RealClock, Rng};
use crate::op::kv::Stats as EngineStats;
use crate::op::{KvOps, Request, Response};
use socket2::{SockRef, TcpKeepalive};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs, lookup_host};

/// How often connections are looked over.
const TICK: Duration = Duration::from_millis(100);
/// How long to wait after a failed accept (too many open files), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A Redis server in front of anything that executes requests.
///
/// It speaks RESP2 and RESP3. A client's pipeline goes to the engine as one.
#[derive(Debug)]
pub struct RedisServer<K> {
    kv: Arc<K>,
    options: RespOptions,
    clock: Arc<dyn Clock>,
}

impl<K: KvOps> RedisServer<K> {
    /// A server in front of `kv`, with default options.
    pub fn new(kv: K) -> RedisServer<K> {
        RedisServer::shared(Arc::new(kv))
    }

    /// As [`RedisServer::new`], for an engine that others hold too.
    pub fn shared(kv: Arc<K>) -> RedisServer<K> {
        RedisServer { kv, options: RespOptions::default(), clock: Arc::new(RealClock::new()) }
    }

    /// The same with other options.
    #[must_use]
    pub fn with_options(self, options: RespOptions) -> RedisServer<K> {
        RedisServer { options, ..self }
    }

    /// The same with another clock, for TIME, idle times and latencies.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> RedisServer<K> {
        RedisServer { clock, ..self }
    }

    /// Listens on `addr` and serves clients for good.
    ///
    /// # Errors
    /// The address cannot be found or bound, or an option is out of its range.
    pub async fn serve(self, addr: impl ToSocketAddrs) -> Result<()> {
        let found = lookup_host(addr)
            .await
            .map_err(|e| Error::io("find for the Redis door", "the address given", e))?;
        let addrs: Vec<SocketAddr> = found.collect();
        let names: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
        let listener = TcpListener::bind(&addrs[..])
            .await
            .map_err(|e| Error::io("listen for Redis clients on", names.join(", "), e))?;
        self.serve_on(listener, std::future::pending()).await
    }

    /// Serves clients of `listener` until `shutdown` is ready. Then no more are accepted,
    /// commands that have arrived are executed and answered, and the connections end; those not
    /// done within `stop_grace_ms` are cut.
    ///
    /// # Errors
    /// An option is out of its range, or the listener has no address.
    pub async fn serve_on(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        let local = listener
            .local_addr()
            .map_err(|e| Error::io("tell the address of", "the listening socket", e))?;
        // An engine that cannot tell its figures now does not keep the door shut.
        let engine = match self.kv.call(Request::Stats).await {
            Ok(Response::Stats(stats)) => *stats,
            _ => EngineStats::default(),
        };
        let server = Arc::new(Server::new(&self.options, local, self.clock, &engine)?);
        let threads = Threads::start(self.options.threads)?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                _ = tick.tick() => server.look_over(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => welcome(&server, &threads, &self.kv, stream, peer),
                    // The client went away, or the process has no descriptor left.
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
            }
        }
        drop(listener);
        let grace = Duration::from_millis(self.options.stop_grace_ms);
        server.stop(grace).await;
        Ok(())
    }
}

/// Gives a connection a thread and a task of its own, or turns it away.
fn welcome<K: KvOps>(
    server: &Arc<Server>,
    threads: &Threads,
    kv: &Arc<K>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    server.stats.totals.connections.fetch_add(1, Relaxed);
    // Neither option is worth losing a connection for.
    let _ = stream.set_nodelay(true);
    let seconds = server.config.live.keepalive_s.load(Relaxed);
    if seconds > 0 {
        let time = Duration::from_secs(seconds);
        let interval = Duration::from_secs((seconds / 3).max(1));
        let probes = TcpKeepalive::new().with_time(time).with_interval(interval);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&probes);
    }
    let local = stream.local_addr().unwrap_or(server.local);
    let max = server.config.live.clients_max.load(Relaxed);
    match server.clients.enter(peer, local, server.now_ms(), max) {
        Some(client) => {
            let (server, kv) = (Arc::clone(server), Arc::clone(kv));
            // Taken out of this runtime, to be watched by the thread's own.
            let stream = stream.into_std();
            threads.spawn(async move { connection::serve(stream, server, kv, client).await });
        }
        None => {
            server.stats.totals.connections_rejected.fetch_add(1, Relaxed);
            tokio::spawn(turn_away(stream));
        }
    }
}

async fn turn_away(mut stream: TcpStream) {
    // As far as it goes: the client is not wanted.
    let _ = stream.write_all(b"-ERR max number of clients reached\r\n").await;
    let _ = stream.shutdown().await;
}

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) stats: Stats,
    pub(super) clients: Registry,
    pub(super) pause: Pause,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) local: SocketAddr,
    /// Monotonic.
    pub(super) started_ms: u64,
    /// The engine's last sequence number when the server began.
    pub(super) started_seq: u64,
    /// 40 hexadecimal digits that no other run has.
    pub(super) run_id: String,
}

impl Server {
    fn new(
        options: &RespOptions,
        local: SocketAddr,
        clock: Arc<dyn Clock>,
        engine: &EngineStats,
    ) -> Result<Server> {
        let mut given = options.parameters();
        let fsync = match engine.sync {
            "always" => Some("always"),
            "interval" => Some("everysec"),
            "os" => Some("no"),
            _ => None,
        };
        given.extend(fsync.map(|word| ("appendfsync", word.to_string())));
        given.push(("port", local.port().to_string()));
        given.push(("bind", local.ip().to_string()));
        let config = Config::new(&given)
            .map_err(|why| Error::new(ErrorKind::InvalidArgument, format!("option {why}")))?;
        let mut rng = Rng::new(entropy());
        let run_id = (0..5).map(|_| format!("{:08x}", rng.next_u64() as u32)).collect();
        Ok(Server {
            config,
            stats: Stats::new(),
            clients: Registry::default(),
            pause: Pause::default(),
            started_ms: clock.monotonic_ns() / 1_000_000,
            clock,
            local,
            started_seq: engine.last_seq,
            run_id,
        })
    }

    /// Monotonic milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.monotonic_ns() / 1_000_000
    }

    /// Samples the rates, and cuts off clients that are idle or do not take their replies.
    fn look_over(&self) {
        self.stats.sample(self.clock.monotonic_ns());
        let live = &self.config.live;
        let idle_ms_max = live.idle_ms_max.load(Relaxed);
        let soft_bytes = live.output_soft_bytes.load(Relaxed);
        let soft_ms = live.output_soft_ms.load(Relaxed);
        if idle_ms_max == 0 && soft_bytes == 0 {
            return;
        }
        let now_ms = self.now_ms();
        self.clients.visit(|client| {
            let idle_ms = now_ms.saturating_sub(client.active_ms.load(Relaxed));
            let is_blocked = client.blocked.load(Relaxed);
            if idle_ms_max > 0 && idle_ms > idle_ms_max && !is_blocked {
                client.stop.cut();
            }
            if soft_bytes > 0 && over_soft_limit(client, soft_bytes, soft_ms, now_ms) {
                self.stats.totals.output_limit_cuts.fetch_add(1, Relaxed);
                client.stop.cut();
            }
        });
    }

    async fn stop(&self, grace: Duration) {
        for client in self.clients.all() {
            client.stop.finish();
        }
        if tokio::time::timeout(grace, self.clients.empty()).await.is_err() {
            for client in self.clients.all() {
                client.stop.cut();
            }
        }
    }
}

/// Whether a client's replies have stood above the soft limit for too long.
fn over_soft_limit(client: &Client, bytes: u64, ms: u64, now_ms: u64) -> bool {
    if client.output_bytes.load(Relaxed) <= bytes {
        client.soft_since_ms.store(0, Relaxed);
        return false;
    }
    // 0 means "not above", so time begins at 1.
    let now_ms = now_ms.max(1);
    match client.soft_since_ms.load(Relaxed) {
        0 => {
            client.soft_since_ms.store(now_ms, Relaxed);
            false
        }
        since_ms => now_ms.saturating_sub(since_ms) > ms,
    }
}
