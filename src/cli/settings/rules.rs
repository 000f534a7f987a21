//! Values that must go together.

use crate::cli::settings::kind::Typed;
use crate::cli::settings::problem::{Origin, Problem};
use crate::cli::settings::resolve::Value;

/// Two settings and what must hold between them.
struct Rule {
    keys: [&'static str; 2],
    holds: fn(u64, u64) -> bool,
    says: &'static str,
}

const RULES: [Rule; 5] = [
    // A heartbeat may be lost or late without an election.
    Rule {
        keys: ["raft.heartbeat", "raft.election_min"],
        holds: |heartbeat, election| heartbeat.saturating_mul(2) <= election,
        says: "must be at most half of",
    },
    // Else all replicas stand at once, and split the votes again and again.
    Rule {
        keys: ["raft.election_min", "raft.election_max"],
        holds: |min, max| min < max,
        says: "must be less than",
    },
    Rule {
        keys: ["cluster.suspect_after", "cluster.dead_after"],
        holds: |suspect, dead| suspect < dead,
        says: "must be less than",
    },
    // The log is shortened by whole segments.
    Rule {
        keys: ["storage.log_segment", "storage.log_max"],
        holds: |segment, max| segment.saturating_mul(4) <= max,
        says: "must be at most a quarter of",
    },
    Rule {
        keys: ["gateway.backoff", "gateway.backoff_max"],
        holds: |first, max| first <= max,
        says: "must be at most",
    },
];

/// An even number of replicas survives no more failures than one less.
const ODD: &str = "cluster.replicas";

/// The rules that do not hold, for values of all settings.
pub fn broken(values: &[Value]) -> Vec<Problem> {
    let find = |key: &str| values.iter().find(|value| value.setting.key == key);
    let mut problems = Vec::new();
    for rule in &RULES {
        let [Some(a), Some(b)] = rule.keys.map(find) else { continue };
        if let (Some(x), Some(y)) = (number(a), number(b))
            && !(rule.holds)(x, y)
        {
            let message = format!("{} {} {}", told(a), rule.says, told(b));
            // The line of what was written; with two, of the later.
            let line = line(a).max(line(b));
            let fix = format!("change {} or {}", a.setting.key, b.setting.key);
            problems.push(Problem { line, message, fix });
        }
    }
    if let Some(value) = find(ODD)
        && number(value).is_some_and(|n| n.is_multiple_of(2))
    {
        let message =
            format!("{} is {}, an even number", value.origin.name(value.setting), shown(value));
        let fix = "give 1, 3, 5 or 7: one more than an odd number survives no more failures";
        problems.push(Problem { line: line(value), message, fix: fix.to_string() });
    }
    problems
}

fn told(value: &Value) -> String {
    let is = shown(value);
    match value.origin {
        Origin::Default => format!("{} ({is} by default)", value.setting.key),
        _ => format!("{} ({is})", value.origin.name(value.setting)),
    }
}

fn shown(value: &Value) -> String {
    value.typed.show().unwrap_or_default()
}

fn line(value: &Value) -> Option<usize> {
    match value.origin {
        Origin::File(_, line) => Some(line),
        _ => None,
    }
}

/// A value as a number: bytes or milliseconds.
fn number(value: &Value) -> Option<u64> {
    match &value.typed {
        Typed::Int(n) | Typed::Size(n) => Some(*n),
        Typed::Duration(duration) => u64::try_from(duration.as_millis()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::table;

    #[test]
    fn rules_are_about_settings_that_are_numbers() {
        for key in RULES.iter().flat_map(|rule| rule.keys).chain([ODD]) {
            let setting = table::find(key).unwrap_or_else(|| panic!("no setting {key}"));
            let typed =
                setting.kind.parse(&crate::cli::settings::kind::Raw::Text(setting.default.into()));
            let value = Value { setting, typed: typed.unwrap(), origin: Origin::Default };
            assert!(number(&value).is_some(), "{key}");
        }
    }
}
