//! What is kept in memory, as a [segment](crate::vector::segment).
//!
//! ```text
//! settings    1 metric, 4 each: dim, code bytes, posting_bytes, replicas_max, ef_search, directions;
//!             8 each: number of the next posting, vectors, vectors since the model was made;
//!             f32 each: unit of the model, error, what codes do not tell at first and now;
//!             4 directions of the model before, 0 if there is none, f32 each: its unit and error
//! mean        dim * 4            f32
//! directions  directions * dim * 2   f16
//! parts       code bytes * 8     4 directions of the part, f32 what 1 in a column stands for
//! columns     directions * 256   i8
//! postings    each 16: 8 number, 4 entries, f32 mean squared distance from the centroid; by number
//! centroids   the segment of their graph
//! if there is a model before: its mean, directions, parts and columns, and the numbers of postings
//! that still have its codes, 8 each
//! ```

use super::config::SpfreshConfig;
use super::index::{Held, SpfreshIndex};
use super::retrain::Retired;
use crate::base::Result;
use crate::base::codec::Reader;
use crate::vector::code::spectral::{CENTROIDS, Part, SpectralModel};
use crate::vector::hnsw::HnswIndex;
use crate::vector::metric::DistanceMetric;
use crate::vector::segment::{Kind, Section, SegmentReader, SegmentWriter};
use std::collections::BTreeSet;

/// The numbers of a segment.
struct Settings {
    config: SpfreshConfig,
    directions: usize,
    next: u64,
    vectors: u64,
    since: u64,
    /// Unit, error, rest at first, rest.
    floats: [f32; 4],
    /// Directions of the model before.
    old_directions: usize,
    /// Its unit and error.
    old_floats: [f32; 2],
}

impl SpfreshIndex {
    /// What is kept in memory, with checksums. It belongs to the postings as they are now: the owner
    /// keeps both or neither.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = SegmentWriter::new(Kind::Spfresh);
        let (config, model) = (&self.config, &self.model);
        let mut settings = vec![config.metric.code()];
        let numbers = [
            config.dim,
            model.parts.len(),
            config.posting_bytes,
            config.replicas_max,
            config.ef_search,
            model.used(),
        ];
        settings.extend(numbers.iter().flat_map(|n| (*n as u32).to_le_bytes()));
        settings.extend([self.next, self.vectors, self.since].iter().flat_map(|n| n.to_le_bytes()));
        let floats = [model.unit, self.error, self.rest_at_first, self.rest];
        settings.extend(floats.iter().flat_map(|x| x.to_le_bytes()));
        let old = self.retired.as_ref();
        settings.extend((old.map_or(0, |old| old.model.used()) as u32).to_le_bytes());
        let floats = old.map_or([1.0, 0.0], |old| [old.model.unit, old.error]);
        settings.extend(floats.iter().flat_map(|x| x.to_le_bytes()));
        out.section(settings.into_iter().map(|byte| [byte]));
        write_model(model, &mut out);
        let numbers = self.posting_numbers();
        out.section(numbers.iter().filter_map(|number| {
            let Held { entries, spread, .. } = self.held.get(number)?;
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            bytes[8..12].copy_from_slice(&entries.to_le_bytes());
            bytes[12..].copy_from_slice(&spread.to_le_bytes());
            Some(bytes)
        }));
        out.section(self.centroids.to_bytes().into_iter().map(|byte| [byte]));
        if let Some(old) = old {
            write_model(&old.model, &mut out);
            out.section(old.postings.iter().map(|number| number.to_le_bytes()));
        }
        out.finish()
    }

    /// The index of these bytes: it answers as the one that wrote them, with the same postings.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corruption`](crate::base::ErrorKind::Corruption), with the offset, if they are
    /// not what [`SpfreshIndex::to_bytes`] wrote;
    /// [`ErrorKind::Unsupported`](crate::base::ErrorKind::Unsupported) if a newer version wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Result<SpfreshIndex> {
        let mut from = SegmentReader::new(bytes, Kind::Spfresh)?;
        let section = from.section()?;
        let settings =
            read_settings(section).ok_or_else(|| section.corrupt(0, "settings", "others"))?;
        let config = settings.config;
        config.check().map_err(|e| section.corrupt(0, "settings", e.message()))?;
        let model = read_model(&mut from, &config, settings.directions, settings.floats[0])?;
        let mut index = SpfreshIndex::with(config, model);
        [_, index.error, index.rest_at_first, index.rest] = settings.floats;
        (index.next, index.vectors, index.since) =
            (settings.next, settings.vectors, settings.since);
        let postings = from.section()?;
        let held = postings.numbers::<16>(postings.bytes.len() / 16)?;
        let centroids = from.section()?;
        index.retired = read_retired(&mut from, &settings)?;
        from.finish()?;
        index.centroids = HnswIndex::from_bytes(centroids.bytes)?;
        let graph = index.centroids.config();
        if (graph.dim, graph.metric) != (config.dim, DistanceMetric::L2) {
            return Err(centroids.corrupt(0, "centroids of the same dimension", graph.dim));
        }
        for (at, bytes) in held.iter().enumerate() {
            let mut reader = Reader::new(bytes);
            let (number, entries) = reader.u64().zip(reader.u32()).unwrap_or_default();
            let spread = f32::from_bits(reader.u32().unwrap_or_default());
            let is_new = !index.held.contains_key(&number);
            let is_good = spread.is_finite() && spread >= 0.0 && number < settings.next;
            if !is_new || !is_good || !index.centroids.contains(number) {
                return Err(postings.corrupt(16 * at, "a posting with a centroid", number));
            }
            index.held.insert(number, Held { entries, spread, ..Held::default() });
        }
        if index.held.len() != index.centroids.len() {
            return Err(postings.corrupt(0, "a posting for each centroid", held.len()));
        }
        let is_held = |number: &u64| index.held.contains_key(number);
        if !index.retired.iter().flat_map(|old| &old.postings).all(is_held) {
            return Err(postings.corrupt(0, "the postings with older codes", "others"));
        }
        for number in index.posting_numbers() {
            index.set_entries(number, index.entries_of(number));
        }
        Ok(index)
    }
}

fn read_settings(section: Section<'_>) -> Option<Settings> {
    let mut reader = Reader::new(section.bytes);
    let metric = DistanceMetric::from_code(reader.u8()?)?;
    let mut number = || reader.u32().map(|n| n as usize);
    let config = SpfreshConfig {
        metric,
        dim: number()?,
        code_bytes: Some(number()?),
        posting_bytes: number()?,
        replicas_max: number()?,
        ef_search: number()?,
    };
    let directions = number()?;
    let (next, vectors, since) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let mut some = [0.0; 4];
    for float in &mut some {
        *float = f32::from_bits(reader.u32()?);
    }
    let floats = some;
    let old_directions = reader.u32()? as usize;
    let old_floats = [f32::from_bits(reader.u32()?), f32::from_bits(reader.u32()?)];
    let fits = |directions| config.code_bytes.is_some_and(|bytes| bytes <= directions);
    let is_good = reader.is_empty()
        && floats.iter().chain(&old_floats).all(|x| x.is_finite() && *x >= 0.0)
        && floats[0].is_normal()
        && old_floats[0].is_normal()
        && fits(directions)
        && (old_directions == 0 || fits(old_directions))
        && directions.max(old_directions) <= config.dim;
    is_good.then_some(Settings {
        config,
        directions,
        next,
        vectors,
        since,
        floats,
        old_directions,
        old_floats,
    })
}

/// The model before, and the postings that have its codes.
fn read_retired(from: &mut SegmentReader<'_>, settings: &Settings) -> Result<Option<Box<Retired>>> {
    if settings.old_directions == 0 {
        return Ok(None);
    }
    let [unit, error] = settings.old_floats;
    let model = read_model(from, &settings.config, settings.old_directions, unit)?;
    let section = from.section()?;
    let numbers = section.numbers::<8>(section.bytes.len() / 8)?;
    let postings: BTreeSet<u64> =
        numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
    if postings.is_empty() || postings.len() != numbers.len() {
        return Err(section.corrupt(0, "numbers of postings", "none, or one twice"));
    }
    Ok(Some(Box::new(Retired { model, error, postings })))
}

fn write_model(model: &SpectralModel, out: &mut SegmentWriter) {
    out.section(model.mean.iter().map(|x| x.to_le_bytes()));
    out.section(model.directions.iter().map(|x| x.to_le_bytes()));
    let parts = model.parts.iter();
    out.section(parts.flat_map(|p| [(p.dim as u32).to_le_bytes(), p.scale.to_le_bytes()]));
    let columns = model.parts.iter().flat_map(|part| &part.columns);
    out.section(columns.map(|x| x.to_le_bytes()));
}

fn read_model(
    from: &mut SegmentReader<'_>,
    config: &SpfreshConfig,
    directions: usize,
    unit: f32,
) -> Result<SpectralModel> {
    let SpfreshConfig { metric, dim, .. } = *config;
    let used = directions;
    let section = from.section()?;
    let mean: Vec<f32> =
        section.numbers::<4>(dim)?.iter().map(|x| f32::from_le_bytes(*x)).collect();
    if let Some(at) = mean.iter().position(|x| !x.is_finite()) {
        return Err(section.corrupt(4 * at, "a finite number", mean[at]));
    }
    let section = from.section()?;
    let directions = section.numbers::<2>(dim * used)?;
    let directions = directions.iter().map(|x| u16::from_le_bytes(*x)).collect();
    let section = from.section()?;
    let parts = section.numbers::<8>(config.code_bytes())?;
    let mut parts: Vec<Part> = parts
        .iter()
        .map(|[a, b, c, d, e, f, g, h]| Part {
            dim: u32::from_le_bytes([*a, *b, *c, *d]) as usize,
            scale: f32::from_le_bytes([*e, *f, *g, *h]),
            columns: Vec::new(),
        })
        .collect();
    let sum = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.dim));
    if sum != Some(used) || parts.iter().any(|part| !part.scale.is_finite()) {
        return Err(section.corrupt(0, "parts of all directions", "others"));
    }
    let section = from.section()?;
    let mut columns = section.numbers::<1>(used * CENTROIDS)?.iter();
    for part in &mut parts {
        let own = columns.by_ref().take(part.dim * CENTROIDS);
        part.columns = own.map(|x| i8::from_le_bytes(*x)).collect();
    }
    Ok(SpectralModel { metric, dim, mean, unit, directions, parts })
}
