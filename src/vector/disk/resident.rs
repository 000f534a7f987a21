//! What is kept in memory of a segment, and how it is read back.
//!
//! ```text
//! mean        dim * 4                  f32
//! unit        4                        f32
//! directions  directions * dim * 2     f16
//! parts       code bytes * (4 + 4)     directions of the part, f32 what 1 in a column stands for
//! columns     directions * 256         i8
//! codes       nodes * (code bytes + 4) see code/spectral.rs
//! guides      guides * 4               their nodes
//! links       guides * guide links * 4 ranks of other guides; NONE fills a list up
//! first ids   pages of directory * 8   the first id of each
//! ```
//!
//! Guides are the nodes that the graph has on the levels above its lowest, one in `m`, with their
//! links on the first of these: a walk among them by their codes finds where to begin to read. Those
//! of the highest levels come first.

use super::header::Header;
use super::layout::NONE;
use super::pages::{PAYLOAD_BYTES, Pages, corrupt, read_payloads};
use crate::base::Result;
use crate::vector::code::spectral::{CENTROIDS, Part, SpectralModel};
use crate::vector::rows::Rows;

/// Pages read at once.
const PAGES_AT_ONCE: u64 = 256;

/// What a search needs before it reads anything.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) header: Header,
    pub(super) model: SpectralModel,
    /// A row for each node.
    pub(super) codes: Rows<u8>,
    pub(super) guides: Vec<u32>,
    /// `guide_links` for each guide.
    pub(super) guide_links: Vec<u32>,
    pub(super) first_ids: Vec<u64>,
}

impl Resident {
    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.model.memory_bytes()
            + self.codes.taken_bytes()
            + 4 * (self.guides.capacity() + self.guide_links.capacity())
            + 8 * self.first_ids.capacity()
    }

    /// Reads the payloads of blocks, one behind the other.
    pub(super) fn read_blocks(
        &self,
        blocks: &[u32],
        from: &dyn Pages,
        buffer: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let pages = self.header.layout().pages as u64;
        let numbers: Vec<u64> = blocks
            .iter()
            .flat_map(|block| (0..pages).map(|page| self.header.block_at(*block) + page))
            .collect();
        read_payloads(from, &numbers, buffer, out)
    }

    /// The bytes of it, piece by piece.
    pub(super) fn write(&self, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let model = &self.model;
        put(&bytes(model.mean.iter().chain([&model.unit]).map(|x| x.to_le_bytes())))?;
        put(&bytes(model.directions.iter().map(|x| x.to_le_bytes())))?;
        for part in &model.parts {
            put(&(part.dim as u32).to_le_bytes())?;
            put(&part.scale.to_le_bytes())?;
        }
        for part in &model.parts {
            put(&bytes(part.columns.iter().map(|x| x.to_le_bytes())))?;
        }
        for node in 0..self.codes.len() as u32 {
            put(self.codes.row(node))?;
        }
        put(&bytes(self.guides.iter().map(|x| x.to_le_bytes())))?;
        put(&bytes(self.guide_links.iter().map(|x| x.to_le_bytes())))?;
        put(&bytes(self.first_ids.iter().map(|x| x.to_le_bytes())))
    }

    /// Reads it back.
    ///
    /// # Errors
    ///
    /// Those of reading; [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption) if it is not
    /// what was written.
    pub(super) fn read(from: &dyn Pages) -> Result<Resident> {
        let (mut buffer, mut payload) = (Vec::new(), Vec::new());
        if from.count() == 0 {
            return Err(corrupt(0, "a header", "no page"));
        }
        read_payloads(from, &[0], &mut buffer, &mut payload)?;
        // The pages that are there bound all lengths.
        let header = Header::read(&payload, from.count())?;
        let mut stream = Stream { from, next: 1, end: header.blocks_at(), at: 0, payload, buffer };
        stream.payload.clear();
        let model = read_model(&header, &mut stream)?;
        let mut codes = Rows::exact(model.row_bytes(), header.nodes);
        let mut row = vec![0; model.row_bytes()];
        for _ in 0..header.nodes {
            stream.fill(&mut row)?;
            codes.push(&row);
        }
        let guides: Vec<u32> = stream.numbers(header.guides, u32::from_le_bytes)?;
        if guides.iter().any(|node| *node as usize >= header.nodes) {
            return Err(stream.corrupt("nodes as guides"));
        }
        let count = header.guides * header.guide_links;
        let guide_links: Vec<u32> = stream.numbers(count, u32::from_le_bytes)?;
        if guide_links.iter().any(|rank| *rank != NONE && *rank as usize >= header.guides) {
            return Err(stream.corrupt("links between guides"));
        }
        let first_ids = stream.numbers(header.directory_pages() as usize, u64::from_le_bytes)?;
        if !first_ids.is_sorted_by(|a, b| a < b) {
            return Err(stream.corrupt("ids in order"));
        }
        Ok(Resident { header, model, codes, guides, guide_links, first_ids })
    }
}

fn bytes<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    numbers.flatten().collect()
}

fn read_model(header: &Header, stream: &mut Stream<'_>) -> Result<SpectralModel> {
    let Header { metric, dim, .. } = *header;
    let mean: Vec<f32> = stream.numbers(dim, f32::from_le_bytes)?;
    let unit: Vec<f32> = stream.numbers(1, f32::from_le_bytes)?;
    let is_good = unit[0].is_normal() && unit[0] > 0.0 && mean.iter().all(|x| x.is_finite());
    if !is_good {
        return Err(stream.corrupt("a mean"));
    }
    let directions: Vec<u16> = stream.numbers(dim * header.directions, u16::from_le_bytes)?;
    let mut parts = Vec::with_capacity(header.code_bytes);
    for _ in 0..header.code_bytes {
        let dim: Vec<u32> = stream.numbers(1, u32::from_le_bytes)?;
        let scale: Vec<f32> = stream.numbers(1, f32::from_le_bytes)?;
        if !scale[0].is_finite() {
            return Err(stream.corrupt("the scale of a part"));
        }
        parts.push(Part { dim: dim[0] as usize, scale: scale[0], columns: Vec::new() });
    }
    let sum = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.dim));
    if sum != Some(header.directions) {
        return Err(stream.corrupt("parts of all directions"));
    }
    for part in &mut parts {
        part.columns = stream.numbers(part.dim * CENTROIDS, i8::from_le_bytes)?;
    }
    Ok(SpectralModel { metric, dim, mean, unit: unit[0], directions, parts })
}

/// The payloads of consecutive pages as one run of bytes.
struct Stream<'a> {
    from: &'a dyn Pages,
    /// The next page, and that behind the last.
    next: u64,
    end: u64,
    /// What was taken of `payload`.
    at: usize,
    payload: Vec<u8>,
    buffer: Vec<u8>,
}

impl Stream<'_> {
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < out.len() {
            if self.at == self.payload.len() {
                let last = self.end.min(self.next + PAGES_AT_ONCE);
                if self.next >= last {
                    return Err(self.corrupt("more bytes"));
                }
                let numbers: Vec<u64> = (self.next..last).collect();
                read_payloads(self.from, &numbers, &mut self.buffer, &mut self.payload)?;
                (self.next, self.at) = (last, 0);
            }
            let some = (out.len() - done).min(self.payload.len() - self.at);
            out[done..done + some].copy_from_slice(&self.payload[self.at..][..some]);
            (done, self.at) = (done + some, self.at + some);
        }
        Ok(())
    }

    /// The next `count` numbers of `N` bytes. The header has bounded `count` by the pages there are.
    fn numbers<T, const N: usize>(&mut self, count: usize, of: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let mut numbers = Vec::with_capacity(count.min(PAYLOAD_BYTES));
        let mut number = [0; N];
        for _ in 0..count {
            self.fill(&mut number)?;
            numbers.push(of(number));
        }
        numbers.shrink_to_fit();
        Ok(numbers)
    }

    fn corrupt(&self, expected: &str) -> crate::base::Error {
        corrupt(super::pages::offset(self.next.saturating_sub(1)), expected, "others")
    }
}
