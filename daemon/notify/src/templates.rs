//! Subject, text and HTML of a mail, by templates.
//!
//! The operator's templates are tried first, the built-in ones stand behind
//! them: a template that is missing, damaged or fails only on this one mail
//! never costs the mail. Each part falls back by itself.

use std::io::ErrorKind;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, UndefinedBehavior, Value, context};
use model::{Delivery, NotificationEvent};

use crate::safe;
use crate::words::words;

/// Each part's file name and what is used if there is none.
const PARTS: [(&str, &str); 3] = [
    (SUBJECT, include_str!("../../../etc/templates/subject.txt")),
    (TEXT, include_str!("../../../etc/templates/mail.txt")),
    (HTML, include_str!("../../../etc/templates/mail.html")),
];
const SUBJECT: &str = "subject.txt";
const TEXT: &str = "mail.txt";
const HTML: &str = "mail.html";

/// A template is a few KiB; a larger file is a mistake.
const TEMPLATE_BYTES: u64 = 256 << 10;
/// What a template may do before it counts as endless, in instructions: the
/// built-in ones need some thousands.
const FUEL: u64 = 1_000_000;
/// The longest part of a mail; ours are some KiB.
const PART_BYTES: usize = 256 << 10;
/// The longest subject: what stands behind is not seen in any list of mails.
const SUBJECT_CHARS: usize = 150;

/// The three parts of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
    /// Why a built-in template took the place of another, if one did.
    pub(crate) problem: Option<String>,
}

/// The operator's templates and the built-in ones.
#[derive(Debug)]
pub(crate) struct Templates {
    operators: Environment<'static>,
    built_in: Environment<'static>,
    problems: Vec<String>,
}

impl Templates {
    /// Reads those of `folder`; blocks.
    pub(crate) fn load(folder: Option<&Path>) -> Templates {
        let mut built_in = environment();
        for (name, source) in PARTS {
            built_in
                .add_template(name, source)
                .expect("the built-in templates are compiled by a test");
        }
        let mut templates = Templates {
            operators: environment(),
            built_in,
            problems: Vec::new(),
        };
        for (name, _) in PARTS {
            if let Some(Err(problem)) = folder.map(|folder| templates.add(folder, name)) {
                templates.operators.remove_template(name);
                templates.problems.push(problem);
            }
        }
        templates
    }

    /// Takes the template `name` of `folder`, if there is one and if it can
    /// render.
    fn add(&mut self, folder: &Path, name: &'static str) -> Result<(), String> {
        let path = folder.join(name);
        let problem =
            |what: String| format!("{}: {what}; the built-in template is used", path.display());
        let Some(source) = read(&path).map_err(problem)? else {
            return Ok(());
        };
        self.operators
            .add_template_owned(name, source)
            .map_err(|error| problem(told(&error)))?;
        for words in samples() {
            render(&self.operators, name, words).map_err(|error| problem(told(&error)))?;
        }
        Ok(())
    }

    /// Why templates are not used, one line each.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The mail that `words` make.
    pub(crate) fn parts(&self, words: Value) -> Parts {
        let mut problem = None;
        let subject = self.part(SUBJECT, words.clone(), &mut problem);
        let subject = safe::header(&subject, SUBJECT_CHARS);
        let words = context! { subject => subject.clone(), ..words };
        let text = self.part(TEXT, words.clone(), &mut problem);
        let html = self.part(HTML, words, &mut problem);
        Parts {
            subject,
            text: safe::printable(&text),
            html: safe::printable(&html),
            problem,
        }
    }

    fn part(&self, name: &str, words: Value, problem: &mut Option<String>) -> String {
        if self.operators.get_template(name).is_ok() {
            match render(&self.operators, name, words.clone()) {
                Ok(part) => return part,
                Err(error) => {
                    let what = told(&error);
                    *problem = Some(format!(
                        "template {name}: {what}; the built-in one was used"
                    ));
                }
            }
        }
        render(&self.built_in, name, words).unwrap_or_else(|error| {
            // not reached by any value: the tests render all kinds
            format!("SOTP: a mail could not be rendered: {}", told(&error))
        })
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("the default delimiters are valid");
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("linked", linked);
    environment
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
        Ok(metadata) if metadata.len() > TEMPLATE_BYTES => {
            return Err("is larger than 256 KiB".to_owned());
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path)
        .map(Some)
        .map_err(|error| format!("cannot be read: {error}"))
}

fn render(environment: &Environment<'_>, name: &str, words: Value) -> Result<String, Error> {
    let part = environment.get_template(name)?.render(words)?;
    if part.len() > PART_BYTES {
        let what = "it renders to more than 256 KiB";
        return Err(Error::new(minijinja::ErrorKind::InvalidOperation, what));
    }
    Ok(part)
}

/// An error and its causes on one line.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    crate::settle::reason(&text)
}

/// `text` as HTML, its web addresses as links.
fn linked(text: &str) -> Value {
    let mut html = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        let escaped = escape(word);
        if word.starts_with("https://") || word.starts_with("http://") {
            html.push_str(&format!("<a href=\"{escaped}\">{escaped}</a>"));
        } else {
            html.push_str(&escaped);
        }
        html.push_str(&piece[word.len()..]);
    }
    Value::from_safe_string(html)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#x27;")
}

/// Words of each kind of mail, with and without what can be missing: an
/// operator learns of a mistake at reload, not in the first bad night.
fn samples() -> Vec<Value> {
    [
        NotificationEvent::Firing,
        NotificationEvent::Resolved,
        NotificationEvent::Test,
    ]
    .into_iter()
    .flat_map(|event| [false, true].map(|full| sample(event, full)))
    .collect()
}

fn sample(event: NotificationEvent, full: bool) -> Value {
    use jiff::tz::{TimeZone, offset};
    use model::{
        Alert, AlertId, AlertState, Channel, DeliveryState, DeviceId, Labels, OutboxId, RuleName,
        Severity, Timestamp,
    };

    let pairs: &[(&str, &str)] = if full { &[("ifName", "Gi0/1")] } else { &[] };
    let alert = Alert {
        id: AlertId(17),
        rule: RuleName("sample".to_owned()),
        severity: Severity::Warning,
        device: DeviceId(5),
        device_name: "core1".to_owned(),
        labels: std::sync::Arc::new(Labels::new(pairs.iter().copied())),
        state: AlertState::Firing,
        since: Timestamp(0),
        judged: Timestamp(0),
        rounds: 3,
        told: true,
        fired: full.then_some(Timestamp(0)),
        resolved: (event == NotificationEvent::Resolved).then_some(Timestamp(0)),
        value: full.then_some(0.5),
        summary: "no answer".to_owned(),
    };
    let delivery = Delivery {
        id: OutboxId(42),
        channel: Channel::Mail {
            to: "ops@example.net".to_owned(),
        },
        event,
        alert: (event != NotificationEvent::Test).then_some(alert),
        place: if full { "10.0.0.1" } else { "" }.to_owned(),
        behind: vec!["access1".to_owned(); if full { 50 } else { 0 }],
        created: Timestamp(0),
        state: DeliveryState::Queued { next: Timestamp(0) },
        attempts: 0,
        last_error: None,
    };
    let zone = if full {
        TimeZone::fixed(offset(1))
    } else {
        TimeZone::UTC
    };
    let words = words(&delivery, None, &zone, "noc.example.net");
    context! { subject => "a subject", ..words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(name: &str, source: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), source).unwrap();
        folder
    }

    fn firing() -> Value {
        sample(NotificationEvent::Firing, true)
    }

    #[test]
    fn the_built_in_templates_render_every_kind_of_mail() {
        let templates = Templates::load(None);
        for words in samples() {
            for (name, _) in PARTS {
                let part = render(&templates.built_in, name, words.clone());
                assert!(part.is_ok(), "{name}: {}", told(&part.unwrap_err()));
            }
        }
    }

    #[test]
    fn the_shipped_templates_load_from_their_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../etc/templates");
        let templates = Templates::load(Some(&folder));
        assert_eq!(templates.problems(), [""; 0]);
        assert_eq!(templates.operators.templates().count(), PARTS.len());
    }

    #[test]
    fn a_missing_folder_means_the_built_in_templates() {
        let templates = Templates::load(Some(Path::new("/nonexistent")));
        assert_eq!(templates.problems(), [""; 0]);
        let parts = templates.parts(firing());
        assert_eq!(parts.subject, "[SOTP] WARNING core1: no answer");
        assert_eq!(parts.problem, None);
    }

    #[test]
    fn an_operators_template_takes_its_part() {
        let folder = folder_with(
            SUBJECT,
            "{{ word }}: {{ alert.device if alert else '-' }}\n",
        );
        let templates = Templates::load(Some(folder.path()));
        let parts = templates.parts(firing());
        assert_eq!(parts.subject, "WARNING: core1");
        assert!(parts.text.contains("core1: no answer"));
    }

    #[test]
    fn a_template_that_cannot_be_used_is_named_and_replaced() {
        for (name, source, why) in [
            (TEXT, "{% if %}", "syntax error"),
            (TEXT, "{{ alert.nothing_like_it }}", "undefined"),
            (HTML, "{{ alert | no_such_filter }}", "filter"),
            (HTML, "{% include '/etc/passwd' %}", "not found"),
            (
                TEXT,
                "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
                "fuel",
            ),
            (TEXT, "{{ 'x' * 300000 }}", "256 KiB"),
        ] {
            let folder = folder_with(name, source);
            let templates = Templates::load(Some(folder.path()));
            let [problem] = templates.problems() else {
                panic!("{source}: {:?}", templates.problems());
            };
            assert!(problem.contains(name) && problem.contains(why), "{problem}");
            let parts = templates.parts(firing());
            assert!(
                parts.text.contains("core1: no answer") && parts.html.contains("core1: no answer")
            );
        }
    }

    #[test]
    fn a_template_that_fails_on_one_mail_costs_that_mail_nothing() {
        let source = "{% if alert and alert.id == 4711 %}{{ alert.oops }}{% endif %}mine";
        let folder = folder_with(TEXT, source);
        let templates = Templates::load(Some(folder.path()));
        assert_eq!(templates.problems(), [""; 0]);
        assert_eq!(templates.parts(firing()).text, "mine");

        let alert = context! { id => 4711, ..firing().get_attr("alert").unwrap() };
        let parts = templates.parts(context! { alert => alert, ..firing() });
        assert!(parts.text.contains("core1: no answer"), "{}", parts.text);
        assert!(parts.problem.unwrap().contains("mail.txt"));
    }

    #[test]
    fn a_web_address_becomes_a_link_and_nothing_else_does() {
        let html = linked("see https://w.example/a?b=1&c=\"2 or javascript:x\n<b>");
        let expected = "see <a href=\"https://w.example/a?b=1&amp;c=&quot;2\">https://w.example/a?b=1&amp;c=&quot;2</a> or javascript:x\n&lt;b&gt;";
        assert_eq!(html.to_string(), expected);
    }
}
