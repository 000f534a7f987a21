//! The kernels with the 128-bit vectors that every 64-bit ARM processor has.

#![expect(unsafe_code, reason = "loads vectors from slices whose lengths are checked")]

use super::half::to_f32;
use super::{Kernels, SCAN_WIDTH, Scan};
use crate::vector::rows::Rows;
use std::arch::aarch64::*;
use std::arch::asm;

static KERNELS: Kernels = Kernels {
    name: "neon",
    // SAFETY, for each of these: the table is handed out only where the processor has the features.
    dot: |a, b| unsafe { dot(a, b) },
    l2: |a, b| unsafe { l2(a, b) },
    dot_rows: |query, rows, slots, out| unsafe { dot_rows(query, rows, slots, out) },
    l2_rows: |query, rows, slots, out| unsafe { l2_rows(query, rows, slots, out) },
    dot_f16: |a, b| unsafe { dot_f16(a, b) },
    l2_f16: |a, b| unsafe { l2_f16(a, b) },
    dot_u8: |codes, query| unsafe { dot_u8(codes, query) },
    dot_u4: |codes, query| unsafe { dot_u4(codes, query) },
    lookup: |table, codes| unsafe { lookup(table, codes) },
    scan: |scan, out| unsafe { scan_block(scan, out) },
};

/// The kernels, if this processor runs them.
pub(super) fn kernels() -> Option<&'static Kernels> {
    std::arch::is_aarch64_feature_detected!("neon").then_some(&KERNELS)
}

/// Adds up `$term` of 4 floats at a time in four sums, and `$one` of those left over.
macro_rules! float_sum {
    ($len:expr, $load_a:expr, $load_b:expr, $term:expr, $one:expr) => {{
        let (len, load_a, load_b, term) = ($len, $load_a, $load_b, $term);
        let mut sums = [vdupq_n_f32(0.0); 4];
        let mut at = 0;
        while at + 16 <= len {
            for (part, sum) in sums.iter_mut().enumerate() {
                let at = at + 4 * part;
                *sum = term(load_a(at), load_b(at), *sum);
            }
            at += 16;
        }
        while at + 4 <= len {
            sums[0] = term(load_a(at), load_b(at), sums[0]);
            at += 4;
        }
        let mut rest = 0.0;
        while at < len {
            rest += $one(at);
            at += 1;
        }
        let [a, b, c, d] = sums;
        vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) + rest
    }};
}

#[target_feature(enable = "neon")]
#[inline]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: 4 floats are loaded only from where as many are left in both.
    let (load_a, load_b) =
        (|at: usize| unsafe { vld1q_f32(x.add(at)) }, |at: usize| unsafe { vld1q_f32(y.add(at)) });
    let one = |at: usize| a[at] * b[at];
    float_sum!(a.len(), load_a, load_b, |a, b, sum| vfmaq_f32(sum, a, b), one)
}

#[target_feature(enable = "neon")]
#[inline]
fn l2(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: 4 floats are loaded only from where as many are left in both.
    let (load_a, load_b) =
        (|at: usize| unsafe { vld1q_f32(x.add(at)) }, |at: usize| unsafe { vld1q_f32(y.add(at)) });
    let one = |at: usize| (a[at] - b[at]) * (a[at] - b[at]);
    let term = |a, b, sum| {
        let apart = vsubq_f32(a, b);
        vfmaq_f32(sum, apart, apart)
    };
    float_sum!(a.len(), load_a, load_b, term, one)
}

macro_rules! rows_kernel {
    ($name:ident, $of_one:ident) => {
        #[target_feature(enable = "neon")]
        fn $name(query: &[f32], rows: &Rows<f32>, slots: &[u32], out: &mut [f32]) {
            assert_eq!(slots.len(), out.len());
            for (slot, out) in slots.iter().zip(out) {
                *out = $of_one(query, &rows.row(*slot)[..query.len()]);
            }
        }
    };
}

rows_kernel!(dot_rows, dot);
rows_kernel!(l2_rows, l2);

/// Four 16-bit floats as floats. By its instruction: the type that the intrinsic takes is not stable.
#[target_feature(enable = "neon")]
#[inline]
fn widened(halves: uint16x4_t) -> float32x4_t {
    let floats: float32x4_t;
    // SAFETY: it reads and writes these two registers, and nothing else.
    unsafe {
        asm!(
            "fcvtl {floats:v}.4s, {halves:v}.4h",
            floats = lateout(vreg) floats,
            halves = in(vreg) halves,
            options(pure, nomem, nostack)
        );
    }
    floats
}

#[target_feature(enable = "neon")]
fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: 4 floats are loaded only from where as many are left in both.
    let (load_a, load_b) = (
        |at: usize| unsafe { vld1q_f32(x.add(at)) },
        |at: usize| unsafe { widened(vld1_u16(y.add(at))) },
    );
    let one = |at: usize| a[at] * to_f32(b[at]);
    float_sum!(a.len(), load_a, load_b, |a, b, sum| vfmaq_f32(sum, a, b), one)
}

#[target_feature(enable = "neon")]
fn l2_f16(a: &[f32], b: &[u16]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: 4 floats are loaded only from where as many are left in both.
    let (load_a, load_b) = (
        |at: usize| unsafe { vld1q_f32(x.add(at)) },
        |at: usize| unsafe { widened(vld1_u16(y.add(at))) },
    );
    let one = |at: usize| (a[at] - to_f32(b[at])) * (a[at] - to_f32(b[at]));
    let term = |a, b, sum| {
        let apart = vsubq_f32(a, b);
        vfmaq_f32(sum, apart, apart)
    };
    float_sum!(a.len(), load_a, load_b, term, one)
}

/// Adds the products of 16 codes and 16 numbers to two sums of four.
#[target_feature(enable = "neon")]
#[inline]
fn multiply(codes: uint8x16_t, query: int8x16_t, sums: [int32x4_t; 2]) -> [int32x4_t; 2] {
    // A code is less than 2^8, and a number of 16 bits with its sign.
    let low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes)));
    let high = vreinterpretq_s16_u16(vmovl_high_u8(codes));
    let (of_low, of_high) = (vmovl_s8(vget_low_s8(query)), vmovl_high_s8(query));
    let [mut one, mut other] = sums;
    one = vmlal_s16(one, vget_low_s16(low), vget_low_s16(of_low));
    other = vmlal_high_s16(other, low, of_low);
    one = vmlal_s16(one, vget_low_s16(high), vget_low_s16(of_high));
    [one, vmlal_high_s16(other, high, of_high)]
}

#[target_feature(enable = "neon")]
fn dot_u8(codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len(), query.len());
    let mut sums = [vdupq_n_s32(0); 2];
    let mut at = 0;
    while at + 16 <= codes.len() {
        // SAFETY: 16 bytes are left in both.
        let (c, q) =
            unsafe { (vld1q_u8(codes.as_ptr().add(at)), vld1q_s8(query.as_ptr().add(at))) };
        sums = multiply(c, q, sums);
        at += 16;
    }
    let rest = codes[at..].iter().zip(&query[at..]);
    let rest: i32 = rest.map(|(c, q)| i32::from(*c) * i32::from(*q)).sum();
    vaddvq_s32(vaddq_s32(sums[0], sums[1])) + rest
}

#[target_feature(enable = "neon")]
fn dot_u4(codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len() * 2, query.len());
    let (first, second) = query.split_at(codes.len());
    let low_half = vdupq_n_u8(15);
    let mut sums = [vdupq_n_s32(0); 2];
    let mut at = 0;
    while at + 16 <= codes.len() {
        // SAFETY: 16 bytes are left in the codes and in both halves of the query.
        let (c, q, r) = unsafe {
            let c = vld1q_u8(codes.as_ptr().add(at));
            (c, vld1q_s8(first.as_ptr().add(at)), vld1q_s8(second.as_ptr().add(at)))
        };
        sums = multiply(vandq_u8(c, low_half), q, sums);
        sums = multiply(vshrq_n_u8::<4>(c), r, sums);
        at += 16;
    }
    let mut rest = 0;
    for at in at..codes.len() {
        rest += i32::from(codes[at] & 15) * i32::from(first[at]);
        rest += i32::from(codes[at] >> 4) * i32::from(second[at]);
    }
    vaddvq_s32(vaddq_s32(sums[0], sums[1])) + rest
}

/// There is no instruction that gathers: four sums let the loads of as many rows overlap.
#[target_feature(enable = "neon")]
fn lookup(table: &[f32], codes: &[u8]) -> f32 {
    assert_eq!(table.len(), codes.len() * 256);
    let (rows, rest) = table.as_chunks::<1024>();
    let (of_rows, of_rest) = codes.as_chunks::<4>();
    let mut sums = [0.0f32; 4];
    for (row, codes) in rows.iter().zip(of_rows) {
        for (lane, code) in codes.iter().enumerate() {
            sums[lane] += row[256 * lane + usize::from(*code)];
        }
    }
    let rest = rest.chunks_exact(256).zip(of_rest);
    let rest: f32 = rest.map(|(row, code)| row[usize::from(*code)]).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

#[target_feature(enable = "neon")]
fn scan_block(scan: &Scan<'_>, out: &mut [f32; SCAN_WIDTH]) -> u32 {
    assert!(scan.tables.len() == scan.codes.len() && scan.codes.len().is_multiple_of(16));
    let low_half = vdupq_n_u8(15);
    // Of eight neighbours each.
    let mut sums = [vdupq_n_u16(0); 4];
    for at in (0..scan.codes.len()).step_by(16) {
        // SAFETY: 16 bytes are left in both.
        let (codes, table) = unsafe {
            (vld1q_u8(scan.codes.as_ptr().add(at)), vld1q_u8(scan.tables.as_ptr().add(at)))
        };
        let low = vqtbl1q_u8(table, vandq_u8(codes, low_half));
        let high = vqtbl1q_u8(table, vshrq_n_u8::<4>(codes));
        sums[0] = vaddw_u8(sums[0], vget_low_u8(low));
        sums[1] = vaddw_high_u8(sums[1], low);
        sums[2] = vaddw_u8(sums[2], vget_low_u8(high));
        sums[3] = vaddw_high_u8(sums[3], high);
    }
    let base = vdupq_n_f32(scan.base);
    let (shift, scale) = (vdupq_n_f32(scan.shift), vdupq_n_f32(scan.scale));
    let limit = vdupq_n_f32(scan.limit);
    // SAFETY: of four numbers.
    let bits = unsafe { vld1q_u32([1, 2, 4, 8].as_ptr()) };
    let mut below = 0;
    for (eighth, sums) in sums.into_iter().enumerate() {
        let halves = [vmovl_u16(vget_low_u16(sums)), vmovl_high_u16(sums)];
        for (half, sums) in halves.into_iter().enumerate() {
            let from = 8 * eighth + 4 * half;
            let sums = vfmaq_f32(shift, scale, vcvtq_f32_u32(sums));
            // SAFETY: 4 floats of each array of 32, from its last eighth at most.
            let estimates = unsafe {
                let add = vld1q_f32(scan.add.as_ptr().add(from));
                let mul = vld1q_f32(scan.mul.as_ptr().add(from));
                let estimates = vfmaq_f32(vaddq_f32(base, add), mul, sums);
                vst1q_f32(out.as_mut_ptr().add(from), estimates);
                estimates
            };
            below |= vaddvq_u32(vandq_u32(vcltq_f32(estimates, limit), bits)) << from;
        }
    }
    below
}
