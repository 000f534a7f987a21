//! A graph's sections in a [segment](crate::vector::segment).
//!
//! With `n` slots, of which `u` levels above the lowest in all:
//!
//! ```text
//! settings  1 metric, 4 dim, 4 m, 4 ef_construction, 4 ef_search, 8 seed, 4 n, 4 entry (or NONE)
//! ids       n * 8
//! states    n * 1            0 live, 1 dead, 2 free
//! levels    n * 1
//! pinned    n * 2            how many links at the start of a list are pinned
//! vectors   n * dim * 4      f32, as they are compared
//! links     n * 2m * 4       a list ends at NONE = 2^32 - 1
//! upper     u * m * 4        the lists of level 1 and up, slot by slot
//! ```
//!
//! A checksum tells what was damaged, not who wrote it: slots, lists and numbers are checked one by
//! one, so that no bytes at all make a walk leave its tables.

use super::config::HnswConfig;
use super::graph::{Graph, Height, LEVEL_MAX, NONE, State};
use crate::base::codec::Reader;
use crate::base::{Error, Result};
use crate::vector::beam::SLOTS_MAX;
use crate::vector::metric::DistanceMetric;
use crate::vector::rows::Rows;
use crate::vector::segment::{Section, SegmentReader, SegmentWriter};

impl Graph {
    pub(in crate::vector) fn write(&self, out: &mut SegmentWriter) {
        let HnswConfig { dim, metric, m, ef_construction, ef_search, seed } = self.config;
        let slots = self.slot_count() as u32;
        let mut settings = vec![metric.code()];
        for value in [dim, m, ef_construction, ef_search] {
            settings.extend_from_slice(&(value as u32).to_le_bytes());
        }
        settings.extend_from_slice(&seed.to_le_bytes());
        settings.extend_from_slice(&slots.to_le_bytes());
        settings.extend_from_slice(&self.entry.unwrap_or(NONE).to_le_bytes());
        out.section(settings.into_iter().map(|byte| [byte]));
        out.section(self.ids.iter().map(|id| id.to_le_bytes()));
        out.section(self.states.iter().map(|state| [*state as u8]));
        out.section(self.heights.iter().map(|height| [height.level]));
        out.section((0..slots).map(|slot| (self.pinned_len(slot) as u16).to_le_bytes()));
        out.section((0..slots).flat_map(|slot| self.vector(slot)).map(|x| x.to_le_bytes()));
        out.section((0..slots).flat_map(|slot| self.links.row(slot)).map(|x| x.to_le_bytes()));
        let rows = 0..self.upper.len() as u32;
        out.section(rows.flat_map(|row| self.upper.row(row)).map(|x| x.to_le_bytes()));
    }

    pub(in crate::vector) fn read(from: &mut SegmentReader<'_>) -> Result<Graph> {
        let (config, slots, entry) = read_settings(from.section()?)?;
        let mut graph = Graph::new(config);
        // All lengths are checked against the bytes there are before anything is reserved.
        let ids = from.section()?.numbers::<8>(slots)?;
        let states = from.section()?;
        states.numbers::<1>(slots)?;
        let levels = from.section()?;
        levels.numbers::<1>(slots)?;
        let pinned = from.section()?;
        pinned.numbers::<2>(slots)?;
        let vectors = from.section()?;
        vectors.numbers::<4>(slots * config.dim)?;
        let links = from.section()?;
        links.numbers::<4>(slots * 2 * config.m)?;
        let upper = from.section()?;
        let rows: usize = levels.bytes.iter().map(|level| usize::from(*level)).sum();
        upper.numbers::<4>(rows * config.m)?;

        graph.check_room(slots)?;
        graph.reserve(slots);
        graph.ids = ids.iter().map(|id| u64::from_le_bytes(*id)).collect();
        graph.read_states(states)?;
        graph.read_heights(levels)?;
        graph.read_vectors(vectors)?;
        graph.read_lists(links, pinned, upper)?;
        let is_entry =
            |slot: &u32| graph.states.get(*slot as usize).is_some_and(|s| *s != State::Free);
        match entry {
            NONE if graph.states.iter().all(|state| *state == State::Free) => {}
            slot if is_entry(&slot) => graph.entry = Some(slot),
            _ => return Err(states.corrupt(0, "an entry that is in use", entry)),
        }
        Ok(graph)
    }

    fn read_states(&mut self, section: Section<'_>) -> Result<()> {
        for (slot, state) in section.bytes.iter().enumerate() {
            let state = [State::Live, State::Dead, State::Free].get(usize::from(*state)).copied();
            let state =
                state.ok_or_else(|| section.corrupt(slot, "a state", section.bytes[slot]))?;
            self.states.push(state);
            match state {
                State::Live => {
                    let id = self.ids[slot];
                    if self.slots.get(id).is_some() {
                        return Err(section.corrupt(slot, "an id once", format!("{id} twice")));
                    }
                    self.slots.insert(id, slot as u32);
                }
                State::Dead => self.dead += 1,
                State::Free => self.free.push(slot as u32),
            }
        }
        // The lowest are given out first.
        self.free.reverse();
        Ok(())
    }

    fn read_heights(&mut self, section: Section<'_>) -> Result<()> {
        let mut upper = 0;
        for (slot, level) in section.bytes.iter().enumerate() {
            if *level > LEVEL_MAX {
                return Err(section.corrupt(slot, "a level of 15 at most", level));
            }
            self.heights.push(Height { level: *level, upper });
            upper += u32::from(*level);
        }
        Ok(())
    }

    fn read_vectors(&mut self, section: Section<'_>) -> Result<()> {
        let HnswConfig { dim, metric, .. } = self.config;
        let mut vector = Vec::with_capacity(dim);
        for (slot, row) in section.bytes.chunks_exact(4 * dim).enumerate() {
            vector.clear();
            vector.extend(row.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)));
            if self.states[slot] != State::Free && metric.check(&vector, dim).is_err() {
                return Err(section.corrupt(4 * dim * slot, "a vector", "none that has distances"));
            }
            self.vectors.push(&vector);
        }
        Ok(())
    }

    fn read_lists(
        &mut self,
        links: Section<'_>,
        pinned: Section<'_>,
        upper: Section<'_>,
    ) -> Result<()> {
        let m = self.config.m;
        let all = self.read_rows(links, 2 * m, |row, link| link as usize != row)?;
        self.links = all;
        for (slot, len) in pinned.bytes.as_chunks::<2>().0.iter().enumerate() {
            let len = usize::from(u16::from_le_bytes(*len));
            if len > m + 1 || len > self.neighbours(slot as u32, 0).len() {
                return Err(pinned.corrupt(2 * slot, "no more pinned links than there are", len));
            }
            self.push_pinned(len);
        }
        // A link of a level leads to another node that has it.
        let mut owners: Vec<(u32, u8)> = Vec::new();
        for (slot, height) in (0..).zip(&self.heights) {
            owners.extend((1..=height.level).map(|level| (slot, level)));
        }
        let has_level = |row: usize, link: u32| {
            let (owner, level) = owners[row];
            link != owner && self.level(link) >= level
        };
        self.upper = self.read_rows(upper, m, has_level)?;
        Ok(())
    }

    /// Lists of links that lead to slots in use.
    fn read_rows(
        &self,
        section: Section<'_>,
        stride: usize,
        may_lead_to: impl Fn(usize, u32) -> bool,
    ) -> Result<Rows<u32>> {
        let mut rows = Rows::new(stride);
        rows.reserve(section.bytes.len() / (4 * stride));
        let mut list = Vec::with_capacity(stride);
        for (row, bytes) in section.bytes.chunks_exact(4 * stride).enumerate() {
            list.clear();
            list.extend(bytes.as_chunks::<4>().0.iter().map(|x| u32::from_le_bytes(*x)));
            let len = list.iter().position(|link| *link == NONE).unwrap_or(stride);
            let leads_to_a_node = |link: &u32| {
                let state = self.states.get(*link as usize);
                state.is_some_and(|state| *state != State::Free) && may_lead_to(row, *link)
            };
            if !list[..len].iter().all(leads_to_a_node) || list[len..].iter().any(|x| *x != NONE) {
                return Err(section.corrupt(
                    4 * stride * row,
                    "links to nodes, then NONE",
                    "others",
                ));
            }
            rows.push(&list);
        }
        Ok(rows)
    }
}

/// The settings, the number of slots, and the entry.
fn read_settings(section: Section<'_>) -> Result<(HnswConfig, usize, u32)> {
    let mut reader = Reader::new(section.bytes);
    let mut read = || -> Option<(HnswConfig, usize, u32)> {
        let metric = DistanceMetric::from_code(reader.u8()?)?;
        let config = HnswConfig {
            metric,
            dim: reader.u32()? as usize,
            m: reader.u32()? as usize,
            ef_construction: reader.u32()? as usize,
            ef_search: reader.u32()? as usize,
            seed: reader.u64()?,
        };
        let (slots, entry) = (reader.u32()? as usize, reader.u32()?);
        (reader.is_empty() && slots < SLOTS_MAX).then_some((config, slots, entry))
    };
    let malformed = |e: Option<Error>| {
        let found = e.map_or("others".to_string(), |e| e.message().to_string());
        section.corrupt(0, "settings", found)
    };
    let (config, slots, entry) = read().ok_or_else(|| malformed(None))?;
    config.check().map_err(|e| malformed(Some(e)))?;
    Ok((config, slots, entry))
}
