//! From the arguments of a call to its entry in the table.

use super::Spec;
use super::table::GROUPS;
use crate::op::Reply;
use bytes::Bytes;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// Every command, by name. Subcommands are found through their containers.
pub static COMMANDS: LazyLock<Vec<&'static Spec>> = LazyLock::new(|| {
    let mut all: Vec<&'static Spec> = GROUPS.iter().flat_map(|group| group.iter()).collect();
    all.sort_by_key(|spec| spec.name);
    all
});

static BY_NAME: LazyLock<HashMap<&'static [u8], &'static Spec, BuildHasherDefault<NameHasher>>> =
    LazyLock::new(|| COMMANDS.iter().map(|&spec| (spec.name.as_bytes(), spec)).collect());

/// A cheap hash of a short name. Nobody but the table puts names into the map, so that there is
/// no flood of collisions to fear.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn write_usize(&mut self, n: usize) {
        self.write(&[n as u8]);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// Longer than any name in the table.
const NAME_BYTES_MAX: usize = 32;

/// The command of that name, in any case of letters; a subcommand as `container|sub`. One hash.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    if let Some(spec) = BY_NAME.get(&*lower) {
        return Some(spec);
    }
    let bar = lower.iter().position(|&b| b == b'|')?;
    BY_NAME.get(&lower[..bar])?.subcommand(&lower[bar + 1..])
}

/// The entry that executes a call (`args[0]` is the name): of a container with a subcommand,
/// the subcommand's.
///
/// # Errors
/// The reply Redis gives to an unknown command or subcommand or a wrong number of arguments.
pub fn lookup(args: &[Bytes]) -> Result<&'static Spec, Reply> {
    let Some(name) = args.first() else { return Err(unknown_command(args)) };
    let Some(mut spec) = find_top(name) else { return Err(unknown_command(args)) };
    if !spec.subcommands.is_empty() && args.len() > 1 {
        spec = spec.subcommand(&args[1]).ok_or_else(|| unknown_subcommand(spec, &args[1]))?;
    }
    if spec.takes(args.len()) { Ok(spec) } else { Err(wrong_arity(spec)) }
}

/// As [`lookup`], for a client that has just called `last` and, as most do, may call it again: that
/// takes one comparison.
///
/// # Errors
/// As [`lookup`].
pub fn lookup_after(last: Option<&'static Spec>, args: &[Bytes]) -> Result<&'static Spec, Reply> {
    let again = |spec: &&Spec| {
        let called = args.first().is_some_and(|n| n.eq_ignore_ascii_case(spec.name.as_bytes()));
        called && spec.is_plain() && spec.takes(args.len())
    };
    last.filter(again).map_or_else(|| lookup(args), Ok)
}

/// As [`find`], without subcommands: Redis does not take `client|id` for a name in a call.
fn find_top(name: &[u8]) -> Option<&'static Spec> {
    find(name).filter(|spec| spec.name.len() == name.len() && !name.contains(&b'|'))
}

/// Bytes of the arguments that an error text repeats at most.
const ECHO_BYTES_MAX: usize = 128;

fn unknown_command(args: &[Bytes]) -> Reply {
    let name = args.first().map_or(&[][..], |name| printed(name, ECHO_BYTES_MAX));
    let mut echoed = Vec::new();
    for arg in args.iter().skip(1) {
        if echoed.len() >= ECHO_BYTES_MAX {
            break;
        }
        let room = ECHO_BYTES_MAX - echoed.len();
        echoed.push(b'\'');
        echoed.extend_from_slice(printed(arg, room));
        echoed.extend_from_slice(b"' ");
    }
    Reply::err(format_args!(
        "unknown command '{}', with args beginning with: {}",
        String::from_utf8_lossy(name),
        String::from_utf8_lossy(&echoed)
    ))
}

fn unknown_subcommand(container: &Spec, sub: &[u8]) -> Reply {
    Reply::err(format_args!(
        "unknown subcommand '{}'. Try {} HELP.",
        String::from_utf8_lossy(printed(sub, ECHO_BYTES_MAX)),
        container.name.to_ascii_uppercase()
    ))
}

/// `-ERR wrong number of arguments for '...' command`.
fn wrong_arity(spec: &Spec) -> Reply {
    Reply::err(format_args!("wrong number of arguments for '{}' command", spec.name))
}

/// What Redis prints of an argument in an error: up to the first zero byte, and at most `max`.
fn printed(arg: &[u8], max: usize) -> &[u8] {
    let end = arg.iter().position(|&b| b == 0).unwrap_or(arg.len());
    &arg[..end.min(max)]
}
