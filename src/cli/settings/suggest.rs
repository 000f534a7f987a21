//! The known name nearest to one that is not known.

/// Characters of a name that are compared; longer ones are no slip of the finger.
const COMPARED_MAX: usize = 64;

/// The nearest of `known`, if it is near: a third of the name's letters may differ.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.chars().count() > COMPARED_MAX {
        return None;
    }
    let name = name.to_lowercase();
    let scored = known.map(|candidate| (distance(&name, &candidate.to_lowercase()), candidate));
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    let most = name.chars().count().min(candidate.chars().count()).div_ceil(3);
    (distance <= most).then_some(candidate)
}

/// The nearest key: as a whole, or by its last part alone if that names one key in some section.
pub fn nearest_key<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let last = key.rsplit('.').next().unwrap_or(key);
    let mut alike = known.clone().filter(|k| k.split_once('.').is_some_and(|(_, n)| n == last));
    match (alike.next(), alike.next()) {
        (Some(only), None) => Some(only),
        _ => nearest(key, known),
    }
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

    const KEYS: [&str; 5] =
        ["node.data_addr", "node.raft_addr", "storage.sync", "storage.memory", "gateway.addr"];

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
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest_key(typed, KEYS.into_iter()), meant, "{typed}");
        }
        assert_eq!(nearest(&"a".repeat(1_000_000), KEYS.into_iter()), None);
    }
}
