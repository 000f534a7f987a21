use super::*;
use crate::cli::settings::flags;
use std::ffi::OsString;
use std::path::Path;

/// Layers of a role: flags, variables, file.
fn layers<const N: usize>(
    role: Option<Role>,
    flags: &str,
    variables: [(&str, &str); N],
    file: &str,
) -> Layers {
    let args: Vec<OsString> = flags.split_whitespace().map(OsString::from).collect();
    let line = role.map_or(Line::default(), |role| flags::parse(role, &args).unwrap());
    let file = (!file.is_empty()).then(|| SettingsFile::parse(Path::new("t.toml"), file));
    Layers { role, flags: line.given, variables: Variables::from(variables), file }
}

fn problems<const N: usize>(
    role: Option<Role>,
    flags: &str,
    variables: [(&str, &str); N],
    file: &str,
) -> Vec<Problem> {
    layers(role, flags, variables, file).resolve().err().unwrap_or_default()
}

#[test]
fn the_strongest_that_says_something_wins() {
    let (flag, file) = ("--sync os", "[storage]\nsync = \"interval:7\"\n");
    let variable = [("ARQON_STORAGE_SYNC", "always")];
    for (flags, variables, file, value, origin) in [
        ("", None, "", "interval:100", "default"),
        ("", None, file, "interval:7", "t.toml:2"),
        ("", Some(variable), "", "always", "variable ARQON_STORAGE_SYNC"),
        ("", Some(variable), file, "always", "variable ARQON_STORAGE_SYNC"),
        (flag, None, "", "os", "flag --sync"),
        (flag, None, file, "os", "flag --sync"),
        (flag, Some(variable), "", "os", "flag --sync"),
        (flag, Some(variable), file, "os", "flag --sync"),
        // Set to nothing is not set.
        ("", Some([("ARQON_STORAGE_SYNC", "")]), file, "interval:7", "t.toml:2"),
    ] {
        let variables = variables.unwrap_or([("HOME", "/")]);
        let effective = layers(Some(Role::Dev), flags, variables, file).resolve().unwrap();
        let held = effective.value("storage.sync").unwrap();
        let shown = held.typed.show().unwrap();
        assert_eq!((shown.as_str(), held.origin.to_string().as_str()), (value, origin));
    }
}

#[test]
fn every_promised_variable_works_and_ours_beside_it() {
    for setting in table::all() {
        let Some(promised) = setting.legacy else { continue };
        let (role, ours) = (Some(setting.roles[0]), setting.variable());
        let (a, b) = two_values(setting);
        for name in [promised, ours.as_str()] {
            let effective = layers(role, "", [(name, a)], "").resolve().unwrap();
            let held = effective.value(setting.key).unwrap();
            assert_eq!(held.origin, Origin::Variable(name.to_string()));
            assert_eq!(setting.kind.parse(&Raw::Text(a.to_string())), Ok(held.typed.clone()));
        }
        let same = [(promised, a), (ours.as_str(), a)];
        let effective = layers(role, "", same, "").resolve().unwrap();
        let origin = &effective.value(setting.key).unwrap().origin;
        assert_eq!(*origin, Origin::Variable(ours.clone()));

        let two = problems(role, "", [(promised, a), (ours.as_str(), b)], "");
        assert_eq!(two.len(), 1, "{promised}");
        let message = &two[0].message;
        assert!(message.contains(promised) && message.contains(&ours), "{message}");
        assert!(two[0].fix.contains(promised) && two[0].fix.contains(&ours), "{two:?}");
        let shown = message.contains(a) || message.contains(b);
        assert_eq!(shown, !setting.kind.is_secret(), "{message}");
        // A flag is stronger than a quarrel.
        let flag = format!("--{}={a}", flags::name(setting, setting.roles[0]));
        let two = [(promised, a), (ours.as_str(), b)];
        assert!(layers(role, &flag, two, "").resolve().is_ok(), "{flag}");
    }
}

/// Two values that a setting may have.
fn two_values(setting: &Setting) -> (&'static str, &'static str) {
    match setting.kind {
        Kind::Int(..) => ("7", "8"),
        Kind::Listen | Kind::Peer => ("10.1.1.1:7777", "10.1.1.2:7777"),
        Kind::Url | Kind::Urls => ("http://10.1.1.1:7777", "http://10.1.1.2:7777"),
        Kind::Secret => ("hunter2", "hunter3"),
        Kind::Users => ("ann:hunter2:user", "ann:hunter3:user"),
        kind => panic!("no values for a {}", kind.name()),
    }
}

#[test]
fn two_ways_to_write_a_value_are_no_quarrel() {
    let twice = [("RAFT_ADDR", "http://10.0.0.7:7380"), ("ARQON_NODE_RAFT_ADDR", "10.0.0.7:7380")];
    assert!(layers(Some(Role::Node), "", twice, "").resolve().is_ok());
}

#[test]
fn a_role_reads_its_own_variables_only() {
    let wrong = [("META_SERVER", "nonsense")];
    assert!(layers(Some(Role::Dev), "", wrong, "").resolve().is_ok());
    assert!(layers(Some(Role::Gateway), "", wrong, "").resolve().is_ok());
    assert_eq!(problems(Some(Role::Node), "", wrong, "").len(), 1);
    assert_eq!(problems(None, "", wrong, "").len(), 1);
    let effective = layers(Some(Role::Gateway), "", [], "").resolve().unwrap();
    assert!(effective.values.iter().all(|value| value.setting.is_for(Role::Gateway)));
}

#[test]
fn what_is_wrong_is_told_with_place_value_and_what_is_allowed() {
    for (flags, variable, file, message, fix) in [
        (
            "--redis nonsense",
            "",
            "",
            "--redis is \"nonsense\", which is no address",
            "give an address such as 127.0.0.1:6379 or [::1]:6379",
        ),
        (
            "--memory 4",
            "",
            "",
            "--memory is \"4MiB\", which is out of range",
            "give a size from 8MiB to 1TiB, such as 64MiB, 1GiB, or bytes as a number",
        ),
        (
            "",
            "soon",
            "",
            "ARQON_SERVER_DRAIN is \"soon\", which is no duration",
            "give a duration from 0s to 10m, such as 100ms, 5s or 2m",
        ),
        (
            "",
            "",
            "[storage]\n\ncompression = \"zstd\"",
            "t.toml:3: storage.compression is \"zstd\", which is none of its words",
            "give lz4 or none",
        ),
        (
            "",
            "",
            "server.allow_remote = \"yes\"",
            "t.toml:1: server.allow_remote is \"yes\", which is no boolean",
            "give true or false",
        ),
        (
            "",
            "",
            "[storage]\nthreads = 65",
            "t.toml:2: storage.threads is 65, which is out of range",
            "give a whole number from 1 to 64",
        ),
        (
            "",
            "",
            "[gateway]\nmeta = []",
            "t.toml:2: gateway.meta is empty",
            "give URLs such as http://127.0.0.1:8379, with commas between",
        ),
        (
            "",
            "",
            "[storage.sync]\na = 1",
            "t.toml:1: storage.sync is a table, which is no sync level",
            "give always, interval, interval:MS (1 to 3600000) or os",
        ),
    ] {
        let found = problems(Some(Role::Dev), flags, [("ARQON_SERVER_DRAIN", variable)], file);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].message.as_str(), found[0].fix.as_str()), (message, fix));
    }
}

#[test]
fn all_of_a_file_is_told_at_once_in_the_order_of_lines() {
    let file = "[storage]\nsync = 5\nmemroy = 1\n[node]\nid = 0\n[nod]\n";
    let found = problems(Some(Role::Dev), "", [], file);
    let lines: Vec<_> = found.iter().map(|problem| problem.line.unwrap()).collect();
    assert_eq!(lines, [2, 3, 5, 6]);
    let failure = problem::failure(&found);
    assert!(failure.message.ends_with("(and 3 more problems)"), "{}", failure.message);
}

#[test]
fn a_line_that_something_stronger_hides_is_judged_too() {
    let found = problems(Some(Role::Dev), "--sync os", [], "[storage]\nsync = 5\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].message.starts_with("t.toml:2: storage.sync is 5"), "{found:?}");
}

#[test]
fn values_must_go_together() {
    for (file, message) in [
        (
            "[raft]\nheartbeat = \"100ms\"",
            "t.toml:2: raft.heartbeat (100ms) must be at most half of raft.election_min (150ms by default)",
        ),
        (
            "[raft]\nelection_min = \"300ms\"",
            "t.toml:2: raft.election_min (300ms) must be less than raft.election_max (300ms by default)",
        ),
        (
            "[cluster]\nsuspect_after = \"5m\"",
            "t.toml:2: cluster.suspect_after (5m) must be less than cluster.dead_after (5m by default)",
        ),
        (
            "[storage]\nlog_segment = \"129MiB\"",
            "t.toml:2: storage.log_segment (129MiB) must be at most a quarter of storage.log_max (512MiB by default)",
        ),
        (
            "[gateway]\nbackoff_max = \"5ms\"",
            "gateway.backoff (10ms by default) must be at most t.toml:2: gateway.backoff_max (5ms)",
        ),
        ("[cluster]\nreplicas = 4", "t.toml:2: cluster.replicas is 4, an even number"),
    ] {
        let found = problems(None, "", [], file);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].message.as_str(), found[0].line), (message, Some(2)));
    }
    let together = "[raft]\nelection_min = \"600ms\"\nelection_max = \"1s\"\nheartbeat = \"300ms\"";
    assert_eq!(problems(None, "", [], together), []);
    // What one role's variables would mend is no problem of another.
    let half = "[raft]\nelection_min = \"600ms\"";
    assert_eq!(problems(Some(Role::Dev), "", [], half), []);
    let mended = [("ARQON_RAFT_ELECTION_MAX", "1s")];
    assert_eq!(problems(Some(Role::Node), "", mended, half), []);
    assert_eq!(problems(Some(Role::Node), "", [], half).len(), 1);
}

#[test]
fn no_error_and_no_debug_text_holds_a_secret() {
    let secret = "hunter2";
    let wrong = ["hunter2", "ann:hunter2", "ann:hunter2:root", ":hunter2:user"];
    for text in wrong {
        let file = format!("[gateway]\nusers = [\"{text}\"]\njwt_secret = [\"{text}\"]\n");
        let found = problems(Some(Role::Gateway), "", [("GATEWAY_USERS", text)], &file);
        assert!(found.len() >= 2, "{found:?}");
        assert!(!format!("{found:?}").contains(secret), "{found:?}");
        let flag = format!("--users={text}");
        let layers = layers(Some(Role::Gateway), &flag, [], &file);
        assert!(!format!("{layers:?}").contains(secret), "{layers:?}");
        let found = layers.resolve().unwrap_err();
        assert!(!format!("{found:?}").contains(secret), "{found:?}");
    }
    let set = [("GATEWAY_JWT_SECRET", secret), ("GATEWAY_USERS", "ann:hunter2:admin")];
    let effective = layers(Some(Role::Gateway), "", set, "").resolve().unwrap();
    assert!(!format!("{effective:?}").contains(secret));
    assert!(effective.values.iter().all(|v| v.typed.show().is_none_or(|s| !s.contains(secret))));
}
