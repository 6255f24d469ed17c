//! Plugins while they are written and tried: a package that need not be signed,
//! for one device and a minute; what a device answers; what a plugin makes of
//! it.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use contract::{Answer, Ask, Oid};
use model::{
    Alert, AlertId, AuditDraft, AuditOutcome, Channel, Delivery, DeliveryState, Device,
    NotificationEvent, OutboxId, Permission, PluginName,
};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::error;
use utoipa::ToSchema;

use crate::Api;
use crate::alerts;
use crate::caller::Caller;
use crate::devices;
use crate::installed::PluginState;
use crate::mistakes::{Mistakes, Object};
use crate::plugin_views::{PluginRunView, as_json};
use crate::plugins::{Package, done, find, looked_after, named};
use crate::problem::{Kind, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{Json, JsonAnswer, MaybeJson, Path};

/// Instances that are asked for at once.
pub(crate) const GETS: usize = 200;

/// Walks and tables that are asked for at once.
pub(crate) const WALKS: usize = 16;

/// What a device is asked. At least one question.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes in the document what `read_ask` reads")]
pub(crate) struct AskBody {
    /// Object identifiers of instances.
    get: Option<Vec<String>>,
    /// Object identifiers: everything below is asked for.
    walk: Option<Vec<String>>,
    /// Object identifiers of tables.
    table: Option<Vec<String>>,
}

/// What a device answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Asked {
    /// The device's number.
    device: u64,
    /// When.
    at: String,
    /// Pairs of a question and its answer, as the contract of plugins has them.
    #[schema(value_type = Vec<Vec<Object>>)]
    answers: Vec<[Value; 2]>,
}

/// For which device a plugin is tried.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes in the document what `read_device` reads"
)]
pub(crate) struct TryBody {
    /// The device's number or name; not for a notifier.
    device: Option<String>,
}

/// What came of trying a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tried {
    /// Of a notifier: the number of the test in the outbox, which says how it
    /// went.
    outbox: Option<u64>,
    /// Of any other: its calls.
    run: Option<PluginRunView>,
}

/// About which alert a remediation is asked.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes in the document what `read_alert` reads"
)]
pub(crate) struct PlanBody {
    /// The alert's number.
    alert: u64,
}

/// The device called `asked`, if the caller may have it asked now.
fn pollable(api: &Api, caller: &Caller, asked: &str) -> Result<std::sync::Arc<Device>, Problem> {
    let device = devices::find(api, caller, Permission::DevicesPoll, asked)?;
    match device.deleted {
        None => Ok(device),
        Some(_) => Err(Problem::new(
            Kind::Conflict,
            format!("device {} is deleted; restore it first", device.id),
        )),
    }
}

/// Writes down what was done that changed nothing in the store.
async fn note(api: &Api, caller: &Caller, action: &str, object: String, after: Value) {
    let draft = AuditDraft {
        action: action.to_owned(),
        object,
        tenant: None,
        outcome: AuditOutcome::Done,
        after: Some(after.to_string()),
    };
    let noted = api.store().note_audit(&caller.by(), draft, api.now()).await;
    if let Err(error) = noted {
        error!(%error, action, "something is not in the audit log: {error}");
    }
}

/// Runs a plugin that is being written, for one device.
///
/// Its package need not be signed. It may do what its manifest asks for, and is
/// gone a minute after it was last put or renewed.
#[utoipa::path(
    put,
    path = "/plugins/dev/{name}",
    tag = "plugins",
    params(
        ("name" = String, Path, description = "What to call it, without the `dev.` that it gets"),
        ("device" = String, Query, description = "The device's number or name"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "What it made of the device's last answer", body = PluginRunView),
        (status = 403, description = "You may not do this for the whole appliance, or may not poll the device"),
        (status = 404, description = "There is no such device"),
        (status = 413, description = "The package is too large"),
        (status = 415, description = "The body is no package"),
        (status = 422, description = "The package is wrong: everything is named"),
    )
)]
pub(crate) async fn put_dev_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
    Package(package, _place): Package,
) -> Result<JsonAnswer<PluginRunView>, Problem> {
    let query = Query::read(&uri, &["device"])?;
    let device = query.one("device").map(str::to_owned);
    if device.is_none() {
        let message = "say for which device: ?device=";
        query.mistakes.parameter("device", message);
    }
    let device = query.or(()).map(|()| device.unwrap_or_default())?;
    // unsigned, and with all that it asks for
    caller.need_everywhere(Permission::PluginsWrite)?;
    caller.need_everywhere(Permission::PluginsGrant)?;
    let plugins = looked_after(&api)?;
    let device = pollable(&api, &caller, &device)?;
    let name =
        PluginName::new(&asked).map_err(|why| Problem::new(Kind::Invalid, why.to_string()))?;
    let bytes = package.len();
    let run = done(plugins.dev(caller.by(), &name, device.id, package)).await?;
    let after = json!({ "device": device.id.0, "bytes": bytes });
    note(
        &api,
        &caller,
        "plugin.dev",
        format!("plugin:dev.{name}"),
        after,
    )
    .await;
    caller.did("plugin in development put", &asked);
    Ok(JsonAnswer(run.into()))
}

/// Keeps a plugin that is being written for another minute.
#[utoipa::path(
    post,
    path = "/plugins/dev/{name}/renew",
    tag = "plugins",
    params(("name" = String, Path, description = "What it is called, without its `dev.`")),
    responses(
        (status = 200, description = "What it made of the device's last answer", body = PluginRunView),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is none, or its minute is over: put it again"),
    )
)]
pub(crate) async fn renew_dev_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<PluginRunView>, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsWrite)?;
    caller.need_everywhere(Permission::PluginsGrant)?;
    let run = done(looked_after(&api)?.renew_dev(&named(&asked)?)).await?;
    Ok(JsonAnswer(run.into()))
}

/// Ends a plugin that is being written.
#[utoipa::path(
    delete,
    path = "/plugins/dev/{name}",
    tag = "plugins",
    params(("name" = String, Path, description = "What it is called, without its `dev.`")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is none, or its minute is over"),
    )
)]
pub(crate) async fn end_dev_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsWrite)?;
    done(looked_after(&api)?.end_dev(&named(&asked)?)).await?;
    caller.did("plugin in development ended", &asked);
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a device now, for whoever writes a plugin.
///
/// By SNMP, with its own credential. Answers may hold what is not for
/// everybody's eyes.
#[utoipa::path(
    post,
    path = "/devices/{device}/ask",
    tag = "plugins",
    params(("device" = String, Path, description = "The device's number or name")),
    request_body = AskBody,
    responses(
        (status = 200, description = "What it answered", body = Asked),
        (status = 403, description = "You may not write plugins, or may not poll the device"),
        (status = 404, description = "There is no such device"),
        (status = 409, description = "It cannot be asked: it is deleted, or has no credential"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 503, description = "It does not answer now"),
    )
)]
pub(crate) async fn ask_device(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<JsonAnswer<Asked>, Problem> {
    query::none(&uri)?;
    // both are needed for this very device
    devices::find(&api, &caller, Permission::PluginsWrite, &asked)?;
    let device = pollable(&api, &caller, &asked)?;
    let questions = read_ask(&body)?;
    let plugins = looked_after(&api)?;
    let after = as_json(&questions);
    let object = format!("device:{}", device.id);
    note(
        &api,
        &caller,
        "device.ask",
        object,
        json!({ "questions": after }),
    )
    .await;
    let answers = done(plugins.ask(device.id, questions)).await?;
    let pair = |(ask, answer): &(Ask, Answer)| [as_json(ask), as_json(answer)];
    Ok(JsonAnswer(Asked {
        device: device.id.0,
        at: api.now().to_string(),
        answers: answers.iter().map(pair).collect(),
    }))
}

fn read_ask(body: &Value) -> Result<Vec<Ask>, Problem> {
    let mistakes = Mistakes::default();
    let object = Object::read(body, "", &["get", "walk", "table"], &mistakes);
    let questions = object.map(|object| {
        let oids = |field: &str, limit| -> Vec<Oid> {
            let texts = object.texts(field, limit).into_iter();
            texts
                .filter_map(|(at, text)| oid(&mistakes, &at, &text))
                .collect()
        };
        let gets = oids("get", GETS);
        let mut questions = Vec::new();
        if !gets.is_empty() {
            questions.push(Ask::SnmpGet(gets));
        }
        questions.extend(oids("walk", WALKS).into_iter().map(Ask::SnmpWalk));
        questions.extend(oids("table", WALKS).into_iter().map(Ask::SnmpTable));
        questions
    });
    if mistakes.is_empty() && questions.as_ref().is_some_and(Vec::is_empty) {
        mistakes.at("", "there is nothing to ask: say get, walk or table");
    }
    mistakes.or(Kind::Invalid, questions)
}

/// The longest object identifier (RFC 2578 §3.5).
const ARCS: usize = 128;

fn oid(mistakes: &Mistakes, at: &str, text: &str) -> Option<Oid> {
    match text.parse::<Oid>() {
        Ok(oid) if (2..=ARCS).contains(&oid.0.len()) => Some(oid),
        Ok(_) => {
            let message = format!("an object identifier has 2 to {ARCS} numbers");
            mistakes.at(at, message);
            None
        }
        Err(why) => {
            mistakes.at(at, why);
            None
        }
    }
}

/// Tries a plugin now.
///
/// A notifier sends a test notification through the outbox. A parser, a poller
/// or a rule is called for one device; nothing of what comes of it is kept.
#[utoipa::path(
    post,
    path = "/plugins/{name}/test",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name")),
    request_body = Option<TryBody>,
    responses(
        (status = 200, description = "What came of it", body = Tried),
        (status = 403, description = "You may not do this for the whole appliance, or may not poll the device"),
        (status = 404, description = "There is no such plugin or device"),
        (status = 409, description = "It does not run, or is a remediation"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 503, description = "The device does not answer now"),
    )
)]
pub(crate) async fn try_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
    MaybeJson(body): MaybeJson,
) -> Result<JsonAnswer<Tried>, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsWrite)?;
    let plugins = looked_after(&api)?;
    let status = find(&*plugins, &asked)?;
    let record = &status.record;
    let device = body
        .filter(|body| !body.is_null())
        .as_ref()
        .map_or(Ok(None), read_device)?;
    let runs = matches!(
        status.state,
        PluginState::Active | PluginState::Paused | PluginState::Dev
    );
    if !runs {
        let why = format!("the plugin is {} and does not run", status.state.word());
        return Err(Problem::new(Kind::Conflict, why));
    }
    match (record.current.kind.as_str(), device) {
        ("remediation", _) => Err(Problem::new(
            Kind::Conflict,
            "a remediation is asked for its plan about an alert: POST to plan",
        )),
        ("notifier", Some(_)) => {
            let why = "a notifier is for no device: leave it out";
            Err(Problem::new(Kind::Invalid, why).at("/device"))
        }
        ("notifier", None) => {
            let delivery = test_to(&record.name, &api);
            let by = caller.by();
            let queued = api.store().enqueue_test(&by, delivery, api.now());
            let id = queued
                .await
                .map_err(|error| not_written(&error, &api.store().inventory()))?;
            caller.did("test notification queued", &asked);
            Ok(JsonAnswer(Tried {
                outbox: Some(id.0),
                run: None,
            }))
        }
        (_, None) => {
            let why = "say for which device";
            Err(Problem::new(Kind::Invalid, why).at("/device"))
        }
        (_, Some(device)) => {
            let device = pollable(&api, &caller, &device)?;
            let object = format!("plugin:{}", record.name);
            let after = json!({ "device": device.id.0 });
            note(&api, &caller, "plugin.test", object, after).await;
            let run = done(plugins.try_on(&record.name, device.id)).await?;
            Ok(JsonAnswer(Tried {
                outbox: None,
                run: Some(run.into()),
            }))
        }
    }
}

fn read_device(body: &Value) -> Result<Option<String>, Problem> {
    let mistakes = Mistakes::default();
    let object = Object::read(body, "", &["device"], &mistakes);
    let device = object.map(|object| match body.get("device").and_then(Value::as_u64) {
        Some(number) => Some(number.to_string()),
        None => object.text("device").map(str::to_owned),
    });
    mistakes.or(Kind::Invalid, device)
}

fn test_to(plugin: &PluginName, api: &Api) -> Delivery {
    let now = api.now();
    Delivery {
        // the store gives it its number
        id: OutboxId(0),
        channel: Channel::Plugin {
            plugin: plugin.to_string(),
        },
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

/// Shows what a remediation would do about an alert.
///
/// Nothing is done: this is its plan alone.
#[utoipa::path(
    post,
    path = "/plugins/{name}/plan",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name")),
    request_body = PlanBody,
    responses(
        (status = 200, description = "What it decided", body = PluginRunView),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is no such plugin"),
        (status = 409, description = "It is no remediation, or does not run"),
        (status = 422, description = "The body has mistakes, or there is no such alert"),
    )
)]
pub(crate) async fn plan_of_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
    Json(body): Json,
) -> Result<JsonAnswer<PluginRunView>, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsWrite)?;
    let plugins = looked_after(&api)?;
    let record = find(&*plugins, &asked)?.record;
    let alert = read_alert(&api, &caller, &body).await?;
    if record.current.kind != "remediation" {
        let why = format!(
            "{} is a {} and plans nothing",
            record.name, record.current.kind
        );
        return Err(Problem::new(Kind::Conflict, why));
    }
    let object = format!("plugin:{}", record.name);
    let after = json!({ "alert": alert.id.0 });
    note(&api, &caller, "plugin.plan", object, after).await;
    let run = done(plugins.plan(&record.name, alert)).await?;
    Ok(JsonAnswer(run.into()))
}

async fn read_alert(api: &Api, caller: &Caller, body: &Value) -> Result<Alert, Problem> {
    let mistakes = Mistakes::default();
    let object = Object::read(body, "", &["alert"], &mistakes);
    let id = object.and_then(|object| {
        if !object.has("alert") {
            object.wrong("alert", "alert is missing");
        }
        object.whole("alert", 1..=u64::MAX)
    });
    let id = mistakes.or(Kind::Invalid, id)?;
    let alert = api.read(move |store| store.alert(AlertId(id))).await?;
    let inventory = api.store().inventory();
    let alert = alert.filter(|alert| alerts::sees(caller, &inventory, alert));
    alert.ok_or_else(|| Problem::new(Kind::Invalid, format!("there is no alert {id}")).at("/alert"))
}
