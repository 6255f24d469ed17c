//! Plugins: what is installed, what it may do, and how it does.
//!
//! A plugin is the appliance's: it may concern every device, so only who has
//! the permission everywhere gets near it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{Capabilities, Permission, PluginName};
use serde_json::Value;
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::daemon::Later;
use crate::installed::{
    PACKAGE_BYTES, PluginProblem, PluginRefused, PluginSource, PluginStatus, Plugins,
};
use crate::mistakes::{Mistakes, Object, did_you_mean};
use crate::places::Place;
use crate::plugin_views::{
    BundledList, BundledView, PluginDetail, PluginInstalledView, PluginList, PluginLog,
    PluginLogLine, PluginVersionView, PluginView,
};
use crate::problem::{Kind, Mistake, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{
    Json, JsonAnswer, Path, etag, is_of_type, patience, read_body, require_match, wrong_type,
};

/// The type of a package's bytes.
pub(crate) const PACKAGE: &str = "application/octet-stream";

/// What can be granted.
pub(crate) const CAPABILITIES: [&str; 9] = [
    "cli.configure",
    "cli.exec",
    "http",
    "inventory",
    "kv",
    "limits",
    "secrets",
    "series",
    "snmp_set",
];

/// Patterns of one capability.
const PATTERNS: usize = 256;

/// Names that stand for something else in paths.
const TAKEN_NAMES: [&str; 2] = ["bundled", "dev"];

/// What the names of those begin with that are being written.
const DEV: &str = "dev.";

/// A plugin that came with the daemon.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes in the document what `read_bundled` reads"
)]
pub(crate) struct NewPluginBody {
    /// Its id, as in the list of those that came with the daemon.
    bundled: String,
    /// What to call it here; by default its id.
    name: Option<String>,
}

/// What a plugin is allowed: exactly one of the two.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes in the document what `read_grant` reads"
)]
pub(crate) struct GrantBody {
    /// true: everything that it asks for.
    all: Option<bool>,
    /// Patterns by capability; an empty list where it has no parts. In the
    /// place of what it was allowed before.
    capabilities: Option<BTreeMap<String, Vec<String>>>,
}

/// Who looks after the plugins.
pub(crate) fn looked_after(api: &Api) -> Result<Arc<dyn Plugins>, Problem> {
    api.daemon().plugins().ok_or_else(|| {
        Problem::new(
            Kind::Conflict,
            "plugins are switched off; set enabled = true in the section [plugins] of the settings and restart",
        )
    })
}

/// What an answer to `refused` says.
pub(crate) fn refused(why: PluginRefused) -> Problem {
    let text = why.to_string();
    match why {
        PluginRefused::NoSuch(name) => Problem::not_found("plugin", name.as_str()),
        PluginRefused::Problems(problems) => {
            let errors = problems.into_iter().map(mistake).collect();
            Problem::new(Kind::Invalid, text).with_errors(errors)
        }
        PluginRefused::Conflict(_) => Problem::new(Kind::Conflict, text),
        PluginRefused::Unavailable(_) => Problem::new(Kind::Unavailable, text),
        PluginRefused::Store(error) => not_written(&error, &store::Inventory::default()),
    }
}

fn mistake(problem: PluginProblem) -> Mistake {
    let place = problem.place.map(|place| format!("{place}: "));
    let hint = problem.hint.map(|hint| format!("; {hint}"));
    Mistake {
        pointer: None,
        parameter: None,
        message: format!(
            "{}{}{}",
            place.unwrap_or_default(),
            problem.message,
            hint.unwrap_or_default()
        ),
    }
}

/// Waits for something that goes on even if the client goes away.
pub(crate) async fn done<T: Send + 'static>(
    later: Later<Result<T, PluginRefused>>,
) -> Result<T, Problem> {
    match tokio::spawn(later).await {
        Ok(result) => result.map_err(refused),
        Err(fault) => {
            tracing::error!(%fault, "looking after a plugin ended by a fault");
            Err(Problem::new(
                Kind::Internal,
                "looking after the plugin ended by a fault",
            ))
        }
    }
}

/// The name in a path; what cannot be one is that of nothing.
pub(crate) fn named(asked: &str) -> Result<PluginName, Problem> {
    PluginName::new(asked).map_err(|_| Problem::not_found("plugin", asked))
}

/// How the plugin called `asked` is.
pub(crate) fn find(plugins: &dyn Plugins, asked: &str) -> Result<PluginStatus, Problem> {
    let name = named(asked)?;
    let mut all = plugins.list().into_iter();
    let found = all.find(|status| status.record.name == name);
    found.ok_or_else(|| Problem::not_found("plugin", asked))
}

fn shown(status: StatusCode, plugin: &PluginStatus) -> Response {
    let tag = [(header::ETAG, etag(plugin.record.revision))];
    (status, tag, JsonAnswer(PluginView::from(plugin))).into_response()
}

/// A package's bytes and the place of one that is read, or JSON.
pub(crate) enum NewPlugin {
    Package(axum::body::Bytes, Place),
    Json(Value),
}

impl FromRequest<Api> for NewPlugin {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<NewPlugin, Problem> {
        if is_of_type(request.headers(), &["application/json"]) {
            return Ok(NewPlugin::Json(Json::from_request(request, api).await?.0));
        }
        if !is_of_type(request.headers(), &[PACKAGE]) {
            let known = [PACKAGE, "application/json"];
            return Err(wrong_type(request.headers(), &known));
        }
        let Package(bytes, place) = Package::from_request(request, api).await?;
        Ok(NewPlugin::Package(bytes, place))
    }
}

/// A package's bytes, and the place of one that is read. Read only for those
/// who may do something with it.
pub(crate) struct Package(pub(crate) axum::body::Bytes, pub(crate) Place);

impl FromRequest<Api> for Package {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Package, Problem> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| {
            Problem::new(Kind::Internal, "the request did not come through the gate")
        })?;
        caller.need_everywhere(Permission::PluginsWrite)?;
        if !is_of_type(request.headers(), &[PACKAGE]) {
            return Err(wrong_type(request.headers(), &[PACKAGE]));
        }
        let place = api.packages().take(&caller.rate_key()).await;
        let bytes = read_body(request, PACKAGE_BYTES, patience(api)).await?;
        Ok(Package(bytes, place))
    }
}

/// Lists plugins, and how they do.
#[utoipa::path(
    get,
    path = "/plugins",
    tag = "plugins",
    responses(
        (status = 200, description = "The plugins", body = PluginList),
        (status = 403, description = "You may not see the whole appliance"),
    )
)]
pub(crate) async fn list_plugins(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<PluginList>, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsRead)?;
    let plugins = looked_after(&api)?;
    Ok(JsonAnswer(PluginList {
        items: plugins.list().iter().map(PluginView::from).collect(),
        host: plugins.host().into(),
    }))
}

/// Lists the plugins that came with the daemon.
#[utoipa::path(
    get,
    path = "/plugins/bundled",
    tag = "plugins",
    responses(
        (status = 200, description = "What can be installed by name", body = BundledList),
        (status = 403, description = "You may not see the whole appliance"),
    )
)]
pub(crate) async fn list_bundled_plugins(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<BundledList>, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsRead)?;
    let bundled = looked_after(&api)?.bundled().await.map_err(refused)?;
    let items = bundled.into_iter().map(BundledView::from).collect();
    Ok(JsonAnswer(BundledList { items }))
}

/// Shows a plugin with its settings, its versions and what it asks for.
#[utoipa::path(
    get,
    path = "/plugins/{name}",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name")),
    responses(
        (status = 200, description = "The plugin", body = PluginDetail, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "You may not see the whole appliance"),
        (status = 404, description = "There is no such plugin"),
    )
)]
pub(crate) async fn get_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsRead)?;
    let name = named(&asked)?;
    let details = looked_after(&api)?.details(&name).await.map_err(refused)?;
    let tag = [(header::ETAG, etag(details.status.record.revision))];
    Ok((tag, JsonAnswer(PluginDetail::from(details))).into_response())
}

/// Installs a plugin, or another version of one.
///
/// The body is a package that is signed with a trusted key, or says which of
/// those that came with the daemon. A plugin that asks to be allowed something
/// waits until it is granted that; a newer version that asks for more waits
/// beside the one that runs.
#[utoipa::path(
    post,
    path = "/plugins",
    tag = "plugins",
    params(("name" = Option<String>, Query, description = "What to call a package here; by default its id")),
    request_body(content(
        (NewPluginBody = "application/json"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "Another version of one is installed", body = PluginInstalledView, headers(("ETag" = String, description = "Its revision"))),
        (status = 201, description = "A new plugin is installed", body = PluginInstalledView, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 409, description = "It is installed already, or there are too many"),
        (status = 413, description = "The package is too large"),
        (status = 415, description = "The body is neither a package nor JSON"),
        (status = 422, description = "The package is unsigned, wrong or fails its own cases: everything is named"),
    )
)]
pub(crate) async fn install_plugin(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    body: NewPlugin,
) -> Result<Response, Problem> {
    let query = Query::read(&uri, &["name"])?;
    let called = query.one("name");
    let called = match called.map(new_name) {
        Some(Err(why)) => {
            query.mistakes.parameter("name", why);
            None
        }
        Some(Ok(name)) => Some(name),
        None => None,
    };
    let called = query.or(called)?;
    caller.need_everywhere(Permission::PluginsWrite)?;
    let (from, name, _place) = match body {
        NewPlugin::Package(bytes, place) => (PluginSource::Uploaded(bytes), called, Some(place)),
        NewPlugin::Json(body) => {
            if called.is_some() {
                return Err(query::wrong("name", "say the name in the body"));
            }
            let (id, name) = read_bundled(&body)?;
            (PluginSource::Bundled(id), name, None)
        }
    };
    let plugins = looked_after(&api)?;
    let installed = done(plugins.install(caller.by(), from, name)).await?;
    let record = &installed.status.record;
    caller.did("plugin installed", record.name.as_str());
    let status = match installed.is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let head = [
        (header::ETAG, etag(record.revision)),
        (header::LOCATION, format!("/api/v1/plugins/{}", record.name)),
    ];
    let view = PluginInstalledView {
        plugin: PluginView::from(&installed.status),
        installed: PluginVersionView::from(&installed.version),
    };
    Ok((status, head, JsonAnswer(view)).into_response())
}

/// `text` as the name of something that is installed.
fn new_name(text: &str) -> Result<PluginName, String> {
    let name = PluginName::new(text).map_err(|error| error.to_string())?;
    match TAKEN_NAMES.contains(&text) || text.starts_with(DEV) {
        true => Err(format!(
            "{text:?} stands for something else; take another name"
        )),
        false => Ok(name),
    }
}

fn read_bundled(body: &Value) -> Result<(String, Option<PluginName>), Problem> {
    let mistakes = Mistakes::default();
    let body = Object::read(body, "", &["bundled", "name"], &mistakes);
    let read = body.and_then(|body| {
        let id = body.required_text("bundled");
        if let Some(Err(why)) = id.map(PluginName::new) {
            body.wrong("bundled", why.to_string());
        }
        let name = body.text("name").map(new_name);
        if let Some(Err(why)) = &name {
            body.wrong("name", why.clone());
        }
        Some((id?.to_owned(), name.and_then(Result::ok)))
    });
    mistakes.or(Kind::Invalid, read)
}

/// Removes a plugin with everything that it kept.
#[utoipa::path(
    delete,
    path = "/plugins/{name}",
    tag = "plugins",
    params(
        ("name" = String, Path, description = "The plugin's name"),
        ("If-Match" = String, Header, description = "The revision that is to be removed, or `*`"),
    ),
    responses(
        (status = 204, description = "It is removed"),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is no such plugin"),
        (status = 412, description = "It was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn remove_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsWrite)?;
    let plugins = looked_after(&api)?;
    let record = find(&*plugins, &asked)?.record;
    let expected = require_match(&headers, record.revision)?;
    done(plugins.remove(caller.by(), &record.name, expected)).await?;
    caller.did("plugin removed", &asked);
    Ok(StatusCode::NO_CONTENT)
}

/// Says what a plugin may do.
///
/// In the place of what it might do before. A version that waits for it takes
/// the place of the one that runs. Whoever grants all that is asked for sends the
/// ETag of what they read, so that a version that came meanwhile gets nothing
/// unseen.
#[utoipa::path(
    post,
    path = "/plugins/{name}/grant",
    tag = "plugins",
    params(
        ("name" = String, Path, description = "The plugin's name"),
        ("If-Match" = Option<String>, Header, description = "The revision that is meant, if only that one is"),
    ),
    request_body = GrantBody,
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginView, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is no such plugin"),
        (status = 412, description = "The plugin was changed meanwhile"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn grant_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsGrant)?;
    let plugins = looked_after(&api)?;
    let record = find(&*plugins, &asked)?.record;
    let capabilities = read_grant(&body)?;
    let expected = match headers.contains_key(header::IF_MATCH) {
        true => require_match(&headers, record.revision)?,
        false => None,
    };
    let status = done(plugins.grant(caller.by(), &record.name, capabilities, expected)).await?;
    caller.did("plugin granted", &asked);
    Ok(shown(StatusCode::OK, &status))
}

/// What is granted; `None`: everything that is asked for.
fn read_grant(body: &Value) -> Result<Option<Capabilities>, Problem> {
    let mistakes = Mistakes::default();
    let object = Object::read(body, "", &["all", "capabilities"], &mistakes);
    let read = object.and_then(|object| {
        let all = object.flag("all");
        let listed = object.object("capabilities", &CAPABILITIES);
        match (all, object.has("capabilities")) {
            (Some(true), false) => Some(None),
            (None, true) => Some(Some(patterns(&listed?))),
            (_, _) => {
                let message = format!(
                    "say what it may do, in one way: \"all\": true, or capabilities ({})",
                    CAPABILITIES.join(", ")
                );
                object.wrong("all", message);
                None
            }
        }
    });
    mistakes.or(Kind::Invalid, read)
}

fn patterns(listed: &Object<'_>) -> Capabilities {
    let granted = CAPABILITIES.iter().filter(|name| listed.has(name));
    let granted = granted.map(|name| {
        let texts = listed.texts(name, PATTERNS).into_iter();
        let texts: BTreeSet<String> = texts.map(|(_, text)| text).collect();
        ((*name).to_owned(), texts)
    });
    Capabilities(granted.collect())
}

/// Lets a plugin run.
#[utoipa::path(
    post,
    path = "/plugins/{name}/enable",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name")),
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginView, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is no such plugin"),
        (status = 409, description = "It cannot be loaded, or lacks a setting"),
    )
)]
pub(crate) async fn enable_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    switch(&api, &caller, &asked, true).await
}

/// Keeps a plugin from running.
#[utoipa::path(
    post,
    path = "/plugins/{name}/disable",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name")),
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginView, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is no such plugin"),
    )
)]
pub(crate) async fn disable_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    switch(&api, &caller, &asked, false).await
}

async fn switch(
    api: &Api,
    caller: &Caller,
    asked: &str,
    enabled: bool,
) -> Result<Response, Problem> {
    caller.need_everywhere(Permission::PluginsWrite)?;
    let plugins = looked_after(api)?;
    let name = find(&*plugins, asked)?.record.name.clone();
    let status = done(plugins.enable(caller.by(), &name, enabled)).await?;
    let did = match enabled {
        true => "plugin enabled",
        false => "plugin disabled",
    };
    caller.did(did, asked);
    Ok(shown(StatusCode::OK, &status))
}

/// Goes back to the version before.
#[utoipa::path(
    post,
    path = "/plugins/{name}/rollback",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name")),
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginView, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is no such plugin"),
        (status = 409, description = "There is no version before"),
    )
)]
pub(crate) async fn roll_back_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsWrite)?;
    let plugins = looked_after(&api)?;
    let name = find(&*plugins, &asked)?.record.name.clone();
    let status = done(plugins.roll_back(caller.by(), &name)).await?;
    caller.did("plugin rolled back", &asked);
    Ok(shown(StatusCode::OK, &status))
}

/// Changes settings of a plugin.
///
/// A setting that is null goes back to its default. A plugin that is given
/// secrets may tell them to whom its settings say: changing those needs
/// secrets:write, too.
#[utoipa::path(
    patch,
    path = "/plugins/{name}/settings",
    tag = "plugins",
    params(
        ("name" = String, Path, description = "The plugin's name"),
        ("If-Match" = String, Header, description = "The revision that is to be changed, or `*`"),
    ),
    request_body(content = Object, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The plugin as it is now", body = PluginView, headers(("ETag" = String, description = "Its revision"))),
        (status = 403, description = "You may not do this for the whole appliance"),
        (status = 404, description = "There is no such plugin"),
        (status = 412, description = "It was changed meanwhile"),
        (status = 422, description = "The body has mistakes: all are named"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn set_plugin(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsWrite)?;
    let plugins = looked_after(&api)?;
    let record = find(&*plugins, &asked)?.record;
    let expected = require_match(&headers, record.revision)?;
    let details = plugins.details(&record.name).await.map_err(refused)?;
    if details
        .schema
        .values()
        .any(|setting| setting.kind == SECRET)
    {
        caller.need_everywhere(Permission::SecretsWrite)?;
    }
    let known: Vec<&str> = details.schema.keys().map(String::as_str).collect();
    let settings = read_settings(&body, &known)?;
    let status = done(plugins.set(caller.by(), &record.name, settings, expected)).await?;
    caller.did("plugin set", &asked);
    Ok(shown(StatusCode::OK, &status))
}

/// The type of a setting that names a secret.
const SECRET: &str = "secret";

fn read_settings(body: &Value, known: &[&str]) -> Result<BTreeMap<String, Option<Value>>, Problem> {
    let mistakes = Mistakes::default();
    let Some(fields) = body.as_object() else {
        mistakes.at("", "this is not an object");
        return Err(mistakes.problem(Kind::Invalid));
    };
    for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
        let hint = match known {
            [] => "this plugin has none".to_owned(),
            known => did_you_mean(name, known),
        };
        mistakes.at(
            &format!("/{name}"),
            format!("unknown setting {name:?}: {hint}"),
        );
    }
    let settings = fields.iter().map(|(name, value)| {
        let value = Some(value).filter(|value| !value.is_null());
        (name.clone(), value.cloned())
    });
    mistakes.or(Kind::Invalid, Some(settings.collect()))
}

/// Shows what a plugin logged.
#[utoipa::path(
    get,
    path = "/plugins/{name}/log",
    tag = "plugins",
    params(("name" = String, Path, description = "The plugin's name")),
    responses(
        (status = 200, description = "The newest lines", body = PluginLog),
        (status = 403, description = "You may not see the whole appliance"),
        (status = 404, description = "There is no such plugin"),
    )
)]
pub(crate) async fn get_plugin_log(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<PluginLog>, Problem> {
    query::none(&uri)?;
    caller.need_everywhere(Permission::PluginsRead)?;
    let lines = looked_after(&api)?.log(&named(&asked)?);
    let lines = lines.ok_or_else(|| Problem::not_found("plugin", &asked))?;
    let items = lines
        .into_iter()
        .map(|(at, line)| PluginLogLine::of(at, line));
    Ok(JsonAnswer(PluginLog {
        items: items.collect(),
    }))
}
