//! The range delete that covers where an iterator stands, asked for once a span and not a key.

use crate::base::Seq;
use crate::lsm::tombstone::RangeDeletes;

/// Dead keys walked over between two attempts to skip some.
const WALKED_BEFORE_SKIP: u32 = 64;

/// Range deletes, and the last answer they gave.
#[derive(Default)]
pub(super) struct Cover {
    range_deletes: RangeDeletes,
    known: bool,
    seq: Option<Seq>,
    /// From where to where the answer holds.
    since: Vec<u8>,
    until: Option<Vec<u8>>,
    walked: u32,
}

impl Cover {
    pub(super) fn new(range_deletes: RangeDeletes) -> Cover {
        Cover { range_deletes, walked: WALKED_BEFORE_SKIP, ..Cover::default() }
    }

    /// The newest delete, not newer than `at`, that covers `key`. REQUIRES: always the same `at`.
    #[inline]
    pub(super) fn over(&mut self, key: &[u8], at: Seq) -> Option<Seq> {
        if self.range_deletes.is_empty() {
            return None;
        }
        let holds = self.known
            && self.since.as_slice() <= key
            && self.until.as_ref().is_none_or(|until| key < until.as_slice());
        if !holds {
            self.ask(key, at);
        }
        self.seq
    }

    fn ask(&mut self, key: &[u8], at: Seq) {
        let span = self.range_deletes.span(key, at);
        self.known = true;
        self.seq = span.seq;
        self.since.clear();
        self.since.extend_from_slice(span.since.unwrap_or(&[]));
        self.until = span.until.map(<[u8]>::to_vec);
        self.walked = WALKED_BEFORE_SKIP;
    }

    /// The bounds of what the last answer covers, if it is worth an attempt to skip it: at the
    /// first dead key of it and, where that could not be skipped, now and then.
    pub(super) fn skip(&mut self) -> Option<(&[u8], &[u8])> {
        if self.walked < WALKED_BEFORE_SKIP {
            self.walked += 1;
            return None;
        }
        self.walked = 0;
        self.until.as_deref().map(|until| (self.since.as_slice(), until))
    }
}
