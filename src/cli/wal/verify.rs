//! `arqon wal verify`.

use crate::base::Error;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::folder::log_dir;
use crate::cli::output::Value;
use crate::cli::wal::some_segment;
use crate::env::RealDisk;
use crate::log::inspect::{SegmentSummary, inspect};
use std::path::PathBuf;

/// Check every frame of a log, and say what opening it would do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon wal verify arqon-data
  arqon wal verify arqon-data/log --output json

A torn tail is what a crash leaves behind what was acknowledged: it is told, and is no damage. The
column tail tells what stands behind a segment's last record: that, or what an earlier use of the
file left.
Damage before it is reported with file and offset, and the exit code is then 8. Nothing is changed;
beside a running node the end may be caught in the making.")]
pub struct Verify {
    /// The log's folder, or the data folder it lies in
    dir: PathBuf,
}

impl Verify {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let dir = log_dir(&self.dir);
        let summary = inspect(&RealDisk, &dir, &mut |_| Ok(()))?;
        let columns =
            &["file", "number", "bytes", "used_bytes", "frames", "entries", "state", "tail"];
        some_segment(&summary, &dir)?;
        context.printer.list("segments", columns)?;
        for segment in &summary.segments {
            context.printer.row(vec![
                Value::from(segment.file.display().to_string()),
                Value::from(u64::from(segment.number)),
                Value::Size(segment.bytes),
                Value::Size(segment.used_bytes),
                Value::from(segment.frames),
                Value::from(entries(segment)),
                Value::from(match summary.damage_in(segment) {
                    Some(_) => "damaged",
                    None => "sound",
                }),
                Value::from(segment.tail.clone()),
            ])?;
        }
        context.printer.footer("end", summary.end.map(|at| at.0));
        context.printer.footer("durable", summary.durable.map(|at| at.0));
        let cut = summary
            .cut
            .as_ref()
            .map(|cut| format!("{} offset {}: {}", cut.file.display(), cut.offset, cut.found));
        if let Some(cut) = &cut {
            context.say(format_args!("note: opening would cut a torn tail: {cut}"));
        }
        context.printer.footer("cut", cut);
        let segments = summary.segments.iter();
        let damaged = segments.filter_map(|segment| summary.damage_in(segment));
        let damage: Vec<Error> = damaged.chain(summary.damage_elsewhere()).cloned().collect();
        if damage.is_empty() { Ok(()) } else { Err(Failure::damaged(&dir, &damage)) }
    }
}

/// First and last entry of each group: `1:1-500 2:7-9`.
fn entries(segment: &SegmentSummary) -> String {
    let spans = segment.entries.iter();
    spans
        .map(|(group, (first, last))| format!("{group}:{first}-{last}"))
        .collect::<Vec<_>>()
        .join(" ")
}
