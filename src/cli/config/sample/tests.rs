use super::*;
use crate::cli::settings::file::SettingsFile;
use crate::cli::settings::problem::Origin;
use crate::cli::settings::resolve::Layers;
use std::path::Path;

/// The sample with the # taken away from the settings that `wanted` picks.
fn uncommented(role: Option<Role>, wanted: impl Fn(&Setting) -> bool) -> String {
    let mut section = String::new();
    let mut out = String::new();
    for line in text(role).lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_string();
        }
        let set = line.strip_prefix('#').filter(|line| !line.starts_with(' '));
        let key = set.and_then(|set| set.split_once(" = ")).map(|(n, _)| format!("{section}.{n}"));
        let is_wanted = key.and_then(|key| table::find(&key)).is_some_and(&wanted);
        out.push_str(if is_wanted { &line[1..] } else { line });
        out.push('\n');
    }
    out
}

fn resolve(text: &str) -> crate::cli::settings::Effective {
    let file = SettingsFile::parse(Path::new("sample"), text);
    Layers { file: Some(file), ..Layers::default() }.resolve().unwrap()
}

#[test]
fn the_sample_sets_nothing() {
    let file = SettingsFile::parse(Path::new("sample"), &text(None));
    assert_eq!((file.entries.len(), file.problems), (0, vec![]));
}

#[test]
fn the_sample_without_its_marks_is_exactly_the_defaults() {
    let defaults = Layers::default().resolve().unwrap();
    let read = resolve(&uncommented(None, |setting| !setting.default.is_empty()));
    assert_eq!(read.values.len(), table::all().count());
    for (read, default) in read.values.iter().zip(&defaults.values) {
        assert_eq!((read.setting.key, &read.typed), (default.setting.key, &default.typed));
        let is_in_file = matches!(read.origin, Origin::File(..));
        assert_eq!(is_in_file, !read.setting.default.is_empty(), "{}", read.setting.key);
    }
}

#[test]
fn the_examples_are_fine_too() {
    let read = resolve(&uncommented(None, |_| true));
    for value in &read.values {
        assert!(matches!(value.origin, Origin::File(..)), "{}", value.setting.key);
    }
}

#[test]
fn a_roles_sample_has_its_settings_alone() {
    for role in Role::ALL {
        let file = SettingsFile::parse(Path::new("sample"), &uncommented(Some(role), |_| true));
        let keys: Vec<_> = file.entries.iter().map(|entry| entry.setting.key).collect();
        let own: Vec<_> = table::of_role(Some(role)).map(|setting| setting.key).collect();
        assert_eq!(keys, own, "{}", role.name());
    }
}

#[test]
fn lines_are_no_wider_than_a_page() {
    let text = text(None);
    let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= WIDTH, "{widest}");
}

#[test]
fn the_words_of_a_choice_are_in_its_sentence() {
    for setting in table::all() {
        if let Kind::Choice(words) = setting.kind {
            assert!(words.iter().all(|word| setting.help.contains(word)), "{}", setting.help);
        }
    }
}
