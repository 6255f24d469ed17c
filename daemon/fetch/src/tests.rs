//! Guarded requests to a server on this machine.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Notes what it is sent, and gives each the same answer.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(ip: &str, answer: &'static str) -> Server {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heard);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 4096];
                let length = stream.read(&mut bytes).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                seen.lock().unwrap().push(text);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Server { address, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn fetcher() -> Fetcher {
    Fetcher::new(&FetchSettings {
        ca_file: None,
        timeout: Duration::from_secs(2),
        max_body: 1_000,
    })
    .unwrap()
}

fn guard(pattern: &str) -> Guard {
    Guard {
        patterns: vec![pattern.to_owned()],
        allow_private: false,
    }
}

fn post(url: &str) -> Request<Bytes> {
    Request::post(url)
        .body(Bytes::from_static(b"hello"))
        .unwrap()
}

fn why_not(answer: Result<Response<Bytes>, FetchError>) -> String {
    match answer {
        Err(FetchError::NotGranted { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_granted_request_is_made_as_it_is() {
    let server = Server::start("127.0.0.1", OK).await;
    let base = format!("http://{}", server.address);
    let guard = guard(&format!("{base}/hook/*"));
    let mut request = post(&format!("{base}/hook/a?b=c"));
    request.headers_mut().insert("x-key", "1".parse().unwrap());
    let answer = fetcher().fetch_guarded(request, &guard).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.body()[..]),
        (200, &b"ok"[..])
    );
    let heard = server.heard();
    assert!(
        heard[0].starts_with("POST /hook/a?b=c HTTP/1.1\r\n"),
        "{heard:?}"
    );
    assert!(
        heard[0].contains(&format!("host: {}\r\n", server.address)),
        "{heard:?}"
    );
    assert!(
        heard[0].contains("x-key: 1\r\n") && heard[0].ends_with("hello"),
        "{heard:?}"
    );

    let refused = fetcher()
        .fetch_guarded(post(&format!("{base}/secret")), &guard)
        .await;
    let text = refused.as_ref().unwrap_err().to_string();
    assert!(!text.contains("secret"), "{text}");
    assert!(why_not(refused).contains("not granted"));
    assert_eq!(server.heard().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let inside = Server::start("127.0.0.1", OK).await;
    let away = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        inside.address
    );
    let server = Server::start("127.0.0.1", Box::leak(away.into_boxed_str())).await;
    let base = format!("http://{}", server.address);
    let answer = fetcher()
        .fetch_guarded(post(&base), &guard(&format!("{base}/*")))
        .await;
    assert_eq!(answer.unwrap().status().as_u16(), 307);
    assert!(inside.heard().is_empty());
}

/// Asks for `url` where names resolve to `addresses`; also how often they did.
async fn resolved_to(
    url: &str,
    guard: &Guard,
    addresses: &[SocketAddr],
) -> (Result<Response<Bytes>, FetchError>, usize) {
    let count = AtomicUsize::new(0);
    let resolve = async |_: &str, _: u16| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(addresses.to_vec())
    };
    let answer = fetcher().guarded(post(url), guard, resolve).await;
    (answer, count.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_name_is_resolved_once_and_that_very_address_is_asked() {
    let server = Server::start("127.0.0.2", OK).await;
    let url = format!("http://localhost:{}/x", server.address.port());
    let guard = guard(&url);
    let (answer, resolved) = resolved_to(&url, &guard, &[server.address]).await;
    assert_eq!(answer.unwrap().status().as_u16(), 200);
    assert_eq!(resolved, 1);
    assert_eq!(
        server.heard().len(),
        1,
        "not where the system says localhost is"
    );
}

#[tokio::test]
async fn a_name_outside_that_points_inside_is_not_asked() {
    let server = Server::start("127.0.0.1", OK).await;
    let metadata: SocketAddr = "169.254.169.254:443".parse().unwrap();
    let private: SocketAddr = "10.0.0.1:443".parse().unwrap();
    for (pattern, address) in [
        ("https://*", server.address),
        ("https://*", metadata),
        ("https://*", private),
        ("https://evil.net/*", server.address),
        ("https://evil.net/*", metadata),
    ] {
        let (answer, resolved) =
            resolved_to("https://evil.net/x", &guard(pattern), &[address]).await;
        let why = why_not(answer);
        assert!(why.contains(&address.ip().to_string()), "{why}");
        assert_eq!(resolved, 1);
    }
    assert!(server.heard().is_empty());
}

#[tokio::test]
async fn what_is_refused_by_its_text_is_not_even_resolved() {
    let any = [SocketAddr::from(([8, 8, 8, 8], 443))];
    for url in [
        "https://user@x.net/",
        "https://x.net/../y",
        "https://2130706433/",
    ] {
        let (answer, resolved) = resolved_to(url, &guard("https://*"), &any).await;
        assert!(!why_not(answer).is_empty(), "{url}");
        assert_eq!(resolved, 0);
    }
    let (plain, resolved) = resolved_to("http://x.net/", &guard("http://*"), &any).await;
    assert!(
        matches!(plain, Err(FetchError::NotHttps { .. })),
        "{plain:?}"
    );
    assert_eq!(resolved, 0);
}

#[tokio::test]
async fn bodies_and_answers_have_limits_and_waiting_has_an_end() {
    let long = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n{}",
        "x".repeat(1001)
    );
    let server = Server::start("127.0.0.1", Box::leak(long.into_boxed_str())).await;
    let url = format!("http://{}/", server.address);
    let answer = fetcher().fetch_guarded(post(&url), &guard(&url)).await;
    assert!(
        matches!(answer, Err(FetchError::Answer { .. })),
        "{answer:?}"
    );

    let big = Request::post(&url)
        .body(Bytes::from(vec![0; GUARDED_BODY + 1]))
        .unwrap();
    let answer = fetcher().fetch_guarded(big, &guard(&url)).await;
    assert!(why_not(answer).contains("longer than 1048576 bytes"));

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let answer = fetcher().fetch_guarded(post(&url), &guard(&url)).await;
    assert!(
        matches!(answer, Err(FetchError::TooLate { .. })),
        "{answer:?}"
    );
}
