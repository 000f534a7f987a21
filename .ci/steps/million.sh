#!/usr/bin/env bash
# 1,000,000 keys through the Redis door: memory within its budget, reopened after kill -9 in 3 s
. "$CI_STEPS/server.sh"
command -v redis-cli >/dev/null || { echo "redis-cli is missing"; exit 77; }
keys=${MILLION_KEYS:-1000000}
folder="$CI_WORK/million"
start_arqon "$folder" || exit 1
begun=$(date +%s%N)
awk -v keys="$keys" 'BEGIN {
  value = sprintf("%0100d", 7)
  for (n = 0; n < keys; n++) printf "*3\r\n$3\r\nSET\r\n$11\r\nkey:%07d\r\n$100\r\n%s\r\n", n, value
}' | redis-cli -p "$ARQON_PORT" --pipe | tee "$CI_WORK/million.log" | tail -n 1
grep -q "errors: 0, replies: $keys" "$CI_WORK/million.log" || exit 1
took=$((($(date +%s%N) - begun) / 1000000))
peak=$(awk '/^VmHWM/ {print $2 * 1024}' "/proc/$ARQON_PID/status")
budget=$(redis-cli -p "$ARQON_PORT" info memory | tr -d '\r' |
  awk -F: '$1 == "memory_budget_bytes" {print $2}' | head -n 1)
echo "loaded in $took ms; peak of resident memory $((peak >> 20)) MiB; budget $((${budget:-0} >> 20)) MiB"
[ -n "$budget" ] || { echo "INFO memory names no budget"; exit 1; }
if [ "$peak" -gt "$budget" ]; then
  echo "more memory than the budget allows"
  exit 1
fi
kill -9 "$ARQON_PID"
wait "$ARQON_PID" 2>/dev/null
begun=$(date +%s%N)
start_arqon "$folder" || exit 1
[ "$(redis-cli -p "$ARQON_PORT" get "$(printf 'key:%07d' $((keys - 1)))" | wc -c)" = 101 ] || exit 1
took=$((($(date +%s%N) - begun) / 1000000))
echo "reopened and read after kill -9 in $took ms"
[ "$(redis-cli -p "$ARQON_PORT" dbsize)" = "$keys" ] || { echo "DBSIZE is wrong"; exit 1; }
[ "$took" -lt 3000 ] || { echo "3000 ms is the bar"; exit 1; }
