//! The sample store beside Debian's prometheus and victoria-metrics: the same
//! samples, in the same run.
//!
//! What is ours goes in through the store's own way (append, wait for the disk)
//! within this process; the peers get it by remote_write, which is what they
//! have. So the processor time of a peer holds the decoding of HTTP, snappy and
//! protobuf too: the bars are set with that. Queries go over HTTP everywhere,
//! with JSON bodies.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::Folder;
use model::{
    Address, Breaks, By, Check, DeviceDraft, DeviceId, GroupKey, Outcome, PollReport, Timestamp,
};
use nix::sys::resource::{UsageWho, getrusage};
use store::samples::{Append, Tier};
use store::{Store, StoreOptions};

use crate::asked;
use crate::fleet::{self, number};
use crate::mix::{self, EVERY, Switch, WIDTH};
use crate::report::{Bar, Report, Value, say};
use crate::rivals::Rival;
use crate::wire::{WriteRequest, labels};

/// Switches, each with a hundred series.
const SWITCHES: u64 = 120;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;

/// Steps of a day.
const STEPS: u64 = DAY_MS / EVERY;

/// Polls of one switch in a request to a peer: 2,000 samples, as agents send.
const POLLS: u64 = 20;

/// Rows that are appended between two waits for the disk.
const BATCH: usize = 2_000;

pub(crate) fn run(report: &mut Report) {
    let folder = fleet::folder("");
    let data = Data::make(day_before(fleet::now()));
    say(&format!(
        "   {} million samples",
        data.samples() / 1_000_000
    ));
    let ours = ours(report, &folder, &data);
    let mut took = asked::Took::default();
    asked::ourselves(&mut took, &folder, data.from);
    type Start = fn(&Path) -> Rival;
    let rivals: [(Start, f64); 2] = [(Rival::prometheus, 15.0), (Rival::victoria_metrics, 4.0)];
    for (start, times) in rivals {
        let place = Folder::new();
        let rival = start(place.path());
        feed(report, &rival, &data, ours.cpu, times);
        rival.settle();
        disk(report, &rival, place.path(), &data, ours.compacted);
        asked::rival(&mut took, &rival, data.from);
    }
    took.report(report);
}

/// Midnight (UTC) of the day before `now`'s.
pub(crate) fn day_before(now: Timestamp) -> Timestamp {
    Timestamp(now.0 / DAY_MS * DAY_MS - DAY_MS)
}

/// A day of samples, made beforehand: making them must not be measured.
pub(crate) struct Data {
    pub(crate) from: Timestamp,
    /// By step, then by switch: the row's time and where its values begin.
    times: Vec<Timestamp>,
    values: Vec<f64>,
}

impl Data {
    fn make(from: Timestamp) -> Data {
        let mut switches: Vec<Switch> = (0..SWITCHES).map(Switch::new).collect();
        let rows = usize::try_from(SWITCHES * STEPS).expect("it is small");
        let mut data = Data {
            from,
            times: Vec::with_capacity(rows),
            values: Vec::with_capacity(rows * WIDTH),
        };
        for step in 0..STEPS {
            for (device, switch) in (0..).zip(&mut switches) {
                let at = mix::time(from, device, step);
                switch.next(at, EVERY, &mut data.values);
                data.times.push(at);
            }
        }
        data
    }

    pub(crate) fn samples(&self) -> usize {
        self.values.len()
    }

    fn row(&self, device: u64, step: u64) -> (Timestamp, &[f64]) {
        let place = usize::try_from(step * SWITCHES + device).expect("it is small");
        (self.times[place], &self.values[place * WIDTH..][..WIDTH])
    }
}

/// What ours took.
struct Ours {
    /// Processor time per sample, in ns.
    cpu: f64,
    /// Bytes per sample after compaction.
    compacted: f64,
}

/// Appends everything, cuts each hour, compacts the day.
fn ours(report: &mut Report, folder: &Folder, data: &Data) -> Ours {
    let store = Store::open(options(folder), data.from).expect("an empty store");
    let ids = enter(&store, SWITCHES, data.from);
    let samples = number(data.samples());
    let (began, before) = (Instant::now(), cpu_seconds());
    appended(&store, &ids, data);
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - before);
    let cpu = cpu / samples * 1e9;
    let rate = Value::new("samples.ingest", samples / took / 1e6, "million/s");
    report.add(rate.bar(Bar::AtLeast(10.0)));
    let each = Value::new("samples.ingest_cpu", cpu, "ns/sample");
    report.add(each.bar(Bar::AtMost(40.0)));
    let fresh = bytes_of(&store, Tier::Raw) / samples;
    report.add(Value::new("samples.fresh", fresh, "bytes/sample").bar(Bar::AtMost(1.2)));

    let before = cpu_seconds();
    compact(&store, Timestamp(data.from.0 + DAY_MS + HOUR_MS / 2));
    let each = (cpu_seconds() - before) / samples * 1e9;
    report.add(Value::new("samples.compaction_cpu", each, "ns/sample"));
    let compacted = bytes_of(&store, Tier::Raw) / samples;
    let value = Value::new("samples.compacted", compacted, "bytes/sample");
    report.add(value.bar(Bar::AtMost(1.05)));
    for tier in [Tier::Quarter, Tier::Hour] {
        let name = format!("samples.rollup_{}", tier.word());
        let each = bytes_of(&store, tier) / samples;
        report.add(Value::new(name, each, "bytes/raw sample"));
    }
    store.close().expect("everything reaches the disk");
    Ours { cpu, compacted }
}

/// Appends `data` while its hours are cut beside it; all of it is on the disk,
/// in segments, when this returns.
fn appended(store: &Store, ids: &[DeviceId], data: &Data) {
    let now = AtomicU64::new(data.from.0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let now = Timestamp(now.load(Ordering::Relaxed));
                store.samples().maintain(now).expect("a disk that works");
                fleet::pause(Duration::from_millis(2));
            }
        });
        append(store, ids, data, &now);
        done.store(true, Ordering::Relaxed);
    });
    store.samples().cut().expect("a disk that works");
}

fn append(store: &Store, ids: &[DeviceId], data: &Data, now: &AtomicU64) {
    let columns = mix::columns(None);
    let breaks = Breaks::None;
    let places = (0..STEPS).flat_map(|step| (0..SWITCHES).map(move |device| (step, device)));
    let places: Vec<(u64, u64)> = places.collect();
    // one batch is on its way to the disk while the next is appended
    let mut waiting = None;
    for places in places.chunks(BATCH) {
        let rows: Vec<Append<'_>> = places
            .iter()
            .map(|(step, device)| {
                let (at, values) = data.row(*device, *step);
                Append {
                    group: mix::group(ids[usize::try_from(*device).expect("it is small")]),
                    at,
                    columns: &columns,
                    values,
                    breaks: &breaks,
                    note: None,
                }
            })
            .collect();
        let newest = rows.iter().map(|row| row.at).max().unwrap_or(data.from);
        let appended = store.samples().append(&rows, newest);
        assert!(appended.refused.is_empty(), "{:?}", appended.refused[0]);
        now.store(newest.0, Ordering::Relaxed);
        tell_time(store, newest);
        if let Some(before) = waiting.replace(appended.ticket) {
            let before: store::samples::Ticket = before;
            before.durable().expect("a disk that works");
        }
    }
    if let Some(last) = waiting {
        last.durable().expect("a disk that works");
    }
}

/// Tells the store what time it is, as a poll that brought nothing would: its own
/// upkeep goes by that, and does not believe a clock that goes back and forth.
pub(crate) fn tell_time(store: &Store, at: Timestamp) {
    let Some(room) = store.try_reserve() else {
        return; // the next one will do
    };
    room.send(PollReport {
        group: GroupKey {
            device: DeviceId(1),
            check: Check::Icmp,
        },
        outcome: Outcome {
            at,
            took: Duration::ZERO,
            failure: None,
            partial: Vec::new(),
        },
        row: None,
        facts: None,
    });
}

/// Lets the store do what is due until nothing is.
pub(crate) fn compact(store: &Store, now: Timestamp) {
    while store.samples().maintain(now).expect("a disk that works") {}
}

/// What the segments of a tier take, in bytes.
pub(crate) fn bytes_of(store: &Store, tier: Tier) -> f64 {
    let stats = store.samples().stats();
    let own = stats.tiers.iter().filter(|(own, ..)| *own == tier);
    #[expect(clippy::cast_precision_loss, reason = "it is below 2^53")]
    let bytes = own.map(|(.., stats)| stats.bytes as f64).sum();
    bytes
}

/// A store as the daemon has it, without a ballast.
pub(crate) fn options(folder: &Folder) -> StoreOptions {
    StoreOptions::at(folder.store())
}

/// Enters so many devices.
pub(crate) fn enter(store: &Store, count: u64, now: Timestamp) -> Vec<DeviceId> {
    let drafts = (0..count).map(|device| {
        let address = format!(
            "127.{}.{}.{}",
            1 + (device >> 16),
            device >> 8 & 255,
            device & 255
        );
        let address: Address = address.parse().expect("an address");
        DeviceDraft {
            enabled: false,
            ..DeviceDraft::new(name_of(device), address)
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O needs nothing");
    let drafts: Vec<DeviceDraft> = drafts.collect();
    let mut ids = Vec::new();
    for drafts in drafts.chunks(1_000) {
        let created = async {
            let by = By::system();
            store.create_devices(&by, drafts.to_vec(), now).await
        };
        let created = runtime.block_on(created).expect("the store takes devices");
        ids.extend(
            created
                .into_iter()
                .map(|device| device.expect("a good draft").id),
        );
    }
    ids
}

/// A device's name, here and at the peers.
pub(crate) fn name_of(device: u64) -> String {
    format!("sw-{device:05}")
}

/// Sends the same samples to a peer, poll by poll.
fn feed(report: &mut Report, rival: &Rival, data: &Data, ours: f64, times: f64) {
    let names: Vec<Vec<Vec<u8>>> = (0..SWITCHES)
        .map(|device| encoded(&name_of(device)))
        .collect();
    let mut sender = rival.sender();
    let mut request = WriteRequest::default();
    let before = rival.cpu_seconds();
    for first in (0..STEPS).step_by(usize::try_from(POLLS).expect("it is small")) {
        for (device, names) in (0..).zip(&names) {
            for (column, labels) in names.iter().enumerate() {
                let steps = first..(first + POLLS).min(STEPS);
                let samples = steps.map(|step| {
                    let (at, values) = data.row(device, step);
                    (at, values[column])
                });
                request.add(labels, samples);
            }
            sender.send(&request.take()).expect("it takes what comes");
        }
    }
    let cpu = (rival.cpu_seconds() - before) / number(data.samples()) * 1e9;
    let name = format!("samples.cpu_beside_{}", rival.name);
    let value = Value::new(name, ours, "ns/sample").peer(rival.name, cpu);
    report.add(value.bar(Bar::OfPeer(1.0 / times)));
    let resident = crate::peers::mib(rival.resident());
    report.add(Value::new(
        format!("samples.resident_of_{}", rival.name),
        resident,
        "MiB",
    ));
}

fn encoded(device: &str) -> Vec<Vec<u8>> {
    let columns = (0..WIDTH).map(|column| {
        let (metric, port) = mix::name_of(column);
        labels(&[("__name__", metric), ("device", device), ("ifName", &port)])
    });
    columns.collect()
}

/// What the peer keeps the same samples in.
fn disk(report: &mut Report, rival: &Rival, folder: &Path, data: &Data, ours: f64) {
    let bytes = rival.stored(folder) / number(data.samples());
    let name = format!("samples.disk_beside_{}", rival.name);
    let value = Value::new(name, ours, "bytes/sample").peer(rival.name, bytes);
    report.add(value.bar(Bar::OfPeer(1.0)));
}

/// Processor time of this process so far, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the system counts it");
    let seconds = |time: nix::sys::time::TimeVal| {
        #[expect(clippy::cast_precision_loss, reason = "seconds of a benchmark")]
        let seconds = time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds
    };
    seconds(usage.user_time()) + seconds(usage.system_time())
}
