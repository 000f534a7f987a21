//! A graph on disk: recall and reads on real embeddings, every promise of an answer, damaged and
//! forged pages.

use crate::data::{Set, clustered, normals, real};
use crate::oracle::Oracle;
use crate::recall::{built, recall_within};
use arqondb::engine::vector::{
    DiskHnswConfig, DiskHnswIndex, DistanceMetric, Filter, HnswConfig, HnswIndex, PAGE_BYTES,
    Pages, SearchRequest,
};
use arqondb::env::Rng;
use arqondb::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering};

const K: usize = 10;

/// Pages in memory, which counts those that are read.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
    read: AtomicU64,
}

impl Memory {
    pub(crate) fn of(graph: HnswIndex) -> Memory {
        Memory::with(graph, &DiskHnswConfig::default(), 2)
    }

    fn with(graph: HnswIndex, config: &DiskHnswConfig, threads: usize) -> Memory {
        let mut bytes = Vec::new();
        let mut take = |page: &[u8]| {
            assert_eq!(page.len(), PAGE_BYTES);
            bytes.extend_from_slice(page);
            Ok(())
        };
        DiskHnswIndex::write(graph, config, threads, &mut take).unwrap();
        Memory { bytes, read: AtomicU64::new(0) }
    }
}

impl Pages for Memory {
    fn count(&self) -> u64 {
        (self.bytes.len() / PAGE_BYTES) as u64
    }

    fn read(&self, pages: &[u64], out: &mut Vec<u8>) -> Result<()> {
        for page in pages {
            self.read.fetch_add(1, Ordering::Relaxed);
            let page = self.bytes.chunks_exact(PAGE_BYTES).nth(*page as usize);
            out.extend_from_slice(page.expect("a page that there is"));
        }
        Ok(())
    }
}

#[test]
fn it_finds_the_neighbours_of_real_embeddings_in_few_reads() {
    let set = real();
    for metric in DistanceMetric::ALL {
        let pages = Memory::of(built(&set, metric));
        let index = DiskHnswIndex::open(&pages).unwrap();
        for (ef, floor, reads_max) in [(10, 0.95, 15.0), (64, 0.98, 21.0), (300, 0.995, 48.0)] {
            let before = pages.read.load(Ordering::Relaxed);
            let mut counted = 0;
            let found = recall_within(&set, metric, 3e-5, |query| {
                let request = SearchRequest { ef: Some(ef), ..SearchRequest::new(query, K) };
                let answer = index.answer(&request, &pages).unwrap();
                counted += answer.stats.pages_read;
                answer.hits
            });
            let reads = pages.read.load(Ordering::Relaxed) - before;
            assert_eq!(reads, counted, "what it says is what it read");
            let each = reads as f64 / set.queries().len() as f64;
            assert!(found >= floor && each <= reads_max, "{metric:?} {ef}: {found} in {each}");
        }
        // 48 bytes of code, factors, guides, and what codes mean.
        let shared = 384 * 384 * 2 + 384 * 256 + 8192;
        assert!(index.memory_bytes() <= 57 * index.len() + shared, "{}", index.memory_bytes());
    }
}

#[test]
fn segments_do_not_depend_on_threads() {
    let set = clustered(61, 24, 900);
    let graph = || built(&set, DistanceMetric::L2);
    let config = DiskHnswConfig { code_bytes: Some(7) };
    let one = Memory::with(graph(), &config, 1);
    assert!(one.bytes == Memory::with(graph(), &config, 3).bytes);
}

#[test]
fn small_odd_and_removed_vectors() {
    let metrics = DistanceMetric::ALL;
    for (count, dim) in [(0, 3), (1, 1), (2, 5), (40, 1), (90, 3), (90, 65), (30, 2100)] {
        let mut set = clustered(62, dim, 90);
        set.base.truncate(count * dim);
        for metric in metrics {
            let mut graph = built(&set, metric);
            // What was removed is left out.
            graph.insert(5_000, &set.queries[..dim]).unwrap();
            assert!(graph.remove(5_000));
            let code_bytes = (dim > 1000).then_some(16);
            let pages = Memory::with(graph, &DiskHnswConfig { code_bytes }, 2);
            let index = DiskHnswIndex::open(&pages).unwrap();
            assert_eq!((index.len(), index.dim(), index.metric()), (count, dim, metric));
            let mut oracle = Oracle::of((0..).zip(set.rows().map(<[f32]>::to_vec)));
            oracle.slack = 2e-3;
            for query in set.queries().take(4) {
                let request = SearchRequest::new(query, 7);
                let hits = index.answer(&request, &pages).unwrap().hits;
                oracle.judge(metric, query, 7, |_| true, &hits);
                let exact = SearchRequest { exact: true, ..request };
                let hits = index.answer(&exact, &pages).unwrap().hits;
                assert_eq!(oracle.judge(metric, query, 7, |_| true, &hits), 1.0);
            }
            let mut shown = 0;
            index
                .for_each(&pages, &mut |id, vector| {
                    let kept = index.get(id, &pages).unwrap().unwrap();
                    assert_eq!(kept, vector);
                    let row = &set.base[id as usize * dim..][..dim];
                    let away = crate::oracle::distance(DistanceMetric::Cosine, vector, row);
                    assert!(away < 1e-4, "{id} is {away} away from what it was");
                    shown += 1;
                    Ok(())
                })
                .unwrap();
            assert_eq!(shown, count);
            assert!(index.get(5_000, &pages).unwrap().is_none());
            assert!(!index.contains(u64::MAX, &pages).unwrap());
        }
    }
}

/// Vectors so small and so large that their squares are no 16-bit numbers.
#[test]
fn numbers_of_any_size_have_their_distances() {
    for size in [1e-18f32, 1e-6, 1e6, 1e17] {
        let mut set = clustered(63, 6, 200);
        set.base.iter_mut().chain(&mut set.queries).for_each(|x| *x *= size);
        let pages = Memory::of(built(&set, DistanceMetric::L2));
        let index = DiskHnswIndex::open(&pages).unwrap();
        for far in [1.0f32, 1e15] {
            // A query far away from all, and one among them.
            let far = if size * far < 1e18 { far } else { 1.0 };
            let query: Vec<f32> = set.queries[..6].iter().map(|x| x * far).collect();
            let hits = index.answer(&SearchRequest::new(&query, 5), &pages).unwrap().hits;
            let truth = Oracle::of((0..).zip(set.rows().map(<[f32]>::to_vec)));
            let truth = truth.nearest(DistanceMetric::L2, &query, 5, |_| true);
            for (hit, (distance, _)) in hits.iter().zip(truth) {
                let off = (f64::from(hit.distance) / distance - 1.0).abs();
                assert!(off < 0.05, "{size} {far}: {hit:?} where {distance} is right");
            }
        }
    }
}

#[test]
fn narrow_filters_read_no_more_than_what_matches_and_the_ids() {
    let set = clustered(64, 24, 6000);
    let metric = DistanceMetric::L2;
    let pages = Memory::of(built(&set, metric));
    let index = DiskHnswIndex::open(&pages).unwrap();
    let mut oracle = Oracle::of((0..).zip(set.rows().map(<[f32]>::to_vec)));
    oracle.slack = 1e-3;
    let directory = 6000u64.div_ceil(340);
    for one_in in [2u64, 10, 100, 1000, 7000] {
        let accept = |id: u64| id.wrapping_mul(0x9E37_79B9) >> 7 & 0xffff < 0x1_0000 / one_in;
        let ids: Vec<u64> = (0..6000).filter(|id| accept(*id)).collect();
        let mut found = 0.0;
        for query in set.queries() {
            for filter in [Filter::Where(&accept), Filter::Ids(&ids)] {
                let request = SearchRequest { filter, ..SearchRequest::new(query, K) };
                let answer = index.answer(&request, &pages).unwrap();
                found += oracle.judge(metric, query, K, accept, &answer.hits);
                let most = 2 * (directory + 32) + 40;
                assert!(answer.stats.pages_read <= most, "{one_in}: {:?}", answer.stats);
            }
        }
        assert!(found / 100.0 >= 0.97, "1 in {one_in}: {found}");
    }
}

fn small() -> (Set, Memory) {
    let set = clustered(65, 12, 120);
    let pages = Memory::of(built(&set, DistanceMetric::Cosine));
    (set, pages)
}

/// Everything that reads, or what the first of it refused.
fn use_all(pages: &Memory, query: &[f32]) -> Result<Vec<u64>> {
    let index = DiskHnswIndex::open(pages)?;
    let plain = SearchRequest::new(query, 20);
    let mut ids = Vec::new();
    index.for_each(pages, &mut |id, _| {
        ids.push(id);
        Ok(())
    })?;
    ids.sort_unstable();
    let even = |id: u64| id.is_multiple_of(64);
    for request in [
        plain,
        SearchRequest { exact: true, ..plain },
        SearchRequest { filter: Filter::Where(&even), ..plain },
        SearchRequest { filter: Filter::Ids(&[3, 50, 9000]), ..plain },
        SearchRequest { distance_max: Some(0.5), ..plain },
    ] {
        let hits = index.answer(&request, pages)?.hits;
        assert!(hits.windows(2).all(|pair| pair[0].distance <= pair[1].distance));
    }
    index.get(50, pages)?;
    index.contains(51, pages)?;
    Ok(ids)
}

#[test]
fn every_damaged_byte_and_every_cut_is_a_typed_error() {
    let (set, mut pages) = small();
    let query = &set.queries[..12];
    let whole = use_all(&pages, query).unwrap();
    let mut rng = Rng::new(5);
    for page in 0..pages.bytes.len() / PAGE_BYTES {
        for _ in 0..12 {
            let at = page * PAGE_BYTES + rng.below(PAGE_BYTES as u64) as usize;
            let kept = pages.bytes[at];
            pages.bytes[at] ^= 1 << rng.below(8);
            let kind = use_all(&pages, query).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::Corruption, "byte {at}");
            pages.bytes[at] = kept;
        }
    }
    // Pages that changed places are whole each.
    let last = pages.bytes.len() - PAGE_BYTES;
    let (head, tail) = pages.bytes.split_at_mut(last);
    tail.swap_with_slice(&mut head[last - PAGE_BYTES..]);
    assert_eq!(use_all(&pages, query).unwrap_err().kind(), ErrorKind::Corruption);
    let (head, tail) = pages.bytes.split_at_mut(last);
    tail.swap_with_slice(&mut head[last - PAGE_BYTES..]);
    assert_eq!(use_all(&pages, query).unwrap(), whole);
    for cut in 0..pages.bytes.len() / PAGE_BYTES {
        let bytes = pages.bytes[..cut * PAGE_BYTES].to_vec();
        let cut = Memory { bytes, ..Memory::default() };
        assert_eq!(use_all(&cut, query).unwrap_err().kind(), ErrorKind::Corruption);
    }
}

/// Pages with right checksums that nobody of ours wrote.
#[test]
fn forged_pages_do_no_harm() {
    let (set, pages) = small();
    let mut rng = Rng::new(6);
    let mut refused = 0;
    for _ in 0..600 {
        let mut forged = Memory { bytes: pages.bytes.clone(), ..Memory::default() };
        let page = rng.below(pages.count()) as usize;
        for _ in 0..1 + rng.below(4) {
            // Where there is something on the page.
            let within = if page == 0 { 48 } else { PAGE_BYTES as u64 - 4 };
            let at = page * PAGE_BYTES + rng.below(within) as usize;
            forged.bytes[at] = [0, 1, 0x7f, 0xff, rng.next_u64() as u8][rng.below(5) as usize];
        }
        let bytes = &mut forged.bytes[page * PAGE_BYTES..][..PAGE_BYTES];
        let sum = arqondb::base::checksum::crc32c_append(0, &(page as u64).to_le_bytes());
        let sum = arqondb::base::checksum::crc32c_append(sum, &bytes[..PAGE_BYTES - 4]);
        bytes[PAGE_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        if let Err(e) = use_all(&forged, &set.queries[..12]) {
            assert!(matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Unsupported), "{e}");
            refused += 1;
        }
    }
    assert!((40..560).contains(&refused), "{refused} refused");
}

/// A disk that fails.
struct Broken;

impl Pages for Broken {
    fn count(&self) -> u64 {
        9
    }

    fn read(&self, _: &[u64], _: &mut Vec<u8>) -> Result<()> {
        Err(Error::new(ErrorKind::Io, "gone"))
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    assert_eq!(DiskHnswIndex::open(&Broken).unwrap_err().kind(), ErrorKind::Io);
    let (set, pages) = small();
    let index = DiskHnswIndex::open(&pages).unwrap();
    let query = &set.queries[..12];
    let failed = index.answer(&SearchRequest::new(query, 3), &Broken).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io);
    for bad in [
        SearchRequest::new(query, 0),
        SearchRequest::new(&query[1..], 3),
        SearchRequest::new(&[f32::NAN; 12], 3),
        SearchRequest { ef: Some(0), ..SearchRequest::new(query, 3) },
    ] {
        let refused = index.answer(&bad, &pages).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
    let write = |graph: HnswIndex, code_bytes| {
        let config = DiskHnswConfig { code_bytes };
        DiskHnswIndex::write(graph, &config, 1, &mut |_| Err(Error::new(ErrorKind::Io, "full")))
    };
    let graph =
        |dim, m| HnswIndex::new(HnswConfig { m, ..HnswConfig::new(dim, DistanceMetric::L2) });
    assert_eq!(write(graph(4, 16), Some(0)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(write(graph(4, 64), None).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(write(graph(5000, 16), None).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(write(graph(4, 16), None).unwrap_err().kind(), ErrorKind::Io);
}

/// The kept file was written by the first version; any machine may read it.
#[test]
fn a_segment_of_version_1_is_read() {
    let path = "tests/data/vector_disk_hnsw_v1.segment";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut index = HnswIndex::new(HnswConfig { m: 4, ..HnswConfig::new(4, DistanceMetric::L2) });
    for id in 0..60u64 {
        index.insert(id * 10, [id % 7, id % 5, id % 3, id].map(|x| x as f32)).unwrap();
    }
    if !path.exists() {
        std::fs::write(&path, Memory::of(index).bytes).unwrap();
        panic!("the golden file was missing; it is written now, look at it and run this again");
    }
    let pages = Memory { bytes: std::fs::read(path).unwrap(), ..Memory::default() };
    let kept = DiskHnswIndex::open(&pages).unwrap();
    for query in [[3.0, 3.0, 1.0, 24.0], [0.0; 4], normals(&mut Rng::new(1), 4).try_into().unwrap()]
    {
        let request = SearchRequest::new(&query, 5);
        let hits = kept.answer(&request, &pages).unwrap().hits;
        assert_eq!(hits, index.exact(&query, 5).unwrap());
    }
}
