//! CLUSTER: which node answers for which slots. What changes a cluster is not here: that is not
//! done through the Redis door.

use super::BLANK;
use crate::op::command::{Deprecated, Id, Place, Spec};

const BASE: Spec = Spec { group: "cluster", place: Place::Connection, ..BLANK };

pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        id: Id::Cluster,
        name: "cluster",
        arity: -2,
        categories: &["@slow"],
        summary: "Describes the cluster.",
        since: "3.0.0",
        complexity: "Depends on the subcommand",
        subcommands: &[
            Spec {
                id: Id::ClusterHelp,
                name: "cluster|help",
                arity: 2,
                flags: &["loading", "stale"],
                categories: &["@slow"],
                summary: "Lists the subcommands of CLUSTER.",
                since: "5.0.0",
                complexity: "O(1)",
                ..BASE
            },
            Spec {
                id: Id::ClusterInfo,
                name: "cluster|info",
                arity: 2,
                flags: &["stale"],
                categories: &["@slow"],
                summary: "Describes the cluster's state.",
                since: "3.0.0",
                complexity: "O(N), N ranges of slots",
                tips: &["nondeterministic_output"],
                ..BASE
            },
            Spec {
                id: Id::ClusterKeyslot,
                name: "cluster|keyslot",
                arity: 3,
                flags: &["stale"],
                categories: &["@slow"],
                summary: "Gives the hash slot of a key.",
                usage: "key",
                since: "3.0.0",
                complexity: "O(N), N bytes of the key",
                ..BASE
            },
            Spec {
                id: Id::ClusterMyid,
                name: "cluster|myid",
                arity: 2,
                flags: &["stale"],
                categories: &["@slow"],
                summary: "Gives the name of the node that is asked.",
                since: "3.0.0",
                complexity: "O(1)",
                ..BASE
            },
            Spec {
                id: Id::ClusterNodes,
                name: "cluster|nodes",
                arity: 2,
                flags: &["stale"],
                categories: &["@slow"],
                summary: "Lists the nodes with their slots, a line each.",
                since: "3.0.0",
                complexity: "O(N), N nodes and ranges of slots",
                tips: &["nondeterministic_output"],
                ..BASE
            },
            Spec {
                id: Id::ClusterShards,
                name: "cluster|shards",
                arity: 2,
                flags: &["stale"],
                categories: &["@slow"],
                summary: "Lists the slots of each leading node, with its replicas.",
                since: "7.0.0",
                complexity: "O(N), N nodes and ranges of slots",
                tips: &["nondeterministic_output"],
                ..BASE
            },
            Spec {
                id: Id::ClusterSlots,
                name: "cluster|slots",
                arity: 2,
                flags: &["stale"],
                categories: &["@slow"],
                summary: "Lists ranges of slots with the nodes that answer for them.",
                since: "3.0.0",
                complexity: "O(N), N nodes and ranges of slots",
                tips: &["nondeterministic_output"],
                deprecated: Some(Deprecated { since: "7.0.0", instead: "CLUSTER SHARDS" }),
                ..BASE
            },
        ],
        ..BASE
    },
    Spec {
        id: Id::Readonly,
        name: "readonly",
        arity: 1,
        flags: &["loading", "stale", "fast"],
        categories: &["@fast", "@connection"],
        summary: "Lets a replica answer the connection's reads.",
        since: "3.0.0",
        complexity: "O(1)",
        ..BASE
    },
    Spec {
        id: Id::Readwrite,
        name: "readwrite",
        arity: 1,
        flags: &["loading", "stale", "fast"],
        categories: &["@fast", "@connection"],
        summary: "Takes READONLY back.",
        since: "3.0.0",
        complexity: "O(1)",
        ..BASE
    },
];
