//! Whether a register's history could have happened: each request at one moment between its
//! beginning and its answer.
//!
//! A search as Wing and Gong's: of the requests that may be next (none that was answered before
//! they began is left over) one is taken, in turn, and what was tried before is remembered by the
//! requests taken and the value then. Requests of which nobody knows may be taken at any later time,
//! or never. One whose value nobody saw is left out, which changes nothing for the others; one whose
//! value was seen was there before that, which bounds it. (Whoever swaps has read before what is to
//! be replaced, so what an open swap needs was seen too.)

use crate::history::{Fate, Register, RegisterOp, Token};
use std::collections::{BTreeMap, HashSet};

/// Places looked at before the search is given up.
const STEPS_MAX: u64 = 3_000_000;

struct Search<'a> {
    ops: &'a [RegisterOp],
    /// When each was answered at the latest.
    ends: Vec<u64>,
    taken: Vec<bool>,
    tried: HashSet<(Vec<u32>, Token)>,
    steps: u64,
}

/// What the search came to, if it is bad.
pub(crate) fn check(history: &[RegisterOp]) -> Result<(), String> {
    let failed = history.iter().filter(|op| op.fate == Fate::Failed).filter_map(written);
    let failed: HashSet<Token> = failed.collect();
    let mut seen: BTreeMap<Token, u64> = BTreeMap::new();
    for op in history {
        if let (Fate::Done(done), Some(token)) = (op.fate, observed(op)) {
            if token != 0 && failed.contains(&token) {
                return Err(format!("{op:?} saw a value whose write was reported as failed"));
            }
            let first = seen.entry(token).or_insert(done);
            *first = (*first).min(done);
        }
    }
    // What an open request saw counts only once somebody saw what that one wrote.
    let mut kept: Vec<(usize, RegisterOp, u64)> = Vec::new();
    for (at, op) in history.iter().enumerate() {
        match (op.fate, op.what) {
            (Fate::Done(done), _) => kept.push((at, *op, done)),
            (Fate::Open, Register::Write(token) | Register::Swapped(_, token)) => {
                // One that deletes leaves nothing to be seen by: it may have happened at any time.
                let end = if token == 0 { Some(u64::MAX) } else { seen.get(&token).copied() };
                kept.extend(end.map(|end| (at, *op, end)));
            }
            _ => {}
        }
    }
    kept.sort_by_key(|(at, op, end)| (op.begun, *end, *at));
    let place: BTreeMap<usize, usize> =
        kept.iter().enumerate().map(|(now, (at, ..))| (*at, now)).collect();
    let renumber = |op: &RegisterOp| RegisterOp {
        after: op.after.and_then(|after| place.get(&after).copied()),
        ..*op
    };
    let ops: Vec<RegisterOp> = kept.iter().map(|(_, op, _)| renumber(op)).collect();
    let ends = kept.iter().map(|(_, _, end)| *end).collect();
    let taken = vec![false; ops.len()];
    let mut search = Search { ops: &ops, ends, taken, tried: HashSet::new(), steps: 0 };
    match search.run(0, 0) {
        true => Ok(()),
        false if search.steps > STEPS_MAX => Err("the search was given up".into()),
        false => Err(told(&ops)),
    }
}

fn written(op: &RegisterOp) -> Option<Token> {
    match op.what {
        Register::Write(token) | Register::Swapped(_, token) => Some(token).filter(|t| *t != 0),
        _ => None,
    }
}

fn observed(op: &RegisterOp) -> Option<Token> {
    match op.what {
        Register::Read(token) | Register::Swapped(token, _) | Register::Kept(_, token) => {
            Some(token)
        }
        Register::Write(_) => None,
    }
}

impl Search<'_> {
    /// Whether what is left can happen from here on; all before `first` are taken.
    fn run(&mut self, mut first: usize, value: Token) -> bool {
        let mut free = Vec::new();
        // Reads that fit are taken at once: that hinders nothing.
        loop {
            while first < self.ops.len() && self.taken[first] {
                first += 1;
            }
            if self.is_over(first) {
                return true;
            }
            let next = self.next(first);
            let fits = |at: &usize| match self.ops[*at].what {
                Register::Read(token) => token == value,
                Register::Kept(expected, now) => now == value && now != expected,
                _ => false,
            };
            match next.into_iter().find(fits) {
                Some(at) => {
                    self.taken[at] = true;
                    free.push(at);
                }
                None => break,
            }
        }
        self.steps += 1;
        let found = self.steps <= STEPS_MAX && self.tried.insert(self.state(first, value)) && {
            let mut next = self.next(first);
            next.sort_by_key(|at| self.ends[*at]);
            next.into_iter().any(|at| {
                let after = match self.ops[at].what {
                    Register::Write(token) => token,
                    Register::Swapped(from, to) if from == value => to,
                    _ => return false,
                };
                self.taken[at] = true;
                let found = self.run(first, after);
                self.taken[at] = found;
                found
            })
        };
        if !found {
            free.into_iter().for_each(|at| self.taken[at] = false);
        }
        found
    }

    fn is_over(&self, first: usize) -> bool {
        // Those that may never have happened may be left.
        (first..self.ops.len()).all(|at| self.taken[at] || self.ends[at] == u64::MAX)
    }

    fn state(&self, first: usize, value: Token) -> (Vec<u32>, Token) {
        let mut state = vec![first as u32];
        let ahead = first..self.ops.len();
        state.extend(ahead.filter(|at| self.taken[*at]).map(|at| at as u32));
        (state, value)
    }

    /// The requests that may be next.
    fn next(&self, first: usize) -> Vec<usize> {
        let mut bound = u64::MAX;
        let mut next = Vec::new();
        for at in first..self.ops.len() {
            if self.ops[at].begun > bound {
                break;
            }
            if self.taken[at] {
                continue;
            }
            bound = bound.min(self.ends[at]);
            let waits = self.ops[at].after.is_some_and(|after| !self.taken[after]);
            if !waits {
                next.push(at);
            }
        }
        next.retain(|at| self.ops[*at].begun <= bound);
        next
    }
}

fn told(ops: &[RegisterOp]) -> String {
    let lines = ops.iter().map(|op| {
        let end = match op.fate {
            Fate::Done(done) => format!("{:.3}", done as f64 / 1e6),
            _ => "?".into(),
        };
        format!("  {:.3} .. {end} ms: {:?} after {:?}", op.begun as f64 / 1e6, op.what, op.after)
    });
    format!("no order of these explains the answers:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(begun: u64, done: u64, what: Register) -> RegisterOp {
        RegisterOp { begun, fate: Fate::Done(done), what, after: None }
    }

    fn open(begun: u64, what: Register) -> RegisterOp {
        RegisterOp { begun, fate: Fate::Open, what, after: None }
    }

    #[test]
    fn what_could_happen_is_told_from_what_could_not() {
        use Register::{Kept, Read, Swapped, Write};
        let fine: &[&[RegisterOp]] = &[
            &[op(0, 10, Write(1)), op(20, 30, Read(1))],
            &[op(0, 10, Write(1)), op(5, 8, Read(0)), op(6, 9, Read(1))],
            &[op(0, 10, Write(1)), op(5, 30, Write(2)), op(40, 50, Read(1))],
            &[open(0, Write(1)), op(20, 30, Read(0)), op(40, 50, Read(1))],
            &[open(0, Write(1)), op(20, 30, Read(0))],
            &[op(0, 9, Write(1)), op(10, 19, Swapped(1, 2)), op(20, 29, Kept(1, 2))],
            &[
                op(0, 9, Write(1)),
                open(10, Swapped(1, 0)),
                op(20, 29, Read(0)),
                op(30, 39, Read(0)),
            ],
            &[
                op(0, 9, Write(1)),
                open(10, Swapped(1, 2)),
                op(20, 29, Read(1)),
                op(30, 39, Read(2)),
            ],
        ];
        for history in fine {
            assert_eq!(check(history), Ok(()), "{history:?}");
        }
        let failed = RegisterOp { fate: Fate::Failed, ..open(0, Write(1)) };
        let pipelined = RegisterOp { after: Some(0), ..op(0, 10, Read(0)) };
        let bad: &[&[RegisterOp]] = &[
            // A stale read, a lost write, a value from nowhere.
            &[op(0, 10, Write(1)), op(20, 30, Read(0))],
            &[op(0, 10, Write(1)), op(20, 30, Write(2)), op(40, 50, Read(1))],
            &[op(20, 30, Read(9))],
            // There, and gone again.
            &[open(0, Write(1)), op(20, 30, Read(1)), op(40, 50, Read(0))],
            // Two swaps of one value.
            &[op(0, 9, Write(1)), op(10, 19, Swapped(1, 2)), op(10, 19, Swapped(1, 3))],
            &[failed, op(20, 30, Read(1))],
            &[op(0, 9, Write(1)), op(10, 19, Kept(2, 0))],
            &[op(0, 10, Write(1)), pipelined],
        ];
        for history in bad {
            assert!(check(history).is_err(), "{history:?}");
        }
    }
}
