//! The words that `sotp` understands.

mod access;
mod kept;
mod plugin;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) use access::{
    Admin, Audit, AuditFilters, Context, ExportFormat, Limit, Login, Password, Policy, Secrets,
    Sessions, Setup, TenantFields, Tenants, Tokens, TokensAdd, Totp, UserFields, Users,
};
pub(crate) use plugin::{KindOfPlugin, Lang, Plugin, PluginKey, PluginRecord, PluginTest};

pub(crate) use kept::{Asked, Backup, Metrics, MetricsExport, MetricsGet, Opened, S3, TableFormat};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The inventory: what is watched
    #[command(subcommand, alias = "device")]
    Devices(Devices),
    /// What was measured: shown, exported, deleted
    #[command(subcommand, alias = "metric")]
    Metrics(Metrics),
    /// What is wrong, and what was
    #[command(subcommand, alias = "alert")]
    Alerts(Alerts),
    /// What counts as wrong
    #[command(subcommand, alias = "rule")]
    Rules(Rules),
    /// Mails that wait, that were refused, that were sent
    #[command(subcommand)]
    Outbox(Outbox),
    /// Names of secrets that devices are asked with
    #[command(subcommand, alias = "credential")]
    Credentials(Credentials),
    /// Telling people
    #[command(subcommand)]
    Notify(Notify),
    /// Plugins: written, tested, installed, granted, run
    #[command(subcommand, alias = "plugins")]
    Plugin(Plugin),
    /// Everything in one file: made, listed, verified, restored
    #[command(subcommand, alias = "backups")]
    Backup(Backup),
    /// How the appliance itself is doing
    #[command(
        after_help = "Examples:\n  sotp status\n  sotp status --check   # exit code 0 ok, 1 warning, 2 critical, 3 unknown, as monitoring plugins do"
    )]
    Status {
        /// Say it in the exit code, as monitoring plugins do: 0 ok, 1 warning, 2 critical, 3 unknown
        #[arg(long)]
        check: bool,
    },
    /// Signs in to a server, and remembers it as a context
    #[command(
        after_help = "Examples:\n  sotp login https://sotp.example.net:8443\n  sotp login https://sotp.example.net:8443 --user jane --context noc --fingerprint 3A:9F:…\n  sotp login https://sotp.example.net:8443 --token-file token   # as a service\n  sotp login                                                    # again, at the same server\n\nA certificate that no issuer vouches for is shown, and trusted if you say so; without a terminal give --fingerprint or --ca-file."
    )]
    Login(Login),
    /// Signs out, and forgets what let us in
    #[command(after_help = "Examples:\n  sotp logout\n  sotp logout --context noc")]
    Logout,
    /// Servers that somebody signed in to
    #[command(subcommand, alias = "contexts")]
    Context(Context),
    /// Says who is signed in, and what they may do
    #[command(after_help = "Example:\n  sotp whoami")]
    Whoami,
    /// Changes your password
    #[command(
        after_help = "Examples:\n  sotp password\n  sotp password --old-password-file old --new-password-file new"
    )]
    Password(Password),
    /// Codes of an authenticator beside the password
    #[command(subcommand)]
    Totp(Totp),
    /// Where people are signed in
    #[command(subcommand, alias = "session")]
    Sessions(Sessions),
    /// People
    #[command(subcommand, alias = "user")]
    Users(Users),
    /// What each role may do, and how a role is written
    #[command(after_help = access::roles_help())]
    Roles,
    /// Those whose devices are kept apart
    #[command(subcommand, alias = "tenant")]
    Tenants(Tenants),
    /// What lets services in
    #[command(subcommand, alias = "token")]
    Tokens(Tokens),
    /// Passwords, communities and keys: sealed, and never shown
    #[command(subcommand, alias = "secret")]
    Secrets(Secrets),
    /// Who did what
    #[command(subcommand)]
    Audit(Audit),
    /// What is demanded of people who sign in
    #[command(subcommand)]
    Policy(Policy),
    /// Prints the link to the first administrator's account; for root on the server
    #[command(
        after_help = "Examples:\n  sudo sotp setup\n  sudo sotp setup --admin-password-file password --user jane\n\nThe link works once, for 30 minutes, and the newest one alone. Exit code 3: it was set up before."
    )]
    Setup(Setup),
    /// For root on the server itself
    #[command(subcommand)]
    Admin(Admin),
    /// Prints completions for a shell
    #[command(after_help = "Example:\n  sotp completions bash > /etc/bash_completion.d/sotp")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Writes the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// An existing directory
        directory: PathBuf,
    },
}

#[derive(Subcommand)]
pub(crate) enum Devices {
    /// Lists devices with their state, round-trip time, loss and traffic
    #[command(
        after_help = "Examples:\n  sotp devices ls --state down --site berlin\n  sotp devices ls --site berlin --sort -updated -o json"
    )]
    Ls(DevicesLs),
    /// Shows all that is known of one
    #[command(after_help = "Example:\n  sotp devices show core1")]
    Show {
        /// Its name or id
        device: String,
    },
    /// Enters one; it is asked within seconds
    #[command(
        after_help = "Examples:\n  sotp devices add core1 10.0.0.1 --snmp-community-file community\n  sotp devices add sw7 sw7.example.net --parent core1 --site berlin --credential campus"
    )]
    Add(DevicesAdd),
    /// Changes one
    #[command(
        after_help = "Examples:\n  sotp devices set sw7 --site hamburg --tag access\n  sotp devices set sw7 --disabled"
    )]
    Set(DevicesSet),
    /// Removes one; `restore` brings it back
    #[command(after_help = "Example:\n  sotp devices rm sw7 --yes")]
    Rm {
        /// Its name or id
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Brings a removed one back
    #[command(after_help = "Example:\n  sotp devices restore 17")]
    Restore {
        /// Its id
        device: String,
    },
    /// Asks one now
    #[command(after_help = "Example:\n  sotp devices poll core1")]
    Poll {
        /// Its name or id
        device: String,
    },
    /// Enters many from a CSV file; bad lines are named, good ones go in
    #[command(
        after_help = "Examples:\n  sotp devices import site.csv\n\nThe first line names the columns, in any order: name,address and any of\nkind,vendor,model,os,site,location,tags,parents,credential,snmp_port. Tags and parents are separated by ';'."
    )]
    Import {
        /// The file, or - for standard input
        file: PathBuf,
        /// The tenant they belong to
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Lists a device's interfaces with their traffic
    #[command(after_help = "Example:\n  sotp devices interfaces core1")]
    Interfaces {
        /// Its name or id
        device: String,
    },
    /// Lists a device's latest values
    #[command(after_help = "Example:\n  sotp devices metrics core1 | grep cpu")]
    Metrics {
        /// Its name or id
        device: String,
        /// Only this metric, over the last hour
        metric: Option<String>,
        /// From when: RFC 3339, seconds since 1970, or -6h
        #[arg(long, requires = "metric", allow_hyphen_values = true)]
        from: Option<String>,
    },
}

#[derive(Args)]
pub(crate) struct DevicesLs {
    /// Only with this in name, address, vendor, model, OS, site or location
    pub(crate) search: Option<String>,
    /// Only at this site
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// Only of this kind
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only with this tag
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Only in this state: up, problem, down, unreachable, unknown, disabled
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Only in this tenant
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Removed ones instead
    #[arg(long)]
    pub(crate) deleted: bool,
    /// By this field; with - in front, backwards
    #[arg(long, default_value = "name", allow_hyphen_values = true)]
    pub(crate) sort: String,
}

#[derive(Args)]
pub(crate) struct DeviceFields {
    /// The tenant it belongs to
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// router, switch, firewall, wireless, server, storage, ups, pdu, printer, phone, camera, sensor or other
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Who made it
    #[arg(long)]
    pub(crate) vendor: Option<String>,
    /// Which model
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// What runs on it
    #[arg(long)]
    pub(crate) os: Option<String>,
    /// The site it stands at
    #[arg(long)]
    pub(crate) site: Option<String>,
    /// Where in the site
    #[arg(long)]
    pub(crate) location: Option<String>,
    /// A word to select by; may be given again
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// A device it is reached through, by name or id; may be given again
    #[arg(long = "parent", value_name = "DEVICE")]
    pub(crate) parents: Vec<String>,
    /// The agent's UDP port
    #[arg(long, value_name = "PORT")]
    pub(crate) snmp_port: Option<u16>,
    /// Between two SNMP polls, such as 60s
    #[arg(long, value_name = "SPAN")]
    pub(crate) snmp_every: Option<String>,
    /// Between two rounds of ICMP, such as 30s
    #[arg(long, value_name = "SPAN")]
    pub(crate) icmp_every: Option<String>,
    /// Ask by SNMP with this credential
    #[arg(long, value_name = "NAME", conflicts_with = "snmp_community_file")]
    pub(crate) credential: Option<String>,
    /// Ask by SNMPv2c with the community in this file (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) snmp_community_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct DevicesAdd {
    /// What to call it
    pub(crate) name: String,
    /// IPv4, IPv6 or host name
    pub(crate) address: String,
    #[command(flatten)]
    pub(crate) fields: DeviceFields,
}

#[derive(Args)]
pub(crate) struct DevicesSet {
    /// Its name or id
    pub(crate) device: String,
    /// Another name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Another address
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// Ask and judge it
    #[arg(long, conflicts_with = "disabled")]
    pub(crate) enabled: bool,
    /// Neither ask nor judge it
    #[arg(long)]
    pub(crate) disabled: bool,
    #[command(flatten)]
    pub(crate) fields: DeviceFields,
}

#[derive(Subcommand)]
pub(crate) enum Alerts {
    /// Lists what fires and what is cut off by it, the newest first
    #[command(after_help = "Examples:\n  sotp alerts ls\n  sotp alerts ls --all --device core1")]
    Ls {
        /// Also those that are pending or over
        #[arg(long)]
        all: bool,
        /// Only in this state: pending, firing, unreachable, resolved
        #[arg(long)]
        state: Option<String>,
        /// Only of this device
        #[arg(long)]
        device: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 200)]
        limit: u32,
    },
    /// Shows one, with what is behind it and who was told
    #[command(after_help = "Example:\n  sotp alerts show 17")]
    Show {
        /// Its number
        alert: u64,
    },
}

#[derive(Subcommand)]
pub(crate) enum Rules {
    /// Lists rules, those of files and those of the API
    #[command(after_help = "Example:\n  sotp rules ls")]
    Ls,
    /// Shows one
    #[command(
        after_help = "Examples:\n  sotp rules show device-down -o json\n  sotp rules show hot --tenant acme   # the same as acme/hot"
    )]
    Show {
        /// Its name
        rule: String,
        /// The tenant it belongs to
        #[arg(long)]
        tenant: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Outbox {
    /// Lists mails, the newest first
    #[command(after_help = "Example:\n  sotp outbox ls --state parked")]
    Ls {
        /// Only in this state: queued, parked, delivered
        #[arg(long)]
        state: Option<String>,
    },
    /// Tries a parked one again
    #[command(after_help = "Example:\n  sotp outbox retry 9")]
    Retry {
        /// Its number
        id: u64,
    },
}

#[derive(Subcommand)]
pub(crate) enum Credentials {
    /// Lists names, kinds and how many devices use them; never a secret
    #[command(after_help = "Example:\n  sotp credentials ls")]
    Ls,
    /// Sets one, new or again
    #[command(
        after_help = "Examples:\n  sotp credentials set campus --snmp-community-file community\n  sotp credentials set campus --tenant acme --secret secret://acme/campus-snmp"
    )]
    Set {
        /// Its name; tenant/name in any tenant but the default one
        name: String,
        /// The file with the SNMPv2c community (- for standard input)
        #[arg(
            long,
            value_name = "FILE",
            required_unless_present = "secret",
            conflicts_with = "secret"
        )]
        snmp_community_file: Option<PathBuf>,
        /// The SNMPv2c community is this secret; see sotp secrets
        #[arg(long, value_name = "secret://NAME", value_parser = secret_reference)]
        secret: Option<String>,
        /// The tenant it belongs to
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Removes one that no device uses
    #[command(after_help = "Example:\n  sotp credentials rm campus")]
    Rm {
        /// Its name; tenant/name in any tenant but the default one
        name: String,
        /// The tenant it belongs to
        #[arg(long)]
        tenant: Option<String>,
    },
}

/// A reference, never the secret itself.
fn secret_reference(text: &str) -> Result<String, String> {
    match text.strip_prefix("secret://") {
        Some(name) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err(
            "it is secret://NAME, never the secret itself: sotp secrets set NAME --value-file FILE"
                .to_owned(),
        ),
    }
}

#[derive(Subcommand)]
pub(crate) enum Notify {
    /// Sends a test mail and says how it went
    #[command(
        after_help = "Examples:\n  sotp notify test\n  sotp notify test --to noc@example.net"
    )]
    Test {
        /// To this address instead of those in the settings; may be given again
        #[arg(long)]
        to: Vec<String>,
    },
}
