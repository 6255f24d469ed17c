//! The table of settings: every section, every key, its default, its limits
//! and the reason for them. `etc/sotp.toml` is this list for people.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use model::{Binding, Network, SecretName};

use crate::access::{SocketRole, group, role, secret_reference};
use crate::backup::{BackupPlace, TimeOfDay, backup_place, recipient, region, time_of_day};
use crate::key::{KeyDoc, Section, sections};
use crate::kinds::{
    One, count, flag, host, line, list, loopback, mail_address, name_server, path, port, quoted,
    sender, size, socket_path, span, word,
};
use crate::network::network;
use crate::plugins::{TrustedKey, trusted_key};
use crate::problem::Mistake;
use crate::web::{https_address, listener, origin, vault_path, web_address};

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

/// Where the values of secrets are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretsBackend {
    /// In the store, sealed.
    #[default]
    Embedded,
    /// In OpenBao or Vault (KV version 2).
    Vault,
}

impl SecretsBackend {
    /// Each with the word that people write.
    pub const ALL: [(&'static str, SecretsBackend); 2] = [
        ("embedded", SecretsBackend::Embedded),
        ("vault", SecretsBackend::Vault),
    ];
}

/// What wraps the keys that seal the secrets in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretsWrap {
    /// A key in a file.
    #[default]
    Key,
    /// OpenBao or Vault, with a key that never leaves it (transit).
    Transit,
}

impl SecretsWrap {
    /// Each with the word that people write.
    pub const ALL: [(&'static str, SecretsWrap); 2] =
        [("key", SecretsWrap::Key), ("transit", SecretsWrap::Transit)];
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

const MINUTE: Duration = seconds(60);
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
        /// Samples are kept this long as they were measured.
        keep_samples: Duration = ("30d"), between(
            HOUR,
            3_660 * DAY,
            "rules and the status need the last hour; ten years are the most"
        ), restart;
        /// What is left of 15 minutes of samples (least, greatest, mean, last; how
        /// much a counter rose) is kept this long.
        keep_15m: Duration = ("180d"), between(
            DAY,
            7_320 * DAY,
            "it is made once a day; twenty years are the most"
        ), restart;
        /// What is left of an hour of samples is kept this long.
        keep_1h: Duration = ("1825d"), between(
            DAY,
            7_320 * DAY,
            "it is made once a day; twenty years are the most"
        ), restart;
        /// All samples together may take this much of the disk; the oldest go
        /// first. "0B" for no limit but their age.
        disk_budget: u64 = ("0B"), size(
            0..=(1 << 50),
            "a pebibyte is more than any one machine has"
        ), restart;
        /// Different series that one device may begin in a day; further ones are
        /// refused, and it is said which device it was.
        series_per_device: usize = (20_000), count(
            100..=1_000_000,
            "a switch with 48 ports has a thousand; a chassis has some ten thousand"
        ), restart;
        /// Alerts that are over, and the mails about them, are kept this long.
        keep_alerts: Duration = ("365d"), between(
            DAY,
            3_660 * DAY,
            "who comes in on Monday asks what happened; ten years are the most"
        ), restart;
        /// Who did what is kept this long.
        keep_audit: Duration = ("730d"), between(
            DAY,
            3_660 * DAY,
            "an auditor asks for last year; ten years are the most"
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
        /// Where everything else is served over HTTPS, to people and tokens that
        /// signed in: an address and a port, or "off".
        https: Option<SocketAddr> = ("[::]:8443"), listener(), restart;
        /// The name of this machine in links that people are given.
        https_name: Option<String> = (
            unset "sotp.example.net",
            "the machine's own"
        ), host().or_none(), restart;
        /// A file with the certificate for HTTPS and those between it and its
        /// authority, in PEM. A changed file is taken at a reload.
        certificate: Option<PathBuf> = (
            unset "/etc/sotp/tls/certificate.pem",
            "one that the daemon makes itself, in /var/lib/sotp/tls"
        ), path().or_none();
        /// The file with the certificate's key, in PEM, for the user sotp alone.
        key: Option<PathBuf> = (
            unset "/etc/sotp/tls/key.pem",
            "the self-made certificate's"
        ), path().or_none();
        /// A file of PEM certificates: whoever shows a certificate of one of these
        /// authorities is the user that it names.
        client_ca: Option<PathBuf> = (
            unset "/etc/sotp/tls/clients.pem",
            "nobody signs in with a certificate"
        ), path().or_none();
        /// A file of PEM lists of client certificates that are revoked.
        client_crl: Option<PathBuf> = (
            unset "/etc/sotp/tls/revoked.pem",
            "none is"
        ), path().or_none();
        /// What somebody who signed in may ask in a minute; a token may have a
        /// limit of its own.
        requests_per_minute: u32 = (600), count(
            1..=1_000_000,
            "without a limit one script can keep everybody else waiting"
        ), restart;
        /// What one address may ask in a minute without signing in, wrong
        /// passwords and tokens among it.
        anonymous_per_minute: u32 = (60), count(
            1..=100_000,
            "signing in takes a few; many more is somebody who guesses"
        ), restart;
        /// Reverse proxies, by address or network: what they say in
        /// X-Forwarded-For is believed.
        trusted_proxies: Vec<Network> = ([]), list(
            network("anybody could then pretend to ask from anywhere; name the proxies"),
            0..=100,
            "few machines stand in front of this one; for many write their network"
        ), restart;
        /// Web pages of other origins, such as "https://console.example.net", whose
        /// scripts may ask with a token.
        cors_origins: Vec<String> = ([]), list(
            origin(),
            0..=100,
            "each is compared with every request's; few other sites are to be let in"
        ), restart;
        /// The role of the group sotp at the socket; root has every right.
        socket_role: SocketRole = ("operator"), role();
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

    /// How people sign in, and for how long.
    [access] AccessSettings {
        /// What proves a session is exchanged for another one this often.
        access_ttl: Duration = ("5m"), between(
            MINUTE,
            15 * MINUTE,
            "shorter is an exchange all the time; longer helps whoever stole it"
        );
        /// A session that nobody uses ends after this long.
        refresh_idle: Duration = ("24h"), between(
            5 * MINUTE,
            30 * DAY,
            "less signs people out over a coffee; a month unused is forgotten"
        );
        /// A session ends after this long, used or not.
        session_max: Duration = ("30d"), between(
            5 * MINUTE,
            366 * DAY,
            "who works a day should sign in once; once a year everybody can"
        );
        /// The fewest characters of a password.
        min_password: usize = (12), count(
            8..=64,
            "fewer than 8 are guessed (OWASP ASVS 6.2.1); more than 64 nobody types"
        );
    }

    /// People who sign in at an OpenID provider. Without this section nobody
    /// does.
    [oidc] OidcSettings {
        /// The provider's address, exactly as it calls itself (`iss`).
        issuer: String = (
            required "https://id.example.net/realms/noc"
        ), web_address("https://id.example.net/realms/noc");
        /// What the provider knows this machine as.
        client_id: String = (required "sotp"), line("a name", LOGIN_BYTES);
        /// The secret that the provider gave for it, put away with `sotp secrets
        /// set`.
        client_secret: Option<SecretName> = (
            unset "secret://oidc",
            "none: a public client"
        ), secret_reference();
        /// Where the provider sends people back to, as it was entered there.
        redirect: String = (
            required "https://sotp.example.net:8443/api/v1/oidc/callback"
        ), https_address(CALLBACK, "https://sotp.example.net:8443/api/v1/oidc/callback");
        /// What is asked for; openid is always among it.
        scopes: Vec<String> = (["openid", "profile", "email", "groups"]), list(
            scope(),
            1..=20,
            "openid has to be asked for; no provider knows more than a few"
        );
        /// The claim that has somebody's groups.
        groups_claim: String = ("groups"), line("a name", LOGIN_BYTES);
        /// The claim that has somebody's name here.
        user_claim: String = ("preferred_username"), line("a name", LOGIN_BYTES);
        /// What the members of a group may do: the group, = and a role, then limits
        /// to a tenant, sites and tags: "berlin=READONLY tenant:acme site:berlin
        /// tag:core". A group may have several lines.
        groups: Vec<(String, Binding)> = ([]), list(
            group(),
            0..=1_000,
            "for so many people use the provider's own groups of groups"
        );
        /// A file of PEM certificates to trust beside the system's: for a private
        /// certificate authority.
        ca_file: Option<PathBuf> = (
            unset "/etc/sotp/oidc-ca.pem",
            "the system's alone"
        ), path().or_none();
        /// Whether somebody whom nobody entered becomes a user at the first sign-in.
        create_users: bool = (false), flag();
        /// Whether the provider's word that it asked for a second factor (`amr`)
        /// does for ours.
        trust_mfa: bool = (false), flag();
    }

    /// How secrets are kept: sealed, and never shown.
    [secrets] SecretsSettings {
        /// The file with the key that wraps all others: 32 bytes in base64, which
        /// the package makes. Best left out: the service hands over
        /// /etc/sotp/sotp-kek (LoadCredential=).
        key_file: Option<PathBuf> = (
            unset "/etc/sotp/sotp-kek",
            "$CREDENTIALS_DIRECTORY/sotp-kek"
        ), path().or_none(), restart;
        /// The file with the key that comes after it, while that is exchanged.
        new_key_file: Option<PathBuf> = (
            unset "/etc/sotp/sotp-kek-new",
            "$CREDENTIALS_DIRECTORY/sotp-kek-new"
        ), path().or_none(), restart;
        /// Where values are kept: embedded (in the store) or vault (OpenBao or
        /// Vault, KV version 2).
        backend: SecretsBackend = ("embedded"), word(SecretsBackend::ALL.to_vec()), restart;
        /// What wraps the keys: key (the file above) or transit (OpenBao or Vault,
        /// with a key that never leaves it).
        wrap: SecretsWrap = ("key"), word(SecretsWrap::ALL.to_vec()), restart;
    }

    /// OpenBao or Vault, signed in to with an AppRole. Needed for backend =
    /// "vault" and wrap = "transit" alone.
    [vault] VaultSettings {
        /// Its address.
        address: String = (
            required "https://vault.example.net:8200"
        ), web_address("https://vault.example.net:8200"), restart;
        /// A file of PEM certificates to trust beside the system's: for a private
        /// certificate authority.
        ca_file: Option<PathBuf> = (
            unset "/etc/sotp/vault-ca.pem",
            "the system's alone"
        ), path().or_none(), restart;
        /// The AppRole's RoleID.
        role_id: String = (
            required "5c2e43a1-0f5b-4d0e-9d53-6f8f2a0c7b11"
        ), line("a RoleID", LOGIN_BYTES), restart;
        /// The file with its SecretID, which never stands here. Best left out: put
        /// it into /etc/sotp/vault-secret-id, and the service hands it over
        /// (LoadCredential=).
        secret_id_file: Option<PathBuf> = (
            unset "/etc/sotp/vault-secret-id",
            "$CREDENTIALS_DIRECTORY/vault-secret-id"
        ), path().or_none(), restart;
        /// Where AppRole is mounted.
        auth_mount: String = ("approle"), vault_path(), restart;
        /// The namespace.
        namespace: Option<String> = (unset "network", "none"), vault_path().or_none(), restart;
        /// Where KV version 2 is mounted.
        kv_mount: String = ("secret"), vault_path(), restart;
        /// The secrets lie below this path in it.
        kv_path: String = ("sotp"), vault_path(), restart;
        /// Where transit is mounted.
        transit_mount: String = ("transit"), vault_path(), restart;
        /// The name of the key in it.
        transit_key: String = ("sotp"), vault_path(), restart;
        /// A request that takes longer is given up.
        timeout: Duration = ("5s"), between(
            ms(100),
            MINUTE,
            "a far one needs a moment; nothing answers after a minute"
        ), restart;
        /// A value is asked for again after this long.
        cache: Duration = ("5m"), between(
            seconds(1),
            DAY,
            "more often is a load; a changed value is noticed only then"
        ), restart;
        /// While there is no answer, the last known value is used for this long.
        stale: Duration = ("24h"), between(
            seconds(1),
            30 * DAY,
            "polling stops when it is over; a value of last month may be revoked"
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
        /// The user's password, put away with `sotp secrets set`.
        password: Option<SecretName> = (
            unset "secret://smtp",
            "the one in password_file"
        ), secret_reference();
        /// Instead of password: the file that holds it, which never stands here
        /// itself. Best left out: put the password into /etc/sotp/smtp-password, and
        /// the service hands it over (LoadCredential=).
        password_file: Option<PathBuf> = (
            unset "/etc/sotp/smtp-password",
            "$CREDENTIALS_DIRECTORY/smtp-password, if there is a user and no password"
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

    /// Backups of everything, once a day. Without this section none is made by
    /// itself.
    [backup] BackupSettings {
        /// Where they go: a directory's absolute path, or "s3://bucket/prefix". The
        /// user sotp has to be able to write there, and the service to see it:
        /// ReadWritePaths= in its unit opens a directory outside /var/lib/sotp.
        to: BackupPlace = (required "s3://backups/sotp"), backup_place(), restart;
        /// The time of day, in this machine's time zone (UTC if it has none). One
        /// that was missed is made up for.
        at: TimeOfDay = ("02:30"), time_of_day(), restart;
        /// So many are kept; older ones of this machine are removed after one that
        /// succeeded.
        keep: usize = (30), count(
            1..=10_000,
            "the newest is never removed; ten thousand days are 27 years"
        ), restart;
        /// Public keys of age: only who has the private key of one of them can read
        /// the backups. Empty: they are not encrypted.
        recipients: Vec<String> = ([]), list(
            recipient(),
            0..=20,
            "each can read every backup; few people should"
        ), restart;
        /// The address of the S3 server.
        endpoint: Option<String> = (
            unset "https://s3.example.net",
            "AWS, by region"
        ), web_address("https://s3.example.net").or_none(), restart;
        /// The region of the bucket; most servers but AWS take any.
        region: String = ("us-east-1"), region(), restart;
        /// Whether the bucket stands in the path (https://server/bucket/...) or, if
        /// false, in the name (https://bucket.server/...).
        path_style: bool = (true), flag(), restart;
        /// The access key's ID.
        access_key: Option<String> = (
            unset "AKIAEXAMPLE",
            "none: a directory needs none"
        ), line("an access key's ID", LOGIN_BYTES).or_none(), restart;
        /// The access key's secret, put away with `sotp secrets set`.
        secret_key: Option<SecretName> = (
            unset "secret://backup-s3",
            "the one in secret_key_file"
        ), secret_reference(), restart;
        /// Instead of secret_key: the file that holds it, which never stands here
        /// itself.
        secret_key_file: Option<PathBuf> = (
            unset "/etc/sotp/backup-s3-key",
            "none"
        ), path().or_none(), restart;
        /// A file of PEM certificates to trust beside the system's: for a private
        /// certificate authority.
        ca_file: Option<PathBuf> = (
            unset "/etc/sotp/backup-ca.pem",
            "the system's alone"
        ), path().or_none(), restart;
        /// A request to the server, with the 8 MiB that it may carry, that takes
        /// longer is given up and tried again.
        timeout: Duration = ("60s"), between(
            seconds(1),
            HOUR,
            "a slow line needs a minute for 8 MiB; an hour is no line"
        ), restart;
    }

    /// Programs of yours and others that read, judge and tell: each in a sandbox,
    /// and with no right that nobody granted.
    [plugins] PluginsSettings {
        /// Whether any runs. Without them everything else goes on.
        enabled: bool = (true), flag(), restart;
        /// Whose packages are installed: a name, and the public key that they sign
        /// with, such as "acme: sotp-plugin-key ed25519 AAAA...".
        trusted_keys: Vec<TrustedKey> = ([]), list(
            trusted_key(),
            0..=100,
            "each can make what runs here; few should"
        );
        /// The packages that came with this daemon, to be installed by name. They
        /// need no signature: only root can write there.
        dir: PathBuf = ("/usr/share/sotp/plugins"), path(), restart;
        /// All plugins together may have this much memory; beyond it their process
        /// ends and is started again.
        memory: u64 = ("1GiB"), size(
            128 * MIB..=256 * GIB,
            "their process itself takes some; one call may take 64 MiB"
        ), restart;
        /// Calls at once; 0 for one on each processor.
        threads: usize = (0), count(
            0..=1_024,
            "they compute and never wait, so more than processors gains nothing"
        ), restart;
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
    line("a name", LOGIN_BYTES)
}

/// Where the daemon takes people back from a provider.
const CALLBACK: &str = "/api/v1/oidc/callback";

/// RFC 6749 §3.3.
fn scope() -> One<String> {
    One::of_text("scopes", |text| {
        let inside = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
        let good = !text.is_empty() && text.chars().all(inside);
        good.then(|| text.to_owned()).ok_or_else(|| {
            let message = format!("{} is no scope", quoted(text));
            Mistake::new(
                message,
                "each is a word of its own: [\"openid\", \"email\"]",
            )
        })
    })
}

/// Every setting, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where everything is kept.
    pub store: StoreSettings,
    /// Where people and programs ask.
    pub api: ApiSettings,
    /// How people sign in.
    pub access: AccessSettings,
    /// People who sign in at an OpenID provider; `None`: nobody.
    pub oidc: Option<OidcSettings>,
    /// How secrets are kept.
    pub secrets: SecretsSettings,
    /// OpenBao or Vault; `None`: neither.
    pub vault: Option<VaultSettings>,
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
    /// Backups that are made by themselves; `None`: none is.
    pub backup: Option<BackupSettings>,
    /// What runs in a sandbox.
    pub plugins: PluginsSettings,
    /// What the journal is told.
    pub log: LogSettings,
}

impl Settings {
    /// The keys that differ in `new` and are taken only at a restart; whatever
    /// else differs can be taken while running.
    #[must_use]
    pub fn needs_restart(&self, new: &Settings) -> Vec<&'static str> {
        [
            self.store.needs_restart(&new.store),
            self.api.needs_restart(&new.api),
            self.access.needs_restart(&new.access),
            optional_needs_restart(&self.oidc, &new.oidc),
            self.secrets.needs_restart(&new.secrets),
            optional_needs_restart(&self.vault, &new.vault),
            self.icmp.needs_restart(&new.icmp),
            self.snmp.needs_restart(&new.snmp),
            self.dns.needs_restart(&new.dns),
            self.schedule.needs_restart(&new.schedule),
            self.rules.needs_restart(&new.rules),
            optional_needs_restart(&self.mail, &new.mail),
            optional_needs_restart(&self.backup, &new.backup),
            self.plugins.needs_restart(&new.plugins),
            self.log.needs_restart(&new.log),
        ]
        .concat()
    }
}

/// A section that comes or goes differs from one without any value.
fn optional_needs_restart<S: Section + Clone>(
    old: &Option<S>,
    new: &Option<S>,
) -> Vec<&'static str> {
    let or_none = |section: &Option<S>| section.clone().unwrap_or_else(S::stand_in);
    or_none(old).needs_restart(&or_none(new))
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
        optional: false,
        keys: S::keys(),
    }
}

fn optional_section_doc<S: Section>() -> SectionDoc {
    SectionDoc {
        optional: true,
        ..section_doc::<S>()
    }
}

/// Every section with every key, in the order of the shipped file: what man
/// page and manual are made from.
#[must_use]
pub fn sections_reference() -> Vec<SectionDoc> {
    vec![
        section_doc::<StoreSettings>(),
        section_doc::<ApiSettings>(),
        section_doc::<AccessSettings>(),
        optional_section_doc::<OidcSettings>(),
        section_doc::<SecretsSettings>(),
        optional_section_doc::<VaultSettings>(),
        section_doc::<IcmpSettings>(),
        section_doc::<SnmpSettings>(),
        section_doc::<DnsSettings>(),
        section_doc::<ScheduleSettings>(),
        section_doc::<RulesSettings>(),
        optional_section_doc::<MailSettings>(),
        optional_section_doc::<BackupSettings>(),
        section_doc::<PluginsSettings>(),
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
