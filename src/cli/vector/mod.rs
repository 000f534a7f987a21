//! `arqon vector`: indexes of vectors, in a server or in a data folder.
//!
//! In reading order:
//! - this file: the words.
//! - [`target`]: where the indexes are. [`input`]: files of vectors and ids.
//! - [`create`], [`list`], [`remove`], [`verify`]: indexes.
//! - [`import`], [`export`]: vectors in and out.
//! - [`search`]: queries and answers.

pub mod create;
pub mod export;
pub mod import;
pub mod input;
pub mod list;
pub mod remove;
pub mod search;
pub mod target;
pub mod verify;

use crate::cli::context::Context;
use crate::cli::failure::Outcome;

/// Keep vectors in indexes, and find the nearest of them
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Vector {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Create(create::Create),
    Drop(remove::Drop),
    List(list::List),
    Describe(list::Describe),
    Import(import::Import),
    Search(search::Search),
    Export(export::Export),
    Verify(verify::Verify),
}

impl Vector {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        match self.what {
            What::Create(create) => create.run(context),
            What::Drop(drop) => drop.run(context),
            What::List(list) => list.run(context),
            What::Describe(describe) => describe.run(context),
            What::Import(import) => import.run(context),
            What::Search(search) => search.run(context),
            What::Export(export) => export.run(context),
            What::Verify(verify) => verify.run(context),
        }
    }
}
