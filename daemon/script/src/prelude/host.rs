//! What a script asks of the host: settings, time, log, kept values, the
//! inventory and series.

use std::sync::Arc;

use contract::{Fault, Kind, LogLevel, Nanos, PluginError, QueryError, Scalar};
use rhai::{Array, Blob, Dynamic, EvalAltResult, Map, NativeCallContext};

use super::input::Device;
use super::rule::Series;
use super::{Out, Prelude, Thrown, attributes, call, mistake, seconds, unsigned};
use crate::convert::{from_json, to_json};
use crate::running::{self, Ending, Running};

pub(super) fn register(prelude: &mut Prelude) {
    errors(prelude);
    settings_and_time(prelude);
    logging(prelude);
    kept(prelude);
    inventory(prelude);
    series(prelude);
}

fn errors(prelude: &mut Prelude) {
    prelude.section(
        "Errors",
        &[],
        "`throw malformed(\"no header\")`. Anything else that is thrown is a fault of the plugin's, with its line.",
    );
    prelude
        .name::<Thrown>("Error")
        .def(
            "not_mine(why)",
            "This input is not for this plugin. Not a failure.",
            |why: &str| Thrown::Said(PluginError::NotMine(why.to_owned())),
        )
        .def(
            "malformed(why)",
            "The input is damaged: the device's trouble.",
            |why: &str| Thrown::Said(PluginError::Malformed(why.to_owned())),
        )
        .def(
            "config_error(why)",
            "The settings are wrong: the plugin is not called until they change.",
            |why: &str| Thrown::Said(PluginError::Config(why.to_owned())),
        )
        .def(
            "unavailable(why)",
            "Something is not there now; worth another try.",
            |why: &str| Thrown::Said(PluginError::Unavailable(why.to_owned())),
        )
        .prop(
            "error.message",
            "Of what `catch (error)` caught, if a function of this page threw it.",
            |e: &mut Thrown| e.text().to_owned(),
        )
        .def("error.to_string()", "The same.", |e: &mut Thrown| {
            e.text().to_owned()
        });
}

fn settings_and_time(prelude: &mut Prelude) {
    prelude.section(
        "Settings and time",
        &[],
        "The manifest says which settings there are, and their defaults.",
    );
    prelude
        .def(
            "config(key)",
            "A setting, of its sort; `()` if it has no value.",
            |c: NativeCallContext, key: &str| call(&c, |running| Ok(setting(running, key))),
        )
        .def(
            "config(key, default)",
            "A setting, or `default` if it has no value.",
            |c: NativeCallContext, key: &str, default: Dynamic| {
                call(&c, |running| {
                    let value = setting(running, key);
                    Ok(if value.is_unit() { default } else { value })
                })
            },
        )
        .def(
            "now()",
            "The instant of the call, in seconds since 1970: the same throughout the call.",
            |c: NativeCallContext| {
                call(&c, |running| {
                    work(running, "now()")?;
                    Ok(seconds(running.session.now()))
                })
            },
        )
        .def(
            "now_ms()",
            "The same in milliseconds.",
            |c: NativeCallContext| {
                call(&c, |running| {
                    work(running, "now_ms()")?;
                    Ok(i64::try_from(running.session.now().0 / 1_000_000).unwrap_or(i64::MAX))
                })
            },
        )
        .def(
            "format_time(seconds)",
            "An instant as `2026-11-21T12:00:00.000Z`.",
            |c: NativeCallContext, at: i64| -> Out<String> {
                let Some(ms) = u64::try_from(at).ok().and_then(|at| at.checked_mul(1_000)) else {
                    return Err(mistake(
                        &c,
                        format!("{at} is no instant"),
                        "it is seconds since 1970",
                    ));
                };
                Ok(model::Timestamp(ms).to_string())
            },
        );
}

fn setting(running: &Running, key: &str) -> Dynamic {
    let settings = running.session.settings();
    let all: Option<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(&settings.json).ok();
    if let Some(value) = all.and_then(|mut all| all.remove(key)) {
        return from_json(value);
    }
    let text = settings.values.get(key);
    text.map_or(Dynamic::UNIT, |text| text.clone().into())
}

fn logging(prelude: &mut Prelude) {
    prelude.section(
        "Log",
        &[],
        "For what is unusual: a call logs at most 100 lines, and one more ends it. `print` is `log_info`, `debug` is `log_debug`.",
    );
    prelude
        .def(
            "log_info(text)",
            "Logs a line.",
            |c: NativeCallContext, text: &str| log(&c, LogLevel::Info, text, &Map::new()),
        )
        .def(
            "log_info(text, fields)",
            "The same with fields, a map. So has each of these.",
            |c: NativeCallContext, text: &str, fields: Map| log(&c, LogLevel::Info, text, &fields),
        )
        .def(
            "log_debug(text)",
            "For the author.",
            |c: NativeCallContext, text: &str| log(&c, LogLevel::Debug, text, &Map::new()),
        )
        .also(
            "log_debug",
            |c: NativeCallContext, text: &str, fields: Map| log(&c, LogLevel::Debug, text, &fields),
        )
        .def(
            "log_warn(text)",
            "For the operator, some day.",
            |c: NativeCallContext, text: &str| log(&c, LogLevel::Warn, text, &Map::new()),
        )
        .also(
            "log_warn",
            |c: NativeCallContext, text: &str, fields: Map| log(&c, LogLevel::Warn, text, &fields),
        )
        .def(
            "log_error(text)",
            "For the operator, now.",
            |c: NativeCallContext, text: &str| log(&c, LogLevel::Error, text, &Map::new()),
        )
        .also(
            "log_error",
            |c: NativeCallContext, text: &str, fields: Map| log(&c, LogLevel::Error, text, &fields),
        );
}

fn log(context: &NativeCallContext, level: LogLevel, text: &str, fields: &Map) -> Out<()> {
    let fields = attributes(context, fields)?;
    call(context, |running| {
        running.session.log(level, text.to_owned(), fields)
    })
}

/// What `print` and `debug` write. They cannot fail by themselves; the next
/// operation ends a call that printed too much.
pub(crate) fn printed(level: LogLevel, text: &str) {
    running::current(|running| {
        if let Err(fault) = running.session.log(level, text.to_owned(), Vec::new()) {
            running.fault.get_or_insert(Ending { fault, at: None });
        }
    });
}

const KEEPERS: &[Kind] = &[
    Kind::Parser,
    Kind::Remediation,
    Kind::Notifier,
    Kind::Poller,
];

fn kept(prelude: &mut Prelude) {
    prelude.section(
        "Kept values",
        KEEPERS,
        "Capability `kv`. Values of this plugin's own, kept in the daemon's store; written when the call has succeeded.",
    );
    prelude
        .def(
            "kv_get(key)",
            "What is kept under `key`, or `()`.",
            |c: NativeCallContext, key: &str| -> Out<Dynamic> {
                let value = call(&c, |running| {
                    work(running, "kv_get()")?;
                    running.session.kv_get(key)
                })?;
                let Some(bytes) = value else {
                    return Ok(Dynamic::UNIT);
                };
                match serde_json::from_slice(&bytes.0) {
                    Ok(value) => Ok(from_json(value)),
                    Err(_) => Ok(String::from_utf8_lossy(&bytes.0).into_owned().into()),
                }
            },
        )
        .def(
            "kv_set(key, value)",
            "Keeps a value: text, number, map, array. At most 64 KiB as JSON.",
            |c: NativeCallContext, key: &str, value: Dynamic| keep(&c, key, &value, None),
        )
        .def(
            "kv_set(key, value, ttl_s)",
            "Keeps it for so many seconds.",
            |c: NativeCallContext, key: &str, value: Dynamic, ttl_s: i64| {
                let ttl_s = unsigned(&c, "the time", ttl_s)?;
                keep(&c, key, &value, Some(ttl_s))
            },
        )
        .def(
            "kv_delete(key)",
            "Forgets it.",
            |c: NativeCallContext, key: &str| {
                call(&c, |running| {
                    work(running, "kv_delete()")?;
                    running.session.kv_delete(key)
                })
            },
        )
        .def(
            "kv_keys(prefix, limit)",
            "The keys that begin with `prefix`, sorted.",
            |c: NativeCallContext, prefix: &str, limit: i64| -> Out<Array> {
                let limit = unsigned(&c, "the limit", limit)?;
                let keys = call(&c, |running| {
                    work(running, "kv_keys()")?;
                    running.session.kv_keys(prefix, limit)
                })?;
                Ok(keys.into_iter().map(Dynamic::from).collect())
            },
        );
}

fn keep(context: &NativeCallContext, key: &str, value: &Dynamic, ttl_s: Option<u32>) -> Out<()> {
    let json = to_json(value).map_err(|error| mistake(context, error, ""))?;
    let kept = call(context, |running| {
        work(running, "kv_set()")?;
        running
            .session
            .kv_set(key, json.to_string().into_bytes(), ttl_s)
    })?;
    kept.map_err(|error| said(context, PluginError::Unavailable(format!("{key}: {error}"))))
}

fn said(context: &NativeCallContext, error: PluginError) -> Box<EvalAltResult> {
    let thrown = Dynamic::from(Thrown::Said(error));
    EvalAltResult::ErrorRuntime(thrown, context.call_position()).into()
}

/// `describe` may look at nothing but the settings: its answer is kept.
fn work(running: &Running, what: &str) -> Result<(), Fault> {
    if running.describing {
        return Err(super::bad(format!("{what} in describe()"))
            .with_hint("describe() may look at the settings, at nothing else"));
    }
    Ok(())
}

const LOOKERS: &[Kind] = &[Kind::Parser, Kind::Rule, Kind::Remediation, Kind::Poller];

fn inventory(prelude: &mut Prelude) {
    prelude.section("Inventory", LOOKERS, "Capability `inventory`.");
    prelude
        .def("device(id)", "The device with this number, or `()`.", |c: NativeCallContext, id: &str| -> Out<Dynamic> {
            let device = call(&c, |running| {
                work(running, "device()")?;
                running.session.device(id)
            })?;
            Ok(device.map_or(Dynamic::UNIT, |device| Dynamic::from(Device(Arc::new(device)))))
        })
        .def("fact_of(device_id, key)", "A fact of a device, or `()`.", |c: NativeCallContext, id: &str, key: &str| -> Out<Dynamic> {
            let fact = call(&c, |running| {
                work(running, "fact_of()")?;
                running.session.fact(id, key)
            })?;
            Ok(fact.map_or(Dynamic::UNIT, scalar))
        })
        .def("links(device_id)", "What a device is connected to: an array of maps with `local_port`, `remote_device`, `remote_port` and `protocol`.", |c: NativeCallContext, id: &str| -> Out<Array> {
            let links = call(&c, |running| {
                work(running, "links()")?;
                running.session.links(id)
            })?;
            Ok(links.into_iter().map(link).collect())
        });
}

#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 63 bits a float is nearest"
)]
fn scalar(value: Scalar) -> Dynamic {
    match value {
        Scalar::Boolean(flag) => flag.into(),
        Scalar::Int(number) => number.into(),
        Scalar::Uint(number) => i64::try_from(number).map_or((number as f64).into(), Dynamic::from),
        Scalar::Float(number) => number.into(),
        Scalar::Text(text) => text.into(),
        Scalar::Bytes(bytes) => Dynamic::from_blob(Blob::from(bytes.0)),
    }
}

fn link(link: contract::Link) -> Dynamic {
    let entries = [
        ("local_port", link.local_port),
        ("remote_device", link.remote_device),
        ("remote_port", link.remote_port),
        ("protocol", link.protocol),
    ];
    let entries = entries
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()));
    Dynamic::from_map(entries.collect::<Map>())
}

fn series(prelude: &mut Prelude) {
    prelude.section(
        "Stored series",
        &[Kind::Rule, Kind::Remediation],
        "Capability `series`. What a rule wants at every evaluation is better asked for with `select`.",
    );
    prelude
        .def("query(selector, window_s, step_s)", "An array of series: what `selector` selects of the last `window_s` seconds; `step_s` 0: the samples as they are.", |c: NativeCallContext, selector: &str, window_s: i64, step_s: i64| query(&c, selector, window_s, step_s))
        .also("query", |c: NativeCallContext, selector: &str, window_s: i64| query(&c, selector, window_s, 0));
}

fn query(context: &NativeCallContext, selector: &str, window_s: i64, step_s: i64) -> Out<Array> {
    const NANOS: u64 = 1_000_000_000;
    let window_s = unsigned(context, "the window", window_s)?;
    let step_s = unsigned(context, "the step", step_s)?;
    let found = call(context, |running| {
        work(running, "query()")?;
        let end = running.at;
        let start = Nanos(end.0.saturating_sub(u64::from(window_s) * NANOS));
        running
            .session
            .query(selector.to_owned(), start, end, step_s)
    })?;
    match found {
        Ok(series) => Ok(series
            .into_iter()
            .map(|series| Dynamic::from(Series(Arc::new(series))))
            .collect()),
        Err(QueryError::Denied(why)) => Err(super::end(
            context,
            Fault::new(contract::FaultClass::NotGranted, format!("{selector}: {why}"))
                .with_hint("list the metric under series in [capabilities] of plugin.toml; an administrator grants it"),
        )),
        Err(QueryError::Syntax(why)) => Err(mistake(context, format!("{selector}: {why}"), "")),
        Err(QueryError::TooLarge(why)) => Err(mistake(
            context,
            format!("{selector}: {why}"),
            "ask for fewer series, a shorter window or a longer step",
        )),
        Err(QueryError::Timeout) => {
            let why = format!("{selector}: the query took too long");
            Err(said(context, PluginError::Unavailable(why)))
        }
    }
}
