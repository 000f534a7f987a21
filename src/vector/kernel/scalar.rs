//! The kernels in plain Rust.

use super::half::to_f32;
use super::{Kernels, SCAN_WIDTH, Scan};
use crate::vector::rows::Rows;

pub(super) static KERNELS: Kernels = TABLE;

/// As a constant, so that other tables may take entries from it.
pub(super) const TABLE: Kernels = Kernels {
    name: "scalar",
    dot,
    l2,
    dot_rows,
    l2_rows,
    dot_f16,
    l2_f16,
    dot_u8,
    dot_u4,
    lookup,
    scan,
};

/// Sums kept apart, so that the compiler may keep them in one vector.
const LANES: usize = 8;

/// The sum of `term` over pairs.
fn sum<B: Copy>(a: &[f32], b: &[B], term: impl Fn(f32, B) -> f32) -> f32 {
    assert_eq!(a.len(), b.len());
    let (a_parts, a_rest) = a.as_chunks::<LANES>();
    let (b_parts, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_parts.iter().zip(b_parts) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum();
    sums.iter().sum::<f32>() + rest
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

fn l2(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| (a - b) * (a - b))
}

fn dot_rows(query: &[f32], rows: &Rows<f32>, slots: &[u32], out: &mut [f32]) {
    assert_eq!(slots.len(), out.len());
    for (slot, out) in slots.iter().zip(out) {
        *out = dot(query, &rows.row(*slot)[..query.len()]);
    }
}

fn l2_rows(query: &[f32], rows: &Rows<f32>, slots: &[u32], out: &mut [f32]) {
    assert_eq!(slots.len(), out.len());
    for (slot, out) in slots.iter().zip(out) {
        *out = l2(query, &rows.row(*slot)[..query.len()]);
    }
}

fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
    sum(a, b, |a, b| a * to_f32(b))
}

fn l2_f16(a: &[f32], b: &[u16]) -> f32 {
    sum(a, b, |a, b| (a - to_f32(b)) * (a - to_f32(b)))
}

fn dot_u8(codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len(), query.len());
    codes.iter().zip(query).map(|(c, q)| i32::from(*c) * i32::from(*q)).sum()
}

fn dot_u4(codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len() * 2, query.len());
    let (first, second) = query.split_at(codes.len());
    let low: i32 = codes.iter().zip(first).map(|(c, q)| i32::from(c & 15) * i32::from(*q)).sum();
    let high: i32 = codes.iter().zip(second).map(|(c, q)| i32::from(c >> 4) * i32::from(*q)).sum();
    low + high
}

fn lookup(table: &[f32], codes: &[u8]) -> f32 {
    assert_eq!(table.len(), codes.len() * 256);
    let entries = table.chunks_exact(256).zip(codes);
    entries.map(|(row, code)| row[usize::from(*code)]).sum()
}

fn scan(scan: &Scan<'_>, out: &mut [f32; SCAN_WIDTH]) -> u32 {
    assert_eq!(scan.tables.len(), scan.codes.len());
    let mut sums = [0u32; SCAN_WIDTH];
    for (table, codes) in scan.tables.chunks_exact(16).zip(scan.codes.chunks_exact(16)) {
        for (j, code) in codes.iter().enumerate() {
            sums[j] += u32::from(table[usize::from(code & 15)]);
            sums[j + 16] += u32::from(table[usize::from(code >> 4)]);
        }
    }
    let mut below = 0;
    for i in 0..SCAN_WIDTH {
        let sum = scan.shift + scan.scale * sums[i] as f32;
        out[i] = scan.mul[i] * sum + (scan.base + scan.add[i]);
        below |= u32::from(out[i] < scan.limit) << i;
    }
    below
}
