//! Clients of an index of vectors. A vector tells which write it is of, so that what stands under an id
//! is a register, whoever tells it: a read of the id, or a search.

use crate::clients::{Client, entry_of, fate_of, get, put};
use crate::history::{Fate, Register, Token};
use arqondb::ErrorKind;
use arqondb::base::{CfId, Result};
use arqondb::op::kv::Write;
use arqondb::op::vector::{
    Floats, IndexKind, IndexSpec, Metric, Quantisation, VectorAnswer, VectorCall, VectorId,
    VectorSearch,
};
use arqondb::op::{KvOps, Request, Response};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Ids of the index.
const VECTORS: u64 = 20;
/// From this id on each write of a vector is one of a key as well, most often in another shard.
const BESIDE: u64 = 12;
const NAME: &str = "vectors";
const DIM: usize = 4;
/// Tokens that one number of a vector tells apart: 16-bit floats have them all.
const PART: u64 = 1_024;

/// What an index may be.
pub(crate) const FORMS: [(IndexKind, Quantisation); 5] = [
    (IndexKind::Hnsw, Quantisation::None),
    (IndexKind::Hnsw, Quantisation::Packed),
    (IndexKind::Hnsw, Quantisation::Compact8),
    (IndexKind::DiskHnsw, Quantisation::None),
    (IndexKind::Spfresh, Quantisation::None),
];

fn vector(id: u64, token: Token) -> [f32; DIM] {
    [(token % PART) as f32, (token / PART) as f32, id as f32, 1.0]
}

/// The write that a vector under this id is of.
fn token_of(id: u64, vector: &Floats) -> Token {
    let numbers = vector.to_vec();
    let token = numbers[0] as u64 + PART * numbers[1] as u64;
    assert_eq!(numbers, self::vector(id, token), "vector {id} is none that was put");
    token
}

/// The history's number of an id, and of the key beside it.
fn register_of(id: u64) -> usize {
    100 + id as usize
}

fn beside(id: u64) -> usize {
    200 + id as usize
}

fn key_beside(id: u64) -> Bytes {
    Bytes::from(format!("beside-{id}"))
}

impl Client {
    async fn ask_index(&self, call: VectorCall) -> Result<VectorAnswer> {
        match self.door.call(Request::Vector(Box::new(call))).await? {
            Response::Vector(answer) => Ok(*answer),
            other => panic!("{other:?}"),
        }
    }

    /// Whether there is an index: the first to ask makes it.
    async fn has_index(&mut self) -> bool {
        if !self.has_index {
            let (kind, quantisation) = self.form;
            let spec = IndexSpec::new(NAME, DIM as u32, Metric::L2);
            let spec = IndexSpec { kind, quantisation, ..spec };
            self.has_index = match self.ask_index(VectorCall::Create(spec)).await {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => true,
                Err(error) => {
                    fate_of(&error);
                    false
                }
            };
        }
        self.has_index
    }

    /// Something with vectors.
    pub(crate) async fn vectors(&mut self) {
        if !self.has_index().await {
            return;
        }
        let id = self.rng.below(VECTORS);
        match self.rng.below(9) {
            0..4 => self.put_vector(id).await,
            4..6 => _ = self.read_vector(id).await,
            6 => _ = self.read_beside(id).await,
            _ => {
                let exact = self.rng.one_in(2);
                self.search_vectors(exact).await;
            }
        }
    }

    /// Puts or deletes a vector, and with some what is beside it.
    async fn put_vector(&mut self, id: u64) {
        let token = if self.rng.one_in(6) { 0 } else { self.history.token() };
        let (index, vector_id) = (NAME.to_string(), VectorId::new(id));
        let mut writes = vec![match token {
            0 => Write::DeleteVector { index, id: vector_id },
            token => Write::PutVector {
                index,
                id: vector_id,
                vector: Floats::of(&vector(id, token)),
                payload: Bytes::new(),
            },
        }];
        let mut registers = vec![register_of(id)];
        if id >= BESIDE {
            registers.push(beside(id));
            writes.push(match token {
                0 => Write::Delete { cf: CfId::DEFAULT, key: key_beside(id) },
                token => put(key_beside(id), token),
            });
        }
        let (what, begun) = (Register::Write(token), self.local.now());
        let ats = registers.iter().map(|r| (*r, self.history.begin(*r, begun, what, None)));
        let ats: Vec<(usize, usize)> = ats.collect();
        let request_id = self.rng.one_in(2).then(|| self.id());
        let answer = self.door.call(Request::Write { writes, id: request_id }).await;
        let fate = match answer {
            Ok(Response::Committed { .. }) => Fate::Done(self.local.now()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => fate_of(&error),
        };
        ats.into_iter().for_each(|(register, at)| self.history.end(register, at, what, fate));
    }

    /// Begins reads of these; `end_reads` tells what they have read, if they have.
    fn begin_reads(&self, registers: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
        let begun = self.local.now();
        let begin = |register| self.history.begin(register, begun, Register::Read(0), None);
        registers.map(|register| (register, begin(register))).collect()
    }

    fn end_reads(&self, reads: Vec<(usize, usize)>, found: Option<&dyn Fn(usize) -> Token>) {
        for (register, at) in reads {
            let (token, fate) = match found {
                Some(found) => (found(register), Fate::Done(self.local.now())),
                None => (0, Fate::Failed),
            };
            self.history.end(register, at, Register::Read(token), fate);
        }
    }

    async fn read_vector(&mut self, id: u64) -> Option<Token> {
        let reads = self.begin_reads([register_of(id)].into_iter());
        let ids = vec![VectorId::new(id)];
        let token = match self.ask_index(VectorCall::Get { index: NAME.into(), ids }).await {
            Ok(VectorAnswer::Vectors(all)) => {
                let [stored] = &all[..] else { panic!("one was asked for, not {}", all.len()) };
                Some(stored.as_ref().map_or(0, |stored| token_of(id, &stored.vector)))
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                fate_of(&error);
                None
            }
        };
        match token {
            Some(token) => self.end_reads(reads, Some(&|_| token)),
            None => self.end_reads(reads, None),
        }
        token
    }

    async fn read_beside(&mut self, id: u64) -> Option<Token> {
        let reads = self.begin_reads([beside(id)].into_iter());
        let token = match entry_of(Some(self.door.call(get(key_beside(id))).await)) {
            Ok(entry) => {
                entry.map_or(0, |e| std::str::from_utf8(&e.value).unwrap().parse().unwrap())
            }
            Err(error) => {
                fate_of(&error);
                self.end_reads(reads, None);
                return None;
            }
        };
        self.end_reads(reads, Some(&|_| token));
        Some(token)
    }

    /// Looks for all of them: each that is found, and each that is not, is read.
    async fn search_vectors(&mut self, exact: bool) -> Option<BTreeMap<u64, Token>> {
        let reads = self.begin_reads((0..VECTORS).map(register_of));
        let query = vector(self.rng.below(VECTORS), self.rng.below(4 * PART));
        let search = VectorSearch {
            exact,
            with_vector: true,
            ..VectorSearch::new(NAME, &query, VECTORS as u32)
        };
        let found = match self.ask_index(VectorCall::Search(search)).await {
            Ok(VectorAnswer::Found(found)) => found,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                fate_of(&error);
                self.end_reads(reads, None);
                return None;
            }
        };
        let mut tokens = BTreeMap::new();
        for hit in &found.hits {
            let stored = hit.vector.as_ref().expect("vectors were asked for");
            let apart = stored.to_vec().into_iter().zip(query).map(|(a, b)| (a - b) * (a - b));
            assert_eq!(hit.distance, apart.sum::<f32>(), "the distance of vector {}", hit.id);
            let twice = tokens.insert(hit.id, token_of(hit.id, stored));
            assert!(twice.is_none() && hit.id < VECTORS, "vector {} is found twice", hit.id);
        }
        let in_order = found.hits.is_sorted_by(|a, b| (a.distance, a.id) < (b.distance, b.id));
        assert!(in_order, "hits are not in order");
        let token = |register| tokens.get(&(register as u64 - 100)).copied().unwrap_or(0);
        self.end_reads(reads, Some(&token));
        Some(tokens)
    }

    /// Reads all in every way, when nobody writes: they tell the same. Gives how many are sealed.
    pub(crate) async fn last_vectors(&mut self) -> u64 {
        while !self.has_index().await {}
        let mut there = BTreeMap::new();
        for id in 0..VECTORS {
            let token = loop {
                if let Some(token) = self.read_vector(id).await {
                    break token;
                }
            };
            there.extend((token > 0).then_some((id, token)));
            if id < BESIDE {
                continue;
            }
            let found = loop {
                if let Some(found) = self.read_beside(id).await {
                    break found;
                }
            };
            assert_eq!(found, token, "vector {id} and the key written with it");
        }
        for exact in [true, false] {
            let found = loop {
                if let Some(found) = self.search_vectors(exact).await {
                    break found;
                }
            };
            assert_eq!(found, there, "exact: {exact}");
        }
        loop {
            match self.ask_index(VectorCall::Verify { index: NAME.into() }).await {
                Ok(VectorAnswer::Checked(told)) => {
                    let told = (told.stored, told.missing, told.surplus);
                    assert_eq!(told, (there.len() as u64, 0, 0), "stored, missing, surplus");
                    break;
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => _ = fate_of(&error),
            }
        }
        loop {
            match self.ask_index(VectorCall::Describe { index: NAME.into() }).await {
                Ok(VectorAnswer::Index(info)) => return info.sealed,
                Ok(other) => panic!("{other:?}"),
                Err(error) => _ = fate_of(&error),
            }
        }
    }
}
