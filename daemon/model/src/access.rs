//! Who may do what: tenants, roles, people, sessions, tokens.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Device, SecretName, Timestamp};

/// The name of a tenant: lower-case letters, digits and `-`, at most 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TenantName(pub String);

impl TenantName {
    /// The tenant that is always there.
    pub const DEFAULT: &'static str = "default";

    /// The tenant that is always there.
    #[must_use]
    pub fn default_tenant() -> TenantName {
        TenantName(TenantName::DEFAULT.to_owned())
    }

    /// Whether this is the tenant that is always there.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == TenantName::DEFAULT
    }

    /// Whose a thing of this name is: names of rules, credentials, secrets and
    /// tokens are `name` in the default tenant and `tenant/name` in any other.
    #[must_use]
    pub fn of(qualified: &str) -> TenantName {
        match qualified.split_once('/') {
            Some((tenant, _)) => TenantName(tenant.to_owned()),
            None => TenantName::default_tenant(),
        }
    }

    /// `name` as it is written for a thing of this tenant.
    #[must_use]
    pub fn qualify(&self, name: &str) -> String {
        match self.is_default() {
            true => name.to_owned(),
            false => format!("{self}/{name}"),
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text names no tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotATenant(pub String);

impl fmt::Display for NotATenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no name of a tenant: 1 to 32 lower-case letters, digits and hyphens, a letter first",
            self.0
        )
    }
}

impl std::error::Error for NotATenant {}

impl FromStr for TenantName {
    type Err = NotATenant;

    fn from_str(text: &str) -> Result<TenantName, NotATenant> {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = (1..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(inside);
        match good {
            true => Ok(TenantName(text.to_owned())),
            false => Err(NotATenant(text.to_owned())),
        }
    }
}

/// What a tenant may use; `None`: without a limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Devices that are not deleted.
    pub devices: Option<u64>,
    /// Values measured per second, over all of its devices.
    pub samples_per_second: Option<u64>,
    /// Log lines per second, over all of its devices.
    pub log_lines_per_second: Option<u64>,
}

/// Whose devices, rules, tokens, secrets and logs are kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// What people call it, or why it is there.
    pub note: Option<String>,
    /// What it may use.
    pub quota: Quota,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Counts changes, from 1.
    pub revision: u64,
}

/// Gives each variant its word, and lists all of them.
macro_rules! permissions {
    ($($variant:ident $word:literal $help:literal;)*) => {
        /// One thing that somebody may do: `resource:verb`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Permission {
            $(#[doc = $help] $variant,)*
        }

        impl Permission {
            /// Every permission.
            pub const ALL: &'static [Permission] = &[$(Permission::$variant,)*];

            /// `resource:verb`.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Permission::$variant => $word,)* }
            }

            /// What it allows, for people.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Permission::$variant => $help,)* }
            }

            /// The permission that `word` names.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Permission> {
                Permission::ALL.iter().copied().find(|known| known.word() == word)
            }
        }
    };
}

// The order is the store's format: new ones go to the end.
permissions! {
    StatusRead "status:read" "How the appliance itself is doing.";
    DevicesRead "devices:read" "Devices, their interfaces and their state.";
    DevicesWrite "devices:write" "Enter and change devices.";
    DevicesDelete "devices:delete" "Delete and restore devices.";
    DevicesPoll "devices:poll" "Ask a device now.";
    MetricsRead "metrics:read" "What is measured of devices.";
    AlertsRead "alerts:read" "What is wrong and what was.";
    RulesRead "rules:read" "What counts as wrong.";
    RulesWrite "rules:write" "Change what counts as wrong.";
    OutboxRead "outbox:read" "Whom we told, and how that went.";
    OutboxRetry "outbox:retry" "Try a refused delivery again.";
    NotificationsTest "notifications:test" "Send a test mail.";
    CredentialsRead "credentials:read" "Names of credentials; never a secret.";
    CredentialsWrite "credentials:write" "Set and remove credentials.";
    SecretsRead "secrets:read" "Names, versions and ages of secrets; never a value.";
    SecretsWrite "secrets:write" "Set and remove secrets.";
    SecretsRotateKey "secrets:rotate-key" "Rotate the key that wraps all secrets.";
    UsersRead "users:read" "People and their roles.";
    UsersWrite "users:write" "Make, change, deactivate and delete people.";
    SessionsRead "sessions:read" "Who is signed in.";
    SessionsEnd "sessions:end" "Sign somebody out.";
    TenantsRead "tenants:read" "Tenants and their quotas.";
    TenantsWrite "tenants:write" "Make, change and delete tenants.";
    TokensRead "tokens:read" "Tokens of services; never a token itself.";
    TokensWrite "tokens:write" "Make, change and revoke tokens of services.";
    PolicyRead "policy:read" "What is demanded of people who sign in.";
    PolicyWrite "policy:write" "Change what is demanded of people who sign in.";
    AuditRead "audit:read" "Who did what.";
    TelemetryRead "telemetry:read" "The daemon's own metrics.";
    MetricsDelete "metrics:delete" "Delete what was measured of a device.";
    BackupsRead "backups:read" "Backups and how they went.";
    BackupsWrite "backups:write" "Make backups: of everything, for everybody.";
    PluginsRead "plugins:read" "Plugins and how they do.";
    PluginsWrite "plugins:write" "Install, set, enable and remove plugins, and try them on a device.";
    PluginsGrant "plugins:grant" "Say what plugins may do.";
}

/// A set of permissions with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    Admin,
    /// Runs the network: devices, rules, credentials; not people.
    Operator,
    /// Sees everything but secrets, the audit log too; changes nothing.
    Auditor,
    /// Sees devices, metrics and alerts; changes nothing.
    ReadOnly,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Operator, Role::Auditor, Role::ReadOnly];

    /// The word that people write.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Admin => "ADMIN",
            Role::Operator => "OPERATOR",
            Role::Auditor => "AUDITOR",
            Role::ReadOnly => "READONLY",
        }
    }

    /// The role that `word` names, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Role> {
        Role::ALL
            .into_iter()
            .find(|role| role.word().eq_ignore_ascii_case(word))
    }

    /// Whether it has this permission.
    #[must_use]
    pub fn grants(self, permission: Permission) -> bool {
        use Permission as P;
        let seen_by_all = matches!(
            permission,
            P::StatusRead
                | P::DevicesRead
                | P::MetricsRead
                | P::AlertsRead
                | P::RulesRead
                | P::OutboxRead
        );
        match self {
            Role::Admin => true,
            Role::ReadOnly => seen_by_all,
            Role::Operator => {
                seen_by_all
                    || matches!(
                        permission,
                        P::DevicesWrite
                            | P::DevicesDelete
                            | P::DevicesPoll
                            | P::RulesWrite
                            | P::OutboxRetry
                            | P::NotificationsTest
                            | P::CredentialsRead
                            | P::CredentialsWrite
                            | P::TenantsRead
                            | P::TelemetryRead
                    )
            }
            Role::Auditor => permission.word().ends_with(":read"),
        }
    }
}

/// Where a role holds. Every part that is empty is without a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// In this tenant alone.
    pub tenant: Option<TenantName>,
    /// For devices at one of these sites.
    pub sites: BTreeSet<String>,
    /// For devices with at least one of these tags.
    pub tags: BTreeSet<String>,
}

impl Scope {
    /// Whether it has no limit at all.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.tenant.is_none() && !self.is_part_of_a_tenant()
    }

    /// Whether it holds for some devices of a tenant only.
    #[must_use]
    pub fn is_part_of_a_tenant(&self) -> bool {
        !(self.sites.is_empty() && self.tags.is_empty())
    }

    /// Whether it holds for things of `tenant` that stand at no site.
    #[must_use]
    pub fn covers_tenant(&self, tenant: &TenantName) -> bool {
        !self.is_part_of_a_tenant() && self.reaches_tenant(tenant)
    }

    /// Whether it holds for anything of `tenant` at all.
    #[must_use]
    pub fn reaches_tenant(&self, tenant: &TenantName) -> bool {
        self.tenant.as_ref().is_none_or(|only| only == tenant)
    }

    /// Whether it holds for a device of `tenant` at `site` with `tags`.
    #[must_use]
    pub fn covers_place(
        &self,
        tenant: &TenantName,
        site: Option<&String>,
        tags: &BTreeSet<String>,
    ) -> bool {
        self.reaches_tenant(tenant)
            && (self.sites.is_empty() || site.is_some_and(|site| self.sites.contains(site)))
            && (self.tags.is_empty() || !self.tags.is_disjoint(tags))
    }

    /// Whether it holds for `device`.
    #[must_use]
    pub fn covers(&self, device: &Device) -> bool {
        self.covers_place(&device.tenant, device.site.as_ref(), &device.tags)
    }

    /// Whether everything that `other` holds for is within this one.
    #[must_use]
    pub fn contains(&self, other: &Scope) -> bool {
        let within = |mine: &BTreeSet<String>, theirs: &BTreeSet<String>| {
            mine.is_empty() || (!theirs.is_empty() && theirs.is_subset(mine))
        };
        (self.tenant.is_none() || self.tenant == other.tenant)
            && within(&self.sites, &other.sites)
            && within(&self.tags, &other.tags)
    }
}

/// A role, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Binding {
    /// What is allowed.
    pub role: Role,
    /// Where.
    pub scope: Scope,
}

/// The name that somebody signs in with: 1 to 64 bytes, compared as it is
/// written, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserName(pub String);

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`UserName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAUser(pub String);

impl fmt::Display for NotAUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no user name: 1 to 64 letters, digits and any of . _ - + @, a letter or digit first",
            self.0
        )
    }
}

impl std::error::Error for NotAUser {}

impl FromStr for UserName {
    type Err = NotAUser;

    /// Takes any case and keeps it in lower case.
    fn from_str(text: &str) -> Result<UserName, NotAUser> {
        let inside = |c: char| c.is_ascii_alphanumeric() || "._-+@".contains(c);
        let good = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(inside);
        match good {
            true => Ok(UserName(text.to_ascii_lowercase())),
            false => Err(NotAUser(text.to_owned())),
        }
    }
}

/// A password as a PHC string (argon2id). `Debug` never shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A SHA-256 of something that only its owner has. `Debug` never shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Its 64 hex digits, where it may be shown: that of an audit line may.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// Codes that change (RFC 6238).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotpRecord {
    /// The secret with the seed.
    pub seed: SecretName,
    /// Whether the person has proved once that the codes come out right.
    pub confirmed: bool,
    /// The step of the last code that was taken: it and those before it are
    /// not taken again.
    pub last_step: u64,
    /// What is left of the recovery codes.
    pub recovery: Vec<Digest>,
}

/// Who somebody is at an OpenID provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OidcSubject {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// What they sign in with.
    pub name: UserName,
    /// What people call them.
    pub full_name: Option<String>,
    /// Where they get mail.
    pub email: Option<String>,
    /// What they may do.
    pub bindings: Vec<Binding>,
    /// Whether they may sign in.
    pub active: bool,
    /// `None`: they cannot sign in with a password.
    pub password: Option<PasswordHash>,
    /// When the password was last changed.
    pub password_changed: Option<Timestamp>,
    /// Whether they have to choose another password before anything else.
    pub must_change_password: bool,
    /// `None`: a password is enough.
    pub totp: Option<TotpRecord>,
    /// The subject of their client certificate (RFC 4514), or a name in its
    /// subjectAltName; unique.
    pub certificate: Option<String>,
    /// Who they are at the OpenID provider; unique.
    pub oidc: Option<OidcSubject>,
    /// When they were entered.
    pub created: Timestamp,
    /// When they were last changed.
    pub updated: Timestamp,
    /// When they last signed in.
    pub last_login: Option<Timestamp>,
    /// Counts changes, from 1.
    pub revision: u64,
}

impl User {
    /// Somebody who may do nothing and cannot sign in yet.
    #[must_use]
    pub fn new(name: UserName, now: Timestamp) -> User {
        User {
            name,
            full_name: None,
            email: None,
            bindings: Vec::new(),
            active: true,
            password: None,
            password_changed: None,
            must_change_password: false,
            totp: None,
            certificate: None,
            oidc: None,
            created: now,
            updated: now,
            last_login: None,
            revision: 1,
        }
    }

    /// Whether they may do everything everywhere.
    #[must_use]
    pub fn is_full_admin(&self) -> bool {
        self.active
            && self
                .bindings
                .iter()
                .any(|binding| binding.role == Role::Admin && binding.scope.is_everything())
    }
}

/// What is demanded of everybody who signs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Who has one of these roles needs TOTP.
    pub require_totp: BTreeSet<Role>,
    /// Counts changes; 0 as long as nobody said anything.
    pub revision: u64,
}

/// A session's number: 128 random bits in hex. It is no secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How somebody signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignIn {
    /// With a password alone.
    Password,
    /// With a password and a code.
    PasswordAndTotp,
    /// At the OpenID provider.
    Oidc,
}

impl SignIn {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            SignIn::Password => "password",
            SignIn::PasswordAndTotp => "password+totp",
            SignIn::Oidc => "oidc",
        }
    }
}

/// Somebody who is signed in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its number.
    pub id: SessionId,
    /// Who.
    pub user: UserName,
    /// How they proved it.
    pub how: SignIn,
    /// From which address.
    pub origin: String,
    /// With which program, as it says itself.
    pub agent: Option<String>,
    /// Since when.
    pub created: Timestamp,
    /// When it was last refreshed.
    pub used: Timestamp,
    /// When it ends, whatever happens.
    pub expires: Timestamp,
    /// The refresh token that is good now.
    pub refresh: Digest,
    /// The one before it, and when it was exchanged.
    pub previous: Option<(Digest, Timestamp)>,
}

/// A token's number: part of the token, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub String);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a service proves that it has the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenProof {
    /// It sends it.
    Bearer(Digest),
    /// It signs its requests with the key in this secret (HMAC-SHA-256).
    Hmac(SecretName),
}

/// What lets a service in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its number.
    pub id: TokenId,
    /// What people call it; `tenant/name` in any tenant but the default one.
    pub name: String,
    /// How it is proved.
    pub proof: TokenProof,
    /// What it may do.
    pub bindings: Vec<Binding>,
    /// Only these of what the roles grant; empty: all of it.
    pub permissions: BTreeSet<Permission>,
    /// Requests that it may make per minute.
    pub requests_per_minute: u32,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When it was last used, exact to a minute, and from where.
    pub last_used: Option<(Timestamp, String)>,
    /// Counts changes, from 1.
    pub revision: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(tenant: Option<&str>, sites: &[&str], tags: &[&str]) -> Scope {
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Scope {
            tenant: tenant.map(|name| TenantName(name.to_owned())),
            sites: set(sites),
            tags: set(tags),
        }
    }

    #[test]
    fn every_permission_reads_back_and_has_a_resource_and_a_verb() {
        for permission in Permission::ALL {
            assert_eq!(Permission::from_word(permission.word()), Some(*permission));
            assert_eq!(permission.word().split(':').count(), 2);
        }
    }

    #[test]
    fn an_auditor_reads_everything_and_changes_nothing() {
        for permission in Permission::ALL {
            let reads = permission.word().ends_with(":read");
            assert_eq!(Role::Auditor.grants(*permission), reads, "{permission:?}");
            assert!(Role::Admin.grants(*permission));
            if Role::ReadOnly.grants(*permission) {
                assert!(reads && Role::Operator.grants(*permission));
            }
        }
        assert!(!Role::Operator.grants(Permission::UsersRead));
        assert!(!Role::Operator.grants(Permission::SecretsWrite));
    }

    #[test]
    fn a_wider_scope_contains_a_narrower_one_and_not_the_other_way_round() {
        let wide = scope(Some("acme"), &[], &[]);
        let narrow = scope(Some("acme"), &["berlin"], &["core"]);
        assert!(Scope::default().contains(&wide) && wide.contains(&narrow));
        assert!(!narrow.contains(&wide) && !wide.contains(&Scope::default()));
        assert!(!wide.contains(&scope(Some("other"), &["berlin"], &[])));
    }

    #[test]
    fn a_scope_of_sites_covers_no_thing_without_a_site() {
        let tenant = TenantName("acme".to_owned());
        let berlin = scope(Some("acme"), &["berlin"], &[]);
        assert!(!berlin.covers_tenant(&tenant) && berlin.reaches_tenant(&tenant));
        let site = "berlin".to_owned();
        assert!(berlin.covers_place(&tenant, Some(&site), &BTreeSet::new()));
        assert!(!berlin.covers_place(&tenant, None, &BTreeSet::new()));
        let other = TenantName("other".to_owned());
        assert!(!berlin.covers_place(&other, Some(&site), &BTreeSet::new()));
    }

    #[test]
    fn a_name_says_whose_it_is() {
        assert!(TenantName::of("campus").is_default());
        assert_eq!(TenantName::of("acme/campus").0, "acme");
        assert_eq!(TenantName::of("acme/x").qualify("campus"), "acme/campus");
        for bad in ["", "Acme", "1a", "a/b", "a b"] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad}");
        }
        assert_eq!(
            "Jane@Example.net".parse::<UserName>().unwrap().0,
            "jane@example.net"
        );
        for bad in ["", " a", "a b", "-a", "ä"] {
            assert!(bad.parse::<UserName>().is_err(), "{bad}");
        }
    }
}
