//! An alert's life: what is judged, what is told, and what a rule, a restart or
//! a clock does to it.

mod story;

use std::time::Duration;

use model::{Check, Condition, DownAfter, FailureKind, Severity};
use rules::Reachability;
use story::Seen::{
    Agent, AgentInPart, AgentSilent, Answers, Becomes, CannotAsk, ClockIsSet, Loss, Nothing,
    Restart, Silent,
};
use story::{Event, Seen, Site, Teller, above, at, down_after, story, told};

const NOBODY: [&str; 0] = [];

fn one() -> Site {
    Site::new(&[("sw", &[])])
}

fn after(after: DownAfter) -> Site {
    one().with(down_after("device-down", Check::Icmp, after))
}

/// One device, judged by its processor: above 90 % for a minute, until 80 %.
fn cpu() -> Site {
    one().with(above("cpu", "cpu_usage_ratio", 0.9, 60, Some(0.8)))
}

fn cpu_is(second: u64, busy: &'static [(&'static str, &'static str, f64)]) -> Event<'static> {
    (second, "sw", Agent(busy))
}

const BUSY: &[(&str, &str, f64)] = &[("cpu_usage_ratio", "", 0.97)];
const LESS: &[(&str, &str, f64)] = &[("cpu_usage_ratio", "", 0.85)];
const IDLE: &[(&str, &str, f64)] = &[("cpu_usage_ratio", "", 0.42)];
const GAP: &[(&str, &str, f64)] = &[("cpu_usage_ratio", "", f64::NAN)];
const GONE: &[(&str, &str, f64)] = &[("sysUpTime", "", 1.0)];

#[test]
fn a_device_is_told_once_when_it_is_down_and_once_when_it_is_back() {
    let came = story(
        one(),
        &[
            (10, "sw", Silent),
            (40, "sw", Silent),
            (70, "sw", Silent),
            (100, "sw", Silent),
            (130, "sw", Answers),
            (160, "sw", Answers),
        ],
    );
    assert_eq!(came.told, ["70 sw fires", "130 sw resolved"]);
    assert_eq!(
        came.summaries,
        [
            "no answer to 3 rounds of ICMP since 03:00:10Z: 5 probes, no answer",
            "answers ICMP again after 2m"
        ]
    );
}

#[test]
fn a_lost_round_or_two_leave_no_trace() {
    let came = story(
        one(),
        &[(10, "sw", Silent), (40, "sw", Silent), (70, "sw", Answers)],
    );
    assert_eq!(came.told, NOBODY);
    assert!(came.stored.is_empty(), "{:?}", came.stored);
}

#[test]
fn a_span_is_judged_by_the_rounds_in_it() {
    let site = after(DownAfter::Span(Duration::from_secs(60)));
    let rounds = [
        (10, "sw", Silent),
        (40, "sw", Silent),
        (69, "sw", Silent),
        (71, "sw", Silent),
    ];
    assert_eq!(told(site, &rounds), ["71 sw fires"]);
}

#[test]
fn what_says_nothing_of_the_device_neither_raises_nor_clears() {
    for kind in [
        FailureKind::Permission,
        FailureKind::Resolution,
        FailureKind::Local,
    ] {
        let cannot = |second| (second, "sw", CannotAsk(kind));
        let never = [cannot(10), cannot(40), cannot(70), cannot(100)];
        assert_eq!(told(one(), &never), NOBODY);

        let between = [
            (10, "sw", Silent),
            cannot(40),
            (70, "sw", Silent),
            (100, "sw", Silent),
            cannot(130),
            (160, "sw", Answers),
        ];
        assert_eq!(told(one(), &between), ["100 sw fires", "160 sw resolved"]);
    }
}

#[test]
fn a_report_that_comes_late_or_twice_is_ignored() {
    let mut teller = Teller::new(one(), at(0));
    let group = model::GroupKey {
        device: teller.site.id("sw"),
        check: Check::Icmp,
    };
    for (began, arrived) in [(10, 12), (10, 13), (40, 42), (5, 43), (40, 44), (70, 72)] {
        let failure = story::silence();
        teller.report(group, at(began), Duration::ZERO, failure, None, at(arrived));
    }
    // an answer from before the outage that took its time
    teller.report(group, at(9), Duration::ZERO, None, None, at(75));
    assert_eq!(teller.finish().told, ["72 sw fires"]);
}

#[test]
fn rounds_go_on_counting_after_a_restart() {
    let came = story(
        one(),
        &[
            (10, "sw", Silent),
            (40, "sw", Silent),
            (50, "", Restart),
            (70, "sw", Silent),
            (80, "", Restart),
            (100, "sw", Silent),
            (110, "", Restart),
            (130, "sw", Answers),
        ],
    );
    assert_eq!(came.told, ["70 sw fires", "130 sw resolved"]);
}

#[test]
fn a_round_that_is_handed_in_again_after_a_restart_counts_once() {
    let story_of_two = [(10, "sw", Silent), (40, "sw", Silent), (50, "", Restart)];
    let mut teller = Teller::new(one(), at(0));
    for (when, name, seen) in &story_of_two {
        teller.play(at(*when), name, seen);
    }
    let group = model::GroupKey {
        device: teller.site.id("sw"),
        check: Check::Icmp,
    };
    let failure = story::silence();
    teller.report(group, at(40), Duration::ZERO, failure, None, at(51));
    assert_eq!(teller.came.told, NOBODY);
    teller.play(at(70), "sw", &Silent);
    assert_eq!(teller.finish().told, ["70 sw fires"]);
}

#[test]
fn what_nobody_judges_any_more_ends_with_the_reason() {
    let down = [(10, "sw", Silent), (40, "sw", Silent), (70, "sw", Silent)];
    let disabled_rule = {
        let mut site = one();
        site.rules[0].enabled = false;
        site
    };
    let elsewhere = {
        let mut site = one();
        site.rules[0].selector.sites.insert("berlin".to_owned());
        site
    };
    let other_kind = one().with(above("device-down", "cpu_usage_ratio", 0.9, 0, None));
    for (becomes, reason) in [
        (one().without("device-down"), "rule removed"),
        (disabled_rule, "rule disabled"),
        (other_kind, "rule changed"),
        (elsewhere, "device no longer selected by the rule"),
        (
            one().change("sw", |sw| sw.enabled = false),
            "device disabled",
        ),
        (
            one().change("sw", |sw| sw.deleted = Some(at(80))),
            "device deleted",
        ),
        (
            one().change("sw", |sw| sw.poll.icmp.enabled = Some(false)),
            "device no longer asked by ICMP",
        ),
    ] {
        let mut events = down.to_vec();
        events.push((80, "", Becomes(becomes.clone())));
        let came = story(one(), &events);
        assert_eq!(came.told, ["70 sw fires", "80 sw resolved"], "{reason}");
        let expected = format!("{reason}; it was: no answer to 3 rounds");
        assert!(came.summaries[1].starts_with(&expected), "{came:?}");

        let pending = [(10, "sw", Silent), (80, "", Becomes(becomes))];
        let came = story(one(), &pending);
        assert_eq!(came.told, NOBODY);
        assert!(came.stored.is_empty(), "{reason}: {:?}", came.stored);
    }
}

#[test]
fn a_rule_that_is_edited_is_followed_with_the_next_round() {
    let stricter = after(DownAfter::Rounds(2));
    let came = story(
        one(),
        &[
            (10, "sw", Silent),
            (40, "sw", Silent),
            (50, "", Becomes(stricter)),
            (70, "sw", Silent),
        ],
    );
    assert_eq!(came.told, ["70 sw fires"]);

    let mut milder = after(DownAfter::Rounds(10));
    milder.rules[0].severity = Severity::Info;
    let came = story(
        one(),
        &[
            (10, "sw", Silent),
            (40, "sw", Silent),
            (70, "sw", Silent),
            (80, "", Becomes(milder)),
            (100, "sw", Silent),
        ],
    );
    assert_eq!(came.told, ["70 sw fires"]);
    let alert = came.stored.values().next().unwrap();
    assert_eq!(alert.severity, Severity::Info);
}

#[test]
fn a_value_fires_after_its_hold_and_clears_by_hysteresis() {
    let came = story(
        cpu(),
        &[
            cpu_is(10, BUSY),
            cpu_is(40, BUSY),
            cpu_is(70, BUSY),
            cpu_is(100, LESS), // below 90 %, but not below 80 %
            cpu_is(130, IDLE),
            cpu_is(160, LESS),
        ],
    );
    assert_eq!(came.told, ["70 sw/cpu fires", "130 sw/cpu resolved"]);
    assert_eq!(
        came.summaries,
        [
            "cpu_usage_ratio is 97 %, above 90 % for 1m",
            "cpu_usage_ratio is 42 %, no longer above 80 %"
        ]
    );
}

#[test]
fn a_short_spike_tells_nobody() {
    let came = story(
        cpu(),
        &[cpu_is(10, BUSY), cpu_is(40, BUSY), cpu_is(69, LESS)],
    );
    assert_eq!(came.told, NOBODY);
    assert!(came.stored.is_empty(), "{:?}", came.stored);
}

#[test]
fn a_gap_neither_raises_nor_clears() {
    let came = story(
        cpu(),
        &[
            cpu_is(10, BUSY),
            cpu_is(40, GAP),
            cpu_is(70, BUSY),
            cpu_is(100, GAP),
            cpu_is(130, GAP),
            cpu_is(160, BUSY),
            cpu_is(190, GAP),
            cpu_is(220, GONE),
            cpu_is(250, IDLE),
        ],
    );
    assert_eq!(came.told, ["70 sw/cpu fires", "250 sw/cpu resolved"]);
}

#[test]
fn a_series_that_is_gone_ends_its_alert_unless_the_device_is_silent() {
    let fires = [cpu_is(10, BUSY), cpu_is(40, BUSY), cpu_is(70, BUSY)];
    let mut gone = fires.to_vec();
    gone.extend([cpu_is(100, GONE), cpu_is(130, GONE), cpu_is(160, GONE)]);
    let came = story(cpu(), &gone);
    assert_eq!(came.told[1..], ["160 sw/cpu resolved"]);
    assert_eq!(came.summaries[1], "cpu_usage_ratio is no longer measured");

    let mut silent = fires.to_vec();
    silent.extend((4..40).map(|round| (10 + round * 30, "sw", AgentSilent)));
    assert_eq!(told(cpu(), &silent).len(), 1);

    let mut partial = fires.to_vec();
    partial.extend((4..30).map(|round| (10 + round * 30, "sw", AgentInPart(GONE))));
    assert_eq!(told(cpu(), &partial).len(), 1);
}

#[test]
fn counters_are_judged_by_their_rate_and_each_interface_by_itself() {
    const FIRST: &[(&str, &str, f64)] = &[("ifInErrors", "a", 0.0), ("ifInErrors", "b", 0.0)];
    const SECOND: &[(&str, &str, f64)] = &[("ifInErrors", "a", 600.0), ("ifInErrors", "b", 3.0)];
    const THIRD: &[(&str, &str, f64)] = &[("ifInErrors", "a", 1200.0), ("ifInErrors", "b", 903.0)];
    const CLEARED: &[(&str, &str, f64)] = &[("ifInErrors", "a", 0.0), ("ifInErrors", "b", 903.0)];
    let site = one().with(above("errors", "ifInErrors", 10.0, 0, None));
    let came = story(
        site,
        &[
            cpu_is(10, FIRST),
            cpu_is(40, SECOND),
            cpu_is(70, THIRD),
            cpu_is(100, CLEARED), // a's counter fell: a gap, not a spike and not well
            cpu_is(130, CLEARED),
        ],
    );
    assert_eq!(
        came.told,
        [
            "40 sw/errors(a) fires",
            "70 sw/errors(b) fires",
            "100 sw/errors(b) resolved",
            "130 sw/errors(a) resolved"
        ]
    );
    assert_eq!(
        came.summaries[0],
        "ifInErrors of a is 20 packets/s, above 10 packets/s"
    );
}

#[test]
fn only_series_that_carry_the_labels_are_judged() {
    const BOTH: &[(&str, &str, f64)] = &[("ifOperStatus", "a", 2.0), ("ifOperStatus", "b", 2.0)];
    let mut rule = above("uplink", "ifOperStatus", 1.0, 0, None);
    if let Condition::Threshold { labels, .. } = &mut rule.condition {
        labels.insert("interface".to_owned(), "b".to_owned());
    }
    let came = story(one().with(rule), &[cpu_is(10, BOTH)]);
    assert_eq!(came.told, ["10 sw/uplink(b) fires"]);
}

#[test]
fn a_hold_goes_on_after_a_restart() {
    let came = story(
        cpu(),
        &[
            cpu_is(10, BUSY),
            cpu_is(40, BUSY),
            (50, "", Restart),
            cpu_is(70, BUSY),
            (80, "", Restart),
            cpu_is(100, BUSY),
            cpu_is(130, IDLE),
        ],
    );
    assert_eq!(came.told, ["70 sw/cpu fires", "130 sw/cpu resolved"]);
}

fn agent_watched() -> Site {
    one().with(down_after("agent", Check::Snmp, DownAfter::Rounds(2)))
}

#[test]
fn a_silent_agent_on_a_device_that_answers_is_told() {
    let came = story(
        agent_watched(),
        &[
            (5, "sw", Answers),
            (10, "sw", AgentSilent),
            (35, "sw", Answers),
            (40, "sw", AgentSilent),
            (41, "sw", Answers),
            (65, "sw", Answers),
            (70, "sw", Agent(IDLE)),
        ],
    );
    assert_eq!(came.told, ["41 sw/agent fires", "70 sw/agent resolved"]);
    assert_eq!(came.asked, ["40 ask sw"]);
}

#[test]
fn a_silent_agent_on_a_dead_device_is_the_same_fault() {
    // the agent's rounds are over before ICMP notices anything
    let came = story(
        agent_watched(),
        &[
            (5, "sw", Answers),
            (10, "sw", AgentSilent),
            (11, "sw", Silent),
            (40, "sw", AgentSilent),
            (41, "sw", Silent),
            (70, "sw", AgentSilent),
            (71, "sw", Silent),
            (100, "sw", AgentSilent),
            (200, "sw", Answers),
            (201, "sw", AgentSilent), // it still starts
            (231, "sw", Agent(IDLE)),
        ],
    );
    assert_eq!(came.told, ["71 sw fires", "200 sw resolved"]);
    assert_eq!(came.asked, ["200 ask sw agent"]);
    assert_eq!(came.states, ["sw resolved"]);
}

#[test]
fn an_agent_that_stays_silent_after_an_outage_is_told_after_its_own_rounds() {
    let came = story(
        agent_watched(),
        &[
            (10, "sw", Silent),
            (11, "sw", AgentSilent),
            (40, "sw", Silent),
            (41, "sw", AgentSilent),
            (70, "sw", Silent),
            (100, "sw", Answers),
            (101, "sw", AgentSilent),
            (130, "sw", Answers),
            (131, "sw", AgentSilent),
            (132, "sw", Answers),
        ],
    );
    assert_eq!(
        came.told,
        ["70 sw fires", "100 sw resolved", "132 sw/agent fires"]
    );
}

#[test]
fn a_silent_agent_is_not_told_where_icmp_cannot_be_asked_until_a_bound() {
    let came = story(
        agent_watched(),
        &[
            (10, "sw", AgentSilent),
            (12, "sw", CannotAsk(FailureKind::Permission)),
            (40, "sw", AgentSilent),
            (70, "sw", AgentSilent),
            (100, "", Nothing),
        ],
    );
    assert_eq!(came.told, ["75 sw/agent fires"]);
}

#[test]
fn a_limit_on_loss_does_not_add_to_a_device_that_is_down() {
    let site = one().with(above("loss", "icmp_loss_ratio", 0.5, 0, None));
    let came = story(
        site.clone(),
        &[
            (10, "sw", Silent),
            (40, "sw", Silent),
            (70, "sw", Silent),
            (100, "sw", Loss(0.8)), // back, and lossy: its own fault
            (130, "sw", Loss(0.8)),
            (160, "sw", Loss(0.0)),
        ],
    );
    assert_eq!(
        came.told,
        [
            "70 sw fires",
            "100 sw resolved",
            "130 sw/loss fires",
            "160 sw/loss resolved"
        ]
    );
    // a round that was lost altogether and then none
    let short = [(10, "sw", Silent), (40, "sw", Loss(0.0))];
    assert_eq!(told(site, &short), NOBODY);
}

#[test]
fn a_threshold_that_was_told_is_resolved_after_an_outage_too() {
    let mut events: Vec<Event<'_>> = vec![cpu_is(10, BUSY), cpu_is(40, BUSY), cpu_is(70, BUSY)];
    events.extend((3..7).map(|round| (20 + round * 30, "sw", Silent)));
    events.extend([(300, "sw", Answers), cpu_is(310, IDLE)]);
    assert_eq!(
        told(cpu(), &events),
        [
            "70 sw/cpu fires",
            "170 sw fires",
            "300 sw resolved",
            "310 sw/cpu resolved"
        ]
    );
}

#[test]
fn a_value_measured_on_a_device_that_is_down_is_held_back() {
    // the agent answers, and a filter drops our pings
    let mut events: Vec<Event<'_>> = Vec::new();
    for round in 0..8 {
        events.push((10 + round * 30, "sw", Silent));
        events.push(cpu_is(11 + round * 30, BUSY));
    }
    events.extend([(250, "sw", Answers), cpu_is(251, BUSY)]);
    events.extend([cpu_is(281, BUSY), cpu_is(311, BUSY)]);
    assert_eq!(
        told(cpu(), &events),
        ["70 sw fires", "250 sw resolved", "311 sw/cpu fires"]
    );
}

#[test]
fn a_clock_that_jumps_ahead_makes_no_alert_of_one_sample() {
    let site = one().with(above("cpu", "cpu_usage_ratio", 0.9, 300, None));
    let came = story(
        site,
        &[
            cpu_is(10, BUSY),
            cpu_is(40, BUSY),
            (3_640, "", ClockIsSet),
            cpu_is(3_670, BUSY),
            cpu_is(3_700, IDLE),
        ],
    );
    assert_eq!(came.told, NOBODY);

    let site = after(DownAfter::Span(Duration::from_secs(300)));
    let rounds = [
        (10, "sw", Silent),
        (3_670, "sw", Silent),
        (3_700, "sw", Answers),
    ];
    assert_eq!(told(site, &rounds), NOBODY);
}

#[test]
fn a_clock_that_is_set_back_neither_fires_nor_blocks_for_an_hour() {
    let busy = |second| cpu_is(second, BUSY);
    let mut events: Vec<Event<'_>> = vec![busy(3_610), busy(3_640), (40, "", ClockIsSet)];
    events.extend([busy(70), busy(100), busy(130), busy(160)]);
    assert_eq!(told(cpu(), &events), ["130 sw/cpu fires"]);

    // rounds need no clock
    let silent = |second| (second, "sw", Silent);
    let rounds = [
        silent(3_610),
        silent(3_640),
        (40, "", ClockIsSet),
        silent(70),
    ];
    assert_eq!(told(one(), &rounds), ["70 sw fires"]);
}

#[test]
fn a_clock_that_is_set_back_does_not_let_an_old_answer_prove_a_way() {
    let chain = Site::new(&[("core", &[]), ("sw", &["core"])]);
    let came = story(
        chain,
        &[
            (3_600, "core", Answers),
            (3_601, "sw", Silent),
            (40, "", ClockIsSet),
            (61, "sw", Silent),
            (91, "sw", Silent),
            (92, "core", Silent),
            (122, "core", Silent),
            (152, "core", Silent),
        ],
    );
    assert_eq!(came.told, ["152 core fires, cuts off sw"]);
}

#[test]
fn a_machine_that_slept_while_a_parent_was_waited_for_waits_once_more() {
    let chain = Site::new(&[("core", &[]), ("sw", &["core"])]).with(down_after(
        "device-down",
        Check::Icmp,
        DownAfter::Rounds(1),
    ));
    let came = story(
        chain,
        &[
            (1, "core", Answers),
            (10, "sw", Silent),
            (3_610, "", ClockIsSet),
            (3_611, "core", Silent),
        ],
    );
    assert_eq!(came.told, ["3611 core fires, cuts off sw"]);
}

#[test]
fn reachability_says_what_is_decided() {
    let chain = Site::new(&[("core", &[]), ("sw", &["core"])]);
    let mut teller = Teller::new(chain, at(0));
    let mut see = |second, name: &str, seen: Seen| {
        teller.play(at(second), name, &seen);
        (teller.reachability("core"), teller.reachability("sw"))
    };
    use Reachability::{Down, Unknown, Unreachable, Up};
    let behind = vec![model::DeviceId(1)];
    assert_eq!(see(0, "", Nothing), (Unknown, Unknown));
    assert_eq!(see(1, "core", Answers), (Up, Unknown));
    assert_eq!(see(2, "sw", Answers), (Up, Up));
    assert_eq!(see(31, "core", Silent), (Up, Up));
    assert_eq!(see(32, "sw", Silent), (Up, Up));
    assert_eq!(see(61, "core", Silent), (Up, Up));
    assert_eq!(see(91, "core", Silent), (Down, Unreachable { behind }));
    assert_eq!(see(121, "core", Answers), (Up, Unknown));
    assert_eq!(see(122, "sw", Answers), (Up, Up));
}

#[test]
fn a_device_without_icmp_is_reached_by_its_agent() {
    let site = Site::new(&[("core", &[]), ("sw", &["core"])])
        .change("core", |core| core.poll.icmp.enabled = Some(false))
        .with(down_after("agent", Check::Snmp, DownAfter::Rounds(2)));
    let came = story(
        site,
        &[
            (1, "core", Agent(IDLE)),
            (10, "sw", Silent),
            (11, "core", AgentSilent),
            (40, "sw", Silent),
            (41, "core", AgentSilent),
            (70, "sw", Silent),
            (71, "sw", AgentSilent),
        ],
    );
    assert_eq!(came.told, ["41 core/agent fires, cuts off sw"]);
    assert_eq!(came.asked[0], "10 ask core agent");
}

#[test]
fn a_firing_alert_is_not_stored_with_every_poll() {
    let mut teller = Teller::new(one(), at(0));
    let group = model::GroupKey {
        device: teller.site.id("sw"),
        check: Check::Icmp,
    };
    let mut stored = 0;
    for round in 0..103 {
        let when = at(10 + round * 30);
        let verdict = teller.report(group, when, Duration::ZERO, story::silence(), None, when);
        stored += verdict.alerts.len();
    }
    assert_eq!(stored, 3 + 10, "three rounds, then once in five minutes");
}

/// Two devices that fall silent, `ours` of the tenant acme, judged by one rule of
/// this name.
fn of_two_tenants(rule: &str, source: model::RuleSource) -> Vec<String> {
    let site = Site::new(&[("ours", &[]), ("theirs", &[])])
        .without("device-down")
        .change("ours", |device| {
            device.tenant = model::TenantName("acme".to_owned());
        })
        .with(model::Rule {
            source,
            ..down_after(rule, Check::Icmp, DownAfter::Rounds(1))
        });
    story(site, &[(10, "ours", Silent), (10, "theirs", Silent)]).told
}

#[test]
fn a_rule_judges_its_own_tenants_devices_and_no_others() {
    use model::RuleSource::{Api, File};
    let of_acme = of_two_tenants("acme/device-down", Api);
    assert_eq!(of_acme, ["10 ours/acme/device-down fires"]);
    let of_default = of_two_tenants("device-down", Api);
    assert_eq!(of_default, ["10 theirs fires"]);
    let in_a_file = File("/etc/sotp/rules/down.toml".to_owned());
    let of_all = of_two_tenants("device-down", in_a_file);
    assert_eq!(of_all, ["10 ours fires", "10 theirs fires"]);
}
