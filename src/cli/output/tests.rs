use super::*;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn printed(format: Format, print: impl FnOnce(&mut Printer)) -> String {
    let sink = Sink::default();
    print(&mut Printer::new(format, false, Box::new(sink.clone())));
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn list(printer: &mut Printer, failure: Option<&Failure>) {
    printer.list("keys", &["key", "bytes"]).unwrap();
    printer.row(vec![Value::Bytes(b"a,\x00".to_vec()), Value::Size(2048)]).unwrap();
    printer.row(vec![Value::from("say \"hi\""), Value::Null]).unwrap();
    printer.footer("count", 2u64);
    printer.finish(failure).unwrap();
}

#[test]
fn a_list_in_every_format() {
    for (format, expected) in [
        (Format::Table, "KEY         BYTES\na,\\x00    2.0 KiB\nsay \"hi\"  -\n"),
        (
            Format::Json,
            "{\"keys\":[\n  {\"key\":\"a,\\\\x00\",\"bytes\":2048},\n  {\"key\":\"say \\\"hi\\\"\",\"bytes\":null}\n],\n\"count\":2}\n",
        ),
        (
            Format::Ndjson,
            "{\"key\":\"a,\\\\x00\",\"bytes\":2048}\n{\"key\":\"say \\\"hi\\\"\",\"bytes\":null}\n",
        ),
        (Format::Csv, "key,bytes\n\"a,\\x00\",2048\n\"say \"\"hi\"\"\",\n"),
        (Format::Tsv, "key\tbytes\na,\\x00\t2048\nsay \"hi\"\t\n"),
        (Format::Plain, "a,\\x00\t2048\nsay \"hi\"\t\n"),
    ] {
        assert_eq!(printed(format, |p| list(p, None)), expected, "{format:?}");
    }
}

#[test]
fn an_error_behind_rows_leaves_one_valid_document() {
    let failure = Failure::refused("no", "say --yes");
    let text = printed(Format::Json, |p| list(p, Some(&failure)));
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["keys"].as_array().unwrap().len(), 2);
    assert_eq!(document["error"]["code"], "refused");
    assert_eq!(document["error"]["fix"], "say --yes");

    let alone = printed(Format::Json, |p| p.finish(Some(&failure)).unwrap());
    let document: serde_json::Value = serde_json::from_str(&alone).unwrap();
    assert_eq!(document["error"]["retryable"], false);

    let behind_a_record = printed(Format::Json, |p| {
        p.record(&[("a", Value::from(1u64))]).unwrap();
        p.finish(Some(&failure)).unwrap();
    });
    let document: serde_json::Value = serde_json::from_str(&behind_a_record).unwrap();
    assert_eq!((&document["a"], &document["error"]["code"]), (&1.into(), &"refused".into()));
}

#[test]
fn rows_behind_the_measured_ones_keep_the_columns() {
    let text = printed(Format::Table, |p| {
        p.list("n", &["n", "name"]).unwrap();
        for i in 0..1000u64 {
            p.row(vec![Value::from(i % 7), Value::from("x")]).unwrap();
        }
        p.finish(None).unwrap();
    });
    assert_eq!(text.lines().count(), 1001);
    assert!(text.lines().skip(1).all(|line| line.len() == 4), "{text}");
}
