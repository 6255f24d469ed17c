//! `sotp backup create|ls`: what the daemon makes.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::{Client, segment};
use crate::command::Backup;
use crate::error::Trouble;
use crate::output::{Column, Output, column, talk};
use crate::part::Part;
use crate::progress::Progress;

use super::text::{ago, bytes, number, span, text};
use super::{ROWS, all};

const PATH: &str = "/api/v1/backups";

/// Between two looks at a backup that the daemon makes.
const LOOK: Duration = Duration::from_millis(500);

/// Whoever reads a backup reads everything.
const MODE: u32 = 0o600;

pub(super) async fn run(words: &Backup, client: &Client, output: &Output) -> Result<(), Trouble> {
    match words {
        Backup::Create { to } => match to.as_deref() {
            Some("-") => to_standard_output(client, output).await,
            Some(file) if !file.contains("://") => to_file(Path::new(file), client, output).await,
            place => by_the_daemon(place, client, output).await,
        },
        Backup::Ls => list(client, output).await,
        // done without a daemon
        Backup::Verify { .. } | Backup::Restore { .. } => Ok(()),
    }
}

/// What went by, and its hash.
struct Passed {
    bytes: u64,
    hash: Sha256,
    progress: Progress,
}

impl Passed {
    fn new() -> Passed {
        Passed {
            bytes: 0,
            hash: Sha256::new(),
            progress: Progress::new(),
        }
    }

    fn count(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.hash.update(piece);
        let (so_far, seconds) = (self.bytes, self.progress.seconds());
        self.progress.tell(|| moved(so_far, seconds));
    }

    /// The facts; the progress is gone.
    fn facts(self, file: &str) -> Value {
        let hash = self.hash.finalize();
        json!({
            "file": file,
            "bytes": self.bytes,
            "sha256": hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "seconds": self.progress.seconds(),
        })
    }
}

/// How much, and how fast.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(super) fn moved(so_far: u64, seconds: f64) -> String {
    let so_far = so_far as f64;
    let speed = so_far / seconds.max(0.001);
    format!("{}, {}/s", bytes(so_far), bytes(speed))
}

async fn to_file(file: &Path, client: &Client, output: &Output) -> Result<(), Trouble> {
    let mut part = Part::begin(file, MODE)?;
    let mut passed = Passed::new();
    let stream = format!("{PATH}/stream");
    let mut take = |piece: &[u8]| {
        passed.count(piece);
        part.write(piece)
    };
    client.post_for_backup(&stream, &mut take).await?;
    part.finish()?;
    let facts = passed.facts(&file.display().to_string());
    output.item(
        &facts,
        &[
            ("file", text(&facts, "/file")),
            ("size", size(&facts)),
            ("sha256", text(&facts, "/sha256")),
            ("took", number(&facts, "/seconds", span)),
        ],
    )
}

/// The archive alone; the rest is talk.
async fn to_standard_output(client: &Client, output: &Output) -> Result<(), Trouble> {
    if output.is_terminal() {
        return Err(Trouble::Usage(
            "a backup is nothing for a terminal: give a file, or a pipe".into(),
        ));
    }
    let mut passed = Passed::new();
    let stream = format!("{PATH}/stream");
    let mut take = |piece: &[u8]| {
        passed.count(piece);
        output.raw(piece)
    };
    client.post_for_backup(&stream, &mut take).await?;
    let facts = passed.facts("-");
    talk(&format!(
        "{}, sha256 {}, in {}",
        size(&facts),
        text(&facts, "/sha256"),
        number(&facts, "/seconds", span)
    ));
    Ok(())
}

pub(super) fn size(facts: &Value) -> String {
    let exact = text(facts, "/bytes");
    match exact.is_empty() {
        true => exact,
        false => format!("{} ({exact} bytes)", number(facts, "/bytes", bytes)),
    }
}

/// Has the daemon make it, and looks on until it is done.
async fn by_the_daemon(
    place: Option<&str>,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let body = place.map_or_else(|| json!({}), |to| json!({ "to": to }));
    let begun = client.post(PATH, &body).await?.body;
    let id = text(&begun, "/id");
    let path = format!("{PATH}/runs/{}", segment(&id));
    let mut progress = Progress::new();
    let mut run = begun;
    while text(&run, "/state") == "running" {
        let seconds = progress.seconds();
        progress.tell(|| {
            let so_far = run.pointer("/bytes").and_then(Value::as_u64).unwrap_or(0);
            format!(
                "{}; Ctrl-C ends the looking, not the backup",
                moved(so_far, seconds)
            )
        });
        tokio::time::sleep(LOOK).await;
        run = client.get(&path).await?.body;
    }
    drop(progress);
    output.item(
        &run,
        &[
            ("state", text(&run, "/state")),
            ("where", text(&run, "/where")),
            ("size", size(&run)),
            ("began", text(&run, "/begun")),
            ("ended", text(&run, "/ended")),
            ("error", text(&run, "/error")),
        ],
    )?;
    match text(&run, "/state").as_str() {
        "done" => Ok(()),
        state => Err(Trouble::Partly(format!(
            "there is no new backup: it {state}: {}",
            text(&run, "/error")
        ))),
    }
}

const LIST: [Column; 5] = [
    column!("NAME", 0, "/name"),
    column!("SIZE", 0, "/bytes", number bytes),
    column!("AGE", 0, "/made_at", ago),
    column!("ENCRYPTED", 1, "/encrypted"),
    column!("WHERE", 2, "/at"),
];

async fn list(client: &Client, output: &Output) -> Result<(), Trouble> {
    let backups = all(client, PATH, ROWS).await?;
    output.list(
        "backups",
        &backups,
        &LIST,
        "no backups where the settings say; make one: sotp backup create",
    )
}
