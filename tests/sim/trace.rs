//! What happened, as one running number: the same for two runs that were the same.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A trace. Clones add to the same.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    hash: u64,
    events: u64,
    /// Every event in words, if somebody wants to read them.
    words: Option<String>,
}

impl Trace {
    pub(crate) fn new(in_words: bool) -> Trace {
        let words = in_words.then(String::new);
        Trace(Arc::new(Mutex::new(Inner { hash: 0, events: 0, words })))
    }

    /// Something happened at a time.
    pub(crate) fn note(&self, at: u64, what: &str, numbers: &[u64], bytes: &[u8]) {
        let mut inner = self.inner();
        let mut hash = xxh3_64_with_seed(what.as_bytes(), inner.hash ^ at);
        for number in numbers {
            hash = xxh3_64_with_seed(&number.to_le_bytes(), hash);
        }
        inner.hash = xxh3_64_with_seed(bytes, hash);
        inner.events += 1;
        let hash = inner.hash;
        if let Some(words) = &mut inner.words {
            let sum = xxh3_64_with_seed(bytes, 0) as u32;
            let ms = at / 1_000_000;
            let len = bytes.len();
            _ = writeln!(words, "{ms} {what} {numbers:?} {len} bytes {sum:08x} -> {hash:016x}");
        }
    }

    /// A fault or another rare event, with words of its own.
    pub(crate) fn say(&self, at: u64, what: &str) {
        self.note(at, what, &[], &[]);
    }

    /// The number so far, and how many events it stands for.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.hash, inner.events)
    }

    pub(crate) fn words(&self) -> Option<String> {
        self.inner().words.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}
