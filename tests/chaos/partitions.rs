//! Nodes that do not hear each other: all of them, in one direction, and all but one that hears
//! both.

use crate::clients::Clients;
use crate::cluster::{Cluster, Layout};
use crate::net::Net;
use crate::scenarios::{Rounds, judge};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a partition lasts.
const LASTS: Duration = Duration::from_millis(3000);
/// By then those that hear a majority have gone on.
const GOES_ON: Duration = Duration::from_secs(5);

/// How nodes are cut off, seen from the one that leads most.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// It hears nobody, and nobody hears it: clients neither.
    Off,
    /// It is heard by all, and hears no node.
    Deaf,
    /// It hears all, and no node hears it.
    Mute,
    /// It and one other do not hear each other; the third hears both.
    Bridge,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_do_not_hear_each_other_answer_nothing_stale_and_lose_nothing() {
    let net = match Net::new(3) {
        Ok(net) => Arc::new(net),
        Err(why) => return println!("skipped, no hosts can be made here: {why}"),
    };
    let layout = Layout { net: Some(net.clone()), ..Layout::default() };
    let cluster = Cluster::start(layout).await;
    let clients = Clients::begin(&cluster.doors);
    let mut rounds = Rounds::at_least(1);
    while rounds.next() {
        for cut in [Cut::Off, Cut::Deaf, Cut::Mute, Cut::Bridge] {
            clients.go_on(200).await;
            let (leader, led) = cluster.leads_most();
            let leader = leader as usize;
            println!("{cut:?}: from node {leader}, terms {:?}", cluster.terms());
            let mut others = (1..=3).filter(|node| *node != leader);
            match cut {
                Cut::Off => net.isolate(leader),
                Cut::Deaf => others.for_each(|other| net.cut(other, leader)),
                Cut::Mute => others.for_each(|other| net.cut(leader, other)),
                Cut::Bridge => {
                    let other = others.next_back().unwrap();
                    net.cut(leader, other);
                    net.cut(other, leader);
                }
            }
            let begun = Instant::now();
            clients.go_on(300).await;
            let took = begun.elapsed();
            println!(
                "{cut:?}: node {leader}, leader of {} shards; 300 requests more took {} ms",
                led.len(),
                took.as_millis()
            );
            assert!(took < GOES_ON, "{cut:?}: {took:?}");
            clients.work(LASTS.saturating_sub(took)).await;
            net.heal();
        }
    }
    clients.go_on(300).await;
    judge("partitions", clients).await;
}
