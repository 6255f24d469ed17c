//! What people are told about a file with mistakes: all of it, at once, where
//! it stands and what to do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use config::{Loaded, Problems, read, read_rules};
use model::{Role, SecretName};

/// Reads `text` as `sotp.toml`.
fn load(text: impl AsRef<[u8]>) -> Result<Loaded, Problems> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sotp.toml");
    fs::write(&file, text).unwrap();
    read(&file, None)
}

/// What is said of `text`, with file names as they are in their directory.
fn report(text: impl AsRef<[u8]>) -> String {
    let Problems(mut problems) = load(text).unwrap_err();
    for problem in &mut problems {
        problem.file = problem.file.file_name().unwrap().into();
    }
    Problems(problems).to_string()
}

#[track_caller]
fn refused(text: &str, said: &str) {
    let report = report(text);
    assert!(report.contains(said), "{text}\nsays\n{report}");
    assert_eq!(report.lines().count(), 2, "{text}\nsays\n{report}");
}

/// What is said of a directory with these files.
fn rules_report(files: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let problems = read_rules(directory.path()).unwrap_err().to_string();
    let here = format!("{}/", directory.path().display());
    problems.replace(&here, "")
}

#[test]
fn many_mistakes_are_all_told_at_once() {
    let text = r#"every = "30s"

[icmp]
every = 30
probes = 500
timout = "1s"

[snmp]
port = "161"
timeout = 2s

[api]
listen = "0.0.0.0:8080"

[mail]
server = "mail.example.net"
tls = "ssl"
to = ["noc@example.net", "night shift"]

[lgo]
level = "debug"
"#;
    let expected = r#"sotp.toml:1:1: every: unknown key
  hint: it belongs into a section: [icmp] or [snmp]
sotp.toml:4:9: icmp.every: 30 has no unit
  hint: write "30s" or "30ms", in quotes
sotp.toml:5:10: icmp.probes: 500 is not within 1 to 100
  hint: a round needs one; more than 100 is a flood
sotp.toml:6:1: icmp.timout: unknown key
  hint: did you mean "timeout"?
sotp.toml:9:8: snmp.port: "161" is no whole number
  hint: write it without quotes: 161
sotp.toml:10:11: "2s" stands without quotes
  hint: write "2s"
sotp.toml:13:10: api.listen: 0.0.0.0:8080 can be reached from other machines
  hint: use 127.0.0.1 or [::1]: other machines come in by https, where people and tokens sign in
sotp.toml:15:2: mail.from: is missing
  hint: add from = …: a mail address, or "Name <address>"
sotp.toml:17:7: mail.tls: "ssl" is not known here
  hint: known: starttls, tls, none
sotp.toml:18:26: mail.to: "night shift" is no mail address
  hint: write it as "noc@example.net"
sotp.toml:20:2: lgo: unknown section
  hint: did you mean "log"?"#;
    assert_eq!(report(text), expected);
}

#[test]
fn every_mistake_in_rules_is_told_for_all_files_at_once() {
    let first = r#"
[[rule]]
name = "device-down"
severity = "urgent"
[rule.availability]
check = "ping"
rounds = 0

[[rule]]
severity = "info"
[rule.match]
kinds = ["swich"]
tags = []
[rule.threshold]
metric = "cpu_usage_ration"
above = 90
below = 1

[[rule]]
name = "cpu"
severity = "warning"
colour = "red"
[rule.threshold]
metric = "cpu_usage_ratio"
above = 90
for = 5
clear = 95
labels = { "if name" = "x", ifName = 3 }
"#;
    let second = r#"
[[rule]]
name = "device-down"
severity = "critical"

[rul]
"#;
    let third = "[[rule]\nname = 5\n";
    let files = [
        ("a.toml", first),
        ("b.toml", second),
        ("c.toml", third),
        (".hidden.toml", "x"),
        ("readme", "x"),
    ];
    let expected = r#"a.toml:4:12: rule "device-down", severity: "urgent" is not known here
  hint: known: info, warning, critical
a.toml:6:9: rule "device-down", availability.check: "ping" is not known here
  hint: known: icmp, snmp
a.toml:7:10: rule "device-down", availability.rounds: 0 is not within 1 to 1000
  hint: a fault takes at least one silent round; use for instead of more
a.toml:9:1: rule 2, name: is missing
  hint: add name = …: a name
a.toml:12:10: rule 2, match.kinds: "swich" is not known here
  hint: did you mean "switch"?
a.toml:13:8: rule 2, match.tags: has 0 entries: 1 to 1000 are allowed
  hint: leave the key out to select all; many names are better told by a tag
a.toml:15:10: rule 2, threshold.metric: "cpu_usage_ration" is no metric that is measured
  hint: did you mean "cpu_usage_ratio"?
a.toml:17:1: rule 2, threshold.below: there is above, too
  hint: keep one of them; two rules can watch one metric
a.toml:22:1: rule "cpu", colour: unknown key
  hint: known: name, severity, enabled, note, match, availability, threshold
a.toml:25:1: rule "cpu", threshold.above: 90 is above every value of cpu_usage_ratio
  hint: a ratio runs from 0 to 1: write 0.9 for 90 %
a.toml:26:7: rule "cpu", threshold.for: 5 has no unit
  hint: write "5s" or "5ms", in quotes
a.toml:27:1: rule "cpu", threshold.clear: 95 is on the wrong side of the limit 90
  hint: an alert is over once the value is back: at most 90
a.toml:28:12: rule "cpu", threshold.labels: "if name" is no name of a label
  hint: a letter or _, then letters, digits and _: ifName
a.toml:28:38: rule "cpu", threshold.labels.ifName: 3 is a number, not text
  hint: text stands in quotes
b.toml:2:1: rule "device-down": says nowhere what a fault is
  hint: add one of [rule.availability] and [rule.threshold]
b.toml:3:1: rule "device-down", name: another rule has this name: a.toml:3:1
  hint: give one of them another name
b.toml:6:2: rul: unknown section
  hint: a rules file has nothing but [[rule]]
c.toml:1:8: the closing bracket is missing
  hint: a section opens as [icmp], a rule as [[rule]]"#;
    assert_eq!(rules_report(&files), expected);
}

#[test]
fn settings_that_contradict_each_other_are_refused_by_name() {
    for (text, said) in [
        (
            "[icmp]\nevery = \"2s\"\n",
            "sotp.toml:2:1: icmp.every: a round of 5 probes x 200ms gap + 1s timeout takes 2s, \
             but one begins every 2s",
        ),
        (
            "[icmp]\ngap = \"10s\"\n",
            "sotp.toml:2:1: icmp.gap: a round of 5 probes x 10s gap + 1s timeout takes 51s",
        ),
        (
            "[snmp]\nretries = 10\ntimeout = \"6s\"\n",
            "sotp.toml:3:1: snmp.timeout: 11 tries x 6s timeout wait 1m6s for a silent agent",
        ),
        (
            "[snmp]\nin_flight = 2\n",
            "sotp.toml:2:1: snmp.in_flight: 4 sockets for 2 devices at a time",
        ),
        (
            "[dns]\nrefresh = \"10s\"\ntimeout = \"10s\"\n",
            "sotp.toml:2:1: dns.refresh: names are looked up every 10s",
        ),
        (
            "[api]\nrequest_timeout = \"5s\"\n",
            "sotp.toml:2:1: api.request_timeout: a request has 5s in all, its header alone 5s",
        ),
    ] {
        refused(text, said);
    }
}

const MAIL: &str = "[mail]\nserver = \"mail.example.net\"\nfrom = \"a@b.c\"\nto = [\"d@e.f\"]\n";

#[test]
fn a_password_is_sent_in_the_clear_to_nobody_but_this_machine() {
    let clear = format!("{MAIL}user = \"u\"\ntls = \"none\"\n");
    refused(
        &clear,
        "sotp.toml:6:1: mail.tls: the password would be sent to mail.example.net in the clear",
    );
    for server in ["localhost", "127.0.0.1", "::1"] {
        let local = clear.replace("mail.example.net", server);
        assert!(load(&local).is_ok(), "{local}");
    }
    for safe in [
        "user = \"u\"\n",
        "tls = \"none\"\n",
        "user = \"u\"\ntls = \"tls\"\n",
    ] {
        assert!(load(format!("{MAIL}{safe}")).is_ok(), "{safe}");
    }
}

#[test]
fn mail_settings_that_contradict_each_other_are_refused_by_name() {
    for (more, said) in [
        (
            "port = 465\n",
            "sotp.toml:5:1: mail.port: on port 465 servers expect TLS",
        ),
        (
            "password_file = \"/x\"\n",
            "sotp.toml:5:1: mail.password_file: there is a password, but no user",
        ),
        (
            "retry_min = \"30m\"\n",
            "sotp.toml:5:1: mail.retry_min: the first wait is 30m, but the longest is 15m",
        ),
    ] {
        refused(&format!("{MAIL}{more}"), said);
    }
}

#[test]
fn a_mail_password_is_kept_in_one_place() {
    let both = format!(
        "{MAIL}user = \"u\"\npassword = \"secret://smtp\"\npassword_file = \"/etc/sotp/p\"\n"
    );
    let said = "sotp.toml:7:1: mail.password_file: there is a password, too";
    refused(&both, said);
    refused(
        &both.replace("user = \"u\"\n", ""),
        "there is a password, too",
    );
    refused(
        &format!("{MAIL}password = \"secret://smtp\"\n"),
        "sotp.toml:5:1: mail.password: there is a password, but no user",
    );
}

#[test]
fn a_bucket_needs_a_key_and_its_secret_in_one_place() {
    let s3 = |more: &str| format!("[backup]\nto = \"s3://backups/sotp\"\n{more}");
    let key = "access_key = \"AKIA\"\n";
    for (more, said) in [
        (
            "secret_key = \"secret://s3\"\n".to_owned(),
            "sotp.toml:2:1: backup.to: nobody gets into a bucket without a key",
        ),
        (
            key.to_owned(),
            "sotp.toml:2:1: backup.to: the access key has no secret",
        ),
        (
            format!("{key}secret_key = \"secret://s3\"\nsecret_key_file = \"/k\"\n"),
            "sotp.toml:5:1: backup.secret_key_file: there is a secret_key, too",
        ),
        (
            format!("{key}secret_key_file = \"/k\"\nendpoint = \"http://s3.example.net\"\n"),
            "not protected on its way",
        ),
        (
            format!("{key}secret_key = \"hunter2\"\n"),
            "no reference to a secret",
        ),
    ] {
        refused(&s3(&more), said);
    }
    let local = load("[backup]\nto = \"/var/backups/sotp\"\n");
    let local = local.unwrap().settings.backup;
    assert_eq!(local.map(|backup| backup.keep), Some(30));
}

#[test]
fn settings_of_people_and_secrets_that_contradict_each_other_are_refused_by_name() {
    for (text, said) in [
        (
            "[api]\ncertificate = \"/c.pem\"\n",
            "sotp.toml:2:1: api.certificate: there is a certificate, but no key",
        ),
        (
            "[api]\nkey = \"/k.pem\"\n",
            "sotp.toml:2:1: api.key: there is a key, but no certificate",
        ),
        (
            "[api]\nclient_crl = \"/r.pem\"\n",
            "sotp.toml:2:1: api.client_crl: certificates are revoked, but nobody",
        ),
        (
            "[access]\naccess_ttl = \"15m\"\nrefresh_idle = \"10m\"\n",
            "sotp.toml:3:1: access.refresh_idle: a session ends after 10m without an exchange, \
             but one comes every 15m",
        ),
        (
            "[access]\nsession_max = \"1h\"\n",
            "sotp.toml:2:1: access.session_max: a session may rest for 1d, but lasts 1h at most",
        ),
        (
            "[secrets]\nbackend = \"vault\"\n",
            "sotp.toml:2:1: secrets.backend: nothing says where the vault is",
        ),
        (
            "[secrets]\nwrap = \"transit\"\n",
            "sotp.toml:2:1: secrets.wrap: nothing says where the vault is",
        ),
        (
            "[secrets]\nkey_file = \"/k\"\nnew_key_file = \"/k\"\n",
            "sotp.toml:3:1: secrets.new_key_file: the new key is the old one",
        ),
    ] {
        refused(text, said);
    }
}

const OIDC: &str = "[oidc]\nissuer = \"https://id.example.net\"\nclient_id = \"sotp\"\n\
                    redirect = \"https://s.example.net/api/v1/oidc/callback\"\n";
const VAULT: &str = "[vault]\naddress = \"https://v.example.net\"\nrole_id = \"r\"\n";

#[test]
fn provider_and_vault_are_refused_what_would_never_work() {
    assert!(load(format!("{OIDC}{VAULT}")).is_ok());
    for (text, said) in [
        (
            format!("{OIDC}scopes = [\"email\"]\n"),
            "sotp.toml:5:1: oidc.scopes: openid is not among them",
        ),
        (
            OIDC.replace("https://s.", "http://s."),
            "sotp.toml:4:12: oidc.redirect: \"http://s.example.net/api/v1/oidc/callback\" does not \
             begin with https://",
        ),
        (
            OIDC.replace("/callback", ""),
            "does not end in /api/v1/oidc/callback",
        ),
        (
            OIDC.replace("https://id.", "http://id."),
            "oidc.issuer: \"http://id.example.net\" is not protected on its way",
        ),
        (
            format!("{VAULT}cache = \"1h\"\nstale = \"30m\"\n"),
            "sotp.toml:5:1: vault.stale: a value is given up after 30m, but asked for again every 1h",
        ),
        (
            "[vault]\nrole_id = \"r\"\n".to_owned(),
            "sotp.toml:1:2: vault.address: is missing",
        ),
    ] {
        refused(&text, said);
    }
}

#[test]
fn a_vault_that_cannot_be_read_is_not_called_missing() {
    let said = "vault: is a section, not a number";
    refused("vault = 5\n[secrets]\nbackend = \"vault\"\n", said);
}

#[test]
fn a_secret_in_the_settings_is_refused_and_not_repeated() {
    for value in [
        "\"hunter2\"",
        "hunter2",
        "'hunter2'",
        "[\"hunter2\"]",
        "{ hunter2 = 1 }",
    ] {
        for text in [
            format!("{MAIL}user = \"u\"\npassword = {value}\n"),
            format!("{OIDC}client_secret = {value}\n"),
            format!("oidc.client_secret = {value}\n"),
        ] {
            let report = report(&text);
            assert!(report.contains("secret://NAME"), "{text}\nsays\n{report}");
            assert!(!report.contains("hunter2"), "{text}\nsays\n{report}");
        }
    }
}

#[test]
fn who_may_do_what_is_read_as_it_is_written() {
    let text = format!(
        "[api]\nhttps = \"off\"\nsocket_role = \"auditor\"\n\
         trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n\
         {OIDC}client_secret = \"secret://oidc\"\n\
         groups = [\"noc=OPERATOR\", \"noc=AUDITOR tenant:acme\"]\n"
    );
    let settings = load(text).unwrap().settings;
    assert_eq!(settings.api.https, None);
    assert_eq!(settings.api.socket_role.0, Role::Auditor);
    let proxy = "10.1.2.3".parse().unwrap();
    assert!(
        settings
            .api
            .trusted_proxies
            .iter()
            .any(|network| network.contains(proxy))
    );
    let oidc = settings.oidc.unwrap();
    assert_eq!(oidc.client_secret, Some(SecretName("oidc".to_owned())));
    let roles: Vec<(&str, Role)> = oidc
        .groups
        .iter()
        .map(|(group, binding)| (group.as_str(), binding.role))
        .collect();
    assert_eq!(roles, [("noc", Role::Operator), ("noc", Role::Auditor)]);
}

#[test]
fn a_contradiction_with_a_value_that_cannot_be_read_waits_until_it_can() {
    refused("[icmp]\nevery = \"1s\"\nprobes = \"many\"\n", "icmp.probes");
}

#[test]
fn the_mail_port_follows_tls_and_the_password_its_user() {
    let mail = |more: &str| {
        load(format!("{MAIL}{more}"))
            .unwrap()
            .settings
            .mail
            .unwrap()
    };
    assert_eq!(mail("").port, 587);
    assert_eq!(mail("tls = \"tls\"\n").port, 465);
    assert_eq!(mail("tls = \"none\"\n").port, 25);
    assert_eq!(mail("tls = \"none\"\nport = 1025\n").port, 1025);
    assert_eq!(mail("user = \"u\"\n").password_file, None);
    let sealed = mail("user = \"u\"\npassword = \"secret://smtp\"\n");
    assert_eq!(
        (sealed.password_file, sealed.password.is_some()),
        (None, true)
    );
    let named = mail("user = \"u\"\npassword_file = \"/etc/sotp/p\"\n");
    assert_eq!(named.password_file, Some("/etc/sotp/p".into()));
}

#[test]
fn a_section_that_is_no_section_is_told_how_to_open() {
    refused(
        "icmp = 5\n",
        "sotp.toml:1:1: icmp: is a section, not a number",
    );
    refused("[[icmp]]\n", "open it as [icmp] on a line of its own");
    refused("mail = true\n", "open it as [mail]");
}

#[test]
fn a_key_in_the_wrong_section_is_told_the_right_one() {
    refused("[icmp]\nretries = 1\n", "it belongs into section [snmp]");
    refused("[snmp]\nevry = \"1m\"\n", "did you mean \"every\"?");
    refused(
        "colour = 1\n",
        "known: store, api, access, oidc, secrets, vault, icmp",
    );
}

#[test]
fn slips_in_the_syntax_are_told_in_words() {
    for (text, said) in [
        ("[icmp\nevery = 5\n", "1:6: the closing bracket is missing"),
        (
            "[icmp]\nevery = \"30s\nprobes = 5\n",
            "2:13: the closing quote is missing",
        ),
        ("[icmp]\nevery: \"30s\"\n", "write = where the colon is"),
        ("[icmp]\nevery\n", "2:6: a key without a value"),
        ("[icmp]\nevery =\n", "2:8: the value is missing"),
        (
            "[icmp]\nprobes = 05\n",
            "2:10: a number with a zero before it",
        ),
        (
            "[icmp]\nprobes = 5\nprobes = 6\n",
            "3:1: \"probes\" stands here a second time",
        ),
        (
            "[icmp]\n[snmp]\n[icmp]\n",
            "3:2: \"icmp\" stands here a second time",
        ),
    ] {
        let report = report(text);
        assert!(report.contains(said), "{text}\nsays\n{report}");
    }
}

#[test]
fn a_half_written_file_says_where_it_breaks_off_and_nothing_else() {
    let report = report(format!("[icmp]\nevry = 1\n{MAIL}cc = [\"x@y.z\",\n"));
    assert!(
        report.starts_with("sotp.toml:7:15: a list that began before is not closed"),
        "{report}"
    );
    assert!(!report.contains("evry"), "{report}");
}

#[test]
fn a_report_never_carries_what_a_terminal_would_obey() {
    let text = "\"\\u001b[31m\" = 1\n[icmp]\nevery = \"\\u001b]0;x\\u0007\u{202e}\"\n";
    let report = report(text);
    assert!(
        !report.contains(['\u{1b}', '\u{7}', '\u{202e}']),
        "{report:?}"
    );
    let rule = "[[rule]]\nname = \"\\u001b\"\n[rule.threshold]\nlabels = { \"\\u001b\" = 1 }\n";
    let report = rules_report(&[("a.toml", rule)]);
    assert!(!report.contains('\u{1b}'), "{report:?}");
}

#[test]
fn a_thousand_problems_are_told_and_the_rest_counted() {
    let text: String = (0..5_000).map(|n| format!("nonsense{n} = 1\n")).collect();
    let Problems(problems) = load(text).unwrap_err();
    assert_eq!(problems.len(), 1_001);
    assert_eq!(
        problems[1_000].message,
        "and at least 4000 more problems from here on"
    );
}

#[test]
fn text_that_is_not_utf_8_is_refused_at_its_place() {
    let report = report(b"[icmp]\nevery = \"\xe9\"\n");
    assert!(
        report.starts_with("sotp.toml:2:10: the text is not UTF-8"),
        "{report}"
    );
}

#[test]
fn a_rules_directory_that_is_none_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(read_rules(directory.path()), Ok(Vec::new()));

    let missing = directory.path().join("missing");
    let said = read_rules(&missing).unwrap_err().to_string();
    assert!(
        said.contains("missing: there is no such directory"),
        "{said}"
    );

    let file = directory.path().join("x.toml");
    fs::write(&file, "").unwrap();
    let said = read_rules(&file).unwrap_err().to_string();
    assert!(said.contains("x.toml: is no directory"), "{said}");

    fs::create_dir(directory.path().join("y.toml")).unwrap();
    let said = read_rules(directory.path()).unwrap_err().to_string();
    assert!(said.contains("y.toml: is a directory"), "{said}");
}

#[test]
fn too_many_rules_are_refused_once() {
    let text: String = (0..6_000)
        .map(|n| {
            format!(
                "[[rule]]\nname = \"r{n}\"\nseverity = \"info\"\n\
                 availability = {{ check = \"icmp\", rounds = 1 }}\n"
            )
        })
        .collect();
    let other = text.replace("\"r", "\"s");
    let report = rules_report(&[("a.toml", &text), ("b.toml", &other)]);
    let told = "b.toml:16001:1: rule: these are more than 10000 rules in all";
    assert!(report.starts_with(told), "{report}");
    assert_eq!(report.lines().count(), 2, "{report}");
}

#[test]
fn too_many_rules_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..=1_000 {
        fs::write(directory.path().join(format!("{n}.toml")), "").unwrap();
    }
    let said = read_rules(directory.path()).unwrap_err().to_string();
    assert!(said.contains("more than 1000 rules files"), "{said}");
}

#[test]
fn a_mebibyte_of_mistakes_is_told_in_seconds_and_not_in_full() {
    for line in ["a=1\n", "[icmp]\nx=1\n", "x=[\n"] {
        let text = line.repeat(1024 * 1024 / line.len());
        let Problems(problems) = load(text).unwrap_err();
        assert!(problems.len() <= 1_001, "{line:?}");
    }
    let keys: String = (0..20_000).map(|n| format!("k{n}=1\n")).collect();
    assert_eq!(load(keys).unwrap_err().0.len(), 1_001);
}

#[test]
fn two_trusted_keys_have_two_names() {
    let key = |first: char| {
        let rest = "qCvmVpCkvtTExtDgM5VKCOLb9wkqKcYgdGxjZBqIF3I=";
        format!("sotp-plugin-key ed25519 {first}{}", &rest[1..])
    };
    let keys = |a: &str, b: &str| {
        let (first, second) = (key('q'), key('r'));
        format!("[plugins]\ntrusted_keys = [\"{a}: {first}\", \"{b}: {second}\"]\n")
    };
    refused(
        &keys("acme", "acme"),
        "sotp.toml:2:1: plugins.trusted_keys: two keys have the name acme",
    );
    let plugins = load(keys("acme", "bolt")).unwrap().settings.plugins;
    let names: Vec<&str> = plugins.trusted_keys.iter().map(|key| &*key.name).collect();
    assert_eq!(names, ["acme", "bolt"]);
    assert!(plugins.enabled);
    assert_eq!((plugins.memory, plugins.threads), (1 << 30, 0));
}
