//! What all edits so far add up to. Pure data: the engine, the dump and the checker all use it.

use crate::base::{CfId, LogIndex, Seq};
use crate::lsm::manifest::edit::{Edit, Field, FileMeta, Part};
use crate::lsm::options::{CfOptions, LEVELS_MAX};
use std::collections::BTreeMap;

/// Files in one edit of a snapshot: bounds the size of a record.
const SNAPSHOT_FILES: usize = 256;

/// One family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: CfOptions,
    /// All its records up to this log index are in sstables.
    pub flushed: LogIndex,
    /// Live keys as of `flushed`.
    pub keys: u64,
    /// Keys with an expiry as of `flushed`.
    pub expires: u64,
    /// Whether the two figures are exact.
    pub exact: bool,
    /// Versions below this may have been collected.
    pub collected: Seq,
    /// Files by number, with their level.
    pub files: BTreeMap<u64, (u8, FileMeta)>,
}

/// Everything the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The next file number to use.
    pub next_file: u64,
    /// The next family id to use.
    pub next_cf: CfId,
    /// The greatest sequence number in sstables.
    pub last_seq: Seq,
    /// The greatest commit time in sstables, Unix ms.
    pub committed_ms: u64,
    /// What the last split left; `None` before any.
    pub part: Option<Part>,
    /// The families.
    pub families: BTreeMap<CfId, Family>,
}

impl Default for State {
    fn default() -> State {
        State {
            next_file: 1,
            next_cf: CfId(1),
            last_seq: Seq(0),
            committed_ms: 0,
            part: None,
            families: BTreeMap::new(),
        }
    }
}

impl State {
    /// Applies an edit; on failure says what does not fit, and the state is of no more use.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        edit.fields.iter().try_for_each(|field| self.apply_field(field))
    }

    fn apply_field(&mut self, field: &Field) -> Result<(), String> {
        match field {
            Field::NextFile(n) => self.next_file = self.next_file.max(*n),
            Field::LastSeq(seq) => self.last_seq = self.last_seq.max(*seq),
            Field::CommittedMs(ms) => self.committed_ms = self.committed_ms.max(*ms),
            Field::NextCf(cf) => self.next_cf = self.next_cf.max(*cf),
            Field::CreateCf { cf, name, options } => self.create(*cf, name, options)?,
            Field::DropCf(cf) => {
                self.family(*cf)?;
                self.families.remove(cf);
            }
            Field::Flushed(cf, index) => {
                let family = self.family(*cf)?;
                family.flushed = family.flushed.max(*index);
            }
            Field::AddFile { cf, level, file } => self.add_file(*cf, *level, file)?,
            Field::RemoveFile { cf, number } => {
                if self.family(*cf)?.files.remove(number).is_none() {
                    return Err(format!(
                        "file {number} removed from family {cf} without being there"
                    ));
                }
            }
            Field::Counts { cf, keys, expires, exact } => {
                let family = self.family(*cf)?;
                (family.keys, family.expires, family.exact) = (*keys, *expires, *exact);
            }
            Field::Collected(cf, seq) => {
                let family = self.family(*cf)?;
                family.collected = family.collected.max(*seq);
            }
            Field::Part(part) => self.part = Some(*part),
        }
        Ok(())
    }

    fn family(&mut self, cf: CfId) -> Result<&mut Family, String> {
        self.families.get_mut(&cf).ok_or_else(|| format!("family {cf} changed without being there"))
    }

    fn create(&mut self, cf: CfId, name: &str, options: &CfOptions) -> Result<(), String> {
        let family = Family {
            name: name.to_string(),
            options: options.clone(),
            flushed: LogIndex(0),
            keys: 0,
            expires: 0,
            exact: true,
            collected: Seq(0),
            files: BTreeMap::new(),
        };
        match self.families.insert(cf, family) {
            None => Ok(()),
            Some(_) => Err(format!("family {cf} created twice")),
        }
    }

    fn add_file(&mut self, cf: CfId, level: u8, file: &FileMeta) -> Result<(), String> {
        let number = file.number;
        if usize::from(level) >= LEVELS_MAX {
            return Err(format!("file {number} added at level {level}"));
        }
        if file.smallest > file.largest || file.seq_min > file.seq_max {
            return Err(format!("file {number} has bounds the wrong way round"));
        }
        match self.family(cf)?.files.insert(number, (level, file.clone())) {
            None => Ok(()),
            Some(_) => Err(format!("file {number} added twice")),
        }
    }

    /// The state as edits, to begin a new manifest with.
    pub fn to_edits(&self) -> Vec<Edit> {
        let mut edits = vec![Edit {
            fields: vec![
                Field::NextFile(self.next_file),
                Field::NextCf(self.next_cf),
                Field::LastSeq(self.last_seq),
                Field::CommittedMs(self.committed_ms),
            ],
        }];
        edits[0].fields.extend(self.part.map(Field::Part));
        for (&cf, family) in &self.families {
            let (name, options) = (family.name.clone(), family.options.clone());
            let (keys, expires, exact) = (family.keys, family.expires, family.exact);
            edits.push(Edit {
                fields: vec![
                    Field::CreateCf { cf, name, options },
                    Field::Flushed(cf, family.flushed),
                    Field::Counts { cf, keys, expires, exact },
                    Field::Collected(cf, family.collected),
                ],
            });
            let files: Vec<_> = family.files.values().collect();
            for chunk in files.chunks(SNAPSHOT_FILES) {
                let add = |(level, file): &&(u8, FileMeta)| Field::AddFile {
                    cf,
                    level: *level,
                    file: file.clone(),
                };
                edits.push(Edit { fields: chunk.iter().map(add).collect() });
            }
        }
        edits
    }

    /// The log index up to which every family is in sstables.
    pub fn replay_from(&self) -> LogIndex {
        self.families.values().map(|f| f.flushed).min().unwrap_or_default()
    }
}
