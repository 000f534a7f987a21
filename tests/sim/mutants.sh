#!/usr/bin/env bash
# Puts bugs in on purpose and counts the seeds that it takes to find each: see mutants/README.md.
#
#     bash tests/sim/mutants.sh            all of them
#     bash tests/sim/mutants.sh 3 17       some
#
# SEEDS is the most that is tried for each, 200 by default; JOBS how many run at a time, 2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tree=$(mktemp -d "${TMPDIR:-/tmp}/arqon-mutants.XXXXXX")
trap 'git worktree remove --force "$tree"' EXIT
git worktree add -q --detach "$tree" HEAD
git -C "$tree" apply "$PWD/tests/sim/mutants/mutants.patch"
# A folder of its own: cargo would take what is built here for what stands in this tree.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/mutants
program=$(cd "$tree" && cargo test --profile sim --test sim --no-run --message-format=json \
  | sed -n 's/.*"executable":"\([^"]*\/sim-[^"]*\)".*/\1/p' | tail -1)
all=$(sed -n 's/^| \([0-9][0-9]*\) |.*/\1/p' tests/sim/mutants/README.md)
survived=0

# Runs one seed; it fails when the mutant is caught.
one() {
  ARQON_MUTANT=$1 ARQON_SIM_SEED=$2 timeout 300 "$program" --exact seeds::one_seed --nocapture \
    --test-threads=1 >"$tree/out.$1.$2" 2>&1
}

for mutant in ${*:-$all}; do
  caught=
  for ((seed = 1; seed <= ${SEEDS:-200}; seed += ${JOBS:-2})); do
    jobs=()
    for ((n = seed; n < seed + ${JOBS:-2}; n++)); do
      one "$mutant" "$n" & jobs+=($!)
    done
    for at in "${!jobs[@]}"; do
      wait "${jobs[$at]}" || caught=${caught:-$((seed + at))}
    done
    [ -n "$caught" ] && break
  done
  if [ -n "$caught" ]; then
    why=$(grep -v -e '^$' -e '^running' -e '^test' "$tree/out.$mutant.$caught" | head -2 | tail -1 | cut -c1-110)
    echo "mutant $mutant: caught by seed $caught: $why"
  else
    echo "mutant $mutant: survived ${SEEDS:-200} seeds"
    survived=1
  fi
done
exit $survived
