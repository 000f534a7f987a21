//! What stands beside the calls: health, reflection, and a clean stop.

use crate::Running;
use arqondb::base::{CfId, ErrorKind};
use arqondb::rpc::client::{Client, ClientOptions};
use arqondb::rpc::pb;
use arqondb::serve::grpc::{GrpcOptions, GrpcServer};
use futures::{StreamExt, stream};
use prost::Message;
use std::time::Duration;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_string() }
}

#[tokio::test]
async fn health_is_answered_for_the_server_and_its_service() {
    let running = Running::start(GrpcOptions::default()).await;
    let mut health = HealthClient::new(running.channel().await);
    for service in ["", "arqondb.v1.ArqonDb"] {
        let answer = health.check(about(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    assert_eq!(health.check(about("other")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn watchers_hear_of_a_stop_and_do_not_hold_it_up() {
    let running = Running::start(GrpcOptions::default()).await;
    let mut health = HealthClient::new(running.channel().await);
    let mut watch = health.watch(about(pb::SERVICE)).await.unwrap().into_inner();
    let serving = watch.message().await.unwrap().unwrap();
    assert_eq!(serving.status(), ServingStatus::Serving);
    running.stop.send(()).unwrap();
    let stopping = watch.message().await.unwrap().unwrap();
    assert_eq!(stopping.status(), ServingStatus::NotServing);
    assert_eq!(watch.message().await.unwrap(), None);
    running.server.await.unwrap().unwrap();
}

async fn reflect(running: &Running, ask: MessageRequest) -> ServerReflectionResponse {
    let mut reflection = ServerReflectionClient::new(running.channel().await);
    let ask = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let answers = reflection.server_reflection_info(stream::iter([ask])).await.unwrap();
    answers.into_inner().next().await.unwrap().unwrap()
}

#[tokio::test]
async fn reflection_lists_the_services_and_gives_the_file() {
    let running = Running::start(GrpcOptions::default()).await;
    let answer = reflect(&running, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list: {answer:?}");
    };
    let names: Vec<&str> = list.service.iter().map(|s| s.name.as_str()).collect();
    for name in ["arqondb.v1.ArqonDb", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for ask in [
        MessageRequest::FileContainingSymbol("arqondb.v1.ArqonDb.CasPut".to_string()),
        MessageRequest::FileByFilename("arqondb.proto".to_string()),
    ] {
        let answer = reflect(&running, ask).await;
        let Some(MessageResponse::FileDescriptorResponse(file)) = answer.message_response else {
            panic!("not a file: {answer:?}");
        };
        let file =
            prost_types::FileDescriptorProto::decode(&file.file_descriptor_proto[0][..]).unwrap();
        assert_eq!((file.name(), file.package()), ("arqondb.proto", "arqondb.v1"));
    }
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    let running = Running::start(GrpcOptions::default()).await;
    let mut grpc = tonic::client::Grpc::new(running.channel().await);
    grpc.ready().await.unwrap();
    let codec = arqondb::rpc::codec::BoundedCodec::<pb::PingRequest, pb::PingResponse>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/other.Service/Ping");
    let call = tonic::Request::new(pb::PingRequest {});
    let status = grpc.unary(call, path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.message(), "there is no service other.Service here");
}

#[tokio::test]
async fn a_stop_waits_for_the_call_being_executed_and_takes_no_more() {
    let running = Running::start(GrpcOptions::default()).await;
    let client = running.client().await;
    let call = tokio::spawn(async move { client.put(CfId::DEFAULT, "held", "v").await });
    running.kv.arrived.notified().await;
    let mut watch = HealthClient::new(running.channel().await);
    let mut watch = watch.watch(about("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    running.stop.send(()).unwrap();
    // The stream ends when the stop has begun.
    while watch.message().await.unwrap().is_some() {}
    assert!(!call.is_finished());
    running.kv.release.notify_one();
    call.await.unwrap().unwrap();
    running.server.await.unwrap().unwrap();
    let late = Client::connect(&running.address, ClientOptions::default()).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_stop_gives_up_on_a_stuck_call_after_the_drain_time() {
    let options = GrpcOptions { drain: Duration::from_millis(20), ..GrpcOptions::default() };
    let running = Running::start(options).await;
    let client = running.client().await;
    let stuck = tokio::spawn(async move { client.get(CfId::DEFAULT, "held").await });
    running.kv.arrived.notified().await;
    running.stop.send(()).unwrap();
    running.server.await.unwrap().unwrap();
    assert!(!stuck.is_finished());
}

#[tokio::test]
async fn an_address_that_is_none_or_taken_is_refused() {
    let running = Running::start(GrpcOptions::default()).await;
    for (address, kind) in
        [("nowhere", ErrorKind::InvalidArgument), (&running.address, ErrorKind::Unavailable)]
    {
        let refused = GrpcServer::new(running.kv.clone()).serve(address).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
    }
}
