//! Who is signed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Digest, SessionId, SessionRecord, Timestamp, UserName};

use crate::book::Change;
use crate::error::{Answer, Fault, Refusal, WriteError, or_refuse};
use crate::{Store, checks, tables};

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
    /// It was exchanged before, so somebody has a copy; or it was never one of
    /// this session. (All that is kept of those before the previous one is that
    /// they are not it, and a thief may have exchanged more than once.) The
    /// session is removed.
    Reused,
    /// There is no such session, or it has expired.
    Gone,
}

impl Store {
    /// Who is signed in, as of the last committed change. Expired ones may
    /// still be among them.
    #[must_use]
    pub fn sessions(&self) -> Arc<BTreeMap<SessionId, Arc<SessionRecord>>> {
        self.shared.book().sessions.clone()
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
        self.write(move |change| create(change, &session, now))
            .await
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
        let id = id.clone();
        self.write(move |change| rotate(change, &id, presented, next, now).map(Ok))
            .await
    }

    /// Ends sessions; how many of them there were. Returns when that is on the
    /// disk. No audit line.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn end_sessions(&self, ids: Vec<SessionId>) -> Result<usize, WriteError> {
        self.write(move |change| end_all(change, &ids).map(Ok))
            .await
    }
}

fn create(
    change: &mut Change<'_>,
    session: &SessionRecord,
    now: Timestamp,
) -> Answer<Arc<SessionRecord>> {
    change.heard = now;
    let user = change.book.people.user(&session.user);
    if !user.is_some_and(|user| user.active) {
        return Ok(Err(Refusal::NoSuch {
            what: "active user",
            name: session.user.0.clone(),
        }));
    }
    let sessions = &change.book.sessions;
    let known = sessions.get(&session.id).map(|_| 1);
    or_refuse!(checks::expected("session", &session.id.0, known, Some(0)));
    let superfluous = superfluous(sessions, &session.user);
    if superfluous.is_empty() && sessions.len() >= MAX_SESSIONS {
        let running = sessions.values().filter(|kept| kept.expires > now);
        or_refuse!(checks::room("sessions", running.count(), MAX_SESSIONS));
    }
    end_all(change, &superfluous)?;
    if change.book.sessions.len() >= MAX_SESSIONS {
        sweep(change, now)?;
    }
    keep(change, session.clone()).map(Ok)
}

/// Those to end before a person can have one more: the least recently used.
fn superfluous(
    sessions: &BTreeMap<SessionId, Arc<SessionRecord>>,
    user: &UserName,
) -> Vec<SessionId> {
    let mut own: Vec<&Arc<SessionRecord>> = sessions
        .values()
        .filter(|session| session.user == *user)
        .collect();
    own.sort_unstable_by_key(|session| session.used);
    let too_many = (own.len() + 1).saturating_sub(MAX_SESSIONS_PER_USER);
    let oldest = own.iter().take(too_many);
    oldest.map(|session| session.id.clone()).collect()
}

fn keep(change: &mut Change<'_>, session: SessionRecord) -> Result<Arc<SessionRecord>, Fault> {
    tables::SESSION.put(change.txn, session.id.0.as_str(), &session)?;
    let session = Arc::new(session);
    Arc::make_mut(&mut change.book.sessions).insert(session.id.clone(), session.clone());
    Ok(session)
}

fn rotate(
    change: &mut Change<'_>,
    id: &SessionId,
    presented: Digest,
    next: Digest,
    now: Timestamp,
) -> Result<Rotated, Fault> {
    change.heard = now;
    let Some(session) = change.book.sessions.get(id).cloned() else {
        return Ok(Rotated::Gone);
    };
    if session.expires <= now {
        end_all(change, std::slice::from_ref(id))?;
        return Ok(Rotated::Gone);
    }
    if presented == session.refresh {
        let session = SessionRecord {
            used: now,
            refresh: next,
            previous: Some((presented, now)),
            ..SessionRecord::clone(&session)
        };
        return keep(change, session).map(Rotated::Done);
    }
    let in_grace = |(previous, at): (Digest, Timestamp)| {
        previous == presented && now.since(at) < ROTATION_GRACE
    };
    if session.previous.is_some_and(in_grace) {
        return Ok(Rotated::Grace(session));
    }
    end_all(change, std::slice::from_ref(id))?;
    Ok(Rotated::Reused)
}

fn end_all(change: &mut Change<'_>, ids: &[SessionId]) -> Result<usize, Fault> {
    let mut ended = 0;
    for id in ids {
        if change.book.sessions.contains_key(id) {
            tables::SESSION.remove(change.txn, id.0.as_str())?;
            Arc::make_mut(&mut change.book.sessions).remove(id);
            ended += 1;
        }
    }
    Ok(ended)
}

fn end_those(change: &mut Change<'_>, which: impl Fn(&SessionRecord) -> bool) -> Result<(), Fault> {
    let sessions = change.book.sessions.values();
    let ids: Vec<SessionId> = sessions
        .filter(|session| which(session))
        .map(|session| session.id.clone())
        .collect();
    end_all(change, &ids).map(drop)
}

/// Ends all sessions of a person.
pub(crate) fn end_of(change: &mut Change<'_>, user: &UserName) -> Result<(), Fault> {
    end_those(change, |session| session.user == *user)
}

/// Ends those that have expired.
pub(crate) fn sweep(change: &mut Change<'_>, now: Timestamp) -> Result<(), Fault> {
    end_those(change, |session| session.expires <= now)
}
