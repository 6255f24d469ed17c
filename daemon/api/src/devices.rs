//! The inventory: listing, reading and changing devices.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use access::Tenants;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::{
    Address, CredentialKind, CredentialRecord, Device, DeviceDraft, DeviceId, DeviceKind,
    Permission, SecretRecord, TenantName, Timestamp,
};
use secrets::SecretBytes;
use serde::Serialize;
use serde_json::Value;
use store::{Inventory, Refusal, WriteError};
use utoipa::ToSchema;

use crate::Api;
use crate::caller::Caller;
use crate::credentials::{record, sealed};
use crate::daemon::PollNowRefused;
use crate::device_body::{self, DeviceBody, Known, NewDeviceBody};
use crate::device_view::{DeviceView, Viewer};
use crate::mistakes::Mistakes;
use crate::page::{self, Cursor};
use crate::problem::{Kind, Problem, not_written};
use crate::query::{self, Query};
use crate::request::{Json, JsonAnswer, Path, etag, require_match};

/// Bytes of a search; names are shorter.
const SEARCH_BYTES: usize = 256;

/// How often a change is applied anew to a device that others change at the
/// same time.
const TRIES: usize = 5;

/// What a list of devices is sorted by; `-` before it turns it around.
pub(crate) const SORTS: [&str; 13] = [
    "id", "name", "address", "kind", "vendor", "model", "os", "site", "location", "state",
    "created", "updated", "tenant",
];

/// The words of a device's state.
pub(crate) const STATES: [&str; 6] = [
    "up",
    "problem",
    "down",
    "unreachable",
    "unknown",
    "disabled",
];

/// One page of devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceList {
    /// The devices, in order.
    items: Vec<DeviceView>,
    /// `cursor` of the next page; null on the last one.
    next: Option<String>,
    /// How many devices the filters leave, on all pages.
    total: usize,
}

/// Lists devices.
///
/// Filters that are given several times are met by any of their values.
/// Pages stay true while devices are added and deleted.
#[utoipa::path(
    get,
    path = "/devices",
    tag = "devices",
    params(
        ("tenant" = Option<Vec<String>>, Query, description = "Of one of these tenants"),
        ("site" = Option<Vec<String>>, Query, description = "At one of these sites"),
        ("kind" = Option<Vec<String>>, Query, description = "Of one of these kinds"),
        ("tag" = Option<Vec<String>>, Query, description = "With at least one of these tags"),
        ("state" = Option<Vec<String>>, Query, description = "In one of these states: up, problem, down, unreachable, unknown, disabled"),
        ("enabled" = Option<bool>, Query, description = "Only those that are, or are not, enabled"),
        ("deleted" = Option<bool>, Query, description = "true: deleted devices instead of the others"),
        ("q" = Option<String>, Query, description = "Words that all stand in name, address, vendor, model, os, site or location"),
        ("sort" = Option<String>, Query, description = "id, name (the default), address, kind, vendor, model, os, site, location, state, created, updated or tenant; with - before it from last to first"),
        ("limit" = Option<usize>, Query, description = "Items in a page, 1 to 1000; by default 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of devices", body = DeviceList),
        (status = 400, description = "A parameter is wrong"),
    )
)]
pub(crate) async fn list_devices(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
) -> Result<JsonAnswer<DeviceList>, Problem> {
    let ask = Ask::read(&uri)?;
    let viewer = Viewer::new(&api, &caller);
    let mut rows: Vec<(String, &Arc<Device>)> = ask
        .of(viewer.inventory())
        .into_iter()
        .filter(|device| caller.sees(device) && ask.matches(device, &viewer))
        .map(|device| (ask.sort.key(device, &viewer), device))
        .collect();
    rows.sort_unstable_by(|a, b| ask.sort.compare((&a.0, a.1.id), (&b.0, b.1.id)));

    let total = rows.len();
    let begin = ask.cursor.as_ref().map_or(0, |cursor| {
        let last = (cursor.key.as_str(), DeviceId(cursor.id));
        rows.partition_point(|(key, device)| {
            ask.sort.compare((key, device.id), last) != Ordering::Greater
        })
    });
    let page = &rows[begin..total.min(begin + ask.limit)];
    let next = page
        .last()
        .filter(|_| begin + page.len() < total)
        .map(|(key, device)| Cursor::at(&ask.sort.text, key, device.id.0).to_string());
    Ok(JsonAnswer(DeviceList {
        items: page
            .iter()
            .map(|(_, device)| viewer.device(device))
            .collect(),
        next,
        total,
    }))
}

/// What a list is asked for.
struct Ask {
    tenants: Vec<String>,
    sites: Vec<String>,
    kinds: Vec<DeviceKind>,
    tags: Vec<String>,
    states: Vec<String>,
    enabled: Option<bool>,
    deleted: bool,
    words: Vec<String>,
    sort: Sort,
    limit: usize,
    cursor: Option<Cursor>,
}

impl Ask {
    fn read(uri: &Uri) -> Result<Ask, Problem> {
        let known = [
            "tenant", "site", "kind", "tag", "state", "enabled", "deleted", "q", "sort", "limit",
            "cursor",
        ];
        let query = Query::read(uri, &known)?;
        let kinds = DeviceKind::ALL.map(|(_, word)| word);
        let search = query.one("q").unwrap_or_default().to_lowercase();
        if search.len() > SEARCH_BYTES {
            let message = format!("a search has at most {SEARCH_BYTES} bytes");
            query.mistakes.parameter("q", message);
        }
        let sort = Sort::read(&query);
        let cursor = match query.one("cursor") {
            Some(text) => Some(Cursor::read(text, &sort.text)?),
            None => None,
        };
        let ask = Ask {
            tenants: query.all("tenant"),
            sites: query.all("site"),
            kinds: query.words("kind", &kinds, DeviceKind::from_word),
            tags: query.all("tag"),
            states: query.words("state", &STATES, |word| {
                STATES.contains(&word).then(|| word.to_owned())
            }),
            enabled: query.flag("enabled"),
            deleted: query.flag("deleted").unwrap_or(false),
            words: search.split_whitespace().map(str::to_owned).collect(),
            limit: page::limit(&query),
            sort,
            cursor,
        };
        query.or(ask)
    }

    /// The live devices, or the deleted ones.
    fn of<'i>(&self, inventory: &'i Inventory) -> Vec<&'i Arc<Device>> {
        match self.deleted {
            true => inventory.all().filter(|d| d.deleted.is_some()).collect(),
            false => inventory.live().collect(),
        }
    }

    fn matches(&self, device: &Device, viewer: &Viewer<'_>) -> bool {
        let one_of = |values: &[String], value: Option<&String>| {
            values.is_empty() || value.is_some_and(|value| values.contains(value))
        };
        one_of(&self.tenants, Some(&device.tenant.0))
            && one_of(&self.sites, device.site.as_ref())
            && (self.kinds.is_empty() || self.kinds.contains(&device.kind))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| device.tags.contains(tag)))
            && self.enabled.is_none_or(|enabled| device.enabled == enabled)
            && self.words.iter().all(|word| stands_in(word, device))
            && (self.states.is_empty()
                || self
                    .states
                    .iter()
                    .any(|word| word == viewer.state(device).word()))
    }
}

/// Whether `word`, in lower case, stands in one of the texts of `device`.
fn stands_in(word: &str, device: &Device) -> bool {
    let address = device.address.to_string();
    let said = [
        &device.vendor,
        &device.model,
        &device.os,
        &device.site,
        &device.location,
    ];
    [&device.name, &address]
        .into_iter()
        .chain(said.into_iter().flatten())
        .any(|text| text.to_lowercase().contains(word))
}

/// An order of devices.
struct Sort {
    /// As it was asked for.
    text: String,
    field: &'static str,
    descending: bool,
}

impl Sort {
    fn read(query: &Query) -> Sort {
        let text = query.one("sort").unwrap_or("name");
        let asked = text.strip_prefix('-').unwrap_or(text);
        let field = SORTS.iter().find(|field| **field == asked);
        if field.is_none() {
            let hint = crate::mistakes::did_you_mean(asked, &SORTS);
            let message = format!("devices are not sorted by {asked:?}: {hint}");
            query.mistakes.parameter("sort", message);
        }
        Sort {
            text: text.to_owned(),
            field: field.copied().unwrap_or("name"),
            descending: text.starts_with('-'),
        }
    }

    /// What `device` is sorted by; devices with the same key by id.
    fn key(&self, device: &Device, viewer: &Viewer<'_>) -> String {
        let said = |text: &Option<String>| text.as_deref().unwrap_or_default().to_lowercase();
        match self.field {
            "name" => device.name.to_lowercase(),
            "address" => address_key(&device.address),
            "kind" => device.kind.word().to_owned(),
            "vendor" => said(&device.vendor),
            "model" => said(&device.model),
            "os" => said(&device.os),
            "site" => said(&device.site),
            "location" => said(&device.location),
            "state" => viewer.state(device).word().to_owned(),
            "tenant" => device.tenant.0.clone(),
            "created" => time_key(device.created),
            "updated" => time_key(device.updated),
            _id => String::new(),
        }
    }

    fn compare(&self, a: (&str, DeviceId), b: (&str, DeviceId)) -> Ordering {
        match self.descending {
            true => b.cmp(&a),
            false => a.cmp(&b),
        }
    }
}

/// IPv4 before IPv6 before names; addresses as numbers.
fn address_key(address: &Address) -> String {
    match address {
        Address::Ip(std::net::IpAddr::V4(ip)) => format!("4{:08x}", u32::from(*ip)),
        Address::Ip(std::net::IpAddr::V6(ip)) => format!("6{:032x}", u128::from(*ip)),
        Address::Host(name) => format!("n{name}"),
    }
}

fn time_key(at: Timestamp) -> String {
    format!("{:016x}", at.0)
}

/// Shows a device.
///
/// A deleted device is shown by its id.
#[utoipa::path(
    get,
    path = "/devices/{device}",
    tag = "devices",
    params(("device" = String, Path, description = "Id or name")),
    responses(
        (status = 200, description = "The device", body = DeviceView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such device"),
        (status = 409, description = "Devices of several tenants have this name"),
    )
)]
pub(crate) async fn get_device(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let device = find(&api, &caller, Permission::DevicesRead, &asked)?;
    Ok(shown(&api, &caller, StatusCode::OK, &device))
}

/// The device that `asked` means (an id, or the name of a live one), if the
/// caller has `permission` for it.
///
/// # Errors
///
/// 404 if there is none, or none that the caller sees; 403 if they see it and
/// that is all; 409 if several tenants have one of that name.
pub(crate) fn find(
    api: &Api,
    caller: &Caller,
    permission: Permission,
    asked: &str,
) -> Result<Arc<Device>, Problem> {
    let inventory = api.store().inventory();
    let meant: Vec<&Arc<Device>> = match asked.parse() {
        Ok(id) => inventory.device(DeviceId(id)).into_iter().collect(),
        Err(_) => inventory.named(asked),
    };
    one_of(&meant, caller, permission, asked)
}

/// The one of the devices called `asked` for which the caller has `permission`.
fn one_of(
    meant: &[&Arc<Device>],
    caller: &Caller,
    permission: Permission,
    asked: &str,
) -> Result<Arc<Device>, Problem> {
    let is_seen =
        |device: &&Arc<Device>| caller.sees(device) || caller.on_device(permission, device);
    let seen: Vec<&Arc<Device>> = meant.iter().copied().filter(is_seen).collect();
    match seen.as_slice() {
        [] if meant.is_empty() => Err(Problem::not_found("device", asked)),
        [] => Err(Problem::hidden("device", asked)),
        [device] if caller.on_device(permission, device) => Ok(Arc::clone(device)),
        [_] => Err(Problem::forbidden(format!(
            "this needs the permission {} for this device",
            permission.word()
        ))),
        several => {
            let ids: Vec<String> = several
                .iter()
                .map(|device| format!("{} ({})", device.id, device.tenant))
                .collect();
            let detail = format!(
                "devices of several tenants are called {asked:?}: use one of their ids: {}",
                ids.join(", ")
            );
            Err(Problem::new(Kind::Conflict, detail))
        }
    }
}

fn shown(api: &Api, caller: &Caller, status: StatusCode, device: &Device) -> Response {
    let view = Viewer::new(api, caller).device(device);
    let tag = [(header::ETAG, etag(device.revision))];
    (status, tag, JsonAnswer(view)).into_response()
}

/// Whose a new device is that does not say: the tenant of a caller who has but
/// one.
pub(crate) fn home(caller: &Caller) -> TenantName {
    match caller.tenants(Permission::DevicesWrite) {
        Tenants::Some(tenants) if tenants.len() == 1 => tenants.into_iter().next(),
        Tenants::Some(_) | Tenants::All => None,
    }
    .unwrap_or_else(TenantName::default_tenant)
}

/// Refuses unless the caller may have a device where `draft` puts it.
pub(crate) fn may_place(caller: &Caller, draft: &DeviceDraft) -> Result<(), Problem> {
    let write = Permission::DevicesWrite;
    match caller.on_place(write, &draft.tenant, draft.site.as_ref(), &draft.tags) {
        true => Ok(()),
        false => Err(Problem::forbidden(format!(
            "this needs the permission {} for the tenant, site and tags that the device is to have",
            write.word()
        ))),
    }
}

/// Refuses unless the caller may have the credential in `draft` shown where
/// `draft` points. A poll sends an SNMP community in clear: who names one for a
/// device, or points a device that has one somewhere else, can read it.
pub(crate) fn may_point(
    caller: &Caller,
    before: Option<&Device>,
    draft: &DeviceDraft,
) -> Result<(), Problem> {
    let Some(credential) = &draft.credential else {
        return Ok(());
    };
    let stays = before.is_some_and(|before| {
        before.credential.as_ref() == Some(credential)
            && before.address == draft.address
            && before.poll.snmp.port == draft.poll.snmp.port
    });
    let (write, tenant) = (Permission::CredentialsWrite, TenantName::of(&credential.0));
    if stays || caller.on_tenant(write, &tenant) {
        return Ok(());
    }
    Err(Problem::forbidden(format!(
        "a device is given a credential, or one that has a credential another address or SNMP port, by who has the permission {} for all of the tenant {tenant}; a new device can bring its own snmp_community",
        write.word()
    )))
}

/// Enters a device.
///
/// It is polled within seconds. With `snmp_community` a credential named after
/// the device is made in the same step.
#[utoipa::path(
    post,
    path = "/devices",
    tag = "devices",
    request_body = NewDeviceBody,
    responses(
        (status = 201, description = "The new device", body = DeviceView, headers(("ETag" = String, description = "Its revision"), ("Location" = String, description = "Its path"))),
        (status = 400, description = "The body is not JSON"),
        (status = 409, description = "Another device has the name or the address"),
        (status = 413, description = "The body is too large"),
        (status = 415, description = "The body is not JSON"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn create_device(
    State(api): State<Api>,
    caller: Caller,
    uri: Uri,
    Json(mut body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let mistakes = Mistakes::default();
    let community = device_body::take_community(&mut body, &mistakes);
    let draft = read_draft(&api, &caller, &home(&caller), &body, &mistakes);
    let mut draft = mistakes.or(Kind::Invalid, draft)?;
    may_place(&caller, &draft)?;
    may_point(&caller, None, &draft)?;
    let credential = match community {
        Some(community) => Some(with_credential(&api, &caller, &mut draft, &community).await?),
        None => None,
    };
    let created = api
        .store()
        .create_device(&caller.by(), draft, credential, api.now())
        .await;
    let device = created.map_err(|error| failed(&api, &caller, &error))?;
    caller.did("device created", &device.name);

    let path = [(header::LOCATION, format!("/api/v1/devices/{}", device.id))];
    Ok((path, shown(&api, &caller, StatusCode::CREATED, &device)).into_response())
}

/// A credential named after a new device, which uses it.
async fn with_credential(
    api: &Api,
    caller: &Caller,
    draft: &mut DeviceDraft,
    community: &SecretBytes,
) -> Result<(CredentialRecord, Option<SecretRecord>), Problem> {
    let write = Permission::CredentialsWrite;
    if !caller.on_place(write, &draft.tenant, draft.site.as_ref(), &draft.tags) {
        return Err(Problem::forbidden(format!(
            "an snmp_community needs the permission {} there",
            write.word()
        )));
    }
    // what stands before a slash would be taken for a tenant
    let name = draft.tenant.qualify(&draft.name.replace('/', "-"));
    let now = api.now();
    let (secret, sealed) = sealed(api, caller, &name, community, now).await?;
    let credential = record(&name, CredentialKind::SnmpV2c, secret, now);
    draft.credential = Some(credential.name.clone());
    Ok((credential, Some(sealed)))
}

/// Reads a device that is `tenant`'s unless it says otherwise.
fn read_draft(
    api: &Api,
    caller: &Caller,
    tenant: &TenantName,
    body: &Value,
    mistakes: &Mistakes,
) -> Option<DeviceDraft> {
    let inventory = api.store().inventory();
    let known = Known {
        inventory: &inventory,
        sees: &|device| caller.sees(device),
        credential: &|name| api.store().credential(name).is_some(),
        tenant,
    };
    device_body::read(body, &known, mistakes)
}

/// Reads what `device` is to become. Parents that the caller does not see stay.
fn read_changed(
    api: &Api,
    caller: &Caller,
    device: &Device,
    body: &Value,
) -> Result<DeviceDraft, Problem> {
    let mistakes = Mistakes::default();
    let draft = read_draft(api, caller, &device.tenant, body, &mistakes);
    let mut draft = mistakes.or(Kind::Invalid, draft)?;
    may_place(caller, &draft)?;
    may_point(caller, Some(device), &draft)?;
    let inventory = api.store().inventory();
    let unseen = device.parents.iter().copied().filter(|parent| {
        let parent = inventory.device(*parent);
        parent.is_some_and(|parent| !caller.sees(parent))
    });
    draft.parents.extend(unseen);
    Ok(draft)
}

fn failed(api: &Api, caller: &Caller, error: &WriteError) -> Problem {
    not_written(error, &api.store().inventory()).without_what_is_hidden(caller)
}

/// Replaces a device.
///
/// Fields that the body does not have go back to their default.
#[utoipa::path(
    put,
    path = "/devices/{device}",
    tag = "devices",
    params(
        ("device" = String, Path, description = "Id or name"),
        ("If-Match" = String, Header, description = "The revision that is changed, from ETag; * for any"),
    ),
    request_body = DeviceBody,
    responses(
        (status = 200, description = "The device as it is now", body = DeviceView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such device"),
        (status = 409, description = "Another device has the name or the address"),
        (status = 412, description = "The device was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn replace_device(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(body): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    change(&api, &caller, &headers, &asked, Change::Replace(&body)).await
}

/// What is done to a device.
#[derive(Clone, Copy)]
enum Change<'a> {
    Replace(&'a Value),
    Merge(&'a Value),
    Delete,
}

impl Change<'_> {
    fn permission(self) -> Permission {
        match self {
            Change::Replace(_) | Change::Merge(_) => Permission::DevicesWrite,
            Change::Delete => Permission::DevicesDelete,
        }
    }

    fn done(self) -> &'static str {
        match self {
            Change::Replace(_) | Change::Merge(_) => "device changed",
            Change::Delete => "device deleted",
        }
    }

    /// What `device` is to become; `None`: deleted.
    fn draft(
        self,
        api: &Api,
        caller: &Caller,
        device: &Device,
    ) -> Result<Option<DeviceDraft>, Problem> {
        match self {
            Change::Replace(body) => read_changed(api, caller, device, body).map(Some),
            Change::Merge(patch) => {
                let mut body = body_of(api, caller, device);
                merge(&mut body, patch);
                read_changed(api, caller, device, &body).map(Some)
            }
            Change::Delete => Ok(None),
        }
    }
}

/// Changes the device as it was when the caller's right to was looked at: if
/// somebody else was faster, all of it is looked at again.
async fn change(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    asked: &str,
    change: Change<'_>,
) -> Result<Response, Problem> {
    let (store, by) = (api.store(), caller.by());
    let id = find(api, caller, change.permission(), asked)?
        .id
        .to_string();
    let mut last = Problem::new(
        Kind::Conflict,
        "others change this device just now; try again",
    );
    for _ in 0..TRIES {
        let device = find(api, caller, change.permission(), &id)?;
        require_match(headers, device.revision)?;
        let (seen, now) = (Some(device.revision), api.now());
        let written = match change.draft(api, caller, &device)? {
            Some(draft) => store.replace_device(&by, device.id, draft, seen, now).await,
            None => store.delete_device(&by, device.id, seen, now).await,
        };
        match written {
            Ok(changed) => {
                caller.did(change.done(), &changed.name);
                return Ok(shown(api, caller, StatusCode::OK, &changed));
            }
            Err(error @ WriteError::Refused(Refusal::RevisionMismatch { .. })) => {
                last = failed(api, caller, &error);
            }
            Err(error) => return Err(failed(api, caller, &error)),
        }
    }
    Err(last)
}

/// Changes some fields of a device.
///
/// The body is a merge patch (RFC 7396): what it does not name stays, null
/// goes back to the default, a list is replaced as a whole.
#[utoipa::path(
    patch,
    path = "/devices/{device}",
    tag = "devices",
    params(
        ("device" = String, Path, description = "Id or name"),
        ("If-Match" = String, Header, description = "The revision that is changed, from ETag; * for any"),
    ),
    request_body(content((Value = "application/merge-patch+json"), (Value = "application/json"))),
    responses(
        (status = 200, description = "The device as it is now", body = DeviceView, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such device"),
        (status = 409, description = "Another device has the name or the address"),
        (status = 412, description = "The device was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
        (status = 422, description = "The body has mistakes: all are named"),
    )
)]
pub(crate) async fn patch_device(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Json(patch): Json,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    if !patch.is_object() {
        let mistakes = Mistakes::default();
        mistakes.at("", "a merge patch of a device is an object");
        return Err(mistakes.problem(Kind::Invalid));
    }
    change(&api, &caller, &headers, &asked, Change::Merge(&patch)).await
}

fn body_of(api: &Api, caller: &Caller, device: &Device) -> Value {
    let inventory = api.store().inventory();
    let body = DeviceBody::of(device, &inventory, |parent| caller.sees(parent));
    serde_json::to_value(body).expect("a body is text, flags and numbers")
}

/// RFC 7396 §2.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Deletes a device.
///
/// It is no longer polled, and its name and address are free; what is known of
/// it stays, and it can be restored.
#[utoipa::path(
    delete,
    path = "/devices/{device}",
    tag = "devices",
    params(
        ("device" = String, Path, description = "Id or name"),
        ("If-Match" = String, Header, description = "The revision that is changed, from ETag; * for any"),
    ),
    responses(
        (status = 200, description = "The device as it was kept", body = DeviceView),
        (status = 404, description = "There is no such device"),
        (status = 409, description = "It is deleted already"),
        (status = 412, description = "The device was changed meanwhile"),
        (status = 428, description = "If-Match is missing"),
    )
)]
pub(crate) async fn delete_device(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    change(&api, &caller, &headers, &asked, Change::Delete).await
}

/// Restores a deleted device.
#[utoipa::path(
    post,
    path = "/devices/{device}/restore",
    tag = "devices",
    params(("device" = String, Path, description = "Id, or name of the device of that name that was deleted last")),
    responses(
        (status = 200, description = "The device as it is now", body = DeviceView),
        (status = 404, description = "There is no such device"),
        (status = 409, description = "It is not deleted, or another device has its name or address meanwhile"),
    )
)]
pub(crate) async fn restore_device(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let id = find_deleted(&api, &caller, &asked)?.id;
    let restored = api
        .store()
        .restore_device(&caller.by(), id, api.now())
        .await
        .map_err(|error| failed(&api, &caller, &error))?;
    caller.did("device restored", &restored.name);
    Ok(shown(&api, &caller, StatusCode::OK, &restored))
}

/// The device that `asked` means: an id, or in each tenant the device of that
/// name that was deleted last.
fn find_deleted(api: &Api, caller: &Caller, asked: &str) -> Result<Arc<Device>, Problem> {
    let permission = Permission::DevicesDelete;
    if asked.parse::<u64>().is_ok() {
        return find(api, caller, permission, asked);
    }
    let inventory = api.store().inventory();
    let mut last = BTreeMap::<&TenantName, &Arc<Device>>::new();
    for device in inventory.all().filter(|device| device.name == asked) {
        let known = last.entry(&device.tenant).or_insert(device);
        if device.deleted > known.deleted {
            *known = device;
        }
    }
    let meant: Vec<&Arc<Device>> = last.into_values().collect();
    one_of(&meant, caller, permission, asked)
}

/// Polls a device now.
///
/// The answer does not wait for the poll; its time of `checks` says when it is
/// done.
#[utoipa::path(
    post,
    path = "/devices/{device}/poll",
    tag = "devices",
    params(("device" = String, Path, description = "Id or name")),
    responses(
        (status = 202, description = "It is polled"),
        (status = 404, description = "There is no such device"),
        (status = 409, description = "It is not watched, or all of its checks are off"),
        (status = 503, description = "Too many polls were asked for"),
    )
)]
pub(crate) async fn poll_device(
    State(api): State<Api>,
    Path(asked): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    query::none(&uri)?;
    let device = find(&api, &caller, Permission::DevicesPoll, &asked)?;
    match api.daemon().poll_now(device.id) {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(why @ PollNowRefused::Busy) => Err(Problem::new(Kind::Unavailable, why.to_string())),
        Err(why) => Err(Problem::new(Kind::Conflict, why.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_does_what_the_examples_of_rfc_7396_say() {
        let examples = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ];
        for (mut target, patch, merged) in examples {
            merge(&mut target, &patch);
            assert_eq!(target, merged, "{patch}");
        }
    }

    #[test]
    fn addresses_sort_as_numbers() {
        let key = |text: &str| address_key(&text.parse().unwrap());
        assert!(key("10.0.0.9") < key("10.0.0.10"));
        assert!(key("203.0.113.1") < key("2001:db8::1"));
        assert!(key("2001:db8::1") < key("alpha.example"));
    }
}
