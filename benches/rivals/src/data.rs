//! Keys and values, the same for every engine.

pub use arqondb::env::Rng;

/// The numbers 0 to `n` in an order drawn from `seed`.
pub fn shuffled(n: u64, seed: u64) -> Vec<u64> {
    let mut all: Vec<u64> = (0..n).collect();
    let mut rng = Rng::new(seed);
    for i in (1..all.len()).rev() {
        all.swap(i, rng.below(i as u64 + 1) as usize);
    }
    all
}

/// A key of 20 bytes.
pub fn key20(i: u64) -> [u8; 20] {
    digits(*b"key_0000000000000000", i)
}

/// A key of 16 bytes.
pub fn key16(i: u64) -> [u8; 16] {
    digits(*b"0000000000000000", i)
}

/// A key of 16 bytes that is never written and lies between two that are.
pub fn absent16(i: u64) -> [u8; 16] {
    let mut key = digits(*b"0000000000000000", i / 10);
    key.rotate_left(1);
    key[15] = b'a' + (i % 10) as u8;
    key
}

fn digits<const N: usize>(mut out: [u8; N], mut n: u64) -> [u8; N] {
    let mut at = N;
    while n > 0 && at > 0 {
        at -= 1;
        out[at] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    out
}

/// Values cut from a stretch of bytes that LZ4 halves: each hundred bytes are fifty random ones,
/// twice.
pub struct Values(Vec<u8>);

impl Values {
    pub fn new() -> Values {
        let mut rng = Rng::new(42);
        let mut bytes = Vec::with_capacity(1 << 20);
        while bytes.len() < 1 << 20 {
            let half: Vec<u8> = (0..50).map(|_| rng.next_u64() as u8).collect();
            bytes.extend_from_slice(&half);
            bytes.extend_from_slice(&half);
        }
        Values(bytes)
    }

    /// A value of `n` bytes for number `i`.
    pub fn get(&self, i: u64, n: usize) -> &[u8] {
        let room = (self.0.len() - n) / 100;
        let at = (i.wrapping_mul(0x9E37_79B9) % room as u64) as usize * 100;
        &self.0[at..at + n]
    }
}
