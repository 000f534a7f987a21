//! `arqon bench redis`.

use super::redis_target::RedisTarget;
use super::{Clients, Load, check_sessions};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, of_redis_error};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Value;
use crate::repl::client::{Answer, Client};

/// What keys of this bench begin with, so that they cannot meet a user's.
const PREFIX: &str = "arqon-bench:";

/// Measure any server that speaks the Redis protocol
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  arqon bench redis
  arqon bench redis fill read --addr 127.0.0.1:6379 --clients 50 --pipeline 16
  arqon bench redis mixed --rate 20000 --seconds 30 --output json

Keys begin with arqon-bench: and stay on the server.")]
pub struct Redis {
    #[command(flatten)]
    load: Load,
    /// Address of the server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6379")]
    addr: String,
    /// Connections, each with a thread
    #[arg(long, visible_alias = "threads", value_name = "N", default_value_t = 50)]
    clients: u64,
    /// Commands sent before their answers are awaited
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pipeline: u64,
}

impl Redis {
    /// Runs it.
    pub fn run(self, context: &mut Context) -> Outcome {
        check_sessions("--clients", self.clients)?;
        let target = RedisTarget { addr: self.addr.clone() };
        let mut client = Client::connect(&self.addr)
            .map_err(|e| Failure::from(e).fix("start a server with: arqon dev"))?;
        if let Answer::Error(text) = client.call(&[b"DBSIZE"])? {
            return Err(of_redis_error(&text));
        }
        let data = self.load.data(PREFIX);
        let settings = vec![("target", Value::from("redis")), ("addr", Value::from(self.addr))];
        let interrupt = Interrupt::watch()?;
        let clients =
            Clients { sessions: self.clients, pipeline: self.pipeline, interrupt: &interrupt };
        self.load.run(context, &target, &data, &clients, settings)
    }
}
