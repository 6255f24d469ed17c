//! The lanes against services that are functions, on a clock that runs by itself.

use model::NotificationEvent::{Firing, Resolved, Test};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::desk::Desk;
use crate::words::tests::NIGHT;

/// What a plugin's service does, by the seconds since the test began.
type Service = fn(seconds: u64, plugin: &str) -> Deed;

enum Deed {
    Say(Carried),
    TakeAfter(u64),
    Hang,
    Break,
}

const TAKE: Deed = Deed::Say(Carried::Taken);

fn later(after: Option<u64>) -> Deed {
    Deed::Say(Carried::Later {
        why: "503 not now".to_owned(),
        after: after.map(Duration::from_secs),
    })
}

/// Notes each try: when, by which plugin, which delivery.
#[derive(Clone)]
struct Messenger {
    service: Service,
    began: Instant,
    tries: Arc<Mutex<Vec<(u64, String, u64)>>>,
    kicks: watch::Sender<u64>,
}

impl Courier for Messenger {
    fn carry(&self, delivery: &Delivery, rule: Option<&Rule>) -> Carrying {
        let model::Channel::Plugin { plugin } = delivery.channel.clone() else {
            panic!("mail is not a plugin's: {delivery:?}");
        };
        assert_eq!(rule.is_some(), delivery.alert.is_some());
        let second = self.began.elapsed().as_secs();
        let note = (second, plugin.clone(), delivery.id.0);
        self.tries.lock().unwrap().push(note);
        let deed = (self.service)(second, &plugin);
        Box::pin(async move {
            match deed {
                Deed::Say(carried) => carried,
                Deed::TakeAfter(seconds) => {
                    sleep(Duration::from_secs(seconds)).await;
                    Carried::Taken
                }
                Deed::Hang => std::future::pending().await,
                Deed::Break => panic!("the courier broke, as this test wants"),
            }
        })
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        Some(self.kicks.subscribe())
    }
}

/// Lanes that run.
struct Office {
    desk: Desk,
    messenger: Messenger,
    health: ChannelHealth,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Office {
    fn open(desk: &Desk, service: Service) -> Office {
        let began = Instant::now();
        let messenger = Messenger {
            service,
            began,
            tries: Arc::default(),
            kicks: watch::Sender::new(0),
        };
        let health = ChannelHealth::default();
        let stop = CancellationToken::new();
        let lanes = Lanes {
            outbox: desk.clone(),
            courier: Arc::new(messenger.clone()),
            health: health.clone(),
            clock: Arc::new(move || NIGHT.plus(began.elapsed())),
            stop: stop.clone(),
        };
        Office {
            desk: desk.clone(),
            messenger,
            health,
            stop,
            task: tokio::spawn(lanes.run()),
        }
    }

    /// Waits, for three days at most, until `is_so`.
    #[track_caller]
    fn until(&self, is_so: impl Fn(&Office) -> bool) -> impl Future<Output = ()> {
        let asked_at = std::panic::Location::caller();
        async move {
            let patience = Instant::now() + Duration::from_secs(3 * 86_400);
            while !is_so(self) {
                let seen = (self.desk.states(), self.health.status());
                assert!(Instant::now() < patience, "{asked_at}: {seen:#?}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    fn second(&self) -> u64 {
        self.messenger.began.elapsed().as_secs()
    }

    /// Deliveries of `plugin`, in the order of the tries.
    fn tried(&self, plugin: &str) -> Vec<u64> {
        let tries = self.messenger.tries.lock().unwrap();
        let of = tries.iter().filter(|(_, name, _)| name == plugin);
        of.map(|(_, _, id)| *id).collect()
    }

    fn of(&self, plugin: &str) -> ChannelStatus {
        self.health
            .status()
            .plugins
            .remove(plugin)
            .unwrap_or_default()
    }

    async fn end(self) -> u64 {
        let began = self.messenger.began;
        let ended = timeout(Duration::from_secs(86_400), self.task);
        ended.await.expect("it ends").unwrap();
        began.elapsed().as_secs()
    }
}

fn desk(plugins: &[&str]) -> Desk {
    let desk = Desk::empty();
    for plugin in plugins {
        desk.add_for(Firing, plugin);
    }
    desk
}

#[tokio::test(start_paused = true)]
async fn a_broken_service_holds_up_neither_the_others_nor_mail() {
    let desk = desk(&["slack", "pager", "slack", "pager"]);
    let mail = desk.add(Firing, "noc@x.net");
    let office = Office::open(&desk, |_, plugin| match plugin {
        "slack" => later(None),
        _ => TAKE,
    });
    office.until(|o| o.of("pager").sent == 2).await;
    assert!(office.second() < 2);
    office.until(|o| o.second() > 3_600).await;
    assert_eq!(office.tried("pager"), [2, 4]);
    let slack = office.tried("slack");
    assert!(
        (5..12).contains(&slack.len()),
        "it is not hammered: {slack:?}"
    );
    assert_eq!(
        desk.row(mail).attempts,
        0,
        "mail is left to who carries mail"
    );
    let status = office.of("slack");
    assert_eq!((status.queued, status.sent), (2, 0));
    assert!(status.failing_since.is_some() && status.next_try.is_some());
    assert_eq!(status.last_error.unwrap().1, "503 not now");
    assert_eq!(office.of("pager").queued, 0);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_everything_comes_oldest_first_and_once() {
    let desk = desk(&["slack"; 30]);
    desk.add_for(Resolved, "slack");
    let office = Office::open(&desk, |second, _| match second {
        0..1_000 => later(None),
        _ => TAKE,
    });
    office.until(|o| o.desk.are_all_delivered()).await;
    let mut tried = office.tried("slack");
    assert!(office.second() < 1_000 + 901);
    tried.dedup();
    assert_eq!(tried, (1..=31).collect::<Vec<u64>>());
    let status = office.of("slack");
    assert_eq!((status.sent, status.failing_since), (31, None));
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_the_one_that_the_service_names() {
    let desk = desk(&["discord"]);
    let office = Office::open(&desk, |second, _| match second {
        0 => later(Some(7)),
        _ => TAKE,
    });
    office.until(|o| o.desk.are_all_delivered()).await;
    assert!((7..9).contains(&office.second()), "{}", office.second());
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_parked_and_what_never_gets_through_is_parked_after_a_day() {
    let desk = desk(&["gone", "dead"]);
    let office = Office::open(&desk, |_, plugin| match plugin {
        "gone" => Deed::Say(Carried::Never {
            why: "404 no such channel".to_owned(),
        }),
        _ => later(None),
    });
    office
        .until(|o| o.desk.states() == ["parked", "parked"])
        .await;
    let second = office.second();
    assert!((86_400..86_400 + 1_000).contains(&second), "{second}");
    assert_eq!(office.tried("gone").len(), 1);
    assert!(
        desk.row(2)
            .last_error
            .unwrap()
            .contains("given up after a day")
    );
    assert_eq!(office.of("dead").parked, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_lane_carries_one_at_a_time_and_the_others_go_on() {
    let desk = desk(&["slow", "slow", "quick", "quick"]);
    let office = Office::open(&desk, |_, plugin| match plugin {
        "slow" => Deed::TakeAfter(60),
        _ => TAKE,
    });
    office.until(|o| o.of("quick").sent == 2).await;
    assert!(office.second() < 2);
    assert_eq!(office.tried("slow"), [1]);
    office.until(|o| o.desk.are_all_delivered()).await;
    assert!((120..125).contains(&office.second()));
}

#[tokio::test(start_paused = true)]
async fn a_courier_that_hangs_or_breaks_is_tried_again() {
    let desk = desk(&["hangs", "breaks"]);
    let office = Office::open(&desk, |second, plugin| match (plugin, second) {
        ("hangs", 0) => Deed::Hang,
        ("breaks", 0) => Deed::Break,
        _ => TAKE,
    });
    office.until(|o| o.of("breaks").sent == 1).await;
    assert!((60..65).contains(&office.second()), "{}", office.second());
    office.until(|o| o.of("hangs").sent == 1).await;
    assert!((200..220).contains(&office.second()), "{}", office.second());
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_enabled_gets_what_waits_at_once_and_a_test_does_not_wait() {
    let desk = desk(&["slack"]);
    let office = Office::open(&desk, |second, _| match second {
        0..1_000 => later(None),
        _ => TAKE,
    });
    office.until(|o| o.second() >= 1_001).await;
    let tries = office.tried("slack").len();
    let test = desk.add_for(Test, "slack");
    office.until(|o| o.tried("slack").contains(&test)).await;
    assert!(office.second() < 1_003);
    office.messenger.kicks.send_modify(|n| *n += 1);
    office.until(|o| o.desk.are_all_delivered()).await;
    assert!(office.second() < 1_005, "{}", office.second());
    assert_eq!(office.tried("slack").len(), tries + 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_sent_while_the_outbox_cannot_be_written() {
    let desk = desk(&["slack", "slack"]);
    desk.set_disk(Err(KeepError::TryAgain("disk full".to_owned())));
    let office = Office::open(&desk, |_, _| TAKE);
    office.until(|o| o.second() > 60).await;
    assert_eq!(office.tried("slack"), [1]);
    assert_eq!(
        office.health.status().outbox_error.as_deref(),
        Some("disk full")
    );
    desk.set_disk(Ok(()));
    office.until(|o| o.desk.are_all_delivered()).await;
    assert_eq!(office.tried("slack"), [1, 2]);
    assert_eq!(office.health.status().outbox_error, None);
}

#[tokio::test(start_paused = true)]
async fn the_stop_waits_for_what_is_in_hand_and_no_longer_than_a_few_seconds() {
    for (service, most) in [
        ((|_, _| Deed::TakeAfter(5)) as Service, 6),
        ((|_, _| Deed::Hang) as Service, 11),
        ((|_, _| later(None)) as Service, 2),
    ] {
        let desk = desk(&["slack", "slack"]);
        let office = Office::open(&desk, service);
        office.until(|o| !o.tried("slack").is_empty()).await;
        office.stop.cancel();
        let tries = Arc::clone(&office.messenger.tries);
        assert!(office.end().await <= most);
        assert_eq!(tries.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_retried_by_hand_or_comes_later_is_carried_too() {
    let desk = desk(&["slack"]);
    let office = Office::open(&desk, |second, _| match second {
        0 => Deed::Say(Carried::Never {
            why: "403".to_owned(),
        }),
        _ => TAKE,
    });
    office.until(|o| o.desk.states() == ["parked"]).await;
    office.until(|o| o.second() > 100).await;
    desk.change(1, |row| {
        row.state = model::DeliveryState::Queued { next: NIGHT }
    });
    desk.add_for(Firing, "slack");
    office.until(|o| o.desk.are_all_delivered()).await;
    assert!(office.second() < 103, "{}", office.second());
}

#[tokio::test(start_paused = true)]
async fn thousands_for_one_plugin_do_not_hide_those_behind_them() {
    let desk = Desk::empty();
    for _ in 0..300 {
        let id = desk.add_for(Firing, "odd");
        // put off often already: they hold nobody
        desk.change(id, |row| row.attempts = 50);
    }
    let last = desk.add_for(Firing, "odd");
    let office = Office::open(&desk, |_, _| later(Some(20_000)));
    office.until(|o| o.tried("odd").contains(&last)).await;
    assert!(office.second() < 5, "{}", office.second());
}
