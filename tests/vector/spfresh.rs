//! Postings under endless updates: recall and cost on real embeddings, random histories, drift,
//! damage.

use crate::data::{clustered, normals, real};
use crate::oracle::Oracle;
use arqondb::engine::vector::{
    Answer, DistanceMetric, Filter, Postings, SearchRequest, SpfreshConfig, SpfreshIndex,
};
use arqondb::env::Rng;
use arqondb::{Error, ErrorKind, Result};
use std::collections::BTreeMap;

const K: usize = 10;

/// Postings in memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct Map(BTreeMap<u64, Vec<u8>>);

impl Postings for Map {
    fn read(&self, numbers: &[u64], show: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let bytes = |number: &u64| self.0.get(number).map_or(&[][..], Vec::as_slice);
        numbers.iter().try_for_each(|number| show(*number, bytes(number)))
    }

    fn append(&mut self, number: u64, entries: &[u8]) -> Result<()> {
        self.0.entry(number).or_default().extend_from_slice(entries);
        Ok(())
    }

    fn replace(&mut self, number: u64, entries: Option<&[u8]>) -> Result<()> {
        match entries {
            Some(entries) => self.0.insert(number, entries.to_vec()),
            None => self.0.remove(&number),
        };
        Ok(())
    }
}

/// An index, its postings, and the records.
pub(crate) struct World {
    metric: DistanceMetric,
    pub(crate) index: SpfreshIndex,
    pub(crate) postings: Map,
    pub(crate) oracle: Oracle,
}

impl World {
    pub(crate) fn new(config: SpfreshConfig, rows: impl Iterator<Item = (u64, Vec<f32>)>) -> World {
        let oracle = Oracle::of(rows);
        let ids: Vec<u64> = oracle.vectors.keys().copied().collect();
        let floats: Vec<f32> = oracle.vectors.values().flatten().copied().collect();
        let mut postings = Map::default();
        let index = SpfreshIndex::build(config, &ids, &floats, 2, &mut postings).unwrap();
        World { metric: config.metric, index, postings, oracle }
    }

    pub(crate) fn answer(&self, request: &SearchRequest<'_>) -> Answer {
        let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            for id in ids {
                if let Some(vector) = self.oracle.vectors.get(id) {
                    show(*id, vector);
                }
            }
            Ok(())
        };
        self.index.answer(request, &mut fetch, &self.postings).unwrap()
    }

    /// The recall of a request without a filter.
    pub(crate) fn recall(&self, request: &SearchRequest<'_>) -> (f64, Answer) {
        let answer = self.answer(request);
        let (query, k) = (request.query, request.k);
        (self.oracle.judge(self.metric, query, k, |_| true, &answer.hits), answer)
    }

    pub(crate) fn insert(&mut self, id: u64, vector: Vec<f32>) {
        if let Some(old) = self.oracle.vectors.get(&id) {
            self.index.remove(id, old, &mut self.postings).unwrap();
        }
        self.index.insert_many(&[id], &vector, 1, &mut self.postings).unwrap();
        self.oracle.vectors.insert(id, vector);
    }

    fn remove(&mut self, id: u64) {
        if let Some(old) = self.oracle.vectors.remove(&id) {
            self.index.remove(id, &old, &mut self.postings).unwrap();
        }
    }

    pub(crate) fn steps(&mut self, most: usize) -> usize {
        let vectors = &self.oracle.vectors;
        let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            for id in ids {
                if let Some(vector) = vectors.get(id) {
                    show(*id, vector);
                }
            }
            Ok(())
        };
        let mut done = 0;
        while done < most && self.index.step(&mut fetch, &mut self.postings).unwrap() {
            done += 1;
            assert!(done < 10_000, "steps come to an end");
        }
        done
    }

    /// What is in memory agrees with the postings, and every vector is in one of them.
    fn check(&self) {
        let entry = entry_bytes(&self.index);
        assert_eq!(self.index.len(), self.oracle.vectors.len());
        let numbers: Vec<u64> = self.postings.0.keys().copied().collect();
        let written: Vec<u64> = self
            .index
            .posting_numbers()
            .into_iter()
            .filter(|number| self.postings.0.contains_key(number))
            .collect();
        assert_eq!(written, numbers);
        let entries: usize = self.postings.0.values().map(|bytes| bytes.len() / entry).sum();
        assert_eq!(entries as u64, self.index.entries());
        let named: std::collections::BTreeSet<u64> = self
            .postings
            .0
            .values()
            .flat_map(|bytes| bytes.chunks(entry))
            .map(|entry| u64::from_le_bytes(entry[..8].try_into().unwrap()))
            .collect();
        let lost: Vec<_> = self.oracle.vectors.keys().filter(|id| !named.contains(id)).collect();
        assert!(lost.is_empty(), "{lost:?} are in no posting");
    }
}

/// Bytes of an entry: id, code, two factors.
fn entry_bytes(index: &SpfreshIndex) -> usize {
    let SpfreshConfig { dim, code_bytes, .. } = *index.config();
    8 + code_bytes.unwrap_or((dim / 7).clamp(8, 256).min(dim)) + 4
}

#[test]
fn it_finds_the_neighbours_of_real_embeddings() {
    let set = real();
    for metric in DistanceMetric::ALL {
        let config = SpfreshConfig::new(set.dim, metric);
        let mut world = World::new(config, (0..).zip(set.rows().map(<[f32]>::to_vec)));
        world.steps(usize::MAX);
        world.check();
        for (ef, floor) in [(8, 0.7), (16, 0.86), (64, 0.95)] {
            let (mut found, mut pages, mut fetched) = (0.0, 0, 0);
            for query in set.queries() {
                let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, K) };
                let (recall, answer) = world.recall(&request);
                found += recall / set.queries().len() as f64;
                pages += answer.stats.pages_read;
                fetched += answer.stats.distances;
            }
            assert!(found >= floor, "{metric:?} {ef}: {found}");
            assert!(pages <= 100 * ef as u64 && fetched <= 100 * 40, "{pages} {fetched}");
        }
        let replicas = world.index.entries() as f64 / world.index.len() as f64;
        assert!(replicas <= 1.3, "{replicas}");
        assert!(world.postings.0.values().all(|bytes| bytes.len() <= 4096));
    }
}

#[test]
fn random_histories_answer_as_exact_search_does() {
    for seed in 0..9 {
        let mut rng = Rng::new(seed);
        let metric = DistanceMetric::ALL[seed as usize % 3];
        let dim = [2, 8, 24][rng.below(3) as usize];
        let config = SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(dim, metric) };
        let first = (0..80).map(|id| (id * 7, normals(&mut rng.fork(), dim)));
        let mut world = World::new(config, first);
        let mut recalls = Vec::new();
        for at in 0..700 {
            let id = rng.below(500) * 7;
            match rng.below(10) {
                0..5 => world.insert(id, normals(&mut rng, dim)),
                5..7 => world.remove(id),
                7 => drop(world.steps(3)),
                8 if rng.one_in(8) => {
                    let bytes = world.index.to_bytes();
                    world.index = SpfreshIndex::from_bytes(&bytes).unwrap();
                    assert_eq!(world.index.to_bytes(), bytes);
                }
                _ => {
                    let query = normals(&mut rng, dim);
                    let request = SearchRequest { ef: Some(12), ..SearchRequest::new(&query, 5) };
                    recalls.push(world.recall(&request).0);
                    let exact = SearchRequest { exact: true, ..request };
                    assert_eq!(world.recall(&exact).0, 1.0);
                    let accept = |id: u64| id % 3 == seed % 3;
                    let ids: Vec<u64> = (0..3500).filter(|id| accept(*id)).collect();
                    for filter in [Filter::Where(&accept), Filter::Ids(&ids)] {
                        let hits = world.answer(&SearchRequest { filter, ..request }).hits;
                        recalls.push(world.oracle.judge(metric, &query, 5, accept, &hits));
                    }
                }
            }
            if at % 100 == 0 {
                world.check();
            }
        }
        world.steps(usize::MAX);
        world.check();
        assert_eq!(world.index.steps_due(), 0);
        let mean = recalls.iter().sum::<f64>() / recalls.len() as f64;
        assert!(mean >= 0.9, "seed {seed}, {metric:?}, {dim}: {mean}");
    }
}

#[test]
fn a_drifting_distribution_is_followed_without_loss() {
    let dim = 24;
    let mut rng = Rng::new(71);
    let axes: Vec<Vec<f32>> = (0..6).map(|_| normals(&mut rng, dim)).collect();
    // New vectors come from ever another place.
    let mut draw = |round: u64, id: u64| -> Vec<f32> {
        let place = normals(&mut Rng::new(1000 + id % 40 + 7 * (round / 2)), dim);
        let along = normals(&mut rng, axes.len());
        (0..dim)
            .map(|d| {
                let along: f32 = axes.iter().zip(&along).map(|(axis, a)| axis[d] * a).sum();
                2.0 * place[d] + 0.3 * along + if d == 0 { round as f32 } else { 0.0 }
            })
            .collect()
    };
    let config =
        SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(dim, DistanceMetric::L2) };
    let first: Vec<(u64, Vec<f32>)> = (0..2000).map(|id| (id, draw(0, id))).collect();
    let mut world = World::new(config, first.into_iter());
    world.steps(usize::MAX);
    let figures = |world: &World| {
        let queries: Vec<Vec<f32>> = world.oracle.vectors.values().step_by(9).cloned().collect();
        let (mut found, mut reads) = (0.0, 0);
        for query in &queries {
            let request = SearchRequest { ef: Some(16), ..SearchRequest::new(query, K) };
            let (recall, answer) = world.recall(&request);
            found += recall;
            reads += answer.stats.pages_read + answer.stats.distances;
        }
        let count = queries.len() as f64;
        (found / count, reads as f64 / count, world.index.memory_bytes(), world.postings.0.len())
    };
    let at_first = figures(&world);
    let mut next = 2000;
    for round in 1..=20 {
        for _ in 0..200 {
            // The oldest go.
            let oldest = *world.oracle.vectors.keys().next().unwrap();
            world.remove(oldest);
            world.insert(next, draw(round, next));
            next += 1;
        }
        world.steps(usize::MAX);
        world.check();
        let now = figures(&world);
        if round % 5 == 0 {
            // How hard the vectors are changes with them: an index that is built of these alone
            // says how well they can be found.
            let rows = world.oracle.vectors.iter().map(|(id, vector)| (*id, vector.clone()));
            let mut fresh = World::new(config, rows);
            fresh.steps(usize::MAX);
            let fresh = figures(&fresh);
            // Measured: .009 below in round 15, and above it in round 10.
            assert!(
                now.0 >= fresh.0 - 0.015,
                "recall {now:?}, of a fresh one {fresh:?} in {round}"
            );
            assert!(now.0 >= at_first.0 - 0.01, "recall {now:?}, at first {at_first:?} in {round}");
            assert!(now.1 <= 1.15 * fresh.1, "reads {now:?}, of a fresh one {fresh:?} in {round}");
            assert!(
                now.3 as f64 <= 1.15 * fresh.3 as f64,
                "postings {now:?}, {fresh:?} in {round}"
            );
            // Of some dozen centroids the tables have room for twice as many.
            assert!(now.2 as f64 <= 1.5 * fresh.2 as f64, "memory {now:?}, {fresh:?} in {round}");
        }
    }
}

/// Codes are learnt anew while vectors come and go, and the index is stored and read back in the
/// middle of it.
#[test]
fn worn_codes_are_made_anew_a_posting_a_step() {
    let dim = 24;
    let mut rng = Rng::new(77);
    // Each of the two lots varies in directions of its own.
    let mut draw = |lot: usize| -> Vec<f32> {
        let along = normals(&mut rng, dim);
        (0..dim)
            .map(|d| if (d % 2 == 0) == (lot == 0) { 3.0 * along[d] } else { 0.1 * along[d] })
            .collect()
    };
    for metric in DistanceMetric::ALL {
        let config = SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(dim, metric) };
        let first: Vec<(u64, Vec<f32>)> = (0..1500).map(|id| (id, draw(0))).collect();
        let mut world = World::new(config, first.into_iter());
        world.steps(usize::MAX);
        let mut next = 0;
        while !world.index.is_worn() {
            world.remove(next);
            world.insert(next, draw(1));
            next += 1;
        }
        assert!((256..1000).contains(&next), "{next}");
        let queries: Vec<Vec<f32>> = (0..60).map(|_| draw(1)).collect();
        let recall = |world: &World| {
            let ef = Some(world.index.postings());
            let found = queries
                .iter()
                .map(|query| world.recall(&SearchRequest { ef, ..SearchRequest::new(query, K) }).0);
            found.sum::<f64>() / 60.0
        };
        let worn = recall(&world);
        let mut fetched = 0;
        while world.index.is_worn() {
            // By a step, or by the owner when it suits him.
            if metric == DistanceMetric::L2 && world.index.steps_due() == 1 {
                let vectors = &world.oracle.vectors;
                let mut shown = 0;
                let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
                    ids.iter().for_each(|id| show(*id, &vectors[id]));
                    shown += ids.len();
                    Ok(())
                };
                // No more than there is memory for, of all over the index.
                world.index.learn(90, 2, &mut fetch, &world.postings).unwrap();
                assert!((60..=90).contains(&shown), "{shown}");
                let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
                    ids.iter().for_each(|id| show(*id, &vectors[id]));
                    Ok(())
                };
                let codes = world.index.learn(usize::MAX, 2, &mut fetch, &world.postings).unwrap();
                world.index.adopt(codes);
            } else {
                assert_eq!(world.steps(1), 1);
            }
            fetched += 1;
        }
        assert!(world.index.steps_due() > 20 && fetched < 200, "{fetched}");
        let mut rounds = 0;
        while world.index.steps_due() > 0 {
            let bytes = world.index.to_bytes();
            world.index = SpfreshIndex::from_bytes(&bytes).unwrap();
            assert_eq!(world.index.to_bytes(), bytes);
            for _ in 0..10 {
                let vector = world.oracle.vectors[&(next + 3)].clone();
                world.remove(next);
                world.insert(next, vector);
                next = (next + 1) % 1400;
            }
            world.steps(4);
            world.check();
            let found = recall(&world);
            assert!(found >= worn - 0.05, "{metric:?}, round {rounds}: {found} after {worn}");
            rounds += 1;
            assert!(rounds < 200);
        }
        assert!(rounds > 3);
        let rows = world.oracle.vectors.iter().map(|(id, vector)| (*id, vector.clone()));
        let mut fresh = World::new(config, rows);
        fresh.steps(usize::MAX);
        let (now, fresh) = (recall(&world), recall(&fresh));
        assert!(now >= fresh - 0.03, "{metric:?}: {now}, {fresh}");
    }
}

#[test]
fn everything_may_go_and_come_back() {
    let set = clustered(72, 16, 600);
    let rows: Vec<Vec<f32>> = set.rows().map(<[f32]>::to_vec).collect();
    let config =
        SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(16, DistanceMetric::Cosine) };
    let mut world = World::new(config, (0..).zip(rows.iter().cloned()));
    for _ in 0..2 {
        (0..600).for_each(|id| world.remove(id));
        world.steps(usize::MAX);
        world.check();
        assert!(world.index.is_empty() && world.index.postings() <= 1);
        assert!(world.answer(&SearchRequest::new(&rows[0], 3)).hits.is_empty());
        for (id, row) in (0..).zip(&rows) {
            world.insert(id, row.clone());
            world.steps(2);
        }
        world.steps(usize::MAX);
        world.check();
        let mut found = 0.0;
        for query in set.queries() {
            found += world.recall(&SearchRequest { ef: Some(8), ..SearchRequest::new(query, K) }).0;
        }
        assert!(found / 50.0 >= 0.95, "{found}");
    }
}

/// The entry of an id that was put in again elsewhere without a word to the index is far from the
/// query by its code; the true one, which is read later, is not.
#[test]
fn a_stale_code_does_not_hide_the_true_one() {
    let dim = 16;
    let mut rng = Rng::new(76);
    let mut row = |place: f32| -> Vec<f32> {
        normals(&mut rng, dim).iter().map(|x| place + 0.3 * x).collect()
    };
    let rows: Vec<(u64, Vec<f32>)> = (0..400).map(|id| (id, row((id % 8) as f32))).collect();
    let config =
        SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(dim, DistanceMetric::L2) };
    let mut world = World::new(config, rows.into_iter());
    for id in 0..400 {
        let moved = row(((id + 3) % 8) as f32);
        world.index.insert_many(&[id], &moved, 1, &mut world.postings).unwrap();
        world.oracle.vectors.insert(id, moved);
    }
    let all = world.index.postings();
    for ef in [all / 2, all] {
        let mut found = 0.0;
        for id in 0..400 {
            let query = world.oracle.vectors[&id].clone();
            let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(&query, 1) };
            found += world.recall(&request).0;
        }
        assert!(found >= 396.0, "{found} of 400 with {ef} postings");
    }
}

/// Records that went without a word to the index.
#[test]
fn what_has_no_record_is_never_found_and_swept_out() {
    let set = clustered(73, 12, 500);
    let config =
        SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(12, DistanceMetric::L2) };
    let mut world = World::new(config, (0..).zip(set.rows().map(<[f32]>::to_vec)));
    (0..400).for_each(|id| drop(world.oracle.vectors.remove(&id)));
    for query in set.queries().take(20) {
        // As many as match are found all the same.
        world.recall(&SearchRequest { ef: Some(4), ..SearchRequest::new(query, 60) });
    }
    let before = world.index.entries();
    for number in world.index.posting_numbers() {
        let vectors = &world.oracle.vectors;
        let mut fetch = |ids: &[u64], show: &mut dyn FnMut(u64, &[f32])| {
            ids.iter().filter_map(|id| Some((*id, vectors.get(id)?))).for_each(|(i, v)| show(i, v));
            Ok(())
        };
        world.index.mend(number, &mut fetch, &mut world.postings).unwrap();
    }
    assert!(world.index.entries() * 3 < before);
}

#[test]
fn a_range_gives_all_within_it() {
    let set = clustered(74, 16, 2000);
    let config =
        SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(16, DistanceMetric::L2) };
    let world = World::new(config, (0..).zip(set.rows().map(<[f32]>::to_vec)));
    let (mut found, mut expected) = (0, 0);
    for query in set.queries() {
        for within in [0, 1, 30, 200] {
            let truth = world.oracle.nearest(DistanceMetric::L2, query, within + 1, |_| true);
            let limit = (truth[within].0 * 0.999_99) as f32;
            let plain = SearchRequest::new(query, 1000);
            let hits = world.answer(&SearchRequest { distance_max: Some(limit), ..plain }).hits;
            assert!(hits.iter().all(|hit| hit.distance <= limit) && hits.len() <= within);
            found += hits.len();
            expected += within;
        }
    }
    assert!(found as f64 >= 0.97 * f64::from(expected as u32), "{found} of {expected}");
}

#[test]
fn damage_is_a_typed_error() {
    let set = clustered(75, 12, 200);
    let config = SpfreshConfig::new(12, DistanceMetric::L2);
    let mut world = World::new(config, (0..).zip(set.rows().map(<[f32]>::to_vec)));
    let query = &set.queries[..12];
    let request = SearchRequest::new(query, 3);
    let bytes = world.index.to_bytes();
    let mut rng = Rng::new(9);
    for _ in 0..400 {
        let mut damaged = bytes.clone();
        let at = rng.below(bytes.len() as u64) as usize;
        damaged[at] ^= 1 << rng.below(8);
        let kind = SpfreshIndex::from_bytes(&damaged).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Corruption | ErrorKind::Unsupported), "byte {at}");
        assert!(SpfreshIndex::from_bytes(&bytes[..at]).is_err());
    }
    let mut gone =
        |_: &[u64], _: &mut dyn FnMut(u64, &[f32])| Err(Error::new(ErrorKind::Io, "gone"));
    let failed = world.index.answer(&request, &mut gone, &world.postings).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io);
    for posting in world.postings.0.values_mut() {
        posting.pop();
    }
    let mut fetch = |_: &[u64], _: &mut dyn FnMut(u64, &[f32])| Ok(());
    let cut = world.index.answer(&request, &mut fetch, &world.postings).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::Corruption);
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let good = SpfreshConfig::new(4, DistanceMetric::Cosine);
    for bad in [
        SpfreshConfig { dim: 0, ..good },
        SpfreshConfig { dim: 5000, ..good },
        SpfreshConfig { code_bytes: Some(0), ..good },
        SpfreshConfig { posting_bytes: 10, ..good },
        SpfreshConfig { replicas_max: 0, ..good },
        SpfreshConfig { ef_search: 0, ..good },
    ] {
        let refused = SpfreshIndex::build(bad, &[1], &[1.0; 4], 1, &mut Map::default());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
    let build = |ids: &[u64], floats: &[f32]| {
        SpfreshIndex::build(good, ids, floats, 1, &mut Map::default()).map_err(|e| e.kind())
    };
    assert_eq!(build(&[], &[]).unwrap_err(), ErrorKind::Refused);
    assert_eq!(build(&[1], &[1.0; 3]).unwrap_err(), ErrorKind::InvalidArgument);
    assert_eq!(build(&[1], &[0.0; 4]).unwrap_err(), ErrorKind::InvalidArgument);
    assert_eq!(build(&[1], &[f32::NAN; 4]).unwrap_err(), ErrorKind::InvalidArgument);
    assert_eq!(build(&[1], &[1.0; 4]).unwrap().len(), 1);
}

/// Nothing divides equal ones: their posting stays as large as it is, and steps come to an end.
#[test]
fn equal_vectors_are_found_and_steps_come_to_an_end() {
    let (dim, mut rng) = (24, Rng::new(41));
    let config =
        SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(dim, DistanceMetric::L2) };
    let first = (0..400).map(|id| (id, normals(&mut rng.fork(), dim)));
    let mut world = World::new(config, first.collect::<Vec<_>>().into_iter());
    let kinds = [normals(&mut rng, dim), normals(&mut rng, dim)];
    let mut steps = 0;
    for id in 1_000..3_000u64 {
        world.insert(id, kinds[(id % 2) as usize].clone());
        if id % 20 == 0 {
            steps += world.steps(usize::MAX);
        }
    }
    steps += world.steps(usize::MAX);
    assert!(steps < 600 && world.index.steps_due() == 0, "{steps} steps");
    assert!(world.index.entries() < 5_000, "{} entries", world.index.entries());
    for kind in &kinds {
        let hits = world.answer(&SearchRequest::new(kind, K)).hits;
        assert!(hits.len() == K && hits.iter().all(|hit| hit.distance == 0.0), "{hits:?}");
    }
}

/// Far from the mean of all, beside others that are near it, and of kinds that codes were not learnt
/// from: no code tells much of such vectors.
#[test]
fn a_vector_just_inserted_is_found_by_itself() {
    let vector = |n: u64| {
        let mut vector = vec![if n.is_multiple_of(2) { 0.0 } else { 1e4 }, n as f32];
        vector.extend([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        if n > 800 && n.is_multiple_of(3) {
            vector[2 + n as usize % 4] = n as f32 / 10.0;
        }
        vector
    };
    let config = SpfreshConfig { posting_bytes: 1024, ..SpfreshConfig::new(8, DistanceMetric::L2) };
    let mut world = World::new(config, (0..400).map(|n| (n, vector(n))));
    for n in 400..1_600 {
        world.insert(n, vector(n));
        let answer = world.answer(&SearchRequest::new(&vector(n), 1));
        assert_eq!((answer.hits[0].id, answer.hits[0].distance), (n, 0.0));
        if n.is_multiple_of(5) {
            world.steps(1);
        }
    }
}
