//! Many clients, and a cluster in which calls fail in every way, leaders change and shards split:
//! no write happens twice, none that was reported failed happened, and none that was acknowledged
//! is lost.

// tidy: sleeps because time is paused and moves only by being slept through

use crate::words::{append, get, redis};
use crate::world::World;
use arqondb::base::ErrorKind;
use arqondb::env::Rng;
use arqondb::gateway::{Gateway, GatewayOptions};
use arqondb::op::{KvOps, Request, Response};
use futures::future::join_all;
use std::collections::HashMap;
use std::time::Duration;

/// What a client was told of a mark it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Done,
    Unknown,
    Failed,
}

struct Mark {
    key: String,
    text: String,
    /// The pipeline it was in, and its place there.
    place: (u64, usize),
    told: Told,
}

/// A client that appends marks of its own to keys that all share.
async fn client(gateway: &Gateway<World>, number: u64, pipelines: u64) -> Vec<Mark> {
    let mut rng = Rng::new(number);
    let mut marks = Vec::new();
    for pipeline in 0..pipelines {
        let mut requests: Vec<Request> = Vec::new();
        let mut written = Vec::new();
        for at in 0..1 + rng.below(12) as usize {
            let key = format!("key{}", rng.below(20));
            if rng.one_in(4) {
                requests.push(get(key));
                continue;
            }
            let text = format!("<{number}.{pipeline}.{at}>");
            let other = format!("key{}", rng.below(20));
            if other != key && rng.one_in(4) {
                // Both or neither, wherever they lie.
                let (Request::Write { writes: one, .. }, Request::Write { writes: more, .. }) =
                    (append(key.clone(), text.clone()), append(other.clone(), text.clone()))
                else {
                    unreachable!()
                };
                requests.push(Request::Write { writes: [one, more].concat(), id: None });
                written.push((requests.len() - 1, other, text.clone()));
            } else {
                requests.push(match rng.one_in(2) {
                    true => redis(&format!("APPEND {key} {text}")),
                    false => append(key.clone(), text.clone()),
                });
            }
            written.push((requests.len() - 1, key, text));
        }
        let count = requests.len();
        let answers = gateway.pipeline(requests).await;
        assert_eq!(answers.len(), count);
        let id = number * 1_000_000 + pipeline;
        marks.extend(written.into_iter().map(|(at, key, text)| {
            let told = match &answers[at] {
                Ok(Response::Redis(reply)) if reply.is_error() => panic!("{reply:?}"),
                Ok(_) => Told::Done,
                Err(error) if error.kind() == ErrorKind::Unknown => Told::Unknown,
                Err(_) => Told::Failed,
            };
            Mark { key, text, place: (id, at), told }
        }));
    }
    marks
}

async fn play(seed: u64, call_timeout: Duration) -> HashMap<&'static str, usize> {
    let gateway =
        World::new(4, seed).gateway(GatewayOptions { call_timeout, ..Default::default() });
    {
        let mut state = gateway.calls().state();
        (state.fault_in, state.hangs, state.change_in) = (6, true, 25);
    }
    let clients = (0..6).map(|number| client(&gateway, seed * 100 + number, 25));
    let marks = join_all(clients).await.concat_marks();
    // Whatever is still on its way arrives.
    tokio::time::sleep(Duration::from_secs(200)).await;
    let state = gateway.calls().state();
    let mut last: HashMap<(u64, &str), (usize, usize)> = HashMap::new();
    let mut seen = HashMap::new();
    for mark in &marks {
        let held = state.keys.get(mark.key.as_bytes()).map(|held| held.value.clone());
        let held = String::from_utf8(held.unwrap_or_default().to_vec()).unwrap();
        let places: Vec<usize> = held.match_indices(&mark.text).map(|(at, _)| at).collect();
        let times = places.len();
        let context = format!("seed {seed}: {} in {}: {:?}", mark.text, mark.key, mark.told);
        assert!(times <= 1, "{context} is there {times} times");
        match mark.told {
            Told::Done => {
                assert_eq!(times, 1, "{context} is lost");
                // Those of one pipeline are in its order.
                let (id, at) = mark.place;
                let before = last.insert((id, &mark.key), (at, places[0]));
                assert!(before.is_none_or(|(a, p)| a < at && p < places[0]), "{context}");
            }
            Told::Failed => assert_eq!(times, 0, "{context} happened"),
            Told::Unknown => {}
        }
        let name = match (mark.told, times) {
            (Told::Done, _) => "done",
            (Told::Failed, _) => "failed",
            (Told::Unknown, 0) => "unknown, did not happen",
            (Told::Unknown, _) => "unknown, happened",
        };
        *seen.entry(name).or_default() += 1;
    }
    seen
}

trait ConcatMarks {
    fn concat_marks(self) -> Vec<Mark>;
}

impl ConcatMarks for Vec<Vec<Mark>> {
    fn concat_marks(self) -> Vec<Mark> {
        self.into_iter().flatten().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn no_write_happens_twice_and_none_that_failed_happened() {
    let seeds = std::env::var("ARQON_TEST_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for seed in 0..seeds {
        // Short deadlines end calls half-way.
        let call_timeout = Duration::from_millis([12, 40, 400, 5_000][seed as usize % 4]);
        for (name, times) in play(seed, call_timeout).await {
            *seen.entry(name).or_default() += times;
        }
    }
    // A test in which nothing went wrong would prove nothing.
    for name in ["done", "failed", "unknown, happened", "unknown, did not happen"] {
        assert!(seen.get(name).is_some_and(|times| *times > 10), "{seen:?}");
    }
    assert!(seen["done"] > 10 * seen["failed"].min(100), "{seen:?}");
}
