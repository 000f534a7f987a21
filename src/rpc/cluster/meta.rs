//! The metadata plane as its clients see it: commands, and a copy of the catalog that follows.
//!
//! ```text
//! follow:   [revision u64 LE][wait ms u32 LE]
//! followed: 0 count, changes (bytes each) | 1 view
//! ```

use crate::base::codec::{put_bytes, put_varint};
use crate::base::{Error, ErrorKind, Result};
use crate::catalog::{
    Action, Applied, Change, Command, View, decode_answer, decode_change, encode_change,
    encode_command,
};
use crate::env::rng::entropy;
use crate::op::kv::RequestId;
use crate::rpc::cluster::method;
use crate::rpc::cluster::report::{ShardReport, decode_reports, encode_reports};
use crate::rpc::link::{CallError, Hello, Link, LinkOptions};
use crate::rpc::ops::Cut;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// How long one metadata node may take before another is asked.
const TURN: Duration = Duration::from_secs(2);
/// Between two rounds of asking.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a question for changes waits for one.
const WAIT: Duration = Duration::from_secs(10);
/// The most changes in an answer.
pub const CHANGES_MAX: usize = 1024;

/// What was asked to be told of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// The next changes; none if there was none in time.
    Changes(Vec<Change>),
    /// Everything: what came between is collected.
    View(Box<View>),
}

/// The question for changes behind `revision`.
pub fn encode_follow(revision: u64, wait: Duration) -> Bytes {
    let mut out = revision.to_le_bytes().to_vec();
    let ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    out.extend_from_slice(&ms.to_le_bytes());
    out.into()
}

/// The revision asked for, and how long to wait.
///
/// # Errors
/// `InvalidArgument` if it is no such question.
pub fn decode_follow(body: &[u8]) -> Result<(u64, Duration)> {
    let parts = body.split_first_chunk::<8>().and_then(|(r, w)| Some((r, w.first_chunk::<4>()?)));
    let (revision, wait) = parts.ok_or_else(|| Error::invalid("a question is malformed"))?;
    let wait = Duration::from_millis(u32::from_le_bytes(*wait).into());
    Ok((u64::from_le_bytes(*revision), wait))
}

/// The bytes of an answer.
pub fn encode_followed(followed: &Followed) -> Bytes {
    let mut out = Vec::new();
    match followed {
        Followed::Changes(changes) => {
            out.push(0);
            put_varint(&mut out, changes.len() as u64);
            changes.iter().for_each(|change| put_bytes(&mut out, &encode_change(change)));
        }
        Followed::View(view) => {
            out.push(1);
            out.extend(view.encode());
        }
    }
    out.into()
}

/// The answer of some bytes.
///
/// # Errors
/// If they are none, or of a newer version.
pub fn decode_followed(body: &Bytes) -> Result<Followed> {
    let mut cut = Cut::new(body, "an answer");
    Ok(match cut.u8()? {
        0 => {
            let count = cut.count(1)?;
            let changes = (0..count).map(|_| decode_change(&cut.bytes()?));
            Followed::Changes(changes.collect::<Result<_>>()?)
        }
        1 => Followed::View(Box::new(View::decode(&cut.rest())?)),
        kind => return Err(cut.unknown(kind.into())),
    })
}

/// A client of the metadata plane. Clones share its links and its copy of the catalog.
#[derive(Debug, Clone)]
pub struct MetaClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: LinkOptions,
    links: Vec<Link>,
    /// Who is asked first: who answered last, or who stands behind one that did not.
    last: AtomicUsize,
    client: u64,
    next: AtomicU64,
    views: watch::Sender<Arc<View>>,
}

impl MetaClient {
    /// A client of the metadata nodes at `addresses` (`host:port`). It follows the catalog from
    /// now on. REQUIRES: a runtime.
    ///
    /// # Errors
    /// `InvalidArgument` without addresses.
    pub fn new(addresses: &[String], hello: Hello) -> Result<MetaClient> {
        MetaClient::with(addresses, hello, LinkOptions::default(), entropy())
    }

    /// As [`MetaClient::new`], over links with these settings. `client` names this client in its
    /// changes: no other has the same.
    ///
    /// # Errors
    /// As [`MetaClient::new`].
    pub fn with(
        addresses: &[String],
        hello: Hello,
        options: LinkOptions,
        client: u64,
    ) -> Result<MetaClient> {
        if addresses.is_empty() {
            return Err(Error::invalid("no address of a metadata node is given"));
        }
        let link = |address: &String| Link::new(address, hello, options.clone());
        let inner = Arc::new(Inner {
            links: addresses.iter().map(link).collect(),
            options: options.clone(),
            last: AtomicUsize::new(0),
            client,
            next: AtomicU64::new(1),
            views: watch::Sender::new(Arc::new(View::default())),
        });
        let follower = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(inner) = follower.upgrade() {
                if inner.follow().await.is_err() {
                    drop(inner);
                    sleep(PAUSE).await;
                }
            }
        });
        Ok(MetaClient { inner })
    }

    /// How its links connect and wait.
    pub fn link_options(&self) -> &LinkOptions {
        &self.inner.options
    }

    /// The copy of the catalog as it is now: of revision 0 until one was received.
    pub fn view(&self) -> Arc<View> {
        self.inner.views.borrow().clone()
    }

    /// The copies as they come.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.inner.views.subscribe()
    }

    /// Waits for a copy for which `is_it` holds.
    ///
    /// # Errors
    /// `Deadline`.
    pub async fn wait_for(
        &self,
        deadline: Instant,
        mut is_it: impl FnMut(&View) -> bool,
    ) -> Result<Arc<View>> {
        let mut views = self.views();
        let found = timeout_at(deadline, views.wait_for(|view| is_it(view))).await;
        match found {
            Ok(Ok(view)) => Ok(view.clone()),
            _ => {
                Err(Error::new(ErrorKind::Deadline, "the metadata plane did not get there in time"))
            }
        }
    }

    /// Changes the catalog, once: it is asked again under the same number until it answers.
    ///
    /// # Errors
    /// The catalog's, if it refuses; `Unknown` if no answer came until `deadline`.
    pub async fn propose(&self, action: Action, deadline: Instant) -> Result<Applied> {
        // A heartbeat may be told twice, and the catalog remembers only so many requests.
        let id = match action {
            Action::Heartbeat { .. } => None,
            _ => {
                let request = self.inner.next.fetch_add(1, Ordering::Relaxed);
                Some(RequestId { client: self.inner.client, request })
            }
        };
        let command = Bytes::from(encode_command(&Command { now_ms: 0, id, action })?);
        let mut sent = false;
        loop {
            let answer = self.inner.ask(method::PROPOSE, command.clone(), TURN, deadline).await;
            match answer {
                Ok(body) => return decode_answer(&body)?.map_err(Error::from),
                Err(error) if may_have_happened(&error) => sent = true,
                // What refuses a repetition says nothing of the first.
                Err(CallError::Failed(error)) if !sent && !error.kind().is_retryable() => {
                    return Err(error);
                }
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                let (kind, what) = match sent {
                    true => (ErrorKind::Unknown, "may or may not have happened"),
                    false => (ErrorKind::Unavailable, "did not happen"),
                };
                let message = format!(
                    "no metadata node that leads answered in time; the change {what}; is `arqon \
                     meta` running?"
                );
                return Err(Error::new(kind, message));
            }
            sleep(PAUSE).await;
        }
    }

    /// Tells the metadata node that leads of shards. Sent once; the next report mends a lost one.
    ///
    /// # Errors
    /// If no metadata node took it.
    pub async fn report(&self, reports: &[ShardReport], deadline: Instant) -> Result<()> {
        let body = encode_reports(reports);
        let told = self.inner.ask(method::REPORT, body, TURN, deadline).await;
        told.map(|_| ()).map_err(CallError::into_error)
    }

    /// What nodes have reported of shards, to the metadata node that leads.
    ///
    /// # Errors
    /// If no metadata node answers.
    pub async fn reports(&self, deadline: Instant) -> Result<Vec<ShardReport>> {
        let told = self.inner.ask(method::REPORTS, Bytes::new(), TURN, deadline).await;
        decode_reports(&told.map_err(CallError::into_error)?)
    }
}

/// Whether a call that failed so may have been executed, or may yet be.
fn may_have_happened(error: &CallError) -> bool {
    match error {
        CallError::Lost(_) => true,
        CallError::NotSent(_) => false,
        CallError::Failed(error) => {
            matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Deadline)
        }
    }
}

impl Inner {
    /// Asks one metadata node after the other, the one that answered last first, if it did. If none
    /// answers it gives the last error, but rather one of a node that may have done what was asked.
    async fn ask(
        &self,
        method: u16,
        body: Bytes,
        turn: Duration,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let first = self.last.load(Ordering::Relaxed);
        let mut failed = None;
        for other in 0..self.links.len() {
            let at = (first + other) % self.links.len();
            let until = deadline.min(Instant::now() + turn);
            match self.links[at].call(method, body.clone(), until).await {
                Ok(body) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(body);
                }
                Err(error) => {
                    // Whoever asks next loses no time with it.
                    self.last.store((at + 1) % self.links.len(), Ordering::Relaxed);
                    if !failed.as_ref().is_some_and(may_have_happened) {
                        failed = Some(error);
                    }
                }
            }
        }
        let none = || CallError::NotSent(Error::invalid("there is no metadata node"));
        Err(failed.unwrap_or_else(none))
    }

    /// Takes the next changes.
    async fn follow(&self) -> Result<()> {
        let known = self.views.borrow().clone();
        let question = encode_follow(known.revision(), WAIT);
        let deadline = Instant::now() + (TURN + WAIT) * self.links.len() as u32;
        let body = self.ask(method::FOLLOW, question, TURN + WAIT, deadline).await;
        let followed = decode_followed(&body.map_err(CallError::into_error)?)?;
        match followed {
            Followed::Changes(changes) if changes.is_empty() => {}
            Followed::Changes(changes) => {
                let mut view = View::clone(&known);
                changes.iter().try_for_each(|change| view.follow(change))?;
                self.views.send_replace(Arc::new(view));
            }
            // A replica that lags tells of less than is known: never go back.
            Followed::View(view) if view.revision() < known.revision() => {
                return Err(Error::new(ErrorKind::Unavailable, "a metadata node lags behind"));
            }
            Followed::View(view) => _ = self.views.send_replace(Arc::from(view)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::link::{LinkService, Role, listen};
    use tokio::net::TcpListener;

    /// A metadata node that fails all it is asked.
    struct Failing(ErrorKind);

    impl LinkService for Failing {
        fn greet(&self, _: &Hello) -> Result<Hello> {
            Ok(Hello { role: Role::Meta, cluster: [1; 16], node: 1, incarnation: 1 })
        }

        async fn call(&self, _: Hello, _: u16, _: Duration, _: Bytes) -> Result<Bytes> {
            Err(Error::new(self.0, "as it was told to"))
        }

        fn message(&self, _: &Hello, _: u8, _: Bytes) {}
    }

    async fn start(kind: ErrorKind) -> (String, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(listen(listener, Arc::new(Failing(kind)), stopped));
        (address, stop)
    }

    /// The word of the last node asked was taken, who had not heard of it.
    #[tokio::test]
    async fn a_change_that_one_node_may_have_made_is_not_told_as_not_done_by_another() {
        for kinds in [
            [ErrorKind::Unknown, ErrorKind::Unavailable],
            [ErrorKind::Unavailable, ErrorKind::Unknown],
            [ErrorKind::Unknown, ErrorKind::Refused],
            [ErrorKind::Unavailable, ErrorKind::Unavailable],
        ] {
            let nodes = [start(kinds[0]).await, start(kinds[1]).await];
            let addresses = nodes.iter().map(|(address, _)| address.clone()).collect::<Vec<_>>();
            let hello = Hello::nameless(Role::Gateway, [1; 16]);
            let client = MetaClient::new(&addresses, hello).unwrap();
            let until = Instant::now() + Duration::from_millis(200);
            let action = Action::DropFamily { name: "f".into() };
            let told = client.propose(action, until).await.unwrap_err();
            let is_unknown = kinds.contains(&ErrorKind::Unknown);
            assert_eq!(told.kind() == ErrorKind::Unknown, is_unknown, "{kinds:?}: {told}");
        }
    }
}
