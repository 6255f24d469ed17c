#!/bin/sh
# Builds the plugin: sdk/c/example/build.sh [OUT.wasm]
#
# Debian: apt-get install clang lld. What comes out is a core module with the contract in a section of its own;
# `sotp plugin pack --wasm` makes a component of it. The stack comes first, so that one that overflows traps.
set -eu
cd "$(dirname "$0")"
out=${1:-plugin.wasm}

${CC:-clang} --target=wasm32-unknown-unknown -O2 -Wall -Wextra -Werror \
  -ffreestanding -nostdlib -fno-builtin -isystem ../runtime -I ../bindings \
  -Wl,--no-entry -Wl,--stack-first -Wl,-z,stack-size=65536 -Wl,--strip-all \
  plugin.c ../runtime/runtime.c ../bindings/parser_plugin.c ../bindings/parser_plugin_component_type.o \
  -o "$out"
