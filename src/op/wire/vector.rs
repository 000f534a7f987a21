//! How an index of vectors is made.
//!
//! ```text
//! spec: version u8 = 1, name, dim, metric u8, kind u8, quantisation u8, m, ef_construction,
//!       ef_search, num_sub, rerank_k
//! ```

use crate::base::Result;
use crate::base::codec::{put_bytes, put_varint};
use crate::op::vector::{IndexKind, IndexSpec, Metric, Quantisation};
use crate::op::wire::Cut;

const VERSION: u8 = 1;

/// Appends how an index is made.
pub fn put_spec(out: &mut Vec<u8>, spec: &IndexSpec) {
    out.push(VERSION);
    put_bytes(out, spec.name.as_bytes());
    put_varint(out, spec.dim.into());
    out.extend([spec.metric as u8, spec.kind as u8, spec.quantisation as u8]);
    for number in [spec.m, spec.ef_construction, spec.ef_search, spec.num_sub, spec.rerank_k] {
        put_varint(out, number.into());
    }
}

/// The next one.
///
/// # Errors
/// `InvalidArgument` if the bytes are none; `Unsupported` if a newer version wrote them.
pub fn read_spec(cut: &mut Cut<'_>) -> Result<IndexSpec> {
    match cut.u8()? {
        VERSION => {}
        version => return Err(cut.unknown(version.into())),
    }
    let (name, dim) = (cut.text()?.to_string(), cut.varint32()?);
    let metric = cut.u8()?;
    let metric = Metric::from_u8(metric).ok_or_else(|| cut.unknown(metric.into()))?;
    let kind = cut.u8()?;
    let kind = IndexKind::from_u8(kind).ok_or_else(|| cut.unknown(kind.into()))?;
    let form = cut.u8()?;
    let quantisation = Quantisation::from_u8(form).ok_or_else(|| cut.unknown(form.into()))?;
    Ok(IndexSpec {
        name,
        dim,
        metric,
        kind,
        quantisation,
        m: cut.varint32()?,
        ef_construction: cut.varint32()?,
        ef_search: cut.varint32()?,
        num_sub: cut.varint32()?,
        rerank_k: cut.varint32()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_spec_comes_back_and_its_form_stays() {
        let spec = IndexSpec {
            kind: IndexKind::PqHnsw,
            quantisation: Quantisation::Packed,
            num_sub: 48,
            ..IndexSpec::new("docs", 384, Metric::Cosine)
        };
        let mut out = Vec::new();
        put_spec(&mut out, &spec);
        assert_eq!(out, b"\x01\x04docs\x80\x03\x01\x02\x01\x10\xc8\x01\x40\x30\x64");
        let bytes = Bytes::from(out);
        assert_eq!(read_spec(&mut Cut::new(&bytes, "an index")).unwrap(), spec);
        for end in 0..bytes.len() {
            let part = bytes.slice(..end);
            assert!(read_spec(&mut Cut::new(&part, "an index")).is_err());
        }
    }
}
