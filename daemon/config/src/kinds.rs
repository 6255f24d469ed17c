//! What kinds of value there are: each says in words what it takes, reads it,
//! and says what is wrong with anything else.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use model::{Address, checked_name};
use toml::Spanned;
use toml::de::DeValue;

use crate::problem::{Mistake, did_you_mean};
use crate::units::{parse_duration, parse_size, show_duration, show_size};

/// A mistake and the byte where it stands.
pub(crate) struct Wrong {
    pub(crate) at: usize,
    pub(crate) mistake: Mistake,
}

/// A kind of value.
pub(crate) trait Kind {
    /// What it is read as; its default stands in for one that cannot be read.
    type Value: Default;

    /// What it takes, in words.
    fn words(&self) -> String;

    /// Reads `value`. Notes at least one wrong where it returns `None`.
    fn read(&self, value: &Spanned<DeValue<'_>>, wrongs: &mut Vec<Wrong>) -> Option<Self::Value>;
}

type Read<T> = Box<dyn Fn(&DeValue<'_>) -> Result<T, Mistake>>;

/// One value.
pub(crate) struct One<T> {
    words: String,
    read: Read<T>,
}

impl<T: Default> Kind for One<T> {
    type Value = T;

    fn words(&self) -> String {
        self.words.clone()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>, wrongs: &mut Vec<Wrong>) -> Option<T> {
        self.read_one(value, wrongs)
    }
}

impl<T> One<T> {
    fn read_one(&self, value: &Spanned<DeValue<'_>>, wrongs: &mut Vec<Wrong>) -> Option<T> {
        let at = value.span().start;
        let read = (self.read)(value.get_ref());
        read.map_err(|mistake| wrongs.push(Wrong { at, mistake }))
            .ok()
    }
}

impl<T: 'static> One<T> {
    pub(crate) fn new(
        words: impl Into<String>,
        read: impl Fn(&DeValue<'_>) -> Result<T, Mistake> + 'static,
    ) -> One<T> {
        One {
            words: words.into(),
            read: Box::new(read),
        }
    }

    pub(crate) fn of_text(
        words: impl Into<String>,
        read: impl Fn(&str) -> Result<T, Mistake> + 'static,
    ) -> One<T> {
        One::new(words, move |value| read(text(value)?))
    }

    /// The same, where there need not be a value.
    pub(crate) fn or_none(self) -> One<Option<T>> {
        One {
            words: self.words,
            read: Box::new(move |value| (self.read)(value).map(Some)),
        }
    }
}

/// A list of values, no two alike.
pub(crate) struct List<T> {
    each: One<T>,
    lengths: RangeInclusive<usize>,
    why: &'static str,
}

/// A list of `lengths` values; `why` explains both limits.
pub(crate) fn list<T>(each: One<T>, lengths: RangeInclusive<usize>, why: &'static str) -> List<T> {
    List { each, lengths, why }
}

impl<T: PartialEq> Kind for List<T> {
    type Value = Vec<T>;

    fn words(&self) -> String {
        format!("a list of {}", self.each.words)
    }

    fn read(&self, value: &Spanned<DeValue<'_>>, wrongs: &mut Vec<Wrong>) -> Option<Vec<T>> {
        let mut wrong = |at, mistake| wrongs.push(Wrong { at, mistake });
        let at = value.span().start;
        let Some(elements) = value.get_ref().as_array() else {
            let hint = format!("write it in brackets: [{}]", shown(value.get_ref()));
            wrong(at, Mistake::new("is a list", hint));
            return None;
        };
        if !self.lengths.contains(&elements.len()) {
            let count = elements.len();
            let message = format!(
                "has {count} entries: {} are allowed",
                in_words(&self.lengths)
            );
            wrong(at, Mistake::new(message, self.why));
            return None;
        }
        let mut list: Vec<T> = Vec::with_capacity(elements.len());
        for element in elements {
            let Some(read) = self.each.read_one(element, wrongs) else {
                continue;
            };
            if list.contains(&read) {
                let message = format!("{} stands twice in the list", shown(element.get_ref()));
                let at = element.span().start;
                let mistake = Mistake::new(message, "keep one of them");
                wrongs.push(Wrong { at, mistake });
            } else {
                list.push(read);
            }
        }
        Some(list)
    }
}

fn in_words(range: &RangeInclusive<usize>) -> String {
    format!("{} to {}", range.start(), range.end())
}

/// A span of time; `why` explains the limits.
pub(crate) fn span(limits: RangeInclusive<Duration>, why: &'static str) -> One<Duration> {
    let (least, most) = (show_duration(*limits.start()), show_duration(*limits.end()));
    let words = format!("a span of time from {least} to {most}");
    One::new(words, move |value| {
        let span = parse_duration(with_unit(value, "s", "ms")?)?;
        within(&limits, span, &shown(value), (&least, &most), why)
    })
}

/// A number of bytes; `why` explains the limits.
pub(crate) fn size<T>(limits: RangeInclusive<u64>, why: &'static str) -> One<T>
where
    T: TryFrom<u64> + 'static,
{
    let (least, most) = (show_size(*limits.start()), show_size(*limits.end()));
    let words = format!("a size from {least} to {most}");
    One::new(words, move |value| {
        let bytes = parse_size(with_unit(value, "MiB", "KiB")?)?;
        let shown = shown(value);
        let bytes = within(&limits, bytes, &shown, (&least, &most), why)?;
        T::try_from(bytes).map_err(|_| too_large_for_this_machine(&shown))
    })
}

/// A whole number; `why` explains the limits.
pub(crate) fn count<T>(limits: RangeInclusive<u64>, why: &'static str) -> One<T>
where
    T: TryFrom<u64> + 'static,
{
    let (least, most) = (limits.start().to_string(), limits.end().to_string());
    let words = format!("a whole number from {least} to {most}");
    One::new(words, move |value| {
        let shown = shown(value);
        let Some(number) = whole_number(value)? else {
            return Err(out_of_range(&shown, (&least, &most), why));
        };
        let number = within(&limits, number, &shown, (&least, &most), why)?;
        T::try_from(number).map_err(|_| too_large_for_this_machine(&shown))
    })
}

/// True or false.
pub(crate) fn flag() -> One<bool> {
    One::new("true or false", |value| {
        value.as_bool().ok_or_else(|| {
            let message = format!("{} is neither true nor false", shown(value));
            Mistake::new(message, "write true or false, without quotes")
        })
    })
}

/// A finite number.
pub(crate) fn number() -> One<f64> {
    One::new("a number", |value| {
        let digits = match value {
            DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str()),
            DeValue::Float(float) => Some(float.as_str()),
            _ => None,
        };
        let number: Option<f64> = digits.and_then(|digits| digits.parse().ok());
        number.filter(|n| n.is_finite()).ok_or_else(|| {
            let message = format!("{} is no number", shown(value));
            Mistake::new(message, "write it without quotes: 0.9")
        })
    })
}

/// One of a few words.
pub(crate) fn word<T: Clone + 'static>(choices: Vec<(&'static str, T)>) -> One<T> {
    let known: Vec<&'static str> = choices.iter().map(|(word, _)| *word).collect();
    let words = format!("one of {}", known.join(", "));
    One::of_text(words, move |text| {
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, choice)| choice.clone())
            .ok_or_else(|| {
                let hint = did_you_mean(text, &known);
                Mistake::new(format!("{} is not known here", quoted(text)), hint)
            })
    })
}

/// An absolute path.
pub(crate) fn path() -> One<PathBuf> {
    One::of_text("an absolute path", |text| {
        if text.contains('\0') {
            return Err(Mistake::new(
                format!("{} contains a zero byte", quoted(text)),
                "no path can",
            ));
        }
        if !text.starts_with('/') {
            return Err(Mistake::new(
                format!("{} is not an absolute path", quoted(text)),
                "begin it with /: the daemon has no working directory of its own",
            ));
        }
        Ok(PathBuf::from(text))
    })
}

/// The longest path that a Unix socket can have on Linux (unix(7): `sun_path`
/// has 108 bytes with its final zero).
const SOCKET_PATH_BYTES: usize = 107;

/// A Unix socket's path.
pub(crate) fn socket_path() -> One<PathBuf> {
    let path = path();
    One::new("an absolute path of at most 107 bytes", move |value| {
        let path = (path.read)(value)?;
        let bytes = path.as_os_str().len();
        if bytes <= SOCKET_PATH_BYTES {
            return Ok(path);
        }
        Err(Mistake::new(
            format!("is {bytes} bytes long: a socket's path has at most {SOCKET_PATH_BYTES}"),
            "choose a shorter directory; Linux allows no more",
        ))
    })
}

/// A loopback address and a port, or "" for none.
pub(crate) fn loopback() -> One<Option<SocketAddr>> {
    One::of_text("a loopback address and a port, or \"\" for off", |text| {
        if text.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = text.parse().map_err(|_| {
            let message = format!("{} is no address and port", quoted(text));
            Mistake::new(
                message,
                "write \"127.0.0.1:8080\", \"[::1]:8080\" or \"\" for off",
            )
        })?;
        if address.ip().to_canonical().is_loopback() {
            return Ok(Some(address));
        }
        let message = format!("{address} can be reached from other machines");
        let hint = "use 127.0.0.1 or [::1]: other machines come in by https, where people \
                    and tokens sign in";
        Err(Mistake::new(message, hint))
    })
}

/// A name server's port (RFC 1035 §4.2.1).
const DNS_PORT: u16 = 53;

/// A name server: an address, and a port if it is not 53.
pub(crate) fn name_server() -> One<SocketAddr> {
    One::of_text("addresses, each with a port if that is not 53", |text| {
        let server = text
            .parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT))
            .or_else(|_| text.parse::<SocketAddr>());
        let can_be_asked = |server: &SocketAddr| {
            let ip = server.ip();
            server.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
        };
        server.ok().filter(can_be_asked).ok_or_else(|| {
            let message = format!("{} is no address of a name server", quoted(text));
            Mistake::new(
                message,
                "write \"10.0.0.53\", \"10.0.0.53:5353\" or \"[2001:db8::53]:5353\"",
            )
        })
    })
}

/// A host: a name or an address, without a port.
pub(crate) fn host() -> One<String> {
    One::of_text("a host name or an address", |text| {
        text.parse::<Address>()
            .map(|address| address.to_string())
            .map_err(|_| {
                let message = format!("{} is no host name and no address", quoted(text));
                Mistake::new(
                    message,
                    "write \"mail.example.net\"; the port has a key of its own",
                )
            })
    })
}

/// A UDP or TCP port.
pub(crate) fn port() -> One<u16> {
    count(1..=65_535, "ports are numbers of 16 bits, and 0 is none")
}

/// Text that is not empty and has no control characters.
pub(crate) fn line(words: &str, longest: usize) -> One<String> {
    One::of_text(words, move |text| {
        let refuse =
            |why: &str, hint: &str| Err(Mistake::new(format!("{} {why}", quoted(text)), hint));
        if text.trim().is_empty() {
            return refuse("is empty", "leave the key out if there is nothing to say");
        }
        if text.len() > longest {
            return refuse("is too long", &format!("at most {longest} bytes"));
        }
        if text.chars().any(char::is_control) {
            return refuse(
                "has a control character or spans lines",
                "keep it on one line",
            );
        }
        Ok(text.to_owned())
    })
}

/// What people name something: see [`checked_name`].
pub(crate) fn name(words: &str) -> One<String> {
    One::of_text(words, |text| {
        checked_name(text).map(str::to_owned).map_err(|error| {
            let message = format!("{} cannot be a name: {}", quoted(text), error.why);
            Mistake::new(message, "choose a short word, such as \"core1\"")
        })
    })
}

/// A mail address: what stands after `RCPT TO:`.
pub(crate) fn mail_address() -> One<String> {
    One::of_text("mail addresses", |text| {
        checked_mail_address(text)?;
        Ok(text.to_owned())
    })
}

/// A sender: a mail address, or a name and a mail address.
pub(crate) fn sender() -> One<String> {
    One::of_text("a mail address, or \"Name <address>\"", |text| {
        let address = match text.split_once('<') {
            None => text,
            Some((name, rest)) => {
                let odd = |c: char| c.is_control() || "<>@,;\"".contains(c);
                let inner = rest.strip_suffix('>');
                let inner = inner.filter(|_| !name.trim().is_empty() && !name.contains(odd));
                inner.ok_or_else(|| no_mail_address(text))?
            }
        };
        checked_mail_address(address)?;
        Ok(text.to_owned())
    })
}

/// The longest mail address (RFC 5321 §4.5.3.1.3, without its brackets) and
/// the longest part before its @ (§4.5.3.1.1).
const MAIL_ADDRESS_BYTES: usize = 254;
const MAILBOX_BYTES: usize = 64;

/// A light check: the server has the last word.
fn checked_mail_address(text: &str) -> Result<(), Mistake> {
    let refused = || no_mail_address(text);
    let (mailbox, domain) = text.rsplit_once('@').ok_or_else(refused)?;
    let odd = |c: char| c.is_control() || c.is_whitespace() || "<>()[],;:\\\"@".contains(c);
    let mailbox_is_good = (1..=MAILBOX_BYTES).contains(&mailbox.len())
        && !mailbox.contains(odd)
        && !mailbox.split('.').any(str::is_empty);
    let domain_is_good = match domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        Some(literal) => is_address_literal(literal),
        None => matches!(domain.parse(), Ok(Address::Host(_))),
    };
    if mailbox_is_good && domain_is_good && text.len() <= MAIL_ADDRESS_BYTES {
        Ok(())
    } else {
        Err(refused())
    }
}

/// RFC 5321 §4.1.3: `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
fn is_address_literal(literal: &str) -> bool {
    match literal.strip_prefix("IPv6:") {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => literal.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

fn no_mail_address(text: &str) -> Mistake {
    let message = format!("{} is no mail address", quoted(text));
    Mistake::new(message, "write it as \"noc@example.net\"")
}

/// The text in `value`.
fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Mistake> {
    value.as_str().ok_or_else(|| {
        let message = format!("{} is {}, not text", shown(value), type_in_words(value));
        Mistake::new(message, "text stands in quotes")
    })
}

/// The text in `value`, which is a number and a unit such as `likely` or
/// `other`.
fn with_unit<'v>(value: &'v DeValue<'_>, likely: &str, other: &str) -> Result<&'v str, Mistake> {
    match value {
        DeValue::Integer(_) | DeValue::Float(_) => {
            let shown = shown(value);
            let hint = format!("write \"{shown}{likely}\" or \"{shown}{other}\", in quotes");
            Err(Mistake::new(format!("{shown} has no unit"), hint))
        }
        _ => text(value),
    }
}

/// The whole number in `value`; `None` if it is one that is below 0 or beyond
/// all limits.
fn whole_number(value: &DeValue<'_>) -> Result<Option<u64>, Mistake> {
    if let DeValue::Integer(integer) = value {
        return Ok(u64::from_str_radix(integer.as_str(), integer.radix()).ok());
    }
    let shown = shown(value);
    let hint = match value.as_str() {
        Some(digits) if digits.parse::<u64>().is_ok() => {
            format!("write it without quotes: {digits}")
        }
        _ => "write it in digits, without quotes or unit".to_owned(),
    };
    Err(Mistake::new(format!("{shown} is no whole number"), hint))
}

fn within<T: PartialOrd>(
    limits: &RangeInclusive<T>,
    value: T,
    shown: &str,
    in_words: (&str, &str),
    why: &str,
) -> Result<T, Mistake> {
    if limits.contains(&value) {
        Ok(value)
    } else {
        Err(out_of_range(shown, in_words, why))
    }
}

fn out_of_range(shown: &str, (least, most): (&str, &str), why: &str) -> Mistake {
    Mistake::new(format!("{shown} is not within {least} to {most}"), why)
}

fn too_large_for_this_machine(shown: &str) -> Mistake {
    let message = format!("{shown} is more than this machine can count");
    Mistake::new(message, "choose a smaller one")
}

/// How much of a value is repeated in a complaint.
const SHOWN_CHARACTERS: usize = 60;

/// `text` in quotes, safe to show, and not endless.
pub(crate) fn quoted(text: &str) -> String {
    toml_text(&shortened(text))
}

pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// `value` for a complaint: as [`toml_value`], but not endless.
pub(crate) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Table(_) => "{…}".to_owned(),
        DeValue::Array(_) => "[…]".to_owned(),
        other => shortened(&toml_value(other)),
    }
}

/// What `value` is, for people.
pub(crate) fn type_in_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// `value` as TOML on one line, safe to show on a terminal.
pub(crate) fn toml_value(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => toml_text(text),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(array) => {
            let elements: Vec<String> = array.iter().map(|e| toml_value(e.get_ref())).collect();
            format!("[{}]", elements.join(", "))
        }
        // no setting has one for a value
        DeValue::Table(_) => "{ … }".to_owned(),
    }
}

/// `text` as a TOML string; whatever a terminal would obey is escaped.
pub(crate) fn toml_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => shown.extend(['\\', c]),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            _ if is_printable(c) => shown.push(c),
            _ => write!(shown, "\\U{:08X}", u32::from(c)).expect("a String takes all text"),
        }
    }
    shown.push('"');
    shown
}

fn is_printable(c: char) -> bool {
    c == '\'' || c.escape_debug().len() == 1
}

/// What tests of kinds have in common.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// What `kind` makes of `text`, a TOML value.
    pub(crate) fn read<K: Kind>(kind: &K, text: &str) -> Result<K::Value, Vec<String>> {
        let value = DeValue::parse(text).unwrap();
        let mut wrongs = Vec::new();
        let read = kind.read(&value, &mut wrongs);
        let said = |wrong: &Wrong| format!("{} ({})", wrong.mistake.message, wrong.mistake.hint);
        let said: Vec<String> = wrongs.iter().map(said).collect();
        read.filter(|_| said.is_empty()).ok_or(said)
    }

    #[track_caller]
    pub(crate) fn says<K: Kind<Value: std::fmt::Debug>>(kind: &K, text: &str, expected: &str) {
        let said = read(kind, text).unwrap_err().join("; ");
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{read, says};
    use super::*;

    #[test]
    fn a_number_out_of_its_range_is_told_the_range_and_the_reason() {
        let kind = count::<u16>(1..=100, "more would be a flood");
        assert_eq!(read(&kind, "100"), Ok(100));
        assert_eq!(read(&kind, "0x10"), Ok(16));
        for text in ["0", "-1", "101", "99999999999999999999999"] {
            says(
                &kind,
                text,
                "is not within 1 to 100 (more would be a flood)",
            );
        }
        says(&kind, "\"5\"", "write it without quotes: 5");
        says(&kind, "5.0", "5.0 is no whole number");
        says(&kind, "\"5s\"", "without quotes or unit");
    }

    #[test]
    fn a_span_without_a_unit_is_told_how_to_write_it() {
        let second = Duration::from_secs(1);
        let kind = span(second..=60 * second, "less is a flood");
        assert_eq!(read(&kind, "\"30s\""), Ok(30 * second));
        says(
            &kind,
            "30",
            "30 has no unit (write \"30s\" or \"30ms\", in quotes)",
        );
        says(&kind, "\"0s\"", "not within 1s to 1m (less is a flood)");
        says(&kind, "true", "true is a boolean, not text");
    }

    #[test]
    fn only_loopback_addresses_are_listened_on() {
        assert_eq!(read(&loopback(), "\"\""), Ok(None));
        for good in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080"] {
            let read = read(&loopback(), &format!("\"{good}\"")).unwrap();
            assert_eq!(read.unwrap().to_string(), good);
        }
        for remote in ["0.0.0.0:8080", "10.0.0.1:8080", "[::]:8080"] {
            says(
                &loopback(),
                &format!("\"{remote}\""),
                "other machines come in by https",
            );
        }
        says(&loopback(), "\"8080\"", "no address and port");
    }

    #[test]
    fn mail_addresses_are_checked_lightly() {
        for good in [
            "noc@example.net",
            "a.b+c@x.y",
            "root@localhost",
            "x@[192.0.2.1]",
            "x@[IPv6:2001:db8::1]",
        ] {
            assert!(
                read(&mail_address(), &format!("{good:?}")).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "",
            "noc",
            "@x.y",
            "a@",
            "a b@x.y",
            "a..b@x.y",
            "a@b@c",
            "a@x..y",
            "a@x.y\\r\\nb",
            "NOC <noc@x.y>",
            "a@[x]",
        ] {
            says(&mail_address(), &format!("\"{bad}\""), "is no mail address");
        }
        assert!(read(&sender(), "\"Network watch <noc@example.net>\"").is_ok());
        for bad in ["<a@x.y>", "a <a@x.y", "a, b <a@x.y>", "a\\nBcc: b <a@x.y>"] {
            says(&sender(), &format!("\"{bad}\""), "is no mail address");
        }
    }

    #[test]
    fn every_bad_entry_of_a_list_is_named() {
        let kind = list(name_server(), 0..=3, "three are enough");
        assert_eq!(read(&kind, "[]"), Ok(Vec::new()));
        let servers = read(&kind, r#"["10.0.0.53", "[::1]:5353"]"#).unwrap();
        assert_eq!(servers[0], "10.0.0.53:53".parse().unwrap());
        let said = read(&kind, r#"["a", "10.0.0.1", 5]"#).unwrap_err();
        assert_eq!(said.len(), 2, "{said:?}");
        says(
            &kind,
            r#""10.0.0.1""#,
            r#"write it in brackets: ["10.0.0.1"]"#,
        );
        says(&kind, r#"["::1", "[::1]:53"]"#, "stands twice");
        says(&kind, r#"["::1", "::2", "::3", "::4"]"#, "three are enough");
    }

    #[test]
    fn a_socket_path_fits_into_the_kernels_structure() {
        let path = |bytes: usize| format!("\"/{}\"", "x".repeat(bytes - 1));
        assert!(read(&socket_path(), &path(107)).is_ok());
        says(&socket_path(), &path(108), "at most 107");
        says(
            &socket_path(),
            "\"run/sotp.sock\"",
            "is not an absolute path",
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_reads_back() {
        let text = "a\u{1b}[31m\u{202e}\"\\\n'ü";
        let shown = toml_text(text);
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\n']), "{shown}");
        let back = DeValue::parse(&shown).unwrap();
        assert_eq!(back.get_ref().as_str(), Some(text));
    }
}
