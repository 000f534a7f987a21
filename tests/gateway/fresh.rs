//! Reads that need not be the latest: whom the gateway asks for them.

use crate::words::{get, put, redis};
use crate::world::{Fault, World};
use arqondb::gateway::{Consistency, GatewayOptions, NodeId};
use arqondb::op::{KvOps, Request};
use std::collections::BTreeSet;

const STALE: Consistency = Consistency::Stale { bound_ms: 100 };

/// The nodes that were asked, in order, and how fresh their answers had to be.
async fn asked(
    options: GatewayOptions,
    consistency: Option<Consistency>,
    faults: &[Fault],
    pipeline: Vec<Request>,
) -> (Vec<NodeId>, Vec<Consistency>) {
    let gateway = World::new(1, 1).gateway(options);
    gateway.refresh().await.unwrap();
    gateway.calls().state().script.extend(faults);
    let answers = match consistency {
        Some(consistency) => gateway.pipeline_at(consistency, pipeline).await,
        None => gateway.pipeline(pipeline).await,
    };
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let state = gateway.calls().state();
    let nodes = state.calls.iter().map(|(_, node, _)| *node).collect();
    (nodes, state.freshness.clone())
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_reaches_every_shard_and_writes_are_never_stale() {
    let plain = GatewayOptions::default;
    let lease = GatewayOptions { consistency: Consistency::Lease, ..plain() };
    for (options, consistency, request, expected) in [
        (plain(), None, get("k"), Consistency::Linearizable),
        (plain(), Some(Consistency::Lease), get("k"), Consistency::Lease),
        (lease.clone(), None, redis("DBSIZE"), Consistency::Lease),
        (lease, Some(Consistency::Linearizable), get("k"), Consistency::Linearizable),
        (plain(), Some(STALE), redis("DBSIZE"), STALE),
        (plain(), Some(STALE), redis("MGET a b c"), STALE),
        (plain(), Some(STALE), put("k", "1"), Consistency::Linearizable),
    ] {
        let (_, freshness) = asked(options, consistency, &[], vec![request.clone()]).await;
        assert!(freshness.iter().all(|one| *one == expected), "{request:?}: {freshness:?}");
    }
    let pipeline = vec![put("k", "1"), get("k")];
    let (_, freshness) = asked(plain(), Some(STALE), &[], pipeline).await;
    assert_eq!(freshness, [Consistency::Linearizable], "what was just written is read");
}

#[tokio::test(start_paused = true)]
async fn a_stale_read_goes_to_the_near_replica_then_to_others_and_to_the_leader_last() {
    let near = GatewayOptions { near: Some(NodeId(3)), ..GatewayOptions::default() };
    // The first shard's leader is node 1.
    let faults = [Fault::Unreachable, Fault::Busy, Fault::None];
    let (nodes, _) = asked(near.clone(), Some(STALE), &faults, vec![get("k")]).await;
    assert_eq!(nodes, [NodeId(3), NodeId(2), NodeId(1)]);
    let (nodes, _) = asked(near, Some(STALE), &[], vec![get("k")]).await;
    assert_eq!(nodes, [NodeId(3)]);
    // Without one that is near, all followers have their share.
    let gateway = World::new(1, 1).gateway(GatewayOptions::default());
    gateway.refresh().await.unwrap();
    for _ in 0..20 {
        assert!(gateway.call_at(STALE, get("k")).await.is_ok());
    }
    let state = gateway.calls().state();
    let nodes: BTreeSet<NodeId> = state.calls.iter().map(|(_, node, _)| *node).collect();
    assert_eq!(nodes, BTreeSet::from([NodeId(2), NodeId(3)]));
    assert_eq!(gateway.map().shard_of(0).unwrap().leader, Some(NodeId(1)), "who answers leads not");
}
