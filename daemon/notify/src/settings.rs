//! What an operator says of mail, checked: a [`Mailer`] that exists can be used.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};

use crate::safe;
use crate::settle::RetryPolicy;
use crate::templates::Templates;

/// How the way to the mail server is protected. The server's certificate is
/// verified in either case; there is no way to switch that off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// In the clear at first, encrypted before anything is said (RFC 3207). A
    /// server that does not offer it gets no mail.
    StartTls,
    /// Encrypted from the first byte (RFC 8314).
    Implicit,
    /// In the clear: for a mail server on this machine.
    None,
}

/// A password. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as it is: without the line break that ends its file.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The `[mail]` section.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// The mail server: a host name or an IP address.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the way to it is protected.
    pub tls: Tls,
    /// A file of PEM certificates to trust beside the system's: for a private
    /// certificate authority.
    pub ca_file: Option<PathBuf>,
    /// The name to log in with; `None`: no login.
    pub user: Option<String>,
    /// The password to log in with.
    pub password: Option<Secret>,
    /// Who the mails are from: `sotp@example.net` or `SOTP <sotp@example.net>`.
    pub from: String,
    /// The folder that may hold `subject.txt`, `mail.txt` and `mail.html`; what
    /// it does not hold is taken from the built-in ones.
    pub templates: Option<PathBuf>,
    /// How long the server may take to let us in, and for each step of a mail;
    /// ten times as long for the last one.
    pub timeout: Duration,
    /// The wait after a first failure.
    pub retry_min: Duration,
    /// The longest wait after a failure.
    pub retry_max: Duration,
    /// This machine's name: what the server is greeted with, and the right part
    /// of each Message-ID.
    pub host_name: String,
}

/// Why mail cannot be sent with these settings.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// There is no server.
    #[error("mail.server is empty; name the mail server or leave the whole [mail] section out")]
    NoServer,

    /// Not an address.
    #[error(
        "mail.from is {from:?}, which is not an address such as sotp@example.net or SOTP <sotp@example.net>"
    )]
    From {
        /// What it is.
        from: String,
    },

    /// Half a login.
    #[error("mail.user is set, but there is no password; set mail.password_file")]
    NoPassword,

    /// Half a login.
    #[error("there is a password for mail, but mail.user is not set")]
    NoUser,

    /// Anybody on the way could read it.
    #[error(
        "the mail password would cross the network in the clear; set mail.tls = \"starttls\" or \"tls\", or leave mail.user out"
    )]
    PasswordInTheClear,

    /// A wait of no time, or a longest one that is shorter than the first.
    #[error("mail.{key} is {value:?}; {hint}")]
    Span {
        /// Which.
        key: &'static str,
        /// What it is.
        value: Duration,
        /// What to do.
        hint: &'static str,
    },

    /// The file with the certificates.
    #[error("cannot read mail.ca_file {}", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// The file holds no certificate that can be used.
    #[error("mail.ca_file {} {what}; it has to hold certificates in PEM form", path.display())]
    NoCertificates {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },

    /// The TLS library.
    #[error("cannot prepare TLS for the mail server {server}")]
    Tls {
        /// Which server.
        server: String,
        /// What the library said.
        source: lettre::transport::smtp::Error,
    },
}

/// A file of certificates is a few hundred KiB at most; a larger one is a
/// mistake that should not fill the memory.
const CA_FILE_BYTES: u64 = 4 << 20;

/// The longest address that a mail server has to take (RFC 5321 §4.5.3.1.3).
const ADDRESS_BYTES: usize = 254;

/// Everything that sending takes: checked settings, certificates and templates,
/// read once. New settings are a new one.
#[derive(Debug)]
pub struct Mailer {
    pub(crate) server: String,
    pub(crate) port: u16,
    pub(crate) way: Way,
    pub(crate) login: Option<Login>,
    pub(crate) from: Mailbox,
    pub(crate) host: String,
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) templates: Templates,
    pub(crate) zone: TimeZone,
}

/// How to get to the server, with what that takes.
pub(crate) enum Way {
    StartTls(TlsParameters),
    Wrapped(TlsParameters),
    Clear,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::StartTls(_) => "StartTls",
            Way::Wrapped(_) => "Wrapped",
            Way::Clear => "Clear",
        })
    }
}

/// A name and a password. `Debug` shows neither.
pub(crate) struct Login(pub(crate) Credentials);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Mailer {
    /// Checks `settings` and reads the certificates and templates they name;
    /// blocks on these files. The server is not asked anything yet.
    ///
    /// A template that cannot be used is no error: the built-in one takes its
    /// place, and [`Mailer::template_problems`] says so.
    ///
    /// # Errors
    ///
    /// [`MailError`] names the setting and what to do.
    pub fn new(settings: MailSettings) -> Result<Mailer, MailError> {
        Mailer::in_zone(settings, TimeZone::system())
    }

    pub(crate) fn in_zone(settings: MailSettings, zone: TimeZone) -> Result<Mailer, MailError> {
        let server = without_brackets(settings.server.trim());
        if server.is_empty() {
            return Err(MailError::NoServer);
        }
        check_spans(&settings)?;
        let login = login(&settings, &server)?;
        let from = settings
            .from
            .parse()
            .ok()
            .filter(|from: &Mailbox| is_plain_address(from.email.as_ref()))
            .ok_or_else(|| MailError::From {
                from: settings.from.clone(),
            })?;
        let way = match settings.tls {
            Tls::StartTls => Way::StartTls(tls_parameters(&server, settings.ca_file.as_deref())?),
            Tls::Implicit => Way::Wrapped(tls_parameters(&server, settings.ca_file.as_deref())?),
            Tls::None => Way::Clear,
        };
        Ok(Mailer {
            server,
            port: settings.port,
            way,
            login,
            from,
            host: safe::domain(&settings.host_name),
            timeout: settings.timeout,
            retry: RetryPolicy {
                min: settings.retry_min,
                max: settings.retry_max,
            },
            templates: Templates::load(settings.templates.as_deref()),
            zone,
        })
    }

    /// Which templates cannot be used and why, one line each: the built-in ones
    /// take their place.
    #[must_use]
    pub fn template_problems(&self) -> &[String] {
        self.templates.problems()
    }
}

/// `[::1]` as `::1`.
fn without_brackets(server: &str) -> String {
    server
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(server)
        .to_owned()
}

fn check_spans(settings: &MailSettings) -> Result<(), MailError> {
    let refuse = |key, value, hint| Err(MailError::Span { key, value, hint });
    if settings.timeout.is_zero() {
        return refuse("timeout", settings.timeout, "use a time such as \"30s\"");
    }
    if settings.retry_min.is_zero() {
        return refuse(
            "retry_min",
            settings.retry_min,
            "use a time such as \"30s\"",
        );
    }
    if settings.retry_max < settings.retry_min {
        let hint = "it must not be shorter than mail.retry_min";
        return refuse("retry_max", settings.retry_max, hint);
    }
    Ok(())
}

fn login(settings: &MailSettings, server: &str) -> Result<Option<Login>, MailError> {
    match (&settings.user, &settings.password) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(MailError::NoPassword),
        (None, Some(_)) => Err(MailError::NoUser),
        (Some(_), Some(_)) if settings.tls == Tls::None && !is_this_machine(server) => {
            Err(MailError::PasswordInTheClear)
        }
        (Some(user), Some(password)) => Ok(Some(Login(Credentials::new(
            user.clone(),
            password.0.clone(),
        )))),
    }
}

fn is_this_machine(server: &str) -> bool {
    server == "localhost" || server.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn tls_parameters(server: &str, ca_file: Option<&Path>) -> Result<TlsParameters, MailError> {
    let mut parameters = TlsParameters::builder(server.to_owned());
    if let Some(path) = ca_file {
        parameters = parameters.add_root_certificate(certificates(path)?);
    }
    parameters.build().map_err(|source| MailError::Tls {
        server: server.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Certificate, MailError> {
    let unreadable = |source| MailError::CaFile {
        path: path.to_owned(),
        source,
    };
    let useless = |what| MailError::NoCertificates {
        path: path.to_owned(),
        what,
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > CA_FILE_BYTES {
        return Err(useless("is larger than 4 MiB"));
    }
    let pem = std::fs::read(path).map_err(unreadable)?;
    let begins = b"-----BEGIN CERTIFICATE-----";
    if !pem.windows(begins.len()).any(|part| part == begins) {
        return Err(useless("holds no certificate"));
    }
    Certificate::from_pem(&pem).map_err(|_| useless("is damaged"))
}

/// Whether `address` can stand in a command and in a header as it is. Quoted
/// local parts are left out: nobody has one, and they may hold anything.
pub(crate) fn is_plain_address(address: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "<>\"()[],;:\\".contains(c);
    let at_an_ip = address.rsplit_once('@').is_some_and(|(user, domain)| {
        let inside = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']'));
        !user.contains(odd) && inside.is_some_and(|ip| ip.parse::<IpAddr>().is_ok())
    });
    address.len() <= ADDRESS_BYTES && (at_an_ip || !address.contains(odd))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a working `[mail]` section says.
    pub(crate) fn settings() -> MailSettings {
        MailSettings {
            server: "mail.example.net".to_owned(),
            port: 25,
            tls: Tls::None,
            ca_file: None,
            user: None,
            password: None,
            from: "SOTP <sotp@example.net>".to_owned(),
            templates: None,
            timeout: Duration::from_secs(30),
            retry_min: Duration::from_secs(30),
            retry_max: Duration::from_secs(900),
            host_name: "noc.example.net".to_owned(),
        }
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut MailSettings)) -> String {
        let mut settings = settings();
        change(&mut settings);
        Mailer::new(settings).unwrap_err().to_string()
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        for (said, why) in [
            (
                refused(|s| s.server = " ".to_owned()),
                "mail.server is empty",
            ),
            (refused(|s| s.from = "nobody".to_owned()), "\"nobody\""),
            (
                refused(|s| s.from = "a@b\r\nBcc: x@y".to_owned()),
                "mail.from",
            ),
            (refused(|s| s.user = Some("u".to_owned())), "password_file"),
            (
                refused(|s| s.password = Some(Secret::new("p".to_owned()))),
                "mail.user",
            ),
            (refused(|s| s.timeout = Duration::ZERO), "mail.timeout"),
            (refused(|s| s.retry_min = Duration::ZERO), "mail.retry_min"),
            (
                refused(|s| s.retry_max = Duration::from_secs(1)),
                "mail.retry_max",
            ),
            (
                refused(|s| {
                    s.tls = Tls::Implicit;
                    s.ca_file = Some("/nonexistent/ca.pem".into());
                }),
                "/nonexistent/ca.pem",
            ),
        ] {
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_password_is_not_sent_in_the_clear_but_to_this_machine() {
        let with_login = |server: &str| {
            let mut settings = settings();
            settings.server = server.to_owned();
            settings.user = Some("u".to_owned());
            settings.password = Some(Secret::new("s3cret".to_owned()));
            Mailer::new(settings)
        };
        let refused = with_login("mail.example.net").unwrap_err();
        assert!(
            matches!(refused, MailError::PasswordInTheClear),
            "{refused}"
        );
        for here in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(with_login(here).is_ok(), "{here}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused_rather_than_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for content in [
            "not a certificate",
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, content).unwrap();
            let said = refused(|s| {
                s.tls = Tls::StartTls;
                s.ca_file = Some(path.clone());
            });
            assert!(said.contains("PEM"), "{said}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let mut settings = settings();
        settings.server = "localhost".to_owned();
        settings.user = Some("u".to_owned());
        settings.password = Some(Secret::new("s3cret".to_owned()));
        assert!(!format!("{settings:?}").contains("s3cret"));
        let mailer = Mailer::new(settings).unwrap();
        assert!(!format!("{mailer:?}").contains("s3cret"));
    }

    #[test]
    fn an_address_that_could_end_a_command_is_not_one() {
        for good in [
            "ops@example.net",
            "a+b@x.y",
            "ops@[192.0.2.1]",
            "ops@[2001:db8::1]",
        ] {
            assert!(is_plain_address(good), "{good}");
        }
        for bad in ["a@b>\r\nRSET", "a b@c", "\"a\"@b", "a@b\0", "a@b,c@d"] {
            assert!(!is_plain_address(bad), "{bad:?}");
        }
    }
}
