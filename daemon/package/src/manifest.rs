//! `plugin.toml`.

use std::collections::BTreeMap;

use contract::{Grants, Kind, Limits, Oid};
use model::{Capabilities, DeviceKind, PluginName, SecretName};
use toml::de::DeTable;

use crate::capability::{self, oid};
use crate::limits;
use crate::matches::Matches;
use crate::problem::{Problem, did_you_mean, quoted};
use crate::reader::{Findings, Section, wrong_type};
use crate::settings::{self, SettingKind, SettingSchema};
use crate::version::{self, API};

/// Nobody writes this much by hand.
pub(crate) const MANIFEST_BYTES: usize = 256 << 10;
/// Bytes of the line that says what a plugin is.
const DESCRIPTION_BYTES: usize = 200;
/// Things that a parser may want to be asked.
const COLLECTS: usize = 32;
/// Instances of one `get`, and entries of a part of `[match]`.
const ENTRIES: usize = 100;
/// The last place in the order of parsers.
const LAST_ORDER: u32 = 1_000_000;

/// Tables that the daemon asks for anyway.
const BUILT_IN_TABLES: [&str; 4] = ["ifTable", "ifXTable", "hrStorageTable", "hrProcessorTable"];

/// Where a table that the daemon asks for anyway stands (IF-MIB,
/// HOST-RESOURCES-MIB).
#[must_use]
pub fn built_in_table(name: &str) -> Option<Oid> {
    let oid = match name {
        "ifTable" => "1.3.6.1.2.1.2.2",
        "ifXTable" => "1.3.6.1.2.1.31.1.1",
        "hrStorageTable" => "1.3.6.1.2.1.25.2.3",
        "hrProcessorTable" => "1.3.6.1.2.1.25.3.3",
        _ => return None,
    };
    oid.parse().ok()
}

/// What a parser wants to be asked of the devices that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    /// The source that it is called with is `snmp:` and this name.
    pub name: String,
    /// What is asked.
    pub what: CollectWhat,
}

/// What is asked of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CollectWhat {
    /// These instances: comes as a list of varbinds.
    Get(Vec<Oid>),
    /// Everything below: comes as a list of varbinds.
    Walk(Oid),
    /// A table: comes pivoted.
    Table(Oid),
    /// A table that the daemon asks for anyway: `ifTable`, `ifXTable`,
    /// `hrStorageTable`, `hrProcessorTable`; comes pivoted.
    BuiltIn(String),
}

/// `plugin.toml`
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `acme-ups`: fixed for ever.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// What it does.
    pub kind: Kind,
    /// The contract's version that it needs at least.
    pub api: (u64, u64),
    /// One line for people.
    pub description: String,
    /// SPDX.
    pub license: String,
    /// Where to read more.
    pub homepage: Option<String>,
    /// The file that runs: `main.rhai` or `plugin.wasm`.
    pub main: String,
    /// Which devices it is for.
    pub matches: Matches,
    /// What to ask of them.
    pub collect: Vec<Collect>,
    /// Lower ones read first, and their values win; by default 100.
    pub order: u32,
    /// What it asks to be allowed. More than its kind may usually use is here,
    /// too, as the capability `limits` with patterns such as `memory_mib=256`.
    pub asks: Capabilities,
    /// What it wants to use in a call; [`Manifest::limits_within`] says what it
    /// may.
    pub limits: Limits,
    /// Its settings.
    pub settings: BTreeMap<String, SettingSchema>,
}

impl Manifest {
    /// Reads a manifest; `file` is what it is called in problems.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with its place.
    pub fn parse(file: &str, text: &str) -> Result<Manifest, Vec<Problem>> {
        if text.len() > MANIFEST_BYTES {
            let problem = Problem::new("is longer than 256 KiB").in_file(file);
            return Err(vec![problem.with_hint("is this the right file?")]);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut findings = Findings::new(file, text);
        let read = findings
            .parse()
            .and_then(|table| read(&table, &mut findings));
        match read {
            Some(manifest) if findings.is_clean() => Ok(manifest),
            _ => Err(findings.into_problems()),
        }
    }

    /// What of `granted` concerns the host interfaces.
    #[must_use]
    pub fn grants(granted: &Capabilities) -> Grants {
        capability::grants(granted)
    }

    /// What a call may use if this is granted: what the manifest wants, but not
    /// more than usual beyond the grants.
    #[must_use]
    pub fn limits_within(&self, granted: &Capabilities) -> Limits {
        limits::within(&self.limits, self.kind, granted)
    }

    /// `given` (each value as JSON) with defaults, as the plugin sees it.
    ///
    /// # Errors
    ///
    /// Every setting that is unknown, absent or of the wrong kind.
    pub fn settings(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<contract::Settings, Vec<Problem>> {
        settings::resolve(&self.settings, given)
    }

    /// By the key of the setting, the secrets that `given` names: what
    /// `${secret:KEY}` stands for.
    #[must_use]
    pub fn secrets(&self, given: &BTreeMap<String, String>) -> BTreeMap<String, SecretName> {
        settings::secrets(&self.settings, given)
    }

    /// Whether it runs a script, not a component.
    #[must_use]
    pub fn is_script(&self) -> bool {
        self.main.ends_with(".rhai")
    }
}

/// `None` only if something was noted.
fn read(table: &DeTable<'_>, findings: &mut Findings<'_>) -> Option<Manifest> {
    let mut root = Section::root(table);
    let plugin = plugin(&mut root, findings);
    let kind = plugin.kind;
    let matches = matches(&mut root, kind, findings);
    let collect = collect(&mut root, kind, findings);
    let mut asks = capability::read(&mut root, kind, findings);
    let limits = limits::read(&mut root, kind.unwrap_or(Kind::Parser), &mut asks, findings);
    let settings = settings::read(&mut root, findings);
    let at = root.place_of("settings");
    root.finish(findings);

    let secret = settings
        .iter()
        .find(|(_, setting)| setting.kind == SettingKind::Secret);
    if let Some((name, _)) = secret.filter(|_| !asks.has("secrets")) {
        findings.note(
            at,
            format!("the setting {name} is a secret, and the plugin does not ask to use any"),
            "write secrets = true below [capabilities]",
        );
    }
    if secret.is_none() && asks.has("secrets") {
        findings.note(
            at,
            "the plugin asks to use secrets, and no setting names one",
            "add a setting with type = \"secret\", or leave secrets out",
        );
    }
    Some(Manifest {
        id: plugin.id?,
        version: plugin.version?,
        kind: kind?,
        api: plugin.api?,
        description: plugin.description?,
        license: plugin.license?,
        homepage: plugin.homepage,
        main: plugin.main?,
        order: plugin.order,
        matches,
        collect,
        asks,
        limits,
        settings,
    })
}

/// `[plugin]`, as far as it could be read.
struct About {
    id: Option<String>,
    version: Option<String>,
    kind: Option<Kind>,
    api: Option<(u64, u64)>,
    description: Option<String>,
    license: Option<String>,
    homepage: Option<String>,
    main: Option<String>,
    order: u32,
}

fn plugin(root: &mut Section<'_>, findings: &mut Findings<'_>) -> About {
    let mut section = root.below("plugin", findings);
    let mut text = |key, example: &str, check: fn(&str) -> Result<(), (String, String)>| {
        let (at, text) = section.required_text(key, example, findings)?;
        let checked = check(&text);
        if let Err((message, hint)) = checked {
            findings.note(at, format!("plugin.{key}: {message}"), hint);
            return None;
        }
        Some(text)
    };
    let id = text("id", "\"acme-ups\"", is_id);
    let version = text("version", "\"1.0.0\"", is_version);
    let kind = text("kind", "\"parser\"", is_kind);
    let api = text("api", "\"1.0\"", is_api);
    let description = text("description", "\"What it is, in a line\"", is_line);
    let license = text("license", "\"Apache-2.0\"", is_license);
    let main = text("main", "\"main.rhai\"", is_main);
    let homepage = section.text("homepage", findings);
    if let Some((at, address)) = &homepage {
        let is_address = address.starts_with("https://") || address.starts_with("http://");
        let is_plain = !address.contains(|c: char| c.is_control() || c.is_whitespace());
        if !is_address || !is_plain || address.len() > DESCRIPTION_BYTES {
            let message = format!("plugin.homepage: {} is no address", quoted(address));
            findings.note(*at, message, "write https://example.org/acme-ups");
        }
    }
    let order = section.count("order", findings).map(|(at, number)| {
        let order = u32::try_from(number).ok().filter(|n| *n <= LAST_ORDER);
        if order.is_none() {
            let message = format!("plugin.order is {number}: it is 0 to {LAST_ORDER}");
            findings.note(at, message, "100 is usual");
        }
        order.unwrap_or_default()
    });
    section.finish(findings);
    About {
        id,
        version,
        kind: kind.as_deref().and_then(Kind::from_word),
        api: api.as_deref().and_then(version::api),
        description,
        license,
        homepage: homepage.map(|(_, address)| address),
        main,
        order: order.unwrap_or(100),
    }
}

fn is_id(text: &str) -> Result<(), (String, String)> {
    PluginName::new(text).map(|_| ()).map_err(|_| {
        (
            format!("{} is no id", quoted(text)),
            "1 to 63 of a-z, 0-9, - and ., a letter or digit first and last".to_owned(),
        )
    })
}

fn is_version(text: &str) -> Result<(), (String, String)> {
    match version::is_version(text) {
        true => Ok(()),
        false => Err((
            format!("{} is no semantic version", quoted(text)),
            "three numbers: 1.0.0; before a release 1.0.0-rc.1".to_owned(),
        )),
    }
}

fn is_kind(text: &str) -> Result<(), (String, String)> {
    let words = Kind::ALL.map(Kind::word);
    match words.contains(&text) {
        true => Ok(()),
        false => Err((
            format!("{} is no kind of plugin", quoted(text)),
            did_you_mean(text, &words),
        )),
    }
}

fn is_api(text: &str) -> Result<(), (String, String)> {
    let (major, minor) = API;
    let Some(api) = version::api(text) else {
        return Err((
            format!("{} is no version of the contract", quoted(text)),
            format!("two numbers: {major}.{minor}"),
        ));
    };
    if api.0 == major && api.1 <= minor {
        return Ok(());
    }
    let hint = if api > API {
        "update sotp, or take an older version of the plugin"
    } else {
        "take a newer version of the plugin"
    };
    Err((
        format!("needs the contract {text}; this program offers {major}.{minor}"),
        hint.to_owned(),
    ))
}

fn is_line(text: &str) -> Result<(), (String, String)> {
    let is_one = !text.trim().is_empty()
        && text.len() <= DESCRIPTION_BYTES
        && !text.chars().any(char::is_control);
    match is_one {
        true => Ok(()),
        false => Err((
            format!("{} is not one line", quoted(text)),
            format!("write what the plugin does in 1 to {DESCRIPTION_BYTES} bytes"),
        )),
    }
}

fn is_license(text: &str) -> Result<(), (String, String)> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || " .-+()".contains(c);
    match (1..=DESCRIPTION_BYTES).contains(&text.len()) && text.chars().all(is_letter) {
        true => Ok(()),
        false => Err((
            format!("{} is no SPDX expression", quoted(text)),
            "write Apache-2.0, MIT or the like".to_owned(),
        )),
    }
}

fn is_main(text: &str) -> Result<(), (String, String)> {
    let stem = text
        .strip_suffix(".rhai")
        .or_else(|| text.strip_suffix(".wasm"));
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name = |stem: &str| {
        (1..=60).contains(&stem.len()) && stem.chars().all(is_letter) && !stem.starts_with('.')
    };
    match stem.is_some_and(is_name) {
        true => Ok(()),
        false => Err((
            format!("{} is no file that runs", quoted(text)),
            "write main.rhai or plugin.wasm, a file beside plugin.toml".to_owned(),
        )),
    }
}

fn matches(root: &mut Section<'_>, kind: Option<Kind>, findings: &mut Findings<'_>) -> Matches {
    let at = root.place_of("match");
    let mut section = root.below("match", findings);
    let mut part = |key, findings: &mut Findings<'_>| {
        let list = section.texts(key, findings);
        if list.len() > ENTRIES {
            let message = format!("{} entries of match.{key}: at most {ENTRIES}", list.len());
            findings.note(section.place_of(key), message, "");
        }
        for (at, text) in &list {
            if text.trim().is_empty() || text.len() > DESCRIPTION_BYTES {
                let message = format!("match.{key}: {} matches nothing", quoted(text));
                findings.note(*at, message, "");
            }
        }
        list
    };
    let sys_object_id = part("sys_object_id", findings);
    let sys_object_id = sys_object_id
        .into_iter()
        .filter_map(|(at, text)| object_identifier(at, &text, findings))
        .collect();
    let kinds = part("kind", findings);
    let known = DeviceKind::ALL.map(|(_, word)| word);
    for (at, word) in kinds.iter().filter(|(_, w)| !known.contains(&w.as_str())) {
        let message = format!("match.kind: {} is no kind of device", quoted(word));
        findings.note(*at, message, did_you_mean(word, &known));
    }
    let texts = |list: Vec<(usize, String)>| list.into_iter().map(|(_, text)| text).collect();
    let matches = Matches {
        sys_object_id,
        vendor: texts(part("vendor", findings)),
        sys_descr: texts(part("sys_descr", findings)),
        kind: texts(kinds),
        tag: texts(part("tag", findings)),
        site: texts(part("site", findings)),
    };
    section.finish(findings);
    if kind == Some(Kind::Notifier) && !matches.is_empty() {
        findings.note(
            at,
            "a notifier is for alerts, not for devices",
            "leave [match] out; rules say which alerts go where",
        );
    }
    matches
}

fn object_identifier(at: usize, text: &str, findings: &mut Findings<'_>) -> Option<Oid> {
    let oid = oid(text.strip_prefix('.').unwrap_or(text));
    if oid.is_none() {
        findings.note(
            at,
            format!("{} is no object identifier", quoted(text)),
            "write its numbers: 1.3.6.1.4.1.318",
        );
    }
    oid
}

fn collect(
    root: &mut Section<'_>,
    kind: Option<Kind>,
    findings: &mut Findings<'_>,
) -> Vec<Collect> {
    let Some(value) = root.take("collect") else {
        return Vec::new();
    };
    let at = value.span().start;
    let Some(list) = value.get_ref().as_array() else {
        let _: Option<()> = wrong_type(
            "collect",
            value,
            "a list of sections, each opened as [[collect]]",
            findings,
        );
        return Vec::new();
    };
    if kind.is_some_and(|kind| kind != Kind::Parser) {
        findings.note(
            at,
            "only a parser has [[collect]]",
            "a poller says what to fetch itself, in start",
        );
    }
    if list.len() > COLLECTS {
        let message = format!("{} times [[collect]]: at most {COLLECTS}", list.len());
        findings.note(at, message, "");
    }
    let mut collects: Vec<Collect> = Vec::new();
    for item in list.iter() {
        let at = item.span().start;
        let Some(table) = item.get_ref().as_table() else {
            let _: Option<()> = wrong_type("an entry of collect", item, "a section", findings);
            continue;
        };
        let mut section = Section::of(Some(table), at, "collect");
        let one = one_collect(&mut section, findings);
        section.finish(findings);
        let Some(one) = one else { continue };
        if collects.iter().any(|other| other.name == one.name) {
            let message = format!("two [[collect]] have the name {}", quoted(&one.name));
            findings.note(at, message, "the name is how the parser tells them apart");
        }
        collects.push(one);
    }
    collects
}

fn one_collect(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Option<Collect> {
    let name = section.required_text("name", "\"sensors\"", findings);
    let get = section.texts("get", findings);
    let walk = section.text("walk", findings);
    let table = section.text("table", findings);
    let builtin = section.text("builtin", findings);
    let given = [
        !get.is_empty(),
        walk.is_some(),
        table.is_some(),
        builtin.is_some(),
    ];
    if given.iter().filter(|is| **is).count() != 1 {
        findings.note(
            section.at,
            "[[collect]] has exactly one of get, walk, table and builtin",
            "write table = \"1.3.6.1.2.1.2.2\" for a table, get = [...] for single objects",
        );
        return None;
    }
    if get.len() > ENTRIES {
        let message = format!("{} objects of one get: at most {ENTRIES}", get.len());
        findings.note(section.place_of("get"), message, "");
    }
    let what = if let Some((at, text)) = walk {
        CollectWhat::Walk(object_identifier(at, &text, findings)?)
    } else if let Some((at, text)) = table {
        CollectWhat::Table(object_identifier(at, &text, findings)?)
    } else if let Some((at, text)) = builtin {
        if !BUILT_IN_TABLES.contains(&text.as_str()) {
            let message = format!("{} is no table that the daemon asks for", quoted(&text));
            findings.note(at, message, did_you_mean(&text, &BUILT_IN_TABLES));
        }
        CollectWhat::BuiltIn(text)
    } else {
        let oids = get
            .iter()
            .filter_map(|(at, text)| object_identifier(*at, text, findings));
        CollectWhat::Get(oids.collect())
    };
    let (at, name) = name?;
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !(1..=63).contains(&name.len()) || !name.chars().all(is_letter) {
        let message = format!("collect.name: {} is no name", quoted(&name));
        findings.note(at, message, "1 to 63 letters, digits, _ and -");
    }
    Some(Collect { name, what })
}
