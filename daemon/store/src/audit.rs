//! The audit log: who did what, each line chained to the one before it.

use model::{AuditDraft, AuditRecord, By, Digest, TenantName, Timestamp};

use crate::Store;
use crate::error::{ReadError, WriteError};

/// Lines that are kept, whatever their age: the oldest go first.
pub const MAX_AUDIT: u64 = 5_000_000;

/// How what is asked for ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeIs {
    /// It was done.
    Done,
    /// They were not allowed to.
    Denied,
}

/// Which lines are asked for: those that meet every part. Actor, action and
/// object are compared as a whole, or, where they end in `*`, by what stands
/// before it.
#[derive(Clone, Debug)]
pub struct AuditAsk {
    /// By whom, such as `user:jane` or `token:*`.
    pub actor: Option<String>,
    /// What was done, such as `device.create` or `device.*`.
    pub action: Option<String>,
    /// On what, such as `device:core1` or `device:*`.
    pub object: Option<String>,
    /// Of these tenants alone; then without the appliance's own lines.
    pub tenants: Option<Vec<TenantName>>,
    /// How it ended.
    pub outcome: Option<OutcomeIs>,
    /// At this instant or later.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
    /// With this text in any field, in any case.
    pub text: Option<String>,
    /// Older than this line.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl AuditAsk {
    /// The newest `limit` lines.
    #[must_use]
    pub fn newest(limit: usize) -> AuditAsk {
        AuditAsk {
            actor: None,
            action: None,
            object: None,
            tenants: None,
            outcome: None,
            from: None,
            to: None,
            text: None,
            before: None,
            limit,
        }
    }
}

/// Where the chain is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditBreak {
    /// The first line that is not as it was written, or is missing.
    pub seq: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What a walk over the whole log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Lines that are there and good, up to the break if there is one.
    pub lines: u64,
    /// The oldest line that has to be there; those before it were removed
    /// because of their age or number.
    pub first: u64,
    /// The newest line that has to be there; 0 if there was never one.
    pub head: u64,
    /// Its hash: who keeps it elsewhere can tell later that nobody wrote the
    /// whole log anew.
    pub hash: Digest,
    /// The first line that is not as it was written.
    pub broken: Option<AuditBreak>,
}

impl Store {
    // --- audit log

    /// Writes down what changed nothing here, or was denied; the line's
    /// number. Returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotWriting`], [`WriteError::Closed`].
    pub async fn note_audit(
        &self,
        by: &By,
        draft: AuditDraft,
        now: Timestamp,
    ) -> Result<u64, WriteError> {
        let _ = (by, draft, now);
        unimplemented!()
    }

    /// Like [`Store::note_audit`], with the next commit and without waiting.
    /// If too many wait, this one is dropped and counted.
    pub fn try_note_audit(&self, by: &By, draft: AuditDraft, now: Timestamp) {
        let _ = (by, draft, now);
        unimplemented!()
    }

    /// Lines of the log, newest first. Blocks on the disk, and reads as far
    /// back as it takes to find `limit` lines.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`], [`ReadError::Io`].
    pub fn audit(&self, ask: &AuditAsk) -> Result<Vec<AuditRecord>, ReadError> {
        let _ = ask;
        unimplemented!()
    }

    /// Walks the whole log, and says whether every line is as it was written.
    /// Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`] if not even the pages can be read,
    /// [`ReadError::Io`].
    pub fn verify_audit(&self) -> Result<AuditVerdict, ReadError> {
        unimplemented!()
    }

    /// Number and hash of the newest line; 0 and zeros if there is none.
    #[must_use]
    pub fn audit_head(&self) -> (u64, Digest) {
        unimplemented!()
    }
}
