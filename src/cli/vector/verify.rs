//! `arqon vector verify`.

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::Value;
use crate::cli::vector::target::{TargetArgs, unfitting};
use crate::op::vector::{Checked, VectorAnswer, VectorCall};

/// Compare an index with the vectors stored, and build anew what differs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon vector verify docs
  arqon vector verify docs --data ./arqon-data --output json

The vectors stored are the truth; what finds them is derived, and mended here if it differs. Exit
code 8 says that it did.")]
pub struct Verify {
    /// The index's name
    name: String,
    #[command(flatten)]
    target: TargetArgs,
}

impl Verify {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let call = VectorCall::Verify { index: self.name.clone() };
        let VectorAnswer::Checked(checked) = self.target.open(false)?.call(call)? else {
            return Err(unfitting());
        };
        let Checked { stored, missing, surplus } = checked;
        context.printer.record(&[
            ("index", Value::from(self.name)),
            ("stored", Value::from(stored)),
            ("missing", Value::from(missing)),
            ("surplus", Value::from(surplus)),
        ])?;
        if missing + surplus == 0 {
            return Ok(());
        }
        let message =
            format!("{missing} vectors could not be found and {surplus} were found that are none");
        let failure =
            Failure { exit: Exit::Corruption, code: "corruption", ..Failure::failed(message) };
        Err(failure.fix("nothing: it was mended; verify again to see"))
    }
}
