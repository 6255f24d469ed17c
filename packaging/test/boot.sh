#!/bin/bash
# Boots a throw-away Debian under a real systemd and runs a script in it:
#
#   boot.sh --root TREE --artifacts DIR --script FILE --out DIR [--timeout SECONDS]
#
# TREE is a debootstrapped root that is never written: an overlay on a tmpfs lies over it. FILE runs as root once
# multi-user.target is reached, with DIR read-only at /artifacts and --out writable at /out; what it prints goes to
# /out/log, and its exit status becomes this script's. The guest has a network of its own, with nothing in it but
# loopback. Needs root, systemd-nspawn and overlayfs.
set -euo pipefail

timeout=180
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=$2 ;;
    --artifacts) artifacts=$2 ;;
    --script) script=$2 ;;
    --out) out=$2 ;;
    --timeout) timeout=$2 ;;
    *) echo "boot: unknown option $1" >&2; exit 64 ;;
  esac
  shift 2
done

work=$(mktemp -d "${TMPDIR:-/tmp}/sotp-boot.XXXXXX")
leave() {
  umount -l "$work/merged" 2>/dev/null || true
  umount -l "$work/upper" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap leave EXIT

mkdir -p "$out" "$work/upper" "$work/merged"
: >"$out/log"
mount -t tmpfs -o size=2g,mode=755 sotp-boot "$work/upper"
mkdir "$work/upper/changes" "$work/upper/work"
mount -t overlay sotp-boot -o "lowerdir=$root,upperdir=$work/upper/changes,workdir=$work/upper/work" "$work/merged"

units=$work/merged/etc/systemd/system
install -m 755 "$script" "$work/merged/guest-script"
cat >"$units/guest.service" <<'EOF'
[Unit]
After=multi-user.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=/guest-script
TimeoutStartSec=infinity
StandardOutput=append:/out/log
StandardError=inherit
Environment=HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
EOF
# a target of its own: wanted by multi-user.target, the script could never see that target reached
cat >"$units/guest.target" <<'EOF'
[Unit]
Requires=multi-user.target guest.service
After=multi-user.target
AllowIsolate=yes
EOF
ln -sf guest.target "$units/default.target"
# nobody logs in and nothing is updated: they would only slow the boot
for unit in console-getty.service getty.target systemd-logind.service apt-daily.timer apt-daily-upgrade.timer \
  e2scrub_all.timer systemd-update-utmp.service systemd-firstboot.service; do
  ln -sf /dev/null "$units/$unit"
done

status=0
# a container refuses what no container needs; the daemon's sandbox needs these, and on a host it has them
calls="seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self"
timeout -k 5 "$timeout" systemd-nspawn --quiet --system-call-filter="$calls" --directory="$work/merged" --machine="sotp-$$" --register=no \
  --keep-unit --private-network --console=pipe --bind="$out:/out" --bind-ro="$artifacts:/artifacts" \
  --setenv=SYSTEMD_LOG_COLOR=0 --boot </dev/null >"$out/console" 2>&1 || status=$?
if [ $status -ne 0 ]; then
  echo "boot: exit status $status; the console's last lines:" >&2
  tail -5 "$out/console" >&2
fi
exit $status
