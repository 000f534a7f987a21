#!/usr/bin/env bash
# brings what the other steps use, and says what it could not bring
missing=()
for part in rustfmt clippy; do
  tool=cargo-${part/rustfmt/fmt}
  if ! "$tool" --version >/dev/null 2>&1 && ! cargo "${part/rustfmt/fmt}" --version >/dev/null 2>&1; then
    rustup component add "$part" || missing+=("$part")
  fi
done

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
packages=()
command -v redis-server >/dev/null || packages+=(redis-server)
command -v redis-benchmark >/dev/null || packages+=(redis-tools)
command -v tclsh >/dev/null || packages+=(tcl)
command -v python3 >/dev/null || packages+=(python3 python3-venv)
command -v npm >/dev/null || packages+=(nodejs npm)
ldconfig -p | grep -q librocksdb.so || packages+=(librocksdb-dev)
if [ ${#packages[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # A package's own service must not start: the steps start what they need.
    printf '#!/bin/sh\nexit 101\n' >"$CI_WORK/policy" && chmod +x "$CI_WORK/policy"
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      as_root cp "$CI_WORK/policy" /usr/sbin/policy-rc.d && placed=1
    fi
    as_root apt-get -qq update && as_root apt-get -qq install -y "${packages[@]}" >/dev/null ||
      missing+=("${packages[@]}")
    [ -n "${placed:-}" ] && as_root rm -f /usr/sbin/policy-rc.d
  else
    missing+=("${packages[@]}")
  fi
fi

if command -v python3 >/dev/null; then
  python3 -m venv "$CI_WORK/venv" && "$CI_WORK/venv/bin/pip" install --quiet 'redis>=8,<9' ||
    missing+=(redis-py)
  "$CI_WORK/venv/bin/pip" install --quiet grpcio grpcio-tools || missing+=(grpcio)
fi
if command -v npm >/dev/null; then
  mkdir -p "$CI_WORK/node"
  (cd "$CI_WORK/node" && npm install --silent --no-audit --no-fund ioredis@6 redis@6) ||
    missing+=(ioredis node-redis)
fi

rustc --version
cargo --version
[ ${#missing[@]} -eq 0 ] || echo "NOT BROUGHT: ${missing[*]}; steps that need these are skipped"
exit 0
