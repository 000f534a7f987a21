//! Rows as aligned columns, CSV, TSV or plain lines.

use super::{Format, Value};
use crate::cli::color::Ink;
use std::io::{Result, Write};

/// Rows whose widths decide the columns; those that follow keep these and may overhang.
const MEASURED_ROWS: usize = 200;
/// Spaces between columns.
const GAP: &str = "  ";

/// A list on its way out. Aligned columns hold the first [`MEASURED_ROWS`] rows back to measure
/// them; every other form prints at once.
pub struct Rows {
    format: Format,
    color: bool,
    columns: Vec<&'static str>,
    held: Vec<Vec<Value>>,
    widths: Option<Vec<usize>>,
    begun: bool,
}

impl Rows {
    /// Rows of these columns. `format` is not a JSON form.
    pub fn new(format: Format, color: bool, columns: &[&'static str]) -> Rows {
        Rows {
            format,
            color,
            columns: columns.to_vec(),
            held: Vec::new(),
            widths: None,
            begun: false,
        }
    }

    /// Adds a row.
    pub fn push(&mut self, values: Vec<Value>, out: &mut dyn Write) -> Result<()> {
        if self.format != Format::Table {
            self.begin(out)?;
            return self.line(values.iter().map(Value::field), out);
        }
        match &self.widths {
            Some(widths) => aligned(&values, widths, out),
            None => {
                self.held.push(values);
                if self.held.len() == MEASURED_ROWS { self.release(out) } else { Ok(()) }
            }
        }
    }

    /// Prints what is held back; the heading too, if no row came.
    pub fn finish(&mut self, out: &mut dyn Write) -> Result<()> {
        if self.format != Format::Table {
            return self.begin(out);
        }
        if self.widths.is_none() { self.release(out) } else { Ok(()) }
    }

    fn begin(&mut self, out: &mut dyn Write) -> Result<()> {
        if std::mem::replace(&mut self.begun, true) || self.format == Format::Plain {
            return Ok(());
        }
        let names = self.columns.clone();
        self.line(names.into_iter().map(str::to_string), out)
    }

    fn line(&self, fields: impl Iterator<Item = String>, out: &mut dyn Write) -> Result<()> {
        let comma = self.format == Format::Csv;
        for (i, field) in fields.enumerate() {
            if i > 0 {
                out.write_all(if comma { b"," } else { b"\t" })?;
            }
            let field = if comma { quoted(field) } else { tabless(&field) };
            out.write_all(field.as_bytes())?;
        }
        out.write_all(b"\n")
    }

    fn release(&mut self, out: &mut dyn Write) -> Result<()> {
        let mut widths: Vec<usize> = self.columns.iter().map(|name| name.chars().count()).collect();
        for row in &self.held {
            for (width, value) in widths.iter_mut().zip(row) {
                *width = (*width).max(value.cell().chars().count());
            }
        }
        let numbers = |i: usize| self.held.first().is_some_and(|row| row[i].is_number());
        let last = self.columns.len().saturating_sub(1);
        let mut heading = String::new();
        for (i, name) in self.columns.iter().enumerate() {
            let name = name.to_uppercase();
            let width = widths[i];
            heading.push_str(&match (numbers(i), i == last) {
                (true, _) => format!("{name:>width$}"),
                (false, true) => name,
                (false, false) => format!("{name:<width$}"),
            });
            heading.push_str(if i == last { "" } else { GAP });
        }
        writeln!(out, "{}", Ink::Bold.paint(self.color, &heading))?;
        for row in self.held.drain(..) {
            aligned(&row, &widths, out)?;
        }
        self.widths = Some(widths);
        Ok(())
    }
}

fn aligned(row: &[Value], widths: &[usize], out: &mut dyn Write) -> Result<()> {
    let last = row.len().saturating_sub(1);
    for (i, (value, &width)) in row.iter().zip(widths).enumerate() {
        let cell = value.cell();
        match (value.is_number(), i == last) {
            (true, _) => write!(out, "{cell:>width$}")?,
            (false, true) => write!(out, "{cell}")?,
            (false, false) => write!(out, "{cell:<width$}")?,
        }
        if i != last {
            out.write_all(GAP.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}

/// A record as lines of name and value.
pub fn pairs(
    format: Format,
    color: bool,
    fields: &[(&'static str, Value)],
    out: &mut dyn Write,
) -> Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        if format == Format::Plain {
            writeln!(out, "{name}\t{}", tabless(&value.field()))?;
        } else {
            let name = Ink::Bold.paint(color, &format!("{name:<width$}"));
            writeln!(out, "{name}{GAP}{}", value.cell())?;
        }
    }
    Ok(())
}

/// A field of CSV (RFC 4180).
fn quoted(field: String) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field
}

/// A field of TSV: a tab or line break inside it becomes `\t`, `\n`, `\r`.
fn tabless(field: &str) -> String {
    field.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}
