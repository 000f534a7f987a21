//! CLIENT KILL: which connections are meant, and their end.

use super::is;
use crate::op::Reply;
use crate::serve::resp::frame::integer;
use crate::serve::resp::registry::Client;
use crate::serve::resp::server::Server;
use crate::serve::resp::session::Session;
use bytes::Bytes;

/// What a connection must match; what is absent matches all.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    peer: Option<Bytes>,
    local: Option<Bytes>,
    /// Whether the type asked for is one that our connections have.
    ours: Option<bool>,
    keep_self: bool,
}

impl Filter {
    fn matches(&self, client: &Client, own: u64) -> bool {
        let is_at = |wanted: &Option<Bytes>, addr: std::net::SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| *wanted == addr.to_string())
        };
        self.id.is_none_or(|id| id == client.id)
            && is_at(&self.peer, client.peer)
            && is_at(&self.local, client.local)
            && self.ours.unwrap_or(true)
            && !(self.keep_self && client.id == own)
    }
}

/// `CLIENT KILL addr` or `CLIENT KILL filter value [filter value ...]`.
pub(super) fn kill(session: &mut Session, server: &Server, rest: &[Bytes]) -> Reply {
    if let [peer] = rest {
        let filter = Filter { peer: Some(peer.clone()), ..Filter::default() };
        return match end(session, server, &filter) {
            0 => Reply::err("No such client"),
            _ => Reply::OK,
        };
    }
    match filter(rest) {
        Ok(filter) => Reply::Int(end(session, server, &filter)),
        Err(reply) => reply,
    }
}

fn filter(rest: &[Bytes]) -> Result<Filter, Reply> {
    let mut filter = Filter { keep_self: true, ..Filter::default() };
    for pair in rest.chunks(2) {
        let [name, value] = pair else { return Err(Reply::syntax_error()) };
        if is(name, "id") {
            let id = integer(value).filter(|&id| id > 0).map(i64::unsigned_abs);
            let wrong = || Reply::err("client-id should be greater than 0");
            filter.id = Some(id.ok_or_else(wrong)?);
        } else if is(name, "addr") {
            filter.peer = Some(value.clone());
        } else if is(name, "laddr") {
            filter.local = Some(value.clone());
        } else if is(name, "type") {
            filter.ours = Some(is_ours(value)?);
        } else if is(name, "user") {
            if value != "default" {
                let user = String::from_utf8_lossy(value);
                return Err(Reply::err(format_args!("No such user '{user}'")));
            }
        } else if is(name, "skipme") {
            filter.keep_self = match () {
                () if is(value, "yes") => true,
                () if is(value, "no") => false,
                () => return Err(Reply::syntax_error()),
            };
        } else {
            return Err(Reply::syntax_error());
        }
    }
    Ok(filter)
}

/// Ends the connections that match; one's own only after its reply.
fn end(session: &mut Session, server: &Server, filter: &Filter) -> i64 {
    let own = session.client.id;
    let mut ended = 0;
    for client in server.clients.all() {
        if filter.matches(&client, own) {
            ended += 1;
            if client.id == own {
                session.closing = true;
            } else {
                client.stop.cut();
                // Gone for all to see, even before its task has noticed.
                server.clients.leave(client.id);
            }
        }
    }
    ended
}

/// Whether our connections are of the type named: all are `normal`.
pub(super) fn is_ours(kind: &Bytes) -> Result<bool, Reply> {
    if is(kind, "normal") {
        return Ok(true);
    }
    if ["master", "replica", "slave", "pubsub"].iter().any(|known| is(kind, known)) {
        return Ok(false);
    }
    let kind = String::from_utf8_lossy(kind);
    Err(Reply::err(format_args!("Unknown client type '{kind}'")))
}
