//! Five hundred times kill -9 at any moment: every sample that was acknowledged
//! is there afterwards, with its value, once; nothing is there that nobody
//! appended.
//!
//! This program starts itself again as the writer, with the real store on the
//! real disk: it appends, waits for the disk, and says so on its standard
//! output. It is killed in the middle of appends, cuts, compactions, backups, a
//! migration, and while the disk fills; then the store is opened and compared
//! with what the writer said. `SOTP_KILLS=5000` makes it five thousand.

mod check;
mod feed;
mod migration;
mod round;
mod scene;
mod writer;

use std::process::ExitCode;

use scene::Scene;

/// Kills in one run of the tests.
const KILLS: usize = 500;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((first, rest)) if first == writer::WORD => writer::run(rest),
        // what cargo passes on when it was asked for a test by name
        Some((first, _)) if !first.starts_with('-') && !"kills".contains(first.as_str()) => {
            ExitCode::SUCCESS
        }
        _ => judge(),
    }
}

fn judge() -> ExitCode {
    let kills = std::env::var("SOTP_KILLS").ok();
    let kills = kills.and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut lost = 0;
    for scene in Scene::ALL {
        let Some(summary) = round::play(scene, kills * scene.share() / 100) else {
            say(&format!("{:<11} SKIPPED: {}", scene.word(), scene.wants()));
            lost += usize::from(std::env::var_os("SOTP_NO_SKIP").is_some());
            continue;
        };
        say(&summary.to_string());
        lost += summary.wrong;
    }
    match lost {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

#[expect(clippy::print_stdout, reason = "a test program says what it found")]
fn say(line: &str) {
    println!("{line}");
}
