//! `arqon vector import`.

use crate::base::{Error, ErrorKind};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Value;
use crate::cli::vector::create::Made;
use crate::cli::vector::input::{FileFormat, Vectors};
use crate::cli::vector::target::{Target, TargetArgs};
use crate::env::{Clock, Disk, RealClock, RealDisk};
use crate::op::vector::{IndexInfo, StoredVector, VectorAnswer, VectorCall, VectorId};
use crate::rpc::vector_client::Put;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Vectors of one write, and of one call to a server.
const TOGETHER: usize = 512;
/// Refused vectors that are told one by one.
const TOLD_MAX: usize = 10;

/// Read vectors from a file into an index, which is created if it is not there
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon vector import docs --dim 384 --metric cosine --format f16 docs.f16 --ids docs.ids.u32
  arqon vector import docs --data ./arqon-data --format npy embeddings.npy
  arqon vector import docs --format ndjson docs.ndjson --resume

Formats: f16, f32 and u8 are rows of --dim numbers; fvecs and npy say it themselves; ndjson has an
object a line, {\"id\": 7, \"vector\": [..], \"payload\": {..}}. Without --ids and an id of its own a
vector's id is its place in the file, from 0. An import that was interrupted goes on with --resume:
what is stored already as the file has it is not written again.")]
pub struct Import {
    /// Name of the index
    name: String,
    /// File of vectors
    file: PathBuf,
    /// How they stand in it
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: FileFormat,
    /// Numbers in a vector
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    dim: Option<u32>,
    /// File of ids: u32 or u64, little-endian, or an id a line
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Leave out what is stored already as the file has it
    #[arg(long)]
    resume: bool,
    /// Return when all are stored and can be found, without waiting for the index to be built and
    /// written down (with --data)
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    made: Made,
    #[command(flatten)]
    target: TargetArgs,
}

/// What an import has done so far.
#[derive(Default)]
struct Tally {
    read: u64,
    written: u64,
    skipped: u64,
    failed: u64,
    told: Vec<String>,
}

impl Import {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let mut target = None;
        let mut dim = self.dim;
        if dim.is_none() && !self.format.says_dim() {
            // The index that there is knows it; not asked of in vain if the file is not there.
            RealDisk.open(&self.file)?;
            let opened = self.target.open(true)?;
            dim = self.known(&opened)?.map(|info| info.spec.dim);
            target = Some(opened);
        }
        let mut vectors = Vectors::open(&self.file, self.format, dim.map(|dim| dim as usize))?;
        if let Some(ids) = &self.ids {
            vectors = vectors.with_ids(ids)?;
        }
        let mut first = vectors.next(TOGETHER)?;
        let dim = vectors.dim().or(dim.map(|dim| dim as usize));
        let dim = dim.or(first.first().map(|one| one.vector.len())).unwrap_or(0);
        let interrupt = Interrupt::watch()?;
        let target = match target {
            Some(target) => target,
            None => self.target.open(true)?,
        };
        self.create(&target, dim as u32)?;
        let bar = progress(vectors.rows());
        let (clock, mut tally) = (RealClock::new(), Tally::default());
        let began = clock.monotonic_ns();
        let flag = interrupt.flag();
        while !first.is_empty() {
            if flag.load(Ordering::Relaxed) {
                bar.abandon();
                let failure = Failure::interrupted();
                let written = tally.written + tally.skipped;
                return Err(failure.fix(format!(
                    "{written} vectors are stored; go on with the same command and --resume"
                )));
            }
            self.put(&target, std::mem::take(&mut first), &mut tally)?;
            bar.set_position(tally.read);
            // What stands before it is stored.
            first = vectors.next(TOGETHER).map_err(|error| {
                let written = tally.written + tally.skipped;
                let first = match error.kind() {
                    // Where a line is missing, the ids of those behind it are others.
                    ErrorKind::InvalidArgument => "mend the file without taking lines away, and ",
                    _ => "",
                };
                Failure::from(error).fix(format!(
                    "{written} vectors are stored; {first}go on with the same command and --resume"
                ))
            })?;
        }
        if !self.no_wait {
            bar.set_message("building");
            target.settle();
        }
        bar.finish_and_clear();
        let seconds = (clock.monotonic_ns() - began) as f64 / 1e9;
        if context.printer.format().is_json() {
            context.printer.footer_json("refused", serde_json::json!(tally.told));
        } else {
            tally.told.iter().for_each(|line| context.say(format_args!("refused: {line}")));
        }
        context.printer.record(&[
            ("index", Value::from(self.name.clone())),
            ("read", Value::from(tally.read)),
            ("written", Value::from(tally.written)),
            ("skipped", Value::from(tally.skipped)),
            ("failed", Value::from(tally.failed)),
            ("seconds", Value::Float(seconds, 3)),
            ("vectors_per_s", Value::Float(tally.read as f64 / seconds.max(1e-9), 0)),
        ])?;
        match tally.failed {
            0 => Ok(()),
            failed => Err(Failure::usage(format!("{failed} vectors were refused"))
                .fix("mend them in the file and import it again with --resume")),
        }
    }

    fn create(&self, target: &Target, dim: u32) -> Outcome {
        let spec = self.made.spec(&self.name, dim);
        match self.known(target)? {
            None => target.call(VectorCall::Create(spec)).map(drop),
            Some(known) if dim != 0 && known.spec.dim != dim => {
                let has = known.spec.dim;
                Err(Failure::usage(format!(
                    "index {} has vectors of {has} numbers, the file of {dim}",
                    self.name
                ))
                .fix("name another index, or drop this one"))
            }
            Some(known) => match self.made.differs(&known.spec) {
                None => Ok(()),
                Some(what) => {
                    Err(Failure::usage(format!("index {} was made otherwise: {what}", self.name))
                        .fix("leave the flag out, or name another index"))
                }
            },
        }
    }

    /// The index, if there is one.
    fn known(&self, target: &Target) -> Outcome<Option<IndexInfo>> {
        match target.call(VectorCall::Describe { index: self.name.clone() }) {
            Ok(VectorAnswer::Index(info)) => Ok(Some(*info)),
            Ok(_) => Ok(None),
            Err(failure) if failure.code == ErrorKind::NotFound.name() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn put(&self, target: &Target, mut vectors: Vec<StoredVector>, tally: &mut Tally) -> Outcome {
        tally.read += vectors.len() as u64;
        if self.resume {
            let ids: Vec<VectorId> = vectors.iter().map(|one| VectorId::new(one.id)).collect();
            let stored = target.get(&self.name, &ids)?;
            let before = vectors.len();
            let mut stored = stored.into_iter();
            vectors.retain(|one| stored.next().flatten().as_ref() != Some(one));
            tally.skipped += (before - vectors.len()) as u64;
        }
        if vectors.is_empty() {
            return Ok(());
        }
        tally.take(target.put(&self.name, vectors)?)
    }
}

impl Tally {
    /// Takes in what became of some vectors. Those that are wrong are told at the end; what else is
    /// refused is no fault of the file, and ends the import.
    fn take(&mut self, put: Put) -> Outcome {
        self.written += put.written;
        self.failed += put.failed;
        for refused in put.refused {
            if refused.kind != ErrorKind::InvalidArgument {
                let written = self.written + self.skipped;
                let failure = Failure::from(Error::new(refused.kind, refused.message));
                return Err(failure.fix(format!(
                    "{written} vectors are stored; when that has passed go on with the same command \
                     and --resume"
                )));
            }
            if self.told.len() < TOLD_MAX {
                self.told.push(refused.message);
            }
        }
        Ok(())
    }
}

fn progress(rows: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match rows {
        Some(rows) => {
            (ProgressBar::new(rows), "{bar:30} {pos}/{len} vectors, {per_sec}, {eta} left {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {pos} vectors, {per_sec} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use crate::rpc::vector_client::Refused;

    /// It went on to the end of the file, and said that the file had to be mended.
    #[test]
    fn what_is_no_fault_of_the_file_ends_an_import() {
        let put = |kind| {
            let refused = vec![Refused { position: 0, id: 7, kind, message: "why".into() }];
            Put { written: 5, failed: 1, refused }
        };
        let mut tally = Tally::default();
        tally.take(put(ErrorKind::InvalidArgument)).unwrap();
        assert_eq!(
            (tally.written, tally.failed, tally.told.as_slice()),
            (5, 1, &["why".into()][..])
        );
        for kind in [ErrorKind::Unavailable, ErrorKind::Unknown, ErrorKind::Refused] {
            let failure = tally.take(put(kind)).unwrap_err();
            assert_eq!((failure.exit, failure.code), (Exit::of(kind), kind.name()));
            assert!(failure.fix.unwrap().contains("--resume"));
        }
    }
}
