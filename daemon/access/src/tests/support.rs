//! A house with a store, secrets and access, and people in it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use model::{
    Address, AuditRecord, Binding, By, Device, DeviceId, DeviceKind, Policy, PollSettings, Role,
    Scope, TenantName, Timestamp, User, UserName,
};
use secrets::{Secrets, SecretsSettings, Values, Wrap, WrappingKey};
use store::{AuditAsk, Store, StoreOptions};

use crate::password::Cost;
use crate::{
    Access, AccessError, AccessSettings, Caller, Granted, LogIn, OidcSettings, Origin, SecretText,
    Shown,
};

/// When the stories play.
pub(super) const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// A password that is taken.
pub(super) const PASSWORD: &str = "wolke gabel marder";

pub(super) struct House {
    pub(super) access: Access,
    pub(super) store: Store,
    pub(super) secrets: Secrets,
    _folder: tempfile::TempDir,
}

pub(super) fn settings() -> AccessSettings {
    AccessSettings {
        access_ttl: Duration::from_mins(5),
        refresh_idle: Duration::from_hours(24),
        session_max: Duration::from_hours(30 * 24),
        min_password: 12,
        socket_role: Role::Operator,
        issuer: "https://nms.example.net:8443".to_owned(),
        oidc: None,
    }
}

pub(super) fn with_oidc(oidc: OidcSettings) -> AccessSettings {
    AccessSettings {
        oidc: Some(oidc),
        ..settings()
    }
}

impl House {
    /// Nobody lives in it yet.
    pub(super) async fn empty() -> House {
        House::of(settings(), Cost::LEAST).await
    }

    /// With an administrator, `root`.
    pub(super) async fn new() -> House {
        let house = House::empty().await;
        house.enter("root", Role::Admin).await;
        house
    }

    pub(super) async fn of(settings: AccessSettings, cost: Cost) -> House {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(
            StoreOptions {
                commit_every: Duration::from_millis(1),
                backlog_bytes: 1 << 20,
                ballast_bytes: 0,
                keep_samples: Duration::from_hours(24),
                keep_alerts: Duration::from_hours(24),
                keep_audit: Duration::from_hours(24),
                ..StoreOptions::at(folder.path().join("sotp.redb"))
            },
            NOW,
        )
        .unwrap();
        let keys = SecretsSettings {
            wrap: Wrap::Key {
                active: WrappingKey::generate(),
                old: vec![],
            },
            values: Values::Embedded,
        };
        let secrets = Secrets::open(store.clone(), keys, NOW).await.unwrap();
        let access =
            Access::with_cost(store.clone(), secrets.clone(), settings, cost, NOW).unwrap();
        House {
            access,
            store,
            secrets,
            _folder: folder,
        }
    }

    /// Enters a person with [`PASSWORD`] and this role everywhere.
    pub(super) async fn enter(&self, name: &str, role: Role) -> Arc<User> {
        let user = User {
            bindings: vec![everywhere(role)],
            ..User::new(UserName(name.to_owned()), NOW)
        };
        let by = By::system();
        let made = self
            .access
            .create_user(&by, user, Some(PASSWORD), NOW)
            .await;
        made.unwrap()
    }

    pub(super) fn user(&self, name: &str) -> Arc<User> {
        let people = self.store.people();
        people.user(&UserName(name.to_owned())).unwrap().clone()
    }

    /// Changes a person by hand.
    pub(super) async fn change(&self, name: &str, change: impl FnOnce(&mut User)) {
        let mut user = (*self.user(name)).clone();
        change(&mut user);
        let by = By::system();
        self.store.replace_user(&by, user, None, NOW).await.unwrap();
    }

    /// Demands codes of these.
    pub(super) async fn demand_codes(&self, roles: &[Role]) {
        let policy = Policy {
            require_totp: roles.iter().copied().collect(),
            revision: 0,
        };
        let expected = self.store.people().policy().revision;
        let by = By::system();
        self.store
            .put_policy(&by, policy, expected, NOW)
            .await
            .unwrap();
    }

    pub(super) async fn log_in_at(
        &self,
        name: &str,
        password: &str,
        code: Option<&str>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        let ask = LogIn {
            user: name.to_owned(),
            password: SecretText::new(password.to_owned()),
            code: code.map(str::to_owned),
            agent: Some("curl/8\u{7}".to_owned()),
        };
        self.access.log_in(ask, origin, now).await
    }

    pub(super) async fn log_in(&self, name: &str) -> Granted {
        self.log_in_at(name, PASSWORD, None, &from(1), NOW)
            .await
            .unwrap()
    }

    pub(super) fn caller(&self, granted: &Granted) -> Caller {
        self.show(granted, NOW).unwrap()
    }

    pub(super) fn show(&self, granted: &Granted, now: Timestamp) -> Result<Caller, AccessError> {
        let shown = Shown::Bearer(granted.access_token.expose());
        self.access.authenticate(shown, &from(1), now)
    }

    /// The audit log, oldest first, once what was noted is in it.
    pub(super) async fn audit(&self) -> Vec<AuditRecord> {
        // a line that is waited for comes after those that are not
        let last = model::AuditDraft {
            action: "test.end".to_owned(),
            object: "test:end".to_owned(),
            tenant: None,
            outcome: model::AuditOutcome::Done,
            after: None,
        };
        self.store
            .note_audit(&By::system(), last, NOW)
            .await
            .unwrap();
        let mut lines = self.store.audit(&AuditAsk::newest(1000)).unwrap();
        lines.reverse();
        lines
    }

    /// Whether a line says that `action` was done, or denied, on `object`.
    pub(super) async fn audited(&self, action: &str, object: &str) -> bool {
        let lines = self.audit().await;
        lines
            .iter()
            .any(|line| line.action == action && line.object.starts_with(object))
    }
}

pub(super) fn everywhere(role: Role) -> Binding {
    Binding {
        role,
        scope: Scope::default(),
    }
}

pub(super) fn within(role: Role, tenant: Option<&str>, sites: &[&str], tags: &[&str]) -> Binding {
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Binding {
        role,
        scope: Scope {
            tenant: tenant.map(|name| TenantName(name.to_owned())),
            sites: set(sites),
            tags: set(tags),
        },
    }
}

/// Address number `n`.
pub(super) fn from(n: u32) -> Origin {
    Origin {
        address: Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))),
        request: Some("req-1".to_owned()),
    }
}

pub(super) fn device(tenant: &str, site: Option<&str>, tags: &[&str]) -> Device {
    Device {
        id: DeviceId(1),
        name: "core1".to_owned(),
        address: Address::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        kind: DeviceKind::Switch,
        vendor: None,
        model: None,
        os: None,
        site: site.map(str::to_owned),
        location: None,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        parents: BTreeSet::new(),
        poll: PollSettings::default(),
        credential: None,
        enabled: true,
        created: NOW,
        updated: NOW,
        deleted: None,
        revision: 1,
        tenant: TenantName(tenant.to_owned()),
    }
}
