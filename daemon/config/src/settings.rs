//! The table of settings: every section, every key, its default, its limits
//! and the reason for them. `etc/sotp.toml` is this list for people.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::key::{KeyDoc, Section, sections};
use crate::kinds::{
    One, count, host, list, loopback, mail_address, name_server, path, port, sender, size,
    socket_path, span, word,
};

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// It begins in the clear and must change to TLS before anything is said
    /// (RFC 3207).
    #[default]
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// None.
    None,
}

impl Tls {
    /// Each with the word that people write.
    pub const ALL: [(&'static str, Tls); 3] = [
        ("starttls", Tls::StartTls),
        ("tls", Tls::Implicit),
        ("none", Tls::None),
    ];

    /// The word that people write.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Tls::StartTls => "starttls",
            Tls::Implicit => "tls",
            Tls::None => "none",
        }
    }

    /// The port where a server is expected to offer it (RFC 8314 §7, RFC 5321).
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Tls::StartTls => 587,
            Tls::Implicit => 465,
            Tls::None => 25,
        }
    }
}

/// How much the journal is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What an operator has to act on.
    Error,
    /// And what we recovered from.
    Warn,
    /// And what an operator did or would tell a colleague.
    #[default]
    Info,
    /// And every poll.
    Debug,
    /// And every packet.
    Trace,
}

impl LogLevel {
    /// Each with the word that people write.
    pub const ALL: [(&'static str, LogLevel); 5] = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];

    /// The word that people write, which is also tracing's.
    #[must_use]
    pub fn word(self) -> &'static str {
        LogLevel::ALL
            .iter()
            .find(|(_, level)| *level == self)
            .map_or("info", |(word, _)| word)
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

const HOUR: Duration = seconds(3_600);
const DAY: Duration = seconds(86_400);

fn between(least: Duration, most: Duration, why: &'static str) -> One<Duration> {
    span(RangeInclusive::new(least, most), why)
}

sections! {
    /// What is measured is kept in one file, together with the inventory and
    /// the alerts.
    [store] StoreSettings {
        /// The file. Its directory must belong to the daemon's user.
        path: PathBuf = ("/var/lib/sotp/sotp.redb"), path(), restart;
        /// Samples wait at most this long for the disk: that much is lost in a
        /// power cut. What people change is always written at once.
        commit_every: Duration = ("1s"), between(
            ms(10),
            seconds(10),
            "shorter wears the disk out for nothing; longer is lost in a power cut"
        ), restart;
        /// Samples are kept this long.
        keep_samples: Duration = ("30d"), between(
            HOUR,
            3_660 * DAY,
            "rules and the status need the last hour; ten years are the most"
        ), restart;
        /// Alerts that are over, and the mails about them, are kept this long.
        keep_alerts: Duration = ("365d"), between(
            DAY,
            3_660 * DAY,
            "who comes in on Monday asks what happened; ten years are the most"
        ), restart;
        /// While the disk is full, up to this much is kept in memory instead.
        backlog: usize = ("64MiB"), size(
            MIB..=16 * GIB,
            "less would not hold one round of a large network; more is a machine's whole memory"
        ), restart;
        /// A file of this size is kept beside the store and given up when the
        /// disk is full, so that there is room to tidy up. "0B" for none.
        ballast: u64 = ("64MiB"), size(
            0..=16 * GIB,
            "it only has to hold the work of tidying up"
        ), restart;
    }

    /// Where people and programs ask.
    [api] ApiSettings {
        /// The socket for root and the group sotp on this machine.
        socket: PathBuf = ("/run/sotp/sotp.sock"), socket_path(), restart;
        /// Health and metrics over HTTP, for a monitoring agent on this machine:
        /// a loopback address and a port. "" for off.
        listen: Option<SocketAddr> = ("127.0.0.1:8080"), loopback(), restart;
        /// At most this many connections at a time; further ones get 503.
        connections: usize = (256), count(
            1..=65_536,
            "each costs memory and a file descriptor"
        ), restart;
        /// A client that takes longer to send a request's header is cut off.
        header_timeout: Duration = ("5s"), between(
            ms(100),
            seconds(60),
            "a header is one packet; who needs a minute holds the connection on purpose"
        ), restart;
        /// A request that takes longer, its body included, is given up.
        request_timeout: Duration = ("30s"), between(
            seconds(1),
            HOUR,
            "a year of samples takes seconds; nobody waits for an hour"
        ), restart;
        /// A larger request is refused; an import of 10,000 devices has 1 MiB.
        body: usize = ("8MiB"), size(
            64 * KIB..=256 * MIB,
            "an import must fit; each connection may hold this much memory"
        ), restart;
    }

    /// Ping: whether a device answers, how fast, and how many probes are lost.
    [icmp] IcmpSettings {
        /// Time between two rounds to one device. A device may have its own.
        every: Duration = ("30s"), between(
            seconds(1),
            DAY,
            "more often is a flood; less than once a day watches nothing"
        );
        /// Probes in a round: the loss is known to one part in this many.
        probes: u16 = (5), count(
            1..=100,
            "a round needs one; more than 100 is a flood"
        );
        /// A probe that is not answered for this long is lost.
        timeout: Duration = ("1s"), between(
            ms(10),
            seconds(60),
            "less than 10ms loses what is only far away; nothing answers after a minute"
        );
        /// Time between two probes to one device.
        gap: Duration = ("200ms"), between(
            ms(1),
            seconds(60),
            "without a gap, one full queue on the way loses all probes together"
        );
        /// Devices that are asked at the same time.
        in_flight: usize = (512), count(
            1..=65_536,
            "each may have one answer waiting in the receive buffer"
        );
        /// Receive buffer of the sockets, as far as net.core.rmem_max allows.
        receive_buffer: usize = ("8MiB"), size(
            64 * KIB..=GIB,
            "it must hold the answers of one burst"
        ), restart;
    }

    /// SNMP: interfaces, processors, memory.
    [snmp] SnmpSettings {
        /// Time between two polls of one device. A device may have its own.
        every: Duration = ("60s"), between(
            seconds(5),
            DAY,
            "most agents refresh their counters every few seconds; less than once a day watches nothing"
        );
        /// The agents' UDP port. A device may have its own.
        port: u16 = (161), port();
        /// A request that is not answered for this long is sent again, or given up.
        timeout: Duration = ("2s"), between(
            ms(100),
            seconds(60),
            "agents are slow: some need a second for a table; nothing answers after a minute"
        );
        /// How often a request is sent again before the poll is given up.
        retries: u8 = (2), count(
            0..=10,
            "who does not answer ten times is not there"
        );
        /// Rows asked for in one request; halved by itself for an agent that
        /// finds that too big.
        max_repetitions: u16 = (25), count(
            1..=1_000,
            "an answer has to fit into one datagram of 64 KiB"
        );
        /// Sockets that all polls share.
        sockets: usize = (4), count(
            1..=64,
            "each is a port and a receive buffer; a few do for thousands of devices"
        ), restart;
        /// Devices that are asked at the same time.
        in_flight: usize = (200), count(
            1..=10_000,
            "each holds the tables of one device in memory"
        );
    }

    /// Names of devices are looked up here.
    [dns] DnsSettings {
        /// Name servers: addresses, with a port if it is not 53. Empty: those of
        /// /etc/resolv.conf.
        servers: Vec<SocketAddr> = ([]), list(
            name_server(),
            0..=8,
            "each is asked when the one before it is silent; eight would never be reached in time"
        ), restart;
        /// A question that is not answered for this long is asked again, or given up.
        timeout: Duration = ("2s"), between(
            ms(100),
            seconds(60),
            "far servers need a moment; nothing answers after a minute"
        ), restart;
        /// Questions asked at the same time.
        in_flight: usize = (32), count(
            1..=1_000,
            "name servers limit what one client may ask"
        ), restart;
        /// An address is looked up again after this long; until there is an
        /// answer, the last known one is used.
        refresh: Duration = ("5m"), between(
            seconds(10),
            DAY,
            "more often is a load on the name server; after a day the device may have moved"
        ), restart;
    }

    /// When devices are asked.
    [schedule] ScheduleSettings {
        /// A silent SNMP agent is asked less and less often, but at least this
        /// often, or at its own interval if that is longer.
        backoff_max: Duration = ("5m"), between(
            seconds(1),
            DAY,
            "a device that is back is noticed only then"
        );
    }

    /// What counts as a fault.
    [rules] RulesSettings {
        /// The directory of the rules: every file in it that ends in .toml.
        dir: PathBuf = ("/etc/sotp/rules"), path();
    }

    /// Who is told by mail. Without this section nobody is.
    [mail] MailSettings {
        /// The mail server: its name or its address.
        server: String = (required "mail.example.net"), host();
        /// Its port.
        port: u16 = (unset 587, "587 with starttls, 465 with tls, 25 with none"), port();
        /// How the connection is protected: starttls, tls (from the first byte on),
        /// or none.
        tls: Tls = ("starttls"), word(Tls::ALL.to_vec());
        /// The user to log in as, if the server wants that.
        user: Option<String> = (unset "sotp@example.net", "no login"), login().or_none();
        /// The file that holds the user's password, which never stands here. Best
        /// left out: put the password into /etc/sotp/smtp-password, and the service
        /// hands it over (LoadCredential=).
        password_file: Option<PathBuf> = (
            unset "/etc/sotp/smtp-password",
            "$CREDENTIALS_DIRECTORY/smtp-password, if there is a user"
        ), path().or_none();
        /// A file of PEM certificates to trust beside the system's: for a private
        /// certificate authority.
        ca_file: Option<PathBuf> = (
            unset "/etc/sotp/mail-ca.pem",
            "the system's alone"
        ), path().or_none();
        /// The sender: an address, or a name and the address in angle brackets.
        from: String = (required "SOTP <sotp@example.net>"), sender();
        /// Who gets the mails, each by itself.
        to: Vec<String> = (required ["noc@example.net"]), list(
            mail_address(),
            1..=100,
            "somebody has to be told; for more than 100 make a mailing list"
        );
        /// The directory of the templates.
        templates: PathBuf = ("/etc/sotp/templates"), path();
        /// A server that is silent for this long is given up until the next try.
        timeout: Duration = ("30s"), between(
            seconds(1),
            seconds(600),
            "some servers make every client wait; none for more than ten minutes"
        );
        /// A mail that could not be handed over is tried again after this long, then
        /// after twice as long, and so on.
        retry_min: Duration = ("30s"), between(
            seconds(1),
            HOUR,
            "a greylisting server wants a moment; nobody waits an hour for an alert"
        );
        /// The longest wait between two tries of a mail.
        retry_max: Duration = ("15m"), between(
            seconds(1),
            DAY,
            "an alert of yesterday is no alert"
        );
    }

    /// What the journal is told.
    [log] LogSettings {
        /// error, warn, info, debug (every poll) or trace (every packet).
        level: LogLevel = ("info"), word(LogLevel::ALL.to_vec());
    }
}

/// The longest name that anybody logs in with.
const LOGIN_BYTES: usize = 255;

fn login() -> One<String> {
    crate::kinds::line("a name", LOGIN_BYTES)
}

/// Every setting, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where everything is kept.
    pub store: StoreSettings,
    /// Where people and programs ask.
    pub api: ApiSettings,
    /// Ping.
    pub icmp: IcmpSettings,
    /// SNMP.
    pub snmp: SnmpSettings,
    /// Host names.
    pub dns: DnsSettings,
    /// When devices are asked.
    pub schedule: ScheduleSettings,
    /// What counts as a fault.
    pub rules: RulesSettings,
    /// Who is told by mail; `None`: nobody.
    pub mail: Option<MailSettings>,
    /// What the journal is told.
    pub log: LogSettings,
}

impl Settings {
    /// The keys that differ in `new` and are taken only at a restart; whatever
    /// else differs can be taken while running.
    #[must_use]
    pub fn needs_restart(&self, new: &Settings) -> Vec<&'static str> {
        let mail = |settings: &Settings| match &settings.mail {
            Some(mail) => mail.clone(),
            None => MailSettings::stand_in(),
        };
        [
            self.store.needs_restart(&new.store),
            self.api.needs_restart(&new.api),
            self.icmp.needs_restart(&new.icmp),
            self.snmp.needs_restart(&new.snmp),
            self.dns.needs_restart(&new.dns),
            self.schedule.needs_restart(&new.schedule),
            self.rules.needs_restart(&new.rules),
            mail(self).needs_restart(&mail(new)),
            self.log.needs_restart(&new.log),
        ]
        .concat()
    }
}

/// A section, described for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionDoc {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub help: String,
    /// Whether the file may leave out even its required keys, by leaving out
    /// the whole section.
    pub optional: bool,
    /// Its keys.
    pub keys: Vec<KeyDoc>,
}

fn section_doc<S: Section>() -> SectionDoc {
    SectionDoc {
        name: S::NAME,
        help: S::help(),
        optional: S::NAME == MailSettings::NAME,
        keys: S::keys(),
    }
}

/// Every section with every key, in the order of the shipped file: what man
/// page and manual are made from.
#[must_use]
pub fn sections_reference() -> Vec<SectionDoc> {
    vec![
        section_doc::<StoreSettings>(),
        section_doc::<ApiSettings>(),
        section_doc::<IcmpSettings>(),
        section_doc::<SnmpSettings>(),
        section_doc::<DnsSettings>(),
        section_doc::<ScheduleSettings>(),
        section_doc::<RulesSettings>(),
        section_doc::<MailSettings>(),
        section_doc::<LogSettings>(),
    ]
}

/// Every key, in the order of the shipped file.
#[must_use]
pub fn settings_reference() -> Vec<KeyDoc> {
    let sections = sections_reference();
    sections
        .into_iter()
        .flat_map(|section| section.keys)
        .collect()
}
