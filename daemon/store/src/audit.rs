//! The audit log: who did what, each line chained to the one before it.
//!
//! Whoever is denied something causes lines too, and needs no account for it.
//! So a line is bounded, the same denial is one line a minute, and denied
//! lines are at most [`MAX_DENIED`]: beyond that they are dropped and counted,
//! and a line of the store's own says once an hour how many. Taking older
//! denied lines out of the middle would break the chain, and letting them push
//! out what was done would hide it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::{AuditDraft, AuditOutcome, AuditRecord, By, Digest, TenantName, Timestamp};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::book::Change;
use crate::error::{Fault, ReadError, WriteError};
use crate::tables::{ANCHOR, AUDIT, AUDIT_END, AuditMark, HEAD};
use crate::{Store, tables};

/// Lines that are kept, whatever their age: the oldest go first.
pub const MAX_AUDIT: u64 = 5_000_000;

/// Denied lines that are kept; what is denied beyond it is counted alone, until
/// old lines have gone.
pub const MAX_DENIED: u64 = MAX_AUDIT / 5;

/// Lines that [`Store::audit_page`] looks through at most: what one question may
/// cost.
pub const AUDIT_LOOKED_THROUGH: usize = 100_000;

/// Characters of what was acted on. Longer texts, here and below, mostly come
/// from who was denied, and are cut.
const OBJECT_CHARS: usize = 512;

/// Characters of who, from where and in which request.
const WHO_CHARS: usize = 256;

/// Characters of what was done.
const ACTION_CHARS: usize = 128;

/// Characters of why it was denied.
const WHY_CHARS: usize = 1_024;

/// Bytes of what a thing was before, or is after.
const STATE_BYTES: usize = 16 * 1024;

/// Characters that are shown of a longer one: however they are escaped, they
/// take less than [`STATE_BYTES`].
const STATE_SHOWN: usize = 2_000;

/// The same denial again within this time is counted, not written.
const SAME_DENIAL: Duration = Duration::from_secs(60);

/// Different denials that are watched for coming again; others are written
/// each time.
const WATCHED_DENIALS: usize = 1_024;

/// How often a line says how many denied ones were dropped.
const TELL_DROPPED: Duration = Duration::from_secs(3_600);

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

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The lines that were asked for, newest first.
    pub lines: Vec<AuditRecord>,
    /// The oldest line that was looked at: to go on, ask again with it as
    /// [`AuditAsk::before`]. `None`: there are no older ones.
    pub looked_to: Option<u64>,
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
    /// number. Returns when it is on the disk. A denied one beyond
    /// [`MAX_DENIED`] is counted alone: the number is that of the newest line.
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
        let (by, line) = (by.clone(), Line::from(draft));
        self.write(move |change| append(change, &by, now, line.clone()).map(Ok))
            .await
    }

    /// Like [`Store::note_audit`], with the next commit and without waiting.
    /// If too many wait, this one is dropped and counted.
    ///
    /// The same denial (actor, address without its port, action, object and
    /// reason) is written at once when it comes first. What comes again within
    /// a minute waits in memory, and is one line after that minute, or at the
    /// end, whose `after` is that of the last one and a `count` of them.
    pub fn try_note_audit(&self, by: &By, draft: AuditDraft, now: Timestamp) {
        let note = Note {
            by: bounded_by(by),
            line: Line::from(draft),
            at: now,
        };
        if !self.shared.queue.push_note(note) {
            self.shared.note_audit_dropped(1);
        }
    }

    /// Lines of the log, newest first. Blocks on the disk, and reads as far
    /// back as it takes to find `limit` lines: what answers others asks for
    /// [`Store::audit_page`].
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`] if it comes to a line that is damaged or missing:
    /// those before it are found with [`AuditAsk::before`]. [`ReadError::Io`].
    pub fn audit(&self, ask: &AuditAsk) -> Result<Vec<AuditRecord>, ReadError> {
        let page = self.read(|txn| find(txn, ask, usize::MAX))?;
        Ok(page.lines)
    }

    /// Lines of the log, newest first, among at most
    /// [`AUDIT_LOOKED_THROUGH`]. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// As [`Store::audit`].
    pub fn audit_page(&self, ask: &AuditAsk) -> Result<AuditPage, ReadError> {
        self.read(|txn| find(txn, ask, AUDIT_LOOKED_THROUGH))
    }

    /// Walks the whole log, and says whether every line is as it was written.
    /// Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`] if not even the pages can be read,
    /// [`ReadError::Io`].
    pub fn verify_audit(&self) -> Result<AuditVerdict, ReadError> {
        self.read(verify)
    }

    /// Number and hash of the newest line; 0 and zeros if there is none.
    #[must_use]
    pub fn audit_head(&self) -> (u64, Digest) {
        let AuditMark { seq, hash } = self.shared.book().audit_head;
        (seq, hash)
    }
}

/// What a line says beside who, when and where in the chain.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    action: String,
    object: String,
    tenant: Option<TenantName>,
    outcome: AuditOutcome,
    before: Option<String>,
    after: Option<String>,
}

impl Line {
    /// `action` was done on `object`, which is the appliance's.
    pub(crate) fn on(action: &str, object: &str) -> Line {
        Line {
            action: action.to_owned(),
            object: object.to_owned(),
            tenant: None,
            outcome: AuditOutcome::Done,
            before: None,
            after: None,
        }
    }

    /// Something of this kind and name was created, or changed from `before`.
    pub(crate) fn put(kind: &str, name: &str, before: Option<Value>) -> Line {
        let verb = match before {
            Some(_) => "change",
            None => "create",
        };
        Line::on(&format!("{kind}.{verb}"), &format!("{kind}:{name}")).maybe_before(before)
    }

    /// Something of this kind and name was set, perhaps in the place of
    /// `before`.
    pub(crate) fn set(kind: &str, name: &str, before: Option<Value>) -> Line {
        Line::on(&format!("{kind}.set"), &format!("{kind}:{name}")).maybe_before(before)
    }

    fn maybe_before(self, before: Option<Value>) -> Line {
        Line {
            before: before.map(|before| before.to_string()),
            ..self
        }
    }

    pub(crate) fn of(self, tenant: Option<TenantName>) -> Line {
        Line { tenant, ..self }
    }

    pub(crate) fn before(self, before: Value) -> Line {
        self.maybe_before(Some(before))
    }

    pub(crate) fn after(self, after: Value) -> Line {
        Line {
            after: Some(after.to_string()),
            ..self
        }
    }
}

impl Line {
    /// With no part longer than it may be.
    fn bounded(self) -> Line {
        Line {
            action: cut(self.action, ACTION_CHARS),
            object: cut(self.object, OBJECT_CHARS),
            tenant: self.tenant,
            outcome: match self.outcome {
                AuditOutcome::Done => AuditOutcome::Done,
                AuditOutcome::Denied(why) => AuditOutcome::Denied(cut(why, WHY_CHARS)),
            },
            before: self.before.map(cut_state),
            after: self.after.map(cut_state),
        }
    }

    fn is_denied(&self) -> bool {
        matches!(self.outcome, AuditOutcome::Denied(_))
    }

    /// With how often it happened beside what is said after it.
    fn times(self, count: u64) -> Line {
        let after = self.after.as_deref().map(serde_json::from_str);
        let mut more = match after {
            Some(Ok(Value::Object(after))) => after,
            _ => serde_json::Map::new(),
        };
        more.insert("count".to_owned(), count.into());
        self.after(Value::Object(more))
    }
}

impl From<AuditDraft> for Line {
    fn from(draft: AuditDraft) -> Line {
        let line = Line {
            action: draft.action,
            object: draft.object,
            tenant: draft.tenant,
            outcome: draft.outcome,
            before: None,
            after: draft.after,
        };
        line.bounded()
    }
}

/// At most `most` characters of `text`, the last one an ellipsis if it was
/// longer.
fn cut(text: String, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text;
    }
    let kept = text.chars().take(most - 1);
    kept.chain(['…']).collect()
}

/// A JSON object, or in the place of one that is too long another that shows
/// how it begins.
fn cut_state(state: String) -> String {
    if state.len() <= STATE_BYTES {
        return state;
    }
    let bytes = state.len();
    let begins = cut(state, STATE_SHOWN);
    json!({ "cut": true, "bytes": bytes, "begins": begins }).to_string()
}

fn bounded_by(by: &By) -> By {
    By {
        actor: by.actor.clone(),
        origin: cut(by.origin.clone(), WHO_CHARS),
        request: by.request.clone().map(|request| cut(request, WHO_CHARS)),
    }
}

/// A line that nobody waits for.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) by: By,
    pub(crate) line: Line,
    pub(crate) at: Timestamp,
}

/// What denials are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Same {
    actor: String,
    from: Option<IpAddr>,
    origin: Option<String>,
    action: String,
    object: String,
    tenant: Option<TenantName>,
    why: String,
}

impl Same {
    /// `None` for what was done.
    fn of(note: &Note) -> Option<Same> {
        let AuditOutcome::Denied(why) = &note.line.outcome else {
            return None;
        };
        let origin = &note.by.origin;
        let from = origin.parse::<SocketAddr>().map(|address| address.ip());
        let from = from.ok().or_else(|| origin.parse().ok());
        Some(Same {
            actor: note.by.actor.to_string(),
            from,
            origin: from.is_none().then(|| origin.clone()),
            action: note.line.action.clone(),
            object: note.line.object.clone(),
            tenant: note.line.tenant.clone(),
            why: why.clone(),
        })
    }
}

/// A denial that was written, and what came again since.
#[derive(Debug)]
struct Again {
    since: Timestamp,
    last: Note,
    count: u64,
}

impl Again {
    /// Whether its minute is over, or the clock was set back.
    fn is_over(&self, now: Timestamp) -> bool {
        self.since.plus(SAME_DENIAL) <= now || now.plus(SAME_DENIAL) < self.since
    }

    /// What came again as one line, if anything did.
    fn told(self) -> Option<Note> {
        (self.count > 0).then(|| Note {
            line: self.last.line.times(self.count),
            ..self.last
        })
    }
}

/// What was denied lately.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    watched: HashMap<Same, Again>,
}

impl Denials {
    /// Takes a note in: what is to be written because of it, oldest first.
    pub(crate) fn take(&mut self, note: Note) -> Vec<Note> {
        let Some(same) = Same::of(&note) else {
            return vec![note];
        };
        if let Some(again) = self.watched.get_mut(&same)
            && !again.is_over(note.at)
        {
            again.count += 1;
            again.last = note;
            return Vec::new();
        }
        let before = self.watched.remove(&same).and_then(Again::told);
        let mut notes: Vec<Note> = before.into_iter().collect();
        if self.watched.len() >= WATCHED_DENIALS {
            notes.extend(self.over(note.at));
        }
        if self.watched.len() < WATCHED_DENIALS {
            let again = Again {
                since: note.at,
                last: note.clone(),
                count: 0,
            };
            self.watched.insert(same, again);
        }
        notes.push(note);
        notes
    }

    /// What came again in minutes that are over.
    pub(crate) fn over(&mut self, now: Timestamp) -> Vec<Note> {
        let over = self.watched.extract_if(|_, again| again.is_over(now));
        in_order(over.map(|(_, again)| again))
    }

    /// What came again at all.
    pub(crate) fn all(&mut self) -> Vec<Note> {
        in_order(self.watched.drain().map(|(_, again)| again))
    }
}

fn in_order(again: impl Iterator<Item = Again>) -> Vec<Note> {
    let mut notes: Vec<Note> = again.filter_map(Again::told).collect();
    notes.sort_unstable_by_key(|note| note.at);
    notes
}

/// What is known of denied lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Those in the log.
    pub(crate) lines: u64,
    /// Those dropped that no line tells of yet.
    pub(crate) dropped: u64,
    /// When a line told of some, in ms.
    pub(crate) told: u64,
}

impl Denied {
    pub(crate) fn load(txn: &ReadTransaction) -> Result<Denied, Fault> {
        let counter = |name| Ok::<u64, Fault>(tables::COUNTER.get(txn, name)?.unwrap_or(0));
        Ok(Denied {
            lines: counter(tables::DENIED)?,
            dropped: counter(tables::DENIED_DROPPED)?,
            told: counter(tables::DENIED_TOLD)?,
        })
    }

    /// Writes down what differs from `before`.
    pub(crate) fn keep(change: &Change<'_>, before: Denied) -> Result<(), Fault> {
        let now = change.book.denied;
        let put = |name, before, now| match before == now {
            true => Ok(()),
            false => tables::COUNTER.put(change.txn, name, &now),
        };
        put(tables::DENIED, before.lines, now.lines)?;
        put(tables::DENIED_DROPPED, before.dropped, now.dropped)?;
        put(tables::DENIED_TOLD, before.told, now.told)
    }
}

/// Says how many denied lines were dropped, once an hour if there are any.
pub(crate) fn tell_dropped(change: &mut Change<'_>) -> Result<(), Fault> {
    let (now, Denied { dropped, told, .. }) = (change.heard, change.book.denied);
    let last = Timestamp(told);
    if dropped == 0 || (last <= now && now < last.plus(TELL_DROPPED)) {
        return Ok(());
    }
    change.book.denied.dropped = 0;
    change.book.denied.told = now.0;
    let line = Line::on("audit.dropped", "audit:denied")
        .after(json!({ "dropped": dropped, "kept": MAX_DENIED }));
    append(change, &By::system(), now, line)?;
    Ok(())
}

/// Adds a line to the chain; its number. A denied one beyond [`MAX_DENIED`] is
/// counted alone.
pub(crate) fn append(
    change: &mut Change<'_>,
    by: &By,
    now: Timestamp,
    line: Line,
) -> Result<u64, Fault> {
    change.heard = now;
    let head = change.book.audit_head;
    if line.is_denied() {
        if change.book.denied.lines >= MAX_DENIED {
            change.book.denied.dropped += 1;
            return Ok(head.seq);
        }
        change.book.denied.lines += 1;
    }
    let (by, line) = (bounded_by(by), line.bounded());
    let mut record = AuditRecord {
        seq: head.seq + 1,
        at: now,
        actor: cut(by.actor.to_string(), WHO_CHARS),
        origin: by.origin,
        request: by.request,
        action: line.action,
        object: line.object,
        tenant: line.tenant,
        outcome: line.outcome,
        before: line.before,
        after: line.after,
        previous: head.hash,
        hash: Digest([0; 32]),
    };
    record.hash = hash_of(&record);
    AUDIT.put(change.txn, record.seq, &record)?;
    change.book.audit_head = AuditMark {
        seq: record.seq,
        hash: record.hash,
    };
    Ok(record.seq)
}

/// Adds the lines that nobody waited for, and counts them.
pub(crate) fn append_notes<'n>(
    change: &mut Change<'_>,
    notes: impl ExactSizeIterator<Item = &'n Note>,
) -> Result<(), Fault> {
    if notes.len() == 0 {
        return Ok(());
    }
    change.book.notes += notes.len() as u64;
    for note in notes {
        append(change, &note.by, note.at, note.line.clone())?;
    }
    tables::COUNTER.put(change.txn, tables::NOTES, &change.book.notes)
}

/// Writes down how far the chain is, if it is longer than `before`, and keeps
/// to `limit` lines.
pub(crate) fn settle(change: &mut Change<'_>, before: AuditMark, limit: u64) -> Result<(), Fault> {
    if change.book.audit_head == before {
        return Ok(());
    }
    AUDIT_END.put(change.txn, HEAD, &change.book.audit_head)?;
    let lines = change.txn.open_table(AUDIT.definition())?.len()?;
    let superfluous = usize::try_from(lines.saturating_sub(limit)).unwrap_or(usize::MAX);
    forget_oldest(change, superfluous, |_| true)
}

/// Forgets lines from before `cutoff`, at most `count` of them.
pub(crate) fn sweep(change: &mut Change<'_>, count: usize, cutoff: Timestamp) -> Result<(), Fault> {
    forget_oldest(change, count, |line| {
        line.is_some_and(|line| line.at < cutoff)
    })
}

/// Takes lines away at the front as long as they are `old` (`None`: one that is
/// damaged), at most `count`, and keeps the hash of the last one: the chain
/// begins after it. After a damaged one, that it is broken stays visible.
fn forget_oldest(
    change: &mut Change<'_>,
    count: usize,
    old: impl Fn(Option<&AuditRecord>) -> bool,
) -> Result<(), Fault> {
    let mut anchor = None;
    let mut table = change.txn.open_table(AUDIT.definition())?;
    for _ in 0..count {
        let first = table.first()?;
        let first = first.map(|(seq, sealed)| {
            let line = AUDIT.unseal(&seq.value(), sealed.value());
            (seq.value(), line.ok())
        });
        let Some((seq, line)) = first else {
            break;
        };
        if !old(line.as_ref()) {
            break;
        }
        table.remove(seq)?;
        let denied = line.as_ref().and_then(|line| denied_why(&line.outcome));
        if denied.is_some() {
            let lines = &mut change.book.denied.lines;
            *lines = lines.saturating_sub(1);
        }
        let hash = line.map_or(AuditMark::START.hash, |line| line.hash);
        anchor = Some(AuditMark { seq, hash });
    }
    drop(table);
    match anchor {
        Some(anchor) => AUDIT_END.put(change.txn, ANCHOR, &anchor),
        None => Ok(()),
    }
}

/// The hash of a line, as the format says (see `tables.rs`).
pub(crate) fn hash_of(line: &AuditRecord) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"sotp audit 1");
    hash.update(line.seq.to_be_bytes());
    hash.update(line.at.0.to_be_bytes());
    add_text(&mut hash, &line.actor);
    add_text(&mut hash, &line.origin);
    add_maybe(&mut hash, line.request.as_deref());
    add_text(&mut hash, &line.action);
    add_text(&mut hash, &line.object);
    let tenant = line.tenant.as_ref();
    add_maybe(&mut hash, tenant.map(|tenant| tenant.0.as_str()));
    add_maybe(&mut hash, denied_why(&line.outcome));
    add_maybe(&mut hash, line.before.as_deref());
    add_maybe(&mut hash, line.after.as_deref());
    hash.update(line.previous.0);
    Digest(hash.finalize().into())
}

fn add_text(hash: &mut Sha256, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    hash.update(length.to_be_bytes());
    hash.update(text.as_bytes());
}

fn add_maybe(hash: &mut Sha256, text: Option<&str>) {
    match text {
        None => hash.update([0]),
        Some(text) => {
            hash.update([1]);
            add_text(hash, text);
        }
    }
}

fn denied_why(outcome: &AuditOutcome) -> Option<&str> {
    match outcome {
        AuditOutcome::Done => None,
        AuditOutcome::Denied(why) => Some(why),
    }
}

impl AuditAsk {
    fn meets(&self, line: &AuditRecord, lowered: Option<&str>) -> bool {
        let outcome = match line.outcome {
            AuditOutcome::Done => OutcomeIs::Done,
            AuditOutcome::Denied(_) => OutcomeIs::Denied,
        };
        let its = line.tenant.as_ref();
        fits(self.actor.as_deref(), &line.actor)
            && fits(self.action.as_deref(), &line.action)
            && fits(self.object.as_deref(), &line.object)
            && self.outcome.is_none_or(|wanted| wanted == outcome)
            && self.from.is_none_or(|from| line.at >= from)
            && self.to.is_none_or(|to| line.at < to)
            && self
                .tenants
                .as_ref()
                .is_none_or(|tenants| its.is_some_and(|tenant| tenants.contains(tenant)))
            && lowered.is_none_or(|text| says(line, text))
    }
}

fn fits(wanted: Option<&str>, found: &str) -> bool {
    match wanted.map(|wanted| wanted.strip_suffix('*').ok_or(wanted)) {
        None => true,
        Some(Ok(beginning)) => found.starts_with(beginning),
        Some(Err(whole)) => found == whole,
    }
}

/// Whether `lowered` stands in any field.
fn says(line: &AuditRecord, lowered: &str) -> bool {
    let (seq, at) = (line.seq.to_string(), line.at.to_string());
    let whole = [
        seq.as_str(),
        &at,
        &line.actor,
        &line.origin,
        &line.action,
        &line.object,
    ];
    let parts = [
        line.request.as_deref(),
        line.tenant.as_ref().map(|tenant| tenant.0.as_str()),
        denied_why(&line.outcome),
        line.before.as_deref(),
        line.after.as_deref(),
    ];
    let mut fields = whole.into_iter().chain(parts.into_iter().flatten());
    fields.any(|field| field.to_lowercase().contains(lowered))
}

/// What `ask` asks for, newest first, among at most `most` lines.
pub(crate) fn find(txn: &ReadTransaction, ask: &AuditAsk, most: usize) -> Result<AuditPage, Fault> {
    let lowered = ask.text.as_ref().map(|text| text.to_lowercase());
    let end = |end| {
        AUDIT_END
            .get(txn, end)
            .map(|mark| mark.unwrap_or(AuditMark::START))
    };
    let (anchor, head) = (end(ANCHOR)?, end(HEAD)?);
    let table = txn.open_table(AUDIT.definition())?;
    let newest = ask
        .before
        .map_or(u64::MAX, |before| before.saturating_sub(1));
    // the one that has to come next, going back
    let mut next = head.seq.min(newest);
    let mut rows = table.range(..=next)?.rev();
    let mut lines = Vec::new();
    let mut looked = 0;
    while next > anchor.seq && lines.len() < ask.limit && looked < most {
        let row = rows.next().transpose()?;
        let row = row.filter(|(seq, _)| seq.value() == next);
        let Some((seq, sealed)) = row else {
            let missing = format!("line {next} of the audit log is missing");
            return Err(Fault::Damage(missing));
        };
        let line = AUDIT.unseal(&seq.value(), sealed.value())?;
        if ask.meets(&line, lowered.as_deref()) {
            lines.push(line);
        }
        next -= 1;
        looked += 1;
    }
    Ok(AuditPage {
        lines,
        looked_to: (next > anchor.seq).then_some(next + 1),
    })
}

/// Walks the chain from the anchor to the head.
pub(crate) fn verify(txn: &ReadTransaction) -> Result<AuditVerdict, Fault> {
    let anchor = mark(txn, ANCHOR)?;
    let head = mark(txn, HEAD)?;
    let mut verdict = AuditVerdict {
        lines: 0,
        first: anchor.unwrap_or(AuditMark::START).seq + 1,
        head: head.unwrap_or(AuditMark::START).seq,
        hash: head.unwrap_or(AuditMark::START).hash,
        broken: None,
    };
    if anchor.is_err() {
        verdict.broken = broken(1, "where the log begins is damaged");
        return Ok(verdict);
    }
    let mut last = anchor.unwrap_or(AuditMark::START);
    let table = txn.open_table(AUDIT.definition())?;
    for row in table.iter()? {
        let (seq, sealed) = row?;
        match follows(last, seq.value(), sealed.value()) {
            Ok(line) => last = line,
            Err(why) => {
                verdict.broken = broken(last.seq + 1, &why);
                return Ok(verdict);
            }
        }
        verdict.lines += 1;
    }
    verdict.broken = check_end(last, head);
    Ok(verdict)
}

fn broken(seq: u64, why: &str) -> Option<AuditBreak> {
    let why = why.to_owned();
    Some(AuditBreak { seq, why })
}

/// An end of the chain: where it is, or that it is damaged.
fn mark(txn: &ReadTransaction, end: &str) -> Result<Result<AuditMark, ()>, Fault> {
    match AUDIT_END.get(txn, end) {
        Ok(mark) => Ok(Ok(mark.unwrap_or(AuditMark::START))),
        Err(Fault::Damage(_)) => Ok(Err(())),
        Err(other) => Err(other),
    }
}

/// The line that is kept under `seq`, if it is the one after `last`.
fn follows(last: AuditMark, seq: u64, sealed: &[u8]) -> Result<AuditMark, String> {
    if seq != last.seq + 1 {
        return Err(format!("it is missing: the next one there is line {seq}"));
    }
    let line = AUDIT
        .unseal(&seq, sealed)
        .map_err(|fault| format!("it was changed: {fault}"))?;
    if line.seq != seq {
        return Err(format!("it stands in the place of line {}", line.seq));
    }
    if line.previous != last.hash {
        return Err("it does not follow the line before it: one of them was changed".to_owned());
    }
    if hash_of(&line) != line.hash {
        return Err("it was changed: it does not match its hash".to_owned());
    }
    Ok(AuditMark {
        seq,
        hash: line.hash,
    })
}

/// Whether the last line is the one that was written last.
fn check_end(last: AuditMark, head: Result<AuditMark, ()>) -> Option<AuditBreak> {
    let Ok(head) = head else {
        return broken(last.seq + 1, "where the log ends is damaged");
    };
    if last.seq < head.seq {
        let why = format!("it is missing, and so are all up to line {}", head.seq);
        return broken(last.seq + 1, &why);
    }
    match last == head {
        true => None,
        false => broken(last.seq, "it is not the line that was written last"),
    }
}
