//! Tokens of services, signed requests, client certificates.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use model::{
    By, Digest, Permission, Quota, Role, SecretName, Tenant, TenantName, Timestamp, TokenRecord,
    TotpRecord,
};
use sha2::{Digest as _, Sha256};

use super::support::{House, NOW, everywhere, from, within};
use crate::{
    AccessError, Caller, NewToken, Restriction, SecretText, Shown, SignedHeader, TokenKind,
};

fn wanted(kind: TokenKind) -> NewToken {
    NewToken {
        name: "backup".to_owned(),
        bindings: vec![everywhere(Role::Operator)],
        permissions: [Permission::DevicesRead, Permission::AlertsRead].into(),
        expires: NOW.plus(Duration::from_hours(24)),
        requests_per_minute: 60,
        kind,
    }
}

impl House {
    async fn root(&self) -> Caller {
        self.caller(&self.log_in("root").await)
    }

    async fn token(&self, new: NewToken) -> Result<(TokenRecord, SecretText), AccessError> {
        let root = self.root().await;
        let made = self
            .access
            .create_token(&root, &root.by("req-9"), new, NOW)
            .await?;
        Ok(((*made.0).clone(), made.1))
    }

    fn bearer(&self, text: &str, now: Timestamp) -> Result<Caller, AccessError> {
        self.access.authenticate(Shown::Bearer(text), &from(7), now)
    }
}

#[tokio::test]
async fn a_service_may_what_its_roles_grant_and_its_list_names() {
    let house = House::new().await;
    let (record, text) = house.token(wanted(TokenKind::Bearer)).await.unwrap();
    assert!(text.expose().starts_with(&format!("sotp_{}_", record.id)));
    assert!(!format!("{record:?}").contains(text.expose()));
    let caller = house.bearer(text.expose(), NOW).unwrap();
    let may: Vec<Permission> = caller.permissions().into_iter().collect();
    assert_eq!(may, [Permission::DevicesRead, Permission::AlertsRead]);
    assert_eq!(caller.rate_key(), format!("token:{}", record.id));
    assert!(caller.user.is_none() && caller.session.is_none());
    // it is kept with the next change
    house.enter("jane", Role::Operator).await;
    let people = house.store.people();
    let used = people.token(&record.id).unwrap().last_used.clone();
    assert_eq!(used, Some((NOW, "10.0.0.7".to_owned())));
}

#[tokio::test]
async fn a_service_token_is_refused_when_expired_revoked_changed_or_made_up() {
    let house = House::new().await;
    let (record, text) = house.token(wanted(TokenKind::Bearer)).await.unwrap();
    let over = house.bearer(text.expose(), record.expires);
    assert!(matches!(over, Err(AccessError::Expired)));
    let made_up = crate::token::new_token().1;
    assert!(matches!(
        house.bearer(made_up.expose(), NOW),
        Err(AccessError::BadToken { .. })
    ));
    // another secret under the same number, with a checksum that fits
    let secret = &made_up.expose()[18..61];
    let body = format!("sotp_{}_{secret}", record.id);
    let check = crate::text::base62_of_32_bits(crc32fast::hash(body.as_bytes()));
    let other = format!("{body}_{check}");
    assert!(crate::token::token_id(&other).is_some());
    assert!(matches!(
        house.bearer(&other, NOW),
        Err(AccessError::BadToken { .. })
    ));
    let by = By::system();
    house
        .store
        .delete_token(&by, &record.id, None, NOW)
        .await
        .unwrap();
    assert!(matches!(
        house.bearer(text.expose(), NOW),
        Err(AccessError::BadToken { .. })
    ));
}

#[tokio::test]
async fn nobody_makes_a_token_that_can_more_than_they() {
    let house = House::new().await;
    house.enter("jane", Role::Operator).await;
    house
        .change("jane", |user| {
            user.bindings = vec![within(Role::Operator, None, &["berlin"], &[])];
        })
        .await;
    let jane = house.caller(&house.log_in("jane").await);
    let by = jane.by("req-9");
    let ask = async |bindings, permissions: &[Permission]| {
        let new = NewToken {
            bindings,
            permissions: permissions.iter().copied().collect(),
            ..wanted(TokenKind::Bearer)
        };
        house.access.create_token(&jane, &by, new, NOW).await
    };
    for bindings in [
        vec![everywhere(Role::Operator)],
        vec![everywhere(Role::ReadOnly)],
        vec![within(Role::Admin, None, &["berlin"], &[])],
        vec![within(Role::Operator, None, &["berlin", "bonn"], &[])],
        vec![within(Role::Operator, Some("default"), &[], &["core"])],
    ] {
        let refused = ask(bindings.clone(), &[]).await;
        assert!(
            matches!(refused, Err(AccessError::NotAllowed { .. })),
            "{bindings:?}"
        );
    }
    // less of what an administrator has is what she has
    let part = vec![within(Role::Admin, Some("default"), &["berlin"], &["core"])];
    let (record, text) = ask(part, &[Permission::DevicesWrite]).await.unwrap();
    assert_eq!(record.created_by, jane.actor.to_string());
    // and a token makes no wider one
    let service = house.bearer(text.expose(), NOW).unwrap();
    assert!(!service.may_give(
        &[within(
            Role::ReadOnly,
            Some("default"),
            &["berlin"],
            &["core"]
        )],
        &[].into()
    ));
}

#[tokio::test]
async fn a_token_gives_itself_neither_a_longer_life_nor_a_higher_rate() {
    let house = House::new().await;
    let mine = NewToken {
        bindings: vec![everywhere(Role::Admin)],
        permissions: [].into(),
        expires: NOW.plus(Duration::from_hours(1)),
        requests_per_minute: 5,
        ..wanted(TokenKind::Bearer)
    };
    let (maker, text) = house.token(mine.clone()).await.unwrap();
    let caller = house.bearer(text.expose(), NOW).unwrap();
    let by = caller.by("req-9");
    let ask = async |expires, requests_per_minute| {
        let new = NewToken {
            name: "next".to_owned(),
            expires,
            requests_per_minute,
            ..mine.clone()
        };
        house.access.create_token(&caller, &by, new, NOW).await
    };
    let later = Timestamp(maker.expires.0 + 1);
    let refused = ask(later, 5).await.unwrap_err();
    assert!(matches!(refused, AccessError::NotAllowed { .. }));
    let limit = maker.expires.to_string();
    assert!(refused.to_string().contains(&limit), "{refused}");
    let refused = ask(maker.expires, 6).await.unwrap_err();
    assert!(matches!(refused, AccessError::NotAllowed { .. }));
    assert!(refused.to_string().contains("at most 5"), "{refused}");
    let (next, _) = ask(maker.expires, 5).await.unwrap();
    assert_eq!((next.expires, next.requests_per_minute), (maker.expires, 5));
}

#[tokio::test]
async fn a_token_is_a_service_and_stays_when_its_maker_leaves() {
    let house = House::new().await;
    house.enter("jane", Role::Admin).await;
    let jane = house.caller(&house.log_in("jane").await);
    let (access, by) = (&house.access, jane.by("req-9"));
    let made = access.create_token(&jane, &by, wanted(TokenKind::Bearer), NOW);
    let (_, text) = made.await.unwrap();
    house.change("jane", |user| user.active = false).await;
    house.bearer(text.expose(), NOW).unwrap();
}

#[tokio::test]
async fn a_token_needs_a_name_a_role_an_end_and_stays_in_its_tenant() {
    let house = House::new().await;
    let tenant = Tenant {
        name: TenantName("acme".to_owned()),
        note: None,
        quota: Quota::default(),
        created: NOW,
        updated: NOW,
        revision: 1,
    };
    house
        .store
        .put_tenant(&By::system(), tenant, None, NOW)
        .await
        .unwrap();
    let good = || wanted(TokenKind::Bearer);
    let acme = |bindings| NewToken {
        name: "acme/backup".to_owned(),
        bindings,
        ..good()
    };
    let year = NOW.plus(Duration::from_hours(366 * 24));
    for bad in [
        NewToken {
            name: String::new(),
            ..good()
        },
        NewToken {
            bindings: vec![],
            ..good()
        },
        NewToken {
            expires: NOW,
            ..good()
        },
        NewToken {
            expires: Timestamp(year.0 + 1),
            ..good()
        },
        NewToken {
            requests_per_minute: 0,
            ..good()
        },
        acme(vec![everywhere(Role::ReadOnly)]),
        acme(vec![within(Role::ReadOnly, Some("default"), &[], &[])]),
    ] {
        let shown = format!("{bad:?}");
        let refused = house.token(bad).await;
        assert!(
            matches!(refused, Err(AccessError::Invalid { .. })),
            "{shown}"
        );
    }
    house
        .token(NewToken {
            expires: year,
            ..good()
        })
        .await
        .unwrap();
    house
        .token(acme(vec![within(Role::ReadOnly, Some("acme"), &[], &[])]))
        .await
        .unwrap();
}

/// What a sender sends: the header's value.
fn sign(text: &str, id: &str, target: &str, body: &[u8], secs: u64, nonce: &str) -> String {
    let digest: String = Sha256::digest(body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let message = format!("POST\n{target}\n{secs}\n{nonce}\n{digest}");
    let mac = Hmac::<Sha256>::new_from_slice(text.as_bytes()).unwrap();
    let mac = mac.chain_update(message).finalize().into_bytes();
    let signature = BASE64.encode(mac);
    format!("SOTP-HMAC-SHA256 key={id}, ts={secs}, nonce={nonce}, signature={signature}")
}

#[tokio::test]
async fn a_signed_request_is_good_once_as_it_was_signed_and_for_five_minutes() {
    let house = House::new().await;
    let (record, text) = house.token(wanted(TokenKind::Hmac)).await.unwrap();
    let (id, secs) = (record.id.0.as_str(), NOW.0 / 1000);
    let show = |value: &str, method: &str, target: &str, body: &[u8], now| {
        let shown = Shown::Signed {
            header: SignedHeader::parse(value).unwrap(),
            method,
            target,
            body: Digest(Sha256::digest(body).into()),
        };
        house.access.authenticate(shown, &from(7), now)
    };
    let (target, body) = ("/api/v1/devices?limit=5", b"{}".as_slice());
    let value = sign(text.expose(), id, target, body, secs, "nonce-0123456789");
    for (method, target, body) in [
        ("PUT", target, body),
        ("POST", "/api/v1/devices?limit=6", body),
        ("POST", target, b"{ }"),
    ] {
        let answer = show(&value, method, target, body, NOW);
        assert!(
            matches!(answer, Err(AccessError::BadToken { .. })),
            "{method} {target}"
        );
    }
    let late = NOW.plus(Duration::from_secs(301));
    assert!(show(&value, "POST", target, body, late).is_err());
    let early = NOW.minus(Duration::from_secs(301));
    assert!(show(&value, "POST", target, body, early).is_err());
    let caller = show(&value, "POST", target, body, NOW).unwrap();
    assert_eq!(caller.token.unwrap().id, record.id);
    let replayed = show(&value, "POST", target, body, NOW)
        .unwrap_err()
        .to_string();
    assert!(replayed.contains("sent before"), "{replayed}");
    let wrong = sign("sotp_other", id, target, body, secs, "nonce-9123456789");
    assert!(show(&wrong, "POST", target, body, NOW).is_err());
    let unknown = sign(
        text.expose(),
        "nobody",
        target,
        body,
        secs,
        "nonce-9123456789",
    );
    assert!(show(&unknown, "POST", target, body, NOW).is_err());
    let sent = house.bearer(text.expose(), NOW).unwrap_err().to_string();
    assert!(sent.contains("must never be sent"), "{sent}");
    let other = house.token(NewToken {
        name: "plain".to_owned(),
        ..wanted(TokenKind::Bearer)
    });
    let (plain, text) = other.await.unwrap();
    let value = sign(
        text.expose(),
        &plain.id.0,
        target,
        body,
        secs,
        "nonce-9123456789",
    );
    assert!(
        show(&value, "POST", target, body, NOW).is_err(),
        "not made for signing"
    );
}

#[tokio::test]
async fn the_time_of_a_signed_request_is_refused_before_anything_else_of_it() {
    let house = House::new().await;
    let check = |secs| house.access.check_signed_time(secs, NOW);
    let secs = NOW.0 / 1000;
    check(secs).unwrap();
    for stale in [0, 1, secs - 301, secs + 301, u64::MAX] {
        let refused = check(stale);
        assert!(
            matches!(refused, Err(AccessError::BadToken { .. })),
            "{stale}"
        );
    }
}

#[tokio::test]
async fn a_token_that_signs_without_end_leaves_the_other_senders_alone() {
    let house = House::new().await;
    let hmac = |name: &str, requests_per_minute| NewToken {
        name: name.to_owned(),
        requests_per_minute,
        ..wanted(TokenKind::Hmac)
    };
    let (flood, key) = house.token(hmac("flood", 2)).await.unwrap();
    let (other, other_key) = house.token(hmac("other", 2)).await.unwrap();
    let send = |record: &TokenRecord, key: &SecretText, n: u32| {
        let nonce = format!("nonce-0123456789-{n}");
        let value = sign(key.expose(), &record.id.0, "/x", b"", NOW.0 / 1000, &nonce);
        let shown = Shown::Signed {
            header: SignedHeader::parse(&value).unwrap(),
            method: "POST",
            target: "/x",
            body: Digest(Sha256::digest(b"").into()),
        };
        house.access.authenticate(shown, &from(7), NOW)
    };
    for n in 0..40 {
        send(&flood, &key, n).unwrap();
    }
    let more = send(&flood, &key, 40);
    assert!(matches!(more, Err(AccessError::TooSoon { .. })));
    send(&other, &other_key, 0).unwrap();
}

fn certificate(name: &str, alternative: Option<&str>) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.subject_alt_names = alternative
        .map(|name| rcgen::SanType::DnsName(name.try_into().unwrap()))
        .into_iter()
        .collect();
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

#[tokio::test]
async fn a_client_certificate_is_the_person_who_has_its_subject_or_one_of_its_names() {
    let house = House::new().await;
    house.enter("jane", Role::Operator).await;
    house.enter("probe", Role::ReadOnly).await;
    house
        .change("jane", |user| {
            user.certificate = Some("CN=Jane Doe".to_owned());
        })
        .await;
    house
        .change("probe", |user| user.certificate = Some("probe7".to_owned()))
        .await;
    let show = |der: &[u8]| {
        let caller = house
            .access
            .authenticate(Shown::Certificate(der), &from(1), NOW);
        caller
            .map(|caller| caller.actor.to_string())
            .map_err(|error| error.to_string())
    };
    let jane = certificate("Jane Doe", None);
    assert_eq!(show(&jane).unwrap(), "certificate:jane");
    assert_eq!(
        show(&certificate("x", Some("probe7"))).unwrap(),
        "certificate:probe"
    );
    let both = show(&certificate("Jane Doe", Some("probe7"))).unwrap_err();
    assert!(both.contains("two people"), "{both}");
    let nobody = show(&certificate("jane doe", None)).unwrap_err();
    assert!(nobody.contains("nobody's"), "{nobody}");
    house.change("jane", |user| user.active = false).await;
    assert!(show(&jane).unwrap_err().contains("ended"));
}

#[tokio::test]
async fn a_certificate_is_one_factor_and_does_not_do_where_codes_are_demanded() {
    let house = House::new().await;
    house.enter("jane", Role::Operator).await;
    for name in ["root", "jane"] {
        let subject = Some(format!("CN={name}"));
        house.change(name, |user| user.certificate = subject).await;
    }
    let show = |name| {
        let der = certificate(name, None);
        let shown = Shown::Certificate(&der);
        house.access.authenticate(shown, &from(1), NOW).unwrap()
    };
    assert_eq!(show("root").restricted, None, "nothing is demanded");
    house.demand_codes(&[Role::Admin]).await;
    let root = show("root");
    assert_eq!(root.restricted, Some(Restriction::MustEnrolTotp));
    assert!(
        root.permissions().is_empty() && !root.may_give(&[everywhere(Role::ReadOnly)], &[].into())
    );
    assert_eq!(show("jane").restricted, None, "other roles do not");
    // codes that are on are not shown with a certificate
    house
        .change("root", |user| {
            user.totp = Some(TotpRecord {
                seed: SecretName(".totp/root".to_owned()),
                confirmed: true,
                last_step: 0,
                recovery: vec![],
            });
        })
        .await;
    assert_eq!(show("root").restricted, Some(Restriction::MustEnrolTotp));
}
