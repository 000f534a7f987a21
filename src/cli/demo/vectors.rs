//! The embeddings that the demo carries: of 1,000 packages of its sample, and of 20 questions, made by
//! `tests/data/make_demo_vectors.py`.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `AQPV` |
//! | 4 | 4 | version, little-endian as all that follows: 1 |
//! | 8 | 4 | CRC32C of all behind it |
//! | 12 | 4 | numbers in a vector |
//! | 16 | 4 | packages |
//! | 20 | 4 | questions |
//! | 24 | 4 | length of the text |
//! | 28 | .. | the text: UTF-8, a line a package in order of names, then a line a question |
//! | .. | .. | for each of them a vector: a scale (32-bit float), and its numbers, a signed byte each, to be multiplied by that |

use crate::base::{Error, Result};
use crate::op::vector::Floats;

static SAMPLE: &[u8] = include_bytes!("vectors.bin");
const MAGIC: &[u8] = b"AQPV";
const VERSION: u32 = 1;

/// A text and its embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded<'a> {
    /// A package's name, or a question.
    pub text: &'a str,
    /// What a model made of it.
    pub vector: Floats,
}

/// Packages and questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings<'a> {
    /// Numbers in a vector.
    pub dim: u32,
    /// Packages by name.
    pub packages: Vec<Embedded<'a>>,
    /// What somebody may look for.
    pub questions: Vec<Embedded<'a>>,
}

/// The embeddings of the program, checked.
///
/// # Errors
/// `Corruption` if the program's own copy is damaged.
pub fn unpack() -> Result<Embeddings<'static>> {
    unpack_from(SAMPLE)
}

fn unpack_from(bytes: &[u8]) -> Result<Embeddings<'_>> {
    let damaged = |offset: usize, expected: &str, found: String| {
        Error::corruption("the demo's embeddings", offset as u64, expected, found)
    };
    let Some((head, text)) = bytes.split_at_checked(28) else {
        return Err(damaged(0, "28 bytes", bytes.len().to_string()));
    };
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if !head.starts_with(MAGIC) || number(4) != VERSION {
        return Err(damaged(0, "AQPV, version 1", format!("{:?}", &head[..8])));
    }
    let sum = crc32c::crc32c(&bytes[12..]);
    if sum != number(8) {
        return Err(damaged(8, &format!("checksum {:#x}", number(8)), format!("{sum:#x}")));
    }
    let [dim, packages, questions, text_len] = [12, 16, 20, 24].map(|at| number(at) as usize);
    let rows_len = (packages as u128 + questions as u128) * (4 + dim as u128);
    if dim == 0 || text.len() as u128 != text_len as u128 + rows_len {
        let found = format!("{} bytes of text and vectors", text.len());
        return Err(damaged(12, &format!("{text_len} and {rows_len}"), found));
    }
    let (text, rows) = text.split_at(text_len);
    let text = std::str::from_utf8(text).map_err(|e| damaged(28, "UTF-8", e.to_string()))?;
    let all: Vec<Embedded<'_>> = text
        .lines()
        .zip(rows.chunks_exact(4 + dim))
        .map(|(text, row)| Embedded { text, vector: vector(row) })
        .collect();
    if all.len() != packages + questions {
        let expected = format!("{} lines", packages + questions);
        return Err(damaged(28, &expected, all.len().to_string()));
    }
    let (packages, questions) = all.split_at(packages);
    Ok(Embeddings { dim: dim as u32, packages: packages.to_vec(), questions: questions.to_vec() })
}

fn vector(row: &[u8]) -> Floats {
    let (scale, steps) = row.split_at(4);
    let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
    let numbers: Vec<f32> = steps.iter().map(|step| f32::from(*step as i8) * scale).collect();
    Floats::of(&numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::packages;
    use std::collections::BTreeSet;

    #[test]
    fn every_embedding_is_of_a_package_of_the_sample_and_of_unit_length() {
        let text = packages::unpack().unwrap();
        let sample = packages::parse(&text).unwrap();
        let names: BTreeSet<&str> = sample.iter().map(|package| package.name).collect();
        let all = unpack().unwrap();
        assert_eq!((all.dim, all.packages.len(), all.questions.len()), (384, 1_000, 20));
        assert!(all.packages.windows(2).all(|pair| pair[0].text < pair[1].text));
        assert!(all.packages.iter().all(|package| names.contains(package.text)));
        assert!(all.packages.iter().any(|package| package.text == "vim"));
        for one in all.packages.iter().chain(&all.questions) {
            let length: f32 = one.vector.to_vec().iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 0.01, "{}: {length}", one.text);
        }
        assert!(SAMPLE.len() < 450_000);
    }

    #[test]
    fn damaged_embeddings_are_refused_wherever_they_are_damaged() {
        assert!(unpack_from(&SAMPLE[..20]).is_err());
        for at in [0, 4, 9, 13, 17, 21, 25, 30, 20_000, SAMPLE.len() - 1] {
            let mut bytes = SAMPLE.to_vec();
            bytes[at] ^= 0x55;
            assert!(unpack_from(&bytes).is_err(), "byte {at}");
        }
        assert!(unpack_from(&SAMPLE[..SAMPLE.len() - 5]).is_err());
        // Well summed, but of lengths that cannot be.
        let mut bytes = SAMPLE.to_vec();
        bytes[12..28].fill(0xff);
        let sum = crc32c::crc32c(&bytes[12..]).to_le_bytes();
        bytes[8..12].copy_from_slice(&sum);
        assert!(unpack_from(&bytes).is_err());
    }
}
