//! From a graph to a stream of pages.

use super::directory;
use super::header::Header;
use super::index::{DIM_MAX, DiskHnswConfig};
use super::layout::{Layout, NONE};
use super::pages::{PAYLOAD_BYTES, seal};
use super::resident::Resident;
use super::{lists, placement};
use crate::base::{Error, ErrorKind, Result};
use crate::vector::code::spectral::{SpectralModel, SpectralQuery};
use crate::vector::hnsw::{Graph, HnswIndex};
use crate::vector::kernel::half::from_f32;
use crate::vector::kernel::kernels;
use crate::vector::parallel;
use crate::vector::rows::Rows;

/// Nodes made at once before they are written.
const NODES_AT_ONCE: usize = 4096;
/// Nodes whose neighbours' estimates are compared with their distances.
const PROBES: usize = 512;

/// Takes the pages of a segment one after the other.
pub type PageSink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Writes the segment of a graph.
pub(super) fn write(
    mut index: HnswIndex,
    config: &DiskHnswConfig,
    threads: usize,
    sink: &mut PageSink<'_>,
) -> Result<()> {
    let settings = *index.config();
    settings.check()?;
    config.check()?;
    let layout = Layout::new(settings.dim);
    for (name, value, most) in [("m", settings.m, layout.links - 1), ("dim", settings.dim, DIM_MAX)]
    {
        if value > most {
            let message = format!("{name} is {value}; a graph on disk has {most} at most");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    }
    index.repair(threads);
    let graph = &index.graph;
    let slots = 0..graph.slot_count() as u32;
    let live: Vec<u32> = slots.filter(|slot| graph.is_live(*slot)).collect();
    let order = placement::order(graph, &live, layout.nodes, threads);
    let mut numbers = vec![NONE; graph.slot_count()];
    order.iter().zip(0..).for_each(|(slot, node)| numbers[*slot as usize] = node);
    let resident = resident(graph, config, &order, &numbers, threads);
    let mut pages = Stream { payload: Vec::with_capacity(PAYLOAD_BYTES), next: 0, sink };
    pages.put(&resident.header.write())?;
    pages.end_page()?;
    resident.write(&mut |bytes| pages.put(bytes))?;
    pages.end_page()?;
    let scale = resident.header.scale;
    for slots in order.chunks(NODES_AT_ONCE / layout.nodes * layout.nodes) {
        let nodes = parallel::map(threads, slots.len(), |i| {
            let slot = slots[i];
            let halves: Vec<u16> = graph.vector(slot).iter().map(|x| from_f32(x * scale)).collect();
            let links: Vec<u32> = lists::neighbours(graph, layout, &numbers, slot)
                .iter()
                .map(|link| numbers[*link as usize])
                .collect();
            let mut out = Vec::with_capacity(layout.node_bytes());
            layout.put(graph.ids[slot as usize], &halves, &links, &mut out);
            out
        });
        for block in nodes.chunks(layout.nodes) {
            for node in block {
                pages.put(node)?;
            }
            pages.end_page()?;
        }
    }
    let mut entries: Vec<(u64, u32)> =
        order.iter().zip(0..).map(|(slot, node)| (graph.ids[*slot as usize], node)).collect();
    entries.sort_unstable();
    for some in entries.chunks(directory::ENTRIES) {
        let mut page = Vec::with_capacity(PAYLOAD_BYTES);
        some.iter().for_each(|(id, node)| directory::put(*id, *node, &mut page));
        pages.put(&page)?;
        pages.end_page()?;
    }
    debug_assert_eq!(pages.next, resident.header.pages());
    Ok(())
}

/// What is kept in memory of the graph's nodes, which are `order`.
fn resident(
    graph: &Graph,
    config: &DiskHnswConfig,
    order: &[u32],
    numbers: &[u32],
    threads: usize,
) -> Resident {
    let settings = *graph.config();
    let (dim, metric) = (settings.dim, settings.metric);
    let bytes = config.code_bytes_of(dim);
    let zero = vec![0.0; dim];
    let model = match order.is_empty() {
        true => SpectralModel::train(metric, dim, bytes, 1, |_| &zero, 1),
        false => {
            let vector = |row: usize| graph.vector(order[row]);
            SpectralModel::train(metric, dim, bytes, order.len(), vector, threads)
        }
    };
    let mut codes = Rows::exact(model.row_bytes(), order.len());
    for slots in order.chunks(NODES_AT_ONCE) {
        let rows = parallel::map(threads, slots.len(), |i| {
            let mut row = Vec::with_capacity(model.row_bytes());
            model.encode(graph.vector(slots[i]), &mut row);
            row
        });
        rows.iter().for_each(|row| {
            codes.push(row);
        });
    }
    let mut guides: Vec<u32> = order.iter().copied().filter(|s| graph.level(*s) > 0).collect();
    guides.sort_by_key(|slot| (std::cmp::Reverse(graph.level(*slot)), numbers[*slot as usize]));
    if guides.is_empty() {
        guides.extend(order.first());
    }
    let mut ranks = vec![NONE; graph.slot_count()];
    guides.iter().zip(0..).for_each(|(slot, rank)| ranks[*slot as usize] = rank);
    let mut guide_links = Vec::with_capacity(guides.len() * settings.m);
    for slot in &guides {
        let links = if graph.level(*slot) > 0 { graph.neighbours(*slot, 1) } else { &[] };
        let links = links.iter().map(|link| ranks[*link as usize]);
        guide_links.extend(links.chain(std::iter::repeat(NONE)).take(settings.m));
    }
    let mut ids: Vec<u64> = order.iter().map(|slot| graph.ids[*slot as usize]).collect();
    ids.sort_unstable();
    let header = Header {
        metric,
        dim,
        code_bytes: model.parts.len(),
        directions: model.used(),
        nodes: order.len(),
        guides: guides.len(),
        guide_links: settings.m,
        ef_search: settings.ef_search,
        scale: scale(graph, order),
        error: error(graph, &model, &codes, order, numbers),
    };
    Resident {
        header,
        model,
        codes,
        guides: guides.iter().map(|slot| numbers[*slot as usize]).collect(),
        guide_links,
        first_ids: ids.iter().step_by(directory::ENTRIES).copied().collect(),
    }
}

/// One deviation of an estimate, for a query of length 1: of nodes as queries and their neighbours.
fn error(
    graph: &Graph,
    model: &SpectralModel,
    codes: &Rows<u8>,
    order: &[u32],
    numbers: &[u32],
) -> f32 {
    let mut query = SpectralQuery::default();
    let (mut squares, mut count) = (0.0f64, 0u32);
    for slot in order.iter().step_by(order.len().div_ceil(PROBES).max(1)) {
        model.prepare(graph.vector(*slot), &mut query);
        for link in graph.neighbours(*slot, 0) {
            let row = codes.row(numbers[*link as usize]);
            let estimate = model.estimate(kernels(), &query, row);
            let distance = graph.measure.pair(graph.vector(*slot), graph.vector(*link));
            let off = (estimate - distance) / query.length.max(f32::MIN_POSITIVE);
            squares += f64::from(off) * f64::from(off);
            count += 1;
        }
    }
    let error = (squares / f64::from(count.max(1))).sqrt() as f32;
    if error.is_finite() { error } else { 0.0 }
}

/// The power of two that brings the largest number to between 512 and 1024.
fn scale(graph: &Graph, order: &[u32]) -> f32 {
    let largest_of = |slot: &u32| graph.vector(*slot).iter().fold(0.0f32, |m, x| m.max(x.abs()));
    crate::vector::kernel::half::scale(order.iter().map(largest_of).fold(0.0f32, f32::max))
}

/// Cuts bytes into pages.
struct Stream<'a, 'b> {
    payload: Vec<u8>,
    next: u64,
    sink: &'a mut PageSink<'b>,
}

impl Stream<'_, '_> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let some = bytes.len().min(PAYLOAD_BYTES - self.payload.len());
            self.payload.extend_from_slice(&bytes[..some]);
            bytes = &bytes[some..];
            if self.payload.len() == PAYLOAD_BYTES {
                self.end_page()?;
            }
        }
        Ok(())
    }

    /// Begins a page, unless one has just begun.
    fn end_page(&mut self) -> Result<()> {
        if self.payload.is_empty() {
            return Ok(());
        }
        let mut page = Vec::with_capacity(super::pages::PAGE_BYTES);
        seal(self.next, &self.payload, &mut page);
        self.payload.clear();
        self.next += 1;
        (self.sink)(&page)
    }
}
