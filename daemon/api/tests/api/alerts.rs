use std::sync::Arc;

use model::{
    Alert, AlertId, AlertState, Channel, Delivery, DeliveryState, DeviceId, DeviceState, Labels,
    NotificationEvent, OutboxId, Permission, Role, RuleName, Severity,
};
use serde_json::{Value, json};
use store::Judgement;

use crate::harness::{NOW, Served, binding, new_token, served};

pub(crate) fn alert(id: u64, device: DeviceId, name: &str, state: AlertState) -> Alert {
    Alert {
        id: AlertId(id),
        rule: RuleName("down".into()),
        severity: Severity::Critical,
        device,
        device_name: name.into(),
        labels: Arc::new(Labels::default()),
        state,
        since: NOW,
        judged: NOW,
        rounds: 3,
        told: true,
        fired: Some(NOW),
        resolved: None,
        value: None,
        summary: format!("{name} does not answer"),
    }
}

pub(crate) fn mail_about(alert: &Alert) -> Delivery {
    Delivery {
        id: OutboxId(0),
        channel: Channel::Mail {
            to: "ops@example.com".into(),
        },
        event: NotificationEvent::Firing,
        alert: Some(alert.clone()),
        place: "10.0.0.1".into(),
        behind: vec!["access1".into()],
        created: NOW,
        state: DeliveryState::Queued { next: NOW },
        attempts: 0,
        last_error: None,
    }
}

/// core1 is down and cuts access1 off; access2 is down by itself.
async fn with_alerts() -> (Served, Vec<Alert>) {
    let api = served().await;
    let core = api.enter("core1", "10.0.0.1").await;
    let access = api.enter("access1", "10.0.0.2").await;
    let other = api.enter("access2", "10.0.0.3").await;
    let alerts = vec![
        alert(1, core, "core1", AlertState::Firing),
        alert(
            2,
            access,
            "access1",
            AlertState::Unreachable { behind: vec![core] },
        ),
        Alert {
            severity: Severity::Warning,
            ..alert(3, other, "access2", AlertState::Pending)
        },
    ];
    let judgement = Judgement {
        alerts: alerts.clone(),
        gone: Vec::new(),
        deliveries: vec![mail_about(&alerts[0]), mail_about(&alerts[2])],
    };
    api.store.judge(judgement).await.unwrap();
    (api, alerts)
}

fn ids(list: &Value) -> Vec<u64> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["id"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn alerts_are_listed_newest_first_and_by_what_they_are() {
    let (api, _) = with_alerts().await;
    for (query, expected) in [
        ("", vec![3, 2, 1]),
        ("?state=firing", vec![1]),
        ("?state=firing,pending", vec![3, 1]),
        ("?device=access1", vec![2]),
        ("?device=3", vec![3]),
        ("?rule=down&severity=critical", vec![2, 1]),
        ("?rule=other", vec![]),
    ] {
        let list = api.get(&format!("/api/v1/alerts{query}")).await.expect(200);
        assert_eq!(ids(&list), expected, "{query}");
    }
    let first = api.get("/api/v1/alerts?limit=2").await.expect(200);
    assert_eq!(ids(&first), [3, 2]);
    let cursor = first["next"].as_str().unwrap();
    let second = api
        .get(&format!("/api/v1/alerts?limit=2&cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(ids(&second), [1]);
    assert_eq!(second["next"], Value::Null);
    api.get("/api/v1/alerts?device=nobody").await.expect(404);
    let wrong = api
        .get("/api/v1/alerts?state=fring&severity=high&limit=5000")
        .await;
    assert_eq!(wrong.mistakes(400).len(), 3);
}

#[tokio::test]
async fn an_alert_lists_who_is_behind_it_and_who_was_told() {
    let (api, _) = with_alerts().await;
    let shown = api.get("/api/v1/alerts/1").await.expect(200);
    assert_eq!(shown["device"], json!({"id": 1, "name": "core1"}));
    assert_eq!(shown["fired"], "2027-01-15T08:00:00.000Z");
    assert_eq!(shown["unreachable"][0]["device"]["name"], "access1");
    assert_eq!(
        shown["unreachable"][0]["behind"],
        json!([{"id": 1, "name": "core1"}])
    );
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(shown["deliveries"][0]["to"], "ops@example.com");
    let other = api.get("/api/v1/alerts/3").await.expect(200);
    assert_eq!(other["unreachable"], json!([]));
    api.get("/api/v1/alerts/99").await.expect(404);
    api.get("/api/v1/alerts/x").await.expect(404);
}

#[tokio::test]
async fn a_device_says_what_is_wrong_with_it_and_what_it_is_behind() {
    let (api, _) = with_alerts().await;
    {
        let mut states = api.daemon.states.lock().unwrap();
        states.insert(DeviceId(1), DeviceState::Down);
        let behind = vec!["core1".into()];
        states.insert(DeviceId(2), DeviceState::Unreachable { behind });
    }
    let core = api.get("/api/v1/devices/core1").await.expect(200);
    assert_eq!(core["state_reason"], "core1 does not answer");
    let access = api.get("/api/v1/devices/access1").await.expect(200);
    assert_eq!(access["state"], "unreachable");
    assert_eq!(access["state_reason"], "behind core1");
    assert_eq!(access["behind"], json!(["core1"]));
    let status = api.get("/api/v1/status").await.expect(200);
    assert_eq!(status["alerts"]["firing"], 1);
    assert_eq!(status["alerts"]["by_severity"], json!({"critical": 1}));
    assert_eq!(status["devices"]["down"], 1);
    assert_eq!(status["devices"]["unknown"], 1);
    assert_eq!(status["outbox"]["open"], 2);
}

#[tokio::test]
async fn the_outbox_shows_each_mail_and_tries_parked_ones_again() {
    let (api, _) = with_alerts().await;
    let list = api.get("/api/v1/outbox").await.expect(200);
    assert_eq!(list["items"][0]["alert"], 3);
    assert_eq!(list["items"][1]["device"], "core1");
    assert_eq!(list["items"][1]["state"], "queued");
    let id = list["items"][1]["id"].as_u64().unwrap();
    let retry = format!("/api/v1/outbox/{id}/retry");
    api.post(&retry, &json!({})).await.expect(409);

    let parked = Delivery {
        state: DeliveryState::Parked,
        attempts: 1,
        last_error: Some("550 no such user".into()),
        ..api.store.delivery(OutboxId(id)).unwrap().unwrap()
    };
    api.store.update_delivery(parked).await.unwrap();
    let shown = api.get(&format!("/api/v1/outbox/{id}")).await.expect(200);
    assert_eq!(shown["state"], "parked");
    assert_eq!(shown["last_error"], "550 no such user");
    let list = api.get("/api/v1/outbox?state=parked").await.expect(200);
    assert_eq!(ids(&list), [id]);
    let again = api.post(&retry, &json!({})).await.expect(200);
    assert_eq!(again["state"], "queued");
    api.post("/api/v1/outbox/999/retry", &json!({}))
        .await
        .expect(404);
    api.get("/api/v1/outbox/x").await.expect(404);
}

#[tokio::test]
async fn a_test_goes_to_those_who_get_alerts_or_to_whom_one_names() {
    let api = served().await;
    let sent = api
        .ask("POST", "/api/v1/notify/test", &[], b"")
        .await
        .expect(202);
    let id = sent["outbox"][0].as_u64().unwrap();
    let shown = api.get(&format!("/api/v1/outbox/{id}")).await.expect(200);
    assert_eq!(shown["to"], "ops@example.com");
    assert_eq!(shown["event"], "test");
    assert_eq!(shown["alert"], Value::Null);

    let two = json!({"to": ["a@example.com", "b@example.com"]});
    let sent = api.post("/api/v1/notify/test", &two).await.expect(202);
    assert_eq!(sent["outbox"].as_array().unwrap().len(), 2);

    let wrong = json!({"to": ["a@example.com", "nobody", "a b@example.com", "x@y\r\nBcc: z@z"]});
    let answer = api.post("/api/v1/notify/test", &wrong).await;
    let places: Vec<String> = answer.mistakes(422).into_iter().map(|m| m.0).collect();
    assert_eq!(places, ["/to/1", "/to/2", "/to/3"]);

    api.post("/api/v1/notify/test", &Value::Null)
        .await
        .expect(202);
    let by_hand = api.get("/api/v1/audit?action=notification.test").await;
    let by_hand = by_hand.expect(200)["items"].as_array().unwrap().clone();
    assert_eq!(by_hand.len(), 4);
    assert!(by_hand[3]["actor"].as_str().unwrap().starts_with("uid:"));

    *api.daemon.recipients.lock().unwrap() = None;
    let problem = api
        .post("/api/v1/notify/test", &json!({}))
        .await
        .expect(409);
    assert!(problem["detail"].as_str().unwrap().contains("[mail]"));
}

#[tokio::test]
async fn only_an_administrator_names_whom_a_test_goes_to() {
    let api = served().await;
    api.set_up().await;
    let operator = api.role(Role::Operator, None).await;
    let testing = [Permission::NotificationsTest];
    let limited = new_token("limited", vec![binding(Role::Admin, None)], &testing);
    let limited = api.token(limited).await;
    let admin = api.role(Role::Admin, None).await;
    let send = async |token: &str, body: Value| {
        let path = "/api/v1/notify/test";
        api.https_send(Some(token), "POST", path, &body).await
    };
    let elsewhere = json!({"to": ["ops@example.com", "x@elsewhere.example"]});
    for token in [&operator, &limited] {
        let refused = send(token, elsewhere.clone()).await;
        assert_eq!(refused.mistakes(403)[0].0, "/to");
        send(token, json!({"to": ["ops@example.com"]}))
            .await
            .expect(202);
        send(token, json!({})).await.expect(202);
    }
    send(&admin, elsewhere).await.expect(202);
    let list = api.get("/api/v1/outbox").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 6);
}
