//! `arqon wal`: the node's log, looked at without opening it.

pub mod dump;
pub mod verify;

use crate::base::{Error, ErrorKind};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::env::{Disk, RealDisk};
use crate::log::inspect::Summary;
use std::path::Path;

/// `arqon wal`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Wal {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Dump(dump::Dump),
    Verify(verify::Verify),
}

impl Wal {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        match self.what {
            What::Dump(dump) => dump.run(context),
            What::Verify(verify) => verify.run(context),
        }
    }
}

/// Refuses a folder without a segment: a node's log that lost them all is damaged, anything else
/// is no log.
fn some_segment(summary: &Summary, dir: &Path) -> Outcome {
    if !summary.segments.is_empty() {
        return Ok(());
    }
    if dir.parent().is_some_and(|data| RealDisk.exists(&data.join("FORMAT"))) {
        let error = Error::corruption(dir, 0, "segments of the node's log", "none");
        return Err(Failure::damaged(dir, &[error]));
    }
    let text = format!("{} holds no log: no segment", dir.display());
    let error = Error::new(ErrorKind::NotFound, text);
    Err(Failure::from(error).fix("name a data folder, or the log in one"))
}
