#!/usr/bin/env python3
"""Makes src/cli/demo/vectors.bin, the embeddings that `arqon demo` carries.

    pip install lz4
    python3 tests/data/make_demo_vectors.py DIR_WITH_DEBVEC384 OUT

DIR_WITH_DEBVEC384 holds debvec384.f16 and debvec384.ids.u32 (embeddings of the descriptions of
Debian packages by all-MiniLM-L6-v2, and the package of each row), debian_packages.ndjson.zst (read
through the `zstd` program), queries_dev.f16 and queries_dev.ndjson (embeddings of questions, and
their texts). Of the packages of src/cli/demo/packages.lz4 those are taken that lie nearest to what
the demo asks, then the others at even steps by name, until there are enough. Each number of a
vector is rounded to one of 255 steps.

Layout of OUT: the drawing at the top of src/cli/demo/vectors.rs.
"""
import json
import struct
import subprocess
import sys
from pathlib import Path

import lz4.block

DIM = 384
PACKAGES = 1000
NEAREST = 12
ANCHORS = ["vim", "postgresql", "git", "gimp", "python3", "curl"]
QUERIES = [
    "terminal multiplexer like screen", "convert mp3 to ogg", "network packet sniffer",
    "memory leak debugger", "container runtime", "encrypt email with openpgp", "printer driver",
    "spell checker dictionary german", "image processing library", "git graphical interface",
    "mount a remote directory over ssh", "partition editor", "mail server with imap",
    "full text search engine", "icon theme", "computer algebra system", "bluetooth manager",
    "lightweight web browser", "machine learning library c++", "video editor non linear",
]


def crc32c(data):
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def row(data, at):
    return struct.unpack_from(f"<{DIM}e", data, at * DIM * 2)


def packed(vector):
    scale = max(abs(x) for x in vector) / 127
    return struct.pack(f"<f{DIM}b", scale, *(round(x / scale) for x in vector))


def main():
    source, out = Path(sys.argv[1]), sys.argv[2]
    sample = (Path(__file__).parents[2] / "src/cli/demo/packages.lz4").read_bytes()
    text = lz4.block.decompress(sample[16:], uncompressed_size=struct.unpack("<I", sample[8:12])[0])
    wanted = {line.split("\t")[0] for line in text.decode().splitlines()}
    command = ["zstd", "-dc", str(source / "debian_packages.ndjson.zst")]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().splitlines()
    names = {p["id"]: p["name"] for p in map(json.loads, lines)}
    ids = struct.iter_unpack("<I", (source / "debvec384.ids.u32").read_bytes())
    data = (source / "debvec384.f16").read_bytes()
    rows = {names[i]: row(data, at) for at, (i,) in enumerate(ids) if names[i] in wanted}

    asked = {q["text"]: q["q"] for q in map(json.loads, open(source / "queries_dev.ndjson"))}
    asked_rows = (source / "queries_dev.f16").read_bytes()
    queries = {text: row(asked_rows, asked[text]) for text in QUERIES}

    chosen = set()
    for near in [*queries.values(), *(rows[name] for name in ANCHORS)]:
        by_product = sorted(rows, key=lambda n: -sum(a * b for a, b in zip(near, rows[n])))
        chosen.update(by_product[:NEAREST])
    rest = sorted(set(rows) - chosen)
    left = PACKAGES - len(chosen)
    chosen.update(rest[i * len(rest) // left] for i in range(left))

    listed = "".join(f"{name}\n" for name in [*sorted(chosen), *QUERIES]).encode()
    body = struct.pack("<IIII", DIM, len(chosen), len(QUERIES), len(listed)) + listed
    body += b"".join(packed(rows[name]) for name in sorted(chosen))
    body += b"".join(packed(queries[text]) for text in QUERIES)
    Path(out).write_bytes(b"AQPV" + struct.pack("<II", 1, crc32c(body)) + body)
    print(f"{len(chosen)} of {len(rows)} packages, {len(QUERIES)} queries, {len(body)} bytes")


main()
