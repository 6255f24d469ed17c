#!/bin/bash
# Builds the .deb and the .rpm into $TARGET/packages: release binaries, manual pages, completions.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
staging=$target/package
# the same sources give the same packages
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH

cargo build --quiet --locked --profile dist -p sotpd -p sotp

rm -rf "$staging" "$target/packages"
mkdir -p "$staging"/{man1,man5,man8,completions,plugins} "$target/packages"
SOTP=$target/dist/sotp plugins/build.sh "$staging/plugins"
"$target/dist/sotp" man "$staging/man1"
"$target/dist/sotpd" man 8 >"$staging/man8/sotpd.8"
"$target/dist/sotpd" man 5 >"$staging/man5/sotp.toml.5"
gzip -9n "$staging"/man?/*
"$target/dist/sotp" completions bash >"$staging/completions/sotp.bash"
"$target/dist/sotp" completions zsh >"$staging/completions/_sotp"
"$target/dist/sotp" completions fish >"$staging/completions/sotp.fish"
version=$(cargo metadata --no-deps --format-version 1 --locked | sed -n 's/.*"name":"sotpd","version":"\([^"]*\)".*/\1/p')
{
  echo "sotp ($version-1) stable; urgency=medium"
  echo
  echo "  * See /usr/share/doc/sotp/changelog.gz for what changed."
  echo
  echo " -- The SOTP maintainers <maintainers@sotp.invalid>  $(date -R -u -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$staging/changelog.Debian.gz"
gzip -9nc CHANGELOG.md >"$staging/changelog.gz"

# the assets' paths in daemon/Cargo.toml are relative to the crate or to `target`
ln -sfn "$staging" daemon/package-staging
trap 'rm -f daemon/package-staging' EXIT
cargo deb --quiet --locked --no-build --no-strip --profile dist -p sotpd --output "$target/packages/"
cargo generate-rpm -p daemon --profile dist --payload-compress xz --output "$target/packages/"

for package in "$target"/packages/*; do
  echo "package: $package ($(stat -c %s "$package") bytes)"
done
