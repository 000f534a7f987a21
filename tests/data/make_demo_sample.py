#!/usr/bin/env python3
"""Makes src/cli/demo/packages.lz4, the real data that `arqon demo` carries.

    pip install lz4
    python3 tests/data/make_demo_sample.py PACKAGES.ndjson[.zst] EDGES.tsv[.zst] OUT

PACKAGES has one JSON object a line, made from Debian's package index (bookworm, main, amd64):
id, name, version, section, priority, installed_kib, short, long, ... EDGES has the columns
src, dst, kind, group, alt, op, version, where dst is an id or `@` and the name of a virtual
package. `.zst` files are read through the `zstd` program.

The sample is closed under `depends` and `pre-depends` (the first alternative that is a real
package): whatever a package of the sample depends on is in the sample too. It grows from the
packages of priority required, important and standard, then from the packages most others
depend on or recommend, taken in turn from every section, until there are enough.

Layout of OUT: the drawing at the top of src/cli/demo/packages.rs.
"""
import collections
import io
import json
import struct
import subprocess
import sys

import lz4.block

PACKAGES = 4000
LONG_CHARS_MAX = 360


def lines(path):
    if path.endswith(".zst"):
        out = subprocess.run(["zstd", "-dc", path], check=True, stdout=subprocess.PIPE).stdout
        return io.StringIO(out.decode("utf-8"))
    return open(path, encoding="utf-8")


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


def cut(text):
    """One line of at most LONG_CHARS_MAX characters, ended at a word."""
    text = " ".join(text.split())
    if len(text) <= LONG_CHARS_MAX:
        return text
    return text[:LONG_CHARS_MAX].rsplit(" ", 1)[0] + " ..."


def main():
    packages_path, edges_path, out_path = sys.argv[1:]
    packages = [json.loads(line) for line in lines(packages_path)]
    needs = collections.defaultdict(dict)
    wanted = collections.Counter()
    for line in list(lines(edges_path))[1:]:
        src, dst, kind, group, alt = line.rstrip("\n").split("\t")[:5]
        if dst.startswith("@"):
            continue
        if kind in ("depends", "pre-depends"):
            choice = (int(alt), int(dst))
            key = (kind, int(group))
            needs[int(src)][key] = min(choice, needs[int(src)].get(key, choice))
        if kind in ("depends", "pre-depends", "recommends"):
            wanted[int(dst)] += 1
    depends = {src: sorted({dst for _, dst in groups.values()}) for src, groups in needs.items()}

    chosen = set()

    def add(package):
        stack = [package]
        while stack:
            package = stack.pop()
            if package not in chosen:
                chosen.add(package)
                stack.extend(depends.get(package, []))

    for package in packages:
        if package["priority"] in ("required", "important", "standard"):
            add(package["id"])
    sections = collections.defaultdict(list)
    for package in sorted(packages, key=lambda p: (-wanted[p["id"]], p["name"])):
        sections[package["section"]].append(package["id"])
    turn = 0
    while len(chosen) < PACKAGES:
        for section in sorted(sections):
            if turn < len(sections[section]) and len(chosen) < PACKAGES:
                add(sections[section][turn])
        turn += 1

    rows = []
    edges = 0
    for package in sorted((packages[i] for i in chosen), key=lambda p: p["name"]):
        names = sorted(packages[i]["name"] for i in depends.get(package["id"], []))
        edges += len(names)
        fields = [
            package["name"],
            package["version"],
            package["section"],
            package["priority"],
            str(package["installed_kib"]),
            " ".join(names),
            " ".join(package["short"].split()),
            cut(package["long"]),
        ]
        assert not any("\t" in field or "\n" in field for field in fields)
        rows.append("\t".join(fields) + "\n")
    raw = "".join(rows).encode("utf-8")
    block = lz4.block.compress(raw, mode="high_compression", compression=12, store_size=False)
    with open(out_path, "wb") as out:
        out.write(b"AQPK" + struct.pack("<III", 1, len(raw), crc32c(raw)) + block)
    print(f"{len(rows)} packages, {edges} dependencies, {len(raw)} bytes, {len(block)} packed")


main()
