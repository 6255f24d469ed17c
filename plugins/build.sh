#!/bin/bash
# Builds every plugin of this folder and packs it: plugins/build.sh [FOLDER]
#
# The packages go to FOLDER, by default target/plugins/packages. $SOTP is the program that packs, by default what cargo
# builds. Plugins in Rust are built for wasm32-unknown-unknown by rustup's toolchain, or, where its target cannot be had,
# by Debian's rustc-web with the standard library built on the way.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

target=${CARGO_TARGET_DIR:-$root/target}/plugins
packages=$(realpath -m "${1:-$target/packages}")
triple=wasm32-unknown-unknown

has_target() {
  local sysroot
  sysroot=$(rustc --print sysroot 2>/dev/null) && [ -d "$sysroot/lib/rustlib/$triple" ]
}

choose_toolchain() {
  if has_target || { rustup target add "$triple" >/dev/null 2>&1 && has_target; }; then
    cargo=(cargo build)
  elif [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && command -v wasm-ld >/dev/null; then
    echo "plugins: no target $triple from rustup, so Debian's toolchain builds the standard library as well"
    cargo=(env RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld
      /usr/bin/cargo build "-Zbuild-std=std,panic_abort")
  else
    echo "plugins: the target $triple is missing: rustup target add $triple" >&2
    echo "         (or apt-get install rustc-web cargo-web lld)" >&2
    exit 1
  fi
}

# The core module of a plugin in Rust; `sotp plugin pack` makes a component of it.
build_rust() {
  local folder=$1 name
  name=$(sed -n '/^\[package\]/,/^\[/s/^name = "\(.*\)"/\1/p' "$folder/Cargo.toml")
  # in its folder, because its .cargo/config.toml counts; in a directory of its own, because its lock is its own
  (cd "$folder" && CARGO_TARGET_DIR=$target "${cargo[@]}" --quiet --release --lib --target "$triple")
  module=$target/$triple/release/${name//-/_}.wasm
}

sotp=${SOTP:-}
if [ -z "$sotp" ]; then
  cargo build --quiet --locked -p sotp
  sotp=${CARGO_TARGET_DIR:-$root/target}/debug/sotp
fi

mkdir -p "$packages"
cargo=()
for manifest in plugins/*/plugin.toml; do
  folder=$(dirname "$manifest")
  id=$(basename "$folder")
  module=
  if [ -f "$folder/Cargo.toml" ]; then
    [ ${#cargo[@]} -gt 0 ] || choose_toolchain
    build_rust "$folder"
  fi
  "$sotp" plugin pack "$folder" ${module:+--wasm "$module"} --out "$packages/$id.sotp-plugin"
  echo "plugins: $packages/$id.sotp-plugin"
done
