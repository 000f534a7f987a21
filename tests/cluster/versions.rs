//! Versions of the cluster that its metadata nodes do not speak.

use crate::world::{Ways, World, soon};
use arqondb::ErrorKind;
use arqondb::catalog::Action;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_nobody_speaks_is_refused_and_leaves_the_catalog_alive() {
    let world = World::start(3, Ways::default()).await;
    let client = world.client();
    let init = |version| Action::InitCluster { id: [7; 16], name: "test".into(), version };
    let refused = client.propose(init(99), soon()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    client.propose(init(1), soon()).await.unwrap();
    let told = client.propose(init(99), soon()).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::AlreadyExists, "{told}");
    let refused = client.propose(Action::RaiseVersion { to: 99 }, soon()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(refused.message().contains("upgrade"), "{refused}");
    client.propose(Action::CreateFamily { name: "after".into() }, soon()).await.unwrap();
}
