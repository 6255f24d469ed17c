#!/bin/bash
# Every test: unit and end-to-end tests, then the installed package in a booted system.
set -euo pipefail
cd "$(dirname "$0")/.."

# the end-to-end tests start the real binaries
cargo build --locked --workspace --bins
cargo test --locked --workspace --no-fail-fast

packaging/package-test.sh
