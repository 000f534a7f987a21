#!/usr/bin/env bash
# the README's first command: the main job on real data
cargo run --locked --release -- demo || exit 1
figures=$(cargo run --locked --release --quiet -- demo --output json) || exit 1
command -v python3 >/dev/null || { echo "python3 is missing: figures not checked"; exit 0; }
python3 - "$figures" <<'PY'
import json, sys
figures = json.loads(sys.argv[1])
assert figures["packages"] > 4000 and figures["acknowledged"] >= 3000, figures
assert figures["lost"] == 0 and figures["torn"] == 0, figures
assert figures["recall"] > 0.95 and len(figures["found"][0]["packages"]) == 10, figures
PY
