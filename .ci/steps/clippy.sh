#!/usr/bin/env bash
# lints, with warnings as errors
cargo clippy --version >/dev/null 2>&1 || { echo "clippy is missing"; exit 77; }
cargo clippy --locked --all-targets -- -D warnings
