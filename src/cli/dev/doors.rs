//! The doors of one process: bound, served, stopped.

use crate::base::{Error, ErrorKind};
use crate::cli::failure::{Failure, Outcome};
use crate::op::KvOps;
use crate::serve::grpc::{GrpcOptions, GrpcServer};
use crate::serve::resp::{RedisServer, RespOptions};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long calls in flight may take once a stop was asked for.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The addresses of a flag, refused off loopback unless `remote` is allowed: there is no
/// authentication yet.
pub fn addresses(flag: &str, text: &str, remote: bool) -> Outcome<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|_| {
            Failure::usage(format!("{flag} is {text:?}, which is no host:port"))
                .fix(format!("give an address such as {flag} 127.0.0.1:0"))
        })?
        .collect();
    let open = found.iter().find(|addr| !addr.ip().is_loopback());
    match open {
        Some(addr) if !remote => Err(Failure::refused(
            format!(
                "{flag} {text} would let everyone who can reach {} read and write: there is no \
                     authentication yet",
                addr.ip()
            ),
            "listen on 127.0.0.1, or say --allow-remote behind a firewall of your own",
        )),
        _ => Ok(found),
    }
}

/// Listens on the first of `addresses` that is free.
pub async fn listen(flag: &str, addresses: &[SocketAddr]) -> Outcome<(TcpListener, SocketAddr)> {
    let bound = async {
        let listener = TcpListener::bind(addresses).await?;
        let local = listener.local_addr()?;
        std::io::Result::Ok((listener, local))
    };
    bound.await.map_err(|e| {
        let at = addresses.first().map(SocketAddr::to_string).unwrap_or_default();
        let error = Error::new(ErrorKind::Unavailable, format!("cannot listen on {at}: {e}"));
        Failure::from(error)
            .fix(format!("name another with {flag} 127.0.0.1:PORT (0 for any free one)"))
    })
}

/// Serves both doors in front of `kv` until `stop` turns true or one of them fails.
pub async fn serve<K: KvOps>(
    kv: Arc<K>,
    redis: TcpListener,
    grpc: TcpListener,
    stop: watch::Receiver<bool>,
) -> crate::base::Result<()> {
    let stopped = |mut stop: watch::Receiver<bool>| async move {
        // A sender that is gone asks for a stop too.
        _ = stop.wait_for(|&stop| stop).await;
    };
    let resp_options =
        RespOptions { stop_grace_ms: STOP_GRACE.as_millis() as u64, ..RespOptions::default() };
    let grpc_options = GrpcOptions { drain: STOP_GRACE, ..GrpcOptions::default() };
    let redis = RedisServer::shared(Arc::clone(&kv))
        .with_options(resp_options)
        .serve_on(redis, stopped(stop.clone()));
    let grpc = GrpcServer::new(kv).with_options(grpc_options).serve_on(grpc, stopped(stop));
    tokio::try_join!(redis, grpc).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn only_loopback_is_listened_on_unasked() {
        for text in ["127.0.0.1:0", "[::1]:6379", "127.8.9.1:1"] {
            assert!(addresses("--redis", text, false).is_ok(), "{text}");
        }
        for text in ["0.0.0.0:6379", "[::]:1", "192.0.2.7:6379"] {
            let refused = addresses("--redis", text, false).unwrap_err();
            assert_eq!(refused.exit, Exit::Refused, "{text}");
            assert!(refused.fix.unwrap().contains("--allow-remote"));
            assert!(addresses("--redis", text, true).is_ok(), "{text}");
        }
        assert_eq!(addresses("--redis", "6379", false).unwrap_err().exit, Exit::Usage);
    }
}
