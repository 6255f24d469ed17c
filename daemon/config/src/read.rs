//! From the settings file to [`Settings`].

use std::fmt;
use std::path::{Path, PathBuf};

use model::Timestamp;

use crate::key::Section;
use crate::kinds::toml_text;
use crate::problem::{Problems, nearest};
use crate::sense::check_sense;
use crate::settings::{MailSettings, Settings, sections_reference, settings_reference};
use crate::source::Source;
use crate::table::{Below, Findings, Found, TableReader, capped};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file does not have the key.
    Default,
    /// The file has it.
    File {
        /// Which file.
        file: PathBuf,
        /// In which line, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line } => write!(f, "{}:{line}", file.display()),
        }
    }
}

/// One setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// With its section: `icmp.every`.
    pub key: String,
    /// As TOML, on one line, safe to show. No secret is among the settings.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// A settings file that was read and found good.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What is in force.
    pub settings: Settings,
    /// The same for people, in the order of the shipped file. A key without a
    /// value (`mail.user` where nobody logs in, all of `mail` where nobody is
    /// told) is left out, so `key = value` lines of it are a settings file.
    pub effective: Vec<Effective>,
}

/// Reads the settings file at `path`; blocks.
///
/// `credentials_directory` is where the service manager puts secrets: there
/// `smtp-password` is looked for if the settings name a mail user but neither
/// its password nor a file with it. It is neither opened nor looked for here. If
/// none of them is known, `password_file` stays `None`. The files of keys stay
/// `None` where the settings do not name them: which of them there have to be is
/// for whoever opens the secrets to say.
///
/// # Errors
///
/// Every problem of the file, in the order of its lines; past a thousand they
/// are only counted.
pub fn read(path: &Path, credentials_directory: Option<&Path>) -> Result<Loaded, Problems> {
    match Source::open(path) {
        Ok(source) => read_source(&source, credentials_directory),
        Err(problem) => Err(Problems(vec![problem])),
    }
}

fn read_source(source: &Source, credentials_directory: Option<&Path>) -> Result<Loaded, Problems> {
    let mut findings = Findings::default();
    let settings = source.parse(&mut findings).map(|table| {
        let root = TableReader::new(Some(&table), 0, String::new(), &mut findings);
        let mut settings = read_sections(root);
        complete(&mut settings, credentials_directory, &mut findings);
        check_sense(&settings, &mut findings);
        settings
    });
    let Some(settings) = settings.filter(|_| findings.count() == 0) else {
        return Err(Problems(capped(findings.into_problems(source))));
    };
    let effective = findings
        .settings
        .into_iter()
        .filter_map(|found| effective(found, source))
        .collect();
    Ok(Loaded {
        settings,
        effective,
    })
}

impl Default for Settings {
    /// What an empty file gives.
    fn default() -> Settings {
        let source = Source::from_bytes(Path::new("defaults"), Vec::new(), Timestamp(0));
        let source = source.expect("no bytes are UTF-8");
        let loaded = read_source(&source, None);
        loaded.expect("a test reads an empty file").settings
    }
}

fn effective(found: Found, source: &Source) -> Option<Effective> {
    let origin = match found.at {
        None => Origin::Default,
        Some(at) => Origin::File {
            file: source.file.clone(),
            line: source.place(at).line,
        },
    };
    Some(Effective {
        key: found.key,
        value: found.shown?,
        origin,
    })
}

fn read_sections(mut root: TableReader<'_, '_>) -> Settings {
    let settings = Settings {
        store: section(&mut root),
        api: section(&mut root),
        access: section(&mut root),
        oidc: optional_section(&mut root),
        secrets: section(&mut root),
        vault: optional_section(&mut root),
        icmp: section(&mut root),
        snmp: section(&mut root),
        dns: section(&mut root),
        schedule: section(&mut root),
        rules: section(&mut root),
        mail: optional_section(&mut root),
        backup: optional_section(&mut root),
        plugins: section(&mut root),
        log: section(&mut root),
    };
    root.finish(section_of_stray_key);
    settings
}

/// A section that may be left out and then has its defaults.
fn section<S: Section>(root: &mut TableReader<'_, '_>) -> S {
    match root.below(S::NAME, &header::<S>()) {
        Below::Table(table) => read_section(table),
        Below::Broken => S::stand_in(),
        Below::Absent => {
            let prefix = format!("{}.", S::NAME);
            read_section(TableReader::new(None, 0, prefix, &mut *root.findings))
        }
    }
}

/// A section without which something is off.
fn optional_section<S: Section>(root: &mut TableReader<'_, '_>) -> Option<S> {
    match root.below(S::NAME, &header::<S>()) {
        Below::Table(table) => Some(read_section(table)),
        // it is there, so nobody is to complain that it is missing
        Below::Broken => Some(S::stand_in()),
        Below::Absent => None,
    }
}

fn header<S: Section>() -> String {
    format!("[{}]", S::NAME)
}

fn read_section<S: Section>(mut table: TableReader<'_, '_>) -> S {
    let section = S::read(&mut table);
    table.finish(|name| key_of_another_section(S::NAME, name));
    section
}

/// A hint for a key that another section than `here` has by this very name,
/// unless `here` has one that is nearly it.
fn key_of_another_section(here: &str, name: &str) -> Option<String> {
    let known = settings_reference();
    let key_name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let here_keys: Vec<String> = known
        .iter()
        .filter(|doc| doc.section == here)
        .map(|doc| key_name(&doc.key))
        .collect();
    if nearest(name, here_keys.iter().map(String::as_str)).is_some() {
        return None;
    }
    let doc = known.iter().find(|doc| key_name(&doc.key) == name)?;
    Some(format!("it belongs into section [{}]", doc.section))
}

/// A hint for a key that stands above all sections.
fn section_of_stray_key(name: &str) -> Option<String> {
    let sections = sections_reference();
    if nearest(name, sections.iter().map(|section| section.name)).is_some() {
        return None;
    }
    let end = format!(".{name}");
    let homes: Vec<String> = sections
        .iter()
        .filter(|section| section.keys.iter().any(|doc| doc.key.ends_with(&end)))
        .map(|section| format!("[{}]", section.name))
        .collect();
    (!homes.is_empty()).then(|| format!("it belongs into a section: {}", homes.join(" or ")))
}

/// The name of the mail password among the service manager's credentials.
const PASSWORD_CREDENTIAL: &str = "smtp-password";

/// Fills in what follows from other settings.
fn complete(
    settings: &mut Settings,
    credentials_directory: Option<&Path>,
    findings: &mut Findings,
) {
    let Some(mail) = &mut settings.mail else {
        return;
    };
    if absent(findings, "mail.port") {
        mail.port = mail.tls.port();
        show(findings, "mail.port", mail.port.to_string());
    }
    if absent(findings, "mail.password_file") {
        mail.password_file = default_password_file(mail, credentials_directory);
        if let Some(file) = &mail.password_file {
            show(
                findings,
                "mail.password_file",
                toml_text(&file.to_string_lossy()),
            );
        }
    }
}

fn default_password_file(mail: &MailSettings, directory: Option<&Path>) -> Option<PathBuf> {
    mail.user.as_ref().filter(|_| mail.password.is_none())?;
    Some(directory?.join(PASSWORD_CREDENTIAL))
}

/// Whether the file could have this key and has not.
fn absent(findings: &Findings, key: &str) -> bool {
    let found = findings.setting(key);
    found.is_some_and(|found| found.at.is_none())
}

fn show(findings: &mut Findings, key: &str, value: String) {
    let found = findings.settings.iter_mut().find(|found| found.key == key);
    if let Some(found) = found {
        found.shown = Some(value);
    }
}
