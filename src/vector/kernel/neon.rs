//! The kernels of floats with the 128-bit vectors that every 64-bit ARM processor has. Those of
//! codes are left to the compiler.

#![expect(unsafe_code, reason = "loads vectors from slices whose lengths are checked")]

use super::{Kernels, scalar};
use crate::vector::rows::Rows;
use std::arch::aarch64::*;

static KERNELS: Kernels = Kernels {
    name: "neon",
    // SAFETY, for each of these: the table is handed out only where the processor has the features.
    dot: |a, b| unsafe { dot(a, b) },
    l2: |a, b| unsafe { l2(a, b) },
    dot_rows: |query, rows, slots, out| unsafe { dot_rows(query, rows, slots, out) },
    l2_rows: |query, rows, slots, out| unsafe { l2_rows(query, rows, slots, out) },
    ..scalar::TABLE
};

/// The kernels, if this processor runs them.
pub(super) fn kernels() -> Option<&'static Kernels> {
    std::arch::is_aarch64_feature_detected!("neon").then_some(&KERNELS)
}

/// Adds up `$term` of 4 floats at a time in four sums, and `$one` of those left over.
macro_rules! float_sum {
    ($a:expr, $b:expr, $term:expr, $one:expr) => {{
        let (a, b): (&[f32], &[f32]) = ($a, $b);
        assert_eq!(a.len(), b.len());
        let mut sums = [vdupq_n_f32(0.0); 4];
        let mut at = 0;
        while at + 16 <= a.len() {
            for (part, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 16 floats are left in both.
                let (x, y) = unsafe {
                    let at = at + 4 * part;
                    (vld1q_f32(a.as_ptr().add(at)), vld1q_f32(b.as_ptr().add(at)))
                };
                *sum = $term(x, y, *sum);
            }
            at += 16;
        }
        let rest: f32 = a[at..].iter().zip(&b[at..]).map(|(a, b)| $one(*a, *b)).sum();
        let [a, b, c, d] = sums;
        vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) + rest
    }};
}

#[target_feature(enable = "neon")]
#[inline]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    float_sum!(a, b, |a, b, sum| vfmaq_f32(sum, a, b), |a: f32, b: f32| a * b)
}

#[target_feature(enable = "neon")]
#[inline]
fn l2(a: &[f32], b: &[f32]) -> f32 {
    let term = |a, b, sum| {
        let apart = vsubq_f32(a, b);
        vfmaq_f32(sum, apart, apart)
    };
    float_sum!(a, b, term, |a: f32, b: f32| (a - b) * (a - b))
}

#[target_feature(enable = "neon")]
fn dot_rows(query: &[f32], rows: &Rows<f32>, slots: &[u32], out: &mut [f32]) {
    assert_eq!(slots.len(), out.len());
    for (slot, out) in slots.iter().zip(out) {
        *out = dot(query, &rows.row(*slot)[..query.len()]);
    }
}

#[target_feature(enable = "neon")]
fn l2_rows(query: &[f32], rows: &Rows<f32>, slots: &[u32], out: &mut [f32]) {
    assert_eq!(slots.len(), out.len());
    for (slot, out) in slots.iter().zip(out) {
        *out = l2(query, &rows.row(*slot)[..query.len()]);
    }
}
