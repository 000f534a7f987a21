//! A bounded pool of named threads for blocking work, a queue that a test turns by hand, or no more
//! than a call.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A piece of work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in the order given. Dropping the last handle waits for the jobs that are running
/// and discards those that are not.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    _threads: Arc<Threads>,
}

struct Shared {
    /// Whether jobs run in the call that gives them.
    is_inline: bool,
    /// Whether a thread takes pressing jobs alone.
    is_picky: AtomicBool,
    state: Mutex<State>,
    work: Condvar,
    idle: Condvar,
}

struct State {
    queue: VecDeque<Queued>,
    running: usize,
    closed: bool,
}

struct Queued {
    job: Job,
    /// Whether somebody may come to wait for it.
    pressing: bool,
}

/// What a thread takes from the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Whatever is next.
    All,
    /// Pressing jobs alone.
    Pressing,
}

struct Threads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    /// A pool of `threads` threads called `name`-0, `name`-1...
    pub fn threads(name: &str, threads: usize) -> Pool {
        let pool = Pool::manual();
        (0..threads).for_each(|i| _ = pool.start(name, i, || {}, Takes::All));
        pool
    }

    /// The same for work that nobody waits for: where threads are more than processors, these
    /// make way for the others (on Linux; elsewhere they are as all). If there are several, the
    /// first does not make way and takes pressing jobs alone.
    pub fn background(name: &str, threads: usize) -> Pool {
        let pool = Pool::manual();
        let others = (1..threads).filter(|i| pool.start(name, *i, yield_to_others, Takes::All));
        let takes = if others.count() > 0 { Takes::Pressing } else { Takes::All };
        pool.shared.is_picky.store(takes == Takes::Pressing, Ordering::Relaxed);
        pool.start(name, 0, || {}, takes);
        pool
    }

    /// A pool of one thread that makes way for the others, as most of [`Pool::background`] do.
    pub fn yielding(name: &str) -> Pool {
        let pool = Pool::manual();
        pool.start(name, 0, yield_to_others, Takes::All);
        pool
    }

    /// Whether it has threads of its own.
    pub fn has_threads(&self) -> bool {
        !lock(&self._threads.handles).is_empty()
    }

    /// Starts a thread. A machine that cannot runs the pool with fewer; with none at all jobs wait
    /// for [`Pool::run_one`].
    fn start(&self, name: &str, i: usize, begin: fn(), takes: Takes) -> bool {
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name(format!("{name}-{i}")).spawn(move || {
            begin();
            while shared.run_next(true, takes) {}
        });
        let started = spawned.map(|handle| lock(&self._threads.handles).push(handle));
        started.is_ok()
    }

    /// A pool without threads: jobs run only in [`Pool::run_one`], which makes their order
    /// something a test decides.
    pub fn manual() -> Pool {
        Pool::empty(false)
    }

    /// A pool without threads or a queue: a job runs in the call that gives it. REQUIRES: whoever
    /// gives one holds nothing that it wants.
    pub fn inline() -> Pool {
        Pool::empty(true)
    }

    fn empty(is_inline: bool) -> Pool {
        let shared = Arc::new(Shared {
            is_inline,
            is_picky: AtomicBool::new(false),
            state: Mutex::new(State { queue: VecDeque::new(), running: 0, closed: false }),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        let threads = Threads { shared: shared.clone(), handles: Mutex::new(Vec::new()) };
        Pool { shared, _threads: Arc::new(threads) }
    }

    /// Queues a job.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        self.queue(Queued { job: Box::new(job), pressing: false });
    }

    /// Queues a job for which somebody may come to wait. It passes no other in the queue.
    pub fn spawn_pressing(&self, job: impl FnOnce() + Send + 'static) {
        self.queue(Queued { job: Box::new(job), pressing: true });
    }

    fn queue(&self, queued: Queued) {
        if self.shared.is_inline {
            return (queued.job)();
        }
        let mut state = lock(&self.shared.state);
        if !state.closed {
            state.queue.push_back(queued);
            // One alone might be one that does not take it.
            match self.shared.is_picky.load(Ordering::Relaxed) {
                true => self.shared.work.notify_all(),
                false => self.shared.work.notify_one(),
            }
        }
    }

    /// Runs the next job on this thread; false if none waits.
    pub fn run_one(&self) -> bool {
        self.shared.run_next(false, Takes::All)
    }

    /// Jobs that wait or run.
    pub fn pending(&self) -> usize {
        let state = lock(&self.shared.state);
        state.queue.len() + state.running
    }

    /// Waits until no job waits or runs. On a pool without threads it runs them.
    pub fn wait_idle(&self) {
        if !self.has_threads() {
            while self.run_one() {}
            return;
        }
        let mut state = lock(&self.shared.state);
        while !state.queue.is_empty() || state.running > 0 {
            state = self.shared.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("pending", &self.pending()).finish()
    }
}

impl Shared {
    /// Runs the next job; with `wait` it waits for one. False when there is none to come.
    fn run_next(&self, wait: bool, takes: Takes) -> bool {
        let mut state = lock(&self.state);
        let job = loop {
            let next = state.queue.iter().position(|q| takes == Takes::All || q.pressing);
            if let Some(queued) = next.and_then(|at| state.queue.remove(at)) {
                break queued.job;
            }
            if state.closed || !wait {
                return false;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.running += 1;
        drop(state);
        let guard = Running(self);
        job();
        drop(guard);
        true
    }
}

/// A fifth of a processor's time for each whole one of another thread. Not less: background work
/// pays off what writers wait for in the end.
const NICENESS: i32 = 7;

/// Lowers this thread's priority. On Linux that is a thread's own; POSIX has it the process's.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    {
        // Refused by a sandbox: then it goes without.
        _ = rustix::process::nice(NICENESS);
    }
}

/// Counts a running job off even if it panics.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.running -= 1;
        if state.running == 0 && state.queue.is_empty() {
            self.0.idle.notify_all();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            state.queue.clear();
            self.shared.work.notify_all();
        }
        let me = std::thread::current().id();
        for handle in lock(&self.handles).drain(..) {
            // The last handle may be dropped by a job: a thread does not wait for itself.
            if handle.thread().id() != me {
                _ = handle.join();
            }
        }
    }
}

/// Where a program works that may not wait in the tasks that ask.
#[derive(Debug, Clone, Default)]
pub enum Workers {
    /// On threads of its own.
    #[default]
    Threads,
    /// Nowhere else: no thread is started, so that all that happens has one order, which a
    /// simulation can repeat. What is not done in the tasks that ask comes into these pools, to be
    /// turned by hand.
    Simulated {
        /// Work that nobody waits for.
        background: Pool,
        /// Syncs of the log.
        syncs: Pool,
    },
}

impl Workers {
    /// Whether there are threads.
    pub fn has_threads(&self) -> bool {
        matches!(self, Workers::Threads)
    }

    /// As [`Pool::threads`], or [`Pool::inline`].
    pub fn pool(&self, name: &str, threads: usize) -> Pool {
        match self {
            Workers::Threads => Pool::threads(name, threads),
            Workers::Simulated { .. } => Pool::inline(),
        }
    }

    /// As [`Pool::background`], or the pool that is turned by hand.
    pub fn background(&self, name: &str, threads: usize) -> Pool {
        match self {
            Workers::Threads => Pool::background(name, threads),
            Workers::Simulated { background, .. } => background.clone(),
        }
    }

    /// Where syncs of the log are to be turned by hand, if they are.
    pub fn syncs(&self) -> Option<Pool> {
        match self {
            Workers::Threads => None,
            Workers::Simulated { syncs, .. } => Some(syncs.clone()),
        }
    }
}

/// A poisoned mutex here only means that a job panicked while counted: the state is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn threads_run_everything_and_a_manual_pool_only_when_told() {
        let count = Arc::new(AtomicUsize::new(0));
        for pool in [Pool::threads("test", 2), Pool::manual()] {
            count.store(0, Ordering::SeqCst);
            for _ in 0..100 {
                let count = count.clone();
                pool.spawn(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                });
            }
            pool.wait_idle();
            assert_eq!(count.load(Ordering::SeqCst), 100);
            assert_eq!(pool.pending(), 0);
        }
    }

    #[test]
    fn without_threads_work_is_done_at_once_or_by_hand() {
        let by_hand = Pool::manual();
        let background = by_hand.clone();
        let workers = Workers::Simulated { background, syncs: Pool::manual() };
        assert!(!workers.has_threads() && Workers::default().has_threads());
        let count = Arc::new(AtomicUsize::new(0));
        let add = |pool: &Pool| {
            let count = count.clone();
            pool.spawn(move || _ = count.fetch_add(1, Ordering::SeqCst));
        };
        add(&workers.pool("test", 4));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        add(&workers.background("test", 4));
        assert_eq!((count.load(Ordering::SeqCst), by_hand.pending()), (1, 1));
        by_hand.wait_idle();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn background_threads_make_way_and_others_do_not() {
        let nice = |pool: Pool| {
            let (send, receive) = std::sync::mpsc::channel();
            pool.spawn(move || _ = send.send(std::fs::read_to_string("/proc/thread-self/stat")));
            let stat = receive.recv().unwrap().unwrap();
            let fields = stat.rsplit_once(')').unwrap().1;
            fields.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let own = nice(Pool::threads("test", 1));
        assert_eq!(nice(Pool::background("test", 1)), own);
        // The first of two does not take this one.
        assert_eq!(nice(Pool::background("test", 2)), (own + NICENESS).min(19));
    }

    #[test]
    fn a_pressing_job_finds_a_thread_while_others_run() {
        let pool = Pool::background("test", 2);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (say, heard) = std::sync::mpsc::channel();
        let (first, second) = (say.clone(), say.clone());
        pool.spawn(move || {
            _ = wait.recv();
            _ = first.send("long");
        });
        pool.spawn(move || _ = second.send("short"));
        pool.spawn_pressing(move || _ = say.send("pressing"));
        assert_eq!(heard.recv(), Ok("pressing"));
        go.send(()).unwrap();
        assert_eq!((heard.recv(), heard.recv()), (Ok("long"), Ok("short")));
    }
}
