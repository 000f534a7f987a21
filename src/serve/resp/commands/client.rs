//! CLIENT: a connection's own name and ways, and the other connections.

use super::{client_kill, is, timeout_ms, unsupported};
use crate::op::Reply;
use crate::op::command::{self, Id, Spec};
use crate::serve::resp::frame::{Command, integer};
use crate::serve::resp::registry::Client;
use crate::serve::resp::server::Server;
use crate::serve::resp::session::Session;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

pub(super) const NAME_ERROR: &str =
    "Client names cannot contain spaces, newlines or special characters.";

/// Whether every byte is one that CLIENT LIST can print between blanks.
pub(super) fn is_valid_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Executes a subcommand of CLIENT; `None` if it is one that has no reply.
pub(super) fn execute(
    session: &mut Session,
    server: &Server,
    spec: &'static Spec,
    args: &Command,
) -> Option<Reply> {
    let rest = args.get(2..).unwrap_or_default();
    let client = &session.client;
    Some(match spec.id {
        Id::ClientId => Reply::Int(i64::try_from(client.id).unwrap_or(i64::MAX)),
        Id::ClientInfo => Reply::Verbatim("txt", client.line(server.now_ms()) + "\n"),
        Id::ClientList => list(server, rest),
        Id::ClientKill => client_kill::kill(session, server, rest),
        Id::ClientSetname => set_name(client, &rest[0]),
        Id::ClientGetname => {
            let name = client.about().name.clone();
            if name.is_empty() { Reply::Nil } else { Reply::Bulk(name) }
        }
        Id::ClientSetinfo => set_info(client, &rest[0], &rest[1]),
        Id::ClientReply => return reply(session, &rest[0]),
        Id::ClientNoEvict => on_or_off(&rest[0], |on| client.about().no_evict = on),
        Id::ClientNoTouch => on_or_off(&rest[0], |on| client.about().no_touch = on),
        Id::ClientPause => pause(server, rest),
        Id::ClientUnpause => {
            server.pause.end();
            Reply::OK
        }
        Id::ClientUnblock => unblock(rest),
        Id::ClientGetredir => Reply::Int(-1),
        Id::ClientTrackinginfo => Reply::Map(vec![
            (Reply::bulk("flags"), Reply::Set(vec![Reply::bulk("off")])),
            (Reply::bulk("redirect"), Reply::Int(-1)),
            (Reply::bulk("prefixes"), Reply::Array(Vec::new())),
        ]),
        Id::ClientCaching => Reply::err(
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
             OPTOUT mode enabled",
        ),
        Id::ClientTracking => tracking(spec, rest),
        Id::ClientHelp => command::help_reply(spec),
        _ => unsupported(spec),
    })
}

fn set_name(client: &Client, name: &Bytes) -> Reply {
    if !is_valid_name(name) {
        return Reply::err(NAME_ERROR);
    }
    client.about().name = Bytes::copy_from_slice(name);
    Reply::OK
}

fn set_info(client: &Client, attribute: &Bytes, value: &Bytes) -> Reply {
    let is_name = is(attribute, "lib-name");
    if !is_name && !is(attribute, "lib-ver") {
        let attribute = String::from_utf8_lossy(attribute);
        return Reply::err(format_args!("Unrecognized option '{attribute}'"));
    }
    if !is_valid_name(value) {
        let attribute = String::from_utf8_lossy(attribute);
        return Reply::err(format_args!(
            "{attribute} cannot contain spaces, newlines or special characters."
        ));
    }
    let value = Bytes::copy_from_slice(value);
    let mut about = client.about();
    if is_name {
        about.lib_name = value;
    } else {
        about.lib_version = value;
    }
    Reply::OK
}

/// CLIENT REPLY: only ON is answered.
fn reply(session: &mut Session, mode: &Bytes) -> Option<Reply> {
    if is(mode, "on") {
        session.replies_off = false;
        session.skip_next = false;
        session.silent = false;
        return Some(Reply::OK);
    }
    if is(mode, "off") {
        session.replies_off = true;
    } else if is(mode, "skip") {
        session.skip_next = !session.replies_off;
    } else {
        return Some(Reply::syntax_error());
    }
    None
}

fn on_or_off(arg: &Bytes, set: impl FnOnce(bool)) -> Reply {
    if !is(arg, "on") && !is(arg, "off") {
        return Reply::syntax_error();
    }
    set(is(arg, "on"));
    Reply::OK
}

/// `CLIENT LIST [TYPE type | ID id ...]`.
fn list(server: &Server, rest: &[Bytes]) -> Reply {
    let mut clients = server.clients.all();
    match rest {
        [] => {}
        [option, kind] if is(option, "type") => match client_kill::is_ours(kind) {
            Ok(true) => {}
            Ok(false) => clients.clear(),
            Err(reply) => return reply,
        },
        [option, ids @ ..] if is(option, "id") && !ids.is_empty() => {
            let ids: Option<Vec<u64>> =
                ids.iter().map(|id| u64::try_from(integer(id)?).ok()).collect();
            let Some(ids) = ids else { return Reply::err("Invalid client ID") };
            // Each once, so that the answer is no longer than the list of all.
            let mut seen = HashSet::new();
            let all = std::mem::take(&mut clients);
            let known = ids.iter().filter(|id| seen.insert(**id));
            let at = known.filter_map(|id| all.binary_search_by_key(id, |client| client.id).ok());
            clients = at.map(|at| Arc::clone(&all[at])).collect();
        }
        _ => return Reply::syntax_error(),
    }
    let now_ms = server.now_ms();
    let lines: String = clients.iter().map(|client| client.line(now_ms) + "\n").collect();
    Reply::Verbatim("txt", lines)
}

/// `CLIENT PAUSE timeout [WRITE | ALL]`.
fn pause(server: &Server, rest: &[Bytes]) -> Reply {
    let all = match rest {
        [_] => true,
        [_, mode] if is(mode, "all") => true,
        [_, mode] if is(mode, "write") => false,
        [_, _] => return Reply::err("CLIENT PAUSE mode must be WRITE or ALL"),
        _ => return too_many("PAUSE"),
    };
    match timeout_ms(&rest[0]) {
        Ok(ms) => {
            server.pause.begin(server.now_ms(), ms, all);
            Reply::OK
        }
        Err(reply) => reply,
    }
}

/// `CLIENT UNBLOCK id [TIMEOUT | ERROR]`: no command of ours blocks so that it could be.
fn unblock(rest: &[Bytes]) -> Reply {
    match rest {
        [_] => {}
        [_, why] if is(why, "timeout") || is(why, "error") => {}
        [_, _] => return Reply::err("CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        _ => return too_many("UNBLOCK"),
    }
    match integer(&rest[0]) {
        Some(_) => Reply::Int(0),
        None => Reply::not_an_integer(),
    }
}

/// What Redis says to a subcommand with more arguments than it looks at.
fn too_many(sub: &str) -> Reply {
    Reply::err(format_args!(
        "unknown subcommand or wrong number of arguments for '{sub}'. Try CLIENT HELP."
    ))
}

fn tracking(spec: &Spec, rest: &[Bytes]) -> Reply {
    match rest {
        [mode] if is(mode, "off") => Reply::OK,
        [mode, ..] if is(mode, "on") || is(mode, "off") => unsupported(spec),
        _ => Reply::syntax_error(),
    }
}
