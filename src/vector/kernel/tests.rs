//! Every set of kernels against sums in double precision or in whole numbers, at every length.

use super::half::{from_f32, to_f32};
use super::*;
use crate::env::Rng;

/// Past four rounds of the widest vectors.
const LEN_MAX: usize = if cfg!(miri) { 70 } else { 300 };

/// Floats of all sizes: some large, some so small that they are not normal, zeros of both signs.
fn floats(rng: &mut Rng, len: usize) -> Vec<f32> {
    let one = |rng: &mut Rng| {
        let unit = rng.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0;
        match rng.below(12) {
            0 => 0.0,
            1 => -0.0,
            2 => unit * 1e15,
            3 => unit * f32::MIN_POSITIVE,
            4 => unit * 1e-20,
            _ => unit,
        }
    };
    (0..len).map(|_| one(rng)).collect()
}

/// Whether a sum of floats is as near as the order of adding may leave it.
fn assert_near(got: f32, terms: impl Iterator<Item = f64> + Clone, what: &str) {
    let exact: f64 = terms.clone().sum();
    let size: f64 = terms.clone().map(f64::abs).sum();
    let slack = size * f64::from(f32::EPSILON) * (terms.count() as f64 + 4.0) + 1e-37;
    assert!((f64::from(got) - exact).abs() <= slack, "{what}: {got} is not {exact}");
}

#[test]
fn sums_of_floats_are_those_of_double_precision() {
    let mut rng = Rng::new(1);
    for len in 0..=LEN_MAX {
        let (a, b) = (floats(&mut rng, len), floats(&mut rng, len));
        let half: Vec<u16> = b.iter().map(|b| from_f32(b.clamp(-60_000.0, 60_000.0))).collect();
        let pairs = a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let halves = a.iter().zip(&half).map(|(a, b)| (f64::from(*a), f64::from(to_f32(*b))));
        for k in all() {
            let what = format!("{} at {len}", k.name);
            assert_near((k.dot)(&a, &b), pairs.clone().map(|(a, b)| a * b), &what);
            assert_near((k.l2)(&a, &b), pairs.clone().map(|(a, b)| (a - b) * (a - b)), &what);
            assert_near((k.dot_f16)(&a, &half), halves.clone().map(|(a, b)| a * b), &what);
            let squares = halves.clone().map(|(a, b)| (a - b) * (a - b));
            assert_near((k.l2_f16)(&a, &half), squares, &what);
        }
    }
}

#[test]
fn rows_give_the_bits_that_pairs_give() {
    let mut rng = Rng::new(2);
    for len in (1..=LEN_MAX).step_by(7) {
        let mut rows = Rows::new(Rows::<f32>::aligned_stride(len));
        let kept: Vec<Vec<f32>> = (0..9).map(|_| floats(&mut rng, len)).collect();
        for row in &kept {
            rows.push(row);
        }
        let query = floats(&mut rng, len);
        let slots: Vec<u32> = (0..20).map(|_| rng.below(9) as u32).collect();
        for k in all() {
            for (one, many) in [(k.dot, k.dot_rows), (k.l2, k.l2_rows)] {
                let mut out = vec![0.0; slots.len()];
                many(&query, &rows, &slots, &mut out);
                for (slot, out) in slots.iter().zip(out) {
                    let expected = one(&query, &kept[*slot as usize]);
                    assert_eq!(out.to_bits(), expected.to_bits(), "{} at {len}", k.name);
                }
            }
        }
    }
}

/// Bytes, often the extremes.
fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    let extremes = [0, 255, 127, 128, 15, 240];
    let one = |rng: &mut Rng| match rng.below(3) {
        0 => extremes[rng.below(6) as usize],
        _ => rng.next_u64() as u8,
    };
    (0..len).map(|_| one(rng)).collect()
}

#[test]
fn sums_of_codes_are_exact() {
    let mut rng = Rng::new(3);
    for len in 0..=LEN_MAX {
        let mut codes = bytes(&mut rng, len);
        let mut query: Vec<i8> = bytes(&mut rng, 2 * len).iter().map(|b| *b as i8).collect();
        if len % 5 == 0 {
            codes.fill(255);
            query.fill(i8::MIN);
        }
        let wide: i32 = codes.iter().zip(&query).map(|(c, q)| i32::from(*c) * i32::from(*q)).sum();
        let low = codes.iter().map(|c| c & 15).chain(codes.iter().map(|c| c >> 4));
        let narrow: i32 = low.zip(&query).map(|(c, q)| i32::from(c) * i32::from(*q)).sum();
        for k in all() {
            assert_eq!((k.dot_u8)(&codes, &query[..len]), wide, "{} at {len}", k.name);
            assert_eq!((k.dot_u4)(&codes, &query), narrow, "{} at {len}", k.name);
        }
    }
}

#[test]
fn tables_are_looked_up_where_the_codes_say() {
    let mut rng = Rng::new(4);
    for len in 0..=LEN_MAX.min(100) {
        let table = floats(&mut rng, len * 256);
        let codes = bytes(&mut rng, len);
        let entries = codes.iter().enumerate().map(|(i, c)| table[256 * i + usize::from(*c)]);
        for k in all() {
            let what = format!("{} at {len}", k.name);
            assert_near((k.lookup)(&table, &codes), entries.clone().map(f64::from), &what);
        }
    }
}

#[test]
fn a_scan_estimates_each_of_32_neighbours() {
    let mut rng = Rng::new(5);
    for groups in 0..=LEN_MAX.min(256) {
        let (tables, codes) = (bytes(&mut rng, groups * 16), bytes(&mut rng, groups * 16));
        let mut add = [0.0; SCAN_WIDTH];
        let mut mul = [0.0; SCAN_WIDTH];
        for i in 0..SCAN_WIDTH {
            add[i] = rng.below(1000) as f32;
            mul[i] = -(rng.below(64) as f32) / 64.0;
        }
        let (tables, codes, add, mul) = (&tables[..], &codes[..], &add, &mul);
        let (base, shift, scale, limit) = (3.0, 17.0, 0.5, 100.0);
        let scan = Scan { tables, codes, add, mul, base, shift, scale, limit };
        for k in all() {
            let mut out = [0.0; SCAN_WIDTH];
            let below = (k.scan)(&scan, &mut out);
            for i in 0..SCAN_WIDTH {
                let nibble = |g: usize| codes[16 * g + i % 16] >> (4 * (i / 16)) & 15;
                let sum: u32 =
                    (0..groups).map(|g| u32::from(tables[16 * g + usize::from(nibble(g))])).sum();
                // All of it is exact in a float: 17 bits times 6, and a small constant.
                let expected = add[i] + 3.0 + mul[i] * (17.0 + 0.5 * sum as f32);
                assert_eq!(out[i], expected, "{} with {groups}, {i}", k.name);
                assert_eq!(below >> i & 1 == 1, expected < 100.0);
            }
        }
    }
}
