use super::*;
use crate::cli::exit::Exit;

fn parse(text: &str) -> SettingsFile {
    SettingsFile::parse(Path::new("t.toml"), text)
}

/// Lines and messages of what is wrong with a text, without the path.
fn wrong(text: &str) -> Vec<(usize, String, String)> {
    let file = parse(text);
    let strip = |p: Problem| {
        let line = p.line.unwrap();
        let message = p.message.strip_prefix(&format!("t.toml:{line}: ")).unwrap().to_string();
        (line, message, p.fix)
    };
    file.problems.into_iter().map(strip).collect()
}

#[test]
fn settings_stand_in_sections_or_behind_dots() {
    let text = "# a comment\nserver.drain = \"1s\"\n\n[node]\nid = 0x10\nlabels = [\n  \
                \"zone=a\",\n]\n[storage]\r\nsync = 'os'\n";
    let file = parse(text);
    assert_eq!(file.problems, []);
    let found: Vec<_> = file.entries.iter().map(|e| (e.line, e.setting.key)).collect();
    let expected = [(2, "server.drain"), (5, "node.id"), (6, "node.labels"), (10, "storage.sync")];
    assert_eq!(found, expected);
    assert!(file.entries[1].raw == Raw::Int(16));
    assert!(parse("").entries.is_empty());
    assert!(parse("\u{feff}[node]\nid = 1\n").problems.is_empty());
}

#[test]
fn what_is_not_known_is_told_with_its_line_and_what_was_meant() {
    for (text, line, message, fix) in [
        (
            "[node]\nid = 1\ndata_adr = \"x\"\n",
            3,
            "there is no setting \"node.data_adr\"",
            "did you mean node.data_addr?",
        ),
        (
            "\n\nmemory = 5",
            3,
            "there is no setting \"memory\"",
            "did you mean meta.memory or storage.memory?",
        ),
        ("[storge]\nsync = 1", 1, "there is no section \"storge\"", "did you mean [storage]?"),
        (
            "[elsewhere]\na.b.c = 1",
            1,
            "there is no section \"elsewhere\"",
            "sections are meta, node, gateway, dev, storage, raft, cluster, redis, server",
        ),
        (
            "storage = 5",
            1,
            "storage is a section, and no setting",
            "write [storage] on a line, its settings below",
        ),
        (
            "[[storage]]\nsync = \"os\"",
            1,
            "storage is a section, and no setting",
            "write [storage] on a line, its settings below",
        ),
        (
            "[storage]\ncolour = 1",
            2,
            "there is no setting \"storage.colour\"",
            "arqon config sample shows all settings",
        ),
        (
            "[node.extra]\nid = 1",
            1,
            "there is no setting \"node.extra\"",
            "arqon config sample shows all settings",
        ),
    ] {
        assert_eq!(wrong(text), [(line, message.to_string(), fix.to_string())], "{text}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line_and_without_its_text() {
    for (text, line) in [
        ("[gateway]\njwt_secret = \"hunter2\njwt_secret = \"b\"\n", 2),
        ("[gateway]\njwt_secret = hunter2\n", 2),
        ("[gateway]\njwt_secret = \"a\"\njwt_secret = \"hunter2\"\n", 3),
        ("[gateway]\njwt_secret = \"hunter2\" x\n", 2),
        ("[gateway]\n\n[gateway]\njwt_secret = \"hunter2\"", 3),
        ("[gateway\njwt_secret = \"hunter2\"", 1),
        ("jwt_secret: hunter2", 1),
        ("[gateway]\njwt_secret = \"\\hunter2\"", 2),
        ("[gateway]\njwt_secret = '''hunter2", 2),
        ("a = \u{0}", 1),
    ] {
        let found = wrong(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].0, line, "{text}: {found:?}");
        assert!(!found[0].1.contains("hunter2") && !found[0].1.contains('\n'), "{found:?}");
    }
}

#[test]
fn hostile_texts_are_told_and_not_obeyed() {
    let many = |part: &str| part.repeat(200_000);
    for text in [
        format!("a = {}", many("[")),
        format!("a = {}", many("{a=")),
        format!("{} = 1", many("a.") + "a"),
        format!("[{}]", many("a.") + "a"),
        many("[[a]]\n"),
        format!("[node]\nid = {}", many("9")),
        format!("{} = 1", many("k")),
        format!("[node]\n\"{}\" = 1", many("\\u001b")),
        (0..50_000).map(|n| format!("k{n} = 1\n")).collect(),
    ] {
        let file = parse(&text);
        let entries: Vec<_> = file.entries.iter().map(|e| e.raw.show(e.setting.kind)).collect();
        let is_told = !file.problems.is_empty() || entries == ["an integer that is too large"];
        assert!(is_told, "{}", &text[..40]);
        assert!(file.problems.len() <= PROBLEMS_MAX);
        for problem in &file.problems {
            assert!(problem.message.len() < 1_000, "{}", &problem.message[..200]);
            assert!(!problem.message.contains('\x1b') && !problem.fix.contains('\x1b'));
        }
    }
}

#[test]
fn a_file_is_read_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let largest = write("largest", &vec![b'\n'; FILE_MAX]);
    assert!(SettingsFile::read(&largest).is_ok());
    for (path, exit, part) in [
        (write("larger", &vec![b'\n'; FILE_MAX + 1]), Exit::Usage, "larger than"),
        (write("binary", b"[node]\nid = 1\n\xff\xfe\x00"), Exit::Usage, ":3: this is no UTF-8"),
        (dir.path().join("absent"), Exit::NotFound, "there is no settings file"),
        (dir.path().to_path_buf(), Exit::Failed, "cannot"),
        (PathBuf::from("/dev/zero"), Exit::Usage, "larger than"),
    ] {
        let failure = SettingsFile::read(&path).unwrap_err();
        assert_eq!(failure.exit, exit, "{path:?}: {}", failure.message);
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[test]
fn a_named_file_goes_before_the_variables_and_that_before_those_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (absent, there) = (dir.path().join("absent"), dir.path().join("there"));
    std::fs::write(&there, "").unwrap();
    let defaults = [absent.as_path(), there.as_path()];
    let variables = Variables::from([(FILE_VARIABLE, "from-variable")]);
    let none = Variables::default();
    for (named, variables, found) in [
        (Some("named"), &variables, Some(PathBuf::from("named"))),
        (None, &variables, Some(PathBuf::from("from-variable"))),
        (None, &none, Some(there.clone())),
    ] {
        let named = named.map(Path::new);
        assert_eq!(find_in(named, variables, &defaults).unwrap(), found);
    }
    assert_eq!(find_in(None, &none, &defaults[..1]).unwrap(), None);
}
