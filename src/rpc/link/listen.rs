//! Links as they are opened by others.

use crate::base::{Error, ErrorKind, Result};
use crate::rpc::link::net::Door;
use crate::rpc::link::serve::{LinkService, serve};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long links may take to end once a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Answers on every link that comes through `door`, until `stop` turns true. What is no link is
/// hung up on.
///
/// # Errors
/// `Unavailable` if nobody can be listened to any more.
pub async fn listen<S: LinkService>(
    mut door: impl Door,
    service: Arc<S>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut links = JoinSet::new();
    let ended = loop {
        let accepted = tokio::select! {
            accepted = door.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break Ok(()),
            // One that has ended is let go of.
            Some(_) = links.join_next(), if !links.is_empty() => continue,
        };
        match accepted {
            Ok(stream) => {
                let (service, stop) = (service.clone(), stop.clone());
                // Whoever was there knows best why it has ended.
                links.spawn(async move { _ = serve(stream, service, stop).await });
            }
            Err(error) if is_passing(&error) => {
                // Too many files are open, or one went before it came: it gets better by itself.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => {
                let message = format!("cannot accept connections: {error}");
                break Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
    };
    _ = tokio::time::timeout(GRACE, async { while links.join_next().await.is_some() {} }).await;
    ended
}

fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Io;
    // ENFILE and EMFILE, the same number on all systems we build for.
    matches!(error.raw_os_error(), Some(23 | 24))
        || matches!(error.kind(), Io::ConnectionAborted | Io::ConnectionReset | Io::Interrupted)
}
