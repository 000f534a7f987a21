//! Spans of keys of which none is live, so that a walk need not look at what was deleted there.
//!
//! A walk over deleted keys meets for each a tombstone and what it hides, until compaction has
//! removed both. A *dead span* says once for all of them that nothing from `start` up to `end` is
//! live for a reader at `seq` or later. It is a fact that was found out, never an order: it is in
//! memory only, and losing it costs nothing but time.
//!
//! How it is found out: the writer, under the lock that orders writes, sees many deletes without
//! a write between them, and names their first key the *suspect*. From then on it notes every key
//! behind that which a write makes live. A background job takes the sequence number that is
//! visible then, walks from the suspect to the first live key, and enters the span, as far as no
//! noted key lies in it. A walk that passes over many dead keys makes a suspect too.
//!
//! How it stays true: a write that may make a key live cuts the span at that key before the write
//! can be seen. A reader takes the spans after its sequence number, so whatever it sees has cut
//! them already; it leaves aside the spans that are newer than itself, or than what was visible
//! before it took the memtables that it reads.

use crate::base::Seq;
use crate::lsm::key::Kind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often over deletes may make a suspect before the writer itself looks: so long a walk is what
/// a reader has before it at most.
const LAG_MAX: u64 = 4;
/// Spans that are remembered; the oldest go.
const SPANS_MAX: usize = 64;

/// Keys of which none is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadSpan {
    /// The first user key.
    pub start: Vec<u8>,
    /// The user key behind the span; `None` for the end of all keys.
    pub end: Option<Vec<u8>>,
    /// Readers from this sequence number on see nothing in it.
    pub seq: Seq,
}

/// The dead spans of a tree.
#[derive(Debug)]
pub struct DeadSpans {
    /// Deletes, without a write between them, that make a suspect.
    suspect_after: u64,
    /// Whether there is anything that a write may touch.
    watching: AtomicBool,
    /// Whether a suspect waits that nobody was told of.
    due: AtomicBool,
    /// Whether there is a suspect.
    suspecting: AtomicBool,
    /// Whether deletes have run far ahead of the search.
    lagging: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By start; they do not overlap.
    spans: Arc<Vec<DeadSpan>>,
    /// Deletes since the last write into their range: how many, the first and the last key.
    run: u64,
    /// Of those, how many there were when a search last ended.
    searched: u64,
    first: Vec<u8>,
    last: Vec<u8>,
    /// One at a time: it stays until a job has looked, so that no noted key is lost.
    suspect: Option<Suspect>,
    suspects: u64,
    /// Where a walk met many dead keys.
    hint: Option<Vec<u8>>,
}

/// Where dead keys begin, perhaps, and the first key behind that was written since.
#[derive(Debug)]
struct Suspect {
    number: u64,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    /// What was written before it was named, up to here, is seen by who looks at this sequence
    /// number or later; the batch that named it may not be visible yet.
    seq: Seq,
}

impl DeadSpan {
    fn covers(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && is_before(key, &self.end)
    }
}

fn is_before(key: &[u8], end: &Option<Vec<u8>>) -> bool {
    end.as_ref().is_none_or(|end| key < end.as_slice())
}

/// The span that covers `key` for a reader at `at`.
pub fn find<'a>(spans: &'a [DeadSpan], key: &[u8], at: Seq) -> Option<&'a DeadSpan> {
    let behind = spans.partition_point(|span| span.start.as_slice() <= key);
    let span = &spans[behind.checked_sub(1)?];
    (span.covers(key) && span.seq <= at).then_some(span)
}

impl DeadSpans {
    /// None yet; so many deletes without a write between them are looked at.
    pub fn new(suspect_after: u64) -> DeadSpans {
        DeadSpans {
            suspect_after: suspect_after.max(1),
            watching: AtomicBool::new(false),
            due: AtomicBool::new(false),
            suspecting: AtomicBool::new(false),
            lagging: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Dead keys in a row from which on a walk gives a [`DeadSpans::hint`].
    pub fn hint_after(&self) -> u64 {
        self.suspect_after.div_ceil(8)
    }

    /// The spans now, if there are any. REQUIRES: the reader's sequence number was taken before.
    pub fn spans(&self) -> Option<Arc<Vec<DeadSpan>>> {
        let spans = self.watching.load(Ordering::Relaxed).then(|| self.lock().spans.clone());
        spans.filter(|spans| !spans.is_empty())
    }

    /// Notes a write; gives whether there is something to look into, see [`DeadSpans::take_due`].
    /// REQUIRES: the lock that orders writes; the write is not visible yet.
    #[inline]
    pub fn note(&self, seq: Seq, kind: Kind, key: &[u8]) -> bool {
        match kind {
            Kind::Delete => self.note_delete(seq, key),
            Kind::RangeDelete => false,
            Kind::Put | Kind::PutMeta | Kind::Merge => {
                if self.watching.load(Ordering::Relaxed) {
                    self.note_live(key);
                }
                false
            }
        }
    }

    fn note_delete(&self, seq: Seq, key: &[u8]) -> bool {
        let mut state = self.lock();
        if state.run == 0 || key < state.first.as_slice() {
            state.first.clear();
            state.first.extend_from_slice(key);
        }
        if state.run == 0 || key > state.last.as_slice() {
            state.last.clear();
            state.last.extend_from_slice(key);
        }
        state.run += 1;
        self.watching.store(true, Ordering::Relaxed);
        let many = state.run.is_multiple_of(self.suspect_after);
        if many && state.run.saturating_sub(state.searched) >= LAG_MAX * self.suspect_after {
            self.lagging.store(true, Ordering::Relaxed);
        }
        if many {
            let start = state.first.clone();
            self.name(&mut state, start, seq);
        }
        many
    }

    fn note_live(&self, key: &[u8]) {
        let mut state = self.lock();
        if state.first.as_slice() <= key && key <= state.last.as_slice() {
            (state.run, state.searched) = (0, 0);
        }
        if let Some(suspect) = &mut state.suspect
            && suspect.start.as_slice() <= key
            && is_before(key, &suspect.end)
        {
            suspect.end = Some(key.to_vec());
        }
        let behind = state.spans.partition_point(|span| span.start.as_slice() <= key);
        if let Some(at) = behind.checked_sub(1).filter(|at| state.spans[*at].covers(key)) {
            // What lies behind the key is dead too, but it may be filled up key by key.
            let spans = Arc::make_mut(&mut state.spans);
            match spans[at].start.as_slice() == key {
                true => _ = spans.remove(at),
                false => spans[at].end = Some(key.to_vec()),
            }
        }
        let watching = state.run > 0 || state.suspect.is_some() || !state.spans.is_empty();
        self.watching.store(watching, Ordering::Relaxed);
    }

    /// Forgets everything: records come that are noted one by one no more.
    /// REQUIRES: the lock that orders writes; what comes is not visible yet.
    pub fn forget(&self) {
        let mut state = self.lock();
        *state = State { suspects: state.suspects, ..State::default() };
        self.lagging.store(false, Ordering::Relaxed);
        self.suspecting.store(false, Ordering::Relaxed);
    }

    /// Tells that a walk met many dead keys from `start` on.
    pub fn hint(&self, start: &[u8]) {
        let mut state = self.lock();
        if state.hint.is_none() {
            state.hint = Some(start.to_vec());
        }
    }

    /// Makes a suspect of what a walk told. REQUIRES: the lock that orders writes.
    pub fn take_hint(&self) {
        let mut state = self.lock();
        if let Some(start) = state.hint.take() {
            // Under that lock all that was written is visible.
            self.name(&mut state, start, Seq(0));
        }
    }

    fn name(&self, state: &mut State, start: Vec<u8>, seq: Seq) {
        if state.suspect.is_none() {
            state.suspects += 1;
            state.suspect = Some(Suspect { number: state.suspects, start, end: None, seq });
        }
        self.watching.store(true, Ordering::Relaxed);
        self.suspecting.store(true, Ordering::Relaxed);
        self.due.store(true, Ordering::Relaxed);
    }

    /// Whether there is a hint to take.
    pub fn has_hint(&self) -> bool {
        self.lock().hint.is_some()
    }

    /// Whether a suspect waits; says so once.
    pub fn take_due(&self) -> bool {
        self.due.load(Ordering::Relaxed) && self.due.swap(false, Ordering::Relaxed)
    }

    /// Whether the writer had better search itself: walks would have to look at all that is behind.
    /// Costs one load.
    pub fn is_lagging(&self) -> bool {
        self.lagging.load(Ordering::Relaxed)
    }

    /// Whether there is a suspect. Costs one load.
    pub fn has_suspect(&self) -> bool {
        self.suspecting.load(Ordering::Relaxed)
    }

    /// The suspect: its number, and where to look. The sequence number to look at is to be taken
    /// after this.
    pub fn suspect(&self) -> Option<(u64, Vec<u8>)> {
        self.lock().suspect.as_ref().map(|suspect| (suspect.number, suspect.start.clone()))
    }

    /// Enters that nothing from the suspect of this number up to `end` is live at `seq`. Who looked
    /// before what came with the suspect was visible has seen too little: the suspect stays.
    pub fn enter(&self, number: u64, end: Option<Vec<u8>>, seq: Seq) {
        let mut state = self.lock();
        let is_it = |suspect: &mut Suspect| suspect.number == number && suspect.seq <= seq;
        let Some(suspect) = state.suspect.take_if(is_it) else {
            return;
        };
        self.suspecting.store(false, Ordering::Relaxed);
        self.lagging.store(false, Ordering::Relaxed);
        state.searched = state.run;
        let end = match (end, suspect.end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if !is_before(&suspect.start, &end) {
            return;
        }
        let mut new = DeadSpan { start: suspect.start, end, seq };
        let spans = Arc::make_mut(&mut state.spans);
        spans.retain(|span| {
            let touches = is_touching(span, &new);
            if touches {
                new.seq = new.seq.max(span.seq);
                if span.start < new.start {
                    new.start.clone_from(&span.start);
                }
                if new.end.as_ref().is_some_and(|end| is_before(end, &span.end)) {
                    new.end.clone_from(&span.end);
                }
            }
            !touches
        });
        let at = spans.partition_point(|span| span.start < new.start);
        spans.insert(at, new);
        if spans.len() > SPANS_MAX
            && let Some(oldest) = (0..spans.len()).min_by_key(|i| spans[*i].seq)
        {
            spans.remove(oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two spans overlap or one begins where the other ends.
fn is_touching(a: &DeadSpan, b: &DeadSpan) -> bool {
    let reaches = |a: &DeadSpan, b: &DeadSpan| a.end.as_ref().is_none_or(|end| *end >= b.start);
    reaches(a, b) && reaches(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete_all(dead: &DeadSpans, keys: &[&str]) {
        keys.iter().for_each(|key| _ = dead.note(Seq(1), Kind::Delete, key.as_bytes()));
    }

    fn covered(dead: &DeadSpans, key: &str, at: u64) -> bool {
        dead.spans().is_some_and(|spans| find(&spans, key.as_bytes(), Seq(at)).is_some())
    }

    fn enter(dead: &DeadSpans, number: u64, end: Option<&str>, seq: u64) {
        dead.enter(number, end.map(|end| end.as_bytes().to_vec()), Seq(seq));
    }

    #[test]
    fn deletes_in_any_order_make_a_suspect_and_a_walk_makes_it_a_span() {
        let dead = DeadSpans::new(3);
        delete_all(&dead, &["d", "b"]);
        assert!(!dead.take_due() && dead.suspect().is_none());
        delete_all(&dead, &["c"]);
        assert!(dead.take_due() && !dead.take_due());
        assert_eq!(dead.suspect(), Some((1, b"b".to_vec())));
        enter(&dead, 1, Some("f"), 9);
        assert!(covered(&dead, "b", 9) && covered(&dead, "ezz", 12));
        assert!(!covered(&dead, "b", 8), "an older reader may see what was there");
        assert!(!covered(&dead, "a", 9) && !covered(&dead, "f", 9));
        assert!(!dead.has_suspect() && dead.suspect().is_none());
    }

    #[test]
    fn a_look_from_before_the_naming_batch_was_visible_enters_nothing() {
        let dead = DeadSpans::new(2);
        // One batch: a put, then deletes that name the suspect.
        _ = dead.note(Seq(10), Kind::Put, b"z");
        _ = dead.note(Seq(11), Kind::Delete, b"b");
        _ = dead.note(Seq(12), Kind::Delete, b"c");
        let (number, _) = dead.suspect().unwrap();
        enter(&dead, number, None, 9);
        assert!(!covered(&dead, "z", 12) && dead.has_suspect());
        enter(&dead, number, Some("z"), 12);
        assert!(covered(&dead, "c", 12) && !covered(&dead, "z", 12));
    }

    #[test]
    fn a_write_while_the_walk_goes_on_ends_the_span_before_it() {
        let dead = DeadSpans::new(2);
        delete_all(&dead, &["b", "c"]);
        _ = dead.note(Seq(1), Kind::Put, b"d");
        // More deletes name the same suspect: what was noted stays noted.
        delete_all(&dead, &["e", "f"]);
        enter(&dead, 1, Some("x"), 9);
        assert!(covered(&dead, "c", 9) && !covered(&dead, "d", 9) && !covered(&dead, "e", 9));
        _ = dead.note(Seq(1), Kind::Merge, b"bb");
        assert!(covered(&dead, "b", 9) && !covered(&dead, "bb", 9) && !covered(&dead, "c", 9));
        _ = dead.note(Seq(1), Kind::PutMeta, b"b");
        assert!(!covered(&dead, "b", 9));
    }

    #[test]
    fn a_walk_from_before_records_came_unnoted_enters_nothing() {
        let dead = DeadSpans::new(2);
        delete_all(&dead, &["b", "c"]);
        dead.forget();
        delete_all(&dead, &["b", "c"]);
        enter(&dead, 1, None, 9);
        assert!(!covered(&dead, "b", 20));
        enter(&dead, 2, None, 12);
        assert!(covered(&dead, "b", 12) && covered(&dead, "zzz", 12));
    }

    #[test]
    fn spans_that_touch_become_one() {
        let dead = DeadSpans::new(1);
        for (number, start, end) in [(1, "b", "d"), (2, "f", "h"), (3, "d", "f")] {
            dead.hint(start.as_bytes());
            dead.take_hint();
            enter(&dead, number, Some(end), number);
        }
        let spans = dead.spans().unwrap();
        let one = DeadSpan { start: b"b".to_vec(), end: Some(b"h".to_vec()), seq: Seq(3) };
        assert_eq!(*spans, [one]);
    }
}
