//! A standalone node behind the doors.

use crate::base::Result;
use crate::env::Pool;
use crate::log::SyncLevel;
use crate::node::core::Core;
use crate::node::gate::Gate;
use crate::node::pipeline::{self, Execution};
use crate::node::{Db, Options};
use crate::op::kv::Stats;
use crate::op::{KvOps, Request, Response};
use crate::shard::{Shard, Ticket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

/// Threads for requests that read a whole family or wait for room.
const SLOW_THREADS: usize = 4;
/// A log that syncs in less is waited for by a door's thread itself: its connections would gain
/// less from its going on than waking it costs.
const SYNC_SHORT: Duration = Duration::from_micros(500);

/// A database as a door sees it: requests in, answers out once they are committed. Clones share
/// it.
///
/// Requests that touch a few keys run on the caller's thread; those that may read much, or must
/// wait for room, cross to a pool of their own. At `always` a runtime of one thread (the Redis
/// door's) is held for a sync if syncs are short of late; what else it serves waits as long.
#[derive(Clone)]
pub struct Standalone {
    core: Arc<Core>,
    slow: Pool,
}

impl Standalone {
    /// Opens the data in `dir`. Keys are counted, whatever the options say: DBSIZE is exact.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Standalone> {
        let options = Options { count_keys: true, ..options };
        Ok(Standalone::new(Db::open_with(dir, options)?))
    }

    /// A database that is open already, to put doors before it. Unless it was opened with
    /// [`Options::count_keys`], DBSIZE scans.
    pub fn new(db: Db) -> Standalone {
        Standalone { core: db.0, slow: Pool::threads("arqon-slow", SLOW_THREADS) }
    }

    /// The same database, embedded.
    pub fn db(&self) -> Db {
        Db(self.core.clone())
    }
}

impl KvOps for Standalone {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        pipeline::run(self, requests).await
    }
}

impl Execution for Standalone {
    fn shard(&self) -> &Arc<Shard> {
        &self.core.shard
    }

    fn gate(&self) -> &Arc<Gate> {
        &self.core.gate
    }

    fn now_ms(&self) -> u64 {
        self.core.now_ms()
    }

    fn slow(&self) -> &Pool {
        &self.slow
    }

    fn epoch(&self) -> Option<u64> {
        None
    }

    async fn stats(&self) -> Result<Stats> {
        let core = self.core.clone();
        pipeline::on(&self.slow, move || core.stats()).await
    }

    async fn commit(&self, ticket: Ticket) {
        self.core.commit(ticket).await;
    }

    async fn confirm(&self, _: usize) -> Result<()> {
        // Nobody else can have written.
        Ok(())
    }
}

impl Core {
    /// Waits until what the ticket names is committed or has failed.
    async fn commit(&self, ticket: Ticket) {
        if may_hold_thread(self.log.sync_time()) {
            // Whatever else this thread has to do comes first: one sync then serves it all.
            tokio::task::yield_now().await;
            // Whoever waits asks for the outcome himself.
            _ = self.shard.wait_committed(ticket);
            return;
        }
        let (send, receive) = oneshot::channel();
        self.shard.when_committed(ticket, move |_| _ = send.send(()));
        _ = receive.await;
    }

    pub(crate) fn stats(&self) -> Result<Stats> {
        let mut stats = self.shard.stats(self.now_ms())?;
        stats.log_bytes = self.log.bytes_on_disk();
        stats.sync = match self.options.sync {
            SyncLevel::Always => "always",
            SyncLevel::Interval { .. } => "interval",
            SyncLevel::Os => "os",
        };
        stats.log_failed = self.log.poisoned().is_some();
        stats.memory_budget_bytes = self.options.memory_budget_bytes;
        Ok(stats)
    }
}

/// Whether this thread may wait for a sync, as long as syncs have taken of late: if it serves few
/// others by then. A runtime of several threads would be left without one to watch its sockets.
fn may_hold_thread(sync_time: Option<Duration>) -> bool {
    let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    sync_time.is_some_and(|time| time < SYNC_SHORT)
        && runtime.is_ok_and(|flavor| flavor == RuntimeFlavor::CurrentThread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::CfId;
    use crate::env::SimDisk;
    use crate::op::kv::{Expiry, Write};

    const SHORT: Option<Duration> = Some(Duration::from_micros(60));

    fn write(i: u64) -> Request {
        let key = i.to_be_bytes().to_vec().into();
        let write = Write::Put { cf: CfId::DEFAULT, key, value: "v".into(), expiry: Expiry::Never };
        Request::Write { writes: vec![write], id: None }
    }

    #[test]
    fn a_door_thread_syncs_once_for_all_that_is_at_hand() {
        let disk = SimDisk::new();
        let options =
            Options { sync: SyncLevel::Always, disk: disk.shared(), ..Options::default() };
        let node = Standalone::open("/db", options).unwrap();
        let door = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        door.block_on(async {
            // Before the first sync nobody knows how long one takes.
            assert!(node.core.log.sync_time().is_none());
            assert!(node.pipeline(vec![write(0)]).await.iter().all(Result::is_ok));
            assert!(node.core.log.sync_time().is_some_and(|time| time > Duration::ZERO));
            let mut shared = false;
            for i in 1..100 {
                let before = disk.changes();
                let (one, other) = tokio::join!(
                    node.pipeline(vec![write(2 * i)]),
                    node.pipeline(vec![write(2 * i + 1)])
                );
                assert!(one.iter().chain(&other).all(Result::is_ok));
                assert!(!node.core.shard.has_pending());
                // Two writes and a sync; upkeep may add to them.
                shared |= disk.changes() - before == 3;
            }
            assert!(shared, "each write had a sync of its own");
        });
    }

    #[test]
    fn only_a_runtime_of_one_thread_is_held_and_only_for_short_syncs() {
        assert!(!may_hold_thread(SHORT), "there is no runtime");
        let door = tokio::runtime::Builder::new_current_thread().build().unwrap();
        door.block_on(async {
            assert!(may_hold_thread(SHORT));
            assert!(!may_hold_thread(Some(Duration::from_millis(5))));
            assert!(!may_hold_thread(None));
        });
        let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        many.block_on(async { assert!(!may_hold_thread(SHORT)) });
    }
}
