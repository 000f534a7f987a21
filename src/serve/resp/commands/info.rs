//! INFO: the server in figures, section by section.
//!
//! Field names are those that Redis clients and monitors read. Figures of the engine come from
//! the engine; what has no meaning here has the value that says so.

use super::hello::REDIS_VERSION;
use crate::env::process;
use crate::op::kv::Stats as EngineStats;
use crate::op::{KvOps, Reply, Request, Response};
use crate::serve::resp::server::Server;
use bytes::Bytes;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// Writes the fields of a section.
type Section = fn(&Context<'_>, &mut Fields);

/// What sections draw from.
struct Context<'a> {
    server: &'a Server,
    engine: EngineStats,
    usage: process::Usage,
    /// Whether there are more places to ask.
    cluster: bool,
}

/// The sections in order, with whether a plain INFO shows them, and who writes them.
const SECTIONS: &[(&str, bool, Section)] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, |_, _| {}),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Latencystats", false, latency_stats),
    ("Cluster", true, cluster),
    ("Engine", true, engine),
    ("Keyspace", true, keyspace),
];

/// `INFO [section ...]`.
pub(super) async fn info<K: KvOps>(server: &Server, kv: &K, wanted: &[Bytes]) -> Reply {
    // An engine that cannot tell its figures now does not keep the server from telling its own.
    let engine = match kv.call(Request::Stats).await {
        Ok(Response::Stats(stats)) => *stats,
        _ => EngineStats::default(),
    };
    let cluster = kv.topology().is_some();
    let context = Context { server, engine, usage: process::usage(), cluster };
    let mut fields = Fields::default();
    for (name, by_default, write) in SECTIONS {
        if is_wanted(name, *by_default, wanted) {
            fields.section(name);
            write(&context, &mut fields);
        }
    }
    Reply::Verbatim("txt", fields.text)
}

fn is_wanted(name: &str, by_default: bool, wanted: &[Bytes]) -> bool {
    let asks = |word: &Bytes| {
        let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
        is(name) || is("all") || is("everything") || by_default && is("default")
    };
    if wanted.is_empty() { by_default } else { wanted.iter().any(asks) }
}

/// Lines of `name:value`.
#[derive(Default)]
struct Fields {
    text: String,
}

impl Fields {
    fn section(&mut self, name: &str) {
        let gap = if self.text.is_empty() { "" } else { "\r\n" };
        // Writing to a String cannot fail; so below.
        let _ = write!(self.text, "{gap}# {name}\r\n");
    }

    fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.text, "{name}:{value}\r\n");
    }

    /// Bytes, and again with a unit.
    fn put_bytes(&mut self, name: &str, bytes: u64) {
        self.put(name, bytes);
        self.put(&format!("{name}_human"), human(bytes));
    }
}

/// Bytes with a unit, as Redis prints them: `1.50M`.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G", "T"] {
        if value < 1024.0 || unit == "T" {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.2}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{bytes}B")
}

fn server(context: &Context<'_>, fields: &mut Fields) {
    let server = context.server;
    let seconds = server.now_ms().saturating_sub(server.started_ms) / 1000;
    fields.put("redis_version", REDIS_VERSION);
    fields.put("server_name", "arqondb");
    fields.put("arqondb_version", env!("CARGO_PKG_VERSION"));
    fields.put("redis_mode", if context.cluster { "cluster" } else { "standalone" });
    fields.put("os", process::system_name());
    fields.put("arch_bits", usize::BITS);
    fields.put("process_id", std::process::id());
    fields.put("run_id", &server.run_id);
    fields.put("tcp_port", server.local.port());
    fields.put("server_time_usec", server.clock.unix_us());
    fields.put("uptime_in_seconds", seconds);
    fields.put("uptime_in_days", seconds / 86_400);
    fields.put("hz", server.config.text("hz"));
    fields.put("configured_hz", server.config.text("hz"));
    fields.put("executable", process::executable());
    fields.put("config_file", "");
    fields.put("io_threads_active", 0);
}

fn clients(context: &Context<'_>, fields: &mut Fields) {
    let server = context.server;
    fields.put("connected_clients", server.clients.count());
    fields.put("cluster_connections", 0);
    fields.put("maxclients", server.config.live.clients_max.load(Relaxed));
    fields.put("blocked_clients", server.clients.blocked());
    fields.put("tracking_clients", 0);
    fields.put("clients_in_timeout_table", 0);
}

fn memory(context: &Context<'_>, fields: &mut Fields) {
    let (engine, usage) = (&context.engine, &context.usage);
    let used = engine.memtable_bytes + engine.cache_bytes;
    let config = &context.server.config;
    fields.put_bytes("used_memory", usage.resident_bytes);
    fields.put_bytes("used_memory_rss", usage.resident_bytes);
    fields.put_bytes("used_memory_peak", usage.resident_bytes_max);
    fields.put("used_memory_dataset", used);
    fields.put_bytes("total_system_memory", process::machine_memory_bytes());
    fields.put("used_memory_lua", 0);
    fields.put("used_memory_scripts", 0);
    let maxmemory: u64 = config.text("maxmemory").parse().unwrap_or(0);
    fields.put_bytes("maxmemory", maxmemory);
    fields.put("maxmemory_policy", config.text("maxmemory-policy"));
    fields.put("mem_fragmentation_ratio", "1.00");
    fields.put("mem_fragmentation_bytes", 0);
    fields.put("mem_allocator", "libc");
    fields.put("memory_budget_bytes", engine.memory_budget_bytes);
    fields.put("memtable_bytes", engine.memtable_bytes);
    fields.put("block_cache_bytes", engine.cache_bytes);
}

/// Every acknowledged write is in the log, which plays the part of Redis's append-only file.
fn persistence(context: &Context<'_>, fields: &mut Fields) {
    let engine = &context.engine;
    let started_s = context
        .server
        .clock
        .unix_ms()
        .saturating_sub(context.server.now_ms().saturating_sub(context.server.started_ms))
        / 1000;
    fields.put("loading", 0);
    fields.put("async_loading", 0);
    // Nothing is ever saved the way Redis does: what has changed has changed since the start.
    let changes = engine.last_seq.saturating_sub(context.server.started_seq);
    fields.put("rdb_changes_since_last_save", changes);
    fields.put("rdb_bgsave_in_progress", 0);
    fields.put("rdb_last_save_time", started_s);
    fields.put("rdb_last_bgsave_status", "ok");
    fields.put("rdb_last_bgsave_time_sec", -1);
    fields.put("rdb_current_bgsave_time_sec", -1);
    fields.put("aof_enabled", 1);
    fields.put("aof_rewrite_in_progress", 0);
    fields.put("aof_rewrite_scheduled", 0);
    fields.put("aof_last_bgrewrite_status", "ok");
    fields.put("aof_last_write_status", if engine.log_failed { "err" } else { "ok" });
    fields.put("aof_current_size", engine.log_bytes);
    fields.put("log_sync", engine.sync);
    fields.put("log_bytes", engine.log_bytes);
    fields.put("table_bytes", engine.table_bytes);
}

fn stats(context: &Context<'_>, fields: &mut Fields) {
    let (totals, engine) = (&context.server.stats.totals, &context.engine);
    let [commands, bytes_in, bytes_out] = context.server.stats.per_second();
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    fields.put("total_connections_received", totals.connections.load(Relaxed));
    fields.put("total_commands_processed", totals.commands.load(Relaxed));
    fields.put("instantaneous_ops_per_sec", commands);
    fields.put("total_net_input_bytes", totals.bytes_in.load(Relaxed));
    fields.put("total_net_output_bytes", totals.bytes_out.load(Relaxed));
    fields.put("instantaneous_input_kbps", kilobytes(bytes_in));
    fields.put("instantaneous_output_kbps", kilobytes(bytes_out));
    fields.put("rejected_connections", totals.connections_rejected.load(Relaxed));
    fields.put("sync_full", 0);
    fields.put("sync_partial_ok", 0);
    fields.put("sync_partial_err", 0);
    fields.put("expired_keys", engine.expired_keys);
    fields.put("evicted_keys", 0);
    fields.put("evicted_clients", 0);
    fields.put("keyspace_hits", engine.keyspace_hits);
    fields.put("keyspace_misses", engine.keyspace_misses);
    fields.put("pubsub_channels", 0);
    fields.put("pubsub_patterns", 0);
    fields.put("latest_fork_usec", 0);
    fields.put("total_forks", 0);
    fields.put("unexpected_error_replies", 0);
    fields.put("total_error_replies", totals.errors.load(Relaxed));
    fields.put("total_reads_processed", totals.reads.load(Relaxed));
    fields.put("total_writes_processed", totals.writes.load(Relaxed));
    let cuts = totals.output_limit_cuts.load(Relaxed);
    fields.put("client_output_buffer_limit_disconnections", cuts);
    let cuts = totals.query_limit_cuts.load(Relaxed);
    fields.put("client_query_buffer_limit_disconnections", cuts);
}

fn replication(context: &Context<'_>, fields: &mut Fields) {
    fields.put("role", "master");
    fields.put("connected_slaves", 0);
    fields.put("master_failover_state", "no-failover");
    fields.put("master_replid", &context.server.run_id);
    fields.put("master_replid2", "0".repeat(40));
    fields.put("master_repl_offset", context.engine.last_seq);
    fields.put("second_repl_offset", -1);
    fields.put("repl_backlog_active", 0);
}

fn cpu(context: &Context<'_>, fields: &mut Fields) {
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    fields.put("used_cpu_sys", seconds(context.usage.system_us));
    fields.put("used_cpu_user", seconds(context.usage.user_us));
    fields.put("used_cpu_sys_children", seconds(0));
    fields.put("used_cpu_user_children", seconds(0));
}

fn command_stats(context: &Context<'_>, fields: &mut Fields) {
    for stats in context.server.stats.commands() {
        let calls = stats.calls.load(Relaxed);
        let ns = stats.ns.load(Relaxed);
        let us_per_call = if calls == 0 { 0.0 } else { ns as f64 / 1000.0 / calls as f64 };
        let value = format!(
            "calls={calls},usec={},usec_per_call={us_per_call:.2},rejected_calls={},failed_calls={}",
            ns / 1000,
            stats.rejected.load(Relaxed),
            stats.failed.load(Relaxed),
        );
        fields.put(&format!("cmdstat_{}", stats.spec.name), value);
    }
}

fn error_stats(context: &Context<'_>, fields: &mut Fields) {
    for (word, count) in context.server.stats.errors() {
        fields.put(&format!("errorstat_{word}"), format_args!("count={count}"));
    }
}

fn latency_stats(context: &Context<'_>, fields: &mut Fields) {
    let percentages = context.server.config.text("latency-tracking-info-percentiles");
    let names: Vec<&str> = percentages.split_ascii_whitespace().collect();
    let numbers: Vec<f64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    for stats in context.server.stats.commands() {
        let Some(values) = stats.percentiles_us(&numbers) else { continue };
        let pairs = names.iter().zip(values).map(|(name, us)| format!("p{name}={us:.3}"));
        let value = pairs.collect::<Vec<_>>().join(",");
        fields.put(&format!("latency_percentiles_usec_{}", stats.spec.name), value);
    }
}

fn cluster(context: &Context<'_>, fields: &mut Fields) {
    fields.put("cluster_enabled", u8::from(context.cluster));
}

/// Further figures of the engine, by its own names.
fn engine(context: &Context<'_>, fields: &mut Fields) {
    fields.put("last_seq", context.engine.last_seq);
    for (name, value) in &context.engine.more {
        fields.put(name, value);
    }
}

fn keyspace(context: &Context<'_>, fields: &mut Fields) {
    let engine = &context.engine;
    if engine.keys > 0 {
        let (keys, expires) = (engine.keys, engine.expires);
        let value = format!("keys={keys},expires={expires},avg_ttl={}", engine.avg_ttl_ms);
        fields.put("db0", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_with_a_unit() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1023), "1023B");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(25_276_502_016), "23.54G");
    }

    #[test]
    fn sections_are_chosen_as_in_redis() {
        let words = |words: &[&'static str]| -> Vec<Bytes> {
            words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect()
        };
        assert!(is_wanted("CPU", true, &[]));
        assert!(!is_wanted("Commandstats", false, &[]));
        assert!(is_wanted("Commandstats", false, &words(&["commandSTATS"])));
        assert!(is_wanted("Commandstats", false, &words(&["cpu", "all"])));
        assert!(!is_wanted("Commandstats", false, &words(&["default"])));
        assert!(!is_wanted("Memory", true, &words(&["cpu", "sentinel"])));
    }
}
