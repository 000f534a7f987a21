//! Column families: the catalog names them, the shards keep them.
//!
//! A family is usable when every shard has it, and gone when none has: until then whoever creates
//! or drops it waits. So any one shard tells which families there are, without the catalog.

use crate::base::{CfId, Error, ErrorKind, Result};
use crate::gateway::absorb::Group;
use crate::gateway::calls::{CallFailure, Called, Consistency, ShardCalls};
use crate::gateway::freshness;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::op::route::SlotRange;
use crate::op::{Request, Response};
use tokio::time::{Instant, timeout_at};

/// Any shard knows of all families: that of the first slot is asked.
const ANY: SlotRange = SlotRange { first: 0, last: 0 };

impl<C: ShardCalls> Gateway<C> {
    /// Executes a request for the catalog.
    pub(super) async fn catalog(&self, request: Request, deadline: Instant) -> Result<Response> {
        match request {
            Request::ListCfs => {
                let mut answers = self.read_shards(ANY, deadline, &request).await?;
                answers.pop().map(|(_, answer)| answer).ok_or_else(|| unfitting("its request"))
            }
            Request::CreateCf { .. } => {
                let answer = self.ask_catalog(request, deadline).await?;
                let Response::ColumnFamily(info) = &answer else {
                    return Err(unfitting("the creation of a column family"));
                };
                self.until_leaders(info.id, true, deadline).await?;
                Ok(answer)
            }
            Request::DropCf { cf } => {
                let answer = self.ask_catalog(request, deadline).await?;
                self.until_leaders(cf, false, deadline).await?;
                Ok(answer)
            }
            Request::Vector(call) => self.change_index(*call, deadline).await,
            other => self.ask_catalog(other, deadline).await,
        }
    }

    /// As [`Gateway::until_all_shards`], by what their leaders say, however fresh reads are here.
    async fn until_leaders(&self, cf: CfId, wanted: bool, deadline: Instant) -> Result<()> {
        let wait = self.until_all_shards(cf, wanted, deadline);
        freshness::with(Consistency::Linearizable, wait).await
    }

    /// Waits until every shard has a family, or none has.
    async fn until_all_shards(&self, cf: CfId, wanted: bool, deadline: Instant) -> Result<()> {
        let mut looks = 0;
        let late = |error: &Error| {
            let (what, of) =
                if wanted { ("created", "have it") } else { ("dropped", "have done so") };
            let message = format!(
                "column family {cf} is {what} in the catalog, but it is not known whether all \
                 shards {of} yet; they will by themselves: {error}"
            );
            Error::new(ErrorKind::Unknown, message)
        };
        loop {
            let answers = self.read_shards(SlotRange::ALL, deadline, &Request::ListCfs).await;
            let mut lagging = 0;
            for (_, answer) in answers.map_err(|error| late(&error))? {
                let Response::ColumnFamilies(families) = answer else {
                    return Err(unfitting("a list of column families"));
                };
                lagging += usize::from(families.iter().any(|family| family.id == cf) != wanted);
            }
            if lagging == 0 {
                return Ok(());
            }
            looks += 1;
            let cause = Error::new(ErrorKind::Unavailable, format!("{lagging} shards have not"));
            self.pause(looks, deadline, &cause).await.map_err(|error| late(&error))?;
        }
    }

    pub(super) async fn ask_catalog(
        &self,
        request: Request,
        deadline: Instant,
    ) -> Result<Response> {
        let mut group = Group::default();
        group.push(request, false);
        let mut failures = 0;
        while let Some(request) = group.requests.first() {
            let call = self.calls.catalog(request, deadline);
            let Called { answers, stopped } =
                timeout_at(deadline, call).await.unwrap_or_else(|_| {
                    let late = Error::new(ErrorKind::Unknown, "the catalog gave no answer in time");
                    Called::failed(CallFailure::Unknown(late))
                });
            group.absorb(answers);
            let cause = match stopped {
                Some(CallFailure::Unknown(cause)) => {
                    group.doubt(&cause);
                    cause
                }
                Some(CallFailure::Unreachable(cause)) => cause,
                _ => Error::new(ErrorKind::Unavailable, "the catalog has no leader now"),
            };
            failures += 1;
            if !group.requests.is_empty()
                && let Err(error) = self.pause(failures, deadline, &cause).await
            {
                group.give_up(&error);
            }
        }
        group.end().answers.pop().flatten().unwrap_or_else(|| Err(unfitting("its request")))
    }
}
