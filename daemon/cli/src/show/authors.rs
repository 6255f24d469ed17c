//! `sotp plugin …` of who writes plugins.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use author::{Language, Painter};
use contract::{Answer, Ask, Call, Failure, Kind, ParserInput, Payload};
use package::{
    CaseEnd, CollectWhat, Golden, GoldenCall, Manifest, Package, PrivateKey, Problem, PublicKey,
};
use serde_json::{Value, json};

use crate::client::{Client, segment};
use crate::command::{KindOfPlugin, Lang, Plugin, PluginKey, PluginRecord, PluginTest};
use crate::error::Trouble;
use crate::input;
use crate::output::{Output, safe, talk};
use crate::part::Part;

use super::plugins::PATH;
use super::text::text;

/// Between two looks at a directory that is watched.
const LOOK: Duration = Duration::from_millis(100);

/// A trial is renewed this often; it lasts a minute.
const RENEW: Duration = Duration::from_secs(20);

/// Files of a directory that are watched.
const WATCHED: usize = 5_000;

/// The largest package, as it is read here.
const PACKAGE_BYTES: u64 = 40 << 20;

/// Whether `words` are carried out without a daemon.
pub(super) fn is_local(words: &Plugin) -> bool {
    matches!(
        words,
        Plugin::New { .. }
            | Plugin::Test(_)
            | Plugin::Lint { .. }
            | Plugin::Pack { .. }
            | Plugin::Key(_)
            | Plugin::Sign { .. }
            | Plugin::Verify { .. }
            | Plugin::Reference
    )
}

pub(super) async fn run(words: &Plugin, output: &Output) -> Result<ExitCode, Trouble> {
    match words {
        Plugin::New {
            id,
            lang,
            kind,
            dir,
        } => begin(id, *kind, *lang, dir.as_deref()).map(|()| done(true)),
        Plugin::Test(asked) => test(asked, output).await.map(done),
        Plugin::Lint { dir } => lint(dir, output).await.map(done),
        Plugin::Pack {
            dir,
            file,
            wasm,
            no_test,
        } => {
            let package = match wasm {
                Some(module) => {
                    author::with_module(dir, module).map_err(|list| not_built(&list, dir, output))
                }
                None => built(dir, true, output).await,
            };
            pack(dir, package?, file.as_deref(), *no_test, output)
                .await
                .map(done)
        }
        Plugin::Key(words) => key(words, output).map(|()| done(true)),
        Plugin::Sign { package, key_file } => sign(package, key_file).await.map(|()| done(true)),
        Plugin::Verify { package, key } => verify(package, key.as_deref(), output)
            .await
            .map(|()| done(true)),
        Plugin::Reference => output
            .raw(author::reference().as_bytes())
            .map(|()| done(true)),
        _with_a_daemon => Ok(done(true)),
    }
}

fn done(well: bool) -> ExitCode {
    match well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    }
}

fn painter(output: &Output) -> Painter {
    Painter {
        colours: output.has_colours(),
    }
}

/// A problem as the error of a whole command.
fn failed(problem: Problem) -> Trouble {
    let hint = problem
        .hint
        .map(|hint| format!("\nhint: {hint}"))
        .unwrap_or_default();
    Trouble::Partly(format!("{}{hint}", problem.message))
}

fn begin(id: &str, kind: KindOfPlugin, lang: Lang, dir: Option<&Path>) -> Result<(), Trouble> {
    let language = match lang {
        Lang::Rhai => Language::Rhai,
        Lang::Rust => Language::Rust,
    };
    let kind = match kind {
        KindOfPlugin::Parser => Kind::Parser,
        KindOfPlugin::Poller => Kind::Poller,
        KindOfPlugin::Rule => Kind::Rule,
        KindOfPlugin::Notifier => Kind::Notifier,
        KindOfPlugin::Remediation => Kind::Remediation,
    };
    let folder = dir.map_or_else(|| PathBuf::from(id), Path::to_owned);
    let started = author::start(id, kind, language, &folder).map_err(failed)?;
    for file in &started.files {
        talk(&format!("  {}", file.display()));
    }
    talk(&format!(
        "next: cd {}; sotp plugin test --watch",
        started.folder.display()
    ));
    Ok(())
}

/// What is printed about one run of the tests, and whether it is green.
struct Shown {
    text: String,
    green: bool,
}

fn problems(list: &[Problem], folder: &Path, painter: Painter) -> Shown {
    let text = list
        .iter()
        .map(|p| author::problem(p, folder, painter))
        .collect();
    Shown { text, green: false }
}

/// Builds the plugin and runs its cases; blocks.
fn test_once(folder: &Path, case: Option<&str>, bless: bool, painter: Painter) -> Shown {
    let built = match author::build(folder, false) {
        Ok(built) => built,
        Err(list) => return problems(&list, folder, painter),
    };
    let wanted = |name: &str| case.is_none_or(|case| case == name);
    let report = match author::run(&built.package, &wanted) {
        Ok(report) => report,
        Err(fault) => {
            return Shown {
                text: author::fault(&fault, folder, painter),
                green: false,
            };
        }
    };
    let mut text = String::new();
    let mut green = !report.cases.is_empty();
    if report.cases.is_empty() {
        text.push_str("no golden case: record one with `sotp plugin record DEVICE`\n");
    }
    for case in &report.cases {
        let golden = built
            .package
            .golden
            .iter()
            .find(|golden| golden.name == case.name);
        // that it breaks is nothing to be kept
        let is_written = bless && !case.is_good() && case.problems.is_empty() && !case.is_broken();
        if let Some(golden) = golden.filter(|_| is_written) {
            let blessed = author::bless(golden, case);
            let path = folder.join("golden").join(format!("{}.json", case.name));
            match std::fs::write(&path, blessed.to_json()) {
                Ok(()) => {
                    let _ = writeln!(text, "{} {}", painter.strong("blessed"), case.name);
                }
                Err(error) => {
                    green = false;
                    let _ = writeln!(text, "{} cannot be written: {error}", path.display());
                }
            }
            continue;
        }
        green &= case.is_good();
        let word = match case.is_good() {
            true => painter.good("ok"),
            false => painter.bad("FAILED"),
        };
        let spent = Duration::from_nanos(case.usage.cpu_ns);
        let _ = writeln!(
            text,
            "{word} {} {}",
            case.name,
            painter.dim(&format!("({spent:.1?} of CPU)"))
        );
        for problem in &case.problems {
            text.push_str(&author::problem(problem, folder, painter));
        }
        for end in &case.ends {
            text.push_str(&ended(end, folder, painter));
        }
        if !case.is_good() {
            for line in &case.log {
                let _ = writeln!(text, "  log {:?}: {}", line.level, safe(&line.message));
            }
        }
    }
    let cases = report.cases.len();
    let summary = match (green, cases) {
        (true, 1) => painter.good("1 case is green"),
        (true, _) => painter.good(&format!("{cases} cases are green")),
        (false, _) => painter.bad("not green"),
    };
    let _ = writeln!(text, "{summary} in {:.0?}", report.took);
    Shown { text, green }
}

fn ended(end: &CaseEnd, folder: &Path, painter: Painter) -> String {
    match end {
        CaseEnd::Passed => String::new(),
        CaseEnd::Differs {
            call,
            expected,
            came,
        } => {
            let mut text = format!("  call {}: expected (-) and what came (+)\n", call + 1);
            if let Err(Failure::Fault(fault)) = came {
                text.push_str(&author::fault(fault, folder, painter));
            } else {
                text.push_str(&author::difference(expected, came, painter));
            }
            text
        }
        CaseEnd::New { call, came } => {
            if let Err(Failure::Fault(fault)) = came {
                return author::fault(fault, folder, painter);
            }
            let came = serde_json::to_string_pretty(came).unwrap_or_default();
            format!(
                "  call {}: nobody said what is expected; this came (`--bless` keeps it):\n{}\n",
                call + 1,
                painter.good(&safe_lines(&came))
            )
        }
    }
}

fn safe_lines(text: &str) -> String {
    let lines = text.lines().map(safe);
    lines.collect::<Vec<_>>().join("\n")
}

async fn test(asked: &PluginTest, output: &Output) -> Result<bool, Trouble> {
    let painter = painter(output);
    let mut seen = None;
    loop {
        if seen.as_ref() != Some(&snapshot(&asked.dir)) {
            let (folder, case, bless) = (asked.dir.clone(), asked.case.clone(), asked.bless);
            let shown = tokio::task::spawn_blocking(move || {
                test_once(&folder, case.as_deref(), bless, painter)
            });
            let shown = shown.await.map_err(|_panicked| {
                Trouble::Garbled("testing ended by a defect of sotp".to_owned())
            })?;
            output.raw(shown.text.as_bytes())?;
            if !asked.watch {
                return Ok(shown.green);
            }
            // a build may have touched files
            seen = Some(snapshot(&asked.dir));
            talk("waiting for a change; Ctrl-C ends");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What the files of a directory looked like, without what is built in it.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.is_dir() && name != "target" && name != "vendor" && name != ".git" {
                folders.push(entry.path());
            } else if about.is_file() && files.len() < WATCHED {
                let when = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.insert(entry.path(), (when, about.len()));
            }
        }
    }
    files
}

async fn lint(dir: &Path, output: &Output) -> Result<bool, Trouble> {
    let painter = painter(output);
    let folder = dir.to_owned();
    let shown = tokio::task::spawn_blocking(move || match author::build(&folder, false) {
        Err(list) => problems(&list, &folder, painter),
        Ok(built) => match author::described(&built.package) {
            Err(Failure::Fault(fault)) => Shown {
                text: author::fault(&fault, &folder, painter),
                green: false,
            },
            Err(said) => Shown {
                text: format!("error: it does not describe itself: {said}\n"),
                green: false,
            },
            Ok(described) => {
                let remarks = author::lint(&built.package, Some(&described));
                let mut shown = problems(&remarks, &folder, painter);
                shown.text = shown.text.replace("error", "remark");
                shown.green = remarks.is_empty();
                shown
            }
        },
    });
    let shown = shown
        .await
        .map_err(|_panicked| Trouble::Garbled("a defect of sotp".to_owned()))?;
    output.raw(shown.text.as_bytes())?;
    if shown.green {
        talk("nothing to say against it");
    }
    Ok(shown.green)
}

/// Builds a plugin; what is wrong with it is printed.
async fn built(dir: &Path, release: bool, output: &Output) -> Result<Package, Trouble> {
    let folder = dir.to_owned();
    let built = tokio::task::spawn_blocking(move || author::build(&folder, release));
    let built = built
        .await
        .map_err(|_panicked| Trouble::Garbled("a defect of sotp".to_owned()))?;
    match built {
        Ok(built) => Ok(built.package),
        Err(list) => Err(not_built(&list, dir, output)),
    }
}

fn not_built(list: &[Problem], dir: &Path, output: &Output) -> Trouble {
    let text = problems(list, dir, painter(output)).text;
    match output.raw(text.as_bytes()) {
        Ok(()) => Trouble::Partly("the plugin cannot be built".to_owned()),
        Err(trouble) => trouble,
    }
}

fn packed(dir: &Path, package: &Package) -> Result<Vec<u8>, Trouble> {
    let code = (!package.manifest.is_script()).then_some(package.code.as_slice());
    let packed = Package::pack(dir, code);
    packed.map_err(|list| {
        let painter = Painter { colours: false };
        Trouble::Partly(problems(&list, dir, painter).text)
    })
}

async fn pack(
    dir: &Path,
    package: Package,
    file: Option<&Path>,
    no_test: bool,
    output: &Output,
) -> Result<bool, Trouble> {
    if !no_test {
        let (folder, painter) = (dir.to_owned(), painter(output));
        let own = package.clone();
        let wrong = tokio::task::spawn_blocking(move || match author::run(&own, &|_| true) {
            Err(fault) => Some(author::fault(&fault, &folder, painter)),
            Ok(report) => {
                let bad = report.cases.iter().filter(|case| !case.is_good());
                let names: Vec<&str> = bad.map(|case| case.name.as_str()).collect();
                let text = format!("these cases are not green: {}\n", names.join(", "));
                (!names.is_empty()).then_some(text)
            }
        });
        let wrong = wrong
            .await
            .map_err(|_panicked| Trouble::Garbled("a defect of sotp".to_owned()))?;
        if let Some(wrong) = wrong {
            output.raw(wrong.as_bytes())?;
            talk("it is not packed; sotp plugin test shows what is wrong");
            return Ok(false);
        }
    }
    let bytes = packed(dir, &package)?;
    let name = format!(
        "{}-{}.sotp-plugin",
        package.manifest.id, package.manifest.version
    );
    let file = file.map_or_else(|| PathBuf::from(&name), Path::to_owned);
    write(&file, &bytes)?;
    talk(&format!(
        "{} ({} bytes); next: sotp plugin sign {} --key-file FILE",
        file.display(),
        bytes.len(),
        file.display()
    ));
    Ok(true)
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let mut part = Part::begin(file, 0o644)?;
    part.write(bytes)?;
    part.finish()
}

fn key(words: &PluginKey, output: &Output) -> Result<(), Trouble> {
    let key = match words {
        PluginKey::New { file } => {
            let key = PrivateKey::generate();
            key.create_file(file).map_err(failed)?;
            talk(&format!(
                "{} is yours alone; keep a copy where it is safe",
                file.display()
            ));
            key
        }
        PluginKey::Show { file } => PrivateKey::read_file(file).map_err(failed)?,
    };
    output.line(&key.public().to_text(""))?;
    if matches!(words, PluginKey::New { .. }) {
        talk("whoever trusts it adds it to the settings of sotpd, with a name:");
        talk(&format!(
            "  [plugins]\n  trusted_keys = [\"NAME: {}\"]",
            key.public().to_text("").trim()
        ));
    }
    Ok(())
}

async fn sign(package: &Path, key_file: &Path) -> Result<(), Trouble> {
    let key = PrivateKey::read_file(key_file).map_err(failed)?;
    let bytes = input::read(package, PACKAGE_BYTES).await?;
    let signed = Package::sign(&bytes, &key).map_err(failed)?;
    write(package, &signed)?;
    talk(&format!(
        "{} is signed with {}",
        package.display(),
        key.public().id()
    ));
    Ok(())
}

async fn verify(package: &Path, key: Option<&str>, output: &Output) -> Result<(), Trouble> {
    let bytes = input::read(package, PACKAGE_BYTES).await?;
    let read = Package::read(&bytes).map_err(failed)?;
    let signed_with = Package::signed_with(&bytes).map_err(failed)?;
    if let Some(key) = key {
        let (key, _comment) = PublicKey::parse(key).map_err(failed)?;
        Package::signer(&bytes, &[("this key".to_owned(), key)]).map_err(failed)?;
    }
    let digest: String = read
        .digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let manifest = &read.manifest;
    let facts = json!({
        "id": manifest.id,
        "version": manifest.version,
        "kind": manifest.kind.word(),
        "signed_with": signed_with,
        "sha256": digest,
        "asks": package::in_plain_words(&manifest.asks),
        "golden": read.golden.len(),
    });
    output.item(
        &facts,
        &[
            ("id", text(&facts, "/id")),
            ("version", text(&facts, "/version")),
            ("kind", text(&facts, "/kind")),
            (
                "signed with",
                signed_with.unwrap_or_else(|| "nothing".to_owned()),
            ),
            ("sha256", digest.clone()),
            (
                "asks to",
                package::in_plain_words(&manifest.asks).join("; "),
            ),
            ("golden cases", text(&facts, "/golden")),
        ],
    )?;
    match key {
        Some(_) => talk("the package is whole, and signed with this key"),
        None => talk("the package is whole; whose key it is says --key"),
    }
    Ok(())
}

// --- with a daemon

/// The device that `asked` names: by name, number or address.
async fn device(client: &Client, asked: &str) -> Result<Value, Trouble> {
    match client
        .get(&format!("/api/v1/devices/{}", segment(asked)))
        .await
    {
        Err(trouble) if trouble.status() == Some(404) => {}
        other => return Ok(other?.body),
    }
    let path = format!("/api/v1/devices?search={}", segment(asked));
    let found = super::all(client, &path, 100).await?;
    let same = found
        .into_iter()
        .find(|device| text(device, "/address") == asked);
    same.ok_or_else(|| {
        Trouble::refused(
            404,
            format!(
                "no device has the name, number or address {asked}: sotp devices add enters one"
            ),
        )
    })
}

pub(super) async fn record(asked: &PluginRecord, client: &Client) -> Result<(), Trouble> {
    let manifest = std::fs::read_to_string(asked.dir.join("plugin.toml"));
    let manifest = manifest.map_err(|source| {
        Trouble::local(format!("read {}/plugin.toml", asked.dir.display()), source)
    })?;
    let manifest = Manifest::parse("plugin.toml", &manifest);
    let manifest = manifest.map_err(|list| {
        let painter = Painter { colours: false };
        Trouble::Partly(problems(&list, &asked.dir, painter).text)
    })?;
    if manifest.collect.is_empty() {
        return Err(Trouble::Usage(
            "plugin.toml has no [[collect]], so there is nothing to record".to_owned(),
        ));
    }
    let device = device(client, &asked.device).await?;
    let seen = contract::Device {
        id: text(&device, "/id"),
        hostname: text(&device, "/name"),
        address: text(&device, "/address"),
        vendor: text(&device, "/facts/vendor"),
        model: text(&device, "/facts/sys_object_id"),
        os: text(&device, "/facts/sys_descr"),
        os_version: String::new(),
        attrs: [("kind", "/kind"), ("sys_object_id", "/facts/sys_object_id")]
            .map(|(name, pointer)| (name.to_owned(), text(&device, pointer)))
            .to_vec(),
    };
    let mut calls = Vec::new();
    for collect in &manifest.collect {
        let (kind, oids) = match &collect.what {
            CollectWhat::Get(oids) => ("get", oids.clone()),
            CollectWhat::Walk(oid) => ("walk", vec![oid.clone()]),
            CollectWhat::Table(oid) => ("table", vec![oid.clone()]),
            CollectWhat::BuiltIn(name) => match package::built_in_table(name) {
                Some(oid) => ("table", vec![oid]),
                None => continue,
            },
        };
        let path = format!("/api/v1/devices/{}/ask", segment(&seen.id));
        let body = json!({ kind: oids });
        let answer = client.post_for_secret(&path, &body).await?.body;
        let at = answer.get("at").cloned().unwrap_or_default();
        let answers = answer.get("answers").cloned().unwrap_or_default();
        let answers: Vec<(Ask, Answer)> = serde_json::from_value(answers)
            .map_err(|error| Trouble::Garbled(format!("{path}: {error}")))?;
        let now: contract::Nanos = serde_json::from_value(at)
            .map_err(|error| Trouble::Garbled(format!("{path}: {error}")))?;
        for (_, answer) in answers {
            let payload = match answer {
                Answer::Snmp(varbinds) if !varbinds.is_empty() => Payload::Snmp(varbinds),
                Answer::SnmpTable(table) if !table.indexes.is_empty() => Payload::SnmpTable(table),
                Answer::Error(why) => {
                    talk(&format!("{}: {}", collect.name, safe(&why)));
                    continue;
                }
                _ => {
                    talk(&format!("{}: the device does not have it", collect.name));
                    continue;
                }
            };
            calls.push(GoldenCall {
                now,
                call: Call::Parse(ParserInput {
                    device: seen.clone(),
                    source: format!("snmp:{}", collect.name),
                    collected_at: now,
                    payload,
                }),
                expect: None,
            });
        }
    }
    if calls.is_empty() {
        return Err(Trouble::Partly(format!(
            "{} answered nothing of what plugin.toml wants",
            asked.device
        )));
    }
    let name = asked
        .name
        .clone()
        .unwrap_or_else(|| format!("device-{}", seen.id));
    let mut case = Golden {
        name: name.clone(),
        calls,
        settings: BTreeMap::new(),
        host: Vec::new(),
    };
    if !asked.unmasked {
        let masked = author::mask(&mut case);
        for (kind, count) in masked.values {
            talk(&format!("  masked {count} different {kind}"));
        }
    }
    let folder = asked.dir.join("golden");
    std::fs::create_dir_all(&folder)
        .map_err(|source| Trouble::local(format!("make {}", folder.display()), source))?;
    let file = folder.join(format!("{name}.json"));
    if file.exists() {
        return Err(Trouble::NotNow(format!(
            "{} is there already: give another --name",
            file.display()
        )));
    }
    // read back, so that a name that is none is noticed now
    Golden::parse(&name, &case.to_json()).map_err(failed)?;
    write(&file, case.to_json().as_bytes())?;
    talk(&format!(
        "{}; look at it before you share it. Next: sotp plugin test",
        file.display()
    ));
    Ok(())
}

pub(super) async fn dev(
    dir: &Path,
    asked: &str,
    once: bool,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let device = device(client, asked).await?;
    let id = text(&device, "/id");
    let mut name = None;
    let tried = try_changes(dir, &id, once, &mut name, client, output);
    let ended = tokio::select! {
        ended = tried => ended,
        _interrupted = tokio::signal::ctrl_c() => Ok(()),
    };
    if let Some(name) = name {
        // it ends by itself within a minute if nobody is there to be told
        let path = format!("{PATH}/dev/{}", segment(&name));
        let _ = client.delete(&path, crate::client::If::Always).await;
    }
    ended
}

async fn try_changes(
    dir: &Path,
    device: &str,
    once: bool,
    name: &mut Option<String>,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let mut seen = None;
    let mut quiet = Duration::ZERO;
    loop {
        let now = snapshot(dir);
        if seen.as_ref() != Some(&now) {
            let package = built(dir, false, output).await;
            seen = Some(snapshot(dir));
            let sent = match package {
                Ok(package) => send(dir, &package, device, name, client, output).await,
                Err(trouble) => Err(trouble),
            };
            match sent {
                Err(trouble) if once => return Err(trouble),
                Err(trouble @ (Trouble::Partly(_) | Trouble::Refused { .. })) => {
                    crate::output::complain(&trouble);
                }
                other => other?,
            }
            if once {
                return Ok(());
            }
            talk("it runs for this device; waiting for a change, Ctrl-C ends");
            quiet = Duration::ZERO;
        }
        tokio::time::sleep(LOOK).await;
        quiet += LOOK;
        if quiet >= RENEW
            && let Some(name) = name.as_deref()
        {
            let path = format!("{PATH}/dev/{}/renew", segment(name));
            quiet = Duration::ZERO;
            match client.post_for_secret(&path, &json!({})).await {
                // its minute was over, or the daemon was started again
                Err(trouble) if trouble.status() == Some(404) => seen = None,
                Err(trouble @ Trouble::Refused { .. }) if !once => {
                    crate::output::complain(&trouble);
                }
                other => {
                    other?;
                }
            }
        }
    }
}

async fn send(
    dir: &Path,
    package: &Package,
    device: &str,
    name: &mut Option<String>,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let bytes = packed(dir, package)?;
    let id = package.manifest.id.clone();
    let path = format!("{PATH}/dev/{}?device={}", segment(&id), segment(device));
    let run = client.put_bytes(&path, bytes).await?.body;
    *name = Some(id);
    let metrics = metrics_of(package).await;
    let shown = show_run(&run, Some(dir), &metrics, output);
    for source in not_there(&package.manifest, &run) {
        talk(&format!(
            "{source}: the device has nothing there, so the plugin was not called for it"
        ));
    }
    shown
}

/// What a parser is called for, and was not.
fn not_there(manifest: &Manifest, run: &Value) -> Vec<String> {
    let calls = run.get("calls").and_then(Value::as_array);
    let called = |source: &str| {
        let mut calls = calls.into_iter().flatten();
        calls.any(|call| text(call, "/what") == source)
    };
    let sources = manifest.collect.iter();
    let sources = sources.map(|collect| format!("snmp:{}", collect.name));
    sources
        .filter(|source| manifest.kind == Kind::Parser && !called(source))
        .collect()
}

/// The names of the metrics that a plugin says it measures; none if it does not
/// say so here.
async fn metrics_of(package: &Package) -> Vec<String> {
    let package = package.clone();
    let described = tokio::task::spawn_blocking(move || author::described(&package));
    match described.await {
        Ok(Ok(contract::Reply::Metrics(described))) => {
            let names = described.metrics.into_iter().map(|metric| metric.name);
            names.collect()
        }
        _ => Vec::new(),
    }
}

/// What calls by hand came to: rows as lines, a failure as its author wants it.
/// `metrics` are named in the plugin's order.
pub(super) fn show_run(
    run: &Value,
    dir: Option<&Path>,
    metrics: &[String],
    output: &Output,
) -> Result<(), Trouble> {
    if output.is_json() {
        return output.document(run);
    }
    let painter = painter(output);
    let calls = run.get("calls").and_then(Value::as_array);
    let mut broken = false;
    for call in calls.into_iter().flatten() {
        let seconds = call
            .get("cpu_seconds")
            .and_then(Value::as_f64)
            .unwrap_or_default();
        let spent = painter.dim(&format!("({:.2} ms of CPU)", seconds * 1e3));
        output.line(&format!(
            "{} {spent}",
            painter.strong(&safe(&text(call, "/what")))
        ))?;
        if let Some(failure) = call.get("failure").filter(|failure| !failure.is_null()) {
            broken = true;
            let fault = fault_of(failure);
            let folder = dir.unwrap_or(Path::new("/nonexistent"));
            output.raw(author::fault(&fault, folder, painter).as_bytes())?;
        }
        if let Some(reply) = call.get("reply").filter(|reply| !reply.is_null()) {
            for line in rows(reply, metrics) {
                output.line(&safe(&line))?;
            }
        }
        let log = call.get("log").and_then(Value::as_array);
        for line in log.into_iter().flatten() {
            talk(&format!(
                "  log {}: {}",
                text(line, "/level"),
                safe(&text(line, "/message"))
            ));
        }
    }
    match broken {
        true => Err(Trouble::Partly("the plugin failed".to_owned())),
        false => Ok(()),
    }
}

fn fault_of(failure: &Value) -> contract::Fault {
    let message = format!("{}: {}", text(failure, "/class"), text(failure, "/message"));
    let mut fault = contract::Fault::new(contract::FaultClass::Trap, message);
    let place = text(failure, "/place");
    let mut parts = place.rsplitn(3, ':');
    let numbers = (parts.next(), parts.next(), parts.next());
    if let (Some(last), Some(middle), Some(file)) = numbers
        && let (Ok(column), Ok(line)) = (last.parse(), middle.parse())
    {
        fault.place = Some(contract::Place {
            file: file.to_owned(),
            line,
            column,
        });
    } else if let Some((file, line)) = place.rsplit_once(':')
        && let Ok(line) = line.parse()
    {
        fault.place = Some(contract::Place {
            file: file.to_owned(),
            line,
            column: 0,
        });
    }
    let trace = failure.get("trace").and_then(Value::as_array);
    let trace = trace.into_iter().flatten().filter_map(Value::as_str);
    fault.trace = trace.map(str::to_owned).collect();
    fault.hint = failure
        .get("hint")
        .and_then(Value::as_str)
        .map(str::to_owned);
    fault
}

/// A reply in lines: one per value, with the name of its metric where that is
/// known.
fn rows(reply: &Value, metrics: &[String]) -> Vec<String> {
    let output = reply.get("output").or_else(|| reply.pointer("/next/done"));
    let Some(output) = output else {
        let pretty = serde_json::to_string_pretty(reply).unwrap_or_default();
        return pretty.lines().map(str::to_owned).collect();
    };
    let mut lines = Vec::new();
    for row in output
        .get("rows")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let labels = row.get("labels").and_then(Value::as_array);
        let labels = labels.into_iter().flatten().map(Value::to_string);
        let labels = labels.collect::<Vec<_>>().join(", ");
        let values = row.get("values").and_then(Value::as_array);
        for value in values.into_iter().flatten() {
            let place = value.get(0).and_then(Value::as_u64).unwrap_or_default();
            let name = usize::try_from(place).ok().and_then(|at| metrics.get(at));
            let name = name.cloned().unwrap_or_else(|| format!("#{place}"));
            let number = value.get(1).map(Value::to_string).unwrap_or_default();
            lines.push(match labels.as_str() {
                "" => format!("  {name} {number}"),
                labels => format!("  {name}{{{labels}}} {number}"),
            });
        }
    }
    for (kind, word) in [
        ("facts", "fact"),
        ("events", "event"),
        ("warnings", "warning"),
    ] {
        for item in output
            .get(kind)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            lines.push(format!("  {word} {item}"));
        }
    }
    lines
}
