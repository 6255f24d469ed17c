//! A store in a folder of its own, and things to put in it.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ::samples::fs::{Fs, RealFs};
use ::samples::{Matcher, MatcherKind, Point, Select, Selected, SelectedSeries, Selector};
use model::{
    Actor, Alert, AlertId, AlertState, AuditDraft, AuditOutcome, AuditRecord, Binding, Breaks, By,
    Channel, Check, Columns, CredentialKind, CredentialName, CredentialRecord, Delivery,
    DeliveryState, Device, DeviceDraft, DeviceId, Digest, GroupKey, KeyId, Labels, MetricKind,
    NotificationEvent, OutboxId, Outcome, PasswordHash, PollReport, PollRow, Quota, Role, RuleName,
    Scope, SealedValue, SecretName, SecretRecord, SecretVersion, SeriesKey, SessionId,
    SessionRecord, Severity, SignIn, Tenant, TenantName, Timestamp, TokenId, TokenProof,
    TokenRecord, User, UserName,
};

use crate::disk::{self, FileMedium};
use crate::writer::Pace;
use crate::{AuditAsk, Refusal, Store, StoreOptions, WriteError};

/// When the stories play.
pub(super) const NOW: Timestamp = Timestamp(1_795_230_000_000);

/// A writer that lets no test wait.
pub(super) const QUICK: Pace = Pace {
    probe: Duration::from_millis(10),
    sweep: Duration::from_millis(5),
};

pub(super) fn options(folder: &Path) -> StoreOptions {
    StoreOptions {
        commit_every: Duration::from_millis(1),
        backlog_bytes: 1 << 20,
        ballast_bytes: 0,
        keep_samples: Duration::from_secs(30 * 86_400),
        keep_alerts: Duration::from_secs(365 * 86_400),
        keep_audit: Duration::from_secs(730 * 86_400),
        ..StoreOptions::at(folder.join("sotp.redb"))
    }
}

/// A store, opened again as often as a story needs.
pub(super) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(super) fn new() -> Home {
        Home {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.options().path
    }

    pub(super) fn options(&self) -> StoreOptions {
        options(self.folder.path())
    }

    pub(super) fn open(&self) -> Store {
        Store::open(self.options(), NOW).unwrap()
    }
}

/// The store of `options`, at a pace that lets no test wait.
pub(super) fn open_quick(options: StoreOptions) -> Store {
    disk::create_if_absent(&options.path).unwrap();
    let path = options.path.clone();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    Store::open_on(options, (Box::new(FileMedium { path }), fs), QUICK, NOW).unwrap()
}

/// Runs async calls of the store from a plain test.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// Asks until `answer` comes, for ten seconds at most.
pub(super) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < give_up, "never came: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

pub(super) fn draft(name: &str, address: &str) -> DeviceDraft {
    DeviceDraft::new(name.to_owned(), address.parse().unwrap())
}

pub(super) fn create(store: &Store, name: &str, address: &str) -> Arc<Device> {
    block_on(store.create_device(by(), draft(name, address), None, NOW)).unwrap()
}

/// Who makes the changes.
pub(super) fn by() -> &'static By {
    static BY: LazyLock<By> = LazyLock::new(|| By {
        actor: Actor::Local(0),
        origin: "socket".to_owned(),
        request: Some("r1".to_owned()),
    });
    &BY
}

/// The tenant that is always there.
pub(super) fn ours() -> TenantName {
    TenantName::default_tenant()
}

/// A credential of the default tenant whose secret comes with it, and that
/// secret, not really sealed.
pub(super) fn credential(name: &str, value: &str) -> (CredentialRecord, SecretRecord) {
    let secret = secret(&format!("credential.{name}"), &[value]);
    let record = CredentialRecord {
        name: CredentialName(name.to_owned()),
        kind: CredentialKind::SnmpV2c,
        secret: secret.name.clone(),
        updated: NOW,
        revision: 0,
    };
    (record, secret)
}

/// A new secret with these values, sealed by a key that nobody has.
pub(super) fn secret(name: &str, values: &[&str]) -> SecretRecord {
    let versions = (1..).zip(values).map(|(version, value)| SecretVersion {
        version,
        created: NOW,
        created_by: "system".to_owned(),
        sealed: Some(sealed("k1", value)),
    });
    SecretRecord {
        name: SecretName(name.to_owned()),
        note: None,
        versions: versions.collect(),
        created: NOW,
        updated: NOW,
        revision: 0,
    }
}

/// What stands for a value sealed with a key.
pub(super) fn sealed(key: &str, value: &str) -> SealedValue {
    let mask = key.bytes().fold(0x55, |mask, byte| mask ^ byte);
    SealedValue {
        key: KeyId(key.to_owned()),
        wrapped_key: key.as_bytes().to_vec(),
        nonce: [7; 24],
        text: value.bytes().map(|byte| byte ^ mask).collect(),
    }
}

/// What [`sealed`] stands for, if it is whole.
pub(super) fn opened(sealed: &SealedValue) -> Option<String> {
    if sealed.wrapped_key != sealed.key.0.as_bytes() {
        return None;
    }
    let mask = sealed.key.0.bytes().fold(0x55, |mask, byte| mask ^ byte);
    let text = sealed.text.iter().map(|byte| byte ^ mask).collect();
    String::from_utf8(text).ok()
}

pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, WriteError>) -> Refusal {
    match result {
        Err(WriteError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub(super) fn icmp(device: u64) -> GroupKey {
    GroupKey {
        device: DeviceId(device),
        check: Check::Icmp,
    }
}

pub(super) fn columns(names: &[&str]) -> Arc<Columns> {
    let series = names.iter().map(|name| SeriesKey {
        metric: (*name).into(),
        labels: Arc::new(Labels::default()),
        kind: MetricKind::Counter64,
    });
    Arc::new(Columns::new(series.collect()))
}

pub(super) fn outcome(at: Timestamp) -> Outcome {
    Outcome {
        at,
        took: Duration::from_millis(7),
        failure: None,
        partial: Vec::new(),
    }
}

pub(super) fn report(group: GroupKey, at: Timestamp, names: &[&str], values: &[f64]) -> PollReport {
    PollReport {
        group,
        outcome: outcome(at),
        row: Some(PollRow {
            group,
            at,
            columns: columns(names),
            values: values.into(),
            breaks: Breaks::None,
        }),
        facts: None,
    }
}

/// Hands a report over, and waits until it is visible.
pub(super) fn send(store: &Store, report: PollReport) {
    let (group, outcome) = (report.group, report.outcome.clone());
    until("a place", || store.try_reserve()).send(report);
    until("the report", || {
        (store.outcome(group).as_ref() == Some(&outcome)).then_some(())
    });
}

/// All series of a device in this time.
pub(super) fn selected(store: &Store, device: u64, from: u64, until: u64) -> Selected {
    // every series has a name
    let any = Matcher::new("__name__", MatcherKind::Matches, ".+").unwrap();
    let selected = store.samples().select(&Select {
        selector: &Selector::new(vec![any]),
        groups: &|group| group.device == DeviceId(device),
        from: Timestamp(from),
        until: Timestamp(until),
        max_points: usize::MAX,
        max_series: usize::MAX,
    });
    selected.unwrap()
}

/// The same, where all of it can be read.
pub(super) fn select(store: &Store, device: u64, from: u64, until: u64) -> Vec<SelectedSeries> {
    let selected = selected(store, device, from, until);
    assert_eq!(selected.missing, []);
    selected.series
}

/// The points of the only series of a device.
pub(super) fn points(store: &Store, device: u64) -> Vec<Point> {
    let mut found = select(store, device, 0, u64::MAX);
    assert!(found.len() <= 1, "{found:?}");
    found.pop().map_or(Vec::new(), |series| series.points)
}

pub(super) fn alert(id: u64, state: AlertState) -> Alert {
    let resolved = (state == AlertState::Resolved).then_some(NOW);
    Alert {
        id: AlertId(id),
        rule: RuleName("down".into()),
        severity: Severity::Critical,
        device: DeviceId(id % 3),
        device_name: format!("sw{}", id % 3),
        labels: Arc::default(),
        state,
        since: NOW,
        judged: NOW,
        rounds: 2,
        told: true,
        fired: Some(NOW),
        resolved,
        value: None,
        summary: format!("alert {id}"),
    }
}

pub(super) fn delivery(next: u64) -> Delivery {
    Delivery {
        id: OutboxId(0),
        channel: Channel::Mail {
            to: "noc@example.net".into(),
        },
        event: NotificationEvent::Firing,
        alert: None,
        place: "10.0.0.1".into(),
        behind: Vec::new(),
        created: NOW,
        state: DeliveryState::Queued {
            next: Timestamp(next),
        },
        attempts: 0,
        last_error: None,
    }
}

/// Somebody with this role everywhere.
pub(super) fn user(name: &str, role: Role) -> User {
    User {
        name: UserName(name.to_owned()),
        full_name: None,
        email: None,
        bindings: vec![Binding {
            role,
            scope: Scope::default(),
        }],
        active: true,
        password: Some(PasswordHash("canary-password-hash".to_owned())),
        password_changed: Some(NOW),
        must_change_password: false,
        totp: None,
        certificate: None,
        oidc: None,
        created: NOW,
        updated: NOW,
        last_login: None,
        revision: 0,
    }
}

/// A digest that is unlike that of any other number.
pub(super) fn digest(n: u64) -> Digest {
    let mut bytes = [0xA5; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Digest(bytes)
}

pub(super) fn session(id: &str, user: &str, used: Timestamp) -> SessionRecord {
    SessionRecord {
        id: SessionId(id.to_owned()),
        user: UserName(user.to_owned()),
        how: SignIn::Password,
        origin: "10.0.0.9".to_owned(),
        agent: None,
        created: used,
        used,
        expires: used.plus(Duration::from_secs(86_400)),
        refresh: digest(1),
        previous: None,
    }
}

pub(super) fn tenant(name: &str, devices: Option<u64>) -> Tenant {
    Tenant {
        name: TenantName(name.to_owned()),
        note: None,
        quota: Quota {
            devices,
            ..Quota::default()
        },
        created: NOW,
        updated: NOW,
        revision: 0,
    }
}

pub(super) fn token(id: &str, name: &str) -> TokenRecord {
    TokenRecord {
        id: TokenId(id.to_owned()),
        name: name.to_owned(),
        proof: TokenProof::Bearer(digest(9)),
        bindings: Vec::new(),
        permissions: BTreeSet::new(),
        requests_per_minute: 60,
        created_by: "user:jane".to_owned(),
        created: NOW,
        expires: NOW.plus(Duration::from_secs(86_400)),
        last_used: None,
        revision: 0,
    }
}

/// All lines of the audit log, oldest first.
pub(super) fn audit_lines(store: &Store) -> Vec<AuditRecord> {
    let mut lines = store.audit(&AuditAsk::newest(usize::MAX)).unwrap();
    lines.reverse();
    lines
}

pub(super) fn note(action: &str, object: &str) -> AuditDraft {
    AuditDraft {
        action: action.to_owned(),
        object: object.to_owned(),
        tenant: None,
        outcome: AuditOutcome::Done,
        after: None,
    }
}

/// Does all of these at once.
pub(super) fn all_at_once<T: Send + 'static>(
    asked: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    block_on(async {
        let tasks: Vec<_> = asked.into_iter().map(tokio::spawn).collect();
        let mut answers = Vec::with_capacity(tasks.len());
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        answers
    })
}
