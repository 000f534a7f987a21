#!/usr/bin/env bash
# the README's first command: the main job on real data
cargo run --locked --release -- demo || exit 1
figures=$(cargo run --locked --release --quiet -- demo --output json) || exit 1
python3 - "$figures" <<'PY' || exit 1
import json, sys
figures = json.loads(sys.argv[1])
assert figures["packages"] > 3000, figures
assert figures["kill"]["lost"] == 0 and figures["kill"]["acknowledged"] > 0, figures
PY
