//! `sotp devices …`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::text::{NONE, ago, bits, number, percent, plain, short_seconds, span, text};
use super::{all, csv, qualified};
use crate::client::{Client, query, segment};
use crate::command::{DeviceFields, Devices, DevicesAdd, DevicesLs, DevicesSet};
use crate::error::Trouble;
use crate::input;
use crate::output::{Column, Output, column, talk};

/// The largest file that is imported; the daemon has the same limit.
const IMPORT_BYTES: u64 = 8 * 1024 * 1024;

/// The longest community: 255 octets and a line end.
const SECRET_BYTES: u64 = 257;

/// Most rows that one command lists.
const ROWS: usize = 100_000;

pub(super) async fn run(
    command: &Devices,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    match command {
        Devices::Ls(ls) => list(ls, client, output).await,
        Devices::Show { device } => {
            let found = client.get(&path(device)).await?.body;
            show(&found, output)
        }
        Devices::Add(add) => enter(add, client, output).await,
        Devices::Set(set) => change(set, client, output).await,
        Devices::Rm { device, yes } => remove(device, *yes, client).await,
        Devices::Restore { device } => {
            let restored = client
                .post(&format!("{}/restore", path(device)), &json!({}))
                .await?
                .body;
            show(&restored, output)
        }
        Devices::Poll { device } => {
            client
                .post(&format!("{}/poll", path(device)), &json!({}))
                .await?;
            talk(&format!("{device} is being asked now"));
            Ok(())
        }
        Devices::Import { file, tenant } => import(file, tenant.as_deref(), client, output).await,
        Devices::Interfaces { device } => interfaces(device, client, output).await,
        Devices::Metrics {
            device,
            metric,
            from,
        } => match metric {
            None => latest(device, client, output).await,
            Some(metric) => range(device, metric, from.as_ref(), client, output).await,
        },
    }
}

fn path(device: &str) -> String {
    format!("/api/v1/devices/{}", segment(device))
}

const LIST: [Column; 11] = [
    column!("NAME", 0, "/name"),
    column!("STATE", 0, "/state"),
    column!("RTT", 2, "/rtt_seconds", number short_seconds),
    column!("LOSS", 2, "/loss_ratio", number percent),
    column!("IN", 3, "/in_bps", number bits),
    column!("OUT", 3, "/out_bps", number bits),
    column!("CPU", 4, "/cpu_usage_ratio", number percent),
    column!("MEM", 5, "/memory_usage_ratio", number percent),
    column!("ADDRESS", 1, "/address"),
    column!("SITE", 6, "/site"),
    column!("TENANT", 7, "/tenant"),
];

async fn list(ls: &DevicesLs, client: &Client, output: &Output) -> Result<(), Trouble> {
    let asked = query(&[
        ("q", ls.search.clone()),
        ("tenant", ls.tenant.clone()),
        ("site", ls.site.clone()),
        ("kind", ls.kind.clone()),
        ("tag", ls.tag.clone()),
        ("state", ls.state.clone()),
        ("deleted", ls.deleted.then(|| "true".to_owned())),
        ("sort", Some(ls.sort.clone())),
        ("limit", Some("1000".to_owned())),
    ]);
    let devices = all(client, &format!("/api/v1/devices{asked}"), ROWS).await?;
    output.list(
        "devices",
        &devices,
        &LIST,
        "no devices; add one: sotp devices add NAME ADDRESS",
    )
}

fn show(device: &Value, output: &Output) -> Result<(), Trouble> {
    let state = match text(device, "/state_reason") {
        reason if reason.is_empty() => text(device, "/state"),
        reason => format!("{}: {reason}", text(device, "/state")),
    };
    let last = |check: &str| match device.pointer(&format!("/checks/{check}/at")) {
        Some(Value::String(_)) => {
            let failure = text(device, &format!("/checks/{check}/failure/text"));
            let said = if failure.is_empty() {
                "answered".to_owned()
            } else {
                failure
            };
            let missing: Vec<String> = device
                .pointer(&format!("/checks/{check}/partial"))
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|part| {
                    format!(
                        "; {} is incomplete: {}",
                        text(part, "/part"),
                        text(part, "/failure/text")
                    )
                })
                .collect();
            format!(
                "{said}{} ({} ago)",
                missing.concat(),
                ago(device, &format!("/checks/{check}/at"))
            )
        }
        _ => String::new(),
    };
    let shown = |pointer: &str, show: fn(f64) -> String| match device.pointer(pointer) {
        Some(Value::Number(_)) => number(device, pointer, show),
        _ => String::new(),
    };
    output.item(
        device,
        &[
            ("name", text(device, "/name")),
            ("id", text(device, "/id")),
            ("state", state),
            ("address", text(device, "/address")),
            ("tenant", text(device, "/tenant")),
            ("kind", text(device, "/kind")),
            ("site", text(device, "/site")),
            ("location", text(device, "/location")),
            ("tags", text(device, "/tags")),
            ("parents", text(device, "/parents")),
            ("vendor", text(device, "/vendor")),
            ("model", text(device, "/model")),
            ("os", text(device, "/os")),
            ("says it is", text(device, "/facts/sys_name")),
            ("describes itself", text(device, "/facts/sys_descr")),
            ("icmp", last("icmp")),
            ("snmp", last("snmp")),
            ("rtt", shown("/rtt_seconds", short_seconds)),
            ("loss", shown("/loss_ratio", percent)),
            ("cpu", shown("/cpu_usage_ratio", percent)),
            ("memory", shown("/memory_usage_ratio", percent)),
            ("uptime", shown("/uptime_seconds", span)),
            ("in", shown("/in_bps", bits)),
            ("out", shown("/out_bps", bits)),
            ("credential", text(device, "/credential")),
            ("enabled", text(device, "/enabled")),
            ("changed", text(device, "/updated")),
        ],
    )
}

async fn enter(add: &DevicesAdd, client: &Client, output: &Output) -> Result<(), Trouble> {
    let mut body = fields(&add.fields)?;
    body.insert("name".into(), json!(add.name));
    body.insert("address".into(), json!(add.address));
    if let Some(file) = &add.fields.snmp_community_file {
        body.insert("snmp_community".into(), json!(read_community(file).await?));
    }
    let entered = client
        .post("/api/v1/devices", &Value::Object(body))
        .await?
        .body;
    if output.is_json() {
        return show(&entered, output);
    }
    talk(&format!(
        "{} is device {}; its first answers come within seconds: sotp devices show {}",
        text(&entered, "/name"),
        text(&entered, "/id"),
        text(&entered, "/name"),
    ));
    Ok(())
}

async fn change(set: &DevicesSet, client: &Client, output: &Output) -> Result<(), Trouble> {
    let mut body = fields(&set.fields)?;
    for (field, value) in [("name", &set.name), ("address", &set.address)] {
        if let Some(value) = value {
            body.insert(field.into(), json!(value));
        }
    }
    if set.enabled || set.disabled {
        body.insert("enabled".into(), json!(set.enabled));
    }
    if let Some(file) = &set.fields.snmp_community_file {
        let credential = own_credential(&set.device, client).await?;
        put_community(&credential, file, client).await?;
        body.insert("credential".into(), json!(credential));
    }
    if body.is_empty() {
        return Err(Trouble::Usage(
            "nothing to change: see sotp devices set --help".into(),
        ));
    }
    let changed = client
        .patch_seen(&path(&set.device), &Value::Object(body))
        .await?
        .body;
    show(&changed, output)
}

/// The name under which a device's own community is kept: the device's. One that
/// other devices use is not overwritten.
async fn own_credential(device: &str, client: &Client) -> Result<String, Trouble> {
    let device = client.get(&path(device)).await?.body;
    let tenant = text(&device, "/tenant");
    let tenant = Some(tenant.as_str()).filter(|tenant| !tenant.is_empty());
    // what stands before a slash would be taken for a tenant
    let name = qualified(tenant, &text(&device, "/name").replace('/', "-"))?;
    let ours = u64::from(text(&device, "/credential") == name);
    let known = all(client, "/api/v1/credentials", ROWS).await?;
    let used = known
        .iter()
        .find(|credential| text(credential, "/name") == name)
        .and_then(|credential| credential.pointer("/devices")?.as_u64());
    if used.is_some_and(|used| used > ours) {
        return Err(Trouble::refused(
            409,
            format!(
                "other devices use the credential {name}: change it for all of them with `sotp credentials set {name}`, \
             or choose another with --credential"
            ),
        ));
    }
    Ok(name)
}

/// What of a device is given on the command line, as the API takes it; empty
/// text unsets.
fn fields(given: &DeviceFields) -> Result<Map<String, Value>, Trouble> {
    let mut body = Map::new();
    let texts = [
        ("tenant", &given.tenant),
        ("kind", &given.kind),
        ("vendor", &given.vendor),
        ("model", &given.model),
        ("os", &given.os),
        ("site", &given.site),
        ("location", &given.location),
        ("credential", &given.credential),
    ];
    for (field, value) in texts {
        if let Some(value) = value {
            let value = if value.is_empty() {
                Value::Null
            } else {
                json!(value)
            };
            body.insert(field.into(), value);
        }
    }
    for (field, values) in [("tags", &given.tags), ("parents", &given.parents)] {
        if !values.is_empty() {
            let values: Vec<_> = values.iter().filter(|v| !v.is_empty()).collect();
            body.insert(field.into(), json!(values));
        }
    }
    let mut poll = Map::new();
    if let Some(every) = &given.icmp_every {
        poll.insert("icmp".into(), json!({ "every": every }));
    }
    let mut snmp = Map::new();
    if let Some(every) = &given.snmp_every {
        snmp.insert("every".into(), json!(every));
    }
    if let Some(port) = given.snmp_port {
        snmp.insert("port".into(), json!(port));
    }
    if !snmp.is_empty() {
        poll.insert("snmp".into(), Value::Object(snmp));
    }
    if !poll.is_empty() {
        body.insert("poll".into(), Value::Object(poll));
    }
    Ok(body)
}

async fn remove(device: &str, yes: bool, client: &Client) -> Result<(), Trouble> {
    input::confirm("Remove", device, yes).await?;
    let found = client.delete_seen(&path(device)).await?;
    let id = match text(&found, "/id") {
        unseen if unseen.is_empty() => device.to_owned(),
        id => id,
    };
    talk(&format!(
        "{device} is removed; to bring it back: sotp devices restore {id}"
    ));
    Ok(())
}

async fn import(
    file: &Path,
    tenant: Option<&str>,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let mut table = input::read(file, IMPORT_BYTES).await?;
    if let Some(tenant) = tenant {
        table = csv::with_tenant(&table, tenant)?;
    }
    let report = client.post_csv("/api/v1/devices/import", table).await?.body;
    let created = report
        .pointer("/created")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let failed: Vec<Value> = report
        .pointer("/failures")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if output.is_json() {
        output.document(&report)?;
    } else {
        for failure in &failed {
            let column = text(failure, "/column");
            let place = if column.is_empty() {
                String::new()
            } else {
                format!(", {column}")
            };
            talk(&format!(
                "{}:{}{place}: {}",
                file.display(),
                text(failure, "/line"),
                text(failure, "/message")
            ));
        }
        talk(&format!("{created} entered, {} problems", failed.len()));
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Trouble::Partly(format!(
            "{} problems; the lines without one are in",
            failed.len()
        )))
    }
}

const INTERFACES: [Column; 9] = [
    column!("INTERFACE", 0, "/identity"),
    column!("ADMIN", 4, "/admin_status"),
    column!("OPER", 0, "/oper_status"),
    column!("SPEED", 3, "/speed_bps", number speed),
    column!("IN", 1, "/in_bps", number bits),
    column!("OUT", 1, "/out_bps", number bits),
    column!("ERRORS/s", 2, "/in_errors_per_second", number plain),
    column!("DISCARDS/s", 5, "/out_discards_per_second", number plain),
    column!("ALIAS", 2, "/alias"),
];

/// A speed of 0 stands for one that is not known (RFC 2863).
fn speed(bps: f64) -> String {
    if bps > 0.0 {
        bits(bps)
    } else {
        NONE.to_owned()
    }
}

async fn interfaces(device: &str, client: &Client, output: &Output) -> Result<(), Trouble> {
    let rows = all(client, &format!("{}/interfaces", path(device)), ROWS).await?;
    output.list(
        "interfaces",
        &rows,
        &INTERFACES,
        "no interfaces are known; SNMP brings them",
    )
}

const METRICS: [Column; 5] = [
    column!("METRIC", 0, "/metric"),
    column!("LABELS", 1, = labels),
    column!("VALUE", 0, "/value", number plain),
    column!("UNIT", 2, "/unit"),
    column!("AGE", 3, "/at", ago),
];

fn labels(metric: &Value) -> String {
    let Some(labels) = metric.get("labels").and_then(Value::as_object) else {
        return String::new();
    };
    labels
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(" ")
}

async fn latest(device: &str, client: &Client, output: &Output) -> Result<(), Trouble> {
    let rows = all(client, &format!("{}/metrics", path(device)), ROWS).await?;
    output.list("metrics", &rows, &METRICS, "nothing was measured yet")
}

const POINTS: [Column; 3] = [
    column!("TIME", 0, "/at"),
    column!("LABELS", 1, = labels),
    column!("VALUE", 0, "/value", number plain),
];

async fn range(
    device: &str,
    metric: &str,
    from: Option<&String>,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let asked = query(&[("from", from.cloned())]);
    let answer = client
        .get(&format!(
            "{}/metrics/{}{asked}",
            path(device),
            segment(metric)
        ))
        .await?
        .body;
    let warnings = answer.get("warnings").and_then(Value::as_array);
    for warning in warnings.into_iter().flatten().filter_map(Value::as_str) {
        talk(&format!("warning: {warning}"));
    }
    if output.is_json() {
        return output.document(&answer);
    }
    let mut rows = Vec::new();
    for series in answer
        .get("series")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        for point in series
            .get("points")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            rows.push(json!({
                "at": point.pointer("/0").map_or(Value::Null, shown_time),
                "value": point.pointer("/1"),
                "labels": series.get("labels"),
            }));
        }
    }
    output.list(
        "points",
        &rows,
        &POINTS,
        "nothing was measured in that time",
    )
}

/// Seconds since 1970 as RFC 3339; text as it is.
fn shown_time(time: &Value) -> Value {
    match time.as_f64().and_then(|seconds| {
        jiff::Timestamp::from_duration(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
    }) {
        Some(instant) => json!(format!("{instant:.3}")),
        None => time.clone(),
    }
}

/// Stores the community in `file` under `name`.
pub(super) async fn put_community(name: &str, file: &Path, client: &Client) -> Result<(), Trouble> {
    let body = json!({ "kind": "snmp-v2c", "community": read_community(file).await? });
    let path = format!("/api/v1/credentials/{}", segment(name));
    client.put_seen(&path, &body).await?;
    Ok(())
}

/// The only line of `file`.
async fn read_community(file: &Path) -> Result<String, Trouble> {
    let bytes = input::read(file, SECRET_BYTES).await?;
    input::only_line(file, "the community", bytes)
}
