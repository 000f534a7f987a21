//! Vectors to test with: real ones from the repository, and clusters from a seed.

use arqondb::env::Rng;
use std::path::Path;

/// Floats of a real embedding.
pub(crate) const REAL_DIM: usize = 384;
const REAL_BASE: usize = 1500;

/// Vectors, one behind the other, and queries.
pub(crate) struct Set {
    pub(crate) dim: usize,
    pub(crate) base: Vec<f32>,
    pub(crate) queries: Vec<f32>,
}

impl Set {
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.base.chunks_exact(self.dim)
    }

    pub(crate) fn queries(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.queries.chunks_exact(self.dim)
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        (0..self.rows().len() as u64).collect()
    }
}

fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        _ => sign * (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

pub(crate) fn read_halves(path: &Path) -> Option<Vec<f32>> {
    let bytes = std::fs::read(path).ok()?;
    Some(bytes.chunks_exact(2).map(|b| half(u16::from_le_bytes([b[0], b[1]]))).collect())
}

/// 1,500 embeddings of package descriptions and 100 questions about packages.
pub(crate) fn real() -> Set {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors384.f16");
    let mut base = read_halves(&path).expect("the sample is part of the repository");
    let queries = base.split_off(REAL_BASE * REAL_DIM);
    assert_eq!(queries.len(), 100 * REAL_DIM);
    Set { dim: REAL_DIM, base, queries }
}

/// Clusters on a few directions of their own, as embeddings have them: `rows` vectors and 50
/// queries.
pub(crate) fn clustered(seed: u64, dim: usize, rows: usize) -> Set {
    let mut rng = Rng::new(seed);
    let clusters: Vec<Vec<f32>> = (0..rows.div_ceil(40)).map(|_| normals(&mut rng, dim)).collect();
    let axes: Vec<Vec<f32>> = (0..8).map(|_| normals(&mut rng, dim)).collect();
    let mut draw = |count: usize| {
        let mut out = Vec::with_capacity(count * dim);
        for _ in 0..count {
            let center = &clusters[rng.below(clusters.len() as u64) as usize];
            let weights = normals(&mut rng, axes.len());
            for at in 0..dim {
                let along: f32 = axes.iter().zip(&weights).map(|(axis, w)| axis[at] * w).sum();
                out.push(center[at] + 0.3 * along + 0.2 * normal(&mut rng));
            }
        }
        out
    };
    let base = draw(rows);
    Set { dim, base, queries: draw(50) }
}

/// About normally distributed.
fn normal(rng: &mut Rng) -> f32 {
    let sum: f32 = (0..6).map(|_| rng.below(1 << 20) as f32 / (1 << 20) as f32).sum();
    (sum - 3.0) * std::f32::consts::SQRT_2
}

pub(crate) fn normals(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| normal(rng)).collect()
}
