//! Deciding about what is wrong with a device beside its main check: a silent
//! agent, a value beyond its limit. While the device itself is down, or may be,
//! that is one fault and not two.

use model::{Check, DeviceId, GroupKey, Timestamp};

use crate::availability::is_ripe;
use crate::engine::Engine;
use crate::fault::Fault;
use crate::settle::{Decision, Way};
use crate::verdict::Draft;
use crate::watched::{Poll, Standing, Wait, check_judged};

impl Engine {
    /// The main check answers again. What else is wrong with the device and not
    /// told yet has to show itself anew: after an outage in all its rounds, after
    /// a short silence in one.
    pub(crate) fn doubt_side_faults(
        &mut self,
        device: DeviceId,
        before: Standing,
        answer: Poll,
        draft: &mut Draft,
    ) {
        if !self.faults.has(device) {
            return;
        }
        let Some(watched) = self.devices.get_mut(&device) else {
            return;
        };
        let mut by_silence = None;
        for &place in watched.side_rules.iter().chain(&watched.value_rules) {
            let rule = &self.rules[place];
            let Some(faults) = self.faults.of_rule_mut(device, &rule.name) else {
                continue;
            };
            for fault in faults.values_mut().filter(|fault| fault.is_pending()) {
                if fault.by_silence {
                    by_silence = check_judged(&rule.condition).or(by_silence);
                }
                if before.is_closed() {
                    fault.restart(draft.now);
                    draft.keep(fault);
                }
            }
        }
        for check in Check::ALL {
            if Some(check) == watched.main_check {
                continue;
            }
            let lost_evidence = watched.group_mut(check).doubt(answer);
            if by_silence == Some(check) && lost_evidence {
                watched.group_mut(check).asked = Some(draft.now);
                draft.probe(GroupKey { device, check });
            }
        }
    }

    /// Fires the device's ripe faults that are not about its main check, unless
    /// it is itself down or may be.
    pub(crate) fn settle_side(&mut self, device: DeviceId, draft: &mut Draft) {
        let alarm = if self.faults.has(device) {
            self.decide_side(device, draft)
        } else {
            None
        };
        self.set_alarm(device, Wait::Side, alarm);
    }

    fn decide_side(&mut self, device: DeviceId, draft: &mut Draft) -> Option<Timestamp> {
        let mut alarm = None;
        for (place, by_silence) in self.ripe_side_rules(device) {
            match self.decide_side_rule(device, place, by_silence, draft) {
                Decision::Alone => self.fire_side(device, place, by_silence, draft),
                Decision::Wait(Some(until)) => {
                    alarm = Some(alarm.map_or(until, |alarm: Timestamp| alarm.min(until)));
                }
                Decision::Wait(None) | Decision::Behind(_) => {}
            }
        }
        alarm
    }

    /// Places of rules with ripe faults, and whether those are silence.
    fn ripe_side_rules(&mut self, device: DeviceId) -> Vec<(usize, bool)> {
        let mut ripe = Vec::new();
        let Some(watched) = self.devices.get(&device) else {
            return ripe;
        };
        for &place in watched.side_rules.iter().chain(&watched.value_rules) {
            let rule = &self.rules[place];
            let Some(faults) = self.faults.of_rule_mut(device, &rule.name) else {
                continue;
            };
            for by_silence in [false, true] {
                let is_one = |f: &Fault| f.by_silence == by_silence && is_ripe(f, rule);
                if faults.values().any(is_one) {
                    ripe.push((place, by_silence));
                }
            }
        }
        ripe
    }

    /// Whether a ripe fault is told. One that was measured is, unless the device
    /// is silent otherwise; silence needs an answer of the main check after it.
    fn decide_side_rule(
        &mut self,
        device: DeviceId,
        place: usize,
        by_silence: bool,
        draft: &mut Draft,
    ) -> Decision {
        let Some(watched) = self.devices.get(&device) else {
            return Decision::Wait(None);
        };
        let Some(main) = watched.main_group() else {
            return Decision::Alone;
        };
        if watched.known.is_closed() {
            return Decision::Behind(vec![device]);
        }
        let check = check_judged(&self.rules[place].condition);
        let silence = if by_silence {
            // what a plugin judged before a restart is proven by its next verdict
            check.and_then(|check| watched.group(check).silence)
        } else if watched.known == Standing::Suspect {
            main.silence
        } else {
            return Decision::Alone;
        };
        let Some(silence) = silence else {
            return Decision::Wait(None);
        };
        let other = check.filter(|check| watched.main_check != Some(*check));
        let way = self.look_at_way(device, silence, true, draft);
        if let Some(watched) = self.devices.get_mut(&device)
            && let Some(check) = other
        {
            let waits = by_silence && matches!(way, Way::Unproven(_));
            watched.group_mut(check).set_waits(waits);
        }
        match way {
            Way::Open | Way::Unknown => Decision::Alone,
            Way::Unproven(until) => Decision::Wait(Some(until)),
            Way::Closed => Decision::Behind(vec![device]),
        }
    }

    fn fire_side(&mut self, device: DeviceId, place: usize, by_silence: bool, draft: &mut Draft) {
        if !draft.may_fire {
            return;
        }
        let rule = &self.rules[place];
        let Some(faults) = self.faults.of_rule_mut(device, &rule.name) else {
            return;
        };
        let is_told = |f: &&mut Fault| f.by_silence == by_silence && is_ripe(f, rule);
        for fault in faults.values_mut().filter(is_told) {
            draft.fire(fault, Vec::new());
        }
    }
}
