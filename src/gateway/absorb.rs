//! What the answers of one attempt settle, and what of a group is to be tried again.

use crate::base::{Error, ErrorKind, Result};
use crate::gateway::locks::lock_of;
use crate::gateway::map::NodeId;
use crate::op::route::is_read;
use crate::op::txn::Lock;
use crate::op::{Request, Response};

/// Requests of one shard that wait for answers, in order.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Those without an answer.
    pub(super) requests: Vec<Request>,
    /// For each of them, its place among the answers and whether it may have happened.
    places: Vec<(usize, bool)>,
    /// The answers so far.
    answers: Vec<Option<Result<Response>>>,
    /// The node that gave the last of them.
    pub(super) served_by: Option<NodeId>,
    /// A lock that the last attempt met.
    pub(super) lock: Option<Lock>,
}

/// What became of a group.
pub(super) struct Outcome {
    /// An answer for each request, in order; none for one that is still open.
    pub(super) answers: Vec<Option<Result<Response>>>,
    /// Those, in order, and whether each may have happened.
    pub(super) open: Vec<(Request, bool)>,
    /// The node that gave the last answer.
    pub(super) served_by: Option<NodeId>,
}

impl Group {
    pub(super) fn push(&mut self, request: Request, maybe: bool) -> usize {
        let at = self.answers.len();
        self.requests.push(request);
        self.places.push((at, maybe));
        self.answers.push(None);
        at
    }

    /// Whether an attempt with all that is open may be followed by another, whatever became of it.
    pub(super) fn is_repeatable(&self) -> bool {
        self.requests.iter().all(is_repeatable)
    }

    /// Takes the answers of an attempt. Those at the end that allow it stay open, to be tried
    /// again: says whether there are any.
    pub(super) fn absorb(&mut self, mut given: Vec<Result<Response>>) -> bool {
        given.truncate(self.requests.len());
        let kept = settled_before(&self.requests, &given);
        let again = kept < given.len();
        let open = self.requests.iter().zip(&given).skip(kept);
        self.lock = open.filter_map(|(request, answer)| lock_of(request, answer)).next().copied();
        let open = self.places.iter_mut().zip(&mut self.requests).zip(&given).skip(kept);
        for ((place, request), _) in open.filter(|(_, failed)| is_unknown(failed)) {
            place.1 |= !is_read(request);
            seal(request);
        }
        given.truncate(kept);
        self.requests.drain(..kept);
        for ((at, maybe), answer) in self.places.drain(..kept).zip(given) {
            // What refused this copy may have let an earlier one by, or may yet: it may be late. A
            // condition that did not hold is sealed.
            self.answers[at] = Some(answer.map_err(|e| if maybe { in_doubt(&e) } else { e }));
        }
        again
    }

    /// All that is open may have happened. What may not be repeated is answered so.
    pub(super) fn doubt(&mut self, cause: &Error) {
        let places = std::mem::take(&mut self.places);
        let requests = std::mem::take(&mut self.requests);
        for ((at, maybe), mut request) in places.into_iter().zip(requests) {
            if is_repeatable(&request) {
                seal(&mut request);
                self.places.push((at, maybe || !is_read(&request)));
                self.requests.push(request);
            } else {
                self.answers[at] = Some(Err(in_doubt(cause)));
            }
        }
    }

    /// Gives up on all that is open: with `error`, or as unknown where it may have happened.
    pub(super) fn give_up(&mut self, error: &Error) {
        self.requests.clear();
        for (at, maybe) in self.places.drain(..) {
            self.answers[at] = Some(Err(if maybe { in_doubt(error) } else { error.clone() }));
        }
    }

    /// What became of it.
    pub(super) fn end(self) -> Outcome {
        let open = self.requests.into_iter().zip(self.places.into_iter().map(|(_, maybe)| maybe));
        Outcome { answers: self.answers, open: open.collect(), served_by: self.served_by }
    }
}

/// Whether an attempt that may have succeeded may be followed by another.
fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::Write { id, .. } | Request::PutIf { id, .. } => id.is_some(),
        Request::Txn(_) => true,
        other => is_read(other),
    }
}

/// A copy is on its way, or may be: if another is refused, that holds for this one too.
fn seal(request: &mut Request) {
    if let Request::PutIf { seal, .. } = request {
        *seal = true;
    }
}

fn is_unknown(answer: &Result<Response>) -> bool {
    answer.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unknown)
}

/// How many of the answers stand. Behind them are only requests that had no effect and may yet be
/// tried, and before those, writes with an id that may have happened: repeated in order, none
/// overtakes another.
fn settled_before(requests: &[Request], given: &[Result<Response>]) -> usize {
    let mut begun = false;
    let mut kept = given.len();
    for (request, answer) in requests.iter().zip(given).rev() {
        if lock_of(request, answer).is_some() {
            if !is_read(request) && begun {
                break;
            }
            kept -= 1;
            continue;
        }
        let Err(error) = answer else { break };
        let (read, repeatable) = (is_read(request), is_repeatable(request));
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Busy if read || !begun => {}
            ErrorKind::Unknown if read => {}
            ErrorKind::Unknown if repeatable => begun = true,
            _ => break,
        }
        kept -= 1;
    }
    kept
}

/// The error of a write that may have happened.
pub(super) fn in_doubt(cause: &Error) -> Error {
    if cause.kind() == ErrorKind::Unknown {
        return cause.clone();
    }
    Error::new(
        ErrorKind::Unknown,
        format!("the write may or may not have happened, read before you repeat it: {cause}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CfId, Seq};
    use crate::op::command;
    use crate::op::kv::{RedisCall, RequestId};
    use bytes::Bytes;

    fn get() -> Request {
        Request::Get { cf: CfId(0), key: Bytes::from("k") }
    }

    fn write(request: u64) -> Request {
        Request::Write { writes: Vec::new(), id: Some(RequestId { client: 1, request }) }
    }

    fn incr() -> Request {
        let args = vec![Bytes::from("INCR"), Bytes::from("k")];
        Request::Redis(RedisCall { spec: command::lookup(&args).unwrap(), args })
    }

    fn fail(kind: ErrorKind) -> Result<Response> {
        Err(Error::new(kind, "x"))
    }

    fn ok() -> Result<Response> {
        Ok(Response::Committed { seq: Seq(1) })
    }

    /// How many of the answers stand.
    fn standing(sent: &[Request], given: &[Result<Response>]) -> usize {
        let mut group = Group::default();
        for request in sent {
            group.push(request.clone(), false);
        }
        let again = group.absorb(given.to_vec());
        let Outcome { answers, open, .. } = group.end();
        assert_eq!(again, open.len() > sent.len() - given.len());
        answers.iter().take_while(|answer| answer.is_some()).count()
    }

    #[test]
    fn what_had_no_effect_is_tried_again_unless_later_writes_had() {
        use ErrorKind::{Busy, NotFound, Unavailable, Unknown};
        let (w, g, i) = (write(1), get(), incr());
        for (sent, given, stand) in [
            (vec![i.clone()], vec![fail(Unavailable)], 0),
            (vec![i.clone()], vec![fail(Unknown)], 1),
            (vec![w.clone()], vec![fail(Unknown)], 0),
            (vec![g.clone()], vec![fail(Unknown)], 0),
            (vec![g.clone()], vec![fail(NotFound)], 1),
            (vec![i.clone(), i.clone()], vec![ok(), fail(Busy)], 1),
            (vec![i.clone(), i.clone()], vec![fail(Busy), ok()], 2),
            (vec![i.clone(), g.clone()], vec![fail(Busy), ok()], 2),
            (vec![w.clone(), i.clone()], vec![fail(Unknown), fail(Busy)], 0),
            (vec![i.clone(), w.clone()], vec![fail(Busy), fail(Unknown)], 1),
            (vec![g.clone(), w.clone()], vec![fail(Busy), fail(Unknown)], 0),
            (vec![i.clone(), i.clone()], vec![fail(Unknown), fail(Busy)], 1),
        ] {
            assert_eq!(standing(&sent, &given), stand, "{sent:?} {given:?}");
        }
        assert_eq!(standing(&[i.clone(), i], &[ok()]), 1, "one was not answered at all");
    }

    #[test]
    fn a_copy_that_is_refused_says_nothing_of_one_that_was_lost() {
        for (lost, kind) in [(true, ErrorKind::Unknown), (false, ErrorKind::Refused)] {
            let mut group = Group::default();
            group.push(write(1), false);
            group.push(get(), false);
            if lost {
                group.doubt(&Error::new(ErrorKind::Io, "cut off"));
            }
            assert!(!group.absorb(vec![fail(ErrorKind::Refused), fail(ErrorKind::NotFound)]));
            let answers = group.end().answers.into_iter();
            let kinds: Vec<_> = answers.map(|answer| answer.unwrap().unwrap_err().kind()).collect();
            assert_eq!(kinds, [kind, ErrorKind::NotFound]);
        }
    }

    #[test]
    fn doubt_answers_what_may_not_be_repeated_and_is_remembered_of_the_rest() {
        let mut group = Group::default();
        for request in [write(1), incr(), get(), write(2)] {
            group.push(request, false);
        }
        group.absorb(vec![ok()]);
        group.doubt(&Error::new(ErrorKind::Io, "cut off"));
        assert_eq!(group.requests.len(), 2);
        group.give_up(&Error::new(ErrorKind::Deadline, "late"));
        let Outcome { answers, open, .. } = group.end();
        let kinds: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.unwrap().map(drop).map_err(|error| error.kind()))
            .collect();
        let unknown = Err(ErrorKind::Unknown);
        assert_eq!(kinds, [Ok(()), unknown, Err(ErrorKind::Deadline), unknown]);
        assert!(open.is_empty());
    }
}
