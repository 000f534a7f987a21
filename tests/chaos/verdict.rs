//! Whether all that clients were told is so, once the faults are over.

use crate::history::{Appended, History, Insert, Outcome};
use crate::linear;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What the database holds in the end.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The keys of the set, in the order of a scan, with their values.
    pub(crate) inserts: Vec<(String, String)>,
    /// The lists, by number.
    pub(crate) lists: BTreeMap<usize, String>,
}

/// What a key of the set holds.
pub(crate) fn value_of(key: &str) -> String {
    format!("value of {key}")
}

/// Every promise that was not kept, in words.
pub(crate) fn broken(history: &History, found: &Found) -> Vec<String> {
    let mut broken = Vec::new();
    for (key, ops) in &history.registers {
        if let Err(why) = linear::check(ops) {
            broken.push(format!("{key}: {why}"));
        }
    }
    set(&history.inserts, &found.inserts, &mut broken);
    lists(&history.appends, &found.lists, &mut broken);
    broken
}

/// No acknowledged insert is lost, none refused is there, and a scan gives each once and in order.
fn set(inserts: &[Insert], found: &[(String, String)], broken: &mut Vec<String>) {
    if let Some(pair) = found.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        broken.push(format!("a scan gave {} and then {}", pair[0].0, pair[1].0));
    }
    let there: HashMap<&str, &str> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for insert in inserts {
        let key = insert.key.as_str();
        match (insert.outcome, there.get(key)) {
            (Outcome::Done, None) => broken.push(format!("{key} was acknowledged and is lost")),
            (Outcome::Failed, Some(_)) => broken.push(format!("{key} was refused and is there")),
            (_, Some(value)) if **value != value_of(key) => {
                broken.push(format!("{key} holds {value}, which nobody wrote"));
            }
            _ => {}
        }
    }
    let known: BTreeSet<&str> = inserts.iter().map(|insert| insert.key.as_str()).collect();
    let strange = there.keys().filter(|key| !known.contains(*key));
    broken.extend(strange.map(|key| format!("nobody inserted {key}")));
}

/// An acknowledged token is in its list once, any other at most once, a refused one never, and
/// those of one client are in the order in which it sent them.
fn lists(appends: &[Appended], found: &BTreeMap<usize, String>, broken: &mut Vec<String>) {
    let mut places: HashMap<(usize, &str), Vec<usize>> = HashMap::new();
    for (list, text) in found {
        for (at, token) in text.split_terminator(' ').enumerate() {
            places.entry((*list, token)).or_default().push(at);
        }
    }
    let mut last: HashMap<(usize, &str), usize> = HashMap::new();
    for append in appends {
        let (list, token) = (append.list, append.token.as_str());
        let at = places.remove(&(list, token)).unwrap_or_default();
        match (append.outcome, &at[..]) {
            (Outcome::Done, []) => broken.push(format!("{token} in list {list} is lost")),
            (Outcome::Failed, [_, ..]) => {
                broken.push(format!("{token} was refused and is in list {list}"));
            }
            (_, [_, _, ..]) => {
                broken.push(format!("{token} is in list {list} {} times", at.len()));
            }
            _ => {}
        }
        let client = token.split('-').next().unwrap_or(token);
        if let [at] = at[..]
            && append.outcome == Outcome::Done
            && last.insert((list, client), at).is_some_and(|before| before > at)
        {
            broken.push(format!("{token} is in list {list} before what the client sent earlier"));
        }
    }
    for (list, token) in places.into_keys() {
        broken.push(format!("nobody appended {token} to list {list}"));
    }
}
