//! Walking one table, without its sockets: which columns to ask for next, and
//! what an answer means.
//!
//! Several columns are asked for at once, and each goes on from its own last
//! instance: where an agent has holes in a column, the others do not care. Rows
//! come together by their index, in whoever reads the answer.

use std::cmp::Ordering;

use model::{Failure, FailureKind, SnmpColumn, SnmpTable, SnmpValue, TableAsk};

use super::message::{self, Binding, Malformed, OVERHEAD, Response, VARBIND_OVERHEAD, status};
use super::oid;
use crate::failure;

/// Where a walk of one column is stopped: the largest access concentrators have
/// some ten thousand interfaces, an agent in a loop has no end.
pub(super) const ROWS_AT_MOST: u32 = 20_000;

/// Columns in one request. More would leave room for few rows in an answer.
const COLUMNS_AT_ONCE: usize = 16;

/// A first guess at a value's length and an index', in bytes.
pub(super) const VALUE_GUESS: usize = 8;

/// What an answer meant for the walk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It goes on.
    Progress,
    /// The agent cannot answer that much at once.
    TooMuch,
    /// It ended with a failure.
    Failed,
}

/// A table being walked.
pub(super) struct Walk<'p> {
    ask: &'p TableAsk,
    columns: Vec<Column>,
    /// The columns of the request on its way.
    batch: Vec<usize>,
    odd_instances: u32,
    failure: Option<Failure>,
}

struct Column {
    prefix: Vec<u8>,
    /// The last instance seen, or the column itself.
    cursor: Vec<u8>,
    last_index: Option<u32>,
    cells: Vec<(u32, SnmpValue)>,
    instances: u32,
    /// The longest varbind of late.
    varbind_bytes: usize,
    is_done: bool,
}

impl<'p> Walk<'p> {
    /// A walk from the first row on. A column that cannot be an OID is empty.
    pub(super) fn new(ask: &'p TableAsk) -> Walk<'p> {
        let columns = ask.columns.iter().map(|column| {
            let prefix = oid::encode(column).unwrap_or_default();
            Column {
                is_done: prefix.is_empty(),
                cursor: prefix.clone(),
                last_index: None,
                cells: Vec::new(),
                instances: 0,
                varbind_bytes: prefix.len() + VALUE_GUESS + VARBIND_OVERHEAD,
                prefix,
            }
        });
        Walk {
            columns: columns.collect(),
            ask,
            batch: Vec::new(),
            odd_instances: 0,
            failure: None,
        }
    }

    /// Chooses the columns of the next request so that its answer stays below
    /// `answer_bytes`, and returns how many rows to ask for; `None` when the
    /// walk is over.
    pub(super) fn next(&mut self, answer_bytes: usize, max_repetitions: u16) -> Option<u16> {
        self.batch.clear();
        if self.failure.is_some() {
            return None;
        }
        let room = answer_bytes.saturating_sub(OVERHEAD);
        let mut row_bytes = 0;
        for (place, column) in self.columns.iter().enumerate() {
            if column.is_done {
                continue;
            }
            let is_full =
                self.batch.len() == COLUMNS_AT_ONCE || row_bytes + column.varbind_bytes > room;
            if is_full && !self.batch.is_empty() {
                break;
            }
            row_bytes += column.varbind_bytes;
            self.batch.push(place);
        }
        if self.batch.is_empty() {
            return None;
        }
        let rows = u16::try_from(room / row_bytes).unwrap_or(u16::MAX);
        Some(rows.clamp(1, max_repetitions.max(1)))
    }

    /// Where the columns of the request go on from.
    pub(super) fn cursors(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let columns = &self.columns;
        self.batch
            .iter()
            .map(|&place| columns[place].cursor.as_slice())
    }

    /// Whether less could not be asked for.
    pub(super) fn asks_for_one(&self, repetitions: u16) -> bool {
        self.batch.len() == 1 && repetitions == 1
    }

    /// Ends the walk; what was read is kept.
    pub(super) fn fail(&mut self, why: Failure) {
        self.failure = Some(why);
    }

    /// Reads an answer to the request.
    pub(super) fn take(&mut self, mut response: Response<'_>) -> Taken {
        if response.error_status != status::NO_ERROR {
            return self.take_error(&response);
        }
        for column in &mut self.columns {
            // a long text now and then does not make every answer short
            column.varbind_bytes -= column.varbind_bytes / 16;
        }
        let mut count = 0;
        while let Some(varbind) = response.next() {
            let place = self.batch[count % self.batch.len()];
            count += 1;
            let taken = varbind
                .map_err(|malformed| self.columns[place].unreadable(malformed))
                .and_then(|(name, binding)| {
                    self.columns[place].take(name, binding, &mut self.odd_instances)
                });
            if let Err(text) = taken {
                return self.fail_with(text);
            }
        }
        if count == 0 {
            return self.fail_with("the agent answers with nothing at all".to_owned());
        }
        Taken::Progress
    }

    fn take_error(&mut self, response: &Response<'_>) -> Taken {
        let blamed = response.error_index.checked_sub(1);
        let blamed = blamed.and_then(|place| self.batch.get(place)).copied();
        match response.error_status {
            status::TOO_BIG | status::GEN_ERR => Taken::TooMuch,
            // as an SNMPv1 agent says that there is nothing more
            status::NO_SUCH_NAME => {
                match blamed {
                    Some(place) => self.columns[place].is_done = true,
                    None => {
                        for &place in &self.batch {
                            self.columns[place].is_done = true;
                        }
                    }
                }
                Taken::Progress
            }
            status::NO_ACCESS | status::AUTHORIZATION_ERROR => {
                let name = message::error_name(response.error_status);
                let text = format!(
                    "{}: the agent refuses it ({name}): is it in the community's view?",
                    self.ask.name
                );
                self.fail(failure(FailureKind::Refused, text));
                Taken::Failed
            }
            other => {
                let name = message::error_name(other);
                self.fail_with(format!("the agent answers with {name} ({other})"))
            }
        }
    }

    /// Ends the walk because the agent cannot even answer one instance.
    pub(super) fn fail_too_much(&mut self, response: &Response<'_>) -> Taken {
        let name = message::error_name(response.error_status);
        let place = self.batch.first().copied().unwrap_or(0);
        let after = oid::decode(&self.columns[place].cursor);
        self.fail_with(format!(
            "the agent answers with {name} even to one instance, the one after {after}"
        ))
    }

    fn fail_with(&mut self, text: String) -> Taken {
        let text = format!("{}: {text}", self.ask.name);
        self.fail(failure(FailureKind::Protocol, text));
        Taken::Failed
    }

    /// What was read.
    pub(super) fn finish(self) -> SnmpTable {
        let cells = self.columns.into_iter().map(|column| column.cells);
        let columns = self.ask.columns.iter().zip(cells);
        SnmpTable {
            name: self.ask.name,
            columns: columns
                .map(|(oid, cells)| SnmpColumn {
                    oid: oid.clone(),
                    cells,
                })
                .collect(),
            odd_instances: self.odd_instances,
            failure: self.failure,
        }
    }
}

impl Column {
    /// Takes one varbind of this column; `Err` says what is wrong with it.
    fn take(&mut self, name: &[u8], binding: Binding, odd: &mut u32) -> Result<(), String> {
        if self.is_done {
            return Ok(());
        }
        let value = match binding {
            Binding::Value(value) => value,
            Binding::Absent | Binding::End => {
                self.is_done = true;
                return Ok(());
            }
        };
        let Some(rest) = oid::below(name, &self.prefix) else {
            self.is_done = true;
            return Ok(());
        };
        let index = oid::single(rest);
        if index.is_none() && !oid::is_valid(name) {
            return Err(format!(
                "the agent answers with an impossible OID after {}",
                oid::decode(&self.cursor)
            ));
        }
        if !self.is_after_last(name, index) {
            return Err(format!(
                "OID not increasing: the agent answers {} after {}",
                oid::decode(name),
                oid::decode(&self.cursor)
            ));
        }
        self.instances += 1;
        if self.instances > ROWS_AT_MOST {
            return Err(format!(
                "more than {ROWS_AT_MOST} rows below {}: the walk was stopped",
                oid::decode(&self.prefix)
            ));
        }
        self.varbind_bytes = self
            .varbind_bytes
            .max(name.len() + value_bytes(&value) + VARBIND_OVERHEAD);
        self.cursor.clear();
        self.cursor.extend_from_slice(name);
        self.last_index = index;
        match index {
            Some(index) => self.cells.push((index, value)),
            None => *odd = odd.saturating_add(1),
        }
        Ok(())
    }

    fn is_after_last(&self, name: &[u8], index: Option<u32>) -> bool {
        match (self.last_index, index) {
            (Some(last), Some(index)) => index > last,
            _ => oid::compare(name, &self.cursor) == Ordering::Greater,
        }
    }

    fn unreadable(&self, Malformed(what): Malformed) -> String {
        let after = oid::decode(&self.cursor);
        format!("the agent's answer cannot be read after {after}: {what}")
    }
}

/// About how long a value is on the wire.
pub(super) fn value_bytes(value: &SnmpValue) -> usize {
    match value {
        SnmpValue::Octets(bytes) | SnmpValue::Opaque(bytes) => bytes.len(),
        SnmpValue::ObjectId(oid) => oid.0.len() + 2,
        SnmpValue::Counter64(number) => usize::from(*number > u64::from(u32::MAX)) * 3 + 5,
        SnmpValue::Null => 0,
        SnmpValue::Integer(_)
        | SnmpValue::IpAddress(_)
        | SnmpValue::Counter32(_)
        | SnmpValue::Gauge32(_)
        | SnmpValue::TimeTicks(_) => 5,
    }
}
