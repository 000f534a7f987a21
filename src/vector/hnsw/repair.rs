//! Dead nodes leave the graph.
//!
//! A removed vector's node stays as a stepping stone until so many are dead that a search pays for
//! them. Then every node that has links to dead ones is given others in their place, chosen among
//! the neighbours of the dead as if they were the candidates of an insertion (after Singh et al.
//! 2021, section 4.3); the slots of the dead become free.
//!
//! That is one sweep over all nodes, which may be done some lists at a time, with insertions, removals
//! and searches in between: those that were dead when it began leave at its end, all at once. Pinned
//! links to them stay until then, so that every node can be reached all the while.

use super::graph::{Graph, State};
use crate::vector::beam::Scratches;
use crate::vector::ids::Mix;
use crate::vector::parallel;
use std::cmp::Reverse;
use std::collections::HashSet;

/// Dead nodes that no graph is repaired for.
const DEAD_MIN: usize = 64;
/// Of so many nodes one may be dead.
const NODES_PER_DEAD: usize = 10;
/// Nodes among which those behind the dead are looked for.
const MET_MAX: usize = 2000;

/// How many times nearer to a link that stays a candidate is that is passed over. As strict as with new
/// nodes, lists grow thinner with each repair, for want of those that new nodes bring: after twenty
/// rounds of replacing a tenth a node of 30,000 embeddings of text had 14.6 links in place of 19.0 and a
/// search found 94.9 of 100 in place of 95.2; so it has 21.5 and finds 96.4, for 11 of 100 distances more.
const CLEARLY: f32 = 1.1;
/// Slots that are looked at for each list that may be mended at once.
const SLOTS_PER_LIST: usize = 64;

/// Lists that are mended at once, at first and while they cost what they mostly do.
const LISTS_FIRST: usize = 4;
const LISTS_AT_ONCE: usize = 64;
/// Nodes that are met for a list, most often. Where most are dead they are many more, and fewer lists are
/// mended in a step.
const MET_PER_LIST: usize = 96;

/// What a list comes to.
struct Mended {
    links: Vec<u32>,
    /// Nodes that were met for it.
    met: usize,
}

/// A repair that is going on.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Slots before this one have no links to the dead but pinned ones.
    next: u32,
    /// Those that were dead when it began.
    leaving: Vec<u32>,
}

impl Graph {
    /// Whether so many nodes are dead that they should leave.
    pub(super) fn needs_repair(&self) -> bool {
        self.dead > DEAD_MIN.max(self.slot_count() / NODES_PER_DEAD)
    }

    /// Frees the slots of all dead nodes.
    pub(super) fn repair(&mut self, threads: usize, scratches: &Scratches) {
        while self.dead > 0 {
            while self.repair_some(usize::MAX, threads, scratches) {}
        }
    }

    /// Goes on with a repair, or begins one if nodes are dead: mends about so many lists, or fewer that
    /// cost as much. False once the slots of all that were dead at its beginning are free.
    pub(super) fn repair_some(
        &mut self,
        lists: usize,
        threads: usize,
        scratches: &Scratches,
    ) -> bool {
        let Some(mut sweep) = self.sweep.take().or_else(|| self.begin_repair()) else {
            return false;
        };
        let slots = self.slot_count() as u32;
        let last = (sweep.next as usize).saturating_add(lists.saturating_mul(SLOTS_PER_LIST));
        let last = slots.min(u32::try_from(last).unwrap_or(u32::MAX));
        let (mut mended, mut met, mut at_once) = (0, 0, LISTS_FIRST);
        while sweep.next < last && mended < lists && met < lists.saturating_mul(MET_PER_LIST) {
            let hurt = self.hurt_lists(&mut sweep.next, last, at_once);
            let lists =
                parallel::map(threads, hurt.len(), |i| self.without_dead(hurt[i].0, hurt[i].1));
            mended += hurt.len();
            for ((slot, level), list) in hurt.into_iter().zip(lists) {
                met += list.met;
                match level {
                    0 => self.set_list(slot, self.pinned_len(slot), &list.links),
                    _ => self.set_upper(slot, level, &list.links),
                }
            }
            // Their cost is only known afterwards.
            let is_costly = met > mended * MET_PER_LIST;
            at_once = if is_costly { LISTS_FIRST } else { (2 * at_once).min(LISTS_AT_ONCE) };
        }
        if sweep.next < slots {
            self.sweep = Some(sweep);
            return true;
        }
        self.let_go(&sweep.leaving, scratches);
        false
    }

    /// The next lists with links to the dead, from a slot on: `most` or a few more, or all up to `last`.
    fn hurt_lists(&self, next: &mut u32, last: u32, most: usize) -> Vec<(u32, u8)> {
        let mut hurt = Vec::new();
        while *next < last && hurt.len() < most {
            let slot = *next;
            if self.is_live(slot) {
                let levels = 0..=self.level(slot);
                hurt.extend(levels.filter(|l| self.is_hurt(slot, *l)).map(|l| (slot, l)));
            }
            *next += 1;
        }
        hurt
    }

    fn begin_repair(&self) -> Option<Sweep> {
        let slots = 0..self.slot_count() as u32;
        // Highest slots first, so that the lowest are given out first.
        let leaving: Vec<u32> = slots.rev().filter(|slot| self.is_dead(*slot)).collect();
        (!leaving.is_empty()).then_some(Sweep { next: 0, leaving })
    }

    /// Frees the slots of nodes to which no live one is linked but by pinned links.
    fn let_go(&mut self, leaving: &[u32], scratches: &Scratches) {
        let slots = self.slot_count() as u32;
        let mut leaves = vec![false; slots as usize];
        leaving.iter().for_each(|slot| leaves[*slot as usize] = true);
        let is_going = |slot: &u32| leaves[*slot as usize];
        for slot in (0..slots).filter(|slot| !is_going(slot)) {
            // A free one has no links.
            for level in 0..=self.level(slot) {
                let links = self.neighbours(slot, level);
                if !links.iter().any(is_going) {
                    continue;
                }
                let pinned = if level == 0 { self.pinned_len(slot) } else { 0 };
                let pinned = links[..pinned].iter().filter(|link| !is_going(link)).count();
                let stay: Vec<u32> = links.iter().copied().filter(|link| !is_going(link)).collect();
                match level {
                    0 => self.set_list(slot, pinned, &stay),
                    _ => self.set_upper(slot, level, &stay),
                }
            }
        }
        leaving.iter().for_each(|slot| self.release(*slot));
        if self.entry.is_some_and(|entry| !self.is_live(entry)) {
            let highest = |slot: &u32| (self.is_live(*slot), self.level(*slot), Reverse(*slot));
            let there = (0..slots).filter(|slot| self.states[*slot as usize] != State::Free);
            self.entry = there.max_by_key(highest);
        }
        self.mend_tree(scratches);
    }

    fn is_dead(&self, slot: u32) -> bool {
        self.states[slot as usize] == State::Dead
    }

    fn is_hurt(&self, slot: u32, level: u8) -> bool {
        self.neighbours(slot, level).iter().any(|link| self.is_dead(*link))
    }

    /// The links a live node has once all to the dead are gone that are not pinned, those first that
    /// are.
    fn without_dead(&self, slot: u32, level: u8) -> Mended {
        let pinned = if level == 0 { self.pinned_len(slot) } else { 0 };
        let before = self.neighbours(slot, level);
        let (mut links, others) = (before[..pinned].to_vec(), &before[pinned..]);
        let live = |links: &[u32]| -> Vec<u32> {
            links.iter().copied().filter(|link| !self.is_dead(*link)).collect()
        };
        let (mut among, met) = self.behind_the_dead(before, level);
        among.retain(|link| *link != slot && !before.contains(link));
        // Choosing among all again would thin the lists out, round after round. Those that are to
        // leave stand for no direction.
        let mut chosen = live(&links);
        let first = chosen.len();
        chosen.extend(live(others));
        let max = self.links_max(level) - (pinned - first);
        let clearly = Graph::clearly(level).max(CLEARLY);
        links.extend(&self.selected(slot, chosen, &among, (clearly, max))[first..]);
        Mended { links, met }
    }

    /// The live ones of `links`, and the live neighbours of the dead ones. Where most neighbours of
    /// a dead node are dead as well, as when a whole cluster goes, those behind them too: what lay
    /// on both sides of the cluster is linked across it. With how many nodes were met.
    fn behind_the_dead(&self, links: &[u32], level: u8) -> (Vec<u32>, usize) {
        let mut met: HashSet<u32, Mix> = links.iter().copied().collect();
        let mut ahead: Vec<u32> = links.to_vec();
        let mut at = 0;
        while let Some(link) = ahead.get(at).copied() {
            at += 1;
            if self.is_live(link) || at > MET_MAX {
                continue;
            }
            let beyond = self.neighbours(link, level);
            let dead = beyond.iter().filter(|node| self.is_dead(**node)).count();
            let goes_on = 2 * dead >= beyond.len();
            let next = beyond.iter().filter(|node| goes_on || self.is_live(**node));
            ahead.extend(next.filter(|node| met.insert(**node)));
        }
        ahead.retain(|link| self.is_live(*link));
        (ahead, met.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use crate::vector::{DistanceMetric, HnswConfig, HnswIndex, SearchRequest};
    use std::collections::BTreeMap;

    const DIM: usize = 6;

    struct World {
        rng: Rng,
        index: HnswIndex,
        live: BTreeMap<u64, Vec<f32>>,
    }

    impl World {
        fn new(seed: u64) -> World {
            let mut config = HnswConfig { m: 4, ..HnswConfig::new(DIM, DistanceMetric::L2) };
            if seed % 2 == 1 {
                // Nodes are full soon, and know few others.
                (config.m, config.ef_construction) = (2, 2 + seed as usize % 5);
            }
            let index = HnswIndex::new(config).repaired_by_hand();
            World { rng: Rng::new(seed), index, live: BTreeMap::new() }
        }

        /// In a few groups far apart, which only single links may join.
        fn vector(&mut self) -> Vec<f32> {
            let group = self.rng.below(4) as f32 * 5_000.0;
            (0..DIM).map(|_| group + self.rng.below(1_000) as f32).collect()
        }

        fn put(&mut self, most: u64) {
            let ids: Vec<u64> = (0..self.rng.below(most)).map(|_| self.rng.below(500)).collect();
            let rows: Vec<Vec<f32>> = ids.iter().map(|_| self.vector()).collect();
            self.index.insert_many(&ids, &rows.concat(), 1).unwrap();
            self.live.extend(ids.into_iter().zip(rows));
        }

        fn remove(&mut self, most: u64) {
            for _ in 0..self.rng.below(most) {
                let id = self.rng.below(500);
                assert_eq!(self.index.remove(id), self.live.remove(&id).is_some());
            }
        }

        /// A walk as wide as the graph finds all there are and nothing else, and no link leads to a
        /// free slot.
        fn check(&mut self) {
            let graph = &self.index.graph;
            let slots = 0..graph.slot_count() as u32;
            for slot in slots.filter(|slot| graph.states[*slot as usize] != State::Free) {
                for level in 0..=graph.level(slot) {
                    let mut links = graph.neighbours(slot, level).iter();
                    assert!(links.all(|link| graph.states[*link as usize] != State::Free));
                }
                let links = graph.neighbours(slot, 0);
                let distinct: HashSet<u32> = links.iter().copied().collect();
                assert!(distinct.len() == links.len() && !distinct.contains(&slot));
                for link in &links[..graph.pinned_len(slot)] {
                    let back = &graph.neighbours(*link, 0)[..graph.pinned_len(*link)];
                    assert!(back.contains(&slot), "{slot} is pinned to {link} alone");
                }
            }
            assert_eq!(graph.live(), self.live.len());
            if self.live.is_empty() {
                return;
            }
            let query = self.vector();
            let (k, ef) = (self.live.len(), 4 * self.index.graph.slot_count());
            let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(&query, k) };
            let scratches = Scratches::default();
            let found: HashSet<u64> = scratches.with(|scratch| {
                let start = self.index.graph.descend(&query, 0, scratch).unwrap();
                self.index.graph.walk(&query, &[start], 0, ef, scratch);
                let slots =
                    scratch.beam.keys().iter().map(|key| crate::vector::beam::slot_of(*key));
                let live = slots.filter(|slot| self.index.graph.is_live(*slot));
                live.map(|slot| self.index.graph.ids[slot as usize]).collect()
            });
            assert_eq!(found, self.live.keys().copied().collect());
            assert_eq!(self.index.answer(&request).unwrap().hits.len(), k);
        }
    }

    /// Between any two steps of a repair every vector is found, whatever is inserted and removed.
    #[test]
    fn a_repair_in_steps_loses_no_vector_meanwhile() {
        let (mut whole, mut amid) = (0, 0);
        for seed in 0..12 {
            let mut world = World::new(seed);
            world.put(400);
            for _ in 0..250 {
                match world.rng.below(8) {
                    0..3 => world.put(30),
                    3..5 => world.remove(60),
                    _ => {
                        let lists = 1 + world.rng.below(60) as usize;
                        let goes_on = world.index.repair_some(lists, 1);
                        assert_eq!(goes_on, world.index.is_in_repair());
                        whole += u32::from(!goes_on);
                        amid += u32::from(goes_on);
                    }
                }
                world.check();
            }
            // As it is written down amid a repair.
            let read = HnswIndex::from_bytes(&world.index.to_bytes()).unwrap();
            assert_eq!((read.len(), read.dead()), (world.index.len(), world.index.dead()));
            world.index.repair(1);
            assert_eq!(world.index.dead(), 0);
            world.check();
        }
        assert!(whole > 100 && amid > 100, "{whole} {amid}");
    }

    /// Where most are dead a list has many more nodes behind them: a step of so many lists took seconds.
    #[test]
    fn a_step_is_bounded_where_most_are_dead() {
        let mut rng = Rng::new(3);
        let config = HnswConfig { m: 8, ..HnswConfig::new(DIM, DistanceMetric::L2) };
        let mut index = HnswIndex::new(config).repaired_by_hand();
        let rows: Vec<f32> = (0..6_000 * DIM).map(|_| rng.below(1_000) as f32).collect();
        let ids: Vec<u64> = (0..6_000).collect();
        index.insert_many(&ids, &rows, 2).unwrap();
        (0..5_400).for_each(|id| assert!(index.remove(id)));
        let (mut steps, mut lists) = (0, 0);
        loop {
            let before = index.graph.sweep.as_ref().map_or(0, |sweep| sweep.next);
            let goes_on = index.repair_some(200, 1);
            if !goes_on {
                break;
            }
            let next = index.graph.sweep.as_ref().map_or(0, |sweep| sweep.next);
            let live = (before..next).filter(|slot| index.graph.is_live(*slot)).count();
            (steps, lists) = (steps + 1, lists + live);
            assert!(next > before);
        }
        assert!(lists < steps * 100, "{lists} lists in {steps} steps");
        assert_eq!((index.len(), index.dead()), (600, 0));
        let query = &rows[5_500 * DIM..5_501 * DIM];
        assert_eq!(index.search(query, 1, Some(64)).unwrap()[0].id, 5_500);
    }

    /// What dies while a repair goes on leaves with the next one.
    #[test]
    fn a_repair_frees_those_that_were_dead_when_it_began() {
        let mut world = World::new(99);
        world.put(400);
        world.remove(200);
        let dead = world.index.dead();
        assert!(dead > 20 && world.index.repair_some(1, 1));
        world.remove(200);
        let more = world.index.dead() - dead;
        assert!(more > 0);
        while world.index.repair_some(10, 1) {}
        assert_eq!(world.index.dead(), more);
        // And what comes takes their slots.
        let slots = world.index.graph.slot_count();
        world.put(30);
        assert_eq!(world.index.graph.slot_count(), slots);
    }

    /// One dead node had every search ask of each node it met whether it is, and a search whose nearest
    /// are all dead was left with few candidates.
    #[test]
    fn few_dead_cost_no_candidates() {
        let mut world = World::new(8);
        let rows: Vec<f32> = (0..4_000).flat_map(|_| world.vector()).collect();
        let ids: Vec<u64> = (0..4_000).collect();
        world.index.insert_many(&ids, &rows, 1).unwrap();
        let query = world.vector();
        for hit in world.index.search(&query, 40, Some(400)).unwrap() {
            assert!(world.index.remove(hit.id));
        }
        let request = SearchRequest { ef: Some(40), ..SearchRequest::new(&query, 20) };
        let (found, exact) = (world.index.answer(&request).unwrap(), world.index.exact(&query, 20));
        assert!(!found.stats.exact);
        let exact = exact.unwrap();
        let both = found.hits.iter().filter(|hit| exact.contains(hit)).count();
        assert!(both >= 19, "{both}");
    }
}
