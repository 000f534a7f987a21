//! One line after another: what it asks for, done and printed.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::op::kv::CfInfo;
use crate::op::vector::{VectorAnswer, VectorCall};
use crate::op::{Request, Response};
use crate::repl::backend::Backend;
use crate::repl::client::Answer;
use crate::repl::danger::danger;
use crate::repl::hint;
use crate::repl::print::{self, Style};
use crate::repl::tokens::{Token, tokens};
use crate::repl::vectors;
use crate::repl::words::{Ask, WORDS, ask};
use std::io::Write;

/// Why a line failed.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// The server answered with an error; its text.
    Reply(String),
    /// The line could not be executed.
    Error(Error),
}

/// Whether to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read the next line.
    Line,
    /// The user left, or nothing more can be done.
    End,
}

/// Asks the person whether to do what was warned of; `None` if there is no one to ask.
pub type Consent<'a> = dyn FnMut(&str) -> Option<bool> + 'a;

/// A console: where lines go and how answers are printed.
pub struct Session {
    backend: Box<dyn Backend>,
    family: CfInfo,
    style: Style,
    yes: bool,
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    first_trouble: Option<Trouble>,
}

impl Session {
    /// A session that prints answers to `out` and, unless in JSON, errors to `err`. With `yes`
    /// nothing is asked.
    pub fn new(
        backend: Box<dyn Backend>,
        style: Style,
        yes: bool,
        out: Box<dyn Write>,
        err: Box<dyn Write>,
    ) -> Session {
        let family = CfInfo { id: CfId::DEFAULT, name: "default".to_string() };
        Session { backend, family, style, yes, out, err, first_trouble: None }
    }

    /// The prompt: where lines go, and the family if it is not the default one.
    pub fn prompt(&self) -> String {
        let name = self.backend.name();
        match self.family.id {
            CfId::DEFAULT => format!("{name}> "),
            _ => format!("{name}[{}]> ", self.family.name),
        }
    }

    /// The first thing that failed.
    pub fn first_trouble(&self) -> Option<&Trouble> {
        self.first_trouble.as_ref()
    }

    /// Executes a line and prints the outcome. Blank lines and lines with `#` first do nothing.
    ///
    /// # Errors
    /// Only a failure to print.
    pub fn line(&mut self, line: &str, consent: &mut Consent<'_>) -> std::io::Result<Next> {
        let tokens = tokens(line);
        if tokens.is_empty() || line.trim_start().starts_with('#') {
            return Ok(Next::Line);
        }
        let asked = self.check(&tokens, line, consent).and_then(|()| ask(&tokens, self.family.id));
        let answer = match asked {
            Ok(Ask::Exit) => return Ok(Next::End),
            Ok(Ask::Redis) => return self.redis(&tokens),
            Ok(asked) => self.word(asked),
            Err(e) => Err(e),
        };
        self.tell(answer)
    }

    fn check(&self, tokens: &[Token], line: &str, consent: &mut Consent<'_>) -> Result<()> {
        if tokens.iter().any(|token| !token.whole) {
            return Err(Error::invalid("a quote is not closed, or something follows it"));
        }
        if silences(tokens) {
            return Err(Error::new(
                ErrorKind::Refused,
                "CLIENT REPLY OFF and SKIP leave a console waiting for answers that never come",
            ));
        }
        let Some(what) = danger(tokens).filter(|_| !self.yes) else { return Ok(()) };
        match consent(&format!("{} {what}.", line.trim())) {
            Some(true) => Ok(()),
            Some(false) => Err(Error::new(ErrorKind::Refused, "not done")),
            None => Err(Error::new(
                ErrorKind::Refused,
                format!("{} {what}; say --yes to have it done unasked", line.trim()),
            )),
        }
    }

    fn redis(&mut self, tokens: &[Token]) -> std::io::Result<Next> {
        if self.family.id != CfId::DEFAULT && self.needs_default_family(tokens) {
            let name = String::from_utf8_lossy(&tokens[0].bytes).to_ascii_uppercase();
            return self.tell(Err(Error::new(
                ErrorKind::Refused,
                format!("{name} works on the default family: USE default first"),
            )));
        }
        let args: Vec<&[u8]> = tokens.iter().map(|token| &token.bytes[..]).collect();
        let answer = self.backend.redis(&args);
        let streams = ["SUBSCRIBE", "PSUBSCRIBE", "MONITOR"].iter().any(|name| tokens[0].is(name));
        if !streams {
            return self.tell(answer);
        }
        let mut on = !matches!(answer, Ok(Answer::Error(_)) | Err(_));
        let mut next = self.tell(answer)?;
        while on {
            let answer = self.backend.next();
            on = answer.is_ok();
            next = self.tell(answer)?;
        }
        Ok(next)
    }

    fn needs_default_family(&self, tokens: &[Token]) -> bool {
        let spec = crate::op::command::find(&tokens[0].bytes);
        spec.is_some_and(|spec| spec.place == crate::op::command::Place::Data)
    }

    fn word(&mut self, asked: Ask) -> Result<Answer> {
        match asked {
            Ask::Kv(request) => {
                let response = self.backend.kv(request.clone())?;
                self.answer_of(&request, response)
            }
            Ask::Explain(request) => match self.backend.kv(request)? {
                Response::Vector(answer) => Ok(vectors::cost(&answer)),
                _ => Err(Error::new(
                    ErrorKind::Internal,
                    "a search was answered with something else",
                )),
            },
            Ask::Use(name) => {
                self.family = self.find_family(&name)?;
                Ok(Answer::Simple("OK".to_string()))
            }
            Ask::DropCf(name) => {
                let family = self.find_family(&name)?;
                self.backend.kv(Request::DropCf { cf: family.id })?;
                if self.family == family {
                    self.family = CfInfo { id: CfId::DEFAULT, name: "default".to_string() };
                }
                Ok(Answer::Simple("OK".to_string()))
            }
            Ask::Help(about) => help(about.as_deref()),
            Ask::Exit | Ask::Redis => Ok(Answer::Nil),
        }
    }

    fn find_family(&mut self, name: &str) -> Result<CfInfo> {
        if name == "default" {
            return Ok(CfInfo { id: CfId::DEFAULT, name: name.to_string() });
        }
        let Response::ColumnFamilies(all) = self.backend.kv(Request::ListCfs)? else {
            return Err(Error::new(ErrorKind::Internal, "LISTCF was answered with something else"));
        };
        let names: Vec<&str> = all.iter().map(|family| family.name.as_str()).collect();
        let text = format!("there is no column family {name:?}; there are: {}", names.join(", "));
        let found = all.iter().find(|family| family.name == name).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, text))
    }

    fn answer_of(&mut self, request: &Request, response: Response) -> Result<Answer> {
        let bulk = |text: &str| Answer::Bulk(text.as_bytes().to_vec());
        Ok(match response {
            Response::Entry(entry) => {
                entry.map_or(Answer::Nil, |entry| Answer::Bulk(entry.value.to_vec()))
            }
            Response::Page { entries, next } => {
                if !next.is_empty() {
                    // There is more; a person wants to know, a program reads it off the count.
                    _ = writeln!(self.err, "more follows: use LIMIT, or FROM with the last key");
                }
                let keys_only = matches!(request, Request::Scan(scan) if scan.keys_only);
                if keys_only {
                    Answer::Array(entries.iter().map(|e| Answer::Bulk(e.key.to_vec())).collect())
                } else {
                    let pair = |e: &crate::op::kv::Entry| {
                        (Answer::Bulk(e.key.to_vec()), Answer::Bulk(e.value.to_vec()))
                    };
                    Answer::Map(entries.iter().map(pair).collect())
                }
            }
            Response::ColumnFamily(family) => Answer::Map(vec![
                (bulk("id"), Answer::Int(i64::from(family.id.0))),
                (bulk("name"), bulk(&family.name)),
            ]),
            Response::ColumnFamilies(all) => Answer::Map(
                all.iter().map(|f| (bulk(&f.name), Answer::Int(i64::from(f.id.0)))).collect(),
            ),
            Response::Vector(answer) => {
                let call = match request {
                    Request::Vector(call) => Some(&**call),
                    _ => None,
                };
                let found = match call {
                    _ if self.style == Style::Json => vectors::Found::Listed,
                    Some(VectorCall::Search(search)) if search.with_payload => {
                        vectors::Found::WithPayload
                    }
                    _ => vectors::Found::Plain,
                };
                if let (Some(VectorCall::Describe { .. }), VectorAnswer::Index(info)) =
                    (call, &*answer)
                {
                    return Ok(vectors::described(info));
                }
                vectors::reply(*answer, found)
            }
            Response::Deleted(n) => Answer::Int(i64::try_from(n).unwrap_or(i64::MAX)),
            _ => Answer::Simple("OK".to_string()),
        })
    }

    fn tell(&mut self, answer: Result<Answer>) -> std::io::Result<Next> {
        let mut next = Next::Line;
        let trouble = match answer {
            Ok(Answer::Error(text)) => Trouble::Reply(text),
            Ok(answer) => {
                self.out.write_all(&print::print(&answer, self.style))?;
                self.out.flush()?;
                return Ok(Next::Line);
            }
            Err(e) => {
                if e.kind() == ErrorKind::Unavailable {
                    next = Next::End;
                }
                Trouble::Error(e)
            }
        };
        self.tell_trouble(&trouble)?;
        self.first_trouble.get_or_insert(trouble);
        Ok(next)
    }

    fn tell_trouble(&mut self, trouble: &Trouble) -> std::io::Result<()> {
        if self.style == Style::Json {
            let json = match trouble {
                Trouble::Reply(text) => print::error_json("redis", text, false),
                Trouble::Error(e) => {
                    print::error_json(e.kind().name(), e.message(), e.kind().is_retryable())
                }
            };
            writeln!(self.out, "{json}")?;
            return self.out.flush();
        }
        let text = match trouble {
            Trouble::Reply(text) => text.clone(),
            Trouble::Error(e) => e.message().to_string(),
        };
        let style = Style::Typed { color: self.style == Style::Typed { color: true } };
        self.err.write_all(&print::print(&Answer::Error(text), style))
    }
}

/// Whether the line asks for no more answers.
fn silences(tokens: &[Token]) -> bool {
    let is = |at: usize, word: &str| {
        let token = tokens.get(at);
        token.is_some_and(|token| token.bytes.eq_ignore_ascii_case(word.as_bytes()))
    };
    is(0, "CLIENT") && is(1, "REPLY") && (is(2, "OFF") || is(2, "SKIP"))
}

fn help(about: Option<&str>) -> Result<Answer> {
    let bulk = |text: String| Answer::Bulk(text.into_bytes());
    let Some(name) = about else {
        let words = WORDS.iter().map(|word| {
            let call = format!("{} {}", word.name, word.usage);
            (bulk(call.trim().to_string()), bulk(word.summary.to_string()))
        });
        let redis = "any Redis command".to_string();
        let rest = (bulk(redis), bulk("goes to the default column family".to_string()));
        return Ok(Answer::Map(words.chain([rest]).collect()));
    };
    let usage = hint::usage(name.as_bytes())
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("nothing is known of {name:?}")))?;
    let word = WORDS.iter().find(|word| word.name.eq_ignore_ascii_case(name));
    let spec = crate::op::command::find(name.as_bytes());
    let summary = word.map(|w| w.summary).or(spec.map(|s| s.summary)).unwrap_or_default();
    let call = format!("{} {usage}", name.to_ascii_uppercase());
    Ok(Answer::Map(vec![(bulk(call.trim().to_string()), bulk(summary.to_string()))]))
}

#[cfg(test)]
mod tests;
