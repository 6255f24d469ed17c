//! Keys: a plugin's author signs with a private one, a daemon trusts public
//! ones.
//!
//! A public key is a line of text, `sotp-plugin-key ed25519 BASE64 comment`,
//! which may be given to everybody. A private key is a file of mode 0600 with
//! one line, `SOTP-PLUGIN-SECRET-KEY-BASE64`; whoever has it can sign in its
//! owner's name.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256, Sha512_256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::problem::{Problem, quoted};

/// What a public key begins with.
const PUBLIC_BEGIN: &str = "sotp-plugin-key";
/// The one kind of key that there is.
const ALGORITHM: &str = "ed25519";
/// What a private key begins with.
const PRIVATE_BEGIN: &str = "SOTP-PLUGIN-SECRET-KEY-";
/// Set before what is signed, so that a signature is good for nothing else.
const DOMAIN: &[u8] = b"SOTP plugin package signature 1\0";
/// Bytes of a key, either of them.
const KEY_BYTES: usize = 32;
/// Bytes of what guards a private key against slips of the pen.
const CHECK_BYTES: usize = 4;
/// A file of a key is not longer.
const FILE_BYTES: u64 = 4_096;
/// Bytes of a comment.
const COMMENT_BYTES: usize = 200;

/// Signs packages. `Debug` shows its id alone; wiped when it is dropped.
pub struct PrivateKey(SigningKey);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public().id())
    }
}

/// Tells whose package it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl PrivateKey {
    /// A new key of the kernel's randomness.
    ///
    /// # Panics
    ///
    /// If the kernel has no randomness, which it has once it is up.
    #[must_use]
    pub fn generate() -> PrivateKey {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(seed.as_mut_slice()).expect("the kernel gives random bytes once it is up");
        PrivateKey(SigningKey::from_bytes(&seed))
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Reads a private key from its text; lines that begin with # are comments.
    ///
    /// # Errors
    ///
    /// Says what a private key looks like; never repeats the text.
    pub fn parse(text: &str) -> Result<PrivateKey, Problem> {
        let refused =
            |message: &str| Problem::new(message).with_hint("make one with `sotp plugin keygen`");
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(refused("a private key is one line"));
        };
        if line.starts_with(PUBLIC_BEGIN) {
            return Err(refused("this is a public key: a private one signs"));
        }
        let Some(digits) = line.strip_prefix(PRIVATE_BEGIN) else {
            return Err(refused("this is no private key of a plugin's author"));
        };
        let bytes = URL_SAFE_NO_PAD.decode(digits).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| refused("the private key is damaged"))?;
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES + CHECK_BYTES {
            return Err(refused("the private key is damaged"));
        }
        seed.copy_from_slice(&bytes[..KEY_BYTES]);
        if bytes[KEY_BYTES..] != check(&seed) {
            return Err(refused("the private key is damaged"));
        }
        Ok(PrivateKey(SigningKey::from_bytes(&seed)))
    }

    /// The line of its file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(self.0.to_bytes());
        let mut bytes = Zeroizing::new([0; KEY_BYTES + CHECK_BYTES]);
        bytes[..KEY_BYTES].copy_from_slice(seed.as_slice());
        bytes[KEY_BYTES..].copy_from_slice(&check(&seed));
        let mut digits = Zeroizing::new(String::new());
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut digits);
        Zeroizing::new(format!("{PRIVATE_BEGIN}{}", digits.as_str()))
    }

    /// Writes a new file that its owner alone may read; blocks.
    ///
    /// # Errors
    ///
    /// Says what the system refused; a file that is there stays as it is.
    pub fn create_file(&self, path: &Path) -> Result<(), Problem> {
        let open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let written = open.and_then(|mut file| {
            let mut text = Zeroizing::new(String::new());
            text.push_str(&format!("# the private half of {}\n", self.public().id()));
            text.push_str(&self.to_text());
            text.push('\n');
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| {
            let problem = Problem::new(format!("cannot write {}: {error}", path.display()));
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    problem.with_hint("a key that is lost cannot be made again: name another file")
                }
                _ => problem,
            }
        })
    }

    /// Reads the file of a private key; blocks.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the file; one that others may read is refused.
    pub fn read_file(path: &Path) -> Result<PrivateKey, Problem> {
        let shown = path.display();
        let unreadable = |error: std::io::Error| {
            Problem::new(format!("cannot read the private key {shown}: {error}"))
                .with_hint("make one with `sotp plugin keygen`")
        };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Problem::new(format!("{shown} is no file of a private key")));
        }
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(Problem::new(format!(
                "others may read the private key {shown} (mode {mode:o})"
            ))
            .with_hint(format!("chmod 600 {shown}")));
        }
        let mut text = Zeroizing::new(String::new());
        let opened = fs::File::open(path).map_err(unreadable)?;
        opened
            .take(FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        PrivateKey::parse(&text).map_err(|problem| problem.in_file(shown.to_string()))
    }

    /// Signs a payload.
    pub(crate) fn sign(&self, payload: &[u8]) -> [u8; 64] {
        self.0.sign(&to_be_signed(payload)).to_bytes()
    }
}

/// The first bytes of the key's digest.
fn check(seed: &[u8; KEY_BYTES]) -> [u8; CHECK_BYTES] {
    let mut digest: [u8; 32] = Sha256::new()
        .chain_update(PRIVATE_BEGIN)
        .chain_update(seed)
        .finalize()
        .into();
    let first = [digest[0], digest[1], digest[2], digest[3]];
    digest.zeroize();
    first
}

/// Bytes of a key's id.
pub(crate) const ID_BYTES: usize = 8;

impl PublicKey {
    /// A short name for it: 16 hexadecimal digits of its digest.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.id_bytes())
    }

    pub(crate) fn id_bytes(&self) -> [u8; ID_BYTES] {
        let digest: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest[..ID_BYTES]);
        id
    }

    /// Reads a public key and its comment, which is empty if it has none.
    ///
    /// # Errors
    ///
    /// Says what a public key looks like.
    pub fn parse(text: &str) -> Result<(PublicKey, String), Problem> {
        let hint = format!("write {PUBLIC_BEGIN} {ALGORITHM} BASE64 COMMENT, all in one line");
        let refused = |message: String| Problem::new(message).with_hint(hint.clone());
        let text = text.trim();
        if text.starts_with(PRIVATE_BEGIN) {
            return Err(refused(
                "this is a private key: keep it to yourself and give the public one".to_owned(),
            ));
        }
        let mut words = text.splitn(4, ' ');
        let (begin, algorithm, digits) = (words.next(), words.next(), words.next());
        if begin != Some(PUBLIC_BEGIN) {
            return Err(refused(format!("{} is no public key", quoted(text))));
        }
        let algorithm = algorithm.unwrap_or_default();
        if algorithm != ALGORITHM {
            let message = format!("{} is no kind of key that is known", quoted(algorithm));
            return Err(refused(message));
        }
        let damaged = || refused("the public key is damaged".to_owned());
        let bytes = STANDARD.decode(digits.unwrap_or_default());
        let bytes: [u8; KEY_BYTES] = bytes
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(damaged)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| damaged())?;
        // anybody could sign for such a key
        if key.is_weak() {
            return Err(damaged());
        }
        let comment = words.next().unwrap_or_default().trim();
        if comment.len() > COMMENT_BYTES || comment.chars().any(char::is_control) {
            let message = format!("the comment is not one line of {COMMENT_BYTES} bytes at most");
            return Err(refused(message));
        }
        Ok((PublicKey(key), comment.to_owned()))
    }

    /// Its line, with a comment.
    #[must_use]
    pub fn to_text(&self, comment: &str) -> String {
        let digits = STANDARD.encode(self.0.as_bytes());
        let line = format!("{PUBLIC_BEGIN} {ALGORITHM} {digits} {comment}");
        line.trim_end().to_owned()
    }

    /// Whether `signature` is this key's for `payload`.
    pub(crate) fn has_signed(&self, payload: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.0
            .verify_strict(&to_be_signed(payload), &signature)
            .is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(""))
    }
}

impl std::str::FromStr for PublicKey {
    type Err = Problem;

    fn from_str(text: &str) -> Result<PublicKey, Problem> {
        PublicKey::parse(text).map(|(key, _)| key)
    }
}

fn to_be_signed(payload: &[u8]) -> Vec<u8> {
    let digest: [u8; 32] = Sha512_256::digest(payload).into();
    [DOMAIN, digest.as_slice()].concat()
}

/// `bytes` as digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_comes_back_from_its_text_and_signs_as_before() {
        let key = PrivateKey::generate();
        let again = PrivateKey::parse(&key.to_text()).unwrap();
        let signature = again.sign(b"payload");
        let (public, comment) = PublicKey::parse(&key.public().to_text("ann@example")).unwrap();
        assert_eq!((public, comment.as_str()), (key.public(), "ann@example"));
        assert!(public.has_signed(b"payload", &signature));
        assert!(!public.has_signed(b"Payload", &signature));
        assert!(
            !PrivateKey::generate()
                .public()
                .has_signed(b"payload", &signature)
        );
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
    }

    #[test]
    fn debug_shows_the_id_and_nothing_of_the_key() {
        let key = PrivateKey::generate();
        let id = key.public().id();
        assert_eq!(id.len(), 16);
        assert_eq!(format!("{key:?}"), format!("PrivateKey({id})"));
        assert_eq!(format!("{:?}", key.public()), format!("PublicKey({id})"));
    }

    #[test]
    fn the_file_of_a_private_key_is_its_owners_alone_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = PrivateKey::generate();
        key.create_file(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(PrivateKey::read_file(&path).unwrap().public(), key.public());
        let again = PrivateKey::generate().create_file(&path).unwrap_err();
        assert!(again.hint.unwrap().contains("another file"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = PrivateKey::read_file(&path).unwrap_err();
        assert!(refused.message.contains("mode 640"), "{refused}");
        assert!(refused.hint.unwrap().contains("chmod 600"));
        assert!(PrivateKey::read_file(folder.path()).is_err());
        let missing = PrivateKey::read_file(&folder.path().join("no")).unwrap_err();
        assert!(missing.hint.unwrap().contains("keygen"));
    }

    #[test]
    fn a_damaged_key_is_refused_without_repeating_it() {
        let key = PrivateKey::generate();
        let text = key.to_text();
        for at in PRIVATE_BEGIN.len()..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(bytes).unwrap();
            let problem = PrivateKey::parse(&damaged).unwrap_err();
            assert!(!problem.to_string().contains(&damaged[at..]));
        }
        for (bad, said) in [
            ("", "one line"),
            ("a\nb", "one line"),
            ("hello", "no private key"),
            (&*key.public().to_text(""), "public key"),
        ] {
            let problem = PrivateKey::parse(bad).unwrap_err();
            assert!(problem.message.contains(said), "{problem}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let private = PrivateKey::generate().to_text().to_string();
        let weak = format!("sotp-plugin-key ed25519 {}", STANDARD.encode([0; 32]));
        let long = PrivateKey::generate().public().to_text(&"x".repeat(201));
        for (bad, said) in [
            ("", "no public key"),
            ("ssh-ed25519 AAAA", "no public key"),
            ("sotp-plugin-key rsa AAAA", "no kind of key"),
            ("sotp-plugin-key ed25519 AAAA", "damaged"),
            ("sotp-plugin-key ed25519", "damaged"),
            (&weak, "damaged"),
            (&long, "comment"),
            (&private, "private key"),
        ] {
            let problem = PublicKey::parse(bad).unwrap_err();
            assert!(problem.message.contains(said), "{bad}: {problem}");
            assert!(!problem.message.contains(&private[30..]));
        }
    }
}
