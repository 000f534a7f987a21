//! From a value that passed to the type that code reads.

use crate::cli::settings::address::{Address, Url};
use crate::cli::settings::kind::{Label, Typed};
use crate::cli::settings::secret::{Secret, User};
use crate::log::SyncLevel;
use crate::lsm::Codec;
use crate::op::Consistency;
use std::path::PathBuf;
use std::time::Duration;

/// A type of a setting's field. `None` if the declared kind is another.
pub trait FromTyped: Sized {
    /// Takes the value over.
    fn from_typed(value: &Typed) -> Option<Self>;
}

macro_rules! reads {
    ($($type:ty: $($variant:ident)|+;)+) => {$(
        impl FromTyped for $type {
            fn from_typed(value: &Typed) -> Option<$type> {
                match value {
                    $(Typed::$variant(inner))|+ => Some(inner.clone()),
                    _ => None,
                }
            }
        }
    )+};
}

reads! {
    bool: Bool;
    u64: Int | Size;
    Duration: Duration;
    Address: Address;
    Url: Url;
    PathBuf: Path;
    String: Text;
    SyncLevel: Sync;
    Consistency: Consistency;
    Secret: Secret;
}

impl<T: FromTyped> FromTyped for Option<T> {
    fn from_typed(value: &Typed) -> Option<Option<T>> {
        match value {
            Typed::Unset => Some(None),
            value => T::from_typed(value).map(Some),
        }
    }
}

macro_rules! reads_lists {
    ($($type:ty: $variant:ident;)+) => {$(
        impl FromTyped for Vec<$type> {
            fn from_typed(value: &Typed) -> Option<Vec<$type>> {
                match value {
                    Typed::Unset => Some(Vec::new()),
                    Typed::$variant(entries) => Some(entries.clone()),
                    _ => None,
                }
            }
        }
    )+};
}

reads_lists! {
    Url: Urls;
    Label: Labels;
    User: Users;
}

/// How a gateway shows the cluster to clients of Redis Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterMode {
    /// Every gateway serves every slot.
    Proxy,
    /// A command for another server's slot is answered with `MOVED`.
    Moved,
}

impl FromTyped for ClusterMode {
    fn from_typed(value: &Typed) -> Option<ClusterMode> {
        match value {
            Typed::Choice("proxy") => Some(ClusterMode::Proxy),
            Typed::Choice("moved") => Some(ClusterMode::Moved),
            _ => None,
        }
    }
}

impl FromTyped for Codec {
    fn from_typed(value: &Typed) -> Option<Codec> {
        match value {
            Typed::Choice("none") => Some(Codec::None),
            Typed::Choice("lz4") => Some(Codec::Lz4),
            _ => None,
        }
    }
}
