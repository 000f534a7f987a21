//! CLUSTER before a cluster: what clients of Redis Cluster read, in both protocols.

use crate::harness::{TestClient, command};
use arqondb::base::Result;
use arqondb::op::route::SlotRange;
use arqondb::op::topology::{TopologyNode, TopologyRange};
use arqondb::op::{KvOps, Reply, Request, Response, Topology};
use arqondb::serve::resp::RedisServer;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Three nodes that say nothing but where they are.
struct Told(Arc<Topology>);

impl KvOps for Told {
    async fn pipeline(&self, requests: Vec<Request>) -> Vec<Result<Response>> {
        requests.iter().map(|_| Ok(Response::Redis(Reply::err("no data here")))).collect()
    }

    fn topology(&self) -> Option<Arc<Topology>> {
        Some(Arc::clone(&self.0))
    }
}

fn told() -> Topology {
    let node = |id: u8| TopologyNode {
        name: format!("{id:040x}"),
        host: format!("10.0.0.{id}"),
        port: 7000 + u16::from(id),
    };
    let range = |first, last, leader, replicas: &[usize]| TopologyRange {
        slots: SlotRange { first, last },
        leader,
        replicas: replicas.to_vec(),
    };
    Topology {
        nodes: (1..=3).map(node).collect(),
        ranges: vec![
            range(0, 8191, 0, &[1]),
            range(8192, 8192, 1, &[0, 2]),
            range(8193, 16383, 0, &[1, 2]),
        ],
        myself: 1,
        epoch: 5,
    }
}

/// Serves for as long as the runtime lives.
fn serve(runtime: &Runtime) -> TestClient {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let server = RedisServer::new(Told(Arc::new(told())));
    runtime.spawn(server.serve_on(listener, std::future::pending()));
    TestClient::connect(addr)
}

/// What comes back for a command, as it is on the wire, with blanks for line ends.
fn wire(client: &mut TestClient, words: &[&str]) -> String {
    client.send(&command(words));
    client.send(&command(&["ECHO", "that-was-all"]));
    let mut lines = Vec::new();
    loop {
        let line = client.line();
        if line == "that-was-all" {
            // Its length came before.
            lines.pop();
            return lines.join(" ");
        }
        lines.push(line);
    }
}

#[test]
fn cluster_commands_tell_of_nodes_and_slots() {
    let runtime = Runtime::new().unwrap();
    let mut client = serve(&runtime);
    let names: Vec<String> = (1..=3).map(|id| format!("{id:040x}")).collect();
    let [one, two, three] = &names[..] else { panic!("three names") };
    let node = |id: u8| format!("*4 $8 10.0.0.{id} :700{id} $40 {} *0", names[usize::from(id) - 1]);
    assert_eq!(wire(&mut client, &["CLUSTER", "MYID"]), format!("$40 {two}"));
    assert_eq!(wire(&mut client, &["CLUSTER", "KEYSLOT", "x{foo}y"]), ":12182");
    assert_eq!(
        wire(&mut client, &["CLUSTER", "SLOTS"]),
        format!(
            "*3 *4 :0 :8191 {} {} *5 :8192 :8192 {} {} {} *5 :8193 :16383 {} {} {}",
            node(1),
            node(2),
            node(2),
            node(1),
            node(3),
            node(1),
            node(2),
            node(3)
        )
    );
    let nodes = client.call(&["CLUSTER", "NODES"]);
    assert_eq!(
        nodes,
        format!(
            "{one} 10.0.0.1:7001@17001 master - 0 0 5 connected 0-8191 8193-16383\n\
             {two} 10.0.0.2:7002@17002 myself,master - 0 0 5 connected 8192\n\
             {three} 10.0.0.3:7003@17003 slave {two} 0 0 5 connected\n"
        )
    );
    let info = client.call(&["CLUSTER", "INFO"]);
    for line in [
        "cluster_state:ok",
        "cluster_slots_assigned:16384",
        "cluster_known_nodes:3",
        "cluster_size:2",
        "cluster_current_epoch:5",
    ] {
        assert!(info.contains(&format!("{line}\r\n")), "{info}");
    }
    assert_eq!(wire(&mut client, &["READONLY"]), "+OK");
    assert!(wire(&mut client, &["CLUSTER", "HELP"]).starts_with("*15 +CLUSTER <subcommand>"));
}

#[test]
fn shards_group_ranges_by_leader_and_resp3_has_maps() {
    let runtime = Runtime::new().unwrap();
    let mut client = serve(&runtime);
    let node = |id: u8, part: &str| {
        format!(
            "$2 id $40 {id:040x} $4 port :700{id} $2 ip $8 10.0.0.{id} $8 endpoint $8 10.0.0.{id} \
             $4 role ${} {part} $18 replication-offset :0 $6 health $6 online",
            part.len()
        )
    };
    let whole = |map: &str, nodes: &str| {
        let (master, one, two, three) = ("master", 1, 2, 3);
        format!(
            "*2 {map} $5 slots *4 :0 :8191 :8193 :16383 $5 nodes *3 {nodes} {} {nodes} {} {nodes} \
             {} {map} $5 slots *2 :8192 :8192 $5 nodes *3 {nodes} {} {nodes} {} {nodes} {}",
            node(one, master),
            node(two, "replica"),
            node(three, "replica"),
            node(two, master),
            node(one, "replica"),
            node(three, "replica"),
        )
    };
    assert_eq!(wire(&mut client, &["CLUSTER", "SHARDS"]), whole("*4", "*14"));
    let hello = wire(&mut client, &["HELLO", "3"]);
    assert!(hello.contains("$4 mode $7 cluster "), "{hello}");
    assert_eq!(wire(&mut client, &["CLUSTER", "SHARDS"]), whole("%2", "%7"));
    assert!(wire(&mut client, &["CLUSTER", "SLOTS"]).ends_with(" %0"));
    assert!(wire(&mut client, &["CLUSTER", "NODES"]).contains(" txt:000"));
    let info = wire(&mut client, &["INFO", "server", "cluster"]);
    assert!(info.contains("redis_mode:cluster") && info.contains("cluster_enabled:1"), "{info}");
}
