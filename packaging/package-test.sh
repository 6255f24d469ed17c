#!/bin/bash
# Proves the packages: builds them, looks at them (lintian, file lists), then installs them in a booted Debian.
# Needs root for the boot; says that it was skipped where that is missing, and fails then with SOTP_NO_SKIP=1.
# The tree to boot is made from the Debian mirror $MIRROR, or from the usual one.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sotp
out=$target/package-test
suite=bookworm

packaging/build.sh

lintian --fail-on error --suppress-tags "$(grep -v '^#' packaging/deb/lintian-suppressed | paste -sd,)" \
  "$target"/packages/*.deb
rpm -qpl "$target"/packages/*.rpm | LC_ALL=C sort >"$target/rpm-files"
diff -u packaging/rpm/files "$target/rpm-files"
for script in preinstall postinstall preuninstall postuninstall; do
  rpm -qp --scripts "$target"/packages/*.rpm | grep -q "$script scriptlet" || { echo "the rpm has no $script script" >&2; exit 1; }
done
echo "package-test: the packages' contents are as they should be"

if [ "$(id -u)" != 0 ] || ! command -v systemd-nspawn >/dev/null; then
  echo "package-test: SKIPPED the boot: it needs root and systemd-nspawn"
  [ "${SOTP_NO_SKIP:-}" != 1 ] || exit 1
  exit 0
fi

# once; later runs use the cached tree, which is never written
root=$cache/root-$suite-2
if [ ! -e "$root/.complete" ]; then
  rm -rf "$root"
  mkdir -p "$cache"
  echo "package-test: making a Debian $suite to boot (once)"
  debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,dbus,iproute2,python3,snmpd,rpm,libsystemd0 "$suite" "$root" ${MIRROR:+"$MIRROR"} >"$cache/debootstrap.log" 2>&1 ||
    { tail -20 "$cache/debootstrap.log" >&2; exit 1; }
  ln -sf /dev/null "$root/etc/systemd/system/snmpd.service"
  touch "$root/.complete"
fi

rm -rf "$out"
mkdir -p "$out/artifacts"
cp "$target"/packages/* packaging/test/tap.sh "$out/artifacts/"
install -m 755 packaging/test/json packaging/test/https packaging/test/smtp-sink "$out/artifacts/"
for guest in deb rpm; do
  echo "package-test: booting for guest-$guest.sh"
  status=0
  packaging/test/boot.sh --root "$root" --artifacts "$out/artifacts" --script "packaging/test/guest-$guest.sh" \
    --out "$out/$guest" --timeout 400 || status=$?
  cat "$out/$guest/log"
  # a script that ended early may have failed nowhere
  grep -qE '^1\.\.[1-9][0-9]*$' "$out/$guest/log" || { echo "package-test: guest-$guest.sh did not reach its end" >&2; exit 1; }
  [ $status -eq 0 ] || { echo "package-test: guest-$guest.sh failed; see $out/$guest" >&2; exit 1; }
done
