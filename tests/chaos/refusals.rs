//! The checkers themselves: histories that are right, and ones that must be refused.

use crate::history::{Appended, History, Insert, Op, Outcome, What};
use crate::linear;
use crate::verdict::{Found, broken, value_of};
use arqondb::env::Rng;

fn op(begun: u64, ended: u64, what: What) -> Op {
    Op { begun, ended, what }
}

fn read(begun: u64, ended: u64, value: u64) -> Op {
    op(begun, ended, What::Read((value != 0).then_some(value)))
}

fn write(begun: u64, ended: u64, value: u64) -> Op {
    op(begun, ended, What::Write { value, known: true })
}

fn perhaps(begun: u64, value: u64) -> Op {
    op(begun, u64::MAX, What::Write { value, known: false })
}

fn swap(begun: u64, ended: u64, expected: u64, value: u64) -> Op {
    op(begun, ended, What::Swap { expected: Some(expected), value, known: true })
}

fn unswapped(begun: u64, ended: u64, expected: u64, found: u64) -> Op {
    let what = What::Unswapped { expected: Some(expected), found: Some(found) };
    op(begun, ended, what)
}

#[test]
fn registers_that_behave_are_accepted() {
    for history in [
        vec![],
        vec![read(0, 1, 0), write(2, 3, 1), read(4, 5, 1)],
        // Two writes at once, seen in either order by those who come later.
        vec![write(0, 10, 1), write(0, 10, 2), read(11, 12, 1), read(13, 14, 1)],
        vec![write(0, 10, 1), write(0, 10, 2), read(3, 4, 1), read(11, 12, 2)],
        // One that may have happened: never, at once, late, and seen through a swap alone.
        vec![write(0, 1, 1), perhaps(2, 2), read(50, 51, 1)],
        vec![write(0, 1, 1), perhaps(2, 2), read(3, 4, 2), read(50, 51, 2)],
        vec![write(0, 1, 1), perhaps(2, 2), read(30, 31, 1), read(50, 51, 2)],
        vec![perhaps(2, 2), swap(30, 31, 2, 3), read(50, 51, 3)],
        vec![write(0, 1, 1), swap(2, 3, 1, 2), unswapped(4, 5, 1, 2), read(6, 7, 2)],
        vec![write(0, 1, 1), unswapped(2, 9, 1, 2), swap(2, 9, 1, 2)],
    ] {
        assert_eq!(linear::check(&history), Ok(()), "{history:?}");
    }
}

#[test]
fn registers_that_do_not_are_refused() {
    let unknown_swap = |begun, expected, value| {
        op(begun, u64::MAX, What::Swap { expected: Some(expected), value, known: false })
    };
    for (why, history) in [
        ("a stale read", vec![write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)]),
        ("a stale read", vec![write(0, 10, 1), read(2, 3, 1), read(4, 5, 0)]),
        ("a lost write", vec![write(0, 1, 1), read(2, 3, 0)]),
        ("a lost write", vec![write(0, 1, 1), swap(2, 3, 1, 2), read(4, 5, 1)]),
        ("a write of nobody", vec![write(0, 1, 1), read(2, 3, 7)]),
        ("a look ahead", vec![read(0, 1, 1), write(2, 3, 1)]),
        ("a look ahead", vec![read(0, 1, 1), perhaps(2, 1)]),
        ("two swaps of one", vec![write(0, 1, 1), swap(2, 9, 1, 2), swap(2, 9, 1, 3)]),
        ("a swap of another", vec![write(0, 1, 1), write(2, 3, 2), swap(4, 5, 1, 3)]),
        ("a refusal for nothing", vec![write(0, 1, 1), unswapped(2, 3, 1, 1)]),
        ("a refusal of old", vec![write(0, 1, 1), write(2, 3, 2), unswapped(4, 5, 9, 1)]),
        // Written once, gone, and there again.
        (
            "a second effect",
            vec![perhaps(0, 1), read(2, 3, 1), write(4, 5, 2), read(6, 7, 2), read(8, 9, 1)],
        ),
        (
            "a swap that cannot have been done",
            vec![write(0, 1, 1), write(2, 3, 2), unknown_swap(4, 1, 3), read(6, 7, 3)],
        ),
    ] {
        assert!(linear::check(&history).is_err(), "{why}: {history:?}");
    }
}

/// A register in memory, used at random, at moments within random spans.
fn random(rng: &mut Rng, count: u64) -> Vec<Op> {
    let mut holds: Option<u64> = None;
    let mut ops = Vec::new();
    let mut last = None;
    for n in 1..=count {
        let at = n * 10;
        let (begun, ended) = (at - rng.below(60).min(at), at + rng.below(60));
        let expected = if rng.below(2) == 0 { holds } else { last };
        let what = match rng.below(4) {
            0 | 1 => What::Read(holds),
            2 => {
                holds = Some(n);
                What::Write { value: n, known: rng.below(5) > 0 }
            }
            _ if expected == holds => {
                holds = Some(n);
                What::Swap { expected, value: n, known: rng.below(5) > 0 }
            }
            _ => What::Unswapped { expected, found: holds },
        };
        let is_unknown =
            matches!(what, What::Write { known: false, .. } | What::Swap { known: false, .. });
        if rng.below(3) == 0 {
            last = holds;
        }
        ops.push(Op { begun, ended: if is_unknown { u64::MAX } else { ended }, what });
    }
    ops
}

#[test]
fn random_histories_are_accepted_and_refused_once_a_read_is_turned_back() {
    let mut rng = Rng::new(5);
    let mut refused = 0;
    for _ in 0..60 {
        let mut ops = random(&mut rng, 300);
        assert_eq!(linear::check(&ops), Ok(()));
        // A read that began long after another value was acknowledged gives an old one.
        let mut reads = ops.iter().enumerate().skip(150).filter_map(|(at, op)| match op.what {
            What::Read(Some(value)) if value > 50 => Some((at, value)),
            _ => None,
        });
        let Some((at, value)) = reads.next_back() else { continue };
        let old = ops.iter().find_map(|op| match op.what {
            What::Write { value: old, known: true } if old + 40 < value => Some(old),
            _ => None,
        });
        ops[at].what = What::Read(old);
        refused += u32::from(linear::check(&ops).is_err());
    }
    assert!(refused > 40, "{refused}");
}

fn insert(key: &str, outcome: Outcome) -> Insert {
    Insert { key: key.into(), outcome }
}

fn appended(token: &str, outcome: Outcome) -> Appended {
    Appended { list: 0, token: token.into(), outcome }
}

#[test]
fn a_set_that_lost_or_invented_something_is_refused() {
    let inserts = vec![
        insert("a", Outcome::Done),
        insert("b", Outcome::Unknown),
        insert("c", Outcome::Failed),
    ];
    let history = History { inserts, ..History::default() };
    let holds = |keys: &[&str]| Found {
        inserts: keys.iter().map(|key| (key.to_string(), value_of(key))).collect(),
        ..Found::default()
    };
    assert!(broken(&history, &holds(&["a"])).is_empty());
    assert!(broken(&history, &holds(&["a", "b"])).is_empty());
    for (keys, why) in [
        (vec!["b"], "lost"),
        (vec!["a", "c"], "refused"),
        (vec!["a", "d"], "nobody"),
        (vec!["a", "a"], "scan"),
        (vec!["b", "a"], "scan"),
    ] {
        let found = broken(&history, &holds(&keys));
        assert!(found.len() == 1 && found[0].contains(why), "{keys:?}: {found:?}");
    }
    let mut wrong = holds(&["a"]);
    wrong.inserts[0].1.push('!');
    assert_eq!(broken(&history, &wrong).len(), 1);
}

#[test]
fn a_list_with_a_lost_doubled_or_displaced_token_is_refused() {
    let appends = vec![
        appended("1-1", Outcome::Done),
        appended("1-2", Outcome::Unknown),
        appended("1-3", Outcome::Done),
        appended("2-1", Outcome::Failed),
    ];
    let history = History { appends, ..History::default() };
    let holds = |text: &str| Found { lists: [(0, text.to_string())].into(), ..Found::default() };
    assert!(broken(&history, &holds("1-1 1-3 ")).is_empty());
    assert!(broken(&history, &holds("1-1 1-2 1-3 ")).is_empty());
    for (text, why) in [
        ("1-1 ", "lost"),
        ("1-1 1-3 1-3 ", "2 times"),
        ("1-1 1-2 1-2 1-3 ", "2 times"),
        ("1-1 1-3 2-1 ", "refused"),
        ("1-3 1-1 ", "before"),
        ("1-1 1-3 9-9 ", "nobody"),
    ] {
        let found = broken(&history, &holds(text));
        assert!(found.len() == 1 && found[0].contains(why), "{text}: {found:?}");
    }
}
