//! Files that hold a secret.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A secret's longest form: a password or a token, not a file given by mistake.
const SECRET_BYTES: u64 = 4 * 1024;

/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// A secret. It has neither `Debug` nor `Display`, so that it reaches no log by
/// accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, to be handed to whoever asked for it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Why a file does not give a secret. Never shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be opened or read.
    #[error("cannot read the secret in {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory, a device or a pipe.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Others than its owner may read it.
    #[error(
        "{path} has mode {mode:o}: others may use it; chown it to the daemon's user, chmod 600, and change the secret"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Nothing in it.
    #[error("{path} is empty: write the secret into it, on one line")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// Longer than a secret is.
    #[error("{path} is longer than 4 KiB: is this the right file?")]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// Not UTF-8, or more than one line.
    #[error("{path} is not one line of UTF-8 text")]
    NotOneLine {
        /// Which file.
        path: PathBuf,
    },
}

/// Reads the secret in the file at `path`, without its final newline; blocks.
///
/// Below `credentials_directory` the service manager sees to it that nobody
/// else can read the file, and its mode may say otherwise; anywhere else a file
/// that others may use is refused.
///
/// # Errors
///
/// [`SecretError`] says what is wrong with the file.
pub fn read_secret_file(
    path: &Path,
    credentials_directory: Option<&Path>,
) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    // asked before the file is opened: opening a named pipe would block
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(SecretError::NotAFile {
            path: path.to_owned(),
        });
    }
    let open = File::open(path).map_err(failed)?;
    let metadata = open.metadata().map_err(failed)?;
    if !lies_below(path, credentials_directory) {
        refuse_exposed(path, &metadata)?;
    }
    let mut bytes = Vec::new();
    open.take(SECRET_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    one_line(path, bytes)
}

/// Whether `path` lies below `directory` once links and `..` are followed.
fn lies_below(path: &Path, directory: Option<&Path>) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    match (real(path), directory.and_then(real)) {
        (Some(path), Some(directory)) => path.starts_with(directory),
        _ => false,
    }
}

fn refuse_exposed(path: &Path, metadata: &Metadata) -> Result<(), SecretError> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(SecretError::Exposed {
        path: path.to_owned(),
        mode,
    })
}

fn one_line(path: &Path, bytes: Vec<u8>) -> Result<Secret, SecretError> {
    let path = || path.to_owned();
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SECRET_BYTES) {
        return Err(SecretError::TooLong { path: path() });
    }
    let text = String::from_utf8(bytes).map_err(|_| SecretError::NotOneLine { path: path() })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(SecretError::Empty { path: path() });
    }
    if line.contains(char::is_control) {
        return Err(SecretError::NotOneLine { path: path() });
    }
    Ok(Secret(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file with `content` and `mode` gives; below the credentials
    /// directory, if `is_credential`.
    fn read(content: &[u8], mode: u32, is_credential: bool) -> Result<Secret, SecretError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smtp-password");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let credentials = is_credential.then_some(directory.path());
        read_secret_file(&path, credentials)
    }

    /// The error, which cannot be unwrapped: a secret is never shown.
    fn refused(read: Result<Secret, SecretError>) -> SecretError {
        match read {
            Ok(_) => panic!("it was read"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_secret_loses_one_final_newline_and_nothing_else() {
        for (content, secret) in [("s3cret", "s3cret"), (" a b \n", " a b "), ("x\r\n", "x")] {
            let read = read(content.as_bytes(), 0o600, false);
            assert!(
                read.is_ok_and(|read| read.expose() == secret),
                "{content:?}"
            );
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_unless_it_is_a_credential() {
        for mode in [0o640, 0o604, 0o660, 0o601] {
            let error = refused(read(b"s3cret", mode, false));
            assert!(matches!(error, SecretError::Exposed { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("s3cret"));
        }
        assert!(read(b"s3cret", 0o400, false).is_ok());
        assert!(read(b"s3cret", 0o440, true).is_ok());
    }

    #[test]
    fn a_way_out_of_the_credentials_directory_is_no_credential() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = directory.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        let outside = directory.path().join("outside");
        fs::write(&outside, "s3cret").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
        let link = credentials.join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        for path in [credentials.join("../outside"), link] {
            let error = refused(read_secret_file(&path, Some(&credentials)));
            assert!(matches!(error, SecretError::Exposed { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_by_what_it_is() {
        let long = vec![b'x'; 4097];
        for (content, expected) in [
            (b"".as_slice(), "is empty"),
            (b"\n", "is empty"),
            (b"a\nb\n", "one line"),
            (b"\xff\xfe", "UTF-8"),
            (&long, "4 KiB"),
        ] {
            let error = refused(read(content, 0o600, false));
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(read(&long[..4096], 0o600, false).is_ok());
        let directory = refused(read_secret_file(Path::new("/"), None));
        assert!(matches!(directory, SecretError::NotAFile { .. }));
        let missing = refused(read_secret_file(Path::new("/nowhere/x"), None));
        assert!(matches!(missing, SecretError::Read { .. }));
    }
}
