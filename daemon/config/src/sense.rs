//! Whether settings that are good one by one make sense together.

use crate::backup::BackupPlace;
use crate::problem::Mistake;
use crate::settings::{
    AccessSettings, ApiSettings, BackupSettings, DnsSettings, IcmpSettings, MailSettings,
    OidcSettings, PluginsSettings, SecretsBackend, SecretsWrap, Settings, SnmpSettings, Tls,
    VaultSettings,
};
use crate::table::Findings;
use crate::units::show_duration;
use crate::web::is_this_machine;

/// Notes every contradiction. One that involves a key that could not be read
/// is left for the next time.
pub(crate) fn check_sense(settings: &Settings, findings: &mut Findings) {
    check_api(&settings.api, findings);
    check_https(&settings.api, findings);
    check_access(&settings.access, findings);
    if let Some(oidc) = &settings.oidc {
        check_oidc(oidc, findings);
    }
    check_secrets(settings, findings);
    if let Some(vault) = &settings.vault {
        check_vault(vault, findings);
    }
    check_icmp(&settings.icmp, findings);
    check_snmp(&settings.snmp, findings);
    check_dns(&settings.dns, findings);
    if let Some(mail) = &settings.mail {
        check_mail(mail, findings);
    }
    if let Some(backup) = &settings.backup {
        check_backup(backup, findings);
    }
    check_plugins(&settings.plugins, findings);
}

fn check_api(api: &ApiSettings, findings: &mut Findings) {
    let keys = ["api.header_timeout", "api.request_timeout"];
    let nonsense = api.header_timeout >= api.request_timeout;
    findings.refuse_if(nonsense, &keys, || {
        let header = show_duration(api.header_timeout);
        let request = show_duration(api.request_timeout);
        Mistake::new(
            format!("a request has {request} in all, its header alone {header}"),
            "make header_timeout shorter than request_timeout",
        )
    });
}

fn check_https(api: &ApiSettings, findings: &mut Findings) {
    let keys = ["api.certificate", "api.key"];
    let no_key = api.certificate.is_some() && api.key.is_none();
    findings.refuse_if(no_key, &keys, || {
        Mistake::new(
            "there is a certificate, but no key",
            "add key = …, the file with the certificate's key",
        )
    });
    let no_certificate = api.key.is_some() && api.certificate.is_none();
    findings.refuse_if(no_certificate, &keys, || {
        Mistake::new(
            "there is a key, but no certificate",
            "add certificate = …, or leave both out for a self-made one",
        )
    });
    let nobody_to_revoke = api.client_crl.is_some() && api.client_ca.is_none();
    let keys = ["api.client_crl", "api.client_ca"];
    findings.refuse_if(nobody_to_revoke, &keys, || {
        Mistake::new(
            "certificates are revoked, but nobody signs in with one",
            "add client_ca = …, the authority of the clients' certificates",
        )
    });
}

fn check_access(access: &AccessSettings, findings: &mut Findings) {
    let keys = ["access.refresh_idle", "access.access_ttl"];
    findings.refuse_if(access.access_ttl >= access.refresh_idle, &keys, || {
        let (idle, ttl) = (
            show_duration(access.refresh_idle),
            show_duration(access.access_ttl),
        );
        Mistake::new(
            format!("a session ends after {idle} without an exchange, but one comes every {ttl}"),
            "make refresh_idle longer than access_ttl",
        )
    });

    let keys = ["access.refresh_idle", "access.session_max"];
    findings.refuse_if(access.refresh_idle > access.session_max, &keys, || {
        let (idle, most) = (
            show_duration(access.refresh_idle),
            show_duration(access.session_max),
        );
        Mistake::new(
            format!("a session may rest for {idle}, but lasts {most} at most"),
            "make refresh_idle at most session_max",
        )
    });
}

fn check_oidc(oidc: &OidcSettings, findings: &mut Findings) {
    let no_openid = !oidc.scopes.iter().any(|scope| scope == "openid");
    findings.refuse_if(no_openid, &["oidc.scopes"], || {
        Mistake::new(
            "openid is not among them",
            "add \"openid\": without it the provider does not say who somebody is",
        )
    });
}

fn check_secrets(settings: &Settings, findings: &mut Findings) {
    let secrets = &settings.secrets;
    let no_vault = settings.vault.is_none();
    let hint = "add section [vault], with its address and role_id";
    let in_vault = secrets.backend == SecretsBackend::Vault;
    findings.refuse_if(in_vault && no_vault, &["secrets.backend"], || {
        Mistake::new("nothing says where the vault is", hint)
    });
    let by_transit = secrets.wrap == SecretsWrap::Transit;
    findings.refuse_if(by_transit && no_vault, &["secrets.wrap"], || {
        Mistake::new("nothing says where the vault is", hint)
    });
    let same = secrets.key_file.is_some() && secrets.key_file == secrets.new_key_file;
    let keys = ["secrets.new_key_file", "secrets.key_file"];
    findings.refuse_if(same, &keys, || {
        Mistake::new(
            "the new key is the old one",
            "name another file, or leave it out",
        )
    });
}

fn check_vault(vault: &VaultSettings, findings: &mut Findings) {
    let keys = ["vault.stale", "vault.cache"];
    findings.refuse_if(vault.stale < vault.cache, &keys, || {
        let (stale, cache) = (show_duration(vault.stale), show_duration(vault.cache));
        Mistake::new(
            format!("a value is given up after {stale}, but asked for again every {cache}"),
            "make stale at least cache",
        )
    });
}

fn check_icmp(icmp: &IcmpSettings, findings: &mut Findings) {
    let keys = ["icmp.every", "icmp.probes", "icmp.gap", "icmp.timeout"];
    let round = icmp.gap * u32::from(icmp.probes) + icmp.timeout;
    findings.refuse_if(round >= icmp.every, &keys, || {
        let (every, gap) = (show_duration(icmp.every), show_duration(icmp.gap));
        let (timeout, round) = (show_duration(icmp.timeout), show_duration(round));
        let probes = icmp.probes;
        Mistake::new(
            format!(
                "a round of {probes} probes x {gap} gap + {timeout} timeout takes {round}, \
                 but one begins every {every}"
            ),
            "fewer probes, a shorter gap or timeout, or a longer every",
        )
    });
}

fn check_snmp(snmp: &SnmpSettings, findings: &mut Findings) {
    let keys = ["snmp.every", "snmp.timeout", "snmp.retries"];
    let silence = snmp.timeout * (u32::from(snmp.retries) + 1);
    findings.refuse_if(silence >= snmp.every, &keys, || {
        let (every, timeout) = (show_duration(snmp.every), show_duration(snmp.timeout));
        let (tries, silence) = (u32::from(snmp.retries) + 1, show_duration(silence));
        Mistake::new(
            format!(
                "{tries} tries x {timeout} timeout wait {silence} for a silent agent, \
                 but a poll begins every {every}"
            ),
            "fewer retries, a shorter timeout, or a longer every",
        )
    });

    let keys = ["snmp.sockets", "snmp.in_flight"];
    findings.refuse_if(snmp.sockets > snmp.in_flight, &keys, || {
        let (sockets, in_flight) = (snmp.sockets, snmp.in_flight);
        Mistake::new(
            format!("{sockets} sockets for {in_flight} devices at a time: some are never used"),
            "at most as many sockets as in_flight",
        )
    });
}

fn check_dns(dns: &DnsSettings, findings: &mut Findings) {
    let keys = ["dns.refresh", "dns.timeout"];
    findings.refuse_if(dns.timeout >= dns.refresh, &keys, || {
        let (timeout, refresh) = (show_duration(dns.timeout), show_duration(dns.refresh));
        Mistake::new(
            format!("names are looked up every {refresh}, but one look-up may take {timeout}"),
            "make timeout shorter than refresh",
        )
    });
}

/// Where servers expect TLS from the first byte (RFC 8314 §7.3).
const IMPLICIT_TLS_PORT: u16 = 465;

fn check_mail(mail: &MailSettings, findings: &mut Findings) {
    let sent_in_clear =
        mail.user.is_some() && mail.tls == Tls::None && !is_this_machine(&mail.server);
    let keys = ["mail.tls", "mail.user", "mail.server"];
    findings.refuse_if(sent_in_clear, &keys, || {
        let server = &mail.server;
        Mistake::new(
            format!("the password would be sent to {server} in the clear"),
            "tls = \"starttls\" or \"tls\"; or leave user out, if the server lets this machine in without",
        )
    });

    let wrong_port = mail.port == IMPLICIT_TLS_PORT && mail.tls != Tls::Implicit;
    findings.refuse_if(wrong_port, &["mail.port", "mail.tls"], || {
        Mistake::new(
            "on port 465 servers expect TLS from the first byte and would wait for it in silence",
            "write tls = \"tls\", or port = 587 for starttls",
        )
    });

    let twice = mail.password.is_some() && mail.password_file.is_some();
    let keys = ["mail.password_file", "mail.password"];
    findings.refuse_if(twice, &keys, || {
        Mistake::new(
            "there is a password, too",
            "keep one of them: password for a secret kept here, password_file for one in a file",
        )
    });

    let unused = |given: bool| given && mail.user.is_none() && !twice;
    for (given, key) in [
        (mail.password.is_some(), "mail.password"),
        (mail.password_file.is_some(), "mail.password_file"),
    ] {
        findings.refuse_if(unused(given), &[key, "mail.user"], || {
            Mistake::new(
                "there is a password, but no user",
                "add user = …, or leave it out",
            )
        });
    }

    let keys = ["mail.retry_max", "mail.retry_min"];
    findings.refuse_if(mail.retry_min > mail.retry_max, &keys, || {
        let (least, most) = (show_duration(mail.retry_min), show_duration(mail.retry_max));
        Mistake::new(
            format!("the first wait is {least}, but the longest is {most}"),
            "make retry_max at least retry_min",
        )
    });
}

fn check_plugins(plugins: &PluginsSettings, findings: &mut Findings) {
    let mut names: Vec<&str> = plugins.trusted_keys.iter().map(|key| &*key.name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    findings.refuse_if(twice.is_some(), &["plugins.trusted_keys"], || {
        let name = twice.map_or("", |pair| pair[0]);
        Mistake::new(
            format!("two keys have the name {name}"),
            "give each a name of its own: it is shown as who made a plugin",
        )
    });
}

fn check_backup(backup: &BackupSettings, findings: &mut Findings) {
    let twice = backup.secret_key.is_some() && backup.secret_key_file.is_some();
    let keys = ["backup.secret_key_file", "backup.secret_key"];
    findings.refuse_if(twice, &keys, || {
        Mistake::new(
            "there is a secret_key, too",
            "keep one of them: secret_key for a secret kept here, secret_key_file for one in a file",
        )
    });

    let in_s3 = matches!(backup.to, BackupPlace::S3 { .. });
    let no_access_key = in_s3 && backup.access_key.is_none();
    findings.refuse_if(no_access_key, &["backup.to", "backup.access_key"], || {
        Mistake::new(
            "nobody gets into a bucket without a key",
            "add access_key = …, the access key's ID",
        )
    });
    let no_secret = in_s3 && backup.secret_key.is_none() && backup.secret_key_file.is_none();
    let keys = ["backup.to", "backup.secret_key", "backup.secret_key_file"];
    findings.refuse_if(no_secret, &keys, || {
        Mistake::new(
            "the access key has no secret",
            "put it away with: sotp secrets set backup-s3; then add secret_key = \"secret://backup-s3\"",
        )
    });
}
