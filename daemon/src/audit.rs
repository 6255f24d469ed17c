//! Once a day the head of the audit log goes to the journal, which is usually
//! kept elsewhere too: who writes a whole new chain into the store cannot change
//! that.

use std::time::Duration;

use store::Store;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Between two lines in the journal.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells the journal where the audit log is, at the start and every day until
/// `stop`.
pub(crate) async fn tell_the_journal(store: Store, stop: CancellationToken) {
    loop {
        let (seq, hash) = store.audit_head();
        if seq > 0 {
            let hash = hash.hex();
            info!(seq, %hash, "the audit log ends here; `sotp audit verify --head {seq}:{hash}` checks that");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
