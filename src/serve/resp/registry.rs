//! The connected clients, as they see each other: listed, killed, paused.

use super::encode::Proto;
use crate::op::command::Spec;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How soon a connection should end; it only ever grows more urgent.
#[derive(Debug, Default)]
pub(super) struct Stop {
    level: AtomicU8,
    notify: Notify,
}

/// When the commands that have arrived are executed and answered.
const FINISH: u8 = 1;
/// At once.
const CUT: u8 = 2;

impl Stop {
    /// Ends the connection once it has nothing to do.
    pub(super) fn finish(&self) {
        self.say(FINISH);
    }

    /// Ends the connection at once, be its replies written or not.
    pub(super) fn cut(&self) {
        self.say(CUT);
    }

    fn say(&self, level: u8) {
        self.level.fetch_max(level, SeqCst);
        self.notify.notify_waiters();
    }

    /// Whether the connection should end before it reads more.
    pub(super) fn is_finishing(&self) -> bool {
        self.level.load(SeqCst) >= FINISH
    }

    /// Returns once the connection should end before it reads more.
    pub(super) async fn finishing(&self) {
        self.reached(FINISH).await;
    }

    /// Returns once the connection should end at once.
    pub(super) async fn cutting(&self) {
        self.reached(CUT).await;
    }

    async fn reached(&self, level: u8) {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            // Registered before the look, so that nothing falls between.
            notified.as_mut().enable();
            if self.level.load(SeqCst) >= level {
                return;
            }
            notified.await;
        }
    }
}

/// A connection as others see it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) since_ms: u64,
    /// When it last sent or took bytes, monotonic.
    pub(super) active_ms: AtomicU64,
    /// Bytes of replies not yet taken.
    pub(super) output_bytes: AtomicU64,
    /// Since when those have been above the soft limit, monotonic; 0 if they are not.
    pub(super) soft_since_ms: AtomicU64,
    /// Bytes received and not yet executed.
    pub(super) input_bytes: AtomicU64,
    /// Commands executed.
    pub(super) commands: AtomicU64,
    /// Commands queued by MULTI; -1 outside.
    pub(super) queued: AtomicI64,
    /// Whether it waits (CLIENT PAUSE, WAIT).
    pub(super) blocked: AtomicBool,
    pub(super) stop: Stop,
    pub(super) about: Mutex<About>,
}

/// What changes now and then.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) name: Bytes,
    pub(super) lib_name: Bytes,
    pub(super) lib_version: Bytes,
    pub(super) proto: Proto,
    pub(super) command: Option<&'static Spec>,
    pub(super) no_evict: bool,
    pub(super) no_touch: bool,
}

impl Client {
    pub(super) fn new(id: u64, peer: SocketAddr, local: SocketAddr, now_ms: u64) -> Client {
        Client {
            id,
            peer,
            local,
            since_ms: now_ms,
            active_ms: AtomicU64::new(now_ms),
            output_bytes: AtomicU64::new(0),
            soft_since_ms: AtomicU64::new(0),
            input_bytes: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            queued: AtomicI64::new(-1),
            blocked: AtomicBool::new(false),
            stop: Stop::default(),
            about: Mutex::default(),
        }
    }

    pub(super) fn about(&self) -> MutexGuard<'_, About> {
        self.about.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line of CLIENT LIST, without its end. `now_ms` is monotonic.
    pub(super) fn line(&self, now_ms: u64) -> String {
        let about = self.about();
        let mut flags = String::new();
        for (set, flag) in [
            (self.queued.load(Relaxed) >= 0, 'x'),
            (self.blocked.load(Relaxed), 'b'),
            (about.no_evict, 'e'),
            (about.no_touch, 'T'),
        ] {
            if set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let seconds = |since_ms: u64| now_ms.saturating_sub(since_ms) / 1000;
        let input = self.input_bytes.load(Relaxed);
        let output = self.output_bytes.load(Relaxed);
        let mut line = String::with_capacity(400);
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 \
             ssub=0 multi={} qbuf={input} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem={output} tot-mem={} events=r cmd={} user=default redir=-1 resp={} \
             lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            String::from_utf8_lossy(&about.name),
            seconds(self.since_ms),
            seconds(self.active_ms.load(Relaxed)),
            self.queued.load(Relaxed),
            input + output,
            about.command.map_or("NULL", |spec| spec.name),
            about.proto.number(),
            String::from_utf8_lossy(&about.lib_name),
            String::from_utf8_lossy(&about.lib_version),
        );
        line
    }
}

/// All connected clients.
#[derive(Debug, Default)]
pub(super) struct Registry {
    last_id: AtomicU64,
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Signalled whenever a client leaves.
    left: Notify,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection, unless there are `max` already.
    pub(super) fn enter(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
        now_ms: u64,
        max: u64,
    ) -> Option<Arc<Client>> {
        let mut clients = self.lock();
        if clients.len() as u64 >= max {
            return None;
        }
        let id = self.last_id.fetch_add(1, Relaxed) + 1;
        let client = Arc::new(Client::new(id, peer, local, now_ms));
        clients.insert(id, Arc::clone(&client));
        Some(client)
    }

    pub(super) fn leave(&self, id: u64) {
        self.lock().remove(&id);
        self.left.notify_waiters();
    }

    /// All clients in order of their ids.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// Visits all clients, cheaply: the registry is locked meanwhile.
    pub(super) fn visit(&self, mut visit: impl FnMut(&Client)) {
        self.lock().values().for_each(|client| visit(client));
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many wait for something.
    pub(super) fn blocked(&self) -> usize {
        self.lock().values().filter(|client| client.blocked.load(Relaxed)).count()
    }

    /// Returns once no client is left.
    pub(super) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }
}

/// CLIENT PAUSE: until when commands are held back, and which.
#[derive(Debug, Default)]
pub(super) struct Pause {
    state: Mutex<Option<Paused>>,
    /// Spares the lock while nobody pauses.
    active: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Paused {
    until_ms: u64,
    all: bool,
}

impl Pause {
    fn lock(&self) -> MutexGuard<'_, Option<Paused>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses writes, or all commands. Of two pauses the longer and the stricter hold.
    pub(super) fn begin(&self, now_ms: u64, for_ms: u64, all: bool) {
        let mut state = self.lock();
        let present = state.filter(|paused| paused.until_ms > now_ms);
        let until_ms = now_ms.saturating_add(for_ms);
        *state = Some(Paused {
            until_ms: until_ms.max(present.map_or(0, |paused| paused.until_ms)),
            all: all || present.is_some_and(|paused| paused.all),
        });
        self.active.store(true, SeqCst);
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
        self.active.store(false, SeqCst);
        self.changed.notify_waiters();
    }

    /// Whether there may be a pause.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(SeqCst)
    }

    /// For how many ms yet a command must wait, if it must.
    pub(super) fn holds(&self, writes: bool, now_ms: u64) -> Option<u64> {
        let mut state = self.lock();
        let paused = (*state)?;
        if paused.until_ms <= now_ms {
            *state = None;
            self.active.store(false, SeqCst);
            return None;
        }
        (paused.all || writes).then_some(paused.until_ms - now_ms)
    }

    /// Returns once no pause is active, or when one is ended by CLIENT UNPAUSE.
    pub(super) async fn ended(&self) {
        let changed = self.changed.notified();
        tokio::pin!(changed);
        // Registered before the look, so that nothing falls between.
        changed.as_mut().enable();
        if self.is_active() {
            changed.await;
        }
    }
}
