//! `arqon sst`: sstables, looked at without an engine.

pub mod dump;
pub mod props;
pub mod verify;

use crate::cli::context::Context;
use crate::cli::failure::Outcome;

/// `arqon sst`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Sst {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Dump(dump::Dump),
    Props(props::Props),
    Verify(verify::Verify),
}

impl Sst {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        match self.what {
            What::Dump(dump) => dump.run(context),
            What::Props(props) => props.run(context),
            What::Verify(verify) => verify.run(context),
        }
    }
}
