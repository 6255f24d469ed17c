//! Why the daemon stops with an error, and the exit code that tells systemd
//! whether another start can help.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Wrong words on the command line (sysexits.h EX_USAGE).
pub(crate) const EX_USAGE: u8 = 64;
/// The store was written by a newer build (EX_DATAERR).
const EX_DATAERR: u8 = 65;
/// The system would not give us what we need (EX_OSERR).
const EX_OSERR: u8 = 71;
/// The store is damaged (EX_IOERR).
const EX_IOERR: u8 = 74;
/// The store is in use (EX_TEMPFAIL).
const EX_TEMPFAIL: u8 = 75;
/// Bad settings (EX_CONFIG).
const EX_CONFIG: u8 = 78;

/// Why the daemon stops with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the settings are not valid:\n{0}")]
    Settings(config::Problems),
    #[error("the secret cannot be used")]
    Secret(#[source] config::SecretError),
    #[error(
        "there is no key to seal secrets with: make one with `sotpd new-key FILE` and name it as secrets.key_file, or hand it over as the credential sotp-kek"
    )]
    NoKey,
    #[error("the key to seal secrets with cannot be used")]
    KeyFile(#[source] secrets::KeyFileError),
    #[error(
        "the SecretID for OpenBao or Vault is missing: name it as vault.secret_id_file, or hand it over as the credential vault-secret-id"
    )]
    NoVault,
    #[error("the secrets cannot be opened")]
    Secrets(#[source] secrets::SecretsError),
    #[error("people cannot be let in")]
    Access(#[source] access::AccessError),
    #[error("HTTPS cannot be set up")]
    Tls(#[source] api::tls::TlsError),
    #[error("the settings of backups cannot be used")]
    Backup(#[source] backup::BackupError),
    #[error("plugins cannot make requests")]
    PluginRequests(#[source] fetch::FetchError),
    #[error("the mail settings cannot be used")]
    Mail(#[source] notify::MailError),
    #[error("the store cannot be used")]
    Store(#[source] store::OpenError),
    #[error("the runtime would not start")]
    Runtime(#[source] std::io::Error),
    #[error("cannot {doing}")]
    System {
        doing: String,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the socket {path} is in use by another process; is a sotpd running?")]
    SocketInUse { path: PathBuf },
    #[error("the store is damaged: {0}")]
    StoreDamaged(String),
    #[error("the store's writer ended by itself: {0}")]
    WriterGone(String),
    #[error("not everything reached the disk")]
    NotWritten {
        #[source]
        source: store::StoreError,
    },
    #[error("the disk does not answer; what was measured last may be lost")]
    DiskHangs,
    #[error("{stage} ended by itself")]
    StageGone { stage: &'static str },
}

impl Failure {
    /// For `map_err`: what we could not do.
    pub(crate) fn system<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Failure
    where
        E: Error + Send + Sync + 'static,
    {
        let doing = doing.into();
        move |source| Failure::System {
            doing,
            source: Box::new(source),
        }
    }

    /// See `RestartPreventExitStatus=` in systemd/sotpd.service.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Settings(_)
            | Failure::Secret(_)
            | Failure::Mail(_)
            | Failure::Backup(_)
            | Failure::PluginRequests(_)
            | Failure::NoKey
            | Failure::KeyFile(_)
            | Failure::NoVault
            | Failure::Tls(_)
            | Failure::Access(_)
            | Failure::Secrets(
                secrets::SecretsError::WrongKey { .. } | secrets::SecretsError::Settings { .. },
            ) => EX_CONFIG,
            Failure::Store(store::OpenError::Newer { .. }) => EX_DATAERR,
            Failure::Store(store::OpenError::InUse { .. }) | Failure::SocketInUse { .. } => {
                EX_TEMPFAIL
            }
            Failure::Store(store::OpenError::Corrupt { .. }) | Failure::StoreDamaged(_) => EX_IOERR,
            Failure::Store(_) | Failure::Runtime(_) | Failure::System { .. } => EX_OSERR,
            Failure::Secrets(_)
            | Failure::WriterGone(_)
            | Failure::StageGone { .. }
            | Failure::NotWritten { .. }
            | Failure::DiskHangs => 1,
        })
    }
}

/// An error and its causes, joined by ": ".
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
