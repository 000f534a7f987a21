"""Vector indexes beside hnswlib, usearch and faiss: recall@10 and queries a second together.

    python3 -m venv venv && venv/bin/pip install numpy hnswlib usearch faiss-cpu
    cargo build --release --no-default-features --bin vector
    venv/bin/python vector.py --set deb384 --data DIR --ours target/release/vector > figures.jsonl

Sets: `deb384` needs DIR/debvec384.f16 and DIR/queries_dev.f16 (16-bit floats, 384 a row, compared by
cosine); `synth128` needs DIR/synth128_base.u8 and DIR/synth128_q.u8 (bytes, 128 a row, L2). The
true answers are computed here, in double precision.

One thread, processor time, M 16, ef_construction 200. The engines take turns at each ef, several
rounds; the best round counts. The queries a second at a recall are interpolated between the two
nearest points, in their logarithm. JSON lines go to standard output, the table to standard error.
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
OURS = ["hnsw", "packed", "pq", "compact"]
RECALLS = [0.90, 0.95, 0.99]


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


class Hnswlib:
    name = "hnswlib"

    def __init__(self, base, metric):
        import hnswlib

        self.index = hnswlib.Index(space=metric, dim=base.shape[1])
        self.index.init_index(max_elements=len(base), M=16, ef_construction=200)
        self.index.add_items(base, num_threads=1)
        self.index.set_num_threads(1)

    def search(self, queries, ef):
        self.index.set_ef(ef)
        return self.index.knn_query(queries, K, num_threads=1)[0]


class Faiss:
    name = "faiss"

    def __init__(self, base, metric):
        import faiss

        faiss.omp_set_num_threads(1)
        kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        self.index = faiss.IndexHNSWFlat(base.shape[1], 16, kind)
        self.index.hnsw.efConstruction = 200
        self.index.add(base)

    def search(self, queries, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(queries, K)[1]


class Usearch:
    name = "usearch"

    def __init__(self, base, metric):
        from usearch.index import Index

        space = "cos" if metric == "cosine" else "l2sq"
        self.index = Index(ndim=base.shape[1], metric=space, dtype="f32", connectivity=16,
                           expansion_add=200, expansion_search=64)
        self.index.add(np.arange(len(base)), base, threads=1)

    def search(self, queries, ef):
        self.index.expansion_search = ef
        return self.index.search(queries, K, threads=1).keys


def recall(found, truth):
    return sum(len(set(map(int, a)) & set(map(int, b))) for a, b in zip(found, truth)) / truth.size


def at_recall(points, wanted):
    """Queries a second at a recall, between the points (recall, qps) around it."""
    points = sorted(points)
    for (r0, q0), (r1, q1) in zip(points, points[1:]):
        if r0 <= wanted <= r1 and r1 > r0:
            share = (wanted - r0) / (r1 - r0)
            return math.exp(math.log(q0) + share * (math.log(q1) - math.log(q0)))
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", choices=["deb384", "synth128"], required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ours", required=True, help="the program `vector`")
    parser.add_argument("--rivals", default="hnswlib", help="of hnswlib,faiss,usearch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="for our build")
    args = parser.parse_args()
    base, queries, metric = load(args.set, args.data)
    truth = true_rows(base, queries, metric)

    def emit(**figure):
        print(json.dumps({"set": args.set, **figure}), flush=True)
        return figure

    rivals = []
    for engine in (Hnswlib, Faiss, Usearch):
        if engine.name in args.rivals.split(","):
            cpu, wall = time.process_time(), time.time()
            rivals.append(engine(base, metric))
            emit(built=engine.name, threads=1, cpu_s=time.process_time() - cpu, wall_s=time.time() - wall)

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("base", "queries", "truth")]
        for path, rows in zip(paths, (base, queries, truth)):
            rows.tofile(path)
        command = [args.ours, *paths, str(base.shape[1]), metric, str(args.threads)]
        ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in OURS:
            emit(**json.loads(ours.stdout.readline()))
        best = {}
        for _ in range(args.rounds):
            for ef in EFS:
                for engine in rivals:
                    spent, asked = 0.0, 0
                    while spent < 0.5:
                        cpu = time.process_time()
                        found = engine.search(queries, ef)
                        spent += time.process_time() - cpu
                        asked += len(queries)
                    point = (recall(found, truth), asked / spent)
                    best[engine.name, ef] = max(best.get((engine.name, ef), point), point, key=lambda p: p[1])
                for kind in OURS:
                    ours.stdin.write(f"{kind} {ef}\n")
                    ours.stdin.flush()
                    figure = json.loads(ours.stdout.readline())
                    point, key = (figure["recall"], figure["qps"]), (figure["engine"], ef)
                    best[key] = max(best.get(key, point), point, key=lambda p: p[1])
        ours.stdin.close()
        ours.wait()

    engines = sorted({engine for engine, _ in best})
    for engine in engines:
        for ef in EFS:
            found, qps = best[engine, ef]
            emit(engine=engine, ef=ef, recall=found, qps=qps)
    print("| engine | " + " | ".join(f"queries/s at {r}" for r in RECALLS) + " |", file=sys.stderr)
    print("|---" * (1 + len(RECALLS)) + "|", file=sys.stderr)
    for engine in engines:
        cells = []
        for wanted in RECALLS:
            qps = at_recall([p for (e, _), p in best.items() if e == engine], wanted)
            rival = at_recall([p for (e, _), p in best.items() if e == "hnswlib"], wanted)
            ratio = f" ({qps / rival:.2f}x)" if qps and rival else ""
            cells.append(f"{qps:.0f}{ratio}" if qps else "-")
        print(f"| {engine} | " + " | ".join(cells) + " |", file=sys.stderr)


main()
