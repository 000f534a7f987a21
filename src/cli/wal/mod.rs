//! `arqon wal`: the node's log, looked at without opening it.

pub mod dump;
pub mod verify;

use crate::cli::context::Context;
use crate::cli::failure::Outcome;

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
