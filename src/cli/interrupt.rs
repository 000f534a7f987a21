//! Ctrl-C and SIGTERM: waited for by a server, noticed between two steps by everything else.

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C and SIGTERM, from when it is made.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Watches for them instead of being ended by them. REQUIRES: within a tokio runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new() -> Outcome<Signals> {
        let failed = |e| Failure::failed(format!("cannot watch for signals: {e}"));
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Waits for the next of either.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Whether this process was asked to end. The first signal asks; a second one ends it at once.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches from now on, with a thread of its own.
    ///
    /// # Errors
    /// The system refuses.
    pub fn watch() -> Outcome<Interrupt> {
        let failed = |e| Failure::failed(format!("cannot watch for signals: {e}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut signals = {
            let _within = runtime.enter();
            Signals::new()?
        };
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let wait = move || {
            runtime.block_on(async {
                signals.next().await;
                flag.store(true, Relaxed);
                signals.next().await;
                std::process::exit(i32::from(Exit::Interrupted.code()));
            });
        };
        std::thread::Builder::new().name("arqon-signals".into()).spawn(wait).map_err(failed)?;
        Ok(Interrupt(asked))
    }

    /// The flag that a signal sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// `outcome`, unless a signal came: what failed then, failed because of it.
    ///
    /// # Errors
    /// Interrupted, or that of the outcome.
    pub fn or<T>(&self, outcome: Outcome<T>) -> Outcome<T> {
        if self.0.load(Relaxed) { Err(Failure::interrupted()) } else { outcome }
    }
}
