//! Which daemon is asked, and as whom.
//!
//! A flag wins over the environment, that over the current context, that over
//! the socket of this machine. Whatever was chosen remembers who chose it, so
//! that an error can say so.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::contexts::{Context, Contexts};
use crate::error::Trouble;
use crate::tls::{Fingerprint, Trust};

/// The socket of this machine's daemon.
pub(crate) const DEFAULT_SOCKET: &str = "/run/sotp/sotp.sock";

/// The port of an address that names none.
const DEFAULT_PORT: u16 = 8443;

/// Words for which daemon to ask; the same for every command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Chosen {
    /// A context made by `sotp login` [env: SOTP_CONTEXT]
    #[arg(long, global = true, help_heading = "Which daemon", value_name = "NAME", conflicts_with_all = ["server", "socket"])]
    pub(crate) context: Option<String>,
    /// A server's address, such as https://sotp.example.net:8443 [env: SOTP_SERVER]
    #[arg(
        long,
        global = true,
        help_heading = "Which daemon",
        value_name = "URL",
        conflicts_with = "socket"
    )]
    pub(crate) server: Option<String>,
    /// A daemon's socket on this machine [default: /run/sotp/sotp.sock] [env: SOTP_SOCKET]
    #[arg(
        long,
        global = true,
        help_heading = "Which daemon",
        value_name = "PATH"
    )]
    pub(crate) socket: Option<PathBuf>,
    /// Show the server the token in this file [env: SOTP_TOKEN_FILE]
    #[arg(
        long,
        global = true,
        help_heading = "Which daemon",
        value_name = "FILE",
        conflicts_with = "socket"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// The SHA-256 of the server's certificate; no other is trusted [env: SOTP_FINGERPRINT]
    #[arg(long, global = true, help_heading = "Which daemon", value_name = "SHA256", conflicts_with_all = ["ca_file", "socket"])]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Trust the issuers in this file of PEM certificates, and no others [env: SOTP_CA_FILE]
    #[arg(
        long,
        global = true,
        help_heading = "Which daemon",
        value_name = "FILE",
        conflicts_with = "socket"
    )]
    pub(crate) ca_file: Option<PathBuf>,
}

impl Chosen {
    /// Whether a flag names a server or a context.
    pub(crate) fn is_remote(&self) -> bool {
        self.context.is_some()
            || self.server.is_some()
            || self.token_file.is_some()
            || self.fingerprint.is_some()
            || self.ca_file.is_some()
    }
}

/// Looks a variable of the environment up; an empty one is as good as none.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where an address was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag(&'static str),
    Environment(&'static str),
    Context(String),
    Typed,
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) | Source::Environment(name) => write!(f, "from {name}"),
            Source::Context(name) => write!(f, "from the context {name}"),
            Source::Typed => f.write_str("as typed"),
            Source::Default => f.write_str("the default socket"),
        }
    }
}

/// An address that HTTPS is spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl ServerUrl {
    /// `host:port`, with brackets around an IPv6 address.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl std::str::FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerUrl, String> {
        let bad = |why: &str| {
            format!("{text:?} is no address of a server: {why}; like https://sotp.example.net:8443")
        };
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => rest,
            Some(("http", _)) => {
                return Err(bad("over plain http anybody on the way could read along"));
            }
            Some(_) => return Err(bad("it must begin with https://")),
            None => text,
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains(['/', '?', '#', '@']) || authority.contains(char::is_whitespace) {
            return Err(bad("it is the host and the port alone"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest
                .split_once(']')
                .ok_or_else(|| bad("the bracket ] is missing"))?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':').map(str::parse) {
            None if port.is_empty() => DEFAULT_PORT,
            Some(Ok(port)) if port != 0 => port,
            _ => return Err(bad("the port is a number from 1 to 65535")),
        };
        match host.is_empty() {
            true => Err(bad("the host is missing")),
            false => Ok(ServerUrl {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

/// A server, and whom we believe to be it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) url: ServerUrl,
    pub(crate) trust: Trust,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Socket(PathBuf),
    Https(Server),
}

/// What is connected to, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Where {
    pub(crate) endpoint: Endpoint,
    pub(crate) source: Source,
}

impl Where {
    /// The context that it was taken from.
    pub(crate) fn context(&self) -> Option<&str> {
        match &self.source {
            Source::Context(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Socket(path) => write!(f, "{} ({})", path.display(), self.source),
            Endpoint::Https(server) => write!(f, "{} ({})", server.url, self.source),
        }
    }
}

/// What is shown so that we are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing: over the socket the kernel says who we are.
    Nothing,
    /// The token in this file.
    TokenFile(PathBuf),
    /// What this context keeps.
    Context(String),
}

/// Which daemon is asked, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: Where,
    pub(crate) shown: Shown,
}

impl Place {
    /// The socket of this machine, for what only its root may do.
    pub(crate) fn local(chosen: &Chosen, env: Environment<'_>) -> Result<Place, Trouble> {
        if chosen.is_remote() {
            return Err(Trouble::Usage(
                "this is for root on the server itself: without --context, --server and what belongs to them".into(),
            ));
        }
        Ok(match socket(chosen, env) {
            Some((path, source)) => on_socket(path, source),
            None => on_socket(DEFAULT_SOCKET.into(), Source::Default),
        })
    }

    /// What the flags, the environment and the contexts come to; the contexts
    /// are read only if it depends on them.
    pub(crate) fn choose(
        chosen: &Chosen,
        env: Environment<'_>,
        contexts: &dyn Fn() -> Result<Contexts, Trouble>,
    ) -> Result<Place, Trouble> {
        if let Some(path) = &chosen.socket {
            return Ok(on_socket(path.clone(), Source::Flag("--socket")));
        }
        let how = How::new(chosen, env)?;
        if let Some(name) = &chosen.context {
            return how.in_context(name, &contexts()?);
        }
        if let Some(url) = &chosen.server {
            return how.at_server(url, Source::Flag("--server"));
        }
        if let Some(name) = env("SOTP_CONTEXT") {
            return how.in_context(&name, &contexts()?);
        }
        if let Some(url) = env("SOTP_SERVER") {
            return how.at_server(&url, Source::Environment("SOTP_SERVER"));
        }
        if let Some(path) = env("SOTP_SOCKET") {
            return how.at_socket(path.into(), Source::Environment("SOTP_SOCKET"));
        }
        let known = contexts()?;
        match &known.current {
            Some(name) => how.in_context(name, &known),
            None => how.at_socket(DEFAULT_SOCKET.into(), Source::Default),
        }
    }
}

fn socket(chosen: &Chosen, env: Environment<'_>) -> Option<(PathBuf, Source)> {
    let flag = || Some((chosen.socket.clone()?, Source::Flag("--socket")));
    let variable = || {
        Some((
            env("SOTP_SOCKET")?.into(),
            Source::Environment("SOTP_SOCKET"),
        ))
    };
    flag().or_else(variable)
}

fn on_socket(path: PathBuf, source: Source) -> Place {
    Place {
        at: Where {
            endpoint: Endpoint::Socket(path),
            source,
        },
        shown: Shown::Nothing,
    }
}

/// How a server is asked: what goes along with its address.
struct How {
    token_file: Option<PathBuf>,
    /// Whether a flag asks for something that a socket does not have.
    for_a_server: bool,
    trust: Option<Trust>,
}

impl How {
    fn new(chosen: &Chosen, env: Environment<'_>) -> Result<How, Trouble> {
        let file = |given: &Option<PathBuf>, name: &str| {
            given.clone().or_else(|| env(name).map(PathBuf::from))
        };
        Ok(How {
            token_file: file(&chosen.token_file, "SOTP_TOKEN_FILE"),
            for_a_server: chosen.is_remote(),
            trust: trust(chosen, env)?,
        })
    }

    fn at_server(self, url: &str, source: Source) -> Result<Place, Trouble> {
        let url = url
            .parse()
            .map_err(|why| Trouble::Usage(format!("{why} ({source})")))?;
        Ok(Place {
            at: Where {
                endpoint: Endpoint::Https(Server {
                    url,
                    trust: self.trust.unwrap_or(Trust::System),
                }),
                source,
            },
            shown: self.token_file.map_or(Shown::Nothing, Shown::TokenFile),
        })
    }

    fn in_context(self, name: &str, known: &Contexts) -> Result<Place, Trouble> {
        let context = known.find(name)?;
        let server = Server {
            url: context.url(name)?,
            trust: match self.trust {
                Some(trust) => trust,
                None => context.trust(name)?,
            },
        };
        Ok(Place {
            at: Where {
                endpoint: Endpoint::Https(server),
                source: Source::Context(name.to_owned()),
            },
            shown: match self.token_file {
                Some(file) => Shown::TokenFile(file),
                None => Shown::Context(name.to_owned()),
            },
        })
    }

    /// A token that nobody would look at is a mistake, unless the environment
    /// names the socket on purpose.
    fn at_socket(self, path: PathBuf, source: Source) -> Result<Place, Trouble> {
        let alone = self.token_file.is_some() && source == Source::Default;
        if self.for_a_server || alone {
            return Err(Trouble::Usage(
                "a token, a fingerprint or a CA file is of use with a server only: give --server or SOTP_SERVER, or choose a --context".into(),
            ));
        }
        Ok(on_socket(path, source))
    }
}

/// Whom the flags, or else the environment, say to trust.
pub(crate) fn trust(chosen: &Chosen, env: Environment<'_>) -> Result<Option<Trust>, Trouble> {
    if let Some(pin) = chosen.fingerprint {
        return Ok(Some(Trust::Pin(pin)));
    }
    if let Some(file) = &chosen.ca_file {
        return Ok(Some(Trust::File(file.clone())));
    }
    if let Some(text) = env("SOTP_FINGERPRINT") {
        let pin = text
            .parse()
            .map_err(|why| Trouble::Usage(format!("SOTP_FINGERPRINT: {why}")))?;
        return Ok(Some(Trust::Pin(pin)));
    }
    Ok(env("SOTP_CA_FILE").map(|file| Trust::File(file.into())))
}

impl Context {
    /// Its server's address.
    pub(crate) fn url(&self, name: &str) -> Result<ServerUrl, Trouble> {
        self.server
            .parse()
            .map_err(|why| Trouble::Usage(format!("the context {name} is of no use: {why}")))
    }

    /// Whom it says to be its server.
    pub(crate) fn trust(&self, name: &str) -> Result<Trust, Trouble> {
        match (&self.fingerprint, &self.ca_file) {
            (Some(text), _) => text
                .parse()
                .map(Trust::Pin)
                .map_err(|why| Trouble::Usage(format!("the context {name} is of no use: {why}"))),
            (None, Some(file)) => Ok(Trust::File(Path::new(file).to_owned())),
            (None, None) => Ok(Trust::System),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn known(current: Option<&str>) -> Contexts {
        let mut contexts = Contexts::default();
        for name in ["home", "work"] {
            let context = Context {
                server: format!("https://{name}.example:1"),
                fingerprint: Some(PIN.to_owned()),
                ..Context::default()
            };
            contexts.contexts.insert(name.to_owned(), context);
        }
        contexts.current = current.map(str::to_owned);
        contexts
    }

    fn choose(flags: &[&str], env: &[(&str, &str)], current: Option<&str>) -> String {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            chosen: Chosen,
        }
        let words = [&["sotp"], flags].concat();
        let only = match <Only as clap::Parser>::try_parse_from(words) {
            Ok(only) => only,
            Err(error) => return format!("clap: {:?}", error.kind()),
        };
        let env = |name: &str| {
            env.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        match Place::choose(&only.chosen, &env, &|| Ok(known(current))) {
            Ok(place) => format!("{}{}", place.at, suffix(&place)),
            Err(trouble) => format!("{trouble}"),
        }
    }

    fn suffix(place: &Place) -> String {
        let shown = match &place.shown {
            Shown::Nothing => String::new(),
            Shown::TokenFile(file) => format!(" token {}", file.display()),
            Shown::Context(name) => format!(" as {name}"),
        };
        let trust = match &place.at.endpoint {
            Endpoint::Https(Server {
                trust: Trust::Pin(_),
                ..
            }) => " pinned",
            Endpoint::Https(Server {
                trust: Trust::File(_),
                ..
            }) => " by file",
            _ => "",
        };
        format!("{shown}{trust}")
    }

    /// Flags, environment, current context, and what they come to.
    type Line<'a> = (
        &'a [&'a str],
        &'a [(&'a str, &'a str)],
        Option<&'a str>,
        &'a str,
    );

    #[test]
    fn a_flag_wins_over_the_environment_that_over_the_context_that_over_the_socket() {
        let everything = [
            ("SOTP_CONTEXT", "home"),
            ("SOTP_SERVER", "https://env:2"),
            ("SOTP_SOCKET", "/env.sock"),
        ];
        let work = Some("work");
        let table: [Line<'_>; 12] = [
            (&[], &[], None, "/run/sotp/sotp.sock (the default socket)"),
            (
                &[],
                &[],
                work,
                "https://work.example:1 (from the context work) as work pinned",
            ),
            (&[], &everything[2..], work, "/env.sock (from SOTP_SOCKET)"),
            (
                &[],
                &everything[1..],
                work,
                "https://env:2 (from SOTP_SERVER)",
            ),
            (
                &[],
                &everything,
                work,
                "https://home.example:1 (from the context home) as home pinned",
            ),
            (
                &["--socket", "/f.sock"],
                &everything,
                work,
                "/f.sock (from --socket)",
            ),
            (
                &["--server", "f"],
                &everything,
                work,
                "https://f:8443 (from --server)",
            ),
            (
                &["--context", "work"],
                &everything,
                None,
                "https://work.example:1 (from the context work) as work pinned",
            ),
            (
                &[],
                &[("SOTP_TOKEN_FILE", "/t")],
                work,
                "https://work.example:1 (from the context work) token /t pinned",
            ),
            (
                &["--token-file", "/f"],
                &[("SOTP_TOKEN_FILE", "/t"), everything[1]],
                None,
                "https://env:2 (from SOTP_SERVER) token /f",
            ),
            (
                &["--ca-file", "/ca"],
                &[("SOTP_FINGERPRINT", PIN)],
                work,
                "https://work.example:1 (from the context work) as work by file",
            ),
            (
                &[],
                &[("SOTP_TOKEN_FILE", "/t"), everything[2]],
                work,
                "/env.sock (from SOTP_SOCKET)",
            ),
        ];
        for (flags, env, current, expected) in table {
            assert_eq!(choose(flags, env, current), expected, "{flags:?} {env:?}");
        }
    }

    #[test]
    fn words_that_contradict_each_other_are_refused() {
        for flags in [
            &["--context", "home", "--socket", "/x"][..],
            &["--server", "f", "--context", "home"],
            &["--server", "f", "--fingerprint", PIN, "--ca-file", "/x"],
            &["--socket", "/x", "--token-file", "/t"],
        ] {
            assert_eq!(
                choose(flags, &[], None),
                "clap: ArgumentConflict",
                "{flags:?}"
            );
        }
        let lost = choose(&["--token-file", "/t"], &[], None);
        assert!(lost.contains("--server or SOTP_SERVER"), "{lost}");
        let unknown = choose(&["--context", "hom"], &[], None);
        assert!(
            unknown.contains("no context hom") && unknown.contains("home, work"),
            "{unknown}"
        );
    }

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        let read = |text: &str| text.parse::<ServerUrl>().map(|url| url.to_string());
        assert_eq!(read("https://h").unwrap(), "https://h:8443");
        assert_eq!(read("HTTPS://h:1/").unwrap(), "https://h:1");
        assert_eq!(
            read("[2001:db8::1]:444").unwrap(),
            "https://[2001:db8::1]:444"
        );
        for bad in [
            "",
            "https://",
            "ftp://h",
            "http://h",
            "https://u@h",
            "https://h/x",
            "h:0",
            "h:99999",
            "[::1",
            "::1",
            "a b",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("http://h").unwrap_err().contains("read along"));
    }
}
