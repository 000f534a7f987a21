//! Retries, the bounds of what is remembered, and following from a revision.

use crate::world::{START_MS, done, init, with_shards};
use arqondb::ErrorKind;
use arqondb::catalog::limits::{FINISHED_JOBS_KEPT, OPAQUE_BYTES_MAX, REQUESTS_KEPT};
use arqondb::catalog::records::JobKind;
use arqondb::catalog::{Action, Catalog, Change, Command, JobChange, JobId, Outcome, View};
use arqondb::op::kv::RequestId;

fn create(name: String, request: u64) -> Command {
    let id = Some(RequestId { client: 5, request });
    Command { now_ms: START_MS, id, action: Action::CreateFamily { name } }
}

#[test]
fn a_retry_is_answered_as_the_first_time_also_after_a_snapshot() {
    let mut catalog = with_shards(&["a"], 1, 1);
    let first = catalog.apply(&create("f".into(), 1)).unwrap();
    done(&mut catalog, Action::DropFamily { name: "f".into() });
    let mut catalog = Catalog::restore(&catalog.snapshot()).unwrap();
    let retry = catalog.apply(&create("f".into(), 1)).unwrap();
    assert_eq!((retry.revision, &retry.outcome), (first.revision, &first.outcome));
    assert!(retry.events.is_empty());
    assert!(catalog.view().family("f").is_none(), "it was not applied again");
    let other = catalog.apply(&create("f".into(), 2)).unwrap();
    assert_ne!(other.outcome, first.outcome, "the id of a dropped family is not reused");
}

#[test]
fn a_refused_command_is_decided_anew() {
    let mut catalog = with_shards(&["a"], 1, 1);
    done(&mut catalog, Action::CreateFamily { name: "f".into() });
    assert!(catalog.apply(&create("f".into(), 1)).is_err());
    done(&mut catalog, Action::DropFamily { name: "f".into() });
    assert!(catalog.apply(&create("f".into(), 1)).is_ok());
}

#[test]
fn the_oldest_requests_are_forgotten() {
    let mut catalog = Catalog::new();
    done(&mut catalog, init());
    for request in 0..=REQUESTS_KEPT as u64 {
        let name = if request % 2 == 0 { "a" } else { "b" };
        catalog.apply(&create(name.into(), request)).unwrap();
        done(&mut catalog, Action::DropFamily { name: name.into() });
    }
    let kept = catalog.apply(&create("b".into(), 1)).unwrap();
    assert!(kept.events.is_empty());
    let forgotten = catalog.apply(&create("a".into(), 0)).unwrap();
    assert!(!forgotten.events.is_empty());
    assert!(Catalog::restore(&catalog.snapshot()).unwrap() == catalog);
}

#[test]
fn below_the_window_a_subscriber_takes_a_full_copy() {
    let mut catalog = with_shards(&["a"], 1, 1);
    let behind = catalog.view().clone();
    let config = vec![1; OPAQUE_BYTES_MAX];
    let create = |name: &str| Action::CreateIndex {
        name: name.into(),
        kind: "hnsw".into(),
        config: config.clone(),
        nodes: Vec::new(),
    };
    while catalog.floor() <= behind.revision() {
        done(&mut catalog, create("i"));
        done(&mut catalog, Action::DropIndex { name: "i".into() });
    }
    let floor = catalog.floor();
    let error = catalog.changes_since(behind.revision()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Compacted);
    assert!(error.to_string().contains(&floor.to_string()), "{error}");
    assert!(catalog.changes_since(floor).unwrap().next().unwrap().revision == floor + 1);
    let newest = catalog.view().revision();
    assert_eq!(catalog.changes_since(newest).unwrap().count(), 0);
    let ahead = catalog.changes_since(newest + 1).err().unwrap();
    assert_eq!(ahead.kind(), ErrorKind::Unavailable);

    let mut copy = View::decode(&catalog.view().encode()).unwrap();
    done(&mut catalog, create("j"));
    let catalog = Catalog::restore(&catalog.snapshot()).unwrap();
    let missed: Vec<Change> = catalog.changes_since(newest).unwrap().cloned().collect();
    missed.iter().for_each(|change| copy.follow(change).unwrap());
    assert_eq!(&copy, catalog.view());
    assert_eq!(copy.follow(&missed[0]).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(&copy, catalog.view());
}

#[test]
fn finished_jobs_are_forgotten_in_the_order_they_ended() {
    let mut catalog = with_shards(&["a"], 1, 1);
    let create =
        || Action::CreateJob { kind: JobKind::Backup, shard: None, node: None, steps: Vec::new() };
    let cancel = |job| Action::ChangeJob { job, change: JobChange::Cancel { text: String::new() } };
    let Outcome::Job(long) = done(&mut catalog, create()) else { panic!("no job") };
    for _ in 0..FINISHED_JOBS_KEPT + 10 {
        let Outcome::Job(short) = done(&mut catalog, create()) else { panic!("no job") };
        done(&mut catalog, cancel(short));
    }
    let kept = catalog.view().jobs().count();
    assert_eq!(kept, FINISHED_JOBS_KEPT + 1, "and the one that is active");
    let late = Command { now_ms: START_MS + 1, id: None, action: cancel(long) };
    catalog.apply(&late).unwrap();
    assert!(catalog.view().job(long).is_some(), "it has just ended");
    assert!(catalog.view().job(JobId(long.0 + 1)).is_none());
}
