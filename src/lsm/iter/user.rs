//! What a caller sees of a tree: one entry a key, at one sequence number and one time.
//!
//! Going forward, the records of a key come newest first: the first one visible decides, and
//! the rest are passed over. Going back they come oldest first: all are read and the last one
//! visible decides. Either way the cursor below then stands just outside the key, so that a turn
//! is one seek.

use crate::base::{Error, ErrorKind, Result, Seq};
use crate::lsm::cursor::Cursor;
use crate::lsm::dead::{self, DeadSpan, DeadSpans};
use crate::lsm::iter::MergingCursor;
use crate::lsm::iter::cover::Cover;
use crate::lsm::key::{Kind, Meta, parse, put_internal, split_value, user_key};
use crate::lsm::merge;
use crate::lsm::options::IterOptions;
use crate::lsm::tombstone::RangeDeletes;
use crate::op::kv::MergeOp;
use std::ops::Bound;
use std::sync::Arc;

/// Old versions stepped over one by one before a seek takes over.
const STEPS_BEFORE_SEEK: usize = 8;

/// Walks the live entries of a family.
///
/// It starts invalid; after an error it is invalid until the next seek. It keeps the files and
/// memtables it reads alive, so a long-lived iterator holds back disk space.
pub struct Iter {
    cursor: MergingCursor,
    cover: Cover,
    spans: Option<Arc<Vec<DeadSpan>>>,
    /// Newer spans are left aside.
    spans_at: Seq,
    /// Told where many dead keys lie.
    dead: Option<Arc<DeadSpans>>,
    /// Dead keys walked over in a row, and the first of them.
    dead_run: u64,
    dead_from: Vec<u8>,
    /// The walk ends at so many.
    patience: u64,
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    at: Seq,
    now_ms: u64,
    keys_only: bool,
    forward: bool,
    /// Whether the entry is `key`... and, where `value_here`, its value that of the cursor.
    valid: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Length of what stands before the value in the cursor's record, if the value is there.
    value_here: Option<usize>,
    seq: Seq,
    meta: Meta,
    seek_key: Vec<u8>,
}

impl Iter {
    /// An iterator over `cursor` at sequence number `at`. `keep` is what must outlive it.
    pub(crate) fn new(
        cursor: MergingCursor,
        range_deletes: RangeDeletes,
        options: IterOptions,
        at: Seq,
    ) -> Iter {
        let (lower, upper) = bounds(options.lower, options.upper, &options.prefix);
        Iter {
            cursor,
            cover: Cover::new(range_deletes),
            spans: None,
            spans_at: at,
            dead: None,
            dead_run: 0,
            dead_from: Vec::new(),
            patience: u64::MAX,
            lower,
            upper,
            at,
            now_ms: options.now_ms,
            keys_only: options.keys_only,
            forward: true,
            valid: false,
            key: Vec::new(),
            value: Vec::new(),
            value_here: None,
            seq: Seq(0),
            meta: Meta::default(),
            seek_key: Vec::new(),
        }
    }

    /// Has it pass over dead spans not newer than `spans_at`, which its sources must know in full,
    /// and tell where there should be one. REQUIRES: its sequence number was taken before this.
    pub(crate) fn with_dead_spans(mut self, dead: &Arc<DeadSpans>, spans_at: Seq) -> Iter {
        self.spans_at = spans_at;
        self.spans = dead.spans();
        self.dead = Some(dead.clone());
        self
    }

    /// Ends a walk forward at the `patience`-th dead key in a row.
    pub(crate) fn with_patience(mut self, patience: u64) -> Iter {
        self.patience = patience;
        self.dead = None;
        self
    }

    /// After a walk forward: the key up to which, and without which, all were dead; `None` for the
    /// end.
    pub(crate) fn dead_end(&self) -> Option<&[u8]> {
        (self.valid || self.dead_run >= self.patience).then_some(&self.key)
    }

    /// Whether the iterator stands on an entry.
    pub fn valid(&self) -> bool {
        self.valid
    }

    /// The key. REQUIRES: valid.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value, merges folded. REQUIRES: valid.
    pub fn value(&self) -> &[u8] {
        match self.value_here {
            Some(header) => self.cursor.value().get(header..).unwrap_or(&[]),
            None => &self.value,
        }
    }

    /// Sequence number of the newest record behind the entry. REQUIRES: valid.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// What stands beside the value. REQUIRES: valid.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// The sequence number the iterator reads at.
    pub fn at(&self) -> Seq {
        self.at
    }

    /// Goes to the first entry within the bounds.
    pub fn first(&mut self) -> Result<()> {
        match self.lower.clone() {
            Bound::Unbounded => {
                self.begin(true);
                self.cursor.first()?;
            }
            Bound::Included(key) => self.seek_before(&key)?,
            Bound::Excluded(key) => self.seek_behind(&key)?,
        }
        self.find_forward()
    }

    /// Goes to the last entry within the bounds.
    pub fn last(&mut self) -> Result<()> {
        match self.upper.clone() {
            Bound::Unbounded => {
                self.begin(false);
                self.cursor.last()?;
            }
            Bound::Included(key) => self.seek_back_from_behind(&key)?,
            Bound::Excluded(key) => self.seek_back_from_before(&key)?,
        }
        self.find_back()
    }

    /// Goes to the first entry within the bounds whose key is not below `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        if self.is_below(key) {
            return self.first();
        }
        self.seek_before(key)?;
        self.find_forward()
    }

    /// Goes to the last entry within the bounds whose key is not above `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        if self.is_above(key) {
            return self.last();
        }
        self.seek_back_from_behind(key)?;
        self.find_back()
    }

    /// Goes to the next entry. REQUIRES: valid.
    #[expect(clippy::should_implement_trait, reason = "a cursor lends, an Iterator cannot")]
    pub fn next(&mut self) -> Result<()> {
        if !self.forward {
            let key = std::mem::take(&mut self.key);
            self.seek_behind(&key)?;
        } else {
            self.valid = false;
            self.pass_forward()?;
        }
        self.find_forward()
    }

    /// Goes to the previous entry. REQUIRES: valid.
    pub fn prev(&mut self) -> Result<()> {
        if self.forward {
            let key = std::mem::take(&mut self.key);
            self.seek_back_from_before(&key)?;
        }
        self.valid = false;
        self.find_back()
    }

    fn begin(&mut self, forward: bool) {
        self.forward = forward;
        self.valid = false;
        self.value_here = None;
        self.dead_run = 0;
    }

    /// Places the cursor at the first record of `key` or behind.
    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.begin(true);
        self.set_seek_key(key, self.at, Kind::MAX);
        self.cursor.seek(&self.seek_key)
    }

    /// Places the cursor at the first record behind all of `key`.
    fn seek_behind(&mut self, key: &[u8]) -> Result<()> {
        self.begin(true);
        self.set_seek_key(key, Seq(0), Kind::Delete);
        self.cursor.seek(&self.seek_key)?;
        while self.cursor.valid() && user_key(self.cursor.key()) == key {
            self.cursor.next()?;
        }
        Ok(())
    }

    /// Places the cursor at the last record of `key` or before.
    fn seek_back_from_behind(&mut self, key: &[u8]) -> Result<()> {
        self.begin(false);
        self.set_seek_key(key, Seq(0), Kind::Delete);
        self.cursor.seek_for_prev(&self.seek_key)
    }

    /// Places the cursor at the last record before all of `key`.
    fn seek_back_from_before(&mut self, key: &[u8]) -> Result<()> {
        self.begin(false);
        self.set_seek_key(key, Seq::MAX, Kind::MAX);
        self.cursor.seek_for_prev(&self.seek_key)?;
        while self.cursor.valid() && user_key(self.cursor.key()) == key {
            self.cursor.prev()?;
        }
        Ok(())
    }

    fn set_seek_key(&mut self, key: &[u8], seq: Seq, kind: Kind) {
        self.seek_key.clear();
        put_internal(&mut self.seek_key, key, seq, kind);
    }

    fn is_below(&self, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Unbounded => false,
            Bound::Included(lower) => key < lower.as_slice(),
            Bound::Excluded(lower) => key <= lower.as_slice(),
        }
    }

    fn is_above(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Unbounded => false,
            Bound::Included(upper) => key > upper.as_slice(),
            Bound::Excluded(upper) => key >= upper.as_slice(),
        }
    }

    /// Moves behind the records of `self.key`. REQUIRES: the cursor is at one of them or behind.
    #[inline]
    fn pass_forward(&mut self) -> Result<()> {
        if self.value_here.take().is_some() {
            // The cursor stands on the record that the value is in.
            self.cursor.next()?;
        }
        for _ in 0..STEPS_BEFORE_SEEK {
            if !self.cursor.valid() || user_key(self.cursor.key()) != self.key {
                return Ok(());
            }
            self.cursor.next()?;
        }
        if self.cursor.valid() && user_key(self.cursor.key()) == self.key {
            let key = std::mem::take(&mut self.key);
            self.seek_behind(&key)?;
            self.key = key;
        }
        Ok(())
    }

    /// From where the cursor stands, goes to the first live entry.
    fn find_forward(&mut self) -> Result<()> {
        while self.cursor.valid() {
            let Some(record) = parse(self.cursor.key()) else {
                return Err(malformed("an internal key"));
            };
            if self.is_above(record.user_key) {
                return Ok(());
            }
            if record.seq > self.at {
                self.skip_newer()?;
                continue;
            }
            self.key.clear();
            self.key.extend_from_slice(record.user_key);
            self.seq = record.seq;
            let kind = record.kind;
            let covered = self.cover.over(&self.key, self.at);
            let live = match kind {
                _ if covered.is_some_and(|c| self.seq < c) => {
                    if let (Some((_, until)), Some(seq)) = (self.cover.skip(), covered) {
                        self.cursor.skip_older(until, seq)?;
                        continue;
                    }
                    false
                }
                Kind::Put | Kind::PutMeta => self.take_value_here(kind)?,
                Kind::Merge => self.fold_forward(covered)?,
                Kind::Delete | Kind::RangeDelete => false,
            };
            if live {
                self.valid = true;
                self.dead_run = 0;
                return Ok(());
            }
            self.pass_dead()?;
            if self.dead_run >= self.patience {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Moves behind `self.key`, which is dead, and as far as is known to be dead as well.
    fn pass_dead(&mut self) -> Result<()> {
        if self.dead_run == 0 {
            self.dead_from.clone_from(&self.key);
        }
        self.dead_run += 1;
        if let Some(dead) = &self.dead
            && self.dead_run == dead.hint_after()
        {
            dead.hint(&self.dead_from);
        }
        let span =
            self.spans.as_ref().and_then(|spans| dead::find(spans, &self.key, self.spans_at));
        match span.map(|span| span.end.clone()) {
            None => self.pass_forward(),
            Some(Some(end)) => self.seek_before(&end),
            Some(None) => {
                self.begin(true);
                self.cursor.leave();
                Ok(())
            }
        }
    }

    /// Moves past records of the current key that are newer than the iterator.
    fn skip_newer(&mut self) -> Result<()> {
        let key = user_key(self.cursor.key()).to_vec();
        for _ in 0..STEPS_BEFORE_SEEK {
            self.cursor.next()?;
            let newer = |k: &[u8]| parse(k).is_some_and(|r| r.user_key == key && r.seq > self.at);
            if !self.cursor.valid() || !newer(self.cursor.key()) {
                return Ok(());
            }
        }
        self.set_seek_key(&key, self.at, Kind::MAX);
        self.cursor.seek(&self.seek_key)
    }

    /// Takes the value under the cursor without a copy; false if it has expired.
    fn take_value_here(&mut self, kind: Kind) -> Result<bool> {
        let stored = self.cursor.value();
        let (meta, value) = split_value(kind, stored).ok_or_else(|| malformed("a value"))?;
        self.meta = meta;
        self.value_here =
            Some(if self.keys_only { stored.len() } else { stored.len() - value.len() });
        Ok(!self.is_expired(meta))
    }

    fn is_expired(&self, meta: Meta) -> bool {
        self.now_ms != 0 && meta.is_expired(self.now_ms)
    }

    /// Reads the operands of `self.key` from the cursor on, and their base.
    fn fold_forward(&mut self, covered: Option<Seq>) -> Result<bool> {
        let mut operands: Vec<(MergeOp, Vec<u8>)> = Vec::new();
        let mut base: Option<(Meta, Vec<u8>)> = None;
        while self.cursor.valid() {
            let record = parse(self.cursor.key()).ok_or_else(|| malformed("an internal key"))?;
            if record.user_key != self.key || covered.is_some_and(|c| record.seq < c) {
                break;
            }
            let kind = record.kind;
            match kind {
                Kind::Merge => {
                    let stored = self.cursor.value();
                    let (op, operand) = merge::split(stored).ok_or_else(|| malformed("a merge"))?;
                    operands.push((op, operand.to_vec()));
                }
                Kind::Put | Kind::PutMeta => {
                    let split = split_value(kind, self.cursor.value());
                    let (meta, value) = split.ok_or_else(|| malformed("a value"))?;
                    base = Some((meta, value.to_vec()));
                    break;
                }
                Kind::Delete | Kind::RangeDelete => break,
            }
            self.cursor.next()?;
        }
        let operands = operands.iter().rev().map(|(op, operand)| (*op, operand.as_slice()));
        Ok(self.set_folded(base, operands))
    }

    fn set_folded<'a>(
        &mut self,
        base: Option<(Meta, Vec<u8>)>,
        oldest_first: impl Iterator<Item = (MergeOp, &'a [u8])>,
    ) -> bool {
        self.value_here = None;
        self.meta = base.as_ref().map(|b| b.0).unwrap_or_default();
        self.value.clear();
        if !self.keys_only {
            self.value = merge::fold(base.as_ref().map(|b| b.1.as_slice()), oldest_first);
        }
        !self.is_expired(self.meta)
    }

    /// From where the cursor stands, goes back to the first live entry.
    fn find_back(&mut self) -> Result<()> {
        let mut walked = 0;
        while self.cursor.valid() {
            self.key.clear();
            self.key.extend_from_slice(user_key(self.cursor.key()));
            if self.is_below(&self.key) {
                return Ok(());
            }
            let covered = self.cover.over(&self.key, self.at);
            let oldest = parse(self.cursor.key()).map(|record| record.seq);
            if covered.is_some_and(|c| oldest.is_some_and(|seq| seq < c))
                && let (Some((since, _)), Some(seq)) = (self.cover.skip(), covered)
            {
                self.cursor.skip_older_back(since, seq)?;
                continue;
            }
            if self.fold_back(covered)? {
                self.valid = true;
                self.tell_back(walked);
                return Ok(());
            }
            walked += 1;
            let span =
                self.spans.as_ref().and_then(|spans| dead::find(spans, &self.key, self.spans_at));
            if let Some(start) = span.map(|span| span.start.clone()) {
                self.seek_back_from_before(&start)?;
            }
        }
        self.tell_back(walked);
        Ok(())
    }

    /// Tells of many dead keys that a walk back met before it came to `self.key`, or to the start.
    fn tell_back(&self, walked: u64) {
        if let Some(dead) = &self.dead
            && walked >= dead.hint_after()
        {
            let mut behind = self.key.clone();
            behind.push(0);
            dead.hint(if self.valid { &behind } else { &[] });
        }
    }

    /// Reads all records of `self.key`, oldest first, and stops before them.
    fn fold_back(&mut self, covered: Option<Seq>) -> Result<bool> {
        let mut base: Option<(Meta, Vec<u8>)> = None;
        let mut operands: Vec<(MergeOp, Vec<u8>)> = Vec::new();
        let mut present = false;
        while self.cursor.valid() {
            let record = parse(self.cursor.key()).ok_or_else(|| malformed("an internal key"))?;
            if record.user_key != self.key {
                break;
            }
            let (seq, kind) = (record.seq, record.kind);
            if seq <= self.at && covered.is_none_or(|c| seq >= c) {
                self.seq = seq;
                let stored = self.cursor.value();
                if kind == Kind::Merge {
                    let (op, operand) = merge::split(stored).ok_or_else(|| malformed("a merge"))?;
                    operands.push((op, operand.to_vec()));
                    present = true;
                } else {
                    operands.clear();
                    let split = split_value(kind, stored);
                    base = split.map(|(meta, value)| (meta, value.to_vec()));
                    present = base.is_some();
                }
            }
            self.cursor.prev()?;
        }
        let operands = operands.iter().map(|(op, operand)| (*op, operand.as_slice()));
        Ok(present && self.set_folded(base, operands))
    }
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("valid", &self.valid).field("at", &self.at).finish()
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Corruption, format!("{what} in an sstable is malformed"))
}

/// The least bounds that a prefix and given bounds leave.
fn bounds(
    lower: Bound<Vec<u8>>,
    upper: Bound<Vec<u8>>,
    prefix: &[u8],
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    if prefix.is_empty() {
        return (lower, upper);
    }
    let inside = |bound: &Bound<Vec<u8>>| match bound {
        Bound::Unbounded => false,
        Bound::Included(key) | Bound::Excluded(key) => key.as_slice() >= prefix,
    };
    let lower = if inside(&lower) { lower } else { Bound::Included(prefix.to_vec()) };
    let Some(end) = prefix_end(prefix) else {
        return (lower, upper);
    };
    let upper = match upper {
        Bound::Included(key) if key < end => Bound::Included(key),
        Bound::Excluded(key) if key < end => Bound::Excluded(key),
        _ => Bound::Excluded(end),
    };
    (lower, upper)
}

/// The first key behind all that begin with `prefix`; `None` if there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}
