#!/usr/bin/env bash
# What a Redis command costs the server, beside redis-server: CPU an operation and throughput.
#
#     bash benches/redis_door.sh                    SET, GET and INCR at -P 1 and 16; SET at always
#     OPS="set" PIPELINES=1 bash benches/redis_door.sh
#
# Both servers run at once on loopback and take turns; each round begins with new ones. CPU is user
# and system time of the whole process: what a run leaves it to do in the background, and in
# children, counts until it is done. A table goes to standard error, a JSON object a line to standard
# output. Ratios above 1 are in our favour.
#
# ROUNDS (5), REQUESTS_P1 (100000), REQUESTS_PN (600000), OPS ("set get incr"), PIPELINES ("1 16"),
# ALWAYS (1: measure `always` too), FILL (0: keys set beforehand, of 1,000,000), ARQON_BINARY.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. .ci/steps/server.sh
for program in redis-benchmark redis-server redis-cli; do
  command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 77; }
done
work=$(mktemp -d "${TMPDIR:-/tmp}/redis-door.XXXXXX") || exit 1
trap 'stop_all; rm -rf "$work"' EXIT
rounds=${ROUNDS:-5} ops=${OPS:-set get incr} pipelines=${PIPELINES:-1 16}
results="$work/results"

# Nanoseconds that the threads of a process have run, and its children that have ended (Redis
# rewrites its file in one). The clock ticks of its stat file would round a short run by some per
# cent; of children there is nothing finer.
cpu_ns() {
  { cat /proc/"$1"/task/*/schedstat; awk '{print ($16 + $17) * 1e7}' /proc/"$1"/stat; } 2>/dev/null |
    awk '{ns += $1} END {printf "%.0f", ns}'
}

# Waits until a process has done what a run left it to do: that is part of the run's price. Ours
# merges its youngest files once nobody has written for a second.
quiet() {
  local last now idle=0
  last=$(cpu_ns "$1")
  for _ in $(seq 150); do
    sleep 0.2
    now=$(cpu_ns "$1")
    if [ $((now - last)) -lt 4000000 ] && [ -z "$(cat /proc/"$1"/task/"$1"/children)" ]; then
      idle=$((idle + 1))
      [ "$idle" -ge 7 ] && return
    else
      idle=0
    fi
    last=$now
  done
}

# measure WHO LEVEL PORT PID OP PIPELINE: a line of `who level op pipeline ops/s us/op`.
measure() {
  local n=${REQUESTS_P1:-100000} before after rate
  [ "$6" -gt 1 ] && n=${REQUESTS_PN:-600000}
  before=$(cpu_ns "$4")
  rate=$(redis-benchmark -p "$3" -c 50 -d 100 -r 1000000 -n "$n" -P "$6" -t "$5" --csv 2>/dev/null |
    tr -d '"' | awk -F, 'NR == 2 {print $2}')
  quiet "$4"
  after=$(cpu_ns "$4")
  echo "$1 $2 $5 $6 ${rate:-0} $(awk -v b="$before" -v a="$after" -v n="$n" \
    'BEGIN {printf "%.4f", (a - b) / 1000 / n}')" >>"$results"
}

# compare LEVEL ARQON_SYNC REDIS_FSYNC OPS PIPELINES. Each round begins with empty servers: one
# round is like the other.
compare() {
  local round pipeline op
  for round in $(seq "$rounds"); do
    start_arqon "$work/arqon-$1-$round" --sync "$2" >&2 || exit 1
    start_redis "$work/redis-$1-$round" --appendonly yes --appendfsync "$3" >&2 || exit 1
    if [ "${FILL:-0}" -gt 0 ]; then
      for port in "$ARQON_PORT" "$REDIS_PORT"; do
        redis-benchmark -p "$port" -c 50 -d 100 -r 1000000 -n "$FILL" -P 16 -t set -q >/dev/null
      done
      quiet "$ARQON_PID"
      quiet "$REDIS_PID"
    fi
    for pipeline in $5; do
      for op in $4; do
        measure arqon "$1" "$ARQON_PORT" "$ARQON_PID" "$op" "$pipeline"
        measure redis "$1" "$REDIS_PORT" "$REDIS_PID" "$op" "$pipeline"
      done
    done
    stop_server "$ARQON_PID"
    stop_server "$REDIS_PID"
    rm -rf "$work/arqon-$1-$round" "$work/redis-$1-$round"
  done
}

compare interval interval everysec "$ops" "$pipelines"
[ "${ALWAYS:-1}" = 1 ] && compare always always always set 1

# Ratios are of the pair of one round, so that what slows the machine slows both.
awk -v rounds="$rounds" '
  function sorted(list, n,   i, j, t) {
    for (i = 2; i <= n; i++)
      for (j = i; j > 1 && list[j - 1] > list[j]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
  }
  function figures(who, key, metric,   i, n, list) {
    n = count[who, key]
    for (i = 1; i <= n; i++) list[i] = value[who, key, metric, i]
    sorted(list, n)
    low = list[1]; high = list[n]
    return list[int((n + 1) / 2)]
  }
  function ratio(key, metric,   i, n, list) {
    n = count["arqon", key]
    for (i = 1; i <= n; i++) {
      list[i] = value["arqon", key, metric, i] / value["redis", key, metric, i]
      if (metric == "cpu_us_per_op") list[i] = 1 / list[i]
    }
    sorted(list, n)
    ratio_low = list[1]; ratio_high = list[n]
    return list[int((n + 1) / 2)]
  }
  function line(key, who, metric, r) {
    printf "{\"workload\":\"redis_%s\",\"engine\":\"%s\",\"class\":\"K\",\"metric\":\"%s\",\"median\":%.3f,\"min\":%.3f,\"max\":%.3f%s}\n",
      key, who, metric, figures(who, key, metric), low, high, who == "arqon" ? sprintf(",\"ratio_vs_redis\":%.3f", r) : ""
  }
  {
    key = $3 "_p" $4 ($2 == "always" ? "_always" : "")
    if (!(key in seen)) { seen[key] = 1; keys[++n_keys] = key }
    i = ++count[$1, key]
    value[$1, key, "ops_per_s", i] = $5
    value[$1, key, "cpu_us_per_op", i] = $6
  }
  END {
    table = "cat >&2"
    printf "%-16s %11s %11s %6s   %9s %9s %6s  (%s)\n", "", "arqon op/s", "redis op/s", "ratio",
      "arqon us", "redis us", "ratio", "CPU ratio, lowest and highest of " rounds | table
    for (k = 1; k <= n_keys; k++) {
      key = keys[k]
      speed = ratio(key, "ops_per_s"); cpu = ratio(key, "cpu_us_per_op")
      printf "%-16s %11.0f %11.0f %6.2f   %9.3f %9.3f %6.2f  (%.2f-%.2f)\n", key,
        figures("arqon", key, "ops_per_s"), figures("redis", key, "ops_per_s"), speed,
        figures("arqon", key, "cpu_us_per_op"), figures("redis", key, "cpu_us_per_op"), cpu,
        ratio_low, ratio_high | table
      line(key, "arqon", "ops_per_s", speed); line(key, "redis", "ops_per_s", 0)
      line(key, "arqon", "cpu_us_per_op", cpu); line(key, "redis", "cpu_us_per_op", 0)
    }
  }' "$results"
