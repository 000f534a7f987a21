"""An index in a server whose vectors are replaced: what searches, memory and disk come to.

    cargo build --release                                  # at the root of the repository
    python3 -m venv venv && venv/bin/pip install numpy
    venv/bin/python churn.py --arqon ../../target/release/arqon --data DIR --kind hnsw

DIR has debvec384.f16 and queries_dev.f16: 16-bit floats, 384 a row, compared by cosine. In each of twenty
rounds a tenth of the ids get vectors of others among them, so that what is stored stays the same as a
set. Before the first, behind the tenth and behind the last round it waits until the index has not changed
for half a minute, or for four minutes, and searches with each query four times at an ef of 64. It
tells the bytes of the data folder by its parts. Recall is against comparing with all, done here. The
server has a budget of 2 GiB. Run it with nothing beside: the background makes way for others.
JSON lines go to standard output.
"""

import argparse
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

DIM = 384
K = 10
EF = 64
REST_S = 30
REST_MAX_S = 240


def free_port():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


class Server:
    def __init__(self, arqon, folder):
        self.arqon, self.folder = arqon, folder
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        flags = ["--sync", "interval", "--memory", "2048MiB"]
        doors = ["--grpc", self.address, "--redis", f"127.0.0.1:{free_port()}"]
        command = [arqon, "dev", "--data", folder, *flags, *doors]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the server does not answer")

    def run(self, *words):
        command = [self.arqon, "vector", *words, "--addr", self.address]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def create(self, kind, quantisation):
        form = ["--dim", str(DIM), "--metric", "cosine", "--kind", kind, "--quantisation", quantisation]
        self.run("create", "churn", *form, "-y", "-o", "ndjson")

    def store(self, rows, ids):
        vectors, names = Path(self.folder, "rows.f16"), Path(self.folder, "rows.u64")
        rows.tofile(vectors)
        ids.astype(np.uint64).tofile(names)
        form = ["--format", "f16", "--dim", str(DIM)]
        self.run("import", "churn", *form, "--ids", str(names), "-y", "-o", "ndjson", str(vectors))
        vectors.unlink()
        names.unlink()

    def rested(self):
        last, begun = None, time.monotonic()
        since = begun
        # Segments of many vectors are made one for half a minute, and nothing shows of it meanwhile.
        while time.monotonic() - since < REST_S and time.monotonic() - begun < REST_MAX_S:
            now = self.run("describe", "churn", "--output", "ndjson")
            if now != last or now[0]["waiting"] > 0:
                last, since = now, time.monotonic()
            time.sleep(0.5)
        return {**last[0], "rested_s": round(time.monotonic() - begun)}

    def searched(self, queries):
        form = ["--format", "f16", "--k", str(K), "--ef", str(EF), "--output", "ndjson"]
        return self.run("search", "churn", "--queries", str(queries), *form)

    def disk_bytes(self):
        """Of the log, of the index's files, and of all else: tables of records."""
        parts = {"log": 0, "vectors": 0, "tables": 0}
        for at, _, names in os.walk(self.folder):
            within = set(Path(at).relative_to(self.folder).parts) & {"log", "vectors"}
            size = sum(Path(at, name).stat().st_size for name in names)
            parts[within.pop() if within else "tables"] += size
        return parts


def nearest(rows, queries):
    """The ids of the k nearest of each query, by comparing with all."""
    queries = np.fromfile(queries, dtype=np.float16).reshape(-1, DIM).astype(np.float32)
    rows = rows.astype(np.float32)
    alike = queries @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    return np.argpartition(-alike, K, axis=1)[:, :K]


def figures(server, rows, queries):
    index = server.rested()
    found = [server.searched(queries) for _ in range(4)]
    pairs = zip(found[0], nearest(rows, queries))
    recall = np.mean([len(set(a["ids"]) & set(b.tolist())) / K for a, b in pairs])
    micros = np.array([one["microseconds"] for run in found for one in run], dtype=float)
    return {
        "recall": float(np.round(recall, 4)),
        "p50_us": float(np.percentile(micros, 50)),
        "p99_us": float(np.percentile(micros, 99)),
        "disk_bytes": server.disk_bytes(),
        **{name: index[name] for name in ("rested_s", "segments", "dead", "waiting", "memory_bytes")},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arqon", required=True, help="the program")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kind", default="hnsw")
    parser.add_argument("--quantisation", default="none", help="none, packed, compact4 or compact8")
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    rows = np.fromfile(asked.data / "debvec384.f16", dtype=np.float16).reshape(-1, DIM)
    queries = asked.data / "queries_dev.f16"
    chance = np.random.default_rng(5)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(asked.arqon, folder)
        try:
            server.create(asked.kind, asked.quantisation)
            server.store(rows, np.arange(len(rows)))
            print(json.dumps({"round": 0, **figures(server, rows, queries)}), flush=True)
            spent = 0
            for round in range(1, asked.rounds + 1):
                began = time.monotonic()
                picked = chance.choice(len(rows), len(rows) // 10, replace=False)
                rows[picked] = rows[chance.permutation(picked)]
                server.store(rows[picked], picked)
                spent += time.monotonic() - began
                if round in (asked.rounds // 2, asked.rounds):
                    rate = {"round": round, "replaced_per_s": int(round * len(picked) / spent)}
                    print(json.dumps({**rate, **figures(server, rows, queries)}), flush=True)
        finally:
            server.process.terminate()
            server.process.wait()


if __name__ == "__main__":
    main()
