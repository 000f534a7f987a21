use super::*;
use crate::cli::exit::Exit;
use crate::cli::settings::resolve::Layers;
use crate::cli::settings::{RoleSettings, Variables};

fn judge(guard: &Guard, text: &str) -> Outcome<Admitted> {
    guard.judge("the door", &Address::parse(text).unwrap())
}

/// The guard of a gateway with these variables.
fn gateway<const N: usize>(variables: [(&str, &str); N]) -> Guard {
    let variables = Variables::from(variables);
    let role = Some(GatewaySettings::ROLE);
    let effective = Layers { role, variables, ..Layers::default() }.resolve().unwrap();
    Guard::of_gateway(&GatewaySettings::of(&effective).unwrap())
}

const LOOPBACK: [&str; 4] = ["127.0.0.1:0", "[::1]:6379", "127.8.9.1:1", "localhost:1"];

#[test]
fn loopback_is_always_fine() {
    for guard in [
        gateway([]),
        gateway([("GATEWAY_JWT_SECRET", "hunter2")]),
        Guard::without_authentication(false),
        Guard::without_authentication(true),
    ] {
        for text in LOOPBACK {
            let admitted = judge(&guard, text).unwrap();
            assert!(admitted.notice.is_none() && !admitted.addresses.is_empty(), "{text}");
        }
    }
}

#[test]
fn without_a_secret_a_wildcard_is_narrowed_and_another_address_refused() {
    let guard = gateway([]);
    for (text, inner) in [("0.0.0.0:6379", "127.0.0.1:6379"), ("[::]:0", "[::1]:0")] {
        let admitted = judge(&guard, text).unwrap();
        assert_eq!(admitted.addresses, [inner.parse().unwrap()]);
        let notice = admitted.notice.unwrap();
        for part in [text, inner, "GATEWAY_JWT_SECRET", "--allow-remote"] {
            assert!(notice.contains(part), "{notice}");
        }
    }
    for text in ["192.0.2.7:6379", "[2001:db8::1]:1"] {
        let refused = judge(&guard, text).unwrap_err();
        assert_eq!(refused.exit, Exit::Refused, "{text}");
        assert!(refused.message.contains("GATEWAY_JWT_SECRET is not set"), "{}", refused.message);
        assert!(refused.fix.unwrap().contains("--allow-remote"));
    }
}

#[test]
fn who_is_told_otherwise_listens_everywhere_and_says_so() {
    let guard = gateway([("ARQON_SERVER_ALLOW_REMOTE", "true")]);
    for text in ["0.0.0.0:6379", "192.0.2.7:6379"] {
        let admitted = judge(&guard, text).unwrap();
        assert_eq!(admitted.addresses, [text.parse().unwrap()]);
        let notice = admitted.notice.unwrap();
        assert!(notice.contains("everyone who can reach") && notice.contains(text), "{notice}");
    }
}

#[test]
fn a_password_that_everyone_knows_is_refused_off_loopback() {
    let secret = ("GATEWAY_JWT_SECRET", "hunter2");
    let told_otherwise = ("ARQON_SERVER_ALLOW_REMOTE", "true");
    let known = ("GATEWAY_USERS", "ann:hunter2:user,root:admin:admin");
    for guard in [gateway([secret]), gateway([secret, told_otherwise]), gateway([secret, known])] {
        for text in ["0.0.0.0:6379", "192.0.2.7:6379"] {
            let refused = judge(&guard, text).unwrap_err();
            assert_eq!(refused.exit, Exit::Refused);
            assert!(refused.fix.unwrap().contains("GATEWAY_USERS"));
            assert!(!refused.message.contains("hunter2"), "{}", refused.message);
        }
    }
    let own = gateway([secret, ("GATEWAY_USERS", "ann:correct horse:admin")]);
    let admitted = judge(&own, "0.0.0.0:6379").unwrap();
    assert_eq!(admitted.addresses, ["0.0.0.0:6379".parse().unwrap()]);
    assert_eq!(admitted.notice, None);
}

#[test]
fn a_server_for_development_refuses_wildcards_too() {
    let role = Some(DevSettings::ROLE);
    let effective = Layers { role, ..Layers::default() }.resolve().unwrap();
    let guard = Guard::of_dev(&DevSettings::of(&effective).unwrap());
    for text in ["0.0.0.0:6379", "[::]:1", "192.0.2.7:6379"] {
        let refused = judge(&guard, text).unwrap_err();
        assert_eq!(refused.exit, Exit::Refused, "{text}");
        assert!(refused.fix.unwrap().contains("--allow-remote"));
    }
}

#[test]
fn a_host_that_is_not_known_is_a_wrong_line() {
    let unknown = judge(&gateway([]), "no-such-host.invalid:1").unwrap_err();
    assert_eq!(unknown.exit, Exit::Usage);
    assert!(unknown.message.contains("no-such-host.invalid"), "{}", unknown.message);
}
