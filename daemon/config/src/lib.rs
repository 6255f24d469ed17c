//! Settings and rules files: read whole, or refused with everything that is
//! wrong with them.
//!
//! [`read()`] gives complete [`Settings`] or [`Problems`], never half of them;
//! [`read_rules`] does the same for a directory of rules. A problem says where
//! it stands (`file:line:column`), at which key, what is wrong and what to do,
//! and all problems come at once. Nothing here looks at the environment, the
//! clock or, but for [`read_secret_file`], at a secret: the settings name
//! files that hold secrets, never a secret itself.
//!
//! `settings` is the table of all settings and the file to open first. `key`
//! makes structs, reader and reference of it, `kinds`, `web`, `network`,
//! `access`, `backup` and `plugins` read single values, `table` walks TOML tables, `sense` checks values
//! against each other.

mod access;
mod backup;
mod key;
mod kinds;
mod network;
mod plugins;
mod problem;
mod read;
mod rules;
mod secret;
mod sense;
mod settings;
mod source;
mod table;
mod units;
mod web;

pub use access::SocketRole;
pub use backup::{BackupPlace, TimeOfDay};
pub use key::KeyDoc;
pub use plugins::TrustedKey;
pub use problem::{Place, Problem, Problems};
pub use read::{Effective, Loaded, Origin, read};
pub use rules::read_rules;
pub use secret::{Secret, SecretError, read_secret_file};
pub use settings::{
    AccessSettings, ApiSettings, BackupSettings, DnsSettings, IcmpSettings, LogLevel, LogSettings,
    MailSettings, OidcSettings, PluginsSettings, RulesSettings, ScheduleSettings, SecretsBackend,
    SecretsSettings, SecretsWrap, SectionDoc, Settings, SnmpSettings, StoreSettings, Tls,
    VaultSettings, sections_reference, settings_reference,
};
