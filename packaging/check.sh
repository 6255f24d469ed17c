#!/bin/bash
# What is quick: formatting, lints, dependencies, shell scripts, shipped settings.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings

# Advisories need their database from the network; where it is out of reach the rest still holds. Once it is there,
# whatever it says counts.
cargo deny --locked check --hide-inclusion-graph bans licenses sources
fetched=$(mktemp)
trap 'rm -f "$fetched"' EXIT
if timeout 120 cargo deny fetch db index >"$fetched" 2>&1; then
  cargo deny --frozen check --hide-inclusion-graph advisories
else
  echo "check: SKIPPED advisories: their database cannot be fetched from here: $(tail -1 "$fetched")"
fi

shellcheck --severity=warning sdk/check.sh sdk/c/example/build.sh plugins/build.sh packaging/*.sh packaging/test/*.sh packaging/keys/* .ci/run
for script in packaging/deb/post* packaging/rpm/p*; do sh -n "$script"; done

# what is no part of the workspace
sdk/check.sh

# every file that is shipped must be one that the daemon accepts
cargo run --quiet --locked -p sotpd -- check etc/sotp.toml --rules etc/rules
