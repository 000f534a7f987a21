//! `kill -9` while vectors are loaded: by streams, one by one, beside keys, and deleted again.
//!
//! What was acknowledged is there; what was not is there whole or not at all; a search finds just what
//! is stored.

use crate::number_from;
use crate::server::Server;
use arqondb::env::Rng;
use arqondb::rpc::pb;
use arqondb::rpc::pb::arqon_db_client::ArqonDbClient;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tonic::transport::{Channel, Endpoint};

const NAME: &str = "docs";
const DIM: usize = 16;
/// Clients that write at a time, and ids that each writes to.
const WRITERS: u64 = 3;
const IDS: u64 = 6_000;
/// Acknowledged vectors of one round, at most.
const ACKNOWLEDGED_MAX: u64 = 9_000;
/// Vectors asked for in one call.
const TOGETHER: usize = 500;
/// Vectors of one stream, at most: more than a server writes together.
const STREAM_MAX: u64 = 700;

type Stub = ArqonDbClient<Channel>;

async fn stub(server: &Server) -> Stub {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap();
    ArqonDbClient::new(endpoint.connect().await.unwrap())
}

/// The vector that write number `version` gives an id: no two are alike.
fn vector(id: u64, version: u64) -> Vec<f32> {
    let mut rng = Rng::new(id.wrapping_mul(0x9E37_79B9) ^ (version << 40));
    (0..DIM).map(|_| rng.below(2_000) as f32 - 1_000.0).collect()
}

fn payload(version: u64) -> String {
    format!("{{\"version\":{version}}}")
}

/// What one writer did to its ids.
struct Ledger {
    writer: u64,
    version: u64,
    /// By id the version that was acknowledged last, `None` if that was a delete, and what was tried
    /// since without an answer.
    ids: BTreeMap<u64, (Option<u64>, Vec<Option<u64>>)>,
}

impl Ledger {
    fn new(writer: u64) -> Ledger {
        Ledger { writer, version: 0, ids: BTreeMap::new() }
    }

    fn try_to(&mut self, id: u64, to: Option<u64>) {
        self.ids.entry(id).or_default().1.push(to);
    }

    fn acknowledged(&mut self, id: u64, to: Option<u64>) {
        self.ids.insert(id, (to, Vec::new()));
    }

    /// Writes until the server is gone.
    async fn write_until_cut(mut self, mut stub: Stub, seed: u64, gate: Arc<Gate>) -> Ledger {
        let mut rng = Rng::new(seed);
        loop {
            let first = rng.below(IDS);
            let done = match rng.below(10) {
                0 => self.delete(&mut stub, first).await,
                1..4 => self.put_with_key(&mut stub, first).await,
                _ => self.stream(&mut stub, first, 1 + rng.below(STREAM_MAX)).await,
            };
            match done {
                Some(vectors) => gate.count(vectors),
                None => return self,
            }
        }
    }

    fn id(&self, n: u64) -> u64 {
        (self.writer << 32) | (n % IDS)
    }

    /// A stream of vectors under ids that follow each other; how many were acknowledged.
    async fn stream(&mut self, stub: &mut Stub, first: u64, count: u64) -> Option<u64> {
        self.version += 1;
        let version = self.version;
        let ids: Vec<u64> = (first..first + count).map(|n| self.id(n)).collect();
        ids.iter().for_each(|id| self.try_to(*id, Some(version)));
        let items: Vec<_> = ids
            .iter()
            .map(|id| pb::VectorBatchPutRequest {
                index_name: NAME.into(),
                vector_id: *id,
                vector: vector(*id, version),
                payload: payload(version),
            })
            .collect();
        let answer = stub.vector_batch_put(futures::stream::iter(items)).await.ok()?.into_inner();
        assert!(answer.written <= count, "{answer:?}");
        // One that is told as failed may have been written all the same, if the server was dying.
        let failed: Vec<u64> = answer.errors.iter().map(|error| error.vector_id).collect();
        for id in ids.iter().filter(|id| !failed.contains(id)) {
            self.acknowledged(*id, Some(version));
        }
        Some(answer.written)
    }

    /// A vector and a key in one batch.
    async fn put_with_key(&mut self, stub: &mut Stub, n: u64) -> Option<u64> {
        self.version += 1;
        let (id, version) = (self.id(n), self.version);
        self.try_to(id, Some(version));
        let put = pb::VectorPutOp {
            index_name: NAME.into(),
            vector_id: id,
            vector: vector(id, version),
            payload: payload(version),
        };
        let key = pb::PutOp {
            key: format!("beside:{id}").into(),
            value: version.to_string().into(),
            ..Default::default()
        };
        let op = |op| pb::WriteOp { op: Some(op) };
        let ops = vec![op(pb::write_op::Op::VectorPut(put)), op(pb::write_op::Op::Put(key))];
        stub.batch_write(pb::BatchWriteRequest { ops, request_id: None }).await.ok()?;
        self.acknowledged(id, Some(version));
        Some(1)
    }

    async fn delete(&mut self, stub: &mut Stub, n: u64) -> Option<u64> {
        let id = self.id(n);
        self.try_to(id, None);
        let index_name = NAME.into();
        let delete = pb::VectorDeleteRequest { index_name, vector_id: id, request_id: None };
        stub.vector_delete(delete).await.ok()?;
        self.acknowledged(id, None);
        Some(1)
    }

    /// Looks at every id; gives how many vectors there are, and how many a search with the index's own
    /// settings missed.
    async fn verify(&mut self, stub: &mut Stub) -> (u64, u64) {
        let (mut there, mut missed) = (0, 0);
        let ids: Vec<u64> = self.ids.keys().copied().collect();
        for ids in ids.chunks(TOGETHER) {
            let found = fetch(stub, ids).await;
            // Of each version: whether it is stored.
            let mut versions = Vec::new();
            for id in ids {
                let (sure, maybe) = &self.ids[id];
                let version = found.get(id).map(|(version, _)| *version);
                assert!(
                    version == *sure || maybe.contains(&version),
                    "vector {id} is {version:?}; acknowledged {sure:?}, tried {maybe:?}"
                );
                if let Some((version, numbers)) = found.get(id) {
                    there += 1;
                    assert_eq!(*numbers, vector(*id, *version), "vector {id} is not whole");
                    versions.push((*id, *version, true));
                }
                // What it was, or might have become.
                let others = maybe.iter().chain([sure]).flatten().filter(|v| Some(**v) != version);
                versions.extend(others.map(|other| (*id, *other, false)));
                self.ids.insert(*id, (version, Vec::new()));
            }
            for versions in versions.chunks(TOGETHER) {
                let exact = nearest(stub, versions, true).await;
                let walked = nearest(stub, versions, false).await;
                for (n, (id, version, is_stored)) in versions.iter().enumerate() {
                    let own = Some((*id, 0.0));
                    let what = format!("vector {id} as write {version} made it: {:?}", exact[n]);
                    assert_eq!(exact[n] == own, *is_stored, "{what}");
                    missed += u64::from(*is_stored && walked[n] != own);
                }
            }
        }
        (there, missed)
    }
}

/// The vectors of some ids: their versions and numbers.
async fn fetch(stub: &mut Stub, ids: &[u64]) -> BTreeMap<u64, (u64, Vec<f32>)> {
    let get = pb::VectorGetRequest {
        index_name: NAME.into(),
        vector_ids: ids.to_vec(),
        ..Default::default()
    };
    let vectors = stub.vector_get(get).await.unwrap().into_inner().vectors;
    let parsed = vectors.into_iter().map(|one| {
        let text = one.payload.trim_start_matches("{\"version\":").trim_end_matches('}');
        let version = text.parse::<u64>().expect("the payload that was written");
        (one.vector_id, (version, one.vector))
    });
    parsed.collect()
}

/// What is nearest to each of some versions of vectors.
async fn nearest(
    stub: &mut Stub,
    versions: &[(u64, u64, bool)],
    exact: bool,
) -> Vec<Option<(u64, f32)>> {
    let search = |(id, version, _): &(u64, u64, bool)| pb::VectorSearchRequest {
        index_name: NAME.into(),
        query: vector(*id, *version),
        k: 1,
        exact,
        ..Default::default()
    };
    let searches = versions.iter().map(search).collect();
    let request = pb::VectorBatchSearchRequest { searches, read_options: None };
    let outcomes = stub.vector_batch_search(request).await.unwrap().into_inner().outcomes;
    assert_eq!(outcomes.len(), versions.len());
    let first = |outcome: pb::VectorSearchOutcome| {
        let results = outcome.answer.expect("an answer").results;
        results.first().map(|first| (first.id, first.distance))
    };
    outcomes.into_iter().map(first).collect()
}

/// Tells when enough vectors are acknowledged.
struct Gate {
    left: AtomicU64,
    reached: Notify,
}

impl Gate {
    fn count(&self, vectors: u64) {
        let left = |left: u64| Some(left.saturating_sub(vectors));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        if before.is_ok_and(|before| before > 0 && before <= vectors) {
            self.reached.notify_one();
        }
    }
}

async fn round(folder: &Path, ledgers: Vec<Ledger>, rng: &mut Rng) -> Vec<Ledger> {
    let server = Server::start(folder, "always");
    let target = 1 + rng.below(ACKNOWLEDGED_MAX);
    let gate = Arc::new(Gate { left: AtomicU64::new(target), reached: Notify::new() });
    let mut writers = Vec::new();
    for ledger in ledgers {
        let (stub, seed) = (stub(&server).await, rng.next_u64());
        writers.push(tokio::spawn(ledger.write_until_cut(stub, seed, gate.clone())));
    }
    gate.reached.notified().await;
    // Nobody else is at a stopping place now: their streams are cut wherever they are.
    server.kill();
    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.await.unwrap());
    }

    let server = Server::start(folder, "always");
    let (mut stub, mut there, mut missed) = (stub(&server).await, 0, 0);
    for ledger in &mut ledgers {
        let (vectors, late) = ledger.verify(&mut stub).await;
        there += vectors;
        missed += late;
    }
    let verify = pb::VerifyVectorIndexRequest { index_name: NAME.into() };
    let checked = stub.verify_vector_index(verify).await.unwrap().into_inner();
    assert_eq!((checked.stored, checked.missing, checked.surplus), (there, 0, 0));
    assert!(
        missed * 200 <= there,
        "of {there} vectors {missed} were not found by their own numbers"
    );
    println!(
        "vectors: killed after {target}, reopened in {} ms, {there} vectors, none lost, {missed} \
         missed by a walk",
        server.ready_after.as_millis()
    );
    server.kill();
    ledgers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_vectors_survive_kill_9_under_bulk_load() {
    let rounds = number_from("ARQON_KILL_ROUNDS").unwrap_or(6).div_ceil(2);
    let seed = number_from("ARQON_KILL_SEED").unwrap_or_else(arqondb::env::rng::entropy);
    println!("vectors: {rounds} kills, seed {seed}");
    let mut rng = Rng::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), "always");
    let create = pb::CreateVectorIndexRequest {
        index_name: NAME.into(),
        config: Some(pb::VectorIndexConfig { dim: DIM as u32, ..Default::default() }),
    };
    stub(&server).await.create_vector_index(create).await.unwrap();
    server.kill();
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(Ledger::new).collect();
    for _ in 0..rounds {
        ledgers = round(folder.path(), ledgers, &mut rng).await;
    }
}
