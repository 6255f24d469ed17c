//! The reconciler against a mail server that is a function, on a clock that
//! runs by itself.

use std::sync::Mutex;

use model::NotificationEvent::{Firing, Resolved, Test};
use tokio::task::JoinHandle;

use super::*;
use crate::desk::Desk;
use crate::letter::Letter;
use crate::settings::tests::settings;
use crate::settle::{Trouble, Whose};
use crate::words::tests::NIGHT;

/// The reconciler between an outbox in memory and a real line.
pub(crate) fn drain_desk(
    desk: &Desk,
    mailers: watch::Receiver<Option<Arc<Mailer>>>,
    health: &MailHealth,
    clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    stop: &CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let drain = Drain {
        outbox: desk.clone(),
        carrier: Line::default(),
        lanes: Lanes::default(),
        health: health.clone(),
        clock,
        stop: stop.clone(),
    };
    drain.run(mailers)
}

/// What the mail server does with a letter, by the seconds since the test
/// began.
type Server = fn(seconds: u64, to: &str) -> Deed;

enum Deed {
    Say(Answer),
    TakeAfter(Duration),
    Hang,
}

const TAKE: Deed = Deed::Say(Answer::Taken);

fn later(whose: Whose) -> Deed {
    Deed::Say(Answer::Later(Trouble {
        whose,
        needs_an_operator: false,
        why: "not now".to_owned(),
    }))
}

/// One try.
#[derive(Clone, Debug)]
struct Try {
    second: u64,
    from: String,
    to: String,
    message_id: String,
}

/// Carries to a [`Server`] and notes each try.
#[derive(Clone)]
struct Postman {
    server: Server,
    began: Instant,
    tries: Arc<Mutex<Vec<Try>>>,
}

impl Carrier for Postman {
    async fn carry(&mut self, _mailer: &Mailer, letter: &Letter) -> Answer {
        let second = self.began.elapsed().as_secs();
        let to = letter.to.to_string();
        let text = String::from_utf8(letter.bytes.clone()).unwrap();
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("Message-ID: "))
            .unwrap();
        let note = Try {
            second,
            from: letter.from.to_string(),
            to: to.clone(),
            message_id: id.to_owned(),
        };
        self.tries.lock().unwrap().push(note);
        match (self.server)(second, &to) {
            Deed::Say(answer) => answer,
            Deed::TakeAfter(long) => {
                sleep(long).await;
                Answer::Taken
            }
            Deed::Hang => std::future::pending().await,
        }
    }

    async fn hang_up(&mut self) {}
}

/// A running reconciler.
struct Office {
    desk: Desk,
    health: MailHealth,
    postman: Postman,
    mailers: watch::Sender<Option<Arc<Mailer>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn mailer() -> Option<Arc<Mailer>> {
    Some(Arc::new(Mailer::new(settings()).unwrap()))
}

impl Office {
    fn open(desk: &Desk, server: Server) -> Office {
        Office::open_with(desk, server, mailer())
    }

    fn open_with(desk: &Desk, server: Server, mailer: Option<Arc<Mailer>>) -> Office {
        let began = Instant::now();
        let postman = Postman {
            server,
            began,
            tries: Arc::default(),
        };
        let health = MailHealth::default();
        let stop = CancellationToken::new();
        let (mailers, watched) = watch::channel(mailer);
        let drain = Drain {
            outbox: desk.clone(),
            carrier: postman.clone(),
            lanes: Lanes::default(),
            health: health.clone(),
            clock: move || NIGHT.plus(began.elapsed()),
            stop: stop.clone(),
        };
        Office {
            desk: desk.clone(),
            health,
            postman,
            mailers,
            stop,
            task: tokio::spawn(drain.run(watched)),
        }
    }

    /// Waits, for a day at most, until `is_so`.
    #[track_caller]
    fn until(&self, is_so: impl Fn(&Office) -> bool) -> impl Future<Output = ()> {
        let asked_at = std::panic::Location::caller();
        async move {
            let patience = Instant::now() + Duration::from_secs(86_400);
            while !is_so(self) {
                let seen = (self.desk.states(), self.health.status(), self.tries());
                assert!(Instant::now() < patience, "{asked_at}: {seen:#?}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    fn second(&self) -> u64 {
        self.postman.began.elapsed().as_secs()
    }

    fn tries(&self) -> Vec<Try> {
        self.postman.tries.lock().unwrap().clone()
    }

    /// To whom, in the order of the tries.
    fn tried(&self) -> Vec<String> {
        self.tries().into_iter().map(|one| one.to).collect()
    }

    /// Waits for the task's end; returns the second it ended in.
    async fn end(self) -> u64 {
        tokio::time::timeout(Duration::from_secs(86_400), self.task)
            .await
            .expect("it ends")
            .unwrap();
        self.postman.began.elapsed().as_secs()
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_an_hour_everything_is_delivered_once_and_oldest_first() {
    let recipients: Vec<String> = (0..200).map(|n| format!("r{}@x.net", n % 3)).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let desk = Desk::with_alerts_to(&recipients);
    let office = Office::open(&desk, |second, _| {
        if second < 3_600 {
            later(Whose::Server)
        } else {
            TAKE
        }
    });
    office.until(|o| o.second() > 1_800).await;
    for _ in 0..10 {
        office.desk.add(Resolved, "r0@x.net");
    }
    let failing = office.health.status();
    assert!(
        failing
            .failing_since
            .is_some_and(|since| since < NIGHT.plus(Duration::from_secs(1)))
    );
    assert_eq!(failing.last_error.unwrap().1, "not now");
    assert!(failing.next_try.unwrap() > NIGHT.plus(Duration::from_secs(1_800)));

    office.until(|o| o.desk.are_all_delivered()).await;

    let (failed, sent): (Vec<_>, Vec<_>) = office
        .tries()
        .into_iter()
        .partition(|one| one.second < 3_600);
    assert!(failed.len() < 15, "the server was hammered: {failed:?}");
    assert!(
        failed
            .iter()
            .all(|one| one.message_id == failed[0].message_id),
        "not the oldest"
    );
    let sent: Vec<String> = sent.into_iter().map(|one| one.to).collect();
    let expected: Vec<&str> = recipients.into_iter().chain(["r0@x.net"; 10]).collect();
    assert_eq!(sent, expected);
    let status = office.health.status();
    assert_eq!((status.sent, status.parked), (210, 0));
    assert_eq!(status.failing_since, None);
    assert!(office.second() < 3_600 + 900 + 5, "{}", office.second());
}

#[tokio::test(start_paused = true)]
async fn a_refused_recipient_is_parked_and_the_others_get_their_mail() {
    let desk = Desk::with_alerts_to(&["gone@x.net", "a@x.net", "gone@x.net", "not an address"]);
    let office = Office::open(&desk, |_, to| {
        if to == "gone@x.net" {
            Deed::Say(Answer::Never("550 no such user".to_owned()))
        } else {
            TAKE
        }
    });
    office.until(|o| !o.desk.states().contains(&"queued")).await;
    assert_eq!(desk.states(), ["parked", "delivered", "parked", "parked"]);
    assert_eq!(desk.row(1).last_error.as_deref(), Some("550 no such user"));
    assert!(
        desk.row(4)
            .last_error
            .unwrap()
            .contains("not a mail address")
    );
    assert_eq!(office.health.status().parked, 3);
}

#[tokio::test(start_paused = true)]
async fn a_recipient_that_is_put_off_waits_alone_and_in_order() {
    let desk = Desk::with_alerts_to(&["full@x.net", "a@x.net", "full@x.net", "a@x.net"]);
    let office = Office::open(&desk, |second, to| {
        if to == "full@x.net" && second < 20 {
            later(Whose::Recipient)
        } else {
            TAKE
        }
    });
    office.until(|o| o.desk.are_all_delivered()).await;
    assert_eq!(
        office.tried(),
        [
            "full@x.net",
            "a@x.net",
            "a@x.net",
            "full@x.net",
            "full@x.net"
        ]
    );
    assert_eq!((desk.row(1).attempts, desk.row(3).attempts), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_test_goes_ahead_of_what_waits() {
    let desk = Desk::with_alerts_to(&["a@x.net"]);
    let office = Office::open(&desk, |second, _| {
        if second < 100 {
            later(Whose::Server)
        } else {
            TAKE
        }
    });
    office
        .until(|o| o.second() >= 101 && o.health.status().next_try.is_some())
        .await;
    let test = desk.add(Test, "me@x.net");
    office.until(|o| o.desk.are_all_delivered()).await;
    assert_eq!(desk.row(test).attempts, 1);
    assert_eq!(
        office.tried().last().unwrap(),
        "a@x.net",
        "and ends the wait"
    );
    assert!(office.second() <= 102, "{}", office.second());
}

#[tokio::test(start_paused = true)]
async fn new_settings_count_at_once() {
    let desk = Desk::with_alerts_to(&["a@x.net"]);
    let office = Office::open(&desk, |second, _| {
        if second < 1_000 {
            later(Whose::Server)
        } else {
            TAKE
        }
    });
    office
        .until(|o| o.second() >= 1_001 && o.health.status().next_try.is_some())
        .await;
    assert_eq!(desk.states(), ["queued"]);
    office.mailers.send(mailer()).unwrap();
    office.until(|o| o.desk.are_all_delivered()).await;
    assert!(office.second() <= 1_002, "{}", office.second());
}

#[tokio::test(start_paused = true)]
async fn without_a_mail_section_everything_waits_for_one() {
    let desk = Desk::with_alerts_to(&["a@x.net"]);
    let office = Office::open_with(&desk, |_, _| TAKE, None);
    desk.add(Firing, "b@x.net");
    office.until(|o| o.second() > 3_600).await;
    assert_eq!(desk.states(), ["queued", "queued"]);
    assert_eq!(office.health.status().server, None);
    office.mailers.send(mailer()).unwrap();
    office.until(|o| o.desk.are_all_delivered()).await;
    let server = office.health.status().server;
    assert_eq!(server.as_deref(), Some("mail.example.net:25"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_mail_in_hand_finish_and_sends_no_other() {
    let desk = Desk::with_alerts_to(&["a@x.net", "b@x.net"]);
    let office = Office::open(&desk, |_, _| Deed::TakeAfter(Duration::from_secs(10)));
    office.until(|o| o.second() >= 5).await;
    office.stop.cancel();
    assert_eq!(office.end().await, 10);
    assert_eq!(desk.states(), ["delivered", "queued"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_server_that_hangs() {
    let desk = Desk::with_alerts_to(&["a@x.net"]);
    let office = Office::open(&desk, |_, _| Deed::Hang);
    office.until(|o| o.second() >= 5).await;
    office.stop.cancel();
    let ended = office.end().await;
    assert!((35..=36).contains(&ended), "{ended}");
    assert_eq!(desk.states(), ["queued"]);
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_is_full_nothing_is_sent_twice_and_nothing_else_is_sent() {
    let desk = Desk::with_alerts_to(&["a@x.net", "b@x.net"]);
    desk.set_disk(Err(KeepError::TryAgain("no space left".to_owned())));
    let office = Office::open(&desk, |_, _| TAKE);
    office.until(|o| o.second() > 3_600).await;
    assert_eq!(office.tried(), ["a@x.net"]);
    let error = office.health.status().outbox_error;
    assert_eq!(error.as_deref(), Some("no space left"));

    desk.set_disk(Ok(()));
    office.until(|o| o.desk.are_all_delivered()).await;
    assert_eq!(office.tried(), ["a@x.net", "b@x.net"]);
    assert_eq!(office.health.status().outbox_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_the_server_took_a_mail_gives_one_duplicate_with_its_message_id() {
    let desk = Desk::with_alerts_to(&["a@x.net", "b@x.net", "c@x.net"]);
    desk.set_disk(Err(KeepError::TryAgain("no space left".to_owned())));
    let crashed = Office::open(&desk, |_, _| TAKE);
    crashed.until(|o| o.tries().len() == 1).await;
    crashed.task.abort();

    desk.set_disk(Ok(()));
    let again = Office::open(&desk, |_, _| TAKE);
    again.until(|o| o.desk.are_all_delivered()).await;
    assert_eq!(again.tried(), ["a@x.net", "b@x.net", "c@x.net"]);
    assert_eq!(crashed.tries()[0].message_id, again.tries()[0].message_id);
}

#[tokio::test(start_paused = true)]
async fn a_closed_store_ends_it() {
    let desk = Desk::with_alerts_to(&["a@x.net"]);
    desk.set_disk(Err(KeepError::Closed));
    let office = Office::open(&desk, |_, _| TAKE);
    assert_eq!(office.end().await, 0);
}

#[tokio::test(start_paused = true)]
async fn one_recipients_backlog_of_any_length_hides_nobody() {
    let mut recipients = vec!["full@x.net"; LOOK * 5];
    recipients.push("a@x.net");
    let desk = Desk::with_alerts_to(&recipients);
    let office = Office::open(&desk, |_, to| {
        if to == "full@x.net" {
            later(Whose::Recipient)
        } else {
            TAKE
        }
    });
    office
        .until(|o| o.desk.states().contains(&"delivered"))
        .await;
    assert_eq!(office.tried(), ["full@x.net", "a@x.net"]);
}

#[tokio::test(start_paused = true)]
async fn a_test_goes_ahead_of_a_backlog_of_any_length() {
    let desk = Desk::with_alerts_to(&vec!["a@x.net"; LOOK * 3]);
    let office = Office::open(&desk, |second, _| {
        if second < 100 {
            later(Whose::Server)
        } else {
            TAKE
        }
    });
    office
        .until(|o| o.second() >= 101 && o.health.status().next_try.is_some())
        .await;
    desk.add(Test, "me@x.net");
    office
        .until(|o| o.tries().last().is_some_and(|one| one.second > 100))
        .await;
    let first_after_the_outage = office.tries().into_iter().find(|one| one.second > 100);
    assert_eq!(first_after_the_outage.unwrap().to, "me@x.net");
    assert!(office.second() <= 102, "{}", office.second());
}

#[tokio::test(start_paused = true)]
async fn new_settings_count_from_the_next_mail_of_a_run_on() {
    let desk = Desk::with_alerts_to(&["a@x.net", "b@x.net", "c@x.net"]);
    let office = Office::open(&desk, |_, _| Deed::TakeAfter(Duration::from_secs(10)));
    office.until(|o| o.second() >= 5).await;
    let mut changed = settings();
    changed.from = "new@example.net".to_owned();
    let changed = Mailer::new(changed).unwrap();
    office.mailers.send(Some(Arc::new(changed))).unwrap();
    office.until(|o| o.desk.are_all_delivered()).await;
    let from: Vec<String> = office.tries().into_iter().map(|one| one.from).collect();
    assert_eq!(
        from,
        ["sotp@example.net", "new@example.net", "new@example.net"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_fate_is_not_wanted_is_not_sent_for_ever() {
    let desk = Desk::with_alerts_to(&["a@x.net", "b@x.net"]);
    desk.set_disk(Err(KeepError::Refused("no such delivery".to_owned())));
    let office = Office::open(&desk, |_, _| TAKE);
    office.until(|o| o.second() > 3_600).await;
    assert_eq!(office.tried(), ["a@x.net", "b@x.net"]);
}
