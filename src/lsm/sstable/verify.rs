//! The whole truth about a table: reads every byte, checks what can be checked, reports all that
//! is wrong and not only the first.
//!
//! Checked are: checksums; that blocks lie behind one another without gaps; each block's entries,
//! offsets and buckets; the order of keys within and across blocks and against the separators;
//! that the filter knows every key; and that the properties are true.

use super::anatomy::Anatomy;
use super::block::Block;
use super::block_cursor::BlockCursor;
use super::filter::hash;
use super::format::{FOOTER_BYTES, Handle};
use super::index::Index;
use super::properties::Properties;
use crate::base::escape::escape;
use crate::base::{Error, Result};
use crate::env::Disk;
use crate::lsm::key::{Kind, Parsed, compare, parse, split_value, trailer, user_key};
use std::path::Path;
use std::sync::Arc;

/// What [`verify`] found.
#[derive(Debug)]
pub struct VerifyReport {
    /// Length of the file.
    pub file_bytes: u64,
    /// Data blocks that were found sound.
    pub blocks: u64,
    /// Point records in them.
    pub entries: u64,
    /// Range tombstones.
    pub range_deletes: u64,
    /// What the table says about itself, if that can be read.
    pub properties: Option<Properties>,
    /// All that is wrong, in the order it was found; empty for a sound table.
    pub damage: Vec<Error>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Checks the table at `path`, reading all of it. Damage is reported, not returned as an error.
///
/// # Errors
/// Only if the file cannot be opened.
pub fn verify(disk: &dyn Disk, path: &Path) -> Result<VerifyReport> {
    let mut anatomy = Anatomy::open(disk, path)?;
    check_tiling(&mut anatomy);
    let mut seen = Seen::default();
    for i in 0..anatomy.blocks() {
        let checked =
            anatomy.block(i).and_then(|block| check_block(&anatomy, i, &block, &mut seen));
        match checked {
            Ok(()) => seen.blocks += 1,
            Err(e) => anatomy.damage.push(e),
        }
    }
    let (blocks, entries) = (seen.blocks, seen.properties.entries);
    if anatomy.damage.is_empty() {
        check_properties(&mut anatomy, seen);
    }
    Ok(VerifyReport {
        file_bytes: anatomy.file_bytes,
        blocks,
        entries,
        range_deletes: anatomy.range_deletes.len() as u64,
        properties: anatomy.properties,
        damage: anatomy.damage,
    })
}

/// What the blocks read so far amount to.
#[derive(Default)]
struct Seen {
    blocks: u64,
    properties: Properties,
    last_key: Vec<u8>,
}

fn check_tiling(anatomy: &mut Anatomy) {
    let (Some(footer), Some(index)) = (&anatomy.footer, &anatomy.index) else { return };
    let mut end = index.data_end();
    let all = [footer.filter, footer.range_deletes, footer.index, footer.properties];
    let footer_itself = Handle { offset: anatomy.file_bytes - FOOTER_BYTES, len: 0 };
    let present = all.into_iter().filter(|h| !h.is_none());
    for handle in present.chain([footer_itself]) {
        if handle.offset != end {
            let expected = format!("the next block or the footer at {end}");
            let error = Error::corruption(&anatomy.path, end, expected, handle.offset.to_string());
            anatomy.damage.push(error);
            return;
        }
        end = handle.end();
    }
}

fn check_block(anatomy: &Anatomy, i: usize, block: &Arc<Block>, seen: &mut Seen) -> Result<()> {
    let malformed = |_| anatomy.malformed(i);
    let wrong = |expected: &str, found: &[u8]| {
        let found = format!("the key \"{}\"", escape(found));
        Error::corruption(&anatomy.path, anatomy.handle(i).offset, expected, found)
    };
    block.check_offsets().map_err(malformed)?;
    let mut cursor = BlockCursor::new(Arc::clone(block));
    cursor.first().map_err(malformed)?;
    let separator = |i: usize| anatomy.index.as_ref().map_or(&[][..], |index| index.separator(i));
    if i > 0 && compare(separator(i - 1), cursor.key()).is_ge() {
        return Err(wrong("keys behind the separator before the block", cursor.key()));
    }
    while cursor.valid() {
        check_entry(anatomy, block, &cursor, seen).map_err(|what| wrong(what, cursor.key()))?;
        cursor.next().map_err(malformed)?;
    }
    if compare(&seen.last_key, separator(i)).is_gt() {
        return Err(wrong("keys up to the block's separator", &seen.last_key));
    }
    Ok(())
}

/// Checks the entry that the cursor stands on; the error is what should have been there.
fn check_entry(
    anatomy: &Anatomy,
    block: &Arc<Block>,
    cursor: &BlockCursor,
    seen: &mut Seen,
) -> Result<(), &'static str> {
    let (internal, value) = (cursor.key(), cursor.value());
    let key = parse(internal).filter(|key| key.kind != Kind::RangeDelete);
    let key = key.ok_or("a record of a known kind")?;
    if !seen.last_key.is_empty() && compare(&seen.last_key, internal).is_ge() {
        return Err("keys in order");
    }
    if matches!(key.kind, Kind::Put | Kind::PutMeta) && split_value(key.kind, value).is_none() {
        return Err("a whole value");
    }
    let hash = hash(key.user_key);
    if anatomy.filter.as_ref().is_some_and(|f| !f.may_contain(hash)) {
        return Err("a filter that knows every key");
    }
    let mut found = None;
    let get = block.get(key.user_key, hash, trailer(key.seq, key.kind), &mut |seq, kind, _| {
        found = Some((seq, kind));
        false
    });
    if get.is_err() || found != Some((key.seq, key.kind)) {
        return Err("buckets that find every key");
    }
    seen.note(internal, &key, value);
    Ok(())
}

impl Seen {
    fn note(&mut self, internal: &[u8], key: &Parsed<'_>, value: &[u8]) {
        let first = self.properties.entries == 0;
        if first {
            self.properties.smallest = internal.to_vec();
        }
        if first || user_key(&self.last_key) != key.user_key {
            self.properties.user_keys += 1;
        }
        self.properties.note(key.user_key, key.seq, key.kind, value);
        self.last_key.clear();
        self.last_key.extend_from_slice(internal);
    }
}

fn check_properties(anatomy: &mut Anatomy, seen: Seen) {
    let Some(said) = &anatomy.properties else { return };
    let mut true_ones = Properties {
        // These cannot be found out from the rest.
        cf: said.cf,
        codec: said.codec,
        created_ms: said.created_ms,
        bloom_bits_per_key: said.bloom_bits_per_key,
        restart_interval: said.restart_interval,
        comparator: said.comparator,
        data_blocks: anatomy.blocks() as u64,
        data_bytes: anatomy.index.as_ref().map_or(0, Index::data_end),
        largest: seen.last_key,
        ..seen.properties
    };
    for tombstone in &anatomy.range_deletes {
        true_ones.note_range_delete(tombstone);
    }
    let offset = anatomy.footer.map_or(0, |footer| footer.properties.offset);
    for ((name, said), (_, found)) in said.named().into_iter().zip(true_ones.named()) {
        if said != found {
            let (said, found) = (format!("{name} {said}"), format!("{name} {found}"));
            anatomy.damage.push(Error::corruption(&anatomy.path, offset, said, found));
        }
    }
}
