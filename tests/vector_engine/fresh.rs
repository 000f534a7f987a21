//! A search sees what was acknowledged before it.

use crate::world::{NAME, create, open, search, spec};
use arqondb::env::{Rng, SimDisk};
use arqondb::op::vector::{IndexKind, IndexSpec, Metric, VectorSearch};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_search_sees_an_acknowledged_vector_at_once_every_time() {
    for (kind, rounds) in
        [(IndexKind::Hnsw, 10_000), (IndexKind::DiskHnsw, 5_000), (IndexKind::Spfresh, 5_000)]
    {
        sees_at_once(kind, rounds);
    }
}

fn sees_at_once(kind: IndexKind, rounds: u64) {
    let db = open(&SimDisk::new());
    create(&db, IndexSpec { kind, ..spec(Metric::L2) });
    let mut rng = Rng::new(9);
    for round in 0..rounds {
        let id = rng.below(2_000);
        // Far from all others, and another one each time.
        let vector = [round as f32, 1e3, 0.0, 0.0, 0.0, 0.0, 0.0, id as f32];
        if rng.below(4) == 0 {
            db.delete_vector(NAME, id).unwrap();
            let found = search(&db, VectorSearch::new(NAME, &vector, 3));
            assert!(found.iter().all(|(found, _)| *found != id), "{kind:?}, round {round}");
            continue;
        }
        db.put_vector(NAME, id, &vector, b"").unwrap();
        let found = search(&db, VectorSearch::new(NAME, &vector, 1));
        assert_eq!(found, [(id, 0.0)], "{kind:?}, round {round}");
    }
}

#[test]
fn searches_beside_writers_see_what_each_writer_was_told() {
    let db = open(&SimDisk::new());
    create(&db, spec(Metric::L2));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u64)
            .map(|writer| {
                let db = &db;
                scope.spawn(move || {
                    for n in 0..1_500u64 {
                        let id = (writer << 32) | (n % 200);
                        let vector = [writer as f32 * 1e4, n as f32, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
                        db.put_vector(NAME, id, &vector, b"").unwrap();
                        let found = search(db, VectorSearch::new(NAME, &vector, 1));
                        assert_eq!(found, [(id, 0.0)]);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let mut searches = 0;
            while !ended.load(Ordering::Relaxed) {
                let found = search(&db, VectorSearch::new(NAME, &[1.0; 8], 50));
                let mut ids: Vec<u64> = found.iter().map(|(id, _)| *id).collect();
                assert!(found.windows(2).all(|w| w[0].1 <= w[1].1));
                ids.sort_unstable();
                ids.dedup();
                assert_eq!(ids.len(), found.len(), "an id twice");
                searches += 1;
            }
            assert!(searches > 10);
        });
        for writer in writers {
            writer.join().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
    });
}
