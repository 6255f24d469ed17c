//! Signing in at an OpenID provider, good and evil.

use std::time::Duration;

use model::{Binding, By, OidcSubject, Permission, Role, SecretName, Timestamp};
use secrets::SecretBytes;
use serde_json::{Value, json};

use super::provider::{CLIENT, SECRET, Signed, TestProvider, query};
use super::support::{House, NOW, everywhere, from, with_oidc, within};
use crate::{AccessError, Granted, OidcReturn, OidcSettings, Restriction};

/// A house whose people may sign in at a provider.
struct Scene {
    house: House,
    provider: TestProvider,
    settings: OidcSettings,
}

fn groups() -> Vec<(String, Binding)> {
    vec![
        ("noc".to_owned(), everywhere(Role::Operator)),
        ("netadmins".to_owned(), everywhere(Role::Admin)),
        (
            "berlin".to_owned(),
            within(Role::ReadOnly, None, &["berlin"], &[]),
        ),
        (
            "lost".to_owned(),
            within(Role::Admin, Some("nowhere"), &[], &[]),
        ),
    ]
}

impl Scene {
    async fn new() -> Scene {
        let provider = TestProvider::start().await;
        let settings = OidcSettings {
            issuer: provider.issuer(),
            client_id: CLIENT.to_owned(),
            client_secret: Some(SecretName("oidc".to_owned())),
            redirect: "https://nms.example.net:8443/api/v1/oidc/callback".to_owned(),
            scopes: vec![
                "openid".to_owned(),
                "profile".to_owned(),
                "groups".to_owned(),
            ],
            groups_claim: "groups".to_owned(),
            user_claim: "preferred_username".to_owned(),
            groups: groups(),
            ca_file: None,
            create_users: true,
            trust_mfa: false,
        };
        let house = House::new().await;
        let (name, value) = (
            SecretName("oidc".to_owned()),
            SecretBytes::from(SECRET.to_owned()),
        );
        let by = By::system();
        house
            .secrets
            .put(&by, name, value, None, None, NOW)
            .await
            .unwrap();
        house
            .access
            .reconfigure(with_oidc(settings.clone()))
            .unwrap();
        Scene {
            house,
            provider,
            settings,
        }
    }

    fn set(&mut self, change: impl FnOnce(&mut OidcSettings)) {
        change(&mut self.settings);
        self.house
            .access
            .reconfigure(with_oidc(self.settings.clone()))
            .unwrap();
    }

    /// Goes there and comes back.
    async fn sign_in(&self) -> Result<Granted, AccessError> {
        self.sign_in_at(NOW).await
    }

    async fn sign_in_at(&self, now: Timestamp) -> Result<Granted, AccessError> {
        let away = self.house.access.oidc_begin(now).await?;
        let (code, state) = self.provider.sign_in(&away.url);
        self.back(&code, &state, away.state_cookie.expose(), now)
            .await
    }

    async fn back(
        &self,
        code: &str,
        state: &str,
        state_cookie: &str,
        now: Timestamp,
    ) -> Result<Granted, AccessError> {
        let back = OidcReturn {
            code,
            state,
            issuer: None,
            state_cookie,
        };
        let agent = Some("a browser".to_owned());
        self.house
            .access
            .oidc_finish(back, agent, &from(3), now)
            .await
    }

    /// Says why nobody got in, and sees that nobody did.
    async fn refused(&self) -> String {
        let why = match self.sign_in().await {
            Ok(granted) => panic!("{} is in", granted.user.name),
            Err(error) => error.to_string(),
        };
        assert_eq!(self.house.store.sessions().len(), 0, "{why}");
        assert_eq!(self.house.store.people().users().count(), 1, "{why}");
        why
    }
}

#[tokio::test]
async fn somebody_from_a_known_group_is_entered_and_let_in() {
    let scene = Scene::new().await;
    let granted = scene.sign_in().await.unwrap();
    let user = &granted.user;
    assert_eq!(user.name.0, "jane");
    assert_eq!(user.bindings, [everywhere(Role::Operator)]);
    assert_eq!(
        (user.full_name.as_deref(), user.email.as_deref()),
        (Some("Jane Doe"), Some("jane@example.net"))
    );
    assert_eq!(user.password, None);
    let caller = scene.house.caller(&granted);
    assert!(caller.holds_everywhere(Permission::DevicesWrite));
    assert_eq!(
        scene.house.store.sessions()[&granted.session].how,
        model::SignIn::Oidc
    );
    let again = scene.sign_in().await.unwrap();
    assert_eq!(again.user.name.0, "jane");
    assert_eq!(scene.house.store.people().users().count(), 2);
    assert_eq!(scene.provider.asked("/jwks"), 1, "the keys are remembered");
    let with_password = scene.house.log_in_at("jane", "", None, &from(1), NOW).await;
    assert!(matches!(with_password, Err(AccessError::Refused)));
}

#[tokio::test]
async fn each_attempt_has_its_own_state_nonce_and_challenge() {
    let scene = Scene::new().await;
    let (one, other) = (
        scene.house.access.oidc_begin(NOW).await.unwrap(),
        scene.house.access.oidc_begin(NOW).await.unwrap(),
    );
    let (asked, too) = (query(&one.url), query(&other.url));
    for name in ["state", "nonce", "code_challenge"] {
        assert_ne!(asked[name], too[name], "{name}");
        assert!(asked[name].len() >= 43, "{name}");
    }
    assert!(!one.url.contains(one.state_cookie.expose()));
}

/// Evil or broken ways to say who somebody is.
#[tokio::test]
async fn an_id_token_with_anything_wrong_in_it_lets_nobody_in() {
    let scene = Scene::new().await;
    let secs = NOW.0 / 1000;
    for (name, value) in [
        ("iss", json!("https://evil.example.net")),
        ("iss", json!(format!("{}/", scene.provider.issuer()))),
        ("iss", Value::Null),
        ("aud", json!("another-client")),
        ("aud", json!([CLIENT, "another-client"])),
        ("aud", Value::Null),
        ("azp", json!("another-client")),
        ("nonce", json!("another-nonce")),
        ("nonce", Value::Null),
        ("exp", json!(secs)),
        ("exp", json!(secs - 3600)),
        ("exp", Value::Null),
        ("iat", json!(secs + 3600)),
        ("sub", Value::Null),
    ] {
        scene.provider.be(|it| {
            it.claims.clear();
            it.claims.insert(name.to_owned(), value.clone());
        });
        let why = scene.refused().await;
        assert!(
            why.starts_with("sign-in at the OpenID provider failed"),
            "{name} {value}: {why}"
        );
    }
    assert!(
        scene
            .house
            .audited("session.refused", "user:(unknown)")
            .await
    );
}

#[tokio::test]
async fn an_id_token_that_the_providers_key_did_not_sign_lets_nobody_in() {
    let scene = Scene::new().await;
    for signed in [
        Signed::NotAtAll,
        Signed::WithClientSecret,
        Signed::WithPublicKey,
        Signed::WithAnotherKey,
    ] {
        for kid in [Some("key-1"), None] {
            scene.provider.be(|it| (it.signed, it.kid) = (signed, kid));
            let why = scene.refused().await;
            assert!(why.contains("not believed"), "{signed:?}: {why}");
        }
    }
    scene.provider.be(|it| it.signed = Signed::WithItsKey);
    scene.sign_in().await.unwrap();
}

#[tokio::test]
async fn an_unknown_key_makes_us_ask_for_the_keys_once_a_minute_at_most() {
    let scene = Scene::new().await;
    scene.provider.be(|it| it.kid = Some("key-2"));
    for _ in 0..5 {
        assert!(scene.refused().await.contains("No matching key"));
    }
    assert_eq!(
        scene.provider.asked("/jwks"),
        2,
        "at the beginning, and once more"
    );
    // the provider changed its key, and a minute is over
    scene.provider.be(|it| it.published = "key-2");
    assert!(scene.refused().await.contains("No matching key"));
    let later = NOW.plus(Duration::from_mins(1));
    scene.sign_in_at(later).await.unwrap();
    assert_eq!(scene.provider.asked("/jwks"), 3);
}

#[tokio::test]
async fn the_providers_description_and_keys_are_read_anew_every_hour() {
    let scene = Scene::new().await;
    scene.sign_in().await.unwrap();
    let hour = NOW.plus(Duration::from_hours(1));
    scene.provider.be(|it| {
        it.claims
            .insert("exp".to_owned(), json!(hour.0 / 1000 + 60));
    });
    scene.sign_in_at(hour).await.unwrap();
    assert_eq!(scene.provider.asked("/jwks"), 2);
}

#[tokio::test]
async fn an_answer_that_is_not_for_this_browser_lets_nobody_in() {
    let scene = Scene::new().await;
    let access = &scene.house.access;
    let (mine, theirs) = (
        access.oidc_begin(NOW).await.unwrap(),
        access.oidc_begin(NOW).await.unwrap(),
    );
    let (code, state) = scene.provider.sign_in(&mine.url);
    let cookie = mine.state_cookie.expose();
    for (state, cookie) in [
        ("", cookie),
        ("guess", cookie),
        (&state, ""),
        (&state, "guess"),
        // somebody's own answer slipped into another's browser
        (&state, theirs.state_cookie.expose()),
    ] {
        let answer = scene.back(&code, state, cookie, NOW).await;
        assert!(
            matches!(answer, Err(AccessError::Oidc { .. })),
            "{state} {cookie}"
        );
    }
    assert_eq!(
        scene.provider.asked("/token"),
        0,
        "the provider is not even asked"
    );
    let mixed_up = OidcReturn {
        code: &code,
        state: &state,
        issuer: Some("https://evil.example.net"),
        state_cookie: cookie,
    };
    let answer = access.oidc_finish(mixed_up, None, &from(3), NOW).await;
    assert!(matches!(answer, Err(AccessError::Oidc { .. })));
    let again = scene.back(&code, &state, cookie, NOW).await;
    assert!(again.unwrap_err().to_string().contains("came back before"));
    assert_eq!(scene.house.store.sessions().len(), 0);
}

#[tokio::test]
async fn a_code_is_of_no_use_to_who_did_not_ask_for_it() {
    let scene = Scene::new().await;
    let away = scene.house.access.oidc_begin(NOW).await.unwrap();
    let (_, state) = scene.provider.sign_in(&away.url);
    let answer = scene
        .back("made-up", &state, away.state_cookie.expose(), NOW)
        .await;
    assert!(
        answer
            .unwrap_err()
            .to_string()
            .contains("does not take the code")
    );
}

#[tokio::test]
async fn the_address_or_name_of_a_person_at_the_provider_takes_nobody_over() {
    let mut scene = Scene::new().await;
    scene
        .house
        .change("root", |user| {
            user.email = Some("jane@example.net".to_owned());
        })
        .await;
    let granted = scene.sign_in().await.unwrap();
    assert_eq!(granted.user.name.0, "jane", "somebody of their own");
    assert!(!granted.user.is_full_admin());
    let other = json!("subject-2");
    scene.provider.be(|it| {
        it.claims.insert("sub".to_owned(), other);
        it.claims
            .insert("preferred_username".to_owned(), json!("ROOT"));
    });
    let why = scene.sign_in().await.unwrap_err().to_string();
    assert!(why.contains("already who is somebody else"), "{why}");
    scene.set(|settings| settings.user_claim = "email".to_owned());
    scene.provider.be(|it| {
        it.claims.insert("email".to_owned(), json!("root"));
    });
    assert!(scene.sign_in().await.is_err());
    assert_eq!(scene.house.user("root").oidc, None);
}

#[tokio::test]
async fn who_is_bound_by_hand_is_known_by_issuer_and_subject_alone() {
    let mut scene = Scene::new().await;
    scene.set(|settings| settings.create_users = false);
    assert!(scene.refused().await.contains("nobody's here"));
    let subject = |issuer: String| {
        Some(OidcSubject {
            issuer,
            subject: "subject-1".to_owned(),
        })
    };
    scene.house.enter("doe", Role::ReadOnly).await;
    let elsewhere = subject("https://another.example.net".to_owned());
    scene
        .house
        .change("doe", |user| user.oidc = elsewhere)
        .await;
    assert!(scene.sign_in().await.is_err());
    let here = subject(scene.provider.issuer());
    scene.house.change("doe", |user| user.oidc = here).await;
    let granted = scene.sign_in().await.unwrap();
    assert_eq!(granted.user.name.0, "doe");
    assert_eq!(
        granted.user.bindings,
        [everywhere(Role::Operator)],
        "what the groups say"
    );
    scene.house.change("doe", |user| user.active = false).await;
    assert!(
        scene
            .sign_in()
            .await
            .unwrap_err()
            .to_string()
            .contains("not active")
    );
}

#[tokio::test]
async fn what_somebody_may_is_what_their_groups_say_at_each_sign_in() {
    let scene = Scene::new().await;
    let say = |groups: Value| {
        scene.provider.be(|it| {
            it.claims.insert("groups".to_owned(), groups);
        });
    };
    let first = scene.sign_in().await.unwrap();
    say(json!(["berlin", "netadmins", "lost"]));
    let granted = scene.sign_in().await.unwrap();
    let both = [
        everywhere(Role::Admin),
        within(Role::ReadOnly, None, &["berlin"], &[]),
    ];
    assert_eq!(
        granted.user.bindings, both,
        "a role in a tenant that is not there is none"
    );
    assert!(
        scene
            .house
            .caller(&first)
            .holds_everywhere(Permission::UsersWrite),
        "at once"
    );
    say(json!("berlin"));
    scene.sign_in().await.unwrap();
    assert!(!scene.house.caller(&first).holds(Permission::UsersWrite));
    for nothing in [
        json!(["everybody"]),
        json!([]),
        json!({"noc": true}),
        Value::Null,
    ] {
        say(nothing);
        let why = scene.sign_in().await.unwrap_err().to_string();
        assert!(why.contains("none of the groups of jane"), "{why}");
        assert!(scene.house.user("jane").bindings.is_empty());
        assert!(
            scene.house.show(&first, NOW).is_err(),
            "and their sessions end"
        );
    }
}

#[tokio::test]
async fn somebody_new_without_a_known_group_or_a_usable_name_is_not_entered() {
    let scene = Scene::new().await;
    for (name, value) in [
        ("groups", json!(["everybody"])),
        ("preferred_username", json!("Jane Doe")),
        ("preferred_username", json!("")),
        ("preferred_username", json!(["jane"])),
        ("preferred_username", Value::Null),
    ] {
        scene.provider.be(|it| {
            it.claims.clear();
            it.claims.insert(name.to_owned(), value.clone());
        });
        scene.refused().await;
    }
}

#[tokio::test]
async fn a_provider_that_says_nonsense_or_too_much_is_not_believed() {
    for (change, expected) in [
        (("broken", ""), "cannot be asked"),
        (("issuer", "https://evil.example.net"), "cannot be asked"),
        (("ballast", ""), "cannot be asked"),
        (("keys", ""), "cannot be asked"),
        (("no id token", ""), "no ID token"),
    ] {
        let scene = Scene::new().await;
        scene.provider.be(|it| match change {
            ("broken", _) => it.broken = Some("<html>"),
            ("issuer", other) => it.issuer = Some(other.to_owned()),
            ("ballast", _) => it.ballast = 10 << 20,
            ("keys", _) => it.more_keys = 200,
            _ => it.no_id_token = true,
        });
        let why = scene.refused().await;
        assert!(why.contains(expected), "{change:?}: {why}");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_left_alone_for_a_moment_and_asked_again_then() {
    let scene = Scene::new().await;
    scene.provider.be(|it| it.broken = Some("down"));
    for _ in 0..5 {
        let answer = scene.sign_in().await;
        assert!(matches!(answer, Err(AccessError::OidcUnavailable { .. })));
    }
    assert_eq!(scene.provider.asked("/.well-known/openid-configuration"), 1);
    scene.provider.be(|it| it.broken = None);
    scene
        .sign_in_at(NOW.plus(Duration::from_secs(10)))
        .await
        .unwrap();
}

#[tokio::test]
async fn nobody_at_the_providers_address_and_no_provider_at_all_are_said_apart() {
    let mut scene = Scene::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    scene.set(|settings| settings.issuer = format!("http://{free}"));
    let down = scene.house.access.oidc_begin(NOW).await;
    assert!(matches!(down, Err(AccessError::OidcUnavailable { .. })));
    scene.set(|settings| settings.issuer = "http://192.0.2.1".to_owned());
    let plain = scene
        .house
        .access
        .oidc_begin(NOW)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        plain.contains("neither https nor on this machine"),
        "{plain}"
    );
    scene
        .house
        .access
        .reconfigure(super::support::settings())
        .unwrap();
    let off = scene.house.access.oidc_begin(NOW).await;
    assert!(matches!(off, Err(AccessError::OidcOff)));
    assert!(matches!(
        scene.back("c", "s", "x", NOW).await,
        Err(AccessError::OidcOff)
    ));
}

#[tokio::test]
async fn a_second_factor_at_the_provider_counts_only_where_it_is_trusted() {
    let mut scene = Scene::new().await;
    scene.house.demand_codes(&[Role::Operator]).await;
    let say = |methods: Value, scene: &Scene| {
        scene.provider.be(|it| {
            it.claims.insert("amr".to_owned(), methods);
        });
    };
    say(json!(["pwd", "mfa"]), &scene);
    let untrusted = scene.sign_in().await.unwrap();
    assert_eq!(untrusted.restricted, Some(Restriction::MustEnrolTotp));
    scene.set(|settings| settings.trust_mfa = true);
    let trusted = scene.sign_in().await.unwrap();
    assert_eq!(trusted.restricted, None);
    assert_eq!(scene.house.caller(&trusted).restricted, None);
    let still = scene.house.caller(&untrusted).restricted;
    assert_eq!(still, Some(Restriction::MustEnrolTotp));
    for nothing in [json!(["pwd"]), json!("pwd"), json!({"mfa": 1}), Value::Null] {
        say(nothing, &scene);
        if let Ok(granted) = scene.sign_in().await {
            assert_eq!(granted.restricted, Some(Restriction::MustEnrolTotp));
        }
    }
}

#[tokio::test]
async fn a_session_from_the_provider_proves_a_second_factor_with_a_code_of_ours() {
    let scene = Scene::new().await;
    scene.house.demand_codes(&[Role::Operator]).await;
    let granted = scene.sign_in().await.unwrap();
    let caller = scene.house.caller(&granted);
    assert_eq!(caller.restricted, Some(Restriction::MustEnrolTotp));
    let access = &scene.house.access;
    access.begin_totp(&caller, None, NOW).await.unwrap();
    let seed = SecretName(".totp/jane".to_owned());
    let code = |now| {
        let seed = scene.house.secrets.expose(&seed).unwrap();
        crate::totp::code_at(seed.expose(), now)
    };
    let codes = access.confirm_totp(&caller, &code(NOW), NOW).await.unwrap();
    assert_eq!(
        (codes.len(), scene.house.caller(&granted).restricted),
        (10, None)
    );
    let later = NOW.plus(Duration::from_mins(1));
    let next = scene.sign_in().await.unwrap();
    assert_eq!(
        next.restricted,
        Some(Restriction::MustEnrolTotp),
        "each session for itself"
    );
    let caller = scene.house.caller(&next);
    let codes = access
        .confirm_totp(&caller, &code(later), later)
        .await
        .unwrap();
    assert_eq!(
        (codes.len(), scene.house.caller(&next).restricted),
        (0, None)
    );
}

#[tokio::test]
async fn a_session_from_the_provider_ends_after_half_a_day_as_its_groups_are_read_at_sign_in() {
    let scene = Scene::new().await;
    let mut granted = scene.sign_in().await.unwrap();
    let access = &scene.house.access;
    for hours in [5, 10, 11] {
        let now = NOW.plus(Duration::from_hours(hours));
        let token = granted.refresh_token.take().unwrap();
        granted = access.refresh(token.expose(), &from(1), now).await.unwrap();
    }
    let token = granted.refresh_token.take().unwrap();
    let over = NOW.plus(Duration::from_hours(12));
    let answer = access.refresh(token.expose(), &from(1), over).await;
    assert!(matches!(answer, Err(AccessError::Expired)), "{answer:?}");
    // who wants less gets less
    let mut shorter = with_oidc(scene.settings.clone());
    shorter.session_max = Duration::from_hours(2);
    access.reconfigure(shorter).unwrap();
    let granted = scene.sign_in().await.unwrap();
    let expires = scene.house.store.sessions()[&granted.session].expires;
    assert_eq!(expires, NOW.plus(Duration::from_hours(2)));
    let here = scene.house.log_in("root").await;
    let expires = scene.house.store.sessions()[&here.session].expires;
    assert_eq!(expires, NOW.plus(Duration::from_hours(2)));
}
