//! To an OpenID provider and back, as a browser goes. What an evil provider
//! may try is tested where sign-in is decided.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use access::{AccessSettings, OidcSettings};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use model::Role;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{NOW, Served, binding, served};

const CLIENT: &str = "sotp";

/// A provider at which a person called subject-1 is signed in.
#[derive(Clone)]
struct Provider(Arc<Inner>);

struct Inner {
    issuer: String,
    key: KeyPair,
    /// What stands in the ID token so that it is good for one sign-in alone.
    nonce: Mutex<String>,
}

impl Provider {
    async fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Provider(Arc::new(Inner {
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            key: KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            nonce: Mutex::default(),
        }));
        let serving = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let provider = serving.clone();
                tokio::spawn(async move { provider.serve(stream).await });
            }
        });
        provider
    }

    fn settings(&self) -> OidcSettings {
        OidcSettings {
            issuer: self.0.issuer.clone(),
            client_id: CLIENT.into(),
            client_secret: None,
            redirect: "https://sotp.example:8443/api/v1/oidc/callback".into(),
            scopes: vec!["openid".into()],
            groups_claim: "groups".into(),
            user_claim: "preferred_username".into(),
            groups: vec![("noc".into(), binding(Role::ReadOnly, None))],
            ca_file: None,
            create_users: false,
            trust_mfa: false,
        }
    }

    /// Answers one request, however its body comes.
    async fn serve(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut piece = [0; 4096];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(n) => head.extend_from_slice(&piece[..n]),
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let answer = self.answer(head.split(' ').nth(1).unwrap()).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        // whoever asked may have gone away; closing on a body that was not read
        // would take the answer away again
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }

    fn answer(&self, path: &str) -> Value {
        let issuer = &self.0.issuer;
        match path {
            "/jwks" => {
                let x = BASE64.encode(self.0.key.der_bytes());
                json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "k", "x": x}]})
            }
            "/token" => json!({
                "access_token": "x",
                "token_type": "Bearer",
                "expires_in": 60,
                "id_token": self.id_token(),
            }),
            _description => json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/jwks"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["EdDSA"],
            }),
        }
    }

    fn id_token(&self) -> String {
        let now = NOW.0 / 1000;
        let claims = json!({
            "iss": self.0.issuer,
            "aud": CLIENT,
            "sub": "subject-1",
            "iat": now,
            "exp": now + 300,
            "groups": ["noc"],
            "nonce": *self.0.nonce.lock().unwrap(),
        });
        let head = json!({"alg": "EdDSA", "typ": "JWT", "kid": "k"}).to_string();
        let signed = format!(
            "{}.{}",
            BASE64.encode(head),
            BASE64.encode(claims.to_string())
        );
        let signature = self.0.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

fn with(oidc: OidcSettings) -> AccessSettings {
    AccessSettings {
        access_ttl: Duration::from_secs(300),
        refresh_idle: Duration::from_secs(86_400),
        session_max: Duration::from_secs(30 * 86_400),
        min_password: 12,
        socket_role: Role::Operator,
        issuer: "https://sotp.example".into(),
        oidc: Some(oidc),
    }
}

/// An appliance whose people may sign in at a provider; jane is subject-1
/// there.
async fn with_provider() -> (Served, Provider) {
    let provider = Provider::start().await;
    let api = served().await;
    api.set_up().await;
    api.access.reconfigure(with(provider.settings())).unwrap();
    let subject = json!({"issuer": provider.0.issuer, "subject": "subject-1"});
    let jane = json!({"name": "jane", "oidc": subject});
    api.post("/api/v1/users", &jane).await.expect(201);
    (api, provider)
}

/// The cookie and the state with which a browser comes back.
async fn there(api: &Served, provider: &Provider) -> (String, String) {
    let away = api.https_get(None, "/api/v1/oidc/login").await;
    assert_eq!(away.status, 303, "{}", away.body);
    let url = away.header("location").unwrap();
    assert!(
        url.starts_with(&format!("{}/authorize?", provider.0.issuer)),
        "{url}"
    );
    let part = |name: &str| {
        let pairs = url.split_once('?').unwrap().1.split('&');
        let mut found = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        found.next().unwrap().to_owned()
    };
    assert_eq!(part("code_challenge_method"), "S256");
    *provider.0.nonce.lock().unwrap() = part("nonce");
    let cookie = away.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-sotp-oidc="));
    assert_eq!(
        attributes,
        "Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"
    );
    (pair.to_owned(), part("state"))
}

#[tokio::test]
async fn a_browser_goes_to_the_provider_and_comes_back_signed_in() {
    let (api, provider) = with_provider().await;
    let (cookie, state) = there(&api, &provider).await;
    let path = format!("/api/v1/oidc/callback?code=c&state={state}&session_state=x");
    let headers = [
        ("cookie", cookie.as_str()),
        ("sec-fetch-site", "cross-site"),
    ];
    let back = api.https(None, "GET", &path, &headers, b"").await;
    assert_eq!(back.status, 303, "{}", back.body);
    assert_eq!(back.header("location"), Some("/signed-in"));
    let cookies: Vec<&str> = back
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    let [gone, kept] = cookies.as_slice() else {
        panic!("{cookies:?}")
    };
    assert!(gone.starts_with("__Host-sotp-oidc=;") && gone.ends_with("Max-Age=0"));
    let (pair, attributes) = kept.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-sotp-refresh=sotpr_"));
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict");

    let refresh = "/api/v1/sessions/refresh";
    let granted = api
        .https(None, "POST", refresh, &[("cookie", pair)], b"")
        .await;
    let granted = granted.expect(200);
    assert_eq!(granted["user"], "jane");
    let token = granted["access_token"].as_str();
    // what a group gives them
    api.https_get(token, "/api/v1/devices").await.expect(200);
    let own = api
        .https_get(token, "/api/v1/me/sessions")
        .await
        .expect(200);
    assert_eq!(own["items"][0]["how"], "oidc");
}

#[tokio::test]
async fn who_comes_back_with_another_browser_or_twice_is_not_let_in() {
    let (api, provider) = with_provider().await;
    let (cookie, state) = there(&api, &provider).await;
    let path = format!("/api/v1/oidc/callback?code=c&state={state}");
    let without = api.https(None, "GET", &path, &[], b"").await;
    without.expect(401);
    let (cookie_of_another, _) = there(&api, &provider).await;
    let other = [("cookie", cookie_of_another.as_str())];
    api.https(None, "GET", &path, &other, b"").await.expect(401);
    let forged = "/api/v1/oidc/callback?code=c&state=forged";
    let own = [("cookie", cookie.as_str())];
    api.https(None, "GET", forged, &own, b"").await.expect(401);
    assert_eq!(api.get("/api/v1/sessions").await.expect(200)["total"], 0);
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_a_reason_to_come_later() {
    let (api, provider) = with_provider().await;
    let gone = OidcSettings {
        issuer: "http://127.0.0.1:9".into(),
        ..provider.settings()
    };
    api.access.reconfigure(with(gone)).unwrap();
    let refused = api.https_get(None, "/api/v1/oidc/login").await;
    refused.expect(503);
    assert!(refused.header("retry-after").is_some());
}
