//! The servers of a cluster: `arqon meta`, `arqon node`, `arqon gateway`.
//!
//! In reading order: here what they have in common; [`meta`], [`node`], [`gateway`].

pub mod gateway;
pub mod meta;
pub mod node;

use crate::base::Result;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Signals;
use crate::cli::settings::address::Url;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// The threads of a server that wait for the network: one for two processors. What they wake
/// (the log's syncs, evaluation of what is slow, flushes, compactions) has threads of its own, and
/// the fewer there are the more often who is woken runs where it is, without a call to the system.
///
/// # Errors
/// If they cannot be started.
pub fn runtime() -> Outcome<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.div_ceil(2))
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start the threads: {e}")))
}

/// Waits for a signal, or for one of the doors to end by itself.
///
/// # Errors
/// Of the door that ended.
pub async fn until_asked(signals: &mut Signals, doors: &mut JoinSet<Result<()>>) -> Outcome {
    tokio::select! {
        Some(ended) = doors.join_next() => {
            ended.map_err(|_| Failure::failed("a server thread panicked"))??;
            Err(Failure::failed("a door has closed by itself"))
        }
        () = signals.next() => Ok(()),
    }
}

/// Does what a stop needs, unless a second signal comes.
///
/// # Errors
/// `Interrupted` then.
pub async fn unless_pressed(signals: &mut Signals, stop: impl Future<Output = ()>) -> Outcome {
    tokio::select! {
        () = stop => Ok(()),
        () = signals.next() => Err(Failure::told(Exit::Interrupted)),
    }
}

/// Ends the doors: what they are at may take until `grace` is over.
pub async fn close(mut doors: JoinSet<Result<()>>, grace: Duration) {
    let all = async { while doors.join_next().await.is_some() {} };
    _ = tokio::time::timeout(grace + Duration::from_secs(1), all).await;
}

/// `host:port` of URLs.
pub fn hosts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.0.to_string()).collect()
}
