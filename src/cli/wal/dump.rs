//! `arqon wal dump`.

use crate::base::{Error, ErrorKind, GroupId, LogIndex, Result};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::folder::log_dir;
use crate::cli::output::{Printer, Value};
use crate::cli::record::{cell, describe};
use crate::cli::wal::some_segment;
use crate::env::RealDisk;
use crate::log::inspect::{FrameInfo, Item, inspect};
use crate::log::record::RecordKind;
use crate::lsm::batch::BatchView;
use std::path::{Path, PathBuf};

/// Print the records of a log
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon wal dump arqon-data
  arqon wal dump arqon-data --ops --limit 100
  arqon wal dump arqon-data/log --group 1 --output ndjson

Nothing is changed; beside a running node the end may be caught in the making. Damage is reported
behind the records, and the exit code is then 8.")]
pub struct Dump {
    /// The log's folder, or the data folder it lies in
    dir: PathBuf,
    /// Only records of this group
    #[arg(long, value_name = "N")]
    group: Option<u64>,
    /// Print the operations of batches, a row each, instead of records
    #[arg(long)]
    ops: bool,
    /// Most rows to print
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

const RECORD_COLUMNS: &[&str] =
    &["file", "offset", "group", "kind", "index", "bytes", "base_seq", "ops"];
const OP_COLUMNS: &[&str] = &["group", "index", "seq", "op", "cf", "key", "value", "expire_at_ms"];

impl Dump {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let dir = log_dir(&self.dir);
        let (name, columns) =
            if self.ops { ("ops", OP_COLUMNS) } else { ("records", RECORD_COLUMNS) };
        context.printer.list(name, columns)?;
        let left = self.limit.unwrap_or(u64::MAX);
        let mut walk = Walk {
            dump: &self,
            printer: &mut context.printer,
            left,
            begun: None,
            ended: None,
            gaps: Vec::new(),
        };
        let inspected = inspect(&RealDisk, &dir, &mut |item| walk.visit(item));
        let gaps = walk.gaps;
        if let Some(outcome) = walk.ended {
            return outcome;
        }
        let summary = inspected?;
        some_segment(&summary, &dir)?;
        for gap in gaps {
            context.say(format_args!("note: {gap}"));
        }
        match summary.damage {
            Some(damage) => Err(Failure::damaged(&dir, &[damage])),
            None => Ok(()),
        }
    }
}

/// A record whose frames are being put together.
struct Begun {
    file: PathBuf,
    offset: u64,
    group: GroupId,
    kind: RecordKind,
    index: LogIndex,
    payload: Vec<u8>,
}

struct Walk<'a> {
    dump: &'a Dump,
    printer: &'a mut Printer,
    left: u64,
    begun: Option<Begun>,
    /// Why the walk was ended before the log's end.
    ended: Option<Outcome>,
    gaps: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, item: Item<'_>) -> Result<()> {
        match item {
            Item::Frame { file, frame } => self.frame(file, &frame),
            Item::Gap { file, offset, next, found } => {
                let file = file.display();
                self.gaps.push(format!("{file} offset {offset} to {next}: no frames but {found}"));
                Ok(())
            }
            Item::Segment { .. } | Item::Link { .. } => Ok(()),
        }
    }

    fn frame(&mut self, file: &Path, frame: &FrameInfo<'_>) -> Result<()> {
        if self.dump.group.is_some_and(|group| group != frame.group.0) {
            return Ok(());
        }
        if frame.first {
            self.begun = Some(Begun {
                file: file.to_path_buf(),
                offset: frame.offset,
                group: frame.group,
                kind: frame.kind,
                index: frame.index,
                payload: Vec::new(),
            });
        }
        let Some(begun) = &mut self.begun else { return Ok(()) };
        begun.payload.extend_from_slice(frame.payload);
        if !frame.last {
            return Ok(());
        }
        let Some(record) = self.begun.take() else { return Ok(()) };
        let printed = if self.dump.ops { self.ops(&record) } else { self.record(&record) };
        match printed {
            Ok(()) if self.left > 0 => Ok(()),
            outcome => {
                self.ended = Some(outcome);
                Err(Error::new(ErrorKind::Refused, "the walk has ended"))
            }
        }
    }

    fn record(&mut self, record: &Begun) -> Outcome {
        if self.left == 0 {
            return Ok(());
        }
        let batch = match record.kind {
            RecordKind::Entry => BatchView::read(&record.payload).ok(),
            _ => None,
        };
        let base_seq = batch.as_ref().map(|b| b.last_seq().0.saturating_sub(b.len() as u64 - 1));
        self.left -= 1;
        self.printer.row(vec![
            Value::from(record.file.display().to_string()),
            Value::from(record.offset),
            Value::from(record.group.0),
            Value::from(record.kind.name()),
            Value::from(record.index.0),
            Value::Size(record.payload.len() as u64),
            Value::from(base_seq),
            Value::from(batch.map(|b| b.len() as u64)),
        ])
    }

    fn ops(&mut self, record: &Begun) -> Outcome {
        if record.kind != RecordKind::Entry {
            return Ok(());
        }
        // An entry of another kind than a batch (a vote, a membership) has no operations.
        let Ok(batch) = BatchView::read(&record.payload) else { return Ok(()) };
        for op in batch.ops() {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            let seen = describe(op.kind, op.value);
            self.printer.row(vec![
                Value::from(record.group.0),
                Value::from(record.index.0),
                Value::from(op.seq.0),
                Value::from(seen.kind),
                Value::from(u64::from(op.cf.0)),
                Value::Bytes(op.key.to_vec()),
                cell(seen.value, self.printer.format()),
                Value::from(seen.expire_at_ms),
            ])?;
        }
        Ok(())
    }
}
