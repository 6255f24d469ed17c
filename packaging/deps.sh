#!/bin/bash
# Installs what a task needs, on Debian or Ubuntu: `deps.sh build test …`. Quiet and quick when all is there.
# Needs root, or sudo, only if something is missing.
set -euo pipefail

declare -A DEBS=(
  [build]="build-essential pkg-config libsystemd-dev"
  [demo]="iproute2 util-linux python3 python3-aiosmtpd"
  [check]="shellcheck"
  [test]="iproute2 util-linux iputils-ping python3 python3-aiosmtpd openssl snmp snmpd fping mandoc"
  [package]="debootstrap systemd-container lintian rpm xz-utils man-db"
  [bench]="iproute2 snmp fping prometheus-snmp-exporter"
)
# tool and exact version: a new release must not change what passes
declare -A TOOLS=(
  [check]="cargo-deny@0.20.2"
  [package]="cargo-deb@3.8.0 cargo-generate-rpm@0.21.1"
)

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

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
  as_root apt-get update -qq
  # no service of these may start on a developer's machine
  as_root sh -c 'printf "#!/bin/sh\nexit 101\n" >/tmp/sotp-policy && chmod 755 /tmp/sotp-policy
    [ -e /usr/sbin/policy-rc.d ] || { mv /tmp/sotp-policy /usr/sbin/policy-rc.d; touch /tmp/sotp-policy-ours; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; status=$?
    [ ! -e /tmp/sotp-policy-ours ] || rm -f /usr/sbin/policy-rc.d /tmp/sotp-policy-ours
    exit $status' sh "${missing[@]}"
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
