//! When to colour, and the few colours there are.

use std::io::IsTerminal;

/// What `--color` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR or TERM=dumb; off it, only with CLICOLOR_FORCE.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What decides about colour, apart from the stream.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `--color`.
    pub when: When,
    /// NO_COLOR.
    pub no_color: Option<String>,
    /// CLICOLOR_FORCE.
    pub force: Option<String>,
    /// TERM.
    pub term: Option<String>,
}

impl Wishes {
    /// `when` with what the environment says.
    pub fn from_env(when: When) -> Wishes {
        let var = |name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
        Wishes { when, no_color: var("NO_COLOR"), force: var("CLICOLOR_FORCE"), term: var("TERM") }
    }

    /// Whether a stream that is a terminal, or is not, gets colour.
    pub fn decide(&self, is_terminal: bool) -> bool {
        let set = |v: &Option<String>| v.as_ref().is_some_and(|v| !v.is_empty());
        match self.when {
            When::Always => true,
            When::Never => false,
            When::Auto if self.force.as_ref().is_some_and(|v| !v.is_empty() && v != "0") => true,
            When::Auto if set(&self.no_color) => false,
            When::Auto if self.term.as_deref() == Some("dumb") => false,
            When::Auto => is_terminal,
        }
    }

    /// Whether standard output gets colour.
    pub fn stdout(&self) -> bool {
        self.decide(std::io::stdout().is_terminal())
    }

    /// Whether standard error gets colour.
    pub fn stderr(&self) -> bool {
        self.decide(std::io::stderr().is_terminal())
    }
}

/// A way to make text stand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Headings and names.
    Bold,
    /// What matters less.
    Dim,
    /// Errors.
    Red,
    /// Strings, success.
    Green,
    /// Warnings, numbers.
    Yellow,
    /// Commands.
    Cyan,
}

impl Ink {
    /// `text` in this ink if `on`, else as it is.
    pub fn paint(self, on: bool, text: &str) -> String {
        if !on || text.is_empty() {
            return text.to_string();
        }
        let code = match self {
            Ink::Bold => 1,
            Ink::Dim => 2,
            Ink::Red => 31,
            Ink::Green => 32,
            Ink::Yellow => 33,
            Ink::Cyan => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(when: When, no_color: &str, force: &str, term: &str) -> Wishes {
        let some = |v: &str| (!v.is_empty()).then(|| v.to_string());
        Wishes { when, no_color: some(no_color), force: some(force), term: some(term) }
    }

    #[test]
    fn the_flag_wins_then_force_then_no_color_then_the_terminal() {
        for (when, no_color, force, term, on_terminal, off) in [
            (When::Auto, "", "", "xterm", true, false),
            (When::Auto, "1", "", "xterm", false, false),
            (When::Auto, "", "", "dumb", false, false),
            (When::Auto, "1", "1", "dumb", true, true),
            (When::Auto, "", "0", "xterm", true, false),
            (When::Always, "1", "", "dumb", true, true),
            (When::Never, "", "1", "xterm", false, false),
        ] {
            let w = wishes(when, no_color, force, term);
            assert_eq!((w.decide(true), w.decide(false)), (on_terminal, off), "{w:?}");
        }
    }
}
