//! What nobody has come back to: old locks and debts, for whoever sweeps.

use crate::base::Result;
use crate::op::route::slot_in;
use crate::op::txn::{TxnAnswer, TxnUnfinished};
use crate::shard::shard::{Answer, Shard};
use crate::shard::transaction::Transaction;
use crate::shard::two_phase::{answer, state};
use std::collections::HashSet;
use std::sync::Arc;

/// The most locks and debts that one question looks at.
const LOOKS_MAX: usize = 10_000;

/// Transactions that have stood here for so long. Waits for nothing that is placed: what is old has
/// long been applied, and one whose end is under way comes to no harm by being told twice.
pub(super) fn list(shard: &Arc<Shard>, age_ms: u64, max: u32, now_ms: u64) -> Result<Answer> {
    let mut reads = Transaction::new(shard, now_ms);
    let old = |since_ms: u64| since_ms.saturating_add(age_ms) <= now_ms;
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for key in shard.locks.some_locks(LOOKS_MAX) {
        let Some(value) = shard.txn_record(&key)? else { continue };
        let txn = state::read_lock(&value)?;
        if all.len() >= max as usize || !seen.insert(txn.id) {
            continue;
        }
        let stake = state::stake(&mut reads, txn.id)?;
        let Some((since_ms, keys)) = stake.and_then(|stake| stake.locked) else { continue };
        if old(since_ms) {
            let mut slots: Vec<u16> = keys.iter().map(|(cf, key)| slot_in(*cf, key)).collect();
            slots.sort_unstable();
            slots.dedup();
            all.push(TxnUnfinished { txn, slots, is_home: false });
        }
    }
    // A split has left the other half a copy of each: the home's alone is told what became of it.
    let part = shard.engine().part();
    for key in shard.locks.some_debts(LOOKS_MAX) {
        if all.len() >= max as usize {
            break;
        }
        let Some(value) = shard.txn_record(&key)? else { continue };
        let debt = state::read_debt(&value)?;
        let is_home = part.is_none_or(|part| part.slots.contains(debt.txn.home));
        if is_home && old(debt.since_ms) {
            all.push(TxnUnfinished { txn: debt.txn, slots: debt.slots, is_home: true });
        }
    }
    answer(TxnAnswer::Unfinished(all), reads.rests_on())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::CfId;
    use crate::env::{Pool, SimDisk};
    use crate::lsm::{BlockCache, Engine, EngineOptions};
    use crate::op::kv::{Expiry, Write};
    use crate::op::txn::TxnCall;
    use crate::op::{Request, Response};
    use crate::shard::{Log, Placed, ShardOptions};
    use bytes::Bytes;
    use std::time::Duration;

    /// A log that takes everything and commits nothing: no majority can be reached.
    struct Alone;

    impl Log for Alone {
        fn place(&self, _: &[u8]) -> Result<Placed> {
            Ok(Placed::Pending(None))
        }

        fn drive(&self, _: &Arc<Shard>) {}
    }

    #[test]
    fn a_sweep_does_not_wait_for_a_majority() {
        let disk = SimDisk::new();
        let options = EngineOptions { background: false, ..EngineOptions::new("/shard") };
        let cache = BlockCache::new(1 << 20);
        let engine = Engine::open(disk.shared(), Pool::manual(), cache, options).unwrap();
        let settings = ShardOptions { count_keys: false, seed: 1, ..ShardOptions::default() };
        let shard = Shard::new(engine, Box::new(Alone), settings);
        shard.start().unwrap();
        let put = Write::Put {
            cf: CfId::DEFAULT,
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            expiry: Expiry::Never,
        };
        shard.execute(Request::Write { writes: vec![put], id: None }, 1).unwrap();
        assert!(shard.has_pending());
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let ask = TxnCall::Unfinished { age_ms: 0, max: 10 };
            _ = send.send(shard.execute(Request::Txn(Box::new(ask)), 1));
        });
        let answer = receive.recv_timeout(Duration::from_secs(60)).expect("it waits").unwrap();
        let none = Response::Txn(Box::new(TxnAnswer::Unfinished(Vec::new())));
        assert_eq!(answer.response, none);
    }
}
