//! Which changes the daemon can take while it runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use config::{Settings, read, settings_reference};

fn settings(text: &str) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sotp.toml");
    fs::write(&file, text).unwrap();
    read(&file, None).unwrap().settings
}

#[test]
fn the_defaults_are_what_an_empty_file_gives() {
    assert_eq!(Settings::default(), settings(""));
}

#[test]
fn keys_that_wait_for_a_restart_are_named() {
    let old = Settings::default();
    let new = settings(
        "[store]\npath = \"/srv/sotp.redb\"\nbacklog = \"1GiB\"\n\
         [api]\nlisten = \"\"\n[icmp]\nevery = \"1m\"\n",
    );
    let named = ["store.path", "store.backlog", "api.listen"];
    assert_eq!(old.needs_restart(&new), named);
    assert_eq!(new.needs_restart(&old), named);
}

#[test]
fn a_vault_that_comes_or_goes_waits_for_a_restart() {
    let old = Settings::default();
    let new = settings("[vault]\naddress = \"https://v.example.net\"\nrole_id = \"r\"\n");
    let named = old.needs_restart(&new);
    assert!(named.contains(&"vault.address"), "{named:?}");
    assert_eq!(new.needs_restart(&old), named);
}

#[test]
fn what_can_be_taken_while_running_is_not_named() {
    let old = Settings::default();
    let new = settings(
        "[icmp]\nevery = \"1m\"\n[rules]\ndir = \"/srv/rules\"\n[log]\nlevel = \"debug\"\n\
         [mail]\nserver = \"mail.example.net\"\nfrom = \"a@b.c\"\nto = [\"d@e.f\"]\n\
         [access]\naccess_ttl = \"1m\"\n[api]\nsocket_role = \"readonly\"\n\
         certificate = \"/c\"\nkey = \"/k\"\nclient_ca = \"/a\"\nclient_crl = \"/r\"\n\
         [oidc]\nissuer = \"https://i.example.net\"\nclient_id = \"sotp\"\n\
         redirect = \"https://s.example.net/api/v1/oidc/callback\"\n",
    );
    assert_ne!(old, new);
    assert_eq!(old.needs_restart(&new), [""; 0]);
    assert_eq!(old.needs_restart(&old), [""; 0]);
}

#[test]
fn the_reference_says_which_keys_wait_for_a_restart() {
    let waits = |key: &str| {
        let reference = settings_reference();
        let doc = reference.iter().find(|doc| doc.key == key).unwrap();
        doc.restart
    };
    assert!(waits("store.path") && waits("api.socket"));
    assert!(!waits("icmp.every") && !waits("mail.server"));
}
