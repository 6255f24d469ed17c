//! Clients that misbehave.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use harness::{Daemon, Folder, eventually};
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
fn too_much_of_anything_is_refused_with_its_number() {
    let folder = Folder::new();
    let daemon = quiet_daemon(&folder);
    let large = vec![b'x'; 9 * 1024 * 1024];
    // the daemon may close before it has read all of it
    if let Ok(response) = daemon.try_request(
        "POST",
        "/api/v1/devices",
        Some(("application/json", &large)),
    ) {
        assert_eq!(response.status, 413, "{}", response.body);
    }
    let mut stream = UnixStream::connect(folder.socket()).unwrap();
    let header = format!(
        "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n",
        "y".repeat(500 * 1024)
    );
    let _cut_off = stream.write_all(header.as_bytes());
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    assert!(!answer.contains("200 OK"), "{answer}");
    eventually(5, "life goes on", || {
        daemon
            .try_request("GET", "/health/live", None)
            .map(|_| ())
            .map_err(|error| error.to_string())
    });
}
