//! What of a vector's payload a search may ask.
//!
//! A *field* is a name, or names joined by dots for what lies within objects. What stands there
//! counts if it is a text, a number or a boolean; of an array each of its elements counts.

use crate::base::{Error, Result};
use crate::op::vector::number::Number;
use serde_json::Value;
use std::cmp::Ordering;

/// The deepest that conditions lie within others. Members of an object are joined, which counts, and
/// so does what differs.
pub const FILTER_DEPTH_MAX: usize = 40;
/// The most conditions and values of one filter.
pub const FILTER_PARTS_MAX: usize = 16_384;
/// The longest text of a filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 8 << 20;
/// The longest name of a field that may be asked for, in bytes.
pub const FIELD_BYTES_MAX: usize = 1_024;

/// Whether a field may be asked for.
///
/// # Errors
/// `InvalidArgument` if its name is too long.
pub fn check_field(field: &str) -> Result<()> {
    if field.len() <= FIELD_BYTES_MAX {
        return Ok(());
    }
    let bytes = field.len();
    let message =
        format!("the name of a field has {bytes} bytes; at most {FIELD_BYTES_MAX} are allowed");
    Err(Error::invalid(message))
}

/// A value that a condition compares with. Those of other types differ.
#[derive(Debug, Clone)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
}

impl Scalar {
    /// What a JSON value stands for; `None` if it is no scalar.
    pub fn of(value: &Value) -> Option<Scalar> {
        match value {
            Value::Bool(is) => Some(Scalar::Bool(*is)),
            Value::Number(number) => Number::of(number).map(Scalar::Number),
            Value::String(text) => Some(Scalar::Text(text.clone())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Scalar::Bool(_) => 0,
            Scalar::Number(_) => 1,
            Scalar::Text(_) => 2,
        }
    }

    /// Whether two can be less or greater than each other.
    pub fn is_like(&self, other: &Scalar) -> bool {
        self.rank() == other.rank()
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Scalar) -> Ordering {
        match (self, other) {
            (Scalar::Bool(a), Scalar::Bool(b)) => a.cmp(b),
            (Scalar::Number(a), Scalar::Number(b)) => a.cmp(b),
            (Scalar::Text(a), Scalar::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Scalar) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

/// An end of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The value.
    pub value: Scalar,
    /// Whether the value itself is in the range.
    pub inclusive: bool,
}

/// A condition on payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// A field holds one of these values.
    OneOf {
        /// The field.
        field: String,
        /// The values.
        values: Vec<Scalar>,
    },
    /// A field holds a value between two, of their type.
    Range {
        /// The field.
        field: String,
        /// The lower end, if there is one.
        from: Option<End>,
        /// The upper end, if there is one.
        to: Option<End>,
    },
    /// A field holds a text that begins so.
    Prefix {
        /// The field.
        field: String,
        /// How it begins.
        prefix: String,
    },
    /// A field holds a value at all.
    Exists {
        /// The field.
        field: String,
    },
    /// All of these hold.
    And(Vec<Filter>),
    /// One of these holds, or more.
    Or(Vec<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
}

impl Filter {
    /// Whether a payload matches as it is stored: one that is no JSON has no fields.
    pub fn takes(&self, payload: &[u8]) -> bool {
        self.matches(&serde_json::from_slice(payload).unwrap_or(Value::Null))
    }

    /// Whether a payload matches. What an index answers, said directly.
    pub fn matches(&self, payload: &Value) -> bool {
        let any = |field: &str, holds: &dyn Fn(&Scalar) -> bool| {
            let mut found = false;
            visit_scalars(payload, field, &mut |scalar| found |= holds(&scalar));
            found
        };
        match self {
            Filter::OneOf { field, values } => any(field, &|value| values.contains(value)),
            Filter::Range { field, from, to } => any(field, &|value| within(value, from, to)),
            Filter::Prefix { field, prefix } => {
                any(field, &|value| matches!(value, Scalar::Text(text) if text.starts_with(prefix)))
            }
            Filter::Exists { field } => any(field, &|_| true),
            Filter::And(all) => all.iter().all(|filter| filter.matches(payload)),
            Filter::Or(some) => some.iter().any(|filter| filter.matches(payload)),
            Filter::Not(filter) => !filter.matches(payload),
        }
    }

    /// Whether it is no deeper and no larger than a filter may be: an embedding program makes any.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        let mut left = FILTER_PARTS_MAX;
        self.check_at(0, &mut left)
    }

    fn check_at(&self, depth: usize, left: &mut usize) -> Result<()> {
        check_depth(depth)?;
        let mut take = |nodes: usize| -> Result<()> {
            *left = left.checked_sub(nodes).ok_or_else(too_large)?;
            Ok(())
        };
        match self {
            Filter::OneOf { field, values } => {
                take(values.len().saturating_add(1))?;
                check_field(field)
            }
            Filter::Range { field, from: None, to: None } => {
                Err(Error::invalid(format!("the range of `{field}` has no end")))
            }
            Filter::Range { field, .. }
            | Filter::Prefix { field, .. }
            | Filter::Exists { field } => {
                take(1)?;
                check_field(field)
            }
            Filter::And(all) | Filter::Or(all) => {
                take(1)?;
                all.iter().try_for_each(|filter| filter.check_at(depth + 1, left))
            }
            Filter::Not(filter) => {
                take(1)?;
                filter.check_at(depth + 1, left)
            }
        }
    }

    /// Calls `visit` with every field that it looks at.
    pub fn visit_fields<'f>(&'f self, visit: &mut dyn FnMut(&'f str)) {
        match self {
            Filter::OneOf { field, .. }
            | Filter::Range { field, .. }
            | Filter::Prefix { field, .. }
            | Filter::Exists { field } => visit(field),
            Filter::And(all) | Filter::Or(all) => {
                all.iter().for_each(|filter| filter.visit_fields(visit));
            }
            Filter::Not(filter) => filter.visit_fields(visit),
        }
    }
}

/// The error of a filter with too many conditions and values.
pub fn too_large() -> Error {
    Error::invalid(format!("the filter has more than {FILTER_PARTS_MAX} parts"))
}

/// Whether conditions may lie so deep within others.
///
/// # Errors
/// `InvalidArgument` if not.
pub fn check_depth(depth: usize) -> Result<()> {
    match depth > FILTER_DEPTH_MAX {
        true => Err(Error::invalid(format!("the filter is nested over {FILTER_DEPTH_MAX} deep"))),
        false => Ok(()),
    }
}

/// Whether a value lies between two ends.
pub fn within(value: &Scalar, from: &Option<End>, to: &Option<End>) -> bool {
    let above = from.as_ref().is_none_or(|end| match value.cmp(&end.value) {
        Ordering::Greater => value.is_like(&end.value),
        Ordering::Equal => end.inclusive,
        Ordering::Less => false,
    });
    let below = to.as_ref().is_none_or(|end| match value.cmp(&end.value) {
        Ordering::Less => value.is_like(&end.value),
        Ordering::Equal => end.inclusive,
        Ordering::Greater => false,
    });
    above && below
}

/// Calls `visit` with each scalar that a payload holds in a field.
pub fn visit_scalars(payload: &Value, field: &str, visit: &mut dyn FnMut(Scalar)) {
    if let Value::Array(elements) = payload {
        return elements.iter().for_each(|element| visit_scalars(element, field, visit));
    }
    // A name may itself hold dots; the longest that is there counts.
    let Value::Object(object) = payload else { return };
    if let Some(value) = object.get(field) {
        return visit_value(value, visit);
    }
    for (at, _) in field.match_indices('.').rev() {
        if let Some(inner) = object.get(&field[..at]) {
            return visit_scalars(inner, &field[at + 1..], visit);
        }
    }
}

fn visit_value(value: &Value, visit: &mut dyn FnMut(Scalar)) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| visit_value(element, visit)),
        value => Scalar::of(value).into_iter().for_each(visit),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The text of the deepest filter there may be.
    pub(crate) fn deepest() -> String {
        // Three deep; each around it is two more, and the outermost one.
        let inner = r#"{"x": 1, "y": {"ne": 1, "gt": 0}}"#.to_string();
        let around = |filter, _| format!(r#"{{"x": 1, "not": {filter}}}"#);
        format!(r#"{{"not": {}}}"#, (0..(FILTER_DEPTH_MAX - 4) / 2).fold(inner, around))
    }
}
