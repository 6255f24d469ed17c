//! What goes through a port: counters as pure functions of time.
//!
//! A rate is a mean, bent by the time of day, by three wandering lines and by
//! bursts. Each of these has a closed integral, so a counter costs the same
//! after a second and after a year, nothing ticks, and two readings always
//! agree. No bend takes the rate below zero: counters never fall.

use crate::noise::{between, mix, pick, unit, wander, whole};

const DAY_SECONDS: f64 = 86_400.0;

/// Share by which the rate swings between night and day.
const DIURNAL: f64 = 0.5;

/// The wandering lines: share by which each bends the rate at most, and its
/// period in seconds. With [`DIURNAL`] they stay below 1.
const WANDERING: [(f64, f64); 3] = [(0.10, 15.0), (0.15, 120.0), (0.10, 900.0)];

/// There is one burst in each slot of this many seconds.
const BURST_SLOT_SECONDS: f64 = 1_800.0;

/// What a burst carries, as a share of what the rest of its slot carries.
const BURST_SHARE: f64 = 0.15;

/// A burst is at least this long, so that its rate stays below 10 means.
const BURST_SECONDS: (f64, f64) = (30.0, 300.0);

/// Bytes of a typical multicast or broadcast frame.
const SMALL_FRAME: u64 = 80;

/// The shape of one direction of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) seed: u64,
    /// Octets per second, in the long run and without bursts.
    pub(crate) mean: f64,
}

impl Flow {
    /// Octets from `from_ms` up to `until_ms`, both since 1970.
    pub(crate) fn octets(&self, from_ms: u64, until_ms: u64) -> u64 {
        if until_ms <= from_ms {
            return 0;
        }
        let span = seconds(until_ms - from_ms);
        let bend = self.bend(seconds(until_ms)) - self.bend(seconds(from_ms));
        whole(self.mean * ((1.0 + BURST_SHARE) * span + bend))
    }

    /// The integral of everything but the mean, as seconds of mean rate.
    fn bend(&self, at: f64) -> f64 {
        self.diurnal(at) + self.wandering(at) + self.burst(at)
    }

    /// Quiet at night, busy in the afternoon, not in the same minute everywhere.
    fn diurnal(&self, at: f64) -> f64 {
        let late = between(self.seed, 1, 0.30, 0.42);
        let turn = std::f64::consts::TAU * (at / DAY_SECONDS - late);
        -DIURNAL * DAY_SECONDS / std::f64::consts::TAU * turn.cos()
    }

    fn wandering(&self, at: f64) -> f64 {
        WANDERING
            .iter()
            .zip(2..)
            .map(|((share, period), salt)| {
                share * period * wander(mix(self.seed, salt), at, *period)
            })
            .sum()
    }

    /// A slot's burst, less the mean of all bursts, which is in the linear part.
    fn burst(&self, at: f64) -> f64 {
        let place = at / BURST_SLOT_SECONDS;
        let slot = mix(self.seed, whole(place));
        let inside = place.fract() * BURST_SLOT_SECONDS;
        let length = between(slot, 1, BURST_SECONDS.0, BURST_SECONDS.1);
        let start = unit(slot, 2) * (BURST_SLOT_SECONDS - length);
        let done = ((inside - start) / length).clamp(0.0, 1.0);
        BURST_SHARE * (BURST_SLOT_SECONDS * done - inside)
    }
}

/// What a port can carry; one that names no speed is taken for Gigabit.
fn wire_mbps(speed_mbps: u64) -> u64 {
    if speed_mbps == 0 { 1_000 } else { speed_mbps }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// What a port is for; decides how much goes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A user's or a server's port: mostly up, some of them idle.
    Access,
    /// Towards the core: up and busy.
    Uplink,
    /// Management, a VLAN: up, little traffic.
    Quiet,
    /// Not a wire: up, nothing goes through.
    Internal,
}

/// How a port stands while nobody interferes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Up,
    /// Nothing is plugged in.
    Unplugged,
    /// Switched off by an administrator.
    Disabled,
}

/// One port's life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    seed: u64,
    role: Role,
    input: Flow,
    output: Flow,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// When a port counts: both ends in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) from_ms: u64,
    pub(crate) until_ms: u64,
}

impl Active {
    fn span_ms(self) -> u64 {
        self.until_ms.saturating_sub(self.from_ms)
    }
}

impl Port {
    /// The port that `seed` stands for.
    pub(crate) fn new(seed: u64, role: Role, speed_mbps: u64) -> Port {
        let limit = wire_mbps(speed_mbps) as f64 * 1e6 / 8.0;
        let mean = match role {
            Role::Access if unit(seed, 1) < 0.25 => between(seed, 2, 20.0, 400.0),
            Role::Access => 2_000.0 * between(seed, 2, 0.0, 6.5).exp(),
            Role::Uplink => limit * between(seed, 2, 0.01, 0.07),
            Role::Quiet => between(seed, 2, 200.0, 9_000.0),
            Role::Internal => 0.0,
        };
        // bursts reach ten means: what a wire cannot carry, it does not show
        let mean = mean.min(limit * 0.08);
        let share = between(seed, 3, 0.1, 0.9);
        let flow = |salt, share: f64| Flow {
            seed: mix(seed, salt),
            mean: mean * share,
        };
        Port {
            seed,
            role,
            input: flow(4, share),
            output: flow(5, 1.0 - share),
        }
    }

    /// How it stands while nobody interferes.
    pub(crate) fn standing(&self) -> Standing {
        let drawn = unit(self.seed, 6);
        match self.role {
            Role::Access if drawn < 0.06 => Standing::Disabled,
            Role::Access if drawn < 0.30 => Standing::Unplugged,
            Role::Access | Role::Uplink | Role::Quiet | Role::Internal => Standing::Up,
        }
    }

    pub(crate) fn octets(&self, way: Way, active: Active) -> u64 {
        let small = self.multicast(way, active) + self.broadcast(way, active);
        self.flow_octets(way, active) + small * SMALL_FRAME
    }

    pub(crate) fn unicast(&self, way: Way, active: Active) -> u64 {
        let mean_frame = 220 + mix(self.seed, 7) % 900;
        self.flow_octets(way, active) / mean_frame
    }

    pub(crate) fn multicast(&self, way: Way, active: Active) -> u64 {
        self.paced(way, 8, (400, 20_000), active)
    }

    pub(crate) fn broadcast(&self, way: Way, active: Active) -> u64 {
        self.paced(way, 10, (900, 60_000), active)
    }

    /// Frames that came broken: on one port in twelve, a few an hour.
    pub(crate) fn errors(&self, way: Way, active: Active) -> u64 {
        let spoilt = pick(self.seed, 12, 12) == 0 && way == Way::In;
        if spoilt {
            self.paced(way, 13, (300_000, 4_000_000), active)
        } else {
            0
        }
    }

    /// Frames that found no room: a few in a million, where it gets tight.
    pub(crate) fn discards(&self, way: Way, active: Active) -> u64 {
        if way == Way::Out && self.role == Role::Uplink {
            self.unicast(way, active) / 400_000
        } else {
            0
        }
    }

    fn flow_octets(&self, way: Way, active: Active) -> u64 {
        let flow = match way {
            Way::In => self.input,
            Way::Out => self.output,
        };
        flow.octets(active.from_ms, active.until_ms)
    }

    /// One every so many milliseconds, drawn once between `period_ms`.
    fn paced(&self, way: Way, salt: u64, period_ms: (u64, u64), active: Active) -> u64 {
        if self.role == Role::Internal {
            return 0;
        }
        let side = u64::from(way == Way::Out);
        let width = period_ms.1 - period_ms.0;
        active.span_ms() / (period_ms.0 + mix(self.seed, salt + side) % width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T03:00:00Z.
    const START_MS: u64 = 1_795_230_000_000;

    fn flows() -> impl Iterator<Item = Flow> {
        (0..20).map(|seed| Flow {
            seed: mix(seed, 99),
            mean: 10_f64.powi(i32::try_from(seed % 9).unwrap()),
        })
    }

    #[test]
    fn counters_never_fall() {
        for flow in flows() {
            let mut last = 0;
            for step in 0..200_000 {
                let octets = flow.octets(START_MS, START_MS + step * 137);
                assert!(octets >= last, "{flow:?} fell at step {step}");
                last = octets;
            }
        }
    }

    #[test]
    fn counters_never_fall_after_a_year_either() {
        let year_ms = 365 * 86_400_000;
        for flow in flows() {
            let mut last = 0;
            for step in 0..50_000 {
                let octets = flow.octets(START_MS, START_MS + year_ms + step);
                assert!(octets >= last, "{flow:?} fell at step {step}");
                last = octets;
            }
        }
    }

    #[test]
    fn a_day_carries_the_mean_and_its_bursts() {
        for flow in flows().filter(|flow| flow.mean >= 100.0) {
            let day = flow.octets(START_MS, START_MS + 86_400_000) as f64;
            let expected = flow.mean * DAY_SECONDS * (1.0 + BURST_SHARE);
            assert!((day / expected - 1.0).abs() < 0.02, "{day} of {expected}");
        }
    }

    #[test]
    fn afternoons_are_busier_than_nights() {
        let midnight = START_MS - 3 * 3_600_000;
        let hour = |flow: &Flow, hour: u64| {
            let from = midnight + hour * 3_600_000;
            flow.octets(from, from + 3_600_000)
        };
        for flow in flows().filter(|flow| flow.mean >= 100.0) {
            assert!(hour(&flow, 14) > hour(&flow, 2), "{flow:?}");
        }
    }

    #[test]
    fn no_port_is_faster_than_its_wire() {
        for seed in 0..200 {
            let port = Port::new(mix(seed, 3), Role::Uplink, 1_000);
            for minute in 0..240 {
                let at = |minute: u64| Active {
                    from_ms: START_MS,
                    until_ms: START_MS + minute * 60_000,
                };
                let moved = port.octets(Way::In, at(minute + 1)) - port.octets(Way::In, at(minute));
                assert!(moved < 60 * 125_000_000, "{moved} octets in a minute");
            }
        }
    }

    #[test]
    fn packets_agree_with_octets() {
        let active = Active {
            from_ms: START_MS,
            until_ms: START_MS + 86_400_000,
        };
        for seed in 0..100 {
            let port = Port::new(mix(seed, 3), Role::Access, 1_000);
            let packets = port.unicast(Way::In, active)
                + port.multicast(Way::In, active)
                + port.broadcast(Way::In, active);
            let mean = port.octets(Way::In, active) / packets.max(1);
            assert!((64..=1_518).contains(&mean), "{mean} octets a packet");
        }
    }
}
