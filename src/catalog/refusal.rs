//! Why a command was not applied, and what stands in its way.

use crate::base::{Error, ErrorKind};
use crate::catalog::records::{Job, Node, Shard};
use std::fmt;

/// A command that changed nothing: the error, and where there is one the record in the way.
#[derive(Clone)]
pub struct Refusal {
    error: Error,
    standing: Option<Box<Standing>>,
}

/// The record that stood in a command's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A node in another state, or under another incarnation.
    Node(Node),
    /// A shard with another epoch.
    Shard(Shard),
    /// A job that is active, or that someone else runs.
    Job(Job),
}

impl Refusal {
    /// A refusal of `kind`; the sentence says what to do next.
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Refusal {
        Refusal { error: Error::new(kind, message), standing: None }
    }

    pub(super) fn not_found(what: impl fmt::Display) -> Refusal {
        Refusal::new(ErrorKind::NotFound, format!("there is no {what}"))
    }

    pub(super) fn refused(message: impl Into<String>) -> Refusal {
        Refusal::new(ErrorKind::Refused, message)
    }

    pub(super) fn conflict(message: impl Into<String>, standing: Standing) -> Refusal {
        Refusal::new(ErrorKind::Conflict, message).with(standing)
    }

    /// The same refusal with the record that stands in the way.
    pub(super) fn with(self, standing: Standing) -> Refusal {
        Refusal { standing: Some(Box::new(standing)), ..self }
    }

    pub(super) fn from_parts(error: Error, standing: Option<Standing>) -> Refusal {
        Refusal { error, standing: standing.map(Box::new) }
    }

    /// What the caller does next.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The error, without the record.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The record in the way; always there for a conflict.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_deref()
    }

    /// Whether a replica that meets this must stop, because others may have gone on.
    pub fn halts(&self) -> bool {
        !matches!(
            self.kind(),
            ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::Conflict
                | ErrorKind::InvalidArgument
                | ErrorKind::Refused
        )
    }
}

impl PartialEq for Refusal {
    fn eq(&self, other: &Refusal) -> bool {
        let parts = |r: &Refusal| (r.kind(), r.error.message().to_string());
        parts(self) == parts(other) && self.standing == other.standing
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal { error, standing: None }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        refusal.error
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.error)?;
        if let Some(standing) = &self.standing {
            write!(f, " (stands: {standing:?})")?;
        }
        Ok(())
    }
}
