#!/bin/bash
# In the booted guest: the .rpm by rpm itself. --nodeps, because what it depends on are Debian packages here.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
. /artifacts/tap.sh
ip link set lo up
rpm=$(echo /artifacts/sotp-*.x86_64.rpm)

rpm -i --nodeps "$rpm" >/tmp/install.log 2>&1
is "rpm -i" $? 0
is "the user was made" "$(getent passwd sotp | cut -d: -f1,7)" "sotp:/usr/sbin/nologin"
is "rpm -V finds no difference" "$(rpm -V --nodeps sotp | wc -l)" 0
systemctl enable --now sotpd >/dev/null 2>&1
is "enable --now" "$(systemctl is-active sotpd)" active
eventually 5 "it watches" True status_has "watching"
is "the key is for root alone" "$(stat -c '%U:%G %a %s' /etc/sotp/sotp-kek)" "root:root 600 45"
is "nobody was shown it" "$(grep -cF -f /etc/sotp/sotp-kek /tmp/install.log)" 0
key=$(sha256sum </etc/sotp/sotp-kek)
like "nobody gets in before the set-up" "$(https GET /api/v1/devices)" "503 "
echo '# an administrator was here' >>/etc/sotp/sotp.toml
rpm -U --force --nodeps "$rpm" >/tmp/upgrade.log 2>&1
is "rpm -U over itself" $? 0
is "the administrator's file stays" "$(tail -1 /etc/sotp/sotp.toml)" "# an administrator was here"
eventually 10 "still active" active systemctl is-active sotpd
is "the key stays" "$(sha256sum </etc/sotp/sotp-kek)" "$key"
rpm -e --nodeps sotp >/tmp/erase.log 2>&1
is "rpm -e" $? 0
is "stopped" "$(systemctl is-active sotpd)" inactive
is "the changed file is kept aside" "$(ls /etc/sotp/sotp.toml.rpmsave 2>/dev/null)" /etc/sotp/sotp.toml.rpmsave
is "the store is kept" "$([ -e /var/lib/sotp/sotp.redb ] && echo yes)" yes
is "and so is the key, without which it is of no use" "$(sha256sum </etc/sotp/sotp-kek)" "$key"
finish
