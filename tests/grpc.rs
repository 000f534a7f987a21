//! The gRPC door as its clients meet it: over a loopback port, before a map instead of an engine.
//!
//! `UPDATE_GOLDEN=1 cargo test --test grpc contract` adds what is new to the checked-in contract.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "gateway/behind.rs"]
mod behind;
#[path = "grpc/calls.rs"]
mod calls;
#[path = "grpc/client.rs"]
mod client;
#[path = "grpc/contract.rs"]
mod contract;
#[path = "gateway/double.rs"]
mod double;
#[path = "grpc/map_kv.rs"]
mod map_kv;
#[path = "grpc/paging.rs"]
mod paging;
#[path = "grpc/server.rs"]
mod server;

use arqondb::rpc::client::{Client, ClientOptions};
use arqondb::rpc::pb::arqon_db_client::ArqonDbClient;
use arqondb::serve::grpc::{GrpcOptions, GrpcServer};
use behind::Behind;
use map_kv::MapKv;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// A server on a free port, and what it serves from.
struct Running {
    kv: Arc<MapKv>,
    address: String,
    stop: oneshot::Sender<()>,
    server: JoinHandle<arqondb::base::Result<()>>,
}

impl Running {
    async fn start(options: GrpcOptions) -> Running {
        let kv = Arc::new(MapKv::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let behind = Behind::new(Arc::clone(&kv), MapKv::default);
        let server = GrpcServer::new(behind).with_options(options);
        let server = tokio::spawn(server.serve_on(listener, async {
            // Without a word the server goes on until the test's runtime ends.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Running { kv, address, stop, server }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn stub(&self) -> ArqonDbClient<Channel> {
        ArqonDbClient::new(self.channel().await)
    }

    async fn client(&self) -> Client {
        Client::connect(&self.address, ClientOptions::default()).await.unwrap()
    }
}

#[test]
fn the_calls_pass_through_a_gateway_over_three_nodes_and_eight_shards() {
    let skipped = [
        // The map in memory does what no engine does.
        "a_read_says_how_fresh_it_must_be",
        "errors_of_the_engine_keep_their_kind",
        // It knows the engine's sequence numbers, and each shard has its own.
        "a_batch_is_written_whole",
    ];
    behind::again(&["calls::"], &skipped, 11);
}
