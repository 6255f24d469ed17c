//! HTTP requests that the daemon itself makes: to an OpenID provider, to OpenBao
//! or Vault; and those that plugins want made, behind a [`Guard`].
//!
//! Every request has a limit on its time and on its answer's size. Redirects are
//! not followed: whoever asks decides. Certificates are checked against those of
//! the system and, where given, those of a file; plain HTTP goes to this machine
//! alone.

mod guard;

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub use guard::Guard;

/// Idle connections that are kept to one server.
const IDLE_CONNECTIONS: usize = 2;

/// Bytes of the body of a request that a plugin wants made.
pub const GUARDED_BODY: usize = 1 << 20;

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
    /// A plugin may not make such a request.
    #[error("not asked {host}: {why}")]
    NotGranted {
        /// Which server.
        host: String,
        /// What is wrong with it.
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
    tls: Arc<ClientConfig>,
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
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Fetcher {
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .build(connector),
            tls: Arc::new(tls),
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
        self.read(answer, host).await
    }

    async fn read(
        &self,
        answer: Response<Incoming>,
        host: &str,
    ) -> Result<Response<Bytes>, FetchError> {
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

impl Fetcher {
    /// Makes one request that a plugin wants made, if `guard` lets it; any status
    /// is an answer, and no redirect is followed.
    ///
    /// Its host's name is resolved once and the address connected to is one that
    /// was looked at. No connection is kept. The body has at most
    /// [`GUARDED_BODY`] bytes.
    ///
    /// # Errors
    ///
    /// [`FetchError::NotGranted`] where `guard` does not let it, else as
    /// [`Fetcher::fetch`]; none of them shows the request's path, headers or body.
    pub async fn fetch_guarded(
        &self,
        request: Request<Bytes>,
        guard: &Guard,
    ) -> Result<Response<Bytes>, FetchError> {
        let resolve = async |host: &str, port: u16| {
            let found = lookup_host((host, port)).await?;
            Ok(found.collect())
        };
        self.guarded(request, guard, resolve).await
    }

    async fn guarded(
        &self,
        request: Request<Bytes>,
        guard: &Guard,
        resolve: impl AsyncFnOnce(&str, u16) -> io::Result<Vec<SocketAddr>>,
    ) -> Result<Response<Bytes>, FetchError> {
        let host = host_of(request.uri());
        let refused = |why: String| FetchError::NotGranted {
            host: host.clone(),
            why,
        };
        check_scheme(request.uri())?;
        let grant = guard.grant(request.uri()).map_err(refused)?;
        guard::check_form(request.method(), request.headers()).map_err(refused)?;
        if request.body().len() > GUARDED_BODY {
            let why = format!("its body is longer than {GUARDED_BODY} bytes");
            return Err(refused(why));
        }
        let asking = async {
            let (name, port) = destination(request.uri());
            let unreachable = |error: io::Error| unreachable(&host, &error);
            let found = resolve(&name, port).await.map_err(unreachable)?;
            let found = guard.admit(grant, &name, &found).map_err(refused)?;
            let stream = TcpStream::connect(found.as_slice()).await;
            let stream = stream.map_err(unreachable)?;
            if request.uri().scheme_str() != Some("https") {
                return self.converse(stream, request, &host).await;
            }
            let name =
                ServerName::try_from(name).map_err(|error| unreachable(io::Error::other(error)))?;
            let tls = TlsConnector::from(Arc::clone(&self.tls));
            let stream = tls.connect(name, stream).await.map_err(unreachable)?;
            self.converse(stream, request, &host).await
        };
        match timeout(self.timeout, asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(FetchError::TooLate {
                host: host.clone(),
                patience: self.timeout,
            }),
        }
    }

    /// One request and its answer over a connection of its own.
    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Bytes>,
        host: &str,
    ) -> Result<Response<Bytes>, FetchError> {
        let failed = |error: hyper::Error| unreachable(host, &error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        let _connection = Running(tokio::spawn(connection).abort_handle());
        let (mut head, body) = request.into_parts();
        let authority = HeaderValue::from_str(host);
        let authority = authority.map_err(|error| unreachable(host, &error))?;
        head.headers.insert(HOST, authority);
        // what a server is told of an address is its path alone
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        let request = Request::from_parts(head, Full::new(body));
        let answer = sender.send_request(request).await.map_err(failed)?;
        self.read(answer, host).await
    }
}

/// A connection that ends with its request.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Which name is to be resolved, and the port to connect to.
fn destination(uri: &Uri) -> (String, u16) {
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let usual = if uri.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    (host.to_owned(), uri.port_u16().unwrap_or(usual))
}

fn unreachable(host: &str, error: &dyn std::error::Error) -> FetchError {
    FetchError::Unreachable {
        host: host.to_owned(),
        why: chain(error),
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

#[cfg(test)]
mod tests;
