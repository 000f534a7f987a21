//! Who may speak to whom.

use crate::base::{Error, ErrorKind, Result};
use crate::raft::grpc::pb;
use crate::raft::transport::{Class, NodeId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// Version of the protocol.
const VERSION: u32 = 1;

/// Who a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: [u8; 16],
    /// The node.
    pub node: NodeId,
    /// Drawn when the node's folder was made.
    pub incarnation: u64,
}

/// A node as the registry of the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it listens: `http://host:port`.
    pub address: String,
    /// The incarnation under which it joined.
    pub incarnation: u64,
}

/// What a node knows of the others.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) own: Identity,
    peers: RwLock<BTreeMap<NodeId, Peer>>,
}

impl Registry {
    pub(crate) fn new(own: Identity) -> Registry {
        Registry { own, peers: RwLock::default() }
    }

    pub(crate) fn set(&self, peers: BTreeMap<NodeId, Peer>) {
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    pub(crate) fn get(&self, node: NodeId) -> Result<Peer> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(&node).cloned().ok_or_else(|| {
            let message = format!("node {node} is not known here yet; try again soon");
            Error::new(ErrorKind::Unavailable, message)
        })
    }

    /// What this node says first.
    pub(crate) fn hello(&self, to: NodeId, class: Class) -> pb::Hello {
        pb::Hello {
            version: VERSION,
            cluster: Bytes::copy_from_slice(&self.own.cluster),
            node: self.own.node.0,
            incarnation: self.own.incarnation,
            to: to.0,
            class: match class {
                Class::Control => 1,
                Class::Append => 2,
                Class::Snapshot => 3,
            },
        }
    }

    /// Checks who calls.
    ///
    /// # Errors
    /// `Refused` if it must not; `Unavailable` if it is not known yet.
    pub(crate) fn admit(&self, hello: &pb::Hello) -> Result<(NodeId, Class)> {
        let refused = |message: String| Err(Error::new(ErrorKind::Refused, message));
        let (node, own) = (NodeId(hello.node), self.own.node);
        if hello.version != VERSION {
            return refused(format!(
                "node {node} speaks version {} of the nodes' protocol, this one {VERSION}",
                hello.version
            ));
        }
        if hello.cluster[..] != self.own.cluster[..] {
            return refused(format!("node {node} belongs to another cluster"));
        }
        if NodeId(hello.to) != own {
            return refused(format!("this is node {own}, not node {}", hello.to));
        }
        self.recognise(node, hello.incarnation)?;
        match hello.class {
            1 => Ok((node, Class::Control)),
            2 => Ok((node, Class::Append)),
            3 => Ok((node, Class::Snapshot)),
            class => refused(format!("messages of class {class} are of a newer program")),
        }
    }

    /// Checks that a node is the one that joined.
    ///
    /// # Errors
    /// As [`Registry::admit`].
    pub(crate) fn recognise(&self, node: NodeId, incarnation: u64) -> Result<()> {
        if self.get(node)?.incarnation == incarnation {
            return Ok(());
        }
        let message = format!(
            "node {node} has lost what it knew since it joined: it may have voted or acknowledged \
             what it no longer has. Remove it, and let it join under a new id"
        );
        Err(Error::new(ErrorKind::Refused, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_that_joined_are_admitted() {
        let identity =
            |node, incarnation| Identity { cluster: [7; 16], node: NodeId(node), incarnation };
        let here = Registry::new(identity(1, 11));
        let there = Registry::new(identity(2, 22));
        let hello = there.hello(NodeId(1), Class::Append);
        assert_eq!(here.admit(&hello).unwrap_err().kind(), ErrorKind::Unavailable);
        let peer = Peer { address: String::new(), incarnation: 22 };
        here.set(BTreeMap::from([(NodeId(2), peer)]));
        assert_eq!(here.admit(&hello).unwrap(), (NodeId(2), Class::Append));
        let refused = |change: fn(&mut pb::Hello)| {
            let mut other = hello.clone();
            change(&mut other);
            let error = here.admit(&other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            error.message().to_string()
        };
        assert!(refused(|h| h.incarnation = 23).contains("join under a new id"));
        assert!(refused(|h| h.cluster = Bytes::from_static(&[8; 16])).contains("another cluster"));
        assert!(refused(|h| h.to = 3).contains("this is node 1"));
        assert!(refused(|h| h.version = 2).contains("version 2"));
        assert!(refused(|h| h.class = 9).contains("newer"));
    }
}
