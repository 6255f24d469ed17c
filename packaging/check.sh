#!/bin/bash
# What is quick: formatting, lints, dependencies, shell scripts, shipped settings.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings

# Advisories need their database from the network; where it is out of reach the rest still holds.
cargo deny --locked check --hide-inclusion-graph bans licenses sources
if ! timeout 120 cargo deny --locked check --hide-inclusion-graph advisories 2>"${TMPDIR:-/tmp}/sotp-advisories"; then
  if grep -qE 'failed to fetch|unable to fetch|failed to (clone|open)|Could not resolve|timed out' "${TMPDIR:-/tmp}/sotp-advisories"; then
    echo "check: SKIPPED advisories: their database cannot be fetched from here"
  else
    cat "${TMPDIR:-/tmp}/sotp-advisories" >&2
    exit 1
  fi
fi

shellcheck --severity=warning packaging/*.sh packaging/test/*.sh .ci/run
sh -n packaging/deb/postinst && sh -n packaging/deb/postrm

# every file that is shipped must be one that the daemon accepts
cargo run --quiet --locked -p sotpd -- check etc/sotp.toml --rules etc/rules
