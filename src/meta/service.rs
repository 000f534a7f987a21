//! The calls of the links.

use crate::base::{Error, ErrorKind, Result};
use crate::meta::Meta;
use crate::rpc::cluster::meta::{decode_follow, encode_followed};
use crate::rpc::cluster::method;
use crate::rpc::link::{Hello, LinkService};
use bytes::Bytes;
use std::time::Duration;

/// The longest that a question for changes is held.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long the group may take for a change, whatever the caller would wait.
const PATIENCE_MAX: Duration = Duration::from_secs(5);

impl LinkService for Meta {
    fn greet(&self, from: &Hello) -> Result<Hello> {
        let cluster = self.inner.machine.read(|m| m.catalog.view().cluster().map(|c| c.id));
        let own = Hello { cluster: cluster.unwrap_or_default(), ..self.inner.hello };
        if own.may_meet(from) {
            self.inner.meet(from)?;
            return Ok(own);
        }
        let message = "this metadata node belongs to another cluster; check the address you gave";
        Err(Error::new(ErrorKind::Refused, message))
    }

    async fn call(
        &self,
        from: Hello,
        method: u16,
        patience: Duration,
        body: Bytes,
    ) -> Result<Bytes> {
        let patience = patience.min(PATIENCE_MAX);
        match method {
            method::PROPOSE => self.inner.propose(body, false, patience).await,
            method::PROPOSE_PASSED_ON => self.inner.propose(body, true, patience).await,
            method::REPORT => self.inner.take_reports(&from, body, patience).await,
            method::MEET => self.inner.met(&from, &body),
            method::READMIT => self.inner.readmit(&from, body, patience).await,
            method::REPORTS => self.inner.reports(&from, patience).await,
            method::FOLLOW => {
                let (revision, wait) = decode_follow(&body)?;
                let followed = self.inner.follow(revision, wait.min(WAIT_MAX)).await?;
                Ok(encode_followed(&followed))
            }
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("a metadata node of this version has no call {other}"),
            )),
        }
    }

    fn message(&self, from: &Hello, class: u8, body: Bytes) {
        self.inner.receive(from, class, body);
    }
}
