//! `arqon sst verify`.

use crate::base::Error;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::RealDisk;
use crate::lsm::sstable::verify::verify;
use std::path::PathBuf;

/// Check every byte of tables: checksums, order, filters, properties
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon sst verify arqon-data/shard-1/000007.sst
  arqon sst verify arqon-data/shard-1/*.sst --output json

All damage is reported, with file, offset, what was expected and what was found; the exit code is
then 8. Nothing is changed.")]
pub struct Verify {
    /// The tables
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

impl Verify {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let columns = &["file", "bytes", "blocks", "entries", "range_deletes", "damages"];
        context.printer.list("tables", columns)?;
        let mut damage: Vec<Error> = Vec::new();
        for file in &self.files {
            let report = verify(&RealDisk, file)?;
            context.printer.row(vec![
                Value::from(file.display().to_string()),
                Value::Size(report.file_bytes),
                Value::from(report.blocks),
                Value::from(report.entries),
                Value::from(report.range_deletes),
                Value::from(report.damage.len() as u64),
            ])?;
            damage.extend(report.damage);
        }
        match &self.files[..] {
            _ if damage.is_empty() => Ok(()),
            [file] => Err(Failure::damaged(file, &damage)),
            _ => {
                let all = format!("{} tables", self.files.len());
                Err(Failure::damaged(all.as_ref(), &damage))
            }
        }
    }
}
