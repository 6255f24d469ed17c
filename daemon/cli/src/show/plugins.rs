//! `sotp plugin …` of who runs plugins: what the daemon is asked.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::client::{Client, segment};
use crate::command::Plugin;
use crate::error::Trouble;
use crate::input;
use crate::output::{Column, Output, column, safe, talk};

use super::authors;
use super::text::{bytes, short_seconds, span, text};

pub(super) const PATH: &str = "/api/v1/plugins";

/// The largest package; the daemon has the same limit.
const PACKAGE_BYTES: u64 = 40 << 20;

const PLUGINS: [Column; 11] = [
    column!("NAME", 0, "/name"),
    column!("VERSION", 1, "/version"),
    column!("KIND", 1, "/kind"),
    column!("STATE", 0, "/state"),
    column!("DEVICES", 2, "/devices"),
    column!("CALLS", 2, "/figures/calls"),
    column!("ERRORS", 0, = errors),
    column!("P50", 3, "/figures/p50_seconds", number short_seconds),
    column!("P99", 2, "/figures/p99_seconds", number short_seconds),
    column!("MEMORY", 3, "/figures/memory_bytes", number bytes),
    column!("CPU", 3, "/figures/cpu_seconds", number span),
];

const BUNDLED: [Column; 5] = [
    column!("ID", 0, "/id"),
    column!("VERSION", 1, "/version"),
    column!("KIND", 1, "/kind"),
    column!("INSTALLED", 1, = installed),
    column!("DESCRIPTION", 0, "/description"),
];

fn errors(row: &Value) -> String {
    let failures = row.pointer("/figures/failures").and_then(Value::as_object);
    let failures = failures.into_iter().flatten();
    // what is not for it is no error
    let counts = failures.filter(|(class, _)| *class != "not_mine");
    let sum: u64 = counts.filter_map(|(_, count)| count.as_u64()).sum();
    sum.to_string()
}

fn installed(row: &Value) -> String {
    let names = row.pointer("/installed").and_then(Value::as_array);
    let names = names.into_iter().flatten().map(|one| text(one, "/name"));
    names.collect::<Vec<_>>().join(" ")
}

pub(super) fn path(name: &str) -> String {
    format!("{PATH}/{}", segment(name))
}

pub(super) async fn run(words: &Plugin, client: &Client, output: &Output) -> Result<(), Trouble> {
    match words {
        Plugin::Ls { bundled: true } => {
            let bundled = client.get(&format!("{PATH}/bundled")).await?.body;
            let rows = items(&bundled);
            let nothing = "no plugins came with this daemon";
            output.list("plugins", &rows, &BUNDLED, nothing)
        }
        Plugin::Ls { bundled: false } => list(client, output).await,
        Plugin::Show { name } => show(&client.get(&path(name)).await?.body, output),
        Plugin::Install {
            package,
            bundled,
            name,
        } => {
            let query = name
                .as_deref()
                .map(|name| format!("?name={}", segment(name)));
            let installed = match (package, bundled) {
                (Some(file), _) => {
                    let bytes = input::read(file, PACKAGE_BYTES).await?;
                    let to = format!("{PATH}{}", query.unwrap_or_default());
                    client.post_bytes(&to, bytes).await?
                }
                (None, bundled) => {
                    let mut body = json!({ "bundled": bundled });
                    if let Some(name) = name {
                        body["name"] = json!(name);
                    }
                    client.post_for_secret(PATH, &body).await?
                }
            };
            tell_installed(&installed.body, output)
        }
        Plugin::Grant {
            name,
            all,
            capability,
        } => grant(name, *all, capability, client, output).await,
        Plugin::Enable { name } => change(name, "enable", "runs", client, output).await,
        Plugin::Disable { name } => change(name, "disable", "is stopped", client, output).await,
        Plugin::Rollback { name } => {
            change(
                name,
                "rollback",
                "is back at its version before",
                client,
                output,
            )
            .await
        }
        Plugin::Set {
            name,
            settings,
            unset,
        } => set(name, settings, unset, client, output).await,
        Plugin::Rm { name, yes } => {
            input::confirm("Remove", name, *yes).await?;
            client.delete_seen(&path(name)).await?;
            talk(&format!("{name} is removed, with all that it kept"));
            Ok(())
        }
        Plugin::Log { name } => log(
            &client.get(&format!("{}/log", path(name))).await?.body,
            output,
        ),
        Plugin::Try { name, device } => {
            let body = json!({ "device": device });
            let to = format!("{}/test", path(name));
            let tried = client.post_for_secret(&to, &body).await?.body;
            let plugin = client.get(&path(name)).await?.body;
            let run = tried.get("run").unwrap_or(&Value::Null);
            authors::show_run(run, None, &texts(&plugin, "/metrics"), output)
        }
        Plugin::SendTest { name } => {
            let sent = client
                .post(&format!("{}/test", path(name)), &json!({}))
                .await?
                .body;
            match output.is_json() {
                true => output.document(&sent),
                false => {
                    let number = text(&sent, "/outbox");
                    talk(&format!(
                        "queued as {number}: sotp outbox ls shows what becomes of it"
                    ));
                    Ok(())
                }
            }
        }
        Plugin::Plan { name, alert } => {
            let body = json!({ "alert": alert });
            let to = format!("{}/plan", path(name));
            plan(&client.post_for_secret(&to, &body).await?.body, output)
        }
        Plugin::Record(asked) => authors::record(asked, client).await,
        Plugin::Dev { dir, device, once } => authors::dev(dir, device, *once, client, output).await,
        // done without a daemon
        Plugin::New { .. }
        | Plugin::Test(_)
        | Plugin::Lint { .. }
        | Plugin::Pack { .. }
        | Plugin::Key(_)
        | Plugin::Sign { .. }
        | Plugin::Verify { .. }
        | Plugin::Reference => Ok(()),
    }
}

fn items(body: &Value) -> Vec<Value> {
    let items = body.get("items").and_then(Value::as_array);
    items.cloned().unwrap_or_default()
}

fn texts(item: &Value, pointer: &str) -> Vec<String> {
    let list = item.pointer(pointer).and_then(Value::as_array);
    let list = list.into_iter().flatten();
    list.filter_map(|word| word.as_str().map(str::to_owned))
        .collect()
}

async fn list(client: &Client, output: &Output) -> Result<(), Trouble> {
    let body = client.get(PATH).await?.body;
    let rows = items(&body);
    let nothing = "no plugins: sotp plugin ls --bundled shows what came with the daemon";
    output.list("plugins", &rows, &PLUGINS, nothing)?;
    if output.is_json() {
        return Ok(());
    }
    for row in &rows {
        let why = text(row, "/state_reason");
        if text(row, "/state") != "active" && !why.is_empty() {
            talk(&format!("{}: {}", text(row, "/name"), safe(&why)));
        }
    }
    for what in texts(&body, "/host/not_in_force") {
        talk(&format!("the sandbox is weaker here: {}", safe(&what)));
    }
    Ok(())
}

fn show(plugin: &Value, output: &Output) -> Result<(), Trouble> {
    let list = |pointer: &str| texts(plugin, pointer).join("; ");
    let failure = plugin.pointer("/figures/last_failure");
    let failure = failure.filter(|failure| !failure.is_null()).map(|failure| {
        let place = text(failure, "/place");
        let at = text(failure, "/at");
        let message = text(failure, "/message");
        match place.is_empty() {
            true => format!("{at}: {message}"),
            false => format!("{at}: {message} ({place})"),
        }
    });
    let settings = plugin.get("settings").and_then(Value::as_object);
    let settings = settings.into_iter().flatten();
    let settings: Vec<String> = settings
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let failures = plugin
        .pointer("/figures/failures")
        .and_then(Value::as_object);
    let failures = failures.into_iter().flatten();
    let failures: Vec<String> = failures.map(|(class, n)| format!("{class} {n}")).collect();
    output.item(
        plugin,
        &[
            ("name", text(plugin, "/name")),
            ("id", text(plugin, "/id")),
            ("description", text(plugin, "/description")),
            ("version", text(plugin, "/version")),
            ("version before", text(plugin, "/previous/version")),
            ("version waiting", text(plugin, "/waiting/version")),
            ("kind", text(plugin, "/kind")),
            ("signed by", text(plugin, "/signer")),
            ("state", text(plugin, "/state")),
            ("because", text(plugin, "/state_reason")),
            ("asks to", list("/asks_in_words")),
            ("may", list("/granted_in_words")),
            ("not granted", list("/missing")),
            ("settings", settings.join(" ")),
            ("devices", text(plugin, "/devices")),
            ("metrics", text(plugin, "/metrics")),
            ("calls", text(plugin, "/figures/calls")),
            ("failures", failures.join(", ")),
            ("last failure", failure.unwrap_or_default()),
        ],
    )
}

fn tell_installed(installed: &Value, output: &Output) -> Result<(), Trouble> {
    if output.is_json() {
        return output.document(installed);
    }
    let name = text(installed, "/name");
    let (version, running) = (
        text(installed, "/installed/version"),
        text(installed, "/version"),
    );
    talk(&safe(&format!("{name} {version} is installed")));
    let missing = texts(installed, "/missing");
    for what in &missing {
        talk(&format!("  it asks: {}", safe(what)));
    }
    if version != running {
        talk(&safe(&format!(
            "until it may do this, {running} goes on; next: sotp plugin grant {name} --all"
        )));
        return Ok(());
    }
    match (text(installed, "/state").as_str(), missing.is_empty()) {
        ("active", _) => talk("it runs"),
        (_, false) => talk(&format!("next: sotp plugin grant {name} --all")),
        (_, true) => talk(&format!("next: sotp plugin enable {name}")),
    }
    Ok(())
}

/// What the version asks for that a grant is about: the one that waits, if one
/// does.
fn asked_for(plugin: &Value) -> Result<&Map<String, Value>, Trouble> {
    let waiting = plugin.get("waiting").filter(|waiting| !waiting.is_null());
    let asks = waiting.unwrap_or(plugin).get("asks");
    asks.and_then(Value::as_object).ok_or_else(|| {
        Trouble::Garbled("the server does not say what the plugin asks for".to_owned())
    })
}

/// Capabilities as `--capability` takes them.
fn in_words(asks: &Map<String, Value>) -> impl Iterator<Item = String> {
    asks.iter().flat_map(|(capability, patterns)| {
        let patterns = patterns.as_array().into_iter().flatten();
        let each: Vec<String> = patterns
            .filter_map(Value::as_str)
            .map(|pattern| format!("{capability}={pattern}"))
            .collect();
        match each.is_empty() {
            true => vec![capability.clone()],
            false => each,
        }
    })
}

async fn grant(
    name: &str,
    all: bool,
    capabilities: &[String],
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    if !all && capabilities.is_empty() {
        let plugin = client.get(&path(name)).await?.body;
        let missing = texts(&plugin, "/missing");
        if missing.is_empty() {
            talk(&format!("{name} has everything that it asks for"));
            return Ok(());
        }
        for what in &missing {
            output.line(&safe(what))?;
        }
        return Err(Trouble::NotNow(format!(
            "{name} asks for this and does not have it: sotp plugin grant {name} --all"
        )));
    }
    let body = if all {
        // named one by one: a version that is installed meanwhile gets no more
        // than this one asks for
        let plugin = client.get(&path(name)).await?.body;
        let asks = asked_for(&plugin)?;
        for what in in_words(asks) {
            talk(&format!("{name} may have {}", safe(&what)));
        }
        json!({ "capabilities": asks })
    } else {
        let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for capability in capabilities {
            let (capability, pattern) = match capability.split_once('=') {
                Some((capability, pattern)) => (capability, Some(pattern)),
                None => (capability.as_str(), None),
            };
            wanted.entry(capability).or_default().extend(pattern);
        }
        json!({ "capabilities": wanted })
    };
    let granted = client
        .post(&format!("{}/grant", path(name)), &body)
        .await?
        .body;
    if output.is_json() {
        return output.document(&granted);
    }
    let left = texts(&granted, "/missing");
    match left.is_empty() {
        true => talk(&format!("{name} may do what it asks for")),
        false => talk(&format!(
            "{name} asks for more still: {}",
            safe(&left.join("; "))
        )),
    }
    if !granted
        .get("enabled")
        .and_then(Value::as_bool)
        .unwrap_or_default()
    {
        talk(&format!("next: sotp plugin enable {name}"));
    }
    Ok(())
}

async fn change(
    name: &str,
    verb: &str,
    done: &str,
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let changed = client
        .post(&format!("{}/{verb}", path(name)), &json!({}))
        .await?
        .body;
    if output.is_json() {
        return output.document(&changed);
    }
    talk(&format!("{name} {} {done}", text(&changed, "/version")));
    Ok(())
}

async fn set(
    name: &str,
    settings: &[String],
    unset: &[String],
    client: &Client,
    output: &Output,
) -> Result<(), Trouble> {
    let mut body = Map::new();
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(Trouble::Usage(format!(
                "{setting} is no setting: write KEY=VALUE"
            )));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        body.insert(key.to_owned(), value);
    }
    body.extend(unset.iter().map(|key| (key.clone(), Value::Null)));
    if body.is_empty() {
        let plugin = client.get(&path(name)).await?.body;
        return show_schema(&plugin, output);
    }
    let to = format!("{}/settings", path(name));
    let seen = client.get(&path(name)).await?;
    let set = client
        .patch(&to, &Value::Object(body), seen.unchanged())
        .await?;
    match output.is_json() {
        true => output.document(&set.body),
        false => {
            talk(&format!("{name} is set"));
            Ok(())
        }
    }
}

const SCHEMA: [Column; 4] = [
    column!("SETTING", 0, "/key"),
    column!("TYPE", 1, "/type"),
    column!("VALUE", 0, = value_of),
    column!("HELP", 1, "/help"),
];

fn value_of(row: &Value) -> String {
    match (row.get("value"), row.get("default")) {
        (Some(value), _) if !value.is_null() => value.to_string(),
        (_, Some(default)) if !default.is_null() => format!("{default} (default)"),
        _ => "must be set".to_owned(),
    }
}

fn show_schema(plugin: &Value, output: &Output) -> Result<(), Trouble> {
    let schema = plugin.get("schema").and_then(Value::as_object);
    let rows = schema.into_iter().flatten().map(|(key, about)| {
        let mut row = about.clone();
        row["key"] = json!(key);
        row["value"] = plugin.pointer(&format!("/settings/{key}")).cloned().into();
        row
    });
    let rows: Vec<Value> = rows.collect();
    output.list("settings", &rows, &SCHEMA, "it has no settings")
}

const LOG: [Column; 3] = [
    column!("AT", 0, "/at"),
    column!("LEVEL", 0, "/level"),
    column!("MESSAGE", 0, = logged),
];

fn logged(line: &Value) -> String {
    let fields = line.get("fields").and_then(Value::as_object);
    let fields = fields.into_iter().flatten();
    let fields: String = fields
        .map(|(name, value)| format!(" {name}={value}"))
        .collect();
    text(line, "/message") + fields.as_str()
}

fn log(log: &Value, output: &Output) -> Result<(), Trouble> {
    output.list("lines", &items(log), &LOG, "it logged nothing")
}

/// A plan as a list that people read.
fn plan(run: &Value, output: &Output) -> Result<(), Trouble> {
    if output.is_json() {
        return output.document(run);
    }
    let call = run.pointer("/calls/0").unwrap_or(&Value::Null);
    if let Some(failure) = call.get("failure").filter(|failure| !failure.is_null()) {
        return Err(Trouble::Partly(safe(&text(failure, "/message"))));
    }
    let decision = call.pointer("/reply/decision").unwrap_or(&Value::Null);
    let Some(plan) = decision.get("run") else {
        return output.line(&safe(&decision.to_string()));
    };
    output.line(&safe(&format!(
        "{} (risk: {})",
        text(plan, "/summary"),
        text(plan, "/risk")
    )))?;
    let steps = plan.get("steps").and_then(Value::as_array);
    for (place, step) in (1..).zip(steps.into_iter().flatten()) {
        let title = text(step, "/title");
        output.line(&safe(&format!(
            "{place}. {title} [device {}]",
            text(step, "/device_id")
        )))?;
        let action = step.get("action").unwrap_or(&Value::Null);
        output.line(&safe(&format!("   {action}")))?;
        if let Some(undo) = step.get("undo").filter(|undo| !undo.is_null()) {
            output.line(&safe(&format!("   undo: {undo}")))?;
        }
    }
    let log = call.get("log").and_then(Value::as_array);
    for line in log.into_iter().flatten() {
        talk(&safe(&text(line, "/message")));
    }
    talk("this is a dry run: nothing was done");
    Ok(())
}
