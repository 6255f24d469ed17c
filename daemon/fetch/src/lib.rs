//! HTTP requests that the daemon itself makes: to an OpenID provider, to OpenBao
//! or Vault.
//!
//! Every request has a limit on its time and on its answer's size. Redirects are
//! not followed: whoever asks decides. Certificates are checked against those of
//! the system and, where given, those of a file; plain HTTP goes to this machine
//! alone.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

/// Idle connections that are kept to one server.
const IDLE_CONNECTIONS: usize = 2;

/// How requests are made.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// A file of PEM certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take in all.
    pub timeout: Duration,
    /// Bytes of an answer's body.
    pub max_body: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file of certificates cannot be used.
    #[error("cannot use the certificates in {path}")]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The address is not one that we ask.
    #[error("{uri} is neither https nor on this machine")]
    NotHttps {
        /// Which address, without its query.
        uri: String,
    },
    /// The server did not answer in time.
    #[error("{host} did not answer within {patience:?}")]
    TooLate {
        /// Which server.
        host: String,
        /// How long we waited.
        patience: Duration,
    },
    /// The server cannot be reached.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// Which server.
        host: String,
        /// What went wrong, down to its cause.
        why: String,
    },
    /// The answer ended early or is too large.
    #[error("the answer of {host} cannot be read: {why}")]
    Answer {
        /// Which server.
        host: String,
        /// What went wrong.
        why: String,
    },
}

/// Makes requests. Clones share their connections.
#[derive(Clone)]
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    max_body: usize,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Reads the certificates to trust; blocks.
    ///
    /// # Errors
    ///
    /// [`FetchError::CaFile`] if the file is not there or has no certificate.
    ///
    /// # Panics
    ///
    /// Never: ring has the default protocol versions.
    pub fn new(settings: &FetchSettings) -> Result<Fetcher, FetchError> {
        let mut roots = RootCertStore::empty();
        // a system without certificates trusts the file alone
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &settings.ca_file {
            add_file(&mut roots, path).map_err(|source| FetchError::CaFile {
                path: path.clone(),
                source,
            })?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(settings.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Fetcher {
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .build(connector),
            timeout: settings.timeout,
            max_body: settings.max_body,
        })
    }

    /// Makes one request; any status is an answer.
    ///
    /// # Errors
    ///
    /// See [`FetchError`]; none of them shows the request's headers or body.
    pub async fn fetch(&self, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
        let host = host_of(request.uri());
        check_scheme(request.uri())?;
        match timeout(self.timeout, self.exchange(request, &host)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(FetchError::TooLate {
                host,
                patience: self.timeout,
            }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        host: &str,
    ) -> Result<Response<Bytes>, FetchError> {
        let answer = self
            .client
            .request(request.map(Full::new))
            .await
            .map_err(|error| FetchError::Unreachable {
                host: host.to_owned(),
                why: chain(&error),
            })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.max_body).collect().await;
        let body = body.map_err(|error| FetchError::Answer {
            host: host.to_owned(),
            why: match error.is::<LengthLimitError>() {
                true => format!("it is longer than {} bytes", self.max_body),
                false => chain(&*error),
            },
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> io::Result<()> {
    let bad =
        |error: &dyn fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let pem = fs::read(path)?;
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(&error))?;
        roots.add(certificate).map_err(|error| bad(&error))?;
        found += 1;
    }
    match found {
        0 => Err(bad(&"there is no PEM certificate in it")),
        _ => Ok(()),
    }
}

/// A secret goes over plain HTTP to nobody but this machine.
fn check_scheme(uri: &Uri) -> Result<(), FetchError> {
    let local = || {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    };
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if local() => Ok(()),
        _ => Err(FetchError::NotHttps {
            uri: format!(
                "{}://{}",
                uri.scheme_str().unwrap_or_default(),
                host_of(uri)
            ),
        }),
    }
}

fn host_of(uri: &Uri) -> String {
    uri.authority().map_or_else(
        || "nobody".to_owned(),
        |authority| {
            // a user and a password may stand before the @
            let text = authority.as_str();
            text.rsplit('@').next().unwrap_or(text).to_owned()
        },
    )
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
