//! Who is signed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Digest, SessionId, SessionRecord, Timestamp};

use crate::Store;
use crate::error::WriteError;

/// Sessions in all.
pub const MAX_SESSIONS: usize = 10_000;

/// Sessions of one person; a new one beyond it ends the one that was not used
/// for the longest time.
pub const MAX_SESSIONS_PER_USER: usize = 50;

/// For so long the token before the newest is not taken for a stolen one: two
/// tabs of a browser, or an answer that was lost on its way.
pub const ROTATION_GRACE: Duration = Duration::from_secs(10);

/// What became of an exchange of refresh tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Rotated {
    /// It was exchanged.
    Done(Arc<SessionRecord>),
    /// It is the one before the newest, exchanged less than
    /// [`ROTATION_GRACE`] ago: nothing was changed.
    Grace(Arc<SessionRecord>),
    /// It was exchanged before: somebody has a copy. The session is removed.
    Reused,
    /// There is no such session, or it has expired.
    Gone,
}

impl Store {
    /// Who is signed in, as of the last committed change. Expired ones may
    /// still be among them.
    #[must_use]
    pub fn sessions(&self) -> Arc<BTreeMap<SessionId, Arc<SessionRecord>>> {
        unimplemented!()
    }

    /// Keeps a new session. Returns when it is on the disk. No audit line.
    ///
    /// # Errors
    ///
    /// Refused with `NoSuch` (the person), `NameExists` or `TooMany`;
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn create_session(
        &self,
        session: SessionRecord,
        now: Timestamp,
    ) -> Result<Arc<SessionRecord>, WriteError> {
        let _ = (session, now);
        unimplemented!()
    }

    /// Exchanges the refresh token `presented` for `next`. Returns when that
    /// is on the disk. No audit line.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn rotate_session(
        &self,
        id: &SessionId,
        presented: Digest,
        next: Digest,
        now: Timestamp,
    ) -> Result<Rotated, WriteError> {
        let _ = (id, presented, next, now);
        unimplemented!()
    }

    /// Ends sessions; how many of them there were. Returns when that is on the
    /// disk. No audit line.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn end_sessions(&self, ids: Vec<SessionId>) -> Result<usize, WriteError> {
        let _ = ids;
        unimplemented!()
    }
}
