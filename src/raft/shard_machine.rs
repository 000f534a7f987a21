//! A shard as what a group replicates.

use crate::base::{Error, ErrorKind, LogIndex, Result};
use crate::env::{Disk, Pool};
use crate::log::Log;
use crate::lsm::batch::changes_families;
use crate::lsm::options::LEVELS_MAX;
use crate::lsm::{BlockCache, Engine, EngineOptions};
use crate::raft::split::Split;
use crate::raft::state::StateMachine;
use crate::shard::Shard;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::path::Path;
use std::sync::{Arc, Weak};

/// Opens a shard on an engine in a folder; its log is the group's
/// ([`RaftLog`](crate::raft::RaftLog)). The shard is not started.
pub type OpenShard = Box<dyn Fn(&Path) -> Result<Arc<Shard>> + Send + Sync>;

/// Makes this node's replica of the child of a split, at a log index, from what a closure brings
/// into its folder.
pub(crate) type MakeChild =
    Box<dyn Fn(LogIndex, &Split, &dyn Fn(&Path) -> Result<()>) -> Result<()> + Send + Sync>;

/// A group's shard as its callers hold it. A snapshot puts another [`Shard`] in its place, so one
/// is taken anew for each request, and a ticket is asked of the shard that gave it.
#[derive(Debug, Clone, Default)]
pub struct ShardHandle {
    current: Arc<ArcSwapOption<Shard>>,
}

impl ShardHandle {
    /// A handle with nothing in it yet.
    pub fn new() -> ShardHandle {
        ShardHandle::default()
    }

    /// The shard as it is now.
    ///
    /// # Errors
    /// `Unavailable` before it is open.
    pub fn get(&self) -> Result<Arc<Shard>> {
        self.current.load_full().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the shard is not open yet; try again soon")
        })
    }
}

/// A shard as a group's state machine.
pub struct ShardMachine {
    disk: Arc<dyn Disk>,
    log: Weak<Log>,
    open: OpenShard,
    make_child: MakeChild,
    handle: ShardHandle,
}

impl ShardMachine {
    /// The state machine that opens its shard with `open` and shows it in `handle`. `log` is the
    /// node's.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        log: &Arc<Log>,
        open: OpenShard,
        make_child: MakeChild,
        handle: ShardHandle,
    ) -> ShardMachine {
        ShardMachine { disk, log: Arc::downgrade(log), open, make_child, handle }
    }

    /// Applies a split. One that was proposed twice, or applied in part before a crash, goes on.
    fn split(&self, index: LogIndex, split: &Split) -> Result<()> {
        let shard = self.handle.get()?;
        let (lower, upper) = split.parts()?;
        let _changing = shard.change_slots();
        let engine = shard.engine();
        shard.expect_split();
        if engine.part_epoch() < split.epoch {
            (self.make_child)(index, split, &|dir| engine.copy_part(dir, upper, index))?;
            engine.keep_part(lower, index)?;
        }
        shard.apply_entry(index, &[] as &[&[u8]])?;
        shard.note_split()
    }

    fn let_go(&self, old: Option<Arc<Shard>>) {
        if let Some(old) = old {
            let replaced = "a snapshot has taken the place of this shard's state; ask its leader";
            old.fail_pending(&Error::new(ErrorKind::Unavailable, replaced), true);
            old.close_vectors();
            old.engine().close();
        }
    }
}

impl StateMachine for ShardMachine {
    fn open(&self, dir: &Path) -> Result<()> {
        let shard = (self.open)(dir)?;
        // A group applies what a majority has, which need not be on this disk yet. Tables that
        // knew more than the log would have no name for where they stand.
        let log = self.log.clone();
        shard.engine().set_log_barrier(Box::new(move |_| match log.upgrade() {
            Some(log) => log.sync_to(log.written()),
            None => Err(Error::new(ErrorKind::Unavailable, "the log is closed")),
        }));
        shard.engine().always_call_log_barrier();
        self.let_go(self.handle.current.swap(Some(shard)));
        Ok(())
    }

    fn held(&self) -> LogIndex {
        self.handle.get().map_or(LogIndex(0), |shard| shard.engine().replay_from())
    }

    fn apply(&self, index: LogIndex, parts: &[Bytes]) -> Result<Bytes> {
        match parts {
            [part] if Split::is_one(part) => self.split(index, &Split::decode(part)?)?,
            parts => {
                let shard = self.handle.get()?;
                shard.keep_up();
                shard.apply_entry(index, parts)?;
            }
        }
        Ok(Bytes::new())
    }

    fn is_slow(&self, parts: &[Bytes]) -> bool {
        // Families are written down at once.
        let is_slow = |part: &Bytes| Split::is_one(part) || changes_families(part);
        parts.iter().any(is_slow) || self.handle.get().is_ok_and(|shard| shard.is_overrun())
    }

    fn hold(&self, _: &dyn Fn() -> Result<()>) -> Result<()> {
        // The engine looks after the log itself whenever it flushes.
        self.handle.get()?.engine().flush_all()
    }

    fn copy_to(&self, dir: &Path) -> Result<LogIndex> {
        Ok(self.handle.get()?.engine().checkpoint(dir)?.index)
    }

    fn check(&self, dir: &Path) -> Result<LogIndex> {
        let options = EngineOptions {
            read_only: true,
            background: false,
            levels: LEVELS_MAX,
            ..EngineOptions::new(dir)
        };
        let cache = BlockCache::new(1 << 20);
        Ok(Engine::open(self.disk.clone(), Pool::manual(), cache, options)?.replay_from())
    }

    fn close(&self) {
        self.let_go(self.handle.current.swap(None));
    }
}
