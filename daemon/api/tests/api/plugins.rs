use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{
    BundledPlugin, Later, PACKAGE_BYTES, PluginDetails, PluginFigures, PluginHostStatus,
    PluginInstalled, PluginProblem, PluginRefused, PluginRun, PluginSetting, PluginSource,
    PluginState, PluginStatus, Plugins,
};
use axum::body::Bytes;
use contract::{
    Answer as Said, Ask, Ended, Failure, Fault, FaultClass, Kind, LogLevel, LogLine, Octets,
    Output, Place, Reply, SnmpValue, Usage, Varbind,
};
use model::{
    Alert, AlertState, By, Capabilities, Channel, Check, Columns, DeviceId, Digest, MetricKind,
    Permission, PluginName, PluginRecord, PluginVersion, Role, SeriesKey, Timestamp,
};
use serde_json::{Value, json};

use crate::alerts::alert;
use crate::harness::{
    Answer, NOW, Served, binding, later, limits, new_token, report, served, served_with,
};

const PATH: &str = "/api/v1/plugins";
const PACKAGE: (&str, &str) = ("content-type", "application/octet-stream");
const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

/// Looks after plugins that do nothing.
pub(crate) struct FakePlugins {
    kind: Mutex<&'static str>,
    state: Mutex<PluginState>,
    refusal: Mutex<Option<PluginRefused>>,
    /// What was asked for, with its parts.
    done: Mutex<Vec<String>>,
    holds: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
}

impl Default for FakePlugins {
    fn default() -> FakePlugins {
        FakePlugins {
            kind: Mutex::new("parser"),
            state: Mutex::new(PluginState::WaitingForGrant),
            refusal: Mutex::default(),
            done: Mutex::default(),
            holds: Mutex::default(),
        }
    }
}

fn name(text: &str) -> PluginName {
    PluginName::new(text).unwrap()
}

fn capabilities(list: &[(&str, &[&str])]) -> Capabilities {
    let list = list.iter().map(|(capability, patterns)| {
        let patterns = patterns.iter().map(|text| (*text).to_owned());
        ((*capability).to_owned(), patterns.collect::<BTreeSet<_>>())
    });
    Capabilities(list.collect())
}

fn failed() -> Failure {
    let mut fault = Fault::new(FaultClass::Cpu, "it used 50 ms").with_hint("do less");
    fault.place = Some(Place {
        file: "main.rhai".to_owned(),
        line: 8,
        column: 12,
    });
    fault.trace = vec!["pct() at main.rhai:8:12".to_owned()];
    fault.into()
}

impl FakePlugins {
    fn status(&self) -> PluginStatus {
        let version = |version: &str| PluginVersion {
            id: "acme-ups".into(),
            version: version.into(),
            kind: (*self.kind.lock().unwrap()).to_owned(),
            description: "Batteries".into(),
            digest: Digest([7; 32]),
            signer: "acme".into(),
            asks: capabilities(&[("kv", &[]), ("http", &["https://a.example/*"])]),
            installed: NOW,
        };
        let record = PluginRecord {
            name: name("acme-ups"),
            current: version("1.1.0"),
            previous: Some(version("1.0.0")),
            waiting: Some(version("1.2.0")),
            granted: capabilities(&[("kv", &[])]),
            considered: Capabilities::default(),
            settings: BTreeMap::from([("webhook".to_owned(), "\"hook\"".to_owned())]),
            enabled: true,
            updated: NOW,
            revision: 4,
        };
        PluginStatus {
            record: Arc::new(record),
            state: *self.state.lock().unwrap(),
            why: Some("it asks for more".into()),
            missing: vec!["send requests to https://a.example/*".into()],
            devices: 3,
            figures: PluginFigures {
                calls: 10,
                failures: BTreeMap::from([("cpu".to_owned(), 2)]),
                p50: Duration::from_micros(1_500),
                p99: Duration::from_millis(30),
                memory: 65_536,
                cpu: Duration::from_millis(250),
                pauses: 1,
                last_failure: Some((NOW, failed())),
            },
        }
    }

    fn run() -> PluginRun {
        let line = LogLine {
            level: LogLevel::Warn,
            message: "no battery".into(),
            fields: vec![("slot".to_owned(), "2".to_owned())],
        };
        let ended = |result| Ended {
            result,
            log: vec![line.clone()],
            kv: Vec::new(),
            usage: Usage {
                cpu_ns: 2_000_000,
                wall_ns: 3_000_000,
                memory: 4_096,
            },
        };
        PluginRun {
            device: DeviceId(1),
            at: NOW,
            calls: vec![
                ("snmp:a".into(), ended(Ok(Reply::Output(Output::default())))),
                ("snmp:b".into(), ended(Err(failed()))),
            ],
        }
    }

    /// Notes what was asked for, then answers as it was told to.
    fn answer<T: Send + 'static>(
        &self,
        what: String,
        answer: T,
    ) -> Later<Result<T, PluginRefused>> {
        self.done.lock().unwrap().push(what);
        let refused = self.refusal.lock().unwrap().clone();
        let holds = self.holds.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(holds) = holds {
                let _held = holds.acquire().await.unwrap();
            }
            refused.map_or(Ok(answer), Err)
        })
    }
}

impl Plugins for FakePlugins {
    fn list(&self) -> Vec<PluginStatus> {
        vec![self.status()]
    }

    fn host(&self) -> PluginHostStatus {
        PluginHostStatus {
            enabled: true,
            pid: Some(77),
            restarts: 2,
            in_flight: 1,
            resident: 1 << 20,
            not_in_force: vec!["no landlock".into()],
        }
    }

    fn log(&self, asked: &PluginName) -> Option<Vec<(Timestamp, LogLine)>> {
        let line = FakePlugins::run().calls[0].1.log[0].clone();
        (*asked == name("acme-ups")).then(|| vec![(NOW, line)])
    }

    fn details(&self, asked: &PluginName) -> Later<Result<PluginDetails, PluginRefused>> {
        if *asked != name("acme-ups") {
            return later(Err(PluginRefused::NoSuch(asked.clone())));
        }
        let setting = |kind: &str| PluginSetting {
            kind: kind.into(),
            help: "For people".into(),
            ..PluginSetting::default()
        };
        let mut schema = BTreeMap::from([("volts".to_owned(), setting("integer"))]);
        if *self.kind.lock().unwrap() == "notifier" {
            schema.insert("webhook".to_owned(), setting("secret"));
        }
        later(Ok(PluginDetails {
            status: self.status(),
            asks_in_words: vec!["keep values".into()],
            granted_in_words: Vec::new(),
            schema,
            license: "Apache-2.0".into(),
            homepage: None,
            readme: "# UPS".into(),
            metrics: vec!["acme_battery_volts".into()],
        }))
    }

    fn bundled(&self) -> Later<Result<Vec<BundledPlugin>, PluginRefused>> {
        let plugin = BundledPlugin {
            id: "slack".into(),
            version: "1.0.0".into(),
            kind: Kind::Notifier,
            description: "Tells Slack".into(),
            asks_in_words: Vec::new(),
            installed: vec![(name("slack-noc"), "0.9.0".into())],
        };
        self.answer("bundled".into(), vec![plugin])
    }

    fn install(
        &self,
        _by: By,
        from: PluginSource,
        called: Option<PluginName>,
    ) -> Later<Result<PluginInstalled, PluginRefused>> {
        let (from, is_new) = match from {
            PluginSource::Uploaded(bytes) => (format!("{} bytes", bytes.len()), true),
            PluginSource::Bundled(id) => (id, false),
        };
        let status = self.status();
        let version = status.record.current.clone();
        let installed = PluginInstalled {
            status,
            version,
            is_new,
        };
        let called = called.map_or("its id".to_owned(), |name| name.to_string());
        self.answer(format!("install {from} as {called}"), installed)
    }

    fn remove(
        &self,
        _by: By,
        name: &PluginName,
        expected: Option<u64>,
    ) -> Later<Result<(), PluginRefused>> {
        self.answer(format!("remove {name} {expected:?}"), ())
    }

    fn grant(
        &self,
        _by: By,
        name: &PluginName,
        capabilities: Option<Capabilities>,
        expected: Option<u64>,
    ) -> Later<Result<PluginStatus, PluginRefused>> {
        let what = capabilities.map_or("all".to_owned(), |given| format!("{:?}", given.0));
        let seen = expected.map_or(String::new(), |revision| format!(" at {revision}"));
        self.answer(format!("grant {name} {what}{seen}"), self.status())
    }

    fn enable(
        &self,
        _by: By,
        name: &PluginName,
        enabled: bool,
    ) -> Later<Result<PluginStatus, PluginRefused>> {
        self.answer(format!("enable {name} {enabled}"), self.status())
    }

    fn roll_back(&self, _by: By, name: &PluginName) -> Later<Result<PluginStatus, PluginRefused>> {
        self.answer(format!("roll back {name}"), self.status())
    }

    fn set(
        &self,
        _by: By,
        name: &PluginName,
        settings: BTreeMap<String, Option<Value>>,
        expected: Option<u64>,
    ) -> Later<Result<PluginStatus, PluginRefused>> {
        let what = format!("set {name} {settings:?} {expected:?}");
        self.answer(what, self.status())
    }

    fn dev(
        &self,
        _by: By,
        name: &PluginName,
        device: DeviceId,
        package: Bytes,
    ) -> Later<Result<PluginRun, PluginRefused>> {
        let what = format!("dev {name} {device} {} bytes", package.len());
        self.answer(what, FakePlugins::run())
    }

    fn renew_dev(&self, name: &PluginName) -> Later<Result<PluginRun, PluginRefused>> {
        self.answer(format!("renew {name}"), FakePlugins::run())
    }

    fn end_dev(&self, name: &PluginName) -> Later<Result<(), PluginRefused>> {
        self.answer(format!("end {name}"), ())
    }

    fn ask(
        &self,
        device: DeviceId,
        questions: Vec<Ask>,
    ) -> Later<Result<Vec<(Ask, Said)>, PluginRefused>> {
        let varbind = Varbind {
            name: "1.3.6.1.2.1.1.5.0".parse().unwrap(),
            value: SnmpValue::Octets(Octets(b"core1".to_vec())),
        };
        let answers = questions.into_iter();
        let answers = answers.map(|ask| (ask, Said::Snmp(vec![varbind.clone()])));
        self.answer(format!("ask {device}"), answers.collect())
    }

    fn try_on(
        &self,
        name: &PluginName,
        device: DeviceId,
    ) -> Later<Result<PluginRun, PluginRefused>> {
        self.answer(format!("try {name} {device}"), FakePlugins::run())
    }

    fn plan(&self, name: &PluginName, alert: Alert) -> Later<Result<PluginRun, PluginRefused>> {
        self.answer(format!("plan {name} {}", alert.id.0), FakePlugins::run())
    }
}

impl Served {
    fn plugins(&self) -> Arc<FakePlugins> {
        self.daemon.plugins.lock().unwrap().clone().unwrap()
    }

    /// What was asked of who looks after the plugins, since the last time.
    fn done(&self) -> Vec<String> {
        std::mem::take(&mut *self.plugins().done.lock().unwrap())
    }

    fn is(&self, kind: &'static str, state: PluginState) {
        *self.plugins().kind.lock().unwrap() = kind;
        *self.plugins().state.lock().unwrap() = state;
    }

    async fn upload(&self, method: &str, path: &str, bytes: usize) -> Answer {
        self.ask(method, path, &[PACKAGE], &vec![7; bytes]).await
    }

    /// Action, object and more of each line that tells of plugins, oldest first.
    async fn noted(&self) -> Vec<(String, String, Value)> {
        let store = self.store.clone();
        let ask = store::AuditAsk::newest(100);
        let read = tokio::task::spawn_blocking(move || store.audit(&ask));
        let lines = read.await.unwrap().unwrap();
        let lines = lines.into_iter().rev();
        let wanted = ["plugin.", "device.ask", "notification.test"];
        lines
            .filter(|line| wanted.iter().any(|start| line.action.starts_with(start)))
            .map(|line| {
                let after = line.after.unwrap_or_default();
                let after = serde_json::from_str(&after).unwrap_or_default();
                (line.action, line.object, after)
            })
            .collect()
    }
}

#[tokio::test]
async fn plugins_are_listed_with_how_they_do() {
    let api = served().await;
    let list = api.get(PATH).await.expect(200);
    let host = json!({
        "enabled": true, "pid": 77, "restarts": 2, "in_flight": 1, "memory_bytes": 1_048_576,
        "not_in_force": ["no landlock"],
    });
    assert_eq!(list["host"], host);
    let plugin = json!({
        "name": "acme-ups", "id": "acme-ups", "version": "1.1.0", "kind": "parser",
        "signer": "acme", "description": "Batteries", "enabled": true,
        "state": "waiting_for_grant", "state_reason": "it asks for more",
        "asks": {"kv": [], "http": ["https://a.example/*"]}, "granted": {"kv": []},
        "missing": ["send requests to https://a.example/*"], "devices": 3,
        "figures": {
            "calls": 10, "failures": {"cpu": 2}, "p50_seconds": 0.0015, "p99_seconds": 0.03,
            "memory_bytes": 65_536, "cpu_seconds": 0.25, "pauses": 1,
            "last_failure": {
                "at": NOW.to_string(), "class": "cpu", "message": "it used 50 ms",
                "place": "main.rhai:8:12", "trace": ["pct() at main.rhai:8:12"], "hint": "do less",
            },
        },
        "updated": NOW.to_string(), "revision": 4,
    });
    assert_eq!(list["items"], json!([plugin]));

    let answer = api.get(&format!("{PATH}/acme-ups")).await;
    assert_eq!(answer.header("etag"), Some("\"4\""));
    let detail = answer.expect(200);
    assert_eq!(detail["current"]["sha256"], "07".repeat(32));
    assert_eq!(detail["previous"]["version"], "1.0.0");
    assert_eq!(detail["waiting"]["version"], "1.2.0");
    assert_eq!(detail["settings"], json!({"webhook": "hook"}));
    assert_eq!(detail["schema"]["volts"]["type"], "integer");
    assert_eq!(detail["asks_in_words"], json!(["keep values"]));
    for missing in ["nobody", "Not-A-Name", "dev.x"] {
        api.get(&format!("{PATH}/{missing}")).await.expect(404);
    }
    let log = api.get(&format!("{PATH}/acme-ups/log")).await.expect(200);
    let line = json!({"at": NOW.to_string(), "level": "warn", "message": "no battery", "fields": {"slot": "2"}});
    assert_eq!(log["items"], json!([line]));
    api.get(&format!("{PATH}/nobody/log")).await.expect(404);
    let bundled = api.get(&format!("{PATH}/bundled")).await.expect(200);
    assert_eq!(bundled["items"][0]["kind"], "notifier");
    assert_eq!(
        bundled["items"][0]["installed"],
        json!([{"name": "slack-noc", "version": "0.9.0"}])
    );
}

#[tokio::test]
async fn a_plugin_is_installed_from_a_package_or_by_its_name() {
    let api = served().await;
    let answer = api.upload("POST", PATH, 1_000).await;
    assert_eq!(answer.header("location"), Some("/api/v1/plugins/acme-ups"));
    assert_eq!(answer.header("etag"), Some("\"4\""));
    let installed = answer.expect(201);
    assert_eq!(installed["state"], "waiting_for_grant");
    assert_eq!(installed["installed"]["version"], "1.1.0");
    let called = format!("{PATH}?name=ups-two");
    api.upload("POST", &called, 1_000).await.expect(201);
    for body in [
        json!({"bundled": "slack"}),
        json!({"bundled": "slack", "name": "slack-noc"}),
    ] {
        api.post(PATH, &body).await.expect(200);
    }
    assert_eq!(
        api.done(),
        [
            "install 1000 bytes as its id",
            "install 1000 bytes as ups-two",
            "install slack as its id",
            "install slack as slack-noc",
        ]
    );
}

#[tokio::test]
async fn a_name_that_none_can_have_is_refused_before_anything_begins() {
    let api = served().await;
    for bad in ["A", "-a", "bundled", "dev", "dev.x", ""] {
        let path = format!("{PATH}?name={bad}");
        let mistakes = api.upload("POST", &path, 10).await.mistakes(400);
        assert_eq!(mistakes[0].0, "name", "{bad}");
        let body = json!({"bundled": "slack", "name": bad});
        let mistakes = api.post(PATH, &body).await.mistakes(422);
        assert_eq!(mistakes[0].0, "/name", "{bad}");
    }
    for (body, place) in [
        (json!({}), "/bundled"),
        (json!({"bundled": "../x"}), "/bundled"),
        (json!({"bundled": "slack", "signed": false}), "/signed"),
    ] {
        let mistakes = api.post(PATH, &body).await.mistakes(422);
        assert_eq!(mistakes[0].0, place, "{body}");
    }
    let both = format!("{PATH}?name=a");
    let body = json!({"bundled": "slack"});
    assert_eq!(api.post(&both, &body).await.mistakes(400)[0].0, "name");
    let text = [("content-type", "text/plain")];
    api.ask("POST", PATH, &text, b"x").await.expect(415);
    let key = [PACKAGE, ("idempotency-key", "k")];
    api.ask("POST", PATH, &key, b"x").await.expect(400);
    assert!(api.done().is_empty());
}

#[tokio::test]
async fn a_package_may_be_as_large_as_it_may_and_not_larger() {
    let api = served().await;
    api.upload("POST", PATH, PACKAGE_BYTES).await.expect(201);
    for (method, path) in [("POST", PATH.to_owned()), ("PUT", dev("1"))] {
        let length = (PACKAGE_BYTES + 1).to_string();
        let headers = [PACKAGE, ("content-length", length.as_str())];
        let answer = api.ask(method, &path, &headers, b"").await;
        answer.expect(413);
    }
    // nothing else is as large
    let large = json!({"bundled": "x".repeat(2 << 20)});
    api.post(PATH, &large).await.expect(413);
    assert_eq!(api.done().len(), 1);
}

fn dev(device: &str) -> String {
    format!("{PATH}/dev/acme-ups?device={device}")
}

#[tokio::test]
async fn every_problem_of_a_package_is_named() {
    let api = served().await;
    let problem = |message: &str, place: Option<Place>, hint: Option<&str>| PluginProblem {
        place,
        message: message.into(),
        hint: hint.map(str::to_owned),
    };
    let place = Place {
        file: "plugin.toml".into(),
        line: 3,
        column: 1,
    };
    *api.plugins().refusal.lock().unwrap() = Some(PluginRefused::Problems(vec![
        problem("kind is missing", Some(place), Some("write parser")),
        problem("nobody trusts the key", None, None),
    ]));
    let answer = api.upload("POST", PATH, 10).await;
    assert_eq!(answer.json()["detail"], "kind is missing");
    let texts: Vec<String> = answer.mistakes(422).into_iter().map(|m| m.1).collect();
    assert_eq!(
        texts,
        [
            "plugin.toml:3:1: kind is missing; write parser",
            "nobody trusts the key"
        ]
    );
    for (refusal, status) in [
        (PluginRefused::NoSuch(name("gone")), 404),
        (PluginRefused::Conflict("it is broken".into()), 409),
        (PluginRefused::Unavailable("the host is away".into()), 503),
        (
            PluginRefused::Store(
                store::Refusal::RevisionMismatch {
                    expected: 1,
                    found: 2,
                }
                .into(),
            ),
            412,
        ),
        (
            PluginRefused::Store(
                store::Refusal::TooMany {
                    what: "plugins",
                    limit: 200,
                }
                .into(),
            ),
            409,
        ),
    ] {
        *api.plugins().refusal.lock().unwrap() = Some(refusal);
        api.post(&format!("{PATH}/acme-ups/enable"), &json!({}))
            .await
            .expect(status);
    }
}

#[tokio::test]
async fn a_plugin_is_switched_rolled_back_and_removed() {
    let api = served().await;
    let own = format!("{PATH}/acme-ups");
    for what in ["enable", "disable", "rollback"] {
        let answer = api.ask("POST", &format!("{own}/{what}"), &[], b"").await;
        assert_eq!(answer.header("etag"), Some("\"4\""));
        assert_eq!(answer.expect(200)["name"], "acme-ups");
        let missing = format!("{PATH}/nobody/{what}");
        api.ask("POST", &missing, &[], b"").await.expect(404);
    }
    api.ask("DELETE", &own, &[], b"").await.expect(428);
    let old = [("if-match", "\"3\"")];
    api.ask("DELETE", &own, &old, b"").await.expect(412);
    api.delete(&own).await.expect(204);
    let whatever = [("if-match", "*")];
    api.ask("DELETE", &own, &whatever, b"").await.expect(204);
    assert_eq!(
        api.done(),
        [
            "enable acme-ups true",
            "enable acme-ups false",
            "roll back acme-ups",
            "remove acme-ups Some(4)",
            "remove acme-ups None",
        ]
    );
}

#[tokio::test]
async fn what_is_granted_is_said_in_full() {
    let api = served().await;
    let path = format!("{PATH}/acme-ups/grant");
    api.post(&path, &json!({"all": true})).await.expect(200);
    let some = json!({"capabilities": {"kv": [], "http": ["https://a.example/*"]}});
    api.post(&path, &some).await.expect(200);
    let more = json!({"capabilities": {"limits": ["memory_mib=128"]}});
    api.post(&path, &more).await.expect(200);
    let nothing = json!({"capabilities": {}});
    api.post(&path, &nothing).await.expect(200);
    let seen = async |tag: &str| {
        let headers = [("content-type", "application/json"), ("if-match", tag)];
        api.ask("POST", &path, &headers, br#"{"all": true}"#).await
    };
    seen("\"4\"").await.expect(200);
    seen("\"3\"").await.expect(412);
    assert_eq!(
        api.done(),
        [
            "grant acme-ups all",
            r#"grant acme-ups {"http": {"https://a.example/*"}, "kv": {}}"#,
            r#"grant acme-ups {"limits": {"memory_mib=128"}}"#,
            "grant acme-ups {}",
            "grant acme-ups all at 4",
        ]
    );
    for (body, place) in [
        (json!({}), "/all"),
        (json!({"all": false}), "/all"),
        (json!({"all": false, "capabilities": {"kv": []}}), "/all"),
        (json!({"all": true, "capabilities": {}}), "/all"),
        (json!({"capabilities": {"root": []}}), "/capabilities/root"),
        (json!({"capabilities": {"http": "*"}}), "/capabilities/http"),
        (
            json!({"capabilities": {"http": [true]}}),
            "/capabilities/http/0",
        ),
        (json!({"capabilities": ["kv"]}), "/capabilities"),
    ] {
        let mistakes = api.post(&path, &body).await.mistakes(422);
        let places: Vec<&str> = mistakes.iter().map(|(place, _)| place.as_str()).collect();
        assert!(places.contains(&place), "{body}: {mistakes:?}");
    }
    assert!(api.done().is_empty());
}

#[tokio::test]
async fn settings_are_changed_by_whoever_saw_them() {
    let api = served().await;
    let path = format!("{PATH}/acme-ups/settings");
    let set = async |body: &str, tag: &str| {
        let headers = [MERGE, ("if-match", tag)];
        api.ask("PATCH", &path, &headers, body.as_bytes()).await
    };
    set(r#"{"volts": 12}"#, "\"4\"").await.expect(200);
    set(r#"{"volts": null}"#, "*").await.expect(200);
    set(r#"{"volts": 12}"#, "\"3\"").await.expect(412);
    let unknown = set(r#"{"volt": 12}"#, "*").await.mistakes(422);
    assert_eq!(unknown[0].0, "/volt");
    assert!(
        unknown[0].1.contains("did you mean \"volts\""),
        "{unknown:?}"
    );
    set("[]", "*").await.expect(422);
    assert_eq!(
        api.done(),
        [
            r#"set acme-ups {"volts": Some(Number(12))} Some(4)"#,
            r#"set acme-ups {"volts": None} None"#,
        ]
    );
}

#[tokio::test]
async fn who_may_not_set_secrets_does_not_say_where_a_plugin_sends_them() {
    let api = served().await;
    api.set_up().await;
    let token = async |permissions: &[Permission]| {
        let all = vec![binding(Role::Admin, None)];
        let name = format!("t{}", permissions.len());
        api.token(new_token(&name, all, permissions)).await
    };
    let (with, without) = (
        token(&[Permission::PluginsWrite, Permission::SecretsWrite]).await,
        token(&[Permission::PluginsWrite]).await,
    );
    let path = format!("{PATH}/acme-ups/settings");
    let body = json!({"volts": 12});
    let set = async |token: &str| api.https_send(Some(token), "PATCH", &path, &body).await;
    set(&without).await.expect(200);
    api.is("notifier", PluginState::Active);
    set(&without).await.expect(403);
    set(&with).await.expect(200);
}

#[tokio::test]
async fn a_plugin_that_is_written_runs_for_one_device_for_a_while() {
    let api = served().await;
    api.enter("ups1", "10.0.0.1").await;
    let run = api.upload("PUT", &dev("ups1"), 500).await.expect(200);
    assert_eq!(
        (&run["device"], &run["at"]),
        (&json!(1), &json!(NOW.to_string()))
    );
    let (good, bad) = (&run["calls"][0], &run["calls"][1]);
    assert_eq!(good["what"], "snmp:a");
    assert!(good["reply"]["output"].is_object(), "{good}");
    assert_eq!(good["failure"], Value::Null);
    assert_eq!(
        (&good["cpu_seconds"], &good["memory_bytes"]),
        (&json!(0.002), &json!(4096))
    );
    assert_eq!(bad["reply"], Value::Null);
    assert_eq!(bad["failure"]["place"], "main.rhai:8:12");
    assert_eq!(bad["log"][0]["fields"]["slot"], "2");
    let own = format!("{PATH}/dev/acme-ups");
    api.ask("POST", &format!("{own}/renew"), &[], b"")
        .await
        .expect(200);
    api.ask("DELETE", &own, &[], b"").await.expect(204);
    assert_eq!(
        api.done(),
        ["dev acme-ups 1 500 bytes", "renew acme-ups", "end acme-ups"]
    );
    let after = json!({"device": 1, "bytes": 500});
    let line = (
        "plugin.dev".to_owned(),
        "plugin:dev.acme-ups".to_owned(),
        after,
    );
    assert_eq!(api.noted().await, [line]);

    api.upload("PUT", &dev("9"), 5).await.expect(404);
    api.upload("PUT", &own, 5).await.expect(400);
    let bad = format!("{PATH}/dev/A?device=1");
    api.upload("PUT", &bad, 5).await.expect(422);
    api.delete("/api/v1/devices/1").await.expect(200);
    api.upload("PUT", &dev("1"), 5).await.expect(409);
    assert!(api.done().is_empty());
}

#[tokio::test]
async fn an_unsigned_plugin_is_for_those_alone_who_may_grant() {
    let api = served().await;
    api.set_up().await;
    api.enter("ups1", "10.0.0.1").await;
    let all = vec![binding(Role::Admin, None)];
    let some = [
        Permission::PluginsWrite,
        Permission::DevicesRead,
        Permission::DevicesPoll,
    ];
    let without = api.token(new_token("a", all.clone(), &some)).await;
    let more = [some.as_slice(), &[Permission::PluginsGrant]].concat();
    let with = api.token(new_token("b", all, &more)).await;
    for (token, status) in [(without, 403), (with, 200)] {
        let path = dev("1");
        let answer = api
            .https(Some(&token), "PUT", &path, &[PACKAGE], b"x")
            .await;
        answer.expect(status);
    }
}

#[tokio::test]
async fn a_device_is_asked_and_its_answers_are_those_of_the_contract() {
    let api = served().await;
    api.enter("ups1", "10.0.0.1").await;
    let path = "/api/v1/devices/ups1/ask";
    let body = json!({
        "get": ["1.3.6.1.2.1.1.5.0", ".1.3.6.1.2.1.1.3.0"], "walk": ["1.3.6.1.2.1.1"],
        "table": ["1.3.6.1.2.1.2.2"],
    });
    let asked = api.post(path, &body).await.expect(200);
    let answers: Vec<(Ask, Said)> = serde_json::from_value(asked["answers"].clone()).unwrap();
    let oid = |text: &str| text.parse().unwrap();
    let questions: Vec<&Ask> = answers.iter().map(|(ask, _)| ask).collect();
    let system = Ask::SnmpWalk(oid("1.3.6.1.2.1.1"));
    let gets = [oid("1.3.6.1.2.1.1.5.0"), oid("1.3.6.1.2.1.1.3.0")];
    assert_eq!(
        questions,
        [
            &Ask::SnmpGet(gets.to_vec()),
            &system,
            &Ask::SnmpTable(oid("1.3.6.1.2.1.2.2"))
        ]
    );
    let noted = api.noted().await;
    assert_eq!(
        (noted[0].0.as_str(), noted[0].1.as_str()),
        ("device.ask", "device:1")
    );
    assert_eq!(
        noted[0].2["questions"][1],
        json!({"snmp_walk": "1.3.6.1.2.1.1"})
    );

    let many = vec!["1.3.6"; 201];
    for (body, place) in [
        (json!({}), ""),
        (json!({"get": []}), ""),
        (json!({"get": ["1.3.x"]}), "/get/0"),
        (json!({"walk": ["1"]}), "/walk/0"),
        (json!({"walk": [""]}), "/walk/0"),
        (json!({"table": "1.3.6"}), "/table"),
        (json!({"get": many}), "/get"),
        (json!({"walk": many[..17]}), "/walk"),
        (json!({"set": ["1.3.6"]}), "/set"),
    ] {
        let mistakes = api.post(path, &body).await.mistakes(422);
        assert_eq!(mistakes[0].0, place, "{body}: {mistakes:?}");
    }
    assert_eq!(api.done(), ["ask 1"]);
}

#[tokio::test]
async fn a_device_is_asked_only_by_who_may_poll_it_and_write_plugins() {
    let api = served().await;
    api.set_up().await;
    api.enter("ups1", "10.0.0.1").await;
    let all = vec![binding(Role::Admin, None)];
    let body = json!({"get": ["1.3.6.1.2.1.1.5.0"]});
    use Permission::{DevicesPoll, DevicesRead, PluginsWrite};
    for (permissions, status) in [
        (&[DevicesRead, PluginsWrite][..], 403),
        (&[DevicesRead, DevicesPoll], 403),
        (&[DevicesRead, DevicesPoll, PluginsWrite], 200),
    ] {
        let token = new_token(
            &format!("t{status}{}", permissions[1].word()),
            all.clone(),
            permissions,
        );
        let token = api.token(token).await;
        let path = "/api/v1/devices/1/ask";
        let answer = api.https_send(Some(&token), "POST", path, &body).await;
        answer.expect(status);
    }
    assert_eq!(api.done(), ["ask 1"]);
}

#[tokio::test]
async fn a_notifier_is_tried_through_the_outbox_and_any_other_on_a_device() {
    let api = served().await;
    api.enter("ups1", "10.0.0.1").await;
    let path = format!("{PATH}/acme-ups/test");
    let on = |device: Value| json!({ "device": device });
    let problem = api.post(&path, &on(json!(1))).await.expect(409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("waiting_for_grant")
    );

    api.is("parser", PluginState::Active);
    for device in [json!(1), json!("ups1"), json!("1")] {
        let tried = api.post(&path, &on(device)).await.expect(200);
        assert_eq!(tried["run"]["calls"][0]["what"], "snmp:a");
        assert_eq!(tried["outbox"], Value::Null);
    }
    assert_eq!(api.done(), ["try acme-ups 1"; 3]);
    api.post(&path, &on(json!(9))).await.expect(404);
    assert_eq!(
        api.post(&path, &json!({})).await.mistakes(422)[0].0,
        "/device"
    );
    assert_eq!(
        api.post(&path, &on(json!([]))).await.mistakes(422)[0].0,
        "/device"
    );

    api.is("notifier", PluginState::Active);
    let tried = api.ask("POST", &path, &[], b"").await.expect(200);
    assert_eq!((&tried["outbox"], &tried["run"]), (&json!(1), &Value::Null));
    let queued = &api.store.outbox_due(NOW, 10)[0];
    let plugin = "acme-ups".to_owned();
    assert_eq!(queued.channel, Channel::Plugin { plugin });
    let shown = api.get("/api/v1/outbox/1").await.expect(200);
    assert_eq!(
        (&shown["channel"], &shown["to"]),
        (&json!("plugin"), &json!("acme-ups"))
    );
    assert_eq!(
        api.post(&path, &on(json!(1))).await.mistakes(422)[0].0,
        "/device"
    );
    api.is("remediation", PluginState::Active);
    api.post(&path, &json!({})).await.expect(409);
    assert!(api.done().is_empty());
    let actions: Vec<String> = api.noted().await.into_iter().map(|line| line.0).collect();
    let test = "plugin.test".to_owned();
    assert_eq!(
        actions,
        [
            test.clone(),
            test.clone(),
            test,
            "notification.test".to_owned()
        ]
    );
}

#[tokio::test]
async fn a_remediation_shows_its_plan_and_nothing_else_happens() {
    let api = served().await;
    let device = api.enter("ups1", "10.0.0.1").await;
    let judgement = store::Judgement {
        alerts: vec![alert(5, device, "ups1", AlertState::Firing)],
        gone: Vec::new(),
        deliveries: Vec::new(),
    };
    api.store.judge(judgement).await.unwrap();
    let path = format!("{PATH}/acme-ups/plan");
    let about = |alert: Value| json!({ "alert": alert });
    api.post(&path, &about(json!(5))).await.expect(409);
    api.is("remediation", PluginState::Active);
    let run = api.post(&path, &about(json!(5))).await.expect(200);
    assert_eq!(run["calls"].as_array().map(Vec::len), Some(2));
    for bad in [json!(9), json!("x"), Value::Null] {
        let mistakes = api.post(&path, &about(bad)).await.mistakes(422);
        assert_eq!(mistakes[0].0, "/alert");
    }
    assert_eq!(api.done(), ["plan acme-ups 5"]);
    let noted = api.noted().await;
    assert_eq!(noted[0].2, json!({"alert": 5}));
    assert_eq!(noted.len(), 1);
}

#[tokio::test]
async fn plugins_are_for_those_alone_who_may_everywhere() {
    let api = served().await;
    api.set_up().await;
    api.tenant("other").await;
    let token = api.role(Role::Admin, Some("other")).await;
    for (method, path) in [
        ("GET", PATH.to_owned()),
        ("POST", PATH.to_owned()),
        ("GET", format!("{PATH}/bundled")),
        ("GET", format!("{PATH}/acme-ups")),
        ("GET", format!("{PATH}/acme-ups/log")),
        ("DELETE", format!("{PATH}/acme-ups")),
        ("POST", format!("{PATH}/acme-ups/enable")),
        ("POST", format!("{PATH}/acme-ups/test")),
        ("PUT", dev("1")),
        ("POST", format!("{PATH}/dev/acme-ups/renew")),
    ] {
        let (headers, body) = match method {
            "POST" if path == PATH => (vec![PACKAGE], &b"x"[..]),
            "PUT" => (vec![PACKAGE], &b"x"[..]),
            _ => (Vec::new(), &b""[..]),
        };
        let answer = api.https(Some(&token), method, &path, &headers, body).await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
    }
    assert!(api.done().is_empty());
}

#[tokio::test]
async fn without_plugins_it_is_said_how_to_get_them() {
    let api = served().await;
    *api.daemon.plugins.lock().unwrap() = None;
    for path in [PATH, "/api/v1/plugins/acme-ups", "/api/v1/plugins/bundled"] {
        let problem = api.get(path).await.expect(409);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("[plugins]"), "{problem}");
    }
}

#[tokio::test]
async fn nobody_has_more_than_one_package_read_at_a_time() {
    let api = served_with(api::Limits {
        request_timeout: Duration::from_secs(4),
        ..limits()
    })
    .await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *api.plugins().holds.lock().unwrap() = Some(gate.clone());
    let first = api.upload("POST", PATH, 10);
    let second = async {
        while api.plugins().done.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let waiting = api.upload("POST", PATH, 10);
        let waited = tokio::time::timeout(Duration::from_millis(200), waiting).await;
        assert!(waited.is_err(), "the place is taken");
        assert_eq!(api.plugins().done.lock().unwrap().len(), 1);
        gate.add_permits(10);
    };
    let (first, ()) = tokio::join!(first, second);
    first.expect(201);
    api.upload("POST", PATH, 10).await.expect(201);
}

#[tokio::test]
async fn what_a_plugin_measures_has_its_unit_and_its_meaning() {
    let api = served().await;
    let device = api.enter("ups1", "10.0.0.1").await;
    let key = |metric: &str| SeriesKey {
        metric: metric.into(),
        labels: Arc::default(),
        kind: MetricKind::Gauge,
    };
    let columns = Columns::new(vec![key("acme_battery_volts"), key("acme_unknown")]);
    let at = NOW.minus(Duration::from_secs(300));
    let poll = report(device, Check::Snmp, at, &Arc::new(columns), &[12.5, 1.0]);
    api.keep(poll).await;
    let items = api.get("/api/v1/devices/1/metrics").await.expect(200)["items"].clone();
    let said = |metric: &str| {
        let items = items.as_array().unwrap();
        let item = items.iter().find(|item| item["metric"] == metric).unwrap();
        (item["unit"].clone(), item["help"].clone())
    };
    let volts = (json!("V"), json!("What the battery gives."));
    assert_eq!(said("acme_battery_volts"), volts);
    assert_eq!(said("acme_unknown"), (json!(""), json!("")));
    let range = "from=-1h&until=now";
    let path = format!("/api/v1/devices/1/metrics/acme_battery_volts?{range}");
    assert_eq!(api.get(&path).await.expect(200)["unit"], "V");
    for (more, unit) in [("", "V"), ("&aggregate=count", ""), ("&across=count", "")] {
        let path = format!("/api/v1/series?selector=acme_battery_volts&from=-1h{more}");
        let answer = api.get(&path).await.expect(200);
        assert_eq!(answer["series"][0]["unit"], unit, "{more}: {answer}");
        assert_eq!(answer["series"][0]["help"], "What the battery gives.");
    }
}
