//! `arqon manifest dump`.

use crate::base::{CfId, Error};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::folder::engine_dirs;
use crate::cli::output::Value;
use crate::env::RealDisk;
use crate::lsm::manifest::record::RecordReader;
use crate::lsm::manifest::store::{file_name, load};
use crate::lsm::manifest::{Field, FileMeta, read_current};
use std::path::{Path, PathBuf};

/// Print the edits of a manifest, or the files alive at its end
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon manifest dump arqon-data
  arqon manifest dump arqon-data --files
  arqon manifest dump arqon-data/shard-1 --number 4 --output ndjson

Nothing is changed. Damage is reported with file and offset behind the edits before it, and the exit
code is then 8; a record torn at the end by a crash is told, and is no damage.")]
pub struct Dump {
    /// An engine's folder, or the data folder of its shards
    dir: PathBuf,
    /// The manifest to print [default: the current one]
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    /// Print the files alive at the end instead of the edits
    #[arg(long)]
    files: bool,
}

const EDIT_COLUMNS: &[&str] = &[
    "dir", "offset", "edit", "change", "cf", "value", "level", "file", "bytes", "entries",
    "seq_min", "seq_max", "smallest", "largest",
];
const FILE_COLUMNS: &[&str] = &[
    "dir",
    "cf",
    "family",
    "level",
    "file",
    "bytes",
    "entries",
    "deletes",
    "range_deletes",
    "seq_min",
    "seq_max",
    "smallest",
    "largest",
];

impl Dump {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let dirs = engine_dirs(&self.dir)?;
        let (name, columns) =
            if self.files { ("files", FILE_COLUMNS) } else { ("changes", EDIT_COLUMNS) };
        context.printer.list(name, columns)?;
        let mut damage: Vec<Error> = Vec::new();
        for dir in dirs {
            let printed = match self.number(&dir) {
                Ok(number) if self.files => files(context, &dir, number),
                Ok(number) => edits(context, &dir, number),
                Err(failure) => Err(Stop::Failure(failure)),
            };
            match printed {
                Ok(()) => {}
                Err(Stop::Damage(error)) => damage.push(error),
                Err(Stop::Failure(failure)) => return Err(failure),
            }
        }
        if damage.is_empty() { Ok(()) } else { Err(Failure::damaged(&self.dir, &damage)) }
    }

    fn number(&self, dir: &Path) -> Outcome<u64> {
        if let Some(number) = self.number {
            return Ok(number);
        }
        read_current(&RealDisk, dir)?.ok_or_else(|| {
            let text = format!("{} has no CURRENT", dir.display());
            let error = Error::new(crate::base::ErrorKind::NotFound, text);
            Failure::from(error).fix("name a manifest with --number N")
        })
    }
}

/// Why the printing of one folder ended.
enum Stop {
    Damage(Error),
    Failure(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        match error.kind() {
            crate::base::ErrorKind::Corruption => Stop::Damage(error),
            _ => Stop::Failure(error.into()),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

fn edits(context: &mut Context, dir: &Path, number: u64) -> Result<(), Stop> {
    let path = dir.join(file_name(number));
    let mut reader = RecordReader::open(&RealDisk, &path)?;
    let mut count = 0u64;
    while let Some((offset, edit)) = reader.next()? {
        count += 1;
        for field in &edit.fields {
            let mut row = vec![
                Value::from(dir.display().to_string()),
                Value::from(offset),
                Value::from(count),
            ];
            row.extend(change(field));
            context.printer.row(row)?;
        }
    }
    if reader.is_torn() {
        context.say(format_args!("note: {} ends in a torn record", path.display()));
    }
    Ok(())
}

/// A field of an edit, from the column `change` on.
fn change(field: &Field) -> Vec<Value> {
    let row = |name: &str, cf: Option<CfId>, value: Value| {
        let mut row = vec![Value::from(name), Value::from(cf.map(|cf| u64::from(cf.0))), value];
        row.resize(EDIT_COLUMNS.len() - 3, Value::Null);
        row
    };
    match field {
        Field::NextFile(n) => row("next-file", None, Value::from(*n)),
        Field::LastSeq(seq) => row("last-seq", None, Value::from(seq.0)),
        Field::CommittedMs(ms) => row("committed-ms", None, Value::from(*ms)),
        Field::NextCf(cf) => row("next-family", None, Value::from(u64::from(cf.0))),
        Field::CreateCf { cf, name, .. } => {
            row("create-family", Some(*cf), Value::from(name.as_str()))
        }
        Field::DropCf(cf) => row("drop-family", Some(*cf), Value::Null),
        Field::Flushed(cf, index) => row("flushed", Some(*cf), Value::from(index.0)),
        Field::Collected(cf, seq) => row("collected", Some(*cf), Value::from(seq.0)),
        Field::Part(part) => {
            row("part", None, Value::from(format!("slots={} epoch={}", part.slots, part.epoch)))
        }
        Field::Counts { cf, keys, expires, exact } => {
            let exact = if *exact { "exact" } else { "estimated" };
            row("counts", Some(*cf), Value::from(format!("keys={keys} expires={expires} {exact}")))
        }
        Field::RemoveFile { cf, number } => {
            let mut row = row("remove-file", Some(*cf), Value::Null);
            row[4] = Value::from(*number);
            row
        }
        Field::AddFile { cf, level, file } => vec![
            Value::from("add-file"),
            Value::from(u64::from(cf.0)),
            Value::Null,
            Value::from(u64::from(*level)),
            Value::from(file.number),
            Value::Size(file.size),
            Value::from(file.entries),
            Value::from(file.seq_min.0),
            Value::from(file.seq_max.0),
            Value::Bytes(file.smallest.clone()),
            Value::Bytes(file.largest.clone()),
        ],
    }
}

fn files(context: &mut Context, dir: &Path, number: u64) -> Result<(), Stop> {
    let (state, torn) = load(&RealDisk, dir, number)?;
    for (cf, family) in &state.families {
        for (level, file) in family.files.values() {
            context.printer.row(live(dir, *cf, &family.name, *level, file))?;
        }
    }
    if torn {
        let name = dir.join(file_name(number));
        context.say(format_args!("note: {} ends in a torn record", name.display()));
    }
    Ok(())
}

fn live(dir: &Path, cf: CfId, family: &str, level: u8, file: &FileMeta) -> Vec<Value> {
    vec![
        Value::from(dir.display().to_string()),
        Value::from(u64::from(cf.0)),
        Value::from(family),
        Value::from(u64::from(level)),
        Value::from(file.number),
        Value::Size(file.size),
        Value::from(file.entries),
        Value::from(file.deletes),
        Value::from(file.range_deletes),
        Value::from(file.seq_min.0),
        Value::from(file.seq_max.0),
        Value::Bytes(file.smallest.clone()),
        Value::Bytes(file.largest.clone()),
    ]
}
