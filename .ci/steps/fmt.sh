#!/usr/bin/env bash
# the source is formatted
cargo fmt --version >/dev/null 2>&1 || { echo "rustfmt is missing"; exit 77; }
cargo fmt --check
