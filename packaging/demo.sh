#!/bin/bash
# make demo: the product against a simulated site of 50 devices, and an outage in it.
#
# Everything runs in a network namespace of its own, so nothing leaves the machine, and in a temporary folder, which is
# removed at the end. KEEP=1 leaves it running until Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}

if [ "${1:-}" != inside ]; then
  echo "demo: building"
  cargo build --quiet --locked -p sotpd -p sotp -p simulate
  # as root of a namespace: a network with nothing in it but loopback
  user=()
  [ "$(id -u)" = 0 ] || user=(--user --map-root-user)
  exec unshare --net "${user[@]}" -- "$PWD/packaging/demo.sh" inside
fi

began=$SECONDS
folder=$(mktemp -d "${TMPDIR:-/tmp}/sotp-demo.XXXXXX")
children=()
finish() {
  local child
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  for child in "${children[@]}"; do wait "$child" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m[%3d s] %s\033[0m\n' $((SECONDS - began)) "$*"; }
[ -t 1 ] || say() { printf '\n[%3d s] %s\n' $((SECONDS - began)) "$*"; }
sotp() { "$target/debug/sotp" --socket "$folder/sotp.sock" "$@"; }
# until SECONDS WHAT COMMAND…: waits until COMMAND succeeds
until_() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $end ]; then
      echo "demo: $what: not in time; the daemon's log ends with" >&2
      tail -20 "$folder/log" >&2
      exit 1
    fi
    sleep 0.2
  done
}

ip link set lo up
# the one group that is mapped where a user made the namespace; a wider range would be refused
echo '0 0' >/proc/sys/net/ipv4/ping_group_range
# the simulated devices answer pings themselves, so that one of them can be silent
echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all

"$target/debug/simulate" --devices 50 --icmp --control "$folder/site.sock" >"$folder/site.log" 2>&1 &
children+=($!)
/usr/bin/python3 -m aiosmtpd -n -l 127.0.0.1:2525 -c aiosmtpd.handlers.Mailbox "$folder/mailbox" 2>"$folder/mail.log" &
children+=($!)

# what secrets are sealed with: the package makes such a key
(umask 077 && head -c 32 /dev/urandom | base64 >"$folder/key")
mkdir "$folder/rules"
cp etc/rules/*.toml "$folder/rules/"
cat >"$folder/sotp.toml" <<EOF
[store]
path = "$folder/sotp.redb"
ballast = "0B"
[api]
socket = "$folder/sotp.sock"
https = "off"           # root needs nobody's leave at the socket
[secrets]
key_file = "$folder/key"
[icmp]                  # quicker than the defaults, so that you need not wait
every = "5s"
probes = 4
gap = "100ms"
[snmp]
every = "10s"
[rules]
dir = "$folder/rules"
[mail]
server = "127.0.0.1"
port = 2525
tls = "none"
from = "SOTP <sotp@demo.example>"
to = ["noc@demo.example"]
templates = "$PWD/etc/templates"
EOF

say "sotpd starts"
"$target/debug/sotpd" --config "$folder/sotp.toml" 2>"$folder/log" &
children+=($!)
until_ 20 "an answer of sotpd" sotp status
until_ 20 "the simulated site" test -S "$folder/site.sock"

say "50 devices are imported; the community comes from a file"
echo public >"$folder/community"
sotp credentials set public --snmp-community-file "$folder/community"
"$target/debug/simulate" site --devices 50 --credential public | sotp devices import -

# berlin down|up: the distribution switch and everything that is reached through it
berlin() {
  local device
  for device in $(sotp devices ls --site berlin -o tsv | tail -n +2 | cut -f1); do
    "$target/debug/simulate" ctl --control "$folder/site.sock" "$1" "$device" >/dev/null
  done
}
all_up() { [ "$(sotp devices ls --state up -o jsonl | grep -c '"in_bps":[0-9]')" = 50 ]; }
until_ 60 "50 devices with rates" all_up
say "all of them are up, with interface rates: sotp devices ls"
sotp devices ls -o table

say "the distribution switch in Berlin dies: all 16 devices there fall silent"
berlin down
firing() { [ "$(sotp alerts ls --state firing -o jsonl | wc -l)" = 1 ]; }
until_ 90 "an alert" firing
behind() { [ "$(sotp devices ls --state unreachable -o jsonl | wc -l)" = 15 ]; }
until_ 60 "the devices behind it" behind
say "one alert fires; what is behind it is unreachable, and nobody is told of each: sotp alerts ls"
sotp alerts ls -o table

mails() { find "$folder/mailbox/new" -type f 2>/dev/null; }
arrived() { [ "$(mails | wc -l)" = "$1" ]; }
print_mail() {
  /usr/bin/python3 - "$1" <<'EOF'
import email, email.policy, sys
mail = email.message_from_file(open(sys.argv[1]), policy=email.policy.default)
for name in ("From", "To", "Date", "Subject", "Message-ID", "In-Reply-To"):
    if mail[name]:
        print(f"  {name}: {mail[name]}")
print()
for line in mail.get_body(("plain",)).get_content().splitlines():
    print(f"  {line}")
EOF
}
until_ 30 "a mail" arrived 1
first=$(mails)
say "one mail landed in the mailbox:"
print_mail "$first"

say "the switch returns"
berlin up
nothing_fires() { [ "$(sotp alerts ls -o jsonl | wc -l)" = 0 ]; }
until_ 90 "the end of the alert" nothing_fires
until_ 60 "50 devices up" all_up
until_ 30 "the second mail" arrived 2
say "the alert is over, and a second mail says so, in the same thread:"
print_mail "$(mails | grep -vF "$first")"
sotp alerts ls --all --limit 1 -o table
say "how the appliance itself is doing: sotp status"
sotp status -o table

if [ "${KEEP:-}" = 1 ]; then
  say "it goes on until Ctrl-C. In another terminal:"
  echo "  export SOTP_SOCKET=$folder/sotp.sock PATH=$target/debug:\$PATH"
  echo "  sotp devices show core-1"
  echo "  simulate ctl --control $folder/site.sock help"
  wait
fi
say "done"
