//! A search sees what was acknowledged before it, through a server's gRPC door.
//!
//! `ARQON_FRESH_ROUNDS`: how often that is looked at, 2,000 by default.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::live::Server;
use arqondb::rpc::pb;
use arqondb::rpc::pb::arqon_db_client::ArqonDbClient;
use tonic::transport::{Channel, Endpoint};

/// Clients that write and search at a time.
const CLIENTS: u64 = 4;
const NAME: &str = "fresh";

/// A vector far from all others, and another one each time.
fn vector(client: u64, n: u64) -> Vec<f32> {
    vec![client as f32 * 1e4, n as f32, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
}

async fn nearest(stub: &mut ArqonDbClient<Channel>, query: Vec<f32>) -> Option<(u64, f32)> {
    let search =
        pb::VectorSearchRequest { index_name: NAME.into(), query, k: 1, ..Default::default() };
    let results = stub.vector_search(search).await.unwrap().into_inner().results;
    results.first().map(|first| (first.id, first.distance))
}

/// What a search found that was late, and what is found behind it.
async fn account(stub: &mut ArqonDbClient<Channel>, query: Vec<f32>, what: String) -> String {
    let again = nearest(stub, query.clone()).await;
    let exact = pb::VectorSearchRequest {
        index_name: NAME.into(),
        query: query.clone(),
        k: 3,
        exact: true,
        ..Default::default()
    };
    let exact = stub.vector_search(exact).await.unwrap().into_inner().results;
    let exact: Vec<_> = exact.iter().map(|hit| (hit.id, hit.distance)).collect();
    let describe = pb::DescribeVectorIndexRequest { index_name: NAME.into() };
    let index = stub.describe_vector_index(describe).await.unwrap().into_inner().index;
    format!("{what}; again {again:?}, exactly {exact:?}; {index:?}")
}

/// Puts, replaces and deletes, each followed by a search; tells of each search that was late.
async fn client(address: String, client: u64, rounds: u64) -> Vec<String> {
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut stub = ArqonDbClient::new(channel);
    let mut late = Vec::new();
    for n in 0..rounds {
        let id = (client << 32) | (n % 500);
        if n % 5 == 4 {
            let delete = pb::VectorDeleteRequest {
                index_name: NAME.into(),
                vector_id: id - 1,
                request_id: None,
            };
            stub.vector_delete(delete).await.unwrap();
            // It was the last one written, and the nearest.
            let found = nearest(&mut stub, vector(client, n - 1)).await;
            if found.is_some_and(|(found, _)| found == id - 1) {
                let what = format!("round {n} of {client} deleted {}, found {found:?}", id - 1);
                late.push(account(&mut stub, vector(client, n - 1), what).await);
            }
            continue;
        }
        let put = pb::VectorPutRequest {
            index_name: NAME.into(),
            vector_id: id,
            vector: vector(client, n),
            payload: String::new(),
            request_id: None,
        };
        stub.vector_put(put).await.unwrap();
        let found = nearest(&mut stub, vector(client, n)).await;
        if found != Some((id, 0.0)) {
            let what = format!("round {n} of {client} put {id}, found {found:?}");
            late.push(account(&mut stub, vector(client, n), what).await);
        }
    }
    late
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_sees_an_acknowledged_put_or_delete_at_once() {
    let rounds = std::env::var("ARQON_FRESH_ROUNDS");
    let rounds: u64 = rounds.map_or(2_000, |text| text.parse().unwrap());
    let server = Server::start();
    let address = format!("http://{}", server.grpc);
    let channel = Endpoint::from_shared(address.clone()).unwrap().connect().await.unwrap();
    let create = pb::CreateVectorIndexRequest {
        index_name: NAME.into(),
        config: Some(pb::VectorIndexConfig { dim: 8, ..Default::default() }),
    };
    ArqonDbClient::new(channel).create_vector_index(create).await.unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| tokio::spawn(client(address.clone(), n, rounds.div_ceil(CLIENTS))))
        .collect();
    let mut late = Vec::new();
    for client in clients {
        late.extend(client.await.unwrap());
    }
    let count = late.len();
    println!("of {rounds} searches by {CLIENTS} clients {count} did not see what came before them");
    assert!(late.is_empty(), "{late:#?}");
}
