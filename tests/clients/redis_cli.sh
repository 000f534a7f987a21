#!/usr/bin/env bash
# Smoke test with redis-cli: PORT. Both protocols, pipes, scans and errors.
set -euo pipefail
port=$1
check() { # EXPECTED COMMAND...
  local expected=$1 got
  shift
  got=$(redis-cli -p "$port" "$@")
  [ "$got" = "$expected" ] || { echo "$*: expected '$expected', got '$got'"; exit 1; }
}
check PONG ping
check OK set greeting "hello there"
check "hello there" get greeting
check 12 append greeting !
check OK set short lived px 100000
check OK mset a 1 b 2
check $'1\n2' mget a b
check 2 incr a
check 7 incrby a 5
check 3 exists a b greeting
check string type a
check 1 expire a 100
check 100 ttl a
check 1 persist a
check -1 ttl a
check -2 ttl nothing
check "" get nothing
check 4 dbsize
check 1 del b
check $'greeting' keys 'gree*'
check PONG -3 ping
check "hello there!" -3 get greeting
check "ERR unknown command 'nonsense', with args beginning with: 'x' " nonsense x
check "ERR wrong number of arguments for 'get' command" get
check "ERR value is not an integer or out of range" incr greeting

# A mass load through the pipe mode, found again by a scan.
for n in $(seq 1 5000); do printf 'SET load:%d value-%d\r\n' "$n" "$n"; done |
  redis-cli -p "$port" --pipe | grep -q 'errors: 0, replies: 5000'
[ "$(redis-cli -p "$port" --scan --pattern 'load:*' | sort -u | wc -l)" = 5000 ]

# A transaction over one connection.
got=$(printf 'multi\nset t 1\nincr t\nexec\n' | redis-cli -p "$port" | tr '\n' ' ')
[ "$got" = "OK QUEUED QUEUED OK 2 " ] || { echo "transaction: $got"; exit 1; }
check OK flushall
check 0 dbsize
redis-cli -p "$port" info server | grep -q '^redis_version:'
redis-cli -p "$port" command count | grep -qE '^[0-9]+$'
