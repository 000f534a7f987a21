#!/usr/bin/env bash
# floors, file lengths and the places of unsafe, files and clocks hold
cargo test --locked --quiet --test tidy
