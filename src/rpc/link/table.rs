//! Links to the nodes of a cluster, by their numbers.

use crate::base::{Error, ErrorKind, Result};
use crate::rpc::link::dial::{Link, LinkOptions};
use crate::rpc::link::hello::Hello;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ways of messages between two nodes, each a connection of its own: what is large does not hold
/// up what is urgent.
const CLASSES: usize = 4;

/// Links to nodes. Clones share them.
#[derive(Debug, Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: LinkOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    hello: Hello,
    nodes: HashMap<u64, Node>,
}

#[derive(Debug, Default)]
struct Node {
    address: String,
    links: [Option<Link>; CLASSES],
}

impl Links {
    /// No links yet; `hello` is who speaks on them.
    pub fn new(hello: Hello, options: LinkOptions) -> Links {
        let state = State { hello, nodes: HashMap::new() };
        Links { shared: Arc::new(Shared { options, state: Mutex::new(state) }) }
    }

    /// Who speaks. Links made from now on say it.
    pub fn set_hello(&self, hello: Hello) {
        let mut state = self.state();
        if state.hello != hello {
            state.hello = hello;
            state.nodes.values_mut().for_each(|node| node.links = Default::default());
        }
    }

    /// Says where a node is. A link to where it was is ended once nobody uses it.
    pub fn set(&self, node: u64, address: &str) {
        let mut state = self.state();
        let known = state.nodes.entry(node).or_default();
        if known.address != address {
            *known = Node { address: address.to_string(), links: Default::default() };
        }
    }

    /// Where a node is.
    pub fn address(&self, node: u64) -> Option<String> {
        self.state().nodes.get(&node).map(|node| node.address.clone())
    }

    /// The link of a class to a node. REQUIRES: a runtime.
    ///
    /// # Errors
    /// `Unavailable` if nobody has said where it is.
    pub fn get(&self, node: u64, class: u8) -> Result<Link> {
        let mut state = self.state();
        let hello = state.hello;
        let place = state.nodes.get_mut(&node).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("the address of node {node} is not known"))
        })?;
        let Node { address, links } = place;
        let link = links[usize::from(class) % CLASSES]
            .get_or_insert_with(|| Link::new(address, hello, self.shared.options.clone()));
        Ok(link.clone())
    }

    /// Says something to a node, without waiting. REQUIRES: a runtime.
    ///
    /// # Errors
    /// As [`Links::get`] and [`Link::post`].
    pub fn post(&self, node: u64, class: u8, body: Bytes) -> Result<()> {
        self.get(node, class)?.post(class, body)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
