//! From an appliance that nobody owns to its first administrator.

use std::time::Duration;

use access::AccessError;
use model::{Role, UserName};
use serde_json::{Value, json};

use crate::harness::{Answer, NOW, Served, served};

const PASSWORD: &str = "paint seven quiet otters";

/// Makes a link as local root, and returns its token.
async fn link(api: &Served) -> String {
    let made = api.post("/api/v1/setup-links", &Value::Null).await;
    let link = made.expect(200);
    assert_eq!(link["path"], "/setup");
    // the daemon of these tests says nothing of HTTPS
    assert_eq!(link["urls"], json!([]));
    assert_eq!(
        link["expires"],
        NOW.plus(Duration::from_secs(30 * 60)).to_string()
    );
    link["token"].as_str().unwrap().to_owned()
}

/// Opens the link: what the page sends, from the network.
async fn set_up(api: &Served, token: &str, user: &str, password: &str) -> Answer {
    let body = json!({"token": token, "user": user, "password": password});
    api.https_send(None, "POST", "/api/v1/setup", &body).await
}

#[tokio::test]
async fn a_link_makes_the_first_administrator_who_may_do_everything() {
    let api = served().await;
    assert_eq!(
        api.https_get(None, "/api/v1/setup").await.expect(200),
        json!({"set_up": false})
    );
    let token = link(&api).await;
    let made = set_up(&api, &token, "Jane", PASSWORD).await;
    let user = made.expect(201);
    assert_eq!(user["name"], "jane");
    assert_eq!(user["bindings"][0]["role"], "ADMIN");
    assert_eq!(made.header("location"), Some("/api/v1/users/jane"));
    assert_eq!(
        api.https_get(None, "/api/v1/setup").await.expect(200),
        json!({"set_up": true})
    );

    let body = json!({"user": "jane", "password": PASSWORD});
    let session = api
        .https_send(None, "POST", "/api/v1/sessions", &body)
        .await;
    let token = session.expect(201)["access_token"].clone();
    let users = api.https_get(token.as_str(), "/api/v1/users").await;
    assert_eq!(users.expect(200)["total"], 1);
}

#[tokio::test]
async fn a_link_works_once_and_a_second_use_says_so() {
    let api = served().await;
    let token = link(&api).await;
    set_up(&api, &token, "jane", PASSWORD).await.expect(201);
    let again = set_up(&api, &token, "mallory", PASSWORD).await.expect(409);
    assert!(
        again["detail"].as_str().unwrap().contains("set up already"),
        "{again}"
    );
    assert_eq!(api.get("/api/v1/users").await.expect(200)["total"], 1);
    api.post("/api/v1/setup-links", &Value::Null)
        .await
        .expect(409);
}

#[tokio::test]
async fn of_many_who_use_a_link_at_once_one_gets_in() {
    let api = served().await;
    let token = link(&api).await;
    let names: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    let all = names
        .iter()
        .map(|name| set_up(&api, &token, name, PASSWORD));
    let answers = futures_util::future::join_all(all).await;
    let made = answers.iter().filter(|answer| answer.status == 201);
    assert_eq!(made.count(), 1);
    assert_eq!(api.get("/api/v1/users").await.expect(200)["total"], 1);
}

#[tokio::test]
async fn a_link_that_is_old_replaced_or_made_up_makes_nobody() {
    let api = served().await;
    let earlier = NOW.minus(Duration::from_secs(30 * 60));
    let old = api.access.offer_setup(earlier).unwrap();
    let refused = set_up(&api, old.token.expose(), "jane", PASSWORD).await;
    let problem = refused.expect(401);
    assert!(
        problem["detail"].as_str().unwrap().contains("too old"),
        "{problem}"
    );
    let replaced = link(&api).await;
    let good = link(&api).await;
    for wrong in [replaced.as_str(), "", "made up"] {
        set_up(&api, wrong, "jane", PASSWORD).await.expect(401);
    }
    set_up(&api, &good, "jane", PASSWORD).await.expect(201);
}

#[tokio::test]
async fn every_mistake_is_named_and_leaves_the_link_good() {
    let api = served().await;
    let token = link(&api).await;
    let body = json!({"user": "a b", "pasword": "x"});
    let wrong = api.https_send(None, "POST", "/api/v1/setup", &body).await;
    let places: Vec<String> = wrong.mistakes(422).into_iter().map(|(at, _)| at).collect();
    assert_eq!(places, ["/pasword", "/token", "/user", "/password"]);

    for weak in [
        "short",
        "password1234",
        "jane jane jane",
        "aaaaaaaaaaaaaaaa",
    ] {
        let refused = set_up(&api, &token, "jane", weak).await;
        let mistakes = refused.mistakes(422);
        assert_eq!(mistakes[0].0, "/password", "{weak}");
        assert!(!refused.body.contains(weak), "{}", refused.body);
    }
    set_up(&api, &token, "jane", PASSWORD).await.expect(201);
}

#[tokio::test]
async fn before_it_is_set_up_the_network_sees_the_way_to_do_so_and_nothing_else() {
    let api = served().await;
    for path in [
        "/api/v1/devices",
        "/api/v1/me",
        "/api/v1/users",
        "/api/v1/openapi.json",
    ] {
        let problem = api.https_get(None, path).await.expect(503);
        assert_eq!(problem["type"], "/problems/not-set-up", "{path}");
    }
    let body = json!({"user": "jane", "password": PASSWORD});
    let refused = api
        .https_send(None, "POST", "/api/v1/sessions", &body)
        .await;
    refused.expect(503);
    for path in ["/setup", "/setup.js", "/setup.css"] {
        assert_eq!(api.https_get(None, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn only_root_on_the_machine_itself_makes_links_or_an_administrator_without_one() {
    let api = served().await;
    api.set_up().await;
    let admin = api.role(Role::Admin, None).await;
    let body = json!({"user": "mallory", "password": PASSWORD});
    for path in ["/api/v1/setup-links", "/api/v1/admin"] {
        let nobody = api.https_send(None, "POST", path, &body).await;
        nobody.expect(401);
        let admin = api.https_send(Some(&admin), "POST", path, &body).await;
        admin.expect(403);
    }
}

#[tokio::test]
async fn local_root_makes_the_first_administrator_without_a_link_and_only_the_first() {
    let api = served().await;
    let weak = json!({"user": "jane", "password": "short"});
    let refused = api.post("/api/v1/admin", &weak).await;
    assert_eq!(refused.mistakes(422)[0].0, "/password");
    let body = json!({"user": "jane", "password": PASSWORD});
    let made = api.post("/api/v1/admin", &body).await.expect(201);
    assert_eq!(made["password_set"], true);
    assert!(!made["must_change_password"].as_bool().unwrap());
    api.post("/api/v1/admin", &body).await.expect(409);
    let people = api.store.people();
    assert!(
        people
            .user(&UserName("jane".into()))
            .unwrap()
            .is_full_admin()
    );
    assert!(matches!(
        api.access.offer_setup(NOW),
        Err(AccessError::AlreadySetUp)
    ));
}

#[tokio::test]
async fn the_page_may_do_little_and_keeps_the_token_out_of_the_address() {
    let api = served().await;
    let page = api.https_get(None, "/setup").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
        form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
    for path in ["/setup", "/setup.js", "/setup.css", "/signed-in"] {
        let part = api.get(path).await;
        assert_eq!(part.status, 200, "{path}");
        assert_eq!(part.header("content-security-policy"), Some(policy));
        assert_eq!(part.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(part.header("cache-control"), Some("no-store"));
    }
    // nothing that the policy forbids, so that all of it works
    for forbidden in [
        "<style",
        " style=",
        " onclick=",
        " onsubmit=",
        "javascript:",
        "http://",
        "https://",
    ] {
        assert!(!page.body.contains(forbidden), "{forbidden}");
    }
    let scripts = page.body.matches("<script").count();
    assert_eq!(
        scripts,
        page.body
            .matches("<script src=\"/setup.js\" defer></script>")
            .count()
    );
    // every input has a label, and what happens is said aloud
    for input in ["user", "password", "again", "show"] {
        assert!(
            page.body.contains(&format!("<label for=\"{input}\">")),
            "{input}"
        );
        assert!(page.body.contains(&format!("id=\"{input}\"")), "{input}");
    }
    assert!(page.body.contains("aria-live=\"polite\""));

    let script = api.https_get(None, "/setup.js").await.body;
    let read = script.find("location.hash").unwrap();
    let removed = script
        .find("history.replaceState(null, \"\", location.pathname)")
        .unwrap();
    let sent = script.find("fetch(").unwrap();
    assert!(read < removed && removed < sent);
    assert!(!script.contains("innerHTML"));
    assert!(script.contains("sotp login"));
}
