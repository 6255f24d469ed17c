//! HTTPS: whom we believe to be the server.
//!
//! A pinned certificate is compared byte by byte (its SHA-256), and nothing else
//! about it counts, neither its names nor its dates. Without one it is checked
//! against the issuers of the system, or of a file, as a browser would do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::error::Trouble;

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate.as_ref()).into())
    }
}

impl fmt::Display for Fingerprint {
    /// As `openssl x509 -fingerprint -sha256` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let colon = if place == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// Takes 64 hexadecimal digits, with or without colons, in any case.
    fn from_str(text: &str) -> Result<Fingerprint, String> {
        let bad =
            || format!("{text:?} is no SHA-256: 64 hexadecimal digits, colons between them or not");
        let lower = text.trim().to_ascii_lowercase();
        let digits = lower
            .trim_start_matches("sha256")
            .trim_start_matches([':', '=', ' '])
            .replace(':', "");
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(2 * place..2 * place + 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Fingerprint(bytes))
    }
}

/// Whom we believe to be the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Whom the system's issuers vouch for.
    System,
    /// Whom the issuers in this file vouch for.
    File(PathBuf),
    /// Who has the certificate with this fingerprint.
    Pin(Fingerprint),
    /// Anybody: to look at a certificate, and then hang up.
    Look,
}

/// How to speak TLS with whom we trust; reads files.
pub(crate) fn config(trust: &Trust) -> Result<ClientConfig, Trouble> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Trouble::Garbled(error.to_string()))?;
    let pinned = |pin| {
        let verifier = Arc::new(Pinned { pin, provider });
        builder
            .clone()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth()
    };
    Ok(match trust {
        Trust::Pin(pin) => pinned(Some(*pin)),
        Trust::Look => pinned(None),
        Trust::System => builder
            .with_root_certificates(system_roots())
            .with_no_client_auth(),
        Trust::File(path) => builder
            .with_root_certificates(roots_of(path)?)
            .with_no_client_auth(),
    })
}

/// The issuers that the system trusts; maybe none.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn roots_of(path: &Path) -> Result<RootCertStore, Trouble> {
    let doing = || format!("read {}", path.display());
    let bad = |what: String| {
        Trouble::Usage(format!(
            "cannot use the certificates in {}: {what}",
            path.display()
        ))
    };
    let pem = std::fs::read(path).map_err(|source| Trouble::local(doing(), source))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(bad("there is no PEM certificate in it".to_owned())),
        false => Ok(roots),
    }
}

/// Trusts who proves to have the key of one certificate.
#[derive(Debug)]
struct Pinned {
    /// `None`: any.
    pin: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Fingerprint::of(end_entity);
        match self.pin {
            Some(pin) if pin != seen => Err(rustls::Error::General(format!(
                "the SHA-256 of its certificate is {seen}, not {pin}: either it was replaced, or somebody stands in between"
            ))),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Why a certificate was not taken, if that is what went wrong.
pub(crate) fn distrust(error: &std::io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(in_words(why)),
        rustls::Error::General(why) => Some(why.clone()),
        _ => None,
    }
}

fn in_words(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "no issuer that is trusted vouches for it".to_owned(),
        other => format!("its certificate is not good: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_people_write_it_and_shown_as_openssl_does() {
        let plain = "0aff".to_owned() + "00".repeat(30).as_str();
        let read: Fingerprint = plain.parse().unwrap();
        let shown = read.to_string();
        assert!(
            shown.starts_with("0A:FF:00:") && shown.len() == 95,
            "{shown}"
        );
        assert_eq!(shown.parse::<Fingerprint>().unwrap(), read);
        assert_eq!(
            format!("SHA256:{shown}").parse::<Fingerprint>().unwrap(),
            read
        );
        for bad in ["", "0aff", &"zz".repeat(32), &"é".repeat(32)] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = config(&Trust::File(file.path().to_owned())).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("no PEM certificate") && text.contains(file.path().to_str().unwrap()),
            "{text}"
        );
    }
}
