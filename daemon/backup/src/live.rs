//! Backups in a real S3 server on this machine: moto, started by each test.
//!
//! Its Python is looked for at `$SOTP_S3`, then at
//! `~/.cache/sotp/s3/bin/python` (`packaging/deps.sh test` puts it there). Where
//! there is none, the test prints SKIPPED and passes, unless `SOTP_NO_SKIP=1`.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fetch::{FetchSettings, Fetcher};
use hyper::Request;
use model::Timestamp;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use crate::pipe::{Pieces, pipe};
use crate::s3::{S3, S3Settings, SecretKey};
use crate::{BackupError, BackupName, Place, PlaceSettings};

const ACCESS_KEY: &str = "AKIATEST";
const SECRET: &str = "hunter2/secret+key";
const BUCKET: &str = "backups";
const REGION: &str = "eu-central-1";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[expect(clippy::print_stderr, reason = "a test that is left out is to be seen")]
fn python() -> Option<PathBuf> {
    let named = env::var_os("SOTP_S3").map(PathBuf::from);
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut places = named
        .into_iter()
        .chain([home.join(".cache/sotp/s3/bin/python")]);
    let found = places.find(|place| place.is_file());
    if found.is_none() {
        let must = env::var_os("SOTP_NO_SKIP").is_some_and(|value| value == "1");
        assert!(
            !must,
            "there is no S3 server: see daemon/backup/src/live.rs"
        );
        eprintln!("SKIPPED: there is no S3 server: see daemon/backup/src/live.rs");
    }
    found
}

/// A server with one empty bucket.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    async fn start() -> Option<Server> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/live_server.py");
        let mut child = Command::new(python()?)
            .arg(script)
            .args([ACCESS_KEY, SECRET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the server says its port");
        let server = Server { child, port };
        server.make_bucket(BUCKET).await;
        Some(server)
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn make_bucket(&self, name: &'static str) {
        let address = self.address().parse().unwrap();
        // outside us-east-1 a bucket would have to say where it is to lie
        let bucket = Bucket::new(address, UrlStyle::Path, name, "us-east-1").unwrap();
        let keys = Credentials::new(ACCESS_KEY, SECRET);
        let address = bucket.create_bucket(&keys).sign(PATIENCE);
        let request = Request::put(address.as_str()).header("content-length", 0);
        let request = request.body(Bytes::new()).unwrap();
        let answer = fetcher().fetch(request).await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.body());
    }

    /// Uploads in parts that were neither completed nor thrown away.
    async fn open_uploads(&self) -> usize {
        let address = self.address().parse().unwrap();
        let bucket = Bucket::new(address, UrlStyle::Path, BUCKET, REGION).unwrap();
        let keys = Credentials::new(ACCESS_KEY, SECRET);
        let mut list = bucket.list_objects_v2(Some(&keys));
        for name in ["list-type", "encoding-type"] {
            list.query_mut().remove(name);
        }
        list.query_mut().insert("uploads", "");
        let request = Request::get(list.sign(PATIENCE).as_str()).body(Bytes::new());
        let answer = fetcher().fetch(request.unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(text.contains("ListMultipartUploadsResult"), "{text}");
        text.matches("<UploadId>").count()
    }

    fn settings(&self) -> S3Settings {
        settings(self.address())
    }

    fn place(&self) -> Place {
        place(self.settings())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fetcher() -> Fetcher {
    Fetcher::new(&FetchSettings {
        ca_file: None,
        timeout: PATIENCE,
        max_body: 1 << 20,
    })
    .unwrap()
}

fn settings(endpoint: String) -> S3Settings {
    S3Settings {
        endpoint: Some(endpoint),
        region: REGION.to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: "noc/sotp".to_owned(),
        path_style: true,
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SecretKey::known(Zeroizing::new(SECRET.to_owned())),
        ca_file: None,
        timeout: PATIENCE,
    }
}

fn place(settings: S3Settings) -> Place {
    Place::new(&PlaceSettings::S3(settings)).unwrap()
}

fn name(day: u32) -> BackupName {
    let at: Timestamp = "2026-11-01T02:30:00Z".parse().unwrap();
    BackupName::new("core", at.plus(Duration::from_secs(86_400) * day), false)
}

/// Bytes of which no two parts are alike.
fn content(length: usize) -> Vec<u8> {
    let number = |at: usize| (at / 8 * 2_654_435_761) as u64;
    (0..length)
        .map(|at| number(at).to_le_bytes()[at % 8])
        .collect()
}

/// The pieces of `content`; after them the end, or `failure`.
fn pieces(content: Vec<u8>, failure: Option<BackupError>) -> Pieces {
    let (sender, pieces) = pipe();
    tokio::spawn(async move {
        let mut content = Bytes::from(content);
        while !content.is_empty() {
            let piece = content.split_to(content.len().min(300_000));
            if !sender.send(piece).await {
                return;
            }
        }
        sender.end(failure.map_or(Ok(()), Err)).await;
    });
    pieces
}

async fn put(place: &Place, name: &BackupName, content: &[u8]) -> Result<u64, BackupError> {
    let about = content.len() as u64;
    place.put(name, about, pieces(content.to_vec(), None)).await
}

async fn read(place: &Place, name: &BackupName) -> std::io::Result<Vec<u8>> {
    let mut reader = place.open(name).await.unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).map(|_| content)
    });
    reading.await.unwrap()
}

/// An error, as it is logged; nothing of a key is in it.
fn shown(error: &BackupError) -> String {
    let text = format!("{error} {error:?}");
    for secret in [SECRET, "canary", "X-Amz-Signature"] {
        assert!(!text.contains(secret), "{text}");
    }
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_into_a_bucket_is_listed_read_and_removed() {
    let Some(server) = Server::start().await else {
        return;
    };
    let place = server.place();
    assert_eq!(place.list().await.unwrap(), []);
    for (day, length) in [
        (1, 0),
        (2, 1_000),
        (3, 8 << 20),
        (4, 40 << 20),
        (5, (16 << 20) + 1),
    ] {
        let content = content(length);
        let bytes = put(&place, &name(day), &content).await.unwrap();
        assert_eq!(bytes, length as u64);
        assert!(
            read(&place, &name(day)).await.unwrap() == content,
            "{length}"
        );
    }
    let found = place.list().await.unwrap();
    let names: Vec<_> = found.iter().map(|found| found.name.clone()).collect();
    assert_eq!(names, [5, 4, 3, 2, 1].map(name));
    assert_eq!(found[1].bytes, 40 << 20);
    assert!(found[1].modified.is_some());
    assert_eq!(server.open_uploads().await, 0);

    place.remove(&name(4)).await.unwrap();
    place.remove(&name(4)).await.unwrap();
    assert_eq!(place.list().await.unwrap().len(), 4);
    let error = place.open(&name(4)).await.err().unwrap();
    assert!(matches!(error, BackupError::Missing { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_many_pages_is_read_to_its_end_and_has_backups_alone() {
    let Some(server) = Server::start().await else {
        return;
    };
    let place = server.place();
    for day in 1..=7 {
        put(&place, &name(day), b"x").await.unwrap();
    }
    // of somebody else, and of ours under another prefix
    let other = Place::new(&PlaceSettings::S3(S3Settings {
        prefix: "noc/sotp/sotp-core".to_owned(),
        ..server.settings()
    }));
    put(&other.unwrap(), &name(9), b"x").await.unwrap();
    let paged = S3::new(&server.settings()).unwrap().with_page(3);
    let mut found: Vec<_> = paged.list().await.unwrap();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = found.into_iter().map(|found| found.name).collect();
    assert_eq!(names, (1..=7).map(name).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_fails_in_its_middle_leaves_nothing() {
    let Some(server) = Server::start().await else {
        return;
    };
    let place = server.place();
    for length in [1_000, 20 << 20] {
        let broken = Some(BackupError::Interrupted);
        let about = length as u64;
        let error = place
            .put(&name(1), about, pieces(content(length), broken))
            .await;
        assert!(matches!(error, Err(BackupError::Interrupted)), "{error:?}");
    }
    // whoever sends the pieces is gone without a word
    let (sender, gone) = pipe();
    drop(sender);
    let error = place.put(&name(1), 1, gone).await;
    assert!(matches!(error, Err(BackupError::Interrupted)), "{error:?}");
    assert_eq!(place.list().await.unwrap(), []);
    assert_eq!(server.open_uploads().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_what_to_do() {
    let Some(server) = Server::start().await else {
        return;
    };
    let with = |change: fn(&mut S3Settings)| {
        let mut settings = server.settings();
        change(&mut settings);
        place(settings)
    };
    let refused = |place: Place| async move {
        let listed = shown(&place.list().await.unwrap_err());
        let put = shown(&put(&place, &name(1), b"x").await.unwrap_err());
        let hint = |text: &str| text.rsplit(": ").next().unwrap().to_owned();
        assert_eq!(hint(&listed), hint(&put));
        put
    };
    let said = refused(with(|settings| {
        settings.access_key = "AKIAOTHER".to_owned();
    }))
    .await;
    assert!(said.contains("access_key is not known there"), "{said}");
    let other = |settings: &mut S3Settings| {
        settings.secret_key = SecretKey::known(Zeroizing::new("canary".to_owned()));
    };
    let said = refused(with(other)).await;
    assert!(
        said.contains("the secret of access_key is another one"),
        "{said}"
    );
    let said = refused(with(|settings| "nowhere".clone_into(&mut settings.bucket))).await;
    assert!(said.contains("make the bucket, or correct to"), "{said}");
    let sealed = |settings: &mut S3Settings| {
        settings.secret_key = SecretKey::new(|| async { Err("the vault is sealed".to_owned()) });
    };
    let said = refused(with(sealed)).await;
    assert!(said.contains("the vault is sealed"), "{said}");
}

/// Between us and the server: hands everything on, until so many bytes went up.
struct Wire {
    port: u16,
    left: Arc<AtomicUsize>,
}

impl Wire {
    async fn to(server: u16) -> Wire {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let shared = left.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let left = shared.clone();
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", server)).await;
                    if left.load(Ordering::SeqCst) > 0 {
                        carry(client, server.unwrap(), &left).await;
                    }
                });
            }
        });
        Wire { port, left }
    }

    fn place(&self) -> Place {
        place(settings(format!("http://127.0.0.1:{}", self.port)))
    }
}

async fn carry(client: TcpStream, server: TcpStream, left: &AtomicUsize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let before = left.load(Ordering::SeqCst);
            left.store(before.saturating_sub(read), Ordering::SeqCst);
            if read >= before || to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let down = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        () = up => {}
        _ = down => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_the_middle_is_asked_again_and_then_given_up() {
    let Some(server) = Server::start().await else {
        return;
    };
    let wire = Wire::to(server.port).await;
    let place = wire.place();
    wire.left.store(12 << 20, Ordering::SeqCst);
    let error = put(&place, &name(1), &content(30 << 20)).await.unwrap_err();
    let said = shown(&error);
    assert!(said.contains("cannot reach 127.0.0.1"), "{said}");
    wire.left.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(place.list().await.unwrap(), []);
    // nobody was there to throw the parts away
    assert_eq!(server.open_uploads().await, 1);

    let all = content(30 << 20);
    put(&place, &name(2), &all).await.unwrap();
    let mut reader = place.open(&name(2)).await.unwrap();
    wire.left.store(1, Ordering::SeqCst);
    let reading = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
    let error = reading.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("cannot reach"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_once_does_no_harm() {
    let Some(server) = Server::start().await else {
        return;
    };
    let wire = Wire::to(server.port).await;
    let place = wire.place();
    wire.left.store(12 << 20, Ordering::SeqCst);
    let left = wire.left.clone();
    let healing = tokio::spawn(async move {
        while left.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        left.store(usize::MAX, Ordering::SeqCst);
    });
    let all = content(30 << 20);
    put(&place, &name(1), &all).await.unwrap();
    healing.await.unwrap();
    assert!(read(&place, &name(1)).await.unwrap() == all);
    assert_eq!(server.open_uploads().await, 0);
}

#[tokio::test]
async fn plain_http_goes_to_this_machine_alone() {
    let place = place(settings("http://192.0.2.1".to_owned()));
    let said = shown(&place.list().await.unwrap_err());
    assert!(said.contains("neither https nor on this machine"), "{said}");
}
