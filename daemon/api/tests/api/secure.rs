//! The TLS listener: its certificate, those of clients, and changes of both.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use api::Limits;
use api::tls::{self, TlsFiles};
use model::{By, Role};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::document::{document, operations};
use crate::harness::{
    Answer, NOW, Served, binding, limits, person, read_answer, request, served, served_with,
};
use crate::matrix::furnished;

/// An authority for clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A certificate for `name` and its key, as PEM.
    fn client(&self, name: &str, serial: u64) -> (Vec<u8>, Vec<u8>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            certificate.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        )
    }

    /// The list of what is revoked, as PEM.
    fn revoked(&self, serials: &[u64]) -> String {
        self.revoked_until(serials, 2096)
    }

    /// The same, as a list that is good until the first day of `year`.
    fn revoked_until(&self, serials: &[u64], year: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// An API that takes certificates of this authority, but for those revoked.
async fn with_authority(authority: &Authority, revoked: &[u64]) -> Served {
    let api = served().await;
    api.set_up().await;
    let mut jane = person("jane", vec![binding(Role::Operator, None)]);
    jane.certificate = Some("CN=jane".to_owned());
    api.store
        .create_user(&By::system(), jane, NOW)
        .await
        .unwrap();
    trust(&api, authority, revoked);
    api
}

fn trust(api: &Served, authority: &Authority, revoked: &[u64]) {
    trust_with(api, authority, &authority.revoked(revoked));
}

fn trust_with(api: &Served, authority: &Authority, list: &str) {
    let ca = api.folder.path().join("client-ca.pem");
    let crl = api.folder.path().join("client.crl");
    std::fs::write(&ca, authority.0.pem()).unwrap();
    std::fs::write(&crl, list).unwrap();
    let files = TlsFiles {
        client_ca: Some(ca),
        client_crl: Some(crl),
        ..api.tls_files.clone()
    };
    api.tls.send(tls::load(&files).unwrap()).unwrap();
}

/// Who the API says that somebody with this certificate is; `None`: TLS does
/// not even begin.
async fn who(api: &Served, identity: (&[u8], &[u8])) -> Option<serde_json::Value> {
    let mut stream = api.tls(Some(identity)).await.ok()?;
    let ask = request("GET", "/api/v1/me", &[], b"");
    stream.write_all(&ask).await.ok()?;
    let mut bytes = Vec::new();
    // with TLS 1.3 a client learns only now that it was sent away
    stream.read_to_end(&mut bytes).await.ok()?;
    let text = String::from_utf8(bytes).unwrap();
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some(serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_certificate_is_made_once_with_a_key_that_nobody_else_reads() {
    let api = served().await;
    let files = &api.tls_files;
    let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = tls::fingerprint(&files.certificate).unwrap();
    assert_eq!(before.split(':').count(), 32);
    assert!(!tls::make(&files.certificate, &files.key, &[], NOW).unwrap());
    assert_eq!(tls::fingerprint(&files.certificate).unwrap(), before);
    api.https_get(None, "/health/live").await.expect(200);

    std::fs::remove_file(&files.key).unwrap();
    let error = tls::make(&files.certificate, &files.key, &[], NOW).unwrap_err();
    assert!(error.to_string().contains("key.pem"), "{error}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let api = served().await;
    let files = &api.tls_files;
    let wrong = api.folder.path().join("wrong.pem");
    std::fs::write(&wrong, "nothing").unwrap();
    std::fs::set_permissions(&wrong, PermissionsExt::from_mode(0o600)).unwrap();
    let missing = api.folder.path().join("missing.pem");
    let other = api.folder.path().join("other");
    tls::make(
        &other.join("c.pem"),
        &other.join("k.pem"),
        &["x".to_owned()],
        NOW,
    )
    .unwrap();
    for (files, named) in [
        (
            TlsFiles {
                certificate: wrong.clone(),
                ..files.clone()
            },
            "wrong.pem",
        ),
        (
            TlsFiles {
                key: wrong.clone(),
                ..files.clone()
            },
            "wrong.pem",
        ),
        (
            TlsFiles {
                key: missing.clone(),
                ..files.clone()
            },
            "missing.pem",
        ),
        (
            TlsFiles {
                client_ca: Some(wrong.clone()),
                ..files.clone()
            },
            "wrong.pem",
        ),
        (
            TlsFiles {
                key: other.join("k.pem"),
                ..files.clone()
            },
            "k.pem",
        ),
    ] {
        let error = tls::load(&files).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o644)).unwrap();
    let error = tls::load(files).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn a_new_certificate_holds_for_new_connections_and_open_ones_stay() {
    let api = served().await;
    let mut open = api.tls(None).await.unwrap();
    let ask = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut some = [0; 2048];
    open.write_all(ask).await.unwrap();
    assert!(open.read(&mut some).await.unwrap() > 0);

    let files = &api.tls_files;
    let before = tls::fingerprint(&files.certificate).unwrap();
    std::fs::remove_file(&files.certificate).unwrap();
    std::fs::remove_file(&files.key).unwrap();
    tls::make(
        &files.certificate,
        &files.key,
        &["localhost".to_owned()],
        NOW,
    )
    .unwrap();
    assert_ne!(tls::fingerprint(&files.certificate).unwrap(), before);
    api.tls.send(tls::load(files).unwrap()).unwrap();

    open.write_all(ask).await.unwrap();
    let read = open.read(&mut some).await.unwrap();
    assert!(some[..read].starts_with(b"HTTP/1.1 200"));
    // the client trusts the new one alone
    api.https_get(None, "/health/live").await.expect(200);
}

#[tokio::test]
async fn a_client_certificate_is_somebody_as_long_as_it_is_not_revoked() {
    let authority = Authority::new();
    let api = with_authority(&authority, &[]).await;
    let (certificate, key) = authority.client("jane", 7);
    let (stranger, stranger_key) = authority.client("stranger", 8);
    let (forged, forged_key) = Authority::new().client("jane", 9);

    let jane = who(&api, (&certificate, &key)).await.unwrap();
    assert_eq!(jane["actor"], "certificate:jane", "{jane}");
    let nobody = who(&api, (&stranger, &stranger_key)).await.unwrap();
    assert_eq!(nobody["status"], 401, "{nobody}");
    assert_eq!(who(&api, (&forged, &forged_key)).await, None);
    // who shows none is asked for a token
    api.https_get(None, "/api/v1/me").await.expect(401);
    api.https_get(None, "/health/live").await.expect(200);

    let mut open = api.tls(Some((&certificate, &key))).await.unwrap();
    let ask = b"GET /api/v1/me HTTP/1.1\r\nhost: x\r\n\r\n";
    open.write_all(ask).await.unwrap();
    let mut some = [0; 4096];
    assert!(open.read(&mut some).await.unwrap() > 0);
    trust(&api, &authority, &[7]);
    assert_eq!(who(&api, (&certificate, &key)).await, None);
    // what is open with a certificate ends, too
    let mut rest = Vec::new();
    let rest = timeout(Duration::from_secs(10), open.read_to_end(&mut rest));
    assert!(
        rest.await.is_ok(),
        "the revoked certificate is still connected"
    );
}

#[tokio::test]
async fn a_list_of_revoked_certificates_that_is_too_old_lets_nobody_in() {
    let authority = Authority::new();
    let api = with_authority(&authority, &[]).await;
    let (certificate, key) = authority.client("jane", 7);
    assert!(who(&api, (&certificate, &key)).await.is_some());
    trust_with(&api, &authority, &authority.revoked_until(&[], 2021));
    assert_eq!(who(&api, (&certificate, &key)).await, None);
    // who shows none is not concerned
    api.https_get(None, "/health/live").await.expect(200);
}

/// Asks with a certificate and no token.
async fn with_certificate(
    api: &Served,
    identity: &(Vec<u8>, Vec<u8>),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = api.tls(Some((&identity.0, &identity.1))).await.unwrap();
    // the server may answer and close before it has read all
    let _ = stream
        .write_all(&request(method, path, headers, body))
        .await;
    read_answer(&mut stream).await
}

#[tokio::test]
async fn a_foreign_page_changes_nothing_with_a_browsers_certificate() {
    let furnished = furnished().await;
    let api = &furnished.api;
    let authority = Authority::new();
    let mut jane = person("jane", vec![binding(Role::Admin, None)]);
    jane.certificate = Some("CN=jane".to_owned());
    api.store
        .create_user(&By::system(), jane, NOW)
        .await
        .unwrap();
    trust(api, &authority, &[]);
    let identity = authority.client("jane", 7);
    let mut asked = 0;
    for (path, method, _) in operations(&document()) {
        if method == "get" {
            continue;
        }
        let (path, method) = (furnished.concrete(&path), method.to_uppercase());
        for foreign in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
        ] {
            let headers = [foreign, ("if-match", "*"), ("content-type", "text/plain")];
            let answer = with_certificate(api, &identity, &method, &path, &headers, b"").await;
            let problem = answer.expect(403);
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                detail.contains("another origin"),
                "{method} {path} {detail}"
            );
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
    // the same again within a minute is one line
    let denied = api.denied().await;
    assert_eq!(denied.len(), asked / 4, "{denied:?}");
    assert_eq!(denied[0].0, "certificate:jane");

    let poll = "/api/v1/devices/1/poll";
    for own in [
        &[][..],
        &[("origin", "https://sotp")],
        &[
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://sotp"),
        ],
        &[("sec-fetch-site", "none")],
    ] {
        let answer = with_certificate(api, &identity, "POST", poll, own, b"").await;
        assert_eq!(answer.status, 202, "{own:?} {}", answer.body);
    }
    // nothing that the browser adds by itself is used
    let token = api.role(Role::Operator, None).await;
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("origin", "https://evil.example"),
    ];
    let answer = with_certificate(api, &identity, "POST", poll, &headers, b"").await;
    assert_eq!(answer.status, 202, "{}", answer.body);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_gives_its_place_back() {
    let api = served_with(Limits {
        connections: 4,
        ..limits()
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(api.https).await.unwrap());
    }
    let began = Instant::now();
    loop {
        if let Ok(mut stream) = api.tls(None).await
            && stream
                .write_all(&request("GET", "/health/live", &[], b""))
                .await
                .is_ok()
        {
            let answer = read_answer(&mut stream).await;
            assert_eq!(answer.status, 200);
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the places are still taken"
        );
    }
    assert!(
        began.elapsed() > Duration::from_millis(100),
        "there was room all the time"
    );
    let metrics = api.get("/metrics").await.body;
    let failed = metrics
        .lines()
        .find_map(|line| line.strip_prefix("sotp_api_tls_handshakes_failed_total "))
        .unwrap();
    assert!(failed.parse::<u32>().unwrap() >= 4, "{failed}");
}

#[tokio::test]
async fn plain_http_and_garbage_on_the_tls_port_get_nothing() {
    let api = served().await;
    for bytes in [
        &b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0; 512],
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut stream = TcpStream::connect(api.https).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "still open");
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    let shown = json!(api.https_get(None, "/health/live").await.status);
    assert_eq!(shown, 200);
}
