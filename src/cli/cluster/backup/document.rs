//! What a backup is made of, as its file tells it.
//!
//! ```text
//! {"arqondb_backup":1,"crc32c":"0a1b2c3d","backup":
//! { ... the backup ... }
//! }
//! ```
//! One JSON document. The checksum is that of the bytes between the first line and the last.

use crate::base::checksum::crc32c_append;
use crate::base::{Error, ErrorKind, Result};
use crate::op::route::SLOTS;
use crate::rpc::cluster::copy_call::is_plain;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of the format that this program writes, and the newest that it reads.
pub const VERSION: u64 = 1;
/// What stands behind the backup.
const TAIL: &[u8] = b"\n}\n";
/// The longest document: a million files take about a hundred bytes each.
pub const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// The longest name of a backup.
const NAME_BYTES_MAX: usize = 100;

/// A backup: a cluster's catalog, as far as another cluster can use it, and copies of its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Its name, unique in its folder.
    pub name: String,
    /// When it was begun, in milliseconds since 1970.
    pub made_ms: u64,
    /// The version of the program that made it.
    pub software: String,
    /// The cluster.
    pub cluster: ClusterFact,
    /// Its column families.
    pub families: Vec<FamilyFact>,
    /// Its indexes.
    pub indexes: Vec<IndexFact>,
    /// Its users, with what their passwords are checked against.
    pub users: Vec<UserFact>,
    /// Its shards, by their slots.
    pub shards: Vec<ShardFact>,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFact {
    /// Its identity, 32 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version its members spoke.
    pub version: u32,
}

/// A column family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyFact {
    /// Its id in the tables of the backup.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexFact {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its configuration, hexadecimal.
    pub config: String,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserFact {
    /// The name.
    pub name: String,
    /// `admin` or `user`.
    pub role: String,
    /// What a password is checked against, hexadecimal.
    pub verifier: String,
    /// Whether the user is locked out.
    pub disabled: bool,
}

/// A shard: everything up to one entry of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardFact {
    /// Its id in the cluster that was backed up.
    pub shard: u64,
    /// Its first slot.
    pub first: u16,
    /// Its last slot.
    pub last: u16,
    /// How many replicas it had.
    pub replicas: u32,
    /// The node that made the copy.
    pub node: u64,
    /// The entry up to which the copy has everything.
    pub index: u64,
    /// The greatest sequence number in it.
    pub seq: u64,
    /// The files of an engine's folder.
    pub files: Vec<FileFact>,
}

/// A file of a shard's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFact {
    /// Its name in the shard's folder.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// XXH3 of all of them, 128 bits, 32 hexadecimal digits.
    pub sum: String,
}

impl FileFact {
    /// The name under which a backup's folder keeps the content: that of equal content is equal.
    pub fn content(&self) -> String {
        format!("{}-{}", self.sum, self.size)
    }
}

impl Document {
    /// All files of all shards.
    pub fn files(&self) -> impl Iterator<Item = &FileFact> {
        self.shards.iter().flat_map(|shard| &shard.files)
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// `InvalidArgument` if it is more than a file holds.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let internal = |e: serde_json::Error| Error::new(ErrorKind::Internal, e.to_string());
        let body = serde_json::to_vec(self).map_err(internal)?;
        let sum = crc32c_append(0, &body);
        let head = format!("{{\"arqondb_backup\":{VERSION},\"crc32c\":\"{sum:08x}\",\"backup\":\n");
        let bytes = [head.as_bytes(), &body, TAIL].concat();
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(Error::invalid("the backup has more files than its list can hold"));
        }
        Ok(bytes)
    }

    /// The backup of the bytes of a file at `path`.
    ///
    /// # Errors
    /// `Corruption` if they are none; `Unsupported` if they are of a newer version.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Document> {
        let damaged = |at: usize, expected: &str, found: &str| {
            Error::corruption(path, at as u64, expected, found)
        };
        let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
        let head = std::str::from_utf8(&bytes[..end]).unwrap_or("");
        let head = head.strip_prefix("{\"arqondb_backup\":");
        let head = head.and_then(|head| head.split_once(','));
        let Some((version, rest)) = head else {
            return Err(damaged(0, "the first line of a backup", "something else"));
        };
        match version.parse() {
            Ok(VERSION) => {}
            Ok(newer @ 2..) => {
                let message = format!(
                    "{} is a backup of version {newer}, and this program reads versions up to \
                     {VERSION}: use a newer one",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            _ => return Err(damaged(0, "the version of a backup", version)),
        }
        let body = bytes.get(end + 1..).and_then(|rest| rest.strip_suffix(TAIL));
        let Some(body) = body else {
            return Err(damaged(bytes.len(), "the end of a backup", "the end of the file"));
        };
        let sum = format!("\"crc32c\":\"{:08x}\",\"backup\":", crc32c_append(0, body));
        if rest != sum {
            return Err(damaged(end + 1, rest, &sum));
        }
        let document: Document = serde_json::from_slice(body)
            .map_err(|e| damaged(end + 1, "a backup", &e.to_string()))?;
        document.check().map_err(|what| damaged(end + 1, "a backup that is whole", &what))?;
        Ok(document)
    }

    /// Says what is wrong with it.
    fn check(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(format!("the name {:?}", self.name));
        }
        if unhex(&self.cluster.id).is_none_or(|id| id.len() != 16) {
            return Err(format!("the cluster {:?}", self.cluster.id));
        }
        let mut next = 0;
        for shard in &self.shards {
            if shard.first != next || shard.last < shard.first || shard.last >= SLOTS {
                return Err(format!("a shard with slots from {} where {next} is due", shard.first));
            }
            next = shard.last + 1;
        }
        if next != SLOTS {
            return Err(format!("no shard with slot {next}"));
        }
        for file in self.files() {
            let is_sum = file.sum.len() == 32 && unhex(&file.sum).is_some();
            if !is_plain(&file.name) || !is_sum {
                return Err(format!("a file {:?} with the sum {:?}", file.name, file.sum));
            }
        }
        Ok(())
    }
}

/// Whether a backup may be called that.
pub fn is_name(name: &str) -> bool {
    is_plain(name) && name.len() <= NAME_BYTES_MAX && !name.starts_with('-')
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of lower-case hexadecimal digits.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

/// A time in milliseconds since 1970 as `20261126T093000Z`, in UTC.
pub fn stamp(ms: u64) -> String {
    let (days, seconds) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Years begin in March, so that a leap day is the last of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400 + u64::from(month >= 10), (month + 2) % 12 + 1);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let file = |name: &str| FileFact { name: name.into(), size: 12, sum: "0f".repeat(16) };
        let shard = |shard, first, last| ShardFact {
            shard,
            first,
            last,
            replicas: 3,
            node: 1,
            index: 9,
            seq: 10,
            files: vec![file("000001.sst"), file("CURRENT")],
        };
        Document {
            name: "monday".into(),
            made_ms: 1_700_000_000_000,
            software: "0.1.0".into(),
            cluster: ClusterFact { id: "07".repeat(16), name: "prod".into(), version: 1 },
            families: vec![FamilyFact { id: 1, name: "logs".into() }],
            indexes: Vec::new(),
            users: Vec::new(),
            shards: vec![shard(1, 0, 99), shard(2, 100, SLOTS - 1)],
        }
    }

    #[test]
    fn a_document_is_valid_json_and_reads_back_and_any_damage_is_found() {
        let path = Path::new("/backup");
        let document = document();
        let bytes = document.encode().unwrap();
        let golden = "{\"arqondb_backup\":1,\"crc32c\":\"";
        assert!(bytes.starts_with(golden.as_bytes()));
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["backup"]["shards"][1]["files"][0]["name"], "000001.sst");
        assert_eq!(Document::decode(path, &bytes).unwrap(), document);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let error = Document::decode(path, &other).unwrap_err();
            assert!(error.message().contains("/backup"), "{at}: {error}");
            assert!(Document::decode(path, &bytes[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn a_newer_version_and_a_backup_with_holes_are_told() {
        let path = Path::new("/backup");
        let text = String::from_utf8(document().encode().unwrap()).unwrap();
        let newer = text.replacen("backup\":1", "backup\":2", 1);
        let error = Document::decode(path, newer.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let lacking = Document { shards: document().shards[..1].to_vec(), ..document() };
        let error = Document::decode(path, &lacking.encode().unwrap()).unwrap_err();
        assert!(error.message().contains("no shard with slot 100"), "{error}");
        let mut escaping = document();
        escaping.shards[0].files[0].name = "../x".into();
        assert!(Document::decode(path, &escaping.encode().unwrap()).is_err());
    }

    #[test]
    fn times_and_digits() {
        for (ms, text) in [
            (0, "19700101T000000Z"),
            (951_782_400_000, "20000229T000000Z"),
            (1_700_000_000_999, "20231114T221320Z"),
            (4_107_542_399_000, "21000228T235959Z"),
        ] {
            assert_eq!(stamp(ms), text);
        }
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!((unhex("0"), unhex("0G"), unhex("0A")), (None, None, None));
    }
}
