//! Whether the history of a register is linearizable: whether each operation can be given a moment
//! between its begin and its end so that, in the order of those moments, each got what a single
//! register would have answered.
//!
//! The search is Wing and Gong's, with Lowe's memory of what was tried: it puts operations in order
//! one by one, goes back when one has ended that cannot be placed, and never enters twice a state
//! (which operations are placed, and what the register holds) that led nowhere.
//!
//! Operations of unknown outcome may happen at any later time or never. As values are unique, one
//! whose value nobody saw changes no answer and is left out; one whose value was seen has happened
//! before the first who saw it had their answer.

use crate::history::{Op, Time, What};
use std::collections::{HashMap, HashSet};

/// States after which the search gives up: no history of ours comes near.
const STATES_MAX: usize = 2_000_000;

/// Checks the operations on one register that begins absent.
pub(crate) fn check(ops: &[Op]) -> Result<(), String> {
    let ops = settled(ops)?;
    Search::new(&ops).run()
}

/// What an operation saw of the register.
fn seen(what: &What) -> Option<u64> {
    match what {
        What::Read(value) => *value,
        What::Swap { expected, .. } => *expected,
        What::Unswapped { found, .. } => *found,
        What::Write { .. } => None,
    }
}

/// What an operation may have put there, and whether it is known to have.
fn put(what: &What) -> Option<(u64, bool)> {
    match what {
        What::Write { value, known } | What::Swap { value, known, .. } => Some((*value, *known)),
        What::Read(_) | What::Unswapped { .. } => None,
    }
}

/// The operations that have happened, each with its end.
fn settled(ops: &[Op]) -> Result<Vec<Op>, String> {
    let mut unknown: HashMap<u64, Op> = HashMap::new();
    let mut happened = Vec::new();
    let mut writers: HashMap<u64, Time> = HashMap::new();
    for op in ops {
        if let Some((value, known)) = put(&op.what) {
            if writers.insert(value, op.begun).is_some() {
                return Err(format!("{value} was written twice: the test is wrong"));
            }
            if !known {
                unknown.insert(value, op.clone());
                continue;
            }
        }
        happened.push(op.clone());
    }
    // What was seen has happened; and what that one saw, too.
    let mut looked = 0;
    let mut ended: HashMap<u64, Time> = HashMap::new();
    loop {
        for op in &happened[looked..] {
            if let Some(value) = seen(&op.what) {
                let end = ended.entry(value).or_insert(op.ended);
                *end = op.ended.min(*end);
            }
        }
        looked = happened.len();
        let found: Vec<u64> = ended.keys().copied().filter(|v| unknown.contains_key(v)).collect();
        for value in found {
            if let (Some(op), Some(end)) = (unknown.remove(&value), ended.get(&value)) {
                happened.push(Op { ended: *end, ..op });
            }
        }
        if looked == happened.len() {
            break;
        }
    }
    for (value, end) in &ended {
        match writers.get(value) {
            None => return Err(format!("{value} was seen, and nobody has written it")),
            Some(begun) if end < begun => {
                return Err(format!("{value} was seen before it was written"));
            }
            Some(_) => {}
        }
    }
    Ok(happened)
}

/// What the register holds after an operation; none if it cannot have been answered so.
fn step(holds: Option<u64>, what: &What) -> Option<Option<u64>> {
    match what {
        What::Read(value) => (*value == holds).then_some(holds),
        What::Write { value, .. } => Some(Some(*value)),
        What::Swap { expected, value, .. } => (*expected == holds).then_some(Some(*value)),
        What::Unswapped { expected, found } => {
            (*found == holds && *expected != holds).then_some(holds)
        }
    }
}

/// Begins and ends in the order of time, as a list from which operations are taken out and put
/// back. Place 0 is its head.
struct Search<'a> {
    ops: &'a [Op],
    /// Of each place, the operation, and the place of its end if it is a begin.
    events: Vec<(usize, Option<usize>)>,
    next: Vec<usize>,
    before: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(ops: &'a [Op]) -> Search<'a> {
        let mut times: Vec<(Time, bool, usize)> = Vec::with_capacity(2 * ops.len());
        for (at, op) in ops.iter().enumerate() {
            // At the same time, begins come first: that much is not known of the order.
            times.push((op.begun, false, at));
            times.push((op.ended, true, at));
        }
        times.sort_unstable();
        let mut events = vec![(usize::MAX, None); times.len() + 1];
        let mut ends = vec![0; ops.len()];
        for (place, (_, is_end, op)) in (1..).zip(&times) {
            if *is_end {
                ends[*op] = place;
            }
        }
        for (place, (_, is_end, op)) in (1..).zip(&times) {
            events[place] = (*op, (!is_end).then_some(ends[*op]));
        }
        let places = events.len();
        let next = (0..places).map(|at| (at + 1) % places).collect();
        let before = (0..places).map(|at| (at + places - 1) % places).collect();
        Search { ops, events, next, before }
    }

    fn take(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn put_back(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = place;
        self.before[next] = place;
    }

    fn run(mut self) -> Result<(), String> {
        let mut holds: Option<u64> = None;
        let mut placed = vec![0_u64; self.ops.len().div_ceil(64)];
        let mut tried: HashSet<(Vec<u64>, Option<u64>)> = HashSet::new();
        let mut stack: Vec<(usize, usize, Option<u64>)> = Vec::new();
        let mut furthest = (0, String::new());
        let mut at = self.next[0];
        while self.next[0] != 0 {
            let (op, end) = self.events[at];
            let Some(end) = end else {
                // It has ended and found no place.
                if stack.len() >= furthest.0 {
                    furthest =
                        (stack.len(), format!("{:?} while it holds {holds:?}", self.ops[op]));
                }
                let Some((place, end, held)) = stack.pop() else {
                    return Err(format!(
                        "not linearizable; of {} operations at most {} can be put in order, then \
                         comes {}",
                        self.ops.len(),
                        furthest.0,
                        furthest.1
                    ));
                };
                let undone = self.events[place].0;
                placed[undone / 64] &= !(1 << (undone % 64));
                holds = held;
                self.put_back(end);
                self.put_back(place);
                at = self.next[place];
                continue;
            };
            let after = step(holds, &self.ops[op].what);
            let is_new = after.is_some_and(|after| {
                placed[op / 64] |= 1 << (op % 64);
                let is_new = tried.insert((placed.clone(), after));
                if !is_new {
                    placed[op / 64] &= !(1 << (op % 64));
                }
                is_new
            });
            match after {
                Some(after) if is_new => {
                    assert!(tried.len() < STATES_MAX, "this history is too tangled to be decided");
                    stack.push((at, end, holds));
                    holds = after;
                    self.take(at);
                    self.take(end);
                    at = self.next[0];
                }
                _ => at = self.next[at],
            }
        }
        Ok(())
    }
}
