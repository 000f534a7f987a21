//! The graph in memory: vectors, links, levels, ids.
//!
//! A *slot* is a node's place in every table. A slot whose vector was removed is *dead*: walks still
//! pass through it, and no search returns it, until a repair makes it *free*; a new vector takes a
//! free slot before a fresh one.

use super::config::HnswConfig;
use super::repair::Sweep;
use crate::base::{Error, ErrorKind, Result};
use crate::env::Rng;
use crate::vector::beam::SLOTS_MAX;
use crate::vector::ids::IdMap;
use crate::vector::measure::Measure;
use crate::vector::metric::DIM_MAX;
use crate::vector::rows::Rows;

/// Ends a list of links that is not full.
pub(super) const NONE: u32 = u32::MAX;
/// The highest level a node can have.
pub(super) const LEVEL_MAX: u8 = 15;

/// What a slot holds. The numbers are those of stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Live = 0,
    Dead = 1,
    Free = 2,
}

/// Where a slot's links above the lowest level stand, and how many levels of them there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Height {
    pub(super) level: u8,
    /// The row of level 1; those of higher levels follow.
    pub(super) upper: u32,
}

#[derive(Debug)]
pub(in crate::vector) struct Graph {
    pub(super) config: HnswConfig,
    pub(in crate::vector) measure: Measure,
    pub(in crate::vector) vectors: Rows<f32>,
    /// Links of the lowest level, `2 * m` a node.
    pub(super) links: Rows<u32>,
    /// Links of the levels above, `m` a node and level.
    pub(super) upper: Rows<u32>,
    /// How many links at the start of a node's list are pinned.
    pinned: Vec<u16>,
    pub(super) heights: Vec<Height>,
    pub(in crate::vector) ids: Vec<u64>,
    pub(super) states: Vec<State>,
    pub(super) slots: IdMap,
    pub(super) dead: usize,
    pub(super) free: Vec<u32>,
    /// The repair that is going on.
    pub(super) sweep: Option<Sweep>,
    /// Where walks begin: a node of the highest level.
    pub(super) entry: Option<u32>,
}

impl Graph {
    pub(super) fn new(config: HnswConfig) -> Graph {
        // Settings out of bounds are refused before the first vector; tables need some width.
        let m = config.m.clamp(1, 1 << 16);
        let dim = config.dim.clamp(1, DIM_MAX);
        Graph {
            config,
            measure: Measure::new(config.metric),
            vectors: Rows::new(Rows::<f32>::aligned_stride(dim)),
            links: Rows::new(2 * m),
            upper: Rows::new(m),
            pinned: Vec::new(),
            heights: Vec::new(),
            ids: Vec::new(),
            states: Vec::new(),
            slots: IdMap::default(),
            dead: 0,
            free: Vec::new(),
            sweep: None,
            entry: None,
        }
    }

    pub(in crate::vector) fn config(&self) -> &HnswConfig {
        &self.config
    }

    /// Notes how many links of the next slot are pinned.
    pub(super) fn push_pinned(&mut self, len: usize) {
        self.pinned.push(len as u16);
    }

    /// Nodes that are not dead.
    pub(in crate::vector) fn live(&self) -> usize {
        self.slots.len()
    }

    /// The length of every table.
    pub(in crate::vector) fn slot_count(&self) -> usize {
        self.ids.len()
    }

    pub(in crate::vector) fn is_live(&self, slot: u32) -> bool {
        self.states[slot as usize] == State::Live
    }

    pub(in crate::vector) fn slot(&self, id: u64) -> Option<u32> {
        self.slots.get(id)
    }

    /// The vector of a slot, as it is compared.
    #[inline]
    pub(in crate::vector) fn vector(&self, slot: u32) -> &[f32] {
        &self.vectors.row(slot)[..self.config.dim]
    }

    pub(in crate::vector) fn level(&self, slot: u32) -> u8 {
        self.heights[slot as usize].level
    }

    /// The level of the entry.
    pub(super) fn top(&self) -> u8 {
        self.entry.map_or(0, |entry| self.level(entry))
    }

    /// Links a node may have on a level.
    pub(super) fn links_max(&self, level: u8) -> usize {
        if level == 0 { self.links.stride() } else { self.upper.stride() }
    }

    /// A node's list of links on a level, with what fills it up. REQUIRES: it has that level.
    #[inline(always)]
    fn list(&self, slot: u32, level: u8) -> &[u32] {
        if level == 0 {
            return self.links.row(slot);
        }
        let height = self.heights[slot as usize];
        assert!(level <= height.level);
        self.upper.row(height.upper + u32::from(level) - 1)
    }

    /// A node's links on a level.
    #[inline(always)]
    pub(in crate::vector) fn neighbours(&self, slot: u32, level: u8) -> &[u32] {
        let list = self.list(slot, level);
        let len = list.iter().position(|link| *link == NONE).unwrap_or(list.len());
        &list[..len]
    }

    /// How many of a node's links on the lowest level, from the first on, are pinned.
    pub(in crate::vector) fn pinned_len(&self, slot: u32) -> usize {
        usize::from(self.pinned[slot as usize])
    }

    /// Replaces a node's links on the lowest level; the first `pinned` of them are pinned.
    pub(super) fn set_list(&mut self, slot: u32, pinned: usize, links: &[u32]) {
        debug_assert!(pinned <= links.len() && pinned <= self.config.m + 1);
        self.pinned[slot as usize] = pinned as u16;
        fill(self.links.row_mut(slot), links);
    }

    /// Replaces a node's links on a level above the lowest.
    pub(super) fn set_upper(&mut self, slot: u32, level: u8, links: &[u32]) {
        let height = self.heights[slot as usize];
        assert!(level > 0 && level <= height.level);
        fill(self.upper.row_mut(height.upper + u32::from(level) - 1), links);
    }

    /// Whether `more` nodes have numbers left.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if not.
    pub(super) fn check_room(&self, more: usize) -> Result<()> {
        if self.slot_count() + more.saturating_sub(self.free.len()) >= SLOTS_MAX {
            return Err(Error::new(ErrorKind::Refused, "a graph holds at most 2^31 vectors"));
        }
        Ok(())
    }

    /// Makes room for `more` nodes. REQUIRES: there is room.
    pub(super) fn reserve(&mut self, more: usize) {
        let more = more.saturating_sub(self.free.len());
        self.vectors.reserve(more);
        self.links.reserve(more);
        self.slots.reserve(more);
        self.ids.reserve(more);
        self.heights.reserve(more);
        self.pinned.reserve(more);
        self.states.reserve(more);
    }

    /// Gives a vector a slot without links. REQUIRES: room was reserved, the id is not in use.
    pub(super) fn place(&mut self, id: u64, vector: &[f32]) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.add_slot(),
        };
        self.vectors.row_mut(slot)[..vector.len()].copy_from_slice(vector);
        self.ids[slot as usize] = id;
        self.states[slot as usize] = State::Live;
        self.slots.insert(id, slot);
        slot
    }

    fn add_slot(&mut self) -> u32 {
        let slot = self.vectors.push(&[]);
        self.links.extend_to(slot as usize + 1, NONE);
        let level = drawn_level(self.config.seed, slot, self.config.m);
        let upper = self.upper.len() as u32;
        self.upper.extend_to(upper as usize + usize::from(level), NONE);
        self.heights.push(Height { level, upper });
        self.pinned.push(0);
        self.ids.push(0);
        self.states.push(State::Free);
        slot
    }

    /// Takes the vector of an id out of all answers. False if there is none.
    pub(super) fn bury(&mut self, id: u64) -> bool {
        let Some(slot) = self.slots.remove(id) else { return false };
        self.states[slot as usize] = State::Dead;
        self.dead += 1;
        true
    }

    /// Takes the links of a dead slot away and lets a new vector have it.
    pub(super) fn release(&mut self, slot: u32) {
        self.set_list(slot, 0, &[]);
        for level in 1..=self.level(slot) {
            self.set_upper(slot, level, &[]);
        }
        self.states[slot as usize] = State::Free;
        self.free.push(slot);
        self.dead -= 1;
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let tables = self.vectors.memory_bytes()
            + self.links.memory_bytes()
            + self.upper.memory_bytes()
            + self.slots.memory_bytes();
        let each = size_of::<Height>() + size_of::<u16>() + size_of::<u64>() + size_of::<State>();
        tables + self.slot_count() * each + self.free.len() * size_of::<u32>()
    }
}

/// Writes a list of links.
fn fill(list: &mut [u32], links: &[u32]) {
    list[..links.len()].copy_from_slice(links);
    list[links.len()..].fill(NONE);
}

/// A slot's level: `l` with a chance of 1 in `m^l`. It stays with the slot.
fn drawn_level(seed: u64, slot: u32, m: usize) -> u8 {
    let mut rng = Rng::new(seed ^ u64::from(slot).wrapping_mul(0xD6E8_FEB8_6659_FD93));
    let mut level = 0;
    while level < LEVEL_MAX && rng.one_in(m as u64) {
        level += 1;
    }
    level
}
