//! What each server gets: its settings as values.

use crate::base::Result;
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::settings::flags::Flags;
use crate::cli::settings::table::roles::{Dev, Gateway, Meta, Node};
use crate::cli::settings::table::shared::{Cluster, Raft, Redis, Server, Storage};
use crate::cli::settings::{Effective, Role, Variables};
use crate::node::Options;

/// The settings of a role.
pub trait RoleSettings: Sized {
    /// Which.
    const ROLE: Role;

    /// The effective values.
    ///
    /// # Errors
    /// `Internal` if the values are another role's.
    fn of(values: &Effective) -> Result<Self>;
}

macro_rules! role {
    ($(#[doc = $about:literal])+ $name:ident: $role:ident { $($(#[doc = $doc:literal])+ $field:ident: $section:ident,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $section,)+
        }

        impl RoleSettings for $name {
            const ROLE: Role = Role::$role;

            fn of(values: &Effective) -> Result<$name> {
                Ok($name { $($field: $section::of(values)?,)+ })
            }
        }
    };
}

role! {
    /// Of `arqon meta`.
    MetaSettings: Meta {
        /// Its own.
        meta: Meta,
        /// What it decides for the cluster.
        cluster: Cluster,
        /// Of its Raft group.
        raft: Raft,
        /// Of every server.
        server: Server,
    }
}

role! {
    /// Of `arqon node`.
    NodeSettings: Node {
        /// Its own.
        node: Node,
        /// Of its engine.
        storage: Storage,
        /// Of its Raft groups.
        raft: Raft,
        /// Of its Redis door.
        redis: Redis,
        /// Of every server.
        server: Server,
    }
}

role! {
    /// Of `arqon gateway`.
    GatewaySettings: Gateway {
        /// Its own.
        gateway: Gateway,
        /// Of its Redis door.
        redis: Redis,
        /// Of every server.
        server: Server,
    }
}

role! {
    /// Of `arqon dev`.
    DevSettings: Dev {
        /// Its own.
        dev: Dev,
        /// Of its engine.
        storage: Storage,
        /// Of every server.
        server: Server,
    }
}

impl<S: RoleSettings> Flags<S> {
    /// The settings that these flags, the environment and the file make together; tells warnings.
    /// With them where each came from.
    ///
    /// # Errors
    /// A file that cannot be read, and all that is wrong with what was written.
    pub fn load(&self, context: &mut Context) -> Outcome<(S, Effective)> {
        let effective = Effective::gather(Some(S::ROLE), &self.line, Variables::of_process())?;
        for warning in &effective.warnings {
            context.say(format_args!("warning: {warning}"));
        }
        Ok((S::of(&effective)?, effective))
    }
}

impl Storage {
    /// How an engine that stands alone is opened.
    pub fn options(&self) -> Options {
        Options {
            sync: self.sync,
            memory_budget_bytes: self.memory,
            compression: self.compression,
            log_bytes_max: self.log_max,
            log_segment_bytes: self.log_segment,
            background_threads: usize::try_from(self.threads).unwrap_or(1),
            ..Options::default()
        }
    }
}
