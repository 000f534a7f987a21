//! The promised sample over gRPC, before an engine, and what the other calls give.

use crate::world::DIM;
use arqondb::ErrorKind;
use arqondb::env::SimDisk;
use arqondb::node::Standalone;
use arqondb::op::vector::{VectorCall, VectorSearch};
use arqondb::op::{KvOps, Request};
use arqondb::rpc::client::{Client, ClientOptions};
use arqondb::rpc::pb;
use arqondb::rpc::pb::arqon_db_client::ArqonDbClient;
use arqondb::serve::grpc::GrpcServer;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::Channel;

async fn start() -> ArqonDbClient<Channel> {
    let options = crate::world::options(&SimDisk::new(), arqondb::SyncLevel::Os);
    let node = Standalone::open("/db", options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(GrpcServer::new(node).serve_on(listener, std::future::pending()));
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await;
    ArqonDbClient::new(channel.unwrap())
}

fn config(dim: u32, metric: pb::VectorDistanceMetric) -> pb::VectorIndexConfig {
    pb::VectorIndexConfig { dim, metric: metric as i32, ..Default::default() }
}

fn vector(n: u64) -> Vec<f32> {
    (0..DIM as u64).map(|at| (n * (at + 3) % 17) as f32 + 0.5).collect()
}

async fn create(stub: &mut ArqonDbClient<Channel>, name: &str) -> pb::VectorIndex {
    let request = pb::CreateVectorIndexRequest {
        index_name: name.into(),
        config: Some(config(DIM as u32, pb::VectorDistanceMetric::VectorL2)),
    };
    stub.create_vector_index(request).await.unwrap().into_inner().index.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promised_sample_works() {
    let mut stub = start().await;
    let created = create(&mut stub, "embeddings").await;
    let config = created.config.unwrap();
    assert_eq!((config.m, config.ef_construction, config.ef_search), (16, 200, 64));
    for id in 0..100 {
        let request = pb::VectorPutRequest {
            index_name: "embeddings".into(),
            vector_id: id,
            vector: vector(id),
            payload: format!("{{\"id\": {id}}}"),
            request_id: None,
        };
        stub.vector_put(request).await.unwrap();
    }
    let search = pb::VectorSearchRequest {
        index_name: "embeddings".into(),
        query: vector(42),
        k: 10,
        with_payload: true,
        ..Default::default()
    };
    let answer = stub.vector_search(search.clone()).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 10);
    let distances: Vec<f32> = answer.results.iter().map(|r| r.distance).collect();
    assert!(distances[0] == 0.0 && distances.is_sorted());
    let first = &answer.results[0];
    assert_eq!(first.payload, format!("{{\"id\": {}}}", first.id));
    let filtered = pb::VectorSearchRequest {
        filter: r#"{"id": {"gte": 90}}"#.into(),
        k: 20,
        ..search.clone()
    };
    let answer = stub.vector_search(filtered).await.unwrap().into_inner();
    assert_eq!((answer.results.len(), answer.cost.unwrap().matches), (10, 10));
    let words = pb::VectorSearchRequest {
        text: "ninety-seven".into(),
        text_field: "name".into(),
        ..search.clone()
    };
    let put = pb::VectorPutRequest {
        index_name: "embeddings".into(),
        vector_id: 97,
        vector: vector(97),
        payload: r#"{"id": 97, "name": "Ninety seven"}"#.into(),
        request_id: None,
    };
    stub.vector_put(put).await.unwrap();
    let answer = stub.vector_search(words.clone()).await.unwrap().into_inner();
    let named = answer.results.iter().position(|result| result.id == 97).unwrap();
    assert!(named <= 1 && answer.results[named].payload.contains("Ninety"), "{answer:?}");
    let scores: Vec<f32> = answer.results.iter().map(|result| -result.score.unwrap()).collect();
    assert!(scores.is_sorted() && scores.len() == 10);
    let alone = pb::VectorSearchRequest { text_field: String::new(), ..words };
    let refused = stub.vector_search(alone).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let got = pb::VectorGetRequest {
        index_name: "embeddings".into(),
        vector_id: 7,
        ..Default::default()
    };
    let got = stub.vector_get(got).await.unwrap().into_inner();
    assert!(got.found && got.vector == vector(7));
    let delete = pb::VectorDeleteRequest {
        index_name: "embeddings".into(),
        vector_id: 42,
        request_id: None,
    };
    stub.vector_delete(delete).await.unwrap();
    let answer = stub.vector_search(search).await.unwrap().into_inner();
    assert!(answer.results.iter().all(|r| r.id != 42));
    let listed = stub.list_vector_indexes(pb::ListVectorIndexesRequest {}).await.unwrap();
    assert_eq!(listed.into_inner().indexes[0].vectors, 99);
    let name = || "embeddings".to_string();
    let verify = pb::VerifyVectorIndexRequest { index_name: name() };
    let checked = stub.verify_vector_index(verify).await.unwrap().into_inner();
    assert_eq!((checked.stored, checked.missing, checked.surplus), (99, 0, 0));
    let walk = pb::VectorWalkRequest { index_name: name(), limit: 40, ..Default::default() };
    let page = stub.vector_walk(walk).await.unwrap().into_inner();
    assert_eq!((page.vectors.len(), page.next_after_id), (40, Some(39)));
    stub.drop_vector_index(pb::DropVectorIndexRequest { index_name: name() }).await.unwrap();
    let gone = stub.describe_vector_index(pb::DescribeVectorIndexRequest { index_name: name() });
    assert_eq!(gone.await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_lists_tell_of_each_item() {
    let mut stub = start().await;
    create(&mut stub, "docs").await;
    let mut items: Vec<pb::VectorBatchPutRequest> = (0..1_000)
        .map(|id| pb::VectorBatchPutRequest {
            index_name: if id == 0 { "docs".into() } else { String::new() },
            vector_id: id,
            vector: vector(id),
            payload: String::new(),
        })
        .collect();
    items[10].vector[0] = f32::NAN;
    items[700].vector.pop();
    items[900].payload = "no json".into();
    let put = stub.vector_batch_put(futures::stream::iter(items)).await.unwrap().into_inner();
    assert_eq!((put.written, put.failed), (997, 3));
    let places: Vec<u64> = put.errors.iter().map(|error| error.position).collect();
    assert_eq!(places, [10, 700, 900]);
    assert!(put.errors.iter().all(|error| error.error_kind == "invalid_argument"));
    let search = |query, k| pb::VectorSearchRequest {
        index_name: "docs".into(),
        query,
        k,
        ..Default::default()
    };
    let searches = vec![search(vector(1), 3), search(vec![1.0], 3), search(vector(2), 0)];
    let request = pb::VectorBatchSearchRequest { searches, read_options: None };
    let outcomes = stub.vector_batch_search(request).await.unwrap().into_inner().outcomes;
    assert_eq!(outcomes[0].answer.as_ref().unwrap().results.len(), 3);
    for wrong in &outcomes[1..] {
        assert!(wrong.answer.is_none() && wrong.error_kind == "invalid_argument", "{wrong:?}");
    }
    let wrong = pb::CreateVectorIndexRequest { index_name: "x".into(), config: None };
    let refused = stub.create_vector_index(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let taken = pb::CreateVectorIndexRequest {
        index_name: "docs".into(),
        config: Some(config(3, pb::VectorDistanceMetric::VectorCosine)),
    };
    assert_eq!(stub.create_vector_index(taken).await.unwrap_err().code(), Code::AlreadyExists);
    // Keys and vectors in one batch.
    let vector_put = pb::VectorPutOp {
        index_name: "docs".into(),
        vector_id: 5_000,
        vector: vector(5_000),
        payload: String::new(),
    };
    let key = pb::PutOp { key: "k".into(), value: "v".into(), ..Default::default() };
    let op = |op| pb::WriteOp { op: Some(op) };
    let ops = vec![op(pb::write_op::Op::VectorPut(vector_put)), op(pb::write_op::Op::Put(key))];
    stub.batch_write(pb::BatchWriteRequest { ops, request_id: None }).await.unwrap();
    let got = stub.get(pb::GetRequest { key: "k".into(), ..Default::default() }).await.unwrap();
    assert!(got.into_inner().found);
    let answer = stub.vector_search(search(vector(5_000), 1)).await.unwrap().into_inner();
    assert_eq!(answer.results[0].distance, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_postings_is_made_told_of_and_searched() {
    let mut stub = start().await;
    let kind = pb::VectorIndexKind::VectorSpfresh as i32;
    let config = config(DIM as u32, pb::VectorDistanceMetric::VectorCosine);
    let config = pb::VectorIndexConfig { kind, ..config };
    let request = pb::CreateVectorIndexRequest { index_name: "ever".into(), config: Some(config) };
    let refused = pb::VectorIndexConfig {
        quantisation: pb::VectorQuantisation::VectorPacked as i32,
        ..config
    };
    let refused = pb::CreateVectorIndexRequest { index_name: "no".into(), config: Some(refused) };
    stub.create_vector_index(request).await.unwrap();
    let error = stub.create_vector_index(refused).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    for id in 0..400 {
        let request = pb::VectorPutRequest {
            index_name: "ever".into(),
            vector_id: id,
            vector: vector(id),
            ..Default::default()
        };
        stub.vector_put(request).await.unwrap();
        let search = pb::VectorSearchRequest {
            index_name: "ever".into(),
            query: vector(id),
            k: 400,
            ..Default::default()
        };
        if id % 40 == 39 {
            let answer = stub.vector_search(search).await.unwrap().into_inner();
            assert_eq!(answer.results.len() as u64, id + 1);
        }
    }
    let describe = pb::DescribeVectorIndexRequest { index_name: "ever".into() };
    let told = stub.describe_vector_index(describe).await.unwrap().into_inner().index.unwrap();
    assert_eq!((told.config.unwrap().kind, told.vectors), (kind, 400));
    assert!(told.memory_bytes > 0);
}

/// It was left out of the message, and the vector was among the hits.
#[tokio::test]
async fn a_client_does_not_pass_over_what_its_message_cannot_say() {
    let client = Client::connect_lazy("http://127.0.0.1:1", ClientOptions::default()).unwrap();
    let search = VectorSearch { without: Some(3), ..VectorSearch::new("v", &vector(1), 5) };
    let refused = client.call(Request::Vector(Box::new(VectorCall::Search(search)))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}
