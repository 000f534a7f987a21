//! Where the console's requests go.

use crate::base::Result;
use crate::op::{Request, Response};
use crate::repl::client::Answer;

/// What executes a line: a server, or a data folder opened by this process.
pub trait Backend {
    /// What the prompt calls it.
    fn name(&self) -> String;
    /// Executes a Redis command; `args[0]` is its name. An error reply is an answer.
    fn redis(&mut self, args: &[&[u8]]) -> Result<Answer>;
    /// Executes a request of the console's words.
    fn kv(&mut self, request: Request) -> Result<Response>;
    /// Waits for what comes after a command that opens a stream, such as SUBSCRIBE.
    fn next(&mut self) -> Result<Answer>;
}
