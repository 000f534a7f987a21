//! Transfers between accounts, which lie in several shards, and readings of the accounts.
//!
//! An account is three keys: a ledger, which has the token of every transfer that the account has a
//! part in; coins, to which batches add; notes, to which Redis transactions add. Ledgers tell which
//! transfers a reader has seen, each in both its accounts or in neither.

use crate::clients::{Client, fate_of};
use crate::history::{Account, Fate, Moment, Reading, Seen, Token, Transfer};
use arqondb::base::CfId;
use arqondb::op::kv::{MergeOp, RedisCall, RequestId, Scan, Watched, Write};
use arqondb::op::{KvOps, Reply, Request, Response, command};
use bytes::Bytes;
use std::collections::BTreeMap;

pub(crate) const ACCOUNTS: u64 = 5;
const PREFIX: &str = "{account-";
/// Repeatable transfers that others may send once more.
const KNOWN_MAX: usize = 8;

fn key(account: usize, of: &str) -> Bytes {
    Bytes::from(format!("{PREFIX}{account}}}-{of}"))
}

fn call(args: Vec<Bytes>) -> RedisCall {
    RedisCall { spec: command::lookup(&args).unwrap(), args }
}

fn mget(keys: Vec<Bytes>) -> Request {
    let args = std::iter::once(Bytes::from_static(b"MGET")).chain(keys).collect();
    Request::Redis(call(args))
}

/// The tokens of a ledger.
fn tokens(value: &[u8]) -> Vec<Token> {
    let text = std::str::from_utf8(value).unwrap();
    text.split_terminator(';').map(|token| token.parse().unwrap()).collect()
}

impl Account {
    /// Takes over the value of one of its keys.
    fn take(&mut self, of: &str, value: &[u8]) {
        match of {
            "ledger" => self.ledger = tokens(value),
            "coins" => self.coins = Some(i64::from_le_bytes(value.try_into().unwrap())),
            "notes" => self.notes = Some(std::str::from_utf8(value).unwrap().parse().unwrap()),
            other => panic!("an account has no {other}"),
        }
    }
}

/// The accounts of some keys and values.
fn accounts<'a>(rows: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> BTreeMap<usize, Account> {
    let none = || Account { ledger: Vec::new(), coins: Some(0), notes: Some(0) };
    let mut all: BTreeMap<usize, Account> = (0..ACCOUNTS as usize).map(|n| (n, none())).collect();
    for (key, value) in rows {
        let key = std::str::from_utf8(key).unwrap();
        let (account, of) = key.strip_prefix(PREFIX).unwrap().split_once("}-").unwrap();
        all.get_mut(&account.parse().unwrap()).unwrap().take(of, value);
    }
    all
}

impl Client {
    /// Something with accounts.
    pub(crate) async fn bank(&mut self) {
        match self.rng.below(20) {
            0..8 => self.transfer_coins().await,
            8..12 => self.transfer_notes().await,
            12..16 => _ = self.read_accounts().await,
            16..18 => self.list_accounts().await,
            _ => self.read_ledgers().await,
        }
    }

    fn draw_transfer(&mut self, in_notes: bool) -> (Token, Transfer) {
        let from = self.rng.below(ACCOUNTS);
        let to = (from + 1 + self.rng.below(ACCOUNTS - 1)) % ACCOUNTS;
        let transfer = Transfer {
            from: from as usize,
            to: to as usize,
            amount: 1 + self.rng.below(100) as i64,
            in_notes,
            begun: self.local.now(),
            done: None,
            open: 0,
            after: None,
        };
        (self.history.token(), transfer)
    }

    /// A transfer is sent; gives it as it was first.
    fn send_transfer(&self, token: Token, transfer: Transfer) -> Transfer {
        let mut inner = self.history.inner();
        inner.requests += 1;
        let known = inner.transfers.entry(token).or_insert(transfer);
        known.open += 1;
        *known
    }

    fn end_transfer(&self, token: Token, fate: Fate) {
        let mut inner = self.history.inner();
        inner.tell(fate);
        let Some(transfer) = inner.transfers.get_mut(&token) else { return };
        match fate {
            Fate::Open => {}
            Fate::Failed => transfer.open -= 1,
            Fate::Done(now) => {
                transfer.open -= 1;
                transfer.done.get_or_insert(now);
            }
        }
    }

    /// A batch of writes: with a request id that others may send too, or with none.
    async fn transfer_coins(&mut self) {
        let known = self.history.inner().repeatable_transfers(self.local.now());
        let (id, token, transfer) = match known.len() {
            n if n > 0 && self.rng.one_in(4) => {
                let (id, token) = known[self.rng.below(n as u64) as usize];
                let transfer = self.history.inner().transfers[&token];
                (Some(id), token, transfer)
            }
            _ => {
                let (token, transfer) = self.draw_transfer(false);
                let id: Option<RequestId> = (!self.rng.one_in(4)).then(|| self.id());
                let mut inner = self.history.inner();
                inner.known_transfers.extend(id.map(|id| (id, token)));
                if inner.known_transfers.len() > KNOWN_MAX {
                    let gone = self.rng.below(KNOWN_MAX as u64) as usize;
                    inner.known_transfers.remove(gone);
                }
                (id, token, transfer)
            }
        };
        let Transfer { from, to, amount, .. } = self.send_transfer(token, transfer);
        let merge = |key, operand, op| Write::Merge { cf: CfId::DEFAULT, key, operand, op };
        let mut writes = Vec::new();
        for (account, amount) in [(from, -amount), (to, amount)] {
            let entry = Bytes::from(format!("{token};"));
            writes.push(merge(key(account, "ledger"), entry, MergeOp::Append));
            let coins = Bytes::copy_from_slice(&amount.to_le_bytes());
            writes.push(merge(key(account, "coins"), coins, MergeOp::Add));
        }
        let fate = match self.door.call(Request::Write { writes, id }).await {
            Ok(Response::Committed { .. }) => Fate::Done(self.local.now()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => fate_of(&error),
        };
        self.end_transfer(token, fate);
    }

    /// A Redis transaction, which takes place only if nothing has come to either ledger since both
    /// were read.
    async fn transfer_notes(&mut self) {
        let (token, mut transfer) = self.draw_transfer(true);
        let (from, to) = (transfer.from, transfer.to);
        let ledgers = vec![key(from, "ledger"), key(to, "ledger")];
        let Some(watched) = self.watch(ledgers.clone()).await else { return };
        let begun = self.local.now();
        self.history.inner().requests += 1;
        let values = match self.door.call(mget(ledgers)).await {
            Ok(Response::Redis(Reply::Array(values))) => values,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                fate_of(&error);
                return;
            }
        };
        let found: Vec<Vec<Token>> =
            values.iter().map(|v| bulk(v).map_or(vec![], tokens)).collect();
        let last = |at: usize| found[at].last().copied().unwrap_or(0);
        transfer.after = Some([last(0), last(1)]);
        let ledger = |ledger: &Vec<Token>| Account { ledger: ledger.clone(), ..Account::default() };
        let both = BTreeMap::from([(from, ledger(&found[0])), (to, ledger(&found[1]))]);
        self.note_reading(begun, Moment::One, both);
        let mut calls = Vec::new();
        for (account, amount) in [(from, -transfer.amount), (to, transfer.amount)] {
            let (entry, amount) = (format!("{token};"), amount.to_string());
            let append = ["APPEND".into(), key(account, "ledger"), entry.into()];
            let add = ["INCRBY".into(), key(account, "notes"), amount.into()];
            calls.extend([call(append.into()), call(add.into())]);
        }
        self.send_transfer(token, transfer);
        let request = Request::RedisTransaction { watched, calls, reply_bytes_max: 1 << 20 };
        let fate = match self.door.call(request).await {
            Ok(Response::Redis(Reply::Array(_))) => Fate::Done(self.local.now()),
            Ok(Response::Redis(Reply::NilArray)) => Fate::Failed,
            Ok(other) => panic!("{other:?}"),
            Err(error) => fate_of(&error),
        };
        self.end_transfer(token, fate);
    }

    async fn watch(&mut self, keys: Vec<Bytes>) -> Option<Vec<Watched>> {
        self.history.inner().requests += 1;
        match self.door.call(Request::Watch { keys }).await {
            Ok(Response::Watched(watched)) => Some(watched),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                fate_of(&error);
                None
            }
        }
    }

    fn note_reading(&self, begun: u64, moment: Moment, accounts: BTreeMap<usize, Account>) {
        let what = Reading { moment, accounts };
        self.history.inner().readings.push(Seen { begun, done: self.local.now(), what });
    }

    /// Reads all accounts at one moment; says whether it could.
    pub(crate) async fn read_accounts(&mut self) -> bool {
        let begun = self.local.now();
        self.history.inner().requests += 1;
        let mut keys = Vec::new();
        for account in 0..ACCOUNTS as usize {
            keys.extend(["ledger", "coins", "notes"].map(|of| key(account, of)));
        }
        match self.door.call(mget(keys.clone())).await {
            Ok(Response::Redis(Reply::Array(values))) => {
                let rows = keys.iter().zip(&values);
                let found = accounts(rows.filter_map(|(key, v)| Some((&key[..], bulk(v)?))));
                self.note_reading(begun, Moment::One, found);
                true
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                fate_of(&error);
                false
            }
        }
    }

    /// Reads all accounts by a scan, which sees each shard at a moment of its own, but no transfer
    /// in a part.
    async fn list_accounts(&mut self) {
        let begun = self.local.now();
        self.history.inner().requests += 1;
        let scan = Scan { prefix: Bytes::from_static(PREFIX.as_bytes()), ..Scan::default() };
        match self.door.call(Request::Scan(scan)).await {
            Ok(Response::Page { entries, next }) => {
                assert!(next.is_empty(), "a page has not held all accounts");
                let found = accounts(entries.iter().map(|e| (&e.key[..], &e.value[..])));
                self.note_reading(begun, Moment::Many, found);
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => _ = fate_of(&error),
        }
    }

    /// Reads two ledgers in one pipeline, each for itself.
    async fn read_ledgers(&mut self) {
        let begun = self.local.now();
        let mut asked = Vec::new();
        for _ in 0..2 {
            asked.push(self.rng.below(ACCOUNTS) as usize);
        }
        self.history.inner().requests += 2;
        let get =
            |account: &usize| Request::Get { cf: CfId::DEFAULT, key: key(*account, "ledger") };
        let answers = self.door.pipeline(asked.iter().map(get).collect()).await;
        for (account, answer) in asked.into_iter().zip(answers) {
            match answer {
                Ok(Response::Entry(entry)) => {
                    let ledger = entry.map_or(Vec::new(), |entry| tokens(&entry.value));
                    let found = Account { ledger, ..Account::default() };
                    self.note_reading(begun, Moment::One, BTreeMap::from([(account, found)]));
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => _ = fate_of(&error),
            }
        }
    }
}

fn bulk(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Bulk(bytes) => Some(bytes),
        Reply::Nil => None,
        other => panic!("not a value: {other:?}"),
    }
}
