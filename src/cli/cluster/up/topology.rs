//! A topology file: which processes make up a cluster, and where.
//!
//! ```toml
//! [cluster]           # the cluster as a whole
//! [[meta]]            # a metadata server; as many as there are such lines
//! [[node]]            # a node
//! [[gateway]]         # a gateway
//! ```
//! A process may be told whatever its command has a flag for; the flag's dashes are underscores
//! here. What is not said follows from its place: ports are counted up, folders lie below `state`.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::settings::address::{Address, reachable};
use crate::cli::settings::file::{Lines, raw};
use crate::cli::settings::kind::{Kind, Typed, clipped};
use crate::cli::settings::problem::{self, Problem};
use crate::cli::settings::suggest::nearest;
use crate::cli::settings::{Role, Setting, flags, table};
use crate::env::{Disk, RealDisk};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest file.
const FILE_MAX: usize = 1 << 20;
/// The most processes of a role.
const PARTS_MAX: usize = 1024;
/// What `[cluster]` may say.
const CLUSTER_KEYS: [(&str, Kind); 6] = [
    ("name", Kind::Text),
    ("shards", Kind::Int(1, 1024)),
    ("replicas", Kind::Int(1, 7)),
    ("state", Kind::Path),
    ("allow_remote", Kind::Bool),
    ("config", Kind::Path),
];
/// The roles a file may have processes of.
pub const ROLES: [Role; 3] = [Role::Meta, Role::Node, Role::Gateway];
/// What this file says of all processes together, so none of them by itself.
const DERIVED: [&str; 3] = ["meta", "peers", "allow_remote"];

/// A sample, with the defaults of what it leaves out.
pub const SAMPLE: &str = r#"# A cluster on one machine: arqon cluster up -f topology.toml
[cluster]
name = "arqon"
shards = 8
replicas = 3
state = "./arqon-cluster"   # logs, process ids, and data that is given no folder
# allow_remote = true       # listen beyond this machine; nothing asks for passwords yet
# config = "arqon.toml"     # settings of all processes

[[meta]]                    # one, three or five of these
listen = "127.0.0.1:8379"

[[node]]
data_listen = "127.0.0.1:7379"
raft_listen = "127.0.0.1:7380"
labels = ["zone=a"]
# dir = "/srv/node-1"       # any flag of `arqon node`, with underscores

[[node]]                    # ports are counted up: 7479 and 7480
labels = ["zone=b"]

[[node]]
labels = ["zone=c"]

[[gateway]]
addr = "127.0.0.1:9379"
redis_addr = "127.0.0.1:6379"
"#;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Name of the cluster.
    pub name: String,
    /// Shards it begins with.
    pub shards: u32,
    /// Replicas of each.
    pub replicas: u32,
    /// Folder of logs, process ids, and data that is given no folder.
    pub state: PathBuf,
    /// Its processes: metadata servers, nodes, gateways.
    pub parts: Vec<Part>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is called: `node-2`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// What the program is called with.
    pub args: Vec<String>,
    /// Where it listens.
    pub listens: Vec<Address>,
    /// Where others reach it: a metadata server's address, a node's for its peers, a gateway's for
    /// gRPC clients.
    pub reached: Address,
}

/// What a table of a process says, with lines.
struct Said {
    line: usize,
    values: BTreeMap<&'static str, (&'static Setting, Typed)>,
}

impl Topology {
    /// Reads a file. Paths in it are from its own folder on.
    ///
    /// # Errors
    /// All that is wrong with it, with lines.
    pub fn read(path: &Path) -> Outcome<Topology> {
        let file = RealDisk.open(path).map_err(|error| {
            Failure::from(error).fix("`arqon cluster up --sample` prints a file to begin with")
        })?;
        let mut bytes = vec![0; FILE_MAX + 1];
        let read = file.read_at(&mut bytes, 0)?;
        if read > FILE_MAX {
            return Err(Failure::usage(format!("{} is too large", path.display())));
        }
        bytes.truncate(read);
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("{} is no UTF-8 text", path.display())))?;
        Topology::parse(path, &text)
    }

    /// Takes a text apart that stands in the file `path`.
    ///
    /// # Errors
    /// All that is wrong with it, with lines.
    pub fn parse(path: &Path, text: &str) -> Outcome<Topology> {
        let mut walk = Walk { path, lines: Lines::of(text), problems: Vec::new() };
        let topology = match DeTable::parse(text) {
            Ok(document) => walk.document(document.get_ref()),
            Err(error) => {
                let line = walk.lines.at(error.span().map_or(0, |span| span.start));
                let message = error.message().replace('\n', " ");
                walk.problem(line, message, "mend the line: this is no TOML (https://toml.io)");
                None
            }
        };
        walk.problems.sort_by_key(|problem| problem.line);
        match topology {
            Some(topology) if walk.problems.is_empty() => Ok(topology),
            _ => Err(problem::failure(&walk.problems)),
        }
    }

    /// The processes of a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.role == role)
    }

    /// Where the metadata servers are: `host:port`.
    pub fn meta(&self) -> Vec<String> {
        self.of(Role::Meta).map(|part| part.reached.to_string()).collect()
    }
}

struct Walk<'a> {
    path: &'a Path,
    lines: Lines,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn problem(&mut self, line: usize, message: impl std::fmt::Display, fix: impl Into<String>) {
        let message = format!("{}:{line}: {message}", self.path.display());
        self.problems.push(Problem { line: Some(line), message, fix: fix.into() });
    }

    fn document(&mut self, document: &DeTable<'_>) -> Option<Topology> {
        let mut cluster = BTreeMap::new();
        let mut said: BTreeMap<&str, Vec<Said>> = BTreeMap::new();
        for (name, value) in document {
            let line = self.lines.at(name.span().start);
            let role = ROLES.into_iter().find(|role| role.name() == name.get_ref());
            match (name.get_ref().as_ref(), role, value.get_ref()) {
                ("cluster", _, DeValue::Table(keys)) => cluster = self.cluster(keys),
                ("cluster", _, _) => self.problem(line, "cluster is a table", "write [cluster]"),
                (_, Some(role), DeValue::Array(tables)) => {
                    let all = tables.iter().take(PARTS_MAX);
                    let all = all.filter_map(|table| self.part(role, line, table));
                    said.insert(role.name(), all.collect());
                }
                (name, Some(_), _) => {
                    let message = format!("there may be several of {name}");
                    self.problem(line, message, format!("write [[{name}]] on a line"));
                }
                (name, None, _) => {
                    let known = ["cluster", "meta", "node", "gateway"];
                    let fix = match nearest(name, known.into_iter()) {
                        Some(near) => format!("did you mean {near}?"),
                        None => "there are [cluster], [[meta]], [[node]] and [[gateway]]".into(),
                    };
                    self.problem(line, format!("there is no {}", clipped(name)), fix);
                }
            }
        }
        self.whole(cluster, &said)
    }

    fn cluster(&mut self, keys: &DeTable<'_>) -> BTreeMap<&'static str, Typed> {
        let mut values = BTreeMap::new();
        for (name, value) in keys {
            let line = self.lines.at(name.span().start);
            let known = CLUSTER_KEYS.iter().find(|(key, _)| key == name.get_ref());
            match known {
                Some((key, kind)) => {
                    if let Some(typed) = self.value(line, key, *kind, value) {
                        values.insert(*key, typed);
                    }
                }
                None => {
                    let keys = CLUSTER_KEYS.iter().map(|(key, _)| *key);
                    self.unknown(line, "[cluster]", name.get_ref(), keys);
                }
            }
        }
        values
    }

    fn part(&mut self, role: Role, line: usize, table: &Spanned<DeValue<'_>>) -> Option<Said> {
        let line = match table.span().start {
            0 => line,
            start => self.lines.at(start),
        };
        let DeValue::Table(keys) = table.get_ref() else {
            let fix = format!("write [[{}]] on a line", role.name());
            self.problem(line, "this is no table", fix);
            return None;
        };
        let settings: Vec<(String, &'static Setting)> = table::of_role(Some(role))
            .map(|setting| (flags::name(setting, role).replace('-', "_"), setting))
            .filter(|(key, _)| !DERIVED.contains(&key.as_str()))
            .collect();
        let mut values = BTreeMap::new();
        for (name, value) in keys {
            let line = self.lines.at(name.span().start);
            let known = settings.iter().find(|(key, _)| key == name.get_ref());
            match known {
                Some((key, setting)) if setting.kind.is_secret() => {
                    let fix = format!("set the variable {} for it", setting.variable());
                    self.problem(line, format!("{key} is a secret, and this file is none"), fix);
                }
                Some((key, setting)) => {
                    if let Some(typed) = self.value(line, key, setting.kind, value) {
                        values.insert(setting.key, (*setting, typed));
                    }
                }
                None if DERIVED.contains(&name.get_ref().as_ref()) => {
                    let fix = "leave it out: it follows from the file as a whole";
                    let message = format!("{} is not said of one process", name.get_ref());
                    self.problem(line, message, fix);
                }
                None => {
                    let place = format!("[[{}]]", role.name());
                    let keys = settings.iter().map(|(key, _)| key.as_str());
                    self.unknown(line, &place, name.get_ref(), keys);
                }
            }
        }
        Some(Said { line, values })
    }

    fn unknown<'k>(
        &mut self,
        line: usize,
        place: &str,
        name: &str,
        known: impl Iterator<Item = &'k str> + Clone,
    ) {
        let fix = match nearest(name, known.clone()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("{place} may say {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.problem(line, format!("{place} has no {}", clipped(name)), fix);
    }

    fn value(
        &mut self,
        line: usize,
        key: &str,
        kind: Kind,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Typed> {
        let written = raw(value);
        match kind.parse(&written) {
            Ok(typed) => Some(typed),
            Err(_) => {
                let message = format!("{key} cannot be {}", written.show(kind));
                self.problem(line, message, format!("give {}", kind.allowed()));
                None
            }
        }
    }

    fn whole(
        &mut self,
        cluster: BTreeMap<&'static str, Typed>,
        said: &BTreeMap<&str, Vec<Said>>,
    ) -> Option<Topology> {
        let number = |key, default| match cluster.get(key) {
            Some(Typed::Int(n)) => u32::try_from(*n).unwrap_or(default),
            _ => default,
        };
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let path = |key: &str| match cluster.get(key) {
            Some(Typed::Path(path)) => Some(folder.join(path)),
            _ => None,
        };
        let name = cluster.get("name").and_then(Typed::show).unwrap_or("arqon".into());
        let state = path("state").unwrap_or_else(|| folder.join("arqon-cluster"));
        let mut shared = Vec::new();
        if let Some(config) = path("config") {
            shared.extend(["--config".to_string(), config.display().to_string()]);
        }
        if matches!(cluster.get("allow_remote"), Some(Typed::Bool(true))) {
            shared.push("--allow-remote".to_string());
        }
        let empty = Vec::new();
        let metas = said.get("meta").unwrap_or(&empty);
        let nodes = said.get("node").unwrap_or(&empty);
        if !matches!(metas.len(), 1 | 3 | 5) {
            let line = metas.last().map_or(1, |meta| meta.line);
            let message = format!("there are {} metadata servers", metas.len());
            self.problem(line, message, "write one, three or five [[meta]]");
            return None;
        }
        let replicas = number("replicas", 3.min(nodes.len().max(1) as u32));
        if (nodes.len() as u32) < replicas {
            let line = nodes.last().map_or(1, |node| node.line);
            let message =
                format!("a shard has {replicas} replicas, and there are {} nodes", nodes.len());
            self.problem(line, message, "write more [[node]], or fewer replicas");
            return None;
        }
        let mut build = Build { walk: self, folder, state: &state, shared, parts: Vec::new() };
        for role in ROLES {
            build.role(role, said.get(role.name()).unwrap_or(&empty));
        }
        let parts = build.parts;
        Some(Topology { name, shards: number("shards", 8), replicas, state, parts })
    }
}

/// Turns what is said of processes into command lines.
struct Build<'a, 'w> {
    walk: &'a mut Walk<'w>,
    folder: &'a Path,
    state: &'a Path,
    shared: Vec<String>,
    parts: Vec<Part>,
}

impl Build<'_, '_> {
    fn role(&mut self, role: Role, said: &[Said]) {
        let first = self.parts.len();
        for (at, said) in said.iter().enumerate() {
            self.part(role, at, said);
        }
        let reached: Vec<String> =
            self.parts[first..].iter().map(|part| format!("http://{}", part.reached)).collect();
        if role == Role::Meta && reached.len() > 1 {
            for part in &mut self.parts[first..] {
                part.args.extend(["--peers".to_string(), reached.join(",")]);
            }
        }
    }

    fn part(&mut self, role: Role, at: usize, said: &Said) {
        let name = format!("{}-{}", role.name(), at + 1);
        let mut args = vec![role.name().to_string()];
        let mut listens = Vec::new();
        let mut given: BTreeMap<&str, Address> = BTreeMap::new();
        for (key, offset) in doors(role) {
            let address = match said.values.get(key) {
                Some((_, Typed::Address(address))) => address.clone(),
                _ => Address { host: "127.0.0.1".into(), port: offset + stride(role, at) },
            };
            if address.port == 0 {
                let fix = "name a port: the others must know it";
                self.walk.problem(said.line, format!("{name} listens on any port"), fix);
            }
            push(&mut args, role, key, &address.to_string());
            listens.push(address.clone());
            given.insert(key, address);
        }
        let dir = role_dir(role);
        if let Some(dir) = dir {
            let path = match said.values.get(dir) {
                Some((_, Typed::Path(path))) => self.folder.join(path),
                _ => self.state.join(&name),
            };
            push(&mut args, role, dir, &path.display().to_string());
        }
        if role != Role::Meta {
            let meta = self.parts.iter().filter(|part| part.role == Role::Meta);
            let meta: Vec<String> = meta.map(|part| format!("http://{}", part.reached)).collect();
            args.extend(["--meta".to_string(), meta.join(",")]);
        }
        for (key, (setting, typed)) in &said.values {
            if given.contains_key(key) || dir == Some(key) {
                continue;
            }
            if let (Kind::Listen, Typed::Address(address)) = (setting.kind, typed) {
                listens.push(address.clone());
            }
            push(&mut args, role, key, &typed.show().unwrap_or_default());
        }
        let Some(reached) = self.reached(role, said, &given, &name) else { return };
        match role {
            Role::Meta if !said.values.contains_key("meta.addr") => {
                push(&mut args, role, "meta.addr", &format!("http://{reached}"));
            }
            Role::Node if !said.values.contains_key("node.raft_addr") => {
                push(&mut args, role, "node.raft_addr", &reached.to_string());
            }
            _ => {}
        }
        args.extend(self.shared.iter().cloned());
        for listen in &listens {
            let taken = |part: &&Part| part.listens.contains(listen);
            if let Some(other) = self.parts.iter().find(taken) {
                let message = format!("{name} listens on {listen}, as {} does", other.name);
                self.walk.problem(said.line, message, "give each its own port");
            }
        }
        self.parts.push(Part { name, role, args, listens, reached });
    }

    /// Where others reach a process.
    fn reached(
        &mut self,
        role: Role,
        said: &Said,
        given: &BTreeMap<&str, Address>,
        name: &str,
    ) -> Option<Address> {
        let (advertised, listens) = match role {
            Role::Meta => ("meta.addr", "meta.listen"),
            Role::Node => ("node.raft_addr", "node.raft_listen"),
            _ => ("", "gateway.addr"),
        };
        match said.values.get(advertised) {
            Some((_, Typed::Url(url))) => return Some(url.0.clone()),
            Some((_, Typed::Address(address))) => return Some(address.clone()),
            _ => {}
        }
        if let (Role::Node, None) = (role, said.values.get("node.data_addr"))
            && let Some(data) = given.get("node.data_listen")
            && reachable(&data.to_string()).is_none()
        {
            let message = format!("{name} listens on {data}, where clients cannot reach it");
            self.walk.problem(said.line, message, "say with data_addr where they can");
        }
        let own = given.get(listens)?;
        // A door for clients is found by them.
        if advertised.is_empty() || reachable(&own.to_string()).is_some() {
            return Some(own.clone());
        }
        let key = advertised.split('.').next_back().unwrap_or("");
        let message = format!("{name} listens on {own}, where others cannot reach it");
        self.walk.problem(said.line, message, format!("say with {key} where they can"));
        None
    }
}

fn push(args: &mut Vec<String>, role: Role, key: &str, value: &str) {
    if let Some(setting) = table::find(key) {
        args.extend([format!("--{}", flags::name(setting, role)), value.to_string()]);
    }
}

/// The addresses that every process of a role listens on, and the port of the first one's.
fn doors(role: Role) -> &'static [(&'static str, u16)] {
    match role {
        Role::Meta => &[("meta.listen", 8379)],
        Role::Node => &[("node.data_listen", 7379), ("node.raft_listen", 7380)],
        _ => &[("gateway.addr", 9379), ("gateway.redis_addr", 6379)],
    }
}

/// How far the ports of the process at a place are from those of the first.
fn stride(role: Role, at: usize) -> u16 {
    let step = if role == Role::Node { 100 } else { 1 };
    u16::try_from(at).unwrap_or(u16::MAX).saturating_mul(step) % 20_000
}

fn role_dir(role: Role) -> Option<&'static str> {
    match role {
        Role::Meta => Some("meta.dir"),
        Role::Node => Some("node.dir"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
