//! Mail to a real mail server: Debian's python3-aiosmtpd, started by each test
//! on a port of its own. Where it is not installed these tests say so and do
//! nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::NotificationEvent::{Firing, Resolved, Test};
use model::{Channel, Delivery, DeliveryState, Timestamp};
use store::{Store, StoreOptions};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, ChildStdout};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::drain::tests::drain_desk;
use crate::settings::tests::settings;
use crate::words::tests::{NIGHT, delivery};
use crate::{MailHealth, MailSettings, Mailer, Secret, Tls};

/// The Debian package's Python; another one in PATH may not have the module.
const PYTHON: &str = "/usr/bin/python3";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the mail server is there; says so if it is not.
#[expect(
    clippy::print_stderr,
    reason = "a test that does nothing has to say so"
)]
fn is_there() -> bool {
    let tried = Command::new(PYTHON)
        .args(["-c", "import aiosmtpd"])
        .stderr(Stdio::null())
        .status();
    let is_there = tried.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("SKIPPED: {PYTHON} has no aiosmtpd; apt-get install python3-aiosmtpd");
    }
    is_there
}

/// A mail server that runs until it is dropped.
struct MailServer {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
    folder: TempDir,
    /// What it said so far.
    said: Vec<String>,
}

impl MailServer {
    async fn start(options: &[&str]) -> MailServer {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testing/smtp_server.py");
        let mut process = tokio::process::Command::new(PYTHON)
            .arg(script)
            .arg(folder.path().join("mail"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut server = MailServer {
            _process: process,
            lines,
            port: 0,
            folder,
            said: Vec::new(),
        };
        let ready = server.next_line().await;
        server.port = ready.strip_prefix("ready ").unwrap().parse().unwrap();
        server
    }

    async fn next_line(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("the mail server says something")
            .unwrap()
            .expect("the mail server runs")
    }

    /// Waits until it took `count` mails; returns to whom, in order, each with
    /// its Message-ID.
    async fn mails(&mut self, count: usize) -> Vec<(String, String)> {
        while self.taken().len() < count {
            let line = self.next_line().await;
            self.said.push(line);
        }
        self.taken()
    }

    fn taken(&self) -> Vec<(String, String)> {
        self.said
            .iter()
            .filter_map(|line| line.strip_prefix("mail ")?.split_once(' '))
            .map(|(to, id)| (to.to_owned(), id.to_owned()))
            .collect()
    }

    /// How often somebody connected so far.
    fn connections(&self) -> usize {
        self.said.iter().filter(|line| *line == "line").count()
    }

    /// The mails in the Maildir, in no order.
    fn maildir(&self) -> Vec<String> {
        let new = self.folder.path().join("mail/new");
        std::fs::read_dir(new)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect()
    }
}

/// A certificate authority and a certificate of localhost and 127.0.0.1.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |line: &str| {
            let done = Command::new("openssl")
                .args(line.split(' '))
                .current_dir(folder.path())
                .output()
                .expect("openssl is installed");
            assert!(
                done.status.success(),
                "{}",
                String::from_utf8_lossy(&done.stderr)
            );
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"
        ));
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
        std::fs::write(folder.path().join("names"), names).unwrap();
        openssl(&format!(
            "req {key} -keyout key.pem -out request -subj /CN=localhost"
        ));
        openssl(
            "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names",
        );
        Certificates(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

/// A port that refuses connections and that nobody gets by chance, but that a
/// server can be started on.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Settings for a server on this machine, with waits for people in a hurry.
fn to_port(port: u16) -> MailSettings {
    MailSettings {
        server: "127.0.0.1".to_owned(),
        port,
        timeout: Duration::from_secs(10),
        retry_min: Duration::from_millis(50),
        retry_max: Duration::from_millis(400),
        ..settings()
    }
}

/// A reconciler that runs until it is dropped.
struct Office {
    desk: Desk,
    health: MailHealth,
    mailers: watch::Sender<Option<Arc<Mailer>>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Office {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Office {
    fn open(desk: &Desk, settings: MailSettings) -> Office {
        let mailer = Some(Arc::new(Mailer::new(settings).unwrap()));
        let (mailers, watched) = watch::channel(mailer);
        let health = MailHealth::default();
        let stop = CancellationToken::new();
        let began = Instant::now();
        let clock = move || NIGHT.plus(began.elapsed());
        let task = drain_desk(desk, watched, &health, clock, &stop);
        Office {
            desk: desk.clone(),
            health,
            mailers,
            stop,
            task: tokio::spawn(task),
        }
    }

    async fn until(&self, is_so: impl Fn(&Office) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            let seen = (self.desk.states(), self.health.status());
            assert!(began.elapsed() < PATIENCE, "{seen:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn all_delivered(&self) {
        self.until(|office| office.desk.are_all_delivered()).await;
    }

    /// Waits until a try failed for a reason with `words` in it.
    async fn failed_for(&self, words: &str) {
        self.until(|office| {
            let error = office.health.status().last_error;
            error.is_some_and(|(_, why)| why.contains(words))
        })
        .await;
    }
}

#[tokio::test]
async fn a_run_of_mails_goes_over_one_plain_line_in_order() {
    if !is_there() {
        return;
    }
    let mut server = MailServer::start(&[]).await;
    let desk = Desk::empty();
    desk.add(Firing, "a@example.net");
    desk.add(Resolved, "b@example.net");
    desk.add(Firing, "c@example.net");
    let office = Office::open(&desk, to_port(server.port));
    office.all_delivered().await;

    let to: Vec<String> = server
        .mails(3)
        .await
        .into_iter()
        .map(|(to, _)| to)
        .collect();
    assert_eq!(to, ["a@example.net", "b@example.net", "c@example.net"]);
    assert_eq!(server.connections(), 1);
    let status = office.health.status();
    assert_eq!((status.sent, status.failed), (3, 0));
    let mails = server.maildir();
    assert_eq!(mails.len(), 3);
    let subject = "Subject: [SOTP] RESOLVED core1 is down (4m 12s)";
    assert!(mails.iter().any(|mail| mail.contains(subject)), "{mails:?}");
}

#[tokio::test]
async fn starttls_and_a_login_work_with_a_private_authority() {
    if !is_there() {
        return;
    }
    for (tls, word) in [(Tls::StartTls, "starttls"), (Tls::Implicit, "wrapped")] {
        let certificates = Certificates::new();
        let (cert, key) = (certificates.text("cert.pem"), certificates.text("key.pem"));
        let login = ["--login", "sotp", "s3cret"];
        let options = ["--tls", word, "--cert", &cert, "--key", &key];
        let mut server = MailServer::start(&[&options[..], &login[..]].concat()).await;
        let desk = Desk::with_alerts_to(&["a@example.net"]);
        desk.add(Test, "b@example.net");
        let office = Office::open(
            &desk,
            MailSettings {
                tls,
                ca_file: Some(certificates.path("ca.pem")),
                user: Some("sotp".to_owned()),
                password: Some(Secret::new("s3cret".to_owned())),
                ..to_port(server.port)
            },
        );
        office.all_delivered().await;
        assert_eq!(server.mails(2).await.len(), 2);
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_servers_trouble_and_right_settings_end_it() {
    if !is_there() {
        return;
    }
    let certificates = Certificates::new();
    let (cert, key) = (certificates.text("cert.pem"), certificates.text("key.pem"));
    let options = ["--tls", "starttls", "--cert", &cert, "--key", &key];
    let login = ["--login", "sotp", "s3cret"];
    let mut server = MailServer::start(&[&options[..], &login[..]].concat()).await;
    let desk = Desk::with_alerts_to(&["a@example.net", "b@example.net"]);
    let with_password = |password: &str| MailSettings {
        tls: Tls::StartTls,
        ca_file: Some(certificates.path("ca.pem")),
        user: Some("sotp".to_owned()),
        password: Some(Secret::new(password.to_owned())),
        retry_max: Duration::from_secs(3_600),
        ..to_port(server.port)
    };
    let office = Office::open(&desk, with_password("wr0ng"));
    office.failed_for("refused the login: 535").await;
    let status = office.health.status();
    assert!(
        status
            .next_try
            .is_none_or(|next| next > NIGHT.plus(Duration::from_secs(3_000)))
    );
    assert!(!format!("{status:?}{:?}", desk.row(1)).contains("wr0ng"));
    assert_eq!((desk.row(1).attempts, desk.row(2).attempts), (1, 0));

    let right = Mailer::new(with_password("s3cret")).unwrap();
    office.mailers.send(Some(Arc::new(right))).unwrap();
    office.all_delivered().await;
    assert_eq!(server.mails(2).await[0].0, "a@example.net");
}

#[tokio::test]
async fn a_certificate_of_nobody_we_trust_is_refused() {
    if !is_there() {
        return;
    }
    for (tls, word) in [(Tls::StartTls, "starttls"), (Tls::Implicit, "wrapped")] {
        let certificates = Certificates::new();
        let (cert, key) = (certificates.text("cert.pem"), certificates.text("key.pem"));
        let server = MailServer::start(&["--tls", word, "--cert", &cert, "--key", &key]).await;
        let desk = Desk::with_alerts_to(&["a@example.net"]);
        let settings = MailSettings {
            tls,
            ..to_port(server.port)
        };
        let office = Office::open(&desk, settings);
        office.failed_for("UnknownIssuer").await;
        office.failed_for("mail.ca_file").await;
        assert_eq!(desk.states(), ["queued"]);
        assert_eq!(server.maildir(), [""; 0]);
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    if !is_there() {
        return;
    }
    let certificates = Certificates::new();
    let (cert, key) = (certificates.text("cert.pem"), certificates.text("key.pem"));
    let options = ["--tls", "starttls", "--cert", &cert, "--key", &key];
    let server = MailServer::start(&options).await;
    let desk = Desk::with_alerts_to(&["a@example.net"]);
    let settings = MailSettings {
        // reaches the server, but is not in its certificate
        server: "127.0.0.2".to_owned(),
        tls: Tls::StartTls,
        ca_file: Some(certificates.path("ca.pem")),
        ..to_port(server.port)
    };
    let forward = TcpListener::bind(("127.0.0.2", server.port)).await.unwrap();
    let port = server.port;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = forward.accept().await {
            let mut to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        }
    });
    let office = Office::open(&desk, settings);
    office.failed_for("not valid for name").await;
    assert_eq!(desk.states(), ["queued"]);
}

/// Between us and the server at `port`: writes a line of its own behind the
/// server's "go ahead" with TLS. Returns its port.
async fn somebody_on_the_way(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own_port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
            });
            let mut chunk = vec![0; 65_536];
            while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
                let mut said = chunk[..length].to_vec();
                if said.ends_with(b"start TLS\r\n") {
                    said.extend_from_slice(b"250 injected\r\n");
                }
                let _ = to_client.write_all(&said).await;
            }
        }
    });
    own_port
}

#[tokio::test]
async fn an_answer_that_somebody_wrote_before_tls_is_not_taken_for_one_inside_it() {
    if !is_there() {
        return;
    }
    let certificates = Certificates::new();
    let (cert, key) = (certificates.text("cert.pem"), certificates.text("key.pem"));
    let options = ["--tls", "starttls", "--cert", &cert, "--key", &key];
    let server = MailServer::start(&options).await;
    let desk = Desk::with_alerts_to(&["refused@example.net"]);
    let settings = MailSettings {
        tls: Tls::StartTls,
        ca_file: Some(certificates.path("ca.pem")),
        ..to_port(somebody_on_the_way(server.port).await)
    };
    let office = Office::open(&desk, settings);
    office.failed_for("at STARTTLS").await;
    assert_eq!(desk.states(), ["queued"]);
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_where_starttls_is_asked_for() {
    if !is_there() {
        return;
    }
    let server = MailServer::start(&[]).await;
    let desk = Desk::with_alerts_to(&["a@example.net"]);
    let settings = MailSettings {
        tls: Tls::StartTls,
        ..to_port(server.port)
    };
    let office = Office::open(&desk, settings);
    office.failed_for("does not offer STARTTLS").await;
    assert_eq!(server.maildir(), [""; 0]);
}

#[tokio::test]
async fn refusals_are_parked_with_the_servers_words_and_others_get_their_mail() {
    if !is_there() {
        return;
    }
    let mut server = MailServer::start(&[]).await;
    let recipients = [
        "refused@example.net",
        "a@example.net",
        "spam@example.net",
        "b@example.net",
    ];
    let desk = Desk::with_alerts_to(&recipients);
    let office = Office::open(&desk, to_port(server.port));
    office.until(|o| !o.desk.states().contains(&"queued")).await;
    assert_eq!(
        desk.states(),
        ["parked", "delivered", "parked", "delivered"]
    );
    let why = desk.row(1).last_error.unwrap();
    let expected = format!(
        "127.0.0.1:{} refused the recipient refused@example.net: 550 5.1.1 No such [31muser here",
        server.port
    );
    assert_eq!(why, expected);
    assert!(
        desk.row(3)
            .last_error
            .unwrap()
            .contains("refused the mail: 554 5.7.1")
    );
    assert_eq!(server.mails(2).await.len(), 2);
    assert_eq!(
        server.connections(),
        1,
        "the line is of use after a refusal"
    );
}

#[tokio::test]
async fn a_recipient_that_is_put_off_gets_the_mail_later() {
    if !is_there() {
        return;
    }
    let mut server = MailServer::start(&[]).await;
    let desk = Desk::with_alerts_to(&["later@example.net", "a@example.net", "later@example.net"]);
    let office = Office::open(&desk, to_port(server.port));
    office.all_delivered().await;
    let taken = server.mails(3).await;
    let to: Vec<&str> = taken.iter().map(|(to, _)| to.as_str()).collect();
    assert_eq!(
        to,
        ["a@example.net", "later@example.net", "later@example.net"]
    );
    assert_eq!((desk.row(1).attempts, desk.row(3).attempts), (3, 1));
}

#[tokio::test]
async fn what_was_queued_while_the_server_was_down_is_delivered_once_and_in_order() {
    if !is_there() {
        return;
    }
    let (_kept, port) = closed_port();
    let recipients: Vec<String> = (0..20).map(|n| format!("r{n}@example.net")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let desk = Desk::with_alerts_to(&recipients);
    let office = Office::open(&desk, to_port(port));
    office.until(|o| o.desk.row(1).attempts >= 3).await;
    office.failed_for("at the connection").await;
    assert!(office.health.status().failing_since.is_some());

    let mut server = MailServer::start(&["--port", &port.to_string()]).await;
    office.all_delivered().await;
    let to: Vec<String> = server
        .mails(20)
        .await
        .into_iter()
        .map(|(to, _)| to)
        .collect();
    assert_eq!(to, recipients);
    assert_eq!(server.maildir().len(), 20);
    assert_eq!(office.health.status().failing_since, None);
}

#[tokio::test]
async fn a_server_that_takes_the_call_and_says_nothing_costs_one_timeout_per_try() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = MailSettings {
        timeout: Duration::from_millis(300),
        ..to_port(silent.local_addr().unwrap().port())
    };
    let desk = Desk::with_alerts_to(&["a@example.net", "b@example.net"]);
    let mut office = Office::open(&desk, settings);
    // accepted by the kernel, never answered by anybody
    office
        .failed_for("gave no answer to the connection within 300ms")
        .await;
    office.until(|o| o.desk.row(1).attempts >= 2).await;
    assert_eq!(desk.row(2).attempts, 0, "the others wait");

    office.stop.cancel();
    tokio::time::timeout(PATIENCE, &mut office.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(desk.states(), ["queued", "queued"]);
}

#[tokio::test]
async fn a_line_that_breaks_before_the_last_ok_means_the_same_mail_again() {
    if !is_there() {
        return;
    }
    let mut server = MailServer::start(&[]).await;
    let desk = Desk::with_alerts_to(&["drop@example.net", "a@example.net"]);
    let office = Office::open(&desk, to_port(server.port));
    office.all_delivered().await;
    let taken = server.mails(3).await;
    let dropped: Vec<&str> = taken
        .iter()
        .filter(|(to, _)| to == "drop@example.net")
        .map(|(_, id)| id.as_str())
        .collect();
    assert_eq!(dropped.len(), 2);
    assert_eq!(dropped[0], dropped[1]);
    assert_eq!(desk.row(1).attempts, 2);
    assert_eq!(
        desk.row(2).attempts,
        1,
        "the other recipient is not concerned"
    );
}

/// The store in `folder`, opened anew.
async fn store_in(folder: &Path) -> Store {
    let options = StoreOptions {
        commit_every: Duration::from_millis(10),
        backlog_bytes: 1 << 20,
        ballast_bytes: 0,
        keep_samples: Duration::from_secs(86_400),
        keep_alerts: Duration::from_secs(86_400),
        keep_audit: Duration::from_secs(86_400),
        ..StoreOptions::at(folder.join("sotp.redb"))
    };
    tokio::task::spawn_blocking(|| Store::open(options, NIGHT).unwrap())
        .await
        .unwrap()
}

async fn close(store: Store) {
    tokio::task::spawn_blocking(|| store.close().unwrap())
        .await
        .unwrap();
}

fn at_night() -> Timestamp {
    NIGHT
}

/// The public reconciler, until what is queued in `store` `is_so`; then it is
/// told to stop.
async fn drain_until(store: &Store, port: u16, is_so: impl Fn(&[Delivery]) -> bool) {
    let mailer = Some(Arc::new(Mailer::new(to_port(port)).unwrap()));
    let (_mailers, watched) = watch::channel(mailer);
    let stop = CancellationToken::new();
    let health = MailHealth::default();
    let task = crate::drain(
        store.clone(),
        watched,
        health.clone(),
        at_night,
        stop.clone(),
    );
    let task = tokio::spawn(task);
    let began = Instant::now();
    loop {
        let queued = store.outbox_due(Timestamp(u64::MAX), 100);
        if is_so(&queued) {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{queued:#?} {:#?}",
            health.status()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_stores_outbox_is_told_in_order_over_an_outage_and_a_restart() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_kept, port) = closed_port();

    let store = store_in(folder.path()).await;
    for n in 0..5 {
        let mut told = delivery(Firing);
        told.channel = Channel::Mail {
            to: format!("r{n}@example.net"),
        };
        store.enqueue(told).await.unwrap();
    }
    drain_until(&store, port, |queued| queued[0].attempts >= 2).await;
    let queued = store.outbox_due(Timestamp(u64::MAX), 100);
    assert_eq!(queued.len(), 5);
    assert!(queued[0].last_error.is_some());
    close(store).await;

    let mut server = MailServer::start(&["--port", &port.to_string()]).await;
    let store = store_in(folder.path()).await;
    drain_until(&store, port, <[Delivery]>::is_empty).await;
    let to: Vec<String> = server
        .mails(5)
        .await
        .into_iter()
        .map(|(to, _)| to)
        .collect();
    assert_eq!(
        to,
        ["r0", "r1", "r2", "r3", "r4"].map(|name| format!("{name}@example.net"))
    );
    let first = store.delivery(queued[0].id).unwrap().unwrap();
    assert_eq!(first.state, DeliveryState::Delivered { at: NIGHT });
    assert_eq!(first.last_error, None);
    close(store).await;
}

#[tokio::test]
async fn a_clock_before_1970_or_in_the_far_future_still_makes_a_mail() {
    for created in [0, 1, u64::MAX] {
        let mut told = delivery(Firing);
        told.created = Timestamp(created);
        assert!(
            Mailer::new(settings())
                .unwrap()
                .compose(&told, None)
                .is_ok()
        );
    }
}
