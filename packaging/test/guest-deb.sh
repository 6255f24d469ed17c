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
is "who is not in the group may not ask" "$(setpriv --reuid nobody --clear-groups sotp status >/dev/null 2>&1; echo $?)" 4
is "the community is in no answer" "$(sotp devices show guest -o json | grep -c t0psecret)" 0

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
setpriv --reuid sotp --regid sotp --clear-groups /usr/bin/sotpd >/tmp/second 2>&1
is "refuses with EX_TEMPFAIL" $? 75
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
kill $smtp
is "not in the environment" "$(tr '\0' '\n' <"/proc/$(pid)/environ" | grep -c m4ilsecret)" 0
is "not in the settings as printed" "$(sotpd config | grep -c m4ilsecret)" 0

note "upgrade"
cp /etc/sotp/sotp.toml /tmp/edited.toml
apt-get install -y -q --reinstall -o Dpkg::Options::=--force-confold "$deb" </dev/null >/tmp/upgrade.log 2>&1
is "over itself" $? 0
eventually 10 "active" active systemctl is-active sotpd
is "the administrator's file stays" "$(cmp /etc/sotp/sotp.toml /tmp/edited.toml && echo same)" same
eventually 5 "the inventory stays" guest value guest '["name"]'

note "remove and purge"
apt-get remove -y -q sotp </dev/null >/tmp/remove.log 2>&1
is "removed: stopped" "$(systemctl is-active sotpd)" inactive
is "removed: data and settings stay" "$([ -e /var/lib/sotp/sotp.redb ] && [ -e /etc/sotp/sotp.toml ] && echo yes)" yes
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
