//! The one renderer: every command hands its data to a [`Printer`], which gives it the form asked
//! for by `--output`.
//!
//! Data comes in two shapes. A *list* has a name, columns and rows, and may be long: rows are
//! printed as they come. A *record* has named fields, once. Forms:
//!
//! | format | list | record |
//! |---|---|---|
//! | `table` | aligned columns under a heading, no borders | `name  value` lines, aligned |
//! | `json` | one document: `{"<name>":[{...},...]}`, then the footer's fields | `{...}` |
//! | `ndjson` | an object a line | an object on a line |
//! | `csv`, `tsv` | a heading line, a line a row | the same, one row |
//! | `plain` | TAB between values, no heading | `name TAB value` lines |
//!
//! In JSON an error is part of the document (`"error"` behind the rows that came before it), so
//! what stands on standard output is one valid document whatever happens.
//!
//! In reading order: [`value`] (a cell), [`rows`] (table, CSV, TSV, plain), and here the formats
//! and the state of the document.

pub mod rows;
pub mod value;

use crate::cli::failure::{Failure, Outcome};
use rows::Rows;
use std::io::Write;
pub use value::Value;

/// What `--output` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// Comma-separated, with a heading.
    Csv,
    /// Tab-separated, with a heading.
    Tsv,
    /// Tab-separated, without a heading.
    Plain,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 6] =
        [Format::Table, Format::Json, Format::Ndjson, Format::Csv, Format::Tsv, Format::Plain];

    /// The name `--output` takes.
    pub fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Plain => "plain",
        }
    }

    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether errors are printed as JSON on standard output.
    pub fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Ndjson)
    }
}

/// How far the JSON document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Document {
    /// Nothing printed.
    Fresh,
    /// Within the array of a list; whether a row stands there.
    InList { any: bool },
    /// Behind the array, within the outer object.
    InFooter,
    /// Complete.
    Whole,
}

/// Gives a command's data its form.
pub struct Printer {
    format: Format,
    color: bool,
    out: Box<dyn Write>,
    document: Document,
    columns: Vec<&'static str>,
    rows: Option<Rows>,
    footer: Vec<(&'static str, serde_json::Value)>,
}

impl Printer {
    /// A printer to `out`; `color` for the headings of tables.
    pub fn new(format: Format, color: bool, out: Box<dyn Write>) -> Printer {
        Printer {
            format,
            color,
            out,
            document: Document::Fresh,
            columns: Vec::new(),
            rows: None,
            footer: Vec::new(),
        }
    }

    /// The format in use.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Begins the list `name`. A document has one list, or one record.
    pub fn list(&mut self, name: &'static str, columns: &[&'static str]) -> Outcome {
        self.columns = columns.to_vec();
        match self.format {
            Format::Json => {
                write!(self.out, "{{{}:[", serde_json::Value::from(name))?;
                self.document = Document::InList { any: false };
            }
            Format::Ndjson => {}
            _ => self.rows = Some(Rows::new(self.format, self.color, columns)),
        }
        Ok(())
    }

    /// Prints a row of the list; as many values as columns.
    pub fn row(&mut self, values: Vec<Value>) -> Outcome {
        debug_assert_eq!(values.len(), self.columns.len());
        match (&mut self.rows, self.document) {
            (Some(rows), _) => rows.push(values, &mut self.out)?,
            (None, Document::InList { any }) => {
                let object = object(self.columns.iter().copied().zip(&values));
                write!(self.out, "{}\n  {object}", if any { "," } else { "" })?;
                self.document = Document::InList { any: true };
            }
            (None, _) => {
                let object = object(self.columns.iter().copied().zip(&values));
                writeln!(self.out, "{object}")?;
            }
        }
        Ok(())
    }

    /// A figure that belongs to the whole list: behind the rows in JSON, left to the talk on
    /// standard error elsewhere.
    pub fn footer(&mut self, name: &'static str, value: impl Into<Value>) {
        self.footer.push((name, value.into().json()));
    }

    /// As [`Printer::footer`], of any shape.
    pub fn footer_json(&mut self, name: &'static str, value: serde_json::Value) {
        self.footer.push((name, value));
    }

    /// Prints an object on a line of its own, in both JSON formats: for answers that are read one
    /// by one as they come. A failure behind them is an object on a line too.
    pub fn object(&mut self, object: &serde_json::Value) -> Outcome {
        writeln!(self.out, "{object}")?;
        self.document = Document::Whole;
        Ok(())
    }

    /// Prints a record.
    pub fn record(&mut self, fields: &[(&'static str, Value)]) -> Outcome {
        match self.format {
            Format::Json => {
                write!(self.out, "{{")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    let name = serde_json::Value::from(*name);
                    write!(self.out, "{comma}\n  {name}:{}", value.json())?;
                }
                self.document = Document::InFooter;
            }
            Format::Ndjson => {
                let object = object(fields.iter().map(|(name, value)| (*name, value)));
                writeln!(self.out, "{object}")?;
            }
            Format::Csv | Format::Tsv => {
                let columns: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
                let mut rows = Rows::new(self.format, self.color, &columns);
                rows.push(fields.iter().map(|(_, value)| value.clone()).collect(), &mut self.out)?;
                rows.finish(&mut self.out)?;
            }
            Format::Table | Format::Plain => {
                rows::pairs(self.format, self.color, fields, &mut self.out)?
            }
        }
        Ok(())
    }

    /// Ends the document, with the failure in it if there is one and the format is JSON.
    pub fn finish(&mut self, failure: Option<&Failure>) -> Outcome {
        if let Some(rows) = &mut self.rows.take() {
            rows.finish(&mut self.out)?;
        }
        match self.format {
            Format::Json => self.finish_json(failure)?,
            Format::Ndjson => {
                if let Some(failure) = failure {
                    writeln!(self.out, "{}", serde_json::json!({"error": failure.to_json()}))?;
                }
            }
            _ => {}
        }
        self.out.flush()?;
        Ok(())
    }

    fn finish_json(&mut self, failure: Option<&Failure>) -> Outcome {
        match self.document {
            Document::Fresh if failure.is_none() => {
                self.document = Document::Whole;
                return Ok(());
            }
            Document::Fresh => write!(self.out, "{{")?,
            Document::InList { any } => write!(self.out, "{}]", if any { "\n" } else { "" })?,
            Document::InFooter => {}
            Document::Whole => {
                if let Some(failure) = failure {
                    writeln!(self.out, "{}", serde_json::json!({"error": failure.to_json()}))?;
                }
                return Ok(());
            }
        }
        let in_record = self.document == Document::InFooter;
        let mut first = self.document == Document::Fresh;
        let error = failure.map(|f| ("error", f.to_json()));
        let footer = std::mem::take(&mut self.footer);
        for (name, value) in footer.into_iter().chain(error) {
            let comma = if std::mem::take(&mut first) { "" } else { ",\n" };
            write!(self.out, "{comma}{}:{value}", serde_json::Value::from(name))?;
        }
        self.document = Document::Whole;
        writeln!(self.out, "{}}}", if in_record { "\n" } else { "" })?;
        Ok(())
    }
}

/// An object whose fields stand in the order given.
fn object<'a>(fields: impl Iterator<Item = (&'static str, &'a Value)>) -> String {
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name), value.json()))
        .collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests;
