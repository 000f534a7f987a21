#!/usr/bin/env bash
# the comparison with other engines runs: a fiftieth of the work, and a kill that loses nothing
library=$(ldconfig -p 2>/dev/null | awk '/librocksdb\.so/ {print $NF; exit}')
export CARGO_TARGET_DIR="$CI_WORK/rivals"
cd benches/rivals || exit 1
cargo fmt --check || exit 1
cargo build --release --no-default-features || exit 1
engines=arqon,fjall,redb
[ -n "$library" ] && engines+=,rocksdb-system,rocksdb-system-tuned
ROCKSDB_SYSTEM_LIBRARY=$library "$CARGO_TARGET_DIR/release/arqondb-rivals" --rounds 1 --share 0.02 \
  --engines "$engines" --dir "$CI_WORK" >"$CI_WORK/rivals.jsonl" || exit 1
grep -q '"workload":"kill9".*"engine":"arqon"\|"engine":"arqon".*"workload":"kill9"' "$CI_WORK/rivals.jsonl" ||
  { echo "no kill was measured"; exit 1; }
python3 - "$CI_WORK/rivals.jsonl" <<'P'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
ours = [r for r in rows if r["engine"] == "arqon"]
lost = [r["median"] for r in ours if r["workload"] == "kill9"]
assert lost == [0], f"rows lost in the kill: {lost}"
want = """seq_put batch_put seq_get rand_get put_flush batch_flush rand_get_after_flush overwrite_1m
get_cached_1m get_absent_1m scan_1m seek_50 first_after_delete durable_put_1 durable_put_8
durable_put_32 recovery read_while_write amplification rss""".split()
missing = set(want) - {r["workload"] for r in ours}
assert not missing, f"workloads without figures: {sorted(missing)}"
print(len(rows), "figures; every workload measured")
P
