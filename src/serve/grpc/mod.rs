//! The gRPC door: the service of `proto/arqondb.proto` over any [`KvOps`], with the standard
//! health and reflection services beside it.
//!
//! In reading order:
//! - this file: [`GrpcServer`]: what to serve, where, and how to stop.
//! - `service`: each call, from the wire to `op` and back.
//! - `vectors`: streams of vectors, and several searches at once.
//! - `accept`: connections as they come; `turns`: when they write.
//! - `routes`: which service a call is for; `deadline`: how long it may take.
//!
//! Invariants:
//! - A call is checked in full before it reaches the [`KvOps`].
//! - A stop ends no call that is being executed before the drain time is over.

mod accept;
mod deadline;
mod routes;
mod service;
mod turns;
mod vectors;

use crate::base::{Error, ErrorKind, Result};
use crate::op::KvOps;
use crate::rpc::pb;
use crate::rpc::pb::arqon_db_server::ArqonDbServer;
use routes::Routes;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Settings of the door.
#[derive(Debug, Clone)]
pub struct GrpcOptions {
    /// Largest request taken and largest answer given, in bytes. Default 64 MiB.
    pub message_bytes_max: usize,
    /// Most calls at once on one connection; more wait. Default 1,000.
    pub connection_calls_max: u32,
    /// Longest time that a stop waits for calls being executed and connections being closed.
    /// Default 10 s.
    pub drain: Duration,
}

impl Default for GrpcOptions {
    fn default() -> GrpcOptions {
        GrpcOptions {
            message_bytes_max: 64 << 20,
            connection_calls_max: 1_000,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves gRPC for a [`KvOps`]: a local engine, or an `Arc` of one that other doors share.
#[derive(Debug)]
pub struct GrpcServer<K> {
    kv: Arc<K>,
    options: GrpcOptions,
}

impl<K: KvOps> GrpcServer<K> {
    /// A server with default settings.
    pub fn new(kv: K) -> GrpcServer<K> {
        GrpcServer { kv: Arc::new(kv), options: GrpcOptions::default() }
    }

    /// The same server with other settings.
    pub fn with_options(mut self, options: GrpcOptions) -> GrpcServer<K> {
        self.options = options;
        self
    }

    /// Serves on `addr` (`127.0.0.1:9379`) until the process ends.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `addr` is no address, [`ErrorKind::Unavailable`] if it
    /// cannot be listened on.
    pub async fn serve(self, addr: &str) -> Result<()> {
        let listener = TcpListener::bind(addr).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidInput => {
                Error::invalid(format!("{addr} is not an address such as 127.0.0.1:9379"))
            }
            _ => Error::new(ErrorKind::Unavailable, format!("cannot listen on {addr}: {e}")),
        })?;
        self.serve_on(listener, std::future::pending()).await
    }

    /// Serves on `listener` until `shutdown` completes. Then no more connections are taken,
    /// health turns to NOT_SERVING, and calls being executed may end within the drain time;
    /// connections still open after it are left to end with the runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the transport cannot be set up.
    pub async fn serve_on(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        let GrpcServer { kv, options } = self;
        let kv = ArqonDbServer::new(service::Service::new(kv, options.message_bytes_max))
            .max_decoding_message_size(options.message_bytes_max)
            .max_encoding_message_size(options.message_bytes_max);
        let (health_reporter, health) = tonic_health::server::health_reporter();
        health_reporter.set_service_status(pb::SERVICE, ServingStatus::Serving).await;
        let routes = Routes {
            kv,
            health,
            reflection: reflection().build_v1().map_err(internal)?,
            reflection_alpha: reflection().build_v1alpha().map_err(internal)?,
        };

        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = Server::builder()
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_concurrent_streams(options.connection_calls_max)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .serve_with_incoming_shutdown(routes, accept::incoming(listener), async {
                shutdown.await;
                say_goodbye(health_reporter).await;
                // The receiver is gone only if serving ended already.
                let _ = stop.send(());
            });
        let overdue = async {
            if stopped.await.is_ok() {
                tokio::time::sleep(options.drain).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            served = serving => served.map_err(internal),
            () = overdue => Ok(()),
        }
    }
}

/// Those who watch hear NOT_SERVING; then their streams end, so that they hold up nothing.
async fn say_goodbye(mut health: HealthReporter) {
    for service in ["", pb::SERVICE] {
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
    for service in ["", pb::SERVICE] {
        health.clear_service_status(service).await;
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Internal, format!("cannot serve gRPC: {error}"))
}
