//! Where what may wait for the disk is done.

use crate::base::{Error, ErrorKind, Result};
use crate::env::Pool;

/// Runs blocking work of groups: on a pool, so that no thread of the runtime waits; or at once,
/// which a simulation wants, where all that happens has one order.
#[derive(Debug, Clone)]
pub enum Work {
    /// On the threads of a pool.
    Pool(Pool),
    /// In the task that asks.
    Inline,
}

impl Work {
    /// Runs `job` and waits, without holding a thread, for what it gives.
    ///
    /// # Errors
    /// What the job gives; `Unavailable` if the pool has stopped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Work::Pool(pool) = self else { return job() };
        let (send, receive) = tokio::sync::oneshot::channel();
        pool.spawn(move || _ = send.send(job()));
        let stopped = |_| Error::new(ErrorKind::Unavailable, "the node is stopping");
        receive.await.map_err(stopped)?
    }
}
