//! A cluster of ArqonDB beside one of etcd: three servers each on loopback, taking turns in one
//! run, spoken to by the same client. See README.md in this folder.
//!
//! - [`servers`]: starting and ending them, and what they cost.
//! - [`echo`]: a server that does nothing, to know the most there could be. [`grpc`]: the client. [`messages`]: what both services are asked.
//! - [`load`]: clients that work for a time. [`report`]: the table.
// tidy: sleeps because servers are given time to come to rest between measurements

mod echo;
mod grpc;
mod load;
mod messages;
mod report;
mod servers;

use load::{Client, KEYS, Work};
use report::Figure;
use servers::{Programs, Servers, System};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
Measures a cluster of ArqonDB beside one of etcd. A table goes to standard error, JSON lines to
standard output.

  cargo run --release -- [--arqon FILE] [--etcd FILE] [--systems A,B] [--work A,B] [--clients N,M]
                         [--seconds N] [--rounds N] [--dir DIR]

  --arqon FILE    our program; default ../../target/release/arqon
  --etcd FILE     theirs; default etcd
  --systems       of: etcd arqon-SHARDS, and echo, which does nothing but answer; default
                  etcd,arqon-1,arqon-16
  --work          of: put get lease; default all (of etcd, serializable reads stand for lease)
  --clients       default 16,64,256
  --seconds N     each is measured for so long, after half a second; default 5
  --rounds N      default 2
  --dir DIR       where the data lie; default: the system's folder for temporary files
  --idle N        instead: what servers without clients cost for N seconds
";

struct Args {
    programs: Programs,
    systems: Vec<System>,
    work: Vec<Work>,
    clients: Vec<usize>,
    time: Duration,
    rounds: usize,
    dir: PathBuf,
    idle: Option<Duration>,
    /// Where to be a server that does nothing.
    echo: Option<SocketAddr>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let done = parse(&words).and_then(|args| {
        if let Some(address) = args.echo {
            return echo::serve(address);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        match args.idle {
            Some(time) => idle(&args, time),
            None => runtime.block_on(compare(&args)),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("beside-etcd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[String]) -> Result<Args> {
    let mut args = Args {
        programs: Programs { etcd: "etcd".into(), arqon: "../../target/release/arqon".into() },
        systems: vec![System::Etcd, System::Arqon(1), System::Arqon(16)],
        work: vec![Work::Put, Work::Get, Work::Local],
        clients: vec![16, 64, 256],
        time: Duration::from_secs(5),
        rounds: 2,
        dir: std::env::temp_dir(),
        idle: None,
        echo: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value; see --help"))?;
        let list = || value.split(',');
        match word.as_str() {
            "--arqon" => args.programs.arqon = value.into(),
            "--etcd" => args.programs.etcd = value.into(),
            "--systems" => args.systems = list().map(System::named).collect::<Result<_>>()?,
            "--work" => args.work = list().map(Work::named).collect::<Result<_>>()?,
            "--clients" => {
                args.clients = list().map(|n| Ok(n.parse()?)).collect::<Result<_>>()?;
            }
            "--seconds" => args.time = Duration::from_secs_f64(value.parse()?),
            "--rounds" => args.rounds = value.parse()?,
            "--dir" => args.dir = value.into(),
            "--echo" => args.echo = Some(value.parse()?),
            "--idle" => args.idle = Some(Duration::from_secs_f64(value.parse()?)),
            _ => return Err(format!("{word} is not known; see --help").into()),
        }
    }
    Ok(args)
}

async fn compare(args: &Args) -> Result<()> {
    let (p50, p99) = sync_us(&args.dir)?;
    eprintln!("fdatasync of a small append: p50 {p50:.0} µs, p99 {p99:.0} µs");
    println!(
        "{}",
        serde_json::json!({ "fdatasync_p50_us": p50.round(), "fdatasync_p99_us": p99.round() })
    );
    let mut figures = Vec::new();
    for round in 1..=args.rounds {
        for &system in &args.systems {
            let servers = Servers::start(system, &args.programs, &args.dir)?;
            fill(system, &servers).await?;
            for &work in &args.work {
                for &clients in &args.clients {
                    let figure = turn(args, system, &servers, work, clients, round).await?;
                    println!("{}", figure.json());
                    figures.push(figure);
                }
            }
        }
    }
    eprint!("{}", report::table(&figures));
    Ok(())
}

/// Waits until the servers answer, and writes every key.
async fn fill(system: System, servers: &Servers) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(30);
    for &door in &servers.doors {
        while let Err(error) = first_put(system, door).await {
            if Instant::now() > until {
                return Err(format!("{system} does not come up: {error}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let connections = load::connect(system, &servers.doors, 64).await?;
    let tasks: Vec<_> = (0..64)
        .map(|first| {
            let client = connections[first as usize % connections.len()].clone();
            tokio::spawn(async move {
                for n in (first..KEYS).step_by(64) {
                    client.put(load::key(n), load::value(n)).await?;
                }
                Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn first_put(system: System, door: std::net::SocketAddr) -> Result<()> {
    let client = Client::open(system, door).await?;
    client.put(load::key(0), load::value(0)).await
}

async fn turn(
    args: &Args,
    system: System,
    servers: &Servers,
    work: Work,
    clients: usize,
    round: usize,
) -> Result<Figure> {
    let connections = load::connect(system, &servers.doors, clients).await?;
    let warm = Duration::from_millis(500);
    let mut costs = Vec::new();
    let own = std::process::id();
    let met = load::run(&connections, work, clients, (warm, args.time), |_| {
        costs.push((servers.cpu()?, servers::cpu_of(own)?));
        Ok(())
    })
    .await?;
    let [(servers_before, own_before), (servers_after, own_after)] = costs[..] else {
        return Err("nothing was measured".into());
    };
    let per_op = |time: Duration| time.as_secs_f64() * 1e6 / met.operations.max(1) as f64;
    Ok(Figure {
        system,
        work,
        clients,
        round,
        per_s: met.operations as f64 / met.time.as_secs_f64(),
        p50_ms: met.latency.value_at_quantile(0.5) as f64 / 1000.0,
        p99_ms: met.latency.value_at_quantile(0.99) as f64 / 1000.0,
        server_us: per_op(servers_after - servers_before),
        client_us: per_op(own_after - own_before),
    })
}

/// What servers cost that nobody asks anything.
fn idle(args: &Args, time: Duration) -> Result<()> {
    for &system in &args.systems {
        let servers = Servers::start(system, &args.programs, &args.dir)?;
        std::thread::sleep(Duration::from_secs(8));
        let each = || servers.ids().into_iter().map(servers::cpu_of).collect::<Result<Vec<_>>>();
        let before = each()?;
        std::thread::sleep(time);
        let cores: Vec<f64> = each()?
            .iter()
            .zip(before)
            .map(|(after, before)| (*after - before).as_secs_f64() / time.as_secs_f64())
            .collect();
        let percent: Vec<f64> = cores.iter().map(|c| (c * 10_000.0).round() / 100.0).collect();
        let line = serde_json::json!({
            "system": system.to_string(), "idle_s": time.as_secs_f64(),
            "percent_of_a_core": percent,
        });
        println!("{line}");
    }
    Ok(())
}

/// How long `fdatasync` takes behind an append of 256 bytes, where the servers' data lie.
fn sync_us(dir: &Path) -> Result<(f64, f64)> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut took = Vec::new();
    for _ in 0..1000 {
        let began = Instant::now();
        file.write_all(&[7; load::VALUE_BYTES])?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok((took[500], took[990]))
}
