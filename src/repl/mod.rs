//! Floor 10: the console: a person's or a script's lines become Redis commands and requests, and
//! answers become text.
//!
//! Words: a *word* is a command of the console's own, for any column family; everything else is a
//! Redis command and goes to the default family.
//!
//! In reading order:
//! - [`tokens`]: a line as words, quoted as redis-cli quotes.
//! - [`words`]: the console's own words as requests; [`vectors`]: those for vectors.
//! - [`client`]: a small Redis client.
//! - [`backend`]: where requests go; [`server`] is a server by its doors,
//!   [`embedded`] a data folder.
//! - [`print`](mod@print): answers as text.
//! - [`danger`]: what is asked about before it is done.
//! - [`session`]: one line after another.
//! - [`hint`]: completion, usage and colours of a half-typed line.
//! - [`console`]: where lines come from.
//!
//! Invariants owed to whoever types:
//! - Nothing destructive is done unasked: without a terminal and without `--yes` it is refused.
//! - What a server sends cannot drive the terminal: control characters are escaped.
//! - A line that may hold a password does not enter the history file.

pub mod backend;
pub mod client;
pub mod console;
pub mod danger;
pub mod embedded;
pub mod hint;
pub mod print;
pub mod server;
pub mod session;
pub mod tokens;
pub mod vectors;
pub mod words;
