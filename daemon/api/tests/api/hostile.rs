use std::time::Duration;

use api::Limits;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::harness::{limits, read_answer, served, served_with};

#[tokio::test]
async fn an_unknown_path_or_method_is_a_problem_that_helps() {
    let api = served().await;
    let answer = api.get("/api/v1/devcies").await;
    let problem = answer.expect(404);
    assert_eq!(problem["type"], "/problems/not-found");
    assert_eq!(problem["instance"].as_str(), answer.header("x-request-id"));
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("/api/v1/devcies")
    );

    let answer = api.ask("DELETE", "/api/v1/status", &[], b"").await;
    assert_eq!(answer.expect(405)["type"], "/problems/method-not-allowed");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    let answer = api.ask("BREW", "/api/v1/devices/1", &[], b"").await;
    answer.expect(405);
    assert_eq!(answer.header("allow"), Some("GET,HEAD,PUT,PATCH,DELETE"));
}

#[tokio::test]
async fn a_body_of_the_wrong_kind_is_refused_with_the_right_one() {
    let api = served().await;
    let answer = api.ask("POST", "/api/v1/devices", &[], b"name=x").await;
    let problem = answer.expect(415);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("application/json")
    );
    let json = [("content-type", "application/json; charset=utf-8")];
    let answer = api
        .ask("POST", "/api/v1/devices", &json, b"{\"name\": ")
        .await;
    let problem = answer.expect(400);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("line 1 column")
    );
    let answer = api.ask("POST", "/api/v1/devices", &json, b"").await;
    answer.expect(400);
    let deep = "[".repeat(100_000);
    let answer = api
        .ask("POST", "/api/v1/devices", &json, deep.as_bytes())
        .await;
    answer.expect(400);
    let answer = api
        .ask("POST", "/api/v1/devices", &json, b"{\"name\": \"\xff\"}")
        .await;
    answer.expect(400);
    let answer = api.ask("POST", "/api/v1/devices", &json, b"17").await;
    answer.expect(422);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let api = served_with(Limits {
        body_bytes: 1_000,
        ..limits()
    })
    .await;
    let head = "POST /api/v1/devices HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let stated = format!("{head}content-length: 999999999\r\n\r\n");
    let answer = api.raw(stated.as_bytes()).await;
    assert_eq!(answer.expect(413)["type"], "/problems/body-too-large");

    let unstated = format!(
        "{head}transfer-encoding: chunked\r\n\r\n800\r\n{}\r\n0\r\n\r\n",
        "x".repeat(0x800)
    );
    api.raw(unstated.as_bytes()).await.expect(413);
}

#[tokio::test]
async fn a_refusal_repeats_little_of_what_was_sent() {
    let api = served().await;
    let unbroken = "x".repeat(1_000_000);
    let spaced = "x ".repeat(500_000);
    let many: serde_json::Map<_, _> = (0..100)
        .map(|n| (format!("{n}{}", "x".repeat(9_000)), json!(1)))
        .collect();
    let mut sent = vec![("devices", json!(many)), ("users", json!({"tags": many}))];
    for long in [&unbroken, &spaced] {
        for body in [
            json!({"name": long, "address": "10.0.0.1"}),
            json!({"name": "a", "address": long}),
            json!({long.as_str(): 1}),
            json!({"name": "a", "address": "10.0.0.1", "credential": long}),
            json!({"name": "a", "address": "10.0.0.1", "kind": long, "site": "s"}),
            json!({"name": "a", "address": "10.0.0.1", "parents": [long]}),
            json!({"name": "a", "address": "10.0.0.1", "tags": [long], "os": "x"}),
            json!({"name": "a", "address": "10.0.0.1", "tenant": long}),
            json!({"name": "a", "address": "10.0.0.1", "poll": {"icmp": {"every": long}}}),
        ] {
            sent.push(("devices", body));
        }
        sent.push(("users", json!({"name": long, "bindings": []})));
        sent.push(("users", json!({"name": "a", "bindings": [{"role": long}]})));
        sent.push(("tenants", json!({"name": long})));
        sent.push((
            "tokens",
            json!({"name": long, "kind": long, "expires": long}),
        ));
        sent.push((
            "sessions",
            json!({"user": long, "password": long, long.as_str(): 1}),
        ));
        sent.push(("rules", json!({"name": long, "severity": long})));
    }
    for (resource, body) in sent {
        let answer = api.post(&format!("/api/v1/{resource}"), &body).await;
        let told: String = body.to_string().chars().take(80).collect();
        assert!(
            (400..500).contains(&answer.status),
            "{resource} {told} {}",
            answer.status
        );
        assert!(
            answer.body.len() < 10_000,
            "{resource} {told} {}",
            answer.body.len()
        );
        for repeated in ["x".repeat(201), "x ".repeat(101)] {
            assert!(
                !answer.body.contains(&repeated),
                "{resource} {told} {}",
                answer.body
            );
        }
    }
    let path = format!("/api/v1/{}", "x".repeat(30_000));
    let answer = api.get(&path).await;
    answer.expect(404);
    assert!(answer.body.len() < 1_000, "{}", answer.body);
}

#[tokio::test]
async fn a_header_that_is_too_large_or_too_long_is_refused() {
    let api = served().await;
    let large = format!(
        "GET /health/live HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    assert_eq!(api.raw(large.as_bytes()).await.status, 431);
    let many = format!(
        "GET /health/live HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    assert_eq!(api.raw(many.as_bytes()).await.status, 431);
    for garbage in [
        "\r\n\r\nGET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{0}binary\r\n\r\n",
        "POST /api/v1/devices HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /api/v1/devices HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    ] {
        assert_eq!(api.raw(garbage.as_bytes()).await.status, 400, "{garbage:?}");
    }
    api.get("/health/live").await.expect(200);
}

#[tokio::test]
async fn a_header_that_does_not_arrive_closes_the_connection() {
    let api = served().await;
    for begin in ["", "GET /health/live HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = UnixStream::connect(&api.socket).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{begin:?} is still open");
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_answered_and_closed() {
    let api = served_with(Limits {
        request_timeout: Duration::from_millis(600),
        ..limits()
    })
    .await;
    let head = "POST /api/v1/devices HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let answer = api.raw(head.as_bytes()).await;
    assert_eq!(answer.expect(408)["type"], "/problems/too-slow");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_gives_its_place_back() {
    let api = served_with(Limits {
        connections: 1,
        request_timeout: Duration::from_millis(800),
        ..limits()
    })
    .await;
    let mut greedy = UnixStream::connect(&api.socket).await.unwrap();
    let ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
    // many answers of 100 kB do not fit into the socket's buffer
    greedy.write_all(&ask.repeat(50)).await.unwrap();
    let began = Instant::now();
    while api.get("/health/live").await.status != 200 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the place is still taken"
        );
    }
}

#[tokio::test]
async fn two_hundred_half_open_requests_do_not_keep_others_out() {
    let api = served().await;
    let mut half_open = Vec::new();
    for n in 0..200 {
        let mut stream = UnixStream::connect(&api.socket).await.unwrap();
        let begin = "GET /health/live HTTP/1.1\r\nhost: x\r\nx: ";
        stream
            .write_all(&begin.as_bytes()[..n % begin.len()])
            .await
            .unwrap();
        half_open.push(stream);
    }
    let began = Instant::now();
    api.get("/health/live").await.expect(200);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_are_told_and_let_in_later() {
    let api = served_with(Limits {
        connections: 8,
        ..limits()
    })
    .await;
    let mut half_open = Vec::new();
    for _ in 0..100 {
        half_open.push(UnixStream::connect(&api.socket).await.unwrap());
    }
    let began = Instant::now();
    let mut turned_away = 0;
    loop {
        let answer = api.get("/health/live").await;
        match answer.status {
            200 => break,
            503 => {
                assert_eq!(answer.header("retry-after"), Some("5"));
                assert_eq!(answer.json()["type"], "/problems/unavailable");
                turned_away += 1;
            }
            other => panic!("{other}: {answer:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nobody gets in");
    }
    let metrics = api.get("/metrics").await.body;
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("sotp_api_connections_turned_away_total "))
        .unwrap();
    assert!(counted.parse::<u32>().unwrap() >= turned_away, "{counted}");
}

#[tokio::test]
async fn a_panic_in_a_handler_ends_one_request_and_is_counted() {
    let api = served().await;
    *api.daemon.panics.lock().unwrap() = true;
    let answer = api.get("/api/v1/status").await;
    let problem = answer.expect(500);
    assert_eq!(problem["type"], "/problems/internal");
    assert_eq!(problem["instance"].as_str(), answer.header("x-request-id"));
    assert!(
        !answer.body.contains("a fault of the daemon"),
        "{}",
        answer.body
    );
    *api.daemon.panics.lock().unwrap() = false;
    api.get("/api/v1/status").await.expect(200);
    let metrics = api.get("/metrics").await.body;
    assert!(metrics.contains("\nsotp_api_panics_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn the_network_sees_health_and_metrics_and_nothing_else() {
    let api = served().await;
    let ask = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
    };
    for path in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(
            api.raw_tcp(ask("GET", path).as_bytes()).await.status,
            200,
            "{path}"
        );
    }
    for (method, path) in [
        ("GET", "/api/v1/devices"),
        ("POST", "/api/v1/devices"),
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/"),
        ("GET", "//api/v1/devices"),
        ("GET", "/health/../api/v1/devices"),
    ] {
        let answer = api.raw_tcp(ask(method, path).as_bytes()).await;
        assert_eq!(answer.status, 404, "{method} {path}");
    }
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_one_after_the_other() {
    let api = served().await;
    let mut stream = UnixStream::connect(&api.socket).await.unwrap();
    let one = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /health/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream
        .write_all(format!("{one}{last}").as_bytes())
        .await
        .unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("HTTP/1.1 200 OK"), "{}", answer.body);
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_hand_and_does_not_wait_for_idlers() {
    let mut api = served().await;
    let mut idle = UnixStream::connect(&api.socket).await.unwrap();
    idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 1];
    idle.read_exact(&mut first).await.unwrap();
    let mut slow = UnixStream::connect(&api.socket).await.unwrap();
    let body = json!({"name": "core1", "address": "10.0.0.1"}).to_string();
    let head = format!(
        "POST /api/v1/devices HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&body.as_bytes()[..5]).await.unwrap();
    // the request has begun once the connection is counted
    while !api
        .get("/metrics")
        .await
        .body
        .contains("\nsotp_api_connections 3\n")
    {}

    api.stop.cancel();
    slow.write_all(&body.as_bytes()[5..]).await.unwrap();
    assert_eq!(read_answer(&mut slow).await.status, 201);
    for server in std::mem::take(&mut api.servers) {
        timeout(Duration::from_secs(10), server)
            .await
            .unwrap()
            .unwrap();
    }
    assert!(UnixStream::connect(&api.socket).await.is_err());
}
