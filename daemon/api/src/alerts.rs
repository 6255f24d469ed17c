//! Faults: which there are, which other devices they cut off, and whom we told.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::Uri;
use model::{
    Alert, AlertId, AlertState, Condition, DeviceId, OutboxId, Rule, RuleName, Severity, Timestamp,
};
use serde::Serialize;
use store::{AlertsAsk, Inventory, OutboxAsk, ReadError, Store};
use utoipa::ToSchema;

use crate::Api;
use crate::devices::find;
use crate::outbox::DeliveryView;
use crate::page;
use crate::problem::Problem;
use crate::query::{self, Query};
use crate::request::{JsonAnswer, Path};

/// The words of an alert's state.
const STATES: [&str; 4] = ["pending", "firing", "unreachable", "resolved"];

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

fn view(alert: &Alert, inventory: &Inventory) -> AlertView {
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
            .map(|id| device_ref(*id, inventory))
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

fn device_ref(id: DeviceId, inventory: &Inventory) -> DeviceRef {
    DeviceRef {
        id: id.0,
        name: inventory
            .device(id)
            .map_or_else(|| id.to_string(), |device| device.name.clone()),
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
    uri: Uri,
) -> Result<JsonAnswer<AlertList>, Problem> {
    let ask = read_ask(&api, &uri)?;
    let limit = ask.limit;
    let ask = AlertsAsk {
        // one more says whether there is a further page
        limit: limit + 1,
        ..ask
    };
    let mut alerts = api.read(move |store| store.alerts(&ask)).await?;
    let next = page::cut(&mut alerts, limit, |alert| alert.id.0);
    let inventory = api.store().inventory();
    let items = alerts.iter().map(|alert| view(alert, &inventory));
    Ok(JsonAnswer(AlertList {
        items: items.collect(),
        next,
    }))
}

fn read_ask(api: &Api, uri: &Uri) -> Result<AlertsAsk, Problem> {
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
            .map(|device| find(api, &device))
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
    uri: Uri,
) -> Result<JsonAnswer<AlertDetail>, Problem> {
    query::none(&uri)?;
    let missing = || Problem::not_found("alert", &asked);
    let id = asked.parse().map(AlertId).map_err(|_| missing())?;
    let found = api
        .read(move |store| {
            let Some(alert) = store.alert(id)? else {
                return Ok(None);
            };
            let deliveries = deliveries_of(store, &alert)?;
            Ok::<_, ReadError>(Some((alert, deliveries)))
        })
        .await?;
    let (alert, deliveries) = found.ok_or_else(missing)?;
    let inventory = api.store().inventory();
    let rules = api.store().rules();
    let rule = rules.iter().find(|rule| rule.name == alert.rule);
    Ok(JsonAnswer(AlertDetail {
        note: rule.and_then(|rule| rule.note.clone()),
        unreachable: cut_off(&api, rule, &alert)
            .iter()
            .map(|alert| view(alert, &inventory))
            .collect(),
        alert: view(&alert, &inventory),
        deliveries,
    }))
}

/// Open alerts of devices that `alert` cuts off. Only a device's silence cuts
/// others off, not a busy processor of it.
fn cut_off(api: &Api, rule: Option<&Rule>, alert: &Alert) -> Vec<Alert> {
    let is_silence = match rule.map(|rule| &rule.condition) {
        Some(Condition::Availability { .. }) => true,
        Some(Condition::Threshold { .. }) => false,
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
fn deliveries_of(store: &Store, alert: &Alert) -> Result<Vec<DeliveryView>, ReadError> {
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
        found.extend(of_it.map(DeliveryView::from));
        match some.last() {
            Some(oldest) if oldest.created >= alert.since => before = Some(oldest.id),
            _ => break,
        }
    }
    Ok(found)
}
