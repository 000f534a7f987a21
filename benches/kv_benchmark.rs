//! The seven key-value workloads, on ours alone: `cargo bench --bench kv_benchmark`. Beside other
//! engines they are measured in `benches/rivals`.
//!
//! Keys have 20 bytes; values 100 bytes, or 1 KiB where a memtable of 4 MiB is flushed to tables
//! with LZ4. Writes are with the kernel when they are acknowledged (`os`). Each round begins with
//! a fresh database in a temporary folder.

#![expect(clippy::unwrap_used, reason = "a failed step ends the measurement")]
#![expect(missing_docs, reason = "criterion's macros make public items")]

use arqondb::{DBImpl, Options, SyncLevel, WriteBatch};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tempfile::TempDir;

const SMALL: usize = 10_000;
const LARGE: usize = 100_000;
const BATCH: usize = 100;

fn open(write_buffer_bytes: Option<u64>) -> (TempDir, DBImpl) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { sync: SyncLevel::Os, write_buffer_bytes, ..Options::default() };
    let db = DBImpl::open_with(dir.path(), options).unwrap();
    (dir, db)
}

fn keys(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("key_{i:016}").into_bytes()).collect()
}

/// The same numbers in another order: a step that shares no factor with their count.
fn spread(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    (0..keys.len()).map(|i| &keys[i * 7_919 % keys.len()][..]).collect()
}

/// Half of each hundred bytes repeats the other half, so that LZ4 has something to do.
fn value(bytes: usize, i: usize) -> Vec<u8> {
    let noise = |at: usize| ((i * 31 + at) as u32).wrapping_mul(0x9E37_79B1).to_le_bytes()[2];
    (0..bytes).map(|at| noise(at / 100 * 50 + at % 50)).collect()
}

fn put_all(db: &DBImpl, keys: &[Vec<u8>], values: &[Vec<u8>]) {
    for (key, value) in keys.iter().zip(values.iter().cycle()) {
        db.put(key, value).unwrap();
    }
}

fn put_batches(db: &DBImpl, keys: &[Vec<u8>], values: &[Vec<u8>]) {
    for (chunk, values) in keys.chunks(BATCH).zip(values.chunks(BATCH).cycle()) {
        let bytes = chunk.iter().zip(values).map(|(k, v)| k.len() + v.len() + 8).sum();
        let mut batch = WriteBatch::with_capacity(bytes);
        chunk.iter().zip(values).for_each(|(k, v)| batch.put(k, v));
        db.write(batch).unwrap();
    }
}

fn get_all<'a>(db: &DBImpl, keys: impl Iterator<Item = &'a [u8]>) {
    for key in keys {
        assert!(black_box(db.get(key).unwrap()).is_some());
    }
}

fn in_memory(c: &mut Criterion) {
    let (keys, values): (_, Vec<_>) = (keys(SMALL), (0..1000).map(|i| value(100, i)).collect());
    let mut group = c.benchmark_group("10K x 100 B");
    group.throughput(Throughput::Elements(SMALL as u64)).sample_size(20);
    let fresh = || open(None);
    group.bench_function("sequential put", |b| {
        b.iter_batched_ref(fresh, |(_, db)| put_all(db, &keys, &values), BatchSize::PerIteration);
    });
    group.bench_function("batch put, 100 a batch", |b| {
        let put = |(_, db): &mut (TempDir, DBImpl)| put_batches(db, &keys, &values);
        b.iter_batched_ref(fresh, put, BatchSize::PerIteration);
    });
    let (_dir, db) = fresh();
    put_all(&db, &keys, &values);
    group.bench_function("sequential get", |b| {
        b.iter(|| get_all(&db, keys.iter().map(|key| &key[..])));
    });
    let order = spread(&keys);
    group.bench_function("random get", |b| b.iter(|| get_all(&db, order.iter().copied())));
    group.finish();
}

fn flushed(c: &mut Criterion) {
    let (keys, values): (_, Vec<_>) = (keys(LARGE), (0..1000).map(|i| value(1024, i)).collect());
    let mut group = c.benchmark_group("100K x 1 KiB, flushed");
    group.throughput(Throughput::Elements(LARGE as u64)).sample_size(10);
    let fresh = || open(Some(4 << 20));
    group.bench_function("put + flush", |b| {
        let put = |(_, db): &mut (TempDir, DBImpl)| {
            put_all(db, &keys, &values);
            db.flush().unwrap();
        };
        b.iter_batched_ref(fresh, put, BatchSize::PerIteration);
    });
    group.bench_function("batch put + flush", |b| {
        let put = |(_, db): &mut (TempDir, DBImpl)| {
            put_batches(db, &keys, &values);
            db.flush().unwrap();
        };
        b.iter_batched_ref(fresh, put, BatchSize::PerIteration);
    });
    let (_dir, db) = fresh();
    put_all(&db, &keys, &values);
    db.flush().unwrap();
    let order = spread(&keys);
    group.bench_function("random get", |b| b.iter(|| get_all(&db, order.iter().copied())));
    group.finish();
}

criterion_group!(benches, in_memory, flushed);
criterion_main!(benches);
