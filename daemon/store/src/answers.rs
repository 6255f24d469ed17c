//! Answers that are given again to who repeats a request.

use std::sync::Arc;
use std::time::Duration;

use model::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::WriteError;

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
    /// When.
    pub at: Timestamp,
}

impl Store {
    // --- answers

    /// The answer that was given under this key in the last
    /// [`KEEP_ANSWERS`], as of the last committed change. An older one may
    /// still be there: see [`StoredAnswer::at`].
    #[must_use]
    pub fn idempotent(&self, key: &Digest) -> Option<Arc<StoredAnswer>> {
        let _ = key;
        unimplemented!()
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
        let _ = (key, answer, now);
        unimplemented!()
    }
}
