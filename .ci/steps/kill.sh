#!/usr/bin/env bash
# 50 times kill -9 under load, at the three durability levels
ARQON_KILL_ROUNDS=${ARQON_KILL_ROUNDS:-50} cargo test --locked --test kill -- --nocapture
