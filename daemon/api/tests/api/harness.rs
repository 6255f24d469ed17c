//! A served API with a store in a temporary folder, and a client that sends
//! bytes as they are, so that tests can send wrong ones.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access::{Access, AccessSettings, NewToken, Origin, TokenKind};
use api::tls::{self, TlsFiles};
use api::{
    Api, BackupRefused, BackupRun, BackupState, Backups, Daemon, DaemonStatus, ExposedKind,
    Exposition, IcmpStatus, KeptBackup, Later, Limits, PollNowRefused, SchedulerStatus,
};
use axum::body::Bytes;
use model::{
    Binding, By, Check, Columns, Device, DeviceId, DeviceState, Facts, GroupKey, Labels,
    MetricKind, Outcome, Permission, PollReport, PollRow, Role, Scope, SeriesKey, TenantName,
    Timestamp, User, UserName,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use secrets::{Secrets, SecretsSettings, Values, Wrap, WrappingKey};
use serde_json::{Value, json};
use store::{Store, StoreOptions};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::plugins::FakePlugins;

/// What time it is in these tests.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that says what a test wants it to say.
pub(crate) struct FakeDaemon {
    pub(crate) states: Mutex<HashMap<DeviceId, DeviceState>>,
    pub(crate) asked: Mutex<Vec<DeviceId>>,
    pub(crate) refusal: Mutex<Option<PollNowRefused>>,
    pub(crate) recipients: Mutex<Option<Vec<String>>>,
    pub(crate) panics: Mutex<bool>,
    pub(crate) new_key: Mutex<Option<WrappingKey>>,
    pub(crate) backups: Mutex<Option<Arc<FakeBackups>>>,
    pub(crate) plugins: Mutex<Option<Arc<FakePlugins>>>,
}

/// Makes backups of nothing.
#[derive(Default)]
pub(crate) struct FakeBackups {
    /// Where they were to go.
    pub(crate) started: Mutex<Vec<Option<String>>>,
    pub(crate) refusal: Mutex<Option<BackupRefused>>,
    /// What is streamed next; by default a small archive.
    pub(crate) pieces: Mutex<Option<mpsc::Receiver<Piece>>>,
}

pub(crate) type Piece = Result<Bytes, String>;

pub(crate) fn later<T: Send + 'static>(value: T) -> Later<T> {
    Box::pin(std::future::ready(value))
}

/// All of these pieces.
pub(crate) fn pieces(pieces: &[Piece]) -> mpsc::Receiver<Piece> {
    let (sender, receiver) = mpsc::channel(pieces.len());
    for piece in pieces {
        sender.try_send(piece.clone()).unwrap();
    }
    receiver
}

impl FakeBackups {
    fn refused(&self) -> Result<(), BackupRefused> {
        self.refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn run(id: u64, to: Option<String>) -> BackupRun {
        BackupRun {
            id,
            state: BackupState::Running,
            begun: NOW,
            ended: None,
            bytes: 0,
            to: to.unwrap_or("/var/backups/sotp".into()),
            error: None,
        }
    }
}

impl Backups for FakeBackups {
    fn list(&self) -> Later<Result<Vec<KeptBackup>, BackupRefused>> {
        let kept = KeptBackup {
            name: "sotp-1.tar".into(),
            at: "/var/backups/sotp/sotp-1.tar".into(),
            made: NOW,
            bytes: 1_000,
            encrypted: Some(true),
        };
        later(self.refused().map(|()| vec![kept]))
    }

    fn start(&self, _by: By, to: Option<String>) -> Later<Result<BackupRun, BackupRefused>> {
        if let Err(refused) = self.refused() {
            return later(Err(refused));
        }
        let mut started = self.started.lock().unwrap();
        started.push(to.clone());
        later(Ok(FakeBackups::run(started.len() as u64 + 1, to)))
    }

    fn runs(&self) -> Later<Vec<BackupRun>> {
        let done = BackupRun {
            state: BackupState::Failed,
            ended: Some(NOW),
            bytes: 77,
            error: Some("the bucket is gone".into()),
            ..FakeBackups::run(1, None)
        };
        later(vec![done])
    }

    fn stream(&self, _by: By) -> Later<Result<mpsc::Receiver<Piece>, BackupRefused>> {
        let small = || pieces(&[Ok("arch".into()), Ok("ive".into()), Ok(Bytes::new())]);
        let next = self.pieces.lock().unwrap().take();
        later(self.refused().map(|()| next.unwrap_or_else(small)))
    }
}

impl Daemon for FakeDaemon {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn poll_now(&self, device: DeviceId) -> Result<(), PollNowRefused> {
        if let Some(refusal) = *self.refusal.lock().unwrap() {
            return Err(refusal);
        }
        self.asked.lock().unwrap().push(device);
        Ok(())
    }

    fn device_state(&self, device: &Device) -> DeviceState {
        let states = self.states.lock().unwrap();
        states
            .get(&device.id)
            .cloned()
            .unwrap_or(DeviceState::Unknown)
    }

    fn interval(&self, _device: &Device, _check: Check) -> Duration {
        Duration::from_secs(30)
    }

    fn status(&self) -> DaemonStatus {
        assert!(!*self.panics.lock().unwrap(), "a fault of the daemon");
        DaemonStatus {
            version: "1.2.3".into(),
            started: NOW.minus(Duration::from_secs(60)),
            scheduler: SchedulerStatus {
                in_flight: 3,
                skipped: vec![("busy".into(), 7)],
                ..SchedulerStatus::default()
            },
            icmp: IcmpStatus {
                v4: "ping socket".into(),
                v6: "none: no IPv6".into(),
            },
            mail: None,
            warnings: Vec::new(),
        }
    }

    fn metrics(&self, into: &mut Exposition) {
        into.family("sotp_test", ExposedKind::Gauge, "A \"test\"\nof escapes");
        into.sample("sotp_test", &[("name", "a\\b\"c\nd")], 1.0);
    }

    fn new_wrapping_key(&self) -> Result<Option<WrappingKey>, String> {
        Ok(self.new_key.lock().unwrap().take())
    }

    fn backups(&self) -> Option<Arc<dyn Backups>> {
        let backups = self.backups.lock().unwrap().clone();
        backups.map(|backups| backups as Arc<dyn Backups>)
    }

    fn plugins(&self) -> Option<Arc<dyn api::Plugins>> {
        let plugins = self.plugins.lock().unwrap().clone();
        plugins.map(|plugins| plugins as Arc<dyn api::Plugins>)
    }

    fn metric_described(&self, name: &str) -> Option<api::Described> {
        (name == "acme_battery_volts").then(|| api::Described {
            kind: MetricKind::Gauge,
            unit: "V".into(),
            help: "What the battery gives.".into(),
        })
    }

    fn mail_recipients(&self) -> Option<Vec<String>> {
        self.recipients.lock().unwrap().clone()
    }
}

/// A served API; it stops when this is dropped.
pub(crate) struct Served {
    pub(crate) store: Store,
    pub(crate) secrets: Secrets,
    pub(crate) access: Access,
    pub(crate) daemon: Arc<FakeDaemon>,
    pub(crate) socket: PathBuf,
    pub(crate) tcp: std::net::SocketAddr,
    pub(crate) https: std::net::SocketAddr,
    pub(crate) tls: watch::Sender<Arc<ServerConfig>>,
    pub(crate) tls_files: TlsFiles,
    pub(crate) stop: CancellationToken,
    pub(crate) servers: Vec<JoinHandle<()>>,
    pub(crate) folder: TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Limits that a test does not wait long for.
pub(crate) fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(500),
        request_timeout: Duration::from_secs(20),
        grace: Duration::from_secs(2),
        ..Limits::default()
    }
}

pub(crate) async fn served() -> Served {
    served_with(limits()).await
}

pub(crate) async fn served_with(limits: Limits) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        commit_every: Duration::from_millis(5),
        backlog_bytes: 1024 * 1024,
        ballast_bytes: 0,
        keep_samples: Duration::from_secs(30 * 86_400),
        keep_alerts: Duration::from_secs(365 * 86_400),
        keep_audit: Duration::from_secs(730 * 86_400),
        ..StoreOptions::at(folder.path().join("sotp.redb"))
    };
    let store = Store::open(options, NOW).unwrap();
    let sealing = SecretsSettings {
        wrap: Wrap::Key {
            active: WrappingKey::generate(),
            old: Vec::new(),
        },
        values: Values::Embedded,
    };
    let secrets = Secrets::open(store.clone(), sealing, NOW).await.unwrap();
    let access = Access::new(store.clone(), secrets.clone(), access_settings(), NOW).unwrap();
    let daemon = Arc::new(FakeDaemon {
        states: Mutex::default(),
        asked: Mutex::default(),
        refusal: Mutex::default(),
        recipients: Mutex::new(Some(vec!["ops@example.com".into()])),
        panics: Mutex::default(),
        new_key: Mutex::default(),
        backups: Mutex::new(Some(Arc::default())),
        plugins: Mutex::new(Some(Arc::default())),
    });
    let api = Api::new(
        store.clone(),
        secrets.clone(),
        access.clone(),
        daemon.clone(),
        limits,
    );
    let stop = CancellationToken::new();
    let socket = folder.path().join("sotp.sock");
    let unix = UnixListener::bind(&socket).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let https = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let https_address = https.local_addr().unwrap();
    let tls_files = TlsFiles {
        certificate: folder.path().join("tls/certificate.pem"),
        key: folder.path().join("tls/key.pem"),
        client_ca: None,
        client_crl: None,
    };
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    assert!(tls::make(&tls_files.certificate, &tls_files.key, &names, NOW).unwrap());
    let (tls, tls_now) = watch::channel(tls::load(&tls_files).unwrap());
    let servers = vec![
        tokio::spawn(api::serve_unix(unix, api.clone(), stop.clone())),
        tokio::spawn(api::serve_tcp(tcp, api.clone(), stop.clone())),
        tokio::spawn(api::serve_https(https, tls_now, api, stop.clone())),
    ];
    Served {
        store,
        secrets,
        access,
        daemon,
        socket,
        tcp: address,
        https: https_address,
        tls,
        tls_files,
        stop,
        servers,
        folder,
    }
}

fn access_settings() -> AccessSettings {
    AccessSettings {
        access_ttl: Duration::from_secs(300),
        refresh_idle: Duration::from_secs(86_400),
        session_max: Duration::from_secs(30 * 86_400),
        min_password: 12,
        socket_role: Role::Operator,
        issuer: "https://sotp.example".into(),
        oidc: None,
    }
}

/// A person without a password.
pub(crate) fn person(name: &str, bindings: Vec<Binding>) -> User {
    User {
        name: UserName(name.into()),
        full_name: None,
        email: None,
        bindings,
        active: true,
        password: None,
        password_changed: None,
        must_change_password: false,
        totp: None,
        certificate: None,
        oidc: None,
        created: NOW,
        updated: NOW,
        last_login: None,
        revision: 1,
    }
}

/// `role` for all of `tenant`; `None`: everywhere.
pub(crate) fn binding(role: Role, tenant: Option<&str>) -> Binding {
    Binding {
        role,
        scope: Scope {
            tenant: tenant.map(|tenant| TenantName(tenant.into())),
            ..Scope::default()
        },
    }
}

/// `role` for the devices of `tenant` at `site`.
pub(crate) fn at_site(role: Role, tenant: &str, site: &str) -> Binding {
    let mut binding = binding(role, Some(tenant));
    binding.scope.sites.insert(site.into());
    binding
}

/// A token that may do what `bindings` say, or of that only `permissions`.
pub(crate) fn new_token(
    name: &str,
    bindings: Vec<Binding>,
    permissions: &[Permission],
) -> NewToken {
    NewToken {
        name: name.into(),
        bindings,
        permissions: permissions.iter().copied().collect(),
        expires: NOW.plus(Duration::from_secs(86_400)),
        requests_per_minute: 60_000,
        kind: TokenKind::Bearer,
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.body))
    }

    /// The body, if the status is `status`.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        if self.body.is_empty() {
            return Value::Null;
        }
        self.json()
    }

    /// The pointers or parameters of a problem's mistakes with their messages.
    #[track_caller]
    pub(crate) fn mistakes(&self, status: u16) -> Vec<(String, String)> {
        let problem = self.expect(status);
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{problem}"
        );
        let place = |mistake: &Value| {
            let place = mistake.get("pointer").or(mistake.get("parameter"));
            place.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|mistake| {
                (
                    place(mistake),
                    mistake["message"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }
}

/// Reads one answer until the other side closes.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    // a reset after the answer is the other side's haste, not ours
    let _ = read.expect("the server neither answers nor closes");
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    Answer {
        status: status.parse().unwrap(),
        headers: lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

/// A request whose answer ends the connection.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: sotp\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

impl Served {
    /// Sends these bytes and reads one answer.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        // the server may answer and close before it has read all
        let _ = stream.write_all(bytes).await;
        read_answer(&mut stream).await
    }

    pub(crate) async fn raw_tcp(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_answer(&mut stream).await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.raw(&request(method, path, headers, body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    /// The `ETag` of what is at `path`, where it has one.
    async fn tag(&self, path: &str) -> Option<String> {
        let answer = self.get(path).await;
        answer.header("etag").map(str::to_owned)
    }

    /// Deletes what is at `path` as somebody who has just read it.
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        let tag = self.tag(path).await.unwrap_or("*".into());
        self.ask("DELETE", path, &[("if-match", &tag)], b"").await
    }

    /// Sends `body`; a change is made as by somebody who has just read what
    /// they change.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        let tag = match method {
            "PUT" | "PATCH" => self.tag(path).await,
            _ => None,
        };
        if let Some(tag) = &tag {
            headers.push(("if-match", tag));
        }
        let body = body.to_string();
        self.ask(method, path, &headers, body.as_bytes()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body).await
    }

    /// A connection over TLS, with this certificate and key if any.
    pub(crate) async fn tls(
        &self,
        identity: Option<(&[u8], &[u8])>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let own = std::fs::read(&self.tls_files.certificate).unwrap();
        roots
            .add(CertificateDer::from_pem_slice(&own).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate).unwrap()],
                    PrivateKeyDer::from_pem_slice(key).unwrap(),
                )
                .unwrap(),
        };
        let tcp = TcpStream::connect(self.https).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    /// Asks over TLS, with this token if any.
    pub(crate) async fn https(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = headers.to_vec();
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer));
        }
        let mut stream = self.tls(None).await.unwrap();
        let bytes = request(method, path, &headers, body);
        // the server may answer and close before it has read all
        let _ = stream.write_all(&bytes).await;
        read_answer(&mut stream).await
    }

    /// Reads over TLS.
    pub(crate) async fn https_get(&self, token: Option<&str>, path: &str) -> Answer {
        self.https(token, "GET", path, &[], b"").await
    }

    /// Sends JSON over TLS; changes whatever is there.
    pub(crate) async fn https_send(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        if ["PATCH", "DELETE"].contains(&method) {
            headers.push(("if-match", "*"));
        }
        let body = body.to_string();
        self.https(token, method, path, &headers, body.as_bytes())
            .await
    }

    /// Makes somebody who may do everything, so that the network is let in.
    pub(crate) async fn set_up(&self) {
        let admin = person("root", vec![binding(Role::Admin, None)]);
        self.store
            .create_first_admin(&By::system(), admin, NOW)
            .await
            .unwrap();
    }

    /// Makes a tenant.
    pub(crate) async fn tenant(&self, name: &str) {
        let body = json!({"name": name});
        self.post("/api/v1/tenants", &body).await.expect(201);
    }

    /// A token for a service.
    pub(crate) async fn token(&self, new: NewToken) -> String {
        let origin = Origin::default();
        let root = access::Caller::local(0, Role::Admin, &origin);
        let by = root.by("test");
        let made = self.access.create_token(&root, &by, new, NOW).await;
        made.unwrap().1.expose().to_owned()
    }

    /// A token with `role` for all of `tenant`, or everywhere.
    pub(crate) async fn role(&self, role: Role, tenant: Option<&str>) -> String {
        let name = format!("{}-{}", role.word(), tenant.unwrap_or("everywhere"));
        let new = new_token(&name, vec![binding(role, tenant)], &[]);
        self.token(new).await
    }

    /// What the audit log says was denied, oldest first: who, on what, why.
    pub(crate) async fn denied(&self) -> Vec<(String, String, String)> {
        // what does not wait is written with the next commit
        self.store.heartbeat().await.unwrap();
        let store = self.store.clone();
        let ask = store::AuditAsk::newest(1_000);
        let read = tokio::task::spawn_blocking(move || store.audit(&ask));
        let mut lines = Vec::new();
        for line in read.await.unwrap().unwrap().into_iter().rev() {
            if let model::AuditOutcome::Denied(why) = line.outcome {
                lines.push((line.actor, line.object, why));
            }
        }
        lines
    }

    /// Enters a device and returns its id.
    pub(crate) async fn enter(&self, name: &str, address: &str) -> DeviceId {
        let body = json!({"name": name, "address": address});
        let device = self.post("/api/v1/devices", &body).await.expect(201);
        DeviceId(device["id"].as_u64().unwrap())
    }

    /// Keeps what a poll brought, and waits until it is visible.
    pub(crate) async fn keep(&self, report: PollReport) {
        let mut committed = self.store.committed();
        let before = *committed.borrow_and_update();
        self.store.try_reserve().expect("room").send(report);
        let visible = committed.wait_for(|upto| *upto > before);
        timeout(PATIENCE, visible).await.unwrap().unwrap();
    }
}

/// What a poll of `device` at `at` brought.
pub(crate) fn report(
    device: DeviceId,
    check: Check,
    at: Timestamp,
    columns: &Arc<Columns>,
    values: &[f64],
) -> PollReport {
    let group = GroupKey { device, check };
    PollReport {
        group,
        outcome: Outcome {
            at,
            took: Duration::from_millis(12),
            failure: None,
            partial: Vec::new(),
        },
        row: Some(PollRow {
            group,
            at,
            columns: Arc::clone(columns),
            values: values.into(),
            breaks: model::Breaks::None,
        }),
        facts: None,
    }
}

pub(crate) fn with_facts(mut report: PollReport, facts: Facts) -> PollReport {
    report.facts = Some(facts);
    report
}

pub(crate) fn column(metric: &str, kind: MetricKind, interface: Option<&str>) -> SeriesKey {
    SeriesKey {
        metric: metric.into(),
        labels: Arc::new(Labels::new(interface.map(|name| ("ifName", name)))),
        kind,
    }
}

pub(crate) fn ping_columns() -> Arc<Columns> {
    Arc::new(Columns::new(vec![
        column("icmp_up", MetricKind::State, None),
        column("icmp_rtt_seconds", MetricKind::Gauge, None),
        column("icmp_loss_ratio", MetricKind::Gauge, None),
    ]))
}
