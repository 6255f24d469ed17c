//! Faults: which there are, which other devices they cut off, and whom we told.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use model::{
    Alert, AlertId, AlertState, Condition, DeviceId, OutboxId, Permission, Rule, RuleName,
    Severity, Timestamp,
};
use serde::Serialize;
use store::{AlertsAsk, Inventory, OutboxAsk, ReadError, Store};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::devices::find;
use crate::outbox::DeliveryView;
use crate::page;
use crate::problem::Problem;
use crate::query::{self, Query};
use crate::request::{JsonAnswer, Path};

/// The words of an alert's state.
pub(crate) const STATES: [&str; 4] = ["pending", "firing", "unreachable", "resolved"];

/// Deliveries looked through for those of one alert: newest first, and no
/// further back than the alert began.
const DELIVERIES_LOOKED_THROUGH: usize = 20_000;

/// Deliveries read at a time while looking.
const DELIVERIES_AT_ONCE: usize = 1_000;

/// A device, by number and name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceRef {
    id: u64,
    name: String,
}

/// A fault from its first sign to its end.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertView {
    /// Given once, never used again.
    id: u64,
    /// The rule that sees a fault.
    rule: String,
    /// info, warning or critical.
    severity: &'static str,
    /// On which device, by the name that it had when this began.
    device: DeviceRef,
    /// On what of the device; empty for the device as a whole.
    labels: BTreeMap<String, String>,
    /// pending, firing, unreachable or resolved.
    state: &'static str,
    /// The down devices that cut it off.
    behind: Vec<DeviceRef>,
    /// When the condition first held without a break.
    since: String,
    /// When it was last judged.
    judged: String,
    /// Judgements in a row in which the condition held.
    rounds: u32,
    /// Whether people were told.
    told: bool,
    /// When it began to fire.
    fired: Option<String>,
    /// When it ended.
    resolved: Option<String>,
    /// The last judged value of a threshold, in the metric's base unit.
    value: Option<f64>,
    /// One line: what is wrong, with the figures.
    summary: String,
}

/// One page of alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertList {
    /// The alerts, newest first.
    items: Vec<AlertView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
}

/// An alert with all that belongs to it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertDetail {
    #[serde(flatten)]
    alert: AlertView,
    /// What the rule tells people beside the facts.
    note: Option<String>,
    /// Alerts of devices that this fault cuts off: they are not told by
    /// themselves.
    unreachable: Vec<AlertView>,
    /// Whom we told, newest first.
    deliveries: Vec<DeliveryView>,
}

/// Whether the caller sees an alert. Devices stay in the inventory for as long
/// as their alerts do; if one did not, the alert would be the appliance's.
pub(crate) fn sees(caller: &Caller, inventory: &Inventory, alert: &Alert) -> bool {
    match inventory.device(alert.device) {
        Some(device) => caller.on_device(Permission::AlertsRead, device),
        None => caller.holds_everywhere(Permission::AlertsRead),
    }
}

fn view(caller: &Caller, alert: &Alert, inventory: &Inventory) -> AlertView {
    let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
    AlertView {
        id: alert.id.0,
        rule: alert.rule.0.clone(),
        severity: alert.severity.word(),
        device: DeviceRef {
            id: alert.device.0,
            name: alert.device_name.clone(),
        },
        labels: alert
            .labels
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        state: alert.state.word(),
        behind: behind(alert)
            .iter()
            .filter_map(|id| inventory.device(*id))
            .filter(|device| caller.sees(device))
            .map(|device| DeviceRef {
                id: device.id.0,
                name: device.name.clone(),
            })
            .collect(),
        since: alert.since.to_string(),
        judged: alert.judged.to_string(),
        rounds: alert.rounds,
        told: alert.told,
        fired: text(alert.fired),
        resolved: text(alert.resolved),
        value: alert.value,
        summary: alert.summary.clone(),
    }
}

fn behind(alert: &Alert) -> &[DeviceId] {
    match &alert.state {
        AlertState::Unreachable { behind } => behind,
        AlertState::Pending | AlertState::Firing | AlertState::Resolved => &[],
    }
}

/// Lists alerts, newest first.
#[utoipa::path(
    get,
    path = "/alerts",
    tag = "alerts",
    params(
        ("state" = Option<Vec<String>>, Query, description = "In one of these states: pending, firing, unreachable, resolved"),
        ("device" = Option<String>, Query, description = "Of this device: id or name"),
        ("rule" = Option<String>, Query, description = "Of this rule"),
        ("severity" = Option<String>, Query, description = "As bad as this: info, warning or critical"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of alerts", body = AlertList),
        (status = 400, description = "A parameter is wrong"),
        (status = 404, description = "There is no such device"),
    )
)]
pub(crate) async fn list_alerts(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<AlertList>, Problem> {
    let ask = read_ask(&api, &caller, &uri)?;
    let limit = ask.limit;
    let inventory = api.store().inventory();
    let who = caller.clone();
    let known = Arc::clone(&inventory);
    let page = api
        .read(move |store| {
            let before = ask.before.map(|id| id.0);
            page::seen(
                limit,
                before,
                |before, limit| {
                    store.alerts(&AlertsAsk {
                        before: before.map(AlertId),
                        limit,
                        ..ask.clone()
                    })
                },
                |alert| alert.id.0,
                |alert| sees(&who, &known, alert),
            )
        })
        .await?;
    let items = page.items.iter();
    Ok(JsonAnswer(AlertList {
        items: items
            .map(|alert| view(&caller, alert, &inventory))
            .collect(),
        next: page.next,
    }))
}

fn read_ask(api: &Api, caller: &Caller, uri: &Uri) -> Result<AlertsAsk, Problem> {
    let known = ["state", "device", "rule", "severity", "limit", "cursor"];
    let query = Query::read(uri, &known)?;
    let words = ["info", "warning", "critical"];
    let mut severities = query.words("severity", &words, Severity::from_word);
    if severities.len() > 1 {
        let message = "severity is given more than once";
        query.mistakes.parameter("severity", message);
    }
    let device = query.one("device").map(str::to_owned);
    let ask = AlertsAsk {
        states: query.words("state", &STATES, |word| {
            STATES.contains(&word).then(|| word.to_owned())
        }),
        device: None,
        rule: query.one("rule").map(|name| RuleName(name.to_owned())),
        severity: severities.pop(),
        before: page::before(&query)?.map(AlertId),
        limit: page::limit(&query),
    };
    let ask = query.or(ask)?;
    Ok(AlertsAsk {
        device: device
            .map(|device| find(api, caller, Permission::AlertsRead, &device))
            .transpose()?
            .map(|device| device.id),
        ..ask
    })
}

/// Shows an alert, the devices it cuts off, and whom we told.
#[utoipa::path(
    get,
    path = "/alerts/{id}",
    tag = "alerts",
    params(("id" = u64, Path, description = "The alert's number")),
    responses(
        (status = 200, description = "The alert", body = AlertDetail),
        (status = 404, description = "There is no such alert"),
    )
)]
pub(crate) async fn get_alert(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<AlertDetail>, Problem> {
    query::none(&uri)?;
    let missing = || Problem::not_found("alert", &asked);
    let id = asked.parse().map(AlertId).map_err(|_| missing())?;
    let inventory = api.store().inventory();
    let tells = Permission::OutboxRead;
    let who = caller.clone();
    let known = Arc::clone(&inventory);
    let found = api
        .read(move |store| {
            let alert = store.alert(id)?;
            let Some(alert) = alert.filter(|alert| sees(&who, &known, alert)) else {
                return Ok(None);
            };
            let device = known.device(alert.device);
            let deliveries = match device.is_some_and(|device| who.on_device(tells, device)) {
                true => deliveries_of(store, &alert, &who, &known)?,
                false => Vec::new(),
            };
            Ok::<_, ReadError>(Some((alert, deliveries)))
        })
        .await?;
    let (alert, deliveries) = found.ok_or_else(missing)?;
    let rules = api.store().rules();
    let rule = rules.iter().find(|rule| rule.name == alert.rule);
    Ok(JsonAnswer(AlertDetail {
        note: rule.and_then(|rule| rule.note.clone()),
        unreachable: cut_off(&api, rule, &alert)
            .iter()
            .filter(|alert| sees(&caller, &inventory, alert))
            .map(|alert| view(&caller, alert, &inventory))
            .collect(),
        alert: view(&caller, &alert, &inventory),
        deliveries,
    }))
}

/// Open alerts of devices that `alert` cuts off. Only a device's silence cuts
/// others off, not a busy processor of it.
fn cut_off(api: &Api, rule: Option<&Rule>, alert: &Alert) -> Vec<Alert> {
    let is_silence = match rule.map(|rule| &rule.condition) {
        Some(Condition::Availability { .. }) => true,
        Some(Condition::Threshold { .. } | Condition::Plugin { .. }) => false,
        None => alert.value.is_none(),
    };
    if !is_silence || alert.state == AlertState::Resolved {
        return Vec::new();
    }
    let mut open = api.store().open_alerts();
    open.retain(|other| behind(other).contains(&alert.device));
    open
}

/// What was told of `alert`, newest first.
fn deliveries_of(
    store: &Store,
    alert: &Alert,
    caller: &Caller,
    inventory: &Inventory,
) -> Result<Vec<DeliveryView>, ReadError> {
    let mut found = Vec::new();
    let mut before: Option<OutboxId> = None;
    for _ in 0..DELIVERIES_LOOKED_THROUGH / DELIVERIES_AT_ONCE {
        let some = store.outbox(&OutboxAsk {
            states: Vec::new(),
            before,
            limit: DELIVERIES_AT_ONCE,
        })?;
        let of_it = some
            .iter()
            .filter(|delivery| delivery.alert.as_ref().is_some_and(|a| a.id == alert.id));
        found.extend(of_it.map(|delivery| DeliveryView::of(delivery, caller, inventory)));
        match some.last() {
            Some(oldest) if oldest.created >= alert.since => before = Some(oldest.id),
            _ => break,
        }
    }
    Ok(found)
}
