//! `arqon vector export`.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::cli::vector::target::{TargetArgs, unfitting};
use crate::env::{Disk, File, RealDisk};
use crate::op::vector::{StoredVector, VectorAnswer, VectorCall};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Vectors fetched at once.
const PAGE: u32 = 1_000;

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Written {
    /// Rows of 32-bit floats.
    F32,
    /// Rows of 32-bit floats, each behind its dimension.
    Fvecs,
    /// An object a line, with id and payload.
    Ndjson,
}

/// Write the vectors of an index to a file, in the order of their ids
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon vector export docs docs.ndjson
  arqon vector export docs --data ./arqon-data --format f32 docs.f32 --ids docs.ids.u64

The forms are those that arqon vector import reads. --ids writes the ids beside the vectors, 8 bytes
each, little-endian.")]
pub struct Export {
    /// Name of the index
    name: String,
    /// File to write; it must not be there
    file: PathBuf,
    /// How they are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "ndjson")]
    format: Written,
    /// File to write the ids to
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
}

impl Export {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let target = self.target.open(false)?;
        target.describe(&self.name)?;
        let mut file = Growing::create(&self.file, context.yes)?;
        let mut ids = self.ids.as_deref().map(|p| Growing::create(p, context.yes)).transpose()?;
        let (mut after, mut count) = (None, 0u64);
        loop {
            let call = VectorCall::Walk { index: self.name.clone(), after, limit: PAGE };
            let VectorAnswer::Page { vectors, next } = target.call(call)? else {
                return Err(unfitting());
            };
            let mut part = Vec::new();
            vectors.iter().try_for_each(|one| write(&mut part, one, self.format))?;
            file.append(&part)?;
            if let Some(ids) = &mut ids {
                let part: Vec<u8> = vectors.iter().flat_map(|one| one.id.to_le_bytes()).collect();
                ids.append(&part)?;
            }
            count += vectors.len() as u64;
            after = next;
            if after.is_none() {
                break;
            }
        }
        context.printer.record(&[
            ("index", Value::from(self.name)),
            ("file", Value::from(self.file.display().to_string())),
            ("vectors", Value::from(count)),
            ("bytes", Value::Size(file.len)),
        ])
    }
}

fn write(out: &mut Vec<u8>, one: &StoredVector, form: Written) -> Outcome {
    match form {
        Written::F32 => out.extend_from_slice(one.vector.as_bytes()),
        Written::Fvecs => {
            out.extend_from_slice(&(one.vector.len() as u32).to_le_bytes());
            out.extend_from_slice(one.vector.as_bytes());
        }
        Written::Ndjson => {
            let vector: Vec<serde_json::Value> =
                one.vector.to_vec().into_iter().map(serde_json::Value::from).collect();
            let mut object = serde_json::json!({ "id": one.id, "vector": vector });
            if !one.payload.is_empty() {
                object["payload"] = serde_json::from_slice(&one.payload).unwrap_or_default();
            }
            out.extend_from_slice(object.to_string().as_bytes());
            out.push(b'\n');
        }
    }
    Ok(())
}

/// A file that is written from its start to its end.
struct Growing {
    file: Arc<dyn File>,
    len: u64,
}

impl Growing {
    fn create(path: &Path, replace: bool) -> Outcome<Growing> {
        if RealDisk.exists(path) && !replace {
            let message = format!("{} is there already", path.display());
            return Err(Failure::refused(message, "name another file, or replace it with --yes"));
        }
        Ok(Growing { file: RealDisk.create(path)?, len: 0 })
    }

    fn append(&mut self, bytes: &[u8]) -> Outcome {
        self.file.write_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}
