//! Plugins in the running product: written, recorded, tested, tried, packed,
//! signed, installed, granted, enabled, and their metrics on the screen; and
//! what a bad one can do to the others, which is nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use harness::{Daemon, Folder, Site, eventually};
use serde_json::{Value, json};

use crate::terminal::Terminal;
use crate::{QUICK, skipped};

/// A real UPS, as it was recorded.
const UPS: &str = "librenms/apc_smart1500.snmprec";

fn recording(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    skipped("there are no recordings of devices beside the project");
    None
}

/// A daemon that polls the UPS of the recording, as device `ups1`.
struct Scene {
    folder: Folder,
    daemon: Daemon,
    _site: Site,
}

impl Scene {
    fn new(settings: &str) -> Option<Scene> {
        let recording = recording(UPS)?;
        let folder = Folder::new();
        let recording = recording.display().to_string();
        let site = Site::start(
            folder.path(),
            None,
            &["--recording", &recording, "--port", "0"],
        );
        let daemon = Daemon::start(&folder, &format!("{QUICK}{settings}"));
        Some(Scene {
            folder,
            daemon,
            _site: site,
        })
    }
}

fn terminal(scene: &Scene) -> Terminal {
    let mut terminal = Terminal::new(&scene.folder);
    terminal.always(&format!("--socket {}", scene.folder.socket().display()));
    terminal
}

fn plugin(daemon: &Daemon, name: &str) -> Value {
    daemon.get(&format!("/api/v1/plugins/{name}"))
}
