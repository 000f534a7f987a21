//! One cell of output and the forms it takes.

use crate::base::escape;
use serde_json::json;

/// A typed value. People see units and escapes; programs see numbers and strings.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: `-` for people, `null` in JSON, empty in CSV and TSV.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is never negative.
    UInt(u64),
    /// A number printed with so many decimals.
    Float(f64, u8),
    /// A number of bytes: `1.2 MiB` for people, the plain number otherwise.
    Size(u64),
    /// Text. Control characters are escaped before a person sees them.
    Text(String),
    /// Bytes, escaped wherever they are printed (see [`crate::base::escape`]).
    Bytes(Vec<u8>),
}

impl Value {
    /// The value as JSON.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => json!(b),
            Value::Int(n) => json!(n),
            Value::UInt(n) | Value::Size(n) => json!(n),
            Value::Float(x, decimals) => {
                let scale = 10f64.powi(i32::from(*decimals));
                json!((x * scale).round() / scale)
            }
            Value::Text(text) => json!(text),
            Value::Bytes(bytes) => json!(escape::escape(bytes)),
        }
    }

    /// The value as a field of CSV, TSV or plain output, before quoting.
    pub fn field(&self) -> String {
        match self {
            Value::Null => String::new(),
            Value::Bool(b) => b.to_string(),
            Value::Int(n) => n.to_string(),
            Value::UInt(n) | Value::Size(n) => n.to_string(),
            Value::Float(x, decimals) => format!("{x:.*}", usize::from(*decimals)),
            Value::Text(text) => text.clone(),
            Value::Bytes(bytes) => escape::escape(bytes),
        }
    }

    /// The value as a cell of a table: units, no control characters.
    pub fn cell(&self) -> String {
        match self {
            Value::Null => "-".to_string(),
            Value::Size(n) => size(*n),
            other => printable(&other.field()),
        }
    }

    /// Whether a table sets it to the right.
    pub fn is_number(&self) -> bool {
        matches!(self, Value::Int(_) | Value::UInt(_) | Value::Float(..) | Value::Size(_))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Value {
        Value::UInt(n)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Bool(b)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// `bytes` with a binary unit: `512 B`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{scaled:.1} {unit}") }
}

/// `text` without control characters: what a terminal might obey is escaped.
pub fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_terminal_sees_no_control_characters() {
        assert_eq!(Value::from("a\x1b[31m\n").cell(), "a\\u{1b}[31m\\n");
        assert_eq!(Value::Bytes(vec![0, 27, b'a']).cell(), "\\x00\\x1ba");
    }
}
