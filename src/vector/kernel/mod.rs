//! The loops in which a search spends its time, once for each set of instructions.
//!
//! In reading order:
//! - [`half`]: floats of 16 bits.
//! - [`scalar`]: every kernel in plain Rust: what the others are held equal to, and what runs where
//!   nothing better does.
//! - `avx512`, `avx2`, `neon`: the same with vector instructions.
//!
//! Integer kernels give the same numbers everywhere. Those on floats add in another order, so two
//! machines may differ in the last bits; one machine gives the same bits each time, whether rows
//! are asked for one by one or many at once.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(super) mod half;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use super::rows::Rows;
use std::sync::OnceLock;

/// Codes that [`Kernels::scan`] reads at once.
pub(super) const SCAN_WIDTH: usize = 32;

/// How many rows ahead of the one that is read the memory is asked for.
#[cfg(target_arch = "x86_64")]
const ROWS_AHEAD: usize = 3;

/// Sums over a query and many rows: `out[i]` is that of the row `slots[i]`. Rows are at least as
/// long as the query.
pub(super) type RowsKernel<T> = fn(&[f32], &Rows<T>, &[u32], &mut [f32]);

/// One implementation of each kernel. All of them take slices of equal length, or panic.
#[derive(Debug)]
pub(super) struct Kernels {
    /// The instructions it is made of.
    pub(super) name: &'static str,
    /// The inner product.
    pub(super) dot: fn(&[f32], &[f32]) -> f32,
    /// The squared distance.
    pub(super) l2: fn(&[f32], &[f32]) -> f32,
    /// As `dot`, with rows.
    pub(super) dot_rows: RowsKernel<f32>,
    /// As `l2`, with rows.
    pub(super) l2_rows: RowsKernel<f32>,
    /// As `dot`, with 16-bit floats on one side.
    pub(super) dot_f16: fn(&[f32], &[u16]) -> f32,
    /// As `l2`, with 16-bit floats on one side.
    pub(super) l2_f16: fn(&[f32], &[u16]) -> f32,
    /// The inner product of unsigned codes and a signed query, of at most 2^16 numbers.
    pub(super) dot_u8: fn(&[u8], &[i8]) -> i32,
    /// As `dot_u8` with two codes of 4 bits in a byte: the low halves belong to the first half of
    /// the query, the high ones to the second.
    pub(super) dot_u4: fn(&[u8], &[i8]) -> i32,
    /// The sum of one entry from each row of 256: `table[256 * i + codes[i]]`.
    pub(super) lookup: fn(&[f32], &[u8]) -> f32,
    /// Estimates for 32 neighbours at once; see [`Scan`].
    pub(super) scan: fn(&Scan<'_>, &mut [f32; SCAN_WIDTH]) -> u32,
}

/// What [`Kernels::scan`] computes from. For each neighbour it adds up one byte from each table of
/// 16 that its code of 4 bits picks, and estimates
/// `base + add[i] + mul[i] * (shift + scale * sum)`. The answer has a bit set for each neighbour
/// whose estimate is below `limit`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    /// Tables of 16 bytes; all sums stay below 2^16.
    pub(super) tables: &'a [u8],
    /// For each table 16 bytes: byte `j` has the code of neighbour `j` in its low half, that of
    /// neighbour `j + 16` in its high half.
    pub(super) codes: &'a [u8],
    /// The constant part of each neighbour's estimate.
    pub(super) add: &'a [f32; SCAN_WIDTH],
    /// The factor of each neighbour's sum.
    pub(super) mul: &'a [f32; SCAN_WIDTH],
    /// What all estimates have in common.
    pub(super) base: f32,
    /// What a sum of 0 stands for.
    pub(super) shift: f32,
    /// What each 1 of a sum stands for.
    pub(super) scale: f32,
    /// Estimates at or above are of no interest.
    pub(super) limit: f32,
}

/// The fastest kernels this processor runs; it is asked once.
pub(super) fn kernels() -> &'static Kernels {
    static BEST: OnceLock<&Kernels> = OnceLock::new();
    BEST.get_or_init(|| all()[0])
}

/// Every implementation that this processor runs, the fastest first.
fn all() -> Vec<&'static Kernels> {
    let mut found: Vec<&'static Kernels> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        found.extend(avx512::kernels());
        found.extend(avx2::kernels());
    }
    #[cfg(target_arch = "aarch64")]
    found.extend(neon::kernels());
    found.push(&scalar::KERNELS);
    found
}
