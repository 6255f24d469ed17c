//! Plugins in the running product: written, recorded, tested, tried, packed,
//! signed, installed, granted, enabled, and their metrics on the screen; and
//! what a bad one can do to the others, which is nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::{Ask, Daemon, Folder, Namespace, Response, Site, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use package::{Package, PrivateKey};
use serde_json::{Value, json};

use crate::terminal::Terminal;
use crate::{DEVICE_DOWN, QUICK, namespace, skipped};

/// A real UPS, as it was recorded; beside the project.
const UPS: &str = "../../shared/data/librenms/apc_smart1500.snmprec";

/// What every agent answers.
const SYSTEM: &str = "[[collect]]\nname = \"system\"\nget = [\"1.3.6.1.2.1.1.3.0\"]\n";

/// A parser that gives one value.
const STEADY: &str = "fn describe() { gauge(\"acme_answer\", \"ratio\", \"The answer\"); }\n\
     fn parse(input) { emit(\"acme_answer\", 42); }\n";

/// A rule that counts how often it was asked, and fires and breaks as it is set to.
const COUNTING: &str = "fn describe() { every(5); }\n\
     fn evaluate(input) {\n\
       let count = (input.state.count ?? 0) + 1;\n\
       set_state(#{count: count});\n\
       if count >= config(\"broken_from\") { throw \"it is broken\"; }\n\
       if count >= config(\"from\") && count < config(\"until\") { firing(\"count\", \"warning\", `it counted ${count}`); }\n\
       else { ok(\"count\"); }\n\
     }\n";

fn recording() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(UPS);
    if path.exists() {
        return Some(path);
    }
    skipped("there are no recordings of devices beside the project");
    None
}

/// Who makes packages that the daemon of a test trusts.
struct Maker {
    key: PrivateKey,
    folder: tempfile::TempDir,
}

impl Maker {
    fn new() -> Maker {
        Maker {
            key: PrivateKey::generate(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn settings(&self) -> String {
        let key = self.key.public().to_text("");
        format!("[plugins]\ntrusted_keys = [\"acme: {}\"]\n", key.trim_end())
    }

    /// A plugin's directory.
    fn write(&self, id: &str, version: &str, kind: &str, more: &str, script: &str) -> PathBuf {
        let folder = self.folder.path().join(format!("{id}-{version}"));
        std::fs::create_dir_all(&folder).unwrap();
        let manifest = format!(
            "[plugin]\nid = \"{id}\"\nversion = \"{version}\"\nkind = \"{kind}\"\napi = \"1.0\"\n\
             description = \"For a test\"\nlicense = \"Apache-2.0\"\nmain = \"main.rhai\"\n{more}"
        );
        std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
        std::fs::write(folder.join("main.rhai"), script).unwrap();
        folder
    }

    fn signed(&self, folder: &Path) -> Vec<u8> {
        let packed = Package::pack(folder, None).unwrap();
        Package::sign(&packed, &self.key).unwrap()
    }

    fn parser(&self, id: &str, version: &str, script: &str) -> Vec<u8> {
        self.signed(&self.write(id, version, "parser", SYSTEM, script))
    }
}

fn install(daemon: &Daemon, package: &[u8], name: &str) -> Response {
    let query = match name {
        "" => String::new(),
        name => format!("?name={name}"),
    };
    let body = Some(("application/octet-stream", package));
    let answer = daemon.try_request("POST", &format!("/api/v1/plugins{query}"), body);
    answer.unwrap()
}

fn act(daemon: &Daemon, name: &str, what: &str) -> Response {
    let path = format!("/api/v1/plugins/{name}/{what}");
    let body = (what == "grant").then_some(("application/json", &b"{\"all\":true}"[..]));
    daemon.try_request("POST", &path, body).unwrap()
}

/// Installs, grants all that it asks for, and enables.
#[track_caller]
fn run(daemon: &Daemon, package: &[u8], name: &str) {
    install(daemon, package, name).expect(&format!("install {name}"));
    act(daemon, name, "grant").expect(&format!("grant {name}"));
    act(daemon, name, "enable").expect(&format!("enable {name}"));
}

fn plugin(daemon: &Daemon, name: &str) -> Value {
    daemon.get(&format!("/api/v1/plugins/{name}"))
}

#[track_caller]
fn set(daemon: &Daemon, name: &str, settings: &Value) -> Response {
    let path = format!("/api/v1/plugins/{name}/settings");
    let text = settings.to_string();
    let body = Some(("application/merge-patch+json", text.as_bytes()));
    daemon.try_request("PATCH", &path, body).unwrap()
}

/// The newest value of a metric of `device`.
fn newest(daemon: &Daemon, device: &str, metric: &str) -> Option<f64> {
    let all = daemon.get(&format!("/api/v1/devices/{device}/metrics"));
    let all = all["items"]
        .as_array()
        .or(all["metrics"].as_array())?
        .clone();
    let found = all
        .iter()
        .find(|one| one["metric"] == metric || one["name"] == metric)?;
    found["value"]
        .as_f64()
        .or(found["series"][0]["value"].as_f64())
}

#[track_caller]
fn until_value(daemon: &Daemon, device: &str, metric: &str, wanted: f64) {
    eventually(30, &format!("{metric} of {device}"), || {
        match newest(daemon, device, metric) {
            Some(value) if (value - wanted).abs() < 1e-9 => Ok(()),
            seen => Err((
                seen,
                daemon.get(&format!("/api/v1/devices/{device}/metrics")),
            )),
        }
    });
}

/// What the last poll of `device` says of `part`.
fn trouble(daemon: &Daemon, device: &str, part: &str) -> Option<String> {
    let device = daemon.get(&format!("/api/v1/devices/{device}"));
    let partial = device["checks"]["snmp"]["partial"].as_array()?.clone();
    let found = partial.iter().find(|one| one["part"] == part)?;
    found["failure"]["text"].as_str().map(str::to_owned)
}

/// A daemon that polls one switch, `sw1`.
struct Scene {
    folder: Folder,
    daemon: Option<Daemon>,
    maker: Maker,
    namespace: Namespace,
    _site: Site,
}

impl Scene {
    fn new() -> Option<Scene> {
        Scene::of(&["--uniform", "1", "--ports", "4"], "sw1")
    }

    fn of(what: &[&str], name: &str) -> Option<Scene> {
        let namespace = namespace()?;
        let folder = Folder::new();
        let site = Site::start(folder.path(), Some(&namespace), what);
        let maker = Maker::new();
        folder.write_rules(DEVICE_DOWN);
        folder.write_settings("", &format!("{QUICK}{}", maker.settings()));
        let daemon = Daemon::start(&folder, Some(&namespace));
        let public = json!({"kind": "snmp-v2c", "community": "public"});
        daemon.ask("PUT", "/api/v1/credentials/public", Some(&public));
        let csv = site.csv("public");
        let address = csv.lines().nth(1).and_then(|line| line.split(',').nth(1));
        daemon.add(&json!({
            "name": name, "address": address.unwrap(),
            "credential": "public", "poll": {"snmp": {"port": 1161}},
        }));
        daemon.until_state(30, name, "up");
        Some(Scene {
            folder,
            daemon: Some(daemon),
            maker,
            namespace,
            _site: site,
        })
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    fn restart(&mut self) {
        assert!(self.daemon.take().unwrap().stop().success());
        self.daemon = Some(Daemon::start(&self.folder, Some(&self.namespace)));
    }

    fn audited(&self, action: &str) -> usize {
        let page = self
            .daemon()
            .get(&format!("/api/v1/audit?action={action}&limit=1000"));
        page["items"].as_array().map_or(0, Vec::len)
    }
}

fn problems(answer: &Response) -> String {
    answer.body.to_string()
}

#[test]
fn who_writes_a_plugin_gets_from_nothing_to_a_metric_on_the_screen() {
    let Some(recording) = recording() else { return };
    let recording = recording.display().to_string();
    let Some(scene) = Scene::of(&["--snmprec", &recording], "ups1") else {
        return;
    };
    let mut terminal = Terminal::new(&scene.folder);
    let socket = format!("--socket {}", scene.folder.socket().display());
    terminal.good("plugin new acme-ups");
    let folder = terminal.home.join("acme-ups");
    let edit = |file: &str, change: &dyn Fn(String) -> String| {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, change(text)).unwrap();
    };
    // this one is an APC, which answers below its own branch
    edit("plugin.toml", &|text| {
        let begin = text
            .split("[match]")
            .next()
            .unwrap()
            .trim_end_matches(|c| c != '"');
        format!(
            "{begin}\n[match]\nsys_object_id = [\"1.3.6.1.4.1.318\"]\n[[collect]]\nname = \"ups\"\n\
             get = [\"1.3.6.1.4.1.318.1.1.1.2.3.1.0\", \"1.3.6.1.4.1.318.1.1.1.4.3.1.0\"]\n"
        )
    });
    edit("main.rhai", &|_| {
        "fn describe() {\n    gauge(\"acme_ups_charge_ratio\", \"ratio\", \"Charge of the battery\");\n}\n\n\
         fn parse(input) {\n    let charge = input.varbinds.int(\"1.3.6.1.4.1.318.1.1.1.2.3.1.0\");\n    \
         emit(\"acme_ups_charge_ratio\", charge / 1000.0);\n}\n"
            .to_owned()
    });
    for case in std::fs::read_dir(folder.join("golden")).unwrap() {
        std::fs::remove_file(case.unwrap().path()).unwrap();
    }
    terminal.good(&format!(
        "{socket} plugin record ups1 --dir acme-ups --name smart"
    ));
    terminal.good("plugin test acme-ups --bless");
    terminal.good("plugin test acme-ups");
    let tried = terminal.good(&format!(
        "{socket} plugin dev acme-ups --device ups1 --once"
    ));
    assert!(tried.contains("acme_ups_charge_ratio"), "{tried}");
    terminal.good("plugin pack acme-ups --file acme-ups.sotp-plugin");
    let (code, said) = terminal.sotp(&format!("{socket} plugin install acme-ups.sotp-plugin"));
    assert_ne!(code, 0);
    assert!(said.contains("not signed"), "{said}");
    terminal.keep("acme.key", &scene.maker.key.to_text());
    terminal.good("plugin key new other.key");
    terminal.good("plugin sign acme-ups.sotp-plugin --key-file acme.key");
    terminal.good(&format!("{socket} plugin install acme-ups.sotp-plugin"));
    terminal.good(&format!("{socket} plugin grant acme-ups --all"));
    terminal.good(&format!("{socket} plugin enable acme-ups"));
    eventually(30, "the metric on the screen", || {
        let (_, said) = terminal.sotp(&format!("{socket} metrics ls ups1"));
        match said
            .lines()
            .find(|line| line.contains("acme_ups_charge_ratio"))
        {
            Some(line) if line.contains("ratio") => Ok(()),
            _ => {
                let from = terminal.transcript.rfind("$ sotp").unwrap();
                terminal.transcript.truncate(from);
                Err(said)
            }
        }
    });
    let listed = terminal.good(&format!("{socket} plugin ls"));
    assert!(
        listed.contains("acme-ups") && listed.contains("active"),
        "{listed}"
    );

    let good = std::fs::read_to_string(folder.join("main.rhai")).unwrap();
    for (from, to, expected) in [
        ("emit(\"acme_ups", "emitt(\"acme_ups", "emit"),
        ("let charge", "loop { }\n    let charge", "main.rhai:6"),
        ("charge / 1000.0", "0.0 / 0.0", "main.rhai:7"),
    ] {
        edit("main.rhai", &|_| good.replace(from, to));
        let (code, said) = terminal.sotp("plugin test acme-ups");
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(expected), "{to}: {said}");
        // a plugin that breaks is not what is expected from now on
        let (code, said) = terminal.sotp("plugin test acme-ups --bless");
        assert_eq!(code, 1, "{said}");
    }
    edit("main.rhai", &|_| good.clone());
    terminal.good("plugin test acme-ups");
    edit("plugin.toml", &|text| {
        format!("{text}[[collect]]\nname = \"other\"\nwalk = \"1.3.6.1.4.1.99999\"\n")
    });
    let tried = terminal.good(&format!(
        "{socket} plugin dev acme-ups --device ups1 --once"
    ));
    assert!(
        tried.contains("acme_ups_charge_ratio") && tried.contains("snmp:other: the device has"),
        "{tried}"
    );
    let _ = writeln!(std::io::stderr(), "{}", terminal.transcript);
}

#[test]
fn what_must_not_be_installed_is_refused_with_a_reason_and_leaves_what_runs() {
    let Some(scene) = Scene::new() else { return };
    let (daemon, maker) = (scene.daemon(), &scene.maker);
    let refused = |package: &[u8], name: &str, why: &str| {
        let answer = install(daemon, package, name);
        assert!(
            (400..500).contains(&answer.status),
            "{why}: {}",
            answer.body
        );
        assert!(problems(&answer).contains(why), "{why}: {}", answer.body);
    };
    let folder = maker.write("steady", "1.1.0", "parser", SYSTEM, STEADY);
    let unsigned = Package::pack(&folder, None).unwrap();
    refused(&unsigned, "", "not signed");
    let stranger = Package::sign(&unsigned, &PrivateKey::generate()).unwrap();
    refused(&stranger, "", "not trusted");
    let whole = maker.signed(&folder);
    let mut tampered = whole.clone();
    let last = tampered.len() - 9;
    tampered[last] ^= 1;
    refused(&tampered, "", "changed after it was made");
    refused(b"no package at all", "", "package");

    run(daemon, &whole, "steady");
    until_value(daemon, "sw1", "acme_answer", 42.0);
    refused(
        &maker.parser("steady", "1.0.0", STEADY),
        "",
        "is newer than 1.0.0",
    );
    refused(
        &maker.parser("other", "2.0.0", STEADY),
        "steady",
        "not other",
    );
    let folder = maker.write("steady", "1.2.0", "parser", SYSTEM, STEADY);
    std::fs::create_dir(folder.join("golden")).unwrap();
    let case = json!({"calls": [{"now": "2026-11-21T12:00:00.000Z", "call": {"parse": {
        "device": {"id": "1", "hostname": "sw1", "address": "192.0.2.1", "vendor": "", "model": "",
                   "os": "", "os_version": "", "attrs": []},
        "source": "snmp:system", "collected_at": "2026-11-21T12:00:00.000Z",
        "payload": {"snmp": [{"name": "1.3.6.1.2.1.1.3.0", "value": {"time_ticks": 7}}]}}},
        "expect": {"Ok": {"output": {"rows": [], "facts": [], "events": [], "warnings": []}}}}]});
    std::fs::write(folder.join("golden/seven.json"), case.to_string()).unwrap();
    refused(&maker.signed(&folder), "", "golden case seven");
    let forbidden = STEADY.replace("\"The answer\"", "\"The answer\", [\"device\"]");
    refused(&maker.parser("steady", "1.3.0", &forbidden), "", "device");
    let built_in = STEADY.replace("acme_answer", "icmp_rtt_seconds");
    refused(
        &maker.parser("steady", "1.3.1", &built_in),
        "",
        "icmp_rtt_seconds",
    );
    assert_eq!(plugin(daemon, "steady")["version"], "1.1.0");
    assert_eq!(scene.audited("plugin.install"), 1);
}

#[test]
fn an_update_that_asks_for_more_waits_while_the_old_one_runs_and_can_be_taken_back() {
    let Some(scene) = Scene::new() else { return };
    let (daemon, maker) = (scene.daemon(), &scene.maker);
    run(daemon, &maker.parser("steady", "1.0.0", STEADY), "steady");
    until_value(daemon, "sw1", "acme_answer", 42.0);
    let more = format!(
        "{SYSTEM}[capabilities]\nkv = true\n[settings.answer]\ntype = \"integer\"\n\
         help = \"What it is\"\nmin = 1\nmax = 100\ndefault = 43\n"
    );
    let script = STEADY.replace("42", "config(\"answer\")");
    let folder = maker.write("steady", "2.0.0", "parser", &more, &script);
    install(daemon, &maker.signed(&folder), "").expect("the update");
    let waits = plugin(daemon, "steady");
    assert_eq!(waits["version"], "1.0.0");
    assert_eq!(waits["waiting"]["version"], "2.0.0");
    assert_eq!(waits["state"], "active", "{waits}");
    act(daemon, "steady", "grant").expect("grant");
    assert_eq!(plugin(daemon, "steady")["version"], "2.0.0");
    until_value(daemon, "sw1", "acme_answer", 43.0);

    for wrong in [
        json!({"answer": 0}),
        json!({"answer": "x"}),
        json!({"other": 1}),
    ] {
        let answer = set(daemon, "steady", &wrong);
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.body);
    }
    set(daemon, "steady", &json!({"answer": 44})).expect("a setting");
    until_value(daemon, "sw1", "acme_answer", 44.0);
    let back = act(daemon, "steady", "rollback");
    back.expect("rollback");
    assert_eq!(plugin(daemon, "steady")["version"], "1.0.0");
    until_value(daemon, "sw1", "acme_answer", 42.0);
    act(daemon, "steady", "disable").expect("disable");
    assert_eq!(plugin(daemon, "steady")["state"], "disabled");
    daemon.ask("DELETE", "/api/v1/plugins/steady", None);
    let gone = daemon.try_request("GET", "/api/v1/plugins/steady", None);
    assert_eq!(gone.unwrap().status, 404);
    for (action, count) in [
        ("plugin.install", 2),
        ("plugin.grant", 2),
        ("plugin.enable", 1),
        ("plugin.set", 1),
        ("plugin.rollback", 1),
        ("plugin.disable", 1),
        ("plugin.remove", 1),
    ] {
        assert_eq!(scene.audited(action), count, "{action}");
    }
}

#[test]
fn a_parser_that_breaks_is_named_and_paused_and_harms_nothing_else() {
    let Some(scene) = Scene::new() else { return };
    let (daemon, maker) = (scene.daemon(), &scene.maker);
    let bad = |body: &str| STEADY.replace("emit(\"acme_answer\", 42);", body);
    run(daemon, &maker.parser("steady", "1.0.0", STEADY), "steady");
    for (name, body) in [
        ("throws", "throw \"on purpose\";"),
        ("loops", "loop { }"),
        ("nan", "emit(\"acme_answer\", 0.0 / 0.0);"),
        (
            "floods",
            "for i in 0..100000 { log_info(`again and again and again`); }",
        ),
    ] {
        let script = bad(body).replace("acme_answer", &format!("acme_{name}"));
        run(daemon, &maker.parser(name, "1.0.0", &script), name);
    }
    for name in ["throws", "loops", "nan"] {
        let part = format!("plugin:{name}");
        eventually(30, &format!("the trouble of {part}"), || {
            let device = daemon.get("/api/v1/devices/sw1");
            trouble(daemon, "sw1", &part).ok_or(device["checks"]["snmp"].clone())
        });
    }
    until_value(daemon, "sw1", "acme_answer", 42.0);
    let device = daemon.get("/api/v1/devices/sw1");
    assert_eq!(device["state"], "up", "{device}");
    assert!(device["checks"]["snmp"]["failure"].is_null(), "{device}");
    assert!(
        device["values"]["uptime_seconds"].is_number() || device["uptime_seconds"].is_number(),
        "{device}"
    );
    let log = daemon.get("/api/v1/plugins/floods/log");
    let lines = log["items"].as_array().map_or(0, Vec::len);
    assert!((1..=1_000).contains(&lines), "{lines} lines are kept");
    assert!(daemon.log().len() < 200_000, "the journal is flooded");

    for name in ["throws", "loops", "nan"] {
        eventually(60, &format!("a pause of {name}"), || {
            let seen = plugin(daemon, name);
            if seen["state"] == "paused" {
                Ok(())
            } else {
                Err(seen)
            }
        });
    }
    let mut terminal = Terminal::new(&scene.folder);
    let listed = terminal.good(&format!(
        "--socket {} plugin ls",
        scene.folder.socket().display()
    ));
    let line = listed.lines().find(|line| line.starts_with("throws"));
    assert!(line.is_some_and(|line| line.contains("paused")), "{listed}");
    let metrics = daemon.try_request("GET", "/metrics", None).unwrap().text();
    assert!(
        metrics.contains("sotp_plugin_paused{plugin=\"throws\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("sotp_plugin_paused{plugin=\"steady\"} 0"),
        "{metrics}"
    );
    until_value(daemon, "sw1", "acme_answer", 42.0);
    assert_eq!(daemon.state("sw1"), "up");
}

#[test]
fn a_plugin_host_that_is_killed_is_back_at_once_and_no_device_is_down() {
    let Some(scene) = Scene::new() else { return };
    let (daemon, maker) = (scene.daemon(), &scene.maker);
    run(daemon, &maker.parser("steady", "1.0.0", STEADY), "steady");
    until_value(daemon, "sw1", "acme_answer", 42.0);
    let host = || daemon.get("/api/v1/plugins")["host"].clone();
    let before = host()["pid"].as_i64().unwrap();
    let calls = || {
        plugin(daemon, "steady")["figures"]["calls"]
            .as_u64()
            .unwrap()
    };
    let called = calls();
    kill(
        Pid::from_raw(i32::try_from(before).unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    let began = Instant::now();
    eventually(5, "another plugin host", || {
        let seen = host();
        match seen["pid"].as_i64() {
            Some(pid) if pid != before => Ok(()),
            _ => Err(seen),
        }
    });
    let took = began.elapsed();
    let _ = writeln!(std::io::stderr(), "the plugin host was back after {took:?}");
    assert_eq!(host()["restarts"], 1);
    eventually(30, "calls of the new host", || {
        let now = calls();
        if now > called { Ok(()) } else { Err(now) }
    });
    until_value(daemon, "sw1", "acme_answer", 42.0);
    eventually(20, "a poll without trouble", || {
        match trouble(daemon, "sw1", "plugin:steady") {
            None => Ok(()),
            some => Err(some),
        }
    });
    assert_eq!(daemon.state("sw1"), "up");
}

#[test]
fn of_two_parsers_that_give_the_same_series_the_one_with_the_lower_order_counts() {
    let Some(scene) = Scene::new() else { return };
    let (daemon, maker) = (scene.daemon(), &scene.maker);
    // `order` stands in [plugin], which is still open there
    let ordered = |id: &str, order: u32, value: &str| {
        let script = STEADY.replace("42", value);
        let more = format!("order = {order}\n{SYSTEM}");
        maker.signed(&maker.write(id, "1.0.0", "parser", &more, &script))
    };
    run(daemon, &ordered("a-later", 200, "1"), "a-later");
    until_value(daemon, "sw1", "acme_answer", 1.0);
    run(daemon, &ordered("b-first", 50, "2"), "b-first");
    until_value(daemon, "sw1", "acme_answer", 2.0);
    act(daemon, "b-first", "disable").expect("disable");
    until_value(daemon, "sw1", "acme_answer", 1.0);
}

/// The manifest of [`COUNTING`].
fn counting(from: u32, until: u32, broken_from: u32) -> String {
    let setting = |name: &str, default: u32| {
        format!("[settings.{name}]\ntype = \"integer\"\nhelp = \"A count\"\ndefault = {default}\n")
    };
    [
        setting("from", from),
        setting("until", until),
        setting("broken_from", broken_from),
    ]
    .concat()
}

#[test]
fn a_rule_of_a_plugin_remembers_over_a_restart_and_resolves_its_alert() {
    let Some(mut scene) = Scene::new() else {
        return;
    };
    let more = counting(1, 1_000, 10_000);
    let folder = scene
        .maker
        .write("counting", "1.0.0", "rule", &more, COUNTING);
    run(scene.daemon(), &scene.maker.signed(&folder), "counting");
    let alert = vec!["sw1: plugin:counting".to_owned()];
    eventually(30, "an alert", || match scene.daemon().alerts("firing") {
        firing if firing == alert => Ok(()),
        other => Err(other),
    });
    // what it would count next
    let counted = |daemon: &Daemon| -> Option<u64> {
        let body = json!({"device": "sw1"});
        let tried = daemon.ask("POST", "/api/v1/plugins/counting/test", Some(&body));
        let tried = tried.to_string();
        let (_, after) = tried.split_once("it counted ")?;
        after.split('"').next()?.parse().ok()
    };
    let before = eventually(40, "it counts on", || match counted(scene.daemon()) {
        Some(count @ 3..) => Ok(count),
        other => Err(other),
    });
    scene.restart();
    eventually(40, "it remembers its count", || {
        match counted(scene.daemon()) {
            Some(count) if count > before => Ok(()),
            other => Err(other),
        }
    });
    assert_eq!(scene.daemon().alerts("firing"), alert);
    set(scene.daemon(), "counting", &json!({"until": 0})).expect("a setting");
    eventually(30, "its end", || {
        let open = scene.daemon().alerts("pending,firing");
        if open.is_empty() { Ok(()) } else { Err(open) }
    });
}

#[test]
fn a_rule_that_breaks_says_so_and_leaves_its_alerts() {
    let Some(scene) = Scene::new() else { return };
    let daemon = scene.daemon();
    let more = counting(1, 1_000, 3);
    let folder = scene
        .maker
        .write("breaking", "1.0.0", "rule", &more, COUNTING);
    run(daemon, &scene.maker.signed(&folder), "breaking");
    let keys = || {
        let page = daemon.get("/api/v1/alerts?state=firing&limit=10");
        let mut keys: Vec<String> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|alert| {
                alert["labels"]["key"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        keys.sort();
        keys
    };
    eventually(60, "both alerts", || match keys() {
        both if both == ["count", "plugin-broken"] => Ok(()),
        other => Err(other),
    });
    set(daemon, "breaking", &json!({"broken_from": 10000})).expect("mended");
    eventually(60, "the end of the alert about itself", || match keys() {
        one if one == ["count"] => Ok(()),
        other => Err(other),
    });
}

/// What was posted: path, headers and body in one text.
struct Hook {
    port: u16,
    posted: mpsc::Receiver<String>,
}

impl Hook {
    /// A server on loopback that is busy for the first `busy` requests.
    fn start(busy: usize) -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (posted, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let mut reader = BufReader::new(stream);
                let mut text = String::new();
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    text.push_str(&line);
                }
                let mut body = vec![0; length];
                let _ = reader.read_exact(&mut body);
                text.push_str(&String::from_utf8_lossy(&body));
                let answer = match number < busy {
                    true => "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n",
                    false => "HTTP/1.1 200 OK\r\n",
                };
                let answer = format!("{answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = reader.get_mut().write_all(answer.as_bytes());
                if posted.send(text).is_err() {
                    return;
                }
            }
        });
        Hook {
            port,
            posted: receiver,
        }
    }

    /// Ends the server: from now on it refuses connections.
    fn end(self) {
        let port = self.port;
        drop(self.posted);
        // it ends with the first request that nobody hears of
        eventually(10, "the end of the server", || {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(mut stream) => Err(stream.write_all(b"GET / HTTP/1.0\r\n\r\n")),
                Err(_refused) => Ok(()),
            }
        });
    }

    fn next(&self, what: &str) -> String {
        let next = self.posted.recv_timeout(Duration::from_secs(60));
        next.unwrap_or_else(|_| panic!("{what}: nothing was posted"))
    }
}

#[test]
fn a_notifier_posts_what_fires_and_what_ends_and_its_secret_stays_one() {
    const TOKEN: &str = "t0ps3cr3t-bearer-value";
    let hook = Hook::start(1);
    let (folder, maker) = (Folder::new(), Maker::new());
    folder.write_rules(DEVICE_DOWN);
    folder.write_settings("", &format!("{QUICK}{}", maker.settings()));
    let daemon = Daemon::start(&folder, None);
    // the one of the repository, but to loopback, which needs no TLS
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/webhook");
    let here = maker.folder.path().join("webhook");
    std::fs::create_dir(&here).unwrap();
    let read = |file: &str| std::fs::read_to_string(original.join(file)).unwrap();
    let to = format!("http://127.0.0.1:{}/", hook.port);
    let manifest = read("plugin.toml").replace("https://*", &format!("{to}*"));
    std::fs::write(here.join("plugin.toml"), manifest).unwrap();
    let script = read("main.rhai").replace("starts_with(\"https://\")", "starts_with(\"http\")");
    std::fs::write(here.join("main.rhai"), script).unwrap();
    let secret = json!({"value": TOKEN});
    daemon.ask("PUT", "/api/v1/secrets/hook-token", Some(&secret));
    let package = maker.signed(&here);
    install(&daemon, &package, "").expect("install");
    let settings = json!({"url": format!("{to}alerts"), "token": "secret://hook-token"});
    set(&daemon, "webhook", &settings).expect("settings");
    act(&daemon, "webhook", "grant").expect("grant");
    act(&daemon, "webhook", "enable").expect("enable");

    // its words look like the place of a secret
    let words = COUNTING.replace("`it counted ${count}`", "\"it says ${secret:token}\"");
    let more = counting(1, 1_000, 10_000);
    let folder = maker.write("counting", "1.0.0", "rule", &more, &words);
    daemon.add(&json!({"name": "here", "address": "127.0.0.1"}));
    run(&daemon, &maker.signed(&folder), "counting");
    let first = hook.next("the alert");
    let second = hook.next("the alert, again after the server was busy");
    for text in [&first, &second] {
        assert!(
            text.to_lowercase().contains("authorization: bearer"),
            "{text}"
        );
        assert_eq!(
            text.matches(TOKEN).count(),
            1,
            "in the header alone: {text}"
        );
        assert!(text.contains("\"phase\":\"opened\""), "{text}");
    }
    assert!(second.contains("it says"), "{second}");
    set(&daemon, "counting", &json!({"until": 0})).expect("its end");
    let third = hook.next("the end");
    assert!(third.contains("\"phase\":\"resolved\""), "{third}");

    for path in [
        "/api/v1/plugins",
        "/api/v1/plugins/webhook",
        "/api/v1/plugins/webhook/log",
        "/api/v1/outbox?limit=100",
        "/api/v1/audit?limit=1000",
        "/api/v1/secrets",
        "/api/v1/status",
        "/metrics",
    ] {
        let seen = daemon.send(&Ask::new("GET", path)).unwrap();
        assert_eq!(seen.status, 200, "{path}: {}", seen.body);
        assert!(!seen.text().contains(TOKEN), "{path} shows the secret");
    }
    assert!(!daemon.log().contains(TOKEN), "the journal has the secret");

    // what waits for a notifier that is removed is given up, and says so
    hook.end();
    set(&daemon, "counting", &json!({"until": 10_000})).expect("an alert again");
    let waiting = |state: &str, why: &str| {
        eventually(30, state, || {
            let outbox = daemon.get(&format!("/api/v1/outbox?state={state}"));
            let items = outbox["items"].as_array().cloned().unwrap_or_default();
            let said = |one: &Value| one["last_error"].to_string().contains(why);
            match items.iter().any(said) {
                true => Ok(()),
                false => Err(outbox),
            }
        });
    };
    waiting("queued", "refused");
    let removed = daemon.try_request("DELETE", "/api/v1/plugins/webhook", None);
    removed.unwrap().expect("remove");
    waiting("parked", "the plugin webhook was removed");
}

#[test]
fn plugins_come_up_after_a_restart_and_from_a_backup() {
    let Some(mut scene) = Scene::new() else {
        return;
    };
    let package = scene.maker.parser("steady", "1.0.0", STEADY);
    run(scene.daemon(), &package, "steady");
    until_value(scene.daemon(), "sw1", "acme_answer", 42.0);
    scene.restart();
    assert_eq!(plugin(scene.daemon(), "steady")["state"], "active");
    eventually(20, "a call", || {
        let seen = plugin(scene.daemon(), "steady");
        if seen["figures"]["calls"].as_u64() > Some(0) {
            Ok(())
        } else {
            Err(seen)
        }
    });

    let mut terminal = Terminal::new(&scene.folder);
    let socket = scene.folder.socket().display().to_string();
    terminal.good(&format!("--socket {socket} backup create box.tar"));
    terminal.good("backup restore box.tar restored");
    assert!(scene.daemon.take().unwrap().stop().success());
    let second = Folder::new();
    std::fs::copy(scene.folder.key(), second.key()).unwrap();
    for entry in std::fs::read_dir(terminal.home.join("restored")).unwrap() {
        let entry = entry.unwrap();
        std::fs::rename(entry.path(), second.path().join(entry.file_name())).unwrap();
    }
    second.write_settings("", &format!("{QUICK}{}", scene.maker.settings()));
    let restored = Daemon::start(&second, Some(&scene.namespace));
    let seen = plugin(&restored, "steady");
    assert_eq!(seen["state"], "active", "{seen}");
    eventually(20, "a call of the restored daemon", || {
        let seen = plugin(&restored, "steady");
        if seen["figures"]["calls"].as_u64() > Some(0) {
            Ok(())
        } else {
            Err(seen)
        }
    });
}

#[test]
fn a_plan_of_a_remediation_is_shown_with_what_would_be_refused() {
    let Some(scene) = Scene::new() else { return };
    let daemon = scene.daemon();
    let dead = json!({"name": "dead", "address": "127.99.0.1"});
    daemon.add(&dead);
    let alert = eventually(30, "an alert", || {
        let page = daemon.get("/api/v1/alerts?state=firing&limit=10");
        page["items"][0]["id"].as_u64().ok_or(page)
    });
    let script = "fn decide(incident, history) {\n\
         run(plan(`see to ${incident.device.hostname}`, \"low\")\n\
           .step(step(incident.device.id, \"fine\", \"shut it\", snmp_set([integer(\"1.3.6.1.2.1.2.2.1.7.1\", 2)])))\n\
           .step(step(incident.device.id, \"more\", \"rename it\", snmp_set([integer(\"1.3.6.1.2.1.1.5.0\", 2)]))))\n}\n";
    let more = "[capabilities]\nsnmp_set = [\"1.3.6.1.2.1.2.2.1.7\"]\n";
    let folder = scene
        .maker
        .write("mender", "1.0.0", "remediation", more, script);
    run(daemon, &scene.maker.signed(&folder), "mender");
    let mut terminal = Terminal::new(&scene.folder);
    let socket = scene.folder.socket().display().to_string();
    let shown = terminal.good(&format!("--socket {socket} plugin plan mender {alert}"));
    assert!(
        shown.contains("shut it") && shown.contains("rename it"),
        "{shown}"
    );
    assert!(shown.contains("more would be refused"), "{shown}");
    assert!(!shown.contains("fine would be refused"), "{shown}");
    assert!(shown.contains("dry run"), "{shown}");
    assert_eq!(scene.audited("plugin.plan"), 1);
}
