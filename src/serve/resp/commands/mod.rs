//! The commands that a connection executes itself.
//!
//! - `hello`: HELLO, AUTH: which protocol, and who is speaking.
//! - `client`: CLIENT. `cluster`: CLUSTER. `config`: CONFIG. `info`: INFO.
//! - here: the small rest.

mod client;
mod client_kill;
mod cluster;
mod config;
mod hello;
mod info;

use super::frame::{Command, integer};
use super::server::Server;
use super::session::Session;
use crate::op::command::{self, Id, Spec};
use crate::op::{KvOps, Reply};
use bytes::Bytes;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Executes a command of the connection; `None` if it is one that has no reply.
pub(super) async fn execute<K: KvOps>(
    session: &mut Session,
    server: &Server,
    kv: &K,
    spec: &'static Spec,
    args: &Command,
) -> Option<Reply> {
    let reply = match spec.id {
        Id::Ping => ping(args),
        Id::Echo => Reply::Bulk(args[1].clone()),
        Id::Select => select(&args[1]),
        Id::Time => time(server),
        Id::Quit => {
            session.closing = true;
            Reply::OK
        }
        Id::Reset => {
            session.reset(!server.config.live.has_password.load(Relaxed));
            Reply::Simple("RESET")
        }
        Id::Unwatch => {
            session.watched.clear();
            Reply::OK
        }
        Id::Wait => wait(session, &args[1], &args[2]).await,
        Id::Hello => hello::hello(session, server, kv.topology().is_some(), args),
        Id::Auth => hello::auth(session, server, args),
        Id::Info => info::info(server, kv, &args[1..]).await,
        Id::Command
        | Id::CommandCount
        | Id::CommandDocs
        | Id::CommandGetkeys
        | Id::CommandGetkeysandflags
        | Id::CommandHelp
        | Id::CommandInfo
        | Id::CommandList => command::answer(spec, args),
        _ => match spec.group {
            "server" => config::execute(server, spec, args),
            "cluster" => cluster::execute(kv, spec, args),
            _ => return client::execute(session, server, spec, args),
        },
    };
    Some(reply)
}

/// PING. Its arity is a minimum in the table, and yet it takes one argument at most.
pub(super) fn ping(args: &Command) -> Reply {
    match &args[1..] {
        [] => Reply::Simple("PONG"),
        [text] => Reply::Bulk(text.clone()),
        _ => Reply::err("wrong number of arguments for 'ping' command"),
    }
}

/// What a command says that is in the table and not executed here.
fn unsupported(spec: &Spec) -> Reply {
    Reply::err(format_args!("'{}' is not supported", spec.name.replace('|', " ")))
}

/// SELECT: there is one database.
fn select(index: &[u8]) -> Reply {
    match integer(index).map(i32::try_from) {
        Some(Ok(0)) => Reply::OK,
        Some(Ok(_)) => Reply::err("DB index is out of range"),
        _ => Reply::not_an_integer(),
    }
}

fn time(server: &Server) -> Reply {
    let us = server.clock.unix_us();
    let text = |n: u64| Reply::bulk(n.to_string());
    Reply::Array(vec![text(us / 1_000_000), text(us % 1_000_000)])
}

/// WAIT: there are no replicas that a client could be told of, since a write is answered only
/// when it is as safe as the configuration asks for.
async fn wait(session: &mut Session, replicas: &[u8], timeout: &[u8]) -> Reply {
    let Some(replicas) = integer(replicas) else { return Reply::not_an_integer() };
    let ms = match timeout_ms(timeout) {
        Ok(ms) => ms,
        Err(reply) => return reply,
    };
    if replicas > 0 {
        let forever = ms == 0;
        let client = std::sync::Arc::clone(&session.client);
        client.blocked.store(true, Relaxed);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(ms)), if !forever => {}
            () = client.stop.finishing() => session.closing = true,
        }
        client.blocked.store(false, Relaxed);
    }
    Reply::Int(0)
}

/// A timeout in milliseconds, as WAIT and CLIENT PAUSE take it.
fn timeout_ms(text: &[u8]) -> Result<u64, Reply> {
    match integer(text) {
        None => Err(Reply::err("timeout is not an integer or out of range")),
        Some(ms) => u64::try_from(ms).map_err(|_| Reply::err("timeout is negative")),
    }
}

fn is(arg: &Bytes, word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
