//! Whether what readers saw of transfers fits together.

use crate::history::{Inner, Moment, Reading, Seen, Token, Transfer};
use std::collections::{BTreeMap, BTreeSet};

/// Where each token stands in an account's ledger, as it is in the end.
type Places = BTreeMap<(usize, Token), usize>;

/// # Panics
/// If it does not fit.
pub(crate) fn audit(history: &Inner) {
    let ledgers = ledgers(history);
    let mut places = Places::new();
    for (account, ledger) in &ledgers {
        for (at, token) in ledger.iter().enumerate() {
            let twice = places.insert((*account, *token), at);
            assert_eq!(twice, None, "transfer {token} stands twice in account {account}");
            let transfer = history.transfers.get(token).expect("only what was sent is there");
            assert!(transfer.concerns(*account), "transfer {token} is in account {account}");
            let failed = transfer.done.is_none() && transfer.open == 0;
            assert!(!failed, "transfer {token} was reported as failed, and took place");
        }
    }
    nothing_between(history, &ledgers, &places);
    one_order(&ledgers);
    let known = known_since(history);
    for reading in &history.readings {
        whole(history, reading);
        timely(history, reading, &places, &known);
    }
    one_after_another(history);
}

impl Transfer {
    fn concerns(&self, account: usize) -> bool {
        account == self.from || account == self.to
    }

    /// What it adds to an account.
    fn adds(&self, account: usize) -> i64 {
        if account == self.to { self.amount } else { -self.amount }
    }
}

/// Each ledger as long as it ever was: whatever was read is the beginning of that.
fn ledgers(history: &Inner) -> BTreeMap<usize, Vec<Token>> {
    let mut ledgers: BTreeMap<usize, Vec<Token>> = BTreeMap::new();
    for (account, found) in history.readings.iter().flat_map(|seen| &seen.what.accounts) {
        let longest = ledgers.entry(*account).or_default();
        if found.ledger.len() > longest.len() {
            longest.clone_from(&found.ledger);
        }
    }
    for (account, found) in history.readings.iter().flat_map(|seen| &seen.what.accounts) {
        let (whole, was) = (&ledgers[account], &found.ledger);
        assert!(whole.starts_with(was), "account {account} is {whole:?}, and was {was:?}");
    }
    ledgers
}

/// What was to take place only if nothing had come to its ledgers since they were read did so.
fn nothing_between(history: &Inner, ledgers: &BTreeMap<usize, Vec<Token>>, places: &Places) {
    for (token, transfer) in &history.transfers {
        let Some(after) = transfer.after else { continue };
        for (account, after) in [transfer.from, transfer.to].into_iter().zip(after) {
            let Some(at) = places.get(&(account, *token)) else { continue };
            let before = if *at == 0 { 0 } else { ledgers[&account][at - 1] };
            assert_eq!(
                before, after,
                "transfer {token} was to follow {after} in account {account}, and follows {before}"
            );
        }
    }
}

/// There is an order of all transfers that every ledger keeps.
fn one_order(ledgers: &BTreeMap<usize, Vec<Token>>) {
    let mut waits: BTreeMap<Token, usize> = BTreeMap::new();
    let mut then: BTreeMap<Token, Vec<Token>> = BTreeMap::new();
    for ledger in ledgers.values() {
        for token in ledger {
            waits.entry(*token).or_default();
        }
        for pair in ledger.windows(2) {
            then.entry(pair[0]).or_default().push(pair[1]);
            *waits.entry(pair[1]).or_default() += 1;
        }
    }
    let mut free: Vec<Token> = waits.iter().filter(|(_, n)| **n == 0).map(|(t, _)| *t).collect();
    let mut taken = 0;
    while let Some(token) = free.pop() {
        taken += 1;
        for next in then.remove(&token).unwrap_or_default() {
            let left = waits.get_mut(&next).unwrap();
            *left -= 1;
            if *left == 0 {
                free.push(next);
            }
        }
    }
    assert_eq!(taken, waits.len(), "no order of the transfers explains the ledgers: {ledgers:?}");
}

/// Since when somebody has known of a transfer, answered or seen in either of its accounts.
fn known_since(history: &Inner) -> BTreeMap<Token, u64> {
    let done = history.transfers.iter().filter_map(|(token, t)| Some((*token, t.done?)));
    let mut known: BTreeMap<Token, u64> = done.collect();
    for seen in &history.readings {
        for token in seen.what.accounts.values().flat_map(|account| &account.ledger) {
            let first = known.entry(*token).or_insert(seen.done);
            *first = (*first).min(seen.done);
        }
    }
    known
}

/// A reading has each transfer in both accounts or in neither, and the balances that follow.
fn whole(history: &Inner, seen: &Seen<Reading>) {
    let accounts = &seen.what.accounts;
    for (account, found) in accounts {
        let has: BTreeSet<Token> = found.ledger.iter().copied().collect();
        let sum = |in_notes: bool| -> i64 {
            let parts = has.iter().map(|token| &history.transfers[token]);
            parts.filter(|t| t.in_notes == in_notes).map(|t| t.adds(*account)).sum()
        };
        for (what, balance, sum) in
            [("coins", found.coins, sum(false)), ("notes", found.notes, sum(true))]
        {
            assert!(
                balance.is_none_or(|balance| balance == sum),
                "account {account} has {balance:?} {what}, and its transfers make {sum}: {seen:?}"
            );
        }
        for token in &has {
            let transfer = &history.transfers[token];
            for other in [transfer.from, transfer.to] {
                let half = accounts.get(&other).is_some_and(|o| !o.ledger.contains(token));
                assert!(
                    !half,
                    "transfer {token} is in account {account} and not in {other}: {seen:?}"
                );
            }
        }
    }
    let all = |of: fn(&crate::history::Account) -> Option<i64>| {
        accounts.values().map(of).sum::<Option<i64>>().unwrap_or(0)
    };
    if accounts.len() == crate::bank::ACCOUNTS as usize {
        let total = (all(|account| account.coins), all(|account| account.notes));
        assert_eq!(total, (0, 0), "money has come or gone: {seen:?}");
    }
}

/// A reading has all that was known before it, and nothing that was sent after it.
fn timely(history: &Inner, seen: &Seen<Reading>, places: &Places, known: &BTreeMap<Token, u64>) {
    for (account, found) in &seen.what.accounts {
        let n = found.ledger.len();
        for (token, transfer) in history.transfers.iter().filter(|(_, t)| t.concerns(*account)) {
            let at = places.get(&(*account, *token)).copied().unwrap_or(usize::MAX);
            let before = known.get(token).is_some_and(|since| *since < seen.begun);
            assert!(
                !before || at < n,
                "a reading of account {account} has missed transfer {token}: {seen:?}"
            );
            let behind = transfer.begun > seen.done;
            assert!(!behind || at >= n, "a reading has foreseen transfer {token}");
        }
    }
}

/// Of two readings of all accounts, each at one moment, one was before the other.
fn one_after_another(history: &Inner) {
    let is_whole = |seen: &&Seen<Reading>| {
        seen.what.moment == Moment::One
            && seen.what.accounts.len() == crate::bank::ACCOUNTS as usize
    };
    let lengths = |seen: &Seen<Reading>| -> Vec<usize> {
        seen.what.accounts.values().map(|account| account.ledger.len()).collect()
    };
    let mut all: Vec<Vec<usize>> = history.readings.iter().filter(is_whole).map(lengths).collect();
    all.sort_by_key(|lengths| lengths.iter().sum::<usize>());
    for pair in all.windows(2) {
        let grew = pair[0].iter().zip(&pair[1]).all(|(before, after)| before <= after);
        assert!(grew, "two readings of all accounts have no order: {pair:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Account;

    fn transfer(from: usize, to: usize) -> Transfer {
        let (amount, in_notes, after) = (5, false, None);
        Transfer { from, to, amount, in_notes, begun: 10, done: Some(20), open: 0, after }
    }

    fn account(ledger: &[Token], coins: i64) -> Account {
        Account { ledger: ledger.to_vec(), coins: Some(coins), notes: Some(0) }
    }

    fn read(begun: u64, accounts: &[(usize, Account)]) -> Seen<Reading> {
        let accounts = accounts.iter().cloned().collect();
        Seen { begun, done: begun + 5, what: Reading { moment: Moment::One, accounts } }
    }

    /// One transfer from account 0 to 1, then one back, and these readings.
    fn is_fine(change: fn(&mut Inner), readings: &[Seen<Reading>]) -> bool {
        let mut history = Inner::default();
        history.transfers.insert(1, transfer(0, 1));
        history.transfers.insert(2, Transfer { begun: 30, done: Some(40), ..transfer(1, 0) });
        history.readings = readings.to_vec();
        change(&mut history);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| audit(&history))).is_ok()
    }

    #[test]
    fn a_bank_that_is_right_is_told_from_one_that_is_not() {
        let none = [(0, account(&[], 0)), (1, account(&[], 0))];
        let one = [(0, account(&[1], -5)), (1, account(&[1], 5))];
        let both = [(0, account(&[1, 2], 0)), (1, account(&[1, 2], 0))];
        let end = read(100, &both);
        assert!(is_fine(|_| {}, &[read(0, &none), read(21, &one), end.clone()]));
        assert!(is_fine(|_| {}, &[read(15, &one), read(35, &both), end.clone()]));
        let bad: [&[Seen<Reading>]; 8] = [
            // One half, though the balances fit; balances that do not.
            &[read(15, &[(0, account(&[1], -5)), (1, account(&[], 0))]), end.clone()],
            &[read(25, &[(0, account(&[1], -5)), (1, account(&[1], 0))]), end.clone()],
            // Late, early, lost, and seen by one and not by the next.
            &[read(25, &none), end.clone()],
            &[read(2, &one), end.clone()],
            &[read(25, &one), read(100, &one)],
            &[read(11, &one), read(17, &none), end.clone()],
            // Twice; in two orders.
            &[read(100, &[(0, account(&[1, 1], -10)), (1, account(&[1], 5))])],
            &[read(100, &[(0, account(&[1, 2], 0)), (1, account(&[2, 1], 0))])],
        ];
        for readings in bad {
            assert!(!is_fine(|_| {}, readings), "{readings:?}");
        }
        let fails = |history: &mut Inner| history.transfers.get_mut(&2).unwrap().done = None;
        assert!(!is_fine(fails, std::slice::from_ref(&end)));
        let follows = |history: &mut Inner| {
            history.transfers.get_mut(&2).unwrap().after = Some([0, 1]);
        };
        assert!(!is_fine(follows, &[end]));
    }
}
