//! New settings while running: all of them, or none.

use std::path::Path;

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
        Ok(Ok(everything)) => take(knobs, everything).await,
        Ok(Err(failure)) => refuse(knobs, &chain(&failure)),
        Err(_panicked) => refuse(knobs, "a defect in sotpd: see the journal"),
    }
}

fn refuse(knobs: &Knobs, why: &str) {
    error!(error = %why, "reload refused; the old settings stay in force: {why}");
    knobs.board.note_reload(Some(why.to_owned()));
}

async fn take(knobs: &mut Knobs, everything: Everything) {
    // the one step that can still fail
    if let Err(why) = reconfigure_access(knobs, &everything).await {
        return refuse(knobs, &why);
    }
    let later = knobs.started_with.needs_restart(everything.settings());
    if !later.is_empty() {
        warn!(keys = %later.join(", "), "these settings are taken at the next restart");
    }
    if let (Some(tls), Some(new)) = (&knobs.tls, everything.tls) {
        tls.send_replace(new.server);
        knobs.board.note_fingerprint(new.fingerprint);
    }
    knobs.mail.send_replace(everything.mail.clone());
    let settings = everything.mail.settings;
    knobs.log_level.set(settings::log_level(&settings));
    knobs.pinger.reconfigure(settings::ping(&settings));
    knobs.snmp.reconfigure(settings::snmp(&settings));
    knobs.store.set_file_rules(everything.rules);
    knobs
        .recipients
        .send_replace(settings::recipients(&settings));
    knobs.pace.send_if_modified(|pace| {
        let new = settings::pace(&settings);
        std::mem::replace(pace, new.clone()) != new
    });
    knobs.plugins.reconfigure(&settings);
    knobs.board.note_reload(None);
    info!("settings and rules were read again and are in force");
}

async fn reconfigure_access(knobs: &Knobs, everything: &Everything) -> Result<(), String> {
    let access = knobs.access.clone();
    let settings = settings::access(everything.settings());
    // reads the certificates of the OpenID provider
    match tokio::task::spawn_blocking(move || access.reconfigure(settings)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_panicked) => Err("a defect in sotpd: see the journal".to_owned()),
    }
}
