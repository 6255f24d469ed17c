//! The main job: an outage in a site of 50 devices.

use harness::{Daemon, Folder, MailServer, Namespace, Site, eventually, eventually_true};
use serde_json::json;

use crate::{DEVICE_DOWN, QUICK, namespace, skipped};

fn import(daemon: &Daemon, site: &Site) {
    daemon.ask(
        "PUT",
        "/api/v1/credentials/public",
        Some(&json!({"kind": "snmp-v2c", "community": "public"})),
    );
    let csv = site.csv("public");
    let body = Some(("text/csv", csv.as_bytes()));
    let report = daemon
        .try_request("POST", "/api/v1/devices/import", body)
        .unwrap();
    assert_eq!(report.body["failed"], 0, "{}", report.body);
}

fn berlin(daemon: &Daemon) -> Vec<String> {
    let page = daemon.get("/api/v1/devices?site=berlin&limit=1000");
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["name"].as_str().unwrap().to_owned())
        .collect()
}

fn settings(server: &MailServer) -> String {
    format!(
        "{QUICK}[mail]\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"sotp@example.net\"\nto = [\"noc@example.net\"]\nretry_min = \"1s\"\nretry_max = \"2s\"\n",
        server.port()
    )
}

fn start(namespace: &Namespace, folder: &Folder) -> Option<(Site, MailServer, Daemon)> {
    let Some(mail) = MailServer::start(folder.path(), Some(namespace)) else {
        skipped("python3-aiosmtpd is not installed");
        return None;
    };
    let site = Site::start(folder.path(), Some(namespace), &["--devices", "50"]);
    folder.write_rules(DEVICE_DOWN);
    folder.write_settings("", &settings(&mail));
    let daemon = Daemon::start(folder, Some(namespace));
    import(&daemon, &site);
    eventually(60, "50 devices up with rates", || {
        let page = daemon.get("/api/v1/devices?state=up&limit=1000");
        let with_rates = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|device| device["in_bps"].is_number() && device["rtt_seconds"].is_number())
            .count();
        if with_rates == 50 {
            Ok(())
        } else {
            Err(with_rates)
        }
    });
    Some((site, mail, daemon))
}

#[test]
fn a_dead_distribution_switch_is_one_alert_and_one_mail_whatever_is_behind_it() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    let Some((site, mail, daemon)) = start(&namespace, &folder) else {
        return;
    };

    let dead = berlin(&daemon);
    // the unlucky order: what is behind it falls silent first
    for device in dead.iter().rev() {
        site.control(&format!("down {device}"));
    }
    eventually(60, "one alert and 15 behind it", || {
        let seen = (daemon.alerts("firing"), daemon.alerts("unreachable").len());
        if seen == (vec!["dist-berlin-1: device-down".to_owned()], 15) {
            Ok(())
        } else {
            Err(seen)
        }
    });
    eventually_true(20, "a mail", || mail.mailbox().mails().len() == 1);

    for device in &dead {
        site.control(&format!("up {device}"));
    }
    eventually(60, "the end of all alerts", || {
        let open = daemon.alerts("pending,firing,unreachable");
        if open.is_empty() { Ok(()) } else { Err(open) }
    });
    eventually(20, "a second mail", || {
        let subjects = mail.mailbox().subjects();
        if subjects.len() == 2 {
            Ok(())
        } else {
            Err(subjects)
        }
    });
    let subjects = mail.mailbox().subjects();
    assert!(subjects[0].contains("dist-berlin-1"), "{subjects:?}");
    assert!(subjects[1].contains("RESOLVED"), "{subjects:?}");
    assert!(mail.mailbox().mails()[1].contains("In-Reply-To:"));
}

#[test]
fn a_restart_in_the_middle_of_an_outage_tells_nobody_twice() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    let Some((site, mail, daemon)) = start(&namespace, &folder) else {
        return;
    };

    site.control("down srv-berlin-01");
    // that it is in the mailbox is not enough: the daemon has to know, as a mail
    // may come twice if it dies in between
    eventually(30, "a mail that is known to be delivered", || {
        let page = daemon.get("/api/v1/outbox?state=delivered");
        match page["items"].as_array().map_or(0, Vec::len) {
            1 => Ok(()),
            _ => Err(page),
        }
    });
    assert_eq!(mail.mailbox().mails().len(), 1);
    daemon.kill9();

    let daemon = Daemon::start(&folder, Some(&namespace));
    daemon.until_state(10, "srv-berlin-01", "down");
    site.control("up srv-berlin-01");
    daemon.until_state(30, "srv-berlin-01", "up");
    eventually_true(20, "the mail that it is over", || {
        mail.mailbox().mails().len() == 2
    });
    assert_eq!(daemon.alerts("firing"), Vec::<String>::new());
    assert!(daemon.stop().success());
    assert_eq!(mail.mailbox().mails().len(), 2);
}

#[test]
fn mails_of_an_hour_without_a_server_arrive_once_and_in_order() {
    let Some(namespace) = namespace() else { return };
    let folder = Folder::new();
    let Some((site, mail, daemon)) = start(&namespace, &folder) else {
        return;
    };
    let mailbox = mail.mailbox().clone();
    drop(mail);

    for device in ["srv-berlin-01", "srv-berlin-02", "srv-munich-01"] {
        site.control(&format!("down {device}"));
        daemon.until_state(30, device, "down");
    }
    eventually(20, "three mails that wait, with the reason", || {
        let page = daemon.get("/api/v1/outbox?state=queued");
        let waiting = page["items"].as_array().unwrap();
        let reasons = waiting
            .iter()
            .filter(|mail| mail["last_error"].is_string())
            .count();
        if waiting.len() == 3 && reasons >= 1 {
            Ok(())
        } else {
            Err(page.clone())
        }
    });

    let _mail = MailServer::start(folder.path(), Some(&namespace)).unwrap();
    eventually(30, "an empty queue", || {
        let page = daemon.get("/api/v1/outbox?state=queued");
        if page["items"] == json!([]) {
            Ok(())
        } else {
            Err(page)
        }
    });
    let subjects = mailbox.subjects();
    assert_eq!(subjects.len(), 3, "{subjects:?}");
    for (subject, device) in
        subjects
            .iter()
            .zip(["srv-berlin-01", "srv-berlin-02", "srv-munich-01"])
    {
        assert!(subject.contains(device), "{subjects:?}");
    }
}
