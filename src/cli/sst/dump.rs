//! `arqon sst dump`.

use crate::base::escape::unescape;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{Format, Value};
use crate::cli::record::{cell, describe};
use crate::env::RealDisk;
use crate::lsm::key::parse;
use crate::lsm::sstable::dump::{DumpItem, dump};
use std::path::PathBuf;

const COLUMNS: &[&str] =
    &["key", "seq", "kind", "value", "value_bytes", "expire_at_ms", "tag", "block_offset"];

/// `arqon sst dump`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Print the records of a table",
    after_help = "\
Examples:
  arqon sst dump arqon-data/shard-1/000007.sst
  arqon sst dump 000007.sst --from user:1 --to user:2 --limit 20
  arqon sst dump 000007.sst --keys-only --output ndjson

Keys and values are printed with \\xHH for what is not printable, and taken so by --from and --to.
A range-delete's key and value are the first key it covers and the first behind it. Damaged blocks
are reported and passed over."
)]
pub struct Dump {
    /// The table
    file: PathBuf,
    /// First key, inclusive
    #[arg(long, value_name = "KEY", value_parser = key)]
    from: Option<Key>,
    /// End key, exclusive
    #[arg(long, value_name = "KEY", value_parser = key)]
    to: Option<Key>,
    /// Most records to print
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Leave values out
    #[arg(long)]
    keys_only: bool,
}

/// A key as the command line has it.
#[derive(Debug, Clone)]
pub struct Key(Vec<u8>);

fn key(text: &str) -> Result<Key, String> {
    unescape(text)
        .map(Key)
        .ok_or_else(|| "a backslash begins \\n, \\r, \\t, \\\\, \\\" or \\xHH".to_string())
}

impl Dump {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let items = dump(&RealDisk, &self.file)?;
        context.printer.list("records", COLUMNS)?;
        let mut damage = Vec::new();
        let mut left = self.limit.unwrap_or(u64::MAX);
        for item in items {
            if left == 0 {
                break;
            }
            let row = match item {
                DumpItem::Damage(error) => {
                    damage.push(error);
                    continue;
                }
                DumpItem::RangeDelete(range) => self.range(&range.start, &range.end, range.seq.0),
                DumpItem::Entry { block_offset, key, value } => {
                    self.record(context.printer.format(), block_offset, &key, &value)
                }
            };
            if let Some(row) = row {
                context.printer.row(row)?;
                left -= 1;
            }
        }
        if damage.is_empty() { Ok(()) } else { Err(Failure::damaged(&self.file, &damage)) }
    }

    fn range(&self, start: &[u8], end: &[u8], seq: u64) -> Option<Vec<Value>> {
        let outside = self.to.as_ref().is_some_and(|to| start >= &to.0[..])
            || self.from.as_ref().is_some_and(|from| end <= &from.0[..]);
        (!outside).then(|| {
            vec![
                Value::Bytes(start.to_vec()),
                Value::from(seq),
                Value::from("range-delete"),
                Value::Bytes(end.to_vec()),
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
            ]
        })
    }

    fn record(
        &self,
        format: Format,
        block_offset: u64,
        internal: &[u8],
        stored: &[u8],
    ) -> Option<Vec<Value>> {
        let key = parse(internal)?;
        let outside = self.from.as_ref().is_some_and(|from| key.user_key < &from.0[..])
            || self.to.as_ref().is_some_and(|to| key.user_key >= &to.0[..]);
        if outside {
            return None;
        }
        let seen = describe(key.kind, stored);
        let shown = if self.keys_only { None } else { seen.value };
        Some(vec![
            Value::Bytes(key.user_key.to_vec()),
            Value::from(key.seq.0),
            Value::from(seen.kind),
            cell(shown, format),
            Value::from(seen.value.map(|value| value.len() as u64)),
            Value::from(seen.expire_at_ms),
            Value::from(seen.tag),
            Value::from(block_offset),
        ])
    }
}
