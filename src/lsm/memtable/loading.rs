//! Many records in any order, put in order all at once: what a log holds when it is replayed.
//!
//! Finding the place of each record in a large list touches some thirty nodes outside the
//! processor's caches. Recovery, where nobody reads yet, writes the nodes one behind the other and
//! remembers them; in the end they are sorted by eight bytes of their keys, and linked from first
//! to last.

#![expect(unsafe_code, reason = "follows pointers to nodes that the list's arena keeps alive")]

use super::node::{Node, NodeRef};
use super::samples::head_behind;
use std::cmp::Ordering;

/// Nodes that are linked ahead of are fetched so many nodes before.
const AHEAD: usize = 12;

/// Nodes written and not yet linked. Owned by the list's writer.
#[derive(Default)]
pub(super) struct Loading {
    nodes: Vec<*mut Node>,
}

impl Loading {
    /// Remembers a node.
    pub(super) fn push(&mut self, node: NodeRef<'_>) {
        self.nodes.push(node.as_ptr());
    }

    /// Shows the nodes in the order of their internal keys; of equal ones the first only.
    ///
    /// # Safety
    /// The arena of all nodes lives for `'a`.
    pub(super) unsafe fn finish<'a>(self, mut see: impl FnMut(NodeRef<'a>)) {
        // SAFETY: as the caller promises: whole nodes of a living arena.
        let node = |at: *mut Node| unsafe { NodeRef::<'a>::new(at) };
        let mut keys = self.nodes.iter().filter_map(|at| node(*at)).map(NodeRef::user_key);
        let Some(first) = keys.next() else { return };
        let shared = keys.fold(first.len(), |shared, key| {
            let same = first[..shared].iter().zip(key).take_while(|(a, b)| a == b);
            // Mostly all of it: compared as one.
            if key.starts_with(&first[..shared]) { shared } else { same.count() }
        });
        let prefix = &first[..shared];
        let mut sorted: Vec<(u64, NodeRef<'a>)> = self
            .nodes
            .iter()
            .filter_map(|at| node(*at))
            .map(|node| (head_behind(prefix, node.user_key()), node))
            .collect();
        drop(self.nodes);
        let whole = |a: NodeRef<'_>, b: NodeRef<'_>| {
            a.user_key().cmp(b.user_key()).then_with(|| b.trailer().cmp(&a.trailer()))
        };
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| whole(a.1, b.1)));
        for (i, (head, node)) in sorted.iter().enumerate() {
            if let Some((_, ahead)) = sorted.get(i + AHEAD) {
                ahead.prefetch();
            }
            let is_again = i.checked_sub(1).is_some_and(|before| {
                sorted[before].0 == *head && whole(sorted[before].1, *node) == Ordering::Equal
            });
            if !is_again {
                see(*node);
            }
        }
    }
}
