//! The rules, each a function from a source file to what is wrong with it.

use crate::source::{Named, Source};
use std::collections::BTreeSet;

/// The house: every folder of `src` and its floor. A file may name its own folder and those of
/// lower floors.
pub(crate) const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("env", 1),
    ("op", 1),
    ("log", 2),
    ("lsm", 3),
    ("vector", 4),
    ("graph", 4),
    ("redis", 4),
    ("shard", 5),
    ("catalog", 5),
    ("raft", 6),
    ("rpc", 6),
    ("node", 7),
    ("meta", 7),
    ("gateway", 8),
    ("serve", 9),
    ("cli", 10),
    ("repl", 10),
    ("top", 10),
    ("bench", 10),
];

/// Folders whose own folders are siblings that may not name each other.
const FOLDERS_OF_SIBLINGS: &[&str] = &["serve"];

/// The folder that starts the others of its floor: it parses the flags and calls them.
const FRONT: &str = "cli";

/// What may be named where: a path, the folders that may name it, why, and what to do instead.
const PLACES: &[Place] = &[
    Place {
        path: "std::fs",
        allowed: Allowed::Folders(&["env"]),
        mend: "go through env::Disk, so that tests can make the disk fail",
    },
    Place {
        path: "std::os::unix::fs",
        allowed: Allowed::Folders(&["env"]),
        mend: "go through env::Disk, so that tests can make the disk fail",
    },
    Place {
        path: "tokio::fs",
        allowed: Allowed::Folders(&[]),
        mend: "go through env::Disk on the bounded pool",
    },
    Place {
        path: "std::time::SystemTime",
        allowed: Allowed::Folders(&["env"]),
        mend: "take the time from an env::Clock",
    },
    Place {
        path: "std::time::Instant::now",
        allowed: Allowed::Folders(&["env"]),
        mend: "take the time from an env::Clock",
    },
    Place {
        path: "std::thread::sleep",
        allowed: Allowed::Folders(&["env"]),
        mend: "wait for the event itself: a condition variable, a channel, a timeout on either",
    },
    Place {
        path: "std::env",
        allowed: Allowed::Folders(&["env", "cli"]),
        mend: "read variables and arguments in cli/ and pass values down",
    },
    Place {
        path: "std::net",
        allowed: Allowed::From(6),
        mend: "the engine floors know no network; move this to floor 6 or above",
    },
    Place {
        path: "tokio",
        allowed: Allowed::From(6),
        mend: "the engine floors are plain threads; async begins at floor 6",
    },
    Place {
        path: "tonic",
        allowed: Allowed::From(6),
        mend: "the engine floors know no network; move this to floor 6 or above",
    },
    Place {
        path: "openraft",
        allowed: Allowed::Folders(&["raft"]),
        mend: "openraft stands behind one door: put this in raft/",
    },
    Place {
        path: "clap",
        allowed: Allowed::From(10),
        mend: "flags are parsed in cli/; pass values down",
    },
    Place { path: "rustyline", allowed: Allowed::From(10), mend: "prompts live on floor 10" },
];

struct Place {
    path: &'static str,
    allowed: Allowed,
    mend: &'static str,
}

enum Allowed {
    Folders(&'static [&'static str]),
    From(u8),
}

/// Names that say nothing of what a module holds.
const EMPTY_NAMES: &[&str] =
    &["utils", "util", "common", "types", "helpers", "helper", "misc", "stuff"];

/// Lines of a file, and of a function, above which a reason must be given.
pub(crate) const FILE_LINES_MAX: usize = 600;
pub(crate) const FUNCTION_LINES_MAX: usize = 100;

const REASON: &str = "// tidy: long because ";
const SLEEP_REASON: &str = "// tidy: sleeps because ";

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) mend: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.mend)
    }
}

/// All that is wrong with a set of files: those below `src/`, and the tests and benches beside it.
pub(crate) fn check(sources: &mut [Source]) -> Vec<Fault> {
    mark_test_files(sources);
    let mut faults = Vec::new();
    for source in sources.iter() {
        faults.extend(lengths(source));
        faults.extend(leftovers(source));
        faults.extend(sleeps(source));
        if source.path.starts_with("src/") {
            faults.extend(floors(source));
            faults.extend(places(source));
            faults.extend(unsafe_code(source));
            faults.extend(names(source));
            faults.extend(opening(source));
        }
    }
    faults.extend(unreferenced(sources));
    faults.sort();
    faults.dedup();
    faults
}

/// The floor of a folder of `src`.
fn floor(folder: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == folder).map(|(_, floor)| *floor)
}

/// The folder of `src` a file is in; `None` for `lib.rs`, `main.rs` and files beside `src`.
fn folder(source: &Source) -> Option<&str> {
    let inner = source.path.strip_prefix("src/")?;
    inner.split_once('/').map(|(folder, _)| folder)
}

fn fault(source: &Source, at: usize, rule: &'static str, mend: impl Into<String>) -> Fault {
    Fault { path: source.path.clone(), line: source.line(at), rule, mend: mend.into() }
}

/// A file that its parent declares under `#[cfg(test)]` is test code, and so is all of `tests/`.
fn mark_test_files(sources: &mut [Source]) {
    let mut test_modules: BTreeSet<Vec<String>> = BTreeSet::new();
    for source in sources.iter().filter(|s| s.path.starts_with("src/")) {
        let declared = source.declared_modules().into_iter();
        test_modules.extend(declared.filter(|(_, test)| *test).map(|(module, _)| module));
    }
    for source in sources.iter_mut() {
        let module = source.module();
        source.is_test = !source.path.starts_with("src/")
            || (1..=module.len()).any(|n| test_modules.contains(&module[..n]));
    }
}

/// A file names its own folder and lower floors only.
fn floors(source: &Source) -> Vec<Fault> {
    let Some(own) = folder(source) else { return top_level(source) };
    let Some(own_floor) = floor(own) else {
        let mend = format!("src/{own}/ has no floor; add it to FLOORS in tests/tidy/rules.rs");
        return vec![fault(source, 0, "floors", mend)];
    };
    let paths = source.paths();
    let inner = paths.iter().filter(|p| matches!(p.segments[0].as_str(), "crate" | "arqondb"));
    inner.filter_map(|path| floor_fault(source, own, own_floor, path)).collect()
}

fn floor_fault(source: &Source, own: &str, own_floor: u8, path: &Named) -> Option<Fault> {
    let target = path.segments.get(1)?.as_str();
    if target == own {
        return sibling_fault(source, own, path);
    }
    let mend = match floor(target) {
        Some(theirs) if theirs < own_floor => return None,
        Some(theirs) if theirs == own_floor && own == FRONT => return None,
        Some(theirs) if theirs == own_floor => format!(
            "{} is a sibling: {own}/ and {target}/ share floor {own_floor} and may not know each \
             other; move what both need to a lower floor, or call both from above",
            path.text()
        ),
        Some(theirs) => format!(
            "{} looks upwards, from {own}/ (floor {own_floor}) to {target}/ (floor {theirs}); \
             move the shared part down, or pass it in",
            path.text()
        ),
        None => format!(
            "{} is not a floor; name the folder it comes from, not the re-export in lib.rs",
            path.text()
        ),
    };
    Some(fault(source, path.at, "floors", mend))
}

/// Within `serve/`, one door does not know another.
fn sibling_fault(source: &Source, own: &str, path: &Named) -> Option<Fault> {
    if !FOLDERS_OF_SIBLINGS.contains(&own) {
        return None;
    }
    let inner = source.path.strip_prefix("src/")?.strip_prefix(own)?.strip_prefix('/')?;
    let (door, _) = inner.split_once('/')?;
    let target = path.segments.get(2)?;
    let doors = ["grpc", "resp", "rest", "mcp"];
    if target == door || !doors.contains(&target.as_str()) {
        return None;
    }
    let mend = format!(
        "{} is a sibling: {own}/{door} and {own}/{target} may not know each other; move what \
         both need to a lower floor",
        path.text()
    );
    Some(fault(source, path.at, "floors", mend))
}

/// Beside `lib.rs` and `main.rs` no file stands at the top of `src`.
fn top_level(source: &Source) -> Vec<Fault> {
    if matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs") {
        return Vec::new();
    }
    vec![fault(source, 0, "floors", "a file at the top of src/ has no floor; move it into one")]
}

/// Files, clocks, variables, the network and a few crates are named only where they belong.
fn places(source: &Source) -> Vec<Fault> {
    let own = folder(source).unwrap_or("");
    let own_floor = floor(own).unwrap_or(u8::MAX);
    let mut faults = Vec::new();
    for path in source.paths() {
        if source.in_tests(path.at) {
            continue;
        }
        for place in PLACES.iter().filter(|place| path.is_below(place.path)) {
            let (fine, wanted) = match place.allowed {
                Allowed::Folders(folders) => (
                    folders.contains(&own) || (own.is_empty() && place.path == "std::env"),
                    folders.iter().map(|f| format!("{f}/")).collect::<Vec<_>>().join(" and "),
                ),
                Allowed::From(lowest) => (own_floor >= lowest, format!("floor {lowest} and above")),
            };
            if !fine {
                let wanted = if wanted.is_empty() {
                    "nowhere".to_string()
                } else {
                    format!("only in {wanted}")
                };
                let mend = format!("{} may be named {wanted}; {}", path.text(), place.mend);
                faults.push(fault(source, path.at, "places", mend));
            }
        }
    }
    faults
}

/// `unsafe` stands only in files that open with an expectation and its reason.
fn unsafe_code(source: &Source) -> Vec<Fault> {
    let code: String =
        String::from_utf8_lossy(&source.code).chars().filter(|c| !c.is_whitespace()).collect();
    if code.contains("#![expect(unsafe_code,reason=") {
        return Vec::new();
    }
    let mend = "unsafe code needs `#![expect(unsafe_code, reason = \"...\")]` at the top of its \
                file and a SAFETY line above each block; or write it without";
    source.words("unsafe").into_iter().map(|at| fault(source, at, "unsafe", mend)).collect()
}

/// A module is named after what it holds.
fn names(source: &Source) -> Vec<Fault> {
    let mend = "say what the module holds; this name fits anything";
    let stem = source.module().into_iter().map(|name| (name, 0));
    stem.chain(source.inline_names())
        .filter(|(name, _)| EMPTY_NAMES.contains(&name.as_str()))
        .map(|(_, at)| fault(source, at, "names", mend))
        .collect()
}

/// A folder's `mod.rs` opens with its words.
fn opening(source: &Source) -> Vec<Fault> {
    let whole = ["/mod.rs", "src/lib.rs", "src/main.rs"];
    let first = source.raw.lines().find(|line| !line.trim().is_empty());
    if !whole.iter().any(|end| source.path.ends_with(end))
        || first.is_some_and(|line| line.starts_with("//! "))
    {
        return Vec::new();
    }
    let mend = "open with `//!`: what this folder is, its words, its files in reading order, and \
                the invariants it owes";
    vec![fault(source, 0, "opening", mend)]
}

/// Long files and functions say why they are long.
fn lengths(source: &Source) -> Vec<Fault> {
    let functions = source.functions();
    let reasons: Vec<usize> = source
        .raw
        .lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().strip_prefix(REASON).is_some_and(|r| r.len() > 10))
        .map(|(n, _)| n + 1)
        .collect();
    let belongs = |line: usize| functions.iter().any(|f| (f.lead..=f.end).contains(&line));
    let mut faults = Vec::new();
    if source.lines() > FILE_LINES_MAX && reasons.iter().all(|line| belongs(*line)) {
        let mend = format!(
            "{} lines, more than {FILE_LINES_MAX}; split it by idea, or give a reason on a line \
             of its own near the top: `{REASON}...`",
            source.lines()
        );
        faults.push(fault(source, 0, "length", mend));
    }
    for function in &functions {
        let lines = function.end - function.start + 1;
        if lines > FUNCTION_LINES_MAX
            && !reasons.iter().any(|line| (function.lead..=function.end).contains(line))
        {
            let mend = format!(
                "fn {} has {lines} lines, more than {FUNCTION_LINES_MAX}; split it by idea, or \
                 give a reason directly above or inside it: `{REASON}...`",
                function.name
            );
            faults.push(Fault {
                path: source.path.clone(),
                line: function.start,
                rule: "length",
                mend,
            });
        }
    }
    faults
}

/// Nothing unfinished and no test switched off.
fn leftovers(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    for word in ["todo", "unimplemented"] {
        for at in source.words(word) {
            if source.code.get(at + word.len()) == Some(&b'!') {
                faults.push(fault(
                    source,
                    at,
                    "leftovers",
                    format!("`{word}!` is a stub; finish it"),
                ));
            }
        }
    }
    for at in source.words("ignore") {
        let before: Vec<u8> = source.code[..at].iter().rev().take(2).copied().collect();
        if before == b"[#" {
            let mend = "a test that does not run proves nothing; mend it or remove it";
            faults.push(fault(source, at, "leftovers", mend));
        }
    }
    for mark in [concat!("FIX", "ME"), concat!("XX", "X")] {
        for (at, _) in source.raw.match_indices(mark) {
            let around = [at.checked_sub(1), Some(at + mark.len())];
            let is_word = around
                .into_iter()
                .flatten()
                .all(|i| source.raw.as_bytes().get(i).is_none_or(|b| !b.is_ascii_alphanumeric()));
            if is_word {
                let mend = format!("`{mark}` marks unfinished work; finish it");
                faults.push(fault(source, at, "leftovers", mend));
            }
        }
    }
    faults
}

/// A test waits for an event, never for time.
fn sleeps(source: &Source) -> Vec<Fault> {
    let reasoned = source.raw.lines().any(|line| {
        line.trim_start().strip_prefix(SLEEP_REASON).is_some_and(|reason| reason.len() > 10)
    });
    if reasoned {
        return Vec::new();
    }
    let mend = "a test waits for the event itself (a line read, a channel, a condition), with a \
                deadline if it must; if time itself is simulated or tested, say so on a line of \
                its own: `// tidy: sleeps because ...`";
    source
        .paths()
        .iter()
        .filter(|path| source.in_tests(path.at))
        .filter(|path| {
            matches!(path.segments.last().map(String::as_str), Some("sleep" | "sleep_until"))
                && path.segments.iter().any(|s| matches!(s.as_str(), "thread" | "tokio" | "time"))
        })
        .map(|path| fault(source, path.at, "sleeps", mend))
        .collect()
}

/// Every file of `src` is declared by its parent: otherwise it is dead, and no rule of the
/// compiler reaches it.
fn unreferenced(sources: &[Source]) -> Vec<Fault> {
    let inside: Vec<&Source> = sources.iter().filter(|s| s.path.starts_with("src/")).collect();
    let mut declared: BTreeSet<Vec<String>> = BTreeSet::new();
    for source in &inside {
        declared.extend(source.declared_modules().into_iter().map(|(module, _)| module));
    }
    inside
        .iter()
        .filter(|s| !s.module().is_empty() && !declared.contains(&s.module()))
        .map(|s| {
            let mend = "no `mod` declares this file, so it is never compiled; declare or remove it";
            fault(s, 0, "unreferenced", mend)
        })
        .collect()
}
