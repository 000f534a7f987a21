//! The Redis door: RESP2 and RESP3 on a TCP listener, commands in, requests out.
//!
//! Words: a *command* is a name and arguments as sent; a *run* is the commands of one client that
//! go to the engine as one pipeline; a *parameter* is what CONFIG gets and sets.
//!
//! In reading order:
//! - `server`: [`RedisServer`], the listener and what all connections share; `options`.
//! - `threads`: where connections live.
//! - `connection`: the loop of one connection, and the limits on what it may hold.
//! - `frame`, `inline`: bytes to commands. `encode`, `output`: replies to bytes.
//! - `session`: one connection's state; admission and execution of its commands.
//! - `transaction`: MULTI, EXEC, DISCARD, WATCH.
//! - `commands`: the other commands that a connection executes itself.
//! - `params`, `config`: the parameters, declared once, and their values.
//! - `registry`: the clients as they see each other; CLIENT KILL and PAUSE.
//! - `stats`: what is counted. `errors`: how errors of the engine are told.
//!
//! Invariants owed to clients and to the engine:
//! - Replies come in the order of the commands, each exactly once.
//! - The data commands of a transaction are one request.
//! - No length sent by a client decides how much memory is taken: memory follows bytes that came.
//! - A client that does not take its replies is not read from.
//! - A request handed to the engine is awaited: neither a kill nor a stop leaves it half-way.

mod commands;
mod config;
mod connection;
mod encode;
mod errors;
mod frame;
mod inline;
mod options;
mod output;
mod params;
mod registry;
mod server;
mod session;
mod stats;
mod threads;
mod transaction;

pub use options::RespOptions;
pub use server::RedisServer;
