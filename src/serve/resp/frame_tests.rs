//! The decoder against every split, and against bytes that are no request.

use super::*;
use crate::env::Rng;

const FREE: Limits = Limits { bulk_bytes_max: 512 * 1024 * 1024, stranger: false };
const STRANGER: Limits = Limits { bulk_bytes_max: 512 * 1024 * 1024, stranger: true };

type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Feeds `pieces` one after the other, taking all commands after each.
fn feed(pieces: &[&[u8]], limits: &Limits) -> Outcome {
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
    let mut commands = VecDeque::new();
    let mut error = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let before = commands.len();
            error = decoder.decode(&mut buffer, limits, 3, &mut commands).err();
            if error.is_some() || commands.len() == before {
                break;
            }
        }
        if error.is_some() {
            break;
        }
    }
    let owned = |c: &Command| c.iter().map(|a| a.to_vec()).collect();
    (commands.iter().map(owned).collect(), error)
}

#[test]
fn every_split_gives_the_same_commands() {
    let whole: &[u8] =
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv\r\nwx\r\nPING \"a b\"\r\n\r\n*-1\r\n*0\r\n\
        *2\r\n$3\r\nGET\r\n$0\r\n\r\nget k\n*1\r\n$4\r\nQUIT\r\n*4\r\n$1\r\na\r\n$1\r\nb\r\n";
    let want = feed(&[whole], &FREE);
    assert_eq!(want.1, None);
    assert_eq!(want.0.len(), 5);
    assert_eq!(want.0[0], [&b"SET"[..], b"k", b"v\r\nwx"]);
    for first in 0..=whole.len() {
        let (a, rest) = whole.split_at(first);
        assert_eq!(feed(&[a, rest], &FREE), want, "split at {first}");
        for second in 0..=rest.len().min(24) {
            let (b, c) = rest.split_at(second);
            assert_eq!(feed(&[a, b, c], &FREE), want, "split at {first}, {second}");
        }
    }
    let bytes: Vec<&[u8]> = whole.chunks(1).collect();
    assert_eq!(feed(&bytes, &FREE), want);
}

#[test]
fn what_is_no_request_gives_the_error_of_redis() {
    let cases: &[(&[u8], &Limits, &str)] = &[
        (b"*3000000000\r\n", &FREE, "invalid multibulk length"),
        (b"*1048577\r\n", &FREE, "invalid multibulk length"),
        (b"*abc\r\n", &FREE, "invalid multibulk length"),
        (b"*01\r\n", &FREE, "invalid multibulk length"),
        (b"*11\r\n", &STRANGER, "unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", &STRANGER, "unauthenticated bulk length"),
        (b"*1\r\nfoo\r\n", &FREE, "expected '$', got 'f'"),
        (b"*1\r\n$-10\r\n", &FREE, "invalid bulk length"),
        (b"*1\r\n$2000000000\r\n", &FREE, "invalid bulk length"),
        (b"*1\r\n$blabla\r\n", &FREE, "invalid bulk length"),
        (b"set \"\"\"test-key\"\"\" test-value\r\n", &FREE, "unbalanced quotes in request"),
    ];
    for (bytes, limits, want) in cases {
        let (_, error) = feed(&[bytes], limits);
        let text = error.map(|e| e.to_string());
        assert_eq!(text, Some(format!("Protocol error: {want}")), "{}", bytes.escape_ascii());
    }
    let long = vec![b'A'; LINE_BYTES_MAX + 1];
    for (start, want) in [
        (&b"\0"[..], ProtocolError::TooBigInline),
        (b"*\0", ProtocolError::TooBigCountString),
        (b"*1\r\n$", ProtocolError::TooBigBulkCountString),
    ] {
        assert_eq!(feed(&[start, &long], &FREE).1, Some(want));
    }
}

#[test]
fn commands_before_an_error_are_kept() {
    let (commands, error) = feed(&[b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\nx\r\n"], &FREE);
    assert_eq!(commands.len(), 2);
    assert_eq!(error, Some(ProtocolError::ExpectedDollar(b'x')));
}

#[test]
fn a_declared_length_reserves_nothing() {
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
    let mut commands = VecDeque::new();
    buffer.extend_from_slice(b"*1048576\r\n$536870912\r\nabc");
    assert!(decoder.decode(&mut buffer, &FREE, 16, &mut commands).is_ok());
    assert!(commands.is_empty());
    assert!(decoder.ranges.capacity() < 64);
    assert!(buffer.capacity() < 4096);
}

#[test]
fn mutated_bytes_never_panic_and_hold_no_more_than_came() {
    const ROUNDS: u64 = 3000;
    let seeds: [&[u8]; 3] = [
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv\r\nwx\r\n*1\r\n$4\r\nPING\r\n",
        b"SET \"a\\x41\" 'b'\r\nPING\r\n\r\n",
        b"*2\r\n$4\r\nECHO\r\n$12\r\nhello world!\r\n*-1\r\n",
    ];
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let mut bytes = seeds[rng.below(3) as usize].repeat(1 + rng.below(3) as usize);
        for _ in 0..rng.below(6) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(3) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"*$\r\n0-9\"' "[rng.below(10) as usize]),
            }
        }
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let whole = feed(&[&bytes], &FREE);
        let split = feed(&[&bytes[..at], &bytes[at..]], &FREE);
        assert_eq!(whole, split, "seed {seed}, split at {at}");
        let held: usize = whole.0.iter().flatten().map(Vec::len).sum();
        assert!(held <= bytes.len(), "seed {seed}");
    }
}

#[test]
fn integers_are_read_strictly() {
    assert_eq!(integer(b"0"), Some(0));
    assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
    assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
    for wrong in ["", "-", "-0", "01", "+1", " 1", "1 ", "9223372036854775808", "1a"] {
        assert_eq!(integer(wrong.as_bytes()), None, "{wrong}");
    }
}
