//! A map's part in transactions over several shards, for maps that stand in for a shard behind a
//! door. Nothing comes between the steps here: there is no lock.

use arqondb::base::{CfId, Result};
use arqondb::op::route::slot_of;
use arqondb::op::txn::{Holds, Locked, TxnAnswer, TxnCall, TxnCommitted, TxnValue, TxnWrite};
use arqondb::op::{Request, Response};
use bytes::Bytes;

/// A map that stands in for a shard.
pub(crate) trait Double {
    fn read(&mut self, cf: CfId, key: &Bytes) -> Option<Holds>;
    /// Makes a key hold something, as it was elsewhere.
    fn place(&mut self, cf: CfId, key: &Bytes, holds: Option<Holds>);
    /// Sets or removes a key.
    fn write(&mut self, cf: CfId, key: &Bytes, value: Option<TxnValue>);
    fn run(&mut self, request: Request) -> Result<Response>;
}

/// Executes a step.
pub(crate) fn step(map: &mut impl Double, call: TxnCall) -> Result<Response> {
    let answer = match call {
        TxnCall::Prepare { keys, .. } => {
            let locked = keys.into_iter().map(|(cf, key)| {
                let holds = map.read(cf, &key);
                Locked { cf, key, holds }
            });
            TxnAnswer::Prepared(locked.collect())
        }
        TxnCall::Decide { txn, request, locked } => {
            let value = |holds: &Holds| TxnValue {
                value: holds.value.clone(),
                tag: holds.tag,
                expire_at_ms: holds.expire_at_ms,
            };
            for Locked { cf, key, holds } in &locked {
                map.place(*cf, key, holds.clone());
            }
            let answer = map.run(*request);
            let mut writes = Vec::new();
            for Locked { cf, key, holds } in &locked {
                let now = map.read(*cf, key);
                if now != *holds {
                    let becomes = now.as_ref().map(value);
                    writes.push(TxnWrite { cf: *cf, key: key.clone(), becomes });
                }
                map.place(*cf, key, None);
            }
            TxnAnswer::Committed(Box::new(TxnCommitted {
                attempt: txn.attempt,
                answer: Some(answer?),
                slots: locked.iter().map(|locked| slot_of(&locked.key)).collect(),
                writes,
            }))
        }
        TxnCall::Finish { writes, .. } => {
            for TxnWrite { cf, key, becomes } in writes {
                map.write(cf, &key, becomes);
            }
            TxnAnswer::Done
        }
        TxnCall::Resolve { txn, .. } => TxnAnswer::Aborted { through: txn.attempt },
        TxnCall::Forget { .. } => TxnAnswer::Done,
        TxnCall::Stamp { .. } => TxnAnswer::Stamp(0),
        TxnCall::Unfinished { .. } => TxnAnswer::Unfinished(Vec::new()),
    };
    Ok(Response::Txn(Box::new(answer)))
}
