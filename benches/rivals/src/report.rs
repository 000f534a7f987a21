//! From figures to medians, ratios, the table, the JSON lines and the README's part.

use crate::store::{Engine, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What was measured: for each workload and metric, each engine's value in each round.
#[derive(Default)]
pub struct Figures {
    rows: BTreeMap<(usize, String, &'static str), BTreeMap<Engine, BTreeMap<usize, f64>>>,
    /// Rows lost in the kill of each engine, of those acknowledged.
    pub lost: BTreeMap<Engine, (u64, u64)>,
}

/// The order of the table.
const WORKLOADS: [&str; 27] = [
    "seq_put",
    "batch_put",
    "seq_get",
    "rand_get",
    "put_flush",
    "put_flush_raw",
    "batch_flush",
    "rand_get_after_flush",
    "rand_get_after_flush_raw",
    "seq_get_after_flush",
    "seq_get_after_flush_raw",
    "overwrite_1m",
    "get_cached_1m",
    "get_absent_1m",
    "scan_1m",
    "seek_50",
    "delete_900k",
    "first_after_delete",
    "durable_put_1",
    "durable_put_8",
    "durable_put_32",
    "recovery",
    "read_while_write",
    "amplification",
    "rss",
    "latency_80",
    "kill9",
];

/// Metrics of which more is better.
fn more_is_better(metric: &str) -> bool {
    metric.ends_with("per_s")
}

/// The metrics that the README's table shows.
fn is_headline(workload: &str, metric: &str) -> bool {
    match workload {
        "put_flush" => matches!(metric, "cpu_us_per_op" | "wall_us_per_op"),
        "first_after_delete" => metric == "wall_ms",
        "recovery" => metric == "wall_s",
        "amplification" => matches!(metric, "write" | "space"),
        "rss" => metric == "peak_bytes",
        w if w.starts_with("durable") => metric == "ops_per_s",
        "read_while_write" => true,
        "kill9" => false,
        _ => metric == "cpu_us_per_op",
    }
}

struct Summary {
    median: f64,
    min: f64,
    max: f64,
    ratio: Option<f64>,
    system_ratio: Option<f64>,
}

impl Figures {
    pub fn add(&mut self, round: usize, engine: Engine, workload: String, metric: String, v: f64) {
        let place = WORKLOADS.iter().position(|w| *w == workload).unwrap_or(WORKLOADS.len());
        // A handful of names, kept for the life of the program.
        let metric: &'static str = Box::leak(metric.into_boxed_str());
        let row = self.rows.entry((place, workload, metric)).or_default();
        row.entry(engine).or_default().insert(round, v);
    }

    /// The first round that has no figures yet.
    pub fn next_round(&self) -> usize {
        let rounds = self.rows.values().flat_map(|row| row.values()).flat_map(|of| of.keys());
        rounds.max().map_or(0, |last| last + 1)
    }

    /// Every figure on a line of its own, for [`Figures::read`].
    pub fn write(&self) -> String {
        let mut out = String::new();
        for ((_, workload, metric), row) in &self.rows {
            for (engine, rounds) in row {
                for (round, value) in rounds {
                    _ = writeln!(out, "{}", json!([round, engine.name(), workload, metric, value]));
                }
            }
        }
        for (engine, (acknowledged, lost)) in &self.lost {
            _ = writeln!(out, "{}", json!([engine.name(), acknowledged, lost]));
        }
        out
    }

    /// Reads what [`Figures::write`] gave.
    pub fn read(text: &str) -> Result<Figures> {
        let mut figures = Figures::default();
        for line in text.lines() {
            let parts: Vec<Value> = serde_json::from_str(line)?;
            let name = |v: &Value| v.as_str().and_then(Engine::parse).ok_or("no such engine");
            let word = |v: &Value| v.as_str().map(str::to_string).ok_or("no word");
            let count = |v: &Value| v.as_u64().ok_or("no number");
            match &parts[..] {
                [round, engine, workload, metric, value] => {
                    let value = value.as_f64().ok_or("no number")?;
                    let round = count(round)? as usize;
                    figures.add(round, name(engine)?, word(workload)?, word(metric)?, value);
                }
                [engine, acknowledged, lost] => {
                    figures.lost.insert(name(engine)?, (count(acknowledged)?, count(lost)?));
                }
                _ => return Err(format!("not a line of figures: {line}").into()),
            }
        }
        Ok(figures)
    }

    /// The class of durability that the kill has shown.
    fn class(&self, engine: Engine, workload: &str) -> &'static str {
        match self.lost.get(&engine) {
            _ if workload.starts_with("durable") => "D",
            Some((_, 0)) => "K",
            Some(_) => "P",
            None if matches!(engine, Engine::RocksManualWal | Engine::Redb) => "P",
            None => "K",
        }
    }

    fn summary(
        &self,
        of: &BTreeMap<Engine, BTreeMap<usize, f64>>,
        engine: Engine,
        metric: &str,
    ) -> Option<Summary> {
        let values = of.get(&engine)?;
        let best = |is: fn(Engine) -> bool| {
            let bars = of.iter().filter(|(e, _)| is(**e));
            let key = |v: &BTreeMap<usize, f64>| {
                let m = median(v.values().copied());
                if more_is_better(metric) { -m } else { m }
            };
            bars.min_by(|a, b| key(a.1).total_cmp(&key(b.1))).map(|(_, v)| v)
        };
        // Of pairs measured in one round: the machine is not the same in every round.
        let ratio = |bar: &BTreeMap<usize, f64>| {
            let pairs = values.iter().filter_map(|(round, v)| {
                let bar = bar.get(round)?;
                Some(if more_is_better(metric) { v / bar } else { bar / v })
            });
            let pairs: Vec<f64> = pairs.filter(|r| r.is_finite()).collect();
            (!pairs.is_empty()).then(|| median(pairs.into_iter()))
        };
        Some(Summary {
            median: median(values.values().copied()),
            min: values.values().copied().fold(f64::INFINITY, f64::min),
            max: values.values().copied().fold(f64::NEG_INFINITY, f64::max),
            ratio: best(Engine::is_bar).and_then(ratio),
            system_ratio: best(Engine::is_system_bar).and_then(ratio),
        })
    }

    /// One JSON object a line for every workload, metric and engine.
    pub fn json_lines(&self) -> String {
        let mut out = String::new();
        for ((_, workload, metric), engines) in &self.rows {
            for engine in engines.keys() {
                let Some(s) = self.summary(engines, *engine, metric) else { continue };
                let line = json!({
                    "workload": workload, "engine": engine.name(),
                    "class": self.class(*engine, workload), "metric": metric,
                    "median": s.median, "min": s.min, "max": s.max,
                    "ratio_vs_best_rocksdb": s.ratio,
                    "ratio_vs_best_system_rocksdb": s.system_ratio,
                    "rounds": engines.get(engine).map_or(0, BTreeMap::len),
                });
                _ = writeln!(out, "{line}");
            }
        }
        for (engine, (acknowledged, lost)) in &self.lost {
            let line = json!({
                "workload": "kill9", "engine": engine.name(), "class": self.class(*engine, ""),
                "metric": "lost_rows", "median": lost, "min": lost, "max": lost,
                "acknowledged_rows": acknowledged, "ratio_vs_best_rocksdb": null,
            });
            _ = writeln!(out, "{line}");
        }
        out
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut out = format!(
            "{:<26} {:<16} {:<20} {:>5} {:>12} {:>12} {:>12} {:>8} {:>8}\n",
            "workload", "metric", "engine", "class", "median", "min", "max", "ratio", "system"
        );
        for ((_, workload, metric), engines) in &self.rows {
            for engine in engines.keys() {
                let Some(s) = self.summary(engines, *engine, metric) else { continue };
                let ratio = |r: Option<f64>| r.map_or("-".into(), |r| format!("{r:.2}"));
                _ = writeln!(
                    out,
                    "{:<26} {:<16} {:<20} {:>5} {:>12} {:>12} {:>12} {:>8} {:>8}",
                    workload,
                    metric,
                    engine.name(),
                    self.class(*engine, workload),
                    figure(s.median),
                    figure(s.min),
                    figure(s.max),
                    ratio(s.ratio),
                    ratio(s.system_ratio)
                );
            }
        }
        for (engine, (acknowledged, lost)) in &self.lost {
            let name = engine.name();
            _ = writeln!(out, "kill -9: {name} lost {lost} of {acknowledged} acknowledged rows");
        }
        out
    }

    /// The README's table: ours beside each rival, the ratio to the better RocksDB last.
    pub fn markdown(&self) -> String {
        let shown =
            [Engine::Arqon, Engine::RocksDefault, Engine::RocksTuned, Engine::Fjall, Engine::Redb];
        let shown: Vec<Engine> = shown
            .into_iter()
            .filter(|e| self.rows.values().any(|engines| engines.contains_key(e)))
            .collect();
        let has_system = self.rows.values().any(|r| r.keys().any(|e| e.is_system_bar()));
        let mut out = String::from("| workload | metric |");
        shown.iter().for_each(|e| _ = write!(out, " {} |", e.name()));
        out.push_str(" against RocksDB |");
        if has_system {
            out.push_str(" against the system's RocksDB |");
        }
        out.push_str("\n|---|---|");
        out.push_str(&"---:|".repeat(shown.len() + 1 + usize::from(has_system)));
        out.push('\n');
        for ((_, workload, metric), engines) in &self.rows {
            if !is_headline(workload, metric) {
                continue;
            }
            _ = write!(out, "| `{workload}` | {metric} |");
            for engine in &shown {
                let cell = match self.summary(engines, *engine, metric) {
                    Some(s) if self.class(*engine, workload) == "P" => {
                        format!("({})", figure(s.median))
                    }
                    Some(s) => figure(s.median),
                    None => "-".into(),
                };
                _ = write!(out, " {cell} |");
            }
            let ours = self.summary(engines, Engine::Arqon, metric);
            let ratio = |r: Option<f64>| r.map_or("-".into(), |r| format!("{r:.2}x"));
            _ = write!(out, " {} |", ratio(ours.as_ref().and_then(|s| s.ratio)));
            if has_system {
                _ = write!(out, " {} |", ratio(ours.as_ref().and_then(|s| s.system_ratio)));
            }
            out.push('\n');
        }
        out
    }
}

/// Three or four digits that count.
fn figure(v: f64) -> String {
    match v.abs() {
        a if a >= 1e6 => format!("{:.1}M", v / 1e6),
        a if a >= 1e4 => format!("{:.1}K", v / 1e3),
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 1.0 => format!("{v:.2}"),
        _ => format!("{v:.3}"),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
