//! CONFIG.

use super::unsupported;
use crate::op::Reply;
use crate::op::command::{self, Id, Spec};
use crate::serve::resp::frame::Command;
use crate::serve::resp::server::Server;

/// Executes a subcommand of CONFIG.
pub(super) fn execute(server: &Server, spec: &'static Spec, args: &Command) -> Reply {
    match spec.id {
        Id::ConfigGet => server.config.get(&args[2..]),
        Id::ConfigSet => server.config.set(&args[2..]),
        Id::ConfigResetstat => {
            server.stats.reset();
            Reply::OK
        }
        Id::ConfigRewrite => Reply::err("The server is running without a config file"),
        Id::ConfigHelp => command::help_reply(spec),
        _ => unsupported(spec),
    }
}
