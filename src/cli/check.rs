//! `arqon check`.

use crate::base::{Error, ErrorKind};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::folder::{engine_dirs, log_dir};
use crate::cli::output::Value;
use crate::env::{Disk, RealDisk};
use crate::log::inspect::inspect;
use crate::lsm::check::{FamilyCheck, check_dir};
use crate::lsm::manifest::store::{file_name, load};
use crate::lsm::manifest::{FileMeta, State, read_current};
use crate::lsm::sstable::verify;
use crate::node::check_format;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Check all of a data folder: log, manifests, every table
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon check arqon-data
  arqon check arqon-data --output json

Reads every byte and changes nothing. All damage is reported with file, offset, what was expected
and what was found; the exit code is then 8. Beside a running node files may come and go: stop it
first for a verdict. Files that no manifest names are told, and are no damage: opening the folder
removes them.")]
pub struct Check {
    /// The data folder
    dir: PathBuf,
}

impl Check {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        let is_data = RealDisk.exists(&self.dir.join("FORMAT"));
        let engines = match engine_dirs(&self.dir) {
            Ok(engines) => engines,
            // A folder that was never written to has no engine.
            Err(_) if is_data => Vec::new(),
            Err(failure) => return Err(failure),
        };
        context.printer.list("files", &["file", "kind", "state", "detail"])?;
        let mut checker = Checker { context, damage: Vec::new() };
        if is_data || engines.first() != Some(&self.dir) {
            checker.format(&self.dir)?;
        }
        let log = log_dir(&self.dir);
        if log != self.dir {
            checker.log(&log)?;
        }
        for engine in engines {
            checker.engine(&engine)?;
        }
        let damage = checker.damage;
        context.printer.footer("damages", damage.len() as u64);
        if damage.is_empty() { Ok(()) } else { Err(Failure::damaged(&self.dir, &damage)) }
    }
}

struct Checker<'a> {
    context: &'a mut Context,
    damage: Vec<Error>,
}

impl Checker<'_> {
    fn row(&mut self, file: &Path, kind: &str, state: &str, detail: impl Into<Value>) -> Outcome {
        self.context.printer.row(vec![
            Value::from(file.display().to_string()),
            Value::from(kind),
            Value::from(state),
            detail.into(),
        ])
    }

    /// Notes what is wrong with a file; an error that is no damage ends the check.
    fn wrong(&mut self, file: &Path, kind: &str, error: Error) -> Outcome {
        if !matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported) {
            return Err(error.into());
        }
        self.row(file, kind, "damaged", error.message())?;
        self.damage.push(error);
        Ok(())
    }

    fn format(&mut self, dir: &Path) -> Outcome {
        let file = dir.join("FORMAT");
        match check_format(&RealDisk, dir) {
            Ok(()) => self.row(&file, "format", "sound", ""),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let error = Error::corruption(&file, 0, "the format of the data", "no file");
                self.wrong(&file, "format", error)
            }
            Err(error) => self.wrong(&file, "format", error),
        }
    }

    fn log(&mut self, dir: &Path) -> Outcome {
        let summary = inspect(&RealDisk, dir, &mut |_| Ok(()))?;
        let refused = summary.damage_elsewhere().cloned();
        for segment in &summary.segments {
            match summary.damage_in(segment) {
                Some(error) => self.wrong(&segment.file, "log", error.clone())?,
                None => {
                    let detail = format!("{} frames", segment.frames);
                    self.row(&segment.file, "log", "sound", detail)?;
                }
            }
        }
        if let Some(cut) = summary.cut {
            let detail = format!("opening cuts it at {}: {}", cut.offset, cut.found);
            self.row(&cut.file, "log", "torn", detail)?;
        }
        refused.map_or(Ok(()), |error| self.wrong(dir, "log", error))
    }

    fn engine(&mut self, dir: &Path) -> Outcome {
        let before = self.damage.len();
        let current = dir.join("CURRENT");
        let number = match read_current(&RealDisk, dir) {
            Ok(Some(number)) => number,
            Ok(None) => {
                let error = Error::corruption(&current, 0, "the name of a manifest", "no file");
                return self.wrong(&current, "current", error);
            }
            Err(error) => return self.wrong(&current, "current", error),
        };
        let manifest = dir.join(file_name(number));
        let state = match load(&RealDisk, dir, number) {
            Ok((state, torn)) => {
                let detail = if torn { "its last record is torn" } else { "" };
                self.row(&manifest, "manifest", "sound", detail)?;
                state
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let error = Error::corruption(&manifest, 0, "the current manifest", "no file");
                return self.wrong(&manifest, "manifest", error);
            }
            Err(error) => return self.wrong(&manifest, "manifest", error),
        };
        for family in state.families.values() {
            for (_, meta) in family.files.values() {
                self.table(dir, meta)?;
            }
        }
        self.orphans(dir, &state)?;
        // What lies between the tables can be judged only if each of them is sound.
        if self.damage.len() == before { self.whole(dir) } else { Ok(()) }
    }

    /// Checks how the tables of an engine fit together, and counts its keys.
    fn whole(&mut self, dir: &Path) -> Outcome {
        let report = check_dir(&RealDisk::shared(), dir)?;
        for problem in report.problems {
            let text = format!("{}: {}", problem.file.display(), problem.what);
            self.wrong(&problem.file, "engine", Error::new(ErrorKind::Corruption, text))?;
        }
        for family in report.families {
            let FamilyCheck { name, keys, expires, .. } = family;
            let detail = format!("{name}: {keys} keys in tables, {expires} that expire");
            self.row(dir, "family", "sound", detail)?;
        }
        Ok(())
    }

    fn table(&mut self, dir: &Path, meta: &FileMeta) -> Outcome {
        let path = dir.join(format!("{:06}.sst", meta.number));
        let report = match verify(&RealDisk, &path) {
            Ok(report) => report,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let expected = format!("a table of {} bytes", meta.size);
                let error = Error::corruption(&path, 0, expected, "no file");
                return self.wrong(&path, "table", error);
            }
            Err(error) => return self.wrong(&path, "table", error),
        };
        let mut damage = report.damage;
        let said =
            [("bytes", meta.size, report.file_bytes), ("records", meta.entries, report.entries)];
        if damage.is_empty() {
            damage.extend(said.into_iter().filter(|(_, said, found)| said != found).map(
                |(what, said, found)| {
                    let expected = format!("{said} {what}, as the manifest says");
                    Error::corruption(&path, 0, expected, found.to_string())
                },
            ));
        }
        if damage.is_empty() {
            return self.row(&path, "table", "sound", format!("{} records", report.entries));
        }
        damage.into_iter().try_for_each(|error| self.wrong(&path, "table", error))
    }

    fn orphans(&mut self, dir: &Path, state: &State) -> Outcome {
        let live: BTreeSet<u64> =
            state.families.values().flat_map(|family| family.files.keys().copied()).collect();
        for entry in RealDisk.list(dir)? {
            let number = entry.name.strip_suffix(".sst").and_then(|n| n.parse::<u64>().ok());
            if number.is_some_and(|number| !live.contains(&number)) {
                self.row(&dir.join(&entry.name), "table", "orphan", "no manifest names it")?;
            }
        }
        Ok(())
    }
}
