//! What can go wrong for who types `sotp`, and the exit code that says so.

use std::fmt;
use std::process::ExitCode;

use serde_json::Value;

use crate::place::{Endpoint, Where};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The daemon cannot be reached: exit code 4.
    Unreachable {
        at: Box<Where>,
        source: std::io::Error,
    },
    /// Somebody answers who is not the server that we trust: exit code 4.
    Untrusted { at: Box<Where>, why: String },
    /// Nobody is signed in, or no longer: exit code 4.
    NotSignedIn { at: Box<Where>, why: String },
    /// The connection broke before the answer was there; what was asked may
    /// have been done: exit code 4.
    Lost { at: Box<Where>, why: String },
    /// The daemon said no, in an RFC 9457 problem.
    Refused { status: u16, problem: Value },
    /// The daemon did not speak as agreed.
    Garbled(String),
    /// Something on this side failed.
    Local {
        doing: String,
        source: std::io::Error,
    },
    /// It needs a yes that nobody gave: exit code 3.
    NeedsConfirmation(String),
    /// It is not done as things are: exit code 3.
    NotNow(String),
    /// The words are off in a way that clap cannot know: exit code 2.
    Usage(String),
    /// Something was done, and something was not: exit code 1.
    Partly(String),
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads what we print, as in `sotp … | head -1`.
    Closed,
}

impl Trouble {
    pub(crate) fn local(doing: impl Into<String>, source: std::io::Error) -> Trouble {
        Trouble::Local {
            doing: doing.into(),
            source,
        }
    }

    /// A refusal of our own, in the daemon's words.
    pub(crate) fn refused(status: u16, detail: impl Into<String>) -> Trouble {
        Trouble::Refused {
            status,
            problem: serde_json::json!({ "detail": detail.into() }),
        }
    }

    /// The status that the daemon refused with.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Trouble::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Trouble::Closed => 0,
            Trouble::Unreachable { .. }
            | Trouble::Untrusted { .. }
            | Trouble::NotSignedIn { .. }
            | Trouble::Lost { .. }
            | Trouble::Refused { status: 401, .. } => 4,
            Trouble::NeedsConfirmation(_)
            | Trouble::NotNow(_)
            | Trouble::Refused {
                status: 403 | 409 | 412 | 428,
                ..
            } => 3,
            Trouble::Usage(_) => 2,
            Trouble::Interrupted => 130,
            Trouble::Refused { .. }
            | Trouble::Garbled(_)
            | Trouble::Local { .. }
            | Trouble::Partly(_) => 1,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable { at, source } => {
                write!(
                    f,
                    "cannot reach sotpd at {at}: {source}\n{}",
                    hint(at, source)
                )
            }
            Trouble::Untrusted { at, why } => write!(
                f,
                "what answers at {at} is not trusted: {why}\n\
                 hint: `sudo sotp setup` and `sotp context show` say which certificate is the right one; \
                 give it with --fingerprint, or its issuer with --ca-file"
            ),
            Trouble::NotSignedIn { at, why } => {
                write!(
                    f,
                    "not signed in at {at}: {why}\nhint: {}",
                    sign_in_hint(at)
                )
            }
            Trouble::Lost { at, why } => write!(
                f,
                "the connection to {at} broke before the answer was there: {why}\n\
                 hint: it may have been done; look before you repeat it"
            ),
            Trouble::Refused { status, problem } => write_problem(f, *status, problem),
            Trouble::Garbled(what) => write!(
                f,
                "sotpd answered in a way this client does not understand: {what}"
            ),
            Trouble::Local { doing, source } => write!(f, "cannot {doing}: {source}"),
            Trouble::NeedsConfirmation(what)
            | Trouble::NotNow(what)
            | Trouble::Usage(what)
            | Trouble::Partly(what) => f.write_str(what),
            Trouble::Interrupted => f.write_str("interrupted"),
            Trouble::Closed => Ok(()),
        }
    }
}

/// One next step.
fn hint(at: &Where, source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match (&at.endpoint, source.kind()) {
        (Endpoint::Socket(_), Kind::PermissionDenied) => {
            "hint: use sudo, or join the group: usermod -aG sotp $USER, then log in again"
        }
        (Endpoint::Socket(_), Kind::NotFound | Kind::ConnectionRefused) => {
            "hint: is it running? systemctl status sotpd. On another host: sotp login https://HOST:8443"
        }
        (Endpoint::Socket(_), _) => "hint: systemctl status sotpd",
        (Endpoint::Https(_), Kind::ConnectionRefused) => {
            "hint: does sotpd run there, and is that its port? [api] https in its settings says so"
        }
        (Endpoint::Https(_), Kind::TimedOut) => {
            "hint: does a firewall stand between here and there? ask with: curl -vk URL"
        }
        (Endpoint::Https(_), _) => {
            "hint: check the address; sotp context ls shows those that are known"
        }
    }
}

fn sign_in_hint(at: &Where) -> String {
    match &at.endpoint {
        Endpoint::Socket(_) => "use sudo, or join the group sotp".to_owned(),
        Endpoint::Https(server) => match at.context() {
            Some(context) => format!("sotp login {} --context {context}", server.url),
            None => format!("sotp login {}, or give --token-file", server.url),
        },
    }
}

fn write_problem(f: &mut fmt::Formatter<'_>, status: u16, problem: &Value) -> fmt::Result {
    let text = |key: &str| problem.get(key).and_then(Value::as_str);
    f.write_str(
        text("detail")
            .or_else(|| text("title"))
            .unwrap_or("refused without a reason"),
    )?;
    for mistake in problem
        .get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let part = |key: &str| mistake.get(key).and_then(Value::as_str);
        let place = part("pointer").or_else(|| part("parameter")).unwrap_or("");
        let message = part("message").unwrap_or("");
        let detail = text("detail").unwrap_or_default();
        let more = message.strip_prefix(detail);
        match more.filter(|more| place.is_empty() || more.is_empty()) {
            // the first mistake is the detail; what it says more is what to do
            Some(more) => match more.trim_start_matches([';', ' ']) {
                "" => {}
                more => write!(f, "\nhint: {more}")?,
            },
            None => match place {
                "" => write!(f, "\n  {message}")?,
                place => write!(f, "\n  {place}: {message}")?,
            },
        }
    }
    let again = problem.get("retry_after").and_then(Value::as_u64);
    match (problem_hint(status, text("type").unwrap_or("")), again) {
        ("", None) => Ok(()),
        ("", Some(seconds)) => write!(f, "\nhint: try again in {seconds} s"),
        (hint, _) => write!(f, "\nhint: {hint}"),
    }
}

/// What to type next, where the daemon cannot know how we are called.
fn problem_hint(status: u16, kind: &str) -> &'static str {
    match (status, kind.rsplit('/').next().unwrap_or("")) {
        (_, "password-change-required") => "sotp password",
        (_, "totp-required") => "sotp totp enable",
        (_, "not-set-up") => "on the server: sudo sotp setup",
        (412, _) => "somebody changed it meanwhile: look at it again, then repeat",
        _ => "",
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;

    use crate::place::Source;

    fn socket(source: Source) -> Where {
        Where {
            endpoint: Endpoint::Socket(PathBuf::from("/x.sock")),
            source,
        }
    }

    #[test]
    fn an_error_says_where_the_address_came_from_and_one_next_step() {
        let at = Box::new(socket(Source::Environment("SOTP_SOCKET")));
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let text = Trouble::Unreachable { at, source }.to_string();
        assert!(text.contains("/x.sock (from SOTP_SOCKET)"), "{text}");
        assert_eq!(text.matches("hint:").count(), 1, "{text}");
    }

    #[test]
    fn who_may_not_is_refused_and_who_is_not_known_is_not_let_in() {
        let refused = |status| Trouble::refused(status, "no").code();
        assert_eq!(refused(401), 4);
        assert_eq!([refused(403), refused(409), refused(412)], [3, 3, 3]);
        assert_eq!([refused(404), refused(422), refused(503)], [1, 1, 1]);
        let at = Box::new(socket(Source::Default));
        assert_eq!(
            Trouble::NotSignedIn {
                at,
                why: "no".into()
            }
            .code(),
            4
        );
    }

    #[test]
    fn what_must_be_done_first_is_said_in_words_to_type() {
        let problem = json!({"type": "/problems/totp-required", "detail": "not yet"});
        let text = Trouble::Refused {
            status: 403,
            problem,
        }
        .to_string();
        assert_eq!(text, "not yet\nhint: sotp totp enable");
        let problem = json!({"detail": "too many", "retry_after": 5});
        let text = Trouble::Refused {
            status: 429,
            problem,
        }
        .to_string();
        assert_eq!(text, "too many\nhint: try again in 5 s");
    }
}
