//! New settings while running: all of them, or none.

use std::path::Path;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::app::Knobs;
use crate::failure::chain;
use crate::settings::{self, Everything};

/// Reads everything again. Only when all of it is valid is any of it taken; what
/// cannot change while running is named.
pub(crate) async fn reload(knobs: &mut Knobs, path: &Path) {
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || Everything::read(&file)).await;
    match read {
        Ok(Ok(everything)) => take(knobs, everything),
        Ok(Err(failure)) => refuse(knobs, &chain(&failure)),
        Err(_panicked) => refuse(knobs, "a defect in sotpd: see the journal"),
    }
}

fn refuse(knobs: &Knobs, why: &str) {
    error!(error = %why, "reload refused; the old settings stay in force: {why}");
    knobs.board.note_reload(Some(why.to_owned()));
}

fn take(knobs: &mut Knobs, everything: Everything) {
    let later = knobs.started_with.needs_restart(&everything.settings);
    if !later.is_empty() {
        warn!(keys = %later.join(", "), "these settings are taken at the next restart");
    }
    let settings = everything.settings;
    knobs.log_level.set(settings::log_level(&settings));
    knobs.pinger.reconfigure(settings::ping(&settings));
    knobs.snmp.reconfigure(settings::snmp(&settings));
    knobs.store.set_file_rules(everything.rules);
    knobs.mailer.send_replace(everything.mailer.map(Arc::new));
    knobs
        .recipients
        .send_replace(settings::recipients(&settings));
    knobs.pace.send_if_modified(|pace| {
        let new = settings::pace(&settings);
        std::mem::replace(pace, new.clone()) != new
    });
    knobs.board.note_reload(None);
    info!("settings and rules were read again and are in force");
}
