//! For tests: whole mails beside files that a person has read.
//!
//! `UPDATE_GOLDEN=1 cargo test -p notify golden` writes the files anew; look at
//! the difference before you keep it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use model::{Channel, Delivery, Labels, NotificationEvent, Rule, Severity};

use crate::letter::Letter;
use crate::settings::Mailer;
use crate::settings::tests::settings;
use crate::words::tests::{delivery, down_rule, threshold_rule};

fn letter(delivery: &Delivery, rule: Option<&Rule>) -> Letter {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let mailer = Mailer::in_zone(settings(), zone).unwrap();
    let letter = mailer.compose(delivery, rule).unwrap();
    assert_eq!(letter.template_problem, None);
    letter
}

/// Headers as they are sent, then the parts as a reader's program shows them.
fn shown(letter: &Letter) -> String {
    let mail = String::from_utf8(letter.bytes.clone()).unwrap();
    let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
    let parts = bodies(&mail).join("\n---------- next part\n");
    format!("{}\n\n{parts}", headers.replace("\r\n", "\n"))
}

fn boundary(mail: &str) -> &str {
    let (_, rest) = mail.split_once("boundary=\"").unwrap();
    rest.split_once('"').unwrap().0
}

fn bodies(mail: &str) -> Vec<String> {
    let between = format!("--{}", boundary(mail));
    let parts: Vec<&str> = mail.split(between.as_str()).collect();
    assert_eq!((parts.len(), parts[3]), (4, "--\r\n"), "two parts");
    parts[1..3]
        .iter()
        .map(|part| {
            let (headers, body) = part.split_once("\r\n\r\n").unwrap();
            assert!(headers.contains("Content-Transfer-Encoding: quoted-printable"));
            decoded(body)
        })
        .collect()
}

/// Quoted-printable (RFC 2045 §6.7).
fn decoded(body: &str) -> String {
    let joined = body.replace("=\r\n", "").replace("\r\n", "\n");
    let mut pieces = joined.split('=');
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn is_golden(name: &str, letter: &Letter) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    let shown = shown(letter);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(shown == golden, "{name} is now:\n{shown}");
}

/// A value over its limit, of an interface, with devices behind it.
fn threshold() -> (Delivery, Rule) {
    let mut told = delivery(NotificationEvent::Firing);
    told.behind = (1..=25).map(|n| format!("access{n}")).collect();
    let alert = told.alert.as_mut().unwrap();
    alert.severity = Severity::Warning;
    alert.labels = Arc::new(Labels::new([("interface", "Gi0/1"), ("zone", "Außen")]));
    alert.value = Some(2_500.0);
    alert.summary = "ifInErrors of Gi0/1 is 2.5 kpackets/s, above 100 packets/s".to_owned();
    (told, threshold_rule("ifInErrors", 100.0))
}

/// What no device should say of itself.
const HOSTILE: &str = "sw\r\nBcc: x@y\r\n\r\n<script>alert(1)</script>\u{1b}[31m\u{202e}\0\u{9b}1m=?utf-8?q?=0aTo:_z?=";

fn hostile() -> Delivery {
    let mut told = delivery(NotificationEvent::Firing);
    told.place = HOSTILE.to_owned();
    told.behind = vec![HOSTILE.to_owned()];
    let alert = told.alert.as_mut().unwrap();
    alert.device_name = HOSTILE.to_owned();
    alert.rule.0 = HOSTILE.to_owned();
    alert.summary = HOSTILE.to_owned();
    alert.labels = Arc::new(Labels::new([(HOSTILE, HOSTILE)]));
    told
}

#[test]
fn a_mail_about_a_device_that_is_down() {
    let told = delivery(NotificationEvent::Firing);
    is_golden("firing.eml", &letter(&told, Some(&down_rule())));
}

#[test]
fn a_mail_about_a_value_beyond_its_limit() {
    let (told, rule) = threshold();
    is_golden("threshold.eml", &letter(&told, Some(&rule)));
}

#[test]
fn a_mail_about_a_fault_that_is_over() {
    let told = delivery(NotificationEvent::Resolved);
    is_golden("resolved.eml", &letter(&told, Some(&down_rule())));
}

#[test]
fn a_mail_that_is_a_test() {
    let told = delivery(NotificationEvent::Test);
    is_golden("test.eml", &letter(&told, None));
}

#[test]
fn a_mail_about_a_hostile_device() {
    let mut rule = down_rule();
    rule.name.0 = HOSTILE.to_owned();
    rule.note = Some(HOSTILE.to_owned());
    is_golden("hostile.eml", &letter(&hostile(), Some(&rule)));
}

#[test]
fn no_device_writes_a_header_or_markup_or_an_escape_sequence() {
    let letter = letter(&hostile(), None);
    let mail = String::from_utf8(letter.bytes.clone()).unwrap();
    let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
    let names: Vec<&str> = headers
        .split("\r\n")
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let ours = [
        "Date",
        "From",
        "To",
        "Subject",
        "Message-ID",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "X-SOTP-Event",
        "X-SOTP-Alert",
        "X-SOTP-Severity",
        "X-SOTP-Rule",
        "X-SOTP-Device",
        "Importance",
        "X-Priority",
        "MIME-Version",
        "Content-Type",
    ];
    assert_eq!(names, ours);
    assert!(!headers.contains("=?utf-8?q"), "{headers}");

    let odd = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    let [text, html] = bodies(&mail).try_into().unwrap();
    assert!(!text.contains(odd) && !html.contains(odd));
    assert!(!html.contains("<script"), "{html}");
    assert!(mail.is_ascii());
    assert!(
        mail.split("\r\n")
            .all(|line| line.len() <= 998 && !line.contains(['\r', '\n']))
    );
}

#[test]
fn the_same_delivery_is_the_same_mail_at_every_try() {
    let mut told = delivery(NotificationEvent::Firing);
    let first = letter(&told, None).bytes;
    told.attempts = 7;
    told.last_error = Some("not now".to_owned());
    assert_eq!(letter(&told, None).bytes, first);
}

fn header(letter: &Letter, name: &str) -> Option<String> {
    let mail = String::from_utf8(letter.bytes.clone()).unwrap();
    let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
    headers
        .replace("\r\n ", " ")
        .split("\r\n")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .map(str::to_owned)
}

#[test]
fn the_end_of_an_alert_answers_its_beginning_for_the_same_recipient_alone() {
    let mut firing = delivery(NotificationEvent::Firing);
    let mut resolved = delivery(NotificationEvent::Resolved);
    resolved.id.0 += 1;
    let first = header(&letter(&firing, None), "Message-ID").unwrap();
    let second = letter(&resolved, None);
    assert_eq!(header(&second, "In-Reply-To").as_ref(), Some(&first));
    assert_eq!(header(&second, "References").as_ref(), Some(&first));
    assert_ne!(header(&second, "Message-ID").unwrap(), first);

    let other = Channel::Mail {
        to: "boss@example.net".to_owned(),
    };
    firing.channel = other.clone();
    let to_another = header(&letter(&firing, None), "Message-ID").unwrap();
    assert_ne!(to_another, first);
    resolved.channel = other;
    let answer = header(&letter(&resolved, None), "In-Reply-To").unwrap();
    assert_eq!(answer, to_another);
}

#[test]
fn an_alert_that_fires_again_is_not_taken_for_a_duplicate() {
    let mut firing = delivery(NotificationEvent::Firing);
    let first = header(&letter(&firing, None), "Message-ID");
    let alert = firing.alert.as_mut().unwrap();
    alert.fired = alert.fired.map(|at| at.plus(Duration::from_secs(60)));
    assert_ne!(header(&letter(&firing, None), "Message-ID"), first);
}

#[test]
fn a_subject_in_any_script_arrives_and_a_long_one_is_cut() {
    let mut firing = delivery(NotificationEvent::Firing);
    let alert = firing.alert.as_mut().unwrap();
    alert.summary = format!("Zürich 東京 {}", "core1 ".repeat(200));
    let subject = header(&letter(&firing, None), "Subject").unwrap();
    assert!(subject.contains("=?utf-8?b?"), "{subject}");
    assert!(subject.len() < 400, "{subject}");
}
