//! Settings of one server each.

use crate::cli::settings::address::{Address, Url};
use crate::cli::settings::kind::{Kind, Label};
use crate::cli::settings::secret::{Secret, User};
use crate::cli::settings::setting::section;
use crate::op::Consistency;
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// The metadata plane: one of 1, 3 or 5 servers.
    Meta "meta" for [Meta] {
        /// Folder of its data, made if need be.
        dir: PathBuf = Kind::Path, "./arqon-meta";
        /// Its number among the metadata servers; given out when it joins unless named.
        id: Option<u64> = Kind::Int(1, i64::MAX as u64), "", example: "1";
        /// Address to listen on, for the other servers and for clients of the metadata.
        listen: Address = Kind::Listen, "0.0.0.0:8379";
        /// Where the others reach it; the address it listens on unless named.
        addr: Option<Url> = Kind::Url, "", example: "http://10.0.0.5:8379";
        /// The metadata servers to begin with, this one among them; empty for this one alone.
        peers: Vec<Url> = Kind::Urls, "",
            example: "http://10.0.0.5:8379,http://10.0.0.6:8379,http://10.0.0.7:8379";
        /// Memory for its data.
        memory: u64 = Kind::Size(8 << 20, 64 << 30), "64MiB";
        /// Address at which metrics are served over HTTP; none unless named.
        metrics_addr: Option<Address> = Kind::Listen, "", example: "127.0.0.1:8380";
    }
}

section! {
    /// A node that holds data.
    Node "node" for [Node] {
        /// Folder of its data, made if need be.
        dir: PathBuf = Kind::Path, "./arqon-node";
        /// Folder of its log, for a device of its own; within the data unless named.
        log_dir: Option<PathBuf> = Kind::Path, "", example: "/mnt/log/arqon";
        /// Its number in the cluster, never used again; given out when it joins unless named.
        id: Option<u64> = Kind::Int(1, i64::MAX as u64), "", legacy: Some("DATA_NODE_ID"),
            example: "1";
        /// The metadata servers, any of them; without one the node stands alone.
        meta: Vec<Url> = Kind::Urls, "", legacy: Some("META_SERVER"),
            example: "http://127.0.0.1:8379";
        /// Address to listen on for data.
        data_listen: Address = Kind::Listen, "0.0.0.0:7379";
        /// Where the others reach its data; the address it listens on unless named.
        data_addr: Option<Url> = Kind::Url, "", legacy: Some("DATA_ADDR"),
            example: "http://10.0.0.7:7379";
        /// Address to listen on for Raft.
        raft_listen: Address = Kind::Listen, "0.0.0.0:7380";
        /// Where the others reach its Raft groups; the address it listens on unless named.
        raft_addr: Option<Address> = Kind::Peer, "", legacy: Some("RAFT_ADDR"),
            example: "10.0.0.7:7380";
        /// Address for Redis clients of this node; none unless named.
        redis_addr: Option<Address> = Kind::Listen, "", example: "127.0.0.1:6379";
        /// Labels that name the failure domains it is in; replicas of a shard are kept apart by
        /// them.
        labels: Vec<Label> = Kind::Labels, "", example: "zone=a,rack=7";
        /// How often it tells the metadata servers that it lives.
        heartbeat: Duration = Kind::Duration(50, 60_000), "1s";
        /// Address at which metrics are served over HTTP; none unless named.
        metrics_addr: Option<Address> = Kind::Listen, "", example: "127.0.0.1:7381";
    }
}

section! {
    /// The stateless door to a cluster.
    Gateway "gateway" for [Gateway] {
        /// Address for gRPC clients.
        addr: Address = Kind::Listen, "0.0.0.0:9379", legacy: Some("GATEWAY_ADDR");
        /// Address for Redis clients.
        redis_addr: Address = Kind::Listen, "0.0.0.0:6379", legacy: Some("GATEWAY_REDIS_ADDR");
        /// Address for management over HTTP, metrics among it.
        mgmt_addr: Address = Kind::Listen, "0.0.0.0:9380", legacy: Some("GATEWAY_MGMT_ADDR");
        /// The metadata servers, any of them.
        meta: Vec<Url> = Kind::Urls, "http://127.0.0.1:8379", legacy: Some("GATEWAY_META");
        /// Secret that tokens are signed with; without it there is no authentication.
        jwt_secret: Option<Secret> = Kind::Secret, "", legacy: Some("GATEWAY_JWT_SECRET"),
            example: "a long random text";
        /// Users to begin with; the password `admin` is refused off loopback.
        users: Vec<User> = Kind::Users, "admin:admin:admin", legacy: Some("GATEWAY_USERS");
        /// Time for a call, retries included, unless the client says otherwise.
        deadline: Duration = Kind::Duration(10, 3_600_000), "10s";
        /// How fresh reads are, unless the client says otherwise: linearizable, lease, or stale by at
        /// most so much, such as stale(500ms).
        consistency: Consistency = Kind::Consistency, "linearizable";
        /// Retries for a hundred calls; above that, failures are passed on at once.
        retry_budget: u64 = Kind::Int(0, 100), "10";
        /// Wait before the first retry; it doubles with each, and is drawn at random below that.
        backoff: Duration = Kind::Duration(1, 10_000), "10ms";
        /// The longest wait before a retry.
        backoff_max: Duration = Kind::Duration(1, 60_000), "500ms";
    }
}

section! {
    /// Everything in one process, for development.
    Dev "dev" for [Dev] {
        /// Folder of the data, made if need be.
        data: PathBuf = Kind::Path, "./arqon-data";
        /// Address for Redis clients; port 0 takes any free one.
        redis_addr: Address = Kind::Listen, "127.0.0.1:6379", flag: Some("redis");
        /// Address for gRPC clients; port 0 takes any free one.
        grpc_addr: Address = Kind::Listen, "127.0.0.1:9379", flag: Some("grpc");
        /// File that gets {"redis":"HOST:PORT","grpc":"HOST:PORT"} when clients are served.
        port_file: Option<PathBuf> = Kind::Path, "", example: "ports.json";
    }
}
