//! The walk from row to row.

use super::index::PackedIndex;
use super::row::NONE;
use crate::vector::beam::{Beam, Key, Seen, distance_of, key, slot_of};
use crate::vector::code::signs::QueryTables;
use crate::vector::doors::BEGINNINGS;
use crate::vector::hit::{Hit, SearchStats};
use crate::vector::kernel::SCAN_WIDTH;
use crate::vector::measure::ScaledQuery;

/// What a walk needs, and the next one again.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The query, as large as the rows' vectors are.
    pub(super) query: ScaledQuery,
    pub(super) rotated: Vec<f32>,
    pub(super) tables: QueryTables,
    /// Where it begins.
    doors: Beam,
    /// Nodes to go to, by their estimates. One that was estimated from several nodes stands in it
    /// several times: the best estimate counts.
    ahead: Beam,
    /// The nearest so far, by their exact distances.
    pub(super) found: Beam,
    seen: Seen,
    /// What an exact search has compared with.
    pub(super) exact: Vec<Hit>,
    pub(super) stats: SearchStats,
}

impl Walk {
    /// Gives memory back that few walks need.
    pub(super) fn give_back(&mut self) {
        self.ahead.give_back();
        self.found.give_back();
    }
}

impl PackedIndex {
    /// Puts the `k` nearest nodes that `accept` takes into `walk.found`.
    pub(super) fn walk(&self, walk: &mut Walk, k: usize, ef: usize, accept: &dyn Fn(u32) -> bool) {
        walk.ahead.reset(ef);
        walk.found.reset(k);
        walk.seen.begin(self.len());
        walk.doors.reset(BEGINNINGS);
        self.doors.nearest(self.kernels, &walk.rotated, &walk.tables, &mut walk.doors);
        walk.stats.estimates += self.doors.ranks().len() as u64;
        for door in walk.doors.keys() {
            let door = slot_of(*door);
            let distance = self.distance(&walk.query, door);
            walk.stats.distances += 1;
            walk.ahead.offer(key(distance, door));
        }
        let mut asked = NONE;
        while let Some(next) = walk.ahead.next() {
            let slot = slot_of(next);
            if !walk.seen.insert(slot) {
                continue;
            }
            self.ask_for(walk.ahead.peek(), &mut asked);
            let exact = self.distance(&walk.query, slot);
            walk.stats.distances += 1;
            if accept(slot) {
                walk.found.offer(key(exact, slot));
            }
            self.look_around(walk, slot, exact);
            self.ask_for(walk.ahead.peek(), &mut asked);
        }
    }

    /// Estimates a node's neighbours and offers those that are near enough.
    #[inline(always)]
    fn look_around(&self, walk: &mut Walk, slot: u32, exact: f32) {
        let is_full = walk.ahead.is_full();
        let limit = if is_full { distance_of(walk.ahead.limit()) } else { f32::INFINITY };
        let mut estimates = [0.0; SCAN_WIDTH];
        let codes = self.layout.codes(&self.rows, slot);
        let factors = self.layout.factors(&self.rows, slot);
        let scan = walk.tables.scan(codes, factors, exact, limit);
        let mut below = (self.kernels.scan)(&scan, &mut estimates);
        walk.stats.estimates += SCAN_WIDTH as u64;
        walk.stats.hops += 1;
        let links = self.layout.links(&self.rows, slot);
        while below != 0 {
            let place = below.trailing_zeros() as usize;
            below &= below - 1;
            let link = links[place];
            if link != NONE && !walk.seen.contains(link) {
                walk.ahead.offer(key(estimates[place], link));
            }
        }
    }

    /// Has the memory of the row that is probably next fetched, once.
    #[inline(always)]
    fn ask_for(&self, next: Option<Key>, asked: &mut u32) {
        const LINES_AT_ONCE: usize = 1024;
        let Some(next) = next.map(slot_of) else { return };
        if next == *asked {
            return;
        }
        *asked = next;
        let row = self.rows.row(next);
        for part in row.chunks(LINES_AT_ONCE) {
            crate::env::prefetch_for_read(part.as_ptr(), part.len());
        }
    }
}
