//! Which vectors match a filter.
//!
//! A field is indexed when a filter first asks for it: each value that stands in it, with the
//! vectors that have it. Vectors are numbered densely here, so that a set of them is a row of bits
//! and `and`, `or` and `not` are passes over words.

use crate::base::{Error, ErrorKind, Result};
use crate::op::vector::filter::{End, Filter, Scalar, visit_scalars, within};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    fn of(numbers: u32) -> Bits {
        Bits { words: vec![0; (numbers as usize).div_ceil(64)] }
    }

    fn set(&mut self, number: u32) {
        let at = number as usize / 64;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (number % 64);
    }

    /// Sets all `numbers` of some values; each of these and of those may be one of so many as are
    /// `left`.
    fn set_each<'f>(
        &mut self,
        values: impl Iterator<Item = &'f HashSet<u32>>,
        left: &mut usize,
    ) -> Result<()> {
        for numbers in values {
            *left = left.checked_sub(1).ok_or_else(too_wide)?;
            self.set_all(numbers.iter().copied(), left)?;
        }
        Ok(())
    }

    /// Sets `numbers`, which may be so many as are `left`.
    fn set_all(&mut self, numbers: impl Iterator<Item = u32>, left: &mut usize) -> Result<()> {
        for number in numbers {
            *left = left.checked_sub(1).ok_or_else(too_wide)?;
            self.set(number);
        }
        Ok(())
    }

    fn clear(&mut self, number: u32) {
        if let Some(word) = self.words.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    fn has(&self, number: u32) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn and(&mut self, other: &Bits) {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        self.words.iter_mut().zip(others).for_each(|(word, other)| *word &= other);
    }

    fn or(&mut self, other: &Bits) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    fn without(&mut self, other: &Bits) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn numbers(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }
}

/// Values of vectors that all conditions of a filter may hold for together, some tenths of a second of
/// work; and for each vector, so that some conditions may always hold for all.
const VISITED_MAX: usize = 1 << 25;
const VISITED_EACH_MAX: usize = 8;
/// What the heap takes beside each piece of it, about.
const ALLOCATED_BYTES: usize = 16;
/// A value and its set of vectors: in nodes of a tree that are two thirds full, and the least table
/// that a set has.
const VALUE_BYTES: usize =
    (size_of::<Scalar>() + size_of::<HashSet<u32>>()) * 3 / 2 + 36 + ALLOCATED_BYTES;
/// A vector's list of values: in a table that is two thirds full, and on the heap.
const VECTOR_BYTES: usize = (size_of::<(u32, Vec<Scalar>)>() + 1) * 3 / 2 + ALLOCATED_BYTES;
/// A value in such a list, and the vector in the value's set.
const PAIR_BYTES: usize = size_of::<Scalar>() + (size_of::<u32>() + 1) * 3 / 2;

/// The values of one field.
#[derive(Debug, Default)]
struct Field {
    /// The vectors that have a value, in no order.
    with: BTreeMap<Scalar, HashSet<u32>>,
    /// The values that a vector has.
    of: HashMap<u32, Vec<Scalar>>,
    bytes: usize,
    /// Whether all vectors have been told.
    is_whole: bool,
    /// Which question was the last one that it was asked for.
    asked: AtomicU64,
}

impl Field {
    fn add(&mut self, number: u32, scalar: Scalar) {
        let with = self.with.entry(scalar.clone()).or_default();
        if !with.insert(number) {
            return;
        }
        if with.len() == 1 {
            self.bytes += VALUE_BYTES + text_bytes(&scalar);
        }
        let of = self.of.entry(number).or_insert_with(|| Vec::with_capacity(1));
        if of.is_empty() {
            self.bytes += VECTOR_BYTES;
        }
        self.bytes += PAIR_BYTES + text_bytes(&scalar);
        of.push(scalar);
    }

    fn remove(&mut self, number: u32) {
        let Some(scalars) = self.of.remove(&number) else { return };
        let mut bytes = VECTOR_BYTES;
        for scalar in scalars {
            bytes += PAIR_BYTES + text_bytes(&scalar);
            let Some(with) = self.with.get_mut(&scalar) else { continue };
            with.remove(&number);
            if with.is_empty() {
                bytes += VALUE_BYTES + text_bytes(&scalar);
                self.with.remove(&scalar);
            }
        }
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What has the values from one on, as long as `holds`.
    fn within<'f>(
        &'f self,
        from: Bound<&Scalar>,
        holds: impl Fn(&Scalar) -> bool + 'f,
    ) -> impl Iterator<Item = &'f HashSet<u32>> + 'f {
        let values = self.with.range((from, Bound::Unbounded));
        values.take_while(move |(value, _)| holds(value)).map(|(_, with)| with)
    }
}

/// Where the values of a range begin: at its lower end, or at the least of the upper end's type.
fn lowest<'f>(from: &'f Option<End>, to: &Option<End>) -> Bound<&'f Scalar> {
    static FALSE: Scalar = Scalar::Bool(false);
    static TRUE: Scalar = Scalar::Bool(true);
    static EMPTY: Scalar = Scalar::Text(String::new());
    match (from, to.as_ref().map(|end| &end.value)) {
        (Some(End { value, inclusive: true }), _) => Bound::Included(value),
        (Some(End { value, inclusive: false }), _) => Bound::Excluded(value),
        (None, Some(Scalar::Bool(_))) => Bound::Included(&FALSE),
        (None, Some(Scalar::Number(_))) => Bound::Excluded(&TRUE),
        (None, Some(Scalar::Text(_))) => Bound::Included(&EMPTY),
        (None, None) => Bound::Unbounded,
    }
}

fn text_bytes(scalar: &Scalar) -> usize {
    match scalar {
        Scalar::Text(text) => text.len() + ALLOCATED_BYTES,
        Scalar::Bool(_) | Scalar::Number(_) => 0,
    }
}

/// The fields that filters have asked for.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    numbers: HashMap<u64, u32>,
    ids: Vec<u64>,
    free: Vec<u32>,
    live: Bits,
    /// Whether changes are followed.
    begun: bool,
    /// Whether all vectors have been told.
    is_whole: bool,
    fields: BTreeMap<String, Field>,
    /// Questions so far.
    questions: AtomicU64,
}

impl Attributes {
    /// Whether changes must be told.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether all fields of a filter are indexed.
    pub(super) fn can_answer(&self, filter: &Filter) -> bool {
        self.is_whole && self.missing(filter).is_empty()
    }

    /// The fields of a filter that are not indexed yet.
    pub(super) fn missing(&self, filter: &Filter) -> Vec<String> {
        let (mut missing, mut known) = (Vec::new(), HashSet::new());
        filter.visit_fields(&mut |field| {
            let is_there = self.fields.get(field).is_some_and(|field| field.is_whole);
            if !is_there && known.insert(field) {
                missing.push(field.to_string());
            }
        });
        missing
    }

    /// How many fields there are.
    pub(super) fn count(&self) -> usize {
        self.fields.len()
    }

    /// Forgets fields, but for those of `filter`, until there are `most`: all in which nothing was
    /// found, a name that was misspelt, say, and then those that nobody has asked for longest.
    pub(super) fn forget(&mut self, filter: &Filter, most: usize) {
        let mut asked = HashSet::new();
        filter.visit_fields(&mut |field| _ = asked.insert(field));
        let may_go = |name: &str, field: &Field| field.is_whole && !asked.contains(name);
        self.fields.retain(|name, field| !may_go(name, field) || !field.of.is_empty());
        while self.fields.len() > most {
            let may_go = self.fields.iter().filter(|(name, field)| may_go(name, field));
            let oldest = may_go.min_by_key(|(_, field)| field.asked.load(Ordering::Relaxed));
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
            self.fields.remove(&name);
        }
    }

    /// The number of a question that is being asked.
    fn question(&self) -> u64 {
        self.questions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Begins with fields, whose changes are to be told from now on: [`Attributes::set_fields`] is
    /// then called for every vector, and [`Attributes::end`].
    pub(super) fn begin(&mut self, fields: &[String]) {
        self.begun = true;
        for field in fields {
            self.fields.entry(field.clone()).or_default();
        }
    }

    /// All vectors were told of for these fields, or it failed, and they are forgotten.
    pub(super) fn end(&mut self, fields: &[String], is_whole: bool) {
        let question = self.question();
        for name in fields {
            if !is_whole {
                self.fields.remove(name);
            } else if let Some(field) = self.fields.get_mut(name) {
                field.is_whole = true;
                *field.asked.get_mut() = question;
            }
        }
        self.is_whole |= is_whole;
        if !self.is_whole {
            *self = Attributes::default();
        }
    }

    /// Takes a vector's payload in, for all fields.
    pub(super) fn set(&mut self, id: u64, payload: &[u8]) {
        self.remove(id);
        let number = self.number_of(id);
        let payload = parse(payload);
        for (name, field) in &mut self.fields {
            visit_scalars(&payload, name, &mut |scalar| field.add(number, scalar));
        }
    }

    /// Takes a vector's payload in, for some fields that have just begun.
    pub(super) fn set_fields(&mut self, id: u64, payload: &[u8], fields: &[String]) {
        let number = self.number_of(id);
        let payload = parse(payload);
        for name in fields {
            if let Some(field) = self.fields.get_mut(name) {
                visit_scalars(&payload, name, &mut |scalar| field.add(number, scalar));
            }
        }
    }

    /// Forgets a vector.
    pub(super) fn remove(&mut self, id: u64) {
        let Some(number) = self.numbers.remove(&id) else { return };
        self.fields.values_mut().for_each(|field| field.remove(number));
        self.live.clear(number);
        self.free.push(number);
    }

    fn number_of(&mut self, id: u64) -> u32 {
        if let Some(number) = self.numbers.get(&id) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.ids.push(0);
            self.ids.len() as u32 - 1
        });
        self.ids[number as usize] = id;
        self.numbers.insert(id, number);
        self.live.set(number);
        number
    }

    /// The vectors that match. REQUIRES: all its fields are indexed.
    ///
    /// # Errors
    /// `Refused` if too much has to be looked at: changes of the index wait meanwhile.
    pub(super) fn matching(&self, filter: &Filter) -> Result<Matching<'_>> {
        let question = self.question();
        filter.visit_fields(&mut |field| {
            if let Some(field) = self.fields.get(field) {
                field.asked.store(question, Ordering::Relaxed);
            }
        });
        let mut left = VISITED_MAX.max(VISITED_EACH_MAX * self.ids.len());
        let mut bits = self.bits(filter, &mut left)?;
        bits.and(&self.live);
        let count = bits.count();
        Ok(Matching { attributes: self, bits, count })
    }

    fn bits(&self, filter: &Filter, left: &mut usize) -> Result<Bits> {
        let mut bits = Bits::of(self.ids.len() as u32);
        // A pass over them is made whatever they hold.
        *left = left.checked_sub(bits.words.len()).ok_or_else(too_wide)?;
        match filter {
            Filter::OneOf { field, values } => {
                if let Some(field) = self.fields.get(field) {
                    bits.set_each(values.iter().filter_map(|value| field.with.get(value)), left)?;
                }
            }
            Filter::Range { field, from, to } => {
                let field = self.fields.get(field);
                // Those that hold follow each other: the first that does not is the end.
                let holds = |value: &Scalar| within(value, from, to);
                let found = field.into_iter().flat_map(|f| f.within(lowest(from, to), holds));
                bits.set_each(found, left)?;
            }
            Filter::Prefix { field, prefix } => {
                let from = Scalar::Text(prefix.clone());
                let holds = |value: &Scalar| matches!(value, Scalar::Text(text) if text.starts_with(prefix.as_str()));
                let field = self.fields.get(field);
                let found = field.into_iter().flat_map(|f| f.within(Bound::Included(&from), holds));
                bits.set_each(found, left)?;
            }
            Filter::Exists { field } => {
                let field = self.fields.get(field);
                bits.set_all(field.into_iter().flat_map(|f| f.of.keys().copied()), left)?;
            }
            Filter::And(all) => {
                bits.or(&self.live);
                for filter in all {
                    bits.and(&self.bits(filter, left)?);
                }
            }
            Filter::Or(some) => {
                for filter in some {
                    bits.or(&self.bits(filter, left)?);
                }
            }
            Filter::Not(filter) => {
                bits.or(&self.live);
                bits.without(&self.bits(filter, left)?);
            }
        }
        Ok(bits)
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, field)| name.len() + field.bytes).sum();
        // The table from ids, the ids, and which are free.
        fields + self.ids.len() * (17 * 3 / 2 + 8 + 4)
    }
}

fn too_wide() -> Error {
    let message = "the conditions of the filter hold for too many values all in all; ask for fewer \
                   conditions, or for narrower ranges and longer prefixes";
    Error::new(ErrorKind::Refused, message)
}

/// A payload.
pub(super) fn parse(payload: &[u8]) -> Value {
    // It was checked when it was written; one that is none has no fields.
    serde_json::from_slice(payload).unwrap_or(Value::Null)
}

/// The vectors that match a filter.
#[derive(Debug)]
pub(super) struct Matching<'a> {
    attributes: &'a Attributes,
    bits: Bits,
    count: usize,
}

impl Matching<'_> {
    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether a vector is among them.
    pub(super) fn has(&self, id: u64) -> bool {
        self.attributes.numbers.get(&id).is_some_and(|number| self.bits.has(*number))
    }

    /// Their ids, in rising order.
    pub(super) fn ids(&self) -> Vec<u64> {
        let ids = self.bits.numbers().map(|number| self.attributes.ids[number as usize]);
        let mut ids: Vec<u64> = ids.collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;
    use serde_json::json;

    const FILTERS: &[&str] = &[
        r#"{"a": 3}"#,
        r#"{"a": {"in": [1, 2, "x"]}}"#,
        r#"{"a": {"gte": 2, "lt": 6}}"#,
        r#"{"a": {"gt": 2}}"#,
        r#"{"a": {"lte": 4}}"#,
        r#"{"a": {"lt": "y"}}"#,
        r#"{"b": {"prefix": "li"}}"#,
        r#"{"b": {"prefix": ""}}"#,
        r#"{"b": {"exists": false}}"#,
        r#"{"c.d": true}"#,
        r#"{"tags": "t1", "a": {"ne": 1}}"#,
        r#"{"or": [{"a": 1}, {"not": {"b": {"exists": true}}}]}"#,
        r#"{"not": {"or": []}}"#,
        r#"{}"#,
        r#"{"n": 1234567890123456789}"#,
        r#"{"n": {"in": [1234567890123456788, 1234567890123456800]}}"#,
        r#"{"n": {"gt": 1234567890123456787, "lt": 1234567890123456791}}"#,
    ];

    fn payload(rng: &mut Rng) -> Value {
        let mut object = serde_json::Map::new();
        match rng.below(4) {
            0 => _ = object.insert("a".into(), json!(rng.below(8))),
            1 => _ = object.insert("a".into(), json!(["x", rng.below(8)])),
            2 => _ = object.insert("a".into(), json!("y")),
            _ => {}
        }
        if rng.below(2) == 0 {
            let text = ["lib", "lima", "go", ""][rng.below(4) as usize];
            object.insert("b".into(), json!(text));
        }
        object.insert("n".into(), json!(1_234_567_890_123_456_780_u64 + rng.below(30)));
        object.insert("c".into(), json!({"d": rng.below(2) == 0}));
        object.insert("tags".into(), json!([format!("t{}", rng.below(3)), "t9"]));
        object.into()
    }

    #[test]
    fn what_matches_is_what_the_filter_says_whatever_was_changed() {
        let mut rng = Rng::new(5);
        let filters: Vec<Filter> =
            FILTERS.iter().map(|text| Filter::parse(text).unwrap()).collect();
        let mut attributes = Attributes::default();
        let mut model: BTreeMap<u64, Value> = BTreeMap::new();
        for step in 0..3_000 {
            let id = rng.below(200);
            if rng.below(3) == 0 {
                model.remove(&id);
                attributes.remove(id);
            } else {
                let payload = payload(&mut rng);
                attributes.set(id, payload.to_string().as_bytes());
                model.insert(id, payload);
            }
            if step % 50 != 0 {
                continue;
            }
            let filter = &filters[rng.below(filters.len() as u64) as usize];
            let missing = attributes.missing(filter);
            attributes.begin(&missing);
            for (id, payload) in &model {
                attributes.set_fields(*id, payload.to_string().as_bytes(), &missing);
            }
            attributes.end(&missing, true);
            for filter in &filters {
                if !attributes.missing(filter).is_empty() {
                    continue;
                }
                let matching = attributes.matching(filter).unwrap();
                let expected: Vec<u64> = model
                    .iter()
                    .filter(|(_, payload)| filter.matches(payload))
                    .map(|(id, _)| *id)
                    .collect();
                assert_eq!(matching.ids(), expected, "{filter:?}");
                assert_eq!(matching.count(), expected.len());
                assert!((0..200).all(|id| matching.has(id) == expected.contains(&id)));
            }
        }
        model.keys().for_each(|id| attributes.remove(*id));
        assert!(attributes.fields.values().all(|field| field.with.is_empty() && field.bytes == 0));
    }

    /// Thousands of conditions that all vectors meet held up an index for tens of seconds.
    #[test]
    fn a_filter_that_looks_at_too_much_is_refused() {
        let mut attributes = Attributes::default();
        let fields = ["b".to_string()];
        attributes.begin(&fields);
        for id in 0..20_000 {
            let payload = json!({"b": format!("x{}", id % 500)}).to_string();
            attributes.set_fields(id, payload.as_bytes(), &fields);
        }
        attributes.end(&fields, true);
        let some = |count: usize, condition: &str| {
            let all = vec![format!(r#"{{"b": {condition}}}"#); count].join(", ");
            Filter::parse(&format!(r#"{{"or": [{all}]}}"#)).unwrap()
        };
        for condition in [r#"{"exists": true}"#, r#"{"prefix": "x"}"#, r#"{"gte": "x"}"#] {
            assert_eq!(attributes.matching(&some(100, condition)).unwrap().count(), 20_000);
            let refused = attributes.matching(&some(2_000, condition)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Refused, "{condition}");
        }
        // What looks at little may have as many conditions as it likes.
        assert_eq!(attributes.matching(&some(2_000, r#"{"prefix": "x7"}"#)).unwrap().count(), 440);
    }

    /// A range of texts began at the least of all values, and stepped over all numbers uncounted.
    #[test]
    fn a_range_looks_at_values_of_its_type_alone_and_a_pass_over_all_counts() {
        let mut attributes = Attributes::default();
        let fields = ["n".to_string()];
        attributes.begin(&fields);
        for id in 0..6_400 {
            let payload =
                if id < 6_000 { json!({"n": id}) } else { json!({"n": format!("x{id}")}) };
            attributes.set_fields(id, payload.to_string().as_bytes(), &fields);
        }
        attributes.end(&fields, true);
        let words = 6_400 / 64;
        for (filter, expected, looked_at) in [
            (r#"{"n": {"lt": "y"}}"#, 400, words + 800),
            (r#"{"n": {"lt": "x"}}"#, 0, words),
            (r#"{"n": {"lt": true}}"#, 0, words),
            (r#"{"n": {"lt": 10}}"#, 10, words + 20),
            (r#"{"n": {"gt": 10, "lte": 20}}"#, 10, words + 20),
            (r#"{"n": {"gte": 1, "lt": "y"}}"#, 0, words),
            (r#"{"n": {"gt": 20, "lt": 10}}"#, 0, words),
            (r#"{"n": {"prefix": "x"}}"#, 400, words + 800),
            (r#"{"or": [{}, {}, {}]}"#, 6_400, 4 * words),
        ] {
            let mut left = 1 << 20;
            let bits = attributes.bits(&Filter::parse(filter).unwrap(), &mut left).unwrap();
            assert_eq!((bits.count(), (1 << 20) - left), (expected, looked_at), "{filter}");
            let refused = attributes.bits(&Filter::parse(filter).unwrap(), &mut (looked_at - 1));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused, "{filter}");
        }
    }
}
