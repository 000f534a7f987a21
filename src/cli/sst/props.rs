//! `arqon sst props`.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::RealDisk;
use crate::lsm::sstable::dump::{DumpItem, dump};
use std::path::PathBuf;

/// Print what a table says about itself
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon sst props arqon-data/shard-1/000007.sst
  arqon sst props 000007.sst --output json

Only the footer and the frame of the table are read. Times are Unix milliseconds.")]
pub struct Props {
    /// The table
    file: PathBuf,
}

impl Props {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let mut items = dump(&RealDisk, &self.file)?;
        if let Some(properties) = items.properties() {
            let mut fields = vec![("file", Value::from(self.file.display().to_string()))];
            fields.extend(properties.named().into_iter().map(|(name, text)| (name, typed(text))));
            context.printer.record(&fields)?;
            return Ok(());
        }
        // Without properties the frame is damaged, and the dump begins with what is wrong with it.
        let damage: Vec<_> = items
            .by_ref()
            .map_while(|item| match item {
                DumpItem::Damage(error) => Some(error),
                _ => None,
            })
            .collect();
        match damage.is_empty() {
            true => Err(Failure::failed(format!("{} has no properties", self.file.display()))),
            false => Err(Failure::damaged(&self.file, &damage)),
        }
    }
}

fn typed(text: String) -> Value {
    match text.parse::<u64>() {
        Ok(n) => Value::from(n),
        Err(_) => Value::Text(text),
    }
}
