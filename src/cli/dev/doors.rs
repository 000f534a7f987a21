//! The doors of one process: bound, served, stopped.

use crate::base::{Error, ErrorKind};
use crate::cli::failure::{Failure, Outcome};
use crate::op::KvOps;
use crate::serve::grpc::{GrpcOptions, GrpcServer};
use crate::serve::resp::{RedisServer, RespOptions};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

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

/// Serves both doors in front of `kv` until `stop` turns true or one of them fails; calls in
/// flight then have `grace`.
pub async fn serve<K: KvOps>(
    kv: Arc<K>,
    redis: TcpListener,
    grpc: TcpListener,
    grace: Duration,
    stop: watch::Receiver<bool>,
) -> crate::base::Result<()> {
    let stopped = |mut stop: watch::Receiver<bool>| async move {
        // A sender that is gone asks for a stop too.
        _ = stop.wait_for(|&stop| stop).await;
    };
    let resp_options =
        RespOptions { stop_grace_ms: grace.as_millis() as u64, ..RespOptions::default() };
    let grpc_options = GrpcOptions { drain: grace, ..GrpcOptions::default() };
    let redis = RedisServer::shared(Arc::clone(&kv))
        .with_options(resp_options)
        .serve_on(redis, stopped(stop.clone()));
    let grpc = GrpcServer::new(kv).with_options(grpc_options).serve_on(grpc, stopped(stop));
    tokio::try_join!(redis, grpc).map(|_| ())
}
