//! One connection, and what may go wrong with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ANSWER_BYTES, Call, PATIENCE, Raw, etag_of, garbled, retry_after_of};
use crate::error::{Trouble, chain};
use crate::place::{Endpoint, Server, ServerUrl, Where};
use crate::tls::{self, Fingerprint, Trust};

/// How long one address of a host may take to answer, and then its TLS.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Addresses of one host that are tried.
const ADDRESSES: usize = 4;

type Sender = SendRequest<Full<Bytes>>;

/// Why there is no answer.
pub(super) enum Broken {
    /// Nothing was sent, for this reason.
    Never(Trouble),
    /// The connection broke.
    Lost {
        /// Whether the request never left.
        unsent: bool,
        why: String,
    },
    /// Nothing came in time.
    Late,
}

/// Sends requests to one daemon, over one connection at a time.
pub(super) struct Transport {
    at: Where,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Option<Sender>>,
}

impl Transport {
    /// Reads the certificates to trust.
    pub(super) fn new(at: Where) -> Result<Transport, Trouble> {
        let tls = match &at.endpoint {
            Endpoint::Socket(_) => None,
            Endpoint::Https(server) => Some(Arc::new(tls::config(&server.trust)?)),
        };
        Ok(Transport {
            at,
            tls,
            idle: Mutex::new(None),
        })
    }

    pub(super) fn at(&self) -> &Where {
        &self.at
    }

    /// Sends `call` and reads the whole answer.
    pub(super) async fn exchange(&self, call: &Call, bearer: Option<&str>) -> Result<Raw, Broken> {
        let whole = async {
            let (response, sender) = self.begin(call, bearer).await?;
            let raw = collect(response).await?;
            *self.idle.lock().await = Some(sender);
            Ok(raw)
        };
        timeout(call.patience, whole)
            .await
            .unwrap_or(Err(Broken::Late))
    }

    /// Sends `call` and reads the head of the answer. The connection lasts as
    /// long as what is returned.
    pub(super) async fn begin(
        &self,
        call: &Call,
        bearer: Option<&str>,
    ) -> Result<(Response<Incoming>, Sender), Broken> {
        let request = self.request(call, bearer).map_err(Broken::Never)?;
        let mut sender = self.connection().await.map_err(Broken::Never)?;
        match timeout(call.patience, sender.try_send_request(request)).await {
            Err(_silence) => Err(Broken::Late),
            Ok(Ok(response)) => Ok((response, sender)),
            Ok(Err(mut error)) => Err(Broken::Lost {
                unsent: error.take_message().is_some(),
                why: chain(error.error()),
            }),
        }
    }

    fn request(&self, call: &Call, bearer: Option<&str>) -> Result<Request<Full<Bytes>>, Trouble> {
        let host = match &self.at.endpoint {
            Endpoint::Socket(_) => "sotpd".to_owned(),
            Endpoint::Https(server) => server.url.authority(),
        };
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.path)
            .header(HOST, host)
            .header(ACCEPT, call.accept)
            .header(USER_AGENT, concat!("sotp/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = bearer {
            request = request.header(AUTHORIZATION, authorization(token)?);
        }
        let mut bytes = Bytes::new();
        if let Some((content_type, content)) = &call.body {
            request = request.header(CONTENT_TYPE, *content_type);
            bytes = content.clone();
        }
        let mut request = request.body(Full::new(bytes)).map_err(garbled)?;
        request.headers_mut().extend(call.headers.clone());
        Ok(request)
    }

    /// The one that is open, if it still is, or a new one.
    async fn connection(&self) -> Result<Sender, Trouble> {
        if let Some(mut sender) = self.idle.lock().await.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        match (&self.at.endpoint, &self.tls) {
            (Endpoint::Https(server), Some(tls)) => {
                speak(secure(&self.at, server, tls.clone()).await?).await
            }
            (Endpoint::Socket(path), _) => speak(self.socket(path).await?).await,
            (Endpoint::Https(_), None) => Err(garbled("TLS is not set up")),
        }
    }

    async fn socket(&self, path: &Path) -> Result<UnixStream, Trouble> {
        UnixStream::connect(path)
            .await
            .map_err(|source| unreachable(&self.at, source))
    }
}

/// Reads what belongs to a head.
pub(super) async fn collect(response: Response<Incoming>) -> Result<Raw, Broken> {
    let (head, body) = response.into_parts();
    let collected = timeout(PATIENCE, Limited::new(body, ANSWER_BYTES).collect()).await;
    let content = collected
        .map_err(|_silence| Broken::Late)?
        .map_err(|error| Broken::Lost {
            unsent: false,
            why: error.to_string(),
        })?
        .to_bytes();
    Ok(Raw {
        status: head.status,
        etag: etag_of(&head.headers),
        retry_after: retry_after_of(&head.headers),
        content,
    })
}

fn authorization(token: &str) -> Result<HeaderValue, Trouble> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        Trouble::Usage(
            "the token has characters that no token has; was the right file given?".into(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

async fn speak<S>(stream: S) -> Result<Sender, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(garbled)?;
    // ends with the sender; what goes wrong there the sender tells
    let _driver = tokio::spawn(connection);
    Ok(sender)
}

/// Connects, and makes sure of who is there.
async fn secure(
    at: &Where,
    server: &Server,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, Trouble> {
    let tcp = dial(&server.url)
        .await
        .map_err(|source| unreachable(at, source))?;
    let name = ServerName::try_from(server.url.host.clone()).map_err(|_| {
        Trouble::Usage(format!(
            "{} is no name of a host ({})",
            server.url.host, at.source
        ))
    })?;
    let handshake = timeout(CONNECT_PATIENCE, TlsConnector::from(tls).connect(name, tcp));
    handshake
        .await
        .unwrap_or_else(|_silence| Err(too_late("TLS")))
        .map_err(|source| match tls::distrust(&source) {
            Some(why) => Trouble::Untrusted {
                at: Box::new(at.clone()),
                why,
            },
            None => unreachable(at, source),
        })
}

async fn dial(url: &ServerUrl) -> std::io::Result<TcpStream> {
    let found = timeout(CONNECT_PATIENCE, lookup_host((url.host.as_str(), url.port))).await;
    let addresses = found.unwrap_or_else(|_silence| Err(too_late("the name server")))?;
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
    for address in addresses.take(ADDRESSES) {
        match timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_silence) => last = too_late(&address.to_string()),
        }
    }
    Err(last)
}

fn too_late(who: &str) -> std::io::Error {
    let text = format!(
        "no answer from {who} within {} s",
        CONNECT_PATIENCE.as_secs()
    );
    std::io::Error::new(std::io::ErrorKind::TimedOut, text)
}

fn unreachable(at: &Where, source: std::io::Error) -> Trouble {
    Trouble::Unreachable {
        at: Box::new(at.clone()),
        source,
    }
}

/// Looks at the certificate of whoever answers there, tells nothing and hangs up.
pub(crate) async fn look_at_certificate(
    at: &Where,
    url: &ServerUrl,
) -> Result<Fingerprint, Trouble> {
    let server = Server {
        url: url.clone(),
        trust: Trust::Look,
    };
    let stream = secure(at, &server, Arc::new(tls::config(&Trust::Look)?)).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    match certificates.and_then(|all| all.first()) {
        Some(certificate) => Ok(Fingerprint::of(certificate)),
        None => Err(garbled("it showed no certificate")),
    }
}
