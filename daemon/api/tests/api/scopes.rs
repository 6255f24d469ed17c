//! What is not theirs is not there: tenants, sites and tags.

use model::{AlertState, DeviceId, DeviceState, Permission, Role};
use serde_json::{Value, json};
use store::Judgement;

use crate::alerts::{alert, mail_about};
use crate::harness::{Answer, Served, at_site, binding, new_token, served};

/// Two tenants with a device called core1 each; of acme's, core1 stands in
/// Berlin and edge1, which is behind it, in Bonn.
struct Two {
    api: Served,
    /// OPERATOR of all of acme.
    acme: String,
    /// OPERATOR of acme's devices in Bonn.
    bonn: String,
    core: DeviceId,
    edge: DeviceId,
    other: DeviceId,
}

async fn two() -> Two {
    let api = served().await;
    api.set_up().await;
    api.tenant("acme").await;
    api.tenant("other").await;
    let enter = async |device: Value| {
        let device = api.post("/api/v1/devices", &device).await.expect(201);
        DeviceId(device["id"].as_u64().unwrap())
    };
    let core =
        enter(json!({"tenant": "acme", "name": "core1", "address": "10.0.0.1", "site": "berlin"}))
            .await;
    let edge = enter(json!({"tenant": "acme", "name": "edge1", "address": "10.0.0.2", "site": "bonn", "parents": ["core1"]})).await;
    let other = enter(json!({"tenant": "other", "name": "core1", "address": "10.0.0.1"})).await;
    let acme = api.role(Role::Operator, Some("acme")).await;
    let bonn = new_token("bonn", vec![at_site(Role::Operator, "acme", "bonn")], &[]);
    let bonn = api.token(bonn).await;
    Two {
        api,
        acme,
        bonn,
        core,
        edge,
        other,
    }
}

impl Two {
    async fn get(&self, token: &str, path: &str) -> Answer {
        self.api
            .https_get(Some(token), &format!("/api/v1{path}"))
            .await
    }

    async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let path = format!("/api/v1{path}");
        self.api.https_send(Some(token), method, &path, &body).await
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_list_has_what_is_theirs_and_counts_nothing_else() {
    let two = two().await;
    let seen = two.get(&two.acme, "/devices").await.expect(200);
    assert_eq!(
        (names(&seen), &seen["total"]),
        (vec!["core1", "edge1"], &json!(2))
    );
    let seen = two.get(&two.bonn, "/devices").await.expect(200);
    assert_eq!((names(&seen), &seen["total"]), (vec!["edge1"], &json!(1)));
    for path in ["/devices?tenant=other", "/devices?q=10.0.0.1&site=x"] {
        let seen = two.get(&two.acme, path).await.expect(200);
        assert_eq!(seen["total"], 0, "{path}");
    }
    let all = two
        .api
        .get("/api/v1/devices?tenant=other&tenant=acme&sort=-tenant")
        .await
        .expect(200);
    assert_eq!(names(&all), ["core1", "edge1", "core1"]);
    let status = two.get(&two.bonn, "/status").await.expect(200);
    assert_eq!(status["devices"]["total"], 1);
}

#[tokio::test]
async fn a_name_means_the_one_device_that_the_caller_sees() {
    let two = two().await;
    let seen = two.get(&two.acme, "/devices/core1").await.expect(200);
    assert_eq!(seen["id"], two.core.0);
    assert_eq!(seen["tenant"], "acme");
    two.get(&two.bonn, "/devices/core1").await.expect(404);
    // who sees both has to say which
    let problem = two.api.get("/api/v1/devices/core1").await.expect(409);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("{} (acme)", two.core)), "{detail}");
    assert!(
        detail.contains(&format!("{} (other)", two.other)),
        "{detail}"
    );

    let there = two.get(&two.acme, &format!("/devices/{}", two.other)).await;
    let nowhere = two.get(&two.acme, "/devices/999").await;
    let plain = |answer: &Answer| {
        answer.expect(404)["detail"]
            .as_str()
            .unwrap()
            .replace(|c: char| c.is_ascii_digit(), "")
    };
    assert_eq!(plain(&there), plain(&nowhere));
    for path in ["", "/interfaces", "/metrics", "/metrics/icmp_up"] {
        let path = format!("/devices/{}{path}", two.other);
        two.get(&two.acme, &path).await.expect(404);
    }
    for path in ["/poll", "/restore"] {
        let path = format!("/devices/{}{path}", two.other);
        two.send(&two.acme, "POST", &path, json!({}))
            .await
            .expect(404);
    }
    let patch = json!({"note": 1});
    let path = format!("/devices/{}", two.other);
    two.send(&two.acme, "PATCH", &path, patch).await.expect(404);
    two.send(&two.acme, "DELETE", &path, json!({}))
        .await
        .expect(404);
}

#[tokio::test]
async fn a_device_is_entered_and_moved_only_where_the_caller_may_have_one() {
    let two = two().await;
    let enter =
        async |token: &str, device: Value| two.send(token, "POST", "/devices", device).await;
    // whose it is need not be said by who has but one tenant
    let made = enter(&two.acme, json!({"name": "edge2", "address": "10.0.0.3"}))
        .await
        .expect(201);
    assert_eq!(made["tenant"], "acme");
    for device in [
        json!({"tenant": "other", "name": "x", "address": "10.0.0.9"}),
        json!({"tenant": "default", "name": "x", "address": "10.0.0.9"}),
        json!({"tenant": "nobody", "name": "x", "address": "10.0.0.9"}),
    ] {
        enter(&two.acme, device).await.expect(403);
    }
    enter(&two.bonn, json!({"name": "x", "address": "10.0.0.9"}))
        .await
        .expect(403);
    enter(
        &two.bonn,
        json!({"name": "x", "address": "10.0.0.9", "site": "berlin"}),
    )
    .await
    .expect(403);
    enter(
        &two.bonn,
        json!({"name": "edge3", "address": "10.0.0.9", "site": "bonn"}),
    )
    .await
    .expect(201);
    for patch in [
        json!({"site": "berlin"}),
        json!({"site": null}),
        json!({"tenant": "other"}),
    ] {
        two.send(&two.bonn, "PATCH", "/devices/edge1", patch)
            .await
            .expect(403);
    }
    two.send(&two.bonn, "PATCH", "/devices/edge1", json!({"os": "new"}))
        .await
        .expect(200);
    let patch = json!({"tenant": "nobody"});
    let path = format!("/api/v1/devices/{}", two.core);
    let mistakes = two.api.send("PATCH", &path, &patch).await.mistakes(422);
    assert_eq!(mistakes[0].0, "/tenant");
}

#[tokio::test]
async fn parents_that_somebody_does_not_see_are_not_shown_and_stay() {
    let two = two().await;
    let path = format!("/api/v1/devices/{}", two.edge);
    assert_eq!(
        two.api.get(&path).await.expect(200)["parents"],
        json!(["core1"])
    );
    let seen = two.get(&two.bonn, "/devices/edge1").await.expect(200);
    assert_eq!(seen["parents"], json!([]));
    two.send(
        &two.bonn,
        "PATCH",
        "/devices/edge1",
        json!({"os": "new", "parents": []}),
    )
    .await
    .expect(200);
    assert_eq!(
        two.api.get(&path).await.expect(200)["parents"],
        json!(["core1"])
    );
    // nor can they be named
    let patch = json!({"parents": [two.core.to_string(), "core1", two.other.to_string()]});
    let mistakes = two
        .send(&two.bonn, "PATCH", "/devices/edge1", patch)
        .await
        .mistakes(422);
    assert_eq!(mistakes.len(), 3, "{mistakes:?}");

    let states = DeviceState::Unreachable {
        behind: vec!["core1".to_owned()],
    };
    two.api
        .daemon
        .states
        .lock()
        .unwrap()
        .insert(two.edge, states);
    let seen = two.get(&two.bonn, "/devices/edge1").await.expect(200);
    assert_eq!(
        (&seen["state"], &seen["behind"]),
        (&json!("unreachable"), &json!([]))
    );
    assert!(!seen.to_string().contains("core1"), "{seen}");
    let seen = two.get(&two.acme, "/devices/edge1").await.expect(200);
    assert_eq!(seen["behind"], json!(["core1"]));
}

#[tokio::test]
async fn who_has_a_name_or_an_address_is_not_told_to_who_does_not_see_it() {
    let two = two().await;
    let device = json!({"name": "core1", "address": "10.0.0.77", "site": "bonn"});
    let answer = two
        .send(&two.bonn, "POST", "/devices", device.clone())
        .await;
    let problem = answer.expect(409);
    assert_eq!(problem["conflicts_with"], Value::Null);
    assert!(
        !answer.body.contains("berlin") && !answer.body.contains(&format!("device {}", two.core)),
        "{problem}"
    );
    let problem = two
        .send(&two.acme, "POST", "/devices", device)
        .await
        .expect(409);
    assert_eq!(problem["conflicts_with"]["id"], two.core.0);
}

#[tokio::test]
async fn a_credential_is_its_tenant_s_and_so_is_its_secret() {
    let two = two().await;
    let body = json!({"kind": "snmp-v2c", "community": "public"});
    two.send(&two.acme, "PUT", "/credentials/acme%2Flab", body.clone())
        .await
        .expect(201);
    // whether there is one or not makes no difference
    two.send(&two.acme, "PUT", "/credentials/lab", body.clone())
        .await
        .expect(404);
    two.send(&two.acme, "PUT", "/credentials/other%2Flab", body.clone())
        .await
        .expect(404);
    two.send(&two.bonn, "PUT", "/credentials/acme%2Flab", body.clone())
        .await
        .expect(403);
    two.send(&two.bonn, "PUT", "/credentials/acme%2Fnew", body.clone())
        .await
        .expect(403);
    two.api
        .send("PUT", "/api/v1/credentials/lab", &body)
        .await
        .expect(201);
    let seen = two.get(&two.bonn, "/credentials").await.expect(200);
    assert_eq!(names(&seen), ["acme/lab"]);
    assert_eq!(seen["items"][0]["secret"], "secret://acme/credential.lab");
    two.get(&two.acme, "/credentials/lab").await.expect(404);

    let patch = |credential: &str| json!({"credential": credential});
    two.send(&two.acme, "PATCH", "/devices/edge1", patch("acme/lab"))
        .await
        .expect(200);
    for wrong in ["lab", "other/lab", "acme/none"] {
        let mistakes = two
            .send(&two.bonn, "PATCH", "/devices/edge1", patch(wrong))
            .await
            .mistakes(422);
        assert_eq!(mistakes[0].0, "/credential", "{wrong}");
        assert!(
            mistakes[0].1.contains("there is no credential"),
            "{mistakes:?}"
        );
    }
    let device = json!({"name": "edge9", "address": "10.0.0.99", "site": "bonn", "snmp_community": "s3cret"});
    let made = two
        .send(&two.bonn, "POST", "/devices", device)
        .await
        .expect(201);
    assert_eq!(made["credential"], "acme/edge9");

    // a secret that one may not set is not one to point a device at
    let value = json!({"value": "smtp password"});
    two.api
        .send("PUT", "/api/v1/secrets/acme%2Fsmtp", &value)
        .await
        .expect(201);
    let steal = json!({"kind": "snmp-v2c", "secret": "secret://acme/smtp"});
    two.send(&two.acme, "PUT", "/credentials/acme%2Fsteal", steal.clone())
        .await
        .expect(403);
    let admin = two.api.role(Role::Admin, Some("acme")).await;
    two.send(&admin, "PUT", "/credentials/acme%2Fsmtp", steal)
        .await
        .expect(201);
    for wrong in [
        "secret://smtp",
        "secret://other/smtp",
        "secret://.totp/root",
        "smtp",
    ] {
        let body = json!({"kind": "snmp-v2c", "secret": wrong});
        let mistakes = two
            .send(&admin, "PUT", "/credentials/acme%2Fx", body)
            .await
            .mistakes(422);
        assert_eq!(mistakes[0].0, "/secret", "{wrong}");
    }
}

#[tokio::test]
async fn credentials_come_in_pages_with_the_devices_that_the_caller_sees() {
    let two = two().await;
    let body = json!({"kind": "snmp-v2c", "community": "public"});
    for name in ["acme%2Fc", "acme%2Fa", "acme%2Fb", "lab"] {
        let path = format!("/api/v1/credentials/{name}");
        two.api.send("PUT", &path, &body).await.expect(201);
    }
    for device in [two.core, two.edge] {
        let path = format!("/api/v1/devices/{device}");
        let patch = json!({"credential": "acme/b"});
        two.api.send("PATCH", &path, &patch).await.expect(200);
    }
    let first = two.get(&two.bonn, "/credentials?limit=2").await.expect(200);
    assert_eq!(names(&first), ["acme/a", "acme/b"]);
    assert_eq!(
        (&first["total"], &first["items"][1]["devices"]),
        (&json!(3), &json!(1))
    );
    let next = format!(
        "/credentials?limit=2&cursor={}",
        first["next"].as_str().unwrap()
    );
    let rest = two.get(&two.bonn, &next).await.expect(200);
    assert_eq!(
        (names(&rest), &rest["next"]),
        (vec!["acme/c"], &Value::Null)
    );
    let seen = two
        .get(&two.acme, "/credentials?sort=-name")
        .await
        .expect(200);
    assert_eq!(names(&seen), ["acme/c", "acme/b", "acme/a"]);
    assert_eq!(seen["items"][1]["devices"], 2);
    let of_one = two.api.get("/api/v1/credentials?tenant=default").await;
    assert_eq!(names(&of_one.expect(200)), ["lab"]);
}

#[tokio::test]
async fn a_credential_is_sent_nowhere_new_by_who_may_not_change_it() {
    let two = two().await;
    let body = json!({"kind": "snmp-v2c", "community": "public"});
    two.send(&two.acme, "PUT", "/credentials/acme%2Flab", body)
        .await
        .expect(201);
    let mut writer = new_token("writer", vec![binding(Role::Operator, Some("acme"))], &[]);
    writer.permissions = [Permission::DevicesRead, Permission::DevicesWrite].into();
    let writer = two.api.token(writer).await;
    let edge = two.get(&two.bonn, "/devices/edge1").await.expect(200);
    let put = async |token: &str, address: &Value| {
        let body =
            json!({"name": "edge1", "address": address, "site": "bonn", "credential": "acme/lab"});
        let headers = [("if-match", "*"), ("content-type", "application/json")];
        let path = "/api/v1/devices/edge1";
        let body = body.to_string();
        two.api
            .https(Some(token), "PUT", path, &headers, body.as_bytes())
            .await
    };
    let refused = |answer: Answer| {
        let problem = answer.expect(403);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("credentials:write"), "{detail}");
    };
    let patch =
        async |token: &str, patch: Value| two.send(token, "PATCH", "/devices/edge1", patch).await;
    for token in [&two.bonn, &writer] {
        let new = json!({"name": "spy", "address": "10.0.0.66", "site": "bonn", "credential": "acme/lab"});
        refused(two.send(token, "POST", "/devices", new).await);
        refused(patch(token, json!({"credential": "acme/lab"})).await);
        refused(put(token, &edge["address"]).await);
        let table = "name,address,site,credential\nspy1,10.0.0.67,bonn,acme/lab\n";
        let kind = [("content-type", "text/csv")];
        let path = "/api/v1/devices/import";
        let report = two
            .api
            .https(Some(token), "POST", path, &kind, table.as_bytes())
            .await
            .expect(200);
        assert_eq!(report["created"], 0, "{report}");
        let failure = &report["failures"][0];
        assert_eq!(
            (&failure["line"], &failure["column"]),
            (&json!(2), &json!("credential"))
        );
        assert!(
            failure["message"]
                .as_str()
                .unwrap()
                .contains("credentials:write")
        );
    }
    // who has all of the tenant may, and then others keep what is there
    patch(&two.acme, json!({"credential": "acme/lab"}))
        .await
        .expect(200);
    for token in [&two.bonn, &writer] {
        refused(patch(token, json!({"address": "10.0.0.66"})).await);
        refused(patch(token, json!({"poll": {"snmp": {"port": 1161}}})).await);
        refused(put(token, &json!("10.0.0.66")).await);
        put(token, &edge["address"]).await.expect(200);
        patch(
            token,
            json!({"os": "new", "poll": {"snmp": {"every": "2m"}}}),
        )
        .await
        .expect(200);
    }
    patch(
        &two.bonn,
        json!({"credential": null, "address": "10.0.0.66"}),
    )
    .await
    .expect(200);
}

#[tokio::test]
async fn devices_out_of_sight_are_named_by_no_conflict() {
    let two = two().await;
    let body = json!({"kind": "snmp-v2c", "community": "public"});
    two.send(&two.acme, "PUT", "/credentials/acme%2Flab", body)
        .await
        .expect(201);
    let path = format!("/devices/{}", two.core);
    let patch = json!({"credential": "acme/lab"});
    two.send(&two.acme, "PATCH", &path, patch).await.expect(200);
    let device =
        json!({"name": "lab", "address": "10.0.0.9", "site": "bonn", "snmp_community": "x"});
    let answer = two.send(&two.bonn, "POST", "/devices", device).await;
    answer.expect(409);
    assert!(!answer.body.contains("core1"), "{}", answer.body);
    // nor to who may change the credential and sees no device
    let mut keeper = new_token("keeper", vec![binding(Role::Operator, Some("acme"))], &[]);
    keeper.permissions = [Permission::CredentialsRead, Permission::CredentialsWrite].into();
    let keeper = two.api.token(keeper).await;
    let delete = async |token: &str| {
        let path = "/credentials/acme%2Flab";
        let answer = two.send(token, "DELETE", path, json!({})).await;
        answer.expect(409)["detail"].as_str().unwrap().to_owned()
    };
    let detail = delete(&keeper).await;
    assert!(
        !detail.contains("core1") && detail.contains("acme/lab"),
        "{detail}"
    );
    let detail = delete(&two.acme).await;
    assert!(detail.contains("core1"), "{detail}");

    // moved away from what is before it
    let bindings = vec![
        at_site(Role::Operator, "acme", "bonn"),
        binding(Role::Operator, Some("other")),
    ];
    let mover = two.api.token(new_token("mover", bindings, &[])).await;
    let answer = two
        .send(
            &mover,
            "PATCH",
            "/devices/edge1",
            json!({"tenant": "other"}),
        )
        .await;
    let problem = answer.expect(422);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("do not see"), "{problem}");
    assert!(!detail.contains(|c: char| c.is_ascii_digit()), "{problem}");
    assert_eq!(problem["errors"][0]["message"], problem["detail"]);
}

#[tokio::test]
async fn a_device_that_is_moved_away_is_not_taken_back_by_who_was_too_late() {
    let two = two().await;
    let path = format!("/api/v1/devices/{}", two.edge);
    let bearer = format!("Bearer {}", two.bonn);
    let put = json!({"name": "edge1", "address": "10.0.0.2", "site": "bonn"}).to_string();
    for round in 0..30 {
        two.api
            .send("PATCH", &path, &json!({"site": "bonn"}))
            .await
            .expect(200);
        let late = async || {
            let headers = [
                ("authorization", bearer.as_str()),
                ("if-match", "*"),
                ("content-type", "application/json"),
            ];
            two.api.ask("PUT", &path, &headers, put.as_bytes()).await
        };
        let away = async || {
            let headers = [("if-match", "*"), ("content-type", "application/json")];
            let body = b"{\"site\": \"berlin\"}";
            two.api.ask("PATCH", &path, &headers, body).await
        };
        let (one, moved, two_, three) = tokio::join!(late(), away(), late(), late());
        moved.expect(200);
        for answer in [one, two_, three] {
            assert!([200, 404, 412].contains(&answer.status), "{}", answer.body);
        }
        let device = two.api.get(&path).await.expect(200);
        assert_eq!(device["site"], "berlin", "in round {round}");
    }
}

#[tokio::test]
async fn a_rule_is_its_tenant_s() {
    let two = two().await;
    let rule = |name: &str| json!({"name": name, "severity": "info", "availability": {"check": "icmp", "rounds": 3}});
    let made = two
        .send(&two.acme, "POST", "/rules", rule("acme/down"))
        .await
        .expect(201);
    assert_eq!(made["tenant"], "acme");
    for name in ["down", "other/down", "nobody/down"] {
        two.send(&two.acme, "POST", "/rules", rule(name))
            .await
            .expect(404);
    }
    two.send(&two.bonn, "POST", "/rules", rule("acme/mine"))
        .await
        .expect(403);
    two.api
        .post("/api/v1/rules", &rule("down"))
        .await
        .expect(201);
    two.api
        .post("/api/v1/rules", &rule("other/down"))
        .await
        .expect(201);
    assert_eq!(
        names(&two.get(&two.bonn, "/rules").await.expect(200)),
        ["acme/down"]
    );
    two.get(&two.acme, "/rules/down").await.expect(404);
    two.send(&two.acme, "DELETE", "/rules/other%2Fdown", json!({}))
        .await
        .expect(404);
    let mistakes = two
        .api
        .post("/api/v1/rules", &rule("nobody/down"))
        .await
        .mistakes(422);
    assert!(mistakes[0].1.contains("no tenant nobody"), "{mistakes:?}");

    // a rule of a file that names no tenant is for everybody's devices
    let kept = two
        .api
        .store
        .rules()
        .iter()
        .find(|rule| rule.name.0 == "acme/down")
        .cloned()
        .unwrap();
    let judges = |id: DeviceId| {
        let inventory = two.api.store.inventory();
        kept.judges(inventory.device(id).unwrap())
    };
    assert!(judges(two.core) && judges(two.edge) && !judges(two.other));
}

#[tokio::test]
async fn of_many_who_make_the_same_rule_one_does_and_none_is_overwritten() {
    let api = served().await;
    let path = "/api/v1/rules";
    let rules: Vec<Value> = (1..=20)
        .map(|rounds| json!({"name": "down", "severity": "info", "availability": {"check": "icmp", "rounds": rounds}}))
        .collect();
    let answers =
        futures_util::future::join_all(rules.iter().map(|rule| api.post(path, rule))).await;
    let made: Vec<Value> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .map(Answer::json)
        .collect();
    assert_eq!(made.len(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| [201, 409].contains(&answer.status))
    );
    assert_eq!(api.get("/api/v1/rules/down").await.expect(200), made[0]);
}

#[tokio::test]
async fn alerts_and_mails_about_what_is_not_theirs_are_not_there() {
    let two = two().await;
    let faults = vec![
        alert(1, two.core, "core1", AlertState::Firing),
        alert(
            2,
            two.edge,
            "edge1",
            AlertState::Unreachable {
                behind: vec![two.core],
            },
        ),
        alert(3, two.other, "core1", AlertState::Firing),
    ];
    let mut mail = mail_about(&faults[1]);
    mail.behind = vec!["core1".to_owned(), "gone".to_owned()];
    let judgement = Judgement {
        alerts: faults.clone(),
        gone: Vec::new(),
        deliveries: vec![mail_about(&faults[0]), mail, mail_about(&faults[2])],
    };
    two.api.store.judge(judgement).await.unwrap();
    let ids = |list: &Value| -> Vec<u64> {
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["id"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(
        ids(&two.get(&two.acme, "/alerts").await.expect(200)),
        [2, 1]
    );
    let seen = two.get(&two.bonn, "/alerts?limit=1").await.expect(200);
    assert_eq!((ids(&seen), &seen["next"]), (vec![2], &Value::Null));
    assert_eq!(seen["items"][0]["behind"], json!([]));
    two.get(&two.acme, "/alerts?device=edge1").await.expect(200);
    two.get(&two.bonn, "/alerts?device=core1").await.expect(404);
    two.get(&two.acme, "/alerts/3").await.expect(404);
    let cuts_off = two.get(&two.acme, "/alerts/1").await.expect(200);
    assert_eq!(cuts_off["unreachable"].as_array().unwrap().len(), 1);

    let outbox = two.get(&two.bonn, "/outbox").await.expect(200);
    assert_eq!(ids(&outbox).len(), 1);
    assert_eq!(outbox["items"][0]["behind"], json!([]));
    let all = two.api.get("/api/v1/outbox").await.expect(200);
    let theirs = all["items"][0]["id"].as_u64().unwrap();
    two.get(&two.acme, &format!("/outbox/{theirs}"))
        .await
        .expect(404);
    let retry = format!("/outbox/{theirs}/retry");
    two.send(&two.acme, "POST", &retry, json!({}))
        .await
        .expect(404);
    let status = two.get(&two.bonn, "/status").await.expect(200);
    assert_eq!(
        (
            &status["alerts"]["firing"],
            &status["alerts"]["unreachable"]
        ),
        (&json!(0), &json!(1))
    );
}

#[tokio::test]
async fn an_import_enters_what_the_caller_may_and_says_so_of_the_rest() {
    let two = two().await;
    let csv = "tenant,name,address,site,parents\n\
        ,a1,10.1.0.1,bonn,edge1\n\
        acme,a2,10.1.0.2,bonn,a1\n\
        other,a3,10.1.0.3,bonn,\n\
        acme,a4,10.1.0.4,berlin,\n\
        acme,a5,10.1.0.5,bonn,core1\n\
        acme,core1,10.1.0.6,bonn,\n";
    let headers = [("content-type", "text/csv")];
    let path = "/api/v1/devices/import";
    let answer = two
        .api
        .https(Some(&two.bonn), "POST", path, &headers, csv.as_bytes())
        .await;
    let report = answer.expect(200);
    assert_eq!(report["created"], 2, "{report}");
    let failures = report["failures"].as_array().unwrap();
    let lines: Vec<u64> = failures
        .iter()
        .map(|failure| failure["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [4, 5, 6, 7], "{report}");
    assert!(
        failures[0]["message"]
            .as_str()
            .unwrap()
            .contains("devices:write"),
        "{report}"
    );
    // the only core1 that may be meant is the one that does not go in
    assert_eq!(failures[2]["column"], "parents", "{report}");
    assert!(
        !failures[3]
            .to_string()
            .contains(&format!("device {}", two.core)),
        "{report}"
    );
    let made = two.get(&two.bonn, "/devices/a2").await.expect(200);
    assert_eq!(
        (&made["tenant"], &made["parents"]),
        (&json!("acme"), &json!(["a1"]))
    );
}

#[tokio::test]
async fn a_tag_is_a_limit_like_a_site() {
    let two = two().await;
    let mut tagged = binding(Role::Operator, Some("acme"));
    tagged.scope.tags.insert("core".to_owned());
    let token = two.api.token(new_token("tagged", vec![tagged], &[])).await;
    two.get(&token, "/devices/core1").await.expect(404);
    let path = format!("/api/v1/devices/{}", two.core);
    two.api
        .send("PATCH", &path, &json!({"tags": ["core"]}))
        .await
        .expect(200);
    two.get(&token, "/devices/core1").await.expect(200);
    // who takes the tag away would take the device from themselves
    two.send(&token, "PATCH", "/devices/core1", json!({"tags": []}))
        .await
        .expect(403);
}
