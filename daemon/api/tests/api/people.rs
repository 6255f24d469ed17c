//! Users, tenants, roles and the policy.

use model::{Permission, Role};
use serde_json::{Value, json};

use crate::harness::{Served, binding, new_token, served};

const PASSWORD: &str = "paint seven quiet otters";

async fn ready() -> Served {
    let api = served().await;
    api.set_up().await;
    api.tenant("acme").await;
    api
}

/// Makes somebody with these roles and no password.
async fn user(api: &Served, name: &str, bindings: Value) -> Value {
    let body = json!({"name": name, "bindings": bindings});
    api.post("/api/v1/users", &body).await.expect(201)
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}

/// The places of the mistakes that were made.
fn places(mistakes: Vec<(String, String)>) -> Vec<String> {
    mistakes.into_iter().map(|(place, _)| place).collect()
}

#[tokio::test]
async fn a_user_is_made_shown_changed_and_deleted() {
    let api = ready().await;
    let body = json!({
        "name": "Jane@Example.net",
        "full_name": "Jane Doe",
        "email": "jane@example.net",
        "bindings": [{"role": "operator", "tenant": "acme", "sites": ["berlin"]}],
        "certificate": "CN=jane",
        "oidc": {"issuer": "https://login.example.net", "subject": "4711"},
        "password": PASSWORD,
    });
    let made = api.post("/api/v1/users", &body).await;
    let user = made.expect(201);
    let path = made.header("location").unwrap();
    assert_eq!(path, "/api/v1/users/jane%40example.net");
    assert_eq!(user["password_set"], true);
    assert_eq!(user["must_change_password"], true);
    assert_eq!(user["totp"], "none");
    assert_eq!(user["last_login"], Value::Null);
    let bindings = json!([{"role": "OPERATOR", "tenant": "acme", "sites": ["berlin"], "tags": []}]);
    assert_eq!(user["bindings"], bindings);
    assert!(!made.body.contains(PASSWORD) && !made.body.contains("argon2"));
    assert_eq!(api.get(path).await.expect(200), user);

    let patch = json!({"full_name": null, "active": false, "bindings": []});
    let changed = api.send("PATCH", path, &patch).await.expect(200);
    assert_eq!(changed["full_name"], Value::Null);
    assert_eq!(changed["active"], false);
    assert_eq!(changed["bindings"], json!([]));
    assert_eq!(changed["email"], "jane@example.net");
    assert_eq!(changed["oidc"]["subject"], "4711");
    assert_eq!(changed["revision"], 2);

    api.delete(path).await.expect(204);
    api.get(path).await.expect(404);
}

#[tokio::test]
async fn every_mistake_in_a_user_is_named() {
    let api = ready().await;
    let body = json!({
        "name": "a b",
        "email": "nobody",
        "active": "yes",
        "bindings": [{"role": "ROOT"}, {"role": "ADMIN", "tenant": "nobody"}],
        "oidc": {"issuer": "x"},
        "last_login": "now",
        "nmae": "x",
    });
    let wrong = api.post("/api/v1/users", &body).await;
    let mut wrong = places(wrong.mistakes(422));
    wrong.sort();
    assert_eq!(
        wrong,
        [
            "/active",
            "/bindings/0/role",
            "/bindings/1/tenant",
            "/email",
            "/last_login",
            "/name",
            "/nmae",
            "/oidc/subject",
        ]
    );
    let weak = json!({"name": "jane", "password": "password1234"});
    let refused = api.post("/api/v1/users", &weak).await;
    assert_eq!(places(refused.mistakes(422)), ["/password"]);
    assert!(!refused.body.contains("password1234"));
    let missing = api.post("/api/v1/users", &json!({})).await;
    assert_eq!(places(missing.mistakes(422)), ["/name"]);
}

#[tokio::test]
async fn names_certificates_and_subjects_are_one_person_s() {
    let api = ready().await;
    let body = json!({
        "name": "jane",
        "certificate": "CN=jane",
        "oidc": {"issuer": "i", "subject": "s"},
    });
    api.post("/api/v1/users", &body).await.expect(201);
    for (body, place) in [
        (json!({"name": "JANE"}), "/name"),
        (
            json!({"name": "joe", "certificate": "CN=jane"}),
            "/certificate",
        ),
        (
            json!({"name": "joe", "oidc": {"issuer": "i", "subject": "s"}}),
            "/oidc",
        ),
    ] {
        let taken = api.post("/api/v1/users", &body).await;
        assert_eq!(places(taken.mistakes(409)), [place]);
    }
}

#[tokio::test]
async fn a_change_says_which_revision_it_is_meant_for() {
    let api = ready().await;
    user(&api, "jane", json!([])).await;
    for (path, patch) in [
        ("/api/v1/users/jane", json!({"full_name": "J"})),
        ("/api/v1/tenants/acme", json!({"note": "n"})),
        ("/api/v1/policy", json!({"require_totp": ["AUDITOR"]})),
    ] {
        let patch = patch.to_string();
        let json = ("content-type", "application/merge-patch+json");
        let none = api.ask("PATCH", path, &[json], patch.as_bytes()).await;
        none.expect(428);
        let other = [json, ("if-match", "\"99\"")];
        api.ask("PATCH", path, &other, patch.as_bytes())
            .await
            .expect(412);
        let tag = api.get(path).await.header("etag").unwrap().to_owned();
        let right = [json, ("if-match", tag.as_str())];
        let changed = api.ask("PATCH", path, &right, patch.as_bytes()).await;
        changed.expect(200);
        assert_ne!(changed.header("etag"), Some(tag.as_str()), "{path}");
        // the same again is meant for what it was before
        api.ask("PATCH", path, &right, patch.as_bytes())
            .await
            .expect(412);
        let list = api
            .ask("PATCH", path, &[json, ("if-match", "*")], b"[]")
            .await;
        list.expect(422);
    }
    for path in ["/api/v1/users/jane", "/api/v1/tenants/acme"] {
        api.ask("DELETE", path, &[], b"").await.expect(428);
        api.ask("DELETE", path, &[("if-match", "\"99\"")], b"")
            .await
            .expect(412);
    }
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let api = ready().await;
    let path = "/api/v1/users/root";
    for patch in [
        json!({"active": false}),
        json!({"bindings": []}),
        json!({"bindings": [{"role": "ADMIN", "tenant": "acme"}]}),
    ] {
        api.send("PATCH", path, &patch).await.expect(409);
    }
    api.delete(path).await.expect(409);
    user(&api, "jane", json!([{"role": "ADMIN"}])).await;
    api.delete(path).await.expect(204);
}

#[tokio::test]
async fn people_are_listed_by_pages_filters_and_an_order_that_is_allowed() {
    let api = ready().await;
    user(&api, "ann", json!([{"role": "READONLY", "tenant": "acme"}])).await;
    user(&api, "bob", json!([{"role": "OPERATOR"}])).await;
    let body = json!({"name": "eve", "full_name": "Eve Smith", "active": false});
    api.post("/api/v1/users", &body).await.expect(201);

    let mut seen = Vec::new();
    let mut path = "/api/v1/users?sort=-name&limit=3".to_owned();
    loop {
        let page = api.get(&path).await.expect(200);
        assert_eq!(page["total"], 4);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/users?sort=-name&limit=3&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["root", "eve", "bob", "ann"]);
    for (query, wanted) in [
        ("role=READONLY,OPERATOR", vec!["ann", "bob"]),
        ("tenant=acme&role=readonly", vec!["ann"]),
        ("active=false", vec!["eve"]),
        ("q=smith+EVE", vec!["eve"]),
        ("q=nobody", vec![]),
    ] {
        let page = api.get(&format!("/api/v1/users?{query}")).await.expect(200);
        assert_eq!(names(&page), wanted, "{query}");
    }
    for (query, parameter) in [
        ("sort=password", "sort"),
        ("role=root", "role"),
        ("limit=0", "limit"),
        ("cursor=zz", "cursor"),
        ("colour=red", "colour"),
    ] {
        let wrong = api.get(&format!("/api/v1/users?{query}")).await;
        assert_eq!(places(wrong.mistakes(400)), [parameter]);
    }
}

#[tokio::test]
async fn nobody_makes_or_takes_over_somebody_who_may_do_more() {
    let api = ready().await;
    // may change users, and nothing else
    let permissions = [Permission::UsersRead, Permission::UsersWrite];
    let new = new_token("people", vec![binding(Role::Admin, None)], &permissions);
    let weak = api.token(new).await;
    let ask = async |method: &str, path: &str, body: Value| {
        api.https_send(Some(&weak), method, path, &body).await
    };
    let admin = json!({"name": "mallory", "bindings": [{"role": "ADMIN"}]});
    let refused = ask("POST", "/api/v1/users", admin).await;
    assert_eq!(places(refused.mistakes(403)), ["/bindings"]);
    ask("POST", "/api/v1/users", json!({"name": "mallory"}))
        .await
        .expect(201);
    let raise = json!({"bindings": [{"role": "READONLY"}]});
    ask("PATCH", "/api/v1/users/mallory", raise)
        .await
        .expect(403);

    let root = "/api/v1/users/root";
    ask("PATCH", root, json!({"certificate": "CN=mallory"}))
        .await
        .expect(403);
    ask("POST", "/api/v1/users/root/password-reset", json!({}))
        .await
        .expect(403);
    ask("DELETE", "/api/v1/users/root/totp", json!({}))
        .await
        .expect(403);
    ask("DELETE", root, json!({})).await.expect(403);
    let denied = api.denied().await;
    assert!(
        denied
            .iter()
            .all(|(actor, _, _)| actor.starts_with("token:people"))
    );
    assert_eq!(denied.len(), 6, "{denied:?}");
}

#[tokio::test]
async fn people_belong_to_the_whole_appliance() {
    let api = ready().await;
    let scoped = api.role(Role::Admin, Some("acme")).await;
    for path in ["/api/v1/users", "/api/v1/users/root", "/api/v1/policy"] {
        api.https_get(Some(&scoped), path).await.expect(403);
    }
    let body = json!({"name": "mallory", "bindings": [{"role": "ADMIN", "tenant": "acme"}]});
    let made = api
        .https_send(Some(&scoped), "POST", "/api/v1/users", &body)
        .await;
    made.expect(403);
    let operator = api.role(Role::Operator, None).await;
    api.https_get(Some(&operator), "/api/v1/users")
        .await
        .expect(403);
    let auditor = api.role(Role::Auditor, None).await;
    api.https_get(Some(&auditor), "/api/v1/users")
        .await
        .expect(200);
    let body = json!({"name": "mallory"});
    let made = api
        .https_send(Some(&auditor), "POST", "/api/v1/users", &body)
        .await;
    made.expect(403);
}

#[tokio::test]
async fn signing_somebody_out_everywhere_and_taking_their_codes_away() {
    let api = ready().await;
    let body = json!({"name": "jane", "password": PASSWORD, "must_change_password": false});
    api.post("/api/v1/users", &body).await.expect(201);
    let body = json!({"user": "jane", "password": PASSWORD});
    let session = api
        .https_send(None, "POST", "/api/v1/sessions", &body)
        .await;
    let token = session.expect(201)["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let begun = api
        .https_send(
            Some(&token),
            "POST",
            "/api/v1/me/totp",
            &json!({"password": PASSWORD}),
        )
        .await;
    begun.expect(200);

    api.delete("/api/v1/users/jane/totp").await.expect(204);
    assert_eq!(
        api.get("/api/v1/users/jane").await.expect(200)["totp"],
        "none"
    );
    api.delete("/api/v1/users/jane/sessions").await.expect(204);
    api.https_get(Some(&token), "/api/v1/me").await.expect(401);
    for path in ["/api/v1/users/nobody/totp", "/api/v1/users/nobody/sessions"] {
        api.delete(path).await.expect(404);
    }
}

#[tokio::test]
async fn a_role_that_is_taken_away_is_gone_at_once() {
    let api = ready().await;
    let body = json!({
        "name": "jane",
        "password": PASSWORD,
        "must_change_password": false,
        "bindings": [{"role": "ADMIN"}],
    });
    api.post("/api/v1/users", &body).await.expect(201);
    let body = json!({"user": "jane", "password": PASSWORD});
    let session = api
        .https_send(None, "POST", "/api/v1/sessions", &body)
        .await;
    let token = session.expect(201)["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    api.https_get(Some(&token), "/api/v1/users")
        .await
        .expect(200);
    let less = json!({"bindings": [{"role": "READONLY"}]});
    api.send("PATCH", "/api/v1/users/jane", &less)
        .await
        .expect(200);
    api.https_get(Some(&token), "/api/v1/users")
        .await
        .expect(403);
    let out = json!({"active": false});
    api.send("PATCH", "/api/v1/users/jane", &out)
        .await
        .expect(200);
    api.https_get(Some(&token), "/api/v1/me").await.expect(401);
}

#[tokio::test]
async fn a_tenant_is_made_limited_and_deleted_when_nothing_is_left_in_it() {
    let api = ready().await;
    let body = json!({"name": "globex", "note": "a customer", "quota": {"devices": 5}});
    let made = api.post("/api/v1/tenants", &body).await;
    let tenant = made.expect(201);
    let path = made.header("location").unwrap();
    assert_eq!(
        tenant["quota"],
        json!({"devices": 5, "samples_per_second": null, "log_lines_per_second": null})
    );
    let patch = json!({"quota": {"devices": null, "samples_per_second": 10}});
    let changed = api.send("PATCH", path, &patch).await.expect(200);
    assert_eq!(changed["quota"]["devices"], Value::Null);
    assert_eq!(changed["quota"]["samples_per_second"], 10);
    assert_eq!(changed["note"], "a customer");

    let taken = api.post("/api/v1/tenants", &body).await;
    assert_eq!(places(taken.mistakes(409)), ["/name"]);
    let wrong = json!({"name": "ACME!", "quota": {"devices": -1, "disks": 1}});
    let wrong = api.post("/api/v1/tenants", &wrong).await;
    assert_eq!(
        places(wrong.mistakes(422)),
        ["/name", "/quota/disks", "/quota/devices"]
    );

    let secret = json!({"value": "x"});
    let secret_path = "/api/v1/secrets/globex%2Fsmtp";
    api.send("PUT", secret_path, &secret).await.expect(201);
    api.delete(path).await.expect(409);
    api.delete(secret_path).await.expect(204);
    api.delete(path).await.expect(204);
    api.get(path).await.expect(404);
    api.delete("/api/v1/tenants/default").await.expect(409);
}

#[tokio::test]
async fn of_tenants_everybody_sees_those_in_which_they_may_do_something() {
    let api = ready().await;
    api.tenant("globex").await;
    let all = api.get("/api/v1/tenants").await.expect(200);
    assert_eq!(names(&all), ["acme", "default", "globex"]);
    let operator = api.role(Role::Operator, Some("acme")).await;
    let own = api
        .https_get(Some(&operator), "/api/v1/tenants")
        .await
        .expect(200);
    assert_eq!((names(&own), &own["total"]), (vec!["acme"], &json!(1)));
    api.https_get(Some(&operator), "/api/v1/tenants/acme")
        .await
        .expect(200);
    api.https_get(Some(&operator), "/api/v1/tenants/globex")
        .await
        .expect(404);
    let admin = api.role(Role::Admin, Some("acme")).await;
    let more = json!({"quota": {"devices": 1_000_000}});
    let raise = api
        .https_send(Some(&admin), "PATCH", "/api/v1/tenants/acme", &more)
        .await;
    raise.expect(403);
    let body = json!({"name": "mine"});
    let made = api
        .https_send(Some(&admin), "POST", "/api/v1/tenants", &body)
        .await;
    made.expect(403);
    let read_only = api.role(Role::ReadOnly, None).await;
    api.https_get(Some(&read_only), "/api/v1/tenants")
        .await
        .expect(403);
}

#[tokio::test]
async fn the_policy_names_roles_that_need_codes() {
    let api = ready().await;
    let policy = api.get("/api/v1/policy").await;
    assert_eq!(
        policy.expect(200),
        json!({"require_totp": [], "revision": 0})
    );
    assert_eq!(policy.header("etag"), Some("\"0\""));
    let patch = json!({"require_totp": ["admin", "OPERATOR"]});
    let changed = api
        .send("PATCH", "/api/v1/policy", &patch)
        .await
        .expect(200);
    assert_eq!(changed["require_totp"], json!(["ADMIN", "OPERATOR"]));
    let wrong = json!({"require_totp": ["ROOT"], "min_password": 4});
    let wrong = api.send("PATCH", "/api/v1/policy", &wrong).await;
    assert_eq!(
        places(wrong.mistakes(422)),
        ["/min_password", "/require_totp/0"]
    );
}

#[tokio::test]
async fn the_roles_and_what_they_allow_can_be_read_by_everybody_who_is_known() {
    let api = ready().await;
    let read_only = api.role(Role::ReadOnly, Some("acme")).await;
    let roles = api
        .https_get(Some(&read_only), "/api/v1/roles")
        .await
        .expect(200);
    assert_eq!(names(&roles), ["ADMIN", "OPERATOR", "AUDITOR", "READONLY"]);
    let permissions = roles["permissions"].as_array().unwrap();
    assert_eq!(permissions.len(), Permission::ALL.len());
    assert_eq!(
        roles["items"][0]["permissions"].as_array().unwrap().len(),
        permissions.len()
    );
    api.https_get(None, "/api/v1/roles").await.expect(401);
}
