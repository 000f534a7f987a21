use super::*;
use crate::base::Seq;
use crate::op::kv::{Entry, Write as KvWrite};
use bytes::Bytes;
use std::collections::BTreeMap;
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

/// Families as maps; a Redis command is answered with itself.
#[derive(Default)]
struct Maps {
    families: Vec<CfInfo>,
    keys: BTreeMap<(CfId, Bytes), Bytes>,
}

impl Backend for Maps {
    fn name(&self) -> String {
        "maps".to_string()
    }

    fn redis(&mut self, args: &[&[u8]]) -> Result<Answer> {
        match args[0] {
            b"BAD" => Ok(Answer::Error("ERR bad".to_string())),
            b"LOST" => Err(Error::new(ErrorKind::Unavailable, "lost")),
            _ => Ok(Answer::Array(args.iter().map(|arg| Answer::Bulk(arg.to_vec())).collect())),
        }
    }

    fn kv(&mut self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::ListCfs => Response::ColumnFamilies(self.families.clone()),
            Request::CreateCf { name } => {
                let family = CfInfo { id: CfId(self.families.len() as u32 + 1), name };
                self.families.push(family.clone());
                Response::ColumnFamily(family)
            }
            Request::DropCf { cf } => {
                self.families.retain(|family| family.id != cf);
                Response::Done
            }
            Request::Write { writes, .. } => {
                for write in writes {
                    match write {
                        KvWrite::Put { cf, key, value, .. } => self.keys.insert((cf, key), value),
                        KvWrite::Delete { cf, key } => self.keys.remove(&(cf, key)),
                        KvWrite::Merge { .. }
                        | KvWrite::PutVector { .. }
                        | KvWrite::DeleteVector { .. } => None,
                    };
                }
                Response::Committed { seq: Seq(1) }
            }
            Request::Get { cf, key } => {
                let value = self.keys.get(&(cf, key.clone())).cloned();
                let entry = |value| Entry { key, value, seq: Seq(1), expire_at_ms: None };
                Response::Entry(value.map(entry))
            }
            Request::Scan(scan) => {
                let mine = self
                    .keys
                    .iter()
                    .filter(|((cf, key), _)| *cf == scan.cf && key.starts_with(&scan.prefix));
                let entry = |((_, key), value): (&(CfId, Bytes), &Bytes)| Entry {
                    key: key.clone(),
                    value: value.clone(),
                    seq: Seq(1),
                    expire_at_ms: None,
                };
                Response::Page { entries: mine.map(entry).collect(), next: Bytes::new() }
            }
            _ => Response::Done,
        })
    }

    fn next(&mut self) -> Result<Answer> {
        Err(Error::new(ErrorKind::Unavailable, "lost"))
    }
}

struct Typed {
    out: String,
    err: String,
    prompt: String,
    trouble: Option<Trouble>,
    next: Next,
}

fn type_in(lines: &[&str], style: Style, yes: bool, consent: Option<bool>) -> Typed {
    let (out, err) = (Sink::default(), Sink::default());
    let mut session = Session::new(
        Box::<Maps>::default(),
        style,
        yes,
        Box::new(out.clone()),
        Box::new(err.clone()),
    );
    let mut next = Next::Line;
    for line in lines {
        next = session.line(line, &mut |_: &str| consent).unwrap();
    }
    let text = |sink: Sink| String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let trouble = session.first_trouble().cloned();
    Typed { out: text(out), err: text(err), prompt: session.prompt(), trouble, next }
}

const TYPED: Style = Style::Typed { color: false };

#[test]
fn words_work_on_the_selected_family_and_redis_commands_on_the_default_one() {
    let lines = [
        "PUT a 1",
        "CREATECF logs",
        "USE logs",
        "PUT a 2",
        "GET a",
        "SCAN",
        "USE default",
        "SCAN a",
        "LISTCF",
        "SET x 'y z'",
    ];
    let typed = type_in(&lines, TYPED, false, None);
    assert_eq!(
        typed.out,
        "OK\n1# \"id\" => (integer) 1\n2# \"name\" => \"logs\"\nOK\nOK\n\"2\"\n1# \"a\" => \"2\"\nOK\n\
         1# \"a\" => \"1\"\n1# \"logs\" => (integer) 1\n1) \"SET\"\n2) \"x\"\n3) \"y z\"\n"
    );
    assert_eq!((typed.err.as_str(), typed.prompt.as_str()), ("", "maps> "));
    assert!(typed.trouble.is_none());
}

#[test]
fn a_dropped_family_is_no_longer_selected() {
    let typed = type_in(&["CREATECF a", "USE a", "DROPCF a"], TYPED, true, None);
    assert_eq!(typed.prompt, "maps> ");
    let typed = type_in(&["CREATECF a", "USE a"], TYPED, true, None);
    assert_eq!(typed.prompt, "maps[a]> ");
    let typed = type_in(&["USE nowhere"], TYPED, true, None);
    assert!(matches!(typed.trouble, Some(Trouble::Error(e)) if e.kind() == ErrorKind::NotFound));
}

#[test]
fn destruction_needs_a_yes() {
    let refused = type_in(&["flushall"], TYPED, false, None);
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    assert!(matches!(refused.trouble, Some(Trouble::Error(e)) if e.kind() == ErrorKind::Refused));
    assert_eq!(type_in(&["flushall"], TYPED, false, Some(false)).out, "");
    assert_eq!(type_in(&["flushall"], TYPED, false, Some(true)).out, "1) \"flushall\"\n");
    assert_eq!(type_in(&["flushall"], TYPED, true, None).out, "1) \"flushall\"\n");
}

#[test]
fn a_console_does_not_ask_for_silence() {
    for line in ["CLIENT REPLY OFF", "client \"reply\" skip"] {
        let typed = type_in(&[line], TYPED, true, None);
        assert_eq!(typed.out, "");
        assert!(matches!(typed.trouble, Some(Trouble::Error(e)) if e.kind() == ErrorKind::Refused));
    }
    assert!(type_in(&["CLIENT REPLY ON"], TYPED, true, None).trouble.is_none());
}

#[test]
fn errors_leave_the_data_alone_and_are_remembered() {
    let typed = type_in(&["BAD", "GET k"], Style::Raw, false, None);
    assert_eq!((typed.out.as_str(), typed.err.as_str()), ("GET\nk\n", "(error) ERR bad\n"));
    assert!(matches!(typed.trouble, Some(Trouble::Reply(text)) if text == "ERR bad"));

    let typed = type_in(&["BAD", "PUT", "\"open"], Style::Json, false, None);
    let codes: Vec<String> = typed
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|json| json["error"]["code"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(codes, ["redis", "invalid_argument", "invalid_argument"]);
    assert_eq!(typed.err, "");
}

#[test]
fn blanks_and_comments_do_nothing_and_a_lost_server_ends() {
    let typed = type_in(&["", "   ", "# PUT a b"], TYPED, false, None);
    assert_eq!((typed.out.as_str(), typed.next), ("", Next::Line));
    assert_eq!(type_in(&["LOST"], TYPED, false, None).next, Next::End);
    assert_eq!(type_in(&["EXIT"], TYPED, false, None).next, Next::End);
}

#[test]
fn help_names_every_word() {
    let typed = type_in(&["help"], TYPED, false, None);
    assert!(WORDS.iter().all(|word| typed.out.contains(word.name)));
    assert!(type_in(&["help put"], TYPED, false, None).out.contains("PUT key value"));
}
