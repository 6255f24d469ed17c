//! Answers that are given again to who repeats a request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{Digest, Timestamp};
use redb::ReadTransaction;
use serde::{Deserialize, Serialize};

use crate::book::Change;
use crate::error::{Answer, Fault, Refusal, WriteError};
use crate::{Store, tables};

/// Answers that are kept: the oldest go first.
pub const MAX_ANSWERS: usize = 10_000;

/// Bytes that all of them take: the oldest go first.
pub const MAX_ANSWERS_BYTES: usize = 32 << 20;

/// Bytes of one answer.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// How long they are kept.
pub const KEEP_ANSWERS: Duration = Duration::from_secs(24 * 3_600);

/// The answer to a request that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The request that it answers.
    pub request: Digest,
    /// The status of HTTP.
    pub status: u16,
    /// Headers, in their order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// When; the store sets it.
    pub at: Timestamp,
}

impl StoredAnswer {
    /// What it takes, roughly.
    fn bytes(&self) -> usize {
        const REST: usize = 200;
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        REST + headers + self.body.len()
    }
}

/// All of them, and in which order they go.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    kept: BTreeMap<Digest, Arc<StoredAnswer>>,
    by_age: BTreeSet<(Timestamp, Digest)>,
    bytes: usize,
}

impl Answers {
    /// Reads all, counting the rows.
    pub(crate) fn load(txn: &ReadTransaction) -> Result<Answers, Fault> {
        let mut answers = Answers::default();
        let mut misplaced = false;
        tables::ANSWER.load(txn, |key, answer| match <[u8; 32]>::try_from(key) {
            Ok(key) => answers.insert(Digest(key), Arc::new(answer)),
            Err(_) => misplaced = true,
        })?;
        match misplaced {
            true => Err(Fault::Damage(
                "an answer has no digest as its key".to_owned(),
            )),
            false => Ok(answers),
        }
    }

    fn insert(&mut self, key: Digest, answer: Arc<StoredAnswer>) {
        self.remove(&key);
        self.bytes += answer.bytes();
        self.by_age.insert((answer.at, key));
        self.kept.insert(key, answer);
    }

    fn remove(&mut self, key: &Digest) {
        if let Some(answer) = self.kept.remove(key) {
            self.bytes -= answer.bytes();
            self.by_age.remove(&(answer.at, *key));
        }
    }

    fn oldest(&self) -> Option<(Timestamp, Digest)> {
        self.by_age.first().copied()
    }
}

impl Store {
    // --- answers

    /// The answer that was given under this key in the last
    /// [`KEEP_ANSWERS`], as of the last committed change. An older one may
    /// still be there: see [`StoredAnswer::at`].
    #[must_use]
    pub fn idempotent(&self, key: &Digest) -> Option<Arc<StoredAnswer>> {
        self.shared.book().answers.kept.get(key).cloned()
    }

    /// Keeps an answer. Returns when it is on the disk. No audit line.
    ///
    /// # Errors
    ///
    /// Refused with `TooMany` if it is too long; [`WriteError::NotWriting`],
    /// [`WriteError::Closed`].
    pub async fn put_idempotent(
        &self,
        key: Digest,
        answer: StoredAnswer,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        self.write(move |change| put(change, key, &answer, now))
            .await
    }
}

fn put(change: &mut Change<'_>, key: Digest, answer: &StoredAnswer, now: Timestamp) -> Answer<()> {
    change.heard = now;
    if answer.bytes() > MAX_ANSWER_BYTES {
        return Ok(Err(Refusal::TooMany {
            what: "bytes in one kept answer",
            limit: MAX_ANSWER_BYTES,
        }));
    }
    let answer = StoredAnswer {
        at: now,
        ..answer.clone()
    };
    tables::ANSWER.put(change.txn, &key.0[..], &answer)?;
    Arc::make_mut(&mut change.book.answers).insert(key, Arc::new(answer));
    forget(change, |answers, _| {
        answers.kept.len() > MAX_ANSWERS || answers.bytes > MAX_ANSWERS_BYTES
    })?;
    Ok(Ok(()))
}

/// Takes the oldest ones away as long as `wanted` says so.
fn forget(
    change: &mut Change<'_>,
    wanted: impl Fn(&Answers, Timestamp) -> bool,
) -> Result<(), Fault> {
    while let Some((at, key)) = change.book.answers.oldest()
        && wanted(&change.book.answers, at)
    {
        tables::ANSWER.remove(change.txn, &key.0[..])?;
        Arc::make_mut(&mut change.book.answers).remove(&key);
    }
    Ok(())
}

/// Forgets those that are too old.
pub(crate) fn sweep(change: &mut Change<'_>, now: Timestamp) -> Result<(), Fault> {
    forget(change, |_, at| now.since(at) > KEEP_ANSWERS)
}
