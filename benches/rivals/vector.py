"""Vector indexes beside hnswlib, usearch and faiss: recall@10 and queries a second together.

    python3 -m venv venv && venv/bin/pip install numpy hnswlib usearch faiss-cpu
    cargo build --release --no-default-features --bin vector
    venv/bin/python vector.py --set deb384 --data DIR --ours target/release/vector \\
        --rivals hnswlib,faiss,usearch > figures.jsonl
    venv/bin/python vector.py --set synth128 --data DIR --ours target/release/vector --churn

Sets: `deb384` needs DIR/debvec384.f16 and DIR/queries_dev.f16 (16-bit floats, 384 a row, compared by
cosine); `synth128` needs DIR/synth128_base.u8 and DIR/synth128_q.u8 (bytes, 128 a row, L2). The
true answers are computed here, in double precision.

One thread, processor time, M 16, ef_construction 200. The engines take turns at each ef, several
rounds; the best round counts. The queries a second at a recall are interpolated between the two
nearest points, in their logarithm; so are the microseconds within which half and 99 % of the queries
are answered one by one (of the rivals with the call from Python), of the best round each. Reads are pages of 4 KiB and vectors fetched, each counted once.
Filters match 50, 10, 1 and 0.1 % of the vectors; their cost is over that of exact search over the
matches in memory, and by the same index. With `--kept FOLDER` indexes that were built before are read
from there and the others left there, so that a run of measurements alone can be short. With `--churn`,
in place of all else, 15,000 vectors live and a fifth of them is replaced six times: recall against the
live set, queries and insertions a second in each round.

JSON lines go to standard output, tables to standard error.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np

K = 10
EFS = [16, 24, 32, 40, 48, 64, 80, 100, 150, 200, 300, 400, 600]
OURS = ["hnsw", "packed", "pq", "compact", "disk", "spfresh", "exact"]
# What an ef means differs: of `spfresh` it is the postings read, `exact` has none.
OWN_EFS = {
    "disk": [1, 16, 32, 48, 64, 100, 150, 200, 300, 400, 600],
    "spfresh": [16, 32, 48, 64, 80, 100, 128, 160, 200, 300, 400],
    "exact": [1],
}
FILTERED = {"hnsw": 64, "packed": 64, "compact": 64, "disk": 64, "spfresh": 128}
ONE_IN = [2, 10, 100, 1000]
RECALLS = [0.90, 0.95, 0.99]
READ_RECALLS = [0.90, 0.95, 0.98]


def load(name, folder):
    if name == "deb384":
        read = lambda f: np.fromfile(folder / f, np.float16).reshape(-1, 384).astype(np.float32)
        return read("debvec384.f16"), read("queries_dev.f16"), "cosine"
    read = lambda f: np.fromfile(folder / f, np.uint8).reshape(-1, 128).astype(np.float32)
    return read("synth128_base.u8"), read("synth128_q.u8"), "l2"


def true_rows(base, queries, metric):
    b, q = base.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        b /= np.linalg.norm(b, axis=1)[:, None]
    out = np.empty((len(q), K), np.uint32)
    squares = (b * b).sum(1)
    for i, query in enumerate(q):
        far = -(b @ query) if metric == "cosine" else squares - 2 * (b @ query)
        near = np.argpartition(far, 4 * K)[: 4 * K]
        out[i] = near[np.lexsort((near, far[near]))][:K]
    return out


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Hnswlib:
    name = "hnswlib"

    def __init__(self, base, metric):
        import hnswlib

        self.index = hnswlib.Index(space=metric, dim=base.shape[1])
        self.index.init_index(
            max_elements=len(base), M=16, ef_construction=200, allow_replace_deleted=True
        )
        self.index.add_items(base, num_threads=1)
        self.index.set_num_threads(1)

    def save(self, path):
        self.index.save_index(path)

    @classmethod
    def load(cls, path, base, metric):
        import hnswlib

        self = cls.__new__(cls)
        self.index = hnswlib.Index(space=metric, dim=base.shape[1])
        self.index.load_index(path)
        self.index.set_num_threads(1)
        return self

    def replace(self, gone, new, rows):
        for label in gone:
            self.index.mark_deleted(label)
        self.index.add_items(rows, new, num_threads=1, replace_deleted=True)

    def search(self, queries, ef):
        self.index.set_ef(ef)
        return self.index.knn_query(queries, K, num_threads=1)[0]


class Faiss:
    name = "faiss"

    def __init__(self, base, metric):
        import faiss

        faiss.omp_set_num_threads(1)
        # faiss has no cosine: the inner product of unit vectors is one.
        self.is_cosine = metric == "cosine"
        kind = faiss.METRIC_INNER_PRODUCT if self.is_cosine else faiss.METRIC_L2
        base = unit(base) if self.is_cosine else base
        self.index = faiss.IndexHNSWFlat(base.shape[1], 16, kind)
        self.index.hnsw.efConstruction = 200
        self.index.add(base)

    def save(self, path):
        import faiss

        faiss.write_index(self.index, path)

    @classmethod
    def load(cls, path, base, metric):
        import faiss

        faiss.omp_set_num_threads(1)
        self = cls.__new__(cls)
        self.is_cosine, self.index = metric == "cosine", faiss.read_index(path)
        return self

    def search(self, queries, ef):
        self.index.hnsw.efSearch = ef
        queries = unit(queries) if self.is_cosine else queries
        return self.index.search(queries, K)[1]


class Usearch:
    name = "usearch"

    def __init__(self, base, metric):
        from usearch.index import Index

        space = "cos" if metric == "cosine" else "l2sq"
        self.index = Index(ndim=base.shape[1], metric=space, dtype="f32", connectivity=16,
                           expansion_add=200, expansion_search=64)
        self.index.add(np.arange(len(base)), base, threads=1)

    def save(self, path):
        self.index.save(path)

    @classmethod
    def load(cls, path, base, metric):
        from usearch.index import Index

        self = cls.__new__(cls)
        self.index = Index.restore(path)
        return self

    def replace(self, gone, new, rows):
        self.index.remove(np.array(gone))
        self.index.add(np.array(new), rows, threads=1)

    def search(self, queries, ef):
        self.index.expansion_search = ef
        # Of one query it gives a row, not a matrix of one.
        return np.atleast_2d(self.index.search(queries, K, threads=1).keys)


def recall(found, truth):
    return sum(len(set(map(int, a)) & set(map(int, b))) for a, b in zip(found, truth)) / truth.size


def at_recall(points, wanted):
    """Queries a second at a recall, between the points (recall, qps) around it."""
    points = sorted(points)
    if len(points) == 1 and points[0][0] >= wanted:
        return points[0][1]
    for (r0, q0), (r1, q1) in zip(points, points[1:]):
        if r0 <= wanted <= r1 and r1 > r0:
            share = (wanted - r0) / (r1 - r0)
            return math.exp(math.log(q0) + share * (math.log(q1) - math.log(q0)))
    return None


def churn(args, base, queries, emit):
    """As `src/bin/vector/churn.rs`, for the rivals that can delete."""
    live_count, count = 15_000, 3_000
    names = [name for name in args.rivals.split(",") if name in ("hnswlib", "usearch")]
    for engine in [e for e in (Hnswlib, Usearch) if e.name in names]:
        cpu = time.process_time()
        index = engine(base[:live_count], "l2")
        rate = live_count / (time.process_time() - cpu)
        live = list(range(live_count))
        for round in range(7):
            rows = base[live]
            truth = np.array(live, np.uint32)[true_rows(rows, queries, "l2")]
            cpu = time.process_time()
            found = [index.search(query[None], 48)[0] for query in queries]
            qps = len(queries) / (time.process_time() - cpu)
            emit(engine=engine.name, round=round, recall=recall(found, truth), qps=qps,
                 inserts_per_cpu_s=rate)
            live.sort(key=lambda id: (id * 2_654_435_761 + round * 40_503) % (1 << 32))
            gone, live = live[:count], live[count:]
            new = list(range(live_count + round * count, live_count + (round + 1) * count))
            cpu = time.process_time()
            index.replace(gone, new, base[new])
            rate = count / (time.process_time() - cpu)
            live += new
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("base", "queries")]
        base[:40_000].tofile(paths[0])
        queries.tofile(paths[1])
        out = subprocess.run([args.ours, "churn", *paths, str(base.shape[1])],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        for line in out.splitlines():
            emit(**json.loads(line))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", choices=["deb384", "synth128"], required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ours", required=True, help="the program `vector`")
    parser.add_argument("--rivals", default="hnswlib", help="of hnswlib,faiss,usearch")
    parser.add_argument("--kinds", default=",".join(OURS), help="of ours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="for our build")
    parser.add_argument("--kept", type=Path, help="a folder for indexes")
    parser.add_argument("--filters", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--churn", action="store_true", help="only that")
    args = parser.parse_args()
    base, queries, metric = load(args.set, args.data)

    def emit(**figure):
        print(json.dumps({"set": args.set, **figure}), flush=True)
        return figure

    if args.churn:
        return churn(args, base, queries, emit)
    if args.kept:
        args.kept.mkdir(parents=True, exist_ok=True)
    truth_file = args.kept / "truth.npy" if args.kept else None
    if truth_file and truth_file.exists():
        truth = np.load(truth_file)
    else:
        truth = true_rows(base, queries, metric)
        if truth_file:
            np.save(truth_file, truth)
    rivals = []
    for engine in (Hnswlib, Faiss, Usearch):
        if engine.name in args.rivals.split(","):
            path = str(args.kept / engine.name) if args.kept else None
            if path and os.path.exists(path):
                rivals.append(engine.load(path, base, metric))
                continue
            cpu, wall = time.process_time(), time.time()
            rivals.append(engine(base, metric))
            emit(built=engine.name, threads=1, cpu_s=time.process_time() - cpu, wall_s=time.time() - wall)
            if path:
                rivals[-1].save(path)

    kinds = args.kinds.split(",")
    filtered = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("base", "queries", "truth")]
        for path, rows in zip(paths, (base, queries, truth)):
            rows.tofile(path)
        command = [args.ours, *paths, str(base.shape[1]), metric, str(args.threads),
                   str(args.kept or folder)]
        ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in OURS:
            emit(**json.loads(ours.stdout.readline()))

        def ask(*words):
            ours.stdin.write(" ".join(map(str, words)) + "\n")
            ours.stdin.flush()
            return json.loads(ours.stdout.readline())

        best, reads, times = {}, {}, {}

        def took(key, p50, p99):
            before = times.get(key, (p50, p99))
            times[key] = (min(before[0], p50), min(before[1], p99))

        for _ in range(args.rounds):
            for step, ef in enumerate(EFS):
                for engine in rivals:
                    spent, asked = 0.0, 0
                    while spent < 0.5:
                        cpu = time.process_time()
                        found = engine.search(queries, ef)
                        spent += time.process_time() - cpu
                        asked += len(queries)
                    point = (recall(found, truth), asked / spent)
                    micros = []
                    for query in queries:
                        begun = time.perf_counter()
                        engine.search(query[None], ef)
                        micros.append((time.perf_counter() - begun) * 1e6)
                    took((engine.name, ef), *np.percentile(micros, [50, 99]))
                    best[engine.name, ef] = max(best.get((engine.name, ef), point), point, key=lambda p: p[1])
                for kind in kinds:
                    efs = OWN_EFS.get(kind, EFS)
                    if step >= len(efs):
                        continue
                    figure = ask(kind, efs[step])
                    point, key = (figure["recall"], figure["qps"]), (figure["engine"], efs[step])
                    best[key] = max(best.get(key, point), point, key=lambda p: p[1])
                    reads[key] = (figure["pages"], figure["distances"])
                    took(key, figure["p50_us"], figure["p99_us"])
        for kind in (kind for kind in kinds if args.filters and kind in FILTERED):
            for one_in in ONE_IN:
                filtered.append(emit(**ask("filter", kind, FILTERED[kind], one_in)))
        ours.stdin.close()
        ours.wait()

    engines = sorted({engine for engine, _ in best})
    for (engine, ef), (found, qps) in sorted(best.items()):
        pages, distances = reads.get((engine, ef), (None, None))
        p50, p99 = times[engine, ef]
        emit(engine=engine, ef=ef, recall=found, qps=qps, pages=pages, distances=distances,
             p50_us=p50, p99_us=p99)
    table = lambda *cells: print("| " + " | ".join(map(str, cells)) + " |", file=sys.stderr)
    table("engine", *(f"queries/s at {r}" for r in RECALLS))
    table(*["---"] * (1 + len(RECALLS)))
    for engine in engines:
        cells = []
        for wanted in RECALLS:
            qps = at_recall([p for (e, _), p in best.items() if e == engine], wanted)
            rival = at_recall([p for (e, _), p in best.items() if e == "hnswlib"], wanted)
            ratio = f" ({qps / rival:.2f}x)" if qps and rival else ""
            cells.append(f"{qps:.0f}{ratio}" if qps else "-")
        table(engine, *cells)
    table("microseconds, half and 99 % of the queries", *(f"at {r}" for r in RECALLS))
    table(*["---"] * (1 + len(RECALLS)))
    for engine in engines:
        cells = []
        for wanted in RECALLS:
            at = lambda i: at_recall([(p[0], times[key][i]) for key, p in best.items() if key[0] == engine], wanted)
            cells.append(f"{at(0):.0f}, {at(1):.0f}" if at(0) else "-")
        table(engine, *cells)
    table("reads a query", *(f"at {r}" for r in READ_RECALLS))
    table(*["---"] * (1 + len(READ_RECALLS)))
    for engine in (e for e in engines if e in ("arqon disk", "arqon spfresh")):
        cells = []
        for wanted in READ_RECALLS:
            at = lambda i: at_recall([(p[0], reads[key][i]) for key, p in best.items() if key[0] == engine], wanted)
            fetched = f" pages, {at(1):.1f} vectors" if engine == "arqon spfresh" and at(1) else ""
            cells.append(f"{at(0):.1f}{fetched}" if at(0) else "-")
        table(engine, *cells)
    if filtered:
        table("filter", *(f"1 in {n}: recall, cost, over its own exact" for n in ONE_IN))
        table(*["---"] * (1 + len(ONE_IN)))
        for engine in sorted({f["engine"] for f in filtered}):
            own = [f for f in filtered if f["engine"] == engine]
            table(engine, *(f"{f['recall']:.3f}, {f['cost_over_exact']:.2f}x, "
                            f"{f['cost_over_own_exact']:.2f}x" for f in own))


main()
