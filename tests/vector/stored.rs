//! Indexes as bytes: they come back as they were, every damage is noticed, and files of version 1
//! stay readable.

use crate::data::{clustered, normals};
use crate::recall::built;
use arqondb::ErrorKind;
use arqondb::engine::vector::{
    DistanceMetric, Hit, HnswConfig, HnswIndex, PackedIndex, PqConfig, PqHnswConfig, PqHnswIndex,
};
use arqondb::env::Rng;
use std::path::Path;

fn hits(index: &HnswIndex, queries: &[Vec<f32>]) -> Vec<Vec<Hit>> {
    queries.iter().map(|query| index.search(query, 5, None).unwrap()).collect()
}

fn queries(dim: usize) -> Vec<Vec<f32>> {
    let mut rng = Rng::new(8);
    (0..10).map(|_| normals(&mut rng, dim)).collect()
}

#[test]
fn an_index_comes_back_as_it_was_and_goes_on() {
    for metric in DistanceMetric::ALL {
        let set = clustered(41, 20, 600);
        let mut index = built(&set, metric);
        // Some dead and some free slots.
        (0..70).for_each(|id| assert!(index.remove(id)));
        index.repair(1);
        (100..120).for_each(|id| assert!(index.remove(id)));
        let mut back = HnswIndex::from_bytes(&index.to_bytes()).unwrap();
        assert_eq!(back.to_bytes(), index.to_bytes());
        assert_eq!((back.len(), back.config()), (index.len(), index.config()));
        let queries = queries(20);
        assert_eq!(hits(&back, &queries), hits(&index, &queries));
        for both in [&mut back, &mut index] {
            both.insert_many(&[1, 2, 9000], &set.base[..60], 1).unwrap();
        }
        assert_eq!(hits(&back, &queries), hits(&index, &queries));

        let pq =
            PqConfig { num_sub: 10, num_centroids: 16, max_iter: 3, ..PqConfig::new(20, metric) };
        let again = HnswIndex::from_bytes(&back.to_bytes()).unwrap();
        let index = PqHnswIndex::from_hnsw(back, pq, 30).unwrap();
        // On whatever number of threads codes are learnt, they are the same.
        let threads = PqHnswIndex::from_hnsw_on(again, pq, 30, 3).unwrap();
        assert_eq!(threads.to_bytes(), index.to_bytes());
        let mut back = PqHnswIndex::from_bytes(&index.to_bytes()).unwrap();
        assert_eq!(back.to_bytes(), index.to_bytes());
        for query in &queries {
            let expected = index.search(query, 5, Some(20)).unwrap();
            assert_eq!(back.search(query, 5, Some(20)).unwrap(), expected);
        }
        back.insert(5, &set.base[..20]).unwrap();
    }
}

#[test]
fn empty_and_untrained_indexes_come_back() {
    let config = HnswConfig::new(4, DistanceMetric::Cosine);
    let mut index = HnswIndex::from_bytes(&HnswIndex::new(config).to_bytes()).unwrap();
    assert!(index.is_empty());
    index.insert(1, [1.0; 4]).unwrap();
    let config = PqHnswConfig::new(4, DistanceMetric::L2);
    let mut index = PqHnswIndex::new(config);
    index.insert(1, [1.0; 4]).unwrap();
    let back = PqHnswIndex::from_bytes(&index.to_bytes()).unwrap();
    assert!(!back.is_trained() && back.config() == &config);
    assert_eq!(back.search(&[1.0; 4], 1, None).unwrap()[0].id, 1);
}

#[test]
fn a_packed_graph_comes_back_as_it_was() {
    for metric in DistanceMetric::ALL {
        for (count, dim) in [(0, 3), (1, 5), (300, 18)] {
            let mut set = clustered(42, dim, 300);
            set.base.truncate(count * dim);
            let packed = PackedIndex::from_hnsw(built(&set, metric), 1).unwrap();
            let bytes = packed.to_bytes();
            let back = PackedIndex::from_bytes(&bytes).unwrap();
            assert!(back.to_bytes() == bytes && back.config() == packed.config());
            for query in queries(dim) {
                let expected = packed.search(&query, 7, None).unwrap();
                assert_eq!(back.search(&query, 7, None).unwrap(), expected);
            }
        }
    }
}

#[test]
fn a_packed_graph_notices_damage_and_survives_forgery() {
    let set = clustered(43, 6, 60);
    let bytes = PackedIndex::from_hnsw(built(&set, DistanceMetric::L2), 1).unwrap().to_bytes();
    let mut rng = Rng::new(3);
    let mut refused = 0;
    for _ in 0..2000 {
        let at = rng.below(bytes.len() as u64) as usize;
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << rng.below(8);
        let noticed = is_noticed(PackedIndex::from_bytes(&damaged), |i| i.to_bytes() == bytes);
        assert!(noticed, "byte {at}");
        assert!(PackedIndex::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        let mut forged = bytes.clone();
        let at = at.max(20);
        forged[at] = [0, 1, 0x7f, 0xff, rng.next_u64() as u8][rng.below(5) as usize];
        seal(&mut forged);
        match PackedIndex::from_bytes(&forged) {
            Ok(index) => drop(index.search(&set.queries[..6], 20, Some(30)).unwrap()),
            Err(e) => {
                assert!(matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Unsupported), "{e}");
                refused += 1;
            }
        }
    }
    assert!((50..1950).contains(&refused), "{refused} refused");
}

/// A golden file: `hnsw` or `pq_hnsw`.
fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    std::fs::read(folder.join(format!("vector_{name}_v1.segment")))
        .expect("the golden file is part of the repository")
}

/// The golden files hold 38 vectors of few whole numbers, linked by an earlier build: which links are
/// chosen may change, what a file says may not.
#[test]
fn files_of_version_1_are_read_and_written() {
    let vector = |id: u64| [id % 7, id % 5, id % 3, id].map(|x| x as f32);
    let ids: Vec<u64> = (1..40).filter(|id| *id != 7).collect();

    let kept = golden("hnsw");
    let index = HnswIndex::from_bytes(&kept).unwrap();
    assert!(index.to_bytes() == kept, "the bytes of version 1 have changed: it needs a new one");
    assert_eq!(index.len(), ids.len());
    for id in &ids {
        let hits = index.search(&vector(*id), 1, None).unwrap();
        assert_eq!((hits[0].id, hits[0].distance), (id * 10, 0.0));
    }

    let kept = golden("pq_hnsw");
    let coded = PqHnswIndex::from_bytes(&kept).unwrap();
    assert!(coded.to_bytes() == kept, "the bytes of version 1 have changed: it needs a new one");
    assert_eq!(coded.len(), ids.len() + 1);
    let hits = coded.search(&[1.0, 2.0, 3.0, 4.0], 1, None).unwrap();
    assert_eq!((hits[0].id, hits[0].distance), (3, 0.0));
    for id in &ids {
        let hits = coded.search(&vector(*id), 1, None).unwrap();
        assert_eq!((hits[0].id, hits[0].distance), (id * 10, 0.0));
    }
}

/// Whether damaged bytes are refused with a typed error, or hold the same index.
fn is_noticed<T>(read: arqondb::Result<T>, is_same: impl Fn(&T) -> bool) -> bool {
    match read {
        Ok(index) => is_same(&index),
        Err(e) => matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Unsupported),
    }
}

#[test]
fn every_damaged_byte_and_every_cut_is_noticed() {
    let (plain, coded) = (golden("hnsw"), golden("pq_hnsw"));
    for bytes in [&plain, &coded] {
        let is_coded = bytes.len() == coded.len();
        let check = |damaged: &[u8]| match is_coded {
            true => is_noticed(PqHnswIndex::from_bytes(damaged), |i| &i.to_bytes() == bytes),
            false => is_noticed(HnswIndex::from_bytes(damaged), |i| &i.to_bytes() == bytes),
        };
        assert!(check(bytes));
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                assert!(check(&damaged), "byte {at} changed by {flip:#x}");
            }
            assert!(HnswIndex::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
            assert!(PqHnswIndex::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
        let longer = [bytes, &[0u8; 5][..]].concat();
        assert!(HnswIndex::from_bytes(&longer).is_err());
    }
    // One kind is not another.
    assert_eq!(PqHnswIndex::from_bytes(&plain).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(HnswIndex::from_bytes(&coded).unwrap_err().kind(), ErrorKind::Corruption);
}

/// Bytes with right checksums that nobody of ours wrote: whatever they say, a reader refuses them
/// or makes an index that can be used.
#[test]
fn forged_bytes_do_no_harm() {
    let mut rng = Rng::new(77);
    let mut refused = 0;
    for bytes in [golden("hnsw"), golden("pq_hnsw")] {
        for _ in 0..3000 {
            let mut forged = bytes.clone();
            for _ in 0..1 + rng.below(3) {
                let at = 20 + rng.below(forged.len() as u64 - 20) as usize;
                forged[at] = [0, 1, 2, 0x7f, 0xff, rng.next_u64() as u8][rng.below(6) as usize];
            }
            seal(&mut forged);
            let query = [1.0, 2.0, 0.0, 9.0];
            if let Ok(mut index) = HnswIndex::from_bytes(&forged) {
                index.search(&query, 50, Some(100)).unwrap();
                index.insert(5, query).unwrap();
                let ids: Vec<u64> = index.ids().take(20).collect();
                ids.into_iter().for_each(|id| assert!(index.remove(id)));
                index.repair(1);
            } else if let Ok(index) = PqHnswIndex::from_bytes(&forged) {
                index.search(&query, 50, Some(100)).unwrap();
            } else {
                refused += 1;
            }
        }
    }
    assert!((600..5400).contains(&refused), "{refused} refused");
}

/// Sets every checksum right, as far as the lengths lead.
fn seal(bytes: &mut [u8]) {
    let mut at = 20;
    while at + 12 <= bytes.len() {
        let len = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let Some(end) = usize::try_from(len).ok().and_then(|len| (at + 12).checked_add(len)) else {
            return;
        };
        if end > bytes.len() {
            return;
        }
        let sum = crc(crc(0, &bytes[at..at + 8]), &bytes[at + 12..end]);
        bytes[at + 8..at + 12].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

fn crc(sum: u32, bytes: &[u8]) -> u32 {
    arqondb::base::checksum::crc32c_append(sum, bytes)
}
