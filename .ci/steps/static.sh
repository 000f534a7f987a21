#!/usr/bin/env bash
# the static build: ldd finds no library, stripped below 30 MB
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "only on Linux x86_64"; exit 77; }
RUSTFLAGS="-C target-feature=+crt-static" \
  cargo build --locked --release --target x86_64-unknown-linux-gnu || exit 1
program="${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release/arqon"
linked=$(ldd "$program" 2>&1)
echo "ldd: $linked"
grep -qE 'statically linked|not a dynamic executable' <<<"$linked" || exit 1
bytes=$(stat -c %s "$program")
echo "$bytes bytes"
[ "$bytes" -lt 30000000 ] || { echo "30,000,000 is the limit"; exit 1; }
"$program" --version
