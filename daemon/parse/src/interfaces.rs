//! Interfaces (IF-MIB, RFC 2863): rows joined across tables by ifIndex within
//! one poll, and known from poll to poll by their names.
//!
//! ifIndex is not an identity: many devices deal it anew when they restart. It
//! is used only to join the columns of one answer, to tell interfaces with the
//! same name apart, and, while the tables that hold the names are incomplete,
//! to recognise what was seen at the last poll.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use model::{Columns, Facts, Interface, MetricKind, SnmpAnswer, SnmpColumn, SnmpValue};

use crate::layout::{Metric, Owner, has_metric, labels_of, metric};
use crate::plan::{
    IF_ALIAS, IF_DESCR, IF_ENTRY, IF_HIGH_SPEED, IF_NAME, IF_PHYS_ADDRESS, IF_SPEED, IF_TABLE,
    IF_TYPE, IF_X_ENTRY, IF_X_TABLE, INTERFACE_METRICS, InterfaceMetric, NARROW_SLOTS, Reads,
    SPEED_SLOT, WIDE_SLOTS,
};
use crate::text::mac;
use crate::value::{code, columns, is_incomplete, number, octets, seconds, text, unsigned_32};

/// The most interfaces of one device that are read, those with the lowest
/// ifIndex: twice what large aggregation routers have, few enough that a
/// hostile agent costs megabytes and not gigabytes.
pub const MAX_INTERFACES: usize = 10_000;

/// What ifSpeed says where the speed is more than it can say.
const SPEED_BEYOND: f64 = 4_294_967_295.0;

/// An ifHighSpeed beyond this (100 Tbit/s) is not in millions: many agents
/// send it in bit/s.
const FASTEST_MEGABITS: f64 = 1e8;

/// From here on a 32-bit speed is all ones, or nearly: no speed at all.
const NEARLY_ALL_ONES: f64 = 4_294_000_000.0;

/// A value of each metric in [`INTERFACE_METRICS`].
type Slots = [f64; INTERFACE_METRICS.len()];

const NOTHING: Slots = [f64::NAN; INTERFACE_METRICS.len()];

/// The interfaces of an answer, by identity.
pub(crate) struct Interfaces<'a> {
    rows: Vec<Row<'a>>,
    entries: Vec<(Cow<'a, str>, Option<usize>)>,
    /// The metrics that the device has, as places in [`INTERFACE_METRICS`].
    pub(crate) slots: Vec<usize>,
    /// How many the device has, if that is more than [`MAX_INTERFACES`].
    pub(crate) too_many: Option<usize>,
    incomplete: bool,
}

/// What was known before the answer.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    /// The columns of the row before.
    pub(crate) columns: Option<&'a Columns>,
    /// What the device said of itself.
    pub(crate) facts: Option<&'a Facts>,
    /// Whether the device restarted since: then no ifIndex means what it did.
    pub(crate) restarted: bool,
}

impl<'a> Interfaces<'a> {
    /// Reads both tables. Where one of them is incomplete, interfaces and
    /// metrics that were there before stay, without a value; an interface that
    /// cannot be named without the missing part is left out.
    pub(crate) fn read(answer: &'a SnmpAnswer, before: Before<'a>) -> Interfaces<'a> {
        let mut indices = all_indices(answer);
        let found = indices.len();
        indices.truncate(MAX_INTERFACES);
        let rows = read_rows(answer, &indices);
        let incomplete = is_incomplete(answer, IF_X_TABLE) || is_incomplete(answer, IF_TABLE);
        let mut interfaces = Interfaces {
            slots: slots(&rows, answer, before.columns),
            entries: Vec::new(),
            rows,
            too_many: (found > MAX_INTERFACES).then_some(found),
            incomplete,
        };
        interfaces.entries = if incomplete {
            interfaces.entries_while_incomplete(answer, before)
        } else {
            let named = interfaces.rows.iter().enumerate();
            let texts = named.map(|(place, row)| (row.text(), row.index, Some(place)));
            unique(texts.collect())
        };
        interfaces
    }

    /// The identity of each, sorted.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &Cow<'a, str>> {
        self.entries.iter().map(|(identity, _)| identity)
    }

    /// The metrics that the device has.
    pub(crate) fn metrics(&self) -> Vec<&'static Metric> {
        let names = self.slots.iter().map(|slot| INTERFACE_METRICS[*slot].name);
        names.map(metric).collect()
    }

    /// The values of all interfaces in the order of their columns.
    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.entries.iter().flat_map(|(_, place)| {
            let values = place.map_or(&NOTHING, |place| &self.rows[place].values);
            self.slots.iter().map(|slot| values[*slot])
        })
    }

    /// Whether the interface at `place` is another piece of hardware than the
    /// one that was known under its name.
    pub(crate) fn is_another(&self, place: usize, known: Option<&Facts>) -> bool {
        let (identity, Some(row)) = &self.entries[place] else {
            return false;
        };
        let Some(known) = known.and_then(|facts| facts.interfaces.get(&**identity)) else {
            return false;
        };
        let row = &self.rows[*row];
        let another_type = row.if_type.zip(known.if_type).is_some_and(|(a, b)| a != b);
        let another_mac = known.mac.is_some() && {
            let mac = row.mac();
            mac.is_some() && mac != known.mac
        };
        another_type || another_mac
    }

    /// What is kept of the interfaces beside their values.
    pub(crate) fn facts(&self, known: Option<&Facts>) -> BTreeMap<String, Interface> {
        let nothing = BTreeMap::new();
        let known = known.map_or(&nothing, |facts| &facts.interfaces);
        let facts = self.entries.iter().filter_map(|(identity, place)| {
            let known = self.incomplete.then(|| known.get(&**identity)).flatten();
            let interface = match place {
                Some(place) => self.rows[*place].facts(known),
                None => known?.clone(),
            };
            Some((identity.clone().into_owned(), interface))
        });
        facts.collect()
    }

    fn entries_while_incomplete(
        &self,
        answer: &SnmpAnswer,
        before: Before<'a>,
    ) -> Vec<(Cow<'a, str>, Option<usize>)> {
        let mut entries = self.recognised(before);
        let seen: HashSet<usize> = entries.iter().filter_map(|(_, place)| *place).collect();
        let rest = self
            .rows
            .iter()
            .enumerate()
            .filter(|(place, _)| !seen.contains(place));
        let rest = rest.filter(|(_, row)| row.has_final_name(answer));
        let texts = rest.map(|(place, row)| (row.text(), row.index, Some(place)));
        let mut taken: HashSet<Cow<'a, str>> = entries.iter().map(|(id, _)| id.clone()).collect();
        for (identity, place) in unique(texts.collect()) {
            if taken.insert(identity.clone()) {
                entries.push((identity, place));
            }
        }
        let columns = before.columns.into_iter();
        let columns = columns.flat_map(|columns| labels_of(columns, Owner::Interface));
        let facts = before.facts.into_iter();
        let facts = facts.flat_map(|facts| facts.interfaces.keys().map(String::as_str));
        for identity in columns.chain(facts) {
            if entries.len() < MAX_INTERFACES && taken.insert(Cow::Borrowed(identity)) {
                entries.push((Cow::Borrowed(identity), None));
            }
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    }

    /// Rows whose ifIndex was known and whose texts, as far as they came, are
    /// those that were known.
    fn recognised(&self, before: Before<'a>) -> Vec<(Cow<'a, str>, Option<usize>)> {
        let Some(facts) = before.facts.filter(|_| !before.restarted) else {
            return Vec::new();
        };
        let known = facts.interfaces.iter();
        let by_index: HashMap<u32, (&String, &Interface)> = known
            .map(|(identity, interface)| (interface.index, (identity, interface)))
            .collect();
        let rows = self.rows.iter().enumerate().filter_map(|(place, row)| {
            let (identity, known) = by_index.get(&row.index)?;
            let identity = Cow::Borrowed(identity.as_str());
            row.may_be(known).then_some((identity, Some(place)))
        });
        rows.collect()
    }
}

/// One row of ifTable and ifXTable.
struct Row<'a> {
    index: u32,
    name: Option<Cow<'a, str>>,
    alias: Option<Cow<'a, str>>,
    descr: Option<Cow<'a, str>>,
    if_type: Option<u32>,
    mac: &'a [u8],
    high_speed: f64,
    speed: f64,
    values: Slots,
}

impl<'a> Row<'a> {
    fn new(index: u32) -> Row<'a> {
        Row {
            index,
            name: None,
            alias: None,
            descr: None,
            if_type: None,
            mac: &[],
            high_speed: f64::NAN,
            speed: f64::NAN,
            values: NOTHING,
        }
    }

    fn take(&mut self, field: Field, value: &'a SnmpValue) {
        match field {
            Field::Name => self.name = text(value),
            Field::Alias => self.alias = text(value),
            Field::Descr => self.descr = text(value),
            Field::Type => self.if_type = code(value),
            Field::Mac => self.mac = octets(value).unwrap_or_default(),
            Field::HighSpeed => self.high_speed = number(value),
            Field::Speed => self.speed = number(value),
            Field::Slot(slot, reads) => self.values[slot] = reads(value),
        }
    }

    /// What needs all columns of the row.
    fn finish(&mut self) {
        self.values[SPEED_SLOT] = speed_bps(self.high_speed, self.speed);
        if self.values[WIDE_SLOTS].iter().any(|value| !value.is_nan()) {
            self.values[NARROW_SLOTS].fill(f64::NAN);
        }
    }

    /// ifName, else ifAlias, else ifDescr; its index only if the device gives
    /// it no text at all.
    fn text(&self) -> Cow<'a, str> {
        let mut texts = [&self.name, &self.alias, &self.descr].into_iter().flatten();
        match texts.find(|text| !text.is_empty()) {
            Some(text) => text.clone(),
            None => Cow::Owned(format!("if{}", self.index)),
        }
    }

    /// Whether the incomplete parts of `answer` cannot give it another name.
    fn has_final_name(&self, answer: &SnmpAnswer) -> bool {
        let some = |text: &Option<Cow<'_, str>>| text.as_ref().is_some_and(|t| !t.is_empty());
        if some(&self.name) {
            return true;
        }
        if is_incomplete(answer, IF_X_TABLE) {
            return false;
        }
        some(&self.alias) || !is_incomplete(answer, IF_TABLE) || some(&self.descr)
    }

    /// Whether no text that came says otherwise.
    fn may_be(&self, known: &Interface) -> bool {
        let agrees = |text: &Option<Cow<'_, str>>, known: &Option<String>| {
            let known = known.as_deref().unwrap_or_default();
            text.as_ref().is_none_or(|text| text == known)
        };
        agrees(&self.name, &known.name) && agrees(&self.descr, &known.descr)
    }

    fn mac(&self) -> Option<String> {
        mac(self.mac)
    }

    /// What is kept of it; what did not come is taken from `known`.
    fn facts(&self, known: Option<&Interface>) -> Interface {
        let kept = |text: &Option<Cow<'_, str>>, known: Option<&Option<String>>| match text {
            Some(text) => (!text.is_empty()).then(|| text.clone().into_owned()),
            None => known.cloned().flatten(),
        };
        let status = |slot: usize| as_code(self.values[slot]);
        Interface {
            index: self.index,
            name: kept(&self.name, known.map(|k| &k.name)),
            alias: kept(&self.alias, known.map(|k| &k.alias)),
            descr: kept(&self.descr, known.map(|k| &k.descr)),
            if_type: self.if_type.or(known.and_then(|k| k.if_type)),
            mac: self.mac().or_else(|| known?.mac.clone()),
            speed_bps: as_whole(self.values[SPEED_SLOT]).or(known.and_then(|k| k.speed_bps)),
            admin_status: status(0).or(known.and_then(|k| k.admin_status)),
            oper_status: status(1).or(known.and_then(|k| k.oper_status)),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a speed is a whole number of bit/s, or NaN"
)]
fn as_whole(value: f64) -> Option<u64> {
    (value >= 0.0).then_some(value as u64)
}

fn as_code(value: f64) -> Option<u32> {
    as_whole(value).and_then(|code| u32::try_from(code).ok())
}

/// In bit/s: ifHighSpeed, which counts in millions, unless it is missing, 0
/// (less than half a million) or impossible; else ifSpeed, unless it says that
/// the speed is more than it can say.
fn speed_bps(high_speed: f64, speed: f64) -> f64 {
    let speed = if speed < SPEED_BEYOND {
        speed
    } else {
        f64::NAN
    };
    let counts_bits = high_speed >= 1e6 && high_speed <= speed;
    if high_speed > FASTEST_MEGABITS && speed.is_nan() && high_speed < NEARLY_ALL_ONES {
        high_speed
    } else if high_speed > 0.0 && high_speed <= FASTEST_MEGABITS && !counts_bits {
        high_speed * 1e6
    } else {
        speed
    }
}

/// What a column tells of a row.
#[derive(Clone, Copy)]
enum Field {
    Name,
    Alias,
    Descr,
    Type,
    Mac,
    HighSpeed,
    Speed,
    Slot(usize, fn(&SnmpValue) -> f64),
}

fn field_of_if_x_table(column: u32) -> Option<Field> {
    match column {
        IF_NAME => Some(Field::Name),
        IF_ALIAS => Some(Field::Alias),
        IF_HIGH_SPEED => Some(Field::HighSpeed),
        _ => slot_of(IF_X_ENTRY, column),
    }
}

fn field_of_if_table(column: u32) -> Option<Field> {
    match column {
        IF_DESCR => Some(Field::Descr),
        IF_TYPE => Some(Field::Type),
        IF_SPEED => Some(Field::Speed),
        IF_PHYS_ADDRESS => Some(Field::Mac),
        _ => slot_of(IF_ENTRY, column),
    }
}

fn slot_of(entry: &[u32], column: u32) -> Option<Field> {
    let slot = INTERFACE_METRICS
        .iter()
        .position(|metric| metric.column == column && metric.entry == entry)?;
    let InterfaceMetric { name, reads, .. } = &INTERFACE_METRICS[slot];
    let reads = match reads {
        Reads::State => number,
        Reads::Ticks => seconds,
        Reads::Octets | Reads::Packets | Reads::Losses => match metric(name).kind {
            MetricKind::Counter32 => unsigned_32,
            MetricKind::Counter64 | MetricKind::Gauge | MetricKind::State => number,
        },
        Reads::Speed => return None,
    };
    Some(Field::Slot(slot, reads))
}

/// Every column of both tables that is read.
fn fields(answer: &SnmpAnswer) -> impl Iterator<Item = (Field, &SnmpColumn)> {
    let extended = columns(answer, IF_X_ENTRY)
        .filter_map(|(number, column)| Some((field_of_if_x_table(number)?, column)));
    let plain = columns(answer, IF_ENTRY)
        .filter_map(|(number, column)| Some((field_of_if_table(number)?, column)));
    extended.chain(plain)
}

/// Every ifIndex in the answer, sorted. Nearly always all columns list the
/// same ones, so that all but the first are only compared.
fn all_indices(answer: &SnmpAnswer) -> Vec<u32> {
    let mut indices: Vec<u32> = Vec::new();
    let mut first = 0;
    for (_, column) in fields(answer) {
        let of_column = || column.cells.iter().map(|(index, _)| *index);
        if indices.is_empty() {
            indices.extend(of_column());
            first = indices.len();
        } else if !of_column().eq(indices[..first].iter().copied()) {
            indices.extend(of_column());
        }
    }
    indices.sort_unstable();
    indices.dedup();
    indices
}

/// A row for each of `indices`, which are sorted.
fn read_rows<'a>(answer: &'a SnmpAnswer, indices: &[u32]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = indices.iter().copied().map(Row::new).collect();
    for (field, column) in fields(answer) {
        let mut next = 0;
        for (index, value) in &column.cells {
            if rows.get(next).is_none_or(|row| row.index != *index) {
                match rows.binary_search_by_key(index, |row| row.index) {
                    Ok(place) => next = place,
                    Err(_) => continue,
                }
            }
            rows[next].take(field, value);
            next += 1;
        }
    }
    rows.iter_mut().for_each(Row::finish);
    rows
}

/// The metrics that at least one interface has, and those that were there
/// before if their table is incomplete now.
fn slots(rows: &[Row<'_>], answer: &SnmpAnswer, previous: Option<&Columns>) -> Vec<usize> {
    let is_there = |slot: &usize| {
        let metric = &INTERFACE_METRICS[*slot];
        rows.iter().any(|row| !row.values[*slot].is_nan())
            || is_in_doubt(answer, *slot)
                && previous.is_some_and(|columns| has_metric(columns, metric.name))
    };
    (0..INTERFACE_METRICS.len()).filter(is_there).collect()
}

/// Whether the tables that the metric comes from are incomplete. The 32-bit
/// counters are asked for only once ifXTable is complete.
fn is_in_doubt(answer: &SnmpAnswer, slot: usize) -> bool {
    let own = is_incomplete(answer, INTERFACE_METRICS[slot].table);
    own || slot == SPEED_SLOT && is_incomplete(answer, IF_TABLE)
        || NARROW_SLOTS.contains(&slot) && is_incomplete(answer, IF_X_TABLE)
}

/// Makes texts unique and sorts by them. Of those that share a text each gets
/// `#` and its index, so that none of them changes its name when another comes
/// or goes; and so does one whose text looks as if it were one of them.
pub(crate) fn unique<'a, T>(mut rows: Vec<(Cow<'a, str>, u32, T)>) -> Vec<(Cow<'a, str>, T)> {
    rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut marked: HashSet<Cow<'a, str>> = HashSet::new();
    let mut shared = vec![false; rows.len()];
    let mut place = 0;
    for group in rows.chunk_by(|a, b| a.0 == b.0) {
        let text = &group[0].0;
        let imitates = !marked.is_empty() && stem(text).is_some_and(|stem| marked.contains(stem));
        if group.len() > 1 || imitates {
            marked.insert(text.clone());
            shared[place..place + group.len()].fill(true);
        }
        place += group.len();
    }
    let named = rows
        .into_iter()
        .zip(shared)
        .map(|((text, index, row), shared)| {
            let text = if shared {
                Cow::Owned(format!("{text}#{index}"))
            } else {
                text
            };
            (text, row)
        });
    let mut named: Vec<(Cow<'a, str>, T)> = named.collect();
    if !marked.is_empty() {
        named.sort_by(|a, b| a.0.cmp(&b.0));
    }
    named
}

/// `eth0` of `eth0#7`.
fn stem(text: &str) -> Option<&str> {
    let (stem, number) = text.rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(stem)
}
