#!/bin/bash
# In the booted guest: the .deb from installation to purge, as an administrator would go through it. Prints TAP.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
. /artifacts/tap.sh
ip link set lo up

deb=$(echo /artifacts/sotp_*_amd64.deb)
pid() { systemctl show -P MainPID sotpd; }
prop() { systemctl show -P "$1" sotpd; }
health() { http 8080 "$1"; }
everything_logged() { journalctl --sync && journalctl --no-pager -o export; }
sha() { sha256sum "$1" | cut -d' ' -f1; }
# as an administrator at another machine: not at the socket, but signed in
remote() { XDG_CONFIG_HOME=/tmp/signed-in sotp --context guest "$@"; }
value() { sotp devices show "$1" -o json | json "$2"; }

before=$(systemctl --failed --no-legend --plain | awk '{print $1}' | sort | tr '\n' ' ')
note "systemd $(systemctl --version | awk 'NR==1{print $2}') on $(. /etc/os-release && echo "$PRETTY_NAME")"

note "install"
apt-get install -y -q "$deb" </dev/null >/tmp/install.log 2>&1
is "apt install asks nothing and succeeds" $? 0
eventually 10 "active within 10 s" active systemctl is-active sotpd
is "enabled" "$(systemctl is-enabled sotpd)" enabled
like "the status says what it does" "$(prop StatusText)" "watching 0 devices"
is "runs as sotp" "$(stat -c %U "/proc/$(pid)")" sotp
is "has no capability" "$(awk '/^CapEff/{print $2}' "/proc/$(pid)/status")" 0000000000000000
is "cannot get one" "$(awk '/^CapBnd/{print $2}' "/proc/$(pid)/status")" 0000000000000000
is "has a system call filter" "$(awk '/^Seccomp:/{print $2}' "/proc/$(pid)/status")" 2
is "state directory" "$(stat -c '%U %a' /var/lib/sotp)" "sotp 750"
is "store is its own" "$(stat -c '%U %a' /var/lib/sotp/sotp.redb)" "sotp 600"
is "socket is for root and the group" "$(stat -c '%U:%G %a' /run/sotp/sotp.sock)" "sotp:sotp 660"
like "ready" "$(health /health/ready)" "200 "
like "ping sockets are open to it" "$(sotp status -o json | json '["icmp"]["v4"]')" "ping socket"
is "nothing secret was printed at installation" "$(grep -ciE 'password|token' /tmp/install.log)" 0
is "nor the key" "$(grep -cF -f /etc/sotp/sotp-kek /tmp/install.log)" 0
like "but where to go on" "$(cat /tmp/install.log)" "sudo sotp setup"
is "the key is for root alone" "$(stat -c '%U:%G %a %s' /etc/sotp/sotp-kek)" "root:root 600 45"
is "and is 32 bytes" "$(base64 -d </etc/sotp/sotp-kek | wc -c)" 32
is "the daemon gets it from systemd" "$(cmp /run/credentials/sotpd.service/sotp-kek /etc/sotp/sotp-kek && echo same)" same
is "samples are its own" "$(stat -c '%U %a' /var/lib/sotp/sotp.samples)" "sotp 700"
is "and so are backups" "$(stat -c '%U %a' /var/lib/sotp-backups)" "sotp 750"
is "the certificate's key is its own" "$(stat -c '%U %a' /var/lib/sotp/tls /var/lib/sotp/tls/key.pem | tr '\n' ' ')" "sotp 700 sotp 600 "
is "a core dump is impossible" "$(awk '/^Max core file size/{print $5, $6}' "/proc/$(pid)/limits")" "0 0"

note "set-up"
password=C4nary-mPw7-kx93-Lantern
like "before it nobody gets an answer over the network" "$(https GET /api/v1/devices)" "503 "
like "but whether it is set up" "$(https GET /api/v1/setup)" "200 "
like "and that it lives" "$(https GET /health/live)" "200 "
is "the plain port tells strangers no more" "$(http 8080 /api/v1/devices | grep -c '"items"')" 0
sotp setup >/tmp/setup.log 2>&1
is "sotp setup" $? 0
link=$(grep -oE 'https://[^ ]+#[^ ]+' /tmp/setup.log | head -1)
like "prints a link" "$link" ":8443/setup#"
token=${link##*#}
token=${token##*=}
fingerprint=$(grep -oE '([0-9A-F]{2}:){31}[0-9A-F]{2}' /tmp/setup.log | head -1)
is "and the certificate's SHA-256" "$fingerprint" "$(python3 -c 'import hashlib, ssl, sys; print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(sys.stdin.read())).digest().hex(":").upper())' </var/lib/sotp/tls/certificate.pem)"
like "the link leads to a page" "$(https GET /setup)" "200 <"
body="{\"token\":\"$token\",\"user\":\"ann\",\"password\":\"$password\"}"
guessed=$(https POST /api/v1/setup "${body/$token/${token}x}")
is "a link that was never given is refused" "${guessed:0:1}" 4
like "the link works" "$(https POST /api/v1/setup "$body")" "201 "
again=$(https POST /api/v1/setup "$body")
is "once" "${again:0:1}" 4
sotp setup >/dev/null 2>&1
is "and there is no other after it" $? 3
like "strangers get nothing" "$(https GET /api/v1/devices)" "401 "
printf '%s\n' "$password" >/tmp/password
XDG_CONFIG_HOME=/tmp/signed-in sotp login https://127.0.0.1:8443 --context guest --user ann --password-file /tmp/password --fingerprint "$fingerprint" >/tmp/login.log 2>&1
is "sotp login" $? 0
is "sotp devices ls over https" "$(remote devices ls -o json >/tmp/ls.log 2>&1; echo $?)" 0
XDG_CONFIG_HOME=/tmp/elsewhere sotp login https://127.0.0.1:8443 --user ann --password-file /tmp/password >/tmp/login.log 2>&1
is "a certificate that nobody vouches for is not trusted unasked" "$?/$(grep -c "$password" /tmp/login.log)" "4/0"

note "a device"
printf 'rocommunity t0psecret 127.0.0.1\nagentaddress udp:127.0.0.1:161\nsysName guest\n' >/tmp/snmpd.conf
/usr/sbin/snmpd -C -c /tmp/snmpd.conf -f -Lf /tmp/snmpd.log -p /tmp/snmpd.pid &
printf 't0psecret\n' >/tmp/community
t0=$(date +%s%N)
sotp devices add guest 127.0.0.1 --snmp-community-file /tmp/community >/tmp/add.log 2>&1
is "sotp devices add" $? 0
eventually 10 "a first ICMP sample within 10 s" True value guest '["rtt_seconds"] is not None'
eventually 10 "a first SNMP sample within 10 s" guest value guest '["facts"]["sys_name"]'
note "first samples after $((($(date +%s%N) - t0) / 1000000)) ms"
is "up" "$(value guest '["state"]')" up
like "its loopback interface is there" "$(sotp devices interfaces guest -o tsv)" "lo"
is "who is not in the group may not ask" "$(setpriv --reuid nobody --clear-groups --reset-env sotp status >/dev/null 2>&1; echo $?)" 4
is "the community is in no answer" "$(sotp devices show guest -o json | grep -c t0psecret)" 0

note "secrets"
printf 'c4nary-of-a-secret-8812\n' >/tmp/secret
remote secrets set smtp --value-file /tmp/secret >/tmp/secrets.log 2>&1
is "sotp secrets set" $? 0
is "no answer has the value" "$(remote secrets show smtp -o json | grep -c c4nary)" 0
grants=$(python3 -c 'import json; print("\n".join(v for c in json.load(open("/tmp/signed-in/sotp/contexts.json"))["contexts"].values() for k, v in c.items() if k.endswith("_token")))')
is "somebody who signed in was given two tokens" "$(wc -l <<<"$grants")" 2
# shellcheck disable=SC2086
is "what was confided stands nowhere" "$(places t0psecret c4nary-of-a-secret-8812 "$password" "$token" "$(cat /etc/sotp/sotp-kek)" $grants)" ""
is "and would be found" "$(printf 'c4nary-of-a-secret-8812' >/var/lib/sotp/found; places c4nary-of-a-secret-8812; rm /var/lib/sotp/found)" /var/lib/sotp/found

note "reload"
main=$(pid)
printf '[icmp]\nevery = "2s"\nprobes = 2\ngap = "50ms"\n[snmp]\nevery = "5s"\ntimeout = "1s"\nretries = 1\n' >/etc/sotp/sotp.toml
systemctl reload sotpd
is "a good file is taken" $? 0
is "by the same process" "$(pid)" "$main"
like "and is in force" "$(sotpd config)" 'icmp.every = "2s"'
kill -STOP "$(cat /tmp/snmpd.pid)"
eventually 20 "an agent that hangs is named" timeout value guest '["checks"]["snmp"]["failure"]["kind"]'
kill -CONT "$(cat /tmp/snmpd.pid)"
eventually 20 "and fine again" None value guest '["checks"]["snmp"]["failure"]'
is "the community is in no field of the journal" "$(everything_logged | grep -ac t0psecret)" 0
echo 'probes = nonsense' >>/etc/sotp/sotp.toml
systemctl reload sotpd 2>/dev/null
is "a bad file is refused by systemctl reload" $? 1
kill -HUP "$main"
eventually 5 "a plain SIGHUP is refused too" True status_has "reload refused"
# by the daemon itself, not only by the check before the signal
eventually 5 "with file and line in the journal" True says "sotp.toml:9:" journalctl "_PID=$main" --no-pager
is "and it goes on" "$(pid)" "$main"
systemctl restart sotpd 2>/dev/null
is "a restart with a bad file fails" $? 1
sleep 1.5
is "with EX_CONFIG and without a loop" "$(prop ExecMainStatus) $(prop NRestarts)" "78 0"
sed -i '$d' /etc/sotp/sotp.toml
systemctl reset-failed sotpd
systemctl start sotpd
is "a mended file starts" $? 0

note "kill -9"
eventually 10 "asked again after the restart" up value guest '["state"]'
printf 'name,address\nlater,127.0.0.77\n' | sotp devices import - 2>/dev/null
kill -9 "$(pid)"
eventually 10 "back after kill -9" 1 prop NRestarts
eventually 10 "and active" active systemctl is-active sotpd
eventually 5 "an acknowledged write is there" later value later '["name"]'
eventually 10 "the device is up again" up value guest '["state"]'
note "a second instance"
install -d -m 700 -o sotp /tmp/credentials
install -m 600 -o sotp /etc/sotp/sotp-kek /tmp/credentials/
CREDENTIALS_DIRECTORY=/tmp/credentials setpriv --reuid sotp --regid sotp --clear-groups /usr/bin/sotpd >/tmp/second 2>&1
is "refuses with EX_TEMPFAIL" $? 75
rm -r /tmp/credentials
like "and says why" "$(cat /tmp/second)" "in use"

note "down and back"
sotp devices rm later --yes 2>/dev/null
sotp devices add gone 127.0.0.66 2>/dev/null
eventually 15 "up first" up value gone '["state"]'
ip route add unreachable 127.0.0.66/32 table local
eventually 40 "down when it is gone" down value gone '["state"]'
is "one alert fires" "$(sotp alerts ls --state firing -o json | json '["alerts"].__len__()')" 1
ip route del unreachable 127.0.0.66/32 table local
eventually 30 "up when it is back" up value gone '["state"]'
eventually 10 "the alert is over" 0 sh -c "sotp alerts ls --state firing -o json | /artifacts/json '[\"alerts\"].__len__()'"

note "watchdog"
mkdir -p /run/systemd/system/sotpd.service.d
printf '[Service]\nWatchdogSec=3\n' >/run/systemd/system/sotpd.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart sotpd
eventually 10 "active with a short watchdog" active systemctl is-active sotpd
sleep 4
is "a healthy daemon is left alone" "$(prop NRestarts)" 0
kill -STOP "$(pid)"
eventually 15 "a hung daemon is started anew" 1 prop NRestarts
like "and the journal says why" "$(journalctl -u sotpd --no-pager | grep -ci 'watchdog timeout')" 1
rm -r /run/systemd/system/sotpd.service.d
systemctl daemon-reload
systemctl restart sotpd

note "the sandbox"
systemd-analyze security sotpd --no-pager >/out/security.txt 2>&1
note "$(tail -1 /out/security.txt)"
systemd-analyze security --offline=yes --threshold=15 --no-pager /lib/systemd/system/sotpd.service >/dev/null 2>&1
is "exposure is at most 1.5" $? 0

note "without ping sockets"
systemctl stop sotpd
echo "1 0" >/proc/sys/net/ipv4/ping_group_range
systemctl start sotpd
eventually 10 "says what is missing" True says "ping_group_range" sotp status -o json
is "and does not call a device down for it" "$(value gone '["state"]' | grep -c down)" 0
/lib/systemd/systemd-sysctl /usr/lib/sysctl.d/50-sotp.conf
systemctl restart sotpd

note "mail password"
printf '[icmp]\nevery = "2s"\nprobes = 2\ngap = "50ms"\n[mail]\nserver = "127.0.0.1"\nport = 2525\ntls = "none"\nuser = "sotp"\nfrom = "sotp@example.net"\nto = ["noc@example.net"]\n' >/etc/sotp/sotp.toml
install -m 600 /dev/null /etc/sotp/smtp-password
echo 'm4ilsecret' >/etc/sotp/smtp-password
/artifacts/smtp-sink 2525 sotp m4ilsecret /tmp/mails &
smtp=$!
systemctl restart sotpd
is "handed over by systemd" $? 0
eventually 10 "a mail server" True says 2525 ss -Hltn
sotp notify test >/tmp/notify.log 2>&1
is "sotp notify test" $? 0
like "delivered, with the password" "$(cat /tmp/mails /tmp/notify.log)" "To: noc@example.net"
is "the password is in no field of the journal" "$(everything_logged | grep -ac m4ilsecret)" 0
sed -i 's/^user = .*/&\npassword = "secret:\/\/smtp"/' /etc/sotp/sotp.toml
rm /etc/sotp/smtp-password
printf 'm4ilsecret\n' >/tmp/secret
sotp secrets set smtp --value-file /tmp/secret >/dev/null 2>&1
: >/tmp/mails
systemctl reload sotpd
is "a password among the secrets is taken at a reload" $? 0
sotp notify test >/tmp/notify.log 2>&1
like "and lets mails through" "$(cat /tmp/mails /tmp/notify.log)" "To: noc@example.net"
is "what the store keeps does not tell it" "$(places m4ilsecret)" ""
kill $smtp
is "not in the environment" "$(tr '\0' '\n' <"/proc/$(pid)/environ" | grep -c m4ilsecret)" 0
is "not in the settings as printed" "$(sotpd config | grep -c m4ilsecret)" 0

note "a wrong key, and none"
key=$(sha /etc/sotp/sotp-kek)
systemctl stop sotpd
store=$(sha /var/lib/sotp/sotp.redb)
mv /etc/sotp/sotp-kek /tmp/right-key
for what in wrong missing; do
  if [ $what = wrong ]; then head -c 32 /dev/urandom | base64 >/etc/sotp/sotp-kek; else rm /etc/sotp/sotp-kek; fi
  systemctl reset-failed sotpd
  systemctl start sotpd 2>/dev/null
  is "a $what key: the unit fails" $? 1
  sleep 2.5
  is "a $what key: with EX_CONFIG and without a loop" "$(prop ActiveState) $(prop ExecMainStatus) $(prop NRestarts)" "failed 78 0"
  is "a $what key: the store is not touched" "$(sha /var/lib/sotp/sotp.redb)" "$store"
  like "a $what key: the journal says so" "$(journalctl -u sotpd --no-pager -n 5)" "key"
done
mv /tmp/right-key /etc/sotp/sotp-kek
systemctl reset-failed sotpd
systemctl start sotpd
is "with the right one it starts" $? 0

note "upgrade"
cp /etc/sotp/sotp.toml /tmp/edited.toml
apt-get install -y -q --reinstall -o Dpkg::Options::=--force-confold "$deb" </dev/null >/tmp/upgrade.log 2>&1
is "over itself" $? 0
eventually 10 "active" active systemctl is-active sotpd
is "the administrator's file stays" "$(cmp /etc/sotp/sotp.toml /tmp/edited.toml && echo same)" same
eventually 5 "the inventory stays" guest value guest '["name"]'
is "the key stays" "$(sha /etc/sotp/sotp-kek)" "$key"
eventually 10 "whoever signed in still is" guest sh -c "XDG_CONFIG_HOME=/tmp/signed-in sotp --context guest devices show guest -o json | /artifacts/json '[\"name\"]'"

note "a key that is sealed, and exchanged"
/usr/lib/sotp/rotate-key >/tmp/rotate.log 2>&1
is "rotate-key" $? 0
is "the key is another" "$([ "$(sha /etc/sotp/sotp-kek)" != "$key" ] && [ "$(sha /etc/sotp/sotp-kek-old)" = "$key" ] && echo yes)" yes
is "and no new one is left" "$(ls /etc/sotp/sotp-kek-new 2>/dev/null)" ""
# a poll that began after a restart, with the community as it was unsealed then
asked() {
  local since
  since=$(date -u +%FT%T)
  systemctl restart sotpd
  eventually 20 "$1" True value guest "[\"checks\"][\"snmp\"][\"at\"] > \"$since\" and document[\"checks\"][\"snmp\"][\"failure\"] is None"
}
asked "devices are asked with what it opens"
key=$(sha /etc/sotp/sotp-kek)
echo no | /usr/lib/sotp/seal-key >/tmp/seal.log 2>&1
is "seal-key asks first" "$? $(sha /etc/sotp/sotp-kek)" "1 $key"
/usr/lib/sotp/seal-key --yes >/tmp/seal.log 2>&1
is "seal-key" $? 0
is "the plain key is gone" "$(ls /etc/sotp/sotp-kek /etc/sotp/sotp-kek.aside 2>/dev/null)" ""
is "what is left opens with this machine's key alone" "$(stat -c '%U %a' /etc/sotp/sotp-kek.cred) $(sha <(systemd-creds decrypt --name=sotp-kek /etc/sotp/sotp-kek.cred - 2>/dev/null))" "root 600 $key"
asked "devices are asked with a sealed key"
/usr/lib/sotp/rotate-key >/tmp/rotate.log 2>&1
is "rotate-key with a sealed key" $? 0
is "which stays sealed" "$(ls /etc/sotp/sotp-kek /etc/sotp/sotp-kek-new* 2>/dev/null)" ""
asked "and devices are asked"
is "nothing is in doubt" "$(sotp audit verify >/tmp/verify.log 2>&1; echo $?)" 0
apt-get install -y -q --reinstall -o Dpkg::Options::=--force-confold "$deb" </dev/null >/tmp/upgrade.log 2>&1
is "an upgrade makes no key beside a sealed one" "$? $(ls /etc/sotp/sotp-kek 2>/dev/null)" "0 "
eventually 10 "and the daemon has it" active systemctl is-active sotpd

note "plugins"
of_host() { local_api GET /api/v1/plugins | json "[\"host\"][\"$1\"]"; }
active() { sotp plugin ls -o tsv | awk '$4=="active"' | wc -l; }
new_host() { [ "$(of_host pid)" -gt 0 ] && [ "$(of_host pid)" != "$child" ] && echo yes; }
is "ten came with the package" "$(sotp plugin ls --bundled -o tsv | tail -n +2 | wc -l)" 10
child=$(of_host pid)
is "their host runs as sotp" "$(stat -c %U "/proc/$child")" sotp
is "as a child of the daemon" "$(awk '/^PPid:/{print $2}' "/proc/$child/status")" "$(pid)"
is "with a filter of its own" "$(awk '/^Seccomp_filters:/{print ($2 > n)}' n="$(awk '/^Seccomp_filters:/{print $2}' "/proc/$(pid)/status")" "/proc/$child/status")" 1
is "and no wall of its sandbox is missing" "$(of_host not_in_force)" "[]"
for plugin in mikrotik-health flap-detector; do
  sotp plugin install --bundled $plugin >/tmp/plugin.log 2>&1
  is "install $plugin" $? 0
  sotp plugin grant $plugin --all >>/tmp/plugin.log 2>&1
  is "grant it" $? 0
  sotp plugin enable $plugin >>/tmp/plugin.log 2>&1
  is "enable it" $? 0
done
is "a component and a script run under W^X" "$(active)" 2
kill -9 "$child"
eventually 10 "the host is back after a kill" yes new_host
eventually 10 "and both run in it" 2 active

note "backup and restore"
sotp backup create /tmp/box.tar >/tmp/backup.log 2>&1
is "sotp backup create" $? 0
is "nobody else can read it" "$(stat -c %a /tmp/box.tar)" 600
is "sotp backup verify" "$(sotp backup verify /tmp/box.tar >/tmp/verify.log 2>&1; echo $?)" 0
is "the key is not in it" "$(grep -acF -f /etc/sotp/sotp-kek.cred /tmp/box.tar)" 0
before_rows=$(sotp metrics export 'icmp_rtt_seconds{device="guest"}' --from -1h --until -5s --format csv | head -4)
systemctl stop sotpd
mv /var/lib/sotp /var/lib/sotp.old
sotp backup restore /tmp/box.tar /var/lib/sotp >/tmp/restore.log 2>&1
is "sotp backup restore" $? 0
chown -R sotp:sotp /var/lib/sotp
systemctl start sotpd
is "a restored box starts" $? 0
is "with the same samples" "$(sotp metrics export 'icmp_rtt_seconds{device="guest"}' --from -1h --until -5s --format csv | head -4)" "$before_rows"
asked "and asks its devices with the same secrets"
is "and runs its plugins" "$(active)" 2
is "and nothing in its audit log is in doubt" "$(sotp audit verify >/tmp/verify.log 2>&1; echo $?)" 0
rm -rf /var/lib/sotp.old

note "remove and purge"
apt-get remove -y -q sotp </dev/null >/tmp/remove.log 2>&1
is "removed: stopped" "$(systemctl is-active sotpd)" inactive
is "removed: data, settings and key stay" "$([ -e /var/lib/sotp/sotp.redb ] && [ -e /etc/sotp/sotp.toml ] && [ -e /etc/sotp/sotp-kek.cred ] && echo yes)" yes
apt-get purge -y -q sotp </dev/null >/tmp/purge.log 2>&1
is "purge succeeds" $? 0
left=$(find / /run -xdev \( -path /proc -o -path /sys -o -path /out -o -path /artifacts -o -path /tmp -o -path /var/log -o -path /var/lib/dpkg -o -path /run/log -o -path /var/lib/apt \) -prune -o -name '*sotp*' -print)
is "purge leaves nothing" "$left" ""
is "nor the user" "$(getent passwd sotp; getent group sotp)" ""
is "nor a unit" "$(systemctl list-unit-files 'sotp*' --no-legend | wc -l)" 0
after=$(systemctl --failed --no-legend --plain | awk '{print $1}' | sort | tr '\n' ' ')
is "no unit failed" "$after" "$before"
kill "$(cat /tmp/snmpd.pid)"
journalctl -u sotpd --no-pager >/out/journal.txt 2>&1
finish
