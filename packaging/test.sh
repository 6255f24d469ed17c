#!/bin/bash
# Every test: unit and end-to-end tests, then the installed package in a booted system.
# SOTP_NO_SKIP=1 turns whatever would be skipped for something that is missing into a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

# the end-to-end tests start the real binaries
cargo build --locked --workspace --bins
status=0
cargo test --locked --workspace --exclude tests --no-fail-fast || status=$?
# one after the other: they wait for real time, and each of them keeps the machine busy
# of the whole workspace, so that nothing is compiled anew for another set of features
cargo test --locked --workspace --test pipeline --test asvs --test kills --no-fail-fast -- --test-threads=1 || status=$?
[ $status -eq 0 ] || exit $status

packaging/package-test.sh
