//! How an index is made, and what is told of it.

use crate::base::{Error, IndexId, Result};
use crate::op::vector::search::EF_MAX;

/// The longest name of an index, in bytes.
pub const INDEX_NAME_BYTES_MAX: usize = 255;

/// The most links of a node whose neighbours' codes stand beside it, or that lies in pages.
const PACKED_M_MAX: u32 = 31;
/// The most floats of a vector on disk.
const DISK_DIM_MAX: u32 = 4_096;

/// How the distance of two vectors is measured; smaller is closer. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Metric {
    /// The squared Euclidean distance.
    #[default]
    L2 = 0,
    /// 1 - the cosine of the angle.
    Cosine = 1,
    /// The negated inner product.
    InnerProduct = 2,
}

/// What finds the nearest vectors. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum IndexKind {
    /// As suits the number of vectors: a part of a shard that is sealed with 100,000 or more is walked
    /// by product codes, if its vectors can be cut into enough parts; any other is a plain graph.
    #[default]
    Auto = 0,
    /// A graph with the vectors in memory.
    Hnsw = 1,
    /// A graph that is walked by product codes; the nearest are compared exactly.
    PqHnsw = 2,
    /// Graph and vectors on disk.
    DiskHnsw = 3,
    /// Postings on disk around centroids in memory.
    Spfresh = 4,
}

/// The form that sealed parts of a plain graph take in memory. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Quantisation {
    /// As it was built.
    #[default]
    None = 0,
    /// Codes of the neighbours beside each node, vectors as 16-bit floats: the fastest.
    Packed = 1,
    /// Codes of 4 bits a dimension, vectors fetched from disk: the smallest.
    Compact4 = 2,
    /// Codes of 8 bits a dimension, vectors fetched from disk.
    Compact8 = 3,
}

/// An enum that stands in flags, files and formats by a name and a number.
macro_rules! named {
    ($of:ident, $what:literal, $($name:literal => $value:ident),+) => {
        impl $of {
            /// All of them.
            pub const ALL: &'static [$of] = &[$($of::$value),+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $($of::$value => $name),+
                }
            }

            /// The one of this number.
            pub fn from_u8(number: u8) -> Option<$of> {
                $of::ALL.iter().copied().find(|one| *one as u8 == number)
            }
        }

        impl std::str::FromStr for $of {
            type Err = Error;

            fn from_str(name: &str) -> Result<$of> {
                $of::ALL.iter().copied().find(|one| one.name() == name).ok_or_else(|| {
                    let names: Vec<&str> = $of::ALL.iter().map(|one| one.name()).collect();
                    let names = names.join(", ");
                    Error::invalid(format!(concat!("{:?} is no ", $what, "; give one of {}"), name, names))
                })
            }
        }
    };
}

named!(Metric, "metric", "l2" => L2, "cosine" => Cosine, "inner_product" => InnerProduct);
named!(IndexKind, "kind of index", "auto" => Auto, "hnsw" => Hnsw, "pq_hnsw" => PqHnsw,
    "disk_hnsw" => DiskHnsw, "spfresh" => Spfresh);
named!(Quantisation, "quantisation", "none" => None, "packed" => Packed,
    "compact4" => Compact4, "compact8" => Compact8);

/// How an index is made. Numbers of 0 take their defaults when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSpec {
    /// Its name: 1 to 255 bytes of `[A-Za-z0-9_.-]`, not beginning with `__`.
    pub name: String,
    /// Floats in a vector, 1 to 65,536.
    pub dim: u32,
    /// How distances are measured.
    pub metric: Metric,
    /// What finds the nearest.
    pub kind: IndexKind,
    /// The form of what is sealed.
    pub quantisation: Quantisation,
    /// Links of a node; by default 16.
    pub m: u32,
    /// Candidates among which links are chosen; by default 200.
    pub ef_construction: u32,
    /// Candidates that a search keeps, unless it says otherwise; by default 64.
    pub ef_search: u32,
    /// Parts of a product code; by default the largest number up to 32 that divides `dim`.
    pub num_sub: u32,
    /// Candidates that are compared exactly after a walk by product codes; by default 100.
    pub rerank_k: u32,
}

/// [`IndexSpec::ef_search`] if nothing is said of it.
pub const EF_SEARCH: u32 = 64;

impl IndexSpec {
    /// The default settings.
    pub fn new(name: impl Into<String>, dim: u32, metric: Metric) -> IndexSpec {
        IndexSpec {
            name: name.into(),
            dim,
            metric,
            kind: IndexKind::default(),
            quantisation: Quantisation::default(),
            m: 16,
            ef_construction: 200,
            ef_search: EF_SEARCH,
            num_sub: 0,
            rerank_k: 100,
        }
    }

    /// The same with defaults where there are zeros.
    pub fn with_defaults(mut self) -> IndexSpec {
        for (value, default) in [
            (&mut self.m, 16),
            (&mut self.ef_construction, 200),
            (&mut self.ef_search, EF_SEARCH),
            (&mut self.rerank_k, 100),
        ] {
            if *value == 0 {
                *value = default;
            }
        }
        self
    }

    /// Whether an index can be made so.
    ///
    /// # Errors
    /// `InvalidArgument` names the setting and its bounds.
    pub fn check(&self) -> Result<()> {
        self.check_name()?;
        let spec = self.clone().with_defaults();
        for (name, value, min, max) in [
            ("dim", spec.dim, 1, 1 << 16),
            ("m", spec.m, 2, 512),
            ("ef_construction", spec.ef_construction, 1, EF_MAX),
            ("ef_search", spec.ef_search, 1, EF_MAX),
            ("rerank_k", spec.rerank_k, 1, EF_MAX),
            ("num_sub", spec.num_sub, 0, spec.dim),
        ] {
            if !(min..=max).contains(&value) {
                let message = format!("{name} is {value}; it may be from {min} to {max}");
                return Err(Error::invalid(message));
            }
        }
        if spec.num_sub != 0 && !spec.dim.is_multiple_of(spec.num_sub) {
            let (parts, dim) = (spec.num_sub, spec.dim);
            let message = format!("num_sub is {parts}, which does not divide dim, {dim}");
            return Err(Error::invalid(message));
        }
        let has_codes =
            matches!(spec.kind, IndexKind::PqHnsw | IndexKind::DiskHnsw | IndexKind::Spfresh);
        if spec.quantisation != Quantisation::None && has_codes {
            let kind = spec.kind.name();
            let message =
                format!("an index of kind {kind} has codes of its own: leave quantisation out");
            return Err(Error::invalid(message));
        }
        if spec.kind == IndexKind::DiskHnsw {
            for (name, value, most) in
                [("m", spec.m, PACKED_M_MAX), ("dim", spec.dim, DISK_DIM_MAX)]
            {
                if value > most {
                    let message = format!("{name} is {value}; with disk_hnsw at most {most}");
                    return Err(Error::invalid(message));
                }
            }
        }
        if spec.kind == IndexKind::Spfresh && spec.dim > DISK_DIM_MAX {
            let message = format!("dim is {}; with spfresh at most {DISK_DIM_MAX}", spec.dim);
            return Err(Error::invalid(message));
        }
        if spec.quantisation == Quantisation::Packed && spec.m > PACKED_M_MAX {
            let message = format!("m is {}; with packed it may be {PACKED_M_MAX} at most", spec.m);
            return Err(Error::invalid(message));
        }
        Ok(())
    }

    /// Whether its name may be given.
    ///
    /// # Errors
    /// `InvalidArgument` says what names are.
    pub fn check_name(&self) -> Result<()> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let is_good = (1..=INDEX_NAME_BYTES_MAX).contains(&self.name.len())
            && self.name.bytes().all(allowed)
            && !self.name.starts_with("__");
        if is_good {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "an index's name has 1 to {INDEX_NAME_BYTES_MAX} characters of A-Z a-z 0-9 _ . - and \
             does not begin with __"
        )))
    }
}

/// An index as lists show it. Of several shards each figure is the sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexInfo {
    /// Its number.
    pub id: IndexId,
    /// How it was made.
    pub spec: IndexSpec,
    /// Vectors in it.
    pub vectors: u64,
    /// Those of them that are compared one by one, until they are linked.
    pub waiting: u64,
    /// Those in the graph that grows.
    pub fresh: u64,
    /// Those in sealed segments.
    pub sealed: u64,
    /// Segments.
    pub segments: u64,
    /// Postings, of kind `spfresh`.
    pub postings: u64,
    /// Vectors that were replaced or deleted, and whose room in a segment is not free yet.
    pub dead: u64,
    /// Memory that it takes, in bytes.
    pub memory_bytes: u64,
    /// Bytes of its segments on disk; its records are not among them.
    pub disk_bytes: u64,
    /// Times that a part was found damaged or missing, and was built anew.
    pub rebuilt: u64,
    /// The data nodes that host it, in order: those with a copy of a shard, each of which has a part.
    /// None where there is no cluster.
    pub nodes: Vec<u64>,
}

impl IndexInfo {
    /// An index in which there is nothing.
    pub fn new(id: IndexId, spec: IndexSpec) -> IndexInfo {
        IndexInfo {
            id,
            spec,
            vectors: 0,
            waiting: 0,
            fresh: 0,
            sealed: 0,
            segments: 0,
            postings: 0,
            dead: 0,
            memory_bytes: 0,
            disk_bytes: 0,
            rebuilt: 0,
            nodes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_come_back() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse::<Metric>().unwrap(), *metric);
            assert_eq!(Metric::from_u8(*metric as u8), Some(*metric));
        }
        for kind in IndexKind::ALL {
            assert_eq!(kind.name().parse::<IndexKind>().unwrap(), *kind);
        }
        for form in Quantisation::ALL {
            assert_eq!(form.name().parse::<Quantisation>().unwrap(), *form);
        }
        let wrong = "cosinus".parse::<Metric>().unwrap_err();
        assert!(wrong.message().contains("l2, cosine, inner_product"), "{wrong}");
        assert_eq!(Metric::from_u8(9), None);
    }

    #[test]
    fn names_of_indexes_are_checked() {
        let named = |name: &str| IndexSpec::new(name, 4, Metric::L2).check_name().is_ok();
        assert!(named("embeddings") && named("a.b-c_9"));
        let long = "n".repeat(256);
        for wrong in ["", "__x", "a b", "ä", long.as_str()] {
            assert!(!named(wrong), "{wrong}");
        }
    }
}
