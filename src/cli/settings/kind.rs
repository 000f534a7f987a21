//! What a setting may be: from what was written to a value, and back.

use crate::cli::settings::address::{Address, Url, reachable};
use crate::cli::settings::secret::{Secret, User};
use crate::cli::settings::units::{format_duration, format_size, parse_duration, parse_size};
use crate::log::SyncLevel;
use crate::op::Consistency;
use std::path::PathBuf;
use std::time::Duration;

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// A whole number in a range, both ends included.
    Int(u64, u64),
    /// Bytes in a range, both ends included.
    Size(u64, u64),
    /// A duration in a range of milliseconds, both ends included.
    Duration(u64, u64),
    /// An address to listen on; port 0 takes any free one.
    Listen,
    /// An address that others connect to, with or without `http://` before it.
    Peer,
    /// A server's URL.
    Url,
    /// URLs of servers.
    Urls,
    /// A file or folder.
    Path,
    /// Any text on one line.
    Text,
    /// `name=value` pairs.
    Labels,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// When a write is acknowledged.
    Sync,
    /// How fresh reads must be.
    Consistency,
    /// Text that is never shown.
    Secret,
    /// `name:password:role` entries, never shown.
    Users,
}

/// What was written, before it is judged.
#[derive(Clone, PartialEq)]
pub enum Raw {
    /// A string of the file, or all of a variable or flag.
    Text(String),
    /// A path of a flag, of any bytes.
    Path(PathBuf),
    /// An integer of the file.
    Int(i64),
    /// A boolean of the file.
    Bool(bool),
    /// An array of strings of the file.
    List(Vec<String>),
    /// What no setting is, by name: a table, a date.
    Other(&'static str),
}

/// A value that passed.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    /// No value, and no default.
    Unset,
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`].
    Int(u64),
    /// Of [`Kind::Size`], in bytes.
    Size(u64),
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Listen`] and [`Kind::Peer`].
    Address(Address),
    /// Of [`Kind::Url`].
    Url(Url),
    /// Of [`Kind::Urls`].
    Urls(Vec<Url>),
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::Text`].
    Text(String),
    /// Of [`Kind::Labels`].
    Labels(Vec<Label>),
    /// Of [`Kind::Choice`].
    Choice(&'static str),
    /// Of [`Kind::Sync`].
    Sync(SyncLevel),
    /// Of [`Kind::Consistency`].
    Consistency(Consistency),
    /// Of [`Kind::Secret`].
    Secret(Secret),
    /// Of [`Kind::Users`].
    Users(Vec<User>),
}

/// A node's label: a failure domain it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// What it says something of: `zone`.
    pub name: String,
    /// What it says: `a`.
    pub value: String,
}

impl Label {
    fn parse(text: &str) -> Option<Label> {
        let (name, value) = text.split_once('=')?;
        let is_word = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        };
        (is_word(name) && is_word(value))
            .then(|| Label { name: name.to_string(), value: value.to_string() })
    }
}

/// The longest text of a setting, in bytes.
const TEXT_MAX: usize = 4096;
/// The most entries of a list.
const LIST_MAX: usize = 256;

/// Why a value did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is of another kind.
    Kind,
    /// It is too small or too large.
    Range,
}

impl Kind {
    /// Judges what was written.
    ///
    /// # Errors
    /// Says whether kind or range is wrong; the value is not repeated.
    pub fn parse(self, raw: &Raw) -> Result<Typed, Wrong> {
        match (self, raw) {
            (Kind::Bool, Raw::Bool(b)) => return Ok(Typed::Bool(*b)),
            (Kind::Int(min, max), Raw::Int(n)) => return in_range(*n, min, max).map(Typed::Int),
            (Kind::Size(min, max), Raw::Int(n)) => return in_range(*n, min, max).map(Typed::Size),
            (Kind::Path, Raw::Path(path)) if !path.as_os_str().is_empty() => {
                return Ok(Typed::Path(path.clone()));
            }
            _ => {}
        }
        match raw {
            Raw::Text(text) if text.len() <= TEXT_MAX => self.parse_text(text),
            Raw::List(entries) if self.is_list() => self.parse_list(entries),
            _ => Err(Wrong::Kind),
        }
    }

    fn parse_text(self, text: &str) -> Result<Typed, Wrong> {
        let parsed = match self {
            Kind::Bool => text.parse().ok().map(Typed::Bool),
            Kind::Int(min, max) => {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                // Digits that do not fit are a number still, and out of any range.
                let n = digits.then(|| text.parse().unwrap_or(u64::MAX)).ok_or(Wrong::Kind)?;
                return ranged(n, min, max).map(Typed::Int);
            }
            Kind::Size(min, max) => {
                let bytes = parse_size(text).ok_or(Wrong::Kind)?;
                return ranged(bytes, min, max).map(Typed::Size);
            }
            Kind::Duration(min, max) => {
                let duration = parse_duration(text).ok_or(Wrong::Kind)?;
                let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                return ranged(ms, min, max).map(|_| Typed::Duration(duration));
            }
            Kind::Listen => Address::parse(text).map(Typed::Address),
            Kind::Peer => {
                reachable(text.strip_prefix("http://").unwrap_or(text)).map(Typed::Address)
            }
            Kind::Url => Url::parse(text).map(Typed::Url),
            Kind::Path => is_line(text).then(|| Typed::Path(PathBuf::from(text))),
            Kind::Text => is_line(text).then(|| Typed::Text(text.to_string())),
            Kind::Choice(words) => {
                words.iter().find(|word| **word == text).map(|word| Typed::Choice(word))
            }
            Kind::Sync => text.parse().ok().map(Typed::Sync),
            Kind::Consistency => text.parse().ok().map(Typed::Consistency),
            Kind::Secret => (!text.is_empty()).then(|| Typed::Secret(Secret::new(text))),
            Kind::Urls | Kind::Labels | Kind::Users => {
                let entries = text.split(',').map(|entry| entry.trim().to_string());
                let entries: Vec<String> = entries.collect();
                return self.parse_list(if text.is_empty() { &[] } else { &entries });
            }
        };
        parsed.ok_or(Wrong::Kind)
    }

    fn parse_list(self, entries: &[String]) -> Result<Typed, Wrong> {
        fn each<T>(entries: &[String], parse: fn(&str) -> Option<T>) -> Result<Vec<T>, Wrong> {
            entries.iter().map(|entry| parse(entry)).collect::<Option<_>>().ok_or(Wrong::Kind)
        }
        if entries.len() > LIST_MAX || entries.iter().any(|entry| entry.len() > TEXT_MAX) {
            return Err(Wrong::Range);
        }
        Ok(match self {
            _ if entries.is_empty() => Typed::Unset,
            Kind::Urls => Typed::Urls(each(entries, Url::parse)?),
            Kind::Labels => Typed::Labels(each(entries, Label::parse)?),
            Kind::Users => Typed::Users(each(entries, User::parse)?),
            _ => return Err(Wrong::Kind),
        })
    }

    /// Whether its values are never shown.
    pub fn is_secret(self) -> bool {
        matches!(self, Kind::Secret | Kind::Users)
    }

    /// Whether the file may have an array of strings for it.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::Urls | Kind::Labels | Kind::Users)
    }

    /// What it is called: `size`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "boolean",
            Kind::Int(..) => "integer",
            Kind::Size(..) => "size",
            Kind::Duration(..) => "duration",
            Kind::Listen | Kind::Peer => "address",
            Kind::Url => "URL",
            Kind::Urls => "list of URLs",
            Kind::Path => "path",
            Kind::Text => "text",
            Kind::Labels => "list of labels",
            Kind::Choice(_) => "choice",
            Kind::Sync => "sync level",
            Kind::Consistency => "consistency",
            Kind::Secret => "secret",
            Kind::Users => "list of users",
        }
    }

    /// What stands for it in help.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Bool => "BOOL",
            Kind::Int(..) => "N",
            Kind::Size(..) => "SIZE",
            Kind::Duration(..) => "DURATION",
            Kind::Listen | Kind::Peer => "HOST:PORT",
            Kind::Url => "URL",
            Kind::Urls => "URLS",
            Kind::Path => "PATH",
            Kind::Text => "TEXT",
            Kind::Labels => "LABELS",
            Kind::Choice(_) => "WORD",
            Kind::Sync => "LEVEL",
            Kind::Consistency => "CONSISTENCY",
            Kind::Secret => "SECRET",
            Kind::Users => "USERS",
        }
    }

    /// The bounds in few words, where there are some.
    pub fn bounds(self) -> Option<String> {
        let ms = |ms| format_duration(Duration::from_millis(ms));
        match self {
            Kind::Int(min, max) if max < i64::MAX as u64 => Some(format!("{min} to {max}")),
            Kind::Size(min, max) => Some(format!("{} to {}", format_size(min), format_size(max))),
            Kind::Duration(min, max) => Some(format!("{} to {}", ms(min), ms(max))),
            _ => None,
        }
    }

    /// What may be written, to follow "give".
    pub fn allowed(self) -> String {
        match self {
            Kind::Bool => "true or false".to_string(),
            Kind::Int(min, _) => match self.bounds() {
                Some(bounds) => format!("a whole number from {bounds}"),
                None => format!("a whole number from {min}"),
            },
            Kind::Size(..) => {
                let bounds = self.bounds().unwrap_or_default();
                format!("a size from {bounds}, such as 64MiB, 1GiB, or bytes as a number")
            }
            Kind::Duration(..) => {
                let bounds = self.bounds().unwrap_or_default();
                format!("a duration from {bounds}, such as 100ms, 5s or 2m")
            }
            Kind::Listen => "an address such as 127.0.0.1:6379 or [::1]:6379".to_string(),
            Kind::Peer => "an address that others can reach, such as 10.0.0.7:7380".to_string(),
            Kind::Url => "a URL that others can reach, such as http://10.0.0.7:7379".to_string(),
            Kind::Urls => "URLs such as http://127.0.0.1:8379, with commas between".to_string(),
            Kind::Path => "a path".to_string(),
            Kind::Text => "a line of text".to_string(),
            Kind::Labels => "labels such as zone=a,rack=7, of letters, digits and -_./".to_string(),
            Kind::Choice(words) => words.join(" or "),
            Kind::Sync => {
                format!("always, interval, interval:MS (1 to {}) or os", SyncLevel::INTERVAL_MS_MAX)
            }
            Kind::Consistency => {
                "linearizable, lease or stale(BOUND), such as stale(500ms)".to_string()
            }
            Kind::Secret => "text that is not empty".to_string(),
            Kind::Users => {
                "entries of the form name:password:role, where the role is admin or user, with \
                 commas between"
                    .to_string()
            }
        }
    }
}

fn in_range(n: i64, min: u64, max: u64) -> Result<u64, Wrong> {
    ranged(u64::try_from(n).map_err(|_| Wrong::Range)?, min, max)
}

fn ranged(n: u64, min: u64, max: u64) -> Result<u64, Wrong> {
    if (min..=max).contains(&n) { Ok(n) } else { Err(Wrong::Range) }
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_control())
}

impl Typed {
    /// The value as it would be written; a secret only as set. `None` if there is none.
    pub fn show(&self) -> Option<String> {
        fn list<T>(entries: &[T], show: impl Fn(&T) -> String) -> String {
            entries.iter().map(show).collect::<Vec<_>>().join(",")
        }
        Some(match self {
            Typed::Unset => return None,
            Typed::Bool(b) => b.to_string(),
            Typed::Int(n) => n.to_string(),
            Typed::Size(n) => format_size(*n),
            Typed::Duration(duration) => format_duration(*duration),
            Typed::Address(address) => address.to_string(),
            Typed::Url(url) => url.to_string(),
            Typed::Urls(urls) => list(urls, Url::to_string),
            Typed::Path(path) => path.display().to_string(),
            Typed::Text(text) => text.clone(),
            Typed::Labels(labels) => {
                list(labels, |label| format!("{}={}", label.name, label.value))
            }
            Typed::Choice(word) => word.to_string(),
            Typed::Sync(level) => level.to_string(),
            Typed::Consistency(consistency) => consistency.to_string(),
            Typed::Secret(_) | Typed::Users(_) => "(set)".to_string(),
        })
    }
}

/// The longest value that an error repeats, in characters.
const SHOWN_MAX: usize = 60;

/// A text as an error repeats it: quoted, cut if it is long.
pub fn clipped(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

impl Raw {
    /// What was written, as an error may repeat it: never a secret.
    pub fn show(&self, kind: Kind) -> String {
        match self {
            Raw::Other(name) => name.to_string(),
            _ if kind.is_secret() => "something not shown".to_string(),
            // Somebody may have written a password into a URL.
            Raw::Text(text) if text.contains('@') => "something with an @ in it".to_string(),
            Raw::Text(text) => clipped(text),
            Raw::Path(path) => clipped(&path.to_string_lossy()),
            Raw::Int(n) => n.to_string(),
            Raw::Bool(b) => b.to_string(),
            Raw::List(_) => "an array".to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
