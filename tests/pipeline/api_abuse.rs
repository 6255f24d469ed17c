//! Clients that misbehave.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use harness::{Ask, Daemon, Folder, eventually};
use serde_json::json;

fn quiet_daemon(folder: &Folder) -> Daemon {
    folder.write_settings("", "[icmp]\nevery = \"60s\"\n");
    Daemon::start(folder, None)
}

#[test]
fn ten_thousand_lines_with_three_bad_ones_bring_9997_devices_and_three_reports() {
    let folder = Folder::new();
    let daemon = quiet_daemon(&folder);
    let mut csv = String::from("name,address,site\n");
    for place in 0..10_000_u32 {
        let address = match place {
            17 => "10.0.0.999".to_owned(),
            4_711 => "10.0.0.17".to_owned(), // d16 has it
            n => format!("10.{}.{}.{}", n / 60_000, n / 250 % 240, n % 250 + 1),
        };
        let name = if place == 9_998 {
            String::new()
        } else {
            format!("d{place}")
        };
        csv.push_str(&format!("{name},{address},s{}\n", place % 7));
    }
    let began = Instant::now();
    let report = daemon
        .try_request(
            "POST",
            "/api/v1/devices/import",
            Some(("text/csv", csv.as_bytes())),
        )
        .unwrap();
    let took = began.elapsed();
    assert_eq!(report.body["created"], 9_997, "{}", report.body);
    let failures = report.body["failures"].as_array().unwrap();
    let lines: Vec<_> = failures
        .iter()
        .map(|failure| failure["line"].clone())
        .collect();
    assert_eq!(
        lines,
        [json!(19), json!(4_713), json!(10_000)],
        "{failures:?}"
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn two_hundred_half_open_requests_starve_nobody() {
    let folder = Folder::new();
    let daemon = quiet_daemon(&folder);
    let mut half_open = Vec::new();
    for _client in 0..200 {
        let mut stream = UnixStream::connect(folder.socket()).unwrap();
        stream
            .write_all(b"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            .unwrap();
        half_open.push(stream);
    }
    let began = Instant::now();
    daemon.get("/health/live");
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    // and each of them is let go
    let mut first = half_open.swap_remove(0);
    first
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut answer = Vec::new();
    first.read_to_end(&mut answer).unwrap();
}

#[test]
fn three_times_as_many_connections_as_allowed_pass_within_seconds() {
    let folder = Folder::new();
    folder.write_settings("", "[icmp]\nevery = \"60s\"\n");
    let text = std::fs::read_to_string(folder.settings()).unwrap();
    let text = text.replace("listen = \"\"\n", "listen = \"\"\nconnections = 20\n");
    assert!(text.contains("connections = 20"));
    std::fs::write(folder.settings(), text).unwrap();
    let daemon = Daemon::start(&folder, None);

    let mut half_open: Vec<UnixStream> = (0..60)
        .map(|_client| {
            let mut stream = UnixStream::connect(folder.socket()).unwrap();
            // who is turned away may be gone already
            let _sent = stream.write_all(b"GET /api/v1/devices HTTP/1.1\r\nHost: x\r\nX-Slow: ");
            stream
        })
        .collect();
    let began = Instant::now();
    let response = daemon.try_request("GET", "/health/live", None).unwrap();
    assert!(
        [200, 503].contains(&response.status),
        "{} {}",
        response.status,
        response.body
    );
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    eventually(10, "health as if nothing had been", || {
        match daemon.try_request("GET", "/health/live", None) {
            Ok(response) if response.status == 200 => Ok(()),
            seen => Err(seen.map(|response| response.status)),
        }
    });
    // the cap was met: who came last was told so
    let last = half_open.pop().unwrap();
    assert_eq!(status_of(last), Some(503));
}

/// The status that the server answers on `stream`, until it closes.
fn status_of(mut stream: UnixStream) -> Option<u16> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut answer = Vec::new();
    // closing on what it did not read is an error after the answer
    let _reset = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    answer.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn too_much_of_anything_is_refused_with_its_number() {
    let folder = Folder::new();
    let daemon = quiet_daemon(&folder);
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(folder.socket()).unwrap();
        // the daemon may close before it has read all of it
        let _cut_off = stream.write_all(request.as_bytes());
        status_of(stream)
    };
    let large = 9 * 1024 * 1024;
    let body = format!(
        "POST /api/v1/devices HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {large}\r\n\r\n{}",
        "x".repeat(large)
    );
    assert_eq!(ask(&body), Some(413));
    let header = format!(
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n",
        "y".repeat(500 * 1024)
    );
    assert_eq!(ask(&header), Some(431));
    assert_eq!(daemon.get("/health/live")["status"], "ok");
}

#[test]
fn a_json_bomb_is_refused_within_a_second() {
    let folder = Folder::with_https();
    let daemon = crate::setup::quiet(&folder);
    let admin = daemon.set_up();
    let deep = |open: &str, close: &str, depth: usize| {
        let inner = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        format!("{{\"name\": \"x\", \"address\": {inner}}}")
    };
    let megabyte = 1024 * 1024 - 200;
    let bombs = [
        ("65 arrays", deep("[", "]", 65)),
        ("100,000 arrays", deep("[", "]", 100_000)),
        ("100,000 objects", deep("{\"a\":", "}", 100_000)),
        ("arrays that do not end", "[".repeat(megabyte)),
        (
            "a number of a megabyte",
            format!("{{\"name\": \"x\", \"address\": {}}}", "9".repeat(megabyte)),
        ),
        (
            "a huge exponent",
            "{\"name\": \"x\", \"address\": \"127.0.9.1\", \"parents\": [1e999999999]}".to_owned(),
        ),
        (
            "100,000 times the same key",
            format!("{{{}\"name\": \"y\"}}", "\"name\":\"x\",".repeat(80_000)),
        ),
        (
            "the same key twice",
            "{\"name\": \"x\", \"name\": \"y\", \"address\": \"127.0.9.1\"}".to_owned(),
        ),
        (
            "a name of a megabyte",
            format!(
                "{{\"name\": \"{}\", \"address\": \"127.0.9.1\"}}",
                "x".repeat(megabyte)
            ),
        ),
        (
            "text that is no UTF-8 when unescaped",
            "{\"name\": \"\\ud800\", \"address\": \"127.0.9.1\"}".to_owned(),
        ),
        ("nothing", String::new()),
        ("a zero byte", "\0".to_owned()),
    ];
    let ask = |path, kind, bomb: &str| {
        let began = Instant::now();
        let ask = Ask::new("POST", path).bytes(kind, bomb.as_bytes().to_vec());
        let response = admin.send(ask);
        (response, began.elapsed())
    };
    for (name, bomb) in &bombs {
        for (path, kind) in [
            ("/api/v1/devices", "application/json"),
            ("/api/v1/users", "application/json"),
            ("/api/v1/sessions", "application/json"),
        ] {
            let (response, took) = ask(path, kind, bomb);
            assert!(
                (400..500).contains(&response.status),
                "{name} to {path}: {} {}",
                response.status,
                response.body
            );
            assert!(took < Duration::from_secs(1), "{name} to {path}: {took:?}");
            // what came in is not sent back
            let told = response.body.to_string();
            assert!(told.len() < 10_000, "{name}: {} bytes", told.len());
        }
    }
    assert_eq!(daemon.get("/api/v1/devices")["items"], json!([]));
    assert_eq!(admin.look("/api/v1/me").status, 200);
}

/// Reads the head of an answer and as much body as it says.
fn answer_on(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(head)
}

#[test]
fn a_refusal_before_the_body_came_keeps_the_connection_or_says_that_it_closes() {
    let folder = Folder::with_https();
    let daemon = crate::setup::quiet(&folder);
    let admin = daemon.set_up();
    let reader = admin.service("reader", &json!([{"role": "READONLY"}]));
    let head = |length: usize| {
        format!(
            "POST /api/v1/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            reader.token()
        )
    };
    for length in [12, 10_000] {
        let mut stream = UnixStream::connect(folder.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.write_all(head(length).as_bytes()).unwrap();
        // the server may answer at once, or wait for the body
        let early = answer_on(&mut stream);
        if early
            .as_ref()
            .is_ok_and(|early| early.contains("connection: close"))
        {
            continue;
        }
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let sent = stream.write_all("x".repeat(length).as_bytes());
        assert!(sent.is_ok(), "{length} bytes: {sent:?} after {early:?}");
        let first = early.or_else(|_waits| answer_on(&mut stream));
        let first = first.unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        assert!(first.starts_with("http/1.1 403"), "{first}");
        stream.write_all(head(0).as_bytes()).unwrap();
        let second = answer_on(&mut stream);
        assert!(
            second.is_ok(),
            "{length} bytes: {second:?}, and the first said nothing of it: {first}"
        );
    }
}
