//! An OpenID provider on this machine, which can be told to be evil.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::support::NOW;

pub(super) const CLIENT: &str = "sotp-client";
pub(super) const SECRET: &str = "client-secret-of-sotp-0123456789";

/// How the ID token is signed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Signed {
    WithItsKey,
    WithAnotherKey,
    NotAtAll,
    /// As if by HS256, with what somebody else knows as well.
    WithClientSecret,
    WithPublicKey,
}

/// What the provider says and does.
pub(super) struct Behaviour {
    /// Claims that are put in, or left out if null.
    pub(super) claims: Map<String, Value>,
    /// The `kid` in the ID token.
    pub(super) kid: Option<&'static str>,
    /// The `kid` in the set of keys.
    pub(super) published: &'static str,
    pub(super) signed: Signed,
    /// Bytes of nothing in the set of keys.
    pub(super) ballast: usize,
    /// More keys in the set.
    pub(super) more_keys: usize,
    /// What it calls itself in its description.
    pub(super) issuer: Option<String>,
    /// What it answers to everything.
    pub(super) broken: Option<&'static str>,
    /// Leaves the ID token out.
    pub(super) no_id_token: bool,
}

struct Shared {
    address: SocketAddr,
    key: SigningKey,
    behaviour: Mutex<Behaviour>,
    /// PKCE challenge and nonce of each code.
    codes: Mutex<BTreeMap<String, (String, String)>>,
    asked: Mutex<Vec<String>>,
}

/// The provider; ends with the test.
#[derive(Clone)]
pub(super) struct TestProvider(Arc<Shared>);

impl TestProvider {
    pub(super) async fn start() -> TestProvider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap(),
            key: SigningKey::from_bytes(&[7; 32]),
            behaviour: Mutex::new(Behaviour {
                claims: Map::new(),
                kid: Some("key-1"),
                published: "key-1",
                signed: Signed::WithItsKey,
                ballast: 0,
                more_keys: 0,
                issuer: None,
                broken: None,
                no_id_token: false,
            }),
            codes: Mutex::default(),
            asked: Mutex::default(),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        TestProvider(shared)
    }

    pub(super) fn issuer(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// Tells it how to be.
    pub(super) fn be(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.0.behaviour.lock().unwrap());
    }

    /// How often a path was asked for.
    pub(super) fn asked(&self, path: &str) -> usize {
        let asked = self.0.asked.lock().unwrap();
        asked.iter().filter(|asked| *asked == path).count()
    }

    /// Somebody signs in at this address: the code and the state that they
    /// come back with.
    pub(super) fn sign_in(&self, url: &str) -> (String, String) {
        let asked = query(url);
        assert!(
            url.starts_with(&format!("{}/authorize?", self.issuer())),
            "{url}"
        );
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], CLIENT);
        assert_eq!(asked["code_challenge_method"], "S256");
        assert!(
            asked["scope"]
                .split(['+', ' '])
                .any(|scope| scope == "openid"),
            "{url}"
        );
        let mut codes = self.0.codes.lock().unwrap();
        let code = format!("code-{}", codes.len());
        codes.insert(
            code.clone(),
            (asked["code_challenge"].clone(), asked["nonce"].clone()),
        );
        (code, asked["state"].clone())
    }
}

/// What stands in the query of an address or in a form.
pub(super) fn query(url: &str) -> BTreeMap<String, String> {
    let query = url.split_once('?').map_or(url, |(_, query)| query);
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (
                name.to_owned(),
                value.replace("%2B", "+").replace("%20", " "),
            )
        })
        .collect()
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) {
        let mut read = Vec::new();
        let mut piece = [0; 4096];
        let (head, body) = loop {
            let Ok(n @ 1..) = stream.read(&mut piece).await else {
                return;
            };
            read.extend_from_slice(&piece[..n]);
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = header(head, "content-length").map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        };
        let path = head.split(' ').nth(1).unwrap().to_owned();
        self.asked.lock().unwrap().push(path.clone());
        let (status, answer) = self.answer(&path, &head, &body);
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn answer(&self, path: &str, head: &str, body: &str) -> (u16, String) {
        let behaviour = self.behaviour.lock().unwrap();
        if let Some(broken) = behaviour.broken {
            return (500, broken.to_owned());
        }
        match path {
            "/.well-known/openid-configuration" => (200, self.description(&behaviour)),
            "/jwks" => (200, self.keys(&behaviour)),
            "/token" => self.token(&behaviour, head, body),
            _ => (404, "{}".to_owned()),
        }
    }

    fn description(&self, behaviour: &Behaviour) -> String {
        let own = format!("http://{}", self.address);
        json!({
            "issuer": behaviour.issuer.as_ref().unwrap_or(&own),
            "authorization_endpoint": format!("{own}/authorize"),
            "token_endpoint": format!("{own}/token"),
            "jwks_uri": format!("{own}/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA", "RS256", "none", "HS256"],
        })
        .to_string()
    }

    fn keys(&self, behaviour: &Behaviour) -> String {
        let x = BASE64.encode(self.key.verifying_key().as_bytes());
        let key = |kid: &str| json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x});
        let mut keys = vec![key(behaviour.published)];
        keys.extend((0..behaviour.more_keys).map(|n| key(&format!("more-{n}"))));
        json!({"keys": keys, "ballast": "x".repeat(behaviour.ballast)}).to_string()
    }

    fn token(&self, behaviour: &Behaviour, head: &str, body: &str) -> (u16, String) {
        let form = query(body);
        let basic = STANDARD.encode(format!("{CLIENT}:{SECRET}"));
        assert_eq!(
            header(head, "authorization").unwrap(),
            format!("Basic {basic}")
        );
        assert_eq!(form["grant_type"], "authorization_code");
        let known = self.codes.lock().unwrap().remove(&form["code"]);
        let Some((challenge, nonce)) = known else {
            return (400, json!({"error": "invalid_grant"}).to_string());
        };
        let shown = BASE64.encode(Sha256::digest(form["code_verifier"].as_bytes()));
        assert_eq!(shown, challenge, "the verifier is the one of the challenge");
        let mut answer = json!({"access_token": "x", "token_type": "Bearer", "expires_in": 60});
        if !behaviour.no_id_token {
            answer["id_token"] = json!(self.id_token(behaviour, &nonce));
        }
        (200, answer.to_string())
    }

    fn id_token(&self, behaviour: &Behaviour, nonce: &str) -> String {
        let secs = NOW.0 / 1000;
        let mut claims = json!({
            "iss": format!("http://{}", self.address), "aud": CLIENT, "sub": "subject-1",
            "iat": secs, "exp": secs + 300, "nonce": nonce,
            "preferred_username": "jane", "name": "Jane Doe", "email": "jane@example.net",
            "groups": ["noc", "everybody"],
        });
        for (name, value) in &behaviour.claims {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        let alg = match behaviour.signed {
            Signed::WithItsKey | Signed::WithAnotherKey => "EdDSA",
            Signed::NotAtAll => "none",
            Signed::WithClientSecret | Signed::WithPublicKey => "HS256",
        };
        let mut head = json!({"alg": alg, "typ": "JWT"});
        if let Some(kid) = behaviour.kid {
            head["kid"] = json!(kid);
        }
        let message = format!(
            "{}.{}",
            BASE64.encode(head.to_string()),
            BASE64.encode(claims.to_string())
        );
        let hmac = |key: &[u8]| {
            let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.chain_update(&message).finalize().into_bytes().to_vec()
        };
        let signature = match behaviour.signed {
            Signed::WithItsKey => self.key.sign(message.as_bytes()).to_bytes().to_vec(),
            Signed::WithAnotherKey => SigningKey::from_bytes(&[8; 32])
                .sign(message.as_bytes())
                .to_bytes()
                .to_vec(),
            Signed::NotAtAll => vec![],
            Signed::WithClientSecret => hmac(SECRET.as_bytes()),
            Signed::WithPublicKey => hmac(self.key.verifying_key().as_bytes()),
        };
        format!("{message}.{}", BASE64.encode(signature))
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
