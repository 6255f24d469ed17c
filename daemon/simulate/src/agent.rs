//! One invented device: who it is, and what its objects hold at an instant.
//!
//! Nothing is stored per interface. A row's ifIndex, its name and its counters
//! follow from the platform, the device's seed and the time.

use std::sync::Arc;

use model::Timestamp;

use crate::fault::{Condition, WrapWidth};
use crate::message::Value;
use crate::noise::{between, gauge32, low32, mix, unit, wander, whole};
use crate::objects::{COLUMNS, Object, Position, Table, position};
use crate::platform::{Platform, Segment};
use crate::traffic::{Active, Port, Role, Standing, Way};
use crate::view::{Found, Place, View};

/// hrDeviceIndex of the first processor.
const FIRST_PROCESSOR: u32 = 196_608;

/// How far before their end [`crate::Fault::Wrap`] puts counters.
const WRAP_ROOM_MS: u64 = 15_000;

/// Who a device is.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) location: String,
    /// What it is reached through: the aliases of its uplinks.
    pub(crate) parents: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) platform: &'static Platform,
    pub(crate) segments: Arc<[Segment]>,
}

/// The days between two restarts of a device that nobody touches.
const UPTIME_DAYS: (f64, f64) = (20.0, 400.0);

impl Agent {
    /// When it last restarted by itself: as the same seed and time always say,
    /// and at least an hour ago.
    pub(crate) fn boot(&self, now: Timestamp) -> Timestamp {
        const HOUR_MS: u64 = 3_600_000;
        let period_ms = whole(between(self.seed, 1, UPTIME_DAYS.0, UPTIME_DAYS.1) * 86_400_000.0);
        let phase_ms = mix(self.seed, 2) % period_ms;
        let up_ms = (now.0 + phase_ms).saturating_sub(HOUR_MS) % period_ms + HOUR_MS;
        Timestamp(now.0.saturating_sub(up_ms))
    }

    pub(crate) fn port_count(&self) -> u32 {
        self.segments.iter().map(|segment| segment.count).sum()
    }

    /// The segment of a port, and its place there.
    fn segment(&self, port: u32) -> (&Segment, u32) {
        let mut place = port;
        for segment in &*self.segments {
            if place < segment.count {
                return (segment, place);
            }
            place -= segment.count;
        }
        let last = self.segments.last().expect("a device has interfaces");
        (last, last.count - 1)
    }

    fn port(&self, port: u32) -> Port {
        let (segment, _) = self.segment(port);
        Port::new(self.port_seed(port), segment.role, segment.speed_mbps)
    }

    fn port_seed(&self, port: u32) -> u64 {
        mix(self.seed, 1_000 + u64::from(port))
    }

    /// How a port stands while nobody interferes.
    pub(crate) fn standing(&self, port: u32) -> Standing {
        self.port(port).standing()
    }

    /// ifName of a port.
    pub(crate) fn if_name(&self, port: u32) -> String {
        let (segment, place) = self.segment(port);
        numbered(segment.name, segment, place)
    }

    fn if_descr(&self, port: u32) -> String {
        let (segment, place) = self.segment(port);
        numbered(segment.descr, segment, place)
    }

    /// The port whose ifName or ifDescr is `name`.
    pub(crate) fn find_port(&self, name: &str) -> Option<u32> {
        (0..self.port_count())
            .find(|port| self.if_name(*port) == name || self.if_descr(*port) == name)
    }

    fn alias(&self, port: u32) -> String {
        let (segment, place) = self.segment(port);
        let drawn = mix(self.port_seed(port), 20);
        match segment.role {
            Role::Uplink => {
                let parent = usize::try_from(place).unwrap_or(0);
                let parent = self.parents.get(parent);
                parent.map_or_else(String::new, |parent| format!("uplink to {parent}"))
            }
            Role::Access if drawn.is_multiple_of(3) => {
                format!("desk {}-{:02}", drawn / 3 % 4 + 1, place + 1)
            }
            Role::Access if drawn % 7 == 1 => "printer".to_owned(),
            Role::Access | Role::Quiet | Role::Internal => String::new(),
        }
    }

    fn mac(&self, port: u32) -> Vec<u8> {
        let [a, b, c] = self.platform.oui;
        let [.., d, e, f] = gauge32(mix(self.seed, 3) & 0xff_ff00)
            .wrapping_add(port)
            .to_be_bytes();
        vec![a, b, c, d, e, f]
    }
}

fn numbered(stem: &str, segment: &Segment, place: u32) -> String {
    if segment.bare {
        stem.to_owned()
    } else {
        format!("{stem}{}", segment.first_number + place)
    }
}

/// A device at one instant: what a request sees.
pub(crate) struct Snapshot<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) condition: &'a Condition,
    pub(crate) now: Timestamp,
}

impl View for Snapshot<'_> {
    fn get(&self, oid: &[u32]) -> Found {
        let Position::Inside { column, instance } = position(oid) else {
            return Found::NoSuchObject;
        };
        let object = COLUMNS[column].object;
        if !self.has(object) {
            return Found::NoSuchObject;
        }
        match instance {
            [index] => self
                .row_of(object.table(), *index)
                .map_or(Found::NoSuchInstance, |row| {
                    Found::Instance(Place { column, row })
                }),
            _ => Found::NoSuchInstance,
        }
    }

    fn next(&self, oid: &[u32]) -> Option<Place> {
        match position(oid) {
            Position::Before { column } => self.first_from(column),
            Position::Inside { column, instance } => {
                let object = COLUMNS[column].object;
                let row = match instance.first() {
                    None => 0,
                    Some(index) => self.row_behind(object.table(), *index),
                };
                self.at(column, row)
            }
        }
    }

    fn after(&self, place: Place) -> Option<Place> {
        self.at(place.column, place.row + 1)
    }

    fn name(&self, place: Place, name: &mut Vec<u32>) {
        let column = &COLUMNS[place.column];
        name.clear();
        name.extend_from_slice(&column.prefix);
        name.push(self.index(column.object.table(), place.row));
    }

    fn value(&self, place: Place) -> Value {
        let object = COLUMNS[place.column].object;
        let row = u32::try_from(place.row).unwrap_or(u32::MAX);
        match object {
            Object::System(part) => self.system(part),
            Object::InterfaceCount => Value::Integer(i64::from(self.agent.port_count())),
            Object::Interface(part) => self.interface(part, row),
            Object::InterfaceX(part) => self.interface_x(part, row),
            Object::HostSystem(part) => self.host_system(part),
            Object::MemorySize => Value::Integer(i64::from(self.agent.platform.memory_mib) * 1_024),
            Object::Storage(part) => self.storage(part, row),
            Object::HostDevice(part) => self.host_device(part, row),
            Object::Processor(part) => self.processor(part, row),
            Object::Chassis(part) => self.chassis(part),
        }
    }
}

/// The order of names, by arithmetic.
impl Snapshot<'_> {
    /// The instance in `row` of `column`, or the first one behind it.
    fn at(&self, column: usize, row: usize) -> Option<Place> {
        let object = COLUMNS[column].object;
        let table = object.table();
        // a circle: the fourth row is followed by the second
        let circle = self.condition.not_increasing && table == Table::Interfaces && row > 3;
        let row = if circle { 1 } else { row };
        if row < self.rows(table) && self.has(object) {
            return Some(Place { column, row });
        }
        self.first_from(column + 1)
    }

    fn first_from(&self, column: usize) -> Option<Place> {
        let columns = COLUMNS.iter().enumerate().skip(column);
        columns
            .filter(|(_, found)| self.has(found.object) && self.rows(found.object.table()) > 0)
            .map(|(column, _)| Place { column, row: 0 })
            .next()
    }

    fn has(&self, object: Object) -> bool {
        !(self.condition.no_high_capacity && object.is_high_capacity())
    }

    fn rows(&self, table: Table) -> usize {
        match table {
            Table::Scalar | Table::Chassis => 1,
            Table::Interfaces if self.condition.endless => usize::MAX,
            Table::Interfaces => count(self.agent.port_count()),
            Table::Storage => 1 + self.agent.platform.disks.len(),
            Table::Processors => count(self.agent.platform.processors),
        }
    }

    /// The index of `row`.
    fn index(&self, table: Table, row: usize) -> u32 {
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        match table {
            Table::Scalar => 0,
            Table::Chassis | Table::Storage => row.saturating_add(1),
            Table::Processors => FIRST_PROCESSOR.saturating_add(row),
            Table::Interfaces => self.if_index(row),
        }
    }

    /// The row whose index is `index`.
    fn row_of(&self, table: Table, index: u32) -> Option<usize> {
        let row = match index.checked_sub(1) {
            None => 0,
            Some(before) => self.row_behind(table, before),
        };
        (row < self.rows(table) && self.index(table, row) == index).then_some(row)
    }

    /// The first row whose index is above `index`; it may be behind the last.
    fn row_behind(&self, table: Table, index: u32) -> usize {
        let row = match table {
            Table::Scalar => 1,
            Table::Chassis | Table::Storage => index,
            Table::Processors => index.saturating_add(1).saturating_sub(FIRST_PROCESSOR),
            Table::Interfaces => self.if_row_behind(index),
        };
        count(row)
    }

    /// ifIndex of a row. Rows behind the last, of an endless table, count on.
    fn if_index(&self, row: u32) -> u32 {
        let ports = self.agent.port_count();
        if row >= ports {
            let beyond = row - ports + 1;
            return self.if_index(ports - 1).saturating_add(beyond);
        }
        let (segment, place) = self.agent.segment(row);
        segment.first_index + place * segment.index_step + self.index_shift()
    }

    fn if_row_behind(&self, index: u32) -> u32 {
        let index = index.checked_sub(self.index_shift());
        let Some(index) = index else { return 0 };
        let mut row = 0;
        let mut last = 0;
        for segment in &*self.agent.segments {
            if index < segment.first_index {
                return row;
            }
            let place = (index - segment.first_index) / segment.index_step + 1;
            if place < segment.count {
                return row + place;
            }
            row += segment.count;
            last = segment.first_index + (segment.count - 1) * segment.index_step;
        }
        row.saturating_add(index - last)
    }

    /// A lone interface cannot change places, so its number moves on.
    fn index_shift(&self) -> u32 {
        if self.agent.port_count() == 1 {
            self.condition.reindexed
        } else {
            0
        }
    }

    /// The port in `row`: after each re-index, that of the row before.
    fn port_in(&self, row: u32) -> u32 {
        let ports = self.agent.port_count();
        (row % ports + ports - self.condition.reindexed % ports) % ports
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the objects hold.
impl Snapshot<'_> {
    /// sysUpTime at `instant`, in hundredths of a second; wraps after 497 days.
    fn ticks(&self, instant: Timestamp) -> u32 {
        low32(instant.0.saturating_sub(self.condition.boot.0) / 10)
    }

    fn seconds(&self) -> f64 {
        self.now.0 as f64 / 1_000.0
    }

    fn system(&self, part: u32) -> Value {
        let agent = self.agent;
        match part {
            1 => text(&agent.platform.descr.replace("{name}", &agent.name)),
            2 => Value::ObjectId(agent.platform.object_id.to_vec()),
            3 => Value::TimeTicks(self.ticks(self.now)),
            4 => text("noc@example.net"),
            5 => text(&agent.name),
            6 => text(&agent.location),
            _ => Value::Integer(agent.platform.services),
        }
    }

    fn interface(&self, part: u32, row: u32) -> Value {
        let port = self.port_in(row);
        let (segment, _) = self.agent.segment(port);
        match part {
            1 => Value::Integer(i64::from(self.if_index(row))),
            2 => text(&self.agent.if_descr(port)),
            3 => Value::Integer(i64::from(segment.kind)),
            4 => Value::Integer(i64::from(segment.mtu)),
            5 => Value::Gauge32(gauge32(segment.speed_mbps * 1_000_000)),
            6 => self.physical_address(port),
            7 => Value::Integer(if self.standing(port) == Standing::Disabled {
                2
            } else {
                1
            }),
            8 => Value::Integer(if self.standing(port) == Standing::Up {
                1
            } else {
                2
            }),
            9 => Value::TimeTicks(self.ticks(self.condition.changed(port))),
            10 => Value::Counter32(low32(self.octets(port, Way::In))),
            11 => Value::Counter32(low32(self.count(port, Port::unicast, Way::In))),
            12 => Value::Counter32(low32(self.non_unicast(port, Way::In))),
            13 => Value::Counter32(low32(self.count(port, Port::discards, Way::In))),
            14 => Value::Counter32(low32(self.count(port, Port::errors, Way::In))),
            16 => Value::Counter32(low32(self.octets(port, Way::Out))),
            17 => Value::Counter32(low32(self.count(port, Port::unicast, Way::Out))),
            18 => Value::Counter32(low32(self.non_unicast(port, Way::Out))),
            19 => Value::Counter32(low32(self.count(port, Port::discards, Way::Out))),
            20 => Value::Counter32(low32(self.count(port, Port::errors, Way::Out))),
            21 => Value::Gauge32(0),
            22 => Value::ObjectId(vec![0, 0]),
            // ifInUnknownProtos
            _ => Value::Counter32(0),
        }
    }

    fn interface_x(&self, part: u32, row: u32) -> Value {
        let port = self.port_in(row);
        let (segment, _) = self.agent.segment(port);
        let short = |counted| Value::Counter32(low32(counted));
        match part {
            1 => text(&self.agent.if_name(port)),
            2 => short(self.count(port, Port::multicast, Way::In)),
            3 => short(self.count(port, Port::broadcast, Way::In)),
            4 => short(self.count(port, Port::multicast, Way::Out)),
            5 => short(self.count(port, Port::broadcast, Way::Out)),
            6 => Value::Counter64(self.octets(port, Way::In)),
            7 => Value::Counter64(self.count(port, Port::unicast, Way::In)),
            8 => Value::Counter64(self.count(port, Port::multicast, Way::In)),
            9 => Value::Counter64(self.count(port, Port::broadcast, Way::In)),
            10 => Value::Counter64(self.octets(port, Way::Out)),
            11 => Value::Counter64(self.count(port, Port::unicast, Way::Out)),
            12 => Value::Counter64(self.count(port, Port::multicast, Way::Out)),
            13 => Value::Counter64(self.count(port, Port::broadcast, Way::Out)),
            14 => Value::Integer(1),
            15 => Value::Gauge32(gauge32(segment.speed_mbps)),
            16 => Value::Integer(2),
            17 => Value::Integer(if segment.role == Role::Internal { 2 } else { 1 }),
            18 => text(&self.agent.alias(port)),
            _ => Value::TimeTicks(
                self.condition
                    .discontinuity(port)
                    .map_or(0, |at| self.ticks(at)),
            ),
        }
    }

    fn physical_address(&self, port: u32) -> Value {
        let (segment, _) = self.agent.segment(port);
        if segment.role == Role::Internal {
            Value::OctetString(Vec::new())
        } else {
            Value::OctetString(self.agent.mac(port))
        }
    }

    fn standing(&self, port: u32) -> Standing {
        self.condition.standing(port, self.agent.standing(port))
    }

    fn active(&self, port: u32, life: &Port, now: Timestamp) -> Active {
        self.condition.active(port, life.standing(), now)
    }

    fn count(&self, port: u32, counter: fn(&Port, Way, Active) -> u64, way: Way) -> u64 {
        let life = self.agent.port(port);
        counter(&life, way, self.active(port, &life, self.now))
    }

    fn non_unicast(&self, port: u32, way: Way) -> u64 {
        self.count(port, Port::multicast, way) + self.count(port, Port::broadcast, way)
    }

    fn octets(&self, port: u32, way: Way) -> u64 {
        let life = self.agent.port(port);
        let counted = |now| life.octets(way, self.active(port, &life, now));
        match self.condition.wrapped {
            Some((at, width)) if self.condition.discontinuity(port) == Some(at) => {
                let before = counted(at);
                let soon = counted(Timestamp(at.0 + WRAP_ROOM_MS));
                let since = counted(self.now).saturating_sub(before);
                near_end(before, soon.saturating_sub(before), width).wrapping_add(since)
            }
            _ => counted(self.now),
        }
    }

    fn host_system(&self, part: u32) -> Value {
        match part {
            1 => Value::TimeTicks(self.ticks(self.now)),
            5 => Value::Gauge32(1),
            6 => Value::Gauge32(120 + low32(mix(self.agent.seed, 30) % 90)),
            _ => Value::Integer(0),
        }
    }

    fn storage(&self, part: u32, row: u32) -> Value {
        let platform = self.agent.platform;
        let disk = row
            .checked_sub(1)
            .and_then(|row| platform.disks.get(count(row)));
        let (descr, kind, unit, size) = match disk {
            Some(disk) => (disk.descr, disk.kind, disk.unit_bytes, disk.units),
            None => ("Physical memory", 2, 1_024, platform.memory_mib * 1_024),
        };
        match part {
            1 => Value::Integer(i64::from(row) + 1),
            2 => Value::ObjectId(vec![1, 3, 6, 1, 2, 1, 25, 2, 1, kind]),
            3 => text(descr),
            4 => Value::Integer(i64::from(unit)),
            5 => Value::Integer(i64::from(size)),
            6 => Value::Integer(i64::from(gauge32(self.storage_used(row, size)))),
            _ => Value::Counter32(0),
        }
    }

    /// Memory breathes; a disk fills by a tenth over weeks and is cleaned up.
    fn storage_used(&self, row: u32, size: u32) -> u64 {
        let seed = mix(self.agent.seed, 40 + u64::from(row));
        let steady = between(seed, 1, 0.30, 0.72);
        let (share, period) = if row == 0 { (0.06, 600.0) } else { (0.10, 2e6) };
        whole(f64::from(size) * (steady + share * wander(seed, self.seconds(), period)))
    }

    fn host_device(&self, part: u32, row: u32) -> Value {
        match part {
            1 => Value::Integer(i64::from(FIRST_PROCESSOR + row)),
            2 => Value::ObjectId(vec![1, 3, 6, 1, 2, 1, 25, 3, 1, 3]),
            3 => text(&format!("{} CPU {row}", self.agent.platform.vendor)),
            4 => Value::ObjectId(vec![0, 0]),
            5 => Value::Integer(2),
            _ => Value::Counter32(0),
        }
    }

    fn processor(&self, part: u32, row: u32) -> Value {
        match part {
            1 => Value::ObjectId(vec![0, 0]),
            _ => Value::Integer(i64::from(gauge32(self.load(row)))),
        }
    }

    /// Percent busy: steady, with work that comes and goes.
    fn load(&self, row: u32) -> u64 {
        let seed = mix(self.agent.seed, 60 + u64::from(row));
        let steady = between(self.agent.seed, 50, 3.0, 30.0);
        let slow = 20.0 * wander(seed, self.seconds(), 600.0) * unit(seed, 1);
        let quick = 12.0 * wander(mix(seed, 2), self.seconds(), 30.0);
        whole(steady + slow + quick).min(100)
    }

    fn chassis(&self, part: u32) -> Value {
        let platform = self.agent.platform;
        match part {
            2 => text(&format!("{} {}", platform.vendor, platform.model)),
            3 => Value::ObjectId(platform.object_id.to_vec()),
            4 => Value::Integer(0),
            5 => Value::Integer(3),
            6 => Value::Integer(-1),
            7 => text("Chassis"),
            10 => text(platform.os),
            11 => text(&format!("SIM{:08X}", low32(mix(self.agent.seed, 70)))),
            12 => text(platform.vendor),
            13 => text(platform.model),
            16 => Value::Integer(1),
            // revisions, alias and asset tag: nobody entered them
            _ => text(""),
        }
    }
}

/// A counter that stands `room` octets before its end.
fn near_end(before: u64, room: u64, width: WrapWidth) -> u64 {
    match width {
        WrapWidth::Bits64 => 0_u64.wrapping_sub(room.max(1)),
        // above 2^31 the low half would not be near its end any more
        WrapWidth::Bits32 => (before | 0xffff_ffff) + 1 - room.clamp(1, 1 << 31),
    }
}

fn text(text: &str) -> Value {
    Value::OctetString(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fault::Fault;
    use crate::platform::{CATALYST_9300, NEXUS_9300};

    const NOW: Timestamp = Timestamp(1_795_230_000_000);

    fn agent(platform: &'static Platform) -> Agent {
        Agent {
            name: "sw-1".into(),
            location: "rack 1".into(),
            parents: vec!["dist-1".into()],
            seed: 5,
            platform,
            segments: platform.segments.into(),
        }
    }

    fn walk(snapshot: &Snapshot<'_>) -> Vec<(Vec<u32>, Value)> {
        let mut walked = Vec::new();
        let mut name = vec![1, 3];
        while let Some(place) = snapshot.next(&name) {
            snapshot.name(place, &mut name);
            assert_eq!(snapshot.get(&name), Found::Instance(place));
            walked.push((name.clone(), snapshot.value(place)));
        }
        walked
    }

    fn by_cursor(snapshot: &Snapshot<'_>) -> Vec<Vec<u32>> {
        let mut names = Vec::new();
        let mut place = snapshot.next(&[]);
        while let Some(found) = place {
            let mut name = Vec::new();
            snapshot.name(found, &mut name);
            names.push(name);
            place = snapshot.after(found);
        }
        names
    }

    fn octets_in(agent: &Agent, condition: &Condition, port: u32, now: Timestamp) -> u64 {
        let snapshot = Snapshot {
            agent,
            condition,
            now,
        };
        snapshot.octets(port, Way::In)
    }

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_walk_is_complete_and_in_order_and_the_cursor_agrees() {
        for platform in [&CATALYST_9300, &NEXUS_9300] {
            let agent = agent(platform);
            for reindexed in [0, 1, 53] {
                let mut condition = Condition::new(agent.boot(NOW));
                condition.reindexed = reindexed;
                let snapshot = Snapshot {
                    agent: &agent,
                    condition: &condition,
                    now: NOW,
                };
                let walked = walk(&snapshot);
                assert!(walked.windows(2).all(|pair| pair[0].0 < pair[1].0));
                let ports = count(agent.port_count());
                let disks = platform.disks.len();
                let processors = count(platform.processors);
                let expected = 13 + 41 * ports + 7 * (1 + disks) + 8 * processors + 15;
                assert_eq!(walked.len(), expected);
                let names: Vec<Vec<u32>> = walked.into_iter().map(|(name, _)| name).collect();
                assert_eq!(by_cursor(&snapshot), names);
            }
        }
    }

    #[test]
    fn a_lone_interface_moves_on_when_it_is_numbered_anew() {
        let mut agent = agent(&CATALYST_9300);
        agent.segments = crate::platform::uniform_segments(1).into();
        let mut condition = Condition::new(agent.boot(NOW));
        condition.reindexed = 2;
        let snapshot = Snapshot {
            agent: &agent,
            condition: &condition,
            now: NOW,
        };
        let index = [1, 3, 6, 1, 2, 1, 2, 2, 1, 1];
        assert_eq!(
            snapshot.get(&[&index[..], &[9]].concat()),
            Found::NoSuchInstance
        );
        let Found::Instance(place) = snapshot.get(&[&index[..], &[11]].concat()) else {
            panic!("ifIndex 11 is missing");
        };
        assert_eq!(snapshot.value(place), Value::Integer(11));
        assert_eq!(walk(&snapshot).len(), by_cursor(&snapshot).len());
    }

    #[test]
    fn a_seed_boots_at_the_same_instant_whenever_it_is_asked() {
        let agent = agent(&CATALYST_9300);
        let boot = agent.boot(NOW);
        assert!(NOW.since(boot) >= Duration::from_secs(3_600));
        assert_eq!(agent.boot(later(60)), boot);
    }

    #[test]
    fn counters_wrap_a_quarter_of_a_minute_after_they_were_told_to() {
        let agent = agent(&CATALYST_9300);
        let uplink = agent.find_port("Te1/1/1").unwrap();
        let boot = agent.boot(NOW);
        for width in [WrapWidth::Bits32, WrapWidth::Bits64] {
            let mut condition = Condition::new(boot);
            condition.set(&Fault::Wrap(width), None, NOW);
            let value = |seconds| octets_in(&agent, &condition, uplink, later(seconds));
            let low = |seconds| low32(value(seconds));
            assert!(low(0) > low(16), "{width:?}: the low half has not wrapped");
            assert_eq!(value(0) > value(16), width == WrapWidth::Bits64);
            let moved = value(16).wrapping_sub(value(14));
            assert!(moved < 2 * 1_250_000_000, "{width:?} moved by {moved}");
            assert_eq!(condition.discontinuity(uplink), Some(NOW));
        }
    }

    #[test]
    fn an_endless_table_goes_on_and_a_circle_comes_back() {
        let agent = agent(&CATALYST_9300);
        let mut condition = Condition::new(agent.boot(NOW));
        condition.endless = true;
        let names = |condition: &Condition| {
            let snapshot = Snapshot {
                agent: &agent,
                condition,
                now: NOW,
            };
            let mut name = vec![1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1];
            let mut names = Vec::new();
            for _ in 0..200 {
                snapshot.name(snapshot.next(&name).unwrap(), &mut name);
                names.push(name.clone());
            }
            names
        };
        let endless = names(&condition);
        assert!(endless.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(endless.iter().all(|name| name[10] == 1));

        condition.endless = false;
        condition.not_increasing = true;
        let circle = names(&condition);
        assert!(circle.windows(2).any(|pair| pair[0] >= pair[1]));
    }

    #[test]
    fn a_reindex_gives_every_index_to_another_port_and_keeps_names() {
        let agent = agent(&CATALYST_9300);
        let mut condition = Condition::new(agent.boot(NOW));
        let names = |condition: &Condition| -> Vec<Vec<u8>> {
            let snapshot = Snapshot {
                agent: &agent,
                condition,
                now: NOW,
            };
            (0..agent.port_count())
                .map(|row| match snapshot.interface_x(1, row) {
                    Value::OctetString(name) => name,
                    other => panic!("{other:?} is no name"),
                })
                .collect()
        };
        let before = names(&condition);
        condition.set(&Fault::Reindex, None, NOW);
        let after = names(&condition);
        assert!(before.iter().zip(&after).all(|(old, new)| old != new));
        let sorted = |mut names: Vec<Vec<u8>>| {
            names.sort();
            names
        };
        assert_eq!(sorted(before), sorted(after));
    }
}
