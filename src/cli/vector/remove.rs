//! `arqon vector drop`.

use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::cli::vector::target::TargetArgs;
use crate::op::vector::VectorCall;

/// Drop an index and every vector in it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon vector drop docs --yes
  arqon vector drop docs --data ./arqon-data --yes")]
pub struct Drop {
    /// Its name
    name: String,
    #[command(flatten)]
    target: TargetArgs,
}

impl Drop {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let target = self.target.open(false)?;
        let info = target.describe(&self.name)?;
        if !context.yes {
            let message = format!("{} vectors of index {} would be gone", info.vectors, self.name);
            return Err(Failure::refused(message, "say so with --yes"));
        }
        target.call(VectorCall::Drop { index: self.name.clone() })?;
        let vectors = Value::from(info.vectors);
        context.printer.record(&[("dropped", Value::from(self.name)), ("vectors", vectors)])
    }
}
