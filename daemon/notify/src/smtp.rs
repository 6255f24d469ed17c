//! One line to the mail server (RFC 5321), kept open for a run of mails.
//!
//! lettre speaks the protocol; here is which step we are at when something goes
//! wrong, because the same words mean different things: "550" to a recipient is
//! that recipient's end, "550" to the sender is a setting that is wrong for
//! everybody.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Severity;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::letter::Letter;
use crate::lines::LineByLine;
use crate::settings::{Mailer, Way};
use crate::settle::{Answer, Trouble, Whose};

/// Takes letters to where they go, one at a time.
pub(crate) trait Carrier: Send {
    /// Hands `letter` over. Ends within a bounded time.
    fn carry(&mut self, mailer: &Mailer, letter: &Letter) -> impl Future<Output = Answer> + Send;

    /// Ends a run: the next letter may be long in coming, or go elsewhere.
    fn hang_up(&mut self) -> impl Future<Output = ()> + Send;
}

/// After the text of a mail the server decides whether it takes it, and may
/// scan it first. Whoever gives up early sends the mail again, so the wait is
/// longer than for the other steps (RFC 5321 §4.5.3.2.6 asks for ten minutes).
const LAST_STEP_FACTOR: u32 = 10;

/// Addresses of one server that are tried within one timeout.
const ADDRESSES: u32 = 3;

/// A goodbye is a courtesy; nobody waits for its answer for long.
const GOODBYE: Duration = Duration::from_secs(2);

/// The step of a delivery that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    StartTls,
    Login,
    Sender,
    Recipient,
    Data,
    Text,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Connect => "the connection",
            Step::StartTls => "STARTTLS",
            Step::Login => "the login",
            Step::Sender => "the sender",
            Step::Recipient => "the recipient",
            Step::Data | Step::Text => "the mail",
        })
    }
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// No answer for this long.
    Silence(Duration),
    /// The connection, or what came over it, is of no use.
    Broken(String),
    /// The server said no, with this code.
    No { code: u16, said: String },
    /// The server cannot do what we have to ask of it.
    Cannot(&'static str),
}

type Failed = (Step, Fault);

/// The line: open while a run of mails goes out.
#[derive(Default)]
pub(crate) struct Line {
    connection: Option<AsyncSmtpConnection>,
}

impl Carrier for Line {
    async fn carry(&mut self, mailer: &Mailer, letter: &Letter) -> Answer {
        let kept_open = self.connection.is_some();
        // boxed: a TLS handshake in the making is some 20 KiB
        let mut tried = Box::pin(self.attempt(mailer, letter)).await;
        if kept_open && tried.as_ref().is_err_and(was_hung_up) {
            // servers end a line after some mails or minutes; that is no fault
            tried = Box::pin(self.attempt(mailer, letter)).await;
        }
        match tried {
            Ok(()) => Answer::Taken,
            Err((step, fault)) => judge(mailer, letter, step, &fault),
        }
    }

    async fn hang_up(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let _ = timeout(GOODBYE, connection.quit()).await;
        }
    }
}

/// Whether a line that was kept open turned out to be closed, before anything
/// of this mail was said.
fn was_hung_up((step, fault): &Failed) -> bool {
    *step == Step::Sender && matches!(fault, Fault::Broken(_) | Fault::No { code: 421, .. })
}

impl Line {
    /// One mail over the open line, or over a new one. After a fault the line
    /// is either ready for the next mail or closed.
    async fn attempt(&mut self, mailer: &Mailer, letter: &Letter) -> Result<(), Failed> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(mailer).await?,
        };
        let tried = hand_over(&mut connection, mailer, letter).await;
        let is_ready = match &tried {
            Ok(()) => true,
            Err((_, Fault::No { code, .. })) if *code != 421 => {
                let reset = within(mailer.timeout, Step::Sender, connection.command(Rset));
                reset.await.is_ok()
            }
            Err((_, Fault::Cannot(_))) => true,
            Err(_) => false,
        };
        if is_ready && !connection.has_broken() {
            self.connection = Some(connection);
        }
        tried
    }
}

/// Connects, protects the line and logs in.
async fn connect(mailer: &Mailer) -> Result<AsyncSmtpConnection, Failed> {
    let hello = ClientId::Domain(mailer.host.clone());
    let mut connection = match &mailer.way {
        Way::Wrapped(tls) => {
            let (server, each) = (address(mailer), mailer.timeout / ADDRESSES);
            let tls = Some(tls.clone());
            let connecting =
                AsyncSmtpConnection::connect_tokio1(server, Some(each), &hello, tls, None);
            within(mailer.timeout, Step::Connect, connecting).await?
        }
        Way::StartTls(_) | Way::Clear => {
            let stream = Box::new(LineByLine::new(dial(mailer).await?));
            let greeting = AsyncSmtpConnection::connect_with_transport(stream, &hello);
            within(mailer.timeout, Step::Connect, greeting).await?
        }
    };
    if let Way::StartTls(tls) = &mailer.way {
        if !connection.can_starttls() {
            return Err((Step::StartTls, Fault::Cannot(NO_STARTTLS)));
        }
        let upgrading = connection.starttls(tls.clone(), &hello);
        within(mailer.timeout, Step::StartTls, upgrading).await?;
    }
    if let Some(login) = &mailer.login {
        let info = connection.server_info();
        if info.get_auth_mechanism(&MECHANISMS).is_none() {
            return Err((Step::Login, Fault::Cannot(NO_LOGIN)));
        }
        let logging_in = connection.auth(&MECHANISMS, &login.0);
        within(mailer.timeout, Step::Login, logging_in).await?;
    }
    Ok(connection)
}

fn address(mailer: &Mailer) -> (&str, u16) {
    (mailer.server.as_str(), mailer.port)
}

/// A connection to the first of the server's addresses that takes it.
async fn dial(mailer: &Mailer) -> Result<TcpStream, Failed> {
    let each = mailer.timeout / ADDRESSES;
    let dialling = async {
        let mut latest = io::Error::other("the name has no address");
        for address in lookup_host(address(mailer)).await? {
            latest = match timeout(each, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer"),
            };
        }
        Err(latest)
    };
    match timeout(mailer.timeout, dialling).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err((Step::Connect, Fault::Broken(error.to_string()))),
        Err(_) => Err((Step::Connect, Fault::Silence(mailer.timeout))),
    }
}

const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
const NO_STARTTLS: &str =
    "does not offer STARTTLS, and nothing is sent in the clear; set mail.tls to what it offers";
const NO_LOGIN: &str =
    "offers no login by PLAIN or LOGIN; correct mail.user, mail.tls or mail.port";
const NO_SMTPUTF8: &str = "does not take addresses with other than ASCII characters (SMTPUTF8)";

/// MAIL, RCPT, DATA, the text.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    mailer: &Mailer,
    letter: &Letter,
) -> Result<(), Failed> {
    let patience = mailer.timeout;
    let mut parameters = Vec::new();
    let addresses: [&str; 2] = [letter.from.as_ref(), letter.to.as_ref()];
    if !addresses.iter().all(|address| address.is_ascii()) {
        let info = connection.server_info();
        if !info.supports_feature(Extension::SmtpUtfEight) {
            return Err((Step::Recipient, Fault::Cannot(NO_SMTPUTF8)));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    let sender = Mail::new(Some(letter.from.clone()), parameters);
    within(patience, Step::Sender, connection.command(sender)).await?;
    let recipient = Rcpt::new(letter.to.clone(), Vec::new());
    within(patience, Step::Recipient, connection.command(recipient)).await?;
    within(patience, Step::Data, connection.command(Data)).await?;
    let patience = patience.saturating_mul(LAST_STEP_FACTOR);
    let said = within(patience, Step::Text, connection.message(&letter.bytes)).await?;
    if said.code().severity != Severity::PositiveCompletion {
        let strange = format!("it said {} where a mail ends", said.code());
        return Err((Step::Text, Fault::Broken(strange)));
    }
    Ok(())
}

async fn within<T>(
    patience: Duration,
    step: Step,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failed> {
    match timeout(patience, work).await {
        Ok(done) => done.map_err(|error| (step, fault(&error))),
        Err(_) => Err((step, Fault::Silence(patience))),
    }
}

fn fault(error: &Error) -> Fault {
    let mut said = error.source().map(ToString::to_string).unwrap_or_default();
    if let Some(code) = error.status() {
        let code = u16::from(code);
        return Fault::No { code, said };
    }
    if said == "incomplete response" {
        said = "it hung up".to_owned();
    }
    if said.is_empty() {
        said = error.to_string();
    }
    Fault::Broken(said)
}

/// What a fault at this step means.
fn judge(mailer: &Mailer, letter: &Letter, step: Step, fault: &Fault) -> Answer {
    let why = words(mailer, letter, step, fault);
    let later = |whose, needs_an_operator| {
        Answer::Later(Trouble {
            whose,
            needs_an_operator,
            why: why.clone(),
        })
    };
    match (fault, step) {
        (Fault::Silence(_) | Fault::Broken(_), Step::Text) => later(Whose::Message, false),
        (Fault::Silence(_) | Fault::Broken(_), _) => later(Whose::Server, false),
        (Fault::Cannot(_), Step::Recipient) => Answer::Never(why),
        (Fault::Cannot(_), _) => later(Whose::Server, true),
        // 421: it is about to close the line, whatever we asked for
        (Fault::No { code: 421, .. }, _) => later(Whose::Server, false),
        // a login is missing, or it lost track of where we are
        (
            Fault::No {
                code: 503 | 530 | 535,
                ..
            },
            _,
        ) => later(Whose::Server, true),
        (Fault::No { code, .. }, Step::Connect | Step::StartTls | Step::Login | Step::Sender) => {
            later(Whose::Server, is_for_good(*code))
        }
        (Fault::No { code, .. }, _) if is_for_good(*code) => Answer::Never(why),
        (Fault::No { .. }, Step::Recipient) => later(Whose::Recipient, false),
        (Fault::No { .. }, Step::Data | Step::Text) => later(Whose::Message, false),
    }
}

fn is_for_good(code: u16) -> bool {
    code >= 500
}

fn words(mailer: &Mailer, letter: &Letter, step: Step, fault: &Fault) -> String {
    let server = format!("{}:{}", mailer.server, mailer.port);
    let of = match step {
        Step::Sender => format!(" {}", letter.from),
        Step::Recipient => format!(" {}", letter.to),
        Step::Connect | Step::StartTls | Step::Login | Step::Data | Step::Text => String::new(),
    };
    match fault {
        Fault::Silence(patience) => {
            format!("{server} gave no answer to {step}{of} within {patience:?}")
        }
        Fault::Broken(what) => {
            let hint = if what.contains("certificate") {
                "; if it is from a private authority, name that one's file in mail.ca_file"
            } else {
                ""
            };
            format!("{server}, at {step}{of}: {what}{hint}")
        }
        Fault::No { code, said } => {
            let verb = if is_for_good(*code) {
                "refused"
            } else {
                "put off"
            };
            format!("{server} {verb} {step}{of}: {code} {said}")
        }
        Fault::Cannot(what) => format!("{server} {what}"),
    }
}

#[cfg(test)]
mod tests {
    use model::NotificationEvent;

    use super::*;
    use crate::settings::tests::settings;
    use crate::words::tests::delivery;

    fn judged(step: Step, fault: Fault) -> (String, String) {
        let mailer = Mailer::new(settings()).unwrap();
        let letter = mailer
            .compose(&delivery(NotificationEvent::Firing), None)
            .unwrap();
        match judge(&mailer, &letter, step, &fault) {
            Answer::Taken => ("taken".to_owned(), String::new()),
            Answer::Never(why) => ("never".to_owned(), why),
            Answer::Later(trouble) => {
                let operator = if trouble.needs_an_operator { "!" } else { "" };
                (format!("{:?}{operator}", trouble.whose), trouble.why)
            }
        }
    }

    fn no(code: u16) -> Fault {
        Fault::No {
            code,
            said: "5.1.1 no".to_owned(),
        }
    }

    #[test]
    fn the_same_code_means_different_things_at_different_steps() {
        for (step, code, meaning) in [
            (Step::Connect, 421, "Server"),
            (Step::Connect, 450, "Server"),
            (Step::Connect, 554, "Server!"),
            (Step::StartTls, 454, "Server"),
            (Step::Login, 454, "Server"),
            (Step::Login, 535, "Server!"),
            (Step::Sender, 451, "Server"),
            (Step::Sender, 530, "Server!"),
            (Step::Sender, 550, "Server!"),
            (Step::Recipient, 421, "Server"),
            (Step::Recipient, 450, "Recipient"),
            (Step::Recipient, 452, "Recipient"),
            (Step::Recipient, 530, "Server!"),
            (Step::Recipient, 550, "never"),
            (Step::Recipient, 554, "never"),
            (Step::Data, 451, "Message"),
            (Step::Data, 554, "never"),
            (Step::Text, 421, "Server"),
            (Step::Text, 451, "Message"),
            (Step::Text, 552, "never"),
        ] {
            assert_eq!(judged(step, no(code)).0, meaning, "{code} to {step:?}");
        }
    }

    #[test]
    fn a_line_that_breaks_is_the_servers_trouble_until_the_text_is_sent() {
        let broken = || Fault::Broken("it hung up".to_owned());
        let silent = || Fault::Silence(Duration::from_secs(30));
        for step in [Step::Connect, Step::Login, Step::Sender, Step::Data] {
            assert_eq!(judged(step, broken()).0, "Server", "{step:?}");
            assert_eq!(judged(step, silent()).0, "Server", "{step:?}");
        }
        assert_eq!(judged(Step::Text, broken()).0, "Message");
        assert_eq!(judged(Step::Text, silent()).0, "Message");
    }

    #[test]
    fn what_went_wrong_is_told_with_the_servers_words() {
        for (step, fault, told) in [
            (
                Step::Recipient,
                no(550),
                "mail.example.net:25 refused the recipient ops@example.net: 550 5.1.1 no",
            ),
            (
                Step::Text,
                no(451),
                "mail.example.net:25 put off the mail: 451 5.1.1 no",
            ),
            (
                Step::Connect,
                Fault::Silence(Duration::from_secs(30)),
                "mail.example.net:25 gave no answer to the connection within 30s",
            ),
        ] {
            assert_eq!(judged(step, fault).1, told);
        }
        let untrusted = Fault::Broken("invalid peer certificate: UnknownIssuer".to_owned());
        assert!(judged(Step::StartTls, untrusted).1.contains("mail.ca_file"));
    }
}
