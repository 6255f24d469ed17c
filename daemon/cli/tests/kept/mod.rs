//! `sotp metrics …` and `sotp backup …` at a server that is played.

mod archives;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fake::{Asked, End, Home, Ran, Reply, Server};
use crate::{PATIENCE, Terminal, refused, run_at};

/// What stands behind `name` in the query, as it was sent.
fn parameter(asked: &Asked, name: &str) -> Option<String> {
    let (_, query) = asked.line.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(known, _)| *known == name)?;
    Some(found.1.replace("%3A", ":").replace("%22", "\""))
}

fn seconds(asked: &Asked, name: &str) -> i64 {
    let text = parameter(asked, name).unwrap();
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A daemon that measured one series every minute, and gives at most `most` points
/// at once.
fn measures_every_minute(most: usize) -> Server {
    Server::start(move |asked| {
        let (from, until) = (seconds(asked, "from"), seconds(asked, "until"));
        let minutes = (from..until).filter(|second| second % 60 == 0);
        let points: Vec<Value> = minutes.map(|second| json!([second, second / 60])).collect();
        match points.len() > most {
            true => Reply::Json(
                400,
                json!({"type": "/problems/too-many-points", "detail": "too many points"}),
            ),
            false => Reply::Json(
                200,
                json!({
                    "source": "raw", "oldest": 0, "from": from, "until": until, "step": null, "warnings": [],
                    "series": [{
                        "device": "core1", "id": 7, "check": "snmp", "metric": "m",
                        "labels": {"ifName": "Gi0/1"}, "kind": "gauge", "unit": "",
                        "help": "", "aggregate": null, "points": points, "ends": [],
                    }],
                }),
            ),
        }
    })
}

const DAYS: [&str; 6] = [
    "metrics",
    "export",
    "m",
    "--from=2026-01-01",
    "--until",
    "2026-01-03",
];

#[test]
fn an_export_asks_for_less_at_once_until_it_gets_it_and_writes_every_point_once() {
    let server = measures_every_minute(1_000);
    let run = run_at(&server, &DAYS).well();
    let lines: Vec<&str> = run.out.split_terminator("\r\n").collect();
    assert_eq!(lines[0], "time,device,metric,labels,value,broken");
    assert_eq!(
        lines[1],
        "2026-01-01T00:00:00.000Z,core1,m,\"{ifName=\"\"Gi0/1\"\"}\",29453760,"
    );
    assert_eq!(lines.len(), 1 + 2 * 24 * 60);
    let mut sorted = lines[1..].to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, lines[1..]);
    let sources: Vec<_> = server
        .asked()
        .iter()
        .map(|a| parameter(a, "source"))
        .collect();
    assert_eq!(sources.first(), Some(&None));
    assert_eq!(sources.last(), Some(&Some("raw".to_owned())));
}

#[test]
fn an_export_that_cannot_be_made_smaller_says_what_the_daemon_says() {
    let server = measures_every_minute(0);
    let home = Home::new();
    let file = home.path("out.csv");
    let words = [&DAYS[..], &["--file", file.to_str().unwrap()]].concat();
    run_at(&server, &words).failed(1, &["too many points"]);
    assert_eq!(names(file.parent().unwrap()), [""; 0]);
    assert!(server.lines().len() < 30, "{:?}", server.lines().len());
}

#[test]
fn an_export_into_a_file_is_there_complete_with_a_warning_and_exit_code_1() {
    let server = Server::start(|asked| {
        let body = json!({
            "source": "1h", "from": seconds(asked, "from"), "step": 3600.0,
            "warnings": ["3.seg\u{1b}[2J is damaged"],
            "series": [{"device": "core1", "metric": "m", "labels": {}, "values": [null, 1.5, "-Inf"]}],
        });
        Reply::Json(200, body)
    });
    let home = Home::new();
    let file = home.path("out.jsonl");
    let words = [
        "metrics",
        "export",
        "m{device=\"core1\"}",
        "--from",
        "2026-01-01T00:00:00Z",
        "--until",
        "2026-01-01T03:00:00Z",
        "--step",
        "1h",
        "--format",
        "jsonl",
        "--aggregate",
        "max",
        "--file",
        file.to_str().unwrap(),
    ];
    let run =
        run_at(&server, &words).failed(1, &["warning: 3.seg[2J is damaged", "may be missing"]);
    assert_eq!(run.out, "");
    let written = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = written
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            json!({"time": "2026-01-01T01:00:00.000Z", "device": "core1", "metric": "m", "labels": {}, "value": 1.5}),
            json!({"time": "2026-01-01T02:00:00.000Z", "device": "core1", "metric": "m", "labels": {}, "value": "-Inf"}),
        ]
    );
    assert_eq!(names(file.parent().unwrap()), ["out.jsonl"]);
    let asked = server.asked().pop().unwrap();
    let said = ["step", "aggregate", "across"].map(|name| parameter(&asked, name));
    assert_eq!(said, [Some("1h".into()), Some("max".into()), None]);
    assert_eq!(
        parameter(&asked, "selector").unwrap(),
        "m%7Bdevice%3D\"core1\"%7D"
    );
}

#[test]
fn an_export_that_is_asked_for_too_fast_waits_and_goes_on() {
    let times = AtomicUsize::new(0);
    let server = Server::start(move |asked| match times.fetch_add(1, Ordering::SeqCst) {
        0 => refused(429, "slowly"),
        _ => Reply::Json(
            200,
            json!({"source": "raw", "from": seconds(asked, "from"), "step": null, "warnings": [], "series": [
                {"device": "a", "metric": "m", "points": [[seconds(asked, "from"), 1]]},
            ]}),
        ),
    });
    let words = [
        "metrics",
        "export",
        "m",
        "--from=2026-01-01",
        "--until=2026-01-01T01:00:00Z",
    ];
    let run = run_at(&server, &words).well();
    assert_eq!(
        run.out,
        "time,device,metric,labels,value,broken\r\n2026-01-01T00:00:00.000Z,a,m,,1,\r\n"
    );
    assert_eq!(server.lines().len(), 2);
}

#[test]
fn an_export_of_nothing_says_so_and_leaves_no_file() {
    let why = "no series is called so: \"mm\" is not measured";
    let server = Server::start(move |asked| {
        Reply::Json(
            200,
            json!({"source": "raw", "from": seconds(asked, "from"), "step": null, "warnings": [why], "incomplete": false, "series": []}),
        )
    });
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("x.csv");
    let file = format!("--file={}", file.display());
    let words = ["metrics", "export", "mm", "--from=-1h", &file];
    let run = run_at(&server, &words);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert!(run.err.contains(why), "{}", run.err);
    assert_eq!(names(home.path()).len(), 0);
}

#[test]
fn an_export_whose_steps_begin_elsewhere_is_cut_where_they_meet() {
    // a daemon that begins its steps at `from`, and makes none shorter than 10 minutes
    let server = Server::start(|asked| {
        let (from, until) = (seconds(asked, "from"), seconds(asked, "until"));
        let steps = usize::try_from((until - from + 599) / 600).unwrap();
        let values: Vec<i64> = vec![1; steps];
        let series = json!([{"device": "a", "metric": "m", "labels": {}, "values": values}]);
        Reply::Json(
            200,
            json!({"source": "15m", "from": from, "step": 600.0, "warnings": [], "series": series}),
        )
    });
    let words = [
        "metrics",
        "export",
        "m",
        "--from=2026-01-01T00:03:00Z",
        "--until=2026-01-09",
        "--step=1m",
    ];
    let run = run_at(&server, &words).well();
    let times: Vec<&str> = run.out.lines().skip(1).map(|line| &line[14..16]).collect();
    assert_eq!(times.len(), 8 * 24 * 6);
    assert!(
        times.iter().all(|minute| minute.ends_with('3')),
        "{times:?}"
    );
}

#[test]
fn what_is_asked_for_wrongly_is_asked_of_nobody() {
    let server = measures_every_minute(0);
    for words in [
        &["metrics", "export", "m", "--from", "yesterday"][..],
        &["metrics", "export", "m", "--from", "now"],
        &["metrics", "export", "m", "--step", "often"],
        &["metrics", "export", "m", "--file", "/dev/null"],
        &["metrics", "export"],
        &["metrics", "get"],
    ] {
        run_at(&server, words).failed(2, &[]);
    }
    assert!(server.asked().is_empty());
}

#[test]
fn a_pipe_that_closes_ends_an_export_in_silence() {
    let server = measures_every_minute(100_000);
    let home = Home::new();
    let words = [
        "--server",
        &server.url,
        "--fingerprint",
        &server.fingerprint,
        "metrics",
        "export",
        "m",
        "--from=2020-01-01",
        "--until=2026-01-03",
    ];
    let mut child = home
        .command(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().unwrap()).well();
    assert_eq!(ran.err, "");
}

/// A daemon that answers with some series of five minutes.
fn with_series(count: usize) -> Server {
    Server::start(move |_asked| {
        let series: Vec<Value> = (0..count)
            .map(|number| {
                json!({
                    "device": format!("core{number}\u{1b}[2J"), "metric": "ifHCInOctets", "labels": {"ifName": "Gi1"},
                    "unit": "octets/s", "values": [0, 125_000, null, 250_000, 125_000],
                })
            })
            .collect();
        Reply::Json(
            200,
            json!({
                "source": "raw", "from": "2026-01-01T00:00:00Z", "step": 60.0, "warnings": ["a part is missing"],
                "series": series,
            }),
        )
    })
}

#[test]
fn few_series_stand_side_by_side_and_many_have_a_line_each() {
    let get = |count: usize| {
        let server = with_series(count);
        let words = [
            "metrics",
            "get",
            "ifHCInOctets",
            "--from=-5m",
            "-o",
            "table",
        ];
        run_at(&server, &words).well()
    };
    let run = get(2);
    let lines: Vec<Vec<&str>> = run
        .out
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["TIME", "core0[2J", "core1[2J"]);
    assert_eq!(
        lines[2],
        ["2026-01-01T00:01:00Z", "1.0", "Mbit/s", "1.0", "Mbit/s"]
    );
    assert_eq!(lines[3], ["2026-01-01T00:02:00Z", "—", "—"]);
    assert_eq!(run.err, "warning: a part is missing\n");

    let run = get(6);
    assert_eq!(run.out.lines().count(), 7);
    let last = run.out.lines().last().unwrap();
    assert!(
        last.contains("1.0 Mbit/s") && last.ends_with("▁▄ █▄"),
        "{last}"
    );
}

#[test]
fn values_for_programs_have_a_row_each_and_what_was_not_measured_is_empty() {
    let server = with_series(1);
    let get = |format: &str| {
        run_at(&server, &["metrics", "get", "m", "-o", format])
            .well()
            .out
    };
    let table = get("tsv");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "time\tdevice\tmetric\tlabels\tvalue");
    assert_eq!(
        lines[3],
        "2026-01-01T00:02:00.000Z\tcore0[2J\tifHCInOctets\t{ifName=\"Gi1\"}\t"
    );
    let row: Value = serde_json::from_str(get("jsonl").lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        (&row["labels"], &row["value"]),
        (&json!({"ifName": "Gi1"}), &Value::Null)
    );
    let document: Value = serde_json::from_str(&get("json")).unwrap();
    assert_eq!(document["schema_version"], 1);
    assert_eq!(document["series"][0]["values"][1], 125_000);
}

#[test]
fn what_was_measured_of_a_device_is_deleted_once_its_name_was_typed() {
    let server = Server::start(|_asked| Reply::Json(204, Value::Null));
    run_at(&server, &["metrics", "rm", "sw/7"]).failed(3, &["nothing was done", "--yes"]);
    assert!(server.asked().is_empty());
    run_at(&server, &["metrics", "rm", "sw/7", "--yes"]).well();
    assert_eq!(server.lines(), ["DELETE /api/v1/devices/sw%2F7/metrics"]);
}

#[test]
fn metrics_are_listed_of_a_device_and_of_all() {
    let server = Server::start(|asked| match asked.line.contains("devices") {
        true => Reply::Json(
            200,
            json!({"items": [{"metric": "ifHCInOctets", "labels": {"ifName": "Gi1"}, "value": 125_000, "unit": "octets/s", "kind": "counter64"}]}),
        ),
        false => Reply::Json(
            200,
            json!({"items": [{"name": "m", "kind": "gauge", "unit": "", "help": "x"}]}),
        ),
    });
    let list = |words: &[&str]| {
        run_at(&server, &[&["metrics", "ls"], words].concat())
            .well()
            .out
    };
    let one = list(&["core1", "-o", "table"]);
    assert!(
        one.contains("1.0 Mbit/s") && one.contains("{ifName=\"Gi1\"}"),
        "{one}"
    );
    assert_eq!(
        list(&["-o", "tsv"]),
        "name\tkind\tunit\thelp\nm\tgauge\t\tx\n"
    );
}

fn pieces() -> Vec<Vec<u8>> {
    (0..50_u8).map(|number| vec![number; 10_000]).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn a_backup_is_in_its_file_byte_by_byte_and_nobody_else_may_read_it() {
    let server = Server::start(|_asked| Reply::Pieces(pieces(), End::Said));
    let home = Home::new();
    let file = home.path("sotp.tar");
    let run = run_at(
        &server,
        &["backup", "create", file.to_str().unwrap(), "-o", "json"],
    )
    .well();
    let facts: Value = serde_json::from_str(&run.out).unwrap();
    let whole = pieces().concat();
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    assert_eq!(
        (&facts["bytes"], &facts["sha256"]),
        (&json!(500_000), &json!(sha256(&whole)))
    );
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(names(file.parent().unwrap()), ["sotp.tar"]);
    assert_eq!(server.lines(), ["POST /api/v1/backups/stream"]);
}

#[test]
fn a_backup_whose_end_did_not_come_is_not_kept_and_the_one_before_is() {
    let home = Home::new();
    let file = home.file("sotp.tar", "the one before");
    let torn: [fn() -> Reply; 4] = [
        || Reply::Pieces(pieces(), End::Missing),
        || Reply::CutOff(1_000_000, "x".into()),
        || refused(403, "this needs the permission backups:write"),
        || Reply::HangUp,
    ];
    for (reply, code) in torn.into_iter().zip([1, 1, 3, 4]) {
        let server = Server::start(move |_asked| reply());
        run_at(&server, &["backup", "create", &file]).failed(code, &[]);
        assert_eq!(server.lines().len(), 1);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "the one before");
        assert_eq!(names(Path::new(&file).parent().unwrap()), ["sotp.tar"]);
    }
}

#[test]
fn ctrl_c_in_a_backup_leaves_no_part_of_it() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    // is asked, and never answers
    let server = Server::start(move |_asked| {
        tell.lock().unwrap().send(()).unwrap();
        loop {
            std::thread::park();
        }
    });
    let home = Home::new();
    let file = home.path("sotp.tar");
    let words = [
        "--server",
        &server.url,
        "--fingerprint",
        &server.fingerprint,
        "backup",
        "create",
        file.to_str().unwrap(),
    ];
    let mut command = home.command(&words);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(names(file.parent().unwrap()), ["sotp.tar.part"]);
    kill(
        Pid::from_raw(child.id().try_into().unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    Ran::of(child.wait_with_output().unwrap()).failed(130, &["interrupted"]);
    assert_eq!(names(file.parent().unwrap()), [""; 0]);
}

#[test]
fn a_backup_on_standard_output_is_nothing_else() {
    let server = Server::start(|_asked| Reply::Pieces(vec![b"archive".to_vec()], End::Said));
    let run = run_at(&server, &["backup", "create", "-"]).well();
    assert_eq!(run.out, "archive");
    assert!(run.err.contains(&sha256(b"archive")), "{run:?}");
}

/// A daemon that is busy with a backup at the first looks.
fn makes_a_backup(end: Value) -> Server {
    let looks = Mutex::new(0);
    Server::start(move |asked| {
        let mut looks = looks.lock().unwrap();
        *looks += 1;
        let running = json!({"id": "b/7", "state": "running", "begun": "2026-01-01T00:00:00Z", "bytes": 1_000});
        match (asked.line.starts_with("POST"), *looks) {
            (true, _) => Reply::Json(202, running),
            (false, 2) => Reply::Json(200, running),
            (false, _) => Reply::Json(200, end.clone()),
        }
    })
}

#[test]
fn a_backup_of_the_daemons_is_looked_at_until_it_is_done() {
    let done = json!({"id": "b/7", "state": "done", "where": "s3://b/p/x.tar", "bytes": 2_048, "error": null});
    let server = makes_a_backup(done);
    let run = run_at(&server, &["backup", "create", "s3://b/p", "-o", "table"]).well();
    assert!(run.out.contains("s3://b/p/x.tar") && run.out.contains("2.0 KiB (2048 bytes)"));
    assert_eq!(run.err, "");
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /api/v1/backups");
    assert_eq!(asked[0].json(), json!({"to": "s3://b/p"}));
    assert_eq!(asked[1].line, "GET /api/v1/backups/runs/b%2F7");

    let failed = json!({"id": "b/7", "state": "failed", "error": "the bucket is gone"});
    let server = makes_a_backup(failed);
    run_at(&server, &["backup", "create"]).failed(1, &["the bucket is gone"]);
    assert_eq!(server.asked()[0].json(), json!({}));
}

#[test]
fn on_a_terminal_one_sees_how_far_a_backup_has_come() {
    let done = json!({"id": "b/7", "state": "done", "where": "/var/backups/x.tar", "bytes": 2_048});
    let server = makes_a_backup(done);
    let home = Home::new();
    let token = home.file("token", "sotp_abc\n");
    let words = format!(
        "--server {} --fingerprint {} --token-file {token} backup create",
        server.url, server.fingerprint
    );
    let terminal = Terminal::run(&home, &words);
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(
        seen.contains("1000 B") && seen.contains("Ctrl-C ends the looking"),
        "{seen}"
    );
    assert!(seen.contains("/var/backups/x.tar"), "{seen}");
}

#[test]
fn backups_are_listed_with_their_size() {
    let item = json!({"name": "sotp-1.tar", "bytes": 1_048_576, "made_at": "2026-01-01T00:00:00Z", "encrypted": true, "at": "s3://b/p/sotp-1.tar"});
    let server =
        Server::start(move |_asked| Reply::Json(200, json!({"items": [item], "to": "s3://b/p"})));
    let run = run_at(&server, &["backup", "ls", "-o", "table"]).well();
    assert!(
        run.out.contains("sotp-1.tar") && run.out.contains("1.0 MiB"),
        "{run:?}"
    );
    let run = run_at(&server, &["backup", "ls", "-o", "tsv"]).well();
    assert_eq!(
        run.out.lines().next(),
        Some("name\tbytes\tmade_at\tencrypted\tat")
    );
}
