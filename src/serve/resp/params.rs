//! The configuration parameters that CONFIG knows, declared once.
//!
//! Those that change what this server does come first; the others exist so that tools and clients
//! that read or set them find what they look for: they are checked and kept, and nothing else.

/// What a parameter takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `yes` or `no`.
    Bool,
    /// An integer between two bounds.
    Int(i64, i64),
    /// Bytes, with a unit if wanted (`10mb`), between two bounds; printed without one.
    Memory(u64, u64),
    /// Bytes, or a percentage.
    MemoryOrPercent,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// Any bytes.
    Text,
    /// Pairs of seconds and changes.
    Save,
    /// `class hard soft seconds`, several times; classes left out stay as they are.
    OutputLimits,
    /// Letters for classes of keyspace events.
    KeyspaceEvents,
    /// Percentages apart by blanks.
    Percentiles,
}

/// Whether CONFIG SET may change a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It may.
    Free,
    /// Never; Redis does not allow it either.
    Immutable,
    /// Never, since it would let a client write files of its choice.
    Protected,
    /// Only to the value it has; the text says why not.
    Same(&'static str),
}

/// A parameter.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    /// A second name, from an older Redis.
    pub(super) alias: Option<&'static str>,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) change: Change,
    /// Whether a pattern finds it, or only its name.
    pub(super) hidden: bool,
}

impl Param {
    const fn alias(self, alias: &'static str) -> Param {
        Param { alias: Some(alias), ..self }
    }

    const fn change(self, change: Change) -> Param {
        Param { change, ..self }
    }

    const fn hidden(self) -> Param {
        Param { hidden: true, ..self }
    }
}

const fn param(name: &'static str, kind: Kind, default: &'static str) -> Param {
    Param { name, alias: None, kind, default, change: Change::Free, hidden: false }
}

const I32: i64 = i32::MAX as i64;
const U32: i64 = u32::MAX as i64;
const I64: i64 = i64::MAX;
const MB: u64 = 1024 * 1024;
const NATURAL: Kind = Kind::Int(0, I32);
const ANY_INT: Kind = Kind::Int(i32::MIN as i64, I32);
const LONG: Kind = Kind::Int(0, I64);
const BYTES: Kind = Kind::Memory(0, u64::MAX);
const SIZES: Kind = Kind::Memory(0, i64::MAX as u64);
const LOG_LEVELS: Kind = Kind::Word(&["debug", "verbose", "notice", "warning"]);
const FSYNC: Kind = Kind::Word(&["everysec", "always", "no"]);
const POLICIES: Kind = Kind::Word(&[
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "noeviction",
]);
const SANITIZE: Kind = Kind::Word(&["no", "yes", "clients"]);
const PUBSUB_DEFAULT: Kind = Kind::Word(&["allchannels", "resetchannels"]);
const CANNOT_BIND: Change = Change::Same("Failed to bind to specified addresses.");
const CANNOT_LISTEN: Change =
    Change::Same("Unable to listen on this port. Check server logs for more info.");

const ALWAYS_LOGGED: Change = Change::Same("every write goes through the log");
const SYNC_IS_GIVEN: Change =
    Change::Same("the sync level is chosen when the server starts, with --sync");
const MEMORY_IS_GIVEN: Change = Change::Same(
    "data is not held in memory alone; the memory budget is chosen when the server starts, with \
     --memory",
);
const NO_EVICTION: Change =
    Change::Same("keys are never evicted; --memory bounds what the server holds in memory");

/// Every parameter.
pub(super) static PARAMS: &[Param] = &[
    // These have an effect.
    param("bind", Kind::Text, "").change(CANNOT_BIND),
    param("port", Kind::Int(0, 65535), "0").change(CANNOT_LISTEN),
    param("databases", Kind::Int(1, I32), "1").change(Change::Immutable),
    param("requirepass", Kind::Text, ""),
    param("maxclients", Kind::Int(1, U32), "10000"),
    param("timeout", NATURAL, "0"),
    param("tcp-keepalive", NATURAL, "300"),
    param("proto-max-bulk-len", Kind::Memory(MB, I64 as u64), "536870912"),
    param("client-query-buffer-limit", Kind::Memory(MB, I64 as u64), "603979776"),
    param(
        "client-output-buffer-limit",
        Kind::OutputLimits,
        "normal 268435456 67108864 60 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    ),
    param("latency-tracking", Kind::Bool, "yes"),
    param("latency-tracking-info-percentiles", Kind::Percentiles, "50 99 99.9"),
    // What the engine underneath decides.
    param("dir", Kind::Text, "").change(Change::Protected),
    param("dbfilename", Kind::Text, "").change(Change::Protected),
    param("appendfilename", Kind::Text, "").change(Change::Immutable),
    param("appenddirname", Kind::Text, "").change(Change::Immutable),
    param("logfile", Kind::Text, "").change(Change::Immutable),
    param("pidfile", Kind::Text, "").change(Change::Immutable),
    param("daemonize", Kind::Bool, "no").change(Change::Immutable),
    param("unixsocket", Kind::Text, "").change(Change::Immutable),
    param("io-threads", Kind::Int(1, 128), "1").change(Change::Immutable),
    param("cluster-enabled", Kind::Bool, "no").change(Change::Immutable),
    param("tcp-backlog", NATURAL, "1024").change(Change::Immutable),
    param("replicaof", Kind::Text, "").alias("slaveof").change(Change::Immutable),
    param("rdbchecksum", Kind::Bool, "yes").change(Change::Immutable),
    param("supervised", Kind::Text, "no").change(Change::Immutable),
    param("enable-protected-configs", Kind::Text, "no").change(Change::Immutable),
    param("enable-debug-command", Kind::Text, "no").change(Change::Immutable),
    param("enable-module-command", Kind::Text, "no").change(Change::Immutable),
    param("appendonly", Kind::Bool, "yes").change(ALWAYS_LOGGED),
    param("appendfsync", FSYNC, "everysec").change(SYNC_IS_GIVEN),
    param("maxmemory", BYTES, "0").change(MEMORY_IS_GIVEN),
    param("maxmemory-policy", POLICIES, "noeviction").change(NO_EVICTION),
    // Checked and kept.
    param("save", Kind::Save, ""),
    param("no-appendfsync-on-rewrite", Kind::Bool, "no"),
    param("auto-aof-rewrite-percentage", NATURAL, "100"),
    param("auto-aof-rewrite-min-size", SIZES, "67108864"),
    param("aof-load-truncated", Kind::Bool, "yes"),
    param("aof-use-rdb-preamble", Kind::Bool, "yes"),
    param("aof-timestamp-enabled", Kind::Bool, "no"),
    param("rdbcompression", Kind::Bool, "yes"),
    param("rdb-save-incremental-fsync", Kind::Bool, "yes"),
    param("aof-rewrite-incremental-fsync", Kind::Bool, "yes"),
    param("stop-writes-on-bgsave-error", Kind::Bool, "yes"),
    param("sanitize-dump-payload", SANITIZE, "no"),
    param("maxmemory-samples", Kind::Int(1, I32), "5"),
    param("maxmemory-eviction-tenacity", Kind::Int(0, 100), "10"),
    param("maxmemory-clients", Kind::MemoryOrPercent, "0"),
    param("active-expire-effort", Kind::Int(1, 10), "1"),
    param("lfu-log-factor", NATURAL, "10"),
    param("lfu-decay-time", NATURAL, "1"),
    param("hz", NATURAL, "10"),
    param("dynamic-hz", Kind::Bool, "yes"),
    param("activerehashing", Kind::Bool, "yes"),
    param("activedefrag", Kind::Bool, "no"),
    param("lazyfree-lazy-eviction", Kind::Bool, "no"),
    param("lazyfree-lazy-expire", Kind::Bool, "no"),
    param("lazyfree-lazy-server-del", Kind::Bool, "no"),
    param("lazyfree-lazy-user-del", Kind::Bool, "no"),
    param("lazyfree-lazy-user-flush", Kind::Bool, "no"),
    param("replica-lazy-flush", Kind::Bool, "no").alias("slave-lazy-flush"),
    param("hash-max-listpack-entries", LONG, "512").alias("hash-max-ziplist-entries"),
    param("hash-max-listpack-value", SIZES, "64").alias("hash-max-ziplist-value"),
    param("list-max-listpack-size", ANY_INT, "-2").alias("list-max-ziplist-size"),
    param("list-compress-depth", NATURAL, "0"),
    param("set-max-intset-entries", LONG, "512"),
    param("zset-max-listpack-entries", LONG, "128").alias("zset-max-ziplist-entries"),
    param("zset-max-listpack-value", SIZES, "64").alias("zset-max-ziplist-value"),
    param("hll-sparse-max-bytes", SIZES, "3000"),
    param("stream-node-max-bytes", SIZES, "4096"),
    param("stream-node-max-entries", LONG, "100"),
    param("notify-keyspace-events", Kind::KeyspaceEvents, ""),
    param("tracking-table-max-keys", LONG, "1000000"),
    param("slowlog-log-slower-than", Kind::Int(-1, I64), "10000"),
    param("slowlog-max-len", LONG, "128"),
    param("latency-monitor-threshold", LONG, "0"),
    param("busy-reply-threshold", LONG, "5000").alias("lua-time-limit"),
    param("acllog-max-len", LONG, "128"),
    param("acl-pubsub-default", PUBSUB_DEFAULT, "resetchannels"),
    param("loglevel", LOG_LEVELS, "notice"),
    param("crash-log-enabled", Kind::Bool, "yes"),
    param("protected-mode", Kind::Bool, "no"),
    param("min-replicas-to-write", NATURAL, "0").alias("min-slaves-to-write"),
    param("min-replicas-max-lag", NATURAL, "10").alias("min-slaves-max-lag"),
    param("replica-serve-stale-data", Kind::Bool, "yes").alias("slave-serve-stale-data"),
    param("replica-read-only", Kind::Bool, "yes").alias("slave-read-only"),
    param("replica-priority", NATURAL, "100").alias("slave-priority"),
    param("repl-ping-replica-period", Kind::Int(1, I32), "10").alias("repl-ping-slave-period"),
    param("repl-timeout", Kind::Int(1, I32), "60"),
    param("repl-backlog-size", Kind::Memory(1, I64 as u64), "1048576"),
    param("repl-backlog-ttl", LONG, "3600"),
    param("repl-diskless-sync", Kind::Bool, "yes"),
    param("repl-diskless-sync-delay", NATURAL, "5"),
    param("masterauth", Kind::Text, ""),
    param("masteruser", Kind::Text, ""),
    param("cluster-node-timeout", LONG, "15000"),
    param("cluster-require-full-coverage", Kind::Bool, "yes"),
    param("cluster-allow-reads-when-down", Kind::Bool, "no"),
    param("jemalloc-bg-thread", Kind::Bool, "no"),
    param("key-load-delay", ANY_INT, "0").hidden(),
];
