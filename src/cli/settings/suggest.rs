//! The known name nearest to one that is not known.

/// Characters of a name that are compared; longer ones are no slip of the finger.
const COMPARED_MAX: usize = 64;
/// Letters that may differ in a slip of the finger.
const SLIP: usize = 2;
/// The shortest part that says enough of a name.
const PART_MIN: usize = 4;

/// The nearest of `known`, if it is near: a third of the name's letters may differ.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, candidate) = closest(name, known)?;
    let most = name.chars().count().min(candidate.chars().count()).div_ceil(3);
    (distance <= most).then_some(candidate)
}

fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    if name.chars().count() > COMPARED_MAX {
        return None;
    }
    let name = name.to_lowercase();
    let scored = known.map(|candidate| (distance(&name, &candidate.to_lowercase()), candidate));
    scored.min_by_key(|(distance, _)| *distance)
}

/// What a key may have meant: a slip of the finger, the right name in the wrong section (there may
/// be a few), or else a name that is near or has it as a part, best in the same section.
pub fn meant<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some((distance, slip)) = closest(key, known.clone())
        && distance <= SLIP
    {
        return Some(slip.to_string());
    }
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let parts = known.filter_map(|key| key.split_once('.').map(|(of, name)| (of, name, key)));
    let alike: Vec<&str> =
        parts.clone().filter(|(_, name, _)| *name == last).map(|(.., key)| key).collect();
    if !alike.is_empty() {
        return Some(alike.join(" or "));
    }
    let within = parts.clone().filter(|(of, ..)| *of == section);
    let near = |parts: &mut dyn Iterator<Item = (&'a str, &'a str, &'a str)>| {
        let parts: Vec<_> = parts.collect();
        let name = nearest(last, parts.iter().map(|(_, name, _)| *name))
            .or_else(|| containing(last, parts.iter().map(|(_, name, _)| *name)))?;
        parts.iter().find(|(_, n, _)| *n == name).map(|(.., key)| key.to_string())
    };
    near(&mut within.into_iter()).or_else(|| near(&mut parts.into_iter()))
}

/// A name that has a word as a part.
fn containing<'a>(word: &str, mut known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() < PART_MIN { None } else { known.find(|name| name.contains(word)) }
}

/// Letters to insert, remove, change or swap with their neighbour to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 7] = [
        "node.data_addr",
        "node.raft_addr",
        "storage.sync",
        "storage.memory",
        "gateway.addr",
        "raft.sync",
        "gateway.jwt_secret",
    ];

    #[test]
    fn distances() {
        for (a, b, n) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("memroy", "memory", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        for (typed, meant) in [
            ("node.data_adr", Some("node.data_addr")),
            ("node.data-addr", Some("node.data_addr")),
            ("STORAGE.SYNC", Some("storage.sync")),
            ("storage.memroy", Some("storage.memory")),
            ("memory", Some("storage.memory")),
            ("node.memory", Some("storage.memory")),
            ("node.sync", Some("storage.sync or raft.sync")),
            ("raft.synk", Some("raft.sync")),
            ("gateway.secret", Some("gateway.jwt_secret")),
            ("colour", None),
            ("storage.colour", None),
            ("colour.memroy", Some("storage.memory")),
            ("x", None),
            ("", None),
        ] {
            let found = super::meant(typed, KEYS.into_iter());
            assert_eq!(found.as_deref(), meant, "{typed}");
        }
        assert_eq!(super::meant(&"a".repeat(1_000_000), KEYS.into_iter()), None);
    }
}
