//! Walking whatever lies below an object, without its sockets: indexes of any
//! shape, every column, one cursor.
//!
//! What plugins want of an agent is walked so. Nobody knows beforehand how much
//! that is, so there is an end to it: per walk, and for all walks of a device
//! together.

use std::cmp::Ordering;

use model::{Failure, FailureKind, Oid, SnmpWalk, Varbind};

use super::message::{self, Binding, Malformed, OVERHEAD, Response, VARBIND_OVERHEAD, status};
use super::oid;
use super::poll::ANSWER_BYTES_LEAST;
use super::walk::{Taken, VALUE_GUESS, value_bytes};
use crate::failure;

/// Instances in one walk.
pub(super) const VARBINDS_OF_A_WALK: usize = 20_000;

/// Instances in all that plugins want of one device.
pub(super) const VARBINDS_IN_ALL: usize = 50_000;

/// Bytes on the wire of one walk.
pub(super) const BYTES_OF_A_WALK: usize = 4 << 20;

/// Bytes on the wire of all that plugins want of one device.
pub(super) const BYTES_IN_ALL: usize = 8 << 20;

/// How much more may come.
pub(super) struct Room {
    varbinds: usize,
    bytes: usize,
    limits: (usize, usize),
}

impl Room {
    fn new(varbinds: usize, bytes: usize) -> Room {
        Room {
            varbinds,
            bytes,
            limits: (varbinds, bytes),
        }
    }

    /// For all that plugins want of one device.
    pub(super) fn of_all() -> Room {
        Room::new(VARBINDS_IN_ALL, BYTES_IN_ALL)
    }

    fn of_a_walk() -> Room {
        Room::new(VARBINDS_OF_A_WALK, BYTES_OF_A_WALK)
    }

    /// Takes the place of one varbind, if there is some left.
    pub(super) fn admits(&mut self, varbind: &Varbind) -> bool {
        let bytes = varbind.oid.0.len() + value_bytes(&varbind.value) + VARBIND_OVERHEAD;
        let left = self
            .varbinds
            .checked_sub(1)
            .zip(self.bytes.checked_sub(bytes));
        if let Some((varbinds, bytes)) = left {
            (self.varbinds, self.bytes) = (varbinds, bytes);
        }
        left.is_some()
    }

    /// What to say when nothing more is taken.
    pub(super) fn too_much(&self, what: &str) -> Failure {
        let (varbinds, bytes) = self.limits;
        let text = format!(
            "{what} is more than {varbinds} instances or {} MiB: the rest is left out",
            bytes >> 20
        );
        failure(FailureKind::Protocol, text)
    }
}

/// A subtree being walked.
pub(super) struct Subtree<'r> {
    root: &'r Oid,
    prefix: Vec<u8>,
    /// The last instance seen, or the root itself.
    cursor: Vec<u8>,
    varbinds: Vec<Varbind>,
    /// For this walk.
    own: Room,
    /// For all walks of the device.
    all: &'r mut Room,
    /// The longest varbind of late.
    varbind_bytes: usize,
    is_done: bool,
    failure: Option<Failure>,
}

impl<'r> Subtree<'r> {
    /// A walk of what lies below `root`, as far as `all` has room.
    pub(super) fn new(root: &'r Oid, all: &'r mut Room) -> Subtree<'r> {
        let prefix = oid::encode(root);
        let failure = prefix.is_none().then(|| {
            let text = format!("{root} cannot be walked: it is no object identifier");
            failure(FailureKind::Local, text)
        });
        let prefix = prefix.unwrap_or_default();
        Subtree {
            root,
            cursor: prefix.clone(),
            varbinds: Vec::new(),
            own: Room::of_a_walk(),
            all,
            varbind_bytes: prefix.len() + VALUE_GUESS + VARBIND_OVERHEAD,
            prefix,
            is_done: false,
            failure,
        }
    }

    /// How many instances to ask for so that the answer stays below
    /// `answer_bytes`; `None` when the walk is over.
    pub(super) fn next(&self, answer_bytes: usize, max_repetitions: u16) -> Option<u16> {
        if self.is_done || self.failure.is_some() {
            return None;
        }
        if answer_bytes <= ANSWER_BYTES_LEAST {
            return Some(1);
        }
        let room = answer_bytes.saturating_sub(OVERHEAD);
        let rows = u16::try_from(room / self.varbind_bytes).unwrap_or(u16::MAX);
        Some(rows.clamp(1, max_repetitions.max(1)))
    }

    /// Where the walk goes on from.
    pub(super) fn cursor(&self) -> &[u8] {
        &self.cursor
    }

    /// Ends the walk; what was read is kept.
    pub(super) fn fail(&mut self, why: Failure) {
        self.failure.get_or_insert(why);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// What was read.
    pub(super) fn finish(self) -> SnmpWalk {
        SnmpWalk {
            root: self.root.clone(),
            varbinds: self.varbinds,
            failure: self.failure,
        }
    }

    /// Reads an answer to a request for `rows` instances.
    pub(super) fn take(&mut self, mut response: Response<'_>, rows: u16) -> Taken {
        if response.error_status != status::NO_ERROR {
            return self.take_error(response.error_status, rows);
        }
        // a long text now and then does not make every answer short
        self.varbind_bytes -= self.varbind_bytes / 16;
        let mut is_empty = true;
        while let Some(varbind) = response.next() {
            is_empty = false;
            let taken = match varbind {
                Ok((name, binding)) => self.take_one(name, binding),
                Err(Malformed(what)) => {
                    let after = oid::decode(&self.cursor);
                    Err(self.wrong(&format!("the answer cannot be read after {after}: {what}")))
                }
            };
            if let Err(why) = taken {
                self.fail(why);
                return Taken::Failed;
            }
            if self.is_done {
                return Taken::Progress;
            }
        }
        if is_empty {
            self.fail(self.wrong("the agent answers with nothing at all"));
            return Taken::Failed;
        }
        Taken::Progress
    }

    fn take_one(&mut self, name: &[u8], binding: Binding) -> Result<(), Failure> {
        let value = match binding {
            Binding::Value(value) if oid::below(name, &self.prefix).is_some() => value,
            Binding::Value(_) | Binding::Absent | Binding::End => {
                self.is_done = true;
                return Ok(());
            }
        };
        let after = || oid::decode(&self.cursor);
        if !oid::is_valid(name) {
            let text = format!("the agent answers with an impossible OID after {}", after());
            return Err(self.wrong(&text));
        }
        if oid::compare(name, &self.cursor) != Ordering::Greater {
            let got = oid::decode(name);
            let text = format!(
                "OID not increasing: the agent answers {got} after {}",
                after()
            );
            return Err(self.wrong(&text));
        }
        let wire_bytes = name.len() + value_bytes(&value) + VARBIND_OVERHEAD;
        let varbind = Varbind {
            oid: oid::decode(name),
            value,
        };
        if !self.own.admits(&varbind) {
            let what = format!("what lies below {}", self.root);
            return Err(self.own.too_much(&what));
        }
        if !self.all.admits(&varbind) {
            return Err(self.all.too_much("what plugins want of one agent"));
        }
        self.varbind_bytes = self.varbind_bytes.max(wire_bytes);
        self.cursor.clear();
        self.cursor.extend_from_slice(name);
        self.varbinds.push(varbind);
        Ok(())
    }

    fn take_error(&mut self, error: u32, rows: u16) -> Taken {
        let name = message::error_name(error);
        let after = oid::decode(&self.cursor);
        let why = match error {
            // as an SNMPv1 agent says that there is nothing more
            status::NO_SUCH_NAME => {
                self.is_done = true;
                return Taken::Progress;
            }
            status::TOO_BIG | status::GEN_ERR if rows > 1 => return Taken::TooMuch,
            status::TOO_BIG | status::GEN_ERR => self.wrong(&format!(
                "the agent answers with {name} even to one instance, the one after {after}"
            )),
            status::NO_ACCESS | status::AUTHORIZATION_ERROR => {
                let text = format!(
                    "{}: the agent refuses it ({name}): is it in the community's view?",
                    self.root
                );
                failure(FailureKind::Refused, text)
            }
            other => self.wrong(&format!("the agent answers with {name} ({other})")),
        };
        self.fail(why);
        Taken::Failed
    }

    fn wrong(&self, what: &str) -> Failure {
        failure(FailureKind::Protocol, format!("{}: {what}", self.root))
    }
}
