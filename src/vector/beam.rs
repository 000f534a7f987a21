//! What a walk through a graph remembers: the nearest nodes so far, and those it has seen.

use std::sync::{Mutex, PoisonError};

/// A node and its distance as one number that sorts by distance, then by slot.
///
/// ```text
/// bits 63..32: the distance, so that unsigned order is that of floats
/// bits 31..1:  the slot
/// bit 0:       whether the node's neighbours have been looked at
/// ```
pub(super) type Key = u64;

/// Slots are below this: a key has 31 bits for them.
pub(super) const SLOTS_MAX: usize = 1 << 31;

#[inline(always)]
pub(super) fn key(distance: f32, slot: u32) -> Key {
    let bits = distance.to_bits();
    let flip = (bits as i32 >> 31) as u32 | 0x8000_0000;
    u64::from(bits ^ flip) << 32 | u64::from(slot) << 1
}

#[inline(always)]
pub(super) fn slot_of(key: Key) -> u32 {
    (key as u32) >> 1
}

#[inline(always)]
pub(super) fn distance_of(key: Key) -> f32 {
    let bits = (key >> 32) as u32;
    let flip = if bits >> 31 == 1 { 0x8000_0000 } else { u32::MAX };
    f32::from_bits(bits ^ flip)
}

/// A place is looked for node by node among so many.
const WALKED_MAX: usize = 128;
/// Nodes that are moved at once to make room.
const STEP: usize = 8;

/// From this width on a node that is put into a beam moves so many others that it counts.
pub(super) const WIDE: usize = 1_024;
/// Nodes of a beam that are moved in the time of a distance, each of them for each node that is put
/// into it, roughly.
const MOVES_PER_DISTANCE: u64 = 64;

/// Places of a beam that is kept for the next walk, at most.
const KEPT_MAX: usize = 64 << 10;

/// What a walk with a beam of this width costs that computes so many distances for each node in it:
/// of a wide one most is keeping it in order.
pub(super) fn walk_cost(width: usize, each: u64) -> u64 {
    let beyond = width.saturating_sub(WIDE) as u64;
    let moves = beyond.saturating_mul(beyond) / MOVES_PER_DISTANCE;
    (width as u64).saturating_mul(each).saturating_add(moves)
}

/// The nearest nodes so far, in order, and which of them are still to be looked at.
#[derive(Debug, Default)]
pub(super) struct Beam {
    keys: Vec<Key>,
    width: usize,
    /// Before this place all nodes have been looked at.
    cursor: usize,
}

impl Beam {
    /// Empties it and sets how many nodes it holds.
    pub(super) fn reset(&mut self, width: usize) {
        self.keys.clear();
        self.keys.reserve(width);
        self.width = width;
        self.cursor = 0;
    }

    /// Sets how many nodes it holds and fills it with the nearest of these, as if each were offered.
    pub(super) fn fill(&mut self, width: usize, mut keys: Vec<Key>) {
        if keys.len() > width {
            keys.select_nth_unstable(width);
            keys.truncate(width);
        }
        keys.sort_unstable();
        self.keys.clear();
        self.keys.extend_from_slice(&keys);
        (self.width, self.cursor) = (width, 0);
    }

    /// Gives its memory back if that is much: few walks need so much.
    pub(super) fn give_back(&mut self) {
        if self.keys.capacity() > KEPT_MAX {
            self.keys = Vec::new();
        }
    }

    /// What it holds, in order.
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub(super) fn is_full(&self) -> bool {
        self.keys.len() == self.width
    }

    /// The key below which a node finds a place.
    #[inline(always)]
    pub(super) fn limit(&self) -> Key {
        if self.is_full() { self.keys.last().copied().unwrap_or(0) } else { Key::MAX }
    }

    /// Puts a node in its place, if it is near enough. One node may stand in it twice if it is
    /// offered twice.
    #[inline(always)]
    pub(super) fn offer(&mut self, key: Key) {
        if key < self.limit() {
            self.put(key);
        }
    }

    #[inline]
    fn put(&mut self, key: Key) {
        if self.is_full() {
            self.keys.pop();
        }
        let mut at = self.keys.len();
        if at > WALKED_MAX {
            at = self.keys.partition_point(|other| *other < key);
            self.keys.insert(at, key);
        } else {
            // Walking past those that are farther is faster than a search and a move.
            self.keys.push(key);
            while at >= STEP && self.keys[at - STEP] > key {
                self.keys.copy_within(at - STEP..at, at - STEP + 1);
                at -= STEP;
            }
            while at > 0 && self.keys[at - 1] > key {
                self.keys[at] = self.keys[at - 1];
                at -= 1;
            }
            self.keys[at] = key;
        }
        self.cursor = self.cursor.min(at);
    }

    /// The nearest node that was not looked at; from now on it was.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Key> {
        while let Some(key) = self.keys.get_mut(self.cursor) {
            self.cursor += 1;
            if *key & 1 == 0 {
                *key |= 1;
                return Some(*key);
            }
        }
        None
    }

    /// The node that [`Beam::next`] would give, if no other is offered before.
    #[inline]
    pub(super) fn peek(&self) -> Option<Key> {
        self.keys.get(self.cursor..)?.iter().copied().find(|key| key & 1 == 0)
    }
}

/// Which slots a walk has seen: the number of the walk that saw it last, for each slot.
#[derive(Debug, Default)]
pub(super) struct Seen {
    marks: Vec<u8>,
    walk: u8,
}

impl Seen {
    /// Begins a walk over `slots` slots.
    pub(super) fn begin(&mut self, slots: usize) {
        self.walk = self.walk.wrapping_add(1);
        if self.walk == 0 {
            self.marks.fill(0);
            self.walk = 1;
        }
        self.marks.resize(slots, 0);
    }

    /// Marks a slot; says whether it was unseen.
    #[inline(always)]
    pub(super) fn insert(&mut self, slot: u32) -> bool {
        let mark = &mut self.marks[slot as usize];
        let is_new = *mark != self.walk;
        *mark = self.walk;
        is_new
    }

    /// Whether a slot is marked.
    #[inline(always)]
    pub(super) fn contains(&self, slot: u32) -> bool {
        self.marks[slot as usize] == self.walk
    }
}

/// Which slots match, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// The number of the walk that asked last, with bit 0 set if it matches.
    marks: Vec<u8>,
    walk: u8,
}

impl Verdicts {
    /// Begins a walk over `slots` slots.
    pub(super) fn begin(&mut self, slots: usize) {
        self.walk = self.walk.wrapping_add(2);
        if self.walk == 0 {
            self.marks.fill(0);
            self.walk = 2;
        }
        self.marks.resize(slots, 0);
    }

    /// Whether a slot matches: asks `accept` once in a walk.
    #[inline(always)]
    pub(super) fn has(&mut self, slot: u32, accept: &dyn Fn(u32) -> bool) -> bool {
        let mark = &mut self.marks[slot as usize];
        if *mark & !1 != self.walk {
            *mark = self.walk | u8::from(accept(slot));
        }
        *mark & 1 == 1
    }
}

/// The memory of one walk; kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) beam: Beam,
    pub(super) found: Beam,
    pub(super) seen: Seen,
    pub(super) verdicts: Verdicts,
    /// Neighbours that were unseen, and their distances.
    pub(super) fresh: Vec<u32>,
    pub(super) distances: Vec<f32>,
    /// What a query makes of itself to be compared with codes.
    pub(super) table: Vec<f32>,
    pub(super) rabit: super::code::rabitq::RabitQuery,
    pub(super) tables: super::code::signs::QueryTables,
    /// Where a walk begins.
    pub(super) doors: Beam,
    pub(super) stats: super::hit::SearchStats,
}

/// Scratches that nobody uses.
#[derive(Debug, Default)]
pub(super) struct Scratches(Mutex<Vec<Scratch>>);

impl Scratches {
    /// Runs `work` with a scratch of its own, with fresh counts.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        // A poisoned pool means that a push or a pop panicked, which leaves it whole.
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = kept.unwrap_or_default();
        scratch.stats = Default::default();
        let done = work(&mut scratch);
        scratch.beam.give_back();
        scratch.found.give_back();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    #[test]
    fn keys_sort_as_floats_and_give_them_back() {
        let floats = [f32::NEG_INFINITY, -3.5, -1e-40, -0.0, 0.0, 1e-40, 2.0, 3e38];
        for pair in floats.windows(2) {
            assert!(key(pair[0], 9) < key(pair[1], 3), "{pair:?}");
        }
        for distance in floats {
            let key = key(distance, 0x7fff_ffff);
            assert_eq!(
                (distance_of(key).to_bits(), slot_of(key)),
                (distance.to_bits(), 0x7fff_ffff)
            );
        }
        assert!(key(1.0, 3) < key(1.0, 4));
    }

    #[test]
    fn a_beam_holds_the_nearest_and_gives_each_once() {
        let mut rng = Rng::new(7);
        let mut beam = Beam::default();
        for width in [1, 2, 10, 64] {
            beam.reset(width);
            let mut all = Vec::new();
            let mut looked_at = Vec::new();
            for slot in 0..500 {
                let key = key(rng.below(1000) as f32 - 500.0, slot);
                beam.offer(key);
                all.push(key);
                all.sort_unstable();
                all.truncate(width);
                let held: Vec<Key> = beam.keys().iter().map(|key| key & !1).collect();
                assert_eq!(held, all);
                if rng.one_in(3) {
                    let expected = all.iter().copied().find(|key| !looked_at.contains(key));
                    assert_eq!(beam.peek(), expected);
                    assert_eq!(beam.next().map(|key| key & !1), expected);
                    looked_at.extend(expected);
                }
            }
        }
    }

    #[test]
    fn a_beam_that_is_filled_holds_what_it_was_offered() {
        let mut rng = Rng::new(8);
        for (count, width) in [(0, 4), (3, 4), (4, 4), (500, 40), (500, 1), (500, 500)] {
            let keys: Vec<Key> =
                (0..count).map(|slot| key(rng.below(90) as f32 - 50.0, slot)).collect();
            let (mut offered, mut filled) = (Beam::default(), Beam::default());
            offered.reset(width);
            keys.iter().for_each(|key| offered.offer(*key));
            filled.fill(width, keys);
            assert_eq!((offered.keys(), offered.is_full()), (filled.keys(), filled.is_full()));
        }
    }

    #[test]
    fn a_walk_sees_each_slot_once() {
        let mut seen = Seen::default();
        for walk in 0..600 {
            seen.begin(1 + walk);
            assert!(seen.insert(walk as u32) && !seen.insert(walk as u32));
            assert!(walk == 0 || seen.insert(0));
        }
    }
}
