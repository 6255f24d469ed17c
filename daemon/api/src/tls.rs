//! What the TLS listener shows and asks for: a certificate with its key, and
//! the authorities whose clients it knows.
//!
//! Everything comes from files. [`load`] reads them anew, so a reload makes
//! another configuration of the same settings, and connections that are open
//! keep theirs. Where there is no certificate yet, [`make`] makes one for this
//! machine: good enough to begin with, as long as people compare its
//! [`fingerprint`].

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Timestamp;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256,
    date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};

/// Years for which a certificate that we make is good: it is renewed by nobody,
/// and trusted for its fingerprint.
const YEARS: i32 = 10;

/// Others than owner and group may not read a key.
const OTHERS: u32 = 0o007;

/// The files that a TLS listener is set up from. All are PEM (RFC 7468).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities whose certificates clients may show; `None`: clients are
    /// not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of those authorities.
    pub client_crl: Option<PathBuf>,
}

/// Why a TLS listener cannot be set up. The text names the file and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or written.
    File {
        /// What we were doing, as it reads after "cannot".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is there, and not what it has to be.
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TlsError::File { doing, path, .. } => write!(f, "cannot {doing} {}", path.display()),
            TlsError::Content { path, why } => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsError::File { source, .. } => Some(source),
            TlsError::Content { .. } => None,
        }
    }
}

fn wrong(path: &Path, why: impl Into<String>) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        why: why.into(),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::File {
        doing,
        path,
        source,
    }
}

/// Reads the files of a TLS listener. Blocks.
///
/// A client may show a certificate of one of the authorities, and need not; one
/// that is revoked, or about whose revocation the lists say nothing, is not let
/// in. Neither is anybody once the list is older than it says it may be.
///
/// # Errors
///
/// [`TlsError`] names the file that cannot be used.
pub fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates = certificates(&files.certificate)?;
    let key = key(&files.key)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&files.certificate, error.to_string()))?;
    let builder = match client_verifier(files)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| {
            let why = format!(
                "the certificate cannot be used with the key in {}: {error}",
                files.key.display()
            );
            wrong(&files.certificate, why)
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(failed("read the certificate", path))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong(path, "there is no certificate in it (PEM)")),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(path, format!("it is not PEM: {error}"))),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let mode = fs::metadata(path)
        .map_err(failed("read the key", path))?
        .mode();
    if mode & OTHERS != 0 {
        let why = format!(
            "everybody on this machine can use the key (mode {:o}); chmod 600 it",
            mode & 0o777
        );
        return Err(wrong(path, why));
    }
    let text = fs::read(path).map_err(failed("read the key", path))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => wrong(path, "there is no private key in it (PEM)"),
        other => wrong(path, format!("it is not PEM: {other}")),
    })
}

fn client_verifier(files: &TlsFiles) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(authorities) = &files.client_ca else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(authorities, error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated();
    if let Some(lists) = &files.client_crl {
        builder = builder
            .with_crls(revocation_lists(lists)?)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    let blamed = files.client_crl.as_ref().unwrap_or(authorities);
    let verifier = builder
        .build()
        .map_err(|error| wrong(blamed, error.to_string()))?;
    Ok(Some(verifier))
}

fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(failed("read the revocation list", path))?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(wrong(path, "there is no revocation list in it (PEM)"))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(path, format!("it is not PEM: {error}"))),
    }
}

/// Makes a certificate for the host names and addresses `names` with a new key,
/// where there are neither. Says whether it did. Blocks.
///
/// # Errors
///
/// [`TlsError`] if only one of the two files is there, or if they cannot be
/// written.
pub fn make(
    certificate: &Path,
    key: &Path,
    names: &[String],
    now: Timestamp,
) -> Result<bool, TlsError> {
    match (certificate.exists(), key.exists()) {
        (true, true) => return Ok(false),
        (true, false) => {
            return Err(wrong(
                key,
                "the key of the certificate beside it is missing",
            ));
        }
        // a crash between the two leaves a key: nobody has seen its certificate
        (false, _) => {}
    }
    let (certificate_text, key_text) =
        self_made(names, now).map_err(|error| wrong(certificate, error.to_string()))?;
    write(key, &key_text, 0o600)?;
    write(certificate, &certificate_text, 0o644)?;
    Ok(true)
}

fn self_made(names: &[String], now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.to_vec())?;
    let name = names.first().map_or("sotp", String::as_str);
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let year: i32 = now
        .to_string()
        .split('-')
        .next()
        .and_then(|year| year.parse().ok())
        .unwrap_or(2026);
    // whole years, so that a clock that is a little off does not matter
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + YEARS, 1, 1);
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    if let Some(folder) = path.parent() {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(failed("make the folder", folder))?;
    }
    let beside = path.with_extension("new");
    let written = (|| {
        // what an earlier try left may have another mode
        let _ = fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(failed("write", path))
}

/// The SHA-256 of the certificate in the file, as browsers show it:
/// `AB:CD:…`. Blocks.
///
/// # Errors
///
/// [`TlsError`] if the file has no certificate.
pub fn fingerprint(certificate: &Path) -> Result<String, TlsError> {
    let found = certificates(certificate)?;
    let digest = Sha256::digest(&found[0]);
    let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(bytes.join(":"))
}
