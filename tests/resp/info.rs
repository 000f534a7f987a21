//! What INFO, CLIENT LIST and the counters say.

use crate::harness::{TestClient, TestServer};

fn section(client: &mut TestClient, name: &str) -> Vec<String> {
    client.call(&["INFO", name]).lines().map(str::to_string).collect()
}

fn starts_with(lines: &[String], start: &str) -> bool {
    lines.iter().any(|line| line.starts_with(start))
}

#[test]
fn a_plain_info_has_what_clients_look_for() {
    let server = TestServer::start();
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", "v"]), "+OK");
    let info = client.call(&["INFO"]);
    for field in [
        "redis_version:7.0.15",
        "redis_mode:standalone",
        "arch_bits:64",
        "process_id:",
        "run_id:",
        "tcp_port:",
        "uptime_in_seconds:0",
        "connected_clients:1",
        "blocked_clients:0",
        "used_memory:",
        "used_memory_human:",
        "used_memory_peak_human:",
        "maxmemory:0",
        "maxmemory_policy:noeviction",
        "mem_fragmentation_ratio:",
        "loading:0",
        "aof_enabled:1",
        "rdb_last_save_time:",
        "total_commands_processed:1",
        "instantaneous_ops_per_sec:",
        "expired_keys:0",
        "evicted_keys:0",
        "keyspace_hits:",
        "role:master",
        "connected_slaves:0",
        "master_replid:",
        "used_cpu_user:",
        "cluster_enabled:0",
        "db0:keys=1,expires=0,avg_ttl=0",
    ] {
        assert!(info.contains(&format!("\r\n{field}")), "{field} is missing in {info}");
    }
    assert!(!info.contains("cmdstat_"));
    assert!(client.call(&["INFO", "all"]).contains("cmdstat_set:calls=1,"));
    assert_eq!(client.call(&["INFO", "nosuch"]), "");
}

#[test]
fn calls_errors_and_refusals_are_counted_apart() {
    let server = TestServer::start();
    let mut client = server.client();
    assert_eq!(client.call(&["SET", "k", "abc"]), "+OK");
    assert_eq!(client.call(&["CONFIG", "RESETSTAT"]), "+OK");
    for _ in 0..3 {
        client.call(&["GET", "k"]);
    }
    client.call(&["INCR", "k"]);
    client.call(&["SET", "k"]);
    client.call(&["NOSUCH"]);
    client.call(&["MULTI"]);
    client.call(&["SET"]);
    client.call(&["EXEC"]);
    let lines = section(&mut client, "commandstats");
    let count = |name: &str| {
        let line = lines.iter().find(|line| line.starts_with(&format!("cmdstat_{name}:")));
        let line = line.unwrap_or_else(|| panic!("{name} in {lines:?}"));
        let number = |field: &str| -> u64 {
            let start = line.find(&format!("{field}=")).unwrap() + field.len() + 1;
            let digits = line[start..].split([',', '.']).next().unwrap();
            digits.parse().unwrap()
        };
        [number("calls"), number("rejected_calls"), number("failed_calls")]
    };
    assert_eq!(count("get"), [3, 0, 0]);
    assert_eq!(count("incr"), [1, 0, 1]);
    assert_eq!(count("set"), [0, 2, 0]);
    assert_eq!(count("multi"), [1, 0, 0]);
    assert_eq!(count("exec"), [1, 0, 1]);
    let lines = section(&mut client, "errorstats");
    assert!(lines.contains(&"errorstat_ERR:count=4".to_string()), "{lines:?}");
    assert!(lines.contains(&"errorstat_EXECABORT:count=1".to_string()), "{lines:?}");
    assert!(section(&mut client, "stats").contains(&"total_error_replies:5".to_string()));
    let lines = section(&mut client, "latencystats");
    assert!(starts_with(&lines, "latency_percentiles_usec_get:p50="), "{lines:?}");
    assert!(starts_with(&lines, "latency_percentiles_usec_config|resetstat:p50="), "{lines:?}");
    client.call(&["CONFIG", "SET", "latency-tracking-info-percentiles", "0.0 100.0"]);
    let lines = section(&mut client, "latencystats");
    let get = lines.iter().find(|line| line.starts_with("latency_percentiles_usec_get:")).unwrap();
    assert!(get.contains(":p0=") && get.contains(",p100="), "{get}");
    assert_eq!(client.call(&["CONFIG", "RESETSTAT"]), "+OK");
    let lines = section(&mut client, "everything");
    assert!(!starts_with(&lines, "latency_percentiles_usec_get"));
    assert!(!starts_with(&lines, "cmdstat_get"));
}

#[test]
fn clients_are_listed_with_names_and_last_commands() {
    let server = TestServer::start();
    let (mut first, mut second) = (server.client(), server.client());
    assert_eq!(first.call(&["CLIENT", "SETNAME", "one"]), "+OK");
    assert_eq!(first.call(&["CLIENT", "SETINFO", "LIB-NAME", "arq"]), "+OK");
    assert_eq!(first.call(&["MULTI"]), "+OK");
    assert_eq!(first.call(&["GET", "k"]), "+QUEUED");
    let list = second.call(&["CLIENT", "LIST"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2);
    let addr = first.stream.local_addr().unwrap();
    let start = format!("id=1 addr={addr} laddr={} fd=-1 name=one age=0 ", server.addr);
    assert!(lines[0].starts_with(&start), "{list}");
    assert!(lines[0].contains(" flags=x db=0 ") && lines[0].contains(" multi=1 "), "{list}");
    assert!(lines[0].ends_with(" redir=-1 resp=2 lib-name=arq lib-ver="), "{list}");
    assert!(lines[1].contains(" multi=-1 qbuf=26 "), "{list}");
    assert!(lines[1].contains(" events=r cmd=client|list user=default "), "{list}");
    assert_eq!(second.call(&["CLIENT", "LIST", "ID", "1", "7", "1"]).lines().count(), 1);
    assert!(second.call(&["CLIENT", "INFO"]).starts_with("id=2 "));
}
