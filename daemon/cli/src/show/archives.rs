//! `sotp backup verify|restore`: what is done with a backup where there is no
//! daemon.

mod bucket;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backup::{ArchiveError, Identities, Verified};
use serde_json::{Value, json};

use crate::World;
use crate::client::farewell;
use crate::command::Opened;
use crate::error::{Trouble, chain};
use crate::output::{Output, talk};
use crate::progress::Progress;

use super::backups::{moved, size};
use super::text::{bytes, short_seconds, text};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Where the daemon keeps everything.
const STATE: &str = "/var/lib/sotp";

/// The key that secrets are sealed with: it is in no backup.
const KEY: &str = "/etc/sotp/sotp-kek";

pub(super) async fn verify(
    words: &Opened,
    world: &World<'_>,
    output: &Output,
) -> Result<(), Trouble> {
    let facts = read(words, world, "verify", |input, identities, progress| {
        backup::verify(input, identities, progress)
    })
    .await?;
    show(&facts, output)?;
    talk("the backup is whole");
    Ok(())
}

pub(super) async fn restore(
    words: &Opened,
    directory: &Path,
    world: &World<'_>,
    output: &Output,
) -> Result<(), Trouble> {
    let absolute = std::path::absolute(directory)
        .map_err(|source| Trouble::local("find out where we are", source))?;
    let into = absolute.clone();
    let mut facts = read(
        words,
        world,
        "restore",
        move |input, identities, progress| backup::restore(input, identities, &into, progress),
    )
    .await?;
    facts["directory"] = json!(absolute);
    show(&facts, output)?;
    talk(&next_steps(&absolute));
    Ok(())
}

/// What is left to do, in words to type.
fn next_steps(directory: &Path) -> String {
    let mut steps = Vec::new();
    if directory != Path::new(STATE) {
        steps.extend([
            "systemctl stop sotpd".to_owned(),
            format!("mv {STATE} {STATE}.before"),
            format!("mv {} {STATE}", quoted(directory)),
        ]);
    }
    steps.extend([
        format!("chown -R sotp:sotp {STATE}"),
        format!("restorecon -R {STATE}   # where there is SELinux"),
        "systemctl start sotpd".to_owned(),
    ]);
    format!(
        "restored; what is left to do, as root on the server:\n  {}\n\
         {KEY} has to be the key that was there when the backup was made: without it no secret can be read. \
         It is in no backup; put it back before the start.",
        steps.join("\n  ")
    )
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// How an archive is read, to its end.
type Reading =
    dyn FnOnce(Input, &Identities, &mut dyn FnMut(u64)) -> Result<Verified, ArchiveError> + Send;

/// An archive, and how many bytes it has if that is known.
struct Archive {
    /// As it is shown.
    name: String,
    input: Box<dyn Read + Send>,
    bytes: Option<u64>,
}

/// Reads an archive on a thread of its own, and says how far it is meanwhile.
async fn read(
    words: &Opened,
    world: &World<'_>,
    verb: &str,
    reading: impl FnOnce(Input, &Identities, &mut dyn FnMut(u64)) -> Result<Verified, ArchiveError>
    + Send
    + 'static,
) -> Result<Value, Trouble> {
    let archive = open(words, world).await?;
    let (shown, of_bytes) = (archive.name.clone(), archive.bytes);
    let identity = words.identity.clone();
    // so that Ctrl-C waits until what was begun is taken away
    let _farewell = farewell().await;
    let mut progress = Progress::new();
    let mut work = Work::begin(archive, identity, Box::new(reading));
    let mut interrupted = false;
    let found = loop {
        tokio::select! {
            found = &mut work.found => break found.map_err(|_ended| Trouble::Interrupted)?,
            Ok(()) = tokio::signal::ctrl_c(), if !interrupted => {
                interrupted = true;
                work.stop.store(true, Ordering::Relaxed);
            }
            () = tokio::time::sleep(LOOK) => {
                let (done, seconds) = (work.done.load(Ordering::Relaxed), progress.seconds());
                progress.tell(|| so_far(done, of_bytes, seconds));
            }
        }
    };
    if interrupted && found.is_err() {
        return Err(Trouble::Interrupted);
    }
    let seconds = progress.seconds();
    drop(progress);
    let verified = found.map_err(|error| refused(verb, &shown, error))?;
    Ok(facts(&shown, &verified, seconds))
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn so_far(done: u64, of_bytes: Option<u64>, seconds: f64) -> String {
    let of_bytes = of_bytes.map_or(String::new(), |all| format!(" of {}", bytes(all as f64)));
    format!("{}{of_bytes}", moved(done, seconds))
}

async fn open(words: &Opened, world: &World<'_>) -> Result<Archive, Trouble> {
    match words.from.as_str() {
        "-" => Ok(Archive {
            name: "standard input".to_owned(),
            input: Box::new(std::io::stdin()),
            bytes: None,
        }),
        place => match place.strip_prefix("s3://") {
            Some(path) => bucket::open(path, &words.s3, world).await,
            None => open_file(Path::new(place)),
        },
    }
}

fn open_file(file: &Path) -> Result<Archive, Trouble> {
    let opened = File::open(file).and_then(|file| Ok((file.metadata()?, file)));
    let (about, input) =
        opened.map_err(|source| Trouble::local(format!("read {}", file.display()), source))?;
    Ok(Archive {
        name: file.display().to_string(),
        bytes: about.is_file().then_some(about.len()),
        input: Box::new(input),
    })
}

/// A thread that reads an archive.
struct Work {
    found: tokio::sync::oneshot::Receiver<Result<Verified, ArchiveError>>,
    /// How many bytes are done.
    done: Arc<AtomicU64>,
    /// Set to have it end early.
    stop: Arc<AtomicBool>,
}

impl Work {
    fn begin(archive: Archive, identity: Option<PathBuf>, reading: Box<Reading>) -> Work {
        let (tell, found) = tokio::sync::oneshot::channel();
        let done = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let input = Input {
            inner: archive.input,
            stop: stop.clone(),
        };
        let counted = done.clone();
        std::thread::spawn(move || {
            let identities = match identity {
                Some(file) => Identities::from_file(&file),
                None => Ok(Identities::none()),
            };
            let read = identities.and_then(|identities| {
                reading(input, &identities, &mut |bytes| {
                    counted.store(bytes, Ordering::Relaxed);
                })
            });
            // nobody waits for it any more after Ctrl-C
            let _told = tell.send(read);
        });
        Work { found, done, stop }
    }
}

/// An archive that can be taken away from its reader.
struct Input {
    inner: Box<dyn Read + Send>,
    stop: Arc<AtomicBool>,
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self.stop.load(Ordering::Relaxed) {
            // not Interrupted: that is tried again
            true => Err(std::io::Error::other("stopped")),
            false => self.inner.read(into),
        }
    }
}

/// Why there is nothing, and by its exit code what kind of trouble that is.
fn refused(verb: &str, from: &str, error: ArchiveError) -> Trouble {
    match error {
        ArchiveError::NotEmpty { .. } => Trouble::NotNow(error.to_string()),
        ArchiveError::Encrypted | ArchiveError::Identity { .. } => {
            Trouble::Usage(format!("cannot {verb} {from}: {}", chain(&error)))
        }
        other => Trouble::Partly(format!("cannot {verb} {from}: {}", chain(&other))),
    }
}

fn facts(from: &str, verified: &Verified, seconds: f64) -> Value {
    let about = &verified.about;
    json!({
        "backup": from,
        "made": about.made.to_string(),
        "host": about.host,
        "product": about.product,
        "schema": about.schema,
        "files": about.files,
        "bytes": about.bytes,
        "counts": about.counts,
        "encrypted": verified.encrypted,
        "seconds": seconds,
    })
}

fn show(facts: &Value, output: &Output) -> Result<(), Trouble> {
    let by = format!(
        "sotp {} on {}, schema {}",
        text(facts, "/product"),
        text(facts, "/host"),
        text(facts, "/schema")
    );
    output.item(
        facts,
        &[
            ("backup", text(facts, "/backup")),
            ("into", text(facts, "/directory")),
            ("made", text(facts, "/made")),
            ("by", by),
            ("encrypted", text(facts, "/encrypted")),
            ("files", text(facts, "/files")),
            ("size", size(facts)),
            ("holds", counts(facts)),
            ("took", took(facts)),
        ],
    )
}

/// How long, and how fast: what a restore of this size takes here.
fn took(facts: &Value) -> String {
    let figure = |pointer: &str| facts.pointer(pointer).and_then(Value::as_f64);
    match (figure("/seconds"), figure("/bytes")) {
        (Some(seconds), Some(all)) => {
            let speed = bytes(all / seconds.max(0.001));
            format!("{}, {speed}/s", short_seconds(seconds))
        }
        _ => String::new(),
    }
}

fn counts(facts: &Value) -> String {
    let counts = facts.get("counts").and_then(Value::as_object);
    let counts = counts
        .into_iter()
        .flatten()
        .map(|(what, count)| format!("{count} {what}"));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_do_can_be_typed_as_it_stands() {
        let steps = next_steps(Path::new("/srv/a b's"));
        assert!(
            steps.contains("mv '/srv/a b'\\''s' /var/lib/sotp\n"),
            "{steps}"
        );
        let in_place = next_steps(Path::new("/var/lib/sotp"));
        assert!(
            !in_place.contains("mv ") && in_place.contains("chown"),
            "{in_place}"
        );
    }
}
