//! The races that make a monitor cry wolf: one fault, one notification, in
//! whatever order its signs are seen.

mod story;

use model::{Check, DownAfter};
use story::Seen::{Answers, Becomes, CannotAsk, Nothing, Restart, Silent};
use story::{Site, down_after, story, told};

fn chain() -> Site {
    Site::new(&[("core", &[]), ("sw", &["core"])])
}

fn pair() -> Site {
    Site::new(&[("a", &[]), ("b", &[]), ("sw", &["a", "b"])])
}

const NOBODY: [&str; 0] = [];

#[test]
fn a_parent_that_dies_between_polls_is_told_and_its_child_is_not() {
    // core was asked just before it died, its child just after
    let came = story(
        chain(),
        &[
            (1, "core", Answers),
            (2, "sw", Answers),
            (31, "core", Answers),
            (32, "sw", Silent),
            (33, "core", Silent),
            (61, "core", Silent),
            (62, "sw", Silent),
            (91, "core", Silent),
            (92, "sw", Silent),
            (122, "sw", Silent),
            (200, "sw", Silent),
        ],
    );
    assert_eq!(came.told, ["91 core fires, cuts off sw"]);
    assert_eq!(came.asked, ["32 ask core"]);
    assert_eq!(came.states, ["sw unreachable behind core", "core firing"]);
}

#[test]
fn a_child_that_is_polled_first_in_every_round_waits_for_its_parent() {
    let came = story(
        chain(),
        &[
            (1, "sw", Answers),
            (2, "core", Answers),
            (31, "sw", Silent),
            (32, "core", Silent),
            (61, "sw", Silent),
            (62, "core", Silent),
            (91, "sw", Silent),
            (92, "core", Silent),
            (121, "sw", Silent),
        ],
    );
    assert_eq!(came.told, ["92 core fires, cuts off sw"]);
}

#[test]
fn a_child_alone_is_told_as_soon_as_a_way_to_it_is_proven() {
    let came = story(
        chain(),
        &[
            (1, "core", Answers),
            (2, "sw", Answers),
            (32, "sw", Silent),
            (33, "core", Answers),
            (62, "sw", Silent),
            (63, "core", Answers),
            (92, "sw", Silent),
            (93, "core", Answers),
            (125, "sw", Answers),
        ],
    );
    assert_eq!(came.told, ["93 sw fires", "125 sw resolved"]);
    assert_eq!(came.asked, ["32 ask core", "92 ask core"]);
}

#[test]
fn a_parent_that_dies_after_it_was_asked_is_asked_again_before_the_child_is_told() {
    let came = story(
        chain(),
        &[
            (1, "core", Answers),
            (32, "sw", Silent),
            (33, "core", Answers),
            (62, "sw", Silent),
            (92, "sw", Silent),
            (93, "core", Silent),
            (123, "core", Silent),
            (153, "core", Silent),
        ],
    );
    assert_eq!(came.told, ["153 core fires, cuts off sw"]);
    assert_eq!(came.asked, ["32 ask core", "92 ask core"]);
}

#[test]
fn an_answer_of_the_parent_from_before_the_silence_proves_nothing() {
    let site = chain().with(down_after("device-down", Check::Icmp, DownAfter::Rounds(1)));
    let came = story(
        site,
        &[
            (31, "core", Answers),
            (31, "sw", Silent), // began with core's poll, not before it
            (33, "core", Silent),
        ],
    );
    assert_eq!(came.told, ["33 core fires, cuts off sw"]);
}

#[test]
fn a_parent_that_cannot_be_asked_is_waited_for_one_interval_and_no_longer() {
    let site = chain().with(down_after("device-down", Check::Icmp, DownAfter::Rounds(1)));
    let came = story(
        site,
        &[
            (1, "core", Answers),
            (10, "sw", Silent),
            (12, "core", CannotAsk(model::FailureKind::Local)),
            (100, "", Nothing),
        ],
    );
    assert_eq!(came.told, ["45 sw fires"]);
    assert_eq!(came.asked, ["10 ask core", "40 ask core"]);
}

#[test]
fn further_silent_rounds_do_not_prolong_the_wait_for_a_parent_that_cannot_be_asked() {
    let mut events = vec![(1, "core", Answers)];
    for round in 0..8 {
        events.push((10 + round * 30, "sw", Silent));
        events.push((
            20 + round * 30,
            "core",
            CannotAsk(model::FailureKind::Local),
        ));
    }
    // the third round is at 70; then an interval and the grace of a few seconds
    assert_eq!(told(chain(), &events), ["105 sw fires"]);
}

#[test]
fn a_parent_that_may_be_down_and_is_never_judged_again_is_not_waited_for_for_ever() {
    let mut events = vec![(9, "core", Silent)];
    for round in 0..8 {
        events.push((10 + round * 30, "sw", Silent));
        events.push((
            20 + round * 30,
            "core",
            CannotAsk(model::FailureKind::Local),
        ));
    }
    let came = story(chain(), &events);
    assert_eq!(came.told, ["140 sw fires"]);
    assert_eq!(came.asked, ["105 ask core", "135 ask core"]);
}

#[test]
fn a_parent_that_recovers_first_gives_its_child_rounds_of_its_own() {
    let outage = [
        (31, "core", Silent),
        (32, "sw", Silent),
        (61, "core", Silent),
        (62, "sw", Silent),
        (91, "core", Silent),
        (92, "sw", Silent),
        (300, "core", Answers), // sw still boots
        (301, "sw", Silent),
        (332, "sw", Silent),
    ];
    let came = story(chain(), &outage);
    assert_eq!(
        came.told,
        ["91 core fires, cuts off sw", "300 core resolved"]
    );
    assert_eq!(came.asked[0], "300 ask sw");
    assert_eq!(came.states[1], "sw pending");

    let mut comes_back = outage.to_vec();
    comes_back.push((350, "sw", Answers));
    let came = story(chain(), &comes_back);
    assert_eq!(came.told.len(), 2, "{:?}", came.told);
    assert_eq!(came.states, ["core resolved", "sw resolved"]);

    let mut stays_dead = outage.to_vec();
    stays_dead.extend([
        (362, "core", Answers),
        (363, "sw", Silent),
        (364, "core", Answers),
        (500, "sw", Answers),
    ]);
    assert_eq!(
        told(chain(), &stays_dead)[2..],
        ["364 sw fires", "500 sw resolved"]
    );
}

#[test]
fn a_round_that_began_before_the_parent_was_back_does_not_count() {
    let site = chain().with(down_after("device-down", Check::Icmp, DownAfter::Rounds(1)));
    let came = story(
        site,
        &[
            (10, "core", Silent),
            (11, "sw", Silent),
            (40, "core", Answers),
            (39, "sw", Silent), // arrives after core's answer
            (41, "core", Answers),
        ],
    );
    assert_eq!(
        came.told,
        ["10 core fires, cuts off sw", "40 core resolved"]
    );
}

#[test]
fn a_parent_that_may_be_down_is_waited_for() {
    // three rounds are over for sw, and only two for core
    let waiting = [
        (1, "core", Answers),
        (20, "sw", Silent),
        (21, "core", Silent),
        (50, "sw", Silent),
        (51, "core", Silent),
        (80, "sw", Silent),
    ];
    assert_eq!(told(chain(), &waiting), NOBODY);

    let mut hard = waiting.to_vec();
    hard.push((81, "core", Silent));
    assert_eq!(told(chain(), &hard), ["81 core fires, cuts off sw"]);

    // core answers: what sw missed until then proves nothing
    let mut soft = waiting.to_vec();
    soft.push((81, "core", Answers));
    let came = story(chain(), &soft);
    assert_eq!(came.told, NOBODY);
    assert_eq!(came.asked, ["20 ask core", "81 ask sw"]);

    let mut soft_and_well = soft.clone();
    soft_and_well.push((82, "sw", Answers));
    assert_eq!(told(chain(), &soft_and_well), NOBODY);

    let mut soft_and_dead = soft;
    soft_and_dead.extend([(82, "sw", Silent), (84, "core", Answers)]);
    let came = story(chain(), &soft_and_dead);
    assert_eq!(came.told, ["84 sw fires"]);
    assert_eq!(came.asked[2..], ["82 ask core"]);
}

#[test]
fn a_parent_that_is_disabled_proves_nothing() {
    let site = chain().change("core", |core| core.enabled = false);
    let came = story(
        site,
        &[(10, "sw", Silent), (40, "sw", Silent), (70, "sw", Silent)],
    );
    assert_eq!(came.told, ["70 sw fires"]);
    assert!(came.asked.is_empty(), "{:?}", came.asked);
}

#[test]
fn a_parent_that_is_disabled_while_it_is_down_lets_its_child_speak_for_itself() {
    let without = chain().change("core", |core| core.enabled = false);
    let came = story(
        chain(),
        &[
            (10, "core", Silent),
            (11, "sw", Silent),
            (40, "core", Silent),
            (70, "core", Silent),
            (71, "sw", Silent),
            (100, "", Becomes(without)),
            (101, "sw", Silent),
            (131, "sw", Silent),
            (161, "sw", Silent),
        ],
    );
    assert_eq!(
        came.told,
        [
            "70 core fires, cuts off sw",
            "100 core resolved",
            "161 sw fires"
        ]
    );
    assert_eq!(came.asked, ["100 ask sw"]);
    assert!(
        came.summaries[1].starts_with("device disabled; it was: no answer"),
        "{:?}",
        came.summaries
    );
}

#[test]
fn a_device_with_two_parents_is_cut_off_only_by_both() {
    let one_down = [
        (10, "a", Silent),
        (11, "sw", Silent),
        (12, "b", Answers),
        (40, "a", Silent),
        (41, "sw", Silent),
        (70, "a", Silent),
        (71, "sw", Silent),
        (72, "b", Answers),
    ];
    let came = story(pair(), &one_down);
    assert_eq!(came.told, ["70 a fires", "72 sw fires"]);

    let came = story(
        pair(),
        &[
            (10, "a", Silent),
            (11, "sw", Silent),
            (12, "b", Silent),
            (40, "a", Silent),
            (41, "sw", Silent),
            (42, "b", Silent),
            (70, "a", Silent),
            (71, "sw", Silent),
            (72, "b", Silent),
        ],
    );
    assert_eq!(came.told, ["70 a fires", "72 b fires, cuts off sw"]);
    assert!(
        came.states
            .contains(&"sw unreachable behind a b".to_owned()),
        "{:?}",
        came.states
    );
}

#[test]
fn one_of_two_parents_that_is_back_opens_a_way() {
    let came = story(
        pair(),
        &[
            (10, "a", Silent),
            (11, "b", Silent),
            (12, "sw", Silent),
            (40, "a", Silent),
            (41, "b", Silent),
            (70, "a", Silent),
            (71, "b", Silent),
            (100, "b", Answers),
            (101, "sw", Answers),
        ],
    );
    assert_eq!(
        came.told,
        ["70 a fires", "71 b fires, cuts off sw", "100 b resolved"]
    );
    assert_eq!(came.asked.last().unwrap(), "100 ask sw");
}

#[test]
fn a_child_that_was_told_stays_told_when_its_parent_goes_down() {
    let came = story(
        chain(),
        &[
            (1, "core", Answers),
            (10, "sw", Silent),
            (11, "core", Answers),
            (40, "sw", Silent),
            (70, "sw", Silent),
            (71, "core", Answers),
            (80, "core", Silent),
            (110, "core", Silent),
            (140, "core", Silent),
            (141, "sw", Silent),
            (170, "core", Answers),
            (171, "sw", Silent),
            (200, "sw", Answers),
        ],
    );
    assert_eq!(
        came.told,
        [
            "71 sw fires",
            "140 core fires",
            "170 core resolved",
            "200 sw resolved"
        ]
    );
}

#[test]
fn a_chain_of_five_is_one_notification_in_any_order() {
    let names = ["n1", "n2", "n3", "n4", "n5"];
    let site = Site::new(&[
        ("n1", &[]),
        ("n2", &["n1"]),
        ("n3", &["n2"]),
        ("n4", &["n3"]),
        ("n5", &["n4"]),
    ]);
    for shift in 0..5 {
        for deepest_first in [false, true] {
            let mut events = Vec::new();
            for round in 0..6_u64 {
                for turn in 0..5_usize {
                    let place = (turn + shift) % 5;
                    let place = if deepest_first { 4 - place } else { place };
                    let when = 10 + round * 30 + turn as u64 * 5;
                    events.push((when, names[place], Silent));
                }
            }
            let came = story(site.clone(), &events);
            assert_eq!(came.told.len(), 1, "{:?}", came.told);
            assert!(came.told[0].ends_with("n1 fires, cuts off n2 n3 n4 n5"));
            let behind = |name: &&str| {
                came.states
                    .contains(&format!("{name} unreachable behind n1"))
            };
            assert!(names[1..].iter().all(behind), "{:?}", came.states);
        }
    }
}

#[test]
fn when_the_root_is_back_the_next_broken_one_is_told_with_what_it_cuts_off() {
    let site = Site::new(&[("n1", &[]), ("n2", &["n1"]), ("n3", &["n2"])]);
    let mut events = Vec::new();
    for round in 0..4 {
        for (turn, name) in ["n3", "n2", "n1"].into_iter().enumerate() {
            events.push((10 + round * 30 + turn as u64, name, Silent));
        }
    }
    events.push((140, "n1", Answers));
    for round in 0..4 {
        events.push((141 + round * 30, "n2", Silent));
        events.push((142 + round * 30, "n1", Answers));
        events.push((143 + round * 30, "n3", Silent));
    }
    let came = story(site, &events);
    assert_eq!(
        came.told,
        [
            "72 n1 fires, cuts off n2 n3",
            "140 n1 resolved",
            "202 n2 fires, cuts off n3"
        ]
    );
    assert!(came.states.contains(&"n3 unreachable behind n2".to_owned()));
}

#[test]
fn a_restart_in_the_middle_tells_nothing_new() {
    let came = story(
        chain(),
        &[
            (10, "sw", Silent),
            (11, "core", Silent),
            (40, "sw", Silent),
            (41, "core", Silent),
            (50, "", Restart),
            (70, "sw", Silent),
            (71, "core", Silent),
            (72, "", Restart),
            (100, "sw", Silent),
            (101, "core", Silent),
            (110, "", Restart),
            (130, "core", Answers),
            (131, "sw", Answers),
        ],
    );
    assert_eq!(
        came.told,
        ["71 core fires, cuts off sw", "130 core resolved"]
    );
    assert_eq!(came.states, ["sw resolved", "core resolved"]);
}

#[test]
fn a_thousand_children_have_their_parent_asked_now_and_then() {
    let names: Vec<String> = (0..1_000).map(|n| format!("c{n}")).collect();
    let mut site = Site::new(&[("core", &[])]);
    for name in &names {
        site.add(name, &["core"]);
    }
    // all of them die by themselves within 20 seconds, and core answers
    let mut events = vec![(1, "core", Answers)];
    for (place, name) in names.iter().enumerate() {
        events.push((10 + place as u64 / 50, name.as_str(), Silent));
        if place % 50 == 49 {
            events.push((11 + place as u64 / 50, "core", Answers));
        }
    }
    let came = story(site, &events);
    assert!(came.asked.len() <= 6, "{:?}", came.asked);
}

#[test]
fn parents_in_a_circle_are_one_fault_and_no_endless_walk() {
    let site = chain()
        .change("core", |core| {
            core.parents.insert(model::DeviceId(2));
        })
        .change("sw", |sw| {
            sw.parents.insert(sw.id);
        });
    let mut events = Vec::new();
    for round in 0..5 {
        events.push((10 + round * 30, "core", Silent));
        events.push((11 + round * 30, "sw", Silent));
    }
    let came = story(site, &events);
    assert_eq!(came.told.len(), 1, "{:?}", came.told);
}

#[test]
fn a_second_slower_rule_of_a_told_device_is_held_back_while_its_parent_is_down() {
    let site = chain().with(down_after("for-long", Check::Icmp, DownAfter::Rounds(6)));
    let mut events = vec![(1, "core", Answers)];
    for round in 0..4 {
        events.push((10 + round * 30, "sw", Silent));
        events.push((11 + round * 30, "core", Answers));
    }
    for round in 4..10 {
        events.push((10 + round * 30, "sw", Silent));
        events.push((11 + round * 30, "core", Silent));
    }
    let came = story(site, &events);
    assert_eq!(
        came.told,
        ["71 sw fires", "191 core fires", "281 core/for-long fires"]
    );
    assert!(
        came.states
            .contains(&"sw/for-long unreachable behind core".to_owned()),
        "{:?}",
        came.states
    );
}
