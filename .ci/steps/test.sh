#!/usr/bin/env bash
# the README's second command: every test, those of generated files among them
cargo test --locked
