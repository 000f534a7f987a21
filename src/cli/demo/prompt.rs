//! The prompt behind the round of `arqon demo --nodes`: faults by hand.

use super::cluster::{Cluster, DEADLINE};
use super::records::{Acknowledged, Writing, longest_gap, missing};
use crate::catalog::NodeId;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::interrupt::Interrupt;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor};
use std::time::Duration;

const HELP: &str = "\
  status       the nodes, and the shards that each leads
  write        begin to write, with 8 clients at a time
  kill N       kill -9 node N
  restart N    start it again
  pause N      stop node N where it is, as a machine that hangs (SIGSTOP)
  resume N     let it go on
  verify       end the writing, and look for every acknowledged write
  help, quit   (or Ctrl-D) all ends with the demo";

/// What a line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Status,
    Write,
    Kill(u64),
    Restart(u64),
    Pause(u64),
    Resume(u64),
    Verify,
    Help,
    Quit,
    Nothing,
}

fn read(line: &str) -> Result<Word, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((first, rest)) = words.split_first() else { return Ok(Word::Nothing) };
    let first = first.to_ascii_lowercase();
    let plain = match first.as_str() {
        "status" => Some(Word::Status),
        "write" => Some(Word::Write),
        "verify" => Some(Word::Verify),
        "help" | "?" => Some(Word::Help),
        "quit" | "exit" => Some(Word::Quit),
        _ => None,
    };
    if let Some(word) = plain {
        return match rest {
            [] => Ok(word),
            _ => Err(format!("{first} stands alone")),
        };
    }
    let of_node: fn(u64) -> Word = match first.as_str() {
        "kill" => Word::Kill,
        "restart" => Word::Restart,
        "pause" => Word::Pause,
        "resume" => Word::Resume,
        _ => return Err(format!("{first:?} is no word of this prompt; see help")),
    };
    match rest {
        [node] => match node.parse() {
            Ok(node) => Ok(of_node(node)),
            Err(_) => Err(format!("{node:?} is no number of a node")),
        },
        _ => Err(format!("{first} which node? Say: {first} 1")),
    }
}

/// Reads and does what a person asks for, until they leave.
///
/// # Errors
/// A terminal that cannot be read; an acknowledged write that is lost; interrupted.
pub(super) async fn run(
    context: &Context,
    cluster: &mut Cluster,
    acknowledged: Vec<Acknowledged>,
    rows: &[(String, String)],
    stop: &Interrupt,
) -> Outcome {
    let terminal = |e: ReadlineError| Failure::failed(format!("cannot read the terminal: {e}"));
    let config = Config::builder().auto_add_history(true).build();
    let mut editor: Editor<(), DefaultHistory> = Editor::with_config(config).map_err(terminal)?;
    context.say("It is yours now. Type help for help, Ctrl-D to leave.");
    let mut desk = Desk { acknowledged, writing: None };
    loop {
        stop.or(Ok(()))?;
        let line = match editor.readline("demo> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(error) => return Err(terminal(error)),
        };
        match read(&line) {
            Ok(Word::Quit) => return Ok(()),
            Ok(word) => desk.obey(word, context, cluster, rows).await?,
            Err(why) => context.say(why),
        }
    }
}

/// What has been written, and who writes.
struct Desk {
    acknowledged: Vec<Acknowledged>,
    writing: Option<Writing>,
}

impl Desk {
    async fn obey(
        &mut self,
        word: Word,
        context: &Context,
        cluster: &mut Cluster,
        rows: &[(String, String)],
    ) -> Outcome {
        match word {
            Word::Nothing | Word::Quit => {}
            Word::Help => context.say(HELP),
            Word::Status => status(context, cluster),
            Word::Write if self.writing.is_some() => context.say("clients are writing already"),
            Word::Write => {
                let next = self.acknowledged.iter().map(|a| a.number + 1).max().unwrap_or(0);
                // Numbers of writes that failed are not used again either.
                let next = (next / 1_000_000 + 1) * 1_000_000;
                self.writing = Some(Writing::begin(&cluster.client, next));
                context.say("writing; strike now, then say verify");
            }
            Word::Verify => return self.verify(context, cluster, rows).await,
            Word::Kill(node) | Word::Restart(node) | Word::Pause(node) | Word::Resume(node) => {
                let Some(process) = cluster.nodes.get_mut(&node) else {
                    let last = cluster.nodes.len();
                    context.say(format_args!("there is no node {node}, but 1 to {last}"));
                    return Ok(());
                };
                match word {
                    Word::Kill(_) => process.kill(),
                    Word::Restart(_) => process.restart()?,
                    word => process.pause(matches!(word, Word::Pause(_)))?,
                }
                context.say(format_args!("node {node} is {}", state(process)));
            }
        }
        Ok(())
    }

    async fn verify(
        &mut self,
        context: &Context,
        cluster: &Cluster,
        rows: &[(String, String)],
    ) -> Outcome {
        if let Some(writing) = self.writing.take() {
            let (acknowledged, failed) = writing.end().await?;
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let slowest = acknowledged.iter().map(|a| a.took).max().unwrap_or_default();
            context.say(format_args!(
                "{} writes acknowledged, {failed} failed; the longest time without one was {:.0} ms, \
                 the slowest answer took {:.0} ms",
                acknowledged.len(),
                ms(longest_gap(acknowledged.iter(), Duration::ZERO)),
                ms(slowest)
            ));
            self.acknowledged.extend(acknowledged);
        }
        match missing(&cluster.client, &self.acknowledged, rows).await {
            Ok(0) => context.say("Every acknowledged write is there."),
            Ok(lost) => {
                return Err(Failure::failed(format!("{lost} acknowledged writes are lost")));
            }
            // A majority may be down by what was asked for.
            Err(error) => context.say(format_args!(
                "cannot read all of it within {} s: {error}; are most nodes running?",
                DEADLINE.as_secs()
            )),
        }
        Ok(())
    }
}

fn state(process: &mut super::cluster::Process) -> &'static str {
    match (process.is_running(), process.is_paused) {
        (true, false) => "running",
        (true, true) => "paused",
        (false, _) => "down",
    }
}

fn status(context: &Context, cluster: &mut Cluster) {
    let view = cluster.meta.view();
    for (node, process) in &mut cluster.nodes {
        let led = view.shards().filter(|shard| shard.leader_node() == Some(NodeId(*node)));
        let led: Vec<String> = led.map(|shard| shard.id.to_string()).collect();
        let leads = match &led[..] {
            [] => "nothing".to_string(),
            led => format!("shards {}", led.join(", ")),
        };
        context.say(format_args!("  node {node}  {:<8} leads {leads}", state(process)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_what_is_none_is_told() {
        for (line, word) in [
            ("", Word::Nothing),
            ("  status ", Word::Status),
            ("KILL 2", Word::Kill(2)),
            ("restart 1", Word::Restart(1)),
            ("pause 3", Word::Pause(3)),
            ("resume 3", Word::Resume(3)),
            ("exit", Word::Quit),
        ] {
            assert_eq!(read(line), Ok(word), "{line}");
        }
        for (line, why) in [
            ("kill", "kill 1"),
            ("kill two", "\"two\""),
            ("kill 1 2", "kill 1"),
            ("status 1", "alone"),
            ("partition 1", "help"),
        ] {
            assert!(read(line).is_err_and(|told| told.contains(why)), "{line}");
        }
    }
}
