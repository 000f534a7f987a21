//! One settings layer for all servers: declared once, said in four places.
//!
//! Words: a *setting* has a key, `section.name`; a *role* is one of the servers `meta`, `node`,
//! `gateway`, `dev`; an *origin* is where a value came from.
//!
//! A value comes from the strongest of: flag, variable (`ARQON_SECTION_NAME`, or a name that was
//! promised beside it), file, default.
//!
//! In reading order:
//! - [`setting`]: what a setting is, and how the table declares it. [`table`]: all of them.
//! - [`units`], [`address`], [`secret`]: what values are made of. [`kind`]: judging what was written.
//! - [`flags`], [`variables`], [`file`](mod@file): where something may be written.
//! - [`suggest`]: what was meant. [`problem`]: what is wrong, and where.
//! - [`resolve`]: one value for each. [`rules`]: values that must go together.
//! - [`read`], [`roles`]: the values as the servers get them.
//! - [`exposure`]: who may listen where.
//!
//! Invariants owed to the servers and to whoever runs them:
//! - What a role gets has been judged: nothing is parsed behind this.
//! - What is wrong is told with its place (file and line, variable, flag), the value and what is
//!   allowed; all of a file at once.
//! - A secret appears in no output and no error.
//! - A key that is not known is an error in the file and a warning in the environment.

pub mod address;
pub mod exposure;
pub mod file;
pub mod flags;
pub mod kind;
pub mod problem;
pub mod read;
pub mod resolve;
pub mod roles;
pub mod rules;
pub mod secret;
pub mod setting;
pub mod suggest;
pub mod table;
pub mod units;
pub mod variables;

pub use flags::Flags;
pub use resolve::Effective;
pub use roles::{DevSettings, GatewaySettings, MetaSettings, NodeSettings, RoleSettings};
pub use setting::{Role, Section, Setting};
pub use variables::Variables;
