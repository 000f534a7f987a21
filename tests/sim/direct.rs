//! Clients that pass gateways by: they ask a node of their choice, with the shards as they knew them
//! some time ago. Whoever has led, or had the key, must send them away.

use crate::clients::{Client, entry_of, fate_of, get, put, register_key};
use crate::history::{Fate, Register};
use crate::time::SECOND;
use arqondb::base::Result;
use arqondb::gateway::{CallFailure, Called, Consistency, ShardCalls, Target};
use arqondb::op::route::slot_of;
use arqondb::op::{Request, Response};
use arqondb::{Error, ErrorKind};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a client asks who has led before.
const LOOKING_BACK: u64 = 6 * SECOND;

/// Who leads a shard, as a client has last seen it, and who did before, until when.
pub(crate) struct Led {
    last: Target,
    before: Option<(u64, Target)>,
}

impl Client {
    /// Reads or writes a register at a node that may lead its shard or may not.
    pub(crate) async fn ask_a_node(&mut self, register: usize) {
        if self.rng.one_in(4) {
            self.write_to_a_node(register).await;
        } else {
            self.read_of_a_node(register).await;
        }
    }

    /// Reads a register of who led its shard before, now and then, once another does: for some time
    /// that one may have been cut off, or stand still, and not know.
    pub(crate) async fn look_back(&mut self, register: usize) {
        let Some(now) = self.leading(register) else { return };
        let (at, node) = (self.local.now(), now.node.id);
        let led =
            self.led.entry(now.shard).or_insert_with(|| Led { last: now.clone(), before: None });
        if led.last.node.id != node {
            led.before = Some((at, std::mem::replace(&mut led.last, now)));
        }
        let Some((since, before)) = led.before.clone() else { return };
        if at < since + LOOKING_BACK && before.node.id != node && self.rng.one_in(2) {
            self.read_of(&before, register).await;
        }
    }

    async fn read_of_a_node(&mut self, register: usize) {
        let Some(target) = self.target(register) else { return };
        self.read_of(&target, register).await;
    }

    async fn read_of(&mut self, target: &Target, register: usize) {
        let begun = self.local.now();
        let at = self.history.begin(register, begun, Register::Read(0), None);
        let answer = self.call(target, get(register_key(register))).await;
        self.settle_read(register, at, entry_of(Some(answer)));
    }

    async fn write_to_a_node(&mut self, register: usize) {
        let Some(target) = self.target(register) else { return };
        let token = self.history.token();
        let what = Register::Write(token);
        let at = self.history.begin(register, self.local.now(), what, None);
        let write = Request::Write { writes: vec![put(register_key(register), token)], id: None };
        let answer = self.call(&target, write).await;
        let fate = match &answer {
            // Behind the gateway's back these say that it had no effect.
            Err(error) if error.kind() == ErrorKind::Unavailable => Fate::Failed,
            Err(error) => fate_of(error),
            Ok(_) => self.settle_write(register, token, &answer),
        };
        self.history.end(register, at, what, fate);
    }

    /// The node that leads a register's shard, as far as the gateway knows.
    fn leading(&self, register: usize) -> Option<Target> {
        let map = self.door.map();
        let shard = map.shard_of(slot_of(&register_key(register)))?;
        let node = shard.leading()?.clone();
        let consistency = Consistency::Linearizable;
        Some(Target { shard: shard.id, epoch: shard.epoch, node, consistency })
    }

    /// A node with a replica of a register's shard, as far as is known.
    fn target(&mut self, register: usize) -> Option<Target> {
        let slot = slot_of(&register_key(register));
        if self.old_map.is_none() || self.rng.one_in(12) {
            self.old_map = Some(self.door.map());
        }
        // What it knows of leaders is newer, or not.
        let (old, new) = (self.old_map.clone()?, self.door.map());
        let shard = if self.rng.one_in(2) { old.shard_of(slot) } else { new.shard_of(slot) }?;
        let leader = shard.leading().filter(|_| self.rng.one_in(2)).cloned();
        let any = self.rng.below(shard.replicas.len().max(1) as u64) as usize;
        let node = leader.or_else(|| shard.replicas.get(any).cloned())?;
        let consistency = Consistency::Linearizable;
        Some(Target { shard: shard.id, epoch: shard.epoch, node, consistency })
    }

    async fn call(&mut self, target: &Target, request: Request) -> Result<Response> {
        let unknown = || Error::new(ErrorKind::Unknown, "no answer in time");
        let patience = Duration::from_millis(300 + self.rng.below(4_000));
        let until = Instant::now() + patience;
        let requests = [request];
        let call = self.door.calls().call(target, &requests, until);
        let Ok(Called { mut answers, stopped }) = timeout_at(until, call).await else {
            return Err(unknown());
        };
        match (answers.pop(), stopped) {
            (Some(answer), _) => answer,
            (None, Some(CallFailure::Unknown(_)) | None) => Err(unknown()),
            (None, Some(_)) => {
                Err(Error::new(ErrorKind::Unavailable, "nothing was done; another may be asked"))
            }
        }
    }
}
