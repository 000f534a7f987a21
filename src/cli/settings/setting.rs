//! What a setting is, and the form in which the tables declare it.

use crate::cli::settings::kind::Kind;

/// One of the program's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// The metadata plane.
    Meta,
    /// A node that holds data.
    Node,
    /// The stateless door to a cluster.
    Gateway,
    /// Everything in one process, for development.
    Dev,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Meta, Role::Node, Role::Gateway, Role::Dev];

    /// The subcommand that starts it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Meta => "meta",
            Role::Node => "node",
            Role::Gateway => "gateway",
            Role::Dev => "dev",
        }
    }
}

/// One setting, as declared.
#[derive(Debug)]
pub struct Setting {
    /// The name in the file: `section.name`.
    pub key: &'static str,
    /// The roles that read it.
    pub roles: &'static [Role],
    /// What it may be.
    pub kind: Kind,
    /// The value it has unless told otherwise, as it would be written; empty for none.
    pub default: &'static str,
    /// A value to show where there is no default.
    pub example: &'static str,
    /// A variable that was promised beside `ARQON_...`.
    pub legacy: Option<&'static str>,
    /// The flag, without dashes, where it is not made from the key.
    pub flag: Option<&'static str>,
    /// The unit of a plain number in the flag, where it is not the bare one.
    pub flag_unit: &'static str,
    /// Whether a change needs a restart.
    pub restart: bool,
    /// One sentence.
    pub help: &'static str,
}

impl Setting {
    /// What the tables do not say of a setting.
    pub const BASE: Setting = Setting {
        key: "",
        roles: &[],
        kind: Kind::Text,
        default: "",
        example: "",
        legacy: None,
        flag: None,
        flag_unit: "",
        restart: true,
        help: "",
    };

    /// Its variable: `ARQON_` and the key in capitals, dots as underscores.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.replace('.', "_").to_uppercase())
    }

    /// The key's part before the dot.
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// The key's part behind the dot.
    pub fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// Whether a role reads it.
    pub fn is_for(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// How our variables begin.
pub const PREFIX: &str = "ARQON_";

/// A group of settings, `[name]` in the file.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What its settings are about.
    pub help: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

/// Declares a section: the struct that code reads, and its part of the table, in one.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $section:ident $name:literal for [$($role:ident),+] {
            $(
                $(#[doc = $help:literal])+
                $field:ident: $type:ty = $kind:expr, $default:literal
                $(, $extra:ident: $value:expr)*;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $section {
            $($(#[doc = $help])+ pub $field: $type,)+
        }

        impl $section {
            const ROLES: &[$crate::cli::settings::Role] =
                &[$($crate::cli::settings::Role::$role),+];

            /// The settings as the table has them.
            pub const SECTION: $crate::cli::settings::Section = $crate::cli::settings::Section {
                name: $name,
                help: concat!($($about),+).trim_ascii(),
                settings: &[$(
                    $crate::cli::settings::Setting {
                        key: concat!($name, ".", stringify!($field)),
                        roles: $section::ROLES,
                        kind: $kind,
                        default: $default,
                        help: concat!($($help),+).trim_ascii(),
                        $($extra: $value,)*
                        ..$crate::cli::settings::Setting::BASE
                    },
                )+],
            };

            /// The effective values.
            ///
            /// # Errors
            /// `Internal` if a role asks for settings that are not its own.
            pub fn of(values: &$crate::cli::settings::Effective) -> $crate::base::Result<$section> {
                Ok($section {
                    $($field: values.get(concat!($name, ".", stringify!($field)))?,)+
                })
            }
        }
    };
}
pub(crate) use section;
