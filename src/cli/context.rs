//! What every leaf gets besides its own flags.

use crate::cli::args::Globals;
use crate::cli::color::{Ink, Wishes};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Outcome, damage_line};
use crate::cli::output::{Format, Printer, value::printable};
use std::io::{BufWriter, IsTerminal};

/// The variable that gives `--output` its default.
const OUTPUT_VARIABLE: &str = "ARQON_OUTPUT";

/// The way out of the program: data, talk, and what the user has agreed to.
pub struct Context {
    /// Where data goes.
    pub printer: Printer,
    /// Whether the user said yes to everything in advance.
    pub yes: bool,
    /// Whether what is printed on standard output gets colour.
    pub color_out: bool,
    /// Whether what is printed on standard error gets colour.
    pub color_err: bool,
    /// Whether `--output` was given on the command line.
    pub output_given: bool,
}

impl Context {
    /// The context that the global flags and the environment ask for.
    pub fn new(globals: &Globals) -> Outcome<Context> {
        let format = match globals.output {
            Some(format) => format,
            None => format_from_env()?,
        };
        Ok(Context::with_format(globals, format))
    }

    /// The same when something is wrong already: an unusable environment counts as empty.
    pub fn plain(globals: &Globals) -> Context {
        let format = globals.output.or_else(|| format_from_env().ok()).unwrap_or_default();
        Context::with_format(globals, format)
    }

    fn with_format(globals: &Globals, format: Format) -> Context {
        let wishes = Wishes::from_env(globals.color.unwrap_or_default());
        let out = Box::new(BufWriter::new(std::io::stdout()));
        Context {
            printer: Printer::new(format, wishes.stdout(), out),
            yes: globals.yes,
            color_out: wishes.stdout(),
            color_err: wishes.stderr(),
            output_given: globals.output.is_some(),
        }
    }

    /// Says something to the person at the terminal.
    pub fn say(&self, text: impl std::fmt::Display) {
        // Nobody listening is no reason to fail.
        _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"));
    }

    /// Whether a question can be asked and an answer read.
    pub fn can_ask(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Completes the output, tells of a failure, and gives the exit code.
    pub fn end(mut self, outcome: Outcome) -> Exit {
        let failure = match outcome.err() {
            Some(failure) if failure.told => return failure.exit,
            Some(failure) => {
                // That the output cannot be completed changes nothing about what went wrong.
                _ = self.printer.finish(Some(&failure));
                failure
            }
            None => match self.printer.finish(None) {
                Ok(()) => return Exit::Ok,
                Err(failure) if failure.told => return failure.exit,
                Err(failure) => failure,
            },
        };
        if !self.printer.format().is_json() {
            let word = Ink::Red.paint(self.color_err, "error:");
            self.say(format_args!("{word} {}", printable(&failure.message)));
            if failure.damage.len() > 1 {
                for damage in &failure.damage {
                    self.say(format_args!("  {}", printable(&damage_line(damage))));
                }
            }
            if let Some(fix) = &failure.fix {
                self.say(format_args!("  {} {fix}", Ink::Bold.paint(self.color_err, "fix:")));
            }
        }
        failure.exit
    }
}

fn format_from_env() -> Outcome<Format> {
    let Some(name) = std::env::var_os(OUTPUT_VARIABLE) else { return Ok(Format::default()) };
    let name = name.to_string_lossy();
    if name.is_empty() {
        return Ok(Format::default());
    }
    Format::from_name(&name).ok_or_else(|| {
        let names = Format::ALL.map(Format::name).join(", ");
        Failure::usage(format!("{OUTPUT_VARIABLE} is {name:?}, which is no output format"))
            .fix(format!("set it to one of: {names}"))
    })
}
