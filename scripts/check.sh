#!/usr/bin/env bash
# All gates: format, lints, documentation, tests, models of the lock-free parts. What passes here passes
# in CI. About fifteen minutes on two cores from a fresh clone, less with a warm target directory.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

step() { printf '\n== %s\n' "$*"; }

step "Format"
cargo fmt --check

step "Lints, with all features and with none"
cargo clippy --all-targets --features tokio -- -D warnings
cargo clippy --lib --bins -- -D warnings

step "Documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --features tokio

# Models run apart from everything else: under --cfg loom the atomics are the model checker's.
step "Models of the queues and the pool"
models=$(
    LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS="--cfg loom" CARGO_PROFILE_RELEASE_LTO=off \
        cargo test --release --target-dir target/loom --lib mem::model | tee >(cat >&2)
)
# A filter that matches nothing would pass as well.
grep -q "test result: ok. [1-9]" <<< "$models" || { echo "no model was run" >&2; exit 1; }

step "A thousand runs of the simulator, with groups and without"
MADRIGAL_SEEDS=${MADRIGAL_SEEDS:-0..1000} \
    cargo test --profile sim --test simulation --test scenarios -- --nocapture --test-threads 2

# Everything else in one go: units, tidy, bytes, a real daemon on both drivers, bounded fuzzing, doc
# examples. Last, so that its summary is the end of the output.
step "Tests"
cargo test --features tokio --no-fail-fast
