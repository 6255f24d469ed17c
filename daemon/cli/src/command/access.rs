//! The words about who may do what.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::roles::{Binding, SYNTAX, VALUE_NAME};

#[derive(Args)]
pub(crate) struct Login {
    /// The server, such as https://sotp.example.net:8443; without it the context's
    #[arg(value_name = "URL")]
    pub(crate) address: Option<String>,
    /// Who signs in; asked for without it
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The file with the password (- for standard input); asked for without it
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// The code that the authenticator shows now, or a recovery code
    #[arg(long, value_name = "CODE", conflicts_with = "code_file")]
    pub(crate) code: Option<String>,
    /// The file with that code (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) code_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Context {
    /// Lists the servers that somebody signed in to
    #[command(after_help = "Example:\n  sotp context ls")]
    Ls,
    /// Makes one the one that is meant if nothing is said
    #[command(after_help = "Example:\n  sotp context use noc")]
    Use {
        /// Its name
        name: String,
    },
    /// Shows one: server, user, certificate; never a token
    #[command(after_help = "Examples:\n  sotp context show\n  sotp context show noc -o json")]
    Show {
        /// Its name; without it the current one
        name: Option<String>,
    },
    /// Forgets one; its session ends by itself, or at once with `sotp logout` before
    #[command(after_help = "Example:\n  sotp context rm noc")]
    Rm {
        /// Its name
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Setup {
    /// Make the first administrator without a link, with the password in this file (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_password_file: Option<PathBuf>,
    /// What that administrator is called
    #[arg(
        long,
        value_name = "NAME",
        default_value = "admin",
        requires = "admin_password_file"
    )]
    pub(crate) user: String,
}

#[derive(Subcommand)]
pub(crate) enum Admin {
    /// Gives somebody a one-time password, as root on the server itself
    #[command(
        after_help = "Examples:\n  sudo sotp admin reset jane\n  sudo sotp admin reset jane --totp   # the phone is lost too"
    )]
    Reset {
        /// Who
        user: String,
        /// Let them in without a code, too
        #[arg(long)]
        totp: bool,
    },
}

#[derive(Args)]
pub(crate) struct Password {
    /// The file with the password so far (- for standard input); asked for without it
    #[arg(long, value_name = "FILE")]
    pub(crate) old_password_file: Option<PathBuf>,
    /// The file with the new one (- for standard input); asked for without it
    #[arg(long, value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Totp {
    /// Asks for a code of an authenticator from now on
    #[command(
        after_help = "Example:\n  sotp totp enable > recovery-codes\n\nAsks for your password if you have one, shows the secret once, reads a code from the terminal or standard input, then prints the recovery codes."
    )]
    Enable {
        /// The file with your password; asked for without it
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Asks for no codes any more
    #[command(after_help = "Example:\n  sotp totp disable")]
    Disable {
        /// The file with your password (- for standard input); asked for without it
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Sessions {
    /// Lists where you are signed in, or where others are
    #[command(
        after_help = "Examples:\n  sotp sessions ls\n  sotp sessions ls --user jane\n  sotp sessions ls --all"
    )]
    Ls {
        /// Those of this user
        #[arg(long, value_name = "NAME", conflicts_with = "all")]
        user: Option<String>,
        /// Those of everybody
        #[arg(long)]
        all: bool,
    },
    /// Ends one, at once
    #[command(after_help = "Example:\n  sotp sessions end 3f9c1a")]
    End {
        /// Its number
        session: String,
    },
}

#[derive(Args)]
pub(crate) struct UserFields {
    /// What people call them; empty unsets
    #[arg(long, value_name = "TEXT")]
    pub(crate) full_name: Option<String>,
    /// Where they get mail; empty unsets
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// What they may do, and where; may be given again; see sotp roles --help
    #[arg(long = "role", value_name = VALUE_NAME)]
    pub(crate) roles: Vec<Binding>,
    /// The subject of their client certificate, or a name in it; empty unsets
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) certificate: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Users {
    /// Lists people and their roles
    #[command(after_help = "Example:\n  sotp users ls")]
    Ls,
    /// Shows all that is known of one
    #[command(after_help = "Example:\n  sotp users show jane")]
    Show {
        /// Their name
        user: String,
    },
    /// Enters one
    #[command(
        after_help = "Examples:\n  sotp users add jane --role OPERATOR@acme --full-name \"Jane Doe\"\n  sotp users reset-password jane   # a one-time password to pass on\n  sotp users add joe --role READONLY@acme,site=berlin,tag=core --password-file joe.txt --must-change"
    )]
    Add {
        /// What they sign in with
        user: String,
        #[command(flatten)]
        fields: UserFields,
        /// The file with their first password (- for standard input)
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// They have to choose another one before anything else
        #[arg(long, requires = "password_file")]
        must_change: bool,
    },
    /// Changes one; it holds at once, for open sessions too
    #[command(
        after_help = "Examples:\n  sotp users set jane --role ADMIN\n  sotp users set jane --role OPERATOR@acme --role READONLY@other\n  sotp users set joe --inactive\n\nRoles that are given replace all those before."
    )]
    Set {
        /// Their name
        user: String,
        #[command(flatten)]
        fields: UserFields,
        /// They may sign in
        #[arg(long, conflicts_with = "inactive")]
        active: bool,
        /// They may not sign in
        #[arg(long)]
        inactive: bool,
    },
    /// Removes one
    #[command(after_help = "Example:\n  sotp users rm joe --yes")]
    Rm {
        /// Their name
        user: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Prints a one-time password and ends their sessions
    #[command(after_help = "Example:\n  sotp users reset-password jane > for-jane")]
    ResetPassword {
        /// Their name
        user: String,
    },
    /// Lets them in without a code, as when the phone is lost
    #[command(after_help = "Example:\n  sotp users reset-totp jane")]
    ResetTotp {
        /// Their name
        user: String,
    },
    /// Ends all their sessions, at once
    #[command(after_help = "Example:\n  sotp users sign-out joe")]
    SignOut {
        /// Their name
        user: String,
    },
}

#[derive(Args)]
pub(crate) struct TenantFields {
    /// What people call it, or why it is there; empty unsets
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// How many devices it may have; none: any number
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    pub(crate) devices: Option<Limit>,
    /// How many values may be measured per second; none: any number
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    pub(crate) samples_per_second: Option<Limit>,
    /// How many log lines it may have per second; none: any number
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    pub(crate) log_lines_per_second: Option<Limit>,
}

/// A number that is not exceeded, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u64>);

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        number => number
            .parse()
            .map(|number| Limit(Some(number)))
            .map_err(|_| "it is a whole number, or none".to_owned()),
    }
}

#[derive(Subcommand)]
pub(crate) enum Tenants {
    /// Lists tenants and what they may use
    #[command(after_help = "Example:\n  sotp tenants ls")]
    Ls,
    /// Shows one
    #[command(after_help = "Example:\n  sotp tenants show acme")]
    Show {
        /// Its name
        tenant: String,
    },
    /// Makes one
    #[command(after_help = "Example:\n  sotp tenants add acme --note \"Acme Ltd\" --devices 500")]
    Add {
        /// What to call it
        tenant: String,
        #[command(flatten)]
        fields: TenantFields,
    },
    /// Changes one
    #[command(
        after_help = "Examples:\n  sotp tenants set acme --devices 800\n  sotp tenants set acme --samples-per-second none"
    )]
    Set {
        /// Its name
        tenant: String,
        #[command(flatten)]
        fields: TenantFields,
    },
    /// Removes one that nothing belongs to
    #[command(after_help = "Example:\n  sotp tenants rm acme --yes")]
    Rm {
        /// Its name
        tenant: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Tokens {
    /// Lists tokens, when they end and when they were last used
    #[command(after_help = "Example:\n  sotp tokens ls")]
    Ls,
    /// Shows one; never the token itself
    #[command(after_help = "Example:\n  sotp tokens show backup")]
    Show {
        /// Its name or number
        token: String,
    },
    /// Makes one and prints it, this once
    #[command(
        after_help = "Examples:\n  sotp tokens add backup --role READONLY --expires 90d > token\n  sotp tokens add acme/sync --role OPERATOR@acme --permission devices:read --permission devices:write --expires 2027-01-01\n\nThen: sotp --server https://HOST:8443 --token-file token devices ls"
    )]
    Add(TokensAdd),
    /// Revokes one, at once
    #[command(after_help = "Example:\n  sotp tokens revoke backup --yes")]
    Revoke {
        /// Its name or number
        token: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub(crate) struct TokensAdd {
    /// What to call it; tenant/name in any tenant but the default one
    pub(crate) name: String,
    /// What it may do, and where; may be given again; see sotp roles --help
    #[arg(long = "role", value_name = VALUE_NAME, required = true)]
    pub(crate) roles: Vec<Binding>,
    /// Only this of what the roles grant; may be given again
    #[arg(long = "permission", value_name = "RESOURCE:VERB")]
    pub(crate) permissions: Vec<String>,
    /// When it ends: 90d, 12h, or a date such as 2027-01-01; at most 366 days from now
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: String,
    /// How many requests it may make per minute
    #[arg(long, value_name = "NUMBER")]
    pub(crate) requests_per_minute: Option<u32>,
    /// For a sender that signs its requests instead of sending the token
    #[arg(long)]
    pub(crate) hmac: bool,
    /// The tenant it belongs to
    #[arg(long)]
    pub(crate) tenant: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Secrets {
    /// Lists names, versions and ages; never a value
    #[command(after_help = "Example:\n  sotp secrets ls")]
    Ls,
    /// Shows one: its versions and who uses it; never a value
    #[command(after_help = "Example:\n  sotp secrets show smtp")]
    Show {
        /// Its name
        name: String,
    },
    /// Sets one, new or again
    #[command(
        after_help = "Examples:\n  sotp secrets set smtp --value-file password\n  pass show campus | sotp secrets set acme/campus --value-file -\n\nOf a single line, the line's end is not part of the secret; several lines are taken as they are."
    )]
    Set {
        /// Its name; tenant/name in any tenant but the default one
        name: String,
        /// The file with the value (- for standard input)
        #[arg(long, value_name = "FILE")]
        value_file: PathBuf,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Removes one that nothing uses
    #[command(after_help = "Example:\n  sotp secrets rm smtp --yes")]
    Rm {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Shows which key wraps the secrets
    #[command(after_help = "Example:\n  sotp secrets key")]
    Key,
    /// Wraps all secrets with another key, while the daemon works
    #[command(after_help = "Example:\n  sotp secrets rotate-key")]
    RotateKey,
}

#[derive(Args)]
pub(crate) struct AuditFilters {
    /// Only by this actor, such as user:jane
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only this action, such as device.create
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only on this object, such as device:core1
    #[arg(long)]
    pub(crate) object: Option<String>,
    /// Only in this tenant
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Only with this outcome: done or denied
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// From when: RFC 3339, a date, or -6h
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Until when: RFC 3339, a date, or -1h
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// Only with this text anywhere
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One JSON object per line
    Jsonl,
    /// Comma-separated values with a header line
    Csv,
}

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Lists who did what, the newest first
    #[command(
        after_help = "Examples:\n  sotp audit ls --actor user:jane --from -24h\n  sotp audit ls --outcome denied\n  sotp audit ls --object device:core1 -o json"
    )]
    Ls {
        #[command(flatten)]
        filters: AuditFilters,
        /// At most this many
        #[arg(long, default_value_t = 200)]
        limit: u32,
    },
    /// Prints all of it, for an archive
    #[command(
        after_help = "Examples:\n  sotp audit export --format jsonl > audit.jsonl\n  sotp audit export --format csv --from 2026-01-01 --to 2026-02-01 > january.csv"
    )]
    Export {
        #[command(flatten)]
        filters: AuditFilters,
        /// As what
        #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
        format: ExportFormat,
    },
    /// Checks that no line was changed, removed or put in
    #[command(
        after_help = "Examples:\n  sotp audit verify\n  sotp audit verify --head 1042:9f2c…   # noted down earlier: all up to there is as it was\n\nExit code 1: the log was tampered with or is damaged. Who can write the whole file could compute it anew: note the\nhead down elsewhere now and then, and give it back with --head."
    )]
    Verify {
        /// A head that an earlier verify printed
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Shows what is demanded of people who sign in
    #[command(after_help = "Example:\n  sotp policy show")]
    Show,
    /// Changes it
    #[command(
        after_help = "Examples:\n  sotp policy set --require-totp ADMIN --require-totp OPERATOR\n  sotp policy set --require-totp none"
    )]
    Set {
        /// Whoever has this role signs in with a code; may be given again; none: nobody has to
        #[arg(long, value_name = "ROLE", required = true)]
        require_totp: Vec<String>,
    },
}

/// What `sotp roles --help` ends with.
pub(crate) fn roles_help() -> String {
    format!("Examples:\n  sotp roles\n  sotp roles -o json\n\n{SYNTAX}")
}
