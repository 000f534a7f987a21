//! What must happen as one. It must lie in one shard: this is the one place that says so, and what
//! a commit over several shards will replace.
//!
//! Refused are writes of several keys (deletes too: half of a DEL must not be seen), transactions,
//! and reads that compute something of several keys. Reads that only list keys are divided
//! instead, see `split`. Keys of several slots in one shard are fine.

use crate::base::{Error, ErrorKind, Result};
use crate::op::{Reply, Request, Response};

/// The most slots that an error names.
const NAMED_MAX: usize = 8;

/// The answer to a request whose keys lie in several shards, in the words of its protocol.
pub(super) fn refusal(request: &Request, slots: &[u16]) -> Result<Response> {
    match request {
        Request::Redis(_) | Request::RedisTransaction { .. } | Request::Watch { .. } => {
            Ok(Response::Redis(Reply::Error(format!(
                "CROSSSLOT Keys in request don't hash to the same slot (slots {})",
                named(slots)
            ))))
        }
        _ => Err(torn(slots)),
    }
}

/// The error of a write whose keys lie in several shards.
pub(super) fn torn(slots: &[u16]) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "the keys lie in several shards (slots {}), over which a write cannot be atomic yet: \
             give them one {{hash tag}}, or write shard by shard",
            named(slots)
        ),
    )
}

fn named(slots: &[u16]) -> String {
    let mut named: Vec<String> = slots.iter().take(NAMED_MAX).map(u16::to_string).collect();
    if slots.len() > NAMED_MAX {
        named.push("...".to_string());
    }
    named.join(", ")
}

/// The answer to a transaction that reaches into every shard.
pub(super) fn refusal_of_every_shard() -> Result<Response> {
    Ok(Response::Redis(Reply::Error(
        "CROSSSLOT A command of the transaction reaches into every shard: execute it outside of \
         MULTI"
            .to_string(),
    )))
}
