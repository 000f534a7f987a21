//! The kernels with 256-bit vectors.

#![expect(unsafe_code, reason = "loads vectors from slices whose lengths are checked")]

use super::half::to_f32;
use super::{Kernels, ROWS_AHEAD, SCAN_WIDTH, Scan};
use crate::vector::rows::Rows;
use std::arch::x86_64::*;

static KERNELS: Kernels = Kernels {
    name: "avx2",
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
    let has = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("popcnt");
    has.then_some(&KERNELS)
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_up_floats(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn add_up_integers(v: __m256i) -> i32 {
    let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b1110>(v));
    _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<1>(v)))
}

/// Adds up `$term` of 8 floats at a time in four sums, and `$one` of those left over.
macro_rules! float_sum {
    ($len:expr, $load_a:expr, $load_b:expr, $term:expr, $one:expr) => {{
        let (len, load_a, load_b, term) = ($len, $load_a, $load_b, $term);
        let mut sums = [_mm256_setzero_ps(); 4];
        let mut at = 0;
        while at + 32 <= len {
            for (part, sum) in sums.iter_mut().enumerate() {
                let at = at + 8 * part;
                *sum = term(load_a(at), load_b(at), *sum);
            }
            at += 32;
        }
        while at + 8 <= len {
            sums[0] = term(load_a(at), load_b(at), sums[0]);
            at += 8;
        }
        let mut rest = 0.0;
        while at < len {
            rest += $one(at);
            at += 1;
        }
        let [a, b, c, d] = sums;
        add_up_floats(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d))) + rest
    }};
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: 8 floats are loaded only from where as many are left in both.
    let (load_a, load_b) = (
        |at: usize| unsafe { _mm256_loadu_ps(x.add(at)) },
        |at: usize| unsafe { _mm256_loadu_ps(y.add(at)) },
    );
    let one = |at: usize| a[at] * b[at];
    float_sum!(a.len(), load_a, load_b, |a, b, sum| _mm256_fmadd_ps(a, b, sum), one)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn l2(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: 8 floats are loaded only from where as many are left in both.
    let (load_a, load_b) = (
        |at: usize| unsafe { _mm256_loadu_ps(x.add(at)) },
        |at: usize| unsafe { _mm256_loadu_ps(y.add(at)) },
    );
    let one = |at: usize| (a[at] - b[at]) * (a[at] - b[at]);
    let term = |a, b, sum| {
        let apart = _mm256_sub_ps(a, b);
        _mm256_fmadd_ps(apart, apart, sum)
    };
    float_sum!(a.len(), load_a, load_b, term, one)
}

macro_rules! rows_kernel {
    ($name:ident, $of_one:ident) => {
        #[target_feature(enable = "avx2,fma")]
        fn $name(query: &[f32], rows: &Rows<f32>, slots: &[u32], out: &mut [f32]) {
            assert_eq!(slots.len(), out.len());
            for (i, slot) in slots.iter().enumerate() {
                if let Some(later) = slots.get(i + ROWS_AHEAD) {
                    prefetch(rows.at(*later), query.len());
                }
                out[i] = $of_one(query, &rows.row(*slot)[..query.len()]);
            }
        }
    };
}

rows_kernel!(dot_rows, dot);
rows_kernel!(l2_rows, l2);

/// Asks for the whole of a row.
#[inline(always)]
fn prefetch(row: *const f32, len: usize) {
    for line in 0..len.div_ceil(16) {
        // SAFETY: a hint: nothing is read, and no address makes it fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(line * 16).cast()) }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: 8 floats are loaded only from where as many are left in both.
    let (load_a, load_b) = (
        |at: usize| unsafe { _mm256_loadu_ps(x.add(at)) },
        |at: usize| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(y.add(at).cast())) },
    );
    let one = |at: usize| a[at] * to_f32(b[at]);
    float_sum!(a.len(), load_a, load_b, |a, b, sum| _mm256_fmadd_ps(a, b, sum), one)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn l2_f16(a: &[f32], b: &[u16]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: 8 floats are loaded only from where as many are left in both.
    let (load_a, load_b) = (
        |at: usize| unsafe { _mm256_loadu_ps(x.add(at)) },
        |at: usize| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(y.add(at).cast())) },
    );
    let one = |at: usize| (a[at] - to_f32(b[at])) * (a[at] - to_f32(b[at]));
    let term = |a, b, sum| {
        let apart = _mm256_sub_ps(a, b);
        _mm256_fmadd_ps(apart, apart, sum)
    };
    float_sum!(a.len(), load_a, load_b, term, one)
}

/// The products of 16 codes and 16 numbers, added in pairs. Through 16 bits, since adding pairs of
/// products of bytes would saturate.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply(codes: __m128i, query: __m128i) -> __m256i {
    _mm256_madd_epi16(_mm256_cvtepu8_epi16(codes), _mm256_cvtepi8_epi16(query))
}

#[target_feature(enable = "avx2")]
fn dot_u8(codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len(), query.len());
    let mut sum = _mm256_setzero_si256();
    let mut at = 0;
    while at + 16 <= codes.len() {
        // SAFETY: 16 bytes are left in both.
        let (c, q) = unsafe {
            let c = _mm_loadu_si128(codes.as_ptr().add(at).cast());
            (c, _mm_loadu_si128(query.as_ptr().add(at).cast()))
        };
        sum = _mm256_add_epi32(sum, multiply(c, q));
        at += 16;
    }
    let rest = codes[at..].iter().zip(&query[at..]);
    add_up_integers(sum) + rest.map(|(c, q)| i32::from(*c) * i32::from(*q)).sum::<i32>()
}

#[target_feature(enable = "avx2")]
fn dot_u4(codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len() * 2, query.len());
    let (first, second) = query.split_at(codes.len());
    let low_half = _mm_set1_epi8(15);
    let mut sum = _mm256_setzero_si256();
    let mut at = 0;
    while at + 16 <= codes.len() {
        // SAFETY: 16 bytes are left in the codes and in both halves of the query.
        let (c, q, r) = unsafe {
            let c = _mm_loadu_si128(codes.as_ptr().add(at).cast());
            let q = _mm_loadu_si128(first.as_ptr().add(at).cast());
            (c, q, _mm_loadu_si128(second.as_ptr().add(at).cast()))
        };
        let high = _mm_and_si128(_mm_srli_epi16::<4>(c), low_half);
        sum = _mm256_add_epi32(sum, multiply(_mm_and_si128(c, low_half), q));
        sum = _mm256_add_epi32(sum, multiply(high, r));
        at += 16;
    }
    let mut rest = 0;
    for at in at..codes.len() {
        rest += i32::from(codes[at] & 15) * i32::from(first[at]);
        rest += i32::from(codes[at] >> 4) * i32::from(second[at]);
    }
    add_up_integers(sum) + rest
}

#[target_feature(enable = "avx2")]
fn lookup(table: &[f32], codes: &[u8]) -> f32 {
    assert_eq!(table.len(), codes.len() * 256);
    let lanes = _mm256_set_epi32(1792, 1536, 1280, 1024, 768, 512, 256, 0);
    let mut sum = _mm256_setzero_ps();
    let mut at = 0;
    while at + 8 <= codes.len() {
        // SAFETY: 8 codes are left; each picks one of 256 entries of its own row of the table,
        // which has one row for each code.
        let entries = unsafe {
            let codes = _mm_loadl_epi64(codes.as_ptr().add(at).cast());
            let index = _mm256_add_epi32(_mm256_cvtepu8_epi32(codes), lanes);
            _mm256_i32gather_ps::<4>(table.as_ptr().add(at * 256), index)
        };
        sum = _mm256_add_ps(sum, entries);
        at += 8;
    }
    let rest = table[at * 256..].chunks_exact(256).zip(&codes[at..]);
    add_up_floats(sum) + rest.map(|(row, code)| row[usize::from(*code)]).sum::<f32>()
}

#[target_feature(enable = "avx2,fma")]
fn scan_block(scan: &Scan<'_>, out: &mut [f32; SCAN_WIDTH]) -> u32 {
    assert!(scan.tables.len() == scan.codes.len() && scan.codes.len().is_multiple_of(16));
    let low_half = _mm256_set1_epi8(15);
    let low_byte = _mm256_set1_epi16(255);
    // Of neighbours 0 to 15 and 16 to 31, those in even and in odd bytes.
    let [mut even, mut odd, mut even_high, mut odd_high] = [_mm256_setzero_si256(); 4];
    let mut at = 0;
    while at < scan.codes.len() {
        // SAFETY: 32 bytes are left in both, or 16 at the end.
        let (codes, table) = unsafe {
            let (codes, table) = (scan.codes.as_ptr().add(at), scan.tables.as_ptr().add(at));
            if at + 32 <= scan.codes.len() {
                (_mm256_loadu_si256(codes.cast()), _mm256_loadu_si256(table.cast()))
            } else {
                let codes = _mm256_zextsi128_si256(_mm_loadu_si128(codes.cast()));
                (codes, _mm256_zextsi128_si256(_mm_loadu_si128(table.cast())))
            }
        };
        let low = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low_half));
        let codes = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_half);
        let high = _mm256_shuffle_epi8(table, codes);
        even = _mm256_add_epi16(even, _mm256_and_si256(low, low_byte));
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(low));
        even_high = _mm256_add_epi16(even_high, _mm256_and_si256(high, low_byte));
        odd_high = _mm256_add_epi16(odd_high, _mm256_srli_epi16::<8>(high));
        at += 32;
    }
    let base = _mm256_set1_ps(scan.base);
    let (shift, scale) = (_mm256_set1_ps(scan.shift), _mm256_set1_ps(scan.scale));
    let limit = _mm256_set1_ps(scan.limit);
    let mut below = 0;
    for (half, (even, odd)) in [(even, odd), (even_high, odd_high)].into_iter().enumerate() {
        let halves = |v| _mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let (even, odd) = (halves(even), halves(odd));
        let quarters = [_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd)];
        for (quarter, sums) in quarters.into_iter().enumerate() {
            let from = 16 * half + 8 * quarter;
            let sums = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums));
            let sums = _mm256_fmadd_ps(scale, sums, shift);
            // SAFETY: 8 floats of each array of 32, from its last quarter at most.
            unsafe {
                let add = _mm256_loadu_ps(scan.add.as_ptr().add(from));
                let mul = _mm256_loadu_ps(scan.mul.as_ptr().add(from));
                let estimates = _mm256_fmadd_ps(mul, sums, _mm256_add_ps(base, add));
                _mm256_storeu_ps(out.as_mut_ptr().add(from), estimates);
                let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(estimates, limit));
                below |= (mask as u32) << from;
            }
        }
    }
    below
}
