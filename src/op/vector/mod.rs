//! Vectors and the indexes that find them, as plain data.
//!
//! Words: an *index* is a named set of vectors of one dimension, compared by one metric, and what
//! finds the nearest of them. A vector has an *id*, a number that its owner chose, and may have a
//! *payload*, a JSON object that a *filter* looks at.
//!
//! In reading order:
//! - this file: ids, floats, [`VectorCall`] and [`VectorAnswer`].
//! - [`index`]: how an index is made, and what is told of it.
//! - [`search`]: what is searched for, and what is found; [`text`]: words beside vectors.
//! - [`filter`]: what of payloads a search may ask; [`filter_text`]: how that is written;
//!   [`number`]: numbers, compared exactly.
//!
//! Vectors are written by [`Write`](crate::op::kv::Write)s, beside keys and in one batch with them.

pub mod filter;
pub mod filter_text;
pub mod index;
pub mod number;
pub mod search;
pub mod text;

pub use filter::{Filter, Scalar};
pub use index::{IndexInfo, IndexKind, IndexSpec, Metric, Quantisation};
pub use search::{SearchCost, VectorHit, VectorQuery, VectorSearch, VectorsFound};
pub use text::TextQuery;

use crate::base::IndexId;
use bytes::Bytes;

/// The longest payload, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// The most vectors that one call fetches by id.
pub const FETCH_MAX: usize = 1_000;
/// Vectors in one page of a walk that names no limit, and the most in one page.
pub const PAGE_DEFAULT: u32 = 1_000;
/// The most vectors in one page.
pub const PAGE_MAX: u32 = 10_000;
/// Bytes of vectors and payloads after which a page takes no more.
pub const PAGE_BYTES_MAX: usize = 8 << 20;
/// The most bytes of vectors and payloads in one answer to a search or a fetch: a message of 64 MiB
/// carries them.
pub const ANSWER_BYTES_MAX: usize = 60 << 20;

/// A vector's id. Kept as its eight bytes, highest first, which are what its hash slot is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VectorId([u8; 8]);

impl VectorId {
    /// The id of this number.
    pub fn new(id: u64) -> VectorId {
        VectorId(id.to_be_bytes())
    }

    /// The number.
    pub fn get(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// What its slot is taken of.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

/// The key of a vector's record, in family VECTORS: its index, then its id, each highest byte first.
pub fn vector_key(index: IndexId, id: VectorId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&index.0.to_be_bytes());
    key[8..].copy_from_slice(&id.0);
    key
}

/// The numbers of a vector: 32-bit floats, little-endian.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Floats(Bytes);

impl Floats {
    /// Those of a slice.
    pub fn of(numbers: &[f32]) -> Floats {
        let mut bytes = Vec::with_capacity(4 * numbers.len());
        numbers.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        Floats(bytes.into())
    }

    /// Those of bytes; `None` if they are not four for each.
    pub fn from_bytes(bytes: Bytes) -> Option<Floats> {
        bytes.len().is_multiple_of(4).then_some(Floats(bytes))
    }

    /// Their bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len() / 4
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers.
    pub fn to_vec(&self) -> Vec<f32> {
        floats_of(&self.0)
    }
}

/// The numbers of little-endian bytes; what is left over at the end is not looked at.
pub fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

/// A request about vectors that writes none: those are [`Write`](crate::op::kv::Write)s.
#[derive(Debug, Clone, PartialEq)]
pub enum VectorCall {
    /// Creates an index. Answer: [`VectorAnswer::Index`].
    Create(IndexSpec),
    /// Drops an index and all its vectors. Answer: [`VectorAnswer::Done`].
    Drop {
        /// Its name.
        index: String,
    },
    /// Lists the indexes. Answer: [`VectorAnswer::Indexes`].
    List,
    /// Tells of one index. Answer: [`VectorAnswer::Index`].
    Describe {
        /// Its name.
        index: String,
    },
    /// Fetches vectors by their ids. Answer: [`VectorAnswer::Vectors`].
    Get {
        /// The index's name.
        index: String,
        /// At most [`FETCH_MAX`] ids.
        ids: Vec<VectorId>,
    },
    /// Fetches vectors whose records are still those that a search has compared. Answer:
    /// [`VectorAnswer::Vectors`]; one that is gone or another by now is none. Asked of shards by a
    /// gateway.
    Fetch {
        /// The index's name.
        index: String,
        /// At most [`FETCH_MAX`] ids, each with the number of the record: see [`VectorHit::seq`].
        records: Vec<(VectorId, u64)>,
    },
    /// Walks all vectors in the order of their ids. Answer: [`VectorAnswer::Page`].
    Walk {
        /// The index's name.
        index: String,
        /// Only ids above this one.
        after: Option<u64>,
        /// The most in one answer; 0 takes the default of 1,000. At most 10,000.
        limit: u32,
    },
    /// Searches. Answer: [`VectorAnswer::Found`].
    Search(VectorSearch),
    /// Compares what finds the vectors with the vectors, and has what is wrong built anew. Answer:
    /// [`VectorAnswer::Checked`]. Cost: a walk of them all.
    Verify {
        /// The index's name.
        index: String,
    },
}

impl VectorCall {
    /// Whether it creates or drops an index.
    pub fn is_for_catalog(&self) -> bool {
        matches!(self, VectorCall::Create(_) | VectorCall::Drop { .. })
    }

    /// The index that it names, if it needs one that is there.
    pub fn index(&self) -> Option<&str> {
        match self {
            VectorCall::Create(_) | VectorCall::List => None,
            VectorCall::Drop { index }
            | VectorCall::Describe { index }
            | VectorCall::Get { index, .. }
            | VectorCall::Fetch { index, .. }
            | VectorCall::Walk { index, .. }
            | VectorCall::Verify { index } => Some(index),
            VectorCall::Search(search) => Some(&search.index),
        }
    }
}

/// A vector as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVector {
    /// Its id.
    pub id: u64,
    /// Its numbers, as they were given.
    pub vector: Floats,
    /// Its payload; empty if it has none.
    pub payload: Bytes,
}

/// What a check of an index found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Vectors stored.
    pub stored: u64,
    /// Those of them that could not be found by a search.
    pub missing: u64,
    /// Vectors that a search would find and that are not stored.
    pub surplus: u64,
}

/// The answer to a [`VectorCall`].
#[derive(Debug, Clone, PartialEq)]
pub enum VectorAnswer {
    /// An index.
    Index(Box<IndexInfo>),
    /// The indexes, by name.
    Indexes(Vec<IndexInfo>),
    /// Done.
    Done,
    /// What the catalog tells a gateway that dropped an index: its number. Others after it may have
    /// its name.
    Dropped(IndexId),
    /// The vectors asked for, each in its place; `None` where there is none.
    Vectors(Vec<Option<StoredVector>>),
    /// A page of vectors.
    Page {
        /// They, in the order of their ids.
        vectors: Vec<StoredVector>,
        /// The id behind which to go on; `None` at the end.
        next: Option<u64>,
    },
    /// What was found.
    Found(VectorsFound),
    /// What a check found.
    Checked(Checked),
}

/// The error for an index that is not there.
pub fn no_such_index(name: &str) -> crate::base::Error {
    let message = format!("there is no vector index `{name}`; create it, or list those there are");
    crate::base::Error::new(crate::base::ErrorKind::NotFound, message)
}

/// An index as a shard knows it: its number and how it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedIndex {
    /// Its number, never given to another.
    pub id: IndexId,
    /// How it is made, its name among it.
    pub spec: IndexSpec,
}
