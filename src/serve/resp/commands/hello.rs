//! HELLO and AUTH: which protocol a connection speaks, and who it is.

use super::client::{NAME_ERROR, is_valid_name};
use super::is;
use crate::op::Reply;
use crate::serve::resp::encode::Proto;
use crate::serve::resp::frame::{Command, integer};
use crate::serve::resp::server::Server;
use crate::serve::resp::session::Session;
use bytes::Bytes;
use std::sync::atomic::Ordering::Relaxed;

/// The version of Redis whose behaviour clients may count on.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// `HELLO [version [AUTH user password] [SETNAME name]]`: nothing changes unless all is well.
/// `cluster` says whether there are more places to ask.
pub(super) fn hello(
    session: &mut Session,
    server: &Server,
    cluster: bool,
    args: &Command,
) -> Reply {
    let proto = match args.get(1).map(|version| integer(version)) {
        None => session.proto,
        Some(Some(2)) => Proto::Resp2,
        Some(Some(3)) => Proto::Resp3,
        Some(Some(_)) => return Reply::Error("NOPROTO unsupported protocol version".to_string()),
        Some(None) => {
            return Reply::err("Protocol version is not an integer or out of range");
        }
    };
    let (mut credentials, mut name) = (None, None);
    let mut rest = args.get(2..).unwrap_or_default();
    loop {
        rest = match rest {
            [] => break,
            [option, user, password, more @ ..] if is(option, "auth") => {
                credentials = Some((user, password));
                more
            }
            [option, given, more @ ..] if is(option, "setname") => {
                if !is_valid_name(given) {
                    return Reply::err(NAME_ERROR);
                }
                name = Some(given);
                more
            }
            [option, ..] => {
                let option = String::from_utf8_lossy(option);
                return Reply::err(format_args!("Syntax error in HELLO option '{option}'"));
            }
        }
    }
    if let Some((user, password)) = credentials {
        if !is_accepted(server, user, password) {
            return wrong_password();
        }
        session.authenticated = true;
    }
    if !session.authenticated {
        return Reply::Error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time"
                .to_string(),
        );
    }
    let mut about = session.client.about();
    if let Some(name) = name {
        about.name = Bytes::copy_from_slice(name);
    }
    about.proto = proto;
    drop(about);
    session.proto = proto;
    greeting(session, if cluster { "cluster" } else { "standalone" })
}

fn greeting(session: &Session, mode: &'static str) -> Reply {
    let pair = |name: &'static str, value: Reply| (Reply::bulk(name), value);
    Reply::Map(vec![
        pair("server", Reply::bulk("redis")),
        pair("version", Reply::bulk(REDIS_VERSION)),
        pair("proto", Reply::Int(session.proto.number().into())),
        pair("id", Reply::Int(i64::try_from(session.client.id).unwrap_or(i64::MAX))),
        pair("mode", Reply::bulk(mode)),
        pair("role", Reply::bulk("master")),
        pair("modules", Reply::Array(Vec::new())),
    ])
}

/// `AUTH [user] password`.
pub(super) fn auth(session: &mut Session, server: &Server, args: &Command) -> Reply {
    let has_password = server.config.live.has_password.load(Relaxed);
    let accepted = match &args[1..] {
        [_] if !has_password => {
            return Reply::err(
                "AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            );
        }
        [password] => is_accepted(server, b"default", password),
        [user, password] => is_accepted(server, user, password),
        _ => return Reply::syntax_error(),
    };
    if accepted {
        session.authenticated = true;
        Reply::OK
    } else {
        wrong_password()
    }
}

fn wrong_password() -> Reply {
    let text = "WRONGPASS invalid username-password pair or user is disabled.";
    Reply::Error(text.to_string())
}

/// There is one user, `default`; without a password set, any will do.
fn is_accepted(server: &Server, user: &[u8], password: &[u8]) -> bool {
    let known = server.config.value("requirepass");
    user == b"default" && (known.is_empty() || is_same(&known, password))
}

/// Compares in a time that tells nothing of where the difference is.
fn is_same(known: &[u8], given: &[u8]) -> bool {
    let mut difference = known.len() ^ given.len();
    for i in 0..given.len() {
        // An index beyond the known one has no effect on the outcome: the lengths differ.
        difference |= usize::from(known[i % known.len()] ^ given[i]);
    }
    difference == 0
}
