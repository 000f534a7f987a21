//! The words for vectors: a line as a request, and its answer as a reply.

use crate::base::{Error, Result};
use crate::op::Request;
use crate::op::kv::Write;
use crate::op::vector::text::TextQuery;
use crate::op::vector::{
    Checked, Filter, Floats, IndexInfo, IndexSpec, Metric, StoredVector, VectorAnswer, VectorCall,
    VectorHit, VectorId, VectorQuery, VectorSearch, VectorsFound,
};
use crate::repl::client::Answer;
use crate::repl::tokens::Token;
use bytes::Bytes;

/// The request of a word for vectors; none if the arguments are not those that it takes, or if it is
/// another word.
///
/// # Errors
/// `InvalidArgument` for an argument that is not what stands in its place.
pub fn request(name: &str, args: &[Token]) -> Result<Option<Request>> {
    let call = |call| Ok(Some(Request::Vector(Box::new(call))));
    let write = |write| Ok(Some(Request::Write { writes: vec![write], id: None }));
    match (name, args) {
        ("VCREATE", [index, dim, rest @ ..]) => call(VectorCall::Create(spec(index, dim, rest)?)),
        ("VDROP", [index]) => call(VectorCall::Drop { index: text(index)? }),
        ("VLIST", []) => call(VectorCall::List),
        ("VDESCRIBE", [index]) => call(VectorCall::Describe { index: text(index)? }),
        ("VVERIFY", [index]) => call(VectorCall::Verify { index: text(index)? }),
        ("VGET", [index, id]) => {
            call(VectorCall::Get { index: text(index)?, ids: vec![vector_id(id)?] })
        }
        ("VDELETE", [index, id]) => {
            write(Write::DeleteVector { index: text(index)?, id: vector_id(id)? })
        }
        ("VPUT", [index, id, vector, rest @ ..]) if rest.len() < 2 => {
            let payload = rest.first().map_or(&b""[..], |token| &token.bytes);
            write(Write::PutVector {
                index: text(index)?,
                id: vector_id(id)?,
                vector: floats(vector)?,
                payload: Bytes::copy_from_slice(payload),
            })
        }
        ("VSEARCH", [index, near, id, rest @ ..]) if near.is("NEAR") => {
            let query = VectorQuery::Stored(vector_id(id)?);
            call(VectorCall::Search(search(index, query, rest)?))
        }
        ("VSEARCH", [index, vector, rest @ ..]) => {
            let query = VectorQuery::Vector(floats(vector)?);
            call(VectorCall::Search(search(index, query, rest)?))
        }
        _ => Ok(None),
    }
}

fn text(token: &Token) -> Result<String> {
    token.text().map(str::to_string).ok_or_else(|| Error::invalid("a name must be text"))
}

fn number<N: std::str::FromStr>(token: &Token, what: &str) -> Result<N> {
    let number = token.text().and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        let found = String::from_utf8_lossy(&token.bytes);
        Error::invalid(format!("{what} takes a whole number, not {found:?}"))
    })
}

fn vector_id(token: &Token) -> Result<VectorId> {
    number(token, "a vector's id").map(VectorId::new)
}

/// Numbers between commas or blanks, in brackets or not.
fn floats(token: &Token) -> Result<Floats> {
    let text = token.text().unwrap_or_default();
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let parts = inner.split([',', ' ']).filter(|part| !part.is_empty());
    let numbers: std::result::Result<Vec<f32>, _> = parts.map(str::parse).collect();
    match numbers {
        Ok(numbers) if !numbers.is_empty() => Ok(Floats::of(&numbers)),
        _ => Err(Error::invalid(format!("a vector is numbers between commas, not {text:?}"))),
    }
}

fn spec(index: &Token, dim: &Token, rest: &[Token]) -> Result<IndexSpec> {
    let mut spec = IndexSpec::new(text(index)?, number(dim, "VCREATE")?, Metric::default());
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let value = rest.next().and_then(Token::text).unwrap_or_default();
        match word {
            word if word.is("METRIC") => spec.metric = value.parse()?,
            word if word.is("KIND") => spec.kind = value.parse()?,
            word if word.is("QUANTISATION") => spec.quantisation = value.parse()?,
            other => {
                let found = String::from_utf8_lossy(&other.bytes);
                return Err(Error::invalid(format!(
                    "VCREATE does not know {found:?}: METRIC, KIND, QUANTISATION"
                )));
            }
        }
    }
    Ok(spec)
}

fn search(index: &Token, query: VectorQuery, rest: &[Token]) -> Result<VectorSearch> {
    let mut search = VectorSearch { query, ..VectorSearch::new(text(index)?, &[], 10) };
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let mut value = |word| {
            rest.next().ok_or_else(|| Error::invalid(format!("VSEARCH: {word} takes a value")))
        };
        match word {
            word if word.is("K") => search.k = number(value("K")?, "K")?,
            word if word.is("EF") => search.ef = number(value("EF")?, "EF")?,
            word if word.is("FILTER") => {
                search.filter = Some(Filter::parse(&text(value("FILTER")?)?)?);
            }
            word if word.is("WORDS") => {
                let field = text(value("WORDS")?)?;
                let text = text(value("WORDS with a field")?)?;
                search.text = Some(TextQuery { field, text, is_part: false });
            }
            word if word.is("EXACT") => search.exact = true,
            word if word.is("PAYLOAD") => search.with_payload = true,
            other => {
                let found = String::from_utf8_lossy(&other.bytes);
                return Err(Error::invalid(format!(
                    "VSEARCH does not know {found:?}: K, EF, FILTER, WORDS, EXACT, PAYLOAD"
                )));
            }
        }
    }
    Ok(search)
}

/// How hits are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Each id with its distance.
    Plain,
    /// Each id with its distance and its payload.
    WithPayload,
    /// A list of all that is known of each: the members of a JSON object have no order.
    Listed,
}

/// The reply that an answer is printed as.
pub fn reply(answer: VectorAnswer, told: Found) -> Answer {
    match answer {
        VectorAnswer::Indexes(all) => Answer::Map(
            all.iter().map(|index| (bulk(&index.spec.name), count(index.vectors))).collect(),
        ),
        VectorAnswer::Vectors(all) => match all.into_iter().flatten().next() {
            Some(StoredVector { id, vector, payload }) => {
                let numbers: Vec<String> = vector.to_vec().iter().map(f32::to_string).collect();
                let mut pairs =
                    vec![(bulk("id"), count(id)), (bulk("vector"), bulk(&numbers.join(",")))];
                if !payload.is_empty() {
                    pairs.push((bulk("payload"), Answer::Bulk(payload.to_vec())));
                }
                Answer::Map(pairs)
            }
            None => Answer::Nil,
        },
        VectorAnswer::Found(found) => {
            let distance = |hit: &VectorHit| Answer::Double(hit.distance.to_string());
            let payload = |payload: &Bytes| Answer::Bulk(payload.to_vec());
            let pair = |hit: &VectorHit| {
                let of_it = match told {
                    Found::WithPayload => Answer::Array(vec![
                        distance(hit),
                        hit.payload.as_ref().map_or(Answer::Nil, payload),
                    ]),
                    Found::Plain | Found::Listed => distance(hit),
                };
                (bulk(&hit.id.to_string()), of_it)
            };
            let object = |hit: &VectorHit| {
                let known = [(bulk("id"), count(hit.id)), (bulk("distance"), distance(hit))];
                let score = hit.score.map(|s| (bulk("score"), Answer::Double(s.to_string())));
                let payload = hit.payload.as_ref().map(|p| (bulk("payload"), payload(p)));
                Answer::Map(known.into_iter().chain(score).chain(payload).collect())
            };
            match told {
                Found::Listed => Answer::Array(found.hits.iter().map(object).collect()),
                _ => Answer::Map(found.hits.iter().map(pair).collect()),
            }
        }
        VectorAnswer::Checked(Checked { stored, missing, surplus }) => {
            let told = [("stored", stored), ("missing", missing), ("surplus", surplus)];
            Answer::Map(told.map(|(name, n)| (bulk(name), count(n))).to_vec())
        }
        _ => Answer::Simple("OK".to_string()),
    }
}

fn bulk(text: &str) -> Answer {
    Answer::Bulk(text.as_bytes().to_vec())
}

fn count(n: u64) -> Answer {
    Answer::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// What is told of an index.
pub fn described(info: &IndexInfo) -> Answer {
    let spec = &info.spec;
    let words = [
        ("name", spec.name.as_str()),
        ("metric", spec.metric.name()),
        ("kind", spec.kind.name()),
        ("quantisation", spec.quantisation.name()),
    ];
    let numbers = [
        ("dim", u64::from(spec.dim)),
        ("m", u64::from(spec.m)),
        ("ef_construction", u64::from(spec.ef_construction)),
        ("ef_search", u64::from(spec.ef_search)),
        ("num_sub", u64::from(spec.num_sub)),
        ("rerank_k", u64::from(spec.rerank_k)),
        ("vectors", info.vectors),
        ("waiting", info.waiting),
        ("fresh", info.fresh),
        ("sealed", info.sealed),
        ("segments", info.segments),
        ("postings", info.postings),
        ("dead", info.dead),
        ("memory_bytes", info.memory_bytes),
        ("disk_bytes", info.disk_bytes),
        ("rebuilt", info.rebuilt),
    ];
    let words = words.into_iter().map(|(name, word)| (bulk(name), bulk(word)));
    let numbers = numbers.map(|(name, n)| (bulk(name), count(n)));
    let nodes = Answer::Array(info.nodes.iter().map(|node| count(*node)).collect());
    Answer::Map(words.chain(numbers).chain([(bulk("nodes"), nodes)]).collect())
}

/// What a search has cost.
pub fn cost(answer: &VectorAnswer) -> Answer {
    let VectorAnswer::Found(VectorsFound { hits, cost, .. }) = answer else { return Answer::Nil };
    let counts = [
        ("hits", hits.len() as u64),
        ("distances", cost.distances),
        ("estimates", cost.estimates),
        ("hops", cost.hops),
        ("fetched", cost.fetched),
        ("pages", cost.pages),
        ("matches", cost.matches),
        ("microseconds", cost.micros),
    ];
    let counts = counts.into_iter().map(|(name, n)| (bulk(name), count(n)));
    Answer::Map(counts.chain([(bulk("exact"), Answer::Bool(cost.exact))]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::vector::{IndexKind, VectorsFound};
    use crate::repl::tokens::tokens;

    fn parse(line: &str) -> Result<Option<Request>> {
        let tokens = tokens(line);
        request(tokens[0].text().unwrap(), &tokens[1..])
    }

    fn call(line: &str) -> VectorCall {
        match parse(line).unwrap() {
            Some(Request::Vector(call)) => *call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_become_requests() {
        let VectorCall::Create(spec) = call("VCREATE docs 3 kind hnsw metric cosine") else {
            panic!()
        };
        assert_eq!((spec.dim, spec.metric, spec.kind), (3, Metric::Cosine, IndexKind::Hnsw));
        assert_eq!(call("VDROP docs"), VectorCall::Drop { index: "docs".into() });
        for vector in ["1,2.5,-3", "[1,2.5,-3]", "'[1, 2.5, -3]'", "'1 2.5 -3'"] {
            let VectorCall::Search(search) = call(&format!("VSEARCH docs {vector} k 3 exact"))
            else {
                panic!()
            };
            assert_eq!(search.query, VectorQuery::Vector(Floats::of(&[1.0, 2.5, -3.0])));
            assert_eq!((search.k, search.exact, search.with_payload), (3, true, false));
        }
        let line = "VSEARCH docs NEAR 7 EF 90 FILTER '{\"a\": 1}' PAYLOAD";
        let VectorCall::Search(search) = call(line) else { panic!() };
        assert_eq!(search.query, VectorQuery::Stored(VectorId::new(7)));
        assert!(search.ef == 90 && search.filter.is_some() && search.with_payload);
        let put = parse("VPUT docs 9 1,2 '{\"a\": 1}'").unwrap().unwrap();
        let Request::Write { writes, .. } = put else { panic!() };
        let [Write::PutVector { id, payload, .. }] = &writes[..] else { panic!() };
        assert_eq!((id.get(), &payload[..]), (9, &b"{\"a\": 1}"[..]));
        assert_eq!(parse("VGET docs").unwrap(), None);
        assert_eq!(parse("PUT a b").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told() {
        for (line, part) in [
            ("VCREATE docs many", "whole number"),
            ("VCREATE docs 3 METRIC cosinus", "l2, cosine"),
            ("VCREATE docs 3 SIZE 4", "METRIC, KIND"),
            ("VGET docs seven", "whole number"),
            ("VPUT docs 1 one,two", "numbers between commas"),
            ("VPUT docs 1 []", "numbers between commas"),
            ("VSEARCH docs 1,2 K", "K takes a value"),
            ("VSEARCH docs 1,2 LIMIT 4", "EXACT, PAYLOAD"),
            ("VSEARCH docs 1,2 WORDS body", "WORDS with a field takes a value"),
            ("VSEARCH docs 1,2 FILTER {", "not JSON"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.message().contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn answers_become_replies() {
        let hit = |id, payload: Option<&'static [u8]>| VectorHit {
            payload: payload.map(Bytes::from_static),
            ..VectorHit::new(id, 0.5)
        };
        let hits = vec![hit(8, None), hit(17, Some(b"{}"))];
        let found = VectorAnswer::Found(VectorsFound { hits, ..VectorsFound::default() });
        let json = |told| crate::repl::print::to_json(&reply(found.clone(), told)).to_string();
        assert_eq!(json(Found::Plain), r#"{"17":0.5,"8":0.5}"#);
        assert_eq!(json(Found::WithPayload), r#"{"17":[0.5,"{}"],"8":[0.5,null]}"#);
        // The farther came first in an object, as its id did.
        let listed = r#"[{"distance":0.5,"id":8},{"distance":0.5,"id":17,"payload":"{}"}]"#;
        assert_eq!(json(Found::Listed), listed);
        let stored =
            StoredVector { id: 7, vector: Floats::of(&[1.0, -0.5]), payload: Bytes::new() };
        let got = reply(VectorAnswer::Vectors(vec![Some(stored)]), Found::Listed);
        let got = crate::repl::print::to_json(&got).to_string();
        assert_eq!(got, r#"{"id":7,"vector":"1,-0.5"}"#);
        assert_eq!(reply(VectorAnswer::Vectors(vec![None]), Found::Listed), Answer::Nil);
    }
}
