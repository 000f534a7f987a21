//! One connection's state, and the execution of the commands it sends.
//!
//! Commands are admitted in order. Data commands, whole transactions and answers known at once
//! gather in a *run*; a run is handed to the engine as one pipeline, so that one log sync serves
//! it, and its replies are given in order. A command that looks at the server or changes the
//! session ends the run before it and is executed alone.

use super::commands;
use super::encode::Proto;
use super::errors;
use super::frame::{Command, TRIMMED};
use super::output::Output;
use super::registry::Client;
use super::server::Server;
use super::transaction::{Multi, reply_bytes_max};
use crate::op::command::{self, Id, Place, Spec};
use crate::op::kv::{RedisCall, Watched};
use crate::op::{KvOps, Reply, Request, Response};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Replies of this size are written before more commands are executed.
const OUTPUT_LARGE_BYTES: usize = 1024 * 1024;
/// The most reads in a run. Writes have small replies, and gain from sharing a sync.
const READS_MAX: usize = 32;
/// Reads in a connection's first run.
const READS_FIRST: usize = 16;

/// What a connection remembers from one command to the next.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Arc<Client>,
    pub(super) proto: Proto,
    pub(super) authenticated: bool,
    pub(super) multi: Option<Multi>,
    pub(super) watched: Vec<Watched>,
    /// CLIENT REPLY OFF.
    pub(super) replies_off: bool,
    /// CLIENT REPLY SKIP: the next command has no reply.
    pub(super) skip_next: bool,
    /// Whether the command at hand has no reply.
    pub(super) silent: bool,
    /// Whether the connection ends once its replies are written.
    pub(super) closing: bool,
    pub(super) output: Output,
    /// The last command that was found in the table.
    last: Option<&'static Spec>,
    run: Run,
    /// The most reads in a run: fewer when replies are large.
    reads_max: usize,
}

/// Commands gathered for one pipeline.
#[derive(Debug, Default)]
struct Run {
    requests: Vec<Request>,
    /// How many of them may have a large reply.
    reads: usize,
    slots: Vec<Slot>,
}

/// The place of a reply.
#[derive(Debug)]
struct Slot {
    /// The command to count; none for one that was refused.
    spec: Option<&'static Spec>,
    silent: bool,
    kind: SlotKind,
}

#[derive(Debug)]
enum SlotKind {
    Ready(Reply),
    /// The answer to the next request.
    Data,
    /// As `Data`, for a transaction of these commands.
    Exec(Vec<&'static Spec>),
}

/// What becomes of a command.
enum Admitted {
    /// It has its place in the run.
    InRun,
    /// It ends the run and is executed alone.
    Alone(&'static Spec, Command),
    /// A pause holds it back for so many ms.
    Held(Command, u64),
}

/// Calls of one command in a row, counted together.
#[derive(Default)]
struct Tally {
    spec: Option<&'static Spec>,
    calls: u64,
    failed: u64,
}

impl Run {
    /// Makes room for so many commands at once, instead of growing by doubling.
    fn expect(&mut self, commands: usize) {
        let commands = commands.min(TRIMMED);
        self.requests.reserve_exact(commands);
        self.slots.reserve(commands);
    }
}

impl Session {
    pub(super) fn new(client: Arc<Client>, authenticated: bool) -> Session {
        Session {
            client,
            proto: Proto::Resp2,
            authenticated,
            multi: None,
            watched: Vec::new(),
            replies_off: false,
            skip_next: false,
            silent: false,
            closing: false,
            output: Output::default(),
            last: None,
            run: Run::default(),
            reads_max: READS_FIRST,
        }
    }

    /// Executes commands in order and leaves their replies in the output, until there are no
    /// more or the output is large: then the rest waits until it has been written. Commands
    /// behind a QUIT are dropped.
    pub(super) async fn execute<K: KvOps>(
        &mut self,
        server: &Server,
        kv: &K,
        commands: &mut VecDeque<Command>,
    ) {
        while let Some(args) = commands.pop_front() {
            if self.run.slots.is_empty() {
                self.run.expect(commands.len() + 1);
            }
            match self.admit(server, args) {
                Admitted::InRun => {}
                Admitted::Alone(spec, args) => {
                    self.settle(server, kv).await;
                    self.alone(server, kv, spec, &args).await;
                }
                Admitted::Held(args, ms) => {
                    self.settle(server, kv).await;
                    self.hold(server, ms).await;
                    commands.push_front(args);
                }
            }
            if self.run.reads >= self.reads_max {
                self.settle(server, kv).await;
            }
            if self.closing {
                commands.clear();
            }
            if self.output.held_bytes() >= OUTPUT_LARGE_BYTES {
                break;
            }
        }
        self.settle(server, kv).await;
    }

    /// Finds a command its place: the checks that Redis makes before it executes or queues one.
    fn admit(&mut self, server: &Server, args: Command) -> Admitted {
        let spec = match command::lookup_after(self.last, &args) {
            Ok(spec) => *self.last.insert(spec),
            Err(reply) => return self.reject(server, find_called(&args), reply),
        };
        if !self.authenticated && !spec.has_flag("no_auth") {
            let reply = Reply::Error("NOAUTH Authentication required.".to_string());
            return self.reject(server, Some(spec), reply);
        }
        if self.multi.is_some() && spec.has_flag("no_multi") {
            let reply = Reply::err("Command not allowed inside a transaction");
            return self.reject(server, Some(spec), reply);
        }
        if server.pause.is_active()
            && let Some(ms) = server.pause.holds(self.may_write(spec), server.now_ms())
        {
            return Admitted::Held(args, ms);
        }
        self.begin();
        if self.multi.is_some() && !Multi::executes_now(spec.id) {
            self.enqueue(server, spec, args);
            return Admitted::InRun;
        }
        match (spec.place, spec.id) {
            (Place::Data, _) => {
                self.run.reads += usize::from(!spec.is_write());
                self.run.requests.push(Request::Redis(RedisCall { spec, args }));
                self.place(Some(spec), SlotKind::Data);
            }
            (_, Id::Ping) => {
                let reply = commands::ping(&args);
                self.place(Some(spec), SlotKind::Ready(reply));
            }
            (_, Id::Multi) => {
                let reply = self.begin_multi();
                self.place(Some(spec), SlotKind::Ready(reply));
            }
            (_, Id::Exec) if self.transaction_is_plain() => {
                self.exec_in_run(server, spec);
            }
            _ => return Admitted::Alone(spec, args),
        }
        Admitted::InRun
    }

    /// Whether a pause of writes holds the command back.
    fn may_write(&self, spec: &Spec) -> bool {
        spec.is_write()
            || spec.has_flag("may_replicate")
            || spec.id == Id::Exec && self.multi.as_ref().is_some_and(Multi::writes)
    }

    /// Begins a command: settles whether it will be answered.
    fn begin(&mut self) {
        self.silent = self.replies_off || std::mem::take(&mut self.skip_next);
    }

    fn place(&mut self, spec: Option<&'static Spec>, kind: SlotKind) {
        self.run.slots.push(Slot { spec, silent: self.silent, kind });
    }

    /// Gives an answer that is known at once its place in the run.
    pub(super) fn place_ready(&mut self, reply: Reply) {
        self.place(None, SlotKind::Ready(reply));
    }

    fn reject(&mut self, server: &Server, spec: Option<&'static Spec>, reply: Reply) -> Admitted {
        if let Some(spec) = spec {
            server.stats.rejected(spec);
        }
        server.stats.error(&reply);
        if let Some(multi) = &mut self.multi {
            multi.broken = true;
        }
        self.begin();
        self.place_ready(reply);
        Admitted::InRun
    }

    /// EXEC of data commands only: one request of the run.
    fn exec_in_run(&mut self, server: &Server, spec: &'static Spec) {
        let Some(multi) = self.end_multi() else { return };
        let watched = std::mem::take(&mut self.watched);
        self.run.reads += multi.queue.iter().filter(|call| !call.spec.is_write()).count();
        let specs = multi.queue.iter().map(|call| call.spec).collect();
        self.run.requests.push(Request::RedisTransaction {
            watched,
            calls: multi.queue,
            reply_bytes_max: reply_bytes_max(server),
        });
        self.place(Some(spec), SlotKind::Exec(specs));
    }

    /// Executes the run and gives its replies.
    async fn settle<K: KvOps>(&mut self, server: &Server, kv: &K) {
        if self.run.slots.is_empty() {
            return;
        }
        let requests = std::mem::take(&mut self.run.requests);
        let begun_ns = server.clock.monotonic_ns();
        let (calls, answers) = match requests.len() {
            0 => (self.run.slots.len(), Vec::new()),
            n => (n, kv.pipeline(requests).await),
        };
        let ns = (server.clock.monotonic_ns() - begun_ns) / calls as u64;
        let mut answers = answers.into_iter();
        let mut tally = Tally::default();
        let mut slots = std::mem::take(&mut self.run.slots);
        self.client.commands.fetch_add(slots.len() as u64, Relaxed);
        self.client.about().command = slots.iter().rev().find_map(|slot| slot.spec);
        for slot in slots.drain(..) {
            let reply = match slot.kind {
                SlotKind::Ready(reply) => reply,
                SlotKind::Data => redis_reply(answers.next()),
                SlotKind::Exec(specs) => {
                    let reply = redis_reply(answers.next());
                    tally_transaction(server, &mut tally, &specs, &reply, ns);
                    reply
                }
            };
            if let Some(spec) = slot.spec {
                tally.add(server, spec, &reply, ns);
            }
            if !slot.silent {
                self.output.push(reply, self.proto);
            }
        }
        tally.flush(server, ns);
        slots.shrink_to(TRIMMED);
        self.run = Run { requests: Vec::new(), reads: 0, slots };
        self.reads_max = if self.output.held_bytes() >= OUTPUT_LARGE_BYTES {
            (self.reads_max / 4).max(1)
        } else {
            (self.reads_max * 2).min(READS_MAX)
        };
    }

    /// Executes a command that is no part of a run.
    async fn alone<K: KvOps>(
        &mut self,
        server: &Server,
        kv: &K,
        spec: &'static Spec,
        args: &Command,
    ) {
        self.client.commands.fetch_add(1, Relaxed);
        self.client.about().command = Some(spec);
        let begun_ns = server.clock.monotonic_ns();
        let reply = match spec.id {
            Id::Exec => Some(self.exec_alone(server, kv).await),
            Id::Discard => Some(self.discard()),
            Id::Watch => Some(self.watch(kv, &args[1..]).await),
            _ => commands::execute(self, server, kv, spec, args).await,
        };
        let ns = server.clock.monotonic_ns() - begun_ns;
        let mut tally = Tally::default();
        tally.add(server, spec, reply.as_ref().unwrap_or(&Reply::OK), ns);
        tally.flush(server, ns);
        if let Some(reply) = reply.filter(|_| !self.silent) {
            self.output.push(reply, self.proto);
        }
    }

    /// Waits while commands are paused, for `ms` at most.
    async fn hold(&mut self, server: &Server, ms: u64) {
        self.client.blocked.store(true, Relaxed);
        tokio::select! {
            () = server.pause.ended() => {}
            () = tokio::time::sleep(Duration::from_millis(ms)) => {}
            () = self.client.stop.finishing() => self.closing = true,
        }
        self.client.blocked.store(false, Relaxed);
    }

    /// Counts a call made inside a transaction.
    pub(super) fn count(&self, server: &Server, spec: &'static Spec, reply: &Reply) {
        let mut tally = Tally::default();
        tally.add(server, spec, reply, 0);
        tally.flush(server, 0);
    }

    /// RESET: the state of a new connection. `authenticated` as a new one would be.
    pub(super) fn reset(&mut self, authenticated: bool) {
        self.end_multi();
        self.watched.clear();
        self.proto = Proto::Resp2;
        self.authenticated = authenticated;
        self.replies_off = false;
        self.skip_next = false;
        self.silent = false;
        let mut about = self.client.about();
        about.name = bytes::Bytes::new();
        about.proto = Proto::Resp2;
        about.no_evict = false;
        about.no_touch = false;
    }
}

/// The command meant by a call that was refused for its number of arguments.
fn find_called(args: &Command) -> Option<&'static Spec> {
    let spec = command::find(args.first()?)?;
    match args.get(1) {
        Some(sub) if !spec.subcommands.is_empty() => spec.subcommand(sub),
        _ => Some(spec),
    }
}

/// The reply in an answer of the engine.
pub(super) fn redis_reply(answer: Option<crate::base::Result<Response>>) -> Reply {
    match answer {
        Some(Ok(Response::Redis(reply))) => reply,
        Some(Err(error)) => errors::reply(&error),
        Some(Ok(_)) => Reply::err("internal error: the engine gave an answer of another kind"),
        None => Reply::err("internal error: the engine gave no answer"),
    }
}

/// Counts the commands of a transaction.
fn tally_transaction(
    server: &Server,
    tally: &mut Tally,
    specs: &[&'static Spec],
    reply: &Reply,
    ns: u64,
) {
    if let Reply::Array(replies) = reply {
        for (spec, reply) in specs.iter().zip(replies) {
            tally.add(server, spec, reply, ns / specs.len() as u64);
        }
    }
}

impl Tally {
    fn add(&mut self, server: &Server, spec: &'static Spec, reply: &Reply, ns: u64) {
        if !self.spec.is_some_and(|last| std::ptr::eq(last, spec)) {
            self.flush(server, ns);
            self.spec = Some(spec);
        }
        self.calls += 1;
        if reply.is_error() {
            self.failed += 1;
            server.stats.error(reply);
        }
    }

    fn flush(&mut self, server: &Server, ns: u64) {
        if let Some(spec) = self.spec.take() {
            let latency = server.config.live.latency_tracking.load(Relaxed);
            server.stats.called(spec, self.calls, self.failed, ns, latency);
        }
        (self.calls, self.failed) = (0, 0);
    }
}
