//! The kernels with 512-bit vectors. A processor that has them without VNNI runs the
//! 256-bit kernels.

#![expect(unsafe_code, reason = "loads vectors from slices whose lengths are checked")]

use super::{Kernels, ROWS_AHEAD, SCAN_WIDTH, Scan};
use crate::vector::rows::Rows;
use std::arch::x86_64::*;

static KERNELS: Kernels = Kernels {
    name: "avx512",
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
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    has.then_some(&KERNELS)
}

/// The first `n` of 16 lanes.
fn first16(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

/// The first `n` of 64 lanes.
fn first64(n: usize) -> __mmask64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// Adds up `$term` of 16 floats at a time, in four sums.
macro_rules! float_sum {
    ($len:expr, $load_a:expr, $load_b:expr, $term:expr) => {{
        let (len, load_a, load_b, term) = ($len, $load_a, $load_b, $term);
        let mut sums = [_mm512_setzero_ps(); 4];
        let mut at = 0;
        while at + 64 <= len {
            for (part, sum) in sums.iter_mut().enumerate() {
                let at = at + 16 * part;
                *sum = term(load_a(at, !0), load_b(at, !0), *sum);
            }
            at += 64;
        }
        let mut part = 0;
        while at < len {
            let mask = first16(len - at);
            sums[part] = term(load_a(at, mask), load_b(at, mask), sums[part]);
            part += 1;
            at += 16;
        }
        let [a, b, c, d] = sums;
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
    }};
}

/// REQUIRES: `a` and `b` point to `len` floats.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn dot_at(a: *const f32, b: *const f32, len: usize) -> f32 {
    // SAFETY: lanes that are loaded lie below `len`.
    let load = |p: *const f32| {
        move |at: usize, mask| unsafe { _mm512_maskz_loadu_ps(mask, p.wrapping_add(at)) }
    };
    float_sum!(len, load(a), load(b), |a, b, sum| _mm512_fmadd_ps(a, b, sum))
}

/// REQUIRES: `a` and `b` point to `len` floats.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn l2_at(a: *const f32, b: *const f32, len: usize) -> f32 {
    // SAFETY: lanes that are loaded lie below `len`.
    let load = |p: *const f32| {
        move |at: usize, mask| unsafe { _mm512_maskz_loadu_ps(mask, p.wrapping_add(at)) }
    };
    float_sum!(len, load(a), load(b), |a, b, sum| {
        let apart = _mm512_sub_ps(a, b);
        _mm512_fmadd_ps(apart, apart, sum)
    })
}

#[target_feature(enable = "avx512f")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: both are as long as the first.
    unsafe { dot_at(a.as_ptr(), b.as_ptr(), a.len()) }
}

#[target_feature(enable = "avx512f")]
fn l2(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // SAFETY: both are as long as the first.
    unsafe { l2_at(a.as_ptr(), b.as_ptr(), a.len()) }
}

macro_rules! rows_kernel {
    ($name:ident, $of_one:ident) => {
        #[target_feature(enable = "avx512f")]
        fn $name(query: &[f32], rows: &Rows<f32>, slots: &[u32], out: &mut [f32]) {
            assert!(slots.len() == out.len() && query.len() <= rows.stride());
            for slot in slots.iter().take(ROWS_AHEAD) {
                prefetch(rows.at(*slot), query.len());
            }
            for (i, slot) in slots.iter().enumerate() {
                if let Some(later) = slots.get(i + ROWS_AHEAD) {
                    prefetch(rows.at(*later), query.len());
                }
                // SAFETY: a row is `stride` long, and that is no less than the query.
                out[i] = unsafe { $of_one(query.as_ptr(), rows.at(*slot), query.len()) };
            }
        }
    };
}

rows_kernel!(dot_rows, dot_at);
rows_kernel!(l2_rows, l2_at);

/// Asks for the whole of a row.
#[inline(always)]
fn prefetch(row: *const f32, len: usize) {
    for line in 0..len.div_ceil(16) {
        // SAFETY: a hint: nothing is read, and no address makes it fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(line * 16).cast()) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: lanes that are loaded lie below the common length.
    let load_a = |at: usize, mask| unsafe { _mm512_maskz_loadu_ps(mask, x.wrapping_add(at)) };
    let load_b = |at: usize, mask| unsafe {
        _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, y.wrapping_add(at).cast()))
    };
    float_sum!(a.len(), load_a, load_b, |a, b, sum| _mm512_fmadd_ps(a, b, sum))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn l2_f16(a: &[f32], b: &[u16]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (x, y) = (a.as_ptr(), b.as_ptr());
    // SAFETY: lanes that are loaded lie below the common length.
    let load_a = |at: usize, mask| unsafe { _mm512_maskz_loadu_ps(mask, x.wrapping_add(at)) };
    let load_b = |at: usize, mask| unsafe {
        _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, y.wrapping_add(at).cast()))
    };
    float_sum!(a.len(), load_a, load_b, |a, b, sum| {
        let apart = _mm512_sub_ps(a, b);
        _mm512_fmadd_ps(apart, apart, sum)
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_u8(codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len(), query.len());
    let mut sums = [_mm512_setzero_si512(); 2];
    for at in (0..codes.len()).step_by(64) {
        let mask = first64(codes.len() - at);
        // SAFETY: lanes that are loaded lie within both slices.
        let (c, q) = unsafe {
            let c = _mm512_maskz_loadu_epi8(mask, codes.as_ptr().add(at).cast());
            (c, _mm512_maskz_loadu_epi8(mask, query.as_ptr().add(at)))
        };
        let sum = &mut sums[at / 64 % 2];
        *sum = _mm512_dpbusd_epi32(*sum, c, q);
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_u4(codes: &[u8], query: &[i8]) -> i32 {
    assert_eq!(codes.len() * 2, query.len());
    let (first, second) = query.split_at(codes.len());
    let low_half = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_si512(); 2];
    for at in (0..codes.len()).step_by(64) {
        let mask = first64(codes.len() - at);
        // SAFETY: lanes that are loaded lie within the codes and both halves of the query.
        let (c, q, r) = unsafe {
            let c = _mm512_maskz_loadu_epi8(mask, codes.as_ptr().add(at).cast());
            let q = _mm512_maskz_loadu_epi8(mask, first.as_ptr().add(at));
            (c, q, _mm512_maskz_loadu_epi8(mask, second.as_ptr().add(at)))
        };
        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(c), low_half);
        sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_and_si512(c, low_half), q);
        sums[1] = _mm512_dpbusd_epi32(sums[1], high, r);
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn lookup(table: &[f32], codes: &[u8]) -> f32 {
    assert_eq!(table.len(), codes.len() * 256);
    let mut sums = [_mm512_setzero_ps(); 2];
    let lanes = _mm512_set_epi32(
        3840, 3584, 3328, 3072, 2816, 2560, 2304, 2048, 1792, 1536, 1280, 1024, 768, 512, 256, 0,
    );
    for at in (0..codes.len()).step_by(16) {
        let mask = first16(codes.len() - at);
        // SAFETY: codes that are loaded lie within the slice; each picks one of 256 entries of
        // its own row of the table, which has one row for each code.
        let entries = unsafe {
            let codes = _mm_maskz_loadu_epi8(mask, codes.as_ptr().add(at).cast());
            let index = _mm512_add_epi32(_mm512_cvtepu8_epi32(codes), lanes);
            let table = table.as_ptr().add(at * 256);
            _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask, index, table)
        };
        let sum = &mut sums[at / 16 % 2];
        *sum = _mm512_add_ps(*sum, entries);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn scan_block(scan: &Scan<'_>, out: &mut [f32; SCAN_WIDTH]) -> u32 {
    assert!(scan.tables.len() == scan.codes.len() && scan.codes.len().is_multiple_of(16));
    let low_half = _mm512_set1_epi8(15);
    let low_byte = _mm512_set1_epi16(255);
    // Of neighbours 0 to 15 and 16 to 31, those in even and in odd bytes.
    let [mut even, mut odd, mut even_high, mut odd_high] = [_mm512_setzero_si512(); 4];
    for at in (0..scan.codes.len()).step_by(64) {
        let mask = first64(scan.codes.len() - at);
        // SAFETY: lanes that are loaded lie within both slices.
        let (codes, table) = unsafe {
            let codes = _mm512_maskz_loadu_epi8(mask, scan.codes.as_ptr().add(at).cast());
            (codes, _mm512_maskz_loadu_epi8(mask, scan.tables.as_ptr().add(at).cast()))
        };
        let low = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low_half));
        let codes = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_half);
        let high = _mm512_shuffle_epi8(table, codes);
        even = _mm512_add_epi16(even, _mm512_and_si512(low, low_byte));
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16::<8>(low));
        even_high = _mm512_add_epi16(even_high, _mm512_and_si512(high, low_byte));
        odd_high = _mm512_add_epi16(odd_high, _mm512_srli_epi16::<8>(high));
    }
    let low = in_order(even, odd);
    let high = in_order(even_high, odd_high);
    let base = _mm512_set1_ps(scan.base);
    let (shift, scale) = (_mm512_set1_ps(scan.shift), _mm512_set1_ps(scan.scale));
    let limit = _mm512_set1_ps(scan.limit);
    let mut below = 0;
    for (half, sums) in [low, high].into_iter().enumerate() {
        let sums = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));
        let sums = _mm512_fmadd_ps(scale, sums, shift);
        // SAFETY: 16 floats of each array of 32, from its middle at most.
        unsafe {
            let add = _mm512_loadu_ps(scan.add.as_ptr().add(16 * half));
            let mul = _mm512_loadu_ps(scan.mul.as_ptr().add(16 * half));
            let estimates = _mm512_fmadd_ps(mul, sums, _mm512_add_ps(base, add));
            _mm512_storeu_ps(out.as_mut_ptr().add(16 * half), estimates);
            let mask = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(estimates, limit);
            below |= u32::from(mask) << (16 * half);
        }
    }
    below
}

/// The sums of 16 neighbours in their order, from those in even and in odd bytes, added up over
/// the four quarters.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
#[inline]
fn in_order(even: __m512i, odd: __m512i) -> __m256i {
    let quarters = |v: __m512i| {
        let halves = _mm256_add_epi16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
        _mm_add_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
    };
    let (even, odd) = (quarters(even), quarters(odd));
    let (low, high) = (_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd));
    _mm256_set_m128i(high, low)
}
