#!/bin/bash
# Builds and tests what `sotp plugin new --lang rust` writes: sdk/rust/check-template.sh
set -euo pipefail
cd "$(dirname "$0")"

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
cp -r template/. "$new"
mkdir -p "$new/vendor/sotp-plugin"
cp -r Cargo.toml src "$new/vendor/sotp-plugin"
grep -rl '{{' "$new" --include '*.toml' --include '*.rs' --include '*.md' |
  xargs sed -i 's/{{id}}/acme.ups-2/g; s/{{crate}}/acme-ups-2/g; s/{{metric}}/acme_ups_2/g'
cd "$new"
cargo fmt --check
cargo test --quiet --offline
cargo build --quiet --offline --release --target wasm32-unknown-unknown
