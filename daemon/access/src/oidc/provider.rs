//! What is asked of the provider, and what of its answers is believed.

use std::collections::HashSet;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use fetch::{FetchError, FetchSettings, Fetcher};
use model::Timestamp;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreIdToken, CoreIdTokenVerifier,
    CoreJwsSigningAlgorithm, CoreProviderMetadata,
};
use openidconnect::{
    AsyncHttpClient, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, HttpRequest, HttpResponse, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, SignatureVerificationError, TokenResponse as _,
};
use secrets::SecretBytes;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::state::Begun;
use crate::{AccessError, OidcSettings};

/// How long the provider may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of an answer.
const MAX_ANSWER: usize = 256 * 1024;

/// Keys of a provider.
const MAX_KEYS: usize = 100;

/// How long what the provider says of itself is believed: a key that it takes
/// back is good for no longer.
const FRESH: Duration = Duration::from_hours(1);

/// A provider that does not answer is left alone for so long.
const REST: Duration = Duration::from_secs(10);

/// A key that is not known makes us ask for the keys, this often at most.
const REFETCH_EVERY: Duration = Duration::from_mins(1);

/// An ID token may be made so long after our time.
const MAX_SKEW: Duration = Duration::from_mins(2);

/// Letters of the provider's words that go into our texts.
const MAX_WORDS: usize = 300;

/// How an ID token may be signed: never with a secret that both have, and never
/// not at all.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Who somebody is, as the provider says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `sub`.
    pub(crate) subject: String,
    /// The claim that becomes the name of a new user.
    pub(crate) name: Option<String>,
    /// `name`.
    pub(crate) full_name: Option<String>,
    /// `email`.
    pub(crate) email: Option<String>,
    /// The claim with the groups.
    pub(crate) groups: Vec<String>,
    /// `amr`.
    pub(crate) methods: Vec<String>,
}

/// The provider, and what it said of itself.
pub(crate) struct Provider {
    pub(crate) settings: OidcSettings,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    http: Http,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(Arc<CoreProviderMetadata>, Timestamp)>,
    failed: Option<(Timestamp, String)>,
    refetched: Option<Timestamp>,
}

/// Our one way to make requests, as the protocol's crate wants it.
struct Http(Fetcher);

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let answer = self.0.fetch(request.map(Bytes::from)).await?;
            Ok(answer.map(|body| body.to_vec()))
        })
    }
}

impl Provider {
    /// Blocks: reads certificates.
    ///
    /// # Errors
    ///
    /// [`AccessError::Settings`].
    pub(crate) fn new(settings: OidcSettings) -> Result<Provider, AccessError> {
        let wrong = |what: String| AccessError::Settings { what };
        let http = Fetcher::new(&FetchSettings {
            ca_file: settings.ca_file.clone(),
            timeout: PATIENCE,
            max_body: MAX_ANSWER,
        });
        Ok(Provider {
            issuer: IssuerUrl::new(settings.issuer.clone())
                .map_err(|error| wrong(format!("the OpenID issuer is no address: {error}")))?,
            redirect: RedirectUrl::new(settings.redirect.clone())
                .map_err(|error| wrong(format!("the OpenID redirect is no address: {error}")))?,
            http: Http(http.map_err(|error| wrong(chain(&error)))?),
            known: Mutex::default(),
            settings,
        })
    }

    /// The provider's page to sign in at.
    ///
    /// # Errors
    ///
    /// [`AccessError::OidcUnavailable`].
    pub(crate) async fn redirect(
        &self,
        begun: &Begun,
        now: Timestamp,
    ) -> Result<String, AccessError> {
        let metadata = self.metadata(now).await?;
        let client_id = ClientId::new(self.settings.client_id.clone());
        let client = CoreClient::from_provider_metadata((*metadata).clone(), client_id, None)
            .set_redirect_uri(self.redirect.clone());
        let verifier = PkceCodeVerifier::new(begun.verifier.expose().to_owned());
        let (state, nonce) = (begun.state.clone(), begun.nonce.clone());
        let more = self
            .settings
            .scopes
            .iter()
            .filter(|scope| *scope != "openid");
        let (url, _, _) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                || CsrfToken::new(state),
                || Nonce::new(nonce),
            )
            .add_scopes(more.cloned().map(Scope::new))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        Ok(url.to_string())
    }

    /// Who somebody is who came back with `code`.
    ///
    /// # Errors
    ///
    /// [`AccessError::Oidc`], [`AccessError::OidcUnavailable`].
    pub(crate) async fn exchange(
        &self,
        secret: Option<SecretBytes>,
        code: &str,
        begun: &Begun,
        now: Timestamp,
    ) -> Result<Identity, AccessError> {
        let metadata = self.metadata(now).await?;
        let token = self.id_token(&metadata, secret, code, begun).await?;
        let nonce = Nonce::new(begun.nonce.clone());
        let first = self.verify(&metadata, &token, &nonce, now);
        let unknown_key = matches!(
            first,
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey
            ))
        );
        let verified = match unknown_key {
            true => match self.newer_keys(now).await {
                Some(newer) => self.verify(&newer, &token, &nonce, now),
                None => first,
            },
            false => first,
        };
        verified.map_err(|error| AccessError::Oidc {
            why: format!("its ID token is not believed: {}", chain(&error)),
        })
    }

    async fn id_token(
        &self,
        metadata: &CoreProviderMetadata,
        secret: Option<SecretBytes>,
        code: &str,
        begun: &Begun,
    ) -> Result<CoreIdToken, AccessError> {
        let secret = secret.map(|secret| {
            ClientSecret::new(String::from_utf8_lossy(secret.expose()).trim().to_owned())
        });
        let client_id = ClientId::new(self.settings.client_id.clone());
        let client = CoreClient::from_provider_metadata(metadata.clone(), client_id, secret)
            .set_redirect_uri(self.redirect.clone())
            .set_auth_type(auth_type(metadata));
        let unavailable = |why: String| AccessError::OidcUnavailable { why };
        let request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| unavailable(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(begun.verifier.expose().to_owned()));
        let answer = request.request_async(&self.http).await;
        let answer = answer.map_err(|error| match error {
            RequestTokenError::Request(error) => unavailable(chain(&error)),
            RequestTokenError::ServerResponse(said) => AccessError::Oidc {
                why: format!("it does not take the code: {}", short(&said)),
            },
            RequestTokenError::Parse(error, _) => AccessError::Oidc {
                why: format!("its answer cannot be read: {}", short(&error)),
            },
            RequestTokenError::Other(said) => AccessError::Oidc {
                why: format!("its answer cannot be read: {}", short(&said)),
            },
        })?;
        answer.id_token().cloned().ok_or(AccessError::Oidc {
            why: "it gave no ID token".to_owned(),
        })
    }

    fn verify(
        &self,
        metadata: &CoreProviderMetadata,
        token: &CoreIdToken,
        nonce: &Nonce,
        now: Timestamp,
    ) -> Result<Identity, ClaimsVerificationError> {
        let client_id = ClientId::new(self.settings.client_id.clone());
        let issuer = self.issuer.clone();
        // a "public" verifier knows no shared secret, so that none can sign
        let verifier =
            CoreIdTokenVerifier::new_public_client(client_id, issuer, metadata.jwks().clone())
                .set_allowed_algs(ALGORITHMS)
                .set_time_fn(move || instant(now))
                .set_issue_time_verifier_fn(move |made| {
                    match made <= instant(now.plus(MAX_SKEW)) {
                        true => Ok(()),
                        false => Err("it was made in the future".to_owned()),
                    }
                });
        let claims = token.claims(&verifier, nonce)?;
        let party = claims.authorized_party().map(|party| party.as_str());
        if party.is_some_and(|party| party != self.settings.client_id) {
            let why = "it was made for another party (azp)".to_owned();
            return Err(ClaimsVerificationError::Other(why));
        }
        // by name: the settings say which ones
        let said = payload(token);
        let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Identity {
            subject: claims.subject().to_string(),
            name: text(&self.settings.user_claim),
            full_name: text("name"),
            email: text("email"),
            groups: texts(said.get(&self.settings.groups_claim)),
            methods: texts(said.get("amr")),
        })
    }

    /// What the provider says of itself.
    async fn metadata(&self, now: Timestamp) -> Result<Arc<CoreProviderMetadata>, AccessError> {
        let mut known = self.known.lock().await;
        if let Some((metadata, at)) = &known.metadata
            && is_within(FRESH, *at, now)
        {
            return Ok(metadata.clone());
        }
        if let Some((at, why)) = &known.failed
            && is_within(REST, *at, now)
        {
            return Err(AccessError::OidcUnavailable { why: why.clone() });
        }
        self.discover(&mut known, now).await
    }

    /// The keys anew, if they were not asked for a moment ago.
    async fn newer_keys(&self, now: Timestamp) -> Option<Arc<CoreProviderMetadata>> {
        let mut known = self.known.lock().await;
        let soon = |at: Timestamp| is_within(REFETCH_EVERY, at, now);
        if known.refetched.is_some_and(soon) {
            return None;
        }
        known.refetched = Some(now);
        self.discover(&mut known, now).await.ok()
    }

    async fn discover(
        &self,
        known: &mut Known,
        now: Timestamp,
    ) -> Result<Arc<CoreProviderMetadata>, AccessError> {
        let asked = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
        let checked = asked
            .map_err(|error| chain(&error))
            .and_then(|metadata| self.check(&metadata).map(|()| Arc::new(metadata)));
        match checked {
            Ok(metadata) => {
                known.metadata = Some((metadata.clone(), now));
                known.failed = None;
                Ok(metadata)
            }
            Err(why) => {
                tracing::warn!(issuer = %self.settings.issuer, why, "the OpenID provider cannot be asked");
                known.failed = Some((now, why.clone()));
                Err(AccessError::OidcUnavailable { why })
            }
        }
    }

    /// Whether what it says of itself can be used.
    fn check(&self, metadata: &CoreProviderMetadata) -> Result<(), String> {
        let keys = metadata.jwks().keys().len();
        if keys > MAX_KEYS {
            return Err(format!("it has {keys} keys; at most {MAX_KEYS} are taken"));
        }
        let token = metadata
            .token_endpoint()
            .ok_or("it names no address to exchange codes at")?;
        let scheme = self.issuer.url().scheme();
        for address in [
            metadata.authorization_endpoint().url(),
            token.url(),
            metadata.jwks_uri().url(),
        ] {
            if scheme == "https" && address.scheme() != "https" {
                return Err(format!("it names {address}, which is not https"));
            }
        }
        Ok(())
    }
}

/// Whether `at` was less than `span` ago; what lies ahead, as the clock was set
/// back, was not.
fn is_within(span: Duration, at: Timestamp, now: Timestamp) -> bool {
    at <= now && now.since(at) < span
}

/// How it wants to see our secret.
fn auth_type(metadata: &CoreProviderMetadata) -> AuthType {
    let methods = metadata.token_endpoint_auth_methods_supported();
    let post_alone = methods.is_some_and(|methods| {
        methods.contains(&CoreClientAuthMethod::ClientSecretPost)
            && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
    });
    match post_alone {
        true => AuthType::RequestBody,
        false => AuthType::BasicAuth,
    }
}

/// All claims of a token that was verified.
fn payload(token: &CoreIdToken) -> Map<String, Value> {
    let text = token.to_string();
    text.split('.')
        .nth(1)
        .and_then(|part| BASE64.decode(part).ok())
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

/// One text or several, without doubles.
fn texts(value: Option<&Value>) -> Vec<String> {
    let texts: HashSet<String> = match value {
        Some(Value::String(one)) => HashSet::from([one.clone()]),
        Some(Value::Array(several)) => several
            .iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect(),
        _ => HashSet::new(),
    };
    texts.into_iter().collect()
}

fn instant(at: Timestamp) -> DateTime<Utc> {
    i64::try_from(at.0)
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// An error and its causes, in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    short(&text)
}

/// What others say, printable and not for ever.
fn short(said: &impl Display) -> String {
    let printable = |letter: &char| !letter.is_control();
    said.to_string()
        .chars()
        .filter(printable)
        .take(MAX_WORDS)
        .collect()
}
