//! What is done to which keys. All of it follows from the seed.

use crate::env::Rng;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Writes every key once, in scattered order
    Fill,
    /// Reads keys at random
    Read,
    /// Reads and writes keys at random
    Mixed,
    /// Reads runs of keys in order
    Scan,
}

impl Workload {
    /// The name as the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Fill => "fill",
            Workload::Read => "read",
            Workload::Mixed => "mixed",
            Workload::Scan => "scan",
        }
    }
}

/// One operation on the key of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Writes it.
    Put(u64),
    /// Reads it.
    Get(u64),
    /// Reads so many keys from it on.
    Scan(u64, u32),
}

/// The keys and values of a run.
#[derive(Debug, Clone)]
pub struct Data {
    /// How many keys there are; at least 1.
    pub keys: u64,
    /// Bytes of a key; longer if its number needs it.
    pub key_bytes: usize,
    /// What keys begin with.
    pub prefix: String,
    /// Share of reads in [`Workload::Mixed`], 0 to 100.
    pub read_percent: u32,
    /// Keys that a scan reads.
    pub scan_keys: u32,
    value_bytes: usize,
    noise: Vec<u8>,
    stride: u64,
}

impl Data {
    /// `keys` keys (at least 1) beginning with `prefix`, and values of `value_bytes` that do not
    /// compress.
    pub fn new(keys: u64, prefix: &str, key_bytes: usize, value_bytes: usize, seed: u64) -> Data {
        let keys = keys.max(1);
        let mut noise = vec![0; value_bytes + 64 * 1024];
        Rng::new(seed).fill(&mut noise);
        Data {
            keys,
            key_bytes,
            prefix: prefix.to_string(),
            read_percent: 50,
            scan_keys: 100,
            value_bytes,
            noise,
            stride: stride(keys),
        }
    }

    /// Writes the key of a number to `out`: the prefix, then the number with zeros before it.
    pub fn key(&self, number: u64, out: &mut Vec<u8>) {
        out.clear();
        let width = self.key_bytes.saturating_sub(self.prefix.len());
        // Writing to a vector cannot fail.
        _ = std::io::Write::write_fmt(out, format_args!("{}{number:0width$}", self.prefix));
    }

    /// A value that differs from key to key and from time to time.
    pub fn value(&self, rng: &mut Rng) -> &[u8] {
        let start = rng.below((self.noise.len() - self.value_bytes) as u64) as usize;
        &self.noise[start..start + self.value_bytes]
    }

    /// The operation number `index` of a stage.
    pub fn op(&self, workload: Workload, index: u64, rng: &mut Rng) -> Op {
        let any = rng.below(self.keys);
        match workload {
            Workload::Fill => Op::Put(self.scattered(index)),
            Workload::Read => Op::Get(any),
            Workload::Mixed if rng.below(100) < u64::from(self.read_percent) => Op::Get(any),
            Workload::Mixed => Op::Put(any),
            Workload::Scan => Op::Scan(any, self.scan_keys),
        }
    }

    /// Visits every number below `keys` once while `index` counts up to it, far apart.
    fn scattered(&self, index: u64) -> u64 {
        let product = u128::from(index % self.keys) * u128::from(self.stride);
        (product % u128::from(self.keys)) as u64
    }
}

/// A step that shares no factor with `n`, near its golden section.
fn stride(n: u64) -> u64 {
    let mut step = ((n as f64 * 0.618_033_988_75) as u64).max(1);
    while gcd(step, n) != 1 {
        step += 1;
    }
    step
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_writes_every_key_once() {
        for keys in [1, 2, 3, 10, 1000, 1024, 9973] {
            let data = Data::new(keys, "", 16, 8, 1);
            let mut rng = Rng::new(1);
            let mut seen: Vec<u64> = (0..keys)
                .map(|i| match data.op(Workload::Fill, i, &mut rng) {
                    Op::Put(n) => n,
                    other => panic!("{other:?}"),
                })
                .collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..keys), "{keys}");
        }
    }

    #[test]
    fn keys_have_their_length_and_order() {
        let data = Data::new(1000, "bench:", 20, 8, 1);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        data.key(99, &mut a);
        data.key(100, &mut b);
        assert_eq!((a.len(), b.len()), (20, 20));
        assert!(a < b);
        assert_eq!(data.value(&mut Rng::new(2)).len(), 8);
    }
}
