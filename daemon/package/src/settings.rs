//! The settings of a plugin: what its manifest says of them, and whether given
//! values are such.

use std::collections::BTreeMap;

use model::SecretName;
use serde_json::Value as Json;
use toml::de::DeValue;

use crate::problem::{Problem, did_you_mean, quoted};
use crate::reader::{Findings, Section, integer, number, wrong_type};

/// Settings of a plugin.
const SETTINGS: usize = 100;
/// Bytes of a name of one.
const NAME_BYTES: usize = 63;
/// Bytes of a text.
const TEXT_BYTES: usize = 8_192;
/// Entries of a list, and choices of a text.
const ENTRIES: usize = 1_000;

/// What a setting is.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingSchema {
    /// What values it takes.
    pub kind: SettingKind,
    /// Its value where none is set, as JSON; `None`: it must be set.
    pub default: Option<String>,
    /// One line for people.
    pub help: String,
}

/// What values a setting takes.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingKind {
    /// Text; one of these, if there are any.
    Text(Vec<String>),
    /// A whole number within these bounds.
    Integer(Option<i64>, Option<i64>),
    /// A number within these bounds.
    Number(Option<f64>, Option<f64>),
    /// true or false.
    Boolean,
    /// A list of texts.
    List,
    /// The name of a secret of the daemon, with or without `secret://` before
    /// it. The plugin sees `${secret:KEY}`, which the host replaces in the
    /// requests that it sends; `KEY` is the setting's. One that may be left out
    /// has the default `""`, which the plugin then sees.
    Secret,
}

const TYPES: [&str; 6] = ["text", "integer", "number", "boolean", "list", "secret"];

impl SettingKind {
    /// The word that manifests write.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            SettingKind::Text(_) => "text",
            SettingKind::Integer(..) => "integer",
            SettingKind::Number(..) => "number",
            SettingKind::Boolean => "boolean",
            SettingKind::List => "list",
            SettingKind::Secret => "secret",
        }
    }

    /// What is wrong with `value`, and a hint.
    fn check(&self, value: &Json) -> Result<(), (String, String)> {
        let wrong = |message: &str, hint: String| Err((message.to_owned(), hint));
        match self {
            SettingKind::Text(choices) => {
                let Some(text) = value.as_str() else {
                    return wrong("is no text", "write it in quotes".to_owned());
                };
                if text.len() > TEXT_BYTES {
                    return wrong(
                        "is too long",
                        format!("at most {TEXT_BYTES} bytes are allowed"),
                    );
                }
                if choices.is_empty() || choices.iter().any(|choice| choice == text) {
                    return Ok(());
                }
                let known: Vec<&str> = choices.iter().map(String::as_str).collect();
                let message = format!("is {}, which is no choice", quoted(text));
                Err((message, did_you_mean(text, &known)))
            }
            SettingKind::Integer(min, max) => match value.as_i64() {
                Some(number) => within(number, *min, *max),
                None => wrong("is no whole number", "write 5".to_owned()),
            },
            SettingKind::Number(min, max) => match value.as_f64().filter(|n| n.is_finite()) {
                Some(number) => within(number, *min, *max),
                None => wrong("is no number", "write 5 or 0.5".to_owned()),
            },
            SettingKind::Boolean => match value.is_boolean() {
                true => Ok(()),
                false => wrong("is neither true nor false", "write true".to_owned()),
            },
            SettingKind::List => {
                let list = value.as_array();
                let Some(list) = list.filter(|list| list.iter().all(Json::is_string)) else {
                    return wrong("is no list of texts", "write [\"a\", \"b\"]".to_owned());
                };
                let bytes: usize = list.iter().filter_map(Json::as_str).map(str::len).sum();
                match list.len() > ENTRIES || bytes > TEXT_BYTES {
                    true => wrong(
                        "is too long",
                        format!("at most {ENTRIES} entries and {TEXT_BYTES} bytes are allowed"),
                    ),
                    false => Ok(()),
                }
            }
            SettingKind::Secret => match value.as_str() {
                Some(name) if is_secret_name(name) => Ok(()),
                _ => wrong(
                    "is no name of a secret",
                    "store the value with `sotp secret set NAME`, and write NAME here".to_owned(),
                ),
            },
        }
    }
}

fn within<N: PartialOrd + std::fmt::Display>(
    number: N,
    min: Option<N>,
    max: Option<N>,
) -> Result<(), (String, String)> {
    if let Some(min) = min.filter(|min| number < *min) {
        return Err((format!("is {number}"), format!("it is {min} at least")));
    }
    if let Some(max) = max.filter(|max| number > *max) {
        return Err((format!("is {number}"), format!("it is {max} at most")));
    }
    Ok(())
}

fn is_secret_name(text: &str) -> bool {
    let name = text.strip_prefix(SecretName::SCHEME).unwrap_or(text);
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    // a name that begins with a dot is the daemon's own
    (1..=200).contains(&name.len()) && name.chars().all(is_letter) && !name.starts_with('.')
}

/// Reads all `[settings.NAME]`.
pub(crate) fn read(
    root: &mut Section<'_>,
    findings: &mut Findings<'_>,
) -> BTreeMap<String, SettingSchema> {
    let mut settings = BTreeMap::new();
    let all = root.below("settings", findings);
    for (key, value) in all.entries() {
        let (name, at) = (key.get_ref().as_ref(), key.span().start);
        if !is_setting_name(name) {
            findings.note(
                at,
                format!("{} is no name of a setting", quoted(name)),
                "1 to 63 of a-z, 0-9 and _, a letter first",
            );
            continue;
        }
        let path = format!("settings.{name}");
        let Some(table) = value.get_ref().as_table() else {
            let _: Option<()> = wrong_type(
                &path,
                value,
                "a section: [settings.NAME] with type and help",
                findings,
            );
            continue;
        };
        let mut section = Section::of(Some(table), at, &path);
        if let Some(schema) = one(&mut section, findings) {
            settings.insert(name.to_owned(), schema);
        }
        section.finish(findings);
    }
    if settings.len() > SETTINGS {
        let message = format!(
            "{} settings: at most {SETTINGS} are allowed",
            settings.len()
        );
        findings.note(all.at, message, "");
    }
    settings
}

fn is_setting_name(name: &str) -> bool {
    name.len() <= NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn one(section: &mut Section<'_>, findings: &mut Findings<'_>) -> Option<SettingSchema> {
    let word = section.required_text("type", "\"text\"", findings);
    let help = section.required_text("help", "\"what it is for\"", findings);
    let choices = section.texts("choices", findings);
    let (min, max) = (section.take("min"), section.take("max"));
    let default = section.take("default");
    let (at, word) = word?;

    let complain = |key: &str, at: usize, findings: &mut Findings<'_>| {
        let name = section.name(key);
        findings.note(
            at,
            format!("{name}: a {word} has no {key}"),
            "choices are for text, min and max for integer and number",
        );
    };
    let kind = match word.as_str() {
        "text" => SettingKind::Text(choices.iter().map(|(_, text)| text.clone()).collect()),
        "integer" => SettingKind::Integer(
            bound(min, &section.name("min"), integer, findings),
            bound(max, &section.name("max"), integer, findings),
        ),
        "number" => SettingKind::Number(
            bound(min, &section.name("min"), number, findings),
            bound(max, &section.name("max"), number, findings),
        ),
        "boolean" => SettingKind::Boolean,
        "list" => SettingKind::List,
        "secret" => SettingKind::Secret,
        other => {
            let message = format!("{} is {}", section.name("type"), quoted(other));
            findings.note(at, message, did_you_mean(other, &TYPES));
            return None;
        }
    };
    if !matches!(kind, SettingKind::Text(_)) {
        if let Some((at, _)) = choices.first() {
            complain("choices", *at, findings);
        }
    } else if choices.len() > ENTRIES {
        let message = format!("{} choices: at most {ENTRIES} are allowed", choices.len());
        findings.note(section.at, message, "");
    }
    if !matches!(kind, SettingKind::Integer(..) | SettingKind::Number(..)) {
        for (key, value) in [("min", min), ("max", max)] {
            if let Some(value) = value {
                complain(key, value.span().start, findings);
            }
        }
    }
    let is_empty_range = match &kind {
        SettingKind::Integer(Some(min), Some(max)) => min > max,
        SettingKind::Number(Some(min), Some(max)) => min > max,
        _ => false,
    };
    if is_empty_range {
        let message = format!("{} is more than max", section.name("min"));
        findings.note(
            section.place_of("min"),
            message,
            "no value lies between them",
        );
    }
    let default = default.and_then(|value| {
        let name = section.name("default");
        let checked = match json(value.get_ref()) {
            // a secret that may be left out
            Some(Json::String(text)) if text.is_empty() && kind == SettingKind::Secret => {
                return Some("\"\"".to_owned());
            }
            Some(_) if kind == SettingKind::Secret => Err((
                "has to be \"\", which means that it may be left out".to_owned(),
                "the name of a secret is for whoever installs the plugin to give".to_owned(),
            )),
            Some(json) => kind.check(&json).map(|()| json),
            None => Err(("is of no type that settings have".to_owned(), String::new())),
        };
        match checked {
            Ok(json) => Some(json.to_string()),
            Err((message, hint)) => {
                findings.note(value.span().start, format!("{name} {message}"), hint);
                None
            }
        }
    });
    Some(SettingSchema {
        kind,
        default,
        help: help.map(|(_, help)| help).unwrap_or_default(),
    })
}

fn bound<N>(
    value: Option<&crate::reader::Value<'_>>,
    name: &str,
    read: fn(&DeValue<'_>) -> Option<N>,
    findings: &mut Findings<'_>,
) -> Option<N> {
    let value = value?;
    read(value.get_ref())
        .or_else(|| wrong_type(name, value, "a number of the setting's type", findings))
}

fn json(value: &DeValue<'_>) -> Option<Json> {
    Some(match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Integer(_) => Json::from(integer(value)?),
        DeValue::Float(_) => Json::from(number(value)?),
        DeValue::Boolean(is) => Json::from(*is),
        DeValue::Array(list) => {
            let texts = list.iter().map(|item| item.get_ref().as_str());
            Json::from(texts.collect::<Option<Vec<&str>>>()?)
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}

/// `given` with defaults, as the plugin sees it.
pub(crate) fn resolve(
    schema: &BTreeMap<String, SettingSchema>,
    given: &BTreeMap<String, String>,
) -> Result<contract::Settings, Vec<Problem>> {
    let mut problems = Vec::new();
    let known: Vec<&str> = schema.keys().map(String::as_str).collect();
    for name in given.keys().filter(|name| !schema.contains_key(*name)) {
        let problem = Problem::new(format!("unknown setting {}", quoted(name)));
        problems.push(problem.with_hint(did_you_mean(name, &known)));
    }
    let mut values = BTreeMap::new();
    let mut object = serde_json::Map::new();
    for (name, setting) in schema {
        match one_value(name, setting, given.get(name)) {
            Ok(value) => {
                let text = match &value {
                    Json::String(text) => text.clone(),
                    other => other.to_string(),
                };
                values.insert(name.clone(), text);
                object.insert(name.clone(), value);
            }
            Err(problem) => problems.push(problem),
        }
    }
    match problems.is_empty() {
        true => Ok(contract::Settings {
            values,
            json: Json::Object(object).to_string(),
        }),
        false => Err(problems),
    }
}

fn one_value(name: &str, setting: &SettingSchema, given: Option<&String>) -> Result<Json, Problem> {
    let is_secret = setting.kind == SettingKind::Secret;
    let parse = |text: &String| serde_json::from_str::<Json>(text);
    let Some(given) = given else {
        let missing = || {
            Problem::new(format!("the setting {name} is missing")).with_hint(format!(
                "it is of type {}: {}",
                setting.kind.word(),
                setting.help
            ))
        };
        let default = setting.default.as_ref().ok_or_else(missing)?;
        return parse(default).map_err(|_| missing());
    };
    let Ok(value) = parse(given) else {
        return Err(Problem::new(format!("the setting {name} is no JSON")));
    };
    // a secret that may be left out may be given as left out
    if is_secret && setting.default.is_some() && value == "" {
        return Ok(value);
    }
    setting.kind.check(&value).map_err(|(message, hint)| {
        Problem::new(format!("the setting {name} {message}")).with_hint(hint)
    })?;
    Ok(match is_secret {
        true => Json::from(format!("${{secret:{name}}}")),
        false => value,
    })
}

/// Of those settings that name a secret, which one.
pub(crate) fn secrets(
    schema: &BTreeMap<String, SettingSchema>,
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, SecretName> {
    let of_schema = schema
        .iter()
        .filter(|(_, setting)| setting.kind == SettingKind::Secret);
    let named = of_schema.filter_map(|(key, _)| {
        let text: String = serde_json::from_str(given.get(key)?).ok()?;
        let name = text.strip_prefix(SecretName::SCHEME).unwrap_or(&text);
        let is_one = is_secret_name(&text);
        is_one.then(|| (key.clone(), SecretName(name.to_owned())))
    });
    named.collect()
}
