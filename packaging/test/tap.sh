# Sourced by guest scripts: checks that print TAP, and small tools.
# shellcheck shell=bash
T0=$(date +%s%N)
CHECKS=0
FAILED=0

note() { printf '# %s\n' "$*"; }

passed() {
  CHECKS=$((CHECKS + 1))
  printf 'ok %d - %s  [%d ms]\n' $CHECKS "$1" $((($(date +%s%N) - T0) / 1000000))
}

failed() {
  CHECKS=$((CHECKS + 1))
  FAILED=$((FAILED + 1))
  printf 'not ok %d - %s\n' $CHECKS "$1"
  shift
  printf '#   %s\n' "$@"
}

# is WHAT GOT WANTED
is() {
  if [ "$2" = "$3" ]; then passed "$1"; else failed "$1" "wanted: $3" "got:    $2"; fi
}

# like WHAT GOT PART
like() {
  case $2 in
    *"$3"*) passed "$1" ;;
    *) failed "$1" "wanted: …$3…" "got:    $2" ;;
  esac
}

# eventually SECONDS WHAT WANTED COMMAND…: waits until COMMAND prints WANTED
eventually() {
  local seconds=$1 what=$2 wanted=$3 got='' end
  shift 3
  end=$(($(date +%s%N) + seconds * 1000000000))
  while [ "$(date +%s%N)" -lt "$end" ]; do
    got=$("$@" 2>/dev/null)
    if [ "$got" = "$wanted" ]; then
      passed "$what"
      return 0
    fi
    sleep 0.1
  done
  failed "$what" "wanted: $wanted within $seconds s" "got:    $got"
  return 1
}

# json PATH: prints what Python's PATH gives of the document on standard input
json() { /artifacts/json "$1"; }

# local_api METHOD PATH: prints the body that the daemon's socket answers with
local_api() {
  python3 -c 'import http.client, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/sotp/sotp.sock")
connection.request(*sys.argv[1:])
print(connection.getresponse().read().decode())' "$@"
}

# http PORT PATH: prints "STATUS BODY"; the guest has no curl
http() {
  local status
  exec 9<>"/dev/tcp/127.0.0.1/$1" || { echo 000; return; }
  printf 'GET %s HTTP/1.0\r\nHost: guest\r\n\r\n' "$2" >&9
  IFS= read -r -t 5 status <&9
  status=${status#* }
  echo "${status%% *} $(sed '1,/^\r$/d' <&9)"
  exec 9<&-
}

# https METHOD PATH [BODY]: prints "STATUS BODY"
https() { /artifacts/https "$@"; }

# says TEXT COMMAND…: True if COMMAND prints TEXT somewhere
says() {
  local text=$1
  shift
  if "$@" | grep -qF "$text"; then echo True; fi
}

status_has() { says "$1" systemctl show -P StatusText sotpd; }

# places SECRET…: where one of them stands and must not: the journal, apt's log, the daemon's environment, its command
# line and all that it keeps. Its memory is left out: root can read that, and the daemon could not work otherwise; what
# would write it to a disk, a core dump, is forbidden by LimitCORE=0.
places() {
  local secret pid
  pid=$(systemctl show -P MainPID sotpd)
  journalctl --sync
  journalctl --no-pager -o export >/tmp/journal.export
  for secret in "$@"; do
    [ ${#secret} -ge 8 ] || { echo "too short to look for: $secret"; continue; }
    # on standard input: a command line would be one more place
    grep -raFl -f <(printf '%s' "$secret") /tmp/journal.export /var/log/apt /var/log/dpkg.log "/proc/$pid/environ" \
      "/proc/$pid/cmdline" /var/lib/sotp /run/log 2>/dev/null
  done | sort -u
  rm /tmp/journal.export
}

finish() {
  echo "1..$CHECKS"
  echo "$((CHECKS - FAILED)) passed, $FAILED failed"
  [ "$FAILED" -eq 0 ]
  exit
}
