//! One mail, ready to be handed over: headers, text and HTML as bytes. Pure; the
//! same delivery gives the same bytes at every try.
//!
//! A mail's Message-ID is the same at every try, so a duplicate can be told. The
//! one of the mail that says that an alert fires can be computed from the alert
//! and the recipient: the mail that says that it is over refers to it, and mail
//! programs show the two as one conversation.
//!
//! `Auto-Submitted` (RFC 3834) and `X-Auto-Response-Suppress` keep holiday notes
//! from being sent back. `Precedence: bulk` is left out: it says that a mail may
//! come late.

use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message, MultiPart, SinglePart};
use lettre::{Address, message::MessageBuilder};
use model::{Alert, Channel, Delivery, NotificationEvent, Rule, Severity};

use crate::safe;
use crate::settings::{Mailer, is_plain_address};
use crate::templates::Parts;
use crate::words::words;

/// One mail to one recipient.
#[derive(Clone, Debug)]
pub struct Letter {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) bytes: Vec<u8>,
    /// Why a built-in template took the place of another, if one did.
    pub(crate) template_problem: Option<String>,
}

impl Letter {
    /// The mail as it is sent (RFC 5322), to be shown or kept in a file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The longest value of one of our own headers: they are for filters.
const HEADER_CHARS: usize = 200;

impl Mailer {
    /// The mail that tells `delivery`. `rule` is the alert's rule, if there
    /// still is one: it adds the limit and the note.
    ///
    /// # Errors
    ///
    /// Why this can never be sent: the recipient is not a mail address.
    pub fn compose(&self, delivery: &Delivery, rule: Option<&Rule>) -> Result<Letter, String> {
        let Channel::Mail { to } = &delivery.channel else {
            return Err("this is not for mail".to_owned());
        };
        let recipient = Some(to.trim())
            .filter(|to| is_plain_address(to))
            .and_then(|to| to.parse().ok())
            .ok_or_else(|| {
                let to = safe::one_line(to, HEADER_CHARS);
                format!("{to:?} is not a mail address; correct mail.to")
            })?;
        let words = words(delivery, rule, &self.zone, &self.host);
        let parts = self.templates.parts(words);
        let template_problem = parts.problem.clone();
        let message = self
            .message(delivery, &recipient, parts)
            .map_err(|error| format!("the mail cannot be put together: {error}"))?;
        Ok(Letter {
            from: self.from.email.clone(),
            to: recipient,
            bytes: message.formatted(),
            template_problem,
        })
    }

    fn message(
        &self,
        delivery: &Delivery,
        to: &Address,
        parts: Parts,
    ) -> Result<Message, lettre::error::Error> {
        let id = self.message_id(delivery, to);
        let boundary = format!("=_{:016x}", fnv(&[id.as_bytes(), b"boundary"]));
        let mut builder = Message::builder()
            .date(UNIX_EPOCH + Duration::from_millis(delivery.created.0).min(LATEST_DATE))
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(parts.subject)
            .message_id(Some(id));
        if let Some(first) = self.first_of_the_conversation(delivery, to) {
            builder = builder.in_reply_to(first.clone()).references(first);
        }
        for (name, value) in own_headers(delivery) {
            builder = with_header(builder, name, &value);
        }
        builder.multipart(
            MultiPart::alternative()
                .boundary(boundary)
                .singlepart(part(ContentType::TEXT_PLAIN, parts.text))
                .singlepart(part(ContentType::TEXT_HTML, parts.html)),
        )
    }

    fn message_id(&self, delivery: &Delivery, to: &Address) -> String {
        match (&delivery.alert, delivery.event) {
            (Some(alert), NotificationEvent::Firing) => self.firing_id(alert, to),
            _ => format!(
                "<delivery-{}.{}.{}@{}>",
                delivery.id,
                delivery.created.0,
                recipient_mark(to),
                self.host
            ),
        }
    }

    /// The Message-ID of the mail that says that `alert` fires. The time in it
    /// tells alerts of a new store, which counts from 1 again, from those of an
    /// older one.
    fn firing_id(&self, alert: &Alert, to: &Address) -> String {
        format!(
            "<alert-{}.{}.{}@{}>",
            alert.id,
            alert.fired.unwrap_or(alert.since).0,
            recipient_mark(to),
            self.host
        )
    }

    fn first_of_the_conversation(&self, delivery: &Delivery, to: &Address) -> Option<String> {
        let alert = delivery.alert.as_ref()?;
        (delivery.event == NotificationEvent::Resolved).then(|| self.firing_id(alert, to))
    }
}

/// 9999-12-31: later dates have no form in a mail.
const LATEST_DATE: Duration = Duration::from_secs(253_402_214_400);

/// Quoted-printable whatever it holds: no line is too long for any server, and
/// `=_`, with which the boundary begins, cannot stand in it.
fn part(kind: ContentType, text: String) -> SinglePart {
    let body = Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable)
        .expect("quoted-printable can hold anything");
    SinglePart::builder().header(kind).body(body)
}

/// Headers that are for programs: mailbox filters, automatic answers.
fn own_headers(delivery: &Delivery) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Auto-Response-Suppress", "All".to_owned()),
        ("X-SOTP-Event", delivery.event.word().to_owned()),
    ];
    let Some(alert) = &delivery.alert else {
        return headers;
    };
    headers.push(("X-SOTP-Alert", alert.id.to_string()));
    headers.push(("X-SOTP-Severity", alert.severity.word().to_owned()));
    headers.push(("X-SOTP-Rule", alert.rule.0.clone()));
    headers.push(("X-SOTP-Device", alert.device_name.clone()));
    if alert.severity == Severity::Critical && delivery.event == NotificationEvent::Firing {
        headers.push(("Importance", "high".to_owned()));
        headers.push(("X-Priority", "1".to_owned()));
    }
    headers
}

fn with_header(builder: MessageBuilder, name: &'static str, value: &str) -> MessageBuilder {
    let name = HeaderName::new_from_ascii_str(name);
    builder.raw_header(HeaderValue::new(name, safe::header(value, HEADER_CHARS)))
}

/// Tells one recipient's Message-IDs from another's without naming anybody.
fn recipient_mark(to: &Address) -> String {
    let to: &str = to.as_ref();
    format!("{:016x}", fnv(&[to.to_ascii_lowercase().as_bytes()]))
}

/// FNV-1a: the same in every run of every build, which a Message-ID has to be.
fn fnv(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .flat_map(|part| part.iter())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
