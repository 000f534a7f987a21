//! The real data the demo carries: a sample of Debian's package index (bookworm, main, amd64),
//! closed under dependencies, made by `tests/data/make_demo_sample.py`.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `AQPK` |
//! | 4 | 4 | version, little-endian: 1 |
//! | 8 | 4 | length of the text, little-endian |
//! | 12 | 4 | CRC32C of the text, little-endian |
//! | 16 | rest | the text as one LZ4 block |
//!
//! The text is UTF-8, a line a package in order of names, fields parted by TAB: name, version,
//! section, priority, installed size in KiB, names of what it depends on parted by spaces, short
//! description, long description (cut).

use crate::base::{Error, Result};

static SAMPLE: &[u8] = include_bytes!("packages.lz4");
const MAGIC: &[u8] = b"AQPK";
const VERSION: u32 = 1;
const TEXT_BYTES_MAX: usize = 64 << 20;

/// A package of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package<'a> {
    /// Name, unique.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// Section, such as `database`.
    pub section: &'a str,
    /// Priority, such as `optional`.
    pub priority: &'a str,
    /// Size when installed, in KiB.
    pub installed_kib: u64,
    /// Names of the packages it depends on, parted by spaces; all are in the sample.
    pub depends: &'a str,
    /// One line.
    pub short: &'a str,
    /// A paragraph.
    pub long: &'a str,
}

impl Package<'_> {
    /// The key it is stored under.
    pub fn key(&self) -> String {
        format!("package:{}", self.name)
    }

    /// The key that lists it in its section.
    pub fn section_key(&self) -> String {
        format!("section:{}:{}", self.section, self.name)
    }

    /// What is stored: a JSON object.
    pub fn to_json(&self) -> String {
        let depends: Vec<&str> = self.depends.split(' ').filter(|name| !name.is_empty()).collect();
        serde_json::json!({
            "version": self.version,
            "section": self.section,
            "priority": self.priority,
            "installed_kib": self.installed_kib,
            "depends": depends,
            "short": self.short,
            "long": self.long,
        })
        .to_string()
    }
}

/// The text of the sample, unpacked and checked.
///
/// # Errors
/// `Corruption` if the program's own copy is damaged.
pub fn unpack() -> Result<String> {
    unpack_from(SAMPLE)
}

fn unpack_from(bytes: &[u8]) -> Result<String> {
    let damaged = |offset: u64, expected: &str, found: String| {
        Error::corruption("the demo's sample", offset, expected, found)
    };
    let Some((head, block)) = bytes.split_at_checked(16) else {
        return Err(damaged(0, "16 bytes", format!("{}", bytes.len())));
    };
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if !head.starts_with(MAGIC) || number(4) != VERSION {
        return Err(damaged(0, "AQPK, version 1", format!("{:?}", &head[..8])));
    }
    let len = number(8) as usize;
    if len > TEXT_BYTES_MAX {
        return Err(damaged(8, "at most 64 MiB", format!("{len} bytes")));
    }
    let text = lz4_flex::block::decompress(block, len)
        .map_err(|e| damaged(16, "an LZ4 block", e.to_string()))?;
    if text.len() != len {
        return Err(damaged(8, &format!("{len} bytes of text"), format!("{}", text.len())));
    }
    let sum = crc32c::crc32c(&text);
    if sum != number(12) {
        return Err(damaged(12, &format!("checksum {:#x}", number(12)), format!("{sum:#x}")));
    }
    String::from_utf8(text).map_err(|e| damaged(16, "UTF-8", e.to_string()))
}

/// The packages in a text.
///
/// # Errors
/// `Corruption` if a line is no package.
pub fn parse(text: &str) -> Result<Vec<Package<'_>>> {
    text.lines()
        .enumerate()
        .map(|(n, line)| {
            parse_line(line).ok_or_else(|| {
                let found = line.chars().take(40).collect::<String>();
                Error::corruption("the demo's sample", n as u64, "8 fields a line", found)
            })
        })
        .collect()
}

fn parse_line(line: &str) -> Option<Package<'_>> {
    let mut fields = line.split('\t');
    let package = Package {
        name: fields.next()?,
        version: fields.next()?,
        section: fields.next()?,
        priority: fields.next()?,
        installed_kib: fields.next()?.parse().ok()?,
        depends: fields.next()?,
        short: fields.next()?,
        long: fields.next()?,
    };
    fields.next().is_none().then_some(package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_sample_is_whole_and_closed_under_dependencies() {
        let text = unpack().unwrap();
        let packages = parse(&text).unwrap();
        assert!(packages.len() > 4_000, "{}", packages.len());
        assert!(packages.windows(2).all(|pair| pair[0].name < pair[1].name));
        let names: BTreeSet<&str> = packages.iter().map(|package| package.name).collect();
        let mut dependencies = 0;
        for package in &packages {
            for name in package.depends.split(' ').filter(|name| !name.is_empty()) {
                assert!(names.contains(name), "{} depends on {name}", package.name);
                dependencies += 1;
            }
        }
        assert!(dependencies > 20_000, "{dependencies}");
        assert!(SAMPLE.len() < 2_500_000, "{}", SAMPLE.len());
    }

    #[test]
    fn a_damaged_sample_is_refused_wherever_it_is_damaged() {
        assert!(unpack_from(&SAMPLE[..10]).is_err());
        for at in [0, 4, 9, 12, 16, 5_000, SAMPLE.len() - 1] {
            let mut bytes = SAMPLE.to_vec();
            bytes[at] ^= 0x55;
            assert!(unpack_from(&bytes).is_err(), "byte {at}");
        }
        assert!(unpack_from(&SAMPLE[..SAMPLE.len() - 5]).is_err());
    }
}
