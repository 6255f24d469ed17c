use std::time::Duration;

use api::BackupRefused;
use axum::body::Bytes;
use model::{AuditOutcome, Role};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::harness::{FakeBackups, NOW, Served, limits, pieces, request, served, served_with};

const PATH: &str = "/api/v1/backups";

impl Served {
    fn backups(&self) -> std::sync::Arc<FakeBackups> {
        self.daemon.backups.lock().unwrap().clone().unwrap()
    }

    /// Object and more of each backup in the audit log, oldest first.
    async fn noted_backups(&self) -> Vec<(String, String)> {
        let store = self.store.clone();
        let ask = store::AuditAsk::newest(100);
        let read = tokio::task::spawn_blocking(move || store.audit(&ask));
        let lines = read.await.unwrap().unwrap();
        let mut noted: Vec<_> = lines
            .into_iter()
            .filter(|line| line.action == "backup.create")
            .inspect(|line| assert_eq!(line.outcome, AuditOutcome::Done))
            .map(|line| (line.object, line.after.unwrap_or_default()))
            .collect();
        noted.reverse();
        noted
    }
}

#[tokio::test]
async fn backups_are_listed_with_those_that_were_begun() {
    let api = served().await;
    let list = api.get(PATH).await.expect(200);
    assert_eq!(
        list["items"],
        json!([{
            "name": "sotp-1.tar", "at": "/var/backups/sotp/sotp-1.tar",
            "made_at": NOW.to_string(), "bytes": 1000, "encrypted": true,
        }])
    );
    let run = json!({
        "id": 1, "state": "failed", "begun": NOW.to_string(), "ended": NOW.to_string(),
        "bytes": 77, "where": "/var/backups/sotp", "error": "the bucket is gone",
    });
    assert_eq!(list["runs"], json!([run]));
    assert_eq!(api.get(&format!("{PATH}/runs/1")).await.expect(200), run);
    api.get(&format!("{PATH}/runs/9")).await.expect(404);
    api.get(&format!("{PATH}/runs/x")).await.expect(400);
}

#[tokio::test]
async fn a_backup_is_begun_once_for_a_key_and_written_down() {
    let api = served().await;
    let key = [
        ("idempotency-key", "k1"),
        ("content-type", "application/json"),
    ];
    let body = json!({"to": "s3://bucket/x.tar"}).to_string();
    for _again in 0..2 {
        let answer = api.ask("POST", PATH, &key, body.as_bytes()).await;
        assert_eq!(answer.header("location"), Some("/api/v1/backups/runs/2"));
        let run = answer.expect(202);
        assert_eq!(
            (&run["state"], &run["where"]),
            (&json!("running"), &json!("s3://bucket/x.tar"))
        );
    }
    let where_the_settings_say = api.ask("POST", PATH, &[], b"").await;
    where_the_settings_say.expect(202);
    let started = api.backups().started.lock().unwrap().clone();
    assert_eq!(started, [Some("s3://bucket/x.tar".to_owned()), None]);
    assert_eq!(
        api.noted_backups().await,
        [
            (
                "backup:2".to_owned(),
                r#"{"to":"s3://bucket/x.tar"}"#.to_owned()
            ),
            (
                "backup:3".to_owned(),
                r#"{"to":"/var/backups/sotp"}"#.to_owned()
            ),
        ]
    );
}

#[tokio::test]
async fn a_place_that_is_none_is_refused_before_anything_begins() {
    let api = served().await;
    for to in [
        json!("relative"),
        json!("/a\nb"),
        json!("http://x"),
        json!(7),
        json!(""),
    ] {
        let mistakes = api.post(PATH, &json!({ "to": to })).await.mistakes(422);
        assert_eq!(mistakes[0].0, "/to", "{to}");
    }
    let long = format!("/{}", "x".repeat(5000));
    api.post(PATH, &json!({ "to": long })).await.expect(422);
    assert!(api.backups().started.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_cannot_make_one_says_why() {
    let api = served().await;
    for (refusal, status, what) in [
        (BackupRefused::Busy, 409, "is being made"),
        (
            BackupRefused::To("/x is not a directory".into()),
            422,
            "/x is not",
        ),
        (
            BackupRefused::Unavailable("the disk is full".into()),
            503,
            "disk is full",
        ),
    ] {
        *api.backups().refusal.lock().unwrap() = Some(refusal);
        for path in [PATH.to_owned(), format!("{PATH}/stream")] {
            let problem = api.post(&path, &json!({})).await.expect(status);
            assert!(
                problem["detail"].as_str().unwrap().contains(what),
                "{problem}"
            );
        }
    }
    *api.daemon.backups.lock().unwrap() = None;
    for path in [PATH, "/api/v1/backups/runs/1"] {
        let problem = api.get(path).await.expect(409);
        assert!(problem["detail"].as_str().unwrap().contains("[backup]"));
    }
    assert_eq!(api.noted_backups().await, []);
}

#[tokio::test]
async fn a_backup_of_everything_is_for_those_alone_who_may_everywhere() {
    let api = served().await;
    api.set_up().await;
    api.tenant("other").await;
    let token = api.role(Role::Admin, Some("other")).await;
    for (method, path) in [
        ("GET", PATH),
        ("POST", PATH),
        ("GET", "/api/v1/backups/runs/1"),
        ("POST", "/api/v1/backups/stream"),
    ] {
        let answer = api.https(Some(&token), method, path, &[], b"").await;
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
    }
    assert!(api.backups().started.lock().unwrap().is_empty());
}

/// The body of a chunked answer, and whether its end came.
fn whole(body: &str) -> (String, bool) {
    let (mut text, mut rest) = (String::new(), body);
    loop {
        let Some((size, after)) = rest.split_once("\r\n") else {
            return (text, false);
        };
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            return (text, true);
        }
        text.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
}

#[tokio::test]
async fn a_backup_is_streamed_and_its_end_comes_only_if_it_is_whole() {
    let api = served().await;
    let stream = format!("{PATH}/stream");
    let answer = api.ask("POST", &stream, &[], b"").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/x-tar"));
    assert_eq!(whole(&answer.body), ("archive".to_owned(), true));

    let breaks = [
        vec![Ok(Bytes::from("arch")), Err("the disk broke".to_owned())],
        vec![Ok(Bytes::from("arch"))],
    ];
    for broken in breaks {
        *api.backups().pieces.lock().unwrap() = Some(pieces(&broken));
        let mut client = UnixStream::connect(&api.socket).await.unwrap();
        let asked = request("POST", &stream, &[], b"");
        client.write_all(&asked).await.unwrap();
        let mut came = Vec::new();
        let _reset = client.read_to_end(&mut came).await;
        let came = String::from_utf8(came).unwrap();
        // not even the header may have come
        let body = came.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(!whole(body).1, "{broken:?}: {came}");
    }
    assert_eq!(api.noted_backups().await.len(), 3);
    assert_eq!(api.noted_backups().await[0].0, "backup:stream");
    let key = [("idempotency-key", "k")];
    let answer = api.ask("POST", &stream, &key, b"").await;
    assert_eq!(answer.status, 400, "it is not kept");
}

#[tokio::test]
async fn one_backup_is_streamed_at_a_time_for_as_long_as_it_takes() {
    let request_timeout = Duration::from_millis(200);
    let api = served_with(api::Limits {
        request_timeout,
        ..limits()
    })
    .await;
    let stream = format!("{PATH}/stream");
    let (sender, receiver) = mpsc::channel(1);
    *api.backups().pieces.lock().unwrap() = Some(receiver);
    let mut first = UnixStream::connect(&api.socket).await.unwrap();
    first
        .write_all(&request("POST", &stream, &[], b""))
        .await
        .unwrap();
    sender.send(Ok("slow".into())).await.unwrap();
    let mut came = vec![0; 1];
    first.read_exact(&mut came).await.unwrap();

    let problem = api.ask("POST", &stream, &[], b"").await.expect(409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("is being made")
    );
    // for longer than a request may take
    let began = tokio::time::Instant::now();
    let mut sent = "slow".to_owned();
    while began.elapsed() < 3 * request_timeout {
        sender.send(Ok("ly".into())).await.unwrap();
        sent.push_str("ly");
        let mut some = [0; 64];
        let read = first.read(&mut some).await.unwrap();
        came.extend_from_slice(&some[..read]);
    }
    sender.send(Ok(Bytes::new())).await.unwrap();
    first.read_to_end(&mut came).await.unwrap();
    let came = String::from_utf8(came).unwrap();
    let (_, body) = came.split_once("\r\n\r\n").unwrap();
    assert_eq!(whole(body), (sent, true));

    // it is free again
    let again = api.ask("POST", &stream, &[], b"").await;
    assert_eq!(again.status, 200);
}

#[tokio::test]
async fn who_hangs_up_ends_the_backup() {
    let api = served().await;
    let (sender, receiver) = mpsc::channel(1);
    *api.backups().pieces.lock().unwrap() = Some(receiver);
    let mut client = UnixStream::connect(&api.socket).await.unwrap();
    let asked = request("POST", &format!("{PATH}/stream"), &[], b"");
    client.write_all(&asked).await.unwrap();
    sender.send(Ok("arch".into())).await.unwrap();
    let mut begun = [0; 1];
    client.read_exact(&mut begun).await.unwrap();
    drop(client);
    let gone = tokio::time::timeout(Duration::from_secs(20), sender.closed());
    gone.await.expect("the producer is told");
}

#[tokio::test]
async fn an_answer_that_is_json_is_shown_without_a_backup() {
    let api = served().await;
    *api.daemon.backups.lock().unwrap() = None;
    let status: Value = api.get("/api/v1/status").await.expect(200);
    assert!(status["samples"].is_object());
}
