use super::*;
use crate::cli::settings::kind::{Kind, Raw, Typed};
use crate::cli::settings::resolve::Layers;
use crate::cli::settings::{
    DevSettings, GatewaySettings, MetaSettings, NodeSettings, RoleSettings, Variables,
};
use std::collections::BTreeSet;

fn parse(setting: &Setting, text: &str) -> Typed {
    let typed = setting.kind.parse(&Raw::Text(text.to_string()));
    typed.unwrap_or_else(|why| panic!("{} = {text:?}: {why:?}", setting.key))
}

#[test]
fn defaults_and_examples_are_values_as_they_are_written() {
    for setting in all() {
        let (default, example) = (setting.default, setting.example);
        assert_ne!(default.is_empty(), example.is_empty(), "{}: one of the two", setting.key);
        let text = if default.is_empty() { example } else { default };
        let typed = parse(setting, text);
        if !setting.kind.is_secret() {
            assert_eq!(typed.show().as_deref(), Some(text), "{}", setting.key);
        }
    }
}

#[test]
fn names_are_plain_and_mean_one_setting() {
    let mut keys = BTreeSet::new();
    let mut variables = BTreeSet::from(["ARQON_CONFIG".to_string(), "ARQON_OUTPUT".to_string()]);
    for setting in all() {
        let (section, name) = setting.key.split_once('.').unwrap();
        for part in [section, name] {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(!part.is_empty() && part.bytes().all(plain), "{}", setting.key);
        }
        assert!(keys.insert(setting.key), "{} twice", setting.key);
        for variable in setting.legacy.map(str::to_string).into_iter().chain([setting.variable()]) {
            assert!(variables.insert(variable.clone()), "{variable} twice");
        }
    }
    assert_eq!(find("node.data_addr").unwrap().variable(), "ARQON_NODE_DATA_ADDR");
}

#[test]
fn every_setting_has_one_sentence() {
    for setting in all() {
        let help = setting.help;
        assert!(help.ends_with('.') && help.starts_with(char::is_uppercase), "{help}");
        assert!(!help.contains("  ") && help.len() < 220, "{}: {help}", setting.key);
        assert!(setting.restart && !setting.roles.is_empty(), "{}", setting.key);
    }
}

#[test]
fn what_was_promised_is_declared() {
    for (variable, key, default) in [
        ("META_SERVER", "node.meta", ""),
        ("DATA_NODE_ID", "node.id", ""),
        ("DATA_ADDR", "node.data_addr", ""),
        ("RAFT_ADDR", "node.raft_addr", ""),
        ("GATEWAY_ADDR", "gateway.addr", "0.0.0.0:9379"),
        ("GATEWAY_META", "gateway.meta", "http://127.0.0.1:8379"),
        ("GATEWAY_REDIS_ADDR", "gateway.redis_addr", "0.0.0.0:6379"),
        ("GATEWAY_MGMT_ADDR", "gateway.mgmt_addr", "0.0.0.0:9380"),
        ("GATEWAY_JWT_SECRET", "gateway.jwt_secret", ""),
        ("GATEWAY_USERS", "gateway.users", "admin:admin:admin"),
    ] {
        let setting = find(key).unwrap();
        assert_eq!((setting.legacy, setting.default), (Some(variable), default), "{key}");
    }
    assert_eq!(all().filter(|setting| setting.legacy.is_some()).count(), 10);
    for (key, port) in
        [("meta.listen", 8379), ("node.data_listen", 7379), ("node.raft_listen", 7380)]
    {
        let setting = find(key).unwrap();
        assert!(setting.default.ends_with(&format!(":{port}")), "{key}");
    }
}

/// Builds a role's values from the defaults alone.
fn defaults<S: RoleSettings>() -> S {
    let layers = Layers { role: Some(S::ROLE), ..Layers::default() };
    S::of(&layers.resolve().unwrap()).unwrap()
}

#[test]
fn every_role_is_built_from_the_defaults() {
    let node: NodeSettings = defaults();
    assert_eq!((node.node.id, node.node.meta.len()), (None, 0));
    assert_eq!(node.raft.heartbeat.as_millis(), 50);
    let meta: MetaSettings = defaults();
    assert_eq!((meta.cluster.shards, meta.cluster.replicas), (8, 3));
    let gateway: GatewaySettings = defaults();
    assert_eq!(gateway.gateway.users.len(), 1);
    let dev: DevSettings = defaults();
    assert_eq!(dev.dev.redis_addr.to_string(), "127.0.0.1:6379");
}

#[test]
fn an_engine_opened_with_the_defaults_is_as_the_embedded_one() {
    let (ours, theirs) =
        (defaults::<DevSettings>().storage.options(), crate::node::Options::default());
    assert_eq!(ours.sync, theirs.sync);
    assert_eq!(ours.memory_budget_bytes, theirs.memory_budget_bytes);
    assert_eq!(ours.compression, theirs.compression);
    assert_eq!(ours.log_bytes_max, theirs.log_bytes_max);
    assert_eq!(ours.log_segment_bytes, theirs.log_segment_bytes);
    assert_eq!(ours.background_threads, theirs.background_threads);
}

/// A role's values with every setting that has only an example set to it, as an optional field
/// must take them.
fn with_examples<S: RoleSettings>() {
    let unset = of_role(Some(S::ROLE)).filter(|setting| setting.default.is_empty());
    for setting in unset {
        let variables = [(setting.variable(), setting.example.to_string())];
        let [(name, value)] = &variables;
        let layers = Layers {
            role: Some(S::ROLE),
            variables: Variables::from([(name.as_str(), value.as_str())]),
            ..Layers::default()
        };
        let effective = layers.resolve().unwrap();
        assert!(S::of(&effective).is_ok(), "{}", setting.key);
        assert_ne!(effective.value(setting.key).unwrap().typed, Typed::Unset, "{}", setting.key);
    }
}

#[test]
fn every_field_takes_what_its_kind_gives() {
    with_examples::<MetaSettings>();
    with_examples::<NodeSettings>();
    with_examples::<GatewaySettings>();
    with_examples::<DevSettings>();
    // Words become the values they name.
    for setting in all() {
        let Kind::Choice(words) = setting.kind else { continue };
        for word in words {
            let name = setting.variable();
            let layers = Layers {
                variables: Variables::from([(name.as_str(), *word)]),
                ..Layers::default()
            };
            let effective = layers.resolve().unwrap();
            let as_codec = effective.get::<crate::lsm::Codec>(setting.key).is_ok();
            let as_mode =
                effective.get::<crate::cli::settings::read::ClusterMode>(setting.key).is_ok();
            assert!(as_codec || as_mode, "{} = {word}", setting.key);
        }
    }
}
