#!/usr/bin/env bash
# the README's second command: every test, those of generated files among them
# Thousands of random histories here, hundreds at a desk.
export ARQON_LSM_SEEDS=3000 ARQON_TEST_SEEDS=2000
cargo test --locked
