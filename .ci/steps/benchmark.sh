#!/usr/bin/env bash
# redis-benchmark beside real Redis: ours at interval, theirs at everysec, taking turns
. "$CI_STEPS/server.sh"
command -v redis-benchmark >/dev/null || { echo "redis-benchmark is missing"; exit 77; }
command -v redis-server >/dev/null || { echo "redis-server is missing"; exit 77; }
start_arqon "$CI_WORK/bench-arqon" --sync interval || exit 1
start_redis "$CI_WORK/bench-redis" --appendonly yes --appendfsync everysec || exit 1
rounds=${BENCH_ROUNDS:-3}
results="$CI_WORK/benchmark.csv"
: >"$results"
measure() { # WHO PORT PIPELINE REQUESTS
  redis-benchmark -p "$2" -c 50 -d 100 -r 1000000 -n "$4" -P "$3" -t set,get --csv 2>/dev/null |
    tr -d '"' | awk -F, -v who="$1" -v p="$3" '$1 == "SET" || $1 == "GET" {print who, $1, p, $2}' \
    >>"$results"
}
for _ in $(seq "$rounds"); do
  measure arqon "$ARQON_PORT" 1 60000
  measure redis "$REDIS_PORT" 1 60000
  measure arqon "$ARQON_PORT" 16 300000
  measure redis "$REDIS_PORT" 16 300000
done
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
echo "requests a second, -c 50, 100-byte values, medians of $rounds:"
printf '%-5s %-4s %12s %12s %6s\n' op -P arqon redis ratio
for pipeline in 1 16; do
  for op in SET GET; do
    ours=$(awk -v o=$op -v p=$pipeline '$1=="arqon" && $2==o && $3==p {print $4}' "$results" | median)
    theirs=$(awk -v o=$op -v p=$pipeline '$1=="redis" && $2==o && $3==p {print $4}' "$results" | median)
    [ -n "$ours" ] && [ -n "$theirs" ] || { echo "no figures for $op -P $pipeline"; exit 1; }
    awk -v op=$op -v p=$pipeline -v a="$ours" -v r="$theirs" \
      'BEGIN {printf "%-5s %-4s %12.0f %12.0f %6.2f\n", op, p, a, r, a / r
       if (a < 0.5 * r) print "      below half of redis-server, which is the bar: measure again on a quiet machine"}'
  done
done
kill -0 "$ARQON_PID" || { echo "the server died"; cat "$CI_WORK/bench-arqon/out.log"; exit 1; }
