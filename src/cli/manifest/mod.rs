//! `arqon manifest`: the history of an engine's files.

pub mod dump;

use crate::cli::context::Context;
use crate::cli::failure::Outcome;

/// `arqon manifest`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Manifest {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Dump(dump::Dump),
}

impl Manifest {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        match self.what {
            What::Dump(dump) => dump.run(context),
        }
    }
}
