//! One poll: the scalars, then table after table, until all of it is there or
//! the agent stops answering; then what plugins want ([`Poll::run_extra`]),
//! which fails apart from all that.

use std::time::Duration;

use model::{
    Failure, FailureKind, Oid, SnmpAnswer, SnmpColumn, SnmpExtra, SnmpExtraAnswer, SnmpPlan,
    SnmpTable, SnmpWalk, TableAsk, Timestamp, Varbind,
};
use nix::errno::Errno;
use tokio::time::Instant;

use super::message::{self, Ask, Binding, Malformed, Response, Security, status};
use super::oid;
use super::subtree::{Room, Subtree};
use super::walk::{Taken, Walk};
use super::wire::{Dialogue, NoAnswer};
use crate::failure;

/// How long a poll may take in all. An agent that answers each of many
/// requests just in time would otherwise hold its place for hours.
pub(super) const AT_MOST: Duration = Duration::from_secs(120);

/// How long what plugins want may take of it. The built-in part is read by then,
/// and waits no longer for the rest.
pub(super) const EXTRA_AT_MOST: Duration = Duration::from_secs(20);

/// Subtrees in a row that may end in silence before the rest is not asked for:
/// some agents hang on one object and answer the next, others are gone.
const SILENT_SUBTREES: u8 = 2;

/// The least that is ever asked for: one instance.
pub(super) const ANSWER_BYTES_LEAST: usize = 100;

/// Instances in one GET.
const SCALARS_AT_ONCE: usize = 24;

/// How to ask an agent.
pub(super) struct Style<'c> {
    pub(super) security: Security<'c>,
    pub(super) max_repetitions: u16,
    /// How long its answers may be.
    pub(super) answer_bytes: usize,
}

/// How long an agent's answers may be, after a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learnt {
    /// Such answers gave no trouble.
    Fine(usize),
    /// Longer ones were too much.
    TooMuch(usize),
}

/// One poll as it goes.
pub(super) struct Poll<'c> {
    dialogue: Dialogue,
    style: Style<'c>,
    /// How long the part that runs may take.
    at_most: Duration,
    has_shrunk: bool,
    has_answered: bool,
    scalars: Vec<Varbind>,
    tables: Vec<SnmpTable>,
    /// The first one.
    failure: Option<Failure>,
    /// Why there is no use in asking any further.
    over: Option<Failure>,
    extra: SnmpExtraAnswer,
}

/// What GETs brought.
#[derive(Default)]
struct Got {
    varbinds: Vec<Varbind>,
    /// The first one.
    failure: Option<Failure>,
}

impl Got {
    fn note(&mut self, why: Failure) {
        self.failure.get_or_insert(why);
    }
}

/// The agent cannot be asked any further.
struct Over(Failure);

/// Encoded OIDs that go into one GET.
type Batch = Vec<Vec<u8>>;

impl<'c> Poll<'c> {
    pub(super) fn new(dialogue: Dialogue, style: Style<'c>, at_most: Duration) -> Poll<'c> {
        Poll {
            dialogue,
            style,
            at_most,
            has_shrunk: false,
            has_answered: false,
            scalars: Vec::new(),
            tables: Vec::new(),
            failure: None,
            over: None,
            extra: SnmpExtraAnswer::default(),
        }
    }

    /// Asks for the scalars and tables of `plan`. After the agent fell silent,
    /// the tables that were still to come only say so.
    pub(super) async fn run(&mut self, plan: &SnmpPlan) {
        let mut got = Got::default();
        self.over = self.get_all(&plan.scalars, &mut got).await;
        self.scalars = got.varbinds;
        if let Some(why) = got.failure.or_else(|| self.over.clone()) {
            self.note(why);
        }
        for ask in &plan.tables {
            if !self.is_needed(ask) {
                continue;
            }
            let mut walk = Walk::new(ask);
            match &self.over {
                Some(why) => walk.fail(not_asked(ask.name, why)),
                None => self.over = self.walk(&mut walk).await,
            }
            self.keep(walk.finish());
        }
    }

    /// Asks for what plugins want, within `at_most` and within the poll's own
    /// time: whatever becomes of it, what [`Poll::run`] brought stays as it is.
    /// `answer_bytes` is how long such answers may be.
    pub(super) async fn run_extra(
        &mut self,
        wanted: &SnmpExtra,
        answer_bytes: usize,
        at_most: Duration,
    ) {
        self.at_most = at_most;
        self.dialogue.end_by(Instant::now() + at_most);
        self.style.answer_bytes = self.style.answer_bytes.min(answer_bytes);
        self.has_shrunk = false;
        let mut got = Got::default();
        match &self.over {
            _ if wanted.get.is_empty() => {}
            Some(why) => got.note(not_asked("what plugins want", why)),
            None => {
                self.over = self.get_all(&wanted.get, &mut got).await;
                if let Some(why) = &self.over {
                    got.note(why.clone());
                }
            }
        }
        let mut room = Room::of_all();
        if let Some(place) = got.varbinds.iter().position(|got| !room.admits(got)) {
            got.varbinds.truncate(place);
            got.note(room.too_much("what plugins get of an agent"));
        }
        self.extra.got = got.varbinds;
        self.extra.failure = got.failure;
        let mut silent = 0;
        for root in &wanted.walk {
            let walk = match &self.over {
                Some(why) => SnmpWalk {
                    root: root.clone(),
                    varbinds: Vec::new(),
                    failure: Some(not_asked(&root.to_string(), why)),
                },
                None => self.subtree(root, &mut room, &mut silent).await,
            };
            self.extra.walks.push(walk);
        }
    }

    /// What this poll says of the agent's answers, if there were any.
    pub(super) fn learnt(&self) -> Option<Learnt> {
        let answer_bytes = self.style.answer_bytes;
        self.has_answered.then_some(if self.has_shrunk {
            Learnt::TooMuch(answer_bytes)
        } else {
            Learnt::Fine(answer_bytes)
        })
    }

    /// The answer; or the first failure, if nothing was learnt.
    pub(super) fn finish(self, at: Timestamp, took: Duration) -> Result<SnmpAnswer, Failure> {
        let has_cells = |table: &SnmpTable| table.columns.iter().any(|c| !c.cells.is_empty());
        let has_something = !self.scalars.is_empty() || self.tables.iter().any(has_cells);
        match self.failure {
            Some(why) if !has_something => Err(why),
            _ => Ok(SnmpAnswer {
                at,
                took,
                requests: self.dialogue.requests,
                scalars: self.scalars,
                tables: self.tables,
                extra: self.extra,
            }),
        }
    }

    /// What plugins wanted, of an agent that was asked nothing else; or why it
    /// answered nothing at all.
    pub(super) fn finish_extra(self) -> Result<SnmpExtraAnswer, Failure> {
        match self.over {
            Some(why) if !self.has_answered => Err(why),
            _ => Ok(self.extra),
        }
    }

    /// Whether the column that `ask` stands in for really lacks a cell.
    fn is_needed(&self, ask: &TableAsk) -> bool {
        let Some(other) = &ask.only_if_missing else {
            return true;
        };
        self.tables.iter().any(|table| {
            let is_it = |column: &&SnmpColumn| column.oid == *other;
            let column = table.columns.iter().find(is_it);
            let rows = table.columns.iter().map(|column| column.cells.len()).max();
            // a device without the whole table has no row to compare with
            let lacks =
                |column: &SnmpColumn| column.cells.is_empty() || Some(column.cells.len()) < rows;
            table.failure.is_none() && column.is_some_and(lacks)
        })
    }

    fn keep(&mut self, table: SnmpTable) {
        if let Some(why) = &table.failure {
            self.note(why.clone());
        }
        self.tables.push(table);
    }

    fn note(&mut self, why: Failure) {
        self.failure.get_or_insert(why);
    }

    /// Gets instances, a few at a time; those that the agent has not are left
    /// out. Returns why there is no use in asking any further, if there is none.
    async fn get_all(&mut self, wanted: &[Oid], got: &mut Got) -> Option<Failure> {
        let batches = wanted.chunks(SCALARS_AT_ONCE);
        let mut batches: Vec<Batch> = batches
            .map(|batch| batch.iter().filter_map(oid::encode).collect())
            .collect();
        batches.reverse();
        while let Some(batch) = batches.pop() {
            if !batch.is_empty() {
                match self.get(batch, got).await {
                    Ok(again) => batches.extend(again),
                    Err(Over(why)) => return Some(why),
                }
            }
        }
        None
    }

    /// Gets one batch. Returns what of it to get again, in smaller batches.
    async fn get(&mut self, mut batch: Batch, got: &mut Got) -> Result<Vec<Batch>, Over> {
        let security = self.style.security;
        let asked = self.dialogue.ask(|_, id, out| {
            let oids = batch.iter().map(Vec::as_slice);
            message::write(out, security, id, Ask::Get, oids);
        });
        let asked = asked.await;
        self.heard(asked)?;
        let peer = self.dialogue.peer();
        let response = match message::read(self.dialogue.answer()) {
            Ok(response) => response,
            Err(malformed) => {
                got.note(self.unreadable(malformed));
                return Ok(Vec::new());
            }
        };
        let blamed = response.error_index.checked_sub(1);
        let blamed = blamed.filter(|place| *place < batch.len());
        match response.error_status {
            status::NO_ERROR => {
                let (varbinds, malformed) = values(response, &batch);
                got.varbinds.extend(varbinds);
                if let Some(malformed) = malformed {
                    got.note(self.unreadable(malformed));
                }
                return Ok(Vec::new());
            }
            status::TOO_BIG if batch.len() > 1 => {
                let back = batch.split_off(batch.len() / 2);
                return Ok(vec![back, batch]);
            }
            // as an SNMPv1 agent says that it has it not
            status::NO_SUCH_NAME => {}
            other => {
                let kind = match other {
                    status::NO_ACCESS | status::AUTHORIZATION_ERROR => FailureKind::Refused,
                    _ => FailureKind::Protocol,
                };
                let name = message::error_name(other);
                let text = format!("{peer} answers a GET with {name} ({other})");
                got.note(failure(kind, text));
            }
        }
        Ok(match blamed {
            Some(place) => {
                batch.remove(place);
                vec![batch]
            }
            None => Vec::new(),
        })
    }

    /// Walks one table to its end, or to a failure, which the walk then holds.
    /// Returns why there is no use in asking any further, if there is none.
    async fn walk(&mut self, walk: &mut Walk<'_>) -> Option<Failure> {
        let security = self.style.security;
        while let Some(rows) = walk.next(self.style.answer_bytes, self.style.max_repetitions) {
            let asked = self.dialogue.ask(|attempt, id, out| {
                // a large answer may be what gets lost: ask for less
                let max_repetitions = (rows >> attempt.min(15)).max(1);
                let ask = Ask::GetBulk { max_repetitions };
                message::write(out, security, id, ask, walk.cursors());
            });
            let asked = asked.await;
            if !matches!(asked, Ok(0)) && !walk.asks_for_one(rows) {
                self.shrink();
            }
            if let Err(Over(why)) = self.heard(asked) {
                walk.fail(why.clone());
                return Some(why);
            }
            let response = match message::read(self.dialogue.answer()) {
                Ok(response) => response,
                Err(malformed) => {
                    walk.fail(self.unreadable(malformed));
                    return None;
                }
            };
            match walk.take(response.clone()) {
                Taken::Progress => {}
                Taken::Failed => return None,
                Taken::TooMuch if walk.asks_for_one(rows) => {
                    walk.fail_too_much(&response);
                    return None;
                }
                Taken::TooMuch => self.shrink(),
            }
        }
        None
    }

    /// Walks what lies below `root`. Of several subtrees in a row that end in
    /// silence, which `silent` counts, the last one ends the asking.
    async fn subtree(&mut self, root: &Oid, room: &mut Room, silent: &mut u8) -> SnmpWalk {
        let before = (self.style.answer_bytes, self.has_shrunk);
        let mut subtree = Subtree::new(root, room);
        match self.walk_subtree(&mut subtree).await {
            Some(why) => {
                *silent += 1;
                let is_gone = !self.has_answered || self.dialogue.is_over();
                if *silent >= SILENT_SUBTREES || is_gone || why.kind != FailureKind::Timeout {
                    self.over = Some(why);
                }
            }
            None => *silent = 0,
        }
        if subtree.has_failed() {
            // it is this object that is hard to answer, not every long answer
            (self.style.answer_bytes, self.has_shrunk) = before;
        }
        subtree.finish()
    }

    async fn walk_subtree(&mut self, subtree: &mut Subtree<'_>) -> Option<Failure> {
        let security = self.style.security;
        while let Some(rows) = subtree.next(self.style.answer_bytes, self.style.max_repetitions) {
            let asked = self.dialogue.ask(|attempt, id, out| {
                let max_repetitions = (rows >> attempt.min(15)).max(1);
                let ask = Ask::GetBulk { max_repetitions };
                message::write(out, security, id, ask, std::iter::once(subtree.cursor()));
            });
            let asked = asked.await;
            if !matches!(asked, Ok(0)) && rows > 1 {
                self.shrink();
            }
            if let Err(Over(why)) = self.heard(asked) {
                subtree.fail(why.clone());
                return Some(why);
            }
            let taken = match message::read(self.dialogue.answer()) {
                Ok(response) => subtree.take(response, rows),
                Err(malformed) => {
                    subtree.fail(self.unreadable(malformed));
                    return None;
                }
            };
            match taken {
                Taken::Progress => {}
                Taken::Failed => return None,
                Taken::TooMuch => self.shrink(),
            }
        }
        None
    }

    fn shrink(&mut self) {
        self.style.answer_bytes = (self.style.answer_bytes / 2).max(ANSWER_BYTES_LEAST);
        self.has_shrunk = true;
    }

    fn heard(&mut self, asked: Result<u8, NoAnswer>) -> Result<(), Over> {
        match asked {
            Ok(_retries) => {
                self.has_answered = true;
                Ok(())
            }
            Err(no_answer) => Err(Over(self.explain(no_answer))),
        }
    }

    fn explain(&self, no_answer: NoAnswer) -> Failure {
        let peer = self.dialogue.peer();
        let (kind, text) = match no_answer {
            NoAnswer::Silence {
                garbled: Some(Malformed(what)),
                ..
            } => (
                FailureKind::Protocol,
                format!("{peer} answers, but not in SNMPv2c: {what}"),
            ),
            NoAnswer::Silence { tries, waited, .. } if self.has_answered => (
                FailureKind::Timeout,
                format!("{peer} stopped answering: {tries} requests in {waited:.1?}"),
            ),
            NoAnswer::Silence { tries, waited, .. } => (
                FailureKind::Timeout,
                format!(
                    "no SNMP answer from {peer} to {tries} requests in {waited:.1?}: it is down \
                     or filtered, or the community is wrong, which looks the same because \
                     agents keep silent then"
                ),
            ),
            NoAnswer::TooLong => (
                FailureKind::Timeout,
                format!(
                    "{peer} answers so slowly that the asking was ended after {:.0?}",
                    self.at_most
                ),
            ),
            NoAnswer::NoRoute => {
                return failure(
                    FailureKind::Local,
                    format!(
                        "this machine has no route to {peer}: see `ip route get {}`",
                        peer.ip()
                    ),
                );
            }
            NoAnswer::Refused(errno) => return refused(&peer.to_string(), errno),
        };
        failure(kind, text)
    }

    fn unreadable(&self, Malformed(what): Malformed) -> Failure {
        let peer = self.dialogue.peer();
        let text = format!("an answer of {peer} cannot be read: {what}");
        failure(FailureKind::Protocol, text)
    }
}

/// The values of those instances that were asked for, and what stopped the
/// reading.
fn values(mut response: Response<'_>, asked: &Batch) -> (Vec<Varbind>, Option<Malformed>) {
    let mut values = Vec::with_capacity(asked.len());
    while let Some(varbind) = response.next() {
        match varbind {
            Ok((name, Binding::Value(value))) if asked.iter().any(|oid| oid == name) => {
                let oid = oid::decode(name);
                values.push(Varbind { oid, value });
            }
            Ok(_) => {}
            Err(malformed) => return (values, Some(malformed)),
        }
    }
    (values, None)
}

fn not_asked(what: &str, why: &Failure) -> Failure {
    let text = format!("{what}: not asked for: {}", why.text);
    failure(why.kind, text)
}

fn refused(peer: &str, errno: Errno) -> Failure {
    match errno {
        Errno::ECONNREFUSED => failure(
            FailureKind::Unreachable,
            format!("{peer} is there, but nothing listens on that port: is its SNMP agent on?"),
        ),
        Errno::EPERM => failure(
            FailureKind::Permission,
            format!("this machine refuses to send to {peer}: look for a local firewall rule"),
        ),
        Errno::EHOSTUNREACH
        | Errno::ENETUNREACH
        | Errno::EHOSTDOWN
        | Errno::ENONET
        | Errno::EACCES
        | Errno::ENOPROTOOPT
        | Errno::EOPNOTSUPP => failure(
            FailureKind::Unreachable,
            format!("{peer} cannot be reached: {}", errno.desc()),
        ),
        other => failure(
            FailureKind::Local,
            format!("cannot send to {peer}: {}", other.desc()),
        ),
    }
}
