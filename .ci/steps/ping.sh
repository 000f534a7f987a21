#!/usr/bin/env bash
# on an empty folder, PING is answered within 100 ms of the start
. "$CI_STEPS/server.sh"
command -v python3 >/dev/null || { echo "python3 is missing"; exit 77; }
program=$(arqon_binary) || exit 1
python3 .ci/steps/ping.py "$program" "$CI_WORK/ping"
