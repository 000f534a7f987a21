//! The threads that connections live on.
//!
//! Each has a runtime of its own and a connection stays where it was put, so that no command
//! wakes another thread or moves between cores: a socket is read, its commands are executed and
//! their replies are written where the kernel told of it. A new connection goes to the thread
//! that has the fewest.

use crate::base::{Error, Result};
use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Running threads. Dropping it ends them: what their connections still do is dropped, and a
/// request that the engine is executing is waited for.
pub(super) struct Threads {
    all: Vec<Thread>,
}

struct Thread {
    runtime: Handle,
    /// Each connection holds one more.
    connections: Arc<()>,
    /// Ends the thread by being dropped.
    end: Option<oneshot::Sender<()>>,
    joined: Option<JoinHandle<()>>,
}

impl Threads {
    /// Starts `n` threads, or one.
    ///
    /// # Errors
    /// What the system answers if not even one can be had.
    pub(super) fn start(n: usize) -> Result<Threads> {
        let mut all = Vec::new();
        for i in 0..n.max(1) {
            match Thread::start(i) {
                Ok(thread) => all.push(thread),
                Err(e) if all.is_empty() => {
                    return Err(Error::io("start", "a thread of the Redis door", e));
                }
                // Fewer will do.
                Err(_) => break,
            }
        }
        Ok(Threads { all })
    }

    /// Runs a connection on the thread that has the fewest.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let idlest = self.all.iter().min_by_key(|thread| Arc::strong_count(&thread.connections));
        if let Some(thread) = idlest {
            let counted = Arc::clone(&thread.connections);
            thread.runtime.spawn(async move {
                connection.await;
                drop(counted);
            });
        }
    }
}

impl Thread {
    fn start(i: usize) -> std::io::Result<Thread> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let joined =
            std::thread::Builder::new().name(format!("arqon-door-{i}")).spawn(move || {
                // A sender that is gone is the sign.
                _ = runtime.block_on(ended);
            })?;
        Ok(Thread {
            runtime: handle,
            connections: Arc::default(),
            end: Some(end),
            joined: Some(joined),
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in &mut self.all {
            drop(thread.end.take());
        }
        for joined in self.all.iter_mut().filter_map(|thread| thread.joined.take()) {
            // A panic of a connection stays in its task; there is none to pass on.
            _ = joined.join();
        }
    }
}
