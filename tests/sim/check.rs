//! Whether what clients were told fits together.

use crate::audit::audit;
use crate::history::{Fate, Inner, Seen, Token};
use crate::linear;
use std::collections::{BTreeMap, BTreeSet};

/// What is left in the end, read when everything was mended.
pub(crate) struct Ends {
    pub(crate) lengths: Vec<i64>,
    pub(crate) counts: Vec<i64>,
    pub(crate) sealed: u64,
}

/// # Panics
/// If it does not fit.
pub(crate) fn check(history: &Inner, ends: &Ends) {
    for (register, ops) in &history.registers {
        if let Err(why) = linear::check(ops) {
            panic!("register {register} is not linearizable: {why}");
        }
    }
    lists(history, ends);
    counters(history, ends);
    for (inserts, scans) in history.inserts.iter().zip(&history.scans) {
        set(inserts, scans);
    }
    audit(history);
}

/// Lists only grow, in one order, by what was appended, each time once.
fn lists(history: &Inner, ends: &Ends) {
    for (list, length) in ends.lengths.iter().enumerate() {
        let mut reads: Vec<&Seen<(usize, Vec<Token>)>> =
            history.lists.iter().filter(|seen| seen.what.0 == list).collect();
        reads.sort_by_key(|seen| seen.what.1.len());
        let none = Vec::new();
        let whole = reads.last().map_or(&none, |seen| &seen.what.1);
        for read in &reads {
            let prefix = &whole[..read.what.1.len()];
            assert!(read.what.1 == prefix, "list {list} is {whole:?}, and was {:?}", read.what.1);
        }
        let mut place: BTreeMap<Token, usize> = BTreeMap::new();
        for (at, token) in whole.iter().enumerate() {
            let twice = place.insert(*token, at);
            assert_eq!(twice, None, "{token} stands twice in list {list}");
            let append = history.appends.get(token).expect("only what was sent is there");
            assert_eq!(append.list, list);
            let failed = append.done.is_none() && append.open == 0;
            assert!(!failed, "{token} of list {list} was reported as failed, and is there");
        }
        assert_eq!(whole.len() as i64, *length, "list {list} was counted otherwise");
        let sent = || history.appends.iter().filter(|(_, append)| append.list == list);
        for (token, append) in sent() {
            let is_lost = append.done.is_some() && !place.contains_key(token);
            assert!(!is_lost, "{token} of list {list} was acknowledged, and is lost");
        }
        for read in &reads {
            let n = read.what.1.len();
            for (token, append) in sent() {
                let at = place.get(token).copied().unwrap_or(usize::MAX);
                let before = append.done.is_some_and(|done| done < read.begun);
                assert!(!before || at < n, "a read of list {list} has missed {token}: {read:?}");
                let behind = append.begun > read.done;
                assert!(!behind || at >= n, "a read of list {list} has foreseen {token}");
            }
        }
        let mut by_begin: Vec<_> = sent().filter(|(token, _)| place.contains_key(token)).collect();
        by_begin.sort_by_key(|(_, append)| append.begun);
        let mut by_end = by_begin.clone();
        by_end.retain(|(_, append)| append.done.is_some());
        by_end.sort_by_key(|(_, append)| append.done);
        // The place of the last among those answered before another begins is before that one's.
        let (mut ended, mut last) = (by_end.into_iter().peekable(), None);
        for (token, append) in by_begin {
            while let Some((other, _)) =
                ended.next_if(|(_, other)| other.done.is_some_and(|done| done < append.begun))
            {
                last = last.max(Some(place[other]));
            }
            assert!(last < Some(place[token]), "{token} of list {list} has overtaken another");
        }
    }
}

/// Each answer of a counter is given once, later ones are greater, and the end is between what was
/// acknowledged and what was asked.
fn counters(history: &Inner, ends: &Ends) {
    for (counter, end) in ends.counts.iter().enumerate() {
        let none = Vec::new();
        let counts = history.counts.get(&counter).unwrap_or(&none);
        let mut by_value = BTreeMap::new();
        for count in counts {
            if let Fate::Done(done) = count.fate {
                let twice = by_value.insert(count.value, (count.begun, done));
                assert!(twice.is_none(), "counter {counter} has said {} twice", count.value);
            }
        }
        let mut latest_begin = 0;
        for (value, (begun, done)) in &by_value {
            // Whoever got more had not been answered before this one began.
            assert!(*done >= latest_begin, "counter {counter} has gone back at {value}");
            latest_begin = latest_begin.max(*begun);
        }
        let open = counts.iter().filter(|count| count.fate == Fate::Open).count();
        let (least, most) = (by_value.len() as i64, (by_value.len() + open) as i64);
        assert!((least..=most).contains(end), "counter {counter} is {end}, not {least} to {most}");
        let greatest = by_value.last_key_value().map_or(0, |(value, _)| *value);
        assert!(greatest <= *end, "counter {counter} is {end}, and was {greatest}");
    }
}

/// Every scan has each key once, in order, all that were there before it and none that was not.
fn set(inserts: &BTreeMap<Token, (u64, Fate)>, scans: &[Seen<Vec<Token>>]) {
    for scan in scans {
        let in_order = scan.what.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(in_order, "a scan has keys twice or out of order: {:?}", scan.what);
        let found: BTreeSet<Token> = scan.what.iter().copied().collect();
        for (token, (begun, fate)) in inserts {
            let is_there = found.contains(token);
            let before = matches!(fate, Fate::Done(done) if *done < scan.begun);
            assert!(is_there || !before, "a scan has missed {token}: {scan:?}");
            let never = *fate == Fate::Failed || *begun > scan.done;
            assert!(!is_there || !never, "a scan has {token}, which was not there");
        }
        assert!(found.iter().all(|token| inserts.contains_key(token)));
    }
}
