//! Requests about vectors, and their answers. How an index is made is drawn in
//! [`wire::vector`](crate::op::wire::vector).
//!
//! ```text
//! call:    1 create spec | 2 drop name | 3 list | 4 describe name | 5 get name, count, ids u64
//!          6 walk name, 0 | 1 after, limit | 7 search | 8 verify name
//!          9 fetch name, count, (id u64, seq)
//! search:  name, query, k, offset, ef, flags u8 (1 exact, 2 payloads, 4 vectors, 8 seqs), filter,
//!          distance_max?, score_min?, without?, words?
//! query:   0 floats | 1 id u64
//! filter:  0 none | 1 one of field, count, scalars | 2 range field, end?, end? | 3 prefix field, text
//!          4 exists field | 5 and count, filters | 6 or count, filters | 7 not filter
//! scalar:  0 false | 1 true | 2 float u64 | 3 text | 4 integer i64 | 5 integer u64
//! end?:    0 | 1 scalar, inclusive u8
//! answer:  1 index | 2 indexes count | 3 done | 4 vectors count, (0 | 1 vector)
//!          5 page count, vectors, 0 | 1 next u64 | 6 found count, hits, cost
//!          7 checked 3 numbers
//! index:   id, spec, 9 numbers       vector: id u64, floats, payload
//! hit:     id u64, distance u32, flags u8 (1 payload, 2 seq), payload?, seq?, 0 | 1 floats,
//!          0 | 1 score u32, 0 | 1 words
//! cost:    6 numbers, exact u8
//! ```

use crate::base::codec::{put_bytes, put_varint};
use crate::base::{IndexId, Result};
use crate::op::vector::filter::{
    End, FILTER_PARTS_MAX, Filter, Scalar, check_depth, check_field, too_large,
};
use crate::op::vector::number::Number;
use crate::op::vector::search::{SearchCost, VectorHit, VectorQuery, VectorSearch, VectorsFound};
use crate::op::vector::text::{TextMatch, TextQuery, TextStats};
use crate::op::vector::{
    Checked, Floats, IndexInfo, StoredVector, VectorAnswer, VectorCall, VectorId,
};
use crate::op::wire::cut::{Cut, many};
use crate::op::wire::vector::{put_spec, read_spec};
use std::cell::Cell;

const EXACT: u8 = 1;
const WITH_PAYLOAD: u8 = 2;
const WITH_VECTOR: u8 = 4;
const WITH_SEQ: u8 = 8;

/// Appends a call.
pub(super) fn put_call(out: &mut Vec<u8>, call: &VectorCall) {
    let named = |out: &mut Vec<u8>, kind: u8, name: &str| {
        out.push(kind);
        put_bytes(out, name.as_bytes());
    };
    match call {
        VectorCall::Create(spec) => {
            out.push(1);
            put_spec(out, spec);
        }
        VectorCall::Drop { index } => named(out, 2, index),
        VectorCall::List => out.push(3),
        VectorCall::Describe { index } => named(out, 4, index),
        VectorCall::Get { index, ids } => {
            named(out, 5, index);
            put_varint(out, ids.len() as u64);
            ids.iter().for_each(|id| put_u64(out, id.get()));
        }
        VectorCall::Walk { index, after, limit } => {
            named(out, 6, index);
            put_optional(out, *after, put_u64);
            put_varint(out, (*limit).into());
        }
        VectorCall::Search(search) => {
            out.push(7);
            put_search(out, search);
        }
        VectorCall::Verify { index } => named(out, 8, index),
        VectorCall::Fetch { index, records } => {
            named(out, 9, index);
            put_varint(out, records.len() as u64);
            for (id, seq) in records {
                put_u64(out, id.get());
                put_varint(out, *seq);
            }
        }
    }
}

/// The next call.
pub(super) fn read_call(cut: &mut Cut<'_>) -> Result<VectorCall> {
    let name = |cut: &mut Cut<'_>| cut.text().map(str::to_string);
    Ok(match cut.u8()? {
        1 => VectorCall::Create(read_spec(cut)?),
        2 => VectorCall::Drop { index: name(cut)? },
        3 => VectorCall::List,
        4 => VectorCall::Describe { index: name(cut)? },
        5 => {
            let index = name(cut)?;
            VectorCall::Get { index, ids: many(cut, 8, |cut| cut.u64().map(VectorId::new))? }
        }
        6 => VectorCall::Walk {
            index: name(cut)?,
            after: read_optional(cut, Cut::u64)?,
            limit: cut.varint32()?,
        },
        7 => VectorCall::Search(read_search(cut)?),
        8 => VectorCall::Verify { index: name(cut)? },
        9 => {
            let index = name(cut)?;
            let record = |cut: &mut Cut<'_>| Ok((VectorId::new(cut.u64()?), cut.varint()?));
            VectorCall::Fetch { index, records: many(cut, 9, record)? }
        }
        kind => return Err(cut.unknown(kind.into())),
    })
}

/// Appends a vector's numbers.
pub(super) fn put_floats(out: &mut Vec<u8>, floats: &Floats) {
    put_bytes(out, floats.as_bytes());
}

/// The next vector's numbers.
pub(super) fn read_floats(cut: &mut Cut<'_>) -> Result<Floats> {
    Floats::from_bytes(cut.bytes()?).ok_or_else(|| cut.malformed())
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_f32(out: &mut Vec<u8>, number: f32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn read_f32(cut: &mut Cut<'_>) -> Result<f32> {
    let bytes = [cut.u8()?, cut.u8()?, cut.u8()?, cut.u8()?];
    let number = f32::from_le_bytes(bytes);
    if number.is_nan() { Err(cut.malformed()) } else { Ok(number) }
}

fn put_optional<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(value.is_some().into());
    if let Some(value) = value {
        put(out, value);
    }
}

fn read_optional<'a, T>(
    cut: &mut Cut<'a>,
    read: impl FnOnce(&mut Cut<'a>) -> Result<T>,
) -> Result<Option<T>> {
    Ok(if cut.bool()? { Some(read(cut)?) } else { None })
}

fn put_search(out: &mut Vec<u8>, search: &VectorSearch) {
    put_bytes(out, search.index.as_bytes());
    match &search.query {
        VectorQuery::Vector(floats) => {
            out.push(0);
            put_floats(out, floats);
        }
        VectorQuery::Stored(id) => {
            out.push(1);
            put_u64(out, id.get());
        }
    }
    for number in [search.k, search.offset, search.ef] {
        put_varint(out, number.into());
    }
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    out.push(
        flag(search.exact, EXACT)
            | flag(search.with_payload, WITH_PAYLOAD)
            | flag(search.with_vector, WITH_VECTOR)
            | flag(search.with_seq, WITH_SEQ),
    );
    match &search.filter {
        None => out.push(0),
        Some(filter) => put_filter(out, filter),
    }
    put_optional(out, search.distance_max, put_f32);
    put_optional(out, search.score_min, put_f32);
    put_optional(out, search.without, put_u64);
    put_optional(out, search.text.as_ref(), |out, TextQuery { field, text, is_part }| {
        put_bytes(out, field.as_bytes());
        put_bytes(out, text.as_bytes());
        out.push((*is_part).into());
    });
}

fn read_search(cut: &mut Cut<'_>) -> Result<VectorSearch> {
    let index = cut.text()?.to_string();
    let query = match cut.u8()? {
        0 => VectorQuery::Vector(read_floats(cut)?),
        1 => VectorQuery::Stored(VectorId::new(cut.u64()?)),
        kind => return Err(cut.unknown(kind.into())),
    };
    let (k, offset, ef) = (cut.varint32()?, cut.varint32()?, cut.varint32()?);
    let flags = cut.u8()?;
    if flags > EXACT | WITH_PAYLOAD | WITH_VECTOR | WITH_SEQ {
        return Err(cut.unknown(flags.into()));
    }
    Ok(VectorSearch {
        index,
        query,
        k,
        offset,
        ef,
        exact: flags & EXACT != 0,
        with_payload: flags & WITH_PAYLOAD != 0,
        with_vector: flags & WITH_VECTOR != 0,
        with_seq: flags & WITH_SEQ != 0,
        filter: read_filter(cut, 0, &Cell::new(FILTER_PARTS_MAX))?,
        distance_max: read_optional(cut, read_f32)?,
        score_min: read_optional(cut, read_f32)?,
        without: read_optional(cut, Cut::u64)?,
        text: read_optional(cut, |cut| {
            let (field, text) = (cut.text()?.to_string(), cut.text()?.to_string());
            Ok(TextQuery { field, text, is_part: cut.bool()? })
        })?,
    })
}

fn put_filter(out: &mut Vec<u8>, filter: &Filter) {
    let of_field = |out: &mut Vec<u8>, kind: u8, field: &str| {
        out.push(kind);
        put_bytes(out, field.as_bytes());
    };
    match filter {
        Filter::OneOf { field, values } => {
            of_field(out, 1, field);
            put_varint(out, values.len() as u64);
            values.iter().for_each(|value| put_scalar(out, value));
        }
        Filter::Range { field, from, to } => {
            of_field(out, 2, field);
            for end in [from, to] {
                put_optional(out, end.as_ref(), |out, end| {
                    put_scalar(out, &end.value);
                    out.push(end.inclusive.into());
                });
            }
        }
        Filter::Prefix { field, prefix } => {
            of_field(out, 3, field);
            put_bytes(out, prefix.as_bytes());
        }
        Filter::Exists { field } => of_field(out, 4, field),
        Filter::And(all) | Filter::Or(all) => {
            out.push(if matches!(filter, Filter::And(_)) { 5 } else { 6 });
            put_varint(out, all.len() as u64);
            all.iter().for_each(|filter| put_filter(out, filter));
        }
        Filter::Not(filter) => {
            out.push(7);
            put_filter(out, filter);
        }
    }
}

/// The next filter, of `left` conditions and values at most: in memory these take many times their
/// bytes.
fn read_filter(cut: &mut Cut<'_>, depth: usize, left: &Cell<usize>) -> Result<Option<Filter>> {
    check_depth(depth)?;
    let take = || -> Result<()> {
        left.set(left.get().checked_sub(1).ok_or_else(too_large)?);
        Ok(())
    };
    let field = |cut: &mut Cut<'_>| -> Result<String> {
        let field = cut.text()?;
        check_field(field)?;
        Ok(field.to_string())
    };
    let value = |cut: &mut Cut<'_>| take().and_then(|()| read_scalar(cut));
    let some = |cut: &mut Cut<'_>| -> Result<Filter> {
        read_filter(cut, depth + 1, left)?.ok_or_else(|| cut.malformed())
    };
    take()?;
    Ok(Some(match cut.u8()? {
        0 => return Ok(None),
        1 => Filter::OneOf { field: field(cut)?, values: many(cut, 1, value)? },
        2 => {
            let end = |cut: &mut Cut<'_>| -> Result<End> {
                Ok(End { value: read_scalar(cut)?, inclusive: cut.bool()? })
            };
            let field = field(cut)?;
            Filter::Range { field, from: read_optional(cut, end)?, to: read_optional(cut, end)? }
        }
        3 => Filter::Prefix { field: field(cut)?, prefix: cut.text()?.to_string() },
        4 => Filter::Exists { field: field(cut)? },
        5 => Filter::And(many(cut, 2, some)?),
        6 => Filter::Or(many(cut, 2, some)?),
        7 => Filter::Not(Box::new(some(cut)?)),
        kind => return Err(cut.unknown(kind.into())),
    }))
}

fn put_scalar(out: &mut Vec<u8>, scalar: &Scalar) {
    match scalar {
        Scalar::Bool(is) => out.push((*is).into()),
        Scalar::Number(number) => {
            let (kind, bits) = match number {
                Number::Float(float) => (2, float.to_bits()),
                Number::Int(int) => (4, int.cast_unsigned()),
                Number::Big(big) => (5, *big),
            };
            out.push(kind);
            put_u64(out, bits);
        }
        Scalar::Text(text) => {
            out.push(3);
            put_bytes(out, text.as_bytes());
        }
    }
}

fn read_scalar(cut: &mut Cut<'_>) -> Result<Scalar> {
    Ok(match cut.u8()? {
        0 => Scalar::Bool(false),
        1 => Scalar::Bool(true),
        2 => Scalar::Number(Number::Float(f64::from_bits(cut.u64()?))),
        3 => Scalar::Text(cut.text()?.to_string()),
        4 => Scalar::Number(Number::int(cut.u64()?.cast_signed())),
        5 => Scalar::Number(Number::big(cut.u64()?)),
        kind => return Err(cut.unknown(kind.into())),
    })
}

/// Appends an answer.
pub(super) fn put_answer(out: &mut Vec<u8>, answer: &VectorAnswer) {
    match answer {
        VectorAnswer::Index(info) => {
            out.push(1);
            put_info(out, info);
        }
        VectorAnswer::Indexes(all) => {
            out.push(2);
            put_varint(out, all.len() as u64);
            all.iter().for_each(|info| put_info(out, info));
        }
        VectorAnswer::Done => out.push(3),
        VectorAnswer::Dropped(id) => {
            out.push(8);
            put_varint(out, id.0);
        }
        VectorAnswer::Vectors(all) => {
            out.push(4);
            put_varint(out, all.len() as u64);
            all.iter().for_each(|vector| put_optional(out, vector.as_ref(), put_vector));
        }
        VectorAnswer::Page { vectors, next } => {
            out.push(5);
            put_varint(out, vectors.len() as u64);
            vectors.iter().for_each(|vector| put_vector(out, vector));
            put_optional(out, *next, put_u64);
        }
        VectorAnswer::Found(found) => {
            out.push(6);
            put_varint(out, found.hits.len() as u64);
            found.hits.iter().for_each(|hit| put_hit(out, hit));
            let cost = found.cost;
            let SearchCost { distances, estimates, hops, fetched, pages, matches, micros, exact } =
                cost;
            for number in [distances, estimates, hops, fetched, pages, matches, micros] {
                put_varint(out, number);
            }
            out.push(exact.into());
            put_optional(out, found.text.as_ref(), |out, text| {
                let TextStats { texts, words, having } = text;
                [*texts, *words, having.len() as u64].iter().for_each(|n| put_varint(out, *n));
                having.iter().for_each(|having| put_varint(out, *having));
            });
        }
        VectorAnswer::Checked(Checked { stored, missing, surplus }) => {
            out.push(7);
            [stored, missing, surplus].into_iter().for_each(|number| put_varint(out, *number));
        }
    }
}

/// The next answer.
pub(super) fn read_answer(cut: &mut Cut<'_>) -> Result<VectorAnswer> {
    Ok(match cut.u8()? {
        1 => VectorAnswer::Index(Box::new(read_info(cut)?)),
        2 => VectorAnswer::Indexes(many(cut, 20, read_info)?),
        3 => VectorAnswer::Done,
        4 => VectorAnswer::Vectors(many(cut, 1, |cut| read_optional(cut, read_vector))?),
        5 => VectorAnswer::Page {
            vectors: many(cut, 10, read_vector)?,
            next: read_optional(cut, Cut::u64)?,
        },
        6 => VectorAnswer::Found(VectorsFound {
            hits: many(cut, 14, read_hit)?,
            cost: SearchCost {
                distances: cut.varint()?,
                estimates: cut.varint()?,
                hops: cut.varint()?,
                fetched: cut.varint()?,
                pages: cut.varint()?,
                matches: cut.varint()?,
                micros: cut.varint()?,
                exact: cut.bool()?,
            },
            text: read_optional(cut, |cut| {
                let (texts, words) = (cut.varint()?, cut.varint()?);
                Ok(TextStats { texts, words, having: many(cut, 1, Cut::varint)? })
            })?,
        }),
        7 => VectorAnswer::Checked(Checked {
            stored: cut.varint()?,
            missing: cut.varint()?,
            surplus: cut.varint()?,
        }),
        8 => VectorAnswer::Dropped(IndexId(cut.varint()?)),
        kind => return Err(cut.unknown(kind.into())),
    })
}

fn put_info(out: &mut Vec<u8>, info: &IndexInfo) {
    put_varint(out, info.id.0);
    put_spec(out, &info.spec);
    for number in numbers(info) {
        put_varint(out, number);
    }
}

fn numbers(info: &IndexInfo) -> [u64; 10] {
    [
        info.vectors,
        info.waiting,
        info.fresh,
        info.sealed,
        info.segments,
        info.dead,
        info.memory_bytes,
        info.disk_bytes,
        info.rebuilt,
        info.postings,
    ]
}

fn read_info(cut: &mut Cut<'_>) -> Result<IndexInfo> {
    let (id, spec) = (IndexId(cut.varint()?), read_spec(cut)?);
    Ok(IndexInfo {
        id,
        spec,
        vectors: cut.varint()?,
        waiting: cut.varint()?,
        fresh: cut.varint()?,
        sealed: cut.varint()?,
        segments: cut.varint()?,
        dead: cut.varint()?,
        memory_bytes: cut.varint()?,
        disk_bytes: cut.varint()?,
        rebuilt: cut.varint()?,
        postings: cut.varint()?,
        // Of one shard: only a gateway knows who else hosts it.
        nodes: Vec::new(),
    })
}

fn put_vector(out: &mut Vec<u8>, vector: &StoredVector) {
    put_u64(out, vector.id);
    put_floats(out, &vector.vector);
    put_bytes(out, &vector.payload);
}

fn read_vector(cut: &mut Cut<'_>) -> Result<StoredVector> {
    Ok(StoredVector { id: cut.u64()?, vector: read_floats(cut)?, payload: cut.bytes()? })
}

/// What a hit has: a payload, and the number of its record.
const HIT_PAYLOAD: u8 = 1;
const HIT_SEQ: u8 = 2;

fn put_hit(out: &mut Vec<u8>, hit: &VectorHit) {
    put_u64(out, hit.id);
    put_f32(out, hit.distance);
    let has_seq = if hit.seq > 0 { HIT_SEQ } else { 0 };
    let has_payload = if hit.payload.is_some() { HIT_PAYLOAD } else { 0 };
    out.push(has_payload | has_seq);
    hit.payload.iter().for_each(|payload| put_bytes(out, payload));
    if hit.seq > 0 {
        put_varint(out, hit.seq);
    }
    put_optional(out, hit.vector.as_ref(), put_floats);
    put_optional(out, hit.score, put_f32);
    put_optional(out, hit.text.as_ref(), |out, text| {
        put_varint(out, text.words.into());
        put_varint(out, text.times.len() as u64);
        text.times.iter().for_each(|times| put_varint(out, (*times).into()));
    });
}

fn read_hit(cut: &mut Cut<'_>) -> Result<VectorHit> {
    let (id, distance, flags) = (cut.u64()?, read_f32(cut)?, cut.u8()?);
    if flags > HIT_PAYLOAD | HIT_SEQ {
        return Err(cut.unknown(flags.into()));
    }
    Ok(VectorHit {
        id,
        distance,
        payload: if flags & HIT_PAYLOAD != 0 { Some(cut.bytes()?) } else { None },
        seq: if flags & HIT_SEQ != 0 { cut.varint()? } else { 0 },
        vector: read_optional(cut, read_floats)?,
        score: read_optional(cut, read_f32)?,
        text: read_optional(cut, |cut| {
            Ok(TextMatch { words: cut.varint32()?, times: many(cut, 1, Cut::varint32)? })
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::vector::filter::FIELD_BYTES_MAX;
    use crate::op::vector::filter::tests::deepest;
    use bytes::Bytes;

    fn read(bytes: &[u8]) -> Result<Option<Filter>> {
        let bytes = Bytes::copy_from_slice(bytes);
        read_filter(&mut Cut::new(&bytes, "a filter"), 0, &Cell::new(FILTER_PARTS_MAX))
    }

    /// A node refused what its gateway had parsed.
    #[test]
    fn the_deepest_filter_of_a_text_passes_between_nodes() {
        let (filter, mut bytes) = (Filter::parse(&deepest()).unwrap(), Vec::new());
        put_filter(&mut bytes, &filter);
        assert_eq!(read(&bytes).unwrap(), Some(filter.clone()));
        let mut deeper = vec![7];
        deeper.extend_from_slice(&bytes);
        assert!(read(&deeper).is_err() && Filter::Not(Box::new(filter)).check().is_err());
    }

    /// A frame of some MiB became as many conditions as it had pairs of bytes.
    #[test]
    fn a_filter_that_a_node_is_sent_has_bounds() {
        let list = |kind: u8, count: usize, one: &[u8]| {
            let mut bytes = vec![kind];
            put_varint(&mut bytes, count as u64);
            (0..count).for_each(|_| bytes.extend_from_slice(one));
            bytes
        };
        // Conditions without a name, and values.
        assert!(read(&list(6, FILTER_PARTS_MAX - 1, &[4, 0])).is_ok());
        let refused = read(&list(6, FILTER_PARTS_MAX, &[4, 0])).unwrap_err();
        assert!(refused.message().contains("16384 parts"), "{refused}");
        let values = |count| [vec![1, 0], list(0, count, &[1])[1..].to_vec()].concat();
        assert!(read(&values(FILTER_PARTS_MAX - 1)).is_ok());
        assert!(read(&values(FILTER_PARTS_MAX)).is_err());
        for (bytes, fits) in [(FIELD_BYTES_MAX, true), (FIELD_BYTES_MAX + 1, false)] {
            let (mut out, field) = (Vec::new(), "x".repeat(bytes));
            put_filter(&mut out, &Filter::Exists { field });
            assert_eq!(read(&out).is_ok(), fits);
        }
    }
}
