//! Vectors: indexes, which the catalog names and every shard has a part of, and what is asked of all
//! parts at once.

use crate::base::{Error, ErrorKind, IndexId, Result};
use crate::gateway::calls::{Consistency, ShardCalls};
use crate::gateway::freshness;
use crate::gateway::gateway::{Gateway, unfitting};
use crate::gateway::scatter::Gathered;
use crate::op::route::SlotRange;
use crate::op::vector::{
    ANSWER_BYTES_MAX, Checked, IndexInfo, PAGE_BYTES_MAX, PAGE_DEFAULT, StoredVector, VectorAnswer,
    VectorCall, no_such_index,
};
use crate::op::{Request, Response};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// What became of an index in the catalog. Its name says too little: a shard may still have the one
/// before, or already have the next, of the same name.
#[derive(Debug, Clone, Copy)]
enum Changed {
    Created(IndexId),
    /// Without a number where shards are this process's, all of which had done so before it was told.
    Dropped(Option<IndexId>),
}

impl Changed {
    /// Whether a shard with these indexes has done so.
    fn is_seen(self, name: &str, indexes: &[IndexInfo]) -> bool {
        let mut named = indexes.iter().filter(|index| index.spec.name == name);
        match self {
            // Numbers rise: one with a higher one came after this, which is gone again.
            Changed::Created(id) => named.any(|index| index.id >= id),
            Changed::Dropped(Some(id)) => named.all(|index| index.id > id),
            Changed::Dropped(None) => named.next().is_none(),
        }
    }
}

impl<C: ShardCalls> Gateway<C> {
    /// Creates or drops an index: when it returns, every shard has done so.
    pub(super) async fn change_index(
        &self,
        call: VectorCall,
        deadline: Instant,
    ) -> Result<Response> {
        let name = match &call {
            VectorCall::Create(spec) => {
                spec.check()?;
                spec.name.clone()
            }
            VectorCall::Drop { index } => index.clone(),
            _ => return Err(unfitting("the catalog")),
        };
        let answer = self.ask_catalog(Request::Vector(Box::new(call)), deadline).await?;
        let (changed, mut answer) = match answer {
            Response::Vector(answer) => match *answer {
                VectorAnswer::Index(info) => (Changed::Created(info.id), VectorAnswer::Index(info)),
                VectorAnswer::Dropped(id) => (Changed::Dropped(Some(id)), VectorAnswer::Done),
                VectorAnswer::Done => (Changed::Dropped(None), VectorAnswer::Done),
                _ => return Err(unfitting("a change of an index")),
            },
            _ => return Err(unfitting("a change of an index")),
        };
        let wait = self.until_all_have_changed(&name, changed, deadline);
        freshness::with(Consistency::Linearizable, wait).await?;
        if let VectorAnswer::Index(info) = &mut answer {
            info.nodes = self.hosts().await;
        }
        Ok(Response::Vector(Box::new(answer)))
    }

    async fn until_all_have_changed(
        &self,
        name: &str,
        changed: Changed,
        deadline: Instant,
    ) -> Result<()> {
        let mut looks = 0;
        let late = |error: &Error| {
            let what = if matches!(changed, Changed::Created(_)) { "created" } else { "dropped" };
            let message = format!(
                "index {name} is {what} in the catalog, but it is not known whether all shards have \
                 done so yet; they will by themselves: {error}"
            );
            Error::new(ErrorKind::Unknown, message)
        };
        let list = Request::Vector(Box::new(VectorCall::List));
        loop {
            let answers = self.read_shards(SlotRange::ALL, deadline, &list).await;
            let mut lagging = 0;
            for answer in vector_answers(answers.map_err(|error| late(&error))?)? {
                let VectorAnswer::Indexes(indexes) = answer else {
                    return Err(unfitting("a list of indexes"));
                };
                lagging += usize::from(!changed.is_seen(name, &indexes));
            }
            if lagging == 0 {
                return Ok(());
            }
            looks += 1;
            let cause = Error::new(ErrorKind::Unavailable, format!("{lagging} shards have not"));
            self.pause(looks, deadline, &cause).await.map_err(|error| late(&error))?;
        }
    }

    /// Executes a call that concerns every shard.
    pub(super) async fn vectors(&self, call: VectorCall, deadline: Instant) -> Result<Response> {
        let answer = match call {
            VectorCall::Search(search) => {
                VectorAnswer::Found(self.search_all(search, deadline).await?)
            }
            VectorCall::List => {
                let answers = self.ask_all(VectorCall::List, deadline).await?;
                let (mut all, nodes) = (sum_of_lists(answers)?, self.hosts().await);
                all.iter_mut().for_each(|index| index.nodes.clone_from(&nodes));
                VectorAnswer::Indexes(all)
            }
            VectorCall::Describe { index } => {
                let answers = self.ask_all(VectorCall::Describe { index: index.clone() }, deadline);
                let infos = answers.await?.into_iter().map(|answer| match answer {
                    VectorAnswer::Index(info) => Ok(VectorAnswer::Indexes(vec![*info])),
                    _ => Err(unfitting("a description")),
                });
                let mut all = sum_of_lists(infos.collect::<Result<_>>()?)?;
                let mut info = all.pop().ok_or_else(|| no_such_index(&index))?;
                info.nodes = self.hosts().await;
                VectorAnswer::Index(Box::new(info))
            }
            VectorCall::Get { index, ids } => {
                let count = ids.len();
                let answers = self.ask_all(VectorCall::Get { index, ids }, deadline).await?;
                let all = first_of_each(answers, count)?;
                let bytes = |one: &StoredVector| one.vector.as_bytes().len() + one.payload.len();
                check_room(all.iter().flatten().map(bytes))?;
                VectorAnswer::Vectors(all)
            }
            VectorCall::Walk { index, after, limit } => {
                let call = VectorCall::Walk { index, after, limit };
                let limit = if limit == 0 { PAGE_DEFAULT } else { limit } as usize;
                page_of(self.ask_all(call, deadline).await?, limit)?
            }
            VectorCall::Verify { index } => {
                // It mends what it finds, so an answer that is thrown away is never given again: as a
                // write does, it goes on with the shards that have not answered.
                let request = Request::Vector(Box::new(VectorCall::Verify { index }));
                let mut sum = Checked::default();
                for answer in self.write_shards(SlotRange::ALL, deadline, &request).await? {
                    let VectorAnswer::Checked(one) = vector_answer(answer)? else {
                        return Err(unfitting("a check"));
                    };
                    sum.stored += one.stored;
                    sum.missing += one.missing;
                    sum.surplus += one.surplus;
                }
                VectorAnswer::Checked(sum)
            }
            VectorCall::Create(_) | VectorCall::Drop { .. } | VectorCall::Fetch { .. } => {
                return Err(unfitting("every shard"));
            }
        };
        Ok(Response::Vector(Box::new(answer)))
    }

    /// The nodes with a copy of a shard: every shard has a part of every index.
    async fn hosts(&self) -> Vec<u64> {
        // Who follows is told to nobody as long as calls succeed. If it is not known now, what was known
        // has to do.
        _ = self.refresh().await;
        let map = self.map.load();
        let replicas = map.shards().iter().flat_map(|shard| &shard.replicas);
        replicas.map(|node| node.id.0).collect::<BTreeSet<u64>>().into_iter().collect()
    }

    pub(super) async fn ask_all(
        &self,
        call: VectorCall,
        deadline: Instant,
    ) -> Result<Vec<VectorAnswer>> {
        let request = Request::Vector(Box::new(call));
        vector_answers(self.read_shards(SlotRange::ALL, deadline, &request).await?)
    }
}

pub(super) fn vector_answers(answers: Gathered) -> Result<Vec<VectorAnswer>> {
    answers.into_iter().map(|(_, answer)| vector_answer(answer)).collect()
}

fn vector_answer(answer: Response) -> Result<VectorAnswer> {
    match answer {
        Response::Vector(answer) => Ok(*answer),
        _ => Err(unfitting("a call about vectors")),
    }
}

/// What several shards give may each fit into an answer, and not together.
pub(super) fn check_room(bytes: impl Iterator<Item = usize>) -> Result<()> {
    if bytes.sum::<usize>() <= ANSWER_BYTES_MAX {
        return Ok(());
    }
    let most = ANSWER_BYTES_MAX >> 20;
    let message = format!(
        "the vectors and payloads of this answer take more than {most} MiB; ask for fewer at a time"
    );
    Err(Error::new(ErrorKind::Refused, message))
}

/// The lists of all shards as one: figures are added up.
fn sum_of_lists(answers: Vec<VectorAnswer>) -> Result<Vec<IndexInfo>> {
    let mut sums: BTreeMap<String, IndexInfo> = BTreeMap::new();
    for answer in answers {
        let VectorAnswer::Indexes(indexes) = answer else {
            return Err(unfitting("a list of indexes"));
        };
        for one in indexes {
            let Some(sum) = sums.get_mut(&one.spec.name) else {
                sums.insert(one.spec.name.clone(), one);
                continue;
            };
            for (sum, one) in [
                (&mut sum.vectors, one.vectors),
                (&mut sum.waiting, one.waiting),
                (&mut sum.fresh, one.fresh),
                (&mut sum.sealed, one.sealed),
                (&mut sum.segments, one.segments),
                (&mut sum.dead, one.dead),
                (&mut sum.memory_bytes, one.memory_bytes),
                (&mut sum.disk_bytes, one.disk_bytes),
                (&mut sum.rebuilt, one.rebuilt),
                (&mut sum.postings, one.postings),
            ] {
                *sum = sum.saturating_add(one);
            }
        }
    }
    Ok(sums.into_values().collect())
}

/// Of each id what the shard that has it gave.
pub(super) fn first_of_each(
    answers: Vec<VectorAnswer>,
    count: usize,
) -> Result<Vec<Option<StoredVector>>> {
    let mut all = vec![None; count];
    for answer in answers {
        let VectorAnswer::Vectors(vectors) = answer else {
            return Err(unfitting("a fetch of vectors"));
        };
        for (place, one) in all.iter_mut().zip(vectors) {
            if place.is_none() {
                *place = one;
            }
        }
    }
    Ok(all)
}

/// The pages of all shards as one. A page that ends early says nothing of what lies behind it.
fn page_of(answers: Vec<VectorAnswer>, limit: usize) -> Result<VectorAnswer> {
    let (mut all, mut until) = (Vec::new(), u64::MAX);
    for answer in answers {
        let VectorAnswer::Page { vectors, next } = answer else {
            return Err(unfitting("a walk"));
        };
        until = until.min(next.unwrap_or(u64::MAX));
        all.extend(vectors);
    }
    all.sort_by_key(|vector: &StoredVector| vector.id);
    let known = all.iter().take_while(|vector| vector.id <= until).count();
    let mut bytes = 0;
    let fits = |vector: &&StoredVector| {
        let before = bytes;
        bytes += vector.vector.as_bytes().len() + vector.payload.len();
        before < PAGE_BYTES_MAX
    };
    let taken = all.iter().take(known.min(limit)).take_while(fits).count();
    let has_more = taken < all.len() || until < u64::MAX;
    all.truncate(taken);
    let next = all.last().map(|vector| vector.id).filter(|_| has_more);
    Ok(VectorAnswer::Page { vectors: all, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[u64], next: Option<u64>) -> VectorAnswer {
        let vector = |id: &u64| StoredVector {
            id: *id,
            vector: Default::default(),
            payload: Default::default(),
        };
        VectorAnswer::Page { vectors: ids.iter().map(vector).collect(), next }
    }

    #[test]
    fn an_answer_that_is_too_large_together_is_refused() {
        assert!(check_room([ANSWER_BYTES_MAX / 2; 2].into_iter()).is_ok());
        let refused = check_room([ANSWER_BYTES_MAX / 2, 1 + ANSWER_BYTES_MAX / 2].into_iter());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Refused);
    }

    #[test]
    fn pages_of_shards_leave_nothing_out() {
        let joined =
            |limit| page_of(vec![page(&[1, 5, 9], Some(9)), page(&[2, 3, 20], None)], limit);
        assert_eq!(joined(10).unwrap(), page(&[1, 2, 3, 5, 9], Some(9)));
        assert_eq!(joined(3).unwrap(), page(&[1, 2, 3], Some(3)));
        let last = page_of(vec![page(&[7], None), page(&[], None)], 10).unwrap();
        assert_eq!(last, page(&[7], None));
    }
}
