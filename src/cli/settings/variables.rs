//! The environment: `ARQON_...` and the names that were promised beside it.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::settings::problem::Problem;
use crate::cli::settings::setting::PREFIX;
use crate::cli::settings::suggest::nearest;
use crate::cli::settings::{Setting, file, table};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Variables of ours that are no settings of a server.
const OTHERS: [&str; 2] = [file::FILE_VARIABLE, "ARQON_OUTPUT"];

/// Variables by name. One that is set to nothing counts as not set.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, OsString>);

impl Variables {
    /// Those of this process.
    pub fn of_process() -> Variables {
        let named = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v)));
        Variables(named.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// A variable's text.
    ///
    /// # Errors
    /// Text that is no UTF-8.
    pub fn get(&self, name: &str) -> Outcome<Option<&str>> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| {
            Failure::usage(format!("{name} is no UTF-8 text")).fix(format!("set {name} anew"))
        })
    }

    /// The variables that set a setting, with their text: ours first, then the promised one.
    pub fn of<'a>(&'a self, setting: &Setting) -> Result<Vec<(String, &'a str)>, Problem> {
        let names = [Some(setting.variable()), setting.legacy.map(str::to_string)];
        let mut found = Vec::new();
        for name in names.into_iter().flatten() {
            match self.get(&name) {
                Ok(Some(text)) => found.push((name, text)),
                Ok(None) => {}
                Err(Failure { message, fix, .. }) => {
                    return Err(Problem { line: None, message, fix: fix.unwrap_or_default() });
                }
            }
        }
        Ok(found)
    }

    /// Sentences about variables that look like ours and are not.
    pub fn unknown(&self) -> Vec<String> {
        let known: Vec<String> = table::all().map(Setting::variable).collect();
        let known = || known.iter().map(String::as_str).chain(OTHERS);
        let foreign = |name: &&String| {
            name.starts_with(PREFIX) && !is_service_link(name) && !known().any(|k| k == *name)
        };
        let short = |name: &'_ str| name.strip_prefix(PREFIX).unwrap_or(name).to_string();
        let shorts: Vec<String> = known().map(short).collect();
        let sentence = |name: &String| match nearest(&short(name), shorts.iter().map(|s| &**s)) {
            Some(near) => format!("{name} sets nothing; did you mean {PREFIX}{near}?"),
            None => format!("{name} sets nothing; arqon config sample -o csv lists variables"),
        };
        self.0.keys().filter(foreign).map(sentence).collect()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(variables: [(&str, &str); N]) -> Variables {
        let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
        Variables(set.map(|(name, value)| (name.to_string(), value.into())).collect())
    }
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Their values are anybody's secrets.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether a name is one of those that Kubernetes sets in every container for a service called
/// `arqon` or `arqon-...`: `ARQON_SERVICE_HOST`, `ARQON_PORT_6379_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let has = |part: &str| name.contains(part);
    has("_SERVICE_HOST") || has("_SERVICE_PORT") || name.ends_with("_PORT") || {
        let mut rest = name.split("_PORT_").skip(1);
        rest.any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_nearly_ours_are_told() {
        let variables = Variables::from([
            ("ARQON_NODE_DATA_ADR", "x"),
            ("ARQON_OUTPUT", "json"),
            ("ARQON_CONFIG", "x"),
            ("ARQON_STORAGE_SYNC", "os"),
            ("ARQON_QUITE_ANOTHER_THING", "x"),
            ("ARQON_SERVICE_HOST", "10.0.0.1"),
            ("ARQON_NODE_PORT", "tcp://10.0.0.1:7379"),
            ("ARQON_NODE_PORT_7379_TCP_ADDR", "10.0.0.1"),
            ("ARQON_EMPTY", ""),
            ("HOME", "/root"),
        ]);
        let said = variables.unknown();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("did you mean ARQON_NODE_DATA_ADDR?"), "{said:?}");
        assert!(said[1].starts_with("ARQON_QUITE_ANOTHER_THING sets nothing"), "{said:?}");
    }

    #[test]
    fn no_setting_has_a_name_that_a_service_link_may_have() {
        for setting in table::all() {
            assert!(!is_service_link(&setting.variable()), "{}", setting.key);
        }
    }

    #[test]
    fn text_that_is_no_text_is_refused_only_where_it_is_asked_for() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = OsString::from_vec(vec![0xff]);
        let variables = Variables(BTreeMap::from([("DATA_ADDR".to_string(), bytes)]));
        assert!(variables.get("DATA_ADDR").is_err());
        assert!(variables.of(table::find("node.data_addr").unwrap()).is_err());
        assert_eq!(variables.of(table::find("node.raft_addr").unwrap()), Ok(vec![]));
    }
}
