//! Requests that were applied, so that a retry applies once.
//!
//! The last [`REQUESTS_KEPT`] are remembered, in the order in which they were applied; a retry of
//! one that is forgotten is applied again. A refused command is not remembered: it changed
//! nothing, and a retry of it is decided anew.

use crate::catalog::command::Outcome;
use crate::catalog::limits::REQUESTS_KEPT;
use crate::op::kv::RequestId;
use std::collections::{BTreeMap, VecDeque};

/// The requests that are remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Requests {
    by_id: BTreeMap<(u64, u64), Remembered>,
    order: VecDeque<(u64, u64)>,
}

/// What a request was answered with.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Remembered {
    pub(super) revision: u64,
    pub(super) outcome: Outcome,
}

impl Requests {
    /// What this request was answered with, if it was applied.
    pub(super) fn get(&self, id: RequestId) -> Option<&Remembered> {
        self.by_id.get(&(id.client, id.request))
    }

    /// Remembers a request, and forgets the oldest if there are too many.
    pub(super) fn remember(&mut self, id: RequestId, answer: Remembered) {
        let key = (id.client, id.request);
        if self.by_id.insert(key, answer).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REQUESTS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    /// All, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestId, &Remembered)> {
        self.order.iter().filter_map(|key| {
            let id = RequestId { client: key.0, request: key.1 };
            self.by_id.get(key).map(|answer| (id, answer))
        })
    }
}
