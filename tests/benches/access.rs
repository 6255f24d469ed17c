//! A storm of wrong passwords: what it costs the daemon, and what somebody who
//! is signed in notices of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{ADMIN, Ask, Client, Daemon, Folder, PASSWORD};
use serde_json::json;

use crate::fleet::{number, pause_until, quantile};
use crate::peers::mib;
use crate::report::{Bar, Report, Value};

/// Wrong passwords that are under way at the same time.
const ATTACKERS: usize = 200;

/// Requests of the one who is signed in, and the time between two.
const REQUESTS: usize = 600;
const EVERY: Duration = Duration::from_millis(25);

/// Devices in the list that they look at.
const DEVICES: usize = 100;

/// Good sign-ins, one after the other.
const LOGINS: usize = 20;

/// What the issue asks for.
const P95: Bar = Bar::AtMost(200.0);
const GROWTH: Bar = Bar::AtMost(128.0);

pub(crate) fn run(report: &mut Report) {
    let folder = Folder::with_https();
    // as far as the daemon can tell each attacker has an address of its own: the
    // worst case, in which no delay per address helps
    folder.write_api_settings(
        "trusted_proxies = [\"127.0.0.0/8\"]\nrequests_per_minute = 60000",
        "[icmp]\nevery = \"60s\"\n",
    );
    let daemon = Daemon::start(&folder, None);
    let admin = daemon.set_up();
    for place in 1..=DEVICES {
        let address = format!("127.0.9.{place}");
        let device = json!({"name": format!("d{place}"), "address": address, "enabled": false});
        admin.ask("POST", "/api/v1/devices", &device);
    }

    let logins = (0..LOGINS).map(|_| log_in(&admin)).collect();
    report.add(Value::new("access.login_p50", quantile(logins, 0.5), "ms"));
    let quiet = watch(&daemon, &admin);
    let p95 = quantile(quiet.took, 0.95);
    report.add(Value::new("access.get_p95", p95, "ms"));

    let before = daemon.process().resident_bytes();
    let storm = in_a_storm(&admin, || watch(&daemon, &admin));
    report.load(None);
    let p95 = quantile(storm.seen.took.clone(), 0.95);
    report.add(Value::new("access.storm_get_p95", p95, "ms").bar(P95));
    let slowest = quantile(storm.seen.took, 1.0);
    report.add(Value::new("access.storm_get_max", slowest, "ms"));
    let growth = mib(storm.seen.resident.saturating_sub(before));
    report.add(Value::new("access.storm_growth", growth, "MiB").bar(GROWTH));
    let let_in = number(storm.let_in);
    report.add(Value::new("access.storm_let_in", let_in, "people").bar(Bar::AtMost(0.0)));
    let judged = number(storm.judged) / storm.seconds;
    report.add(Value::new("access.storm_judged", judged, "passwords/s"));
    let turned_away = number(storm.turned_away) / storm.seconds;
    report.add(Value::new(
        "access.storm_turned_away",
        turned_away,
        "requests/s",
    ));
    assert_eq!(admin.sign_in(ADMIN, PASSWORD).status, 201, "it is over");
    assert!(daemon.stop().success(), "sotpd did not stop cleanly");
}

/// What a good sign-in takes, in ms.
fn log_in(admin: &Client) -> f64 {
    let began = Instant::now();
    let _granted = admin.signed_in(ADMIN, PASSWORD);
    began.elapsed().as_secs_f64() * 1e3
}

/// What somebody who is signed in saw.
struct Seen {
    /// Each request, in ms.
    took: Vec<f64>,
    /// The most memory that the daemon had.
    resident: u64,
}

fn watch(daemon: &Daemon, admin: &Client) -> Seen {
    let mut line = admin.connect().expect("sotpd listens");
    let mut seen = Seen {
        took: Vec::new(),
        resident: 0,
    };
    let mut next = Instant::now();
    for _request in 0..REQUESTS {
        pause_until(next);
        next = Instant::now() + EVERY;
        let began = Instant::now();
        let ask = Ask::new("GET", "/api/v1/devices?limit=100");
        let answer = admin.send_on(&mut line, ask).expect("sotpd answers");
        seen.took.push(began.elapsed().as_secs_f64() * 1e3);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let items = answer.body["items"].as_array().map_or(0, Vec::len);
        assert_eq!(items, DEVICES, "an empty page is no fast answer");
        seen.resident = seen.resident.max(daemon.process().resident_bytes());
    }
    seen
}

struct Storm {
    seen: Seen,
    let_in: usize,
    judged: usize,
    turned_away: usize,
    seconds: f64,
}

/// Watches while all attackers try one password after the other.
fn in_a_storm(client: &Client, watch: impl FnOnce() -> Seen) -> Storm {
    let over = AtomicBool::new(false);
    let [let_in, judged, turned_away] = [const { AtomicUsize::new(0) }; 3];
    let began = Instant::now();
    let seen = std::thread::scope(|scope| {
        for attacker in 0..ATTACKERS {
            let (over, let_in, judged, turned_away) = (&over, &let_in, &judged, &turned_away);
            scope.spawn(move || {
                for attempt in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let counted = match attack(client, attacker, attempt) {
                        Some(200..300) => let_in,
                        Some(401) => judged,
                        _ => turned_away,
                    };
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let seen = watch();
        over.store(true, Ordering::Relaxed);
        seen
    });
    Storm {
        seen,
        let_in: let_in.into_inner(),
        judged: judged.into_inner(),
        turned_away: turned_away.into_inner(),
        seconds: began.elapsed().as_secs_f64(),
    }
}

/// One wrong password from an address that was never seen, every other one for
/// the account that is there.
fn attack(client: &Client, attacker: usize, attempt: usize) -> Option<u16> {
    let from = format!("2001:{attacker:x}:{attempt:x}::1");
    let user = match attempt % 2 {
        0 => ADMIN.to_owned(),
        _ => format!("nobody-{attacker}-{attempt}"),
    };
    let wrong = json!({"user": user, "password": format!("Falsch-{attacker}-{attempt}")});
    let ask = Ask::new("POST", "/api/v1/sessions");
    let ask = ask.header("X-Forwarded-For", &from).json(&wrong);
    let answer = client.try_send(ask).ok()?;
    if answer.status != 401 {
        // who is turned away comes back soon, as a program that guesses does
        pause_until(Instant::now() + Duration::from_millis(100));
    }
    Some(answer.status)
}
