//! How a filter is written, in JSON:
//!
//! ```text
//! {"section": "python"}                      the field holds it
//! {"section": {"in": ["python", "perl"]}}    the field holds one of them
//! {"size": {"gte": 10, "lt": 100}}           a range: gt, gte, lt, lte
//! {"name": {"prefix": "lib"}}                a text that begins so
//! {"maintainer.team": {"exists": true}}      the field is there
//! {"size": {"ne": 3}}                        the field does not hold it
//! {"and": [F, ..]} {"or": [F, ..]} {"not": F}
//! ```
//! Several members of one object must all hold. A field of the name `and`, `or` or `not` is reached
//! by `{"field": NAME, ..}` with the condition's members beside it.

use crate::base::{Error, Result};
use crate::op::vector::filter::{
    End, FILTER_BYTES_MAX, FILTER_PARTS_MAX, Filter, Scalar, check_depth, check_field, too_large,
};
use crate::op::vector::number::Number;
use serde_json::{Map, Value};

impl Filter {
    /// The filter that a text writes.
    ///
    /// # Errors
    /// `InvalidArgument` says what is wrong with it, and what could stand there.
    pub fn parse(text: &str) -> Result<Filter> {
        // What JSON becomes takes many times its bytes.
        if text.len() > FILTER_BYTES_MAX {
            let bytes = text.len();
            let message = format!("the filter has {bytes} bytes; at most {FILTER_BYTES_MAX}");
            return Err(Error::invalid(message));
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("the filter is not JSON: {e}")))?;
        // A range is three members of a text and one condition.
        let filter = Parser { left: 3 * FILTER_PARTS_MAX }.filter(&value, 0)?;
        filter.check()?;
        Ok(filter)
    }

    /// The filter as it is written. [`Filter::parse`] takes it if [`Filter::check`] does, unless it is
    /// longer than a text may be.
    pub fn text(&self) -> String {
        self.json().to_string()
    }

    fn json(&self) -> Value {
        let condition = |field: &str, members: Vec<(&str, Value)>| {
            let members = members.into_iter().map(|(name, value)| (name.to_string(), value));
            let field = ("field".to_string(), Value::from(field));
            Value::Object(members.chain([field]).collect())
        };
        let list = |name: &str, all: &[Filter]| {
            let all: Vec<Value> = all.iter().map(Filter::json).collect();
            Value::Object(Map::from_iter([(name.to_string(), all.into())]))
        };
        match self {
            Filter::OneOf { field, values } => {
                let values: Vec<Value> = values.iter().map(of_scalar).collect();
                condition(field, vec![("in", values.into())])
            }
            Filter::Range { field, from, to } => {
                let from = from
                    .iter()
                    .map(|end| (if end.inclusive { "gte" } else { "gt" }, of_scalar(&end.value)));
                let to = to
                    .iter()
                    .map(|end| (if end.inclusive { "lte" } else { "lt" }, of_scalar(&end.value)));
                condition(field, from.chain(to).collect())
            }
            Filter::Prefix { field, prefix } => {
                condition(field, vec![("prefix", prefix.as_str().into())])
            }
            Filter::Exists { field } => condition(field, vec![("exists", true.into())]),
            Filter::And(all) => list("and", all),
            Filter::Or(some) => list("or", some),
            Filter::Not(filter) => {
                Value::Object(Map::from_iter([("not".to_string(), filter.json())]))
            }
        }
    }
}

fn of_scalar(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Bool(is) => (*is).into(),
        Scalar::Number(Number::Float(float)) => (*float).into(),
        Scalar::Number(Number::Int(int)) => (*int).into(),
        Scalar::Number(Number::Big(big)) => (*big).into(),
        Scalar::Text(text) => text.as_str().into(),
    }
}

struct Parser {
    /// Conditions and values that may still come.
    left: usize,
}

impl Parser {
    fn count(&mut self, parts: usize) -> Result<()> {
        self.left = self.left.checked_sub(parts).ok_or_else(too_large)?;
        Ok(())
    }

    fn filter(&mut self, value: &Value, depth: usize) -> Result<Filter> {
        check_depth(depth)?;
        let Value::Object(members) = value else {
            return Err(Error::invalid(format!("a filter is a JSON object, not {value}")));
        };
        if let Some(Value::String(field)) = members.get("field") {
            let rest: Map<String, Value> = members
                .iter()
                .filter(|(name, _)| *name != "field")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            return self.condition(field, &Value::Object(rest));
        }
        // One without a condition holds for all, and is a pass over all.
        self.count(usize::from(members.is_empty()))?;
        let mut all = Vec::new();
        for (name, value) in members {
            self.count(1)?;
            all.push(match (name.as_str(), value) {
                ("and", Value::Array(filters)) => Filter::And(self.filters(filters, depth)?),
                ("or", Value::Array(filters)) => Filter::Or(self.filters(filters, depth)?),
                ("not", filter @ Value::Object(_)) => {
                    Filter::Not(Box::new(self.filter(filter, depth + 1)?))
                }
                ("and" | "or", _) => {
                    return Err(Error::invalid(format!("`{name}` takes a list of filters")));
                }
                ("not", _) => return Err(Error::invalid("`not` takes a filter")),
                (field, value) => self.condition(field, value)?,
            });
        }
        Ok(match all.len() {
            1 => all.remove(0),
            _ => Filter::And(all),
        })
    }

    fn filters(&mut self, filters: &[Value], depth: usize) -> Result<Vec<Filter>> {
        filters.iter().map(|filter| self.filter(filter, depth + 1)).collect()
    }

    fn condition(&mut self, field: &str, value: &Value) -> Result<Filter> {
        check_field(field)?;
        let field = field.to_string();
        let Value::Object(members) = value else {
            let values = vec![scalar(&field, value)?];
            return Ok(Filter::OneOf { field, values });
        };
        let (mut all, mut from, mut to) = (Vec::new(), None, None);
        let range = |from, to| Filter::Range { field: field.clone(), from, to };
        for (name, value) in members {
            self.count(1)?;
            match (name.as_str(), value) {
                ("eq", value) => {
                    let values = vec![scalar(&field, value)?];
                    all.push(Filter::OneOf { field: field.clone(), values });
                }
                ("ne", value) => {
                    let values = vec![scalar(&field, value)?];
                    all.push(Filter::Not(Box::new(Filter::OneOf { field: field.clone(), values })));
                }
                ("in", Value::Array(values)) => {
                    self.count(values.len())?;
                    let values: Result<Vec<Scalar>> =
                        values.iter().map(|value| scalar(&field, value)).collect();
                    all.push(Filter::OneOf { field: field.clone(), values: values? });
                }
                ("gt" | "gte", value) => {
                    let end = End { value: scalar(&field, value)?, inclusive: name == "gte" };
                    // Beside `gt` a `gte` holds as well.
                    all.extend(from.replace(end).map(|other| range(Some(other), None)));
                }
                ("lt" | "lte", value) => {
                    let end = End { value: scalar(&field, value)?, inclusive: name == "lte" };
                    all.extend(to.replace(end).map(|other| range(None, Some(other))));
                }
                ("prefix", Value::String(prefix)) => {
                    all.push(Filter::Prefix { field: field.clone(), prefix: prefix.clone() });
                }
                ("exists", Value::Bool(is_there)) => {
                    let exists = Filter::Exists { field: field.clone() };
                    all.push(if *is_there { exists } else { Filter::Not(Box::new(exists)) });
                }
                _ => {
                    return Err(Error::invalid(format!(
                        "{name:?} with {value} is no condition on `{field}`; give eq, ne, in, gt, \
                         gte, lt, lte, prefix or exists"
                    )));
                }
            }
        }
        if from.is_some() || to.is_some() {
            all.push(range(from, to));
        }
        match all.len() {
            0 => Err(Error::invalid(format!("the condition on `{field}` is empty"))),
            1 => Ok(all.remove(0)),
            _ => Ok(Filter::And(all)),
        }
    }
}

fn scalar(field: &str, value: &Value) -> Result<Scalar> {
    Scalar::of(value).ok_or_else(|| {
        let message =
            format!("`{field}` is compared with a text, a number or a boolean, not {value}");
        Error::invalid(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::vector::filter::FIELD_BYTES_MAX;
    use serde_json::json;

    fn holds(filter: &str, payload: &Value) -> bool {
        Filter::parse(filter).unwrap().matches(payload)
    }

    /// They were compared as floats, which many ids of 64 bits share.
    #[test]
    fn large_integers_are_compared_exactly() {
        let id = 1_234_567_890_123_456_789_u64;
        for off in [0, 1, 100, 128] {
            let payload =
                json!({"id": id + off, "top": u64::MAX - off, "low": i64::MIN + off as i64});
            let is_it = off == 0;
            for (filter, expected) in [
                (format!(r#"{{"id": {id}}}"#), is_it),
                (format!(r#"{{"id": {{"in": [7, {id}]}}}}"#), is_it),
                (format!(r#"{{"id": {{"ne": {id}}}}}"#), !is_it),
                (format!(r#"{{"id": {{"lte": {id}}}}}"#), is_it),
                (format!(r#"{{"id": {{"gt": {id}}}}}"#), !is_it),
                (format!(r#"{{"id": {{"gte": {id}, "lt": {}}}}}"#, id + 1), is_it),
                (format!(r#"{{"id": {{"gt": {}, "lt": 1e300}}}}"#, id - 1), true),
                (format!(r#"{{"top": {}}}"#, u64::MAX), is_it),
                (format!(r#"{{"low": {}}}"#, i64::MIN), is_it),
            ] {
                assert_eq!(holds(&filter, &payload), expected, "{filter} {off}");
                let parsed = Filter::parse(&filter).unwrap();
                assert_eq!(Filter::parse(&parsed.text()).unwrap(), parsed, "{filter}");
            }
        }
    }

    #[test]
    fn filters_say_what_they_look_like() {
        let payload = json!({
            "section": "python", "size": 42, "tags": ["web", "http"], "essential": false,
            "source": {"name": "flask", "v": {"major": 3}}, "a.b": "dotted", "and": 1, "none": null,
        });
        for (filter, expected) in [
            (r#"{"section": "python"}"#, true),
            (r#"{"section": "perl"}"#, false),
            (r#"{"section": {"in": ["perl", "python"]}}"#, true),
            (r#"{"section": {"ne": "python"}}"#, false),
            // The first of two ends was forgotten.
            (r#"{"size": {"gt": 42, "gte": 10}}"#, false),
            (r#"{"size": {"gt": 41, "gte": 42}}"#, true),
            (r#"{"size": {"lt": 42, "lte": 100}}"#, false),
            (r#"{"size": {"gt": 1, "gte": 42, "lt": 43, "lte": 42}}"#, true),
            (r#"{"size": {"gte": 42, "lt": 43}}"#, true),
            (r#"{"size": {"gt": 42}}"#, false),
            (r#"{"size": {"lte": 42.0}}"#, true),
            (r#"{"size": {"gt": "4"}}"#, false),
            (r#"{"section": {"gt": "p", "lt": "q"}}"#, true),
            (r#"{"section": {"gt": 1}}"#, false),
            (r#"{"size": "42"}"#, false),
            (r#"{"tags": "http"}"#, true),
            (r#"{"tags": {"prefix": "we"}}"#, true),
            (r#"{"essential": false}"#, true),
            (r#"{"essential": 0}"#, false),
            (r#"{"source.name": "flask"}"#, true),
            (r#"{"source.v.major": {"gt": 2}}"#, true),
            (r#"{"a.b": {"prefix": "dot"}}"#, true),
            (r#"{"missing": {"exists": true}}"#, false),
            (r#"{"none": {"exists": false}}"#, true),
            (r#"{"not": {"section": "perl"}}"#, true),
            (r#"{"or": [{"size": 1}, {"section": "python"}]}"#, true),
            (r#"{"and": [{"size": 42}, {"section": "perl"}]}"#, false),
            (r#"{"size": 42, "section": "perl"}"#, false),
            (r#"{"field": "and", "eq": 1}"#, true),
            (r#"{}"#, true),
            (r#"{"or": []}"#, false),
        ] {
            assert_eq!(holds(filter, &payload), expected, "{filter}");
            let parsed = Filter::parse(filter).unwrap();
            assert_eq!(Filter::parse(&parsed.text()).unwrap(), parsed, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told_so() {
        let deep = format!("{}{{\"a\":1}}{}", "{\"not\":".repeat(41), "}".repeat(41));
        let wide = format!("{{\"a\": {{\"in\": [{}1]}}}}", "1,".repeat(FILTER_PARTS_MAX));
        // Elements without a condition were not counted.
        let empty = format!("{{\"or\": [{}{{}}]}}", "{},".repeat(FILTER_PARTS_MAX));
        let long = format!("{{\"{}\": 1}}", "a.".repeat(FIELD_BYTES_MAX));
        let long_named =
            format!("{{\"field\": \"{}\", \"eq\": 1}}", "a".repeat(FIELD_BYTES_MAX + 1));
        for wrong in [
            "",
            "[]",
            "{\"a\": null}",
            "{\"a\": [1]}",
            "{\"a\": {}}",
            "{\"a\": {\"near\": 1}}",
            "{\"a\": {\"prefix\": 1}}",
            "{\"and\": {}}",
            "{\"not\": []}",
            deep.as_str(),
            wide.as_str(),
            empty.as_str(),
            long.as_str(),
            long_named.as_str(),
        ] {
            let error = Filter::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), crate::base::ErrorKind::InvalidArgument, "{wrong}");
        }
        for right in [
            format!("{{\"or\": [{}{{}}]}}", "{},".repeat(FILTER_PARTS_MAX - 2)),
            format!("{{\"{}\": 1}}", "a".repeat(FIELD_BYTES_MAX)),
        ] {
            Filter::parse(&right).unwrap();
        }
    }

    #[test]
    fn what_a_filter_may_be_a_text_may_write_and_no_more() {
        let many = FILTER_PARTS_MAX;
        // A client writes the filter that it has parsed: from 9 deep on a server refused that.
        for right in [
            super::super::filter::tests::deepest(),
            format!("{{\"a\": {{\"in\": [{}1]}}}}", "1,".repeat(many - 2)),
            format!("{{\"or\": [{}{{}}]}}", "{},".repeat(many - 2)),
            format!("{{\"or\": [{}{{}}]}}", r#"{"x": {"gt": 1, "lt": 2}},"#.repeat(many - 2)),
            format!("{{\"or\": [{}{{}}]}}", r#"{"field": "x", "eq": 1},"#.repeat(many / 2 - 1)),
            format!("{{\"or\": [{}{{}}]}}", r#"{"x": {"ne": 1, "gt": 2}},"#.repeat(many / 5)),
        ] {
            let filter = Filter::parse(&right).unwrap();
            filter.check().unwrap();
            assert!(Filter::parse(&filter.text()).unwrap() == filter);
            let deeper = format!("{{\"not\": {right}}}");
            let larger = format!("{{\"or\": [{right}{}]}}", ",{}".repeat(many - 1));
            assert!(Filter::parse(&larger).is_err());
            assert_eq!(
                Filter::parse(&deeper).is_ok(),
                Filter::Not(Box::new(filter)).check().is_ok()
            );
        }
        let nested = |depth| {
            let inner = Filter::Exists { field: "x".into() };
            (0..depth).fold(inner, |filter, _| Filter::Not(Box::new(filter)))
        };
        let deep = super::super::filter::FILTER_DEPTH_MAX;
        assert!(nested(deep).check().is_ok() && nested(deep + 1).check().is_err());
        assert!(Filter::Or(vec![nested(1); many / 2 - 1]).check().is_ok());
        assert!(Filter::Or(vec![nested(1); many / 2]).check().is_err());
        assert!(Filter::Exists { field: "x".repeat(2_000) }.check().is_err());
        assert!(Filter::parse(&" ".repeat(FILTER_BYTES_MAX + 1)).is_err());
    }
}
