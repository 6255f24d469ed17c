//! OpenBao or Vault: signing in as an AppRole, keeping the token alive, making
//! requests.
//!
//! The token lives in memory alone. It is renewed when two thirds of its time
//! are over, and one signs in anew where it cannot be renewed, where what was
//! granted becomes short (its longest life is near), or where the server does
//! not know it any more.
//!
//! What passes through the buffers of HTTP and JSON is not wiped from memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fetch::{FetchError, FetchSettings, Fetcher};
use hyper::{Method, Request, StatusCode};
use model::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::status::VaultHealth;
use crate::{SecretBytes, SecretsError, VaultSettings};

/// Bytes of an answer: a value of 64 KiB in base64, or a batch of keys.
const MAX_ANSWER: usize = 1 << 20;

/// Why a request was not answered as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VaultError {
    /// It is not there, sealed or overloaded: later it may work.
    #[error("{0}")]
    Down(String),
    /// There is nothing of that name. What the answer says of it.
    #[error("there is nothing there")]
    NotFound(Box<Value>),
    /// It says no.
    #[error("{why} (status {status})")]
    Refused {
        status: u16,
        why: String,
        /// What the answer says besides.
        data: Box<Value>,
    },
    /// It is not what we know.
    #[error("its answer is not understood: {0}")]
    Strange(&'static str),
}

impl VaultError {
    pub(crate) fn is_down(&self) -> bool {
        matches!(self, VaultError::Down(_))
    }
}

struct Token {
    text: SecretBytes,
    /// `None`: it does not end.
    life: Option<Life>,
    renewable: bool,
}

#[derive(Clone, Copy)]
struct Life {
    /// What was granted when we signed in.
    first: Duration,
    renew_at: Instant,
    ends: Instant,
}

#[derive(Default)]
struct Health {
    up: bool,
    last_ok: Option<Timestamp>,
    last_error: Option<(Timestamp, String)>,
}

/// One server, as one AppRole.
pub(crate) struct Vault {
    settings: VaultSettings,
    fetcher: Fetcher,
    token: Mutex<Option<Arc<Token>>>,
    /// One signs in at a time.
    signing_in: tokio::sync::Mutex<()>,
    health: Mutex<Health>,
    clock: Arc<Clock>,
}

impl Vault {
    /// Reads the certificates to trust; blocks.
    pub(crate) fn new(settings: VaultSettings, clock: Arc<Clock>) -> Result<Vault, SecretsError> {
        let fetcher = Fetcher::new(&FetchSettings {
            ca_file: settings.ca_file.clone(),
            timeout: settings.timeout,
            max_body: MAX_ANSWER,
        });
        let fetcher = fetcher.map_err(|error| SecretsError::Settings {
            server: settings.address.clone(),
            why: explained(&error),
        })?;
        let vault = Vault {
            settings,
            fetcher,
            token: Mutex::new(None),
            signing_in: tokio::sync::Mutex::new(()),
            health: Mutex::new(Health::default()),
            clock,
        };
        // an address that cannot be one is said at the start
        vault.request(Method::GET, "sys/health", None, None)?;
        Ok(vault)
    }

    pub(crate) fn is_for(&self, settings: &VaultSettings) -> bool {
        let own = &self.settings;
        own.address == settings.address
            && own.role_id == settings.role_id
            && own.auth_mount == settings.auth_mount
            && own.namespace == settings.namespace
            && own.ca_file == settings.ca_file
    }

    pub(crate) fn address(&self) -> &str {
        &self.settings.address
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    pub(crate) fn health(&self) -> VaultHealth {
        let health = self.lock_health();
        VaultHealth {
            address: self.settings.address.clone(),
            up: health.up,
            last_ok: health.last_ok,
            last_error: health.last_error.clone(),
            stale: 0,
            missing: 0,
        }
    }

    /// The error as people get it to read.
    pub(crate) fn error(&self, doing: &str, error: VaultError) -> SecretsError {
        match error {
            VaultError::Down(why) => SecretsError::Unavailable {
                what: self.settings.address.clone(),
                why,
            },
            error => SecretsError::Vault {
                server: self.settings.address.clone(),
                doing: doing.to_owned(),
                why: error.to_string(),
            },
        }
    }

    /// Makes a request as the AppRole.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, VaultError> {
        let answer = self.ask_signed_in(method, path, body).await;
        self.note(answer.as_ref().err());
        answer
    }

    async fn ask_signed_in(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, VaultError> {
        let token = self.token().await?;
        let answer = self.send(method.clone(), path, body, Some(&token)).await;
        match answer {
            Err(VaultError::Refused { status: 403, .. }) if !self.knows(&token).await? => {
                self.forget(&token);
                let token = self.token().await?;
                self.send(method, path, body, Some(&token)).await
            }
            answer => answer,
        }
    }

    /// Renews the token where that is due; also the first signing in.
    pub(crate) async fn keep_signed_in(&self) -> Result<(), VaultError> {
        let renewed = self.renew_if_due().await;
        // an exchange was had only if one was due, or the sign-in failed
        if let Err(error) = &renewed {
            self.note(Some(error));
        }
        renewed
    }

    /// When the token has to be renewed, if ever.
    pub(crate) fn renew_at(&self) -> Option<Instant> {
        let token = self.lock_token().clone();
        token.and_then(|token| token.life).map(|life| life.renew_at)
    }

    async fn renew_if_due(&self) -> Result<(), VaultError> {
        let token = self.token().await?;
        let Some(life) = token.life.filter(|life| life.renew_at <= Instant::now()) else {
            return Ok(());
        };
        let renewed = match self.renewed(&token, life.first).await {
            Some(renewed) => renewed,
            // until that is done the old one serves
            None => {
                let _one = self.signing_in.lock().await;
                self.sign_in().await?
            }
        };
        *self.lock_token() = Some(Arc::new(renewed));
        self.note(None);
        Ok(())
    }

    /// The token with a new life, if it gets one that is worth it: near its
    /// longest life less and less is granted, and then an error of status 500.
    async fn renewed(&self, token: &Token, first: Duration) -> Option<Token> {
        if !token.renewable {
            return None;
        }
        let (path, body) = ("auth/token/renew-self", json!({}));
        let answer = self
            .send(Method::POST, path, Some(&body), Some(token))
            .await;
        match answer.and_then(|answer| token_in(&answer, Some(first))) {
            Ok(renewed) => {
                let granted = renewed.life.map(|life| life.ends - Instant::now());
                let is_worth_it = granted.is_none_or(|granted| granted * 2 >= first);
                is_worth_it.then_some(renewed)
            }
            Err(error) => {
                tracing::info!(%error, "the token is not renewed: signing in anew");
                None
            }
        }
    }

    async fn token(&self) -> Result<Arc<Token>, VaultError> {
        if let Some(token) = self.valid_token() {
            return Ok(token);
        }
        let _one = self.signing_in.lock().await;
        if let Some(token) = self.valid_token() {
            return Ok(token);
        }
        let token = Arc::new(self.sign_in().await?);
        *self.lock_token() = Some(token.clone());
        self.note(None);
        Ok(token)
    }

    fn valid_token(&self) -> Option<Arc<Token>> {
        let token = self.lock_token().clone()?;
        let valid = token.life.is_none_or(|life| Instant::now() < life.ends);
        valid.then_some(token)
    }

    async fn sign_in(&self) -> Result<Token, VaultError> {
        let path = format!("auth/{}/login", segments(&self.settings.auth_mount));
        let secret_id = self.settings.secret_id.expose_str();
        let body = json!({
            "role_id": self.settings.role_id,
            "secret_id": secret_id.ok_or(VaultError::Strange("our secret id is not text"))?,
        });
        let answer = self.send(Method::POST, &path, Some(&body), None).await?;
        token_in(&answer, None)
    }

    /// Whether the server still knows the token, which may always ask this.
    async fn knows(&self, token: &Token) -> Result<bool, VaultError> {
        let path = "auth/token/lookup-self";
        match self.send(Method::GET, path, None, Some(token)).await {
            Ok(_) => Ok(true),
            Err(VaultError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn forget(&self, token: &Arc<Token>) {
        let mut held = self.lock_token();
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, token)) {
            *held = None;
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&Token>,
    ) -> Result<Value, VaultError> {
        let request = self
            .request(method, path, body, token)
            .map_err(|error| VaultError::Down(error.to_string()))?;
        let answer = self.fetcher.fetch(request).await;
        let answer = answer.map_err(|error| VaultError::Down(explained(&error)))?;
        judge(answer.status(), answer.body())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&Token>,
    ) -> Result<Request<Bytes>, SecretsError> {
        let address = self.settings.address.trim_end_matches('/');
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{address}/v1/{path}"))
            .header("X-Vault-Request", "true");
        if let Some(namespace) = &self.settings.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(token) = token {
            let mut value = hyper::header::HeaderValue::from_bytes(token.text.expose())
                .map_err(|_| self.strange("its token cannot be sent"))?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        request
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|_| self.strange("the address, the namespace or a path cannot be sent"))
    }

    fn strange(&self, why: &str) -> SecretsError {
        SecretsError::Settings {
            server: self.settings.address.clone(),
            why: why.to_owned(),
        }
    }

    fn note(&self, error: Option<&VaultError>) {
        let now = self.clock.now();
        let mut health = self.lock_health();
        match error {
            Some(VaultError::Down(why)) => {
                if health.up {
                    tracing::warn!(server = %self.settings.address, %why, "not answered any more");
                }
                health.up = false;
                health.last_error = Some((now, why.clone()));
                return;
            }
            Some(error @ (VaultError::Refused { .. } | VaultError::Strange(_))) => {
                health.last_error = Some((now, error.to_string()));
            }
            Some(VaultError::NotFound(_)) | None => {}
        }
        if !health.up {
            tracing::info!(server = %self.settings.address, "answered");
        }
        health.up = true;
        health.last_ok = Some(now);
    }

    fn lock_token(&self) -> MutexGuard<'_, Option<Arc<Token>>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `path` as it stands in an address: what lies between two `/` is escaped
/// (RFC 3986 §2.3).
pub(crate) fn segments(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.trim_matches('/').bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// What an answer means.
fn judge(status: StatusCode, body: &[u8]) -> Result<Value, VaultError> {
    let said: Option<Value> = match body {
        [] => Some(Value::Null),
        body => serde_json::from_slice(body).ok(),
    };
    let code = status.as_u16();
    let errors = said.as_ref().map_or_else(String::new, errors_in);
    match code {
        200..=299 => said.ok_or(VaultError::Strange("it is not JSON")),
        300..=399 => Err(VaultError::Down(
            "it points to another address; give that of the active server".to_owned(),
        )),
        404 => Err(VaultError::NotFound(Box::new(said.unwrap_or_default()))),
        408 | 412 | 429 | 472 | 473 | 500..=599 => {
            Err(VaultError::Down(format!("{errors} (status {code})")))
        }
        _ => Err(VaultError::Refused {
            status: code,
            why: errors,
            data: Box::new(said.unwrap_or_default()),
        }),
    }
}

/// The errors that an answer names, in one line.
fn errors_in(answer: &Value) -> String {
    let errors = answer["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let words = errors
        .iter()
        .filter_map(Value::as_str)
        .flat_map(str::split_whitespace);
    match words.collect::<Vec<&str>>().join(" ") {
        said if said.is_empty() => "it gives no reason".to_owned(),
        said => said.chars().take(300).collect(),
    }
}

/// The token that an answer grants; `first` is what its first life was.
fn token_in(answer: &Value, first: Option<Duration>) -> Result<Token, VaultError> {
    let auth = &answer["auth"];
    let text = auth["client_token"].as_str();
    let text = text.ok_or(VaultError::Strange("it grants no token"))?;
    let granted = Duration::from_secs(auth["lease_duration"].as_u64().unwrap_or_default());
    let now = Instant::now();
    Ok(Token {
        text: SecretBytes::new(text.as_bytes().to_vec()),
        life: (granted > Duration::ZERO).then(|| Life {
            first: first.unwrap_or(granted),
            renew_at: now + granted * 2 / 3,
            ends: now + granted,
        }),
        renewable: auth["renewable"].as_bool().unwrap_or_default(),
    })
}

fn explained(error: &FetchError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
