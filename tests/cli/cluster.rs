//! A cluster of processes, brought up from a file, backed up, restored and taken down.

#![expect(clippy::unwrap_used, reason = "a process that does not start fails the test")]

use super::FORMATS;
use super::program::{Run, run};
use arqondb::cli::demo::ports::free_ports;
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// A topology in a folder of its own. What it started is killed with it.
struct Place {
    folder: tempfile::TempDir,
    name: &'static str,
    ports: Vec<u16>,
}

impl Place {
    /// A metadata server, a node, a gateway.
    fn new(name: &'static str, shards: u32) -> Place {
        let (folder, ports) = (tempfile::tempdir().unwrap(), free_ports(5).unwrap());
        let [meta, data, raft, grpc, redis] = ports[..] else { panic!() };
        let text = format!(
            "[cluster]\nname = \"{name}\"\nshards = {shards}\nreplicas = 1\nstate = \"state\"\n\
             [[meta]]\nlisten = \"127.0.0.1:{meta}\"\n\
             [[node]]\ndata_listen = \"127.0.0.1:{data}\"\nraft_listen = \"127.0.0.1:{raft}\"\n\
             memory = \"64MiB\"\nlabels = [\"zone=a\"]\n\
             [[gateway]]\naddr = \"127.0.0.1:{grpc}\"\nredis_addr = \"127.0.0.1:{redis}\"\n"
        );
        std::fs::write(folder.path().join("topology.toml"), text).unwrap();
        Place { folder, name, ports }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("topology.toml")
    }

    fn cluster(&self, line: &str) -> Run {
        run(&format!("cluster {line} -f {}", self.file().display()))
    }

    /// Brings it up; gives the state of each part.
    fn up(&self) -> Vec<(String, String, u64)> {
        let ran = self.cluster("up --output json");
        assert_eq!(ran.code, 0, "{} {}", ran.out, ran.err);
        assert!(ran.err.contains("Try: arqon repl"), "{}", ran.err);
        let said: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(
            (&said["cluster"], &said["differences"]),
            (&self.name.into(), &serde_json::json!([]))
        );
        let text =
            |part: &serde_json::Value, field: &str| part[field].as_str().unwrap().to_string();
        let parts = said["parts"].as_array().unwrap().iter();
        parts
            .map(|part| (text(part, "part"), text(part, "state"), part["pid"].as_u64().unwrap()))
            .collect()
    }

    /// Its metadata server and its node as somebody would start them, not initialised.
    fn by_hand(&self) -> Processes {
        let plan = self.cluster("up --dry-run -o json");
        let said: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
        let start = |part: &serde_json::Value| {
            let line = part["command"].as_str().unwrap().strip_prefix("arqon ").unwrap();
            super::program::command(line).stderr(Stdio::null()).spawn().unwrap()
        };
        Processes(said["parts"].as_array().unwrap()[..2].iter().map(start).collect())
    }

    fn meta(&self) -> String {
        format!("--meta http://127.0.0.1:{}", self.ports[0])
    }

    fn repl(&self, line: &str) -> String {
        let flags =
            format!("--addr 127.0.0.1:{} --grpc 127.0.0.1:{}", self.ports[4], self.ports[3]);
        let mut command = super::program::command(&format!("repl {flags} -c"));
        let ran = super::program::finish(command.arg(line));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}: {}", ran.out);
        ran.out.trim_end().to_string()
    }
}

/// Processes that end with the test.
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = self.cluster("down --wait 0 --kill");
    }
}

fn states(parts: &[(String, String, u64)]) -> Vec<&str> {
    parts.iter().map(|(_, state, _)| state.as_str()).collect()
}

#[test]
fn a_cluster_comes_up_as_its_file_says_and_what_runs_is_left_alone() {
    let place = Place::new("little", 2);
    let state = place.folder.path().join("state");
    let plan = place.cluster("up --dry-run --output tsv");
    let [meta, data, raft, grpc, redis] = place.ports[..] else { panic!() };
    let folder = state.display();
    let golden = format!(
        "part\twould\tcommand\n\
         meta-1\tstart\tarqon meta --listen 127.0.0.1:{meta} --dir {folder}/meta-1 --addr \
         http://127.0.0.1:{meta}\n\
         node-1\tstart\tarqon node --data-listen 127.0.0.1:{data} --raft-listen 127.0.0.1:{raft} \
         --dir {folder}/node-1 --meta http://127.0.0.1:{meta} --labels zone=a --memory 64MiB \
         --raft-addr 127.0.0.1:{raft}\n\
         gateway-1\tstart\tarqon gateway --addr 127.0.0.1:{grpc} --redis-addr 127.0.0.1:{redis} \
         --meta http://127.0.0.1:{meta}\n"
    );
    assert_eq!((plan.code, plan.out.as_str()), (0, golden.as_str()), "{}", plan.err);
    assert!(!state.exists(), "a dry run does nothing");

    let first = place.up();
    assert_eq!(states(&first), ["started"; 3]);
    assert_eq!(place.repl("SET greeting hello"), "OK");
    let again = place.up();
    assert_eq!(states(&again), ["running"; 3]);
    let ids =
        |parts: &[(String, String, u64)]| parts.iter().map(|(.., id)| *id).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&again));

    let victim = i32::try_from(first[1].2).unwrap();
    kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    // It dies a moment later.
    while arqondb::env::process::started(u32::try_from(victim).unwrap()).is_some() {
        std::thread::yield_now();
    }
    let mended = place.up();
    assert_eq!(states(&mended), ["running", "started", "running"]);
    assert_ne!(mended[1].2, first[1].2);
    assert_eq!(place.repl("GET greeting"), "hello");

    let units = place.cluster("up --print systemd");
    assert!(units.out.contains("# /etc/systemd/system/arqon-gateway-1.service"), "{}", units.out);
    let text = std::fs::read_to_string(place.file()).unwrap();
    std::fs::write(place.file(), text.replace("shards = 2", "shards = 3")).unwrap();
    let told = place.cluster("up");
    assert_eq!(told.code, 0, "{}", told.err);
    assert!(told.err.contains("there are 2 shards, not 3"), "{}", told.err);
    std::fs::write(place.file(), text.replace("\"little\"", "\"other\"")).unwrap();
    assert_eq!(place.cluster("up").code, 7);
    std::fs::write(place.file(), &text).unwrap();

    // A gateway that has left the file is told of, and stopped with the others.
    let (less, _) = text.split_once("[[gateway]]").unwrap();
    std::fs::write(place.file(), less).unwrap();
    let stray = place.cluster("up");
    assert_eq!(stray.code, 0, "{}", stray.err);
    assert!(stray.err.contains("gateway-1 runs and is not in the file"), "{}", stray.err);

    let down = place.cluster("down --output json");
    assert_eq!((down.code, down.err.as_str()), (0, ""), "{}", down.out);
    let said: serde_json::Value = serde_json::from_str(&down.out).unwrap();
    let stopped: Vec<&str> = said["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["state"].as_str().unwrap())
        .collect();
    assert_eq!(stopped, ["stopped"; 3]);
    assert_eq!(place.cluster("down --output plain").out, "");
    // A number that another process has by now is left alone.
    let file = state.join("meta-1.pid");
    let own = std::process::id();
    std::fs::write(&file, format!("{{\"pid\":{own},\"started\":\"1@never\"}}")).unwrap();
    assert_eq!(place.cluster("down --output plain --kill").out, "");
    assert!(!file.exists());
}

#[test]
fn the_sample_can_be_brought_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.toml");
    let sample = run("cluster up --sample");
    assert_eq!((sample.code, sample.err.as_str()), (0, ""));
    std::fs::write(&file, &sample.out).unwrap();
    let plan = run(&format!("cluster up --dry-run -o json -f {}", file.display()));
    assert_eq!((plan.code, plan.err.as_str()), (0, ""), "{}", plan.out);
    let said: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
    assert_eq!((said["parts"].as_array().unwrap().len(), &said["shards"]), (5, &8.into()));
    let data = run("cluster up --sample -o json");
    let said: serde_json::Value = serde_json::from_str(&data.out).unwrap();
    assert_eq!(said["topology"], sample.out);
}

#[test]
fn a_port_that_another_has_is_told_before_anything_is_started() {
    let place = Place::new("late", 1);
    let _other = TcpListener::bind(("127.0.0.1", place.ports[0])).unwrap();
    let ran = place.cluster("up");
    assert_eq!(ran.code, 9, "{}", ran.err);
    assert!(ran.err.contains(&format!("127.0.0.1:{}", place.ports[0])), "{}", ran.err);
    assert!(!place.folder.path().join("state/meta-1.pid").exists());
}

#[test]
fn a_process_that_ends_again_is_told_with_its_last_word() {
    let place = Place::new("held", 1);
    let state = place.folder.path().join("state");
    std::fs::create_dir_all(state.join("node-1")).unwrap();
    std::fs::write(state.join("node-1/letter"), "not a node's").unwrap();
    let ran = place.cluster("up");
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("node-1 has ended again") && ran.err.contains("letter"),
        "{}",
        ran.err
    );
    std::fs::remove_file(state.join("node-1/letter")).unwrap();
    assert_eq!(states(&place.up()), ["running", "started", "started"]);
}

#[test]
fn a_backup_becomes_another_cluster_and_a_folder() {
    let place = Place::new("old", 2);
    place.up();
    for n in 0..20 {
        assert_eq!(place.repl(&format!("SET key:{n} value-{n}")), "OK");
    }
    assert_eq!(place.repl("SET passing x EX 100000"), "OK");
    let backups = place.folder.path().join("backups");
    let at = backups.display();
    let none = run(&format!("cluster restore {at} {}", place.meta()));
    assert_eq!(none.code, 3, "{}", none.err);
    let first = run(&format!("cluster backup {at} --name one -o json {}", place.meta()));
    assert_eq!((first.code, first.err.as_str()), (0, ""), "{}", first.out);
    let said: serde_json::Value = serde_json::from_str(&first.out).unwrap();
    assert_eq!((&said["backup"], &said["shards"]), (&"one".into(), &2.into()));
    assert_eq!(said["files"], said["new_files"]);
    let taken = run(&format!("cluster backup {at} --name one {}", place.meta()));
    assert_eq!(taken.code, 7, "{}", taken.err);
    assert_eq!(place.repl("SET key:0 changed"), "OK");
    let second = run(&format!("cluster backup {at} --name two -o json {}", place.meta()));
    let said: serde_json::Value = serde_json::from_str(&second.out).unwrap();
    assert!(said["new_files"].as_u64() < said["files"].as_u64(), "{}", second.out);
    for format in FORMATS {
        let list = run(&format!("cluster backup list {at} -o {format}"));
        assert_eq!((list.code, list.err.as_str()), (0, ""), "{format}");
        assert!(list.out.contains("one") && list.out.contains("two"), "{format}: {}", list.out);
        let verify = run(&format!("cluster backup verify {at} -o {format}"));
        assert_eq!((verify.code, verify.err.as_str()), (0, ""), "{format}: {}", verify.out);
    }
    let same = run(&format!("cluster restore {at} {}", place.meta()));
    assert_eq!(same.code, 9, "{}", same.err);
    assert!(same.err.contains("the cluster that was backed up"), "{}", same.err);

    let other = Place::new("new", 3);
    other.up();
    let restored = run(&format!("cluster restore {at} --name one -o json {}", other.meta()));
    assert_eq!(restored.code, 0, "{} {}", restored.out, restored.err);
    let said: serde_json::Value = serde_json::from_str(&restored.out).unwrap();
    assert_eq!((&said["into"], &said["rows"]), (&"new".into(), &21.into()));
    for n in 0..20 {
        assert_eq!(other.repl(&format!("GET key:{n}")), format!("value-{n}"));
    }
    let left: i64 = other.repl("TTL passing").parse().unwrap();
    assert!((99_000..=100_000).contains(&left), "{left}");
    let twice = run(&format!("cluster restore {at} {}", other.meta()));
    assert_eq!(twice.code, 9, "{}", twice.err);
    let over = run(&format!("cluster restore {at} --into-existing {}", other.meta()));
    assert_eq!(over.code, 0, "{}", over.err);
    assert_eq!(other.repl("GET key:0"), "changed");

    let third = Place::new("third", 1);
    let _processes = third.by_hand();
    let born = run(&format!(
        "cluster restore {at} --name one --cluster-name born --shards 5 -o json {}",
        third.meta()
    ));
    assert_eq!(born.code, 0, "{} {}", born.out, born.err);
    let again = run(&format!("cluster backup {at} --name three {}", third.meta()));
    assert_eq!(again.code, 0, "{}", again.err);
    let document = |name: &str| -> serde_json::Value {
        let text = std::fs::read_to_string(backups.join(format!("backups/{name}.json"))).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["backup"].take()
    };
    let (one, three) = (document("one"), document("three"));
    assert_ne!(one["cluster"]["id"], three["cluster"]["id"]);
    assert_eq!(
        (&one["cluster"]["name"], &three["cluster"]["name"]),
        (&"old".into(), &"born".into())
    );
    let shards = |document: &serde_json::Value| document["shards"].as_array().unwrap().len();
    assert_eq!((shards(&one), shards(&three)), (2, 5));

    // A variable that concerns the cluster does not concern a folder of backups.
    let listed = super::program::run_with(
        &format!("cluster backup list {at}"),
        &[("GATEWAY_META", "http://127.0.0.1:1")],
    );
    assert_eq!((listed.code, listed.out.lines().count()), (0, 4), "{}", listed.err);
    let data = place.folder.path().join("data");
    let folder = run(&format!("cluster restore {at} --name two --to-dir {}", data.display()));
    assert_eq!(folder.code, 0, "{}", folder.err);
    let read = run(&format!("repl --data {} -c DBSIZE", data.display()));
    assert_eq!((read.code, read.out.as_str()), (0, "21\n"), "{}", read.err);

    let refused = run(&format!("cluster backup prune {at} --keep 1"));
    assert_eq!(refused.code, 9, "{}", refused.err);
    let pruned = run(&format!("cluster backup prune {at} --keep 1 --yes -o json"));
    let said: serde_json::Value = serde_json::from_str(&pruned.out).unwrap();
    assert_eq!((&said["removed"], &said["kept"]), (&2.into(), &1.into()));
    assert_eq!(run(&format!("cluster backup verify {at} three")).code, 0);
    let table = std::fs::read_dir(backups.join("files")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    let damaged = run(&format!("cluster backup verify {at} three -o json"));
    assert_eq!(damaged.code, 8, "{}", damaged.out);
    assert!(damaged.out.contains(&table.display().to_string()), "{}", damaged.out);
}
