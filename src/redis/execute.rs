//! From a call to the function that does it.

use super::{
    Keyspace, STRING_TAG, Stored, bitfield, bits, counters, dump, expire, flush, keys, lcs, object,
    scan, set, sort, strings,
};
use crate::base::{Error, ErrorKind, Result};
use crate::op::Reply;
use crate::op::command::{Id, help_reply};
use crate::op::kv::RedisCall;
use bytes::Bytes;

/// Executes a data command. The number of arguments must be one its entry takes, as
/// [`lookup`](crate::op::command::lookup) sees to.
///
/// # Errors
/// What the keyspace fails with, and [`ErrorKind::Internal`] for a command that is not a data
/// command. What Redis answers with an error is an error reply, and nothing was changed.
pub fn execute(call: &RedisCall, keys: &mut dyn Keyspace) -> Result<Reply> {
    let args = &call.args[..];
    if !call.spec.takes(args.len()) {
        return Ok(wrong_arity(call.spec.name));
    }
    match dispatch(call, args, keys) {
        Ok(reply) | Err(Stop::With(reply)) => Ok(reply),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn dispatch(call: &RedisCall, args: &[Bytes], ks: &mut dyn Keyspace) -> Outcome {
    match call.spec.id {
        Id::Append => strings::append(args, ks),
        Id::Get => strings::get(args, ks),
        Id::Getdel => strings::getdel(args, ks),
        Id::Getrange | Id::Substr => strings::getrange(args, ks),
        Id::Getset => strings::getset(args, ks),
        Id::Mget => strings::mget(args, ks),
        Id::Mset => strings::mset(args, ks),
        Id::Msetnx => strings::msetnx(args, ks),
        Id::Setrange => strings::setrange(args, ks),
        Id::Strlen => strings::strlen(args, ks),
        Id::Set => set::set(args, ks),
        Id::Setnx => set::setnx(args, ks),
        Id::Setex => set::setex(args, ks),
        Id::Psetex => set::psetex(args, ks),
        Id::Getex => set::getex(args, ks),
        Id::Incr => counters::add(&args[1], 1, ks),
        Id::Decr => counters::add(&args[1], -1, ks),
        Id::Incrby => counters::incrby(args, ks),
        Id::Decrby => counters::decrby(args, ks),
        Id::Incrbyfloat => counters::incrbyfloat(args, ks),
        Id::Lcs => lcs::lcs(args, ks),
        Id::Setbit => bits::setbit(args, ks),
        Id::Getbit => bits::getbit(args, ks),
        Id::Bitcount => bits::bitcount(args, ks),
        Id::Bitpos => bits::bitpos(args, ks),
        Id::Bitop => bits::bitop(args, ks),
        Id::Bitfield => bitfield::bitfield(args, ks),
        Id::BitfieldRo => bitfield::bitfield_ro(args, ks),
        Id::Exists | Id::Touch => keys::exists(args, ks),
        Id::Del | Id::Unlink => keys::del(args, ks),
        Id::Type => keys::kind(args, ks),
        Id::Rename => keys::rename(args, ks),
        Id::Renamenx => keys::renamenx(args, ks),
        Id::Copy => keys::copy(args, ks),
        Id::Move => keys::move_to(args),
        Id::Randomkey => keys::randomkey(ks),
        Id::Keys => scan::keys(args, ks),
        Id::Scan => scan::scan(args, ks),
        Id::Sort => sort::sort(args, ks),
        Id::SortRo => sort::sort_ro(args, ks),
        Id::Expire => expire::expire(args, ks),
        Id::Pexpire => expire::pexpire(args, ks),
        Id::Expireat => expire::expireat(args, ks),
        Id::Pexpireat => expire::pexpireat(args, ks),
        Id::Expiretime => expire::expiretime(args, ks),
        Id::Pexpiretime => expire::pexpiretime(args, ks),
        Id::Ttl => expire::ttl(args, ks),
        Id::Pttl => expire::pttl(args, ks),
        Id::Persist => expire::persist(args, ks),
        Id::Dump => dump::dump(args, ks),
        Id::Restore => dump::restore(args, ks),
        Id::ObjectEncoding => object::encoding(args, ks),
        Id::ObjectFreq => object::freq(args, ks),
        Id::ObjectIdletime => object::idletime(args, ks),
        Id::ObjectRefcount => object::refcount(args, ks),
        Id::MemoryUsage => object::memory_usage(args, ks),
        Id::ObjectHelp | Id::MemoryHelp => Ok(help_reply(call.spec)),
        Id::Dbsize => flush::dbsize(ks),
        Id::Flushdb | Id::Flushall => flush::flush(args, ks),
        Id::Swapdb => flush::swapdb(args),
        _ => Err(Stop::Failed(Error::new(
            ErrorKind::Internal,
            format!("{} is not a data command", call.spec.name),
        ))),
    }
}

/// What a command's function gives: its reply, or why it stopped before.
pub(super) type Outcome<T = Reply> = std::result::Result<T, Stop>;

/// Why a command stopped: an error reply (nothing was changed), or a failed read or write.
#[derive(Debug)]
pub(super) enum Stop {
    With(Reply),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

impl From<Reply> for Stop {
    fn from(reply: Reply) -> Stop {
        Stop::With(reply)
    }
}

/// Stops with `-ERR text`.
pub(super) fn stop<T>(text: impl std::fmt::Display) -> Outcome<T> {
    Err(Stop::With(Reply::err(text)))
}

/// Stops with `-ERR syntax error`.
pub(super) fn syntax_error<T>() -> Outcome<T> {
    Err(Stop::With(Reply::syntax_error()))
}

/// `-ERR wrong number of arguments for '...' command`.
pub(super) fn wrong_arity(name: &str) -> Reply {
    Reply::err(format_args!("wrong number of arguments for '{name}' command"))
}

/// Reads a key that must hold a string, if anything.
pub(super) fn string(ks: &mut dyn Keyspace, key: &[u8]) -> Outcome<Option<Stored>> {
    match ks.get(key)? {
        Some(stored) if stored.tag != STRING_TAG => Err(Stop::With(Reply::wrong_type())),
        found => Ok(found),
    }
}

/// Whether an argument is the word `word` (in upper case), in any case of letters.
pub(super) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// `:1` or `:0`.
pub(super) fn int_bool(yes: bool) -> Reply {
    Reply::Int(yes.into())
}

/// A length or a count.
pub(super) fn int_of(n: usize) -> Reply {
    Reply::Int(i64::try_from(n).unwrap_or(i64::MAX))
}
