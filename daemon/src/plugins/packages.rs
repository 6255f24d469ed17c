//! Packages: where they come from, and bringing one up.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::{PluginProblem, PluginRefused};
use bytes::Bytes;
use contract::{Kind, Reply};
use model::{Capabilities, Digest, PluginRecord, PluginVersion, Timestamp};
use package::{Manifest, Package, Problem, SettingKind};
use plugin::{Code, Host, Load, Replay};
use sha2::{Digest as _, Sha256};

use super::Plugins;
use super::query::Query;
use super::roster::Active;

/// A package that was looked at.
pub(super) struct Examined {
    pub(super) package: Package,
    pub(super) bytes: Bytes,
    pub(super) signer: String,
}

impl Examined {
    /// SHA-256 of the whole file, signature and all: what it is kept as.
    pub(super) fn digest(&self) -> Digest {
        Digest(Sha256::digest(&self.bytes).into())
    }

    /// The version that it is, installed `now`.
    pub(super) fn version(&self, now: Timestamp) -> PluginVersion {
        let manifest = &self.package.manifest;
        PluginVersion {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            kind: manifest.kind.word().to_owned(),
            description: manifest.description.clone(),
            digest: self.digest(),
            signer: self.signer.clone(),
            asks: manifest.asks.clone(),
            installed: now,
        }
    }
}

impl Plugins {
    pub(super) fn host(&self) -> Result<&Host, PluginRefused> {
        self.inner.host.as_ref().ok_or_else(|| {
            PluginRefused::Unavailable(
                "plugins do not run: plugins.enabled is false, or their host cannot be started (see the journal)"
                    .to_owned(),
            )
        })
    }

    /// Reads a package that was uploaded; it has to be signed with a key that is
    /// trusted.
    pub(super) fn examine(&self, bytes: Bytes) -> Result<Examined, PluginRefused> {
        let package = Package::read(&bytes).map_err(one_problem)?;
        let trusted = self.inner.trusted.read();
        let trusted = trusted.unwrap_or_else(std::sync::PoisonError::into_inner);
        let signer = Package::signer(&bytes, &trusted).map_err(one_problem)?;
        Ok(Examined {
            package,
            bytes,
            signer,
        })
    }

    /// Brings up what `record` says: loads it and asks it what it does. It does
    /// not run yet.
    pub(super) async fn bring_up(&self, record: &PluginRecord) -> Result<Active, String> {
        let loading = async {
            let package = self.package_of(&record.current).await?;
            let (granted, settings) = (&record.granted, &record.settings);
            self.load(record.name.as_str(), package, granted, settings)
                .await
        };
        loading.await.map_err(|refused| match &refused {
            PluginRefused::Problems(problems) => {
                let problems = problems.iter().map(in_one_line);
                problems.collect::<Vec<_>>().join("; ")
            }
            other => other.to_string(),
        })
    }

    /// Loads `package` as `name` and asks it what it does.
    pub(super) async fn load(
        &self,
        name: &str,
        package: Package,
        granted: &Capabilities,
        settings: &BTreeMap<String, String>,
    ) -> Result<Active, PluginRefused> {
        let host = self.host()?;
        let manifest = package.manifest;
        let nonce = nonce()?;
        let settings = &known_of(&manifest, settings);
        let seen = manifest.settings(settings).map_err(problems)?;
        let seen = with_nonce(seen, &manifest, &nonce);
        let load = Load {
            kind: manifest.kind,
            code: code(&manifest.main, package.code)?,
            limits: manifest.limits_within(granted),
            grants: Manifest::grants(granted),
            settings: seen,
            for_its_author: false,
        };
        let loaded = host.load(name, load).await;
        let loaded = loaded.map_err(|fault| PluginRefused::Problems(vec![of_fault(fault)]))?;
        let active = Active {
            nonce,
            secrets: manifest.secrets(settings),
            host_name: name.to_owned(),
            generation: loaded.generation,
            metrics: names(&loaded.described),
            described: loaded.described,
            granted: granted.clone(),
            manifest,
            only: None,
        };
        if let Err(problem) = fits(&active) {
            host.forget(active.generation);
            return Err(PluginRefused::Problems(vec![problem]));
        }
        Ok(active)
    }

    /// Runs the golden cases of a package that is loaded. Every one has to end
    /// as it says.
    pub(super) async fn check_cases(
        &self,
        active: &Active,
        cases: &[package::Golden],
    ) -> Result<(), PluginRefused> {
        let host = self.host()?;
        let mut wrong = Vec::new();
        for case in cases {
            let settings = match active.manifest.settings(&case.settings) {
                Ok(settings) => settings,
                Err(list) => {
                    wrong.extend(list.into_iter().map(|problem| PluginProblem {
                        message: format!("the case {}: {}", case.name, problem.message),
                        ..of_problem(problem)
                    }));
                    continue;
                }
            };
            for (place, golden) in case.calls.iter().enumerate() {
                let replay = Replay {
                    now: golden.now,
                    call: golden.call.clone(),
                    settings: settings.clone(),
                    host: case.host.clone(),
                };
                let ended = host.replay(active.generation, replay).await;
                let expected = golden.expect.as_ref();
                if let Some(expected) = expected
                    && !package::is_same(expected, &ended.result)
                {
                    let came = match &ended.result {
                        Ok(_) => "something else than it says".to_owned(),
                        Err(failure) => failure.to_string(),
                    };
                    wrong.push(PluginProblem {
                        place: None,
                        message: format!(
                            "its golden case {} does not hold: call {} came to {came}",
                            case.name,
                            place + 1
                        ),
                        hint: Some("`sotp plugin test` shows the difference".to_owned()),
                    });
                }
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(PluginRefused::Problems(wrong)),
        }
    }

    /// Reads the package that came with the daemon under this id.
    pub(super) fn bundled_package(&self, id: &str) -> Result<Examined, PluginRefused> {
        let name = model::PluginName::new(id);
        let name = name.map_err(|why| one_problem(Problem::new(why.to_string())))?;
        let path = self.inner.bundled.join(format!("{name}.sotp-plugin"));
        let bytes = read_bundled(&path).map_err(|why| one_problem(Problem::new(why)))?;
        let package = Package::read(&bytes).map_err(one_problem)?;
        Ok(Examined {
            package,
            bytes,
            signer: "bundled".to_owned(),
        })
    }

    /// Reads all that came with the daemon.
    pub(super) fn bundled_packages(&self) -> Vec<Package> {
        let Ok(entries) = std::fs::read_dir(&self.inner.bundled) else {
            return Vec::new();
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut packages: Vec<Package> = paths
            .filter(|path| path.extension().is_some_and(|e| e == "sotp-plugin"))
            .filter_map(|path| Package::read(&read_bundled(&path).ok()?).ok())
            .collect();
        packages.sort_by(|a, b| a.manifest.id.cmp(&b.manifest.id));
        packages
    }
}

fn read_bundled(path: &Path) -> Result<Bytes, String> {
    let about = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!(
            "no plugin of that id came with the daemon ({} is not there): sotp plugin ls --bundled",
            path.display()
        ),
        _ => format!("{}: {error}", path.display()),
    })?;
    if about.len() > api::PACKAGE_BYTES as u64 {
        return Err(format!("{} is too large for a package", path.display()));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.into())
}

fn code(main: &str, code: Vec<u8>) -> Result<Code, PluginRefused> {
    if !main.ends_with(".rhai") {
        return Ok(Code::Component(code.into()));
    }
    let source = String::from_utf8(code)
        .map_err(|_| one_problem(Problem::new(format!("{main} is not UTF-8 text"))))?;
    Ok(Code::Script {
        file: main.to_owned(),
        source: source.into(),
    })
}

/// Those of `settings` that this version has: what another version of the plugin
/// was set to stays, so that one can go back and forth between the two.
pub(super) fn known_of(
    manifest: &Manifest,
    settings: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let known = settings
        .iter()
        .filter(|(key, _)| manifest.settings.contains_key(*key));
    known
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Something that nobody can guess.
fn nonce() -> Result<String, PluginRefused> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| PluginRefused::Unavailable(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What begins the place of a secret in a text.
pub(super) const PLACE: &str = "${secret:";

/// The settings with places of secrets that only this plugin knows.
fn with_nonce(
    mut settings: contract::Settings,
    manifest: &Manifest,
    nonce: &str,
) -> contract::Settings {
    let secret = |key: &&String| {
        let schema = manifest.settings.get(*key);
        schema.is_some_and(|schema| schema.kind == SettingKind::Secret)
    };
    let keys: Vec<String> = settings.values.keys().filter(secret).cloned().collect();
    for key in keys {
        let (plain, own) = (format!("{PLACE}{key}}}"), format!("{PLACE}{key}:{nonce}}}"));
        if let Some(value) = settings.values.get_mut(&key) {
            *value = value.replace(&plain, &own);
        }
        settings.json = settings.json.replace(&plain, &own);
    }
    settings
}

fn names(described: &Reply) -> Vec<Arc<str>> {
    match described {
        Reply::Metrics(descriptor) => {
            let metrics = descriptor.metrics.iter();
            metrics.map(|metric| metric.name.as_str().into()).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether what it says that it does is what its kind does, and granted.
fn fits(active: &Active) -> Result<(), PluginProblem> {
    let kind = active.manifest.kind;
    let is_right = matches!(
        (kind, &active.described),
        (Kind::Parser | Kind::Poller, Reply::Metrics(_))
            | (Kind::Rule, Reply::Rule(_))
            | (Kind::Remediation | Kind::Notifier, Reply::Nothing)
    );
    if !is_right {
        let why = format!("it is a {kind} by its manifest and describes something else");
        return Err(of_problem(Problem::new(why)));
    }
    let selectors = active.judges().map(|judges| judges.selectors.clone());
    for selector in selectors.into_iter().flatten() {
        if let Err(why) = Query::read(&selector.query, &active.granted) {
            let why = match why {
                contract::QueryError::Denied(why) | contract::QueryError::Syntax(why) => why,
                other => format!("{other:?}"),
            };
            return Err(PluginProblem {
                place: None,
                message: format!("its selector {}: {why}", selector.name),
                hint: Some("ask for the metric under capabilities.series".to_owned()),
            });
        }
    }
    Ok(())
}

/// Runs what waits for the disk or computes for long where it holds nobody up.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PluginRefused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_panicked| PluginRefused::Unavailable("a defect in sotpd".to_owned()))
}

pub(super) fn of_problem(problem: Problem) -> PluginProblem {
    PluginProblem {
        place: problem.place,
        message: problem.message,
        hint: problem.hint,
    }
}

pub(super) fn one_problem(problem: Problem) -> PluginRefused {
    PluginRefused::Problems(vec![of_problem(problem)])
}

pub(super) fn problems(list: Vec<Problem>) -> PluginRefused {
    PluginRefused::Problems(list.into_iter().map(of_problem).collect())
}

fn of_fault(fault: contract::Fault) -> PluginProblem {
    PluginProblem {
        place: fault.place,
        message: fault.message,
        hint: fault.hint,
    }
}

fn in_one_line(problem: &PluginProblem) -> String {
    match &problem.place {
        Some(place) => format!("{} ({place})", problem.message),
        None => problem.message.clone(),
    }
}
