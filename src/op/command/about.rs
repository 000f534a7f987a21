//! What COMMAND answers: the table, in the shapes that clients read.

use super::usage::{Arg, Kind};
use super::{COMMANDS, Id, KeySpec, Spec, find, keys_with_flags, lookup, usage};
use crate::base::glob;
use crate::op::Reply;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The answer to COMMAND and its subcommands. `spec` is the entry `args` were looked up to.
pub fn answer(spec: &Spec, args: &[Bytes]) -> Reply {
    let rest = args.get(2..).unwrap_or_default();
    match spec.id {
        Id::CommandCount => Reply::Int(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX)),
        Id::CommandDocs => docs(rest),
        Id::CommandGetkeys => get_keys(rest, false),
        Id::CommandGetkeysandflags => get_keys(rest, true),
        Id::CommandHelp => help_reply(spec),
        Id::CommandInfo if !rest.is_empty() => Reply::Array(
            rest.iter().map(|name| find(name).map_or(Reply::Nil, info_reply)).collect(),
        ),
        Id::CommandList => list(rest),
        _ => Reply::Array(COMMANDS.iter().map(|spec| info_reply(spec)).collect()),
    }
}

/// A command as `COMMAND INFO` describes it: name, arity, flags, first key, last key, step,
/// categories, tips, key specifications, subcommands.
pub fn info_reply(spec: &Spec) -> Reply {
    Reply::Array(vec![
        text(spec.name),
        Reply::Int(spec.arity.into()),
        statuses(spec.flags),
        Reply::Int(spec.keys.first.into()),
        Reply::Int(spec.keys.last.into()),
        Reply::Int(spec.keys.step.into()),
        statuses(spec.categories),
        Reply::Set(spec.tips.iter().map(|tip| text(tip)).collect()),
        Reply::Set(spec.key_specs.iter().map(key_spec_reply).collect()),
        Reply::Set(spec.subcommands.iter().map(info_reply).collect()),
    ])
}

/// A command as `COMMAND DOCS` explains it: the map behind its name.
pub fn docs_reply(spec: &Spec) -> Reply {
    let mut fields = vec![
        (text("summary"), text(spec.summary)),
        (text("since"), text(spec.since)),
        (text("group"), text(spec.group)),
        (text("complexity"), text(spec.complexity)),
    ];
    if let Some(old) = spec.deprecated {
        fields.push((text("doc_flags"), statuses(&["deprecated"])));
        fields.push((text("deprecated_since"), text(old.since)));
        fields.push((text("replaced_by"), text(old.instead)));
    }
    let args = usage::parse(spec.usage);
    if !args.is_empty() {
        let mut runs = 0;
        let args = args.iter().map(|arg| arg_reply(arg, spec, &mut runs)).collect();
        fields.push((text("arguments"), Reply::Array(args)));
    }
    if !spec.subcommands.is_empty() {
        let subs = spec.subcommands.iter().map(|sub| (text(sub.name), docs_reply(sub))).collect();
        fields.push((text("subcommands"), Reply::Map(subs)));
    }
    Reply::Map(fields)
}

/// An argument of a usage line. `runs` counts the runs of keys seen so far: the first key
/// argument stands in the first run, and so on, up to the last run.
fn arg_reply(arg: &Arg, spec: &Spec, runs: &mut usize) -> Reply {
    let mut fields = vec![(text("name"), owned(&arg.name)), (text("type"), text(arg.kind.name()))];
    let run = match arg.kind {
        Kind::Key => spec.key_specs.len().checked_sub(1).map(|last| last.min(*runs)),
        // All patterns stand for one run: the keys that they make out of what a value holds.
        Kind::Pattern => spec.key_specs.iter().position(KeySpec::is_unknown),
        _ => None,
    };
    if let Some(run) = run {
        fields.push((text("key_spec_index"), Reply::Int(i64::try_from(run).unwrap_or(0))));
        *runs = run + 1;
    }
    if let Some(token) = &arg.token {
        fields.push((text("token"), owned(token)));
    }
    let mut flags = Vec::new();
    if arg.optional {
        flags.push(Reply::Simple("optional"));
    }
    if arg.multiple {
        flags.push(Reply::Simple("multiple"));
    }
    if !flags.is_empty() {
        fields.push((text("flags"), Reply::Set(flags)));
    }
    if !arg.parts.is_empty() {
        let parts = arg.parts.iter().map(|part| arg_reply(part, spec, runs)).collect();
        fields.push((text("arguments"), Reply::Array(parts)));
    }
    Reply::Map(fields)
}

fn key_spec_reply(run: &KeySpec) -> Reply {
    let int = |n: i64| Reply::Int(n);
    let typed =
        |kind, spec| Reply::Map(vec![(text("type"), text(kind)), (text("spec"), Reply::Map(spec))]);
    let (begin, find) = if run.is_unknown() {
        (typed("unknown", Vec::new()), typed("unknown", Vec::new()))
    } else {
        let range = vec![
            (text("lastkey"), int(run.last.into())),
            (text("keystep"), int(run.step.into())),
            (text("limit"), int(0)),
        ];
        (typed("index", vec![(text("index"), int(run.first.into()))]), typed("range", range))
    };
    Reply::Map(vec![
        (text("flags"), statuses(run.flags)),
        (text("begin_search"), begin),
        (text("find_keys"), find),
    ])
}

fn docs(names: &[Bytes]) -> Reply {
    let entry = |spec: &Spec| (text(spec.name), docs_reply(spec));
    Reply::Map(if names.is_empty() {
        COMMANDS.iter().map(|spec| entry(spec)).collect()
    } else {
        names.iter().filter_map(|name| find(name)).map(entry).collect()
    })
}

/// COMMAND LIST, with its one optional filter. Subcommands are listed too.
fn list(rest: &[Bytes]) -> Reply {
    let [by, kind, wanted] = rest else {
        return if rest.is_empty() { names(|_| true) } else { Reply::syntax_error() };
    };
    if !by.eq_ignore_ascii_case(b"filterby") {
        Reply::syntax_error()
    } else if kind.eq_ignore_ascii_case(b"module") {
        names(|_| false)
    } else if kind.eq_ignore_ascii_case(b"aclcat") {
        let in_category = |c: &&str| wanted.eq_ignore_ascii_case(&c.as_bytes()[1..]);
        names(|spec| spec.categories.iter().any(in_category))
    } else if kind.eq_ignore_ascii_case(b"pattern") {
        names(|spec| glob::matches_ignore_case(wanted, spec.name.as_bytes()))
    } else {
        Reply::syntax_error()
    }
}

fn names(keep: impl Fn(&Spec) -> bool) -> Reply {
    let all = COMMANDS.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands));
    Reply::Array(all.filter(|spec| keep(spec)).map(|spec| text(spec.name)).collect())
}

/// COMMAND GETKEYS and GETKEYSANDFLAGS of a whole call.
fn get_keys(call: &[Bytes], with_flags: bool) -> Reply {
    let spec = match lookup(call) {
        Ok(spec) => spec,
        Err(_) if call.first().is_some_and(|name| find(name).is_some()) => {
            return Reply::err("Invalid number of arguments specified for command");
        }
        Err(_) => return Reply::err("Invalid command specified"),
    };
    if spec.key_specs.is_empty() {
        return Reply::err("The command has no key arguments");
    }
    let keys = keys_with_flags(spec, call).map(|(at, flags)| {
        let key = Reply::Bulk(call[at].clone());
        if with_flags { Reply::Array(vec![key, statuses(flags)]) } else { key }
    });
    Reply::Array(keys.collect())
}

/// A container's HELP: for each subcommand a line with its usage and one on what it does.
/// `spec` is the container or one of its subcommands.
pub fn help_reply(spec: &Spec) -> Reply {
    let container = spec.name.split('|').next().unwrap_or_default();
    let lines = HELP.get(container).map(Vec::as_slice).unwrap_or_default();
    Reply::Array(lines.iter().map(|line| Reply::Simple(line)).collect())
}

/// The lines of each container's HELP, made once: a status is static text.
static HELP: LazyLock<HashMap<&'static str, Vec<String>>> = LazyLock::new(|| {
    let containers = COMMANDS.iter().filter(|spec| !spec.subcommands.is_empty());
    containers.map(|spec| (spec.name, help_lines(spec))).collect()
});

fn help_lines(container: &Spec) -> Vec<String> {
    let title = container.name.to_ascii_uppercase();
    let mut lines = vec![format!("{title} <subcommand> [<arg> ...]. Subcommands are:")];
    for sub in container.subcommands {
        let name = sub.short_name().to_ascii_uppercase();
        lines.push(format!("{name} {}", sub.usage).trim_end().to_string());
        lines.push(format!("    {}", sub.summary));
    }
    lines
}

fn text(s: &'static str) -> Reply {
    Reply::Bulk(Bytes::from_static(s.as_bytes()))
}

fn owned(s: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(s.as_bytes()))
}

fn statuses(names: &'static [&'static str]) -> Reply {
    Reply::Set(names.iter().map(|name| Reply::Simple(name)).collect())
}
