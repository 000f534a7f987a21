//! `arqon config`: the settings of the servers: what holds and why, a file to begin with, a check.

pub mod check;
pub mod sample;
pub mod show;

use crate::cli::context::Context;
use crate::cli::failure::Outcome;

/// `arqon config`.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Show(show::Show),
    Sample(sample::Sample),
    Check(check::Check),
}

impl Config {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        match self.what {
            What::Show(show) => show.run(context),
            What::Sample(sample) => sample.run(context),
            What::Check(check) => check.run(context),
        }
    }
}
