//! Requests to a real server with TLS, on this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fetch::{FetchError, FetchSettings, Fetcher, Guard};
use hyper::{Request, Response};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The longest answer that the tests take.
const MAX_BODY: usize = 1000;

/// A server and the authority that vouches for it.
struct Server {
    address: SocketAddr,
    authority: NamedTempFile,
    asked: Arc<AtomicUsize>,
}

/// What the server's certificate says.
struct Says {
    address: IpAddr,
    until: i32,
}

const GOOD: Says = Says {
    address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    until: 2100,
};

impl Server {
    async fn start(says: Says) -> Server {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress(says.address)];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(says.until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        tokio::spawn(serve(
            listener,
            Some(TlsAcceptor::from(Arc::new(tls))),
            asked.clone(),
        ));
        Server {
            address,
            authority: file(&authority.pem()),
            asked,
        }
    }

    /// Asks for `path`, trusting the server's authority.
    async fn ask(&self, path: &str) -> Result<Response<Bytes>, FetchError> {
        let fetcher = fetcher(Some(self.authority.path().to_owned()));
        fetcher
            .fetch(get(&format!("https://{}{path}", self.address)))
            .await
    }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn fetcher(ca_file: Option<PathBuf>) -> Fetcher {
    Fetcher::new(&FetchSettings {
        ca_file,
        timeout: Duration::from_secs(1),
        max_body: MAX_BODY,
    })
    .unwrap()
}

fn get(uri: &str) -> Request<Bytes> {
    let request = Request::get(uri).header("authorization", "Bearer canary");
    request.body(Bytes::from_static(b"canary")).unwrap()
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, asked: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, asked) = (tls.clone(), asked.clone());
        tokio::spawn(async move {
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, &asked).await;
                    }
                }
                None => answer(stream, &asked).await,
            }
        });
    }
}

/// Reads one request and answers as its path says.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, asked: &AtomicUsize) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let text = String::from_utf8_lossy(&head).into_owned();
    let long = "x".repeat(MAX_BODY + 1);
    let said = match text.split(' ').nth(1).unwrap() {
        "/slow" => return std::future::pending().await,
        "/drip" => return drip(stream).await,
        "/full" => format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {MAX_BODY}\r\n\r\n{}",
            &long[1..]
        ),
        "/long" => format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{long}",
            long.len()
        ),
        "/endless" => format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n",
            long.len()
        ),
        "/short" => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello".to_owned(),
        "/moved" => {
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_owned()
        }
        "/not" => "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno".to_owned(),
        "/nonsense" => "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
    };
    let _ = stream.write_all(said.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A body that never stops, one byte at a time.
async fn drip(mut stream: impl AsyncWrite + Unpin) {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n";
    let mut sent = stream.write_all(head.as_bytes()).await;
    while sent.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        sent = stream.write_all(b"x").await;
        sent = sent.and(stream.flush().await);
    }
}

/// An error, as it is logged with its causes; nothing of the request is in it.
fn shown(error: &FetchError) -> String {
    let mut text = format!("{error} {error:?}");
    if let Some(cause) = std::error::Error::source(error) {
        text.push_str(&cause.to_string());
    }
    assert!(!text.contains("canary"), "{text}");
    text
}

#[tokio::test]
async fn a_server_that_the_file_vouches_for_is_asked() {
    let server = Server::start(GOOD).await;
    let answer = server.ask("/").await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.body()[..]),
        (200, &b"hello"[..])
    );
}

#[tokio::test]
async fn any_status_is_an_answer() {
    let server = Server::start(GOOD).await;
    let answer = server.ask("/not").await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.body()[..]),
        (404, &b"no"[..])
    );
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_request() {
    let server = Server::start(GOOD).await;
    let other = Server::start(GOOD).await;
    for ca_file in [None, Some(other.authority.path().to_owned())] {
        let uri = format!("https://{}/", server.address);
        let refused = fetcher(ca_file).fetch(get(&uri)).await.unwrap_err();
        assert!(
            matches!(refused, FetchError::Unreachable { .. }),
            "{refused:?}"
        );
        assert!(
            shown(&refused).contains("invalid peer certificate"),
            "{refused}"
        );
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_certificate_of_another_name_or_another_time_is_refused() {
    let elsewhere = Says {
        address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
        ..GOOD
    };
    let expired = Says {
        until: 2001,
        ..GOOD
    };
    for (says, why) in [(elsewhere, "not valid for name"), (expired, "expired")] {
        let server = Server::start(says).await;
        let refused = server.ask("/").await.unwrap_err();
        assert!(shown(&refused).contains(why), "{refused}");
        assert_eq!(server.asked.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_slow_server_is_given_up() {
    let server = Server::start(GOOD).await;
    for path in ["/slow", "/drip"] {
        let began = Instant::now();
        let late = server.ask(path).await.unwrap_err();
        assert!(
            matches!(late, FetchError::TooLate { .. }),
            "{path}: {late:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(3), "{path}");
        assert!(shown(&late).contains(&server.address.to_string()), "{late}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_even_shake_hands_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let uri = format!("https://{}/", listener.local_addr().unwrap());
    let late = fetcher(None).fetch(get(&uri)).await.unwrap_err();
    assert!(matches!(late, FetchError::TooLate { .. }), "{late:?}");
}

#[tokio::test]
async fn an_answer_may_be_as_long_as_the_limit_and_not_longer() {
    let server = Server::start(GOOD).await;
    assert_eq!(server.ask("/full").await.unwrap().body().len(), MAX_BODY);
    for path in ["/long", "/endless"] {
        let refused = server.ask(path).await.unwrap_err();
        assert!(
            matches!(refused, FetchError::Answer { .. }),
            "{path}: {refused:?}"
        );
        assert!(
            shown(&refused).contains("longer than 1000 bytes"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_or_is_none_is_no_answer() {
    let server = Server::start(GOOD).await;
    let short = server.ask("/short").await.unwrap_err();
    assert!(matches!(short, FetchError::Answer { .. }), "{short:?}");
    let nonsense = server.ask("/nonsense").await.unwrap_err();
    assert!(
        matches!(nonsense, FetchError::Unreachable { .. }),
        "{nonsense:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_shown_and_not_followed() {
    let server = Server::start(GOOD).await;
    let answer = server.ask("/moved").await.unwrap();
    assert_eq!(answer.status().as_u16(), 307);
    assert_eq!(answer.headers()["location"], "/");
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn plain_http_goes_to_this_machine_alone() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve(listener, None, Arc::default()));
    let fetcher = fetcher(None);
    for host in ["127.0.0.1", "localhost"] {
        let answer = fetcher
            .fetch(get(&format!("http://{host}:{port}/")))
            .await
            .unwrap();
        assert_eq!(&answer.body()[..], b"hello", "{host}");
    }
    for uri in [
        "http://192.0.2.1/",
        "http://vault.example:8200/v1/?canary",
        "http://canary@vault.example/",
        "http://localhost.example/",
        "http://127.0.0.1.example/",
        "http://[2001:db8::1]/",
        "ftp://127.0.0.1/",
        "/v1/secret",
    ] {
        let refused = fetcher.fetch(get(uri)).await.unwrap_err();
        assert!(
            matches!(refused, FetchError::NotHttps { .. }),
            "{uri}: {refused:?}"
        );
        shown(&refused);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let uri = format!("https://user:canary@{address}/canary");
    let refused = fetcher(None).fetch(get(&uri)).await.unwrap_err();
    assert!(
        matches!(refused, FetchError::Unreachable { .. }),
        "{refused:?}"
    );
    assert!(shown(&refused).contains(&address.to_string()), "{refused}");
}

#[test]
fn a_file_without_certificates_is_refused_by_name() {
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in ["", "hello", nonsense] {
        let file = file(text);
        let refused = Fetcher::new(&FetchSettings {
            ca_file: Some(file.path().to_owned()),
            timeout: Duration::from_secs(1),
            max_body: MAX_BODY,
        });
        let refused = refused.unwrap_err();
        assert!(matches!(refused, FetchError::CaFile { .. }), "{refused:?}");
        assert!(shown(&refused).contains(file.path().to_str().unwrap()));
    }
}

#[tokio::test]
async fn a_guarded_request_checks_certificates_too() {
    let server = Server::start(GOOD).await;
    let url = format!("https://{}/", server.address);
    let guard = Guard {
        patterns: vec![url.clone()],
        allow_private: false,
    };
    let ask = async |ca_file: Option<PathBuf>| {
        let fetcher = Fetcher::new(&FetchSettings {
            ca_file,
            timeout: Duration::from_secs(5),
            max_body: MAX_BODY,
        });
        let request = Request::get(&url).body(Bytes::new()).unwrap();
        fetcher.unwrap().fetch_guarded(request, &guard).await
    };
    let trusted = ask(Some(server.authority.path().to_owned())).await;
    assert!(trusted.is_ok(), "{trusted:?}");
    let unknown = ask(None).await;
    assert!(
        matches!(unknown, Err(FetchError::Unreachable { .. })),
        "{unknown:?}"
    );
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
}
