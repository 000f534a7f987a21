//! The values of the parameters: read by pattern, set together or not at all.

use super::frame::integer;
use super::params::{Change, Kind, PARAMS, Param};
use crate::base::glob;
use crate::op::Reply;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The parameters with their values.
#[derive(Debug)]
pub(super) struct Config {
    /// In the order of [`PARAMS`].
    values: Mutex<Vec<Bytes>>,
    /// What connections read with each command.
    pub(super) live: Live,
}

/// Values that are read often.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) clients_max: AtomicU64,
    pub(super) idle_ms_max: AtomicU64,
    pub(super) keepalive_s: AtomicU64,
    pub(super) bulk_bytes_max: AtomicU64,
    pub(super) query_buffer_bytes_max: AtomicU64,
    pub(super) output_hard_bytes: AtomicU64,
    pub(super) output_soft_bytes: AtomicU64,
    pub(super) output_soft_ms: AtomicU64,
    pub(super) has_password: AtomicBool,
    pub(super) latency_tracking: AtomicBool,
}

impl Config {
    /// The defaults, with `given` values instead of some.
    ///
    /// # Errors
    /// A value is not of its parameter's kind; the text says which and why.
    pub(super) fn new(given: &[(&str, String)]) -> Result<Config, String> {
        let mut values: Vec<Bytes> =
            PARAMS.iter().map(|param| Bytes::from_static(param.default.as_bytes())).collect();
        for (name, value) in given {
            let (at, param) = find(name.as_bytes()).ok_or_else(|| format!("no '{name}'"))?;
            let read = read(param.kind, value.as_bytes(), &values[at]);
            values[at] = read.map_err(|why| format!("'{name}': {why}"))?;
        }
        let config = Config { values: Mutex::new(values), live: Live::default() };
        config.apply(&config.lock());
        Ok(config)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A parameter's value.
    pub(super) fn value(&self, name: &str) -> Bytes {
        find(name.as_bytes()).map_or_else(Bytes::new, |(at, _)| self.lock()[at].clone())
    }

    /// A parameter's value as text.
    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.value(name)).into_owned()
    }

    /// CONFIG GET: each parameter that one of the patterns names, once. One asked for by its name
    /// is answered under the name as it was written.
    pub(super) fn get(&self, patterns: &[Bytes]) -> Reply {
        let values = self.lock();
        let mut pairs = Vec::new();
        for (param, value) in PARAMS.iter().zip(values.iter()) {
            for name in [Some(param.name), param.alias].into_iter().flatten() {
                let is_name = |pattern: &&Bytes| pattern.eq_ignore_ascii_case(name.as_bytes());
                let matches = |pattern: &Bytes| glob::matches_ignore_case(pattern, name.as_bytes());
                let shown = match patterns.iter().find(is_name) {
                    Some(asked) => asked.clone(),
                    None if !param.hidden && patterns.iter().any(matches) => name.into(),
                    None => continue,
                };
                pairs.push((Reply::Bulk(shown), Reply::Bulk(value.clone())));
            }
        }
        Reply::Map(pairs)
    }

    /// CONFIG SET: all of the pairs of name and value, or none.
    pub(super) fn set(&self, pairs: &[Bytes]) -> Reply {
        if !pairs.len().is_multiple_of(2) {
            return Reply::syntax_error();
        }
        let mut values = self.lock();
        let mut changed = values.clone();
        let mut seen = Vec::with_capacity(pairs.len() / 2);
        for pair in pairs.chunks_exact(2) {
            let (name, value) = (&pair[0], &pair[1]);
            let Some((at, param)) = find(name) else {
                let name = String::from_utf8_lossy(name);
                return Reply::err(format_args!(
                    "Unknown option or number of arguments for CONFIG SET - '{name}'"
                ));
            };
            let outcome = if seen.contains(&at) {
                Err("duplicate parameter".to_string())
            } else {
                admitted(param, value, &values[at])
            };
            match outcome {
                Ok(value) => changed[at] = value,
                Err(why) => return failed(&String::from_utf8_lossy(name), &why),
            }
            seen.push(at);
        }
        // All values are well-formed; the first in the order of the table that cannot be taken on
        // is named, as in Redis, which applies them only now.
        for ((param, value), present) in PARAMS.iter().zip(&changed).zip(values.iter()) {
            if let Change::Same(why) = param.change
                && value != present
            {
                return failed(param.name, why);
            }
        }
        *values = changed;
        self.apply(&values);
        Reply::OK
    }

    /// Copies what connections read often.
    fn apply(&self, values: &[Bytes]) {
        let value = |name: &str| find(name.as_bytes()).map_or(&[][..], |(at, _)| &values[at][..]);
        let number = |name: &str| integer(value(name)).map_or(0, i64::unsigned_abs);
        let live = &self.live;
        live.clients_max.store(number("maxclients"), Relaxed);
        live.idle_ms_max.store(number("timeout").saturating_mul(1000), Relaxed);
        live.keepalive_s.store(number("tcp-keepalive"), Relaxed);
        live.bulk_bytes_max.store(number("proto-max-bulk-len"), Relaxed);
        live.query_buffer_bytes_max.store(number("client-query-buffer-limit"), Relaxed);
        live.has_password.store(!value("requirepass").is_empty(), Relaxed);
        live.latency_tracking.store(value("latency-tracking") == b"yes", Relaxed);
        let limits = String::from_utf8_lossy(value("client-output-buffer-limit")).into_owned();
        // The class of all our connections stands first.
        let mut normal = limits.split(' ').skip(1).map(|n| n.parse().unwrap_or(0_u64));
        live.output_hard_bytes.store(normal.next().unwrap_or(0), Relaxed);
        live.output_soft_bytes.store(normal.next().unwrap_or(0), Relaxed);
        live.output_soft_ms.store(normal.next().unwrap_or(0).saturating_mul(1000), Relaxed);
    }
}

fn failed(name: &str, why: &str) -> Reply {
    Reply::err(format_args!("CONFIG SET failed (possibly related to argument '{name}') - {why}"))
}

fn find(name: &[u8]) -> Option<(usize, &'static Param)> {
    let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
    PARAMS.iter().enumerate().find(|(_, param)| is(param.name) || param.alias.is_some_and(is))
}

/// The value as it will be kept, if the parameter may be set to it.
fn admitted(param: &Param, value: &Bytes, present: &Bytes) -> Result<Bytes, String> {
    match param.change {
        Change::Immutable => Err("can't set immutable config".to_string()),
        Change::Protected => Err("can't set protected config".to_string()),
        Change::Same(_) | Change::Free => read(param.kind, value, present),
    }
}

/// Checks a value and gives it the form that CONFIG GET prints.
fn read(kind: Kind, value: &[u8], present: &Bytes) -> Result<Bytes, String> {
    let text = String::from_utf8_lossy(value);
    match kind {
        Kind::Text => Ok(Bytes::copy_from_slice(value)),
        Kind::Bool => {
            word(&text, &["yes", "no"]).ok_or_else(|| "argument must be 'yes' or 'no'".to_string())
        }
        Kind::Word(words) => word(&text, words).ok_or_else(|| {
            format!("argument(s) must be one of the following: {}", words.join(", "))
        }),
        Kind::Int(min, max) => {
            let n = integer(value)
                .ok_or_else(|| "argument couldn't be parsed into an integer".to_string())?;
            within(i128::from(n), i128::from(min), i128::from(max))
        }
        Kind::Memory(min, max) => {
            let n = memory(&text).ok_or_else(|| "argument must be a memory value".to_string())?;
            within(i128::from(n), i128::from(min), i128::from(max))
        }
        Kind::MemoryOrPercent => memory_or_percent(&text),
        Kind::Save => save(&text),
        Kind::OutputLimits => output_limits(&text, &String::from_utf8_lossy(present)),
        Kind::KeyspaceEvents => keyspace_events(&text),
        Kind::Percentiles => percentiles(&text),
    }
}

fn within(n: i128, min: i128, max: i128) -> Result<Bytes, String> {
    if (min..=max).contains(&n) {
        Ok(n.to_string().into())
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

fn word(text: &str, words: &[&'static str]) -> Option<Bytes> {
    let known = words.iter().find(|word| word.eq_ignore_ascii_case(text))?;
    Some(Bytes::from_static(known.as_bytes()))
}

/// Bytes of `10`, `10k` (thousands), `10kb` (1024s), and so on.
fn memory(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

fn memory_or_percent(text: &str) -> Result<Bytes, String> {
    const NEITHER: &str = "argument must be a memory or percent value";
    if let Some(percent) = text.strip_suffix('%') {
        let percent: i64 = percent.parse().map_err(|_| NEITHER.to_string())?;
        return match percent {
            0..=100 => Ok(format!("{percent}%").into()),
            101.. => Err("percentage argument must be less or equal to 100".to_string()),
            _ => Err(NEITHER.to_string()),
        };
    }
    memory(text).map(|n| n.to_string().into()).ok_or_else(|| NEITHER.to_string())
}

fn save(text: &str) -> Result<Bytes, String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let numbers: Option<Vec<i64>> = words.iter().map(|word| word.parse().ok()).collect();
    match numbers {
        Some(numbers)
            if numbers.len().is_multiple_of(2)
                && numbers.chunks_exact(2).all(|pair| pair[0] >= 1 && pair[1] >= 0) =>
        {
            Ok(words.join(" ").into())
        }
        _ => Err("Invalid save parameters".to_string()),
    }
}

fn output_limits(text: &str, present: &str) -> Result<Bytes, String> {
    const CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".to_string());
    }
    let mut limits: Vec<String> = present.split(' ').map(str::to_string).collect();
    for given in words.chunks_exact(4) {
        let class = match given[0].to_ascii_lowercase().as_str() {
            "replica" => Some(1),
            name => CLASSES.iter().position(|class| *class == name),
        };
        let Some(class) = class else {
            return Err("Invalid client class specified in buffer limit configuration.".to_string());
        };
        let numbers = (memory(given[1]), memory(given[2]), given[3].parse::<u32>());
        let (Some(hard), Some(soft), Ok(seconds)) = numbers else {
            return Err(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                    .to_string(),
            );
        };
        let fresh = [hard.to_string(), soft.to_string(), seconds.to_string()];
        limits.splice(class * 4 + 1..class * 4 + 4, fresh);
    }
    Ok(limits.join(" ").into())
}

fn keyspace_events(text: &str) -> Result<Bytes, String> {
    const ALL: &str = "g$lshzxetd";
    if text.chars().any(|c| !"AKEmn".contains(c) && !ALL.contains(c)) {
        return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".to_string());
    }
    let has = |c: char| text.contains(c) || text.contains('A') && ALL.contains(c);
    let classes = if ALL.chars().all(has) {
        "A".to_string()
    } else {
        ALL.chars().filter(|c| has(*c)).collect()
    };
    let rest: String = "KEmn".chars().filter(|c| has(*c)).collect();
    Ok((classes + &rest).into())
}

fn percentiles(text: &str) -> Result<Bytes, String> {
    let numbers: Result<Vec<f64>, _> = text.split_ascii_whitespace().map(str::parse).collect();
    let Ok(numbers) = numbers else {
        return Err("Invalid latency-tracking-info-percentiles parameters".to_string());
    };
    if numbers.iter().any(|n| !(0.0..=100.0).contains(n)) {
        return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
            .to_string());
    }
    // Rust prints the shortest form that reads back: 99.9 and 0.
    Ok(numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" ").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(&[("port", "6379".to_string())]).expect("defaults are valid")
    }

    fn set(config: &Config, pairs: &[&str]) -> String {
        let pairs: Vec<Bytes> =
            pairs.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
        match config.set(&pairs) {
            Reply::Simple(text) => text.to_string(),
            Reply::Error(text) => text.rsplit(" - ").next().unwrap_or_default().to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_default_is_of_its_kind_and_prints_as_itself() {
        for param in PARAMS {
            let default = Bytes::from_static(param.default.as_bytes());
            assert_eq!(read(param.kind, &default, &default), Ok(default.clone()), "{}", param.name);
        }
        let mut names: Vec<&str> =
            PARAMS.iter().flat_map(|p| [Some(p.name), p.alias]).flatten().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn values_are_checked_and_printed_plainly() {
        let cases = [
            (["repl-backlog-size", "100mb"], Ok("104857600")),
            (["repl-backlog-size", "1k"], Ok("1000")),
            (["maxmemory", "0mb"], Ok("0")),
            (
                ["maxmemory", "1mb"],
                Err("data is not held in memory alone; the memory budget is chosen when the \
                     server starts, with --memory"),
            ),
            (["maxmemory-policy", "NoEviction"], Ok("noeviction")),
            (
                ["maxmemory-policy", "allkeys-lru"],
                Err("keys are never evicted; --memory bounds what the server holds in memory"),
            ),
            (["appendonly", "no"], Err("every write goes through the log")),
            (["appendfsync", "everysec"], Ok("everysec")),
            (
                ["appendfsync", "always"],
                Err("the sync level is chosen when the server starts, with --sync"),
            ),
            (["maxmemory", "1q"], Err("argument must be a memory value")),
            (["timeout", "-1"], Err("argument must be between 0 and 2147483647 inclusive")),
            (["timeout", "x"], Err("argument couldn't be parsed into an integer")),
            (["appendonly", "YES"], Ok("yes")),
            (["appendonly", "maybe"], Err("argument must be 'yes' or 'no'")),
            (["maxmemory-clients", "10%"], Ok("10%")),
            (
                ["maxmemory-clients", "200%"],
                Err("percentage argument must be less or equal to 100"),
            ),
            (["save", "3600 1 300  100"], Ok("3600 1 300 100")),
            (["save", ""], Ok("")),
            (["save", "1 2 3"], Err("Invalid save parameters")),
            (["notify-keyspace-events", "KEA"], Ok("AKE")),
            (["notify-keyspace-events", "Elg"], Ok("glE")),
            (["latency-tracking-info-percentiles", "0.0 50.0 100.0"], Ok("0 50 100")),
            (["daemonize", "yes"], Err("can't set immutable config")),
            (["dir", "/"], Err("can't set protected config")),
            (["port", "6379"], Ok("6379")),
            (["lua-time-limit", "7"], Ok("7")),
        ];
        for (pair, want) in cases {
            let config = config();
            let outcome = set(&config, &pair);
            match want {
                Ok(value) => {
                    assert_eq!(outcome, "OK", "{pair:?}");
                    assert_eq!(config.text(pair[0]), value, "{pair:?}");
                }
                Err(why) => assert_eq!(outcome, why, "{pair:?}"),
            }
        }
    }

    #[test]
    fn output_limits_are_set_class_by_class() {
        let config = config();
        assert_eq!(set(&config, &["client-output-buffer-limit", "normal 1mb 2k 3"]), "OK");
        assert_eq!(
            config.text("client-output-buffer-limit"),
            "normal 1048576 2000 3 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
        );
        assert_eq!(config.live.output_hard_bytes.load(Relaxed), 1_048_576);
        assert_eq!(config.live.output_soft_ms.load(Relaxed), 3000);
    }

    #[test]
    fn set_is_all_or_nothing() {
        let config = config();
        let why = set(&config, &["timeout", "5", "maxclients", "0"]);
        assert_eq!(why, "argument must be between 1 and 4294967295 inclusive");
        assert_eq!(config.text("timeout"), "0");
        assert_eq!(set(&config, &["timeout", "5", "timeout", "6"]), "duplicate parameter");
        assert_eq!(config.live.idle_ms_max.load(Relaxed), 0);
        assert_eq!(set(&config, &["timeout", "5", "maxclients", "6"]), "OK");
        assert_eq!(config.live.idle_ms_max.load(Relaxed), 5000);
    }

    #[test]
    fn get_lists_each_match_once_and_hidden_ones_by_name_only() {
        let config = config();
        let get = |patterns: &[&'static str]| {
            let patterns: Vec<Bytes> =
                patterns.iter().map(|p| Bytes::from_static(p.as_bytes())).collect();
            match config.get(&patterns) {
                Reply::Map(pairs) => pairs.len(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(get(&["maxmemory", "maxmemory*"]), 5);
        assert_eq!(get(&["slaveof", "replicaof"]), 2);
        assert_eq!(get(&["MAXMEMORY"]), 1);
        assert_eq!(get(&["key-load*"]), 0);
        assert_eq!(get(&["key-load-delay"]), 1);
        assert_eq!(get(&["nope"]), 0);
    }
}
