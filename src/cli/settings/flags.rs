//! Flags made from the table.
//!
//! A setting of the role's own section has the flag `--name`, one of another section
//! `--section-name`, unless the table names another.

use crate::cli::settings::kind::{Kind, Raw};
use crate::cli::settings::roles::RoleSettings;
use crate::cli::settings::{Role, Setting, table};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::LazyLock;

/// The id of `--config` among the arguments; no key is without a dot.
const CONFIG: &str = "config";

/// What one flag says.
#[derive(Clone)]
pub struct Given {
    /// Of which setting.
    pub setting: &'static Setting,
    /// What follows the flag.
    pub raw: Raw,
    /// The flag with its dashes, or what else to call the place on the command line.
    pub flag: String,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.flag, self.raw.show(self.setting.kind))
    }
}

/// What a command line says of settings.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// The settings file it names.
    pub config: Option<PathBuf>,
    /// What its flags say, in the order of the table.
    pub given: Vec<Given>,
}

/// The settings' flags of a role, to flatten into its command.
#[derive(Debug, Clone)]
pub struct Flags<S> {
    /// What they say.
    pub line: Line,
    role: PhantomData<S>,
}

impl<S: RoleSettings> clap::FromArgMatches for Flags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags<S>, clap::Error> {
        Ok(Flags { line: collect(matches, S::ROLE)?, role: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.line = collect(matches, S::ROLE)?;
        Ok(())
    }
}

impl<S: RoleSettings> clap::Args for Flags<S> {
    fn augment_args(command: Command) -> Command {
        augment(command, S::ROLE)
    }

    fn augment_args_for_update(command: Command) -> Command {
        augment(command, S::ROLE)
    }
}

/// Names of flags by role and key: the parser keeps references to them.
static NAMES: LazyLock<BTreeMap<(&'static str, &'static str), String>> = LazyLock::new(|| {
    let of = |role: Role| {
        table::of_role(Some(role)).map(move |s| ((role.name(), s.key), made_name(s, role)))
    };
    Role::ALL.into_iter().flat_map(of).collect()
});

fn made_name(setting: &Setting, role: Role) -> String {
    match setting.flag {
        Some(name) => name.to_string(),
        None if setting.section() == role.name() => setting.name().replace('_', "-"),
        None => setting.key.replace(['_', '.'], "-"),
    }
}

/// The flag of a setting in a role's command, without dashes.
pub fn name(setting: &Setting, role: Role) -> &'static str {
    NAMES.get(&(role.name(), setting.key)).map_or("", String::as_str)
}

/// A command with the flags of a role.
pub fn augment(command: Command, role: Role) -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Settings file [default: $ARQON_CONFIG, ./arqon.toml, /etc/arqon/arqon.toml]");
    table::of_role(Some(role)).map(|s| arg(s, role)).fold(command, Command::arg).arg(config)
}

fn arg(setting: &'static Setting, role: Role) -> Arg {
    let help = setting.help.trim_end_matches('.');
    let help = match (setting.kind, setting.default) {
        (Kind::Bool, _) | (_, "") => help.to_string(),
        (_, default) => format!("{help} [default: {default}]"),
    };
    let arg = Arg::new(setting.key)
        .long(name(setting, role))
        .value_name(setting.kind.placeholder())
        .value_parser(clap::value_parser!(OsString))
        .action(ArgAction::Set)
        .help(help);
    let arg = match setting.kind {
        Kind::Bool => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    };
    match setting.flag.is_some() || setting.section() == role.name() {
        true => arg,
        false => arg.help_heading("More settings"),
    }
}

/// What the flags of a role's command say.
///
/// # Errors
/// Text that is no UTF-8.
pub fn collect(matches: &ArgMatches, role: Role) -> Result<Line, clap::Error> {
    let mut line = Line { config: matches.get_one::<PathBuf>(CONFIG).cloned(), given: Vec::new() };
    for setting in table::of_role(Some(role)) {
        let Some(text) = matches.get_one::<OsString>(setting.key) else { continue };
        let flag = format!("--{}", name(setting, role));
        let raw = match text.to_str() {
            // A path is whatever the system takes for one.
            _ if setting.kind == Kind::Path => Raw::Path(PathBuf::from(text)),
            Some(text) => {
                let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let unit = if is_number { setting.flag_unit } else { "" };
                Raw::Text(format!("{text}{unit}"))
            }
            None => {
                let text = format!("{flag} is no UTF-8 text\n");
                return Err(clap::Error::raw(clap::error::ErrorKind::InvalidUtf8, text));
            }
        };
        line.given.push(Given { setting, raw, flag });
    }
    Ok(line)
}

/// What a role's command would make of these arguments.
///
/// # Errors
/// Those of the parser.
pub fn parse(role: Role, args: &[OsString]) -> Result<Line, clap::Error> {
    let command = Command::new(role.name()).no_binary_name(true).disable_help_flag(true);
    let matches = augment(command, role).try_get_matches_from(args)?;
    collect(&matches, role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_flag_of_a_role_means_two_things() {
        let taken = ["config", "output", "color", "yes", "help", "version"];
        for role in Role::ALL {
            let mut seen: BTreeSet<&str> = taken.into_iter().collect();
            for setting in table::of_role(Some(role)) {
                let name = name(setting, role);
                assert!(!name.is_empty() && seen.insert(name), "{}: --{name}", role.name());
            }
        }
    }

    #[test]
    fn flags_are_named_after_their_keys() {
        let of = |key, role| name(table::find(key).unwrap(), role);
        assert_eq!(of("node.data_addr", Role::Node), "data-addr");
        assert_eq!(of("raft.heartbeat", Role::Node), "raft-heartbeat");
        assert_eq!(of("storage.sync", Role::Node), "sync");
        assert_eq!(of("dev.redis_addr", Role::Dev), "redis");
    }

    #[test]
    fn a_plain_number_has_the_flags_unit() {
        let text = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            let shown = |given: Given| given.raw.show(given.setting.kind).replace('"', "");
            parse(Role::Dev, &args)
                .map(|line| line.given.into_iter().map(shown).collect::<Vec<String>>())
        };
        assert_eq!(text(&["--memory", "64"]).unwrap(), ["64MiB"]);
        assert_eq!(text(&["--memory=64KiB"]).unwrap(), ["64KiB"]);
        assert_eq!(text(&["--memory", ""]).unwrap(), [""]);
        assert_eq!(text(&["--storage-log-segment", "64"]).unwrap(), ["64"]);
        assert_eq!(text(&["--allow-remote"]).unwrap(), ["true"]);
        assert_eq!(text(&["--allow-remote=false"]).unwrap(), ["false"]);
        assert!(text(&["--allow-remote", "false"]).is_err());
        assert_eq!(text(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_path_is_what_the_system_takes_for_one() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![b'a', 0xff, b'\n']);
        let line = parse(Role::Dev, &["--data".into(), odd.clone()]).unwrap();
        assert!(line.given[0].raw == Raw::Path(PathBuf::from(&odd)));
        assert!(line.given[0].setting.kind.parse(&line.given[0].raw).is_ok());
        assert!(Kind::Path.parse(&Raw::Path(PathBuf::new())).is_err());
        assert!(parse(Role::Dev, &["--redis".into(), odd]).is_err());
    }
}
