//! Encryption with age (age-encryption.org/v1) for X25519 keys: everybody who
//! has one of the private keys can read the backup, the daemon cannot.

use std::fmt;
use std::fs;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use age::stream::{StreamReader, StreamWriter};
use age::x25519;
use age::{DecryptError, Decryptor, Encryptor};
use zeroize::Zeroizing;

use crate::error::ArchiveError;

/// How a file of age begins.
const MAGIC: &[u8] = b"age-encryption.org/v1";
/// How one begins that was made text for mails.
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
/// The header of a file has 200 bytes for each recipient; a longer one is only
/// there to keep its reader busy, which begins anew with each line.
const HEADER_BYTES: u64 = 32 << 10;
/// A file of identities: some lines.
const IDENTITY_BYTES: u64 = 64 << 10;

/// The public keys that a backup is encrypted for; none: it is not.
#[derive(Clone, Debug, Default)]
pub struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    /// Reads keys such as `age1…`.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Recipient`] names the one that is none.
    pub fn parse(keys: &[String]) -> Result<Recipients, ArchiveError> {
        let keys = keys.iter().map(|key| {
            key.parse().map_err(|_: &str| ArchiveError::Recipient {
                // somebody may have given the private key
                key: match key.to_ascii_lowercase().starts_with("age1") {
                    true => key.clone(),
                    false => "what was given".to_owned(),
                },
            })
        });
        Ok(Recipients(keys.collect::<Result<_, _>>()?))
    }

    /// Whether nothing is encrypted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Private keys, to read an encrypted backup with. `Debug` shows how many.
#[derive(Clone, Default)]
pub struct Identities(Vec<x25519::Identity>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

impl Identities {
    /// None: for a backup that is not encrypted.
    #[must_use]
    pub fn none() -> Identities {
        Identities::default()
    }

    /// Reads a file as `age-keygen` makes it; blocks.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Identity`] says what is wrong, not what is in it.
    pub fn from_file(path: &Path) -> Result<Identities, ArchiveError> {
        let refused = |why: String| ArchiveError::Identity {
            path: path.to_owned(),
            why,
        };
        let file = fs::File::open(path).map_err(|error| refused(error.to_string()))?;
        let mut text = Zeroizing::new(String::new());
        file.take(IDENTITY_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| refused(error.to_string()))?;
        Identities::parse(&text).map_err(refused)
    }

    /// Reads lines such as `AGE-SECRET-KEY-1…`; empty ones and those that begin
    /// with `#` count for nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with which line, without the line.
    pub fn parse(text: &str) -> Result<Identities, String> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|(number, line)| {
            line.parse::<x25519::Identity>().map_err(|_| {
                let number = number + 1;
                format!("line {number} is no private key: it begins with AGE-SECRET-KEY-1")
            })
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        match keys.is_empty() {
            true => Err("there is no line that begins with AGE-SECRET-KEY-1".to_owned()),
            false => Ok(Identities(keys)),
        }
    }
}

/// Where the archive is written to, encrypted or not.
pub(crate) enum Sealer<W: Write> {
    Plain(W),
    Sealed(Box<StreamWriter<W>>),
}

impl<W: Write> Sealer<W> {
    pub(crate) fn new(out: W, recipients: &Recipients) -> Result<Sealer<W>, ArchiveError> {
        if recipients.is_empty() {
            return Ok(Sealer::Plain(out));
        }
        let keys = recipients.0.iter().map(|key| key as &dyn age::Recipient);
        let failed = |source| ArchiveError::Write { source };
        let encryptor = Encryptor::with_recipients(keys)
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        let writer = encryptor.wrap_output(out).map_err(failed)?;
        Ok(Sealer::Sealed(Box::new(writer)))
    }

    /// Writes what is still held back; without it the archive has no end.
    pub(crate) fn finish(self) -> io::Result<()> {
        let mut out = match self {
            Sealer::Plain(out) => out,
            Sealer::Sealed(writer) => writer.finish()?,
        };
        out.flush()
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sealer::Plain(out) => out.write(bytes),
            Sealer::Sealed(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sealer::Plain(out) => out.flush(),
            Sealer::Sealed(writer) => writer.flush(),
        }
    }
}

type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// An archive, opened.
pub(crate) enum Opened<R: Read> {
    Plain(Whole<R>),
    Sealed(Box<StreamReader<BufReader<HeaderLimit<Whole<R>>>>>),
}

impl<R: Read> Opened<R> {
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self, Opened::Sealed(_))
    }
}

impl<R: Read> Read for Opened<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Opened::Plain(input) => input.read(into),
            Opened::Sealed(reader) => reader.read(into),
        }
    }
}

/// Looks at the first bytes of `input` and decrypts it if it is encrypted.
pub(crate) fn open<R: Read>(
    mut input: R,
    identities: &Identities,
) -> Result<Opened<R>, ArchiveError> {
    let mut start = Vec::with_capacity(ARMOR.len());
    input
        .by_ref()
        .take(ARMOR.len() as u64)
        .read_to_end(&mut start)
        .map_err(|source| ArchiveError::Read { source })?;
    if start.starts_with(ARMOR) {
        return Err(ArchiveError::NotABackup {
            why: "it is an age file as text; decrypt it with age -d first",
        });
    }
    let is_sealed = start.starts_with(MAGIC);
    let whole = Cursor::new(start).chain(input);
    match is_sealed {
        true if identities.0.is_empty() => Err(ArchiveError::Encrypted),
        true => unseal(whole, identities),
        false => Ok(Opened::Plain(whole)),
    }
}

fn unseal<R: Read>(whole: Whole<R>, identities: &Identities) -> Result<Opened<R>, ArchiveError> {
    let left = Arc::new(AtomicU64::new(HEADER_BYTES));
    let limited = HeaderLimit {
        input: whole,
        left: left.clone(),
    };
    let decryptor = Decryptor::new_buffered(BufReader::new(limited)).map_err(refused)?;
    left.store(u64::MAX, Ordering::Relaxed);
    let keys = identities.0.iter().map(|key| key as &dyn age::Identity);
    let reader = decryptor.decrypt(keys).map_err(refused)?;
    Ok(Opened::Sealed(Box::new(reader)))
}

fn refused(error: DecryptError) -> ArchiveError {
    let damaged = ArchiveError::Damaged {
        name: "its encryption".to_owned(),
        why: "the header is not as it was written",
    };
    match error {
        DecryptError::NoMatchingKeys => ArchiveError::WrongIdentity,
        DecryptError::Io(source) => match source.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::CutShort,
            io::ErrorKind::InvalidData => damaged,
            _ => ArchiveError::Read { source },
        },
        _ => damaged,
    }
}

/// Gives only so many bytes until the header has been understood.
pub(crate) struct HeaderLimit<R> {
    input: R,
    left: Arc<AtomicU64>,
}

impl<R: Read> Read for HeaderLimit<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let most = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.input.read(&mut into[..most])?;
        if left != u64::MAX {
            self.left.store(left - read as u64, Ordering::Relaxed);
        }
        Ok(read)
    }
}

/// A pair of keys that nobody else has.
#[cfg(test)]
pub(crate) fn new_keys() -> (Recipients, Identities) {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public();
    (Recipients(vec![recipient]), Identities(vec![identity]))
}

#[cfg(test)]
impl Recipients {
    pub(crate) fn both(one: &Recipients, other: &Recipients) -> Recipients {
        Recipients([&one.0[..], &other.0[..]].concat())
    }
}
