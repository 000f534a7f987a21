//! What clients asked, when, and what they were told.

use std::collections::BTreeMap;

/// When: nanoseconds since the clients began.
pub(crate) type Time = u64;

/// What is known of a write afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was acknowledged.
    Done,
    /// It may have happened, or may yet.
    Unknown,
    /// It was refused: it has not happened and never will.
    Failed,
}

/// An operation on a register. Values are unique: no two writes have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) begun: Time,
    pub(crate) ended: Time,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A read, and what it gave.
    Read(Option<u64>),
    /// A write, and whether it was acknowledged; else nobody knows.
    Write { value: u64, known: bool },
    /// A compare-and-swap that was done; or, not known, may have been.
    Swap { expected: Option<u64>, value: u64, known: bool },
    /// A compare-and-swap that was told what it found instead.
    Unswapped { expected: Option<u64>, found: Option<u64> },
}

/// A key that was inserted once.
#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) key: String,
    pub(crate) outcome: Outcome,
}

/// A token that was appended to a list under one request id, however often it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Appended {
    pub(crate) list: usize,
    pub(crate) token: String,
    pub(crate) outcome: Outcome,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) registers: BTreeMap<String, Vec<Op>>,
    pub(crate) inserts: Vec<Insert>,
    /// In the order in which each client sent them.
    pub(crate) appends: Vec<Appended>,
    /// Answers that were no answers, with their times.
    pub(crate) errors: Vec<(Time, String)>,
    /// Requests answered as they should be.
    pub(crate) answered: u64,
    /// The longest that one took.
    pub(crate) slowest: Time,
}

impl History {
    pub(crate) fn absorb(&mut self, other: History) {
        for (key, ops) in other.registers {
            self.registers.entry(key).or_default().extend(ops);
        }
        self.inserts.extend(other.inserts);
        self.appends.extend(other.appends);
        self.errors.extend(other.errors);
        self.answered += other.answered;
        self.slowest = self.slowest.max(other.slowest);
    }
}
