#!/usr/bin/env bash
# real Redis clients work unmodified: redis-cli, redis-py, ioredis, node-redis; grpcio from our proto
. "$CI_STEPS/server.sh"
start_arqon "$CI_WORK/clients" || exit 1
ran=0 missing=()
try() {
  local name=$1 ready=$2
  shift 2
  if [ "$ready" != yes ]; then echo "SKIPPED $name: not installed"; missing+=("$name"); return; fi
  redis-cli -p "$ARQON_PORT" flushall >/dev/null 2>&1
  if timeout 120 "$@"; then echo "ok $name"; ran=$((ran + 1)); else echo "FAILED $name"; exit 1; fi
}
have() { if "$@" >/dev/null 2>&1; then echo yes; fi; }
python="$CI_WORK/venv/bin/python"
export NODE_PATH="$CI_WORK/node/node_modules"
try redis-cli "$(have command -v redis-cli)" bash tests/clients/redis_cli.sh "$ARQON_PORT"
try redis-py "$(have "$python" -c 'import redis')" "$python" tests/clients/redis_py.py "$ARQON_PORT"
try ioredis "$(have test -d "$NODE_PATH/ioredis")" node tests/clients/ioredis.cjs "$ARQON_PORT"
try node-redis "$(have test -d "$NODE_PATH/redis")" node tests/clients/node_redis.cjs "$ARQON_PORT"
mkdir -p "$CI_WORK/stubs"
try grpcio "$(have "$python" -c 'import grpc_tools')" "$python" tests/clients/grpc_py.py \
  "$ARQON_GRPC_PORT" "$CI_WORK/stubs"
kill -0 "$ARQON_PID" || { echo "the server died"; cat "$CI_WORK/clients/out.log"; exit 1; }
# One client that could not be tried is a step that did not prove its point.
[ "${#missing[@]}" -eq 0 ] || { echo "$ran tried; not installed: ${missing[*]}"; exit 77; }
