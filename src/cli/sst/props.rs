//! `arqon sst props`.

use crate::base::Seq;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::env::RealDisk;
use crate::lsm::key::{Kind, parse};
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
            for (name, text) in properties.named() {
                match name {
                    "smallest" => fields.extend(bound(SMALLEST, &properties.smallest)),
                    "largest" => fields.extend(bound(LARGEST, &properties.largest)),
                    "expire_at_ms_min" | "expire_at_ms_max" if properties.expiring == 0 => {
                        fields.push((name, Value::Null));
                    }
                    // Nobody knew what time it was.
                    "created_ms" if properties.created_ms == 0 => {}
                    _ => fields.push((name, typed(text))),
                }
            }
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

const SMALLEST: [&str; 3] = ["smallest_key", "smallest_key_seq", "smallest_key_kind"];
const LARGEST: [&str; 3] = ["largest_key", "largest_key_seq", "largest_key_kind"];

/// An internal key in its parts. One that no record has, the end of a range, has no number.
fn bound(names: [&'static str; 3], internal: &[u8]) -> [(&'static str, Value); 3] {
    let Some(key) = parse(internal) else { return names.map(|name| (name, Value::Null)) };
    let range_end = key.seq == Seq::MAX;
    let kind = match key.kind {
        _ if range_end => "range-end",
        Kind::Put | Kind::PutMeta => "put",
        Kind::Delete => "delete",
        Kind::Merge => "merge",
        Kind::RangeDelete => "range-delete",
    };
    let seq = if range_end { Value::Null } else { Value::from(key.seq.0) };
    let [key_name, seq_name, kind_name] = names;
    let user_key = Value::Bytes(key.user_key.to_vec());
    [(key_name, user_key), (seq_name, seq), (kind_name, Value::from(kind))]
}

fn typed(text: String) -> Value {
    match text.parse::<u64>() {
        Ok(n) => Value::from(n),
        Err(_) => Value::Text(text),
    }
}
