//! The servers that somebody signed in to, and what they were given there.
//!
//! One file, `contexts.json`, readable by its owner alone; it is replaced as a
//! whole, under a lock, so that neither a crash nor two processes at once leave
//! half of it. It holds tokens, never a password.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Trouble;
use crate::output::talk;
use crate::place::Environment;

/// The form of the file that this program writes.
const SCHEMA_VERSION: u32 = 1;

/// A larger file is none of ours.
const FILE_BYTES: u64 = 1024 * 1024;

/// One server, and what lets us in there. Without `Debug`, since it has tokens.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Context {
    /// `https://host:port`.
    pub(crate) server: String,
    /// Who signed in; nothing with a service's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// The SHA-256 of the server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<String>,
    /// A file with the server's issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<String>,
    /// A service's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_token: Option<String>,
    /// What another access token is got with, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    /// What is shown with each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access_token: Option<String>,
    /// When the access token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access_expires: Option<String>,
    /// The session's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
}

impl Context {
    /// The access token, if it is still good for a request.
    pub(crate) fn fresh(&self, now: Timestamp) -> Option<(String, Timestamp)> {
        let ends: Timestamp = self.access_expires.as_ref()?.parse().ok()?;
        let token = self.access_token.clone()?;
        (ends.duration_since(now) > LEEWAY).then_some((token, ends))
    }

    /// Keeps what the server granted at `now`.
    pub(crate) fn keep(&mut self, granted: &Value, now: Timestamp) {
        let text = |name: &str| granted.get(name).and_then(Value::as_str).map(str::to_owned);
        let lasts = granted
            .get("expires_in")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        let lasts = jiff::SignedDuration::from_secs(lasts.clamp(0, 86_400));
        self.access_token = text("access_token");
        self.access_expires = now.checked_add(lasts).ok().map(|ends| ends.to_string());
        // while another process's exchange is a few seconds old, there is none
        self.refresh_token = text("refresh_token").or_else(|| self.refresh_token.take());
        self.session = text("session").or_else(|| self.session.take());
    }

    /// Forgets all that lets us in.
    pub(crate) fn forget(&mut self) {
        self.api_token = None;
        self.refresh_token = None;
        self.access_token = None;
        self.access_expires = None;
        self.session = None;
    }

    /// Whether there is something that may let us in.
    pub(crate) fn is_signed_in(&self) -> bool {
        self.api_token.is_some() || self.refresh_token.is_some()
    }
}

/// An access token that ends within this time is not used any more.
const LEEWAY: jiff::SignedDuration = jiff::SignedDuration::from_secs(20);

/// All servers, and which one is meant if nothing is said.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contexts {
    schema_version: u32,
    /// The one that is meant if nothing is said.
    pub(crate) current: Option<String>,
    /// By their names.
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Default for Contexts {
    fn default() -> Contexts {
        Contexts {
            schema_version: SCHEMA_VERSION,
            current: None,
            contexts: BTreeMap::new(),
        }
    }
}

impl Contexts {
    /// The context of this name.
    pub(crate) fn find(&self, name: &str) -> Result<&Context, Trouble> {
        self.contexts.get(name).ok_or_else(|| self.unknown(name))
    }

    /// The context of this name, to change it.
    pub(crate) fn find_mut(&mut self, name: &str) -> Result<&mut Context, Trouble> {
        let unknown = self.unknown(name);
        self.contexts.get_mut(name).ok_or(unknown)
    }

    fn unknown(&self, name: &str) -> Trouble {
        let names: Vec<_> = self.contexts.keys().map(String::as_str).collect();
        Trouble::Usage(match names.is_empty() {
            true => format!(
                "there is no context {name}, nor any other; make one: sotp login https://HOST:8443 --context {name}"
            ),
            false => format!(
                "there is no context {name}; there are: {}",
                names.join(", ")
            ),
        })
    }
}

/// What a context may be called: it is part of a file's name.
pub(crate) fn check_name(name: &str) -> Result<(), Trouble> {
    let good = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    match good {
        true => Ok(()),
        false => Err(Trouble::Usage(format!(
            "{name:?} is no name for a context: 1 to 64 letters, digits and any of . _ -, a letter or digit first"
        ))),
    }
}

/// The file with the contexts. Its methods block.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    directory: PathBuf,
}

impl Book {
    /// In `$XDG_CONFIG_HOME/sotp`, or `~/.config/sotp`.
    pub(crate) fn of(env: Environment<'_>) -> Result<Book, Trouble> {
        let absolute = |path: String| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
        let home = || Some(absolute(env("HOME")?)?.join(".config"));
        match env("XDG_CONFIG_HOME").and_then(absolute).or_else(home) {
            Some(config) => Ok(Book::in_directory(config.join("sotp"))),
            None => Err(Trouble::Usage(
                "neither XDG_CONFIG_HOME nor HOME says where contexts are kept".into(),
            )),
        }
    }

    pub(crate) fn in_directory(directory: PathBuf) -> Book {
        Book { directory }
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("contexts.json")
    }

    /// What is in it; nothing if it is not there.
    pub(crate) fn read(&self) -> Result<Contexts, Trouble> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Contexts::default());
            }
            Err(source) => return Err(cannot("read", &path, source)),
        };
        self.keep_private(&file)?;
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES), &mut text)
            .map_err(|source| cannot("read", &path, source))?;
        self.parse(&text)
    }

    fn parse(&self, text: &[u8]) -> Result<Contexts, Trouble> {
        let bad = |why: String| {
            Trouble::Usage(format!(
                "{} cannot be read: {why}\nhint: remove it and sign in again",
                self.path().display()
            ))
        };
        let contexts: Contexts =
            serde_json::from_slice(text).map_err(|error| bad(without_content(&error)))?;
        match contexts.schema_version {
            SCHEMA_VERSION => Ok(contexts),
            other => Err(bad(format!(
                "it is of form {other}, and this sotp knows form {SCHEMA_VERSION}"
            ))),
        }
    }

    /// Tokens that others could read are closed again, and it is said aloud.
    fn keep_private(&self, file: &File) -> Result<(), Trouble> {
        let path = self.path();
        let seen = file
            .metadata()
            .map_err(|source| cannot("read", &path, source))?;
        if seen.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(|source| cannot("close", &path, source))?;
            talk(&format!(
                "warning: others could read {}; now they cannot. If they may have: sotp logout, then sotp login",
                path.display()
            ));
        }
        Ok(())
    }

    /// Changes the file as it is now: read, `change`d and replaced under a lock.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Contexts) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        self.make_directory()?;
        let lock = self.lock_file("contexts.lock")?;
        lock.lock()
            .map_err(|source| cannot("lock", &self.path(), source))?;
        let mut contexts = self.read()?;
        let done = change(&mut contexts)?;
        self.replace(&contexts)?;
        Ok(done)
    }

    /// The file whose lock is held while the tokens of `context` are exchanged.
    pub(crate) fn refresh_lock(&self, context: &str) -> Result<File, Trouble> {
        check_name(context)?;
        self.make_directory()?;
        self.lock_file(&format!("refresh.{context}.lock"))
    }

    /// Removes what is kept beside the file for `context`.
    pub(crate) fn clean_up(&self, context: &str) {
        // if it is not there, or somebody holds it, no harm is done
        let _gone = std::fs::remove_file(self.directory.join(format!("refresh.{context}.lock")));
    }

    fn make_directory(&self) -> Result<(), Trouble> {
        let failed = |source| cannot("make", &self.directory, source);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(failed)?;
        let seen = std::fs::metadata(&self.directory).map_err(failed)?;
        if seen.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&self.directory, Permissions::from_mode(0o700))
                .map_err(failed)?;
        }
        Ok(())
    }

    fn lock_file(&self, name: &str) -> Result<File, Trouble> {
        let path = self.directory.join(name);
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| cannot("open", &path, source))
    }

    /// Durable once it returns; whoever reads sees the old one or the new one.
    fn replace(&self, contexts: &Contexts) -> Result<(), Trouble> {
        let failed = |source| cannot("write", &self.path(), source);
        let text = serde_json::to_vec_pretty(contexts)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let draft = self.directory.join(".contexts.json.new");
        let mut file = self.fresh_draft(&draft).map_err(failed)?;
        file.write_all(&text)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&draft, self.path()))
            .and_then(|()| File::open(&self.directory)?.sync_all())
            .map_err(failed)
    }

    /// One that a crash left behind is not written to: it may be anybody's.
    #[expect(clippy::unused_self, reason = "reads as a step of replace")]
    fn fresh_draft(&self, draft: &Path) -> std::io::Result<File> {
        match std::fs::remove_file(draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(draft)
    }
}

/// serde_json's messages may quote what they stumbled over.
fn without_content(error: &serde_json::Error) -> String {
    format!(
        "it is no JSON of ours at line {}, column {}",
        error.line(),
        error.column()
    )
}

fn cannot(what: &str, path: &Path, source: std::io::Error) -> Trouble {
    Trouble::local(format!("{what} {}", path.display()), source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn add(book: &Book, name: &str) {
        book.change(|known| {
            known.contexts.insert(name.to_owned(), Context::default());
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn nobody_else_can_read_the_file_or_list_its_directory() {
        let home = tempfile::tempdir().unwrap();
        let book = Book::in_directory(home.path().join("deep/sotp"));
        add(&book, "a");
        assert_eq!(mode(&book.path()), 0o600);
        assert_eq!(mode(&home.path().join("deep/sotp")), 0o700);

        std::fs::set_permissions(book.path(), Permissions::from_mode(0o644)).unwrap();
        std::fs::set_permissions(home.path().join("deep/sotp"), Permissions::from_mode(0o755))
            .unwrap();
        assert!(book.read().unwrap().contexts.contains_key("a"));
        assert_eq!(mode(&book.path()), 0o600);
        add(&book, "b");
        assert_eq!(mode(&home.path().join("deep/sotp")), 0o700);
    }

    #[test]
    fn what_a_crash_left_behind_neither_harms_nor_leaks() {
        let home = tempfile::tempdir().unwrap();
        let book = Book::in_directory(home.path().to_owned());
        let elsewhere = home.path().join("elsewhere");
        std::fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, home.path().join(".contexts.json.new")).unwrap();
        add(&book, "a");
        assert_eq!(std::fs::read_to_string(elsewhere).unwrap(), "mine");
        assert!(book.read().unwrap().contexts.contains_key("a"));
    }

    #[test]
    fn a_broken_file_is_named_and_its_tokens_are_not_quoted() {
        let home = tempfile::tempdir().unwrap();
        let book = Book::in_directory(home.path().to_owned());
        for broken in [
            "{\"sotpr_secret",
            "\"sotpr_secret\"",
            "{\"schema_version\": \"sotpr_secret\"}",
        ] {
            std::fs::write(book.path(), broken).unwrap();
            let text = book.read().err().unwrap().to_string();
            assert!(
                text.contains("contexts.json") && !text.contains("sotpr_"),
                "{text}"
            );
        }
        std::fs::write(
            book.path(),
            r#"{"schema_version":2,"current":null,"contexts":{}}"#,
        )
        .unwrap();
        assert!(book.read().err().unwrap().to_string().contains("form 2"));
    }

    #[test]
    fn a_granted_token_is_used_until_shortly_before_its_end() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let later = |seconds| now + jiff::SignedDuration::from_secs(seconds);
        let mut context = Context::default();
        context.keep(
            &json!({"access_token": "a", "expires_in": 300, "refresh_token": "r", "session": "s"}),
            now,
        );
        assert_eq!(context.fresh(later(279)).unwrap().0, "a");
        assert!(context.fresh(later(281)).is_none());
        context.keep(&json!({"access_token": "b", "expires_in": 300}), now);
        assert_eq!(context.refresh_token.as_deref(), Some("r"));
        context.forget();
        assert!(context == Context::default());
    }

    #[test]
    fn a_context_cannot_be_called_like_a_path() {
        for bad in ["", "../x", "a/b", ".x", "a b", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        check_name("noc-1.example_x").unwrap();
    }

    #[test]
    fn the_file_lies_where_xdg_says() {
        let at = |env: &[(&str, &str)]| {
            let env: Vec<(String, String)> = env
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            Book::of(&move |name: &str| {
                env.iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, v)| v.clone())
            })
            .map(|book| book.path())
        };
        assert_eq!(
            at(&[("HOME", "/h")]).unwrap(),
            Path::new("/h/.config/sotp/contexts.json")
        );
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]).unwrap(),
            Path::new("/x/sotp/contexts.json")
        );
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "relative")]).unwrap(),
            Path::new("/h/.config/sotp/contexts.json")
        );
        assert!(at(&[]).is_err());
    }
}
