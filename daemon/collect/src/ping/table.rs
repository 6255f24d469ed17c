//! Who is asked when, and whose answer that was: the pinger's decisions,
//! without its sockets and without its clock.
//!
//! A round is a burst of probes to one target, `gap` apart whether or not they
//! are answered. A probe in flight is known by its sequence number alone, which
//! is unique among all that are in flight; a reply counts only if it comes from
//! the probe's target.
//!
//! Three limits keep the kernel's buffers and the network from being flooded,
//! because a reply that falls out of a full buffer looks like a device that is
//! down:
//! - probes leave at most [`PROBES_PER_SECOND`], a few at a time;
//! - at most `in_flight` of them are young: sent within [`YOUNG`] and not yet
//!   answered. Older ones are not counted, or a network that is down would
//!   slow everything else: they are not expected back in one burst;
//! - the caller reads what came in after every few sends.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::{Failure, PingAnswer, Probe, Timestamp};
use tokio::sync::oneshot;

use super::PingSettings;

/// How fast probes leave: 10,000 devices with five probes each take 5 s, and a
/// gigabit port does not notice.
pub(super) const PROBES_PER_SECOND: u32 = 10_000;

/// How many may leave at once: what is due in one turn of the pinger's loop at
/// that speed, and less than the default receive buffer holds.
const BURST: u32 = 100;

/// How long a probe counts against `in_flight`. A tenth of a second is longer
/// than the way to most devices and back; at 256 in flight it lets 2,560 probes
/// a second go to dead ones.
const YOUNG: Duration = Duration::from_millis(100);

/// The shortest time an answer can have taken: what the clocks can tell.
const SHORTEST: Duration = Duration::from_nanos(1);

/// One question to the pinger.
pub(super) struct Ask {
    pub(super) target: IpAddr,
    pub(super) at: Timestamp,
    pub(super) reply: oneshot::Sender<Result<PingAnswer, Failure>>,
}

/// When a packet left or came: by the monotonic clock, and by the clock in
/// which the kernel stamps what it receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) wall: Duration,
}

/// A probe that is to be sent now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    round: usize,
    pub(super) when: Instant,
    pub(super) target: IpAddr,
    pub(super) sequence: u16,
}

struct Round {
    ask: Ask,
    wanted: u16,
    probes: Vec<Option<Probe>>,
    in_flight: u16,
    /// Why it goes no further.
    stopped: Option<Failure>,
}

/// A round's end, and who waits for it.
type Ended = (
    oneshot::Sender<Result<PingAnswer, Failure>>,
    Result<PingAnswer, Failure>,
);

struct Flight {
    round: usize,
    probe: usize,
    sent: Moment,
    is_young: bool,
}

/// What there is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Probes are due, and a limit holds them back.
    Held,
    /// Answers are awaited.
    Awaiting,
    /// Nothing, for this long.
    Idle(Duration),
    /// Nothing, until somebody asks.
    Done,
}

/// All rounds that are running.
pub(super) struct Table {
    settings: PingSettings,
    in_flight_limit: usize,
    rounds: Vec<Option<Round>>,
    free: Vec<usize>,
    /// Rounds with no probe sent, and rounds that go on; both in the order in
    /// which they are due. After a change of the gap some wait for others.
    starting: VecDeque<(Instant, usize)>,
    going_on: VecDeque<(Instant, usize)>,
    flights: HashMap<u16, Flight>,
    /// `(sent, sequence)` in the order of sending; entries of probes that were
    /// answered stay until they reach the front.
    young: VecDeque<(Instant, u16)>,
    waiting: VecDeque<(Instant, u16)>,
    young_count: usize,
    next_sequence: u16,
    ended: Vec<Ended>,
    /// The virtual time at which the next probe may leave at an even pace.
    pace: Option<Instant>,
}

impl Table {
    pub(super) fn new(settings: PingSettings, first_sequence: u16) -> Table {
        Table {
            in_flight_limit: settings.in_flight.max(1),
            settings,
            rounds: Vec::new(),
            free: Vec::new(),
            starting: VecDeque::new(),
            going_on: VecDeque::new(),
            flights: HashMap::new(),
            young: VecDeque::new(),
            waiting: VecDeque::new(),
            young_count: 0,
            next_sequence: first_sequence,
            ended: Vec::new(),
            pace: None,
        }
    }

    /// Takes new settings; rounds that are running keep their number of probes.
    pub(super) fn configure(&mut self, settings: PingSettings) {
        self.settings = settings;
    }

    /// How many young probes the settings and the receive buffers allow.
    pub(super) fn limit_in_flight(&mut self, buffers_hold: usize) {
        self.in_flight_limit = self.settings.in_flight.min(buffers_hold).max(1);
    }

    /// Starts a round.
    pub(super) fn begin(&mut self, ask: Ask, now: Instant) {
        let wanted = self.settings.probes.max(1);
        let round = Round {
            ask,
            wanted,
            probes: Vec::with_capacity(usize::from(wanted)),
            in_flight: 0,
            stopped: None,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.rounds.push(None);
            self.rounds.len() - 1
        });
        self.rounds[place] = Some(round);
        self.starting.push_back((now, place));
    }

    /// The next probe to send now; `None` if nothing is due, or a limit says
    /// wait. Whoever takes it calls one of [`Table::sent`], [`Table::unsent`]
    /// and [`Table::stop`] with it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Due> {
        loop {
            let goes_on = self.going_on.front().is_some_and(|&(when, _)| when <= now);
            let queue = if goes_on {
                &mut self.going_on
            } else {
                &mut self.starting
            };
            let &(when, place) = queue.front()?;
            let Some(round) = self.rounds.get(place).and_then(Option::as_ref) else {
                queue.pop_front();
                continue;
            };
            let target = round.ask.target;
            if round.ask.reply.is_closed() {
                queue.pop_front();
                self.give_up(place);
                continue;
            }
            if !self.may_send(now) {
                return None;
            }
            let sequence = self.free_sequence()?;
            if goes_on {
                self.going_on.pop_front();
            } else {
                self.starting.pop_front();
            }
            return Some(Due {
                round: place,
                when,
                target,
                sequence,
            });
        }
    }

    fn may_send(&mut self, now: Instant) -> bool {
        while let Some(&(sent, sequence)) = self.young.front() {
            let flight = self.flights.get_mut(&sequence);
            let flight = flight.filter(|flight| flight.sent.instant == sent && flight.is_young);
            match flight {
                Some(_) if now.saturating_duration_since(sent) < YOUNG => break,
                Some(flight) => {
                    flight.is_young = false;
                    self.young_count -= 1;
                }
                None => {}
            }
            self.young.pop_front();
        }
        let slack = Duration::from_secs(1) / PROBES_PER_SECOND * BURST;
        let is_in_pace = self.pace.is_none_or(|pace| pace <= now + slack);
        is_in_pace && self.young_count < self.in_flight_limit
    }

    /// A sequence number that no probe in flight has; `None` if all have one.
    fn free_sequence(&mut self) -> Option<u16> {
        if self.flights.len() > usize::from(u16::MAX) {
            return None;
        }
        for _ in 0..=u16::MAX {
            let candidate = self.next_sequence;
            self.next_sequence = self.next_sequence.wrapping_add(1);
            if !self.flights.contains_key(&candidate) {
                return Some(candidate);
            }
        }
        None
    }

    /// `due` left at `sent`.
    pub(super) fn sent(&mut self, due: Due, sent: Moment) {
        let interval = Duration::from_secs(1) / PROBES_PER_SECOND;
        let pace = self
            .pace
            .map_or(sent.instant, |pace| pace.max(sent.instant));
        self.pace = Some(pace + interval);

        let Some(probe) = self.add_probe(due, None) else {
            return;
        };
        let flight = Flight {
            round: due.round,
            probe,
            sent,
            is_young: true,
        };
        self.flights.insert(due.sequence, flight);
        self.young.push_back((sent.instant, due.sequence));
        self.waiting.push_back((sent.instant, due.sequence));
        self.young_count += 1;
    }

    /// The kernel knows no way to the target of `due`.
    pub(super) fn sent_nowhere(&mut self, due: Due) {
        self.add_probe(due, Some(Probe::Unreachable));
        self.finish_if_done(due.round);
    }

    /// Adds a probe to a round and plans the one after it. Returns its place.
    fn add_probe(&mut self, due: Due, fate: Option<Probe>) -> Option<usize> {
        let round = self.rounds.get_mut(due.round)?.as_mut()?;
        round.in_flight += u16::from(fate.is_none());
        round.probes.push(fate);
        if round.probes.len() < usize::from(round.wanted) {
            let next = due.when + self.settings.gap;
            self.going_on.push_back((next, due.round));
        }
        Some(round.probes.len() - 1)
    }

    /// `due` could not be sent just now, because a buffer is full: it stays due.
    pub(super) fn unsent(&mut self, due: Due) {
        self.going_on.push_front((due.when, due.round));
    }

    /// `due` could not be sent for a reason that will not go away: the round
    /// ends with the probes that were sent, or fails if there are none.
    pub(super) fn stop(&mut self, due: Due, why: Failure) {
        if let Some(Some(round)) = self.rounds.get_mut(due.round) {
            round.stopped = Some(why);
        }
        self.finish_if_done(due.round);
    }

    /// A reply with this sequence number came from `source`. Returns whether
    /// anybody waited for it.
    pub(super) fn answered(&mut self, source: IpAddr, sequence: u16, came: Moment) -> bool {
        self.land(source, sequence, |sent| {
            Probe::Answered(round_trip(sent, came))
        })
    }

    /// A router says that the probe to `target` got nowhere. Returns whether
    /// anybody waited for it.
    pub(super) fn refused(&mut self, target: IpAddr, sequence: u16) -> bool {
        self.land(target, sequence, |_| Probe::Unreachable)
    }

    fn land(&mut self, peer: IpAddr, sequence: u16, fate: impl FnOnce(Moment) -> Probe) -> bool {
        let Some(flight) = self.flights.get(&sequence) else {
            return false;
        };
        let Some(Some(round)) = self.rounds.get(flight.round) else {
            return false;
        };
        if round.ask.target != peer {
            return false;
        }
        let fate = fate(flight.sent);
        self.end_flight(sequence, fate);
        true
    }

    fn end_flight(&mut self, sequence: u16, fate: Probe) {
        let Some(flight) = self.flights.remove(&sequence) else {
            return;
        };
        self.young_count -= usize::from(flight.is_young);
        if let Some(Some(round)) = self.rounds.get_mut(flight.round) {
            round.probes[flight.probe] = Some(fate);
            round.in_flight -= 1;
        }
        self.finish_if_done(flight.round);
    }

    /// Ends the probes that have waited long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(sent, sequence)) = self.waiting.front() {
            let flight = self.flights.get(&sequence);
            let is_waiting = flight.is_some_and(|flight| flight.sent.instant == sent);
            if is_waiting && now.saturating_duration_since(sent) < self.settings.timeout {
                return;
            }
            self.waiting.pop_front();
            if is_waiting {
                self.end_flight(sequence, Probe::TimedOut);
            }
        }
    }

    fn finish_if_done(&mut self, place: usize) {
        let Some(Some(round)) = self.rounds.get(place) else {
            return;
        };
        let is_sent = round.stopped.is_some() || round.probes.len() == usize::from(round.wanted);
        if is_sent && round.in_flight == 0 {
            self.give_up(place);
        }
    }

    /// Ends a round with what is known of it.
    fn give_up(&mut self, place: usize) {
        let Some(round) = self.rounds.get_mut(place).and_then(Option::take) else {
            return;
        };
        self.free.push(place);
        let answer = match round.stopped {
            Some(why) if round.probes.is_empty() => Err(why),
            _ => Ok(PingAnswer {
                at: round.ask.at,
                target: round.ask.target,
                probes: round.probes.into_iter().flatten().collect(),
            }),
        };
        self.ended.push((round.ask.reply, answer));
    }

    /// Tells whoever asked of all rounds that have ended since the last call.
    /// All at once, because each waking of a sleeping thread costs as much as
    /// a probe.
    pub(super) fn tell(&mut self) {
        for (reply, answer) in self.ended.drain(..) {
            // whoever asked may have gone
            let _ = reply.send(answer);
        }
    }

    /// What there is to do next.
    pub(super) fn mood(&self, now: Instant) -> Mood {
        let starting = self.starting.front();
        let first = starting
            .into_iter()
            .chain(self.going_on.front())
            .map(|&(when, _)| when)
            .min();
        let until_due = first.map(|when| when.saturating_duration_since(now));
        match until_due {
            Some(Duration::ZERO) => Mood::Held,
            _ if !self.flights.is_empty() => Mood::Awaiting,
            Some(until_due) => Mood::Idle(until_due),
            None => Mood::Done,
        }
    }
}

/// How long an answer took: by the kernel's time stamps, so that it does not
/// matter how late we read them. Where the wall clock was set meanwhile, the
/// monotonic one decides. Never zero.
fn round_trip(sent: Moment, came: Moment) -> Duration {
    let elapsed = came.instant.saturating_duration_since(sent.instant);
    let stamped = came.wall.checked_sub(sent.wall);
    stamped
        .filter(|stamped| *stamped <= elapsed)
        .unwrap_or(elapsed)
        .max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use model::FailureKind;

    use super::*;

    const TARGET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    type Told = oneshot::Receiver<Result<PingAnswer, Failure>>;

    fn settings() -> PingSettings {
        PingSettings {
            probes: 3,
            timeout: Duration::from_secs(1),
            gap: Duration::from_millis(200),
            in_flight: 512,
            receive_buffer: 1 << 20,
        }
    }

    fn ask(table: &mut Table, target: IpAddr, now: Instant) -> Told {
        let (reply, told) = oneshot::channel();
        let at = Timestamp(7);
        table.begin(Ask { target, at, reply }, now);
        told
    }

    fn moment(instant: Instant) -> Moment {
        let wall = Duration::from_secs(1_000_000);
        Moment { instant, wall }
    }

    fn later(moment: Moment, by: Duration) -> Moment {
        Moment {
            instant: moment.instant + by,
            wall: moment.wall + by,
        }
    }

    /// Sends whatever may leave now.
    fn send_all(table: &mut Table, now: Moment) -> Vec<Due> {
        let mut sent = Vec::new();
        while let Some(due) = table.next(now.instant) {
            table.sent(due, now);
            sent.push(due);
        }
        sent
    }

    #[test]
    fn a_round_is_a_burst_that_does_not_wait_for_answers() {
        let start = moment(Instant::now());
        let mut table = Table::new(settings(), 65_535);
        let mut told = ask(&mut table, TARGET, start.instant);
        let ms = Duration::from_millis;

        let first = send_all(&mut table, start);
        assert_eq!(first.len(), 1);
        let second = send_all(&mut table, later(start, ms(200)));
        let third = send_all(&mut table, later(start, ms(400)));
        assert_eq!((second.len(), third.len()), (1, 1));

        // the second is answered, the third refused by a router, the first lost
        let came = later(start, ms(230));
        assert!(table.answered(TARGET, second[0].sequence, came));
        assert!(table.refused(TARGET, third[0].sequence));
        table.expire(start.instant + ms(999));
        table.tell();
        assert!(told.try_recv().is_err(), "the first may still be answered");
        table.expire(start.instant + ms(1_000));

        table.tell();
        let answer = told.try_recv().unwrap().unwrap();
        assert_eq!(answer.at, Timestamp(7));
        let expected = [Probe::TimedOut, Probe::Answered(ms(30)), Probe::Unreachable];
        assert_eq!(answer.probes, expected);
        assert_eq!(table.mood(start.instant), Mood::Done);
    }

    #[test]
    fn an_answer_from_elsewhere_or_after_the_end_counts_for_nothing() {
        let start = moment(Instant::now());
        let mut table = Table::new(settings(), 1);
        let mut told = ask(&mut table, TARGET, start.instant);
        let sent = send_all(&mut table, start);

        assert!(!table.answered(OTHER, sent[0].sequence, start));
        assert!(!table.answered(TARGET, sent[0].sequence.wrapping_add(1), start));
        table.expire(start.instant + Duration::from_secs(1));
        assert!(!table.answered(TARGET, sent[0].sequence, start));
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn a_round_trip_is_never_zero_and_survives_a_clock_that_is_set() {
        let sent = moment(Instant::now());
        let ms = Duration::from_millis;
        let at_once = round_trip(sent, sent);
        assert!(at_once > Duration::ZERO);
        // read 50 ms late, stamped in time
        let came = Moment {
            instant: sent.instant + ms(52),
            wall: sent.wall + ms(2),
        };
        assert_eq!(round_trip(sent, came), ms(2));
        for wall in [sent.wall - ms(3_600_000), sent.wall + ms(3_600_000)] {
            let came = Moment {
                instant: sent.instant + ms(9),
                wall,
            };
            assert_eq!(round_trip(sent, came), ms(9));
        }
    }

    #[test]
    fn no_more_leave_than_the_buffers_hold_and_dead_targets_do_not_block() {
        let mut now = moment(Instant::now());
        let mut table = Table::new(
            PingSettings {
                probes: 1,
                ..settings()
            },
            1,
        );
        table.limit_in_flight(100);
        let _told: Vec<Told> = (0..1_000)
            .map(|_| ask(&mut table, TARGET, now.instant))
            .collect();

        let mut sent = 0;
        for _ in 0..20 {
            sent += send_all(&mut table, now).len();
            now = later(now, Duration::from_millis(4));
        }
        assert_eq!(sent, 100, "none was answered within 80 ms");
        now = later(now, YOUNG);
        sent += send_all(&mut table, now).len();
        assert!(sent > 150, "silence gives the places back: {sent}");
    }

    #[test]
    fn probes_leave_at_an_even_pace() {
        let mut now = moment(Instant::now());
        let mut table = Table::new(
            PingSettings {
                probes: 1,
                in_flight: 60_000,
                ..settings()
            },
            1,
        );
        let _told: Vec<Told> = (0..5_000)
            .map(|_| ask(&mut table, TARGET, now.instant))
            .collect();
        let mut sent = 0;
        for _ in 0..100 {
            let burst = send_all(&mut table, now).len();
            assert!(burst <= 102, "{burst}");
            sent += burst;
            now = later(now, Duration::from_millis(1));
        }
        assert!((1_000..=1_110).contains(&sent), "{sent} in 100 ms");
    }

    #[test]
    fn a_round_that_cannot_be_sent_fails_and_one_that_was_begun_is_kept() {
        let now = moment(Instant::now());
        let mut table = Table::new(settings(), 1);
        let why = crate::failure(FailureKind::Permission, "no");

        let mut told = ask(&mut table, TARGET, now.instant);
        let due = table.next(now.instant).unwrap();
        table.stop(due, why.clone());
        table.tell();
        assert_eq!(told.try_recv().unwrap(), Err(why.clone()));

        let mut told = ask(&mut table, TARGET, now.instant);
        let sent = send_all(&mut table, now);
        let due = table
            .next(now.instant + Duration::from_millis(200))
            .unwrap();
        table.stop(due, why);
        assert!(table.answered(
            TARGET,
            sent[0].sequence,
            later(now, Duration::from_millis(1))
        ));
        table.tell();
        let answer = told.try_recv().unwrap().unwrap();
        assert_eq!(answer.probes.len(), 1, "only what was really sent");
    }

    #[test]
    fn a_round_nobody_waits_for_is_dropped() {
        let now = moment(Instant::now());
        let mut table = Table::new(settings(), 1);
        drop(ask(&mut table, TARGET, now.instant));
        assert!(table.next(now.instant).is_none());
        assert_eq!(table.mood(now.instant), Mood::Done);
    }

    #[test]
    fn sixty_thousand_in_flight_have_sixty_thousand_numbers() {
        let mut now = moment(Instant::now());
        let quick = PingSettings {
            probes: 1,
            in_flight: 100_000,
            ..settings()
        };
        let mut table = Table::new(quick, 500);
        let _told: Vec<Told> = (0..70_000)
            .map(|_| ask(&mut table, TARGET, now.instant))
            .collect();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            for due in send_all(&mut table, now) {
                assert!(seen.insert(due.sequence));
            }
            now = later(now, Duration::from_millis(1));
        }
        assert_eq!(seen.len(), 65_536, "and the rest waits");
    }
}
