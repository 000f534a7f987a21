//! LZF, the compression inside serialized strings.
//!
//! ```text
//! 000LLLLL  then L+1 bytes as they are
//! LLLooooo oooooooo           copy L+2 bytes from o+1 back        (L 1..6)
//! 111ooooo LLLLLLLL oooooooo  copy L+9 bytes from o+1 back
//! ```

/// What `input` stands for, if that is `len` bytes exactly. A copy may overlap what it writes.
/// `len` must be one the caller is ready to allocate.
pub(super) fn decompress(input: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(len);
    let mut rest = input;
    while let Some((&control, after)) = rest.split_first() {
        rest = after;
        if control < 32 {
            let literal = rest.get(..usize::from(control) + 1)?;
            rest = &rest[literal.len()..];
            if len - out.len() < literal.len() {
                return None;
            }
            out.extend_from_slice(literal);
            continue;
        }
        let mut count = usize::from(control >> 5) + 2;
        if control >> 5 == 7 {
            let (&more, after) = rest.split_first()?;
            rest = after;
            count += usize::from(more);
        }
        let (&low, after) = rest.split_first()?;
        rest = after;
        let back = (usize::from(control & 31) << 8 | usize::from(low)) + 1;
        let from = out.len().checked_sub(back)?;
        if len - out.len() < count {
            return None;
        }
        for at in from..from + count {
            out.push(out[at]);
        }
    }
    (out.len() == len).then_some(out)
}

/// The most bytes that one byte of input can stand for, rounded up: 264 for 3.
pub(super) const RATIO_MAX: usize = 88;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_copies() {
        assert_eq!(decompress(&[2, b'a', b'b', b'c'], 3), Some(b"abc".to_vec()));
        // One byte, then a long copy of it over itself.
        assert_eq!(decompress(&[0, b'a', 0xe0, 10, 0], 20), Some(vec![b'a'; 20]));
        assert_eq!(decompress(&[1, b'a', b'b', 0x20, 1], 5), Some(b"ababa".to_vec()));
        for (input, len) in [
            (&[2, b'a'][..], 3),
            (&[0, b'a', 0x20, 1], 4),
            (&[0, b'a', 0x20], 4),
            (&[0, b'a', 0xe0], 4),
            (&[0, b'a'], 2),
            (&[1, b'a', b'b'], 1),
            (&[0, b'a', 0x20, 0], 2),
        ] {
            assert_eq!(decompress(input, len), None, "{input:?}");
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = crate::env::Rng::new(3);
        for _ in 0..20_000 {
            let mut input = vec![0; rng.below(30) as usize];
            rng.fill(&mut input);
            let len = rng.below(300) as usize;
            if let Some(out) = decompress(&input, len) {
                assert!(out.len() == len && len <= input.len() * RATIO_MAX);
            }
        }
    }
}
