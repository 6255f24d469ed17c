#!/bin/bash
# The benchmarks of a release build: all of them, or the parts that are named, as in `bench.sh icmp snmp`.
# Prints a table and writes it to bench.json in the target directory; fails if a value could not be measured.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --bins -p sotpd -p sotp -p simulate
cargo bench --locked -p tests --bench product -- "$@"
