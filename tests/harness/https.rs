//! A client of the daemon's HTTPS listener, with what it shows to be let in.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};
use serde_json::Value;

use crate::certificates::Identity;
use crate::forward::Forward;
use crate::http::{Ask, Line, Response};

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Somebody who asks over HTTPS. `Debug` does not show what lets them in.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    trusted: CertificateDer<'static>,
    identity: Option<Identity>,
    tls: Arc<ClientConfig>,
    authorization: Option<String>,
    /// The way into another network.
    forward: Option<PathBuf>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.address)
    }
}

impl Client {
    /// One that takes the daemon behind `address` for the right one if it has
    /// the certificate in `certificate`, a PEM file.
    ///
    /// # Panics
    ///
    /// If there is no certificate.
    #[must_use]
    pub fn new(address: SocketAddr, certificate: &Path) -> Client {
        let trusted = CertificateDer::from_pem_file(certificate).expect("a PEM file");
        Client {
            tls: Arc::new(config(&trusted, None)),
            address,
            trusted,
            identity: None,
            authorization: None,
            forward: None,
        }
    }

    /// The same, by way of a forward.
    #[must_use]
    pub fn by_way_of(&self, forward: &Forward) -> Client {
        Client {
            forward: Some(forward.path().to_owned()),
            ..self.clone()
        }
    }

    /// The same, with this bearer token.
    #[must_use]
    pub fn bearer(&self, token: &str) -> Client {
        self.authorization(&format!("Bearer {token}"))
    }

    /// The same, with this `Authorization`.
    #[must_use]
    pub fn authorization(&self, value: &str) -> Client {
        Client {
            authorization: Some(value.to_owned()),
            ..self.clone()
        }
    }

    /// The same, without anything in `Authorization`.
    #[must_use]
    pub fn stranger(&self) -> Client {
        Client {
            authorization: None,
            ..self.clone()
        }
    }

    /// The same, with this client certificate and nothing else.
    #[must_use]
    pub fn identity(&self, identity: &Identity) -> Client {
        Client {
            tls: Arc::new(config(&self.trusted, Some(identity))),
            identity: Some(identity.clone()),
            authorization: None,
            ..self.clone()
        }
    }

    /// The same, with the daemon behind another certificate.
    ///
    /// # Panics
    ///
    /// If there is no certificate.
    #[must_use]
    pub fn trusting(&self, certificate: &Path) -> Client {
        let trusted = CertificateDer::from_pem_file(certificate).expect("a PEM file");
        Client {
            tls: Arc::new(config(&trusted, self.identity.as_ref())),
            trusted,
            ..self.clone()
        }
    }

    /// Where it asks.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it shows in `Authorization`, without the scheme.
    ///
    /// # Panics
    ///
    /// If it shows nothing.
    #[must_use]
    pub fn token(&self) -> &str {
        let value = self.authorization.as_deref();
        let (_, token) = value
            .and_then(|value| value.split_once(' '))
            .expect("somebody who is signed in");
        token
    }

    /// A connection of its own; TLS is agreed on with the first request.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn connect(&self) -> io::Result<Line> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        if let Some(path) = &self.forward {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            return Ok(Line::new(StreamOwned::new(tls, stream)));
        }
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Line::new(StreamOwned::new(tls, stream)))
    }

    /// Asks on a connection of its own.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn try_send(&self, ask: Ask<'_>) -> io::Result<Response> {
        self.send_on(&mut self.connect()?, ask)
    }

    /// Asks on a connection that is open.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn send_on(&self, line: &mut Line, mut ask: Ask<'_>) -> io::Result<Response> {
        // the borrow of `ask` ends with this call
        let value = self.authorization.clone();
        let mut headers = std::mem::take(&mut ask.headers);
        if let Some(value) = &value {
            headers.push(("Authorization", value));
        }
        line.send(&Ask {
            method: ask.method,
            path: ask.path,
            headers,
            body: ask.body,
        })
    }

    /// Asks, whatever the answer is.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn send(&self, ask: Ask<'_>) -> Response {
        let what = format!("{} {}", ask.method, ask.path);
        self.try_send(ask)
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// `GET path`, whatever the answer is.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    #[must_use]
    pub fn look(&self, path: &str) -> Response {
        self.send(Ask::new("GET", path))
    }

    /// `GET path`; a yes.
    ///
    /// # Panics
    ///
    /// If the answer is anything else.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.look(path).expect(&format!("GET {path}"))
    }

    /// Asks with a JSON body; what is patched or deleted is so whatever revision
    /// it has; a yes.
    ///
    /// # Panics
    ///
    /// If the answer is anything else.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.say(method, path, body)
            .expect(&format!("{method} {path}"))
    }

    /// The same, whatever the answer is.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn say(&self, method: &str, path: &str, body: &Value) -> Response {
        let mut ask = Ask::new(method, path);
        if matches!(method, "PATCH" | "DELETE") {
            ask = ask.header("If-Match", "*");
        }
        if !body.is_null() {
            ask = ask.json(body);
        }
        self.send(ask)
    }
}

/// Trusts one certificate; every connection is agreed on anew, as a stranger's
/// is.
fn config(trusted: &CertificateDer<'static>, identity: Option<&Identity>) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let pinned = Pinned {
        certificate: trusted.clone(),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring does TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned));
    let mut config = match identity {
        Some(identity) => {
            let chain = CertificateDer::pem_file_iter(&identity.certificate).expect("a PEM file");
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
            let key = PrivateKeyDer::from_pem_file(&identity.key).expect("a PEM file");
            builder
                .with_client_auth_cert(chain, key)
                .expect("the key is the certificate's")
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config
}

/// Takes the one certificate that it was told; it is in a file of the daemon.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *certificate == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General("another certificate".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
