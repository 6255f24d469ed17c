//! Whether settings that are good one by one make sense together.

use std::net::IpAddr;

use crate::problem::Mistake;
use crate::settings::{
    ApiSettings, DnsSettings, IcmpSettings, MailSettings, Settings, SnmpSettings, Tls,
};
use crate::table::Findings;
use crate::units::show_duration;

/// Notes every contradiction. One that involves a key that could not be read
/// is left for the next time.
pub(crate) fn check_sense(settings: &Settings, findings: &mut Findings) {
    check_api(&settings.api, findings);
    check_icmp(&settings.icmp, findings);
    check_snmp(&settings.snmp, findings);
    check_dns(&settings.dns, findings);
    if let Some(mail) = &settings.mail {
        check_mail(mail, findings);
    }
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
    let sent_in_clear = mail.user.is_some() && mail.tls == Tls::None && !is_loopback(&mail.server);
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

    let unused = mail.user.is_none() && mail.password_file.is_some();
    findings.refuse_if(unused, &["mail.password_file", "mail.user"], || {
        Mistake::new(
            "there is a password, but no user",
            "add user = …, or leave it out",
        )
    });

    let keys = ["mail.retry_max", "mail.retry_min"];
    findings.refuse_if(mail.retry_min > mail.retry_max, &keys, || {
        let (least, most) = (show_duration(mail.retry_min), show_duration(mail.retry_max));
        Mistake::new(
            format!("the first wait is {least}, but the longest is {most}"),
            "make retry_max at least retry_min",
        )
    });
}

/// Whether a password sent to `server` stays on this machine.
fn is_loopback(server: &str) -> bool {
    match server.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        // RFC 6761 §6.3: names under localhost. always are this machine
        Err(_) => server == "localhost" || server.ends_with(".localhost"),
    }
}
