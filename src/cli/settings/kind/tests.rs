use super::*;

fn text(text: &str) -> Raw {
    Raw::Text(text.to_string())
}

#[test]
fn ranges_include_both_ends() {
    let int = Kind::Int(2, 4);
    for (raw, expected) in [
        (text("2"), Ok(Typed::Int(2))),
        (Raw::Int(4), Ok(Typed::Int(4))),
        (text("1"), Err(Wrong::Range)),
        (Raw::Int(5), Err(Wrong::Range)),
        (Raw::Int(-3), Err(Wrong::Range)),
        (Raw::Int(i64::MIN), Err(Wrong::Range)),
        (text("99999999999999999999999"), Err(Wrong::Range)),
        (text("-3"), Err(Wrong::Kind)),
        (text("+3"), Err(Wrong::Kind)),
        (text("3.0"), Err(Wrong::Kind)),
        (text(""), Err(Wrong::Kind)),
        (Raw::Bool(true), Err(Wrong::Kind)),
    ] {
        assert_eq!(int.parse(&raw), expected, "{}", raw.show(int));
    }
    let size = Kind::Size(1 << 10, 1 << 20);
    assert_eq!(size.parse(&text("1KiB")), Ok(Typed::Size(1024)));
    assert_eq!(size.parse(&Raw::Int(1 << 20)), Ok(Typed::Size(1 << 20)));
    assert_eq!(size.parse(&text("1023")), Err(Wrong::Range));
    assert_eq!(size.parse(&text("1025KiB")), Err(Wrong::Range));
    let duration = Kind::Duration(10, 1_000);
    assert_eq!(duration.parse(&text("1s")), Ok(Typed::Duration(Duration::from_secs(1))));
    assert_eq!(duration.parse(&text("9ms")), Err(Wrong::Range));
    assert_eq!(duration.parse(&Raw::Int(100)), Err(Wrong::Kind));
}

#[test]
fn words_are_taken_letter_for_letter() {
    assert_eq!(Kind::Choice(&["a", "b"]).parse(&text("b")), Ok(Typed::Choice("b")));
    assert_eq!(Kind::Choice(&["a", "b"]).parse(&text("B")), Err(Wrong::Kind));
    assert_eq!(Kind::Bool.parse(&text("true")), Ok(Typed::Bool(true)));
    for wrong in ["True", "1", "yes", ""] {
        assert_eq!(Kind::Bool.parse(&text(wrong)), Err(Wrong::Kind), "{wrong}");
    }
    assert_eq!(Kind::Sync.parse(&text("interval:0")), Err(Wrong::Kind));
    let stale = Kind::Consistency.parse(&text("stale:5s")).unwrap();
    assert_eq!(stale.show().as_deref(), Some("stale(5000ms)"));
    assert_eq!(Kind::Consistency.parse(&text("eventual")), Err(Wrong::Kind));
}

#[test]
fn lists_are_arrays_or_have_commas() {
    let written = Kind::Urls.parse(&text("http://a:1, http://b:2")).unwrap();
    let array = Raw::List(vec!["http://a:1".into(), "http://b:2".into()]);
    assert_eq!(Kind::Urls.parse(&array), Ok(written.clone()));
    assert_eq!(written.show().as_deref(), Some("http://a:1,http://b:2"));
    assert_eq!(Kind::Urls.parse(&Raw::List(vec![])), Ok(Typed::Unset));
    assert_eq!(Kind::Urls.parse(&text("http://a:1,")), Err(Wrong::Kind));
    assert_eq!(Kind::Path.parse(&array), Err(Wrong::Kind));
    let many = Raw::List(vec!["zone=a".into(); LIST_MAX + 1]);
    assert_eq!(Kind::Labels.parse(&many), Err(Wrong::Range));
    assert_eq!(
        Kind::Labels.parse(&text("zone=a,rack=7")).unwrap().show().as_deref(),
        Some("zone=a,rack=7")
    );
    for wrong in ["zone", "zone=", "=a", "zone=a b", "zone=a=b"] {
        assert_eq!(Kind::Labels.parse(&text(wrong)), Err(Wrong::Kind), "{wrong}");
    }
}

#[test]
fn a_peer_may_be_written_as_a_url() {
    let plain = Kind::Peer.parse(&text("10.0.0.7:7380"));
    assert_eq!(Kind::Peer.parse(&text("http://10.0.0.7:7380")), plain);
    assert!(plain.is_ok());
    assert_eq!(Kind::Peer.parse(&text("0.0.0.0:7380")), Err(Wrong::Kind));
    assert!(Kind::Listen.parse(&text("0.0.0.0:0")).is_ok());
}

#[test]
fn what_an_error_repeats_is_short_and_no_secret() {
    let long = "x".repeat(10_000);
    assert!(text(&long).show(Kind::Path).len() < 100);
    assert_eq!(Kind::Path.parse(&text(&long)), Err(Wrong::Kind));
    for kind in [Kind::Secret, Kind::Users] {
        for raw in [text("hunter2"), Raw::Int(31337), Raw::List(vec!["hunter2".into()])] {
            let shown = raw.show(kind);
            assert!(!shown.contains("hunter2") && !shown.contains("31337"), "{shown}");
        }
    }
    let url = text("http://ann:hunter2@a:1").show(Kind::Url);
    assert!(!url.contains("hunter2"), "{url}");
    let set = Kind::Users.parse(&text("ann:hunter2:user")).unwrap();
    assert_eq!(set.show().as_deref(), Some("(set)"));
    assert!(!format!("{set:?}").contains("hunter2"));
}
