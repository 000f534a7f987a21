//! The same work on many things, on some threads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Things that a thread takes at once.
const TAKEN_AT_ONCE: usize = 4;

/// `work(0)` to `work(count - 1)`, in order, computed by up to `threads` threads. The answer does
/// not depend on how many they are.
pub(super) fn map<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let threads = threads.min(count.div_ceil(TAKEN_AT_ONCE));
    if threads <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let from = next.fetch_add(TAKEN_AT_ONCE, Ordering::Relaxed);
            if from >= count {
                return done;
            }
            let to = count.min(from + TAKEN_AT_ONCE);
            done.push((from, (from..to).map(&work).collect::<Vec<T>>()));
        }
    };
    let mut parts = std::thread::scope(|scope| {
        // A machine that cannot start a thread does it with fewer.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, run).ok();
        let others: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut parts = run();
        for other in others {
            match other.join() {
                Ok(more) => parts.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        parts
    });
    parts.sort_unstable_by_key(|(from, _)| *from);
    parts.into_iter().flat_map(|(_, part)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept_whatever_the_threads() {
        for threads in [0, 1, 2, 5] {
            for count in [0, 1, 4, 5, 103] {
                let squares: Vec<usize> = (0..count).map(|n| n * n).collect();
                assert_eq!(map(threads, count, |n| n * n), squares);
            }
        }
    }
}
