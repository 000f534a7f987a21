//! Figures of all rounds, and the table.

use crate::load::Work;
use crate::servers::System;
use serde_json::{Value, json};
use std::fmt::Write;

/// What one turn of one system gave.
#[derive(Debug, Clone)]
pub struct Figure {
    /// The system.
    pub system: System,
    /// What was asked.
    pub work: Work,
    /// By how many clients.
    pub clients: usize,
    /// The round.
    pub round: usize,
    /// Operations a second.
    pub per_s: f64,
    /// Latency that half of the operations kept below, in ms.
    pub p50_ms: f64,
    /// That 99 of a hundred did.
    pub p99_ms: f64,
    /// Processor time of the servers for one operation, in microseconds.
    pub server_us: f64,
    /// Of the client.
    pub client_us: f64,
}

impl Figure {
    /// As a line of JSON.
    pub fn json(&self) -> Value {
        json!({
            "system": self.system.to_string(),
            "work": self.work.name(self.system),
            "clients": self.clients,
            "round": self.round,
            "ops_per_s": self.per_s.round(),
            "p50_ms": round(self.p50_ms),
            "p99_ms": round(self.p99_ms),
            "server_cpu_us_per_op": round(self.server_us),
            "client_cpu_us_per_op": round(self.client_us),
        })
    }
}

fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

/// The table: means over the rounds; ratios are to what etcd did of the same work with as many
/// clients, lease reads to its linearizable ones.
pub fn table(figures: &[Figure]) -> String {
    let mut out = String::from(
        "| work | clients | system | op/s | against etcd | p50 ms | p99 ms | servers' µs CPU an op | \
         against etcd |\n|---|---:|---|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut rows: Vec<(Work, usize, System)> = Vec::new();
    for f in figures {
        if !rows.contains(&(f.work, f.clients, f.system)) {
            rows.push((f.work, f.clients, f.system));
        }
    }
    let order = |work| match work {
        Work::Put => 0,
        Work::Get => 1,
        Work::Local => 2,
    };
    rows.sort_by_key(|(work, clients, system)| (order(*work), *clients, shards(*system)));
    for (work, clients, system) in rows {
        let mean = |of: fn(&Figure) -> f64, system: System, work: Work| {
            let same = |f: &&Figure| (f.work, f.clients, f.system) == (work, clients, system);
            let all: Vec<f64> = figures.iter().filter(same).map(of).collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let per_s = mean(|f| f.per_s, system, work);
        let server_us = mean(|f| f.server_us, system, work);
        let against = if work == Work::Local { Work::Get } else { work };
        let ratio = |ratio: f64| match system {
            System::Arqon(_) | System::Echo if ratio.is_finite() => format!("{ratio:.2}x"),
            _ => String::new(),
        };
        let faster = ratio(per_s / mean(|f| f.per_s, System::Etcd, against));
        let cheaper = ratio(mean(|f| f.server_us, System::Etcd, against) / server_us);
        let (p50, p99) = (mean(|f| f.p50_ms, system, work), mean(|f| f.p99_ms, system, work));
        let name = work.name(system);
        _ = writeln!(
            out,
            "| {name} | {clients} | {system} | {per_s:.0} | {faster} | {p50:.2} | {p99:.2} | \
             {server_us:.1} | {cheaper} |"
        );
    }
    out
}

fn shards(system: System) -> u32 {
    match system {
        System::Etcd => 0,
        System::Echo => u32::MAX,
        System::Arqon(shards) => shards,
    }
}
