//! What clients did and were told.

use crate::time::SECOND;
use arqondb::op::kv::RequestId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Names a value that is written once; 0 is no value.
pub(crate) type Token = u64;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody knows: it may take effect at any later time, or never.
    Open,
    /// It was answered then.
    Done(u64),
    /// It had no effect, and never will have.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    Read(Token),
    Write(Token),
    /// Writes the second if the first stands there, and did.
    Swapped(Token, Token),
    /// Did not, since the second stands there.
    Kept(Token, Token),
}

/// A request of a register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegisterOp {
    pub(crate) begun: u64,
    pub(crate) fate: Fate,
    pub(crate) what: Register,
    /// The request before it in its pipeline.
    pub(crate) after: Option<usize>,
}

/// A token that is to stand once in a list, however often it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Append {
    pub(crate) list: usize,
    pub(crate) begun: u64,
    /// When it was first said to be there.
    pub(crate) done: Option<u64>,
    /// Attempts of which nobody knows, or that are under way.
    pub(crate) open: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Seen<T> {
    pub(crate) begun: u64,
    pub(crate) done: u64,
    pub(crate) what: T,
}

/// A command that counts, and is not repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    pub(crate) begun: u64,
    pub(crate) fate: Fate,
    pub(crate) value: i64,
}

/// A transfer between two accounts, which is to take place once, however often it is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) amount: i64,
    /// In notes, or in coins.
    pub(crate) in_notes: bool,
    pub(crate) begun: u64,
    /// When it was first said to have taken place.
    pub(crate) done: Option<u64>,
    /// Attempts of which nobody knows, or that are under way.
    pub(crate) open: u64,
    /// The last transfers before it in the two accounts, if it was to take place only then.
    pub(crate) after: Option<[Token; 2]>,
}

/// What was read of an account.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    pub(crate) ledger: Vec<Token>,
    pub(crate) coins: Option<i64>,
    pub(crate) notes: Option<i64>,
}

/// When a reading saw what it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// All at one moment.
    One,
    /// Each shard at a moment of its own.
    Many,
}

/// A reading of accounts.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) moment: Moment,
    pub(crate) accounts: BTreeMap<usize, Account>,
}

/// Everything.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) registers: BTreeMap<usize, Vec<RegisterOp>>,
    /// The sequence number with which each value of a register was seen.
    pub(crate) seqs: BTreeMap<(usize, Token), u64>,
    pub(crate) appends: BTreeMap<Token, Append>,
    pub(crate) lists: Vec<Seen<(usize, Vec<Token>)>>,
    pub(crate) counts: BTreeMap<usize, Vec<Count>>,
    /// Insertions into each set.
    pub(crate) inserts: [BTreeMap<Token, (u64, Fate)>; 2],
    pub(crate) scans: [Vec<Seen<Vec<Token>>>; 2],
    pub(crate) transfers: BTreeMap<Token, Transfer>,
    pub(crate) readings: Vec<Seen<Reading>>,
    /// Transfers that others may send once more.
    pub(crate) known_transfers: Vec<(RequestId, Token)>,
    /// Appends that others may send once more.
    pub(crate) known: Vec<(RequestId, usize, Token)>,
    pub(crate) requests: u64,
    pub(crate) unknown: u64,
    pub(crate) failed: u64,
    next: Token,
}

#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Inner>>);

impl History {
    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn token(&self) -> Token {
        let mut inner = self.inner();
        inner.next += 1;
        inner.next
    }

    /// A request of a register begins; gives its place.
    pub(crate) fn begin(
        &self,
        register: usize,
        begun: u64,
        what: Register,
        after: Option<usize>,
    ) -> usize {
        let mut inner = self.inner();
        inner.requests += 1;
        let ops = inner.registers.entry(register).or_default();
        ops.push(RegisterOp { begun, fate: Fate::Open, what, after });
        ops.len() - 1
    }

    pub(crate) fn end(&self, register: usize, at: usize, what: Register, fate: Fate) {
        let mut inner = self.inner();
        inner.tell(fate);
        if let Some(op) = inner.registers.get_mut(&register).and_then(|ops| ops.get_mut(at)) {
            op.what = what;
            op.fate = fate;
        }
    }

    /// A value of a register has one sequence number, whoever is asked.
    pub(crate) fn note_seq(&self, register: usize, token: Token, seq: u64) {
        let known = *self.inner().seqs.entry((register, token)).or_insert(seq);
        assert_eq!(known, seq, "value {token} of register {register} has two sequence numbers");
    }
}

/// How long a request is sent once more: shards remember it for ten minutes, by clocks of their own.
const REPEATED_FOR: u64 = 8 * 60 * SECOND;

impl Inner {
    /// Appends that may be sent once more.
    pub(crate) fn repeatable_appends(&self, now: u64) -> Vec<(RequestId, usize, Token)> {
        let begun = |token| self.appends.get(token).map_or(now, |append| append.begun);
        let known = self.known.iter();
        known.filter(|known| begun(&known.2) + REPEATED_FOR > now).copied().collect()
    }

    /// Transfers that may be sent once more.
    pub(crate) fn repeatable_transfers(&self, now: u64) -> Vec<(RequestId, Token)> {
        let begun = |token| self.transfers.get(token).map_or(now, |transfer| transfer.begun);
        let known = self.known_transfers.iter();
        known.filter(|known| begun(&known.1) + REPEATED_FOR > now).copied().collect()
    }

    pub(crate) fn tell(&mut self, fate: Fate) {
        match fate {
            Fate::Open => self.unknown += 1,
            Fate::Failed => self.failed += 1,
            Fate::Done(_) => {}
        }
    }
}
