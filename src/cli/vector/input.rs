//! Files of vectors, read a part at a time.
//!
//! ```text
//! f16, f32, u8   rows of --dim numbers, little-endian, nothing else
//! fvecs          rows of a 4-byte dimension and as many f32
//! npy            NumPy's format, versions 1 to 3: u1, f2, f4 or f8, little-endian, by rows
//! ndjson         an object a line: {"vector": [..], "id": 7, "payload": {..}}, or an array of numbers
//! ```
//! A file of ids beside them: an id a line, if it holds lines of digits and nothing else, or `u32` or
//! `u64`, little-endian, told apart by its length.

use crate::base::{Error, Result};
use crate::env::disk::read_exact_at;
use crate::env::{Disk, File, RealDisk};
use crate::op::vector::{Floats, StoredVector};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at once.
const PART_BYTES: usize = 4 << 20;
/// The longest line of ndjson, and the longest header of npy.
const LINE_BYTES_MAX: usize = 16 << 20;
const NPY_HEADER_MAX: usize = 1 << 16;
/// Bytes of an id's line, blanks and all.
const ID_LINE_BYTES_MAX: u64 = 64;
/// Bytes of ids that are text if they look like it.
const TEXT_BYTES_SURE: usize = 32;

/// How vectors stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// Rows of 16-bit floats.
    F16,
    /// Rows of 32-bit floats.
    F32,
    /// Rows of bytes.
    U8,
    /// Rows of 32-bit floats, each behind its dimension.
    Fvecs,
    /// NumPy's file of one array.
    Npy,
    /// An object a line.
    Ndjson,
}

impl FileFormat {
    /// Whether a file says how many numbers a vector has.
    pub(super) fn says_dim(self) -> bool {
        !matches!(self, FileFormat::F16 | FileFormat::F32 | FileFormat::U8)
    }
}

/// The numbers of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    U8,
    F16,
    F32,
    F64,
}

impl Numbers {
    fn bytes(self) -> usize {
        match self {
            Numbers::U8 => 1,
            Numbers::F16 => 2,
            Numbers::F32 => 4,
            Numbers::F64 => 8,
        }
    }

    fn read(self, row: &[u8]) -> Vec<f32> {
        match self {
            Numbers::U8 => row.iter().map(|x| f32::from(*x)).collect(),
            Numbers::F16 => row.as_chunks::<2>().0.iter().map(|x| half(*x)).collect(),
            Numbers::F32 => row.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
            Numbers::F64 => {
                row.as_chunks::<8>().0.iter().map(|x| f64::from_le_bytes(*x) as f32).collect()
            }
        }
    }
}

/// A 16-bit float.
fn half(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, bits & 0x3ff);
    let magnitude = match exponent {
        0 => fraction as f32 / 16_777_216.0,
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// A file of vectors.
pub struct Vectors {
    path: PathBuf,
    file: Arc<dyn File>,
    len: u64,
    at: u64,
    shape: Shape,
    /// What was read of lines, and how much of that was taken.
    rest: Vec<u8>,
    taken: usize,
    /// Lines so far, blank ones too.
    lines: u64,
    row: u64,
    ids: Option<Vec<u64>>,
}

enum Shape {
    /// Rows behind a header, each with so many bytes of its own before the numbers.
    Rows {
        numbers: Numbers,
        dim: usize,
        before: usize,
    },
    Lines,
}

impl Vectors {
    /// Opens a file. `dim` is needed for formats that do not say it themselves.
    ///
    /// # Errors
    /// `InvalidArgument` if the file is none of the format; what the disk answers.
    pub fn open(path: &Path, format: FileFormat, dim: Option<usize>) -> Result<Vectors> {
        let file = RealDisk.open(path)?;
        let len = file.len()?;
        let mut vectors = Vectors {
            path: path.to_path_buf(),
            file,
            len,
            at: 0,
            shape: Shape::Lines,
            rest: Vec::new(),
            taken: 0,
            lines: 0,
            row: 0,
            ids: None,
        };
        let raw = |numbers| -> Result<Shape> {
            let dim = dim.filter(|dim| *dim > 0).ok_or_else(|| {
                Error::invalid("this format does not say how many numbers a vector has: give --dim")
            })?;
            Ok(Shape::Rows { numbers, dim, before: 0 })
        };
        vectors.shape = match format {
            FileFormat::F16 => raw(Numbers::F16)?,
            FileFormat::F32 => raw(Numbers::F32)?,
            FileFormat::U8 => raw(Numbers::U8)?,
            FileFormat::Fvecs => vectors.fvecs()?,
            FileFormat::Npy => vectors.npy()?,
            FileFormat::Ndjson => Shape::Lines,
        };
        if let (Some(dim), Shape::Rows { dim: found, .. }) = (dim, &vectors.shape)
            && dim != *found
        {
            return Err(vectors.wrong(format!("it has vectors of {found} numbers, not {dim}")));
        }
        if let Some(bytes) = vectors.row_bytes()
            && !(vectors.len - vectors.at).is_multiple_of(bytes as u64)
        {
            let found = vectors.len - vectors.at;
            return Err(vectors.wrong(format!("{found} bytes are not rows of {bytes}")));
        }
        Ok(vectors)
    }

    /// Takes ids from a file instead of numbering the rows.
    ///
    /// # Errors
    /// `InvalidArgument` if it has not an id for each vector; what the disk answers.
    pub fn with_ids(mut self, path: &Path) -> Result<Vectors> {
        let file = RealDisk.open(path)?;
        let (rows, len) = (self.rows(), file.len()?);
        if let Some(rows) = rows
            && len > rows.saturating_mul(ID_LINE_BYTES_MAX)
        {
            return Err(wrong(path, format!("it has {len} bytes, too many for {rows} ids")));
        }
        let mut bytes = vec![0; len as usize];
        read_exact_at(&*file, path, &mut bytes, 0)?;
        let ids: Vec<u64> = match rows {
            // As long as numbers of 32 or 64 bits would be, and text all the same.
            Some(rows) if is_text_of(&bytes, rows) => ids_of_text(path, &bytes)?,
            Some(rows) if bytes.len() as u64 == 4 * rows => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|id| u64::from(u32::from_le_bytes(*id)))
                .collect(),
            Some(rows) if bytes.len() as u64 == 8 * rows => {
                bytes.as_chunks::<8>().0.iter().map(|id| u64::from_le_bytes(*id)).collect()
            }
            _ => ids_of_text(path, &bytes)?,
        };
        if rows.is_some_and(|rows| rows != ids.len() as u64) {
            let (has, rows) = (ids.len(), rows.unwrap_or(0));
            return Err(wrong(path, format!("it has {has} ids for {rows} vectors")));
        }
        self.ids = Some(ids);
        Ok(self)
    }

    /// Numbers in a vector, if the file says it.
    pub fn dim(&self) -> Option<usize> {
        match self.shape {
            Shape::Rows { dim, .. } => Some(dim),
            Shape::Lines => None,
        }
    }

    /// Vectors in the file, if that is known.
    pub fn rows(&self) -> Option<u64> {
        self.row_bytes().map(|bytes| self.row + (self.len - self.at) / bytes as u64)
    }

    fn row_bytes(&self) -> Option<usize> {
        match self.shape {
            Shape::Rows { numbers, dim, before } => Some(before + dim * numbers.bytes()),
            Shape::Lines => None,
        }
    }

    /// The next vectors, `most` at most; none at the end.
    ///
    /// # Errors
    /// `InvalidArgument` with the place of a row that is none; what the disk answers.
    pub fn next(&mut self, most: usize) -> Result<Vec<StoredVector>> {
        let Shape::Rows { numbers, dim, before } = self.shape else { return self.lines(most) };
        let row_bytes = before + dim * numbers.bytes();
        let left = (self.len - self.at) as usize / row_bytes;
        let count = most.min(left).min((PART_BYTES / row_bytes).max(1));
        let mut part = vec![0; count * row_bytes];
        read_exact_at(&*self.file, &self.path, &mut part, self.at)?;
        self.at += part.len() as u64;
        let mut vectors = Vec::with_capacity(count);
        for row in part.chunks_exact(row_bytes) {
            let (head, row) = row.split_at(before);
            if before > 0 && head != (dim as u32).to_le_bytes() {
                let message = format!("row {} has another dimension than the first", self.row);
                return Err(self.wrong(message));
            }
            let vector = Floats::of(&numbers.read(row));
            vectors.push(StoredVector { id: self.next_id(None)?, vector, payload: Bytes::new() });
        }
        Ok(vectors)
    }

    fn next_id(&mut self, own: Option<u64>) -> Result<u64> {
        let row = self.row;
        self.row += 1;
        match &self.ids {
            Some(ids) => ids.get(row as usize).copied().ok_or_else(|| {
                self.wrong(format!("there are {} ids, and more vectors", ids.len()))
            }),
            None => Ok(own.unwrap_or(row)),
        }
    }

    fn lines(&mut self, most: usize) -> Result<Vec<StoredVector>> {
        let mut vectors = Vec::new();
        while vectors.len() < most {
            let left = &self.rest[self.taken..];
            let Some(end) = left.iter().position(|byte| *byte == b'\n') else {
                self.rest.drain(..self.taken);
                self.taken = 0;
                if self.at < self.len && self.rest.len() <= LINE_BYTES_MAX {
                    let count = PART_BYTES.min((self.len - self.at) as usize);
                    let mut part = vec![0; count];
                    read_exact_at(&*self.file, &self.path, &mut part, self.at)?;
                    self.at += count as u64;
                    self.rest.append(&mut part);
                    continue;
                }
                if self.rest.is_empty() {
                    break;
                }
                // The last line may lack its end.
                self.rest.push(b'\n');
                continue;
            };
            let line = left[..=end].to_vec();
            self.taken += line.len();
            self.lines += 1;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let vector = self.line(&line)?;
            vectors.push(vector);
        }
        Ok(vectors)
    }

    fn line(&mut self, line: &[u8]) -> Result<StoredVector> {
        let wrong = |what: &str| wrong(&self.path, format!("line {}: {what}", self.lines));
        let value: serde_json::Value =
            serde_json::from_slice(line).map_err(|e| wrong(&e.to_string()))?;
        let numbers = value.get("vector").unwrap_or(&value).as_array();
        let numbers = numbers.ok_or_else(|| wrong("it has no `vector`, a list of numbers"))?;
        let numbers: Option<Vec<f32>> =
            numbers.iter().map(|x| x.as_f64().map(|x| x as f32)).collect();
        let numbers =
            numbers.ok_or_else(|| wrong("its vector holds something else than numbers"))?;
        let own = match value.get("id") {
            None => None,
            Some(id) => Some(id.as_u64().ok_or_else(|| wrong("its id is no whole number"))?),
        };
        let payload = match value.get("payload") {
            None | Some(serde_json::Value::Null) => Bytes::new(),
            Some(object @ serde_json::Value::Object(_)) => object.to_string().into(),
            Some(_) => return Err(wrong("its payload is no object")),
        };
        Ok(StoredVector { id: self.next_id(own)?, vector: Floats::of(&numbers), payload })
    }

    fn fvecs(&self) -> Result<Shape> {
        let mut head = [0; 4];
        read_exact_at(&*self.file, &self.path, &mut head, 0)
            .map_err(|_| self.wrong("it has not even one vector"))?;
        let dim = u32::from_le_bytes(head) as usize;
        if dim == 0 || dim > crate::vector::DIM_MAX {
            return Err(self.wrong(format!("its first vector has {dim} numbers")));
        }
        Ok(Shape::Rows { numbers: Numbers::F32, dim, before: 4 })
    }

    fn npy(&mut self) -> Result<Shape> {
        let mut head = [0; 12];
        read_exact_at(&*self.file, &self.path, &mut head, 0)
            .map_err(|_| self.wrong("it is too short for a header"))?;
        if &head[..6] != b"\x93NUMPY" {
            return Err(self.wrong("it is not in NumPy's format"));
        }
        let (from, len) = match head[6] {
            1 => (10, usize::from(u16::from_le_bytes([head[8], head[9]]))),
            _ => (12, u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize),
        };
        if len > NPY_HEADER_MAX {
            return Err(self.wrong(format!("its header has {len} bytes")));
        }
        let mut text = vec![0; len];
        read_exact_at(&*self.file, &self.path, &mut text, from as u64)
            .map_err(|_| self.wrong("its header is cut"))?;
        let text = String::from_utf8_lossy(&text);
        let numbers = [("|u1", Numbers::U8), ("<f2", Numbers::F16), ("<f4", Numbers::F32)];
        let numbers = numbers.into_iter().chain([("<f8", Numbers::F64)]);
        let numbers = numbers.into_iter().find(|(name, _)| text.contains(name));
        let (_, numbers) = numbers.ok_or_else(|| {
            self.wrong("its numbers are none of |u1, <f2, <f4 and <f8: convert them")
        })?;
        if text.contains("'fortran_order': True") {
            return Err(self.wrong("it is stored by columns: save it in C order"));
        }
        let shape = text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
        let shape: Vec<u64> = shape
            .map(|(inner, _)| inner.split(',').filter_map(|n| n.trim().parse().ok()).collect())
            .unwrap_or_default();
        let [rows, dim] = shape[..] else {
            return Err(self.wrong("its array has not two dimensions, vectors and numbers"));
        };
        let dim = usize::try_from(dim).unwrap_or(0);
        if dim == 0 || dim > crate::vector::DIM_MAX {
            return Err(self.wrong(format!("its vectors have {dim} numbers")));
        }
        self.at = (from + len) as u64;
        let whole = rows.checked_mul((dim * numbers.bytes()) as u64);
        if whole.and_then(|bytes| bytes.checked_add(self.at)) != Some(self.len) {
            return Err(self.wrong(format!("it is not as long as {rows} vectors of {dim} are")));
        }
        Ok(Shape::Rows { numbers, dim, before: 0 })
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        wrong(&self.path, what)
    }
}

/// Whether these bytes are ids in decimal digits, one a line: so many, or so long that numbers of 32 or
/// 64 bits will not all look like it by chance.
fn is_text_of(bytes: &[u8], rows: u64) -> bool {
    let is_text = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace();
    let lines = || bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    bytes.iter().all(is_text)
        && lines().all(|line| line.iter().all(u8::is_ascii_digit))
        && (bytes.len() >= TEXT_BYTES_SURE
            || lines().filter(|line| !line.is_empty()).count() as u64 == rows)
}

fn ids_of_text(path: &Path, bytes: &[u8]) -> Result<Vec<u64>> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| wrong(path, "it is no list of ids for these vectors"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.parse().map_err(|_| wrong(path, format!("{line:?} is no id")))).collect()
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        RealDisk.create(&path).unwrap().write_at(bytes, 0).unwrap();
        (folder, path)
    }

    fn all(vectors: &mut Vectors) -> Vec<(u64, Vec<f32>, String)> {
        let mut found = Vec::new();
        loop {
            let some = vectors.next(2).unwrap();
            if some.is_empty() {
                return found;
            }
            found.extend(some.into_iter().map(|v| {
                (v.id, v.vector.to_vec(), String::from_utf8(v.payload.to_vec()).unwrap())
            }));
        }
    }

    #[test]
    fn every_format_gives_its_rows() {
        let rows = [[1.0f32, -2.5], [0.0, 7.0], [3.0, 0.5]];
        let expected: Vec<_> =
            rows.iter().zip(0..).map(|(row, id)| (id, row.to_vec(), String::new())).collect();
        let f32s: Vec<u8> = rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        let halves: [u16; 6] = [0x3c00, 0xc100, 0, 0x4700, 0x4200, 0x3800];
        let f16s: Vec<u8> = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
        let fvecs: Vec<u8> =
            f32s.chunks(8).flat_map(|row| [&2u32.to_le_bytes()[..], row].concat()).collect();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }          \n";
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.as_bytes());
        npy.extend(&f32s);
        for (format, bytes) in [
            (FileFormat::F32, &f32s),
            (FileFormat::F16, &f16s),
            (FileFormat::Fvecs, &fvecs),
            (FileFormat::Npy, &npy),
        ] {
            let (_folder, path) = file("vectors", bytes);
            let mut vectors = Vectors::open(&path, format, Some(2)).unwrap();
            assert_eq!((vectors.rows(), vectors.dim()), (Some(3), Some(2)));
            assert_eq!(all(&mut vectors), expected, "{format:?}");
            // Without a header the same bytes are two rows of three.
            let says = matches!(format, FileFormat::Fvecs | FileFormat::Npy);
            assert_eq!(Vectors::open(&path, format, Some(3)).is_err(), says, "{format:?}");
        }
        let (_folder, path) = file("bytes", &[1, 2, 3, 255]);
        let mut vectors = Vectors::open(&path, FileFormat::U8, Some(2)).unwrap();
        assert_eq!(all(&mut vectors)[1].1, [3.0, 255.0]);
        assert!(Vectors::open(&path, FileFormat::U8, Some(3)).is_err());
        assert!(Vectors::open(&path, FileFormat::U8, None).is_err());
    }

    #[test]
    fn lines_have_ids_and_payloads_of_their_own() {
        let text = "{\"id\": 7, \"vector\": [1, 2.5], \"payload\": {\"a\": 1}}\n\n[3, 4]";
        let (_folder, path) = file("v.ndjson", text.as_bytes());
        let mut vectors = Vectors::open(&path, FileFormat::Ndjson, None).unwrap();
        let expected =
            [(7, vec![1.0, 2.5], "{\"a\":1}".to_string()), (1, vec![3.0, 4.0], String::new())];
        assert_eq!(all(&mut vectors), expected);
        for wrong in ["{}", "[1, \"a\"]", "{\"vector\": [1], \"id\": -1}", "nonsense"] {
            let (_folder, path) = file("v.ndjson", wrong.as_bytes());
            let mut vectors = Vectors::open(&path, FileFormat::Ndjson, None).unwrap();
            let error = vectors.next(1).unwrap_err();
            assert!(error.message().contains("line 1"), "{wrong}: {error}");
            let (_folder, path) = file("v.ndjson", format!("\n[1]\n\n{wrong}").as_bytes());
            let mut vectors = Vectors::open(&path, FileFormat::Ndjson, None).unwrap();
            let error = vectors.next(2).unwrap_err();
            assert!(error.message().contains("line 4"), "{wrong}: {error}");
        }
    }

    #[test]
    fn lines_go_on_from_one_part_of_the_file_to_the_next() {
        let line = |n: u64| {
            format!("{{\"id\": {n}, \"vector\": [{n}], \"payload\": {{\"t\": \"{n:300}\"}}}}\n")
        };
        let count = 2 * PART_BYTES as u64 / line(0).len() as u64 + 10;
        let text: String = (0..count).map(line).collect();
        let (_folder, path) = file("v.ndjson", text.as_bytes());
        let mut vectors = Vectors::open(&path, FileFormat::Ndjson, None).unwrap();
        let found = all(&mut vectors);
        assert!(found.iter().map(|v| v.0).eq(0..count), "{} of {count}", found.len());
    }

    #[test]
    fn ids_come_in_three_forms() {
        let (_folder, path) = file("v", &[0; 8]);
        for bytes in
            [&b"\x05\0\0\0\x06\0\0\0"[..], b"\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0", b"5\n 6 \n"]
        {
            let (_other, ids) = file("ids", bytes);
            let vectors = Vectors::open(&path, FileFormat::F32, Some(1)).unwrap();
            let mut vectors = vectors.with_ids(&ids).unwrap();
            assert_eq!(all(&mut vectors).iter().map(|v| v.0).collect::<Vec<_>>(), [5, 6]);
        }
        let (_other, ids) = file("ids", b"5\n");
        let vectors = Vectors::open(&path, FileFormat::F32, Some(1)).unwrap();
        assert!(vectors.with_ids(&ids).is_err());
    }

    #[test]
    fn halves_are_what_they_stand_for() {
        for (bits, value) in [
            (0x0001u16, 2f32.powi(-24)),
            (0x03ff, 1023.0 * 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x7bff, 65_504.0),
            (0x7c00, f32::INFINITY),
            (0x8000, -0.0),
            (0xbc00, -1.0),
        ] {
            assert_eq!(half(bits.to_le_bytes()).to_bits(), value.to_bits(), "{bits:04x}");
        }
        assert!(half(0x7e00u16.to_le_bytes()).is_nan());
    }

    /// Lines of four bytes, or of eight, were taken for numbers of 32 or 64 bits.
    #[test]
    fn ids_in_lines_are_told_from_numbers_of_the_same_length() {
        let (_folder, path) = file("two.u8", &[1, 2]);
        let ids = |bytes: &[u8]| {
            let (_folder, ids) = file("ids", bytes);
            let vectors = Vectors::open(&path, FileFormat::U8, Some(1)).unwrap().with_ids(&ids);
            vectors.map(|mut vectors| all(&mut vectors).iter().map(|one| one.0).collect::<Vec<_>>())
        };
        assert_eq!(ids(b"100\n101\n").unwrap(), [100, 101]);
        assert_eq!(ids(b"1000000\n1000001\n").unwrap(), [1_000_000, 1_000_001]);
        assert_eq!(ids(b"100000\r\n100001\r\n").unwrap(), [100_000, 100_001]);
        assert_eq!(ids(&[7, 0, 0, 0, 8, 0, 0, 0]).unwrap(), [7, 8]);
        let error = ids(&[b'1'; 1_000]).unwrap_err();
        assert!(error.message().contains("too many for 2 ids"), "{error}");
        // Half as many ids as vectors, each of as many bytes as two numbers.
        let (_folder, path) = file("ten.u8", &[0; 10]);
        let (_folder, ids) = file("ids", "1000000\n".repeat(5).as_bytes());
        let ten = Vectors::open(&path, FileFormat::U8, Some(1)).unwrap();
        let error = ten.with_ids(&ids).map(|_| ()).unwrap_err();
        assert!(error.message().contains("it has 5 ids for 10 vectors"), "{error}");
    }

    #[test]
    fn a_shape_that_no_file_has_is_refused() {
        let shape =
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387903, 1), }\n";
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((shape.len() as u16).to_le_bytes());
        npy.extend(shape.as_bytes());
        let (_folder, path) = file("crafted.npy", &npy);
        let error = Vectors::open(&path, FileFormat::Npy, None).map(|_| ()).unwrap_err();
        assert!(error.message().contains("it is not as long as"), "{error}");
    }
}
