//! The files under `etc/` are what this crate reads, and say so correctly.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use config::{
    Origin, SectionDoc, Settings, read, read_rules, sections_reference, settings_reference,
};

fn etc() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../etc")
}

/// The settings that `text` gives.
fn settings(text: &str) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sotp.toml");
    fs::write(&file, text).unwrap();
    match read(&file, None) {
        Ok(loaded) => loaded.settings,
        Err(problems) => panic!("{problems}"),
    }
}

/// Pairs of settings of which one excludes the other: all of one side are in
/// use at a time.
const EITHER: [[&str; 2]; 2] = [
    ["mail.password", "backup.secret_key"],
    ["mail.password_file", "backup.secret_key_file"],
];

/// `text` with every setting in it put to use: `#key = value`, not `# prose`;
/// but for those called `without`, of [`EITHER`].
fn uncommented(text: &str, without: [&str; 2]) -> String {
    let left_out = without.map(|key| format!("#{} = ", key.rsplit('.').next().unwrap()));
    let is_setting = |rest: &&str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let lines = text
        .lines()
        .filter(|line| !left_out.iter().any(|start| line.starts_with(start)))
        .map(|line| line.strip_prefix('#').filter(is_setting).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

const HEAD: &str = "\
# SOTP: the settings.
#
# Every key stands here with its default: remove the # right before it and
# change it. Spans of time are written \"200ms\", \"30s\", \"5m\", \"1h30m\", \"30d\";
# sizes \"64MiB\" or \"10MB\". No secret stands in this file.
#
#   sotpd check /etc/sotp/sotp.toml    says everything that is wrong with it
#   systemctl reload sotpd             takes it, or keeps the old one as a whole
#   sotpd config                       shows what is in force, and why
#
# Keys marked (restart) are taken at `systemctl restart sotpd` only.
";

/// The longest line of a comment.
const COLUMNS: usize = 78;

/// The reference as the file that is shipped.
fn as_file() -> String {
    let mut file = HEAD.to_owned();
    for section in sections_reference() {
        file.push_str(&section_as_text(&section));
    }
    file
}

fn section_as_text(section: &SectionDoc) -> String {
    let hash = if section.optional { "#" } else { "" };
    let mut text = format!("\n\n{}{hash}[{}]\n", comment(&section.help), section.name);
    for doc in &section.keys {
        let mut help = doc.help.clone();
        if doc.default != doc.example && !doc.default.starts_with("none:") {
            help.push_str(&format!(" Default: {}.", doc.default));
        }
        if doc.restart {
            help.push_str(" (restart)");
        }
        let name = doc.key.rsplit('.').next().unwrap();
        text.push_str(&format!("\n{}#{name} = {}\n", comment(&help), doc.example));
    }
    text
}

fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > COLUMNS {
            lines.push_str(&line);
            lines.push('\n');
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    format!("{lines}{line}\n")
}

/// `SOTP_GOLDEN=write cargo test -p config` rewrites the file.
#[test]
fn the_shipped_file_is_the_table_of_settings_for_people() {
    let file = etc().join("sotp.toml");
    let expected = as_file();
    if std::env::var_os("SOTP_GOLDEN").is_some_and(|wish| wish == "write") {
        fs::write(&file, &expected).unwrap();
    }
    let shipped = fs::read_to_string(&file).unwrap();
    assert!(
        shipped == expected,
        "{} differs from the table of settings; to rewrite it: \
         SOTP_GOLDEN=write cargo test -p config",
        file.display()
    );
}

#[test]
fn the_shipped_file_changes_nothing() {
    let shipped = fs::read_to_string(etc().join("sotp.toml")).unwrap();
    assert_eq!(settings(&shipped), settings(""));
}

/// `settings` without what has no value unless somebody gives it one.
fn without_extras(settings: Settings) -> Settings {
    let mut settings = settings;
    let api = &mut settings.api;
    (api.https_name, api.certificate, api.key) = (None, None, None);
    (api.client_ca, api.client_crl) = (None, None);
    settings.secrets.key_file = None;
    settings.secrets.new_key_file = None;
    if let Some(oidc) = &mut settings.oidc {
        (oidc.client_secret, oidc.ca_file) = (None, None);
    }
    if let Some(vault) = &mut settings.vault {
        (vault.ca_file, vault.secret_id_file, vault.namespace) = (None, None, None);
    }
    if let Some(mail) = &mut settings.mail {
        (mail.user, mail.password, mail.password_file, mail.ca_file) = (None, None, None, None);
    }
    if let Some(backup) = &mut settings.backup {
        (backup.endpoint, backup.ca_file) = (None, None);
        (backup.secret_key, backup.secret_key_file) = (None, None);
    }
    settings
}

#[test]
fn the_shipped_file_with_every_line_in_use_says_the_defaults() {
    let shipped = fs::read_to_string(etc().join("sotp.toml")).unwrap();
    let needed = "\
        [mail]\nserver = \"mail.example.net\"\nfrom = \"SOTP <sotp@example.net>\"\n\
        to = [\"noc@example.net\"]\n\
        [vault]\naddress = \"https://vault.example.net:8200\"\n\
        role_id = \"5c2e43a1-0f5b-4d0e-9d53-6f8f2a0c7b11\"\n\
        [oidc]\nissuer = \"https://id.example.net/realms/noc\"\nclient_id = \"sotp\"\n\
        redirect = \"https://sotp.example.net:8443/api/v1/oidc/callback\"\n\
        [backup]\nto = \"s3://backups/sotp\"\naccess_key = \"AKIAEXAMPLE\"\n\
        secret_key = \"secret://backup-s3\"\n";
    for without in EITHER {
        let all = settings(&uncommented(&shipped, without));
        let needed = without_extras(settings(needed));
        assert_eq!(without_extras(all), needed, "without {without:?}");
    }
}

#[test]
fn every_key_is_shipped_once_and_explained() {
    let shipped = fs::read_to_string(etc().join("sotp.toml")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sotp.toml");
    let reference = settings_reference();
    for without in EITHER {
        fs::write(&file, uncommented(&shipped, without)).unwrap();
        let effective = read(&file, None).unwrap().effective;

        let from_file = effective.iter().filter(|one| one.origin != Origin::Default);
        let in_file: Vec<&str> = from_file.map(|one| one.key.as_str()).collect();
        let known = reference.iter().map(|doc| doc.key.as_str());
        let known: Vec<&str> = known.filter(|key| !without.contains(key)).collect();
        assert_eq!(in_file, known);
    }
    for doc in &reference {
        assert!(doc.help.ends_with(['.', ')']), "{}: {}", doc.key, doc.help);
        assert!(!doc.kind.is_empty() && !doc.example.is_empty(), "{doc:?}");
    }
}

#[test]
fn what_is_shown_as_in_force_is_itself_a_settings_file() {
    let text = "[mail]\nserver = \"mail.example.net\"\nuser = \"u\"\nfrom = \"a@b.c\"\n\
                to = [\n  \"d@e.f\", # night shift\n  \"g@h.i\",\n]\n[icmp]\nevery = \"1m30s\"\n";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sotp.toml");
    fs::write(&file, text).unwrap();
    let credentials = Path::new("/run/credentials/sotpd.service");
    let loaded = read(&file, Some(credentials)).unwrap();

    let lines = loaded.effective.iter();
    let shown: String = lines
        .map(|one| format!("{} = {}\n", one.key, one.value))
        .collect();
    assert_eq!(settings(&shown), loaded.settings);
    assert!(shown.contains("mail.port = 587\n"), "{shown}");
    assert!(
        shown.contains("mail.password_file = \"/run/credentials/sotpd.service/smtp-password\"\n")
    );

    let origin = |key: &str| {
        let found = loaded.effective.iter().find(|one| one.key == key);
        found.unwrap().origin.to_string()
    };
    assert_eq!(origin("icmp.every"), format!("{}:10", file.display()));
    assert_eq!(origin("icmp.probes"), "default");
}

#[test]
fn every_shipped_rules_file_is_accepted() {
    let rules = match read_rules(&etc().join("rules")) {
        Ok(rules) => rules,
        Err(problems) => panic!("{problems}"),
    };
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name.0.as_str()).collect();
    for expected in ["device-down", "snmp-silent", "loss", "cpu-busy"] {
        assert!(names.contains(expected), "{names:?}");
    }
    for rule in &rules {
        assert!(rule.note.is_some(), "{} has no note", rule.name);
    }
}
