//! Connections as they come.

use crate::serve::grpc::turns::Turns;
use futures::Stream;
use futures::stream::unfold;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long to wait when the system has no more descriptors or memory for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Every connection made to `listener`. A failure to accept one is not the end; while the system
/// is short of something, trying again at once would only burn the processor.
pub(super) fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Turns>> {
    unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    // Calls are small: waiting to fill a packet would cost them 40 ms. That it
                    // cannot be set is no reason to turn the client away.
                    let _ = connection.set_nodelay(true);
                    return Some((Ok(Turns::new(connection)), listener));
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    })
}
