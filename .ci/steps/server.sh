#!/usr/bin/env bash
# Starts and stops servers for the other steps; sourced by them, no step itself.

SERVER_PIDS=()

# The program under test: ARQON_BINARY, or the static one if it is built, or the release build.
arqon_binary() {
  if [ -n "${ARQON_BINARY:-}" ]; then echo "$ARQON_BINARY"; return; fi
  local target="${CARGO_TARGET_DIR:-target}"
  local static="$target/x86_64-unknown-linux-gnu/release/arqon"
  if [ -x "$static" ] && [ -z "$(find src proto Cargo.lock -newer "$static" | head -n 1)" ]; then
    echo "$static"
    return
  fi
  cargo build --locked --release --quiet || return 1
  echo "$target/release/arqon"
}

# start_arqon FOLDER [FLAG...]: sets ARQON_PORT, ARQON_GRPC_PORT and ARQON_PID once it serves.
start_arqon() {
  local folder=$1 program
  shift
  program=$(arqon_binary) || return 1
  mkdir -p "$folder"
  rm -f "$folder/ports.json"
  "$program" dev --data "$folder/data" --redis 127.0.0.1:0 --grpc 127.0.0.1:0 \
    --port-file "$folder/ports.json" "$@" >"$folder/out.log" 2>&1 &
  ARQON_PID=$!
  SERVER_PIDS+=("$ARQON_PID")
  for _ in $(seq 600); do
    if [ -s "$folder/ports.json" ]; then
      ARQON_PORT=$(sed -E 's/.*"redis" *: *"[^"]*:([0-9]+)".*/\1/' "$folder/ports.json")
      ARQON_GRPC_PORT=$(sed -E 's/.*"grpc" *: *"[^"]*:([0-9]+)".*/\1/' "$folder/ports.json")
      return 0
    fi
    kill -0 "$ARQON_PID" 2>/dev/null || break
    sleep 0.05
  done
  echo "arqon dev did not come up; it said:"
  cat "$folder/out.log"
  return 1
}

# start_redis FOLDER [FLAG...]: real Redis on a free port; sets REDIS_PORT and REDIS_PID.
start_redis() {
  local folder=$1
  shift
  mkdir -p "$folder"
  for _ in 1 2 3 4 5; do
    REDIS_PORT=$((20000 + RANDOM % 20000))
    redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$folder" --save '' "$@" \
      >"$folder/redis.log" 2>&1 &
    REDIS_PID=$!
    SERVER_PIDS+=("$REDIS_PID")
    for _ in $(seq 100); do
      kill -0 "$REDIS_PID" 2>/dev/null || break
      redis-cli -p "$REDIS_PORT" ping 2>/dev/null | grep -q PONG && return 0
      sleep 0.05
    done
  done
  cat "$folder/redis.log"
  return 1
}

stop_server() {
  kill "$1" 2>/dev/null && wait "$1" 2>/dev/null
  return 0
}

stop_all() {
  local pid
  for pid in "${SERVER_PIDS[@]}"; do
    kill -9 "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
  done
  return 0
}
trap stop_all EXIT
