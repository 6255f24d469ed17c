//! One file that is a plugin: `ID.sotp-plugin`.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `SOTPPLG1` |
//! | 8 | length of the payload, little-endian |
//! | 32 | SHA-256 of the payload: the package's digest |
//! | … | the payload: a tar compressed with zstd |
//! | 1 | how many signatures follow: 0 or 1 |
//! | 8 + 64 each | the key's id and its Ed25519 signature |
//!
//! The tar holds `plugin.toml`, the file that runs, `golden/*.json` and
//! `README.md`, in this order, and nothing else; owners, modes and times are
//! the same for everybody, so that the same directory gives the same bytes. A
//! signature is over SHA-512/256 of the payload, so that it does not change
//! the digest: a package has the same identity whoever signed it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Read, Write as _};
use std::path::Path;

use contract::limits::{CODE_BYTES, SCRIPT_BYTES};
use sha2::{Digest as _, Sha256};

use crate::golden::{CASE_BYTES, CASES, Golden, is_case_name};
use crate::keys::{ID_BYTES, PrivateKey, PublicKey, hex};
use crate::manifest::{MANIFEST_BYTES, Manifest};
use crate::problem::{Problem, quoted};

/// What the file begins with.
const MAGIC: &[u8; 8] = b"SOTPPLG1";
/// Bytes of a package.
pub const PACKAGE_BYTES: usize = 40 << 20;
/// Bytes of what is in it.
pub const UNPACKED_BYTES: usize = 64 << 20;
/// Files in it.
const ENTRIES: usize = 1_000;
/// Bytes of a README.md.
const README_BYTES: usize = 256 << 10;
/// zstd: small files matter more than the moment that packing takes.
const LEVEL: i32 = 19;
/// What of its memory a reader gives to zstd: 16 MiB.
const WINDOW_LOG: u32 = 24;
/// Before the payload stand the magic, its length and its digest.
const HEAD: usize = 8 + 8 + 32;
/// A signature with its key's id.
const SIGNATURE: usize = ID_BYTES + 64;

/// A package, read and whole. Whether its signature is one we trust says
/// [`Package::signer`].
#[derive(Clone, Debug, PartialEq)]
pub struct Package {
    /// Its manifest.
    pub manifest: Manifest,
    /// The manifest as it was written.
    pub manifest_text: String,
    /// What runs: the bytes of [`Manifest::main`].
    pub code: Vec<u8>,
    /// Its golden cases.
    pub golden: Vec<Golden>,
    /// Its README.md; empty if it has none.
    pub readme: String,
    /// SHA-256 of the payload, without the signatures: signing does not change
    /// what a package is.
    pub digest: [u8; 32],
}

impl Package {
    /// Makes a package of a plugin's directory: the bytes of one file, without
    /// a signature. The same directory gives the same bytes. `code` takes the
    /// place of the file that runs. Blocks.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the directory.
    pub fn pack(folder: &Path, code: Option<&[u8]>) -> Result<Vec<u8>, Vec<Problem>> {
        let files = Files::of_folder(folder, code)?;
        files.check()?;
        let payload = files.compressed().map_err(|problem| vec![problem])?;
        let whole = with_head(&payload, None);
        if whole.len() > PACKAGE_BYTES {
            return Err(vec![too_long(whole.len())]);
        }
        Ok(whole)
    }

    /// Reads a plugin's directory as if it were packed, for its author's
    /// tests; its digest is all zeros. `code` takes the place of the file that
    /// runs. Blocks.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the directory.
    pub fn read_folder(folder: &Path, code: Option<&[u8]>) -> Result<Package, Vec<Problem>> {
        Files::of_folder(folder, code)?.into_package([0; 32])
    }

    /// Reads a package.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Package, Problem> {
        let container = Container::of(bytes)?;
        let files = Files::unpacked(container.payload)?;
        files.into_package(container.digest).map_err(|problems| {
            let more = problems.len().saturating_sub(1);
            let mut first = problems.into_iter().next();
            if let Some(first) = first.as_mut().filter(|_| more > 0) {
                first.message = format!("{} (and {more} more problems)", first.message);
            }
            first.unwrap_or_else(|| Problem::new("the package is damaged"))
        })
    }

    /// Adds a signature; one that is there is replaced.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the package.
    pub fn sign(bytes: &[u8], key: &PrivateKey) -> Result<Vec<u8>, Problem> {
        Package::read(bytes)?;
        let payload = Container::of(bytes)?.payload;
        let signature = (key.public().id_bytes(), key.sign(payload));
        Ok(with_head(payload, Some(&signature)))
    }

    /// Whose key it is signed with, of those that are trusted (name and key).
    ///
    /// # Errors
    ///
    /// Says whether it is unsigned, signed with a key that nobody trusts, or
    /// tampered with.
    pub fn signer(bytes: &[u8], trusted: &[(String, PublicKey)]) -> Result<String, Problem> {
        let container = Container::of(bytes)?;
        let Some((id, signature)) = container.signature else {
            return Err(Problem::new("the package is not signed")
                .with_hint("sign it with `sotp plugin sign`, or try it with `sotp plugin dev`"));
        };
        let mut of_id = trusted
            .iter()
            .filter(|(_, key)| key.id_bytes() == id)
            .peekable();
        if of_id.peek().is_none() {
            let id = hex(&id);
            return Err(
                Problem::new(format!("the package is signed with the key {id}, which is not trusted"))
                    .with_hint(format!(
                        "if you trust whoever has {id}, add their line \"sotp-plugin-key …\" to trusted_keys of [plugins] in sotp.toml"
                    )),
            );
        }
        let signed = of_id.find(|(_, key)| key.has_signed(container.payload, &signature));
        signed.map(|(name, _)| name.clone()).ok_or_else(|| {
            tampered(&format!(
                "its signature is not that of the key {}",
                hex(&id)
            ))
        })
    }

    /// The id of the key that it says it is signed with; `None`: it is not
    /// signed. Nothing is checked.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the package.
    pub fn signed_with(bytes: &[u8]) -> Result<Option<String>, Problem> {
        let signature = Container::of(bytes)?.signature;
        Ok(signature.map(|(id, _)| hex(&id)))
    }
}

fn tampered(what: &str) -> Problem {
    Problem::new(format!("the package was changed after it was made: {what}"))
        .with_hint("fetch it again from whoever made it")
}

fn too_long(bytes: usize) -> Problem {
    Problem::new(format!(
        "the package has {bytes} bytes: at most 40 MiB are allowed"
    ))
    .with_hint("strip the component of its debug information, or leave golden cases out")
}

type RawSignature = ([u8; ID_BYTES], [u8; 64]);

fn with_head(payload: &[u8], signature: Option<&RawSignature>) -> Vec<u8> {
    let mut whole = Vec::with_capacity(HEAD + payload.len() + 1 + SIGNATURE);
    whole.extend_from_slice(MAGIC);
    whole.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    whole.extend_from_slice(&digest(payload));
    whole.extend_from_slice(payload);
    whole.push(u8::from(signature.is_some()));
    if let Some((id, signature)) = signature {
        whole.extend_from_slice(id);
        whole.extend_from_slice(signature);
    }
    whole
}

fn digest(payload: &[u8]) -> [u8; 32] {
    Sha256::digest(payload).into()
}

/// The parts of a file whose payload is what its digest says.
struct Container<'b> {
    payload: &'b [u8],
    digest: [u8; 32],
    signature: Option<RawSignature>,
}

impl<'b> Container<'b> {
    fn of(bytes: &'b [u8]) -> Result<Container<'b>, Problem> {
        if bytes.len() > PACKAGE_BYTES {
            return Err(too_long(bytes.len()));
        }
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(no_package(bytes));
        };
        let cut = || {
            Problem::new("the package is cut off, or longer than it was made")
                .with_hint("fetch it again from whoever made it")
        };
        let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (said, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| cut())?;
        let (payload, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        let signature = match rest.split_first() {
            Some((0, [])) => None,
            Some((1, rest)) if rest.len() == SIGNATURE => {
                let (id, rest) = rest.split_first_chunk().ok_or_else(cut)?;
                let (signature, _) = rest.split_first_chunk().ok_or_else(cut)?;
                Some((*id, *signature))
            }
            _ => return Err(cut()),
        };
        if digest(payload) != *said {
            return Err(tampered("its digest does not fit"));
        }
        Ok(Container {
            payload,
            digest: *said,
            signature,
        })
    }
}

fn no_package(bytes: &[u8]) -> Problem {
    let is = if bytes.starts_with(b"\0asm") {
        "a WebAssembly file"
    } else if bytes.starts_with(b"PK") {
        "a zip archive"
    } else if bytes.starts_with(b"SOTPPLG") {
        return Problem::new("the package is of a newer kind").with_hint("update sotp");
    } else {
        "no package of a plugin"
    };
    Problem::new(format!("this is {is}"))
        .with_hint("make a package with `sotp plugin pack` in the plugin's directory")
}

/// What is in a package, not looked at yet.
struct Files {
    manifest: Manifest,
    manifest_text: String,
    code: Vec<u8>,
    /// Names without `.json`, in their order.
    golden: Vec<(String, String)>,
    readme: String,
}

const MANIFEST_FILE: &str = "plugin.toml";
const README_FILE: &str = "README.md";
const GOLDEN_FOLDER: &str = "golden";

impl Files {
    fn of_folder(folder: &Path, code: Option<&[u8]>) -> Result<Files, Vec<Problem>> {
        let manifest_text = text_of(folder, MANIFEST_FILE, MANIFEST_BYTES).map_err(|p| vec![p])?;
        let manifest = Manifest::parse(MANIFEST_FILE, &manifest_text)?;
        let mut problems = Vec::new();
        let mut or_noted = |read: Result<Vec<u8>, Problem>| {
            read.map_err(|problem| problems.push(problem))
                .unwrap_or_default()
        };
        let code = match code {
            Some(code) => code.to_vec(),
            None => or_noted(bytes_of(folder, &manifest.main, CODE_BYTES)),
        };
        let readme = match folder.join(README_FILE).exists() {
            true => or_noted(bytes_of(folder, README_FILE, README_BYTES)),
            false => Vec::new(),
        };
        let mut golden = Vec::new();
        for name in cases_in(&folder.join(GOLDEN_FOLDER)).map_err(|p| vec![p])? {
            let file = format!("{GOLDEN_FOLDER}/{name}.json");
            match text_of(folder, &file, CASE_BYTES) {
                Ok(text) => golden.push((name, text)),
                Err(problem) => problems.push(problem),
            }
        }
        let readme = utf8(README_FILE, readme).unwrap_or_else(|problem| {
            problems.push(problem);
            String::new()
        });
        match problems.is_empty() {
            true => Ok(Files {
                manifest,
                manifest_text,
                code,
                golden,
                readme,
            }),
            false => Err(problems),
        }
    }

    /// The package, if everything in it is as it ought to be.
    fn into_package(self, digest: [u8; 32]) -> Result<Package, Vec<Problem>> {
        let golden = self.check()?;
        Ok(Package {
            manifest: self.manifest,
            manifest_text: self.manifest_text,
            code: self.code,
            golden,
            readme: self.readme,
            digest,
        })
    }

    /// The golden cases, if everything is as it ought to be.
    fn check(&self) -> Result<Vec<Golden>, Vec<Problem>> {
        let mut problems = Vec::new();
        problems.extend(self.check_code().err());
        if self.golden.len() > CASES {
            let count = self.golden.len();
            let message = format!("{count} golden cases: at most {CASES} are allowed");
            problems.push(Problem::new(message));
        }
        let mut golden = Vec::new();
        for (name, text) in &self.golden {
            match Golden::parse(name, text) {
                Ok(case) => {
                    self.check_case(&case, &mut problems);
                    golden.push(case);
                }
                Err(problem) => problems.push(problem),
            }
        }
        match problems.is_empty() {
            true => Ok(golden),
            false => Err(problems),
        }
    }

    fn check_code(&self) -> Result<(), Problem> {
        let main = &self.manifest.main;
        let refused = |message: String| Problem::new(message).in_file(main);
        if self.code.is_empty() {
            return Err(refused("is empty".to_owned()));
        }
        let (most, words) = match self.manifest.is_script() {
            true => (SCRIPT_BYTES, "256 KiB of a script"),
            false => (CODE_BYTES, "32 MiB of a component"),
        };
        if self.code.len() > most {
            let count = self.code.len();
            return Err(refused(format!(
                "has {count} bytes: at most {words} are allowed"
            )));
        }
        let is_wasm = self.code.starts_with(b"\0asm");
        if self.manifest.is_script() && std::str::from_utf8(&self.code).is_err() {
            let hint = match is_wasm {
                true => "name it plugin.wasm",
                false => "save it as UTF-8",
            };
            return Err(refused("is no text".to_owned()).with_hint(hint));
        }
        if !self.manifest.is_script() && !is_wasm {
            return Err(refused("is no WebAssembly".to_owned())
                .with_hint("build it with `sotp plugin build`"));
        }
        Ok(())
    }

    fn check_case(&self, case: &Golden, problems: &mut Vec<Problem>) {
        let file = format!("{GOLDEN_FOLDER}/{}.json", case.name);
        let kind = self.manifest.kind;
        for call in &case.calls {
            if let Some(other) = call.call.kind().filter(|other| *other != kind) {
                let function = call.call.function();
                let message = format!("calls {function} of a {other}; this plugin is a {kind}");
                problems.push(Problem::new(message).in_file(&file));
            }
        }
        if let Err(wrong) = self.manifest.settings(&case.settings) {
            problems.extend(wrong.into_iter().map(|problem| {
                let mut problem = problem.in_file(&file);
                let hint = || "settings of a case stand in its \"settings\"".to_owned();
                problem.hint.get_or_insert_with(hint);
                problem
            }));
        }
    }

    fn tar(&self) -> std::io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_entry_type(tar::EntryType::Regular);
            tar.append_data(&mut header, path, bytes)
        };
        add(MANIFEST_FILE, self.manifest_text.as_bytes())?;
        add(&self.manifest.main, &self.code)?;
        for (name, text) in &self.golden {
            add(&format!("{GOLDEN_FOLDER}/{name}.json"), text.as_bytes())?;
        }
        if !self.readme.is_empty() {
            add(README_FILE, self.readme.as_bytes())?;
        }
        tar.into_inner()
    }

    fn compressed(&self) -> Result<Vec<u8>, Problem> {
        let compress = || {
            let tar = self.tar()?;
            if tar.len() > UNPACKED_BYTES {
                return Ok(Err(too_large()));
            }
            let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.window_log(WINDOW_LOG - 1)?;
            encoder.set_pledged_src_size(Some(tar.len() as u64))?;
            encoder.write_all(&tar)?;
            encoder.finish().map(Ok)
        };
        compress().unwrap_or_else(|error: std::io::Error| {
            Err(Problem::new(format!("cannot be packed: {error}")))
        })
    }

    fn unpacked(payload: &[u8]) -> Result<Files, Problem> {
        let tar = decompressed(payload)?;
        let mut archive = tar::Archive::new(Cursor::new(tar.as_slice()));
        let damaged = |_| Problem::new("what is in the package is no archive");
        let mut entries = archive.entries().map_err(damaged)?.raw(true);
        let mut seen = BTreeSet::new();

        let first = entries.next();
        let first = first.map(|entry| entry.map_err(damaged).and_then(read_entry));
        let Some((_, text)) = first.transpose()?.filter(|(path, _)| path == MANIFEST_FILE) else {
            return Err(Problem::new("the package does not begin with plugin.toml"));
        };
        let manifest_text = utf8(MANIFEST_FILE, text)?;
        let manifest = Manifest::parse(MANIFEST_FILE, &manifest_text)
            .map_err(|problems| first_of(problems, "plugin.toml is wrong"))?;
        let mut files = Files {
            manifest,
            manifest_text,
            code: Vec::new(),
            golden: Vec::new(),
            readme: String::new(),
        };
        seen.insert(MANIFEST_FILE.to_owned());
        for entry in entries {
            let (path, bytes) = entry.map_err(damaged).and_then(read_entry)?;
            if !seen.insert(path.clone()) {
                let message = format!("the package has two files {}", quoted(&path));
                return Err(Problem::new(message));
            }
            if seen.len() > ENTRIES {
                return Err(Problem::new("the package has more than 1000 files"));
            }
            files.put(&path, bytes)?;
        }
        Ok(files)
    }

    fn put(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), Problem> {
        let case = path
            .strip_prefix("golden/")
            .and_then(|name| name.strip_suffix(".json"))
            .filter(|name| is_case_name(name));
        if path == self.manifest.main {
            self.code = bytes;
        } else if path == README_FILE {
            self.readme = utf8(path, bytes)?;
        } else if let Some(case) = case {
            self.golden.push((case.to_owned(), utf8(path, bytes)?));
        } else {
            let message = format!("the package has a file {}", quoted(path));
            return Err(Problem::new(message).with_hint(
                "only plugin.toml, what runs, golden/*.json and README.md belong there",
            ));
        }
        Ok(())
    }
}

fn first_of(problems: Vec<Problem>, otherwise: &str) -> Problem {
    let first = problems.into_iter().next();
    first.unwrap_or_else(|| Problem::new(otherwise))
}

fn too_large() -> Problem {
    Problem::new("what is in the package has more than 64 MiB")
}

fn decompressed(payload: &[u8]) -> Result<Vec<u8>, Problem> {
    let damaged = |_| Problem::new("what is in the package is not compressed as it ought to be");
    let mut rest = payload;
    let mut decoder = zstd::Decoder::with_buffer(&mut rest)
        .map_err(damaged)?
        .single_frame();
    decoder.window_log_max(WINDOW_LOG).map_err(damaged)?;
    let mut tar = Vec::new();
    let most = UNPACKED_BYTES as u64;
    (&mut decoder)
        .take(most + 1)
        .read_to_end(&mut tar)
        .map_err(damaged)?;
    if tar.len() > UNPACKED_BYTES {
        return Err(too_large());
    }
    drop(decoder);
    match rest.is_empty() {
        true => Ok(tar),
        false => Err(Problem::new("the package has something behind its files")),
    }
}

/// A plain file of an archive: its path and its bytes.
fn read_entry<R: Read>(mut entry: tar::Entry<'_, R>) -> Result<(String, Vec<u8>), Problem> {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    if entry.header().entry_type() != tar::EntryType::Regular {
        let message = format!("{} in the package is no plain file", quoted(&path));
        return Err(Problem::new(message));
    }
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(|_| Problem::new("what is in the package is no archive"))?;
    if entry.header().size().ok() != u64::try_from(bytes.len()).ok() {
        return Err(Problem::new(format!(
            "{} in the package is cut off",
            quoted(&path)
        )));
    }
    Ok((path, bytes))
}

/// The names of the cases in a folder, in their order; none if there is none.
fn cases_in(folder: &Path) -> Result<Vec<String>, Problem> {
    let unreadable = |error: std::io::Error| Problem::new(format!("cannot read golden: {error}"));
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let name = name.to_string_lossy();
        // what editors leave there, and notes, are not packed
        if let Some(name) = name.strip_suffix(".json").filter(|n| !n.starts_with('.')) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn bytes_of(folder: &Path, file: &str, most: usize) -> Result<Vec<u8>, Problem> {
    let path = folder.join(file);
    let refused = |message: String| Problem::new(message).in_file(file);
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let problem = refused("there is no such file".to_owned());
            problem.with_hint(format!("looked for it in {}", folder.display()))
        }
        _ => refused(format!("cannot be read: {error}")),
    };
    // asked before the file is opened: opening a named pipe would block
    if !fs::metadata(&path).map_err(unreadable)?.is_file() {
        return Err(refused("is no plain file".to_owned()));
    }
    let mut bytes = Vec::new();
    fs::File::open(&path)
        .and_then(|open| open.take(most as u64 + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() > most {
        return Err(refused(format!("is longer than {} KiB", most >> 10)));
    }
    Ok(bytes)
}

fn text_of(folder: &Path, file: &str, most: usize) -> Result<String, Problem> {
    utf8(file, bytes_of(folder, file, most)?)
}

fn utf8(file: &str, bytes: Vec<u8>) -> Result<String, Problem> {
    String::from_utf8(bytes).map_err(|_| {
        let problem = Problem::new("the text is not UTF-8").in_file(file);
        problem.with_hint("save the file as UTF-8")
    })
}
