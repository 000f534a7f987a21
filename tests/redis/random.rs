//! Random calls, made from usage lines by example.

use arqondb::env::Rng;
use bytes::Bytes;

/// Usage by example: `K` a key, `N` a number, `V` a value, `F` a decimal number, `B` a bit
/// offset, `T` a bitfield type, `U` and `M` a far
/// time in seconds and in ms, `R` and `X` a time from now, `S` a small number, `P` a pattern; `[..]` one time in two,
/// `{..}*` up to three times, `a|b` one of both.
const CALLS_BY_EXAMPLE: &[&str] = &[
    "SET K V",
    "SET K V [NX|XX] [GET] [EX X|PX X|EXAT U|PXAT M|KEEPTTL]",
    "SET K V [GET] [EX X|KEEPTTL] [NX|XX|PX R]",
    "GET K",
    "MGET K {K}*",
    "MSET K V {K V}*",
    "MSETNX K V {K V}*",
    "MSET K V K",
    "GETSET K V",
    "GETDEL K",
    "GETEX K [EX X|PX X|EXAT U|PXAT M|PERSIST]",
    "GETEX K [EX R] [PERSIST|EX R]",
    "SETEX K X V",
    "PSETEX K X V",
    "SETEX K R V",
    "SETNX K V",
    "STRLEN K",
    "APPEND K V",
    "GETRANGE K N N",
    "SUBSTR K S S",
    "SETRANGE K S V",
    "SETRANGE K N V",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "INCRBYFLOAT K F",
    "INCRBYFLOAT K F",
    "LCS K K [LEN|IDX] [MINMATCHLEN S] [WITHMATCHLEN]",
    "LCS K K IDX WITHMATCHLEN",
    "SETBIT K B S",
    "SETBIT K B 1",
    "GETBIT K B",
    "BITCOUNT K [S S [BYTE|BIT]]",
    "BITCOUNT K N [N]",
    "BITPOS K S [S [S [BYTE|BIT]]]",
    "BITPOS K 0 [N [N [BYTE|BIT]]]",
    "BITPOS K 1 [S [S [BYTE|BIT]]]",
    "BITOP AND|OR|XOR|NOT K K {K}*",
    "BITOP NOT K K",
    "BITFIELD K {GET T B|SET T B N|INCRBY T B N|OVERFLOW WRAP|OVERFLOW SAT|OVERFLOW FAIL}*",
    "BITFIELD K OVERFLOW SAT|FAIL|WRAP|x {INCRBY T S N|SET T #S N|GET T #S}*",
    "BITFIELD_RO K {GET T B}*",
    "BITFIELD_RO K GET T S [SET T S N]",
    "EXISTS K {K}*",
    "TOUCH K {K}*",
    "DEL K {K}*",
    "UNLINK K",
    "TYPE K",
    "EXPIRE K X [NX|XX|GT|LT] [NX|XX|GT|LT]",
    "PEXPIRE K X [NX|XX|GT|LT]",
    "EXPIRE K R [NX|XX|GT|LT|ZZ]",
    "EXPIREAT K U [NX|XX|GT|LT]",
    "PEXPIREAT K M [NX|XX|GT|LT]",
    "EXPIRETIME K",
    "PEXPIRETIME K",
    "TTL K",
    "PTTL K",
    "PERSIST K",
    "RENAME K K",
    "RENAMENX K K",
    "COPY K K [DB N] [REPLACE]",
    "COPY K K [REPLACE]",
    "MOVE K N",
    "SWAPDB N N",
    "SORT K [BY P] [LIMIT N N] [GET P] [ASC|DESC] [ALPHA] [STORE K]",
    "SORT K {BY P|GET P|LIMIT N N|ASC|ALPHA|STORE K|LIMIT N|STORE|V}*",
    "SORT_RO K {BY P|GET P|LIMIT N N|ASC|ALPHA|STORE K}*",
    "KEYS P",
    "SCAN N [MATCH P] [COUNT N]",
    "SCAN 0 [MATCH P] COUNT 1000 [TYPE string|list]",
    "DBSIZE",
    "FLUSHDB x",
    "RESTORE K X V [REPLACE] [ABSTTL] [IDLETIME N] [FREQ N]",
    "OBJECT FREQ K",
    "OBJECT ENCODING",
    "OBJECT N",
    "MEMORY USAGE nokey [SAMPLES N]",
    "NOSUCH V V",
    "GET",
    "GET K K",
];

/// A call made from one of the examples.
pub(crate) fn random_call(rng: &mut Rng) -> Vec<Bytes> {
    let example = pick(rng, CALLS_BY_EXAMPLE);
    let mut words = expand(rng, example);
    // Now and then a word is lost, doubled or spoiled.
    if rng.one_in(40) && words.len() > 2 {
        let at = 1 + rng.below(words.len() as u64 - 1) as usize;
        match rng.below(3) {
            0 => drop(words.remove(at)),
            1 => words.insert(at, words[at].clone()),
            _ => words[at] = Bytes::from("x"),
        }
    }
    // A string of hundreds of megabytes is within the limits, but slow to compare.
    let makes_long = words.iter().skip(1).any(|word| {
        std::str::from_utf8(word)
            .ok()
            .and_then(|word| word.trim_start_matches('#').parse::<i64>().ok())
            .is_some_and(|n| (100_000..8 << 29).contains(&n))
    });
    let writes_at = words[0].starts_with(b"SETRANGE")
        || words[0].starts_with(b"SETBIT")
        || words[0].starts_with(b"BITFIELD");
    // Redis saturates a number to the maximum if it is so far below that the distance overflows;
    // here it becomes the minimum.
    let has = |part: &[u8]| words.iter().any(|word| word.starts_with(part));
    let far_below = has(b"SAT") && has(b"-9223372036854775808");
    if makes_long && writes_at || far_below { random_call(rng) } else { words }
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.below(from.len() as u64) as usize]
}

/// Splits at `separator` where no bracket is open.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ if c == separator && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn expand(rng: &mut Rng, example: &str) -> Vec<Bytes> {
    let mut words = Vec::new();
    for part in split(example, ' ') {
        if let Some(inner) = part.strip_prefix('[').and_then(|p| p.strip_suffix(']')) {
            if rng.one_in(2) {
                let choice = pick(rng, &split(inner, '|'));
                words.extend(expand(rng, choice));
            }
        } else if let Some(inner) = part.strip_prefix('{').and_then(|p| p.strip_suffix("}*")) {
            for _ in 0..rng.below(4) {
                let choice = pick(rng, &split(inner, '|'));
                words.extend(expand(rng, choice));
            }
        } else {
            let word = pick(rng, &part.split('|').collect::<Vec<_>>());
            words.push(value(rng, word));
        }
    }
    words
}

const EDGES: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "7",
    "10",
    "100",
    "1000",
    "-100",
    "2147483647",
    "-2147483648",
    "4294967295",
    "4294967296",
    "536870911",
    "536870912",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "9223372036854775",
    "9223372036854776",
    "-9223372036854775",
    "-9223372036854776",
    "01",
    "+1",
    " 1",
    "1.5",
    "abc",
    "",
    "1e3",
];

/// No bitfield types.
const BAD_TYPES: &[&str] = &["u64", "i65", "u0", "i0", "x8", "i", "u-1", "", "u08", "U8"];

/// Decimal numbers, and what is none.
const FLOATS: &[&str] = &[
    ".5",
    "5.",
    "-0",
    "1e-5",
    "1e30",
    "-1e30",
    "1e4931",
    "1e-4931",
    "nan",
    "inf",
    "-inf",
    "1e",
    "0.1e1",
    "1.0e+2",
    "00.5",
    "-.25",
    "1e5000",
    "1e-5000",
    "0x10",
    "-0X1.8p-3",
    "0x.fP+4",
    "0x1p",
    "0x",
    "0x123456789abcdef01p-64",
    "0x1p16384",
    "0x1p-17000",
];

/// Patterns, whole and broken.
const PATTERNS: &[&str] =
    &["*", "k*", "k?", "k[0-3]", "k[^1]", "k1", "[", "k\\1", "*1", "k[5-", "x*", ""];

fn value(rng: &mut Rng, kind: &str) -> Bytes {
    if let Some(kind) = kind.strip_prefix('#') {
        return Bytes::from([b"#", &value(rng, kind)[..]].concat());
    }
    let text = match kind {
        "K" => format!("k{}", rng.below(6)),
        "N" => pick(rng, EDGES).to_string(),
        "X" => loop {
            // No expiry that could come while the test runs.
            let edge = pick(rng, EDGES);
            if !edge.parse::<i64>().is_ok_and(|n| (1..100_000).contains(&n)) {
                break edge.to_string();
            }
        },
        "S" => (rng.below(12) as i64 - 4).to_string(),
        "R" => (1000 + rng.below(100_000)).to_string(),
        "B" => match rng.below(12) {
            0 => pick(rng, EDGES).to_string(),
            1 => format!("#{}", rng.below(6)),
            2 => "4294967296".to_string(),
            _ => rng.below(70).to_string(),
        },
        "T" => match rng.below(10) {
            0 => pick(rng, BAD_TYPES).to_string(),
            1 => "i64".to_string(),
            2 => "u63".to_string(),
            n => format!("{}{}", if n % 2 == 0 { "u" } else { "i" }, 1 + rng.below(16)),
        },
        "U" => match rng.below(4) {
            0 => pick(rng, EDGES).to_string(),
            _ => (4_000_000_000 + rng.below(20)).to_string(),
        },
        "M" => match rng.below(4) {
            0 => pick(rng, EDGES).to_string(),
            _ => (4_000_000_000_000 + rng.below(20_000)).to_string(),
        },
        "F" => match rng.below(6) {
            0 => pick(rng, EDGES).to_string(),
            1 => pick(rng, FLOATS).to_string(),
            2 => format!("{}.{}", rng.below(1 << 40), rng.next_u64()),
            3 => format!("{}e{}", rng.next_u64(), rng.below(60) as i64 - 40),
            _ => format!("{}.{:02}", rng.below(200) as i64 - 100, rng.below(100)),
        },
        "P" => pick(rng, PATTERNS).to_string(),
        "V" => match rng.below(8) {
            0 => pick(rng, EDGES).to_string(),
            1 => {
                let mut bytes = vec![0; rng.below(20) as usize];
                rng.fill(&mut bytes);
                return bytes.into();
            }
            2 => (0..rng.below(60)).map(|_| pick(rng, &["a", "b", "c"])).collect(),
            3 => "abc".repeat(rng.below(300) as usize),
            4 => rng.below(1 << 50).to_string(),
            5 => format!("{}.{}", rng.below(1000), rng.below(1000)),
            _ => {
                pick(rng, &["hello", "ohmytext", "mynewtext", "foobar", "\x7f\x00\x01"]).to_string()
            }
        },
        literal => literal.to_string(),
    };
    text.into()
}
