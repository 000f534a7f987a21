//! Subscribers of the catalog: each is told every change once, in order and without holes, whichever
//! metadata node it asks and however often it begins anew, and comes to the catalog that there is.
// tidy: sleeps because time is simulated

use crate::process::{Common, Process};
use crate::time::SECOND;
use crate::world::{Kind, World};
use arqondb::catalog::{View, encode_change};
use arqondb::env::Rng;
use arqondb::rpc::cluster::meta::{Followed, decode_followed, encode_follow};
use arqondb::rpc::cluster::method;
use arqondb::rpc::link::Link;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long all may take to hear of the last change.
const HEARD_WITHIN: u64 = 30 * SECOND;

/// What all subscribers of a simulation were told.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// The change that makes each revision.
    changes: BTreeMap<u64, Vec<u8>>,
    /// The catalog at some revisions, as it follows from the changes.
    views: BTreeMap<u64, Vec<u8>>,
    /// How far the subscriber on each host is.
    reached: BTreeMap<usize, u64>,
    /// Changes that were told, to whomever.
    heard: u64,
}

impl Told {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Changes that were told, to whomever.
    pub(crate) fn heard(&self) -> u64 {
        self.inner().heard
    }

    /// Takes what a subscriber was told; its view follows.
    fn take(&self, site: usize, view: &mut View, followed: Followed) {
        let mut inner = self.inner();
        match followed {
            Followed::Changes(changes) => {
                for change in changes {
                    let after = view.revision();
                    let next = change.revision;
                    assert_eq!(next, after + 1, "a subscriber at revision {after} is told {next}");
                    assert!(!change.events.is_empty(), "revision {next} changes nothing");
                    view.follow(&change).unwrap();
                    let bytes = encode_change(&change);
                    let known = inner.changes.entry(next).or_insert_with(|| bytes.to_vec());
                    assert!(*known == bytes, "revision {next} is told in two ways");
                    inner.heard += 1;
                }
            }
            // What came between is collected.
            Followed::View(whole) => {
                let (was, is) = (view.revision(), whole.revision());
                assert!(is > was, "a subscriber at revision {was} is given revision {is}");
                *view = *whole;
            }
        }
        let bytes = view.encode();
        let known = inner.views.entry(view.revision()).or_insert_with(|| bytes.clone());
        assert!(*known == bytes, "revision {} was come to in two ways", view.revision());
        inner.reached.insert(site, view.revision());
    }
}

/// Subscribes, on a process, for as long as that lives.
pub(crate) fn subscribe(process: &Process, common: &Common, told: &Told, mut rng: Rng) {
    let links: Vec<Link> = process.within(|| common.links_to_metas(&process.local));
    let (told, site) = (told.clone(), process.local.site);
    process.spawn(async move {
        let mut view = View::default();
        loop {
            // It goes on anywhere, and now and then begins anew.
            if rng.one_in(20) {
                view = View::default();
            }
            let link = &links[rng.below(links.len() as u64) as usize];
            let wait = Duration::from_millis(200 + rng.below(3_000));
            let question = encode_follow(view.revision(), wait);
            let patience = wait + Duration::from_secs(1);
            match link.call(method::FOLLOW, question, Instant::now() + patience).await {
                Ok(body) => told.take(site, &mut view, decode_followed(&body).unwrap()),
                Err(_) => sleep(Duration::from_millis(50 + rng.below(200))).await,
            }
        }
    });
}

/// Waits until every subscriber that runs has come to the catalog as it is, and compares.
pub(crate) fn all_have_heard(world: &mut World, told: &Told) {
    let last = |world: &World| {
        let processes = world.hosts.iter().filter_map(|host| host.process.as_ref());
        processes.filter_map(|process| process.meta()).map(|meta| meta.view()).next()
    };
    let here = world.sites(|kind| matches!(kind, Kind::Gateway(_) | Kind::Operator));
    let have_heard = |world: &World| {
        let inner = told.inner();
        let revision = last(world).map(|view| view.revision());
        here.iter().all(|site| inner.reached.get(site).copied() == revision)
    };
    let heard = world.until(HEARD_WITHIN, have_heard);
    let reached = told.inner().reached.clone();
    assert!(heard, "subscribers do not hear of the last change: {reached:?}");
    let view = last(world).unwrap();
    assert!(
        told.inner().views.get(&view.revision()) == Some(&view.encode()),
        "subscribers have come to another catalog than there is"
    );
}

/// The catalogs that metadata nodes were seen to have are those that subscribers came to.
pub(crate) fn compare(told: &Told, views: &BTreeMap<u64, Vec<u8>>) {
    for (revision, bytes) in &told.inner().views {
        let other = views.get(revision).is_some_and(|seen| seen != bytes);
        assert!(!other, "subscribers have come to another catalog at revision {revision}");
    }
}
