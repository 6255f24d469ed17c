//! The whole of a manifest, of a case and of a package.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use contract::limits::SCRIPT_BYTES;
use contract::{
    Call, Device, Failure, Fault, FaultClass, Nanos, Octets, Oid, Output, ParserInput, Payload,
    PluginError, Reply, Row, SnmpValue, Varbind,
};
use model::Capabilities;
use proptest::prelude::*;
use sha2::Digest as _;

use crate::*;

const MANIFEST: &str = r#"
[plugin]
id = "mikrotik-health"
version = "1.0.0"
kind = "parser"
api = "1.0"
description = "Temperatures, voltages and fans of RouterBOARDs"
license = "Apache-2.0"
homepage = "https://example.org/mikrotik"
main = "main.rhai"
order = 50

[match]
sys_object_id = ["1.3.6.1.4.1.14988.1"]
kind = ["router", "switch"]

[[collect]]
name = "gauges"
table = "1.3.6.1.4.1.14988.1.1.3.100"

[[collect]]
name = "single"
get = ["1.3.6.1.2.1.1.3.0", ".1.3.6.1.2.1.1.5.0"]

[[collect]]
name = "ports"
builtin = "ifTable"

[[collect]]
name = "rest"
walk = "1.3.6.1.2.1.47"

[capabilities]
kv = true
inventory = true

[limits]
cpu_ms = 50
memory_mib = 256

[settings.scale]
type = "number"
help = "What values are multiplied with"
default = 1.0
min = 0
max = 10
"#;

const NOTIFIER: &str = r#"
[plugin]
id = "slack"
version = "1.0.0"
kind = "notifier"
api = "1.0"
description = "Slack"
license = "Apache-2.0"
main = "main.rhai"
[capabilities]
http = ["https://hooks.slack.com/*"]
secrets = true
[settings.webhook]
type = "secret"
help = "The webhook's address"
[settings.token]
type = "secret"
help = "A token"
default = ""
[settings.mention]
type = "text"
help = "Whom to mention"
choices = ["nobody", "here", "channel"]
default = "nobody"
[settings.lines]
type = "integer"
help = "Lines of a message"
min = 1
max = 50
default = 10
[settings.short]
type = "boolean"
help = "Without details"
default = false
[settings.skip]
type = "list"
help = "Attributes that are left out"
default = ["id"]
"#;

fn parse(text: &str) -> Result<Manifest, String> {
    Manifest::parse("plugin.toml", text).map_err(|problems| {
        let lines = problems.iter().map(|problem| {
            let hint = problem.hint.clone().unwrap_or_default();
            format!("{problem} | {hint}")
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// What is said of the good manifest with `from` changed to `to`.
fn said_of(from: &str, to: &str) -> String {
    assert!(MANIFEST.contains(from), "{from}");
    let changed = MANIFEST.replacen(from, to, 1);
    parse(&changed).map_or_else(|said| said, |_| "fine".to_owned())
}

#[test]
fn a_manifest_says_all_of_a_plugin() {
    let manifest = parse(MANIFEST).unwrap();
    assert_eq!(manifest.id, "mikrotik-health");
    assert_eq!(manifest.kind, contract::Kind::Parser);
    assert_eq!((manifest.api, manifest.order), ((1, 0), 50));
    assert_eq!(
        manifest.matches.sys_object_id,
        ["1.3.6.1.4.1.14988.1".parse::<Oid>().unwrap()]
    );
    let names: Vec<&str> = manifest.collect.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["gauges", "single", "ports", "rest"]);
    let two = vec![
        "1.3.6.1.2.1.1.3.0".parse().unwrap(),
        "1.3.6.1.2.1.1.5.0".parse().unwrap(),
    ];
    assert_eq!(manifest.collect[1].what, CollectWhat::Get(two));
    let asks: Vec<&str> = manifest.asks.0.keys().map(String::as_str).collect();
    assert_eq!(asks, ["inventory", "kv", "limits"]);
    assert!(manifest.asks.allows("limits", "memory_mib=256"));
    assert_eq!(
        (manifest.limits.cpu_ms, manifest.limits.memory),
        (50, 256 << 20)
    );
    let usual = manifest.limits_within(&Capabilities::default());
    assert_eq!((usual.cpu_ms, usual.memory), (50, 64 << 20));
    assert_eq!(manifest.limits_within(&manifest.asks), manifest.limits);
    let grants = Manifest::grants(&manifest.asks);
    assert!(grants.kv && grants.inventory && grants.series.is_empty());
    assert_eq!(
        Manifest::grants(&Capabilities::default()),
        Default::default()
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let text = "[plugin]\nid = \"Bad\"\nversoin = \"1.0.0\"\nversion = \"1.0\"\nkind = \"praser\"\napi = 1.0\nmain = \"../x.rhai\"\n\n[capabilites]\nkv = true\n";
    let said = parse(text).unwrap_err();
    let expected = [
        "plugin.toml:2:6: plugin.id: \"Bad\" is no id | 1 to 63 of a-z",
        "plugin.toml:3:1: unknown key \"plugin.versoin\" | did you mean \"version\"?",
        "plugin.toml:4:11: plugin.version: \"1.0\" is no semantic version | three numbers: 1.0.0",
        "plugin.toml:5:8: plugin.kind: \"praser\" is no kind of plugin | did you mean \"parser\"?",
        "plugin.toml:6:7: plugin.api is a number: it has to be text, in quotes",
        "plugin.toml:7:8: plugin.main: \"../x.rhai\" is no file that runs | write main.rhai",
        "plugin.description is missing | add description = ",
        "plugin.license is missing | add license = ",
        "plugin.toml:9:2: unknown section \"capabilites\" | did you mean \"capabilities\"?",
    ];
    for line in expected {
        assert!(said.contains(line), "{line}\nis not in\n{said}");
    }
    assert_eq!(said.lines().count(), expected.len(), "{said}");
}

#[test]
fn each_part_of_a_manifest_is_looked_at() {
    for (from, to, said) in [
        (
            "\"1.0\"",
            "\"2.0\"",
            "needs the contract 2.0; this program offers 1.0 | update sotp",
        ),
        ("\"1.0\"", "\"0.9\"", "needs the contract 0.9"),
        (
            "order = 50",
            "order = 5000000",
            "plugin.order is 5000000: it is 0 to 1000000",
        ),
        ("order = 50", "order = -1", "whole number from 0"),
        (
            "https://example.org/mikrotik",
            "example.org",
            "is no address",
        ),
        ("\"Temperatures", "\"a\\nTemperatures", "is not one line"),
        ("\"Apache-2.0\"", "\"<b>\"", "no SPDX"),
        (
            "\"1.3.6.1.4.1.14988.1\"",
            "\"mikrotik\"",
            "14:18: \"mikrotik\" is no object",
        ),
        (
            "\"switch\"",
            "\"swich\"",
            "no kind of device | did you mean \"switch\"?",
        ),
        (
            "\"switch\"",
            "7",
            "an entry of match.kind is a whole number",
        ),
        (
            "[\"router\", \"switch\"]",
            "[]",
            "match.kind is an empty list",
        ),
        (
            "\"gauges\"",
            "\"ports\"",
            "two [[collect]] have the name \"ports\"",
        ),
        ("\"gauges\"", "\"a b\"", "\"a b\" is no name"),
        (
            "table = \"1",
            "walk = \"1.3\"\ntable = \"1",
            "exactly one of",
        ),
        (
            "table = \"1.3.6.1.4.1.14988.1.1.3.100\"",
            "",
            "exactly one of",
        ),
        ("\"ifTable\"", "\"ifTabel\"", "did you mean \"ifTable\"?"),
        (
            "kv = true",
            "series = [\"if*\"]",
            "a parser has no use for the capability series",
        ),
        ("kv = true", "kv = 1", "has to be true or false"),
        ("kv = true", "secrets = true", "no setting names one"),
        (
            "memory_mib = 256",
            "memory_mb = 256",
            "did you mean \"memory_mib\"?",
        ),
        (
            "memory_mib = 256",
            "memory_mib = 0",
            "limits.memory_mib is 0: it is 1 to 256",
        ),
        ("memory_mib = 256", "memory_mib = 257", "it is 1 to 256"),
        (
            "[settings.scale]",
            "[settings.Scale]",
            "no name of a setting",
        ),
        ("\"number\"", "\"numbr\"", "did you mean \"number\"?"),
        ("\"number\"", "\"secret\"", "does not ask to use any"),
        ("\"number\"", "\"boolean\"", "a boolean has no min"),
        (
            "default = 1.0",
            "default = 11",
            "settings.scale.default is 11 | it is 10 at most",
        ),
        ("min = 0", "min = 20", "settings.scale.min is more than max"),
        (
            "max = 10",
            "max = 10\nchoices = [\"a\"]",
            "a number has no choices",
        ),
        ("[plugin]", "[plugin", "plugin.toml:2:"),
        (
            "kind = \"parser\"",
            "kind = parser",
            "\"parser\" stands without quotes",
        ),
        (
            "order = 50",
            "order = 50\norder = 60",
            "stands here a second time",
        ),
    ] {
        let found = said_of(from, to);
        assert!(found.contains(said), "{to}: {found}");
    }
    let as_rule = said_of("kind = \"parser\"", "kind = \"rule\"");
    assert!(
        as_rule.contains("only a parser has [[collect]]"),
        "{as_rule}"
    );
    let long = parse(&" ".repeat(300_000)).unwrap_err();
    assert!(long.contains("256 KiB"), "{long}");
    let many = (0..500)
        .map(|n| format!("key{n} = 1\n"))
        .collect::<String>();
    let problems = Manifest::parse("plugin.toml", &many).unwrap_err();
    assert_eq!(problems.len(), 201);
}

fn given(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    pairs.collect()
}

#[test]
fn settings_come_to_the_plugin_with_defaults_and_without_secrets() {
    let manifest = parse(NOTIFIER).unwrap();
    let ours = given(&[("webhook", "\"secret://slack-hook\""), ("lines", "3")]);
    let settings = manifest.settings(&ours).unwrap();
    let value = |key: &str| settings.values[key].as_str();
    assert_eq!(value("webhook"), "${secret:webhook}");
    assert_eq!(value("token"), "");
    assert_eq!((value("lines"), value("short")), ("3", "false"));
    assert_eq!((value("mention"), value("skip")), ("nobody", "[\"id\"]"));
    assert!(settings.json.contains("\"lines\":3"), "{}", settings.json);
    assert!(!settings.json.contains("slack-hook"));
    let secrets = manifest.secrets(&ours);
    assert_eq!(secrets.len(), 1);
    assert_eq!(secrets["webhook"].0, "slack-hook");
}

#[test]
fn settings_that_are_unknown_absent_or_wrong_are_all_named() {
    let manifest = parse(NOTIFIER).unwrap();
    for (key, value, said) in [
        ("webhok", "1", "unknown setting \"webhok\""),
        ("lines", "0", "the setting lines is 0"),
        ("lines", "51", "the setting lines is 51"),
        ("lines", "1.5", "is no whole number"),
        ("lines", "oops", "is no JSON"),
        ("short", "\"yes\"", "neither true nor false"),
        ("mention", "\"her\"", "no choice"),
        ("skip", "[1]", "no list of texts"),
        (
            "webhook",
            "\"https://hooks.slack.com/x?y\"",
            "no name of a secret",
        ),
        ("webhook", "\".internal\"", "no name of a secret"),
        ("webhook", "\"\"", "no name of a secret"),
    ] {
        let mut ours = given(&[("webhook", "\"hook\"")]);
        ours.insert(key.to_owned(), value.to_owned());
        let problems = manifest.settings(&ours).unwrap_err();
        assert!(problems[0].message.contains(said), "{key}: {problems:?}");
        assert_eq!(problems.len(), 1);
    }
    let missing = manifest.settings(&given(&[("token", "\"\"")])).unwrap_err();
    assert_eq!(missing[0].message, "the setting webhook is missing");
    let both = manifest.settings(&given(&[("x", "1"), ("lines", "0")]));
    assert_eq!(both.unwrap_err().len(), 3);
    let long = format!("\"{}\"", "x".repeat(9_000));
    let text = NOTIFIER.replace("choices = [\"nobody\", \"here\", \"channel\"]\n", "");
    let manifest = parse(&text).unwrap();
    let ours = given(&[("webhook", "\"hook\""), ("mention", &long)]);
    let problems = manifest.settings(&ours).unwrap_err();
    assert!(problems[0].message.contains("too long"));
}

fn case() -> Golden {
    let varbind = |name: &str, value| Varbind {
        name: name.parse().unwrap(),
        value,
    };
    let input = ParserInput {
        device: Device {
            vendor: "mikrotik".to_owned(),
            ..Device::default()
        },
        source: "snmp:single".to_owned(),
        collected_at: Nanos(1_795_000_000_000_000_000),
        payload: Payload::Snmp(vec![
            varbind("1.3.6.1.2.1.1.3.0", SnmpValue::TimeTicks(7)),
            varbind(
                "1.3.6.1.2.1.1.5.0",
                SnmpValue::Octets(Octets(b"a \"b\": [c,d]".to_vec())),
            ),
        ]),
    };
    let output = Output {
        rows: vec![Row {
            labels: Vec::new(),
            values: vec![(0, 0.1 + 0.2), (1, 1.0)],
        }],
        ..Output::default()
    };
    Golden {
        name: "one".to_owned(),
        settings: given(&[("scale", "2.5")]),
        host: Vec::new(),
        calls: vec![
            GoldenCall {
                now: Nanos(1_795_000_000_000_000_000),
                call: Call::Parse(input.clone()),
                expect: Some(Ok(Reply::Output(output))),
            },
            GoldenCall {
                now: Nanos(0),
                call: Call::Parse(input),
                expect: None,
            },
        ],
    }
}

#[test]
fn a_case_comes_back_from_its_text_exactly_and_people_can_read_it() {
    let case = case();
    let text = case.to_json();
    assert_eq!(Golden::parse("one", &text), Ok(case.clone()));
    assert_eq!(Golden::parse("one", &text).unwrap().to_json(), text);
    assert!(
        text.contains("\n  \"settings\": {\"scale\": 2.5},\n"),
        "{text}"
    );
    assert!(text.contains("a \\\"b\\\": [c,d]"), "{text}");
    assert!(text.contains("[0, 0.30000000000000004]"), "{text}");
    assert!(text.lines().all(|line| line.len() < 140), "{text}");
    assert!(text.ends_with("}\n"));
}

#[test]
fn what_is_no_case_is_refused_with_its_place() {
    let good = case().to_json();
    for (name, text, said) in [
        (
            "one",
            good.replace("\"calls\"", "\"cals\""),
            "unknown field",
        ),
        ("one", good.replace("\"now\"", "\"when\""), "unknown field"),
        ("one", "{\"calls\": []}".to_owned(), "has 0 calls"),
        ("one", "{".to_owned(), "one.json:1:1"),
        ("../one", good.clone(), "the name of a case"),
        ("one", format!("{good}x"), "trailing characters"),
        ("one", " ".repeat(9 << 20), "8 MiB"),
        ("one", "[".repeat(100_000), "no golden case"),
    ] {
        let problem = Golden::parse(name, &text).unwrap_err();
        assert!(problem.to_string().contains(said), "{problem}");
    }
    let mut many = case();
    many.calls = vec![many.calls[1].clone(); 101];
    let problem = Golden::parse("one", &many.to_json()).unwrap_err();
    assert!(problem.message.contains("101 calls"), "{problem}");
}

#[test]
fn what_came_is_compared_exactly_and_differences_say_where() {
    let case = case();
    let expected = case.calls[0].expect.clone().unwrap();
    assert_eq!(case.judge(0, &expected), Some(CaseEnd::Passed));
    assert!(matches!(
        case.judge(1, &expected),
        Some(CaseEnd::New { call: 1, .. })
    ));
    assert_eq!(case.judge(2, &expected), None);

    let mut came = expected.clone();
    let Ok(Reply::Output(output)) = &mut came else {
        unreachable!()
    };
    output.rows[0].values[0].1 = 0.3;
    output.warnings.push("hot".to_owned());
    assert!(matches!(
        case.judge(0, &came),
        Some(CaseEnd::Differs { call: 0, .. })
    ));
    let said: Vec<String> = differences(&expected, &came)
        .iter()
        .map(Difference::to_string)
        .collect();
    let lines = [
        "Ok.output.rows[0].values[0][1]: expected 0.30000000000000004, came 0.3",
        "Ok.output.warnings[0]: expected nothing, came \"hot\"",
    ];
    assert_eq!(said, lines);
    assert_eq!(differences(&expected, &expected), []);
    let failed = Err(Failure::Said(PluginError::Internal("no".to_owned())));
    assert_eq!(differences(&expected, &failed).len(), 2);

    let Ok(Reply::Output(output)) = &mut came else {
        unreachable!()
    };
    output.warnings = vec!["x".to_owned(); 80];
    assert_eq!(differences(&expected, &came).len(), 51);
}

#[test]
fn of_a_fault_the_class_counts_and_the_message_if_one_is_expected() {
    let fault = |class, message: &str, line| {
        let place = contract::Place {
            file: "main.rhai".to_owned(),
            line,
            column: 1,
        };
        let mut fault = Fault::new(class, message);
        fault.place = Some(place);
        Err(Failure::Fault(fault))
    };
    let expected = fault(FaultClass::Trap, "boom", 1);
    assert!(is_same(&expected, &fault(FaultClass::Trap, "boom", 2)));
    assert!(!is_same(&expected, &fault(FaultClass::Trap, "bang", 1)));
    assert!(!is_same(&expected, &fault(FaultClass::Cpu, "boom", 1)));
    let any = fault(FaultClass::Trap, "", 1);
    assert!(is_same(&any, &fault(FaultClass::Trap, "bang", 9)));
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    fs::create_dir(folder.path().join("golden")).unwrap();
    write("plugin.toml", MANIFEST);
    write("main.rhai", "fn parse(input) {}\n");
    write("README.md", "# mikrotik-health\n");
    write("golden/one.json", &case().to_json());
    write("golden/.two.json.swp", "an editor's");
    folder
}

fn pack(folder: &Path) -> Vec<u8> {
    Package::pack(folder, None).unwrap()
}

#[test]
fn a_directory_comes_back_from_its_package_and_gives_the_same_bytes_again() {
    let folder = folder();
    let bytes = pack(folder.path());
    assert_eq!(bytes, pack(folder.path()));
    let package = Package::read(&bytes).unwrap();
    assert_eq!(package.manifest, parse(MANIFEST).unwrap());
    assert_eq!(package.manifest_text, MANIFEST);
    assert_eq!(package.code, b"fn parse(input) {}\n");
    assert_eq!(package.golden, [case()]);
    assert_eq!(package.readme, "# mikrotik-health\n");
    let unpacked = Package::read_folder(folder.path(), None).unwrap();
    assert_eq!(
        Package {
            digest: package.digest,
            ..unpacked
        },
        package
    );
    let other = Package::pack(folder.path(), Some(b"fn parse(x) {}")).unwrap();
    assert_eq!(Package::read(&other).unwrap().code, b"fn parse(x) {}");
}

#[test]
fn everything_that_is_wrong_with_a_directory_is_said_at_once() {
    let folder = folder();
    let golden = folder.path().join("golden");
    fs::write(folder.path().join("main.rhai"), b"\0asm\xff").unwrap();
    fs::write(golden.join("bad.json"), "{").unwrap();
    let mut other = case();
    other.settings = given(&[("scael", "1")]);
    other.calls[0].call = Call::Start {
        device: Device::default(),
    };
    fs::write(golden.join("other.json"), other.to_json()).unwrap();
    let problems = Package::pack(folder.path(), None).unwrap_err();
    let said: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let expected = [
        "main.rhai:1: is no text",
        "golden/bad.json:1:1: is no golden case: EOF while parsing an object",
        "golden/other.json:1: calls start of a poller; this plugin is a parser",
        "golden/other.json:1: unknown setting \"scael\"",
    ];
    assert_eq!(said, expected);
    assert_eq!(problems[0].hint.as_deref(), Some("name it plugin.wasm"));

    fs::remove_file(folder.path().join("main.rhai")).unwrap();
    let problems = Package::pack(folder.path(), None).unwrap_err();
    assert!(problems[0].message.contains("no such file"), "{problems:?}");
    let problems = Package::pack(&golden, None).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "plugin.toml:1: there is no such file"
    );
    let too_long = vec![b' '; SCRIPT_BYTES + 1];
    let problems = Package::pack(folder.path(), Some(&too_long)).unwrap_err();
    assert!(problems[0].message.contains("256 KiB of a script"));
}

#[test]
fn a_signature_tells_whose_package_it_is_and_does_not_change_what_it_is() {
    let folder = folder();
    let bytes = pack(folder.path());
    let (ann, bob) = (PrivateKey::generate(), PrivateKey::generate());
    let trusted = [("ann".to_owned(), ann.public())];

    let unsigned = Package::signer(&bytes, &trusted).unwrap_err();
    assert_eq!(unsigned.message, "the package is not signed");
    assert!(unsigned.hint.unwrap().contains("`sotp plugin sign`"));
    assert_eq!(Package::signed_with(&bytes), Ok(None));

    let signed = Package::sign(&bytes, &ann).unwrap();
    assert_eq!(Package::signer(&signed, &trusted), Ok("ann".to_owned()));
    assert_eq!(Package::signed_with(&signed), Ok(Some(ann.public().id())));
    assert_eq!(Package::read(&signed), Package::read(&bytes));

    let by_bob = Package::sign(&signed, &bob).unwrap();
    assert_eq!(by_bob.len(), signed.len());
    let unknown = Package::signer(&by_bob, &trusted).unwrap_err();
    assert!(unknown.message.contains(&bob.public().id()), "{unknown}");
    assert!(unknown.hint.unwrap().contains("trusted_keys"));
}

#[test]
fn a_signature_for_another_package_is_no_signature() {
    let folder = folder();
    let ann = PrivateKey::generate();
    let trusted = [("ann".to_owned(), ann.public())];
    let signed = Package::sign(&pack(folder.path()), &ann).unwrap();
    let other = Package::pack(folder.path(), Some(b"fn parse(x) { evil() }")).unwrap();
    let other = Package::sign(&other, &PrivateKey::generate()).unwrap();
    let mut forged = other[..other.len() - 72].to_vec();
    forged.extend_from_slice(&signed[signed.len() - 72..]);
    assert!(Package::read(&forged).is_ok());
    let refused = Package::signer(&forged, &trusted).unwrap_err();
    assert!(
        refused.message.contains("changed after it was made"),
        "{refused}"
    );
}

#[test]
fn a_change_of_any_byte_is_noticed() {
    let folder = folder();
    fs::remove_dir_all(folder.path().join("golden")).unwrap();
    let ann = PrivateKey::generate();
    let trusted = [("ann".to_owned(), ann.public())];
    let signed = Package::sign(&pack(folder.path()), &ann).unwrap();
    assert!(Package::signer(&signed, &trusted).is_ok());
    for at in 0..signed.len() {
        for bit in [0x01, 0x80] {
            let mut changed = signed.clone();
            changed[at] ^= bit;
            assert!(Package::signer(&changed, &trusted).is_err(), "byte {at}");
        }
        assert!(
            Package::signer(&signed[..at], &trusted).is_err(),
            "cut at {at}"
        );
        assert!(Package::read(&signed[..at]).is_err(), "cut at {at}");
    }
    let longer = [signed.as_slice(), b"x"].concat();
    assert!(Package::signer(&longer, &trusted).is_err());
    assert!(Package::read(&longer).is_err());
}

/// A package with this tar in it.
fn package_of(tar: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(tar).unwrap();
    package_around(&encoder.finish().unwrap())
}

fn package_around(payload: &[u8]) -> Vec<u8> {
    let digest: [u8; 32] = sha2::Sha256::digest(payload).into();
    let length = (payload.len() as u64).to_le_bytes();
    [b"SOTPPLG1".as_slice(), &length, &digest, payload, &[0]].concat()
}

type Entry<'e> = (&'e str, tar::EntryType, &'e [u8]);

fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_entry_type(*kind);
        // written past the checks of the library, as an attacker would
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_package_with_anything_else_in_it_is_refused() {
    use tar::EntryType::{Directory, GNULongName, Link, Regular, Symlink, XHeader};
    let manifest: Entry<'_> = ("plugin.toml", Regular, MANIFEST.as_bytes());
    let main: Entry<'_> = ("main.rhai", Regular, b"1");
    let case = case().to_json();
    let good: Entry<'_> = ("golden/a.json", Regular, case.as_bytes());
    let said = |entries: &[Entry<'_>]| {
        let read = Package::read(&package_of(&tar_of(entries)));
        read.map_or_else(|problem| problem.message, |_| "fine".to_owned())
    };
    assert_eq!(said(&[manifest, main, good]), "fine");
    assert!(said(&[main, manifest]).contains("does not begin with plugin.toml"));
    assert!(said(&[]).contains("does not begin with plugin.toml"));
    assert!(said(&[manifest]).contains("is empty"));
    assert!(said(&[manifest, main, main]).contains("two files \"main.rhai\""));
    assert!(said(&[manifest, main, manifest]).contains("two files \"plugin.toml\""));
    for path in [
        "../main.rhai",
        "/etc/passwd",
        "./README.md",
        "golden/../x.json",
        "golden/a/b.json",
        "golden/.json",
        "other.txt",
    ] {
        let found = said(&[manifest, main, (path, Regular, b"x")]);
        assert!(found.contains("has a file"), "{path}: {found}");
    }
    for kind in [Symlink, Link, Directory, XHeader, GNULongName] {
        let found = said(&[manifest, main, ("golden/a.json", kind, b"")]);
        assert!(found.contains("no plain file"), "{kind:?}: {found}");
    }
    let names: Vec<String> = (0..1_000).map(|n| format!("golden/{n}.json")).collect();
    let mut many = vec![manifest, main];
    many.extend(names.iter().map(|n| (n.as_str(), Regular, case.as_bytes())));
    assert!(said(&many).contains("more than 1000 files"));
    many.truncate(2 + 501);
    assert!(said(&many).contains("501 golden cases"));
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_memory() {
    // 512 MiB of zeros are 20 KiB
    let zeros = vec![0; 1 << 20];
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..512 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = package_around(&encoder.finish().unwrap());
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    let refused = Package::read(&bomb).unwrap_err();
    assert!(refused.message.contains("more than 64 MiB"), "{refused}");

    // a frame that wants a window of 1 GiB
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(30).unwrap();
    wide.write_all(&tar_of(&[])).unwrap();
    let refused = Package::read(&package_around(&wide.finish().unwrap())).unwrap_err();
    assert!(refused.message.contains("not compressed"), "{refused}");

    let huge = vec![0; PACKAGE_BYTES + 1];
    let refused = Package::read(&huge).unwrap_err();
    assert!(refused.message.contains("40 MiB"), "{refused}");
}

#[test]
fn what_is_no_package_is_told_by_what_it_is() {
    for (bytes, said) in [
        (b"".as_slice(), "no package"),
        (b"\0asm\x01\0\0\0", "WebAssembly"),
        (b"PK\x03\x04", "zip"),
        (b"SOTPPLG2", "newer kind"),
        (b"SOTPPLG1", "cut off"),
    ] {
        let problem = Package::read(bytes).unwrap_err();
        assert!(problem.message.contains(said), "{problem}");
        assert!(problem.hint.is_some());
    }
    let mut behind = zstd::encode_all(tar_of(&[]).as_slice(), 1).unwrap();
    behind.extend_from_slice(b"hidden");
    let problem = Package::read(&package_around(&behind)).unwrap_err();
    assert!(problem.message.contains("behind its files"), "{problem}");
}

proptest! {
    #[test]
    fn reading_a_package_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Package::read(&bytes);
        let _ = Package::read(&package_around(&bytes));
        let _ = Package::read(&package_of(&bytes));
        let _ = Package::signer(&bytes, &[]);
    }

    #[test]
    fn reading_a_package_with_a_damaged_archive_never_panics(
        at in 0_usize..4_000, with in prop::collection::vec(any::<u8>(), 1..24),
    ) {
        let main: Entry<'_> = ("main.rhai", tar::EntryType::Regular, b"1");
        let manifest: Entry<'_> = ("plugin.toml", tar::EntryType::Regular, MANIFEST.as_bytes());
        let mut tar = tar_of(&[manifest, main]);
        let end = (at + with.len()).min(tar.len());
        let at = at.min(end);
        tar.splice(at..end, with);
        let _ = Package::read(&package_of(&tar));
    }

    #[test]
    fn reading_a_manifest_never_panics(text in "\\PC{0,300}") {
        let _ = Manifest::parse("plugin.toml", &text);
    }

    #[test]
    fn reading_a_manifest_that_was_nibbled_at_never_panics(
        at in 0..MANIFEST.len(), length in 0_usize..40, with in "[\\[\\]\"=.a-z0-9{}\n-]{0,12}",
    ) {
        let end = (at + length).min(MANIFEST.len());
        let mut text = MANIFEST.to_owned();
        text.replace_range(at..end, &with);
        if let Err(problems) = Manifest::parse("plugin.toml", &text) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn reading_a_case_never_panics(text in "\\PC{0,300}") {
        let _ = Golden::parse("one", &text);
    }

    #[test]
    fn numbers_come_back_exactly(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
        let mut case = case();
        let Some(Ok(Reply::Output(output))) = &mut case.calls[0].expect else {
            unreachable!()
        };
        output.rows[0].values[0].1 = value;
        prop_assert_eq!(Golden::parse("one", &case.to_json()), Ok(case));
    }
}

/// The folders below `folder` of this repository that have a `plugin.toml`.
fn plugins_below(folder: &str) -> Vec<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let entries = fs::read_dir(root.join(folder)).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    folders
        .filter(|path| path.join("plugin.toml").exists())
        .collect()
}

#[test]
fn the_plugins_of_this_repository_are_good_ones() {
    let plugins = plugins_below("plugins");
    assert!(!plugins.is_empty());
    for folder in plugins {
        let text = fs::read_to_string(folder.join("plugin.toml")).unwrap();
        let manifest = parse(&text).unwrap_or_else(|said| panic!("{}: {said}", folder.display()));
        assert_eq!(folder.file_name().unwrap(), manifest.id.as_str());
        // what a component is built to is not in the repository
        let code = b"\0asm".as_slice();
        let package = Package::read_folder(&folder, (!manifest.is_script()).then_some(code));
        let package = package.unwrap_or_else(|said| panic!("{}: {said:?}", folder.display()));
        let has_cases = !package.golden.is_empty() || !manifest.is_script();
        assert!(has_cases, "{} has no case", manifest.id);
        assert!(
            !package.readme.is_empty(),
            "{} has no README.md",
            manifest.id
        );
        for case in &package.golden {
            let decided = case.calls.iter().all(|call| call.expect.is_some());
            assert!(decided, "{}: {} expects nothing", manifest.id, case.name);
        }
    }
}
