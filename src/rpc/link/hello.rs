//! Who speaks on a link.
//!
//! ```text
//! hello:   [version u8 = 1][role u8][cluster 16 bytes][node u64 LE][incarnation u64 LE]
//! welcome: 0 hello | 1 error
//! ```
//! The cluster is all zeros as long as the caller knows none; a node is 0 for what has no number.

use crate::base::codec::Reader;
use crate::base::{Error, ErrorKind, Result};
use crate::rpc::ops::{Cut, put_error, read_error};
use bytes::Bytes;

const VERSION: u8 = 1;

/// What a program of a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Keeps the cluster's metadata.
    Meta = 1,
    /// Keeps shards.
    Node = 2,
    /// Keeps nothing.
    Gateway = 3,
    /// A person's program.
    Tool = 4,
}

/// Who is at an end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What it is.
    pub role: Role,
    /// The cluster it belongs to; zeros if it does not know.
    pub cluster: [u8; 16],
    /// Its number; 0 if it has none.
    pub node: u64,
    /// Drawn when its data was made; 0 if it has none.
    pub incarnation: u64,
}

impl Hello {
    /// One without a number.
    pub fn nameless(role: Role, cluster: [u8; 16]) -> Hello {
        Hello { role, cluster, node: 0, incarnation: 0 }
    }

    /// Whether both may belong to one cluster.
    pub fn may_meet(&self, other: &Hello) -> bool {
        let unknown = [0; 16];
        self.cluster == other.cluster || self.cluster == unknown || other.cluster == unknown
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, self.role as u8];
        out.extend_from_slice(&self.cluster);
        out.extend_from_slice(&self.node.to_le_bytes());
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Hello> {
        let mut r = Reader::new(bytes);
        if r.u8() != Some(VERSION) {
            let message = "the other end of the link speaks another version; update the older one";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let hello = || {
            let role = match r.u8()? {
                1 => Role::Meta,
                2 => Role::Node,
                3 => Role::Gateway,
                4 => Role::Tool,
                _ => return None,
            };
            let cluster = *r.take(16)?.first_chunk()?;
            Some(Hello { role, cluster, node: r.u64()?, incarnation: r.u64()? })
        };
        let mut hello = hello;
        hello().ok_or_else(|| Error::invalid("what a link began with is malformed"))
    }
}

pub(super) fn encode_welcome(outcome: &Result<Hello>) -> Bytes {
    let mut out = Vec::new();
    match outcome {
        Ok(hello) => {
            out.push(0);
            out.extend(hello.encode());
        }
        Err(error) => {
            out.push(1);
            put_error(&mut out, error);
        }
    }
    out.into()
}

pub(super) fn decode_welcome(bytes: &Bytes) -> Result<Hello> {
    let mut cut = Cut::new(bytes, "a welcome");
    match cut.u8()? {
        0 => Hello::decode(&cut.rest()),
        1 => Err(read_error(&mut cut)?),
        kind => Err(cut.unknown(kind.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos_and_refusals_travel() {
        let hello = Hello { role: Role::Node, cluster: [7; 16], node: 3, incarnation: u64::MAX };
        assert_eq!(Hello::decode(&hello.encode()).unwrap(), hello);
        assert_eq!(decode_welcome(&encode_welcome(&Ok(hello))).unwrap(), hello);
        let refused = Error::new(ErrorKind::Refused, "another cluster");
        let back = decode_welcome(&encode_welcome(&Err(refused))).unwrap_err();
        assert_eq!((back.kind(), back.message()), (ErrorKind::Refused, "another cluster"));
        assert!(Hello::decode(&hello.encode()[..33]).is_err());
        let other = Hello::nameless(Role::Tool, [8; 16]);
        assert!(!hello.may_meet(&other));
        assert!(hello.may_meet(&Hello::nameless(Role::Tool, [0; 16])));
    }
}
