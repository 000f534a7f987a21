//! What a Redis door can be told when it is opened.

/// Settings of a [`RedisServer`](super::RedisServer). Those that CONFIG SET can change later
/// carry its name for them.
#[derive(Debug, Clone)]
pub struct RespOptions {
    /// Password clients must give (`requirepass`); none by default.
    pub password: Option<String>,
    /// The most clients at a time (`maxclients`). Default 10,000.
    pub clients_max: u32,
    /// Seconds after which an idle client is cut off (`timeout`); 0, the default, is never.
    pub idle_timeout_s: u32,
    /// Seconds between TCP keepalive probes (`tcp-keepalive`); 0 is off. Default 300.
    pub keepalive_s: u32,
    /// The longest argument in bytes (`proto-max-bulk-len`), at least 1 MiB. Default 512 MiB.
    pub bulk_bytes_max: u64,
    /// The most bytes of requests held for one client (`client-query-buffer-limit`), at least
    /// 1 MiB. Default 576 MiB.
    pub query_buffer_bytes_max: u64,
    /// Replies waiting behind the one being sent that cut a client off at once
    /// (`client-output-buffer-limit`); 0 is no limit. Default 256 MiB.
    pub output_hard_bytes: u64,
    /// Replies a client may leave untaken for `output_soft_s` (`client-output-buffer-limit`);
    /// 0 is no limit. Default 64 MiB.
    pub output_soft_bytes: u64,
    /// See `output_soft_bytes`. Default 60.
    pub output_soft_s: u32,
    /// How long commands in flight may take when the server stops, in milliseconds, before
    /// their connections are cut. Default 10,000.
    pub stop_grace_ms: u64,
    /// Threads that serve connections. Default: one for two cores, as flushes and compactions have
    /// threads of their own. Fewer cost less CPU a command, for they wait less for each other.
    pub threads: usize,
}

impl Default for RespOptions {
    fn default() -> RespOptions {
        const MIB: u64 = 1024 * 1024;
        RespOptions {
            password: None,
            clients_max: 10_000,
            idle_timeout_s: 0,
            keepalive_s: 300,
            bulk_bytes_max: 512 * MIB,
            query_buffer_bytes_max: 576 * MIB,
            output_hard_bytes: 256 * MIB,
            output_soft_bytes: 64 * MIB,
            output_soft_s: 60,
            stop_grace_ms: 10_000,
            threads: cores().div_ceil(2),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl RespOptions {
    /// The same as CONFIG has it.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let output = format!(
            "normal {} {} {}",
            self.output_hard_bytes, self.output_soft_bytes, self.output_soft_s
        );
        vec![
            ("requirepass", self.password.clone().unwrap_or_default()),
            ("maxclients", self.clients_max.to_string()),
            ("timeout", self.idle_timeout_s.to_string()),
            ("tcp-keepalive", self.keepalive_s.to_string()),
            ("proto-max-bulk-len", self.bulk_bytes_max.to_string()),
            ("client-query-buffer-limit", self.query_buffer_bytes_max.to_string()),
            ("client-output-buffer-limit", output),
        ]
    }
}
