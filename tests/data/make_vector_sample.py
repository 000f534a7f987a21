"""Cuts tests/data/vectors384.f16 out of the embeddings of Debian package descriptions.

    python3 make_vector_sample.py DIR_WITH_DEBVEC384

1,500 rows of 384 little-endian 16-bit floats, evenly spread over debvec384.f16, then 100 of the
queries of queries_dev.f16. The answers are computed by the test that reads it.
"""

import sys
from pathlib import Path

ROW = 384 * 2
BASE, QUERIES = 1500, 100


def spread(path, count):
    data = path.read_bytes()
    rows = len(data) // ROW
    for i in range(count):
        at = i * rows // count * ROW
        yield data[at : at + ROW]


source = Path(sys.argv[1])
out = Path(__file__).with_name("vectors384.f16")
parts = [*spread(source / "debvec384.f16", BASE), *spread(source / "queries_dev.f16", QUERIES)]
out.write_bytes(b"".join(parts))
