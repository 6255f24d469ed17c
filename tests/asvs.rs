//! asvs.toml is complete and true: every demand stands in it once, every test
//! and every section that it names exists. The gaps are printed.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// OWASP ASVS 5.0.0, level 1: all of it.
const LEVEL_1: &str = "\
    1.2.1 1.2.2 1.2.3 1.2.4 1.2.5 1.3.1 1.3.2 1.5.1 \
    2.1.1 2.2.1 2.2.2 2.3.1 \
    3.2.1 3.2.2 3.3.1 3.4.1 3.4.2 3.5.1 3.5.2 3.5.3 \
    4.1.1 4.4.1 \
    5.2.1 5.2.2 5.3.1 5.3.2 \
    6.1.1 6.2.1 6.2.2 6.2.3 6.2.4 6.2.5 6.2.6 6.2.7 6.2.8 6.3.1 6.3.2 6.4.1 6.4.2 \
    7.2.1 7.2.2 7.2.3 7.2.4 7.4.1 7.4.2 \
    8.1.1 8.2.1 8.2.2 8.3.1 \
    9.1.1 9.1.2 9.1.3 9.2.1 \
    10.4.1 10.4.2 10.4.3 10.4.4 10.4.5 \
    11.3.1 11.3.2 11.4.1 \
    12.1.1 12.2.1 12.2.2 \
    13.4.1 \
    14.2.1 14.3.1 \
    15.1.1 15.2.1 15.3.1";

/// Level 2 of the chapters that this product stands or falls with.
const LEVEL_2: &str = "\
    6.1.2 6.1.3 6.2.9 6.2.10 6.2.11 6.2.12 6.3.3 6.3.4 6.4.3 6.4.4 \
    6.5.1 6.5.2 6.5.3 6.5.4 6.5.5 6.6.1 6.6.2 6.6.3 6.8.1 6.8.2 6.8.3 6.8.4 \
    7.1.1 7.1.2 7.1.3 7.3.1 7.3.2 7.4.3 7.4.4 7.4.5 7.5.1 7.5.2 7.6.1 7.6.2 \
    8.1.2 8.2.3 8.4.1 \
    9.2.2 9.2.3 9.2.4 \
    11.1.1 11.1.2 11.2.1 11.2.2 11.2.3 11.3.3 11.4.2 11.4.3 11.4.4 11.5.1 11.6.1 \
    13.1.1 13.2.1 13.2.2 13.2.3 13.2.4 13.2.5 13.3.1 13.3.2 13.4.2 13.4.3 13.4.4 13.4.5 \
    14.1.1 14.1.2 14.2.2 14.2.3 14.2.4 14.3.2 14.3.3 \
    16.1.1 16.2.1 16.2.2 16.2.3 16.2.4 16.2.5 16.3.1 16.3.2 16.3.3 16.3.4 \
    16.4.1 16.4.2 16.4.3 16.5.1 16.5.2 16.5.3";

/// The four ways to answer a demand.
const ANSWERS: [&str; 4] = ["test", "doc", "not_applicable", "gap"];

/// An entry of the list.
struct Demand {
    id: String,
    level: u8,
    says: String,
    /// Which of [`ANSWERS`], and what stands there.
    answers: Vec<(&'static str, String)>,
}

impl Demand {
    /// What stands under `kind`.
    fn answer(&self, kind: &str) -> Option<&str> {
        let mut answers = self.answers.iter();
        let found = answers.find(|(known, _)| *known == kind);
        found.map(|(_, text)| text.as_str())
    }
}

/// The top of the repository. Asked when the test runs: builds of several
/// checkouts may share a target.
fn top() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("..")
}

fn demands() -> Vec<Demand> {
    let text = std::fs::read_to_string(top().join("tests/asvs.toml")).unwrap();
    let table = DeTable::parse(&text).unwrap_or_else(|error| panic!("asvs.toml: {error}"));
    let list = table.get_ref().get("demand").unwrap().get_ref();
    let list = list.as_array().unwrap();
    list.iter().map(|entry| demand(entry.get_ref())).collect()
}

fn demand(entry: &DeValue<'_>) -> Demand {
    let entry = entry.as_table().unwrap();
    let text = |key: &str| {
        let value = entry.get(key)?.get_ref();
        value.as_str().map(str::to_owned)
    };
    let id = text("id").unwrap_or_else(|| panic!("an entry without id: {entry:?}"));
    for key in entry.keys() {
        let key = key.get_ref().as_ref();
        let known = ["id", "level", "says"].contains(&key) || ANSWERS.contains(&key);
        assert!(known, "{id}: what is {key:?}?");
    }
    let level = entry.get("level").and_then(|level| {
        let number = level.get_ref().as_integer()?;
        number.as_str().parse().ok()
    });
    Demand {
        level: level.unwrap_or_else(|| panic!("{id}: no level")),
        says: text("says").unwrap_or_default(),
        answers: ANSWERS
            .into_iter()
            .filter_map(|kind| text(kind).map(|text| (kind, text)))
            .collect(),
        id,
    }
}

/// Every source file below `folder`, with its text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// Where a crate's sources are, by its name in test paths.
fn folder_of(name: &str) -> PathBuf {
    match name {
        "tests" => top().join("tests"),
        "sotp" => top().join("daemon/cli"),
        "sotpd" => top().join("daemon/src"),
        other => top().join("daemon").join(other),
    }
}

/// Why `path` (`crate::module::name`) names no test; `None`: it does.
fn no_such_test(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    let [name_of_crate, modules @ .., name] = parts.as_slice() else {
        return Some(format!("{path:?} is not crate::module::name"));
    };
    let declared = format!("fn {name}(");
    let files = sources(&folder_of(name_of_crate));
    let found = files.iter().any(|(file, text)| {
        let place = file.with_extension("");
        let within = |module: &&str| place.iter().any(|part| part == *module);
        modules.iter().all(within) && is_test(text, &declared)
    });
    (!found).then(|| format!("there is no test {path}"))
}

/// Whether `text` declares the function right below a `#[test]` of any kind;
/// within `proptest!` it is indented as any other.
fn is_test(text: &str, declared: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().enumerate().any(|(place, line)| {
        let above = &lines[place.saturating_sub(4)..place];
        line.contains(declared)
            && above
                .iter()
                .any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
    })
}

/// Why `file#section` leads nowhere; `None`: it does.
fn no_such_section(reference: &str) -> Option<String> {
    let Some((file, section)) = reference.split_once('#') else {
        return Some(format!("{reference:?} is not file#section"));
    };
    let Ok(text) = std::fs::read_to_string(top().join(file)) else {
        return Some(format!("there is no file {file}"));
    };
    let heading =
        |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == section;
    (!text.lines().any(heading)).then(|| format!("{file} has no section {section:?}"))
}

fn in_scope() -> BTreeMap<&'static str, u8> {
    let with = |ids: &'static str, level| ids.split_whitespace().map(move |id| (id, level));
    with(LEVEL_1, 1).chain(with(LEVEL_2, 2)).collect()
}

#[test]
fn every_demand_in_scope_stands_in_the_list_once_and_no_other() {
    let scope = in_scope();
    assert_eq!(scope.values().filter(|level| **level == 1).count(), 70);
    assert_eq!(scope.values().filter(|level| **level == 2).count(), 86);
    let demands = demands();
    let mut seen = BTreeMap::new();
    for demand in &demands {
        let before = seen.insert(demand.id.as_str(), demand.level);
        assert_eq!(before, None, "{} stands twice", demand.id);
        assert!(demand.says.len() > 10, "{} says nothing", demand.id);
    }
    assert_eq!(seen, scope);
}

#[test]
fn every_demand_has_one_answer_and_what_it_names_exists() {
    let mut wrong = Vec::new();
    for demand in demands() {
        if demand.answers.len() != 1 {
            let kinds: Vec<_> = demand.answers.iter().map(|(kind, _)| *kind).collect();
            wrong.push(format!("{}: one of {ANSWERS:?}, not {kinds:?}", demand.id));
        }
        let missing = [
            demand.answer("test").and_then(no_such_test),
            demand.answer("doc").and_then(no_such_section),
        ];
        let reasons = ["not_applicable", "gap"].map(|kind| {
            let reason = demand.answer(kind)?;
            (reason.len() < 10).then(|| format!("{reason:?} is no reason"))
        });
        let named = missing.into_iter().chain(reasons).flatten();
        wrong.extend(named.map(|why| format!("{}: {why}", demand.id)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_gaps_are_told() {
    let demands = demands();
    let mut told = String::new();
    let counts = ANSWERS.map(|kind| {
        let many = demands.iter().filter(|one| one.answer(kind).is_some());
        format!("{kind} {}", many.count())
    });
    told.push_str(&format!("ASVS 5.0.0: {}\n", counts.join(", ")));
    for demand in &demands {
        if let Some(gap) = demand.answer("gap") {
            told.push_str(&format!(
                "ASVS GAP {} (level {}) {} -- {gap}\n",
                demand.id, demand.level, demand.says
            ));
        }
    }
    // past the capture of test output: a gap is to be seen where all is green
    let _ = std::io::stderr().write_all(told.as_bytes());
}

/// A parameter that comes in the address although it lets somebody in: the
/// provider's code of OpenID Connect, which is good once and for this browser.
const IN_THE_ADDRESS: [&str; 1] = ["/api/v1/oidc/callback code"];

#[test]
fn no_parameter_of_a_path_or_query_is_a_secret() {
    let document = std::fs::read_to_string(top().join("daemon/api/openapi.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let lists = item.as_object().unwrap().values();
        for parameter in lists
            .flat_map(|operation| operation["parameters"].as_array())
            .flatten()
        {
            let name = parameter["name"].as_str().unwrap();
            if !["path", "query"].contains(&parameter["in"].as_str().unwrap()) {
                continue;
            }
            seen += 1;
            let known = format!("{path} {name}");
            let secret = [
                "password",
                "token",
                "secret",
                "community",
                "code",
                "value",
                "key",
            ];
            let tells = secret.iter().any(|word| name.to_lowercase().contains(word));
            assert!(
                !tells || IN_THE_ADDRESS.contains(&known.as_str()),
                "{known}"
            );
        }
    }
    assert!(seen > 50, "{seen} parameters");
}

#[test]
fn a_test_or_section_that_is_gone_is_noticed() {
    assert_eq!(no_such_test("tests::asvs::the_gaps_are_told"), None);
    assert!(no_such_test("tests::asvs::there_is_no_such_test_at_all").is_some());
    // a function, but no test
    assert!(no_such_test("tests::asvs::in_scope").is_some());
    assert!(no_such_test("store::asvs::the_gaps_are_told").is_some());
    assert_eq!(no_such_section("ARCHITECTURE.md#What must stay true"), None);
    assert!(no_such_section("ARCHITECTURE.md#What must").is_some());
}
