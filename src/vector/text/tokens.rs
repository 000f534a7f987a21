//! From a text to its words.

/// The most bytes of a word that count: what is longer is no word, and cut off.
const WORD_BYTES_MAX: usize = 64;

/// The words of a text, in order: runs of letters and digits of any script, in lower case. An
/// apostrophe within a word is left out.
///
/// ```
/// use arqondb::engine::vector::words;
///
/// assert_eq!(words("Don't panic: it's the 42nd!"), ["dont", "panic", "its", "the", "42nd"]);
/// ```
pub fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        match character {
            '\'' | '\u{2019}' if !word.is_empty() => {}
            c if c.is_alphanumeric() => {
                let has_room = word.len() + c.len_utf8() <= WORD_BYTES_MAX;
                word.extend(c.to_lowercase().filter(|_| has_room));
            }
            _ if !word.is_empty() => found.push(std::mem::take(&mut word)),
            _ => {}
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_signs_are_told_apart() {
        assert!(words("").is_empty() && words(" -- ' !").is_empty());
        assert_eq!(words("libfoo-dev_2.1"), ["libfoo", "dev", "2", "1"]);
        assert_eq!(words("ÄRGER über Straße, 東京"), ["ärger", "über", "straße", "東京"]);
        let long = words(&"x".repeat(1000));
        assert_eq!((long.len(), long[0].len()), (1, 64));
    }
}
