//! Whom we told, and how that went.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use model::{
    Channel, Delivery, DeliveryState, NotificationEvent, OutboxId, Permission, Role, TokenRecord,
};
use serde::Serialize;
use serde_json::Value;
use store::{Inventory, OutboxAsk};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::device_view::sees_by_name;
use crate::mistakes::{Mistakes, Object};
use crate::page;
use crate::problem::{Kind, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{JsonAnswer, MaybeJson, Path};

/// The words of a delivery's state.
pub(crate) const STATES: [&str; 3] = ["queued", "parked", "delivered"];

/// Recipients of one test.
pub(crate) const TEST_RECIPIENTS: usize = 32;

/// Bytes of a mail address (RFC 5321 §4.5.3.1.3, without its brackets).
const MAIL_ADDRESS_BYTES: usize = 254;

/// One notification to one recipient.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    /// Its number: older ones are smaller.
    id: u64,
    /// How: mail.
    channel: &'static str,
    /// To whom.
    to: String,
    /// firing, resolved or test.
    event: &'static str,
    /// The alert's number; null for a test.
    alert: Option<u64>,
    /// The alert's rule.
    rule: Option<String>,
    /// The alert's severity.
    severity: Option<&'static str>,
    /// The name of the alert's device.
    device: Option<String>,
    /// What was wrong, in one line.
    summary: Option<String>,
    /// The device's address, site and location.
    place: String,
    /// Names of devices that are cut off by the fault.
    behind: Vec<String>,
    /// When this was written.
    created: String,
    /// queued, parked (refused for good) or delivered.
    state: &'static str,
    /// When it is tried next; null unless it is queued.
    next_try: Option<String>,
    /// When it was accepted; null unless it is delivered.
    delivered: Option<String>,
    /// Tries so far.
    attempts: u32,
    /// Why the last try failed.
    last_error: Option<String>,
}

/// One page of notifications.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    /// The notifications, newest first.
    items: Vec<DeliveryView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
}

/// Whether the caller has `permission` for a delivery: for its alert's device,
/// or everywhere where there is none.
fn on(caller: &Caller, permission: Permission, delivery: &Delivery, inventory: &Inventory) -> bool {
    let device = delivery.alert.as_ref().map(|alert| alert.device);
    match device.and_then(|device| inventory.device(device)) {
        Some(device) => caller.on_device(permission, device),
        None => caller.holds_everywhere(permission),
    }
}

impl DeliveryView {
    /// `delivery` as the caller sees it: without devices that they do not.
    pub(crate) fn of(delivery: &Delivery, caller: &Caller, inventory: &Inventory) -> DeliveryView {
        let device = delivery.alert.as_ref().map(|alert| alert.device);
        let device = device.and_then(|device| inventory.device(device));
        let mut behind = delivery.behind.clone();
        behind.retain(|name| {
            device.is_none_or(|device| sees_by_name(caller, inventory, device, name))
        });
        let (next_try, delivered) = match &delivery.state {
            DeliveryState::Queued { next } => (Some(next.to_string()), None),
            DeliveryState::Parked => (None, None),
            DeliveryState::Delivered { at } => (None, Some(at.to_string())),
        };
        let (channel, to) = match &delivery.channel {
            Channel::Mail { to } => ("mail", to),
            Channel::Plugin { plugin } => ("plugin", plugin),
        };
        let alert = delivery.alert.as_ref();
        DeliveryView {
            id: delivery.id.0,
            channel,
            to: to.clone(),
            event: delivery.event.word(),
            alert: alert.map(|alert| alert.id.0),
            rule: alert.map(|alert| alert.rule.0.clone()),
            severity: alert.map(|alert| alert.severity.word()),
            device: alert.map(|alert| alert.device_name.clone()),
            summary: alert.map(|alert| alert.summary.clone()),
            place: delivery.place.clone(),
            behind,
            created: delivery.created.to_string(),
            state: delivery.state.word(),
            next_try,
            delivered,
            attempts: delivery.attempts,
            last_error: delivery.last_error.clone(),
        }
    }
}

/// Lists notifications, newest first.
#[utoipa::path(
    get,
    path = "/outbox",
    tag = "notifications",
    params(
        ("state" = Option<Vec<String>>, Query, description = "In one of these states: queued, parked, delivered"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of notifications", body = DeliveryList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_outbox(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<DeliveryList>, Problem> {
    let query = Query::read(&uri, &["state", "limit", "cursor"])?;
    let limit = page::limit(&query);
    let ask = OutboxAsk {
        states: query.words("state", &STATES, |word| {
            STATES.contains(&word).then(|| word.to_owned())
        }),
        before: page::before(&query)?.map(OutboxId),
        limit,
    };
    let ask = query.or(ask)?;
    let inventory = api.store().inventory();
    let who = caller.clone();
    let known = Arc::clone(&inventory);
    let page = api
        .read(move |store| {
            page::seen(
                limit,
                ask.before.map(|id| id.0),
                |before, limit| {
                    store.outbox(&OutboxAsk {
                        before: before.map(OutboxId),
                        limit,
                        ..ask.clone()
                    })
                },
                |delivery| delivery.id.0,
                |delivery| on(&who, Permission::OutboxRead, delivery, &known),
            )
        })
        .await?;
    let items = page.items.iter();
    Ok(JsonAnswer(DeliveryList {
        items: items
            .map(|delivery| DeliveryView::of(delivery, &caller, &inventory))
            .collect(),
        next: page.next,
    }))
}

/// Shows a notification.
#[utoipa::path(
    get,
    path = "/outbox/{id}",
    tag = "notifications",
    params(("id" = u64, Path, description = "The notification's number")),
    responses(
        (status = 200, description = "The notification", body = DeliveryView),
        (status = 404, description = "There is no such notification"),
    )
)]
pub(crate) async fn get_delivery(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<DeliveryView>, Problem> {
    query::none(&uri)?;
    let delivery = find(&api, &caller, Permission::OutboxRead, &asked).await?;
    let inventory = api.store().inventory();
    Ok(JsonAnswer(DeliveryView::of(&delivery, &caller, &inventory)))
}

/// The delivery called `asked`, if the caller has `permission` for it.
async fn find(
    api: &Api,
    caller: &Caller,
    permission: Permission,
    asked: &str,
) -> Result<Delivery, Problem> {
    let id = number(asked)?;
    let delivery = api.read(move |store| store.delivery(id)).await?;
    let delivery = delivery.ok_or_else(|| missing(asked))?;
    let inventory = api.store().inventory();
    if on(caller, permission, &delivery, &inventory) {
        return Ok(delivery);
    }
    match on(caller, Permission::OutboxRead, &delivery, &inventory) {
        true => Err(Problem::forbidden(format!(
            "this needs the permission {} for the notification's device",
            permission.word()
        ))),
        false => Err(Problem::hidden("notification", asked)),
    }
}

fn number(asked: &str) -> Result<OutboxId, Problem> {
    asked.parse().map(OutboxId).map_err(|_| missing(asked))
}

fn missing(asked: &str) -> Problem {
    Problem::not_found("notification", asked)
}

/// Tries a parked notification again.
#[utoipa::path(
    post,
    path = "/outbox/{id}/retry",
    tag = "notifications",
    params(("id" = u64, Path, description = "The notification's number")),
    responses(
        (status = 200, description = "It is queued again", body = DeliveryView),
        (status = 404, description = "There is no such notification"),
        (status = 409, description = "It is not parked"),
    )
)]
pub(crate) async fn retry_delivery(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<DeliveryView>, Problem> {
    query::none(&uri)?;
    let id = find(&api, &caller, Permission::OutboxRetry, &asked)
        .await?
        .id;
    let delivery = api
        .store()
        .retry_delivery(&caller.by(), id, api.now())
        .await
        .map_err(|error| not_written(&error, &api.store().inventory()))?;
    caller.did("notification queued again", &asked);
    let inventory = api.store().inventory();
    Ok(JsonAnswer(DeliveryView::of(&delivery, &caller, &inventory)))
}

/// Whom a test goes to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in the document what `read_to` reads")]
pub(crate) struct TestBody {
    /// Mail addresses; by default those that get alerts. Others can be named
    /// by an ADMIN without limits alone.
    to: Option<Vec<String>>,
}

/// The tests that were queued.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestSent {
    /// Their numbers in the outbox.
    outbox: Vec<u64>,
}

/// Sends a test notification.
///
/// The answer does not wait for it; the outbox says how it went.
#[utoipa::path(
    post,
    path = "/notify/test",
    tag = "notifications",
    request_body = Option<TestBody>,
    responses(
        (status = 202, description = "The tests are queued", body = TestSent),
        (status = 403, description = "You may not send tests, or not to these addresses"),
        (status = 409, description = "Mail is not set up"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn send_test(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    MaybeJson(body): MaybeJson,
) -> Result<(StatusCode, JsonAnswer<TestSent>), Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::NotificationsTest)?;
    let body = body.filter(|body| !body.is_null());
    let named = body.as_ref().map_or(Ok(Vec::new()), read_to)?;
    let by_default = api.daemon().mail_recipients().ok_or_else(|| {
        Problem::new(
            Kind::Conflict,
            "mail is not set up; add a section [mail] to the settings and reload",
        )
    })?;
    let elsewhere = named.iter().any(|to| !by_default.contains(to));
    if elsewhere && !is_admin(&caller) {
        return Err(Problem::forbidden(
            "only an ADMIN without limits sends tests to others than those who get alerts; leave `to` out",
        )
        .at("/to"));
    }
    let to = match named.is_empty() {
        true => by_default,
        false => named,
    };
    let mut outbox = Vec::new();
    for to in &to {
        let id = api
            .store()
            .enqueue_test(&caller.by(), test_to(to, &api), api.now())
            .await
            .map_err(|error| not_written(&error, &api.store().inventory()))?;
        outbox.push(id.0);
    }
    caller.did("test notification queued", &to.join(", "));
    Ok((StatusCode::ACCEPTED, JsonAnswer(TestSent { outbox })))
}

/// Whether the caller may do everything everywhere, as far as mail goes: who
/// may only see whether it works is no mail relay's customer.
fn is_admin(caller: &Caller) -> bool {
    let is_limited = |token: &Arc<TokenRecord>| !token.permissions.is_empty();
    let mut bindings = caller.bindings().iter();
    bindings.any(|binding| binding.role == Role::Admin && binding.scope.is_everything())
        && !caller.token.as_ref().is_some_and(is_limited)
}

fn read_to(body: &Value) -> Result<Vec<String>, Problem> {
    let mistakes = Mistakes::default();
    let object = Object::read(body, "", &["to"], &mistakes);
    let texts = object.map(|object| object.texts("to", TEST_RECIPIENTS));
    for (pointer, text) in texts.iter().flatten() {
        if !is_like_a_mail_address(text) {
            mistakes.at(pointer, format!("{text:?} is not a mail address"));
        }
    }
    let texts = mistakes.or(Kind::Invalid, texts)?;
    Ok(texts.into_iter().map(|(_, text)| text).collect())
}

/// Enough to catch a slip; the mail server knows better.
fn is_like_a_mail_address(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"<>,;".contains(c);
    let halves = text.rsplit_once('@');
    text.len() <= MAIL_ADDRESS_BYTES
        && text.chars().all(plain)
        && halves.is_some_and(|(who, host)| !who.is_empty() && !host.is_empty())
}

fn test_to(to: &str, api: &Api) -> Delivery {
    let now = api.now();
    Delivery {
        // the store gives it its number
        id: OutboxId(0),
        channel: Channel::Mail { to: to.to_owned() },
        event: NotificationEvent::Test,
        alert: None,
        place: String::new(),
        behind: Vec::new(),
        created: now,
        state: DeliveryState::Queued { next: now },
        attempts: 0,
        last_error: None,
    }
}
