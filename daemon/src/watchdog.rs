//! Proving that we are alive: a write that goes through the real writer's queue
//! and comes back.
//!
//! A full disk is an answer too: the writer said so, and a restart would not
//! help. A writer that hangs gives none, systemd's watchdog is not fed, and the
//! daemon is started anew.

use std::time::Duration;

use store::{Store, WriteError};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::status::Board;
use crate::systemd;

/// Between two proofs where no watchdog asks: the status line is kept fresh.
const WITHOUT_WATCHDOG: Duration = Duration::from_secs(10);

/// Proofs per watchdog interval: one may be late.
const PROOFS: u32 = 3;

/// Writes, waits for the answer, feeds the watchdog; until told to stop.
pub(crate) async fn run(store: Store, board: Board, stop: CancellationToken) {
    let every = systemd::watchdog_interval().map_or(WITHOUT_WATCHDOG, |limit| limit / PROOFS);
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let proof = tokio::select! {
            () = stop.cancelled() => return,
            proof = store.heartbeat() => proof,
        };
        match proof {
            Ok(_) | Err(WriteError::NotWriting { .. }) => {
                systemd::feed_watchdog();
                systemd::status(&board.line());
            }
            Err(error) => debug!(%error, "no heartbeat"),
        }
    }
}
