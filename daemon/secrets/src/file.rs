//! Files with one secret in one line.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::{KeyFileError, SecretBytes};

/// Bytes of such a file: beyond any key or token.
const MAX_FILE: u64 = 4096;

/// The line in `path`, without its end.
pub(crate) fn read_secret_file(
    path: &Path,
    credentials_directory: Option<&Path>,
) -> Result<SecretBytes, KeyFileError> {
    let failed = |source: io::Error| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    let content = |why| KeyFileError::Content {
        path: path.to_owned(),
        why,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    let handed_over = credentials_directory.is_some_and(|directory| path.starts_with(directory));
    if mode & 0o077 != 0 && !handed_over {
        return Err(KeyFileError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    // as large as it can get: growing would leave copies behind
    let mut bytes = Vec::with_capacity(4097);
    let mut limited = file.take(MAX_FILE + 1);
    let read = limited.read_to_end(&mut bytes);
    let text = SecretBytes::new(bytes);
    read.map_err(failed)?;
    let line = text.expose();
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line {
        _ if text.len() as u64 > MAX_FILE => Err(content("it is longer than 4096 bytes")),
        [] => Err(KeyFileError::Empty {
            path: path.to_owned(),
        }),
        line if line.contains(&b'\n') => Err(content("it has more than one line")),
        line => Ok(SecretBytes::new(line.to_vec())),
    }
}
