//! What can go wrong for who types `sotp`, and the exit code that says so.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The daemon cannot be reached: exit code 4.
    Unreachable {
        socket: PathBuf,
        source: std::io::Error,
    },
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

    pub(crate) fn unreachable(socket: &Path, source: std::io::Error) -> Trouble {
        Trouble::Unreachable {
            socket: socket.to_owned(),
            source,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Trouble::Closed => 0,
            Trouble::Unreachable { .. } => 4,
            Trouble::NeedsConfirmation(_) => 3,
            Trouble::Usage(_) => 2,
            Trouble::Interrupted => 130,
            Trouble::Refused {
                status: 409 | 412 | 428,
                ..
            } => 3,
            Trouble::Refused {
                status: 401 | 403, ..
            } => 4,
            Trouble::Refused { .. }
            | Trouble::Garbled(_)
            | Trouble::Local { .. }
            | Trouble::Partly(_) => 1,
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable { socket, source } => {
                write!(
                    f,
                    "cannot reach sotpd at {}: {source}\n{}",
                    socket.display(),
                    hint(socket, source)
                )
            }
            Trouble::Refused { problem, .. } => write_problem(f, problem),
            Trouble::Garbled(what) => write!(
                f,
                "sotpd answered in a way this client does not understand: {what}"
            ),
            Trouble::Local { doing, source } => write!(f, "cannot {doing}: {source}"),
            Trouble::NeedsConfirmation(what) | Trouble::Usage(what) | Trouble::Partly(what) => {
                f.write_str(what)
            }
            Trouble::Interrupted => f.write_str("interrupted"),
            Trouble::Closed => Ok(()),
        }
    }
}

fn hint(socket: &Path, source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "hint: use sudo, or join the group: usermod -aG sotp $USER, then log in again".into()
        }
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => format!(
            "hint: is it running? systemctl status sotpd. Another socket: --socket or SOTP_SOCKET (now {})",
            socket.display()
        ),
        _ => "hint: systemctl status sotpd".into(),
    }
}

fn write_problem(f: &mut fmt::Formatter<'_>, problem: &Value) -> fmt::Result {
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
        if Some(message) != text("detail") {
            write!(f, "\n  {place}: {message}")?;
        }
    }
    Ok(())
}
