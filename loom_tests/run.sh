#!/bin/sh
# Runs the loom models: all of them, or with arguments those whose names contain one of them (`run.sh park timer`).
# LOOM_MAX_PREEMPTIONS=3 looks deeper (the default is 2), LOOM_MAX_BRANCHES is loom's (10000 here).
set -eu
cd "$(dirname "$0")/.."
export RUSTFLAGS="--cfg epicycle_loom -C debug_assertions ${RUSTFLAGS:-}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
[ $# -gt 0 ] || set -- ""
for name in "$@"; do
    # One thread: a model uses one core, and its threads are not the test's.
    cargo test --release --lib "loom_tests::$name" -- --test-threads 1
done
