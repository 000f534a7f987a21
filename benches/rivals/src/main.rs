//! ArqonDB beside RocksDB, fjall and redb: the same keys and values, the same class of
//! durability, taking turns in one run. See README.md in this folder.
//!
//! - [`store`]: what an engine is asked to do; `arqon`, `rocks`, `fjall_store`, `redb_store`: how
//!   each does it.
//! - [`data`]: keys and values. [`measure`]: what work costs the process.
//! - [`scenarios`]: the work, each in a process of its own on a fresh database.
//! - [`kill`]: the class of durability, shown by a kill.
//! - [`report`]: medians, ratios, the table.

mod arqon;
mod data;
mod fjall_store;
mod kill;
mod measure;
mod redb_store;
mod report;
mod rocks;
mod scenarios;
mod store;

use report::Figures;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use store::{Engine, Result};

const USAGE: &str = "\
Measures ArqonDB beside RocksDB, fjall and redb. A table goes to standard error, JSON lines to
standard output.

  cargo run --release -- [--rounds N] [--engines A,B] [--scenarios A,B] [--share F]
                         [--dir DIR] [--readme FILE]
  cargo run --release -- --latency SECONDS [--engines A]

  --rounds N      how often everything is measured, the engines taking turns; default 5
  --engines       of: arqon rocksdb rocksdb-tuned rocksdb-manual-wal rocksdb-system
                  rocksdb-system-tuned fjall redb; default: all that can run
  --scenarios     of: small batch flush flush_raw batch_flush durable recovery million overwrites
                  kill; default: all
  --share F       a part of the work, for a quick look; default 1
  --dir DIR       where the databases are made; default: the system's folder for temporary files
  --readme FILE   writes the table between FILE's marks <!-- rivals --> and <!-- /rivals -->
  --keep FILE     adds what is measured to what FILE holds of earlier runs, and reports on all
  --latency S     instead: S seconds of random overwrites at 80 % of the highest rate

ROCKSDB_SYSTEM_LIBRARY names another RocksDB (librocksdb.so) to measure beside it.
";

struct Args {
    rounds: usize,
    engines: Vec<Engine>,
    scenarios: Vec<String>,
    share: f64,
    dir: PathBuf,
    readme: Option<PathBuf>,
    keep: Option<PathBuf>,
    latency_s: Option<u64>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        Some("child") => work_as_child(&words[1..]),
        Some("--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        _ => parse(&words).and_then(|args| compare(&args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Args> {
    let mut args = Args {
        rounds: 5,
        engines: Engine::ALL.into_iter().filter(|e| e.is_available()).collect(),
        scenarios: scenarios::ALL.iter().map(|s| s.to_string()).collect(),
        share: 1.0,
        dir: std::env::temp_dir(),
        readme: None,
        keep: None,
        latency_s: None,
    };
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} needs a value\n\n{USAGE}"))?;
        match flag.as_str() {
            "--rounds" => args.rounds = value.parse()?,
            "--share" => args.share = value.parse()?,
            "--dir" => args.dir = value.into(),
            "--readme" => args.readme = Some(value.into()),
            "--keep" => args.keep = Some(value.into()),
            "--latency" => args.latency_s = Some(value.parse()?),
            "--scenarios" => {
                args.scenarios = value.split(',').map(str::to_string).collect();
                if let Some(s) = args.scenarios.iter().find(|s| !scenarios::ALL.contains(&&***s)) {
                    return Err(format!("there is no scenario {s}\n\n{USAGE}").into());
                }
            }
            "--engines" => {
                let engine = |name| {
                    let engine = Engine::parse(name);
                    engine.ok_or_else(|| format!("there is no engine {name}\n\n{USAGE}"))
                };
                args.engines =
                    value.split(',').map(engine).collect::<std::result::Result<_, _>>()?;
            }
            other => return Err(format!("there is no flag {other}\n\n{USAGE}").into()),
        }
    }
    if let Some(engine) = args.engines.iter().find(|e| !e.is_available()) {
        let name = engine.name();
        return Err(
            format!("{name} cannot run here: see `bundled` and {}", rocks::SYSTEM_LIBRARY).into()
        );
    }
    Ok(args)
}

/// This program, to be run as a child on a database in `dir`.
pub fn child(words: &[&str], dir: &Path) -> Command {
    // The path of the running program is known wherever this runs.
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "rivals".into()));
    command.arg("child").args(words).arg(dir).stdin(Stdio::null());
    command
}

fn work_as_child(words: &[String]) -> Result<()> {
    let dir = Path::new(words.last().ok_or("no folder")?);
    let engine = words.get(1).and_then(|name| Engine::parse(name)).ok_or("no engine")?;
    let number = || -> Result<f64> { Ok(words.get(2).ok_or("no number")?.parse()?) };
    let figures = match words[0].as_str() {
        "kill-write" => return kill::write(engine, dir),
        "kill-count" => {
            println!("{}", kill::count_lost(engine, dir, number()? as u64)?);
            return Ok(());
        }
        "recovery-load" => return scenarios::recovery_load(engine, dir, number()?),
        "recovery-open" => scenarios::recovery_open(engine, dir, number()?)?,
        "latency" => {
            scenarios::latency(engine, dir, std::time::Duration::from_secs_f64(number()?))?
        }
        scenario => scenarios::run(scenario, engine, dir, number()?)?,
    };
    for (workload, metric, value) in figures {
        println!("{}", json!([workload, metric, value]));
    }
    // Not taken down in order: closing is not part of what is measured.
    Ok(())
}

fn compare(args: &Args) -> Result<()> {
    let mut figures = match &args.keep {
        Some(file) if file.exists() => Figures::read(&std::fs::read_to_string(file)?)?,
        _ => Figures::default(),
    };
    let first = figures.next_round();
    if let Some(seconds) = args.latency_s {
        for engine in &args.engines {
            let dir = Folder::new(&args.dir)?;
            eprintln!("latency, {}: {seconds} s", engine.name());
            let output = child(&["latency", engine.name(), &seconds.to_string()], &dir.0);
            take(&mut figures, first, *engine, output)?;
        }
        return finish(args, &figures);
    }
    for round in 0..args.rounds {
        for scenario in &args.scenarios {
            // Whoever comes first finds the machine in another state: each gets its turn.
            for at in 0..args.engines.len() {
                let engine = args.engines[(at + round) % args.engines.len()];
                let dir = Folder::new(&args.dir)?;
                eprintln!("round {} of {}: {scenario}, {}", round + 1, args.rounds, engine.name());
                run_one(args, &mut figures, first + round, scenario, engine, &dir.0)
                    .map_err(|e| format!("{scenario}, {}: {e}", engine.name()))?;
            }
        }
    }
    finish(args, &figures)
}

fn run_one(
    args: &Args,
    figures: &mut Figures,
    round: usize,
    scenario: &str,
    engine: Engine,
    dir: &Path,
) -> Result<()> {
    let share = args.share.to_string();
    let is_small_only = engine == Engine::RocksManualWal;
    match scenario {
        "kill" => {
            let (acknowledged, lost) = kill::prove(engine, dir, args.share)?;
            let sum = figures.lost.entry(engine).or_default();
            *sum = (sum.0 + acknowledged, sum.1 + lost);
            Ok(())
        }
        "durable" | "recovery" | "million" | "overwrites" if is_small_only => Ok(()),
        // Without a log there is nothing to recover.
        "recovery" if engine == Engine::Redb => Ok(()),
        "recovery" => {
            let mut loader = child(&["recovery-load", engine.name(), &share], dir)
                .stdout(Stdio::piped())
                .spawn()?;
            let mut line = String::new();
            let output = loader.stdout.take().ok_or("no output")?;
            BufReader::new(output).read_line(&mut line)?;
            loader.kill()?;
            loader.wait()?;
            if line.trim() != "loaded" {
                return Err("the loader ended by itself".into());
            }
            take(figures, round, engine, child(&["recovery-open", engine.name(), &share], dir))
        }
        _ => take(figures, round, engine, child(&[scenario, engine.name(), &share], dir)),
    }
}

/// Runs a child and takes its figures.
fn take(figures: &mut Figures, round: usize, engine: Engine, mut child: Command) -> Result<()> {
    // What the last one left to the kernel, its files' removal and its pages, is done with first.
    // tidy: sleeps because nothing tells when the kernel is
    std::thread::sleep(std::time::Duration::from_millis(500));
    let output = child.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("ended with {}", output.status).into());
    }
    for line in String::from_utf8(output.stdout)?.lines() {
        let Value::Array(parts) = serde_json::from_str(line)? else { continue };
        if let [Value::String(workload), Value::String(metric), value] = &parts[..] {
            let value = value.as_f64().ok_or("a figure is no number")?;
            figures.add(round, engine, workload.clone(), metric.clone(), value);
        }
    }
    Ok(())
}

fn finish(args: &Args, figures: &Figures) -> Result<()> {
    if let Some(file) = &args.keep {
        std::fs::write(file, figures.write())?;
    }
    eprintln!("\n{}", figures.table());
    print!("{}", figures.json_lines());
    if let Some(path) = &args.readme {
        let text = std::fs::read_to_string(path)?;
        let (begin, end) = ("<!-- rivals -->\n", "<!-- /rivals -->");
        let (Some(from), Some(to)) = (text.find(begin), text.find(end)) else {
            return Err(format!("{} lacks the marks {begin} and {end}", path.display()).into());
        };
        let from = from + begin.len();
        let part = format!("{}\n{}", conditions(), figures.markdown());
        std::fs::write(path, format!("{}{part}{}", &text[..from], &text[to..]))?;
    }
    Ok(())
}

/// Machine, versions and date.
fn conditions() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let date = Command::new("date").arg("+%Y-%m-%d").output();
    let date = date.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string());
    format!(
        "{}, {cores} cores, Linux {}, {}; RocksDB 11.8.1 built for this CPU, fjall 3.1, redb 4.6; \
         engines taking turns, medians. In brackets: class P, a kill loses writes.\n",
        cpu.unwrap_or("unknown processor"),
        kernel.trim(),
        date.unwrap_or_default(),
    )
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Result<Folder> {
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let path = parent.join(format!("arqon-rivals-{}-{nanos}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}
