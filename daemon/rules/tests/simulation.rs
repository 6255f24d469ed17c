//! Thousands of small networks with outages, asked as the daemon asks them, and
//! what must hold in every one of them.
//!
//! The truth is known here: when each device and each agent was broken, and
//! through what it was reached. Told is compared with the truth.

mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use model::{Check, DeviceId, DownAfter, GroupKey, NotificationEvent, Timestamp};
use rules::Verdict;
use story::{Site, Teller, at, down_after, silence};

/// Of each kind. A run is a thousand polls or two.
const RUNS: u64 = 700;

/// Milliseconds.
type Ms = u64;

/// An outage in which a way to the device was open for this many intervals must
/// be told: three rounds, the same again for a recovery on the way, one for a
/// parent that does not say anything, and one for the polls themselves.
const LONG: Ms = 8;

/// Time between two polls; every second one, in some networks, for half of the
/// devices.
const EVERY: Ms = 30_000;

/// The last outage is over by then,
const QUIET: Ms = 1_800_000;

/// and all is told by then.
const END: Ms = QUIET + 300_000;

/// A probe that is not answered is given up after this.
const TIMEOUT: Ms = 1_000;

/// Between two of a round's five probes.
const GAP: Ms = 200;

/// SplitMix64: the same in every run of every build.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % below
    }

    fn place(&mut self, below: usize) -> usize {
        let place = self.roll(below as u64);
        usize::try_from(place).expect("it is below a usize")
    }
}

/// What really happens.
struct Truth {
    /// By device, from the root down: its parents.
    parents: Vec<Vec<usize>>,
    /// By device: time between two polls.
    every: Vec<Ms>,
    /// By device: when it is broken itself.
    broken: Vec<Vec<Range<Ms>>>,
    /// By device: when its agent is.
    agent_broken: Vec<Vec<Range<Ms>>>,
    /// When something changes, from 0 on,
    moments: Vec<Ms>,
    /// and, from each of these on and by device, whether there is a way to it.
    ways: Vec<Vec<bool>>,
}

impl Truth {
    fn new(dice: &mut Dice) -> Truth {
        let devices = 2 + dice.place(10);
        let parents = (0..devices).map(|device| {
            let mut parents = BTreeSet::new();
            // one root in most networks, redundancy in many
            for _ in 0..=dice.roll(2) {
                if device > 0 && dice.roll(8) > 0 {
                    parents.insert(dice.place(device));
                }
            }
            parents.into_iter().collect()
        });
        let mut truth = Truth {
            parents: parents.collect(),
            every: vec![EVERY; devices],
            broken: (0..devices).map(|_| outages(dice, 3)).collect(),
            agent_broken: (0..devices).map(|_| outages(dice, 2)).collect(),
            moments: Vec::new(),
            ways: Vec::new(),
        };
        if dice.roll(3) == 0 {
            for every in &mut truth.every {
                *every *= 1 + dice.roll(2);
            }
        }
        let ends = truth.broken.iter().flatten().flat_map(|o| [o.start, o.end]);
        let moments: BTreeSet<Ms> = ends.chain([0]).collect();
        truth.ways = moments.iter().map(|when| truth.ways_at(*when)).collect();
        truth.moments = moments.into_iter().collect();
        truth
    }

    /// By device, whether something on the way is not broken, all the way.
    fn ways_at(&self, when: Ms) -> Vec<bool> {
        let mut ways: Vec<bool> = Vec::new();
        for parents in &self.parents {
            let opens = |p: &usize| ways[*p] && !self.is_broken(*p, when);
            ways.push(parents.is_empty() || parents.iter().any(opens));
        }
        ways
    }

    fn slowest(&self) -> Ms {
        self.every.iter().copied().max().unwrap_or(EVERY)
    }

    fn is_broken(&self, device: usize, when: Ms) -> bool {
        self.broken[device].iter().any(|o| o.contains(&when))
    }

    fn has_a_way(&self, device: usize, when: Ms) -> bool {
        let begun = self.moments.partition_point(|moment| *moment <= when);
        self.ways[begun - 1][device]
    }

    fn is_reached(&self, device: usize, when: Ms) -> bool {
        !self.is_broken(device, when) && self.has_a_way(device, when)
    }

    /// Whether, for all of `span`, there was a way to the device.
    fn had_a_way_for(&self, device: usize, span: Range<Ms>) -> bool {
        let changes = self.moments.iter().filter(|moment| span.contains(moment));
        let mut moments = changes.chain([&span.start]);
        moments.all(|when| self.has_a_way(device, *when))
    }
}

/// Up to so many, of 10 seconds to 15 minutes.
fn outages(dice: &mut Dice, most: u64) -> Vec<Range<Ms>> {
    let mut from = 100_000;
    let mut outages = Vec::new();
    for _ in 0..dice.roll(most + 1) {
        let start = from + dice.roll(400_000);
        let longest = if dice.roll(3) == 0 { 60_000 } else { 900_000 };
        let end = (start + 10_000 + dice.roll(longest)).min(QUIET);
        if start + 10_000 < end {
            outages.push(start..end);
        }
        from = end + 20_000;
    }
    outages
}

/// What can happen next, in the order of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// It is the group's turn.
    Turn(GroupKey),
    /// The poll that was asked for begins.
    Asked(GroupKey),
    /// The poll that began then is over.
    Over(GroupKey, Ms),
    Restart,
}

/// A daemon around the engine: one poll in flight per group, and those that are
/// asked for as soon as possible.
struct Daemon<'a> {
    truth: &'a Truth,
    dice: Dice,
    teller: Teller,
    queue: BTreeSet<(Ms, u64, Happens)>,
    in_flight: BTreeSet<GroupKey>,
    again: BTreeSet<GroupKey>,
    told: Vec<(Ms, usize, Check, NotificationEvent)>,
    log: Vec<String>,
}

impl<'a> Daemon<'a> {
    fn new(truth: &'a Truth, seed: u64, in_step: bool, restarts: bool) -> Daemon<'a> {
        let names: Vec<String> = (0..truth.parents.len()).map(|d| format!("d{d}")).collect();
        let mut site = Site::new(&[]);
        for (device, parents) in truth.parents.iter().enumerate() {
            let parents: Vec<&str> = parents.iter().map(|p| names[*p].as_str()).collect();
            site.add(&names[device], &parents);
        }
        let rounds = DownAfter::Rounds(2 + u32::from(seed.is_multiple_of(2)));
        let site = site
            .with(down_after("device-down", Check::Icmp, rounds))
            .with(down_after("agent", Check::Snmp, rounds));
        let mut teller = Teller::new(site, at(0));
        for (device, every) in truth.every.iter().enumerate() {
            let id = DeviceId(device as u64 + 1);
            teller.intervals.insert(id, Duration::from_millis(*every));
        }
        teller.restart(at(0));
        let mut daemon = Daemon {
            truth,
            dice: Dice(seed),
            teller,
            queue: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            again: BTreeSet::new(),
            told: Vec::new(),
            log: Vec::new(),
        };
        for device in 0..truth.parents.len() {
            for check in Check::ALL {
                let phase = if in_step {
                    1_000
                } else {
                    daemon.dice.roll(EVERY)
                };
                let device = DeviceId(device as u64 + 1);
                daemon.plan(phase, Happens::Turn(GroupKey { device, check }));
            }
        }
        for _ in 0..if restarts { 4 } else { 0 } {
            let when = daemon.dice.roll(QUIET);
            daemon.plan(when, Happens::Restart);
        }
        daemon
    }

    /// What happens at the same time happens in an order that the dice give.
    fn plan(&mut self, when: Ms, what: Happens) {
        let order = self.dice.roll(1 << 32);
        self.queue.insert((when, order, what));
    }

    fn run(&mut self) {
        while let Some((when, _, what)) = self.queue.pop_first() {
            if when > END {
                break;
            }
            self.tick_until(when);
            match what {
                Happens::Turn(group) => {
                    let every = self.truth.every[place(group.device)];
                    self.plan(when + every, Happens::Turn(group));
                    self.begin(group, when);
                }
                Happens::Asked(group) => {
                    if self.in_flight.contains(&group) {
                        self.again.insert(group);
                    } else {
                        self.begin(group, when);
                    }
                }
                Happens::Over(group, began) => self.over(group, began, when),
                Happens::Restart => {
                    self.in_flight.clear();
                    self.again.clear();
                    self.queue
                        .retain(|(_, _, what)| matches!(what, Happens::Turn(_) | Happens::Restart));
                    let verdict = self.teller.restart(stamp(when));
                    self.log.push(format!("{when} restart"));
                    self.take(&verdict, when);
                }
            }
        }
    }

    fn tick_until(&mut self, when: Ms) {
        while let Some(due) = self.teller.engine.wake().filter(|due| *due <= stamp(when)) {
            let verdict = self.teller.tick(due);
            self.take(&verdict, due.0 - at(0).0);
        }
    }

    fn begin(&mut self, group: GroupKey, when: Ms) {
        if self.in_flight.insert(group) {
            let over = when + self.took(group, when);
            self.plan(over, Happens::Over(group, when));
        }
    }

    fn answers(&self, group: GroupKey, began: Ms) -> bool {
        let device = place(group.device);
        let agent = &self.truth.agent_broken[device];
        (0..5).map(|probe| began + probe * GAP).any(|when| {
            let well = group.check == Check::Icmp || !agent.iter().any(|o| o.contains(&when));
            well && self.truth.is_reached(device, when)
        })
    }

    fn took(&self, group: GroupKey, began: Ms) -> Ms {
        4 * GAP
            + if self.answers(group, began) {
                5
            } else {
                TIMEOUT
            }
    }

    fn over(&mut self, group: GroupKey, began: Ms, when: Ms) {
        self.in_flight.remove(&group);
        let failure = if self.answers(group, began) {
            None
        } else {
            silence()
        };
        let took = Duration::from_millis(when - began);
        let verdict = self
            .teller
            .report(group, stamp(began), took, failure, None, stamp(when));
        self.take(&verdict, when);
        if self.again.remove(&group) {
            self.begin(group, when);
        }
    }

    fn take(&mut self, verdict: &Verdict, when: Ms) {
        for group in &verdict.probe {
            let later = when + self.dice.roll(300);
            self.plan(later, Happens::Asked(*group));
        }
        for (alert, event, _) in &verdict.tell {
            let check = match alert.rule.0.as_str() {
                "agent" => Check::Snmp,
                _ => Check::Icmp,
            };
            let device = place(alert.device);
            self.told.push((when, device, check, *event));
            let line = format!("{when} d{device} {check:?} {event:?}: {}", alert.summary);
            self.log.push(line);
        }
    }
}

/// Device 1 is in place 0.
fn place(device: DeviceId) -> usize {
    usize::try_from(device.0 - 1).expect("there are a dozen")
}

fn stamp(when: Ms) -> Timestamp {
    at(0).plus(Duration::from_millis(when))
}

/// By device and check, from when to when it was told to be broken.
type Spans = BTreeMap<(usize, Check), Vec<Range<Ms>>>;

/// What was told, if each FIRING is followed by one RESOLVED.
fn spans(daemon: &Daemon<'_>) -> Result<Spans, String> {
    let mut open = BTreeMap::new();
    let mut spans = Spans::new();
    for &(when, device, check, event) in &daemon.told {
        let what = (device, check);
        if event == NotificationEvent::Firing {
            if open.insert(what, when).is_some() {
                return Err(format!("{when}: {what:?} told twice"));
            }
        } else {
            let from = open.remove(&what);
            let from = from.ok_or(format!("{when}: {what:?} resolved, never fired"))?;
            spans.entry(what).or_default().push(from..when);
        }
    }
    if open.is_empty() {
        Ok(spans)
    } else {
        Err(format!("never resolved: {open:?}"))
    }
}

/// Compares what was told with the truth.
fn check(truth: &Truth, daemon: &Daemon<'_>) -> Result<(), String> {
    let spans = spans(daemon)?;
    if let Some(alert) = daemon
        .teller
        .stored
        .values()
        .find(|alert| alert.state.word() != "resolved")
    {
        return Err(format!("still open when all is well: {alert:?}"));
    }
    for (&(device, check), told) in &spans {
        for span in told {
            let broken = match check {
                Check::Icmp => &truth.broken[device],
                Check::Snmp => &truth.agent_broken[device],
            };
            // it was broken itself at some time of the silence that was told
            let silence = silent_since(truth, device, check, span.start)..span.start;
            if !broken
                .iter()
                .any(|o| o.start < silence.end && silence.start < o.end)
            {
                return Err(format!(
                    "{span:?}: d{device} {check:?} was never broken itself"
                ));
            }
        }
    }
    for (device, outages) in truth.broken.iter().enumerate() {
        let none = Vec::new();
        let told = spans.get(&(device, Check::Icmp)).unwrap_or(&none);
        for outage in outages {
            let begun = told.iter().filter(|t| outage.contains(&t.start)).count();
            if begun > 1 {
                return Err(format!("{outage:?}: d{device} was told {begun} times"));
            }
            let covered = told
                .iter()
                .any(|t| t.start < outage.end && outage.start < t.end);
            let must_be_told = long_open_spans(outage, LONG * truth.slowest())
                .any(|span| truth.had_a_way_for(device, span));
            if must_be_told && !covered {
                return Err(format!("{outage:?}: d{device} was not told"));
            }
        }
    }
    Ok(())
}

/// Every span of the outage that is long enough to be told.
fn long_open_spans(outage: &Range<Ms>, long: Ms) -> impl Iterator<Item = Range<Ms>> + use<> {
    let last = outage.end.saturating_sub(long);
    (outage.start..last.max(outage.start))
        .step_by(10_000)
        .map(move |start| start..start + long)
}

/// When the silence that goes on at `when` began, as polls can see it.
fn silent_since(truth: &Truth, device: usize, check: Check, when: Ms) -> Ms {
    let answers = |at: Ms| {
        let agent =
            check == Check::Icmp || !truth.agent_broken[device].iter().any(|o| o.contains(&at));
        truth.is_reached(device, at) && agent
    };
    let mut since = when;
    let mut well_for = 0;
    // a return of less than an interval may fall between two polls
    while since > 0 && well_for <= truth.every[device] {
        since -= 250;
        well_for = if answers(since) { well_for + 250 } else { 0 };
    }
    since
}

fn simulate(seed: u64, in_step: bool, restarts: bool) {
    let truth = Truth::new(&mut Dice(seed));
    let mut daemon = Daemon::new(&truth, seed ^ 0x5eed, in_step, restarts);
    daemon.run();
    if let Err(problem) = check(&truth, &daemon) {
        panic!(
            "seed {seed}, in step {in_step}, restarts {restarts}: {problem}\nparents {:?}\nevery {:?}\nbroken {:#?}\nagents {:#?}\n{}",
            truth.parents,
            truth.every,
            truth.broken,
            truth.agent_broken,
            daemon.log.join("\n")
        );
    }
}

#[test]
fn each_broken_device_is_told_once_and_nothing_else_is() {
    for seed in 0..RUNS {
        simulate(seed, false, false);
    }
}

#[test]
fn so_it_is_when_all_are_polled_at_once_in_any_order() {
    for seed in RUNS..2 * RUNS {
        simulate(seed, true, false);
    }
}

#[test]
fn so_it_is_with_restarts_in_between() {
    for seed in 2 * RUNS..3 * RUNS {
        simulate(seed, seed % 2 == 0, true);
    }
}
