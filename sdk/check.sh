#!/bin/bash
# Checks the SDK, which is no part of the workspace: sdk/check.sh
#
# The crate natively and for wasm32, the examples' native tests, and the plugin in C where clang is at hand. That the
# examples do in the sandbox what their golden cases say is a test of the workspace: cargo test -p author --test guide.
set -euo pipefail
cd "$(dirname "$0")"
# one place for all, so that the SDK is built once
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../target}/sdk
triple=wasm32-unknown-unknown

in_folder() {
  echo "sdk: $1: cargo ${*:2}"
  (cd "$1" && cargo "${@:2}")
}

in_folder rust fmt --check
in_folder rust clippy --quiet --offline --all-targets -- -D warnings
in_folder rust clippy --quiet --offline --target "$triple" -- -D warnings
in_folder rust test --quiet --offline
for manifest in examples/*/Cargo.toml ../plugins/*/Cargo.toml; do
  folder=$(dirname "$manifest")
  in_folder "$folder" fmt --check
  in_folder "$folder" clippy --quiet --offline --all-targets -- -D warnings
  in_folder "$folder" test --quiet --offline
done

if command -v clang >/dev/null && command -v wasm-ld >/dev/null; then
  c/example/build.sh "$CARGO_TARGET_DIR/ups-battery.wasm"
else
  echo "sdk: SKIPPED the plugin in C: clang and lld are not here"
fi
