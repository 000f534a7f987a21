//! Where a request goes: the hash slot of a key, and the slots a request names.
//!
//! There are [`SLOTS`] hash slots. A key's slot is CRC16 of its hash tag modulo that, exactly as
//! Redis Cluster has it, so that a cluster client computes the same thing. Keys of every column
//! family are hashed alike: the same key of two families lies in one slot.

use crate::base::CfId;
pub use crate::base::ShardId;
use crate::op::Request;
use crate::op::command::{self, Id, Place, Spec};
use crate::op::kv::{RedisCall, Write};
use crate::op::txn::TxnCall;
use crate::op::vector::VectorCall;

/// The number of hash slots.
pub const SLOTS: u16 = 16_384;

/// Slots from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotRange {
    /// The first slot.
    pub first: u16,
    /// The last slot; not before the first.
    pub last: u16,
}

impl SlotRange {
    /// Every slot.
    pub const ALL: SlotRange = SlotRange { first: 0, last: SLOTS - 1 };

    /// Whether a slot is among them.
    pub fn contains(self, slot: u16) -> bool {
        (self.first..=self.last).contains(&slot)
    }

    /// How many slots there are, at least 1.
    pub fn count(self) -> u16 {
        self.last - self.first + 1
    }

    /// The ranges below `at` and from `at` on; `None` if one of them would be empty.
    pub fn split(self, at: u16) -> Option<(SlotRange, SlotRange)> {
        let inside = at > self.first && at <= self.last;
        inside.then(|| {
            (
                SlotRange { first: self.first, last: at - 1 },
                SlotRange { first: at, last: self.last },
            )
        })
    }

    /// All slots in `count` ranges whose sizes differ by at most one.
    /// REQUIRES: `count` is from 1 to [`SLOTS`].
    pub fn even(count: u16) -> impl Iterator<Item = SlotRange> {
        let edge = move |i: u16| (u32::from(i) * u32::from(SLOTS) / u32::from(count)) as u16;
        (0..count).map(move |i| SlotRange { first: edge(i), last: edge(i + 1) - 1 })
    }
}

impl std::fmt::Display for SlotRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The slot of a key: below [`SLOTS`].
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// The slot of a key of a family; of a vector's record, that of its id.
pub fn slot_in(cf: CfId, key: &[u8]) -> u16 {
    slot_of(if cf == CfId::VECTORS { key.get(8..).unwrap_or(key) } else { key })
}

/// The slot of a stored record: that of the key it is of. `None` for records of no key, which every
/// part of a split shard keeps.
///
/// An entry of the index of expiries is `[time u64][family u32][key]`, a lock of a transaction over
/// several shards `[1][family u32][key]`.
pub fn slot_of_record(cf: CfId, key: &[u8]) -> Option<u16> {
    match cf {
        CfId::EXPIRY => key.get(12..).map(slot_of),
        CfId::TXN => {
            let (cf, key) = key.strip_prefix(&[1])?.split_first_chunk()?;
            Some(slot_in(CfId(u32::from_be_bytes(*cf)), key))
        }
        CfId::VECTORS if !key.starts_with(&[0; 8]) => Some(slot_in(cf, key)),
        system if system.is_system() => None,
        _ => Some(slot_of(key)),
    }
}

/// The slot of every key that begins with `prefix`, if they share one: then the prefix holds a
/// whole hash tag.
pub fn slot_of_prefix(prefix: &[u8]) -> Option<u16> {
    let tag = hash_tag(prefix);
    (tag.len() < prefix.len()).then(|| crc16(tag) % SLOTS)
}

/// The part of a key that is hashed: what stands between the first `{` and the next `}` if that
/// is not empty, or else all of it.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|b| *b == b'{') else { return key };
    let inner = &key[open + 1..];
    match inner.iter().position(|b| *b == b'}') {
        None | Some(0) => key,
        Some(close) => &inner[..close],
    }
}

/// CRC-16/XMODEM: polynomial 0x1021, nothing reflected, begins with 0.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let at = (crc >> 8) ^ u16::from(*byte);
        (crc << 8) ^ CRC16[usize::from(at)]
    })
}

static CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = (at as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// Who executes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The shard of a slot.
    Slot(u16),
    /// The shards of two or more slots, in rising order, each once.
    Slots(Vec<u16>),
    /// Every shard, or those that a prefix leaves.
    EveryShard,
    /// The catalog of the cluster.
    Catalog,
    /// Anyone: there is no key to it.
    Anywhere,
}

impl Route {
    /// Where `request` goes. Cost: a hash of each key.
    pub fn of(request: &Request) -> Route {
        match request {
            Request::Scan(_) | Request::DeleteByPrefix { .. } | Request::Stats => Route::EveryShard,
            Request::CreateCf { .. } | Request::DropCf { .. } | Request::ListCfs => Route::Catalog,
            Request::Get { key, .. } | Request::PutIf { key, .. } => Route::Slot(slot_of(key)),
            Request::Redis(call) => match call.spec.only_key().and_then(|at| call.args.get(at)) {
                Some(key) => Route::Slot(slot_of(key)),
                None if reach(call.spec) == Some(Reach::EveryShard) => Route::EveryShard,
                None => Route::of_keys(request),
            },
            Request::RedisTransaction { calls, .. }
                if calls.iter().any(|call| reach(call.spec) == Some(Reach::EveryShard)) =>
            {
                Route::EveryShard
            }
            Request::Write { .. } | Request::RedisTransaction { .. } | Request::Watch { .. } => {
                Route::of_keys(request)
            }
            // Who drives a transaction knows whom to ask for what.
            Request::Txn(_) => Route::Anywhere,
            Request::Vector(call) => match &**call {
                VectorCall::Create(_) | VectorCall::Drop { .. } => Route::Catalog,
                VectorCall::Get { .. } => match Route::of_keys(request) {
                    Route::Slots(_) => Route::EveryShard,
                    one => one,
                },
                VectorCall::List
                | VectorCall::Describe { .. }
                | VectorCall::Fetch { .. }
                | VectorCall::Walk { .. }
                | VectorCall::Search(_)
                | VectorCall::Verify { .. } => Route::EveryShard,
            },
        }
    }

    fn of_keys(request: &Request) -> Route {
        let mut first = None;
        let mut slots = Vec::new();
        visit_keys(request, &mut |key| {
            let slot = slot_of(key);
            if *first.get_or_insert(slot) != slot {
                slots.push(slot);
            }
        });
        match first {
            None => Route::Anywhere,
            Some(slot) if slots.is_empty() => Route::Slot(slot),
            Some(slot) => {
                slots.push(slot);
                slots.sort_unstable();
                slots.dedup();
                Route::Slots(slots)
            }
        }
    }
}

/// Calls `visit` with every key that a request names, watched ones too, in order.
pub fn visit_keys<'r>(request: &'r Request, visit: &mut dyn FnMut(&'r [u8])) {
    match request {
        Request::Get { key, .. } | Request::PutIf { key, .. } => visit(key),
        Request::Write { writes, .. } => {
            for write in writes {
                match write {
                    Write::Put { key, .. }
                    | Write::Delete { key, .. }
                    | Write::Merge { key, .. } => visit(key),
                    Write::PutVector { id, .. } | Write::DeleteVector { id, .. } => {
                        visit(id.as_bytes());
                    }
                }
            }
        }
        Request::Redis(call) => visit_call(call, visit),
        Request::RedisTransaction { watched, calls, .. } => {
            watched.iter().for_each(|watched| visit(&watched.key));
            calls.iter().for_each(|call| visit_call(call, visit));
        }
        Request::Watch { keys } => keys.iter().for_each(|key| visit(key)),
        Request::Vector(call) => {
            if let VectorCall::Get { ids, .. } = &**call {
                ids.iter().for_each(|id| visit(id.as_bytes()));
            }
        }
        Request::Scan(_)
        | Request::DeleteByPrefix { .. }
        | Request::CreateCf { .. }
        | Request::DropCf { .. }
        | Request::ListCfs
        | Request::Stats
        | Request::Txn(_) => {}
    }
}

fn visit_call<'r>(call: &'r RedisCall, visit: &mut dyn FnMut(&'r [u8])) {
    command::keys_of(call.spec, &call.args)
        .filter_map(|at| call.args.get(at))
        .for_each(|key| visit(key));
}

/// Whether a request changes nothing, so that it may be repeated at will.
pub fn is_read(request: &Request) -> bool {
    match request {
        Request::Get { .. }
        | Request::Scan(_)
        | Request::ListCfs
        | Request::Watch { .. }
        | Request::Stats => true,
        Request::Redis(call) => !call.spec.is_write(),
        Request::RedisTransaction { calls, .. } => calls.iter().all(|call| !call.spec.is_write()),
        Request::Write { .. }
        | Request::PutIf { .. }
        | Request::DeleteByPrefix { .. }
        | Request::CreateCf { .. }
        | Request::DropCf { .. } => false,
        // A check mends what it finds, and the next finds nothing.
        Request::Vector(call) => {
            !call.is_for_catalog() && !matches!(**call, VectorCall::Verify { .. })
        }
        Request::Txn(call) => {
            matches!(**call, TxnCall::Unfinished { .. } | TxnCall::Stamp { .. })
        }
    }
}

/// How far a Redis data command reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The keys among its arguments.
    Keys,
    /// The whole database.
    EveryShard,
    /// Nothing that is stored.
    Nothing,
}

/// How far a data command reaches; `None` for one that a connection executes, for a container,
/// and for a data command that was not thought of here (a test finds it).
pub fn reach(spec: &Spec) -> Option<Reach> {
    if spec.place != Place::Data || !spec.subcommands.is_empty() {
        return None;
    }
    match spec.id {
        Id::Dbsize | Id::Flushall | Id::Flushdb | Id::Keys | Id::Randomkey | Id::Scan => {
            Some(Reach::EveryShard)
        }
        Id::MemoryHelp | Id::ObjectHelp | Id::Swapdb => Some(Reach::Nothing),
        _ if !spec.key_specs.is_empty() => Some(Reach::Keys),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_ranges_cover_every_slot_once() {
        for count in [1, 2, 3, 7, 1000, SLOTS - 1, SLOTS] {
            let ranges: Vec<_> = SlotRange::even(count).collect();
            assert_eq!(ranges.len(), usize::from(count));
            assert_eq!((ranges[0].first, ranges[ranges.len() - 1].last), (0, SLOTS - 1));
            assert!(ranges.windows(2).all(|w| w[0].last + 1 == w[1].first));
            let sizes = ranges.iter().map(|r| r.count());
            assert!(sizes.clone().max() <= sizes.min().map(|min| min + 1));
        }
    }

    #[test]
    fn a_split_leaves_no_half_empty() {
        let range = SlotRange { first: 10, last: 12 };
        assert_eq!(range.split(10), None);
        assert_eq!(range.split(13), None);
        let (low, high) = range.split(12).unwrap();
        assert_eq!((low.to_string(), high.to_string()), ("10-11".into(), "12-12".into()));
    }
    use crate::base::CfId;
    use crate::op::command::COMMANDS;
    use crate::op::kv::{Expiry, Scan, Watched};
    use bytes::Bytes;

    fn call(line: &str) -> RedisCall {
        let args: Vec<Bytes> =
            line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        RedisCall { spec: command::lookup(&args).unwrap(), args }
    }

    fn route(line: &str) -> Route {
        Route::of(&Request::Redis(call(line)))
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
        // From a Redis 7.0.15 in cluster mode.
        for (key, slot) in [
            ("foo", 12_182),
            ("bar", 5_061),
            ("hello", 866),
            ("", 0),
            ("foo{bar}baz", 5_061),
            ("{bar}", 5_061),
            ("foo{bar}{zap}", 5_061),
            ("foobar", 12_325),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_tag_is_the_first_that_is_not_empty_or_none() {
        for (key, tag) in [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{bar", "foo{bar"),
            ("foo}bar{", "foo}bar{"),
            ("a}b{c}d", "c"),
            ("{}", "{}"),
            ("", ""),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    #[test]
    fn a_prefix_has_a_slot_if_it_holds_a_whole_tag() {
        for (prefix, shared) in
            [("{a}", true), ("x{a}y", true), ("{a", false), ("x{}y", false), ("", false)]
        {
            assert_eq!(slot_of_prefix(prefix.as_bytes()).is_some(), shared, "{prefix}");
        }
        // Whatever follows the tag, even another one.
        let slot = slot_of_prefix(b"x{tag}").unwrap();
        for end in ["", "{b}", "}", "rest"] {
            assert_eq!(slot_of(format!("x{{tag}}{end}").as_bytes()), slot);
        }
    }

    #[test]
    fn every_data_command_is_classified_and_as_redis_tips_clients_to() {
        let all = COMMANDS.iter().flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands));
        let mut every = Vec::new();
        for spec in all {
            let reach = reach(spec);
            let executes = spec.place == Place::Data && spec.subcommands.is_empty();
            assert_eq!(reach.is_some(), executes, "{}", spec.name);
            let tipped = spec
                .tips
                .iter()
                .any(|tip| matches!(*tip, "request_policy:all_shards" | "request_policy:special"));
            if executes {
                assert_eq!(reach == Some(Reach::EveryShard), tipped, "{}", spec.name);
            }
            if reach == Some(Reach::EveryShard) {
                assert!(spec.key_specs.is_empty(), "{}", spec.name);
                every.push(spec.name);
            }
        }
        assert_eq!(every, ["dbsize", "flushall", "flushdb", "keys", "randomkey", "scan"]);
    }

    #[test]
    fn calls_go_where_their_keys_are() {
        let (foo, bar) = (12_182, 5_061);
        assert_eq!(route("GET foo"), Route::Slot(foo));
        assert_eq!(route("OBJECT ENCODING foo"), Route::Slot(foo));
        assert_eq!(route("MGET foo hello bar foo{bar}"), Route::Slots(vec![866, bar, foo]));
        assert_eq!(route("MGET foo foo"), Route::Slot(foo));
        assert_eq!(route("MSET foo 1 bar foo"), Route::Slots(vec![bar, foo]));
        assert_eq!(route("BITOP AND {bar}d x{bar} bar"), Route::Slot(bar));
        assert_eq!(route("SORT foo STORE bar"), Route::Slots(vec![bar, foo]));
        assert_eq!(route("SCAN 0"), Route::EveryShard);
        assert_eq!(route("SWAPDB 0 0"), Route::Anywhere);
        assert_eq!(route("OBJECT HELP"), Route::Anywhere);
    }

    #[test]
    fn requests_go_where_their_keys_are_in_every_family() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let put = |cf, text| Write::Put {
            cf: CfId(cf),
            key: key(text),
            value: Bytes::new(),
            expiry: Expiry::Never,
        };
        let write = |writes| Request::Write { writes, id: None };
        assert_eq!(Route::of(&write(vec![put(0, "foo"), put(9, "foo")])), Route::Slot(12_182));
        let both = Route::Slots(vec![5_061, 12_182]);
        let delete = Write::Delete { cf: CfId(1), key: key("bar") };
        assert_eq!(Route::of(&write(vec![put(3, "foo"), delete])), both);
        assert_eq!(Route::of(&write(Vec::new())), Route::Anywhere);
        assert_eq!(Route::of(&Request::Watch { keys: vec![key("bar"), key("foo")] }), both);
        let watched = vec![Watched { key: key("bar"), at: crate::base::Seq(0), existed: false }];
        let exec = |watched: &Vec<Watched>, calls| Request::RedisTransaction {
            watched: watched.clone(),
            calls,
            reply_bytes_max: 0,
        };
        assert_eq!(Route::of(&exec(&watched, vec![call("GET foo")])), both);
        assert_eq!(Route::of(&exec(&watched, vec![call("GET {bar}")])), Route::Slot(5_061));
        assert_eq!(Route::of(&exec(&watched, vec![call("DBSIZE")])), Route::EveryShard);
        assert_eq!(Route::of(&exec(&Vec::new(), vec![call("SWAPDB 0 0")])), Route::Anywhere);
        assert_eq!(Route::of(&Request::Scan(Scan::default())), Route::EveryShard);
        assert_eq!(Route::of(&Request::ListCfs), Route::Catalog);
    }
}
