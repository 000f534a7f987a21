//! How nodes are laid into blocks.
//!
//! ```text
//! a block: the payloads of some pages, one behind the other; nodes one behind the other
//! a node
//!   0         8          id
//!   8         2 * dim    the vector, 16-bit floats of what is `scale` times as large
//!   8+2*dim   4 * links  numbers of neighbours; NONE fills the list up
//! ```
//!
//! Node `n` is node `n % nodes` of block `n / nodes`. Where a vector and 32 links fit into a page, a
//! block is a page and holds as many nodes as that leaves room for, and their lists share what is
//! left over. Else a block is as many pages as one node needs.

use super::pages::PAYLOAD_BYTES;

/// Fills up a list of links.
pub(super) const NONE: u32 = u32::MAX;
/// Links of a node, at least and at most.
const LINKS_MIN: usize = 32;
const LINKS_MAX: usize = 64;
const ID_BYTES: usize = 8;

/// The places of things in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) dim: usize,
    /// Nodes of a block.
    pub(super) nodes: usize,
    /// Pages of a block.
    pub(super) pages: usize,
    /// Links of a node.
    pub(super) links: usize,
}

impl Layout {
    pub(super) fn new(dim: usize) -> Layout {
        let fixed = ID_BYTES + 2 * dim;
        let least = fixed + 4 * LINKS_MIN;
        let nodes = (PAYLOAD_BYTES / least).max(1);
        let pages = least.div_ceil(PAYLOAD_BYTES).max(1);
        let links = ((PAYLOAD_BYTES * pages / nodes - fixed) / 4).min(LINKS_MAX);
        Layout { dim, nodes, pages, links }
    }

    pub(super) fn node_bytes(&self) -> usize {
        ID_BYTES + 2 * self.dim + 4 * self.links
    }

    pub(super) fn block_bytes(&self) -> usize {
        self.pages * PAYLOAD_BYTES
    }

    /// Blocks of `count` nodes.
    pub(super) fn blocks(&self, count: usize) -> usize {
        count.div_ceil(self.nodes)
    }

    pub(super) fn block_of(&self, node: u32) -> u32 {
        node / self.nodes as u32
    }

    /// Appends a node.
    pub(super) fn put(&self, id: u64, halves: &[u16], links: &[u32], out: &mut Vec<u8>) {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        let filled = links.iter().chain(std::iter::repeat(&NONE)).take(self.links);
        out.extend(filled.flat_map(|link| link.to_le_bytes()));
    }

    /// A node's id, and the bytes of its vector and its links. REQUIRES: `place` is below `nodes`,
    /// and `block` is a block.
    pub(super) fn parts<'a>(&self, block: &'a [u8], place: usize) -> (u64, &'a [u8], &'a [u8]) {
        let node = &block[place * self.node_bytes()..][..self.node_bytes()];
        let (id, rest) = node.split_at(ID_BYTES);
        let (vector, links) = rest.split_at(2 * self.dim);
        let mut bytes = [0; ID_BYTES];
        bytes.copy_from_slice(id);
        (u64::from_le_bytes(bytes), vector, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_fill_their_blocks_and_fit() {
        for dim in (1..300).chain([384, 512, 768, 1024, 1536, 1940, 2000, 3072, 4096, 65_536]) {
            let layout = Layout::new(dim);
            assert!(layout.nodes * layout.node_bytes() <= layout.block_bytes(), "{layout:?}");
            assert!((LINKS_MIN..=LINKS_MAX).contains(&layout.links), "{layout:?}");
            assert!(layout.nodes == 1 || layout.pages == 1, "{layout:?}");
        }
        assert_eq!(Layout::new(384), Layout { dim: 384, nodes: 4, pages: 1, links: 61 });
    }
}
